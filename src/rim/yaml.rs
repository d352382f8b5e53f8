//! YAML (and JSON, which is YAML) with the place of every value.

use std::collections::HashMap;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

use crate::relay::format::At;

/// A parsed document.
#[derive(Debug)]
pub struct Document {
    /// The values.
    pub value: Value,
    places: HashMap<String, (usize, usize)>,
}

impl Document {
    /// Line and column (from 1) of the value at a JSON pointer, or of the nearest one above it.
    pub fn place(&self, pointer: &str) -> Option<(usize, usize)> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(*place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// Reads one document. The error says where it stops being YAML.
pub fn parse(text: &str) -> Result<Document, String> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let place = error.marker();
        format!("line {}, column {}: {}", place.line(), place.col() + 1, error.info())
    })?;
    let [document] = &documents[..] else {
        return Err(format!("expected one YAML document, found {}", documents.len()));
    };
    let mut places = HashMap::new();
    let value = convert(document, &At::root(), &mut places)?;
    Ok(Document { value, places })
}

fn convert(node: &MarkedYaml<'_>, at: &At, places: &mut HashMap<String, (usize, usize)>) -> Result<Value, String> {
    let (line, column) = (node.span.start.line(), node.span.start.col() + 1);
    places.insert(at.pointer().to_owned(), (line, column));
    let wrong = |what: &str| format!("line {line}, column {column}: {what}");
    match &node.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Ok(Value::Null),
            Scalar::Boolean(truth) => Ok((*truth).into()),
            Scalar::Integer(number) => Ok((*number).into()),
            Scalar::FloatingPoint(number) => {
                Number::from_f64(number.into_inner()).map(Value::Number).ok_or_else(|| wrong("not a number"))
            }
            Scalar::String(text) => Ok(text.as_ref().into()),
        },
        YamlData::Sequence(items) => {
            let items = items.iter().enumerate().map(|(i, item)| convert(item, &at.child(i), places));
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        YamlData::Mapping(entries) => {
            let mut object = Map::new();
            for (key, value) in entries {
                let key = match &key.data {
                    YamlData::Value(Scalar::String(text)) => text.to_string(),
                    YamlData::Value(Scalar::Integer(number)) => number.to_string(),
                    YamlData::Value(Scalar::Boolean(truth)) => truth.to_string(),
                    _ => return Err(wrong("a key has to be a text")),
                };
                let value = convert(value, &at.child(&key), places)?;
                object.insert(key, value);
            }
            Ok(Value::Object(object))
        }
        YamlData::Tagged(..) => Err(wrong("YAML tags are not used here")),
        _ => Err(wrong("this cannot be read as a value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        let document = parse("sources:\n  a: { type: github,\n       secret: [x, y] }\n").expect("YAML");
        assert_eq!(document.value["sources"]["a"]["secret"][1], "y");
        assert_eq!(document.place("/sources/a/secret/1"), Some((3, 20)));
        assert_eq!(document.place("/sources/a/missing"), document.place("/sources/a"));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        for (text, expected) in
            [("a: [1, 2", "line "), ("a: 1\na: 2\n", "line 2"), ("a: !x 1", "line 1"), ("a\n---\nb", "one YAML")]
        {
            let why = parse(text).expect_err(text);
            assert!(why.contains(expected), "{why}");
        }
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(
            parse(r#"{"a": [1, true, null, "b"]}"#).expect("JSON").value,
            serde_json::json!({"a": [1, true, null, "b"]})
        );
    }
}
