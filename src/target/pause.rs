//! How long an answer asks us to wait, in every form in which services say it.
//!
//! `Retry-After` holds whole seconds or a date in one of three forms (RFC 9110, 10.2.3 and 5.6.7); Discord's holds
//! decimals, and Zoom's a date as ISO 8601 has it. In a body of JSON it is `retry_after` (Slack, Discord) or `retry-after` (Zulip) in seconds, or
//! `retry_after_ms` in milliseconds (Matrix, deprecated since 1.10 but sent without the header by older servers).
//! Sources: docs.slack.dev "Rate limits", docs.discord.com "Rate Limits", zulip.com/api/rate-limits,
//! spec.matrix.org "Rate limiting", devforum.zoom.us 18928 (read 2026-11).

use std::time::Duration;

use ::http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::Response;

/// The longest wait that a target may ask for: what a queue can hold a message for.
pub const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);

/// A wait after a limit by the minute, where no answer says when it ends.
pub const MINUTE: Duration = Duration::from_secs(60);

/// The longest of the waits that headers and body name, and no longer than [`LONGEST`]. What cannot be understood
/// names none.
pub fn asked(response: &Response, now: Timestamp) -> Option<Duration> {
    in_headers(&response.headers, now).max(in_body(&response.body))
}

fn in_headers(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let values = headers.get_all(header::RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
    values.filter_map(|value| text(value.trim()).or_else(|| until(value.trim(), now))).max()
}

/// A wait in seconds in a header of the service's own.
pub fn header(response: &Response, name: &str) -> Option<Duration> {
    text(response.headers.get(name)?.to_str().ok()?)
}

fn in_body(body: &[u8]) -> Option<Duration> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let milliseconds = body["retry_after_ms"].as_f64().and_then(|milliseconds| length(milliseconds / 1000.0));
    seconds(&body["retry_after"]).max(seconds(&body["retry-after"])).max(milliseconds)
}

/// A wait of so many seconds out of an answer's body, no longer than [`LONGEST`]; `None` for what is no length of time.
pub fn seconds(value: &Value) -> Option<Duration> {
    match value {
        Value::String(seconds) => text(seconds),
        value => length(value.as_f64()?),
    }
}

/// Seconds in digits, with decimals or without.
fn text(seconds: &str) -> Option<Duration> {
    let plain = seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    length(seconds.parse().ok().filter(|_| plain)?)
}

fn length(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(LONGEST.as_secs_f64())).ok()
}

/// The time up to a date as HTTP or ISO 8601 writes it, or HTTP once wrote it.
fn until(date: &str, now: Timestamp) -> Option<Duration> {
    let parsed = rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(date).ok();
    // The day of the week tells nothing that the rest does not; in RFC 850's form it is written out.
    let obsolete = |form: &str, rest: Option<&str>| {
        DateTime::strptime(form, rest?).ok()?.to_zoned(TimeZone::UTC).ok().map(|date| date.timestamp())
    };
    let parsed = parsed
        .or_else(|| date.parse().ok())
        .or_else(|| obsolete("%d-%b-%y %H:%M:%S GMT", date.split_once(", ").map(|(_, rest)| rest)))
        .or_else(|| obsolete("%b %e %H:%M:%S %Y", date.split_once(' ').map(|(_, rest)| rest.trim_start())));
    // What is over asks for no wait.
    let wait = Duration::try_from(parsed?.duration_since(now)).unwrap_or_default();
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use bytes::Bytes;

    fn asked_by(headers: &[&str], body: &'static str) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(header::RETRY_AFTER, HeaderValue::from_str(value).expect("a header"));
        }
        let response = Response { status: 429, headers: map, body: Bytes::from_static(body.as_bytes()) };
        asked(&response, "1994-11-06T08:49:00Z".parse().expect("time"))
    }

    const fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_header_says_it_in_seconds_with_decimals_or_as_a_date_in_any_form() {
        for (value, wait) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("1.337", Some(Duration::from_millis(1337))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(37)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", seconds(37)),
            ("Sun, 06 Nov 1994 09:49:37 +0100", seconds(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", seconds(37)),
            ("Sun Nov  6 08:49:37 1994", seconds(37)),
            ("1994-11-06T08:49:37Z", seconds(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", seconds(0)),
        ] {
            assert_eq!(asked_by(&[value], ""), wait, "{value}");
        }
    }

    #[test]
    fn a_body_says_it_in_seconds_or_milliseconds() {
        for (body, wait) in [
            (r#"{"retry_after":30,"ok":false}"#, seconds(30)),
            (r#"{"retry_after":0.65,"global":false}"#, Some(Duration::from_millis(650))),
            (r#"{"retry_after":"30"}"#, seconds(30)),
            (r#"{"code":"RATE_LIMIT_HIT","retry-after":28.5}"#, Some(Duration::from_millis(28_500))),
            (r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2000}"#, seconds(2)),
        ] {
            assert_eq!(asked_by(&[], body), wait, "{body}");
        }
    }

    #[test]
    fn of_several_waits_the_longest_counts() {
        assert_eq!(asked_by(&["3", "5", "4"], ""), seconds(5));
        assert_eq!(asked_by(&["3"], r#"{"retry_after":7}"#), seconds(7));
        assert_eq!(asked_by(&["30"], r#"{"retry_after":7,"retry_after_ms":9000}"#), seconds(30));
        assert_eq!(asked_by(&["soon", "3"], "{"), seconds(3));
    }

    #[test]
    fn no_wait_is_longer_than_a_queue_can_hold_a_message() {
        let far = "99999999999999999999999999999";
        for header in ["43201", far, "1e9", "Sun, 06 Nov 2094 08:49:37 GMT"] {
            assert_eq!(asked_by(&[header], ""), (header != "1e9").then_some(LONGEST), "{header}");
        }
        for body in [r#"{"retry_after":1e300}"#, r#"{"retry_after_ms":99999999999}"#] {
            assert_eq!(asked_by(&[], body), Some(LONGEST), "{body}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_asks_for_none() {
        for header in ["", "soon", "-1", "+1", "1,5", "1.2.3", ".", "inf", "nan", "0x10", "5 s", "Sun, 06 Nov"] {
            assert_eq!(asked_by(&[header], ""), None, "{header}");
        }
        for body in
            ["", "<html>", "[]", "7", r#"{"retry_after":null}"#, r#"{"retry_after":-1}"#, r#"{"retry_after":{}}"#]
        {
            assert_eq!(asked_by(&[], body), None, "{body}");
        }
    }
}
