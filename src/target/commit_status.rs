//! Commit statuses at GitHub, GitLab and Gitea: whether what was made of a commit is well.
//!
//! What fires is a failure, what ends it is a success; what neither begins nor ends anything is not told. The context
//! (at GitLab, the name) is the object that the alert is about, so that each has a status of its own and the newest one
//! counts. Texts are plain at all three. [`code_host`] says how an event names its commit.

use ::http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::chat::{self, Draw, Size};
use super::code_host::{self, CodeHost};
use super::message::{Message, Step};
use super::poke::busy;
use super::text::{self, Unit};
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::alert::Status;
use crate::domain::delivery::Delivery;
use crate::domain::event::{Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{Fields, KeyDescription, Keys};

/// A target that sets statuses of commits at `H`.
#[derive(Debug, Clone)]
pub struct CommitStatus<H>(H);

impl<H: CodeHost> Keys for CommitStatus<H> {
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

impl<H: CodeHost> CommitStatus<H> {
    fn body(&self, message: &Message, context: &str) -> Value {
        let said = match message.items.as_slice() {
            [alone] if !alone.text.is_empty() => text::line(&alone.text),
            _ => message.title.clone(),
        };
        // The text of an alert that is over is often that of the one which began it.
        let said = if message.status == Status::Resolved { format!("Resolved: {said}") } else { said };
        let description = text::cut(&said, H::DESCRIPTION, Unit::Characters);
        let step = message.step().unwrap_or(Step::Trigger);
        let mut body = self.0.status(step, context, &description);
        if let Some(url) = code_host::page(message).filter(|url| url.chars().count() <= H::STATUS_URL) {
            body["target_url"] = url.into();
        }
        body
    }
}

impl<H: CodeHost> Draw for CommitStatus<H> {
    fn draw(&self, message: &Message) -> Value {
        self.body(message, message.subject())
    }

    fn draw_plain(&self, message: &Message) -> Value {
        self.draw(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let length = |name: &str| Unit::Characters.of(body[name].as_str().unwrap_or_default());
        vec![
            Size::new("description", Unit::Characters, length("description"), H::DESCRIPTION),
            Size::new("URL", Unit::Characters, length("target_url"), H::STATUS_URL),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        format!("{}: {}\n{}", text("state"), text("description"), text("target_url")).trim_end().to_owned()
    }
}

impl<H: CodeHost> Target for CommitStatus<H> {
    fn class(&self) -> Class {
        Class::Feed
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        (kind == "image_push").then(|| "a push to a registry names no commit".to_owned())
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        code_host::commit(event, self.0.repository())?;
        Message::of(event).step().map(drop)
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let event = &delivery.event;
        let commit = code_host::commit(event, self.0.repository()).map_err(RenderError::Unfit)?;
        let path = format!("/statuses/{commit}");
        let body = self.body(&Message::of(event), &code_host::subject(event));
        Ok(vec![self.0.request(Method::POST, &path, secrets, now)?.with_json(&body)])
    }

    fn follow_up(
        &self,
        delivery: &Delivery,
        asked: &Outbound,
        answer: &Response,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Option<Outbound>, RenderError> {
        match (&asked.method, answer.status) {
            (&Method::POST, 500) => {
                let commit = code_host::commit(&delivery.event, self.0.repository()).map_err(RenderError::Unfit)?;
                let path = self.0.commit(commit);
                path.map(|path| self.0.request(Method::GET, &path, secrets, now)).transpose()
            }
            // A repository that the token may not see would have been a 404 before.
            (&Method::GET, 404) => {
                Err(RenderError::Unfit("500: the repository has no such commit, or no longer".to_owned()))
            }
            _ => Ok(None),
        }
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            // A status that was set is a 201: this is what the look for the commit found.
            200 if chat::json(response)["sha"].is_string() => {
                busy("500: the host failed to set the status, and the commit is there")
            }
            200 => chat::foreign(response, "the host", "`api_url`"),
            _ => self.0.classify(response, "set statuses of this repository's commits", "this status", now),
        }
    }

    fn as_draw(&self) -> Option<&dyn Draw> {
        Some(self)
    }
}
