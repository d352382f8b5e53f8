//! Any sender of JSON that can prove itself: by a fixed value in a header, or by an HMAC over the body.
//!
//! What stands where in the body is said in the relay file. Nothing is known of its redeliveries: without the field
//! `id` each request is an event of its own.

use jiff::Timestamp;

use super::auth::{self, AuthError, Authentic, HeaderKeys, Proof, SignatureHeader};
use super::fields::{self, FieldKeys};
use super::{Function, ParseError, Parsed, Request, Source};
use crate::domain::event::Original;
use crate::domain::secret::Resolved;
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::{At, HeaderName, Problems};

crate::keys! {
    /// How a body is signed.
    pub struct SignatureKeys {
        /// The header that carries the signature.
        header: HeaderName,
        /// The hash under the HMAC.
        algorithm: Algorithm = Algorithm::Sha256,
        /// How the signature is written.
        encoding: Encoding = Encoding::Hex,
        /// What precedes the signature in the header, such as `sha256=`.
        prefix: String = String::new(),
    }
}

crate::keys! {
    /// A `generic` source.
    pub struct Generic {
        ..key: HeaderKeys,
        ..fields: FieldKeys,
        /// How the sender signs the body, with the secret as key. Left out: it sends the secret in `header`.
        signature: Option<SignatureKeys>,
    }
}

impl SignatureKeys {
    fn header(&self) -> SignatureHeader<'_> {
        let Self { header, algorithm, encoding, prefix } = self;
        SignatureHeader { name: &header.0, prefix, algorithm: *algorithm, encoding: *encoding }
    }
}

impl Source for Generic {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        match &self.signature {
            Some(signature) => auth::hmac(request, signature.header(), &self.key.secret.0, secrets),
            None => self.key.authenticate(request, secrets),
        }
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let found = self.fields.find(&[], |pointers| fields::pick(&request.body, pointers))?;
        let delivery_id = found.id();
        Ok(match found.into_event("event", None, None) {
            Ok((summary, found)) => {
                let content_type = request.header("content-type").unwrap_or("application/json").to_owned();
                let original = Original { content_type, headers: Vec::new(), body: request.body.clone() };
                Parsed { delivery_id, original: Some(original), ..Parsed::events(summary, vec![found]) }
            }
            Err(why) => Parsed::ignored("event", why),
        })
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        match &self.signature {
            Some(signature) => signature.header().sign(request, &self.key.secret.0[0], secrets),
            None => self.key.sign(request, secrets),
        }
    }

    fn function(&self) -> Option<Function> {
        Some(self.fields.function())
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.fields.check(at, problems);
        if self.signature.is_some() && self.key.header.is_some() {
            problems.error(&at.child("header"), "with `signature` the secret is not sent; that names its own header");
        }
    }
}
