//! A message laid out as HTML of a few tags, for services that take such a text.
//!
//! They differ in how a line is broken and in what has to be made harmless besides; what stands where is the same.

use super::message::{Fact, Message};

/// How a service writes a text.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Makes a text of others harmless. Line breaks in it stay line breaks.
    pub escape: fn(&str) -> String,
    /// What stands for a line break.
    pub line_break: &'static str,
}

/// `text` as HTML that is nothing but text, in elements and in attributes.
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `message` as HTML with the tags `b`, `i` and `a`, which every service knows that takes any. `mention` stands before
/// it, and is markup already.
pub fn html(message: &Message, mention: Option<&str>, dialect: Dialect) -> String {
    let text = |text: &str| (dialect.escape)(text).replace('\n', dialect.line_break);
    let bold = |words: &str| format!("<b>{}</b>", text(words));
    let link = |title: &str, url: &str| format!("<a href=\"{}\">{}</a>", escape_html(url), text(title));
    let fact = |fact: &Fact| format!("{} {}", bold(&format!("{}:", fact.name)), text(&fact.value));

    let headline = bold(&message.headline());
    let headline = mention.map_or_else(|| headline.clone(), |mention| format!("{mention} {headline}"));
    let mut parts = vec![headline];
    for item in &message.items {
        let mut lines = Vec::new();
        lines.extend((!item.title.is_empty()).then(|| bold(&item.headline())));
        lines.extend((!item.text.is_empty()).then(|| text(&item.text)));
        lines.extend(item.facts.iter().map(fact));
        let links: Vec<_> = item.links.iter().map(|page| link(&page.title, &page.url)).collect();
        lines.extend((!links.is_empty()).then(|| links.join(" · ")));
        parts.push(lines.join(dialect.line_break));
    }
    let mut lines: Vec<_> = message.facts.iter().map(fact).collect();
    lines.extend(message.rest());
    lines.extend(message.url.as_ref().map(|url| link("All of it", url)));
    parts.push(lines.join(dialect.line_break));
    parts.push(format!("<i>{}</i>", text(&message.origin())));
    parts.retain(|part| !part.is_empty());
    parts.join(&dialect.line_break.repeat(2))
}

/// The text of HTML that [`html`] made, without its tags.
pub fn text_of(html: &str) -> String {
    read(html, |_| String::new())
}

/// The same as a person would see it, with the pages that it links to.
pub fn preview(html: &str) -> String {
    read(html, |url| format!(" <{url}>"))
}

fn read(html: &str, mut linked: impl FnMut(&str) -> String) -> String {
    let unescape = |text: &str| {
        let text = text.replace("&lt;", "<").replace("&gt;", ">");
        text.replace("&quot;", "\"").replace("&amp;", "&")
    };
    let mut seen = String::new();
    let mut page = None;
    for part in html.split('<') {
        let (tag, text) = part.split_once('>').unwrap_or(("", part));
        if let Some(url) = tag.strip_prefix("a href=\"").and_then(|rest| rest.strip_suffix('"')) {
            page = Some(unescape(url));
        }
        match tag {
            "br" => seen.push('\n'),
            "/a" => seen.extend(page.take().map(|url| linked(&url))),
            _ => {}
        }
        seen.push_str(&unescape(text));
    }
    seen
}
