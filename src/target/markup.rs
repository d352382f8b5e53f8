//! A message laid out as a text with a little markup, for services that take such a text: HTML of a few tags, or Markdown.
//!
//! They differ in how a line is broken and in what has to be made harmless besides; what stands where is the same.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::message::{Fact, Message};

/// How a service writes a text.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Makes a text of others harmless. Line breaks in it stay line breaks.
    pub escape: fn(&str) -> String,
    /// What stands for a line break.
    pub line_break: &'static str,
}

/// What is written around texts that are harmless already.
struct Marks {
    bold: fn(&str) -> String,
    small: fn(&str) -> String,
    link: fn(&str, &str) -> String,
}

const HTML: Marks = Marks {
    bold: |text| format!("<b>{text}</b>"),
    small: |text| format!("<i>{text}</i>"),
    link: |title, url| format!("<a href=\"{}\">{title}</a>", escape_html(url)),
};

const MARKDOWN: Marks = Marks {
    bold: |text| format!("**{text}**"),
    small: str::to_owned,
    link: |title, url| format!("[{title}]({})", destination(url)),
};

/// `text` as HTML that is nothing but text, in elements and in attributes.
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `text` as Markdown that is nothing but text: as CommonMark has it, a backslash stands before what would be a mark. A
/// page's address in it that holds marks of its own stands between `<` and `>`, so that it leads where it should.
pub fn escape_markdown(text: &str) -> String {
    escape_with(text, is_mark, |address| match address.contains(is_mark) {
        true => format!("<{address}>"),
        false => address.to_owned(),
    })
}

/// [`escape_markdown`] for a dialect with other marks than `is_mark` knows, or another way to write an `address`.
pub fn escape_with(text: &str, is_mark: fn(char) -> bool, address: fn(&str) -> String) -> String {
    text.split('\n').map(|line| escape_line(line, is_mark, address)).collect::<Vec<_>>().join("\n")
}

/// What ends no address in any dialect, and is no bracket around one.
static ADDRESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"https?://[^\s<>\[\](){}|\\\x22'`]*[^\s<>\[\](){}|\\\x22'`.,:;!?*_~]").ok());

fn escape_line(line: &str, is_mark: fn(char) -> bool, address: fn(&str) -> String) -> String {
    let content = line.trim_start();
    // Blanks at the beginning of a line would be lost, or make code of it.
    let blanks = line[..line.len() - content.len()].chars();
    let mut escaped: String =
        blanks.map(|blank| if blank == '\t' { "\u{a0}\u{a0}\u{a0}\u{a0}" } else { "\u{a0}" }).collect();
    // A list, a heading or a line below one begins so.
    let number = content.bytes().take_while(u8::is_ascii_digit).count();
    let (number, content) = content.split_at(number);
    escaped += number;
    if content.starts_with(if number.is_empty() { ['-', '+', '='].as_slice() } else { ['.', ')'].as_slice() }) {
        escaped.push('\\');
    }
    let inline = |text: &str, escaped: &mut String| {
        for c in text.chars() {
            escaped.extend(is_mark(c).then_some('\\'));
            escaped.push(c);
        }
    };
    let mut rest = content;
    while let Some(found) = ADDRESS.as_ref().and_then(|address| address.find(rest)) {
        inline(&rest[..found.start()], &mut escaped);
        escaped += &address(found.as_str());
        rest = &rest[found.end()..];
    }
    inline(rest, &mut escaped);
    escaped
}

/// Whether `c` is a mark wherever it stands.
fn is_mark(c: char) -> bool {
    "\\`*_~|<>[]#&$".contains(c)
}

/// `url` as it stands behind a link's title: nothing in it ends the link.
pub fn destination(url: &str) -> String {
    let mut destination = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '(' | ')' | '[' | ']' | '<' | '>' | '\\' | '|' | '`' | '*' => {
                destination += &format!("%{:02X}", u32::from(c));
            }
            c => destination.push(c),
        }
    }
    destination
}

/// `message` as HTML with the tags `b`, `i` and `a`, which every service knows that takes any. `mention` stands before
/// it, and is markup already.
pub fn html(message: &Message, mention: Option<&str>, dialect: Dialect) -> String {
    let text = |text: &str| (dialect.escape)(text).replace('\n', dialect.line_break);
    let headline = (HTML.bold)(&text(&message.headline()));
    let headline = mention.map_or_else(|| headline.clone(), |mention| format!("{mention} {headline}"));
    let origin = (HTML.small)(&text(&message.origin()));
    let parts = [headline, html_body(message, dialect), origin];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&dialect.line_break.repeat(2))
}

/// What stands below the headline of `message`, as HTML: for services that have places of their own for the headline and
/// the small print.
pub fn html_body(message: &Message, dialect: Dialect) -> String {
    body(message, &HTML, dialect)
}

/// The same as Markdown.
pub fn markdown_body(message: &Message, dialect: Dialect) -> String {
    body(message, &MARKDOWN, dialect)
}

fn body(message: &Message, marks: &Marks, dialect: Dialect) -> String {
    let text = |text: &str| (dialect.escape)(text).replace('\n', dialect.line_break);
    let bold = |words: &str| (marks.bold)(&text(words));
    let link = |title: &str, url: &str| (marks.link)(&text(title), url);
    let fact = |fact: &Fact| format!("{} {}", bold(&format!("{}:", fact.name)), text(&fact.value));

    let mut parts = Vec::new();
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
    parts.retain(|part| !part.is_empty());
    parts.join(&dialect.line_break.repeat(2))
}

/// Markdown of ours as a person would see it, with the pages that it links to.
pub fn preview_markdown(markdown: &str) -> String {
    let mut seen = String::new();
    let mut rest = markdown.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => seen.extend(rest.next()),
            '[' | '*' | '<' | '>' => {}
            ']' => {
                rest.next();
                let url: String = rest.by_ref().take_while(|c| *c != ')').collect();
                seen += &format!(" <{url}>");
            }
            c => seen.push(c),
        }
    }
    seen
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
