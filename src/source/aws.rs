//! What events of AWS have in common: how they come, and the names that AWS gives to things.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json as json_value};

use super::auth::{self, AuthError, Authentic, HeaderKeys, Proof};
use super::sns::{Envelope, Kind};
use super::{Claim, Confirmation, Invocation, ParseError, Parsed, Request, Via, json, sns};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::relay::format::{At, HeaderName, OneOrMany, Problems, Read, kind_of, parsed};

/// The number of an AWS account: twelve digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(pub String);

impl Read for AccountId {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        // YAML makes a number of what is written without quotes; one that lost its leading zeros is too short.
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                problems.error(at, format!("expected the number of an account, found {}", kind_of(other)));
                return None;
            }
        };
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            problems.error(at, "an AWS account has twelve digits; write it in quotes");
            return None;
        }
        Some(Self(text))
    }

    fn schema() -> Value {
        json_value!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]{12}$" }, { "type": "integer" }] })
    }
}

/// The ARN of an SNS topic: `arn:aws:sns:REGION:ACCOUNT:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicArn(String);

impl TopicArn {
    /// Reads an ARN. The error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected the ARN of an SNS topic: arn:aws:sns:REGION:ACCOUNT:NAME".to_owned();
        let arn = Arn::parse(text).ok_or_else(wrong)?;
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        // The region becomes part of a host's name.
        let host =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let sound = arn.service == "sns" && word(arn.region) && host(arn.region) && word(arn.resource);
        if sound && word(arn.partition) && word(arn.account) { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }

    /// The ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host of SNS in the topic's region.
    pub fn host(&self) -> String {
        let (partition, region) = Arn::parse(&self.0).map_or(("", ""), |arn| (arn.partition, arn.region));
        let domain = match partition {
            "aws-cn" => "amazonaws.com.cn",
            "aws-eusc" => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        format!("sns.{region}.{domain}")
    }
}

impl Read for TopicArn {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, Self::parse)
    }

    fn schema() -> Value {
        json_value!({ "type": "string", "pattern": "^arn:[^:]+:sns:[^:]+:[^:]+:[^:]+$" })
    }
}

/// The parts of an Amazon resource name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, `aws-us-gov` …
    pub partition: &'a str,
    /// The service.
    pub service: &'a str,
    /// The region; empty where the service is global.
    pub region: &'a str,
    /// The account; empty where the resource belongs to none.
    pub account: &'a str,
    /// What the service calls it; may hold colons and slashes.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// The parts of `text`; `None` where it is no ARN.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("arn:")?.splitn(5, ':');
        let mut part = || parts.next();
        Some(Self { partition: part()?, service: part()?, region: part()?, account: part()?, resource: part()? })
    }

    /// The last word of the resource: `checkout` of `service/prod/checkout`.
    pub fn name(&self) -> &'a str {
        self.resource.rsplit(['/', ':']).next().unwrap_or(self.resource)
    }
}

/// The host of the console in a region.
pub fn console(region: &str) -> String {
    let domain = match region {
        _ if region.starts_with("cn-") => "amazonaws.cn",
        _ if region.starts_with("us-gov-") => "amazonaws-us-gov.com",
        _ => "aws.amazon.com",
    };
    match domain {
        "aws.amazon.com" => format!("{region}.console.{domain}"),
        _ => format!("console.{domain}"),
    }
}

crate::keys! {
    /// What sources have that take events of EventBridge, and messages of SNS.
    pub struct AwsKeys {
        /// The accounts whose events are taken. Left out: any.
        accounts: Option<OneOrMany<AccountId>>,
        /// The regions whose events are taken. Left out: any.
        regions: Option<OneOrMany<String>>,
        /// The value of the API key that an API destination sends; several are accepted at once. Left out: no API
        /// destination can send.
        secret: Option<OneOrMany<SecretRef>>,
        /// The header whose whole value is the secret. Left out: `Authorization`, in which `Bearer` and the secret are
        /// accepted, too.
        header: Option<HeaderName>,
        /// The SNS topics whose messages are taken, and whose subscriptions are confirmed. Left out: any that the function
        /// is invoked with, and none over HTTPS.
        topics: Option<OneOrMany<TopicArn>>,
    }
}

impl AwsKeys {
    fn over_http(&self) -> Option<HeaderKeys> {
        Some(HeaderKeys { secret: self.secret.clone()?, header: self.header.clone() })
    }

    fn topics(&self) -> &[TopicArn] {
        self.topics.as_ref().map_or(&[], |topics| &topics.0)
    }

    /// Checks the signature of a message of SNS, or the API key of anything else over HTTP. An invocation is
    /// authenticated by IAM.
    pub fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        match (request.via, self.over_http()) {
            (Via::Http, _) if sns::is_of_sns(request) => auth::sns(request, self.topics(), secrets, now),
            (Via::Http, Some(keys)) => keys.authenticate(request, secrets),
            _ => auth::iam(request),
        }
    }

    /// The certificate by which a message of SNS is to be checked.
    pub fn named_by(&self, request: &Request) -> Option<SecretRef> {
        let is_posted = request.via == Via::Http && sns::is_of_sns(request);
        is_posted.then(|| sns::certificate_of(request, self.topics())).flatten()
    }

    /// Adds the API key, as an API destination would.
    pub fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        match self.over_http() {
            Some(keys) => keys.sign(request, secrets),
            None => {
                Err("this source takes events by invocation only; it has no `secret` for requests over HTTP".into())
            }
        }
    }

    /// Notes a header whose value there is not; `at` is the place of the entry.
    pub fn check(&self, at: &At, problems: &mut Problems) {
        if self.header.is_some() && self.secret.is_none() {
            problems.error(&at.child("header"), "the header's value is the `secret`, which is missing");
        }
    }

    /// What becomes of a message of SNS that is no notification: a subscription is confirmed if the relay file names its
    /// topic. That one has ended is never answered, as the answer would be a subscription again.
    pub fn confirmation(&self, envelope: &Envelope) -> Option<Parsed> {
        let why = match envelope.kind {
            Kind::Notification => return None,
            Kind::UnsubscribeConfirmation => "the subscription has ended",
            Kind::SubscriptionConfirmation => match (envelope.topic(self.topics()), &envelope.token) {
                (Some(topic), Some(token)) => {
                    let confirm = Confirmation { topic: topic.clone(), token: Secret::new(token.clone()) };
                    let parsed = Parsed::ignored(envelope.kind.to_string(), "the subscription is confirmed");
                    let delivery_id = Some(envelope.message_id.clone());
                    return Some(Parsed { delivery_id, confirm: Some(confirm), ..parsed });
                }
                (None, _) => "the subscription is not confirmed: the source's `topics` do not name its topic",
                (_, None) => "the subscription is not confirmed: there is no `Token` in it",
            },
        };
        Some(ignored(envelope, why))
    }

    /// Finds what a source is told in `body`: that is it, or the message of SNS that it is has it as its text. The text of
    /// a message has to be JSON with one of the members `signs`: of any other, what is made of it is the answer already.
    pub fn open<'b>(&self, body: &'b [u8], signs: &[&str]) -> Result<Result<Told<'b>, Parsed>, ParseError> {
        #[derive(Deserialize)]
        struct Sign {
            #[serde(rename = "TopicArn")]
            topic: Option<IgnoredAny>,
        }
        if json::read::<Sign>(body)?.topic.is_none() {
            return Ok(Ok(Told { body: body.into(), message_id: None }));
        }
        let envelope = Envelope::read(body)?;
        if let Some(parsed) = self.confirmation(&envelope) {
            return Ok(Err(parsed));
        }
        let members: Option<BTreeMap<Cow<'_, str>, &RawValue>> = serde_json::from_str(&envelope.message).ok();
        if !members.is_some_and(|members| signs.iter().any(|sign| members.contains_key(*sign))) {
            return Ok(Err(ignored(&envelope, "a message that is nothing that this type of source knows")));
        }
        Ok(Ok(Told { body: envelope.message.into_bytes().into(), message_id: Some(envelope.message_id) }))
    }

    /// The events without HTTP of these sources, as far as accounts, regions and topics say.
    pub fn claim<'a>(&'a self, sources: Option<&'a [&'a str]>) -> Claim<'a> {
        Claim {
            sources,
            accounts: self.accounts.as_ref().map(|accounts| accounts.0.as_slice()),
            regions: self.regions.as_ref().map(|regions| regions.0.as_slice()),
            topics: self.topics.as_ref().map(|topics| topics.0.as_slice()),
        }
    }

    /// Whether what happened there is taken: what comes over HTTP was chosen by no claim.
    pub fn takes(&self, account: Option<&str>, region: Option<&str>) -> bool {
        let claim = self.claim(None);
        let (account, region) = (account.map(str::to_owned), region.map(str::to_owned));
        claim.covers(&Invocation { account, region, ..Invocation::default() })
    }
}

/// What a source is told, without the envelope of SNS.
#[derive(Debug)]
pub struct Told<'b> {
    /// An event of EventBridge, or what its service publishes to the topic itself.
    pub body: Cow<'b, [u8]>,
    /// What tells the message of SNS from others, if it was in one.
    pub message_id: Option<String>,
}

fn ignored(envelope: &Envelope, why: &str) -> Parsed {
    let parsed = Parsed::ignored(envelope.kind.to_string(), why);
    Parsed { delivery_id: Some(envelope.message_id.clone()), ..parsed }
}

/// In which form something of AWS comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An [`Event`] of EventBridge.
    Event,
    /// CloudWatch invokes a function as an alarm's action.
    AlarmAction,
    /// A message of SNS, as it is posted over HTTPS or stands in the record that a function is invoked with.
    Notice,
}

impl Form {
    /// The form of this body.
    pub fn of(body: &[u8]) -> Result<Self, ParseError> {
        #[derive(Deserialize)]
        struct Signs {
            #[serde(rename = "detail-type")]
            detail_type: Option<IgnoredAny>,
            #[serde(rename = "alarmData")]
            alarm: Option<IgnoredAny>,
            #[serde(rename = "TopicArn")]
            topic: Option<IgnoredAny>,
        }
        let Signs { detail_type, alarm, topic } = json::read(body)?;
        match (detail_type, alarm, topic) {
            (Some(_), _, _) => Ok(Self::Event),
            (None, Some(_), _) => Ok(Self::AlarmAction),
            (None, None, Some(_)) => Ok(Self::Notice),
            (None, None, None) => Err(ParseError::Malformed(
                "the body has no `detail-type` as events of EventBridge have, no `TopicArn` as messages of SNS have, and \
                 no `alarmData` as CloudWatch sends to a function"
                    .into(),
            )),
        }
    }
}

/// An event of EventBridge. A test event may lack half of this.
#[derive(Debug, Deserialize)]
pub struct Event<'b> {
    /// The same when it is delivered again, which happens.
    pub id: Option<String>,
    /// The service: `aws.ecs`.
    pub source: Option<String>,
    /// What happened, in words. Notification rules of the developer tools spell the name their own way.
    #[serde(rename = "detail-type", alias = "detailType")]
    pub detail_type: String,
    /// The account.
    pub account: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// When.
    #[serde(default, deserialize_with = "json::time")]
    pub time: Option<Timestamp>,
    /// ARNs of what it is about.
    #[serde(default, deserialize_with = "json::list")]
    pub resources: Vec<String>,
    /// All else, as the service tells it.
    #[serde(borrow)]
    pub detail: Option<&'b RawValue>,
}

impl Event<'_> {
    /// Reads the `detail`.
    pub fn detail<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        json::read_part(self.detail.ok_or_else(|| missing("detail"))?.get(), "detail")
    }
}

/// Why an event of another account or region is ignored.
pub const ELSEWHERE: &str = "of an account or region that this source does not take";

/// What is said where the body lacks what is at `place`.
pub fn missing(place: &str) -> ParseError {
    ParseError::Malformed(format!("the body's `{place}` is missing").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_sns_is_that_of_the_topics_region() {
        for (arn, host) in [
            ("arn:aws:sns:eu-west-1:123456789012:alerts", "sns.eu-west-1.amazonaws.com"),
            ("arn:aws-cn:sns:cn-north-1:123456789012:alerts", "sns.cn-north-1.amazonaws.com.cn"),
            ("arn:aws-eusc:sns:eusc-de-east-1:123456789012:alerts", "sns.eusc-de-east-1.amazonaws.eu"),
            ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:a.fifo", "sns.us-gov-west-1.amazonaws.com"),
        ] {
            assert_eq!(TopicArn::parse(arn).expect(arn).host(), host);
        }
    }

    #[test]
    fn what_is_no_arn_of_a_topic_is_refused() {
        for arn in [
            "",
            "alerts",
            "arn:aws:sqs:eu-west-1:123456789012:alerts",
            "arn:aws:sns:eu-west-1:123456789012:",
            "arn:aws:sns::123456789012:alerts",
            "arn:aws:sns:evil.example/:123456789012:alerts",
            "arn:aws:sns:evil.example:123456789012:alerts",
            "arn:aws:sns:eu-west-1:123456789012:alerts:subscription",
            "arn:aws:sns:eu-west-1:123456789012:*",
        ] {
            assert!(TopicArn::parse(arn).is_err(), "{arn}");
        }
    }

    #[test]
    fn an_arn_falls_into_its_parts() {
        let arn = Arn::parse("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a:b").expect("an ARN");
        assert_eq!(
            (arn.service, arn.region, arn.account, arn.resource),
            ("cloudwatch", "eu-west-1", "123456789012", "alarm:a:b")
        );
        assert_eq!(Arn::parse("arn:aws:ecs:eu-west-1:1:service/prod/checkout").map(|arn| arn.name()), Some("checkout"));
        assert_eq!(Arn::parse("alarm:a"), None);
    }
}
