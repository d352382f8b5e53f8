//! Microsoft Teams: a flow of Workflows that begins with «When a Teams webhook request is received» and posts the card.
//! The connectors' webhooks, which are retired, are not spoken to.
//!
//! A message is one Adaptive Card 1.4. Texts of others stand in the TextRuns of a RichTextBlock, in which Teams reads no
//! Markdown and no mention; how it breaks lines inside one is not documented, so that every line is a block of its own. A
//! mention is `<at>…</at>` in a TextBlock with an entity of the same text that has the user's object id or principal name.
//!
//! The flow's action refuses messages over approximately 28 KB with everything in them; a card of 24,453 bytes was counted
//! as 28,897, as its JSON is written into another one. A body here stays under 20,000 bytes.
//!
//! The trigger answers 202 and the flow goes on by itself: whether the card was shown is not told. A 401 is
//! `DirectApiAuthorizationRequired` where the URL lacks its signature or the trigger is not open to anyone; a flow that is
//! turned off or deleted answers 400 `WorkflowTriggerIsNotEnabled` or 404. It knows no idempotent send.
//! Sources: learn.microsoft.com, "Format cards in Teams", "TextRun" of the schema explorer, "Microsoft Teams" among the
//! connectors (its known limits); MicrosoftDocs/msteams-docs#11274; the codes as people report them (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, pinged, secret_url};
use super::message::{Fact, Item, Message, Tone};
use super::poke::held;
use super::text::Unit;
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, OneOrMany, Problems, Read, parsed};

/// A user: an object id of Microsoft Entra, or a principal name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

impl Read for User {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            let is_word =
                |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
            let is_name = text.split_once('@').is_some_and(|(name, domain)| is_word(name) && is_word(domain));
            let is_id = text.len() == 36 && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
            match is_name || is_id {
                true => Ok(Self(text.into())),
                false => Err("expected a user's principal name (somebody@example.com) or object id".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

crate::keys! {
    /// A `teams` target.
    pub struct Teams {
        /// The URL of a flow that begins with «When a Teams webhook request is received», as a secret.
        webhook: SecretRef,
        /// Who is pinged by what is not over and worse than info: a user's principal name (somebody@example.com) or
        /// object id.
        mention: Option<OneOrMany<User>>,
    }
}

/// The largest body, in bytes.
const BODY: usize = 20_000;

fn run(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text })
}

fn bold(text: &str) -> Value {
    json!({ "type": "TextRun", "text": text, "weight": "Bolder" })
}

fn link(title: &str, url: &str) -> Value {
    json!({ "type": "TextRun", "text": title, "selectAction": { "type": "Action.OpenUrl", "url": url } })
}

/// A line of its own.
fn line(runs: Vec<Value>) -> Value {
    json!({ "type": "RichTextBlock", "spacing": "None", "inlines": runs })
}

/// Every line of a text; one without anything to see is none.
fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter(|text| !text.trim().is_empty()).map(|text| line(vec![run(text)]))
}

fn fact(fact: &Fact) -> Value {
    line(vec![bold(&format!("{}: ", fact.name)), run(&fact.value)])
}

fn item(item: &Item) -> Vec<Value> {
    let mut blocks = Vec::new();
    blocks.extend((!item.title.is_empty()).then(|| line(vec![bold(&item.headline())])));
    blocks.extend(lines(&item.text));
    blocks.extend(item.facts.iter().map(fact));
    let mut links = Vec::new();
    for page in &item.links {
        links.extend((!links.is_empty()).then(|| run(" · ")));
        links.push(link(&page.title, &page.url));
    }
    blocks.extend((!links.is_empty()).then(|| line(links)));
    blocks
}

/// `blocks` with more room above the first one.
fn apart(mut blocks: Vec<Value>) -> Vec<Value> {
    if let Some(first) = blocks.first_mut() {
        first["spacing"] = "Medium".into();
    }
    blocks
}

fn style(tone: Tone) -> &'static str {
    match tone {
        Tone::Critical | Tone::Error => "attention",
        Tone::Warning => "warning",
        Tone::Neutral => "accent",
        Tone::Good => "good",
    }
}

fn message_with(card: Value) -> Value {
    json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "content": card }],
    })
}

fn card(blocks: Vec<Value>) -> Value {
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    })
}

impl Draw for Teams {
    fn draw(&self, message: &Message) -> Value {
        let headline = json!({ "type": "TextRun", "text": message.headline(), "weight": "Bolder", "size": "Medium" });
        let mut blocks = vec![json!({
            "type": "Container",
            "style": style(message.tone()),
            "bleed": true,
            "items": [line(vec![headline])],
        })];
        blocks.extend(message.items.iter().flat_map(|one| apart(item(one))));
        let mut rest: Vec<_> = message.facts.iter().map(fact).collect();
        rest.extend(message.rest().map(|more| line(vec![run(&more)])));
        rest.extend(message.url.as_ref().map(|url| line(vec![link("All of it", url)])));
        blocks.extend(apart(rest));
        let origin = json!({ "type": "TextRun", "text": message.origin(), "size": "Small", "isSubtle": true });
        blocks.extend(apart(vec![line(vec![origin])]));

        let mut msteams = json!({ "width": "Full" });
        let mentioned = pinged(&self.mention, message);
        if !mentioned.is_empty() {
            let named = |user: &User| format!("<at>{}</at>", user.0);
            let names = mentioned.iter().map(named).collect::<Vec<_>>().join(" ");
            blocks.insert(0, json!({ "type": "TextBlock", "text": names, "wrap": true }));
            let entity = |user: &User| json!({ "type": "mention", "text": named(user), "mentioned": { "id": user.0, "name": user.0 } });
            msteams["entities"] = mentioned.iter().map(entity).collect();
        }
        let mut card = card(blocks);
        card["msteams"] = msteams;
        message_with(card)
    }

    fn draw_plain(&self, message: &Message) -> Value {
        message_with(card(lines(&message.plain()).collect()))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("body", Unit::Bytes, body.to_string().len(), BODY)]
    }

    fn preview(&self, body: &Value) -> String {
        let mut seen = String::new();
        for block in body["attachments"][0]["content"]["body"].as_array().into_iter().flatten() {
            let block = if block["type"] == "Container" { &block["items"][0] } else { block };
            let above = if seen.is_empty() {
                ""
            } else if block["spacing"] == "None" {
                "\n"
            } else {
                "\n\n"
            };
            seen += above;
            seen += block["text"].as_str().unwrap_or_default();
            for run in block["inlines"].as_array().into_iter().flatten() {
                seen += run["text"].as_str().unwrap_or_default();
                seen.extend(run["selectAction"]["url"].as_str().map(|url| format!(" <{url}>")));
            }
        }
        seen
    }
}

/// Whether the flow is turned off or deleted.
fn is_off(response: &Response) -> bool {
    chat::json(response)["error"]["code"] == "WorkflowTriggerIsNotEnabled"
}

impl Notifier for Teams {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let url = secret_url(attempt.secrets, &self.webhook)?;
        // Without a charset signs such as ours do not always arrive.
        Ok(Outbound::post(url, "application/json; charset=utf-8", body.to_string()))
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let status = response.status;
        let said = excerpt(response);
        match status {
            400 if is_off(response) => held(format!("400: the flow is turned off or deleted: {said}")),
            401 | 403 => held(format!("{status}: is the URL whole, and may anyone trigger the flow? {said}")),
            404 | 410 => held(format!("{status}: there is no such flow: {said}")),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || is_off(response)
    }
}
