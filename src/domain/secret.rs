//! Secrets and the references that stand for them.
//!
//! The relay file holds references only ([`SecretRef`]); a value ([`Secret`]) lives in memory, cannot be printed
//! or serialised, and is wiped when it is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::relay::format::{At, Problems, Read, parsed};

/// The value of a secret, byte for byte as it is stored. `Debug` shows a marker, never the value.
#[derive(Clone)]
pub struct Secret(Arc<SecretSlice<u8>>);

impl Secret {
    /// Takes a value out of a store. Nothing is trimmed: a trailing newline counts.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(SecretSlice::from(value.into())))
    }

    /// The value itself: for a computation, or for the one request that has to carry it.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The value as text, where a protocol can carry nothing else.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(self.expose()).ok()
    }

    /// An empty secret authenticates nobody.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// Whether it ends in white space: legal, but mostly a slip of `echo`.
    pub fn ends_in_white_space(&self) -> bool {
        self.expose().last().is_some_and(u8::is_ascii_whitespace)
    }

    /// Compares in constant time. An empty secret equals nothing.
    pub fn equals(&self, presented: &[u8]) -> bool {
        !self.is_empty() && bool::from(self.expose().ct_eq(presented))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.expose().ct_eq(other.expose()))
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is kept: the only form in which the relay file may name one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// `ssm:/name` or `ssm:/name:version`: a parameter of SSM Parameter Store, decrypted.
    Ssm {
        /// The parameter's name, with its leading slash.
        name: String,
        /// A fixed version; such a reference never changes and has no value before it.
        version: Option<u64>,
    },
    /// `secretsmanager:id` or `secretsmanager:id#json.key`.
    SecretsManager {
        /// The secret's name or ARN.
        id: String,
        /// The key whose text is meant, where the secret is a JSON object; dots lead into nested objects.
        key: Option<String>,
    },
    /// `env:NAME`, for local use.
    Env(String),
    /// `file:path`, for local use.
    File(String),
    /// The public keys at a URL (JWKS), by which signed tokens are checked. No secret at all, but fetched, cached and
    /// guarded against floods as secrets are; so it cannot be written where a secret is asked for.
    KeySet(String),
    /// The certificate at a URL, by which a sender's signatures are checked. As public as a key set, but it is the message
    /// that says where it is: whoever makes one of these has checked the place.
    Certificate(String),
    /// A token that AWS signs for the role that we run as (STS `GetWebIdentityToken`). Kept nowhere, so it cannot be
    /// written where a secret is asked for: only a target's type names it.
    WebIdentity {
        /// Whom it is for.
        audience: String,
    },
}

impl SecretRef {
    /// Reads a reference. The error never repeats the text: it may be a secret pasted by mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "a secret is named by reference: ssm:/name, ssm:/name:version, secretsmanager:id, \
                             secretsmanager:id#json.key, env:NAME or file:path (never the value itself)";
        let (scheme, rest) = text.split_once(':').ok_or(FORMS)?;
        match scheme {
            "ssm" => {
                let (name, version) = match rest.rsplit_once(':') {
                    Some((name, version)) => {
                        let version = version.parse().ok().filter(|version| *version > 0);
                        (name, Some(version.ok_or("the version after the name is a number from 1")?))
                    }
                    None => (rest, None),
                };
                let valid = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
                if !name.starts_with('/') || name.len() < 2 || name.ends_with('/') || !name.chars().all(valid) {
                    return Err("an SSM parameter is named by its full path, such as ssm:/sluice/github \
                                (letters, digits and / _ . -)"
                        .into());
                }
                Ok(Self::Ssm { name: name.into(), version })
            }
            "secretsmanager" => {
                let (id, key) = match rest.split_once('#') {
                    Some((_, "")) => return Err("the JSON key after # is empty".into()),
                    Some((id, key)) => (id, Some(key.to_owned())),
                    None => (rest, None),
                };
                let valid = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:".contains(c);
                if id.is_empty() || !id.chars().all(valid) {
                    return Err("a secret of Secrets Manager is named by its name or ARN \
                                (letters, digits and / _ + = . @ -)"
                        .into());
                }
                Ok(Self::SecretsManager { id: id.into(), key })
            }
            "env" if !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                Ok(Self::Env(rest.into()))
            }
            "env" => Err("after env: comes the name of an environment variable".into()),
            "file" if !rest.is_empty() => Ok(Self::File(rest.into())),
            "file" => Err("after file: comes a path".into()),
            _ => Err(FORMS.into()),
        }
    }

    /// Whether the value is one: key sets and certificates are public.
    pub fn is_secret(&self) -> bool {
        !matches!(self, Self::KeySet(_) | Self::Certificate(_))
    }

    /// Whether requests name it, and not the relay file: there is no end of those.
    pub fn is_named_by_requests(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    /// Whether the value can only be found on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Env(_) | Self::File(_))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssm { name, version: None } => write!(f, "ssm:{name}"),
            Self::Ssm { name, version: Some(version) } => write!(f, "ssm:{name}:{version}"),
            Self::SecretsManager { id, key: None } => write!(f, "secretsmanager:{id}"),
            Self::SecretsManager { id, key: Some(key) } => write!(f, "secretsmanager:{id}#{key}"),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::KeySet(url) => write!(f, "the key set at {url}"),
            Self::Certificate(url) => write!(f, "the certificate at {url}"),
            Self::WebIdentity { audience } => write!(f, "STS web identity token for {audience}"),
        }
    }
}

impl Read for SecretRef {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, Self::parse)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(ssm:/|secretsmanager:|env:|file:)." })
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        seen(self);
    }
}

/// The values of the secrets that one source or target names, as far as they were found.
#[derive(Debug, Clone, Default)]
pub struct Resolved(BTreeMap<SecretRef, Vec<Secret>>);

impl Resolved {
    /// Adds what was found for `reference`: the current value first, then the one before it.
    pub fn insert(&mut self, reference: SecretRef, values: Vec<Secret>) {
        self.0.insert(reference, values);
    }

    /// The current value.
    pub fn current(&self, reference: &SecretRef) -> Option<&Secret> {
        self.0.get(reference)?.first()
    }

    /// Every value that is accepted now: the current one, and within its grace the one before it.
    pub fn accepted<'a>(&'a self, references: &'a [SecretRef]) -> impl Iterator<Item = &'a Secret> {
        references.iter().filter_map(|reference| self.0.get(reference)).flatten().filter(|secret| !secret.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_reference_reads_back_as_it_was_written() {
        for text in [
            "ssm:/sluice/github",
            "ssm:/sluice/github:3",
            "secretsmanager:sluice/alertmanager",
            "secretsmanager:sluice/alertmanager#a.token",
            "secretsmanager:arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf#token",
            "env:TOKEN",
            "file:/run/secrets/token",
        ] {
            assert_eq!(SecretRef::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_web_identity_cannot_be_written_in_the_relay_file() {
        for audience in ["notification-controller", "https://flux.example.com", "x"] {
            let shown = SecretRef::WebIdentity { audience: audience.into() }.to_string();
            assert!(SecretRef::parse(&shown).is_err(), "{shown}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_without_repeating_it() {
        for text in [
            "the key set at https://hunter2",
            "hunter2",
            "ssm:hunter2",
            "ssm:/hunter2:0",
            "secretsmanager:#hunter2",
            "env:",
            "vault:hunter2",
        ] {
            let why = SecretRef::parse(text).expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn a_secret_cannot_be_printed_and_an_empty_one_equals_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
        assert!(Secret::new("hunter2").equals(b"hunter2"));
        assert!(!Secret::new("").equals(b""));
        assert!(Secret::new("hunter2\n").ends_in_white_space());
    }
}
