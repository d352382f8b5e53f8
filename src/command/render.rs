//! `sluice render`: what an event would look like at each target. Nothing is sent, and no secret is read: stand-ins
//! take their places.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{ActionError, Common};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::name::Name;
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::port::Clock as _;
use crate::relay::{Relay, SourceEntry, TargetEntry};
use crate::rim::clock::SystemClock;
use crate::rim::local::samples;
use crate::source::{Request, Via};
use crate::target::{Outbound, RenderError, Response, chat};

/// What to render for whom.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The sample: a file, or TYPE/CASE below events/ (alertmanager/firing-group).
    event: String,
    /// The source that it comes by. Left out: the first one of the type that the sample's folder is named after.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this target. Left out: all of them.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// Stand-ins for secrets, by what they may have to be: a word, a webhook's URL, a signing secret, a DSN.
const STAND_INS: [&str; 4] = [
    "SECRET",
    "https://SECRET.example/",
    "whsec_U0VDUkVUIFNFQ1JFVCBTRUNSRVQgU0VDUkVU",
    "https://SECRET@SECRET.example/1",
];

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    let relay = common.relay(common.backend().as_ref()).await?;
    let file = samples::find(&options.event).ok_or_else(|| {
        ActionError::Usage(format!("there is no sample `{}`, neither as a file nor below events/", options.event))
    })?;
    let (name, entry) = source(&relay, &options, &file)?;
    if let Some(target) = options.target.as_ref().filter(|target| !relay.targets.contains_key(target.as_str())) {
        let known: Vec<_> = relay.targets.keys().map(Name::as_str).collect();
        return Err(ActionError::Usage(format!("there is no target `{target}`; there are: {}", known.join(", "))));
    }
    let (events, original) = parsed(name, entry, &file)?;
    let mut all = Vec::new();
    for (identity, event) in events {
        let routed = relay.route(&event, SystemClock.now());
        for (target, of) in &relay.targets {
            if options.target.as_ref().is_some_and(|one| one != target.as_str()) {
                continue;
            }
            let told = routed.told.iter().find(|(name, ..)| *name == target).map(|(.., event)| event.as_ref());
            let mut shown = shown(target, of, &identity, told.unwrap_or(&event), &original);
            shown["routed"] = told.is_some().into();
            all.push(shown);
        }
    }
    let text: Vec<_> = all.iter().map(as_text).collect();
    common.print(&json!(all), &text.join("\n\n"));
    Ok(())
}

fn source<'r>(relay: &'r Relay, options: &Options, file: &Path) -> Result<(&'r Name, &'r SourceEntry), ActionError> {
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let found = match &options.source {
        Some(name) => relay.sources.get_key_value(name.as_str()),
        None => relay.sources.iter().find(|(_, entry)| Some(entry.of.name) == folder.as_deref()),
    };
    found.ok_or_else(|| {
        let known: Vec<_> = relay.sources.keys().map(Name::as_str).collect();
        let which = match &options.source {
            Some(name) => format!("there is no source `{name}`"),
            None => format!("no source is of type `{}`; name one by --source", folder.unwrap_or_default()),
        };
        ActionError::Usage(format!("{which}; there are: {}", known.join(", ")))
    })
}

/// An event, with what tells it from all others of its source.
type Identified = (String, Event);

/// The events in a sample, each with its identity, and the sender's own request.
fn parsed(name: &Name, entry: &SourceEntry, file: &Path) -> anyhow::Result<(Vec<Identified>, Option<Original>)> {
    let sample = samples::read(file).context("the sample cannot be read")?;
    let mut secrets = Resolved::default();
    for reference in entry.secrets() {
        secrets.insert(reference.clone(), vec![Secret::new(STAND_INS[2])]);
    }
    let (now, request_id) = (SystemClock.now(), "00000000-0000-0000-0000-000000000000");
    let mut request = Request {
        via: Via::Http,
        source: name.clone(),
        token: None,
        method: Method::POST,
        headers: sample.headers,
        body: sample.body,
        address: None,
    };
    // What a sender cannot sign for HTTP comes by invocation.
    if entry.source.sign(&mut request, &secrets, now).is_err() {
        request.via = Via::Invocation;
    }
    if let Some(secret) = entry.url_secret().and_then(|reference| secrets.current(reference)) {
        request.token = Some(crate::domain::signature::url_token(secret, name.as_str()));
    }
    let authentic = entry.authenticate(&request, &secrets, now);
    let authentic = authentic.map_err(|why| anyhow!("a sample of source `{name}` cannot be signed here: {why}"))?;
    let parsed = entry.source.parse(authentic).map_err(|why| anyhow!("{}: {why}", file.display()))?;
    if parsed.events.is_empty() {
        let why = parsed.ignored.unwrap_or_else(|| "there is no event in it".to_owned());
        return Err(anyhow!("{}: ignored: {why}", file.display()));
    }
    let events = parsed.events.into_iter().enumerate();
    let events = events.map(|(index, found)| entry.event(name, found, request_id, index)).collect();
    Ok((events, parsed.original))
}

/// What `of` would be sent, as JSON.
fn shown(target: &Name, of: &TargetEntry, identity: &str, event: &Event, original: &Option<Original>) -> Value {
    let about = |rest: Value| {
        let mut shown = json!({ "target": target, "type": of.of.name });
        if let (Value::Object(shown), Value::Object(rest)) = (&mut shown, rest) {
            shown.extend(rest);
        }
        shown
    };
    if let Err(why) = of.target.wants(event, original.as_ref()) {
        return about(json!({ "not_told": why }));
    }
    let original = of.target.needs_original(event).then(|| original.clone()).flatten();
    let delivery = Delivery::new(event.clone(), identity, target, original, SystemClock.now());
    match rendered(of, &delivery) {
        Err(why) => about(json!({ "not_told": why.to_string() })),
        Ok(requests) => {
            let service = of.target.as_draw();
            let bodies = service.map(|service| (service, chat::bodies(service, event)));
            let requests = requests.iter().enumerate().map(|(i, request)| {
                let (request, then) = request;
                let mut shown = as_json(request);
                if let Some(then) = then {
                    shown["then"] = as_json(then);
                }
                if let Some((service, body)) =
                    bodies.as_ref().and_then(|(service, bodies)| Some((service, bodies.get(i)?)))
                {
                    shown["preview"] = service.preview(body).into();
                    let sizes = service.sizes(body).into_iter().map(|size| {
                        json!({ "what": size.what, "unit": size.unit.word(), "size": size.size, "limit": size.limit })
                    });
                    shown["sizes"] = sizes.collect();
                }
                shown
            });
            about(json!({ "requests": requests.collect::<Value>() }))
        }
    }
}

/// A request, and what follows it where it finds nothing.
type Followed = (Outbound, Option<Outbound>);

/// The requests for a delivery, with whichever stand-ins the target takes for its secrets.
fn rendered(of: &TargetEntry, delivery: &Delivery) -> Result<Vec<Followed>, RenderError> {
    let references: Vec<&SecretRef> = of.secrets().iter().collect();
    let ways = STAND_INS.len().pow(u32::try_from(references.len().min(6)).unwrap_or_default());
    let mut last = Err(RenderError::Unfit("it has more secrets than stand-ins can be found for".into()));
    for way in 0..ways {
        let mut secrets = Resolved::default();
        for (i, reference) in references.iter().enumerate() {
            let choice = way / STAND_INS.len().pow(u32::try_from(i.min(6)).unwrap_or_default()) % STAND_INS.len();
            secrets.insert((*reference).clone(), vec![Secret::new(STAND_INS[choice])]);
        }
        let now = SystemClock.now();
        let nothing = Response { status: 200, headers: HeaderMap::new(), body: Bytes::from_static(b"[]") };
        let follow = |request: Outbound| {
            let then = of.target.follow_up(delivery, &request, &nothing, &secrets, now)?;
            Ok((request, then))
        };
        last = of.target.render(delivery, &secrets, now).and_then(|all| all.into_iter().map(follow).collect());
        if !matches!(last, Err(RenderError::UnusableSecret(_))) {
            break;
        }
    }
    last
}

fn as_json(request: &Outbound) -> Value {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = match value.is_sensitive() {
            true => "[secret]".into(),
            false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        json!([name.as_str(), value])
    };
    let body = serde_json::from_slice(&request.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&request.body).into_owned()));
    let mut shown = json!({
        "method": request.method.as_str(),
        "url": request.url,
        "headers": request.headers.iter().map(header).collect::<Value>(),
        "body": body,
    });
    if let Some(service) = &request.aws {
        shown["aws"] = json!({ "service": service.id, "region": service.region });
    }
    if let Some(asked) = &request.token {
        shown["token"] = json!({ "method": asked.request.method.as_str(), "url": asked.request.url });
    }
    shown
}

/// What [`shown`] says, for people.
fn as_text(shown: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => format!("{other:#}"),
    };
    let route = if shown["routed"] == true { "" } else { ", to which no route leads" };
    let mut lines = vec![format!("==> {} ({}{route})", text(&shown["target"]), text(&shown["type"]))];
    if let Some(why) = shown["not_told"].as_str() {
        lines.push(format!("not told: {why}"));
    }
    for (i, request) in shown["requests"].as_array().into_iter().flatten().enumerate() {
        if i > 0 {
            lines.push("\n--- or, where that is refused:".to_owned());
        }
        lines.push(format!("{} {}", text(&request["method"]), text(&request["url"])));
        if let Some(service) = request["aws"]["service"].as_str() {
            let region = request["aws"]["region"].as_str().unwrap_or("the region of the process that sends it");
            lines.push(format!("(signed, to {service} in {region})"));
        }
        if let Some(url) = request["token"]["url"].as_str() {
            lines.push(format!("(with a token that is had by {} {url})", text(&request["token"]["method"])));
        }
        for header in request["headers"].as_array().into_iter().flatten() {
            lines.push(format!("{}: {}", text(&header[0]), text(&header[1])));
        }
        lines.push(format!("\n{}", text(&request["body"])));
        if let Some(then) = request["then"].as_object() {
            lines.push(format!(
                "--- then, where that finds nothing:\n{} {}",
                text(&then["method"]),
                text(&then["url"])
            ));
            lines.push(format!("\n{}", text(&then["body"])));
        }
        if let Some(preview) = request["preview"].as_str() {
            lines.push(format!("\n--- what people see:\n{preview}\n"));
        }
        for size in request["sizes"].as_array().into_iter().flatten() {
            lines.push(format!(
                "{}: {} of {} {}",
                text(&size["what"]),
                size["size"],
                size["limit"],
                text(&size["unit"])
            ));
        }
    }
    lines.join("\n")
}
