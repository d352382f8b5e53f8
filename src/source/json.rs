//! JSON out of requests. Only what is used is declared and kept: a body of 3 MiB must not become a tree of values.

use std::fmt;

use jiff::Timestamp;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::{ParseError, Request};

/// Checks that the body is declared as JSON of some kind, or as nothing at all.
pub fn declared(request: &Request) -> Result<(), ParseError> {
    match request.media_type().as_deref() {
        None | Some("application/json" | "text/json") => Ok(()),
        Some(kind) if kind.ends_with("+json") => Ok(()),
        Some(_) => Err(ParseError::UnsupportedMediaType("this sender sends application/json or a +json type".into())),
    }
}

/// Reads `T` out of a JSON body. The error names the field's place, never its content.
pub fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ParseError> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        ParseError::Malformed(match error.classify() {
            Category::Data => {
                let path = path_at(body, line, column);
                format!("the body's `{path}` is not what this sender sends (line {line}, column {column})").into()
            }
            Category::Eof => format!("the body ends too early to be JSON (line {line}, column {column})").into(),
            _ => format!("the body is not JSON (line {line}, column {column})").into(),
        })
    })
}

/// The path of the value that ends at a line and column of a JSON text (both from 1, the column in bytes). It is
/// looked for only once something is wrong: tracking it all along doubles the code of every type that is read.
fn path_at(body: &[u8], line: usize, column: usize) -> String {
    enum Inside<'a> {
        /// The key that was read last; none after a comma.
        Object(Option<&'a [u8]>),
        List(usize),
    }
    let start = match line {
        0 | 1 => 0,
        line => body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let end = body.len().min(start.saturating_add(column));
    let mut inside: Vec<Inside<'_>> = Vec::new();
    let mut at = 0;
    while at < end {
        match body[at] {
            b'{' => inside.push(Inside::Object(None)),
            b'[' => inside.push(Inside::List(0)),
            b'}' | b']' => drop(inside.pop()),
            b',' => match inside.last_mut() {
                Some(Inside::Object(key)) => *key = None,
                Some(Inside::List(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let from = at + 1;
                at = from;
                while at < end && body[at] != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(Inside::Object(key @ None)) = inside.last_mut() {
                    *key = Some(&body[from..at.min(end)]);
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for step in &inside {
        match step {
            Inside::Object(Some(key)) => {
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(dot);
                path.extend(String::from_utf8_lossy(key).chars().take(LONGEST_KEY));
            }
            Inside::Object(None) => {}
            Inside::List(index) => path.push_str(&format!("[{index}]")),
        }
    }
    if path.is_empty() { ".".into() } else { path.chars().take(LONGEST_PATH).collect() }
}

/// Of a key in a path at most this much is named, in characters.
const LONGEST_KEY: usize = 60;
/// Of a path, this much.
const LONGEST_PATH: usize = 300;

/// A text that is worth something: `None` for a missing, null or empty one.
pub fn text(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// A list; null is an empty one (Go writes null for a list that nobody filled).
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A time that is passed on and decides nothing: a missing, zero or strangely written one is `None`, never a reason
/// to lose an event. Read are RFC 3339, what Ruby writes (`2026-08-20 12:00:00 UTC`), offsets without a colon, and Unix
/// time in seconds or milliseconds.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    struct Time;

    /// From here on a number is taken for milliseconds: as seconds it would be in the year 5138.
    const MILLISECONDS: i64 = 100_000_000_000;

    impl<'de> Visitor<'de> for Time {
        type Value = Option<Timestamp>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            let ruby = || {
                let mut parts = text.split(' ');
                let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
                let zone = if zone == "UTC" { "Z" } else { zone };
                format!("{date}T{time}{zone}").parse().ok()
            };
            Ok(text.parse().ok().or_else(ruby).filter(|time: &Timestamp| *time > Timestamp::UNIX_EPOCH))
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            let time = match number {
                MILLISECONDS.. => Timestamp::from_millisecond(number).ok(),
                1.. => Timestamp::from_second(number).ok(),
                _ => None,
            };
            Ok(time)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            i64::try_from(number).map_or(Ok(None), |number| self.visit_i64(number))
        }

        // Only whole seconds or milliseconds are meant; out of range is at the end of the range, and that is no time.
        #[allow(clippy::cast_possible_truncation)]
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            self.visit_i64(number as i64)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Time)
}

/// Reads a JSON body that is one `T`, or an array of them.
pub fn one_or_many<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<Vec<T>, ParseError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => read(body),
        _ => Ok(vec![read(body)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "time")]
        time: Option<Timestamp>,
        #[serde(default, deserialize_with = "list")]
        list: Vec<String>,
    }

    #[test]
    fn times_are_read_as_senders_write_them() {
        for (written, expected) in [
            (r#""2026-08-20T12:02:10+02:00""#, "2026-08-20T10:02:10Z"),
            (r#""2026-08-20T12:02:10+0200""#, "2026-08-20T10:02:10Z"),
            (r#""2026-08-20 10:02:10 UTC""#, "2026-08-20T10:02:10Z"),
            (r#""2026-08-20 12:02:10 +0200""#, "2026-08-20T10:02:10Z"),
            ("1787220130", "2026-08-20T10:02:10Z"),
            ("1787220130000", "2026-08-20T10:02:10Z"),
            ("1.78722013e9", "2026-08-20T10:02:10Z"),
        ] {
            let body = format!(r#"{{"time":{written}}}"#);
            let time = read::<Sample>(body.as_bytes()).expect("read").time.expect(written);
            assert_eq!(time.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_time_is_none_and_never_an_error() {
        for written in
            [r#""0001-01-01T00:00:00Z""#, r#""soon""#, r#""""#, "null", "0", "-1", "1e300", "true", "[1]", r#"{"a":1}"#]
        {
            let body = format!(r#"{{"time":{written}}}"#);
            assert_eq!(read::<Sample>(body.as_bytes()).expect(written).time, None, "{written}");
        }
    }

    #[test]
    fn the_place_of_what_is_wrong_is_named_and_its_content_is_not() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            name: String,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            inner: Option<Inner>,
            #[serde(default)]
            all: Vec<Inner>,
        }
        for (body, path) in [
            (r#"{"x":{"name":1},"inner":{"name":["hunter2"]}}"#, "`inner.name`"),
            (r#"{"inner":{"name":"\\"{,","name":42}}"#, "`inner.name`"),
            ("{\n \"all\": [{\"name\":\"a\"},\n {\"name\": {\"hunter2\":1}}]}", "`all[1].name`"),
            (r#"{"all":[{"name":"a"},"hunter2"]}"#, "`all[1]`"),
            (r#"{"inner":{"other":[1,2]},"all":[]}"#, "`inner`"),
            (r#"["hunter2"]"#, "`[0]`"),
            (r#""hunter2""#, "`.`"),
        ] {
            let why = read::<Outer>(body.as_bytes()).expect_err(body).to_string();
            assert!(why.contains(path) && !why.contains("hunter2"), "{body}: {why}");
        }
        let long = format!(r#"{{"inner":{{"{}":1,"name":1}}}}"#, "k".repeat(10_000));
        assert!(read::<Outer>(long.as_bytes()).expect_err("wrong").to_string().len() < 500);
    }

    #[test]
    fn a_list_may_be_null_or_left_out() {
        assert!(read::<Sample>(br#"{"list":null}"#).expect("read").list.is_empty());
        assert!(read::<Sample>(b"{}").expect("read").list.is_empty());
    }

    #[test]
    fn one_value_and_an_array_of_values_read_alike() {
        assert_eq!(one_or_many::<u8>(b" 1"), Ok(vec![1]));
        assert_eq!(one_or_many::<u8>(b"\n[1, 2]"), Ok(vec![1, 2]));
        assert_eq!(one_or_many::<u8>(b"[]"), Ok(vec![]));
        assert!(one_or_many::<u8>(b"").is_err());
    }
}
