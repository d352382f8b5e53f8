//! Probes: is there a Receiver behind every `flux` target, asked so that nothing happens.
//!
//! What is asked for is a path that no Receiver can have. The controller looks the path up before anything else, so
//! that its answer, 404 with an empty body, proves everything that a delivery needs on its way: name, connection, TLS,
//! proxy, ingress, the right Service. The token is not needed, and the probe never reads it.
//!
//! The request is a GET without a body. The controller checks no method: a GET at a Receiver's real path triggers it,
//! so that no real path is ever asked for. The method is for all that may stand there by mistake: a GET promises to
//! change nothing. The controller's event intake, the usual mistake, takes any path and any method as well; it reads
//! the body before all else, and of none it can make no event: nothing is matched, counted or sent on, and it answers
//! 400. Source: fluxcd/notification-controller, `internal/server` (read 2026-08).
//!
//! Only where something refuses the method itself, the same is asked as a POST, again without a body: that is what a
//! delivery is, and a proxy that lets nothing else through is in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method, header};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::Instant;

use crate::domain::name::Name;
use crate::domain::secret::SecretRef;
use crate::port::{Connection, Meter, Of, SendError, Sender, Unit};
use crate::relay::format::{BaseUrl, Keys};
use crate::relay::{Relay, TargetEntry};
use crate::secrets::SecretStore;
use crate::target::{Outbound, Response, excerpt};

/// Where no Receiver can be: real paths are SHA-256 digests, and nobody knows anything whose digest is this.
const NOWHERE: &str = "/hook/0000000000000000000000000000000000000000000000000000000000000000";
/// What the controller's router, but no Receiver, answers.
const OUTSIDE: &str = "/sluice-probe";
/// What Go's router says.
const GO_NOT_FOUND: &str = "404 page not found";
/// At most this many are asked at once.
const AT_ONCE: usize = 16;
/// One has at most this long, whatever the target's `timeout`: no Receiver does any work for a probe.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is kept back of a function's time for telling what was found.
const RESERVE: Duration = Duration::from_secs(1);

/// Asks whether the receivers are there.
pub struct Probe {
    /// The relay file.
    pub relay: Arc<Relay>,
    /// The agent in whose network this runs: its targets are asked for. Without one, those that need no agent.
    pub agent: Option<Name>,
    /// The secrets.
    pub secrets: Arc<SecretStore>,
    /// Sends requests.
    pub sender: Arc<dyn Sender>,
    /// Where counts go.
    pub meter: Arc<dyn Meter>,
}

/// What a probe found, other than a Receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A secret of the connection cannot be had.
    NoSecret,
    /// What the target is configured with cannot be used.
    Unusable,
    /// The egress rules forbid the address.
    Egress,
    /// The name does not resolve, or nobody listens.
    Unreachable,
    /// TLS failed.
    Tls,
    /// No answer in time.
    TimedOut,
    /// Something before the controller has no route for this host or path.
    NoRoute,
    /// The path does not arrive as it was sent.
    PathLost,
    /// The controller's event intake instead of its receivers.
    WrongService,
    /// Something before the controller sends us elsewhere.
    Redirected,
    /// Something before the controller wants a credential, or does not want us.
    Refused,
    /// Something before the controller cannot reach it, or it fails itself.
    Unavailable,
    /// An answer that no controller gives.
    Unexpected,
}

impl Finding {
    /// The word for it, in logs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::Unusable => "unusable",
            Self::Egress => "egress",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::TimedOut => "timed_out",
            Self::NoRoute => "no_route",
            Self::PathLost => "path_lost",
            Self::WrongService => "wrong_service",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was found.
    pub finding: Finding,
    /// What it means and what to do; never holds a secret.
    pub reason: String,
}

impl Trouble {
    fn new(finding: Finding, reason: impl Into<String>) -> Self {
        Self { finding, reason: reason.into() }
    }
}

/// A target whose receiver is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The target.
    pub target: String,
    /// What was found instead.
    pub finding: Finding,
    /// What it means and what to do.
    pub reason: String,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many targets were asked.
    pub probed: usize,
    /// Those whose receiver is not there, by name.
    pub failed: Vec<Failed>,
}

/// The secrets that probing needs where there is no agent: those of connections, no tokens.
pub fn secrets(relay: &Relay) -> BTreeSet<&SecretRef> {
    let mut references = BTreeSet::new();
    for (_, entry, _) in receivers(relay, None) {
        Keys::secrets(&entry.keys, &mut |reference| {
            references.insert(reference);
        });
    }
    references
}

/// The targets that are receivers of a controller, and that `agent` reaches or, without one, everybody.
fn receivers<'r>(
    relay: &'r Relay,
    agent: Option<&Name>,
) -> impl Iterator<Item = (&'r Name, &'r TargetEntry, &'r BaseUrl)> {
    let reachable = relay.targets.iter().filter(move |(_, entry)| entry.keys.agent.as_ref() == agent);
    reachable.filter_map(|(name, entry)| Some((name, entry, &entry.target.as_flux()?.url)))
}

/// Targets that one question answers: the same URL, connected to alike.
struct Asked<'a> {
    url: &'a BaseUrl,
    entry: &'a TargetEntry,
    targets: Vec<&'a Name>,
    timeout: Duration,
}

impl Probe {
    /// Asks for all receivers, and is done before `deadline`.
    pub async fn run(&self, deadline: Instant) -> Summary {
        let asked = self.asked();
        let rounds = u32::try_from(asked.len().div_ceil(AT_ONCE)).unwrap_or(u32::MAX).max(1);
        let share = deadline.saturating_duration_since(Instant::now()).saturating_sub(RESERVE) / rounds;
        let questions = asked.into_iter().map(async |asked| {
            let started = Instant::now();
            let found = self.ask(&asked, started + asked.timeout.min(PATIENCE).min(share)).await;
            (asked.targets, found, started.elapsed())
        });
        // The questions are made before they are asked: each begins when its turn comes.
        let mut answers = futures_util::stream::iter(questions.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        let mut summary = Summary { probed: 0, failed: Vec::new() };
        while let Some((targets, found, took)) = answers.next().await {
            for target in targets {
                summary.probed += 1;
                summary.failed.extend(self.report(target, &found, took));
            }
        }
        summary.failed.sort_by(|one, other| one.target.cmp(&other.target));
        tracing::info!(probed = summary.probed, failed = summary.failed.len(), "probed the receivers");
        summary
    }

    fn asked(&self) -> Vec<Asked<'_>> {
        let mut asked = BTreeMap::new();
        for (name, entry, url) in receivers(&self.relay, self.agent.as_ref()) {
            let keys = &entry.keys;
            let way = (url.join(""), keys.plaintext, &keys.ca, &keys.client_certificate, &keys.proxy);
            let question =
                asked.entry(way).or_insert_with(|| Asked { url, entry, targets: Vec::new(), timeout: Duration::ZERO });
            question.targets.push(name);
            question.timeout = question.timeout.max(keys.timeout.0);
        }
        asked.into_values().collect()
    }

    fn report(&self, target: &Name, found: &Result<(), Trouble>, took: Duration) -> Option<Failed> {
        let of = Of::Target(target.as_str());
        self.meter.record("ProbeFailures", of, if found.is_ok() { 0.0 } else { 1.0 }, Unit::Count);
        self.meter.record("ProbeTime", of, took.as_secs_f64() * 1000.0, Unit::Milliseconds);
        let Trouble { finding, reason } = found.as_ref().err()?;
        tracing::warn!(target = %target, finding = finding.word(), reason, "the receiver is not there");
        Some(Failed { target: target.to_string(), finding: *finding, reason: reason.clone() })
    }

    async fn ask(&self, asked: &Asked<'_>, ends: Instant) -> Result<(), Trouble> {
        let mut references = Vec::new();
        Keys::secrets(&asked.entry.keys, &mut |reference| references.push(reference.clone()));
        let found = tokio::time::timeout_at(ends, self.secrets.find(&references, None)).await;
        let found = found.map_err(|_| {
            Trouble::new(Finding::NoSecret, "the secret store does not answer; is it reachable from here?")
        })?;
        let connection = found.connection(&self.relay, asked.entry).map_err(|why| {
            Trouble::new(Finding::NoSecret, format!("{why}; may this function read it, and does it exist?"))
        })?;
        let mut nowhere = self.send(Method::GET, asked.url.join(NOWHERE), &connection, ends).await.map_err(unsent)?;
        if matches!(nowhere.status, 403 | 405 | 501) {
            nowhere = self.send(Method::POST, asked.url.join(NOWHERE), &connection, ends).await.map_err(unsent)?;
        }
        let outside = match nowhere.status {
            404 if nowhere.body.is_empty() => {
                // That something answers is known by now; how this one fails would say nothing more.
                self.send(Method::GET, asked.url.join(OUTSIDE), &connection, ends).await.ok()
            }
            _ => None,
        };
        judge(&nowhere, outside.as_ref())
    }

    async fn send(
        &self,
        method: Method,
        url: String,
        connection: &Connection,
        ends: Instant,
    ) -> Result<Response, SendError> {
        let request = Outbound::new(method, url);
        self.sender.send(request, connection, ends.saturating_duration_since(Instant::now())).await
    }
}

/// What it means that no answer came, and what to do.
pub(crate) fn unsent(error: SendError) -> Trouble {
    let (finding, hint) = match &error {
        SendError::Egress(_) => (Finding::Egress, ""),
        SendError::Unusable(_) => (Finding::Unusable, "; correct what the target's key refers to"),
        SendError::Connect(_) => (
            Finding::Unreachable,
            "; does the name resolve from here, is the load balancer there, do firewalls and security groups let us in?",
        ),
        SendError::Tls(_) => (
            Finding::Tls,
            "; is the certificate current and for this name, does `ca` name its authority, is a `client_certificate` \
             asked for?",
        ),
        SendError::TimedOut(_) => (
            Finding::TimedOut,
            "; a firewall or security group may drop what we send, or the other side hangs or is overloaded",
        ),
        SendError::Broken(_) => (Finding::Unavailable, "; the other side, or a proxy before it, hung up"),
    };
    Trouble::new(finding, format!("{error}{hint}"))
}

/// What the answers mean: to what is nowhere under `/hook/` and, where that was an empty 404, to what is outside.
fn judge(nowhere: &Response, outside: Option<&Response>) -> Result<(), Trouble> {
    let status = nowhere.status;
    let empty = nowhere.body.is_empty();
    let text = match excerpt(nowhere) {
        text if text.is_empty() => String::new(),
        text => format!(" (it says: {text})"),
    };
    let (finding, reason) = match status {
        404 if empty => match outside {
            Some(outside) if alike(nowhere, outside) => (
                Finding::NoRoute,
                "404 with an empty body, but not only under /hook/, where the controller would answer with a text: a \
                 proxy has no route for this host; add one to the Service webhook-receiver"
                    .into(),
            ),
            _ => return Ok(()),
        },
        404 if excerpt(nowhere) == GO_NOT_FOUND => (
            Finding::PathLost,
            "404 page not found: the path does not arrive as /hook/…; is the URL's path right, does an ingress rewrite \
             it? An ingress written in Go (Traefik, Caddy) also says this where it has no route for this host"
                .into(),
        ),
        404 => (
            Finding::NoRoute,
            format!(
                "404, but not by the controller, whose answers are empty: an ingress or proxy has no route for this \
                 host or path; add one to the Service webhook-receiver{text}"
            ),
        ),
        202 => (
            Finding::WrongService,
            "202: this is the notification-controller's event intake, which drops what it gets; route to the Service \
             webhook-receiver instead of notification-controller"
                .into(),
        ),
        400 if empty => (
            Finding::WrongService,
            "400 with an empty body: receivers are looked up before anything is checked, so this is the \
             notification-controller's event intake, which drops what it gets; route to the Service webhook-receiver \
             instead of notification-controller"
                .into(),
        ),
        429 => (
            Finding::WrongService,
            format!(
                "429: receivers never answer that; it is the notification-controller's event intake (then route to the \
                 Service webhook-receiver instead) or a proxy's rate limit (then raise it){text}"
            ),
        ),
        300..=399 => (
            Finding::Redirected,
            format!("{status}: redirects are not followed; use the URL it leads to{}", leads_to(&nowhere.headers)),
        ),
        401 | 403 | 407 => (
            Finding::Refused,
            format!(
                "{status}: something before the controller wants a credential or does not let us through; let POST \
                 under /hook/ pass{text}"
            ),
        ),
        405 | 501 => (
            Finding::Refused,
            format!("{status}: something before the controller refuses POST; let it pass under /hook/{text}"),
        ),
        500 if empty => (
            Finding::Unavailable,
            "500 with an empty body: the controller cannot read its Receivers; its log says why".into(),
        ),
        500 if excerpt(nowhere) == "Internal Server Error" => (
            Finding::Unavailable,
            "500: a proxy fails, or this is the event intake of an old notification-controller; is the route to the \
             Service webhook-receiver?"
                .into(),
        ),
        502..=504 => (
            Finding::Unavailable,
            format!(
                "{status}: what stands before the controller cannot reach it; does notification-controller run, does \
                 the Service webhook-receiver have endpoints?{text}"
            ),
        ),
        500..=599 => (Finding::Unavailable, format!("{status}: what stands before the controller fails{text}")),
        _ => (
            Finding::Unexpected,
            format!("{status}: no controller answers that here; something else is at this URL{text}"),
        ),
    };
    Err(Trouble::new(finding, reason))
}

/// Whether two empty 404s look as if one and the same had answered. What passes a proxy has other headers than what
/// it says itself; their values (dates, request ids) differ always.
fn alike(one: &Response, other: &Response) -> bool {
    let names =
        |response: &Response| -> BTreeSet<String> { response.headers.keys().map(ToString::to_string).collect() };
    let server = |response: &Response| response.headers.get(header::SERVER).cloned();
    other.status == 404 && other.body.is_empty() && names(one) == names(other) && server(one) == server(other)
}

/// The host that a redirect leads to. What is behind the host may hold a secret.
fn leads_to(headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    match location.and_then(|location| url::Url::parse(location).ok()) {
        Some(url) => format!(" (at {})", url.origin().ascii_serialization()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| (::http::HeaderName::from_static(name), ::http::HeaderValue::from_static(value)));
        Response { status, headers: headers.collect(), body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn every_answer_has_one_finding_and_the_controllers_own_none() {
        use Finding::*;
        let table: &[(u16, &'static str, Option<Finding>)] = &[
            (404, "", None),
            (404, "404 page not found\n", Some(PathLost)),
            (404, "<html>default backend - 404</html>", Some(NoRoute)),
            (404, "{\"message\":\"Not Found\"}", Some(NoRoute)),
            (202, "", Some(WrongService)),
            (400, "", Some(WrongService)),
            (429, "Too Many Requests\n", Some(WrongService)),
            (400, "Client sent an HTTP request to an HTTPS server.\n", Some(Unexpected)),
            (200, "", Some(Unexpected)),
            (200, "<html>welcome</html>", Some(Unexpected)),
            (204, "", Some(Unexpected)),
            (301, "", Some(Redirected)),
            (307, "", Some(Redirected)),
            (308, "", Some(Redirected)),
            (401, "", Some(Refused)),
            (403, "", Some(Refused)),
            (405, "", Some(Refused)),
            (407, "", Some(Refused)),
            (410, "", Some(Unexpected)),
            (413, "", Some(Unexpected)),
            (421, "", Some(Unexpected)),
            (500, "", Some(Unavailable)),
            (500, "Internal Server Error\n", Some(Unavailable)),
            (501, "", Some(Refused)),
            (502, "bad gateway", Some(Unavailable)),
            (503, "", Some(Unavailable)),
            (504, "", Some(Unavailable)),
            (526, "", Some(Unavailable)),
        ];
        for (status, body, finding) in table {
            let judged = judge(&answer(*status, &[], body), None);
            assert_eq!(judged.as_ref().err().map(|trouble| trouble.finding), *finding, "{status} {body}");
            if let Err(trouble) = judged {
                assert!(trouble.reason.starts_with(&status.to_string()), "{}", trouble.reason);
            }
        }
    }

    #[test]
    fn an_empty_404_counts_unless_the_same_one_comes_from_outside_hook() {
        let controller = answer(404, &[("date", "today"), ("content-length", "0")], "");
        let through_envoy =
            answer(404, &[("date", "today"), ("server", "envoy"), ("x-envoy-upstream-service-time", "1")], "");
        let envoy = answer(404, &[("date", "later"), ("server", "envoy")], "");
        let load_balancer = answer(404, &[("date", "later"), ("content-length", "0"), ("server", "awselb/2.0")], "");
        for (nowhere, outside) in [
            (&controller, &answer(404, &[], "404 page not found\n")),
            (&controller, &answer(404, &[], "<html>default backend</html>")),
            (&controller, &answer(403, &[("date", "today"), ("content-length", "0")], "")),
            (&controller, &load_balancer),
            (&through_envoy, &envoy),
        ] {
            assert_eq!(judge(nowhere, Some(outside)), Ok(()));
        }
        for proxy in [&envoy, &load_balancer] {
            let trouble = judge(proxy, Some(proxy)).expect_err("only a proxy");
            assert_eq!(trouble.finding, Finding::NoRoute);
        }
    }

    #[test]
    fn a_redirect_is_told_by_its_host_alone() {
        let trouble = judge(&answer(302, &[("location", "https://login.example.com/?state=hunter2")], ""), None)
            .expect_err("3xx");
        assert!(trouble.reason.contains("https://login.example.com)"), "{}", trouble.reason);
        assert!(!trouble.reason.contains("hunter2"), "{}", trouble.reason);
    }

    #[test]
    fn what_could_not_be_sent_has_a_finding_and_a_hint() {
        let table = [
            (SendError::Egress("egress: 127.0.0.1".into()), Finding::Egress),
            (SendError::Unusable("`ca` is not PEM".into()), Finding::Unusable),
            (SendError::Connect("refused".into()), Finding::Unreachable),
            (SendError::Tls("expired".into()), Finding::Tls),
            (SendError::TimedOut(Duration::from_secs(1)), Finding::TimedOut),
            (SendError::Broken("reset".into()), Finding::Unavailable),
        ];
        for (error, finding) in table {
            let trouble = unsent(error.clone());
            assert_eq!(trouble.finding, finding);
            assert!(trouble.reason.starts_with(&error.to_string()), "{}", trouble.reason);
        }
    }

    #[test]
    fn the_word_of_a_finding_is_the_one_in_the_answer() {
        for finding in [Finding::NoSecret, Finding::TimedOut, Finding::WrongService, Finding::PathLost, Finding::Tls] {
            assert_eq!(serde_json::to_value(finding).expect("JSON"), finding.word());
        }
    }
}
