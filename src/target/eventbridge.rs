//! Amazon EventBridge: the normalised event on an event bus, by PutEvents.
//!
//! Rules find it by `"source": ["sluice"]`, the event's kind as detail-type (`image_push`, `git`, `alert`) and anything
//! in `detail`, which is the event as `http` targets get it.
//!
//! Oddities: PutEvents answers 200 where it took none of the events, and says so by `FailedEntryCount` and the entry's
//! `ErrorCode`. A bus that does not exist counts as success (aws/aws-sdk issue 186), and what no rule matches is dropped.
//! An entry is less than 1 MB.
//! Sources: PutEvents in the service model of botocore 1.44; "Sending events with PutEvents" in the user guide of
//! EventBridge (read 2026-11).

use ::http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::aws::{self, Failure, Service};
use super::poke::{busy, held};
use super::{Class, Outbound, RenderError, Response, Target, chat};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::Outcome;
use crate::domain::secret::Resolved;
use crate::relay::format::{At, Problems, Read, parsed};

crate::keys! {
    /// The keys of an `eventbridge` target.
    pub struct Eventbridge {
        /// The event bus: its name, or its ARN, whose region requests then go to.
        bus: Bus,
    }
}

/// What an entry may take, in bytes.
const MAX_ENTRY: usize = 1_000_000;

/// An event bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bus(String);

impl Read for Bus {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let is_name =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        parsed(value, at, problems, |text| {
            let name = match aws::region(text, "events") {
                Some(_) => text.rsplit(':').next().and_then(|resource| resource.strip_prefix("event-bus/")),
                None => Some(text),
            };
            match name.is_some_and(is_name) {
                true => Ok(Self(text.to_owned())),
                false => Err("expected the name of an event bus, or its ARN".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": "^(arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?[.A-Za-z0-9_-]+$",
        })
    }
}

impl Target for Eventbridge {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn render(&self, delivery: &Delivery, _secrets: &Resolved, _now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let event = &delivery.event;
        let detail = event.json_within(MAX_ENTRY - 1_000).ok_or_else(|| {
            RenderError::Unfit("the event is larger than an entry of EventBridge may be (1 MB)".into())
        })?;
        let mut entry = json!({
            "Source": "sluice",
            "DetailType": event.kind(),
            "Detail": detail,
            "EventBusName": self.bus.0,
        });
        if let Some(time) = event.time {
            entry["Time"] = time.as_second().into();
        }
        let body = json!({ "Entries": [entry] }).to_string();
        let mut request = Outbound::post("/".into(), "application/x-amz-json-1.1", body);
        request
            .headers
            .insert(HeaderName::from_static("x-amz-target"), HeaderValue::from_static("AWSEvents.PutEvents"));
        let region = aws::region(&self.bus.0, "events").map(str::to_owned);
        request.aws = Some(Service { name: "events", host: "events", id: "EventBridge", region });
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        if response.status != 200 {
            return aws::classify(response, now);
        }
        let body = chat::json(response);
        let entry = &body["Entries"][0];
        match entry["ErrorCode"].as_str() {
            None if body["FailedEntryCount"] == 0 => Outcome::Accepted,
            None => chat::foreign(response, "EventBridge", "the endpoint"),
            Some(code) => {
                let text = entry["ErrorMessage"].as_str().unwrap_or_default();
                let failure = Failure { code: code.to_owned(), text: text.to_owned() };
                let reason = failure.words();
                match code {
                    _ if failure.is_later() => chat::later(response, None, now),
                    "InternalFailure" | "InternalException" => busy(reason),
                    "InvalidAccountIdException" => held(reason),
                    _ if failure.is_lasting() => held(reason),
                    _ => Outcome::Rejected { reason },
                }
            }
        }
    }
}
