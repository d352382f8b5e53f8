//! What targets that are services of AWS have in common: who signs, ARNs, publishing to SNS, and errors.
//!
//! A request to such a service needs no secret of the relay file: it is signed (Signature Version 4) with the
//! credentials of the process that sends it, and sent to the service's endpoint in its region.
//!
//! Errors come in two dresses: XML with `<Code>` and `<Message>` (the query protocol of SNS), or JSON whose type stands
//! in `__type` or in the header `x-amzn-errortype`. A status says less than the code: with JSON, a refused credential is
//! a 400.
//! Sources: the service models of SNS, SESv2 and EventBridge in botocore 1.44 (read 2026-11); "Common errors" of their
//! API references.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::poke::{busy, held};
use super::{Outbound, Response, chat};
use crate::domain::outcome::Outcome;
use crate::relay::format::{At, Problems, Read, parsed};

/// A service of AWS, as its SDKs know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// As signatures name it: `ses`.
    pub name: &'static str,
    /// What the names of its hosts begin with: `email`.
    pub host: &'static str,
    /// As AWS_ENDPOINT_URL_<SERVICE> names it, spelled as its model does: `SESv2`.
    pub id: &'static str,
    /// The region; `None` is the one that the process is set up for.
    pub region: Option<String>,
}

impl Service {
    /// Amazon SNS in `region`.
    pub fn sns(region: &str) -> Self {
        Self { name: "sns", host: "sns", id: "SNS", region: Some(region.to_owned()) }
    }
}

/// The region in an ARN of `service`: `arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME`.
pub fn region<'a>(arn: &'a str, service: &str) -> Option<&'a str> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let ["arn", partition, of, region, account, name] = parts[..] else { return None };
    let word = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_region = region.contains('-') && word(region);
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_arn = partition.starts_with("aws") && word(partition) && of == service && is_account && !name.is_empty();
    (is_arn && is_region).then_some(region)
}

/// The ARN of a topic of Amazon SNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// Whether it is a FIFO topic: only those have names that end so.
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(".fifo")
    }

    /// A request that publishes `body` to the topic: parameters of Publish by their names, those of `MessageAttributes`
    /// texts.
    pub fn publish(&self, body: &Value) -> Outbound {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", "Publish").append_pair("Version", "2010-03-31").append_pair("TopicArn", &self.0);
        for (name, value) in body.as_object().into_iter().flatten() {
            if let Some(text) = value.as_str() {
                form.append_pair(name, text);
            }
            for (i, (attribute, value)) in value.as_object().into_iter().flatten().enumerate() {
                let entry = format!("{name}.entry.{}", i + 1);
                form.append_pair(&format!("{entry}.Name"), attribute);
                form.append_pair(&format!("{entry}.Value.DataType"), "String");
                form.append_pair(&format!("{entry}.Value.StringValue"), value.as_str().unwrap_or_default());
            }
        }
        let content_type = "application/x-www-form-urlencoded; charset=utf-8";
        let mut request = Outbound::post("/".into(), content_type, form.finish());
        request.aws = region(&self.0, "sns").map(Service::sns);
        request
    }
}

impl Read for Topic {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| match region(text, "sns") {
            // A subscription's ARN has one part more.
            Some(_) if text.split(':').count() == 6 => Ok(Self(text.to_owned())),
            _ => Err("expected the ARN of a topic, such as arn:aws:sns:eu-west-1:123456789012:alerts".into()),
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+(\\.fifo)?$" })
    }
}

/// What a service said went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The error's code; empty where there is none.
    pub code: String,
    /// What it said besides.
    pub text: String,
}

impl Failure {
    /// Reads an answer that is none of success.
    pub fn of(response: &Response) -> Self {
        let body = chat::json(response);
        if body.is_object() {
            let header = response.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
            let code = header.or(body["__type"].as_str()).or(body["code"].as_str()).unwrap_or_default();
            // A namespace may stand before it, a URL behind it.
            let code = code.rsplit('#').next().and_then(|code| code.split(':').next()).unwrap_or_default();
            let text = body["message"].as_str().or(body["Message"].as_str()).unwrap_or_default();
            return Self { code: code.to_owned(), text: text.to_owned() };
        }
        let body = String::from_utf8_lossy(&response.body);
        let inside = |tag: &str| {
            let (_, rest) = body.split_once(&format!("<{tag}>"))?;
            rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside.trim().to_owned())
        };
        Self { code: inside("Code").unwrap_or_default(), text: inside("Message").unwrap_or_default() }
    }

    /// For a reason. What is said of a signature repeats what was signed, session token and all.
    pub fn words(&self) -> String {
        let code = if self.code.is_empty() { "an error without a code" } else { &self.code };
        match self.text.is_empty() || code.contains("Signature") {
            true => code.to_owned(),
            false => format!("{code}: {}", self.text.chars().take(200).collect::<String>()),
        }
    }

    /// Whether it asks for a pause.
    pub fn is_later(&self) -> bool {
        let others =
            ["LimitExceededException", "RequestLimitExceeded", "ServiceUnavailable", "TooManyRequestsException"];
        self.code.contains("Throttl") || others.contains(&self.code.as_str())
    }

    /// Whether the next message would meet it as well, until somebody mends something: rights, credentials, keys, or
    /// the receiver itself.
    pub fn is_lasting(&self) -> bool {
        let parts = ["Denied", "Disabled", "KMS", "NotAuthorized", "NotFound", "NotVerified", "Signature", "Token"];
        let others = [
            "AccountSuspendedException",
            "AuthorizationError",
            "InvalidSecurity",
            "OptInRequired",
            "SendingPausedException",
            "UnrecognizedClientException",
        ];
        parts.iter().any(|part| self.code.contains(part)) || others.contains(&self.code.as_str())
    }
}

/// The outcome of an answer; success means that the service took it and passes it on, unseen by us.
pub fn classify(response: &Response, now: Timestamp) -> Outcome {
    let status = response.status;
    if (200..300).contains(&status) {
        return Outcome::Accepted;
    }
    let failure = Failure::of(response);
    let reason = format!("{status}: {}", failure.words());
    match status {
        _ if failure.is_later() => chat::later(response, None, now),
        429 | 503 => chat::later(response, None, now),
        _ if failure.is_lasting() => held(reason),
        401 | 403 | 404 => held(reason),
        500.. => busy(reason),
        400 | 413 | 422 => Outcome::Rejected { reason },
        _ => chat::classify(response, None, now),
    }
}
