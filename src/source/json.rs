//! JSON out of requests. Only what is used is declared and kept: a body of 3 MiB must not become a tree of values.

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
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
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let wrong = |error: &serde_json::Error, path: Option<String>| {
        let (line, column) = (error.line(), error.column());
        ParseError::Malformed(match (error.classify(), path) {
            (Category::Data, Some(path)) => {
                format!("the body's `{path}` is not what this sender sends (line {line}, column {column})").into()
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

/// Reads a JSON body that is one `T`, or an array of them.
pub fn one_or_many<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<Vec<T>, ParseError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => read(body),
        _ => Ok(vec![read(body)?]),
    }
}

/// A time as senders write it: RFC 3339, or the seconds since 1970, which may be a float. What is neither is no time:
/// no push is lost over one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment(pub Option<Timestamp>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(f64),
            Text(String),
            Other(IgnoredAny),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Seconds(seconds) => {
                SignedDuration::try_from_secs_f64(seconds).ok().and_then(|since| Timestamp::from_duration(since).ok())
            }
            Form::Text(text) => text.parse().ok(),
            Form::Other(IgnoredAny) => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_every_form_and_never_refuses_a_body() {
        let moment = |json: &str| read::<Moment>(json.as_bytes()).expect("never refused").0;
        let expected = "2014-12-03T00:22:41Z".parse().ok();
        for json in ["1417566161", "1.417566161e+09", "1417566161.0", "\"2014-12-03T00:22:41Z\""] {
            assert_eq!(moment(json), expected, "{json}");
        }
        for json in ["null", "\"\"", "\"yesterday\"", "1e300", "true", "[1]", "{\"a\":1}"] {
            assert_eq!(moment(json), None, "{json}");
        }
    }

    #[test]
    fn one_value_and_an_array_of_values_read_alike() {
        assert_eq!(one_or_many::<u8>(b" 1"), Ok(vec![1]));
        assert_eq!(one_or_many::<u8>(b"\n[1, 2]"), Ok(vec![1, 2]));
        assert_eq!(one_or_many::<u8>(b"[]"), Ok(vec![]));
        assert!(one_or_many::<u8>(b"").is_err());
    }
}
