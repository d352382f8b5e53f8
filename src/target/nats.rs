//! NATS: the normalised event as a message on a subject, as Flux publishes its events.
//!
//! NATS is no HTTP. A server says what it is (`INFO`), is told who we are (`CONNECT`) and gets the message (`HPUB`, as it
//! has a header); `src/rim/nats.rs` speaks it. Here are what is published and what answers mean: an answer is the line by
//! which the server answers, or the text of a stream's acknowledgement.
//!
//! A server acknowledges nothing but a `PING` after the message, by which it has read it: who is not listening then never
//! hears of it. A stream of JetStream keeps it, and says so if there is a subject to reply to: `{"stream", "seq"}`, or
//! `{"error": {"code", "description"}}`; where nobody takes the message at all, the server replies with the status 503. By
//! the header `Nats-Msg-Id` a stream knows a message again, for two minutes unless told otherwise.
//!
//! Oddities: `-ERR` comes in several spellings, and after most the server hangs up; a user who may not publish is told so and
//! stays connected. `max_payload` (1 MiB unless told otherwise) counts headers, too. Where somebody listens to the subject
//! and no stream keeps it, nothing acknowledges: the attempt times out.
//! Sources: docs.nats.io, "Client Protocol" and "Publish Acknowledgement"; ADR-4 and ADR-22 of
//! nats-io/nats-architecture-and-design; nats-io/nats-server, `server/client.go`, `server/errors.go`, and what 2.9.10
//! answers (tests/nats.rs); fluxcd/notification-controller, `internal/notifier/nats.go` (read 2026-11).

use ::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::poke::{busy, current, held};
use super::{Class, Outbound, RenderError, Response, Target, chat, excerpt};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::relay::format::{At, Fields, KeyDescription, Keys, Problems, Read, parsed};

crate::keys! {
    /// The keys of a `nats` target.
    pub struct NatsKeys {
        /// The server: `nats://host:4222`, or `tls://host:4222` for one that has to encrypt.
        url: ServerUrl,
        /// The subject that is published to.
        subject: Subject,
        /// The user name; goes with `password`.
        username: Option<String>,
        /// The user's password.
        password: Option<SecretRef>,
        /// A token, instead of user name and password.
        token: Option<SecretRef>,
        /// Credentials as `nsc` writes them into a file, a JWT and its key, instead of both.
        creds: Option<SecretRef>,
        /// Whether a stream of JetStream has to acknowledge what is published, for which we have to be allowed to subscribe
        /// to `_INBOX.>`. Left out: the server alone does, and who is not listening is not told.
        jetstream: bool = false,
    }
}

/// Where a server of NATS is: `nats://` or `tls://`, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl Read for ServerUrl {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let url = url::Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
            if !url.username().is_empty() || url.password().is_some() {
                return Err("a URL in the relay file must not hold credentials; use a secret reference".into());
            }
            let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
            match matches!(url.scheme(), "nats" | "tls") && url.has_host() && bare {
                true => Ok(Self(text.trim_end_matches('/').to_owned())),
                false => Err("expected nats:// or tls://, a host and its port".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "uri", "pattern": "^(nats|tls)://[^/?#]+/?$" })
    }
}

/// A subject without wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

impl Read for Subject {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let word =
                |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '>');
            match text.split('.').all(word) {
                true => Ok(Self(text.to_owned())),
                false => Err("expected a subject: words with dots between them, without blanks and wildcards".into()),
            }
        })
    }

    fn schema() -> Value {
        let word = "[!-)+-\\-/-=?-~]+";
        json!({ "type": "string", "pattern": format!("^{word}(\\.{word})*$") })
    }
}

/// What is published to NATS instead of sent over HTTP: the request's body, at the server that its URL names.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The subject.
    pub subject: String,
    /// By which a stream knows the message again.
    pub id: String,
    /// How the server knows us.
    pub login: Login,
    /// Whether a stream has to acknowledge it; else the server alone does.
    pub to_stream: bool,
}

/// How a server of NATS knows us.
#[derive(Debug, Clone)]
pub enum Login {
    /// Not at all.
    Nobody,
    /// By user name and password.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// By a token.
    Token(Secret),
    /// By a JWT, and by what the server gives us to sign with its key: both in the form of a `.creds` file.
    Creds(Secret),
}

#[derive(Debug, Clone)]
enum Auth {
    Nobody,
    Password { username: String, password: SecretRef },
    Token(SecretRef),
    Creds(SecretRef),
}

/// A `nats` target.
#[derive(Debug, Clone)]
pub struct Nats {
    keys: NatsKeys,
    auth: Auth,
}

impl Keys for Nats {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = NatsKeys::take(fields)?;
        let auth = match (&keys.username, &keys.password, &keys.token, &keys.creds) {
            (None, None, None, None) => Auth::Nobody,
            (Some(username), Some(password), None, None) => {
                Auth::Password { username: username.clone(), password: password.clone() }
            }
            (None, None, Some(token), None) => Auth::Token(token.clone()),
            (None, None, None, Some(creds)) => Auth::Creds(creds.clone()),
            _ => {
                let at = fields.at();
                let why =
                    "a nats target has either `username` and `password`, or `token`, or `creds`, or nothing of it";
                fields.problems().error(&at, why);
                return None;
            }
        };
        Some(Self { keys, auth })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        NatsKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

/// The largest event that is published, in bytes: what a server takes that was told nothing else, without the header.
const MOST: usize = 1_048_576 - 256;

impl Target for Nats {
    fn class(&self) -> Class {
        Class::Feed
    }

    // A stream goes by the message's id, for some time; what was not answered is repeated within seconds.
    fn is_idempotent(&self) -> bool {
        self.keys.jetstream
    }

    fn by_http(&self) -> bool {
        false
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let event = delivery.event.json_within(MOST).ok_or_else(|| {
            RenderError::Unfit("the event is larger than servers of NATS take by default (1 MiB)".into())
        })?;
        let login = match &self.auth {
            Auth::Nobody => Login::Nobody,
            Auth::Password { username, password } => {
                Login::Password { username: username.clone(), password: current(secrets, password)?.clone() }
            }
            Auth::Token(token) => Login::Token(current(secrets, token)?.clone()),
            Auth::Creds(creds) => Login::Creds(current(secrets, creds)?.clone()),
        };
        let mut request = Outbound::new(Method::POST, self.keys.url.0.clone());
        request.body = event.into();
        request.nats = Some(Publication {
            subject: self.keys.subject.0.clone(),
            id: delivery.deduplication_id(),
            login,
            to_stream: self.keys.jetstream,
        });
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, _now: Timestamp) -> Outcome {
        let said = excerpt(response);
        if let Some(error) = said.strip_prefix("-ERR") {
            return refused(error);
        }
        let answer = chat::json(response);
        match response.status {
            _ if !self.keys.jetstream && said == "PONG" => Outcome::Accepted,
            503 => held("503: no stream of JetStream takes this subject"),
            _ if answer["stream"].is_string() && answer["error"].is_null() => Outcome::Accepted,
            _ if answer["error"].is_object() => {
                let error = &answer["error"];
                let reason =
                    format!("the stream did not take it: {}", error["description"].as_str().unwrap_or_default());
                match error["err_code"].as_u64() {
                    Some(TOO_LARGE) => Outcome::Rejected { reason },
                    _ => busy(reason),
                }
            }
            _ if said.is_empty() => busy("NATS said nothing"),
            _ => held("the answer is not that of NATS; does something else than a stream answer on this subject?"),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        is_about_us(&excerpt(response))
    }
}

/// JetStream's error for a message that is larger than the stream takes (`JSStreamMessageExceedsMaximumErr`).
const TOO_LARGE: u64 = 10_054;

/// Whether an error is about who we are. A time-out at logging in is about how slow somebody is.
fn is_about_us(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["authorization violation", "authentication expired", "authentication revoked"]
        .iter()
        .any(|one| error.contains(one))
}

/// What becomes of a message after this `-ERR`.
fn refused(error: &str) -> Outcome {
    let reason = format!("NATS says: {}", error.trim().trim_matches('\''));
    let plain = reason.to_ascii_lowercase();
    let lasting = ["permissions violation", "invalid", "tls required", "headers not supported", "attempted to connect"];
    if plain.contains("maximum payload") {
        return Outcome::Rejected { reason: format!("{reason}; the event is larger than the server's max_payload") };
    }
    match is_about_us(&plain) || lasting.iter().any(|one| plain.contains(one)) {
        true => held(reason),
        false => busy(reason),
    }
}
