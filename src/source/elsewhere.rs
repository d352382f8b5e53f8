//! A source as it is known in a function that is not its own: it has a name and keys, and takes no requests.

use jiff::Timestamp;

use super::auth::{AuthError, Authentic};
use super::{Claim, Function, ParseError, Parsed, Request, Source};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};

/// What stands where its requests would be taken.
const ELSEWHERE: &str = "requests of this source are taken by another function";

/// A source of the type `S`, of which nothing is used but its keys.
#[derive(Debug)]
pub(super) struct Elsewhere<S>(S);

impl<S: Source> Keys for Elsewhere<S> {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        S::take(fields).map(Self)
    }

    fn describe(_keys: &mut Vec<KeyDescription>) {}

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        self.0.secrets(seen);
    }
}

impl<S: Source> Source for Elsewhere<S> {
    fn authenticate<'r>(&self, _: &'r Request, _: &Resolved, _: Timestamp) -> Result<Authentic<'r>, AuthError> {
        Err(AuthError::Missing(ELSEWHERE.into()))
    }

    fn parse(&self, _: Authentic<'_>) -> Result<Parsed, ParseError> {
        Err(ParseError::Malformed(ELSEWHERE.into()))
    }

    fn sign(&self, _: &mut Request, _: &Resolved, _: Timestamp) -> Result<(), String> {
        Err(ELSEWHERE.into())
    }

    fn function(&self) -> Option<Function> {
        self.0.function()
    }

    fn claim(&self) -> Option<Claim<'_>> {
        self.0.claim()
    }

    fn other_kinds(&self) -> &'static [&'static str] {
        self.0.other_kinds()
    }

    fn url_secret(&self) -> Option<&SecretRef> {
        self.0.url_secret()
    }
}
