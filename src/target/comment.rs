//! Comments on pull requests at GitHub, GitLab and Gitea: one for each thing that is told of, changed in place when
//! there is more to say of it.
//!
//! Our comment begins with a marker that only its source shows, `<!-- sluice:KEY -->`; the comments are looked through
//! for it before one is written. Texts are Markdown there, with mentions, references to other issues and, at GitLab,
//! commands at the beginning of a line. None of it holds inside code: every text of others stands in a code span or a
//! fenced block longer than any run of backticks in it.
//! Sources: GitHub Flavored Markdown Spec, "Code spans" and "Fenced code blocks"; docs.gitlab.com, "GitLab quick
//! actions" (read 2026-11).

use ::http::{Method, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Draw, Size};
use super::code_host::{self, CodeHost};
use super::message::{Fact, Message};
use super::text::Unit;
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::alert::Link;
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};

/// A target that comments on pull requests at `H`.
#[derive(Debug, Clone)]
pub struct Comment<H>(H);

impl<H: CodeHost> Keys for Comment<H> {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        H::take(fields).map(Self)
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        H::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.0, seen);
    }
}

/// How many pages of comments are looked through, of 100 each: ours is written soon after a pull request is opened.
const PAGES: u32 = 5;

/// What our comment of `message` begins with.
fn marker(message: &Message) -> String {
    format!("<!-- sluice:{} -->", message.key.as_deref().unwrap_or("news"))
}

/// A run of backticks longer than any in `text`.
fn ticks(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(least.max(longest + 1))
}

/// `text`, which is on one line, as code.
fn code(text: &str) -> String {
    let ticks = ticks(text, 1);
    match text.contains('`') {
        true => format!("{ticks} {text} {ticks}"),
        false => format!("{ticks}{text}{ticks}"),
    }
}

fn block(text: &str) -> String {
    let fence = ticks(text, 3);
    format!("{fence}text\n{text}\n{fence}")
}

fn list(facts: &[Fact]) -> Option<String> {
    let facts = facts.iter().filter(|fact| !fact.name.is_empty());
    let lines: Vec<_> = facts.map(|fact| format!("- {}: {}", code(&fact.name), code(&fact.value))).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn link(page: &Link) -> String {
    format!("[{}](<{}>)", code(&page.title), page.url)
}

impl<H: CodeHost> Draw for Comment<H> {
    fn draw(&self, message: &Message) -> Value {
        let mut parts = vec![marker(message), format!("**{}**", code(&message.headline()))];
        for item in &message.items {
            parts.extend((!item.title.is_empty()).then(|| code(&item.headline())));
            parts.extend((!item.text.is_empty()).then(|| block(&item.text)));
            parts.extend(list(&item.facts));
            let links: Vec<_> = item.links.iter().map(link).collect();
            parts.extend((!links.is_empty()).then(|| links.join(" · ")));
        }
        parts.extend(list(&message.facts));
        parts.extend(message.rest());
        parts.extend(message.url.as_ref().map(|url| format!("[All of it](<{url}>)")));
        parts.push(code(&message.origin()));
        json!({ "body": parts.join("\n\n") })
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.draw(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let length = Unit::Utf16.of(body["body"].as_str().unwrap_or_default());
        vec![Size::new("body", Unit::Utf16, length, H::COMMENT)]
    }

    fn preview(&self, body: &Value) -> String {
        body["body"].as_str().and_then(|body| body.split_once("\n\n")).map_or("", |(_, seen)| seen).to_owned()
    }
}

impl<H: CodeHost> Comment<H> {
    fn page(&self, number: u64, page: u32, secrets: &Resolved, now: Timestamp) -> Result<Outbound, RenderError> {
        let path = format!("{}{}", self.0.comments(number), self.0.page(page).unwrap_or_default());
        let mut request = self.0.request(Method::GET, &path, secrets, now)?;
        request.long_answer = true;
        Ok(request)
    }

    fn judge(&self, response: &Response, now: Timestamp) -> Outcome {
        self.0.classify(response, "comment on this repository's pull requests", "this comment", now)
    }

    /// Whether a refusal is for the number of our requests, so that another one would fare no better.
    fn is_limit(&self, response: &Response, now: Timestamp) -> bool {
        matches!(self.judge(response, now), Outcome::RetryAfter { .. })
    }
}

impl<H: CodeHost> Target for Comment<H> {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        (kind != "alert").then(|| "this type of target is told of alerts only, which name a pull request".to_owned())
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        code_host::change_request(event).map(drop)
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let number = code_host::change_request(&delivery.event).map_err(RenderError::Unfit)?;
        Ok(vec![self.page(number, 1, secrets, now)?])
    }

    fn follow_up(
        &self,
        delivery: &Delivery,
        asked: &Outbound,
        answer: &Response,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Option<Outbound>, RenderError> {
        let number = code_host::change_request(&delivery.event).map_err(RenderError::Unfit)?;
        let request = match (&asked.method, answer.status) {
            (&Method::GET, 200) => {
                let marker = marker(&Message::of(&delivery.event));
                // A page that is longer than is read is passed over: a second comment is better than none.
                let comments = chat::json(answer);
                let ours = |comment: &&Value| comment["body"].as_str().is_some_and(|body| body.starts_with(&marker));
                // The last one: those before it may be of somebody that we were once.
                let ours = comments.as_array().into_iter().flatten().rev().find(ours);
                let next = next_page(asked, answer).filter(|page| *page <= PAGES);
                match (ours.and_then(|comment| comment["id"].as_u64()), next) {
                    (Some(id), _) => self.0.request(H::UPDATE, &self.0.comment(number, id), secrets, now)?,
                    (None, Some(page)) => return self.page(number, page, secrets, now).map(Some),
                    (None, None) => self.0.request(Method::POST, &self.0.comments(number), secrets, now)?,
                }
            }
            // It is gone by now, or of somebody else: anybody can write what ours begin with, and tokens change.
            (method, 403 | 404) if *method == H::UPDATE && !self.is_limit(answer, now) => {
                self.0.request(Method::POST, &self.0.comments(number), secrets, now)?
            }
            _ => return Ok(None),
        };
        let body = chat::bodies(self, &delivery.event).into_iter().next().unwrap_or_default();
        Ok(Some(request.with_json(&body)))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            // Of a pull request that is not there, hosts say the same as of a repository that the token may not see.
            404 => Outcome::Rejected {
                reason: "404: there is no such pull request, or the token may not see the repository".into(),
            },
            200..=299 if chat::is_page(response) => chat::foreign(response, "the host", "`api_url`"),
            _ => self.judge(response, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403 | 404)
    }

    fn as_draw(&self) -> Option<&dyn Draw> {
        Some(self)
    }
}

/// The page after the one that was `asked` for, if the `answer` says that there is one (RFC 8288).
fn next_page(asked: &Outbound, answer: &Response) -> Option<u32> {
    let links = answer.headers.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
    let mut links = links.flat_map(|links| links.split(','));
    links.any(|link| link.contains("rel=\"next\"")).then_some(())?;
    let url = url::Url::parse(&asked.url).ok()?;
    let page = url.query_pairs().find(|(name, _)| name == "page")?.1.parse::<u32>().ok()?;
    page.checked_add(1)
}
