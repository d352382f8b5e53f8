//! Grafana's webhook contact point, version 1 of its message. What becomes of that is in
//! [`notification`](super::notification).
//!
//! It proves itself by a header («Authorization Header» or «Extra Headers»), or signs: hex HMAC-SHA256, with nothing before it,
//! in `X-Grafana-Alerting-Signature` or the header that is named there; over the body or, where a header for it is
//! named, over Unix seconds, a colon and the body. Its documentation and its form have that name for the header that is
//! left out, its code has had `X-Grafana-Alert-Signature`: both are taken. «HTTP Method» has to be POST.
//! A notification is tried once; what is refused or fails is told again with the group's next turn.
//!
//! Where a rule finds no data or fails, `DatasourceNoData` or `DatasourceError` stands in the place of its name, and
//! its name in `rulename`. With a custom payload the message is another one: use `generic`.
//! Source: grafana/alerting, receivers/webhook/v1 and http/hmac.go; grafana.com/docs, «Configure webhook notifications»
//! (read 2026-08).

use jiff::Timestamp;

use super::auth::{self, AuthError, Authentic, HeaderKeys, Proof, SignatureHeader};
use super::notification::Message;
use super::{ParseError, Parsed, Request, Source, json};
use crate::domain::secret::Resolved;
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::{At, HeaderName, Problems, Span};

crate::keys! {
    /// How a contact point signs («HMAC Signature»).
    pub struct SignatureKeys {
        /// The header that carries the signature. Left out: Grafana's default, `X-Grafana-Alerting-Signature`.
        header: Option<HeaderName>,
        /// The header that carries the time, which is then signed, too. Left out: the body alone is signed.
        timestamp_header: Option<HeaderName>,
        /// How long before or after now a message with a time may have been signed.
        tolerance: Span = Span::seconds(300),
    }
}

crate::keys! {
    /// A `grafana` source.
    pub struct Grafana {
        ..proof: HeaderKeys,
        /// How Grafana signs messages, with the secret as key; `{}` for its defaults. Left out: it sends the secret in
        /// `header`.
        signature: Option<SignatureKeys>,
    }
}

/// The names that Grafana has for its header where none is set.
const DEFAULT_HEADERS: [&str; 2] = ["X-Grafana-Alerting-Signature", "X-Grafana-Alert-Signature"];

impl SignatureKeys {
    fn header(&self, request: &Request) -> SignatureHeader<'_> {
        let there = |name: &&str| request.headers.contains_key(*name);
        let default = DEFAULT_HEADERS.into_iter().find(there).unwrap_or(DEFAULT_HEADERS[0]);
        let name = self.header.as_ref().map_or(default, |header| header.0.as_str());
        SignatureHeader { name, prefix: "", algorithm: Algorithm::Sha256, encoding: Encoding::Hex }
    }
}

impl Source for Grafana {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        let references = &self.proof.secret.0;
        let Some(signature) = &self.signature else { return self.proof.authenticate(request, secrets) };
        let header = signature.header(request);
        let Some(name) = signature.timestamp_header.as_ref().map(|name| name.0.as_str()) else {
            return auth::hmac(request, header, references, secrets);
        };
        let missing = || AuthError::Missing(format!("the header {name} is missing, or there more than once"));
        let timestamp = request.header(name).ok_or_else(missing)?;
        auth::recent(name, timestamp, signature.tolerance.0, now)?;
        auth::hmac_over(request, &[timestamp.as_bytes(), b":", &request.body], header, references, secrets)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        let message: Message = json::read(&request.body)?;
        let page = message.page("alerting/list");
        message.into_event(page, |_, _| None)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, now: Timestamp) -> Result<(), String> {
        let Some(signature) = &self.signature else { return self.proof.sign(request, secrets) };
        let (body, header) = (request.body.clone(), signature.header(request));
        let reference = &self.proof.secret.0[0];
        let Some(name) = &signature.timestamp_header else { return header.sign(request, reference, secrets) };
        let timestamp = now.as_second().to_string();
        auth::set_header(request, &name.0, &timestamp)?;
        header.sign_over(request, &[timestamp.as_bytes(), b":", &body], reference, secrets)
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        if self.signature.is_some() && self.proof.header.is_some() {
            problems.error(&at.child("header"), "with `signature` the secret is not sent; that names its own header");
        }
    }
}
