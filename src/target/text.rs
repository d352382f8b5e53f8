//! Texts for people: cleaned, without credentials, and cut where a service takes no more.
//!
//! Everything in an alert may have been written by somebody else: by a container that crashed, by a commit, by whoever
//! names a pod. What is done here is done to all of it, once, before any service's own rules.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use unicode_segmentation::UnicodeSegmentation;

/// In what a service counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// Unicode code points.
    Characters,
    /// UTF-16 code units.
    Utf16,
    /// Parts, such as fields or blocks.
    Parts,
}

impl Unit {
    /// The length of `text`.
    pub fn of(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::Characters => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
            Self::Parts => usize::from(!text.is_empty()),
        }
    }

    /// The unit as it stands behind a number.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Characters => "characters",
            Self::Utf16 => "UTF-16 units",
            Self::Parts => "parts",
        }
    }
}

/// What the note of a cut may take, in any unit.
const NOTE: usize = 28;

/// The longest line that is kept, in characters.
const LINE: usize = 2500;

/// `text`, cut between two characters as people see them where it is longer than `limit`, with a note of how much is
/// missing. With a `limit` of less than 40 the note is an ellipsis.
pub fn cut(text: &str, limit: usize, unit: Unit) -> Cow<'_, str> {
    cut_by(text, limit, |part| unit.of(part))
}

/// [`cut`], with the length that `text` has after it was escaped: `measure` says that of any part of it.
pub fn cut_by(text: &str, limit: usize, measure: impl Fn(&str) -> usize) -> Cow<'_, str> {
    cut_before(text, limit, 0, measure)
}

/// [`cut_by`] of a text behind which so many characters are missing already.
pub fn cut_before(text: &str, limit: usize, missing: usize, measure: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if missing == 0 && measure(text) <= limit {
        return text.into();
    }
    let with_note = limit >= NOTE + 12;
    let room = if with_note { limit - NOTE } else { limit.saturating_sub("…".len()) };
    let mut end = 0;
    let mut length = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        length += measure(grapheme);
        if length > room {
            break;
        }
        end = at + grapheme.len();
    }
    let kept = text[..end].trim_end();
    match with_note {
        true => format!("{kept}… (+{} characters)", text[kept.len()..].chars().count() + missing).into(),
        false if limit == 0 => "".into(),
        false => format!("{kept}…").into(),
    }
}

/// The beginning of `text`, cleaned, of which no more than `most` characters will be shown, and how many characters of
/// `text` follow it: to clean all of a large text would take long.
pub fn beginning(text: &str, most: usize) -> (String, usize) {
    // What is masked gets shorter, so there has to be more than will be shown.
    let end = text.char_indices().nth(most * 4).map_or(text.len(), |(at, _)| at);
    (clean(&text[..end]), text[end..].chars().count())
}

/// `text` without what no service should get: credentials, control characters but line breaks and tabs, and what turns
/// the direction of writing around.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let unwanted = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || turns(*c);
    let text: String = text.replace("\r\n", "\n").chars().filter(|c| !unwanted(c)).collect();
    mask(text.trim()).into_owned()
}

/// [`clean`], on one line, of a text of which no more than some hundred characters are ever shown.
pub fn line(text: &str) -> String {
    let (text, missing) = beginning(text, LINE);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut_before(&line, LINE, missing, |part| Unit::Characters.of(part)).into_owned()
}

/// `text` without names for a service that looks for `@names` in every text and tells those who bear them: an invisible
/// word joiner stands behind each `@`.
pub fn quiet(text: &str) -> String {
    text.replace('@', "@\u{2060}")
}

/// The URL of a page that may be linked: http or https, with a host and without a user's name or password.
pub fn page(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url.trim()).ok()?;
    let plain = matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
    let anonymous = parsed.username().is_empty() && parsed.password().is_none();
    // What stands for a credential would be of no use without it, and must not be shown with it.
    let url = String::from(parsed);
    (plain && anonymous && mask(&url) == url).then_some(url)
}

/// What stands for a credential.
const MASKED: &str = "[masked]";

/// What credentials look like: by their own form, or by what stands before them. Groups stay, the first before and the second behind it.
static CREDENTIALS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"()-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
        r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+(@)",
        r"(hooks\.slack(?:-gov)?\.com/(?:services|triggers|workflows)/)[^\s\x22'<>]+",
        r"(discord(?:app)?\.com/api/(?:v[0-9]+/)?webhooks/)[^\s\x22'<>]+",
        r"(api\.telegram\.org/bot)[^\s\x22'<>/]+",
        // A Receiver's path, and a source's of ours with its token.
        r"(/)[0-9a-f]{64}\b",
        r"(?i)([?&](?:sig|token|key|code|secret|password|signature|access_token|api_key|x-amz-signature|x-amz-credential|x-amz-security-token)=)[^&\s\x22'<>]+",
        r"(?i)(\b(?:bearer|basic|geniekey)\s+)[a-z0-9+/._~=-]{16,}",
        r"()\b(?:ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[a-z]|xapp|whsec|dckr_pat|hvs|npm|sk|pk|rk)[-_][A-Za-z0-9_+/=-]{16,}",
        r"()\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    ]
    .iter()
    .filter_map(|expression| Regex::new(expression).ok())
    .collect()
});

/// A name of something secret, and the value that it is given.
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?i)((?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?|authorization)[\x22']?\s*[:=]\s*[\x22']?)([^\s\x22',;&]{8,})",
    )
    .ok()
});

/// `text` with what looks like a credential masked.
fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = Cow::Borrowed(text);
    for expression in CREDENTIALS.iter() {
        if let Cow::Owned(changed) = expression.replace_all(&masked, |found: &Captures<'_>| {
            let kept = |group| found.get(group).map_or("", |kept| kept.as_str());
            format!("{}{MASKED}{}", kept(1), kept(2))
        }) {
            masked = changed.into();
        }
    }
    if let Some(named) = NAMED.as_ref()
        && let Cow::Owned(changed) = named.replace_all(&masked, |found: &Captures<'_>| {
            // «secret: certificate» names no value; one that was made by a machine, or chosen well, has a digit.
            let (name, value) = (&found[1], &found[2]);
            match value.bytes().any(|byte| byte.is_ascii_digit()) && !value.starts_with(MASKED) {
                true => format!("{name}{MASKED}"),
                false => found[0].to_owned(),
            }
        })
    {
        masked = changed.into();
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_what_people_see_as_characters_and_says_what_is_missing() {
        let family = "👨‍👩‍👧‍👦";
        let text = family.repeat(40);
        let cut = cut(&text, 200, Unit::Characters);
        let kept = cut.split('…').next().expect("text");
        assert!(kept.len().is_multiple_of(family.len()) && !kept.is_empty());
        let missing = text.chars().count() - kept.chars().count();
        assert_eq!(*cut, format!("{kept}… (+{missing} characters)"));
        assert!(Unit::Characters.of(&cut) <= 200);
    }

    #[test]
    fn what_fits_is_not_touched_and_what_does_not_never_passes_the_limit_in_any_unit() {
        let text = "abc äöü 日本語 😀 ".repeat(60);
        for unit in [Unit::Bytes, Unit::Characters, Unit::Utf16] {
            let whole = unit.of(&text);
            assert_eq!(cut(&text, whole, unit), text);
            for limit in [1, 3, 10, 39, 40, 41, 100, whole - 1] {
                let cut = cut(&text, limit, unit);
                assert!(unit.of(&cut) <= limit.max(3), "{limit} {unit:?}: {cut}");
            }
        }
    }

    #[test]
    fn the_length_after_escaping_is_what_counts() {
        let text = "<".repeat(100);
        let cut = cut_by(&text, 200, |part| part.replace('<', "&lt;").len());
        assert!(cut.replace('<', "&lt;").len() <= 200 && cut.starts_with("<<<"));
    }

    #[test]
    fn credentials_are_masked_and_what_stands_around_them_is_not() {
        for (text, expected) in [
            ("GET https://user:hunter2@db.example.com/x failed", "GET https://[masked]@db.example.com/x failed"),
            ("Authorization: Bearer abcdefghijklmnopqrst1", "Authorization: Bearer [masked]"),
            ("password=Tr0ub4dor&3 and more", "password=[masked]&3 and more"),
            ("{\"token\": \"a1b2c3d4e5\"}", "{\"token\": \"[masked]\"}"),
            ("AKIAIOSFODNN7EXAMPLE is old", "[masked] is old"),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[masked]"),
            (
                "post https://hooks.slack.com/services/T0/B0/abc: no_service",
                "post https://hooks.slack.com/services/[masked] no_service",
            ),
            (
                "https://h/hook/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "https://h/hook/[masked]",
            ),
            ("x eyJhbGciOiJI.eyJzdWIiOiIx.c2ln y", "x [masked] y"),
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nb", "a\n[masked]\nb"),
            ("https://h/a?sig=abc&x=1", "https://h/a?sig=[masked]&x=1"),
        ] {
            assert_eq!(clean(text), expected);
        }
    }

    #[test]
    fn what_only_looks_a_little_like_a_credential_stays() {
        for text in [
            "secret: not found",
            "failed to get secret \"registry-1\": not found",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "main@sha1:3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812",
            "authorization: required",
            "https://example.com/graph?g0.expr=up%3D%3D0&g0.tab=1",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn control_characters_and_turned_directions_go_and_line_breaks_stay() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}c\r\nd\te\0 "), "a[31mbc\nd\te");
        assert_eq!(line(" a\n\n b\tc "), "a b c");
    }

    #[test]
    fn only_pages_are_linked() {
        for (url, expected) in [
            ("https://example.com/a?b=c#d", Some("https://example.com/a?b=c#d")),
            ("http://grafana:3000/", Some("http://grafana:3000/")),
            ("javascript:alert(1)", None),
            ("https://user:pass@example.com/", None),
            ("data:text/html,x", None),
            ("//example.com", None),
            ("", None),
            ("https://hooks.slack.com/services/T0/B0/abc", None),
        ] {
            assert_eq!(page(url).as_deref(), expected, "{url}");
        }
    }
}
