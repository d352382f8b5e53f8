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
    read_below(body, "")
}

/// Reads `T` out of JSON that is a part of a body, or a text in it; `place` is where in the body that stands.
pub fn read_part<'de, T: Deserialize<'de>>(part: &'de str, place: &str) -> Result<T, ParseError> {
    read_below(part.as_bytes(), &format!("{place}."))
}

fn read_below<'de, T: Deserialize<'de>>(body: &'de [u8], place: &str) -> Result<T, ParseError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let wrong = |error: &serde_json::Error, path: Option<String>| {
        let (line, column) = (error.line(), error.column());
        ParseError::Malformed(match (error.classify(), path) {
            (Category::Data, Some(path)) => {
                format!("the body's `{place}{path}` is not what this sender sends (line {line}, column {column})")
                    .into()
            }
            (Category::Eof, _) => format!("the body ends too early to be JSON (line {line}, column {column})").into(),
            _ => format!("the body is not JSON (line {line}, column {column})").into(),
        })
    };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| wrong(error.inner(), Some(error.path().to_string())))?;
    deserializer.end().map_err(|error| wrong(&error, None))?;
    Ok(value)
}

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
