//! The inspector: a page of `sluice serve` that shows what came in, what waits and what was given up. It is shown to
//! this machine only, and holds nothing that is secret.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::Value;

use crate::domain::delivery::DeadLetter;
use crate::intake::Answer;
use crate::port::Unavailable;
use crate::rim::local::store::EmbeddedQueue;

/// How many requests are remembered.
const MOST_REQUESTS: usize = 50;
/// How many dead letters are shown.
const MOST_LETTERS: usize = 50;

/// What the page shows.
pub(super) struct Inspector {
    deliveries: EmbeddedQueue,
    dead_letters: EmbeddedQueue,
    requests: Mutex<VecDeque<Seen>>,
}

/// A request as it is remembered: never its path, which may end in a URL token.
struct Seen {
    at: Timestamp,
    status: u16,
    source: String,
    event: String,
    remark: String,
}

impl Inspector {
    pub(super) fn new(deliveries: EmbeddedQueue, dead_letters: EmbeddedQueue) -> Self {
        Self { deliveries, dead_letters, requests: Mutex::default() }
    }

    /// Remembers a request by its answer.
    pub(super) fn saw(&self, answer: &Answer, at: Timestamp) {
        let text = |key| answer.body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let targets = answer.body.get("deliveries").and_then(Value::as_array).into_iter().flatten();
        let targets: Vec<_> = targets.filter_map(|one| one.get("target")?.as_str()).collect();
        let remark = match (targets.is_empty(), text("ignored"), text("detail")) {
            (false, _, _) => format!("to {}", targets.join(", ")),
            (true, ignored, detail) => {
                if ignored.is_empty() {
                    detail
                } else {
                    ignored
                }
            }
        };
        let seen = Seen { at, status: answer.status, source: text("source"), event: text("event"), remark };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.truncate(MOST_REQUESTS - 1);
        requests.push_front(seen);
    }

    /// The page.
    pub(super) async fn page(&self) -> Response<Full<Bytes>> {
        let body = self.render().await.unwrap_or_else(|error| format!("<p>{}</p>", Escaped(&error.to_string())));
        let mut response = Response::new(Full::from(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        );
        response
    }

    async fn render(&self) -> Result<String, Unavailable> {
        let groups = self.deliveries.groups().await?;
        let letters = self.dead_letters.peek(MOST_LETTERS, None).await?;
        let mut page = String::from(HEAD);
        // Writing into a text cannot fail.
        let _ = write!(page, "<h2>Waiting</h2>");
        if groups.is_empty() {
            page.push_str("<p class=none>Nothing waits: every delivery is out.</p>");
        } else {
            page.push_str("<table><tr><th>target<th>deliveries<th>under way<th>held until");
            for group in &groups {
                let held = group.held_until.map(|until| until.to_string()).unwrap_or_default();
                let target = group.group.split('!').next().unwrap_or_default();
                let aside = if group.group.contains('!') { " (set aside)" } else { "" };
                let (target, held) = (Escaped(target), Escaped(&held));
                let _ = write!(
                    page,
                    "<tr><td>{target}{aside}<td>{}<td>{}<td>{held}",
                    group.waiting + group.in_flight,
                    group.in_flight
                );
            }
            page.push_str("</table>");
        }
        page.push_str("<h2>Dead letters</h2>");
        if letters.is_empty() {
            page.push_str("<p class=none>None.</p>");
        } else {
            page.push_str("<table><tr><th>given up<th>target<th>attempts<th>why");
            for letter in letters.iter().filter_map(|letter| DeadLetter::decode(&letter.body).ok()) {
                let target = letter.delivery.map(|delivery| delivery.target.to_string()).unwrap_or_default();
                let given_up = letter.given_up.to_string();
                let (given_up, target, reason) = (Escaped(&given_up), Escaped(&target), Escaped(&letter.reason));
                let _ = write!(page, "<tr><td>{given_up}<td>{target}<td>{}<td>{reason}", letter.attempts);
            }
            page.push_str("</table>");
        }
        page.push_str("<h2>Requests</h2>");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.is_empty() {
            page.push_str("<p class=none>None since the start.</p>");
        } else {
            page.push_str("<table><tr><th>at<th>status<th>source<th>event<th>");
            for Seen { at, status, source, event, remark } in requests.iter() {
                let class = if *status < 300 { "good" } else { "bad" };
                let (source, event, remark) = (Escaped(source), Escaped(event), Escaped(remark));
                let _ = write!(page, "<tr><td>{at:.0}<td class={class}>{status}<td>{source}<td>{event}<td>{remark}");
            }
            page.push_str("</table>");
        }
        Ok(page)
    }
}

/// Text that stands in the page as text.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>
<meta name=viewport content='width=device-width'><title>Sluice</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600; color: #5a6b7b }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #e3e8ed; vertical-align: top }
td:first-child { white-space: nowrap } .none { color: #5a6b7b; margin: 0 } .good { color: #13733a } .bad { color: #b3261e; font-weight: 600 }
</style><h1>Sluice</h1>";
