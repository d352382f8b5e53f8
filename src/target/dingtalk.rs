//! DingTalk: a custom robot's webhook in a group.
//!
//! A message is a `text`, which parses nothing: DingTalk's Markdown has no escape that is documented. Whom `at` names is
//! pinged, and nobody else; they stand in the text as well, and what others wrote has an invisible word joiner behind
//! each `@`. A body takes 20,000 bytes.
//!
//! With a secret, the query has `timestamp` in milliseconds and `sign`, the base64 of the HMAC-SHA256 of `timestamp`,
//! line break, secret under the secret. The answer is 200 whatever happens: `{"errcode": 0}`, or a code with `errmsg`:
//! 310000 for a wrong signature, an address that may not send, or a message without any of the robot's keywords, which only
//! the text tells apart («keywords not in content», of late in Chinese); 300001, 300005 and 400101 for a token that is none,
//! 400013, 400102 and 400106 for a robot or a group that is gone, 130101 and 410100 for more than 20 a minute, after which
//! the robot is muted for ten, 90030 («webhook over limit») for the calls that the organisation has, -1 for a service that is
//! busy. It knows no idempotent send.
//!
//! A robot that takes only what holds a keyword can have the word [`NAME`], which stands at the end of every message.
//! Sources: open.dingtalk.com, "Custom robots" (sending, security settings), Alibaba Cloud's table of its codes, and
//! answers as people report them, the sources differing on 300001 (read 2026-11).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pinged, secret_text, secret_url, with_query};
use super::message::{Message, NAME};
use super::poke::{busy, held, post_json};
use super::text::{Unit, quiet};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// A member's phone number or id, or `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention(String);

impl Read for Mention {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let name = text.trim_start_matches('@');
            let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+_.-".contains(&c));
            if is_name { Ok(Self(name.into())) } else { Err("expected all, a phone number, or a user's id".into()) }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::keys! {
    /// A `dingtalk` target.
    pub struct DingTalk {
        /// The custom robot's webhook, as a secret.
        webhook: SecretRef,
        /// The secret of its signature (SEC…), where that is switched on.
        secret: Option<SecretRef>,
        /// Who is pinged by what is not over and worse than info: all, a phone number as a text, or a user's id.
        mention: Option<OneOrMany<Mention>>,
    }
}

/// The largest body, in bytes.
const BODY: usize = 20_000;

impl DingTalk {
    fn text(&self, message: &Message, said: &str) -> Value {
        let mentions = pinged(&self.mention, message);
        let is_all = |one: &&Mention| one.0 == "all";
        let is_phone = |one: &&Mention| one.0.bytes().all(|byte| byte.is_ascii_digit() || b"+-".contains(&byte));
        let people: Vec<_> = mentions.iter().filter(|one| !is_all(one)).collect();
        let names: Vec<_> = people.iter().map(|one| format!("@{}", one.0)).collect();
        let of =
            |phones: bool| people.iter().filter(|one| is_phone(one) == phones).map(|one| &one.0).collect::<Vec<_>>();
        json!({
            "msgtype": "text",
            "text": { "content": format!("{}\n{}", names.join(" "), quiet(said)).trim() },
            "at": { "isAtAll": mentions.iter().any(|one| is_all(&one)), "atMobiles": of(true), "atUserIds": of(false) },
        })
    }
}

impl Draw for DingTalk {
    fn draw(&self, message: &Message) -> Value {
        self.text(message, &format!("{}\n{}", message.plain(), message.signed()))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.text(message, &format!("{}\n{NAME}", message.plain()))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("body", Unit::Bytes, body.to_string().len(), BODY)]
    }

    fn preview(&self, body: &Value) -> String {
        body["text"]["content"].as_str().unwrap_or_default().to_owned()
    }
}

/// Codes that the next message would meet as well, until somebody mends something.
const BROKEN: &[i64] = &[40_035, 300_001, 300_005, INSECURE, 400_013, 400_101, 400_102, 400_106];
/// Codes of a limit by the minute.
const LIMITED: &[i64] = &[130_101, 410_100];
/// For how long a robot is muted that passed it.
const MUTED: Duration = Duration::from_secs(600);
/// The code of all that a robot's security settings refuse.
const INSECURE: i64 = 310_000;
/// The code of calls that are used up.
const USED_UP: i64 = 90_030;

fn code(response: &Response) -> Option<i64> {
    let code = &chat::json(response)["errcode"];
    code.as_i64().or_else(|| code.as_str()?.parse().ok())
}

/// Whether the message, and nothing else, has none of the robot's keywords.
fn lacks_keyword(response: &Response) -> bool {
    let body = chat::json(response);
    let said = body["errmsg"].as_str().unwrap_or_default();
    code(response) == Some(INSECURE) && ["keyword", "关键词"].iter().any(|word| said.contains(word))
}

fn is_broken(response: &Response) -> bool {
    code(response).is_some_and(|code| BROKEN.contains(&code)) && !lacks_keyword(response)
}

impl Notifier for DingTalk {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut url = secret_url(attempt.secrets, &self.webhook)?;
        if let Some(secret) = &self.secret {
            let time = attempt.now.as_millisecond().to_string();
            let secret = secret_text(attempt.secrets, secret)?;
            let parts = [time.as_bytes(), b"\n", secret.as_bytes()];
            let sign = Encoding::Base64.encode(&signature::hmac(Algorithm::Sha256, &Secret::new(secret), &parts));
            url = with_query(&url, "timestamp", &time);
            url = with_query(&url, "sign", &byte_serialize(sign.as_bytes()).collect::<String>());
        }
        post_json(url, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let said = excerpt(response);
        match (response.status, code(response)) {
            (200, Some(0)) => Outcome::Delivered,
            (200, Some(code)) if LIMITED.contains(&code) => chat::later(response, Some(MUTED), now),
            (200, Some(USED_UP)) => held(format!("200: the calls of robots are used up: {said}")),
            (200, Some(-1)) => busy(format!("200: DingTalk is busy: {said}")),
            (200, Some(_)) if lacks_keyword(response) => Outcome::Rejected {
                reason: format!("200: none of the robot's keywords is in this message; one could be {NAME}: {said}"),
            },
            (200, Some(_)) if is_broken(response) => held(format!("200: DingTalk refuses the robot: {said}")),
            (200, Some(_)) => Outcome::Rejected { reason: format!("200: DingTalk refuses this message: {said}") },
            (200, None) => chat::foreign(response, "DingTalk", "`webhook`"),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || is_broken(response)
    }
}
