//! JSON out of requests. Only what is used is declared and kept: a body of 3 MiB must not become a tree of values.

use serde::Deserialize;
use serde_json::error::Category;

use super::ParseError;

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
