//! Any event at any target that people read, at receivers in a cluster and at templates: what the fuzz target and the
//! property test do with them.

use std::collections::BTreeMap;

use sluice::domain::alert::{Alert, Alerts, Link, Object, Severity, Status};
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event, GitEvent, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::{Relay, TargetEntry};
use sluice::rim::yaml;
use sluice::target::chat;

/// What nobody may be shown; it stands in every event.
const CREDENTIAL: &str = "hunter2-hunter2";

/// About how large the alerts of an event are at most, in bytes. Requests are taken up to 3 MiB; this is quicker.
const LARGEST: usize = 200_000;

/// The value of every token.
pub const TOKEN: &str = "sample-token-0001";
/// The value of every webhook's URL.
pub const URL: &str = "https://chat.example.com/hooks/sample-webhook-0001";
/// The value of every DSN.
pub const DSN: &str = "https://sampletoken0001@o1.ingest.example.com/42";

/// The secrets of a target.
pub fn secrets(entry: &TargetEntry) -> Resolved {
    let mut resolved = Resolved::default();
    for reference in entry.secrets() {
        let value = match reference.to_string().as_str() {
            "env:U" => URL,
            "env:D" => DSN,
            _ => TOKEN,
        };
        resolved.insert(reference.clone(), vec![Secret::new(value)]);
    }
    resolved
}

/// A target with its secrets.
pub struct AnyTarget {
    name: Name,
    entry: TargetEntry,
    secrets: Resolved,
}

/// Targets that machines read.
const MACHINES: &str = "
generic: { type: flux, url: 'https://flux.example.com', receiver: { type: generic, name: a, namespace: b }, token: 'env:T' }
github: { type: flux, url: 'https://flux.example.com', receiver: { type: github, name: a, namespace: b }, token: 'env:T' }
harbor: { type: flux, url: 'https://flux.example.com', receiver: { type: harbor, name: a, namespace: b }, token: 'env:T' }
dockerhub: { type: flux, url: 'https://flux.example.com', receiver: { type: dockerhub, name: a, namespace: b }, token: 'env:T' }
quay: { type: flux, url: 'https://flux.example.com', receiver: { type: quay, name: a, namespace: b }, token: 'env:T' }
acr: { type: flux, url: 'https://flux.example.com', receiver: { type: acr, name: a, namespace: b }, token: 'env:T' }
nexus: { type: flux, url: 'https://flux.example.com', receiver: { type: nexus, name: a, namespace: b }, token: 'env:T' }
cdevents: { type: flux, url: 'https://flux.example.com', receiver: { type: cdevents, name: a, namespace: b }, token: 'env:T' }
argocd: { type: argocd, url: 'https://argocd.example.com', secret: 'env:T' }
event: { type: http, url: 'https://x.example.com', body: event, auth: { hmac: { secret: 'env:T', header: X-Signature } } }
cloudevents: { type: http, url: 'https://x.example.com', body: cloudevents, cloudevents_mode: binary }
template: { type: http, url: 'https://x.example.com', body: template, template: '[{{ kind | tojson }}, {{ source | tojson }}, {{ repository | default(0) | tojson }}, {{ title | default(0) | tojson }}, {{ labels | default(0) | tojson }}]' }
";

/// The targets of `chats.yaml`, and those that machines read.
pub fn all() -> Vec<AnyTarget> {
    let read = |text: &str| yaml::parse(text).expect("YAML").value;
    let (mut targets, mut machines) = (read(include_str!("chats.yaml")), read(MACHINES));
    for (name, target) in std::mem::take(machines.as_object_mut().expect("targets")) {
        targets[format!("machine-{name}")] = target;
    }
    let relay = Relay::from_value(&serde_json::json!({ "targets": targets })).expect("a relay file");
    let load = |(name, entry): (Name, TargetEntry)| {
        let secrets = secrets(&entry);
        AnyTarget { name, entry, secrets }
    };
    relay.targets.into_iter().map(load).collect()
}

impl AnyTarget {
    /// Renders the event that `input` stands for. Rendering must not panic; for people it must not fail, every limit must
    /// be kept, and no credential shown.
    pub fn take(&self, input: &[u8]) {
        let now = "2026-08-20T12:00:00Z".parse().expect("time");
        let event = Input(input).event();
        if self.entry.target.wants(&event, None).is_err() {
            return;
        }
        if let Some(service) = self.entry.target.as_draw() {
            for body in chat::bodies(service, &event) {
                for size in service.sizes(&body) {
                    assert!(size.fits(), "{}: {size:?}", self.name);
                }
                service.preview(&body);
            }
        }
        let delivery = Delivery::new(event, "identity", &self.name, None, now);
        let requests = self.entry.target.render(&delivery, &self.secrets, now);
        if self.name.as_str().starts_with("machine-") {
            // What does not fit a receiver is refused, and it gets texts as they are.
            return;
        }
        for request in requests.unwrap_or_else(|why| panic!("{}: {why}", self.name)) {
            let body = String::from_utf8_lossy(&request.body);
            assert!(!body.contains(CREDENTIAL), "{}: a credential in {body}", self.name);
        }
    }
}

/// Bytes that say what an event is; what is missing at the end is zero.
struct Input<'d>(&'d [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A text: a byte of length, then so many bytes. The largest lengths repeat it, for what is too long for anything.
    fn text(&mut self) -> String {
        let length = usize::from(self.byte());
        let (text, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        let times = if length > 250 { 100 } else { 1 };
        String::from_utf8_lossy(text).repeat(times)
    }

    fn option(&mut self) -> Option<String> {
        Some(self.text()).filter(|text| !text.is_empty())
    }

    fn texts(&mut self) -> BTreeMap<String, String> {
        (0..self.byte() % 8).map(|_| (self.text(), self.text())).collect()
    }

    fn event(&mut self) -> Event {
        let source = Name::parse("source").expect("name");
        let detail = match self.byte() % 8 {
            0 => self.git(),
            1 => self.image(),
            _ => Detail::Alert(Box::new(self.alerts())),
        };
        Event {
            detail,
            id: Event::id_of(&source, "identity"),
            source,
            cluster: self.option(),
            labels: self.texts(),
            time: Some("2026-08-20T12:00:00Z".parse().expect("time")),
        }
    }

    fn git(&mut self) -> Detail {
        Detail::Git(Box::new(GitEvent {
            event: self.text(),
            action: self.option(),
            repository: self.option(),
            branch: self.option(),
            commit: self.option(),
            actor: self.option(),
            status: self.option(),
            name: self.option(),
            message: Some(format!("{}\npassword={CREDENTIAL}", self.text())),
            url: self.option(),
            ..GitEvent::default()
        }))
    }

    fn image(&mut self) -> Detail {
        Detail::ImagePush(ImagePush {
            repository: self.text(),
            tag: self.option(),
            tags: (0..self.byte() % 64).map(|_| self.text()).collect(),
            digest: self.option(),
            media_type: self.option(),
            actor: self.option(),
        })
    }

    fn alerts(&mut self) -> Alerts {
        // Few are said, many are told: a storm is the same few again and again, as far as a request could hold them.
        let (few, times) = (usize::from(self.byte() % 4), usize::from(self.byte()));
        let few: Vec<_> = (0..=few).map(|_| self.alert()).collect();
        let times = times.min(few.len() * LARGEST / format!("{few:?}").len());
        Alerts {
            group: self.text(),
            title: self.option(),
            url: self.option(),
            left_out: self.byte().into(),
            alerts: few.iter().cycle().take(few.len().max(times)).cloned().collect(),
        }
    }

    fn alert(&mut self) -> Alert {
        let status = [Status::Firing, Status::Resolved, Status::Event][usize::from(self.byte() % 3)];
        let severity = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];
        let times = self.byte();
        let time = |wanted: bool| wanted.then(|| "2026-08-20T11:00:00Z".parse().expect("time"));
        Alert {
            recovers: times & 4 != 0,
            text: Some(format!("{}\npassword={CREDENTIAL}", self.text())),
            reason: self.option(),
            object: self.option().map(|name| Object { kind: self.option(), namespace: self.option(), name }),
            cluster: self.option(),
            labels: self.texts(),
            links: (0..self.byte() % 4).map(|_| Link { title: self.text(), url: self.text() }).collect(),
            started: time(times & 1 != 0),
            ended: time(times & 2 != 0),
            ..Alert::new(self.text(), status, severity[usize::from(times >> 6)], self.text())
        }
    }
}
