//! Google Container Registry and Artifact Registry, by a push subscription of Pub/Sub to the topic `gcr`.
//!
//! The notice is JSON: `action` (`INSERT` or `DELETE`), `digest` and `tag`, each a full reference, either of which may
//! be missing: a manifest pushed by digest has no tag. It comes wrapped, as base64 in `message.data`, or, where the
//! subscription unwraps it, as the body itself, with the rest in `x-goog-pubsub-*` headers if it writes them.
//!
//! The subscription signs in with an OpenID token of its service account, in `Authorization: Bearer`. Any Google account
//! can get such a token, for any audience: only issuer, audience and verified account together say who it is
//! (CVE-2026-40109 of Flux). Pub/Sub delivers at least once, and again whatever is not answered with 2xx, for days:
//! what others put on the topic is ignored.
//! Source: docs.cloud.google.com/artifact-registry/docs/configure-notifications and
//! docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions (read 2026-08).

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json as json_value};

use super::auth::{self, AuthError, Authentic};
use super::json::text;
use super::jwt::{self, Expected};
use super::{Found, ParseError, Parsed, Request, Source, json, oci};
use crate::domain::event::{Detail, ImagePush};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, HttpUrl, OneOrMany, Problems, Read, parsed};

/// How Google names itself in tokens.
const ISSUERS: &[&str] = &["https://accounts.google.com", "accounts.google.com"];

crate::keys! {
    /// A `gcr` source.
    pub struct Gcr {
        /// The audience that the push subscription's tokens are for: as set there, else the whole push URL.
        audience: OneOrMany<String>,
        /// The mail address of the service account that the push subscription signs in with.
        service_account: OneOrMany<String>,
        /// Where the keys of the tokens' issuer are published.
        jwks_url: KeySetUrl = KeySetUrl(SecretRef::KeySet("https://www.googleapis.com/oauth2/v3/certs".into())),
    }
}

/// The URL of a key set.
#[derive(Debug, Clone)]
pub struct KeySetUrl(SecretRef);

impl Read for KeySetUrl {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let HttpUrl(url) = HttpUrl::read(value, at, problems)?;
        parsed(value, at, problems, |_| {
            let near = match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
                Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            };
            if url.scheme() != "https" && !near {
                return Err("keys are fetched by https: whoever can change them on their way can sign".into());
            }
            Ok(Self(SecretRef::KeySet(url.into())))
        })
    }

    fn schema() -> Value {
        HttpUrl::schema()
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        seen(&self.0);
    }
}

impl Gcr {
    fn keys(&self) -> &[SecretRef] {
        std::slice::from_ref(&self.jwks_url.0)
    }
}

impl Source for Gcr {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        let expected = Expected { issuers: ISSUERS, audiences: &self.audience.0, emails: &self.service_account.0 };
        auth::token(request, &expected, self.keys(), secrets, now)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::read::<IgnoredAny>(&request.body)?;
        // What is of another form was put on the topic by somebody else, here and below.
        let body: Body = serde_json::from_slice(&request.body).unwrap_or_default();
        let header = |name| text(request.header(name).map(str::to_owned));
        let Body { message, action, digest, tag } = body;
        let (notice, id, published) = match message {
            Some(message) => {
                let data = BASE64
                    .decode(message.data.unwrap_or_default().as_bytes())
                    .map_err(|_| ParseError::Malformed("the body's `message.data` is not base64".into()))?;
                // A brace too many has been seen at the end.
                let first = serde_json::Deserializer::from_slice(&data).into_iter().next().and_then(Result::ok);
                (first.unwrap_or_default(), text(message.id), text(message.published))
            }
            None => (
                Notice { action, digest, tag },
                header("x-goog-pubsub-message-id"),
                header("x-goog-pubsub-publish-time"),
            ),
        };
        let mut parsed = read(notice, id.clone(), published.and_then(|time| time.parse().ok()));
        parsed.delivery_id = id;
        Ok(parsed)
    }

    /// With a key set that has its private keys, as one made for trying has; nobody has Google's.
    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String> {
        let set = secrets.current(&self.jwks_url.0).ok_or_else(|| format!("{} cannot be had", self.jwks_url.0))?;
        let claims = json_value!({
            "iss": ISSUERS[0], "aud": self.audience.0[0], "email": self.service_account.0[0], "email_verified": true,
            "iat": now.as_second(), "exp": now.as_second() + 3600,
        });
        auth::set_header(request, "Authorization", &format!("Bearer {}", jwt::sign(&claims, set)?))
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        for (key, list) in [("audience", &self.audience), ("service_account", &self.service_account)] {
            if list.0.iter().any(String::is_empty) {
                problems.error(&at.child(key), "an empty text would accept what says nothing");
            }
        }
    }
}

/// A message in its wrapping, or a bare notice.
#[derive(Default, Deserialize)]
struct Body {
    message: Option<Message>,
    action: Option<String>,
    digest: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    data: Option<String>,
    #[serde(rename = "messageId")]
    id: Option<String>,
    #[serde(rename = "publishTime")]
    published: Option<String>,
}

#[derive(Default, Deserialize)]
struct Notice {
    action: Option<String>,
    digest: Option<String>,
    tag: Option<String>,
}

fn read(notice: Notice, id: Option<String>, time: Option<Timestamp>) -> Parsed {
    let (Some(action), Some(named)) = (text(notice.action), notice.digest.as_deref().or(notice.tag.as_deref())) else {
        return Parsed::ignored("message", "not a notice of a registry");
    };
    let Some(repository) = oci::repository_of(named) else {
        return Parsed::ignored(action, "not a notice of a registry");
    };
    if action != "INSERT" {
        return Parsed::ignored(action, "not a push to the registry");
    }
    let digest = notice.digest.as_deref().and_then(|digest| oci::digest(digest.rsplit_once('@')?.1));
    let tag = notice.tag.as_deref().and_then(oci::tag_of);
    let push = ImagePush {
        repository: oci::repository(repository),
        tag: tag.map(str::to_owned),
        tags: tag.iter().map(|tag| (*tag).to_owned()).collect(),
        digest: digest.map(str::to_owned),
        media_type: None,
        actor: None,
    };
    let summary = format!("{action} {}", oci::reference(&push));
    Parsed::events(summary, vec![Found { identity: id, detail: Detail::ImagePush(push), time }])
}
