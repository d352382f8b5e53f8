//! Amazon CloudWatch: alarms that go off and are over. What they look like is in [`alarm`].
//!
//! Four ways lead here: an alarm's action invokes the function; its action is an SNS topic, which invokes the function or
//! posts over HTTPS; and a rule of EventBridge invokes the function, or posts over HTTPS by an API destination. IAM has
//! authenticated each invocation; an API destination has an API key in a header. Of what comes by EventBridge and SNS, what
//! is no alarm is for a source of type `aws`.

use jiff::Timestamp;

use super::alarm::Alarm;
use super::auth::{AuthError, Authentic};
use super::aws::{AwsKeys, Event, Form};
use super::sns::Envelope;
use super::{Claim, ParseError, Parsed, Request, SNS, Source, json};
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, Problems};

crate::keys! {
    /// A `cloudwatch` source.
    pub struct CloudWatch {
        ..aws: AwsKeys,
    }
}

/// Where alarms without HTTP come from.
const SOURCES: &[&str] = &["aws.cloudwatch", SNS];

impl Source for CloudWatch {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.aws.authenticate(request, secrets, now)
    }

    fn named_by(&self, request: &Request) -> Option<SecretRef> {
        self.aws.named_by(request)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        let alarm = match Form::of(&request.body)? {
            Form::Event => {
                let event: Event<'_> = json::read(&request.body)?;
                match Alarm::of_event(&event)? {
                    Ok(alarm) => alarm,
                    Err(why) => {
                        return Ok(Parsed { delivery_id: event.id, ..Parsed::ignored(event.detail_type, why) });
                    }
                }
            }
            Form::AlarmAction => Alarm::of_action(&request.body)?,
            Form::Notice => {
                let envelope = Envelope::read(&request.body)?;
                if let Some(parsed) = self.aws.confirmation(&envelope) {
                    return Ok(parsed);
                }
                match Alarm::of_notice(&envelope)? {
                    Some(alarm) => alarm,
                    None => {
                        let why = "no alarm of CloudWatch; a source of type `aws` takes other messages";
                        let summary = envelope.kind.to_string();
                        return Ok(Parsed { delivery_id: Some(envelope.message_id), ..Parsed::ignored(summary, why) });
                    }
                }
            }
        };
        Ok(alarm.into_parsed(&self.aws))
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        self.aws.sign(request, secrets)
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.aws.check(at, problems);
    }

    fn claim(&self) -> Option<Claim<'_>> {
        Some(self.aws.claim(Some(SOURCES)))
    }
}
