//! A target as it is known where events come in: it says which events it wants, and is told none.

use jiff::Timestamp;

use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::{Blame, Outcome};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};

/// What stands where something is to be delivered by a process that does not.
const ELSEWHERE: &str = "deliveries are made by another process";

/// A target of the type `T`, of which nothing is used but what it wants.
#[derive(Debug)]
pub(super) struct Wanted<T>(T);

impl<T: Target> Keys for Wanted<T> {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        T::take(fields).map(Self)
    }

    // Descriptions are for people.
    fn describe(_keys: &mut Vec<KeyDescription>) {}

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        self.0.secrets(seen);
    }
}

impl<T: Target> Target for Wanted<T> {
    fn class(&self) -> Class {
        self.0.class()
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        self.0.refuses(kind)
    }

    fn wants(&self, event: &Event, original: Option<&Original>) -> Result<(), String> {
        self.0.wants(event, original)
    }

    fn is_idempotent(&self) -> bool {
        self.0.is_idempotent()
    }

    fn by_http(&self) -> bool {
        self.0.by_http()
    }

    fn needs_original(&self, event: &Event) -> bool {
        self.0.needs_original(event)
    }

    fn render(&self, _: &Delivery, _: &Resolved, _: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        Err(RenderError::Unfit(ELSEWHERE.into()))
    }

    fn classify(&self, _: &Response, _: Timestamp) -> Outcome {
        Outcome::Retry { blame: Blame::Target, reason: ELSEWHERE.into() }
    }
}
