//! A strict reader of the HTML that services take: every tag known, closed and in its place, nothing unescaped.

/// What was read.
#[derive(Debug)]
pub struct Html {
    /// The text, as a person sees it.
    pub text: String,
    /// Where its links lead.
    pub links: Vec<String>,
}

/// Reads `html` with no other tags than `tags` (and `<br>`), in which a line break is `line_break`.
pub fn parse(html: &str, tags: &[&str], line_break: &str) -> Result<Html, String> {
    let mut read = Html { text: String::new(), links: Vec::new() };
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        match c {
            '<' => {
                let end = rest.find('>').ok_or("a tag has no end")?;
                let tag = &rest[1..end];
                taken = end + 1;
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                if tag == "br" {
                    read.text.push('\n');
                } else if let Some(name) = tag.strip_prefix('/') {
                    let expected = open.pop();
                    if expected.as_deref() != Some(name) {
                        return Err(format!("</{name}> closes {expected:?}"));
                    }
                } else if !tags.contains(&name) {
                    return Err(format!("<{name}> is not taken"));
                } else {
                    open.push(name.to_owned());
                    if name == "a" {
                        let url = attributes.strip_prefix("href=\"").and_then(|rest| rest.strip_suffix('"'));
                        let url = url.filter(|url| !url.contains('"')).ok_or("a link without a page")?;
                        read.links.push(entities(url)?);
                    } else if !attributes.is_empty() {
                        return Err(format!("<{name}> has attributes"));
                    }
                }
            }
            '>' => return Err("a > is not escaped".into()),
            '&' => {
                let end = rest.find(';').ok_or("an & is not escaped")?;
                taken = end + 1;
                read.text.push_str(&entities(&rest[..taken])?);
            }
            '\n' if line_break != "\n" => return Err("a line break that nobody sees".into()),
            _ => read.text.push(c),
        }
        rest = &rest[taken..];
    }
    if open.is_empty() { Ok(read) } else { Err(format!("{open:?} are left open")) }
}

fn entities(text: &str) -> Result<String, String> {
    let mut parts = text.split('&');
    let mut read = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or("an & is not escaped")?;
        read.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            _ => return Err(format!("&{name}; is not known")),
        });
        read.push_str(rest);
    }
    Ok(read)
}

/// Reads Markdown that holds bold texts and links and nothing else: any other mark, in a line or at its beginning, is an
/// error. The answer is the text, as a person sees it, and where its links lead.
pub fn parse_markdown(markdown: &str) -> Result<(String, Vec<String>), String> {
    let mut lines = Vec::new();
    let mut links = Vec::new();
    for line in markdown.split('\n') {
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = digits.len() < line.len() && digits.starts_with(['.', ')']);
        if numbered || line.starts_with(['-', '+', '=', '#', ' ', '\t']) {
            return Err(format!("a line is marked as a whole: {line}"));
        }
        let (mut text, mut rest, mut bold) = (String::new(), line, false);
        while let Some(c) = rest.chars().next() {
            let mut taken = c.len_utf8();
            match c {
                '\\' => {
                    let escaped = rest[1..].chars().next().filter(char::is_ascii_punctuation);
                    text.push(escaped.ok_or_else(|| format!("a backslash before what is no mark: {rest}"))?);
                    taken = 2;
                }
                '*' if rest.starts_with("**") => {
                    bold = !bold;
                    taken = 2;
                }
                '[' => {
                    let middle = rest.find("](").ok_or("a link without a page")?;
                    let end = middle + rest[middle..].find(')').ok_or("a link without an end")?;
                    let (title, url) = (&rest[1..middle], &rest[middle + 2..end]);
                    if !url.starts_with("http") || url.contains([' ', '(', '<', '>', '\\']) {
                        return Err(format!("no page: {url}"));
                    }
                    let (title, inner) = parse_markdown(title)?;
                    if !inner.is_empty() || title.is_empty() {
                        return Err(format!("a link with another one for a title, or none: {rest}"));
                    }
                    text.push_str(&title);
                    links.push(url.to_owned());
                    taken = end + 1;
                }
                '<' => {
                    let end = rest.find('>').ok_or("a < is not escaped")?;
                    let url = &rest[1..end];
                    if !url.starts_with("http") || url.contains(|c: char| c.is_whitespace() || "<\\".contains(c)) {
                        return Err(format!("a < is not escaped: {rest}"));
                    }
                    text.push_str(url);
                    taken = end + 1;
                }
                '*' | '_' | '`' | '~' | '|' | '>' | ']' | '#' | '&' | '$' => {
                    return Err(format!("not escaped: {rest}"));
                }
                c => text.push(c),
            }
            rest = &rest[taken..];
        }
        if bold {
            return Err(format!("bold without an end: {line}"));
        }
        lines.push(text);
    }
    Ok((lines.join("\n"), links))
}
