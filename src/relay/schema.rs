//! The relay file's JSON Schema, made from the same descriptions that read it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::extent::Whole;
use super::format::{KeyDescription, Read, object_schema};
use super::mute::Window;
use super::{EgressKeys, Entries, Of, Route, SourceEntry, TargetEntry};
use crate::domain::matcher::When;

/// The schema of an entry of the type `name` with these keys.
pub(super) fn typed(name: &str, keys: &[KeyDescription]) -> Value {
    let mut schema = object_schema(keys);
    schema["properties"]["type"] = json!({ "const": name });
    match schema.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.insert(0, "type".into()),
        None => schema["required"] = json!(["type"]),
    }
    schema
}

/// The JSON Schema (draft 2020-12) of a relay file.
pub fn json_schema() -> Value {
    let mut route = Route::schema();
    route["properties"]["when"] = json!({ "$ref": "#/$defs/when" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sluice relay file",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "sources": Entries::<Of<Whole, SourceEntry>>::schema(),
            "targets": Entries::<Of<Whole, TargetEntry>>::schema(),
            "routes": { "type": "array", "items": route },
            "windows": BTreeMap::<String, Window>::schema(),
            "egress": EgressKeys::schema(),
        },
        "$defs": { "when": When::schema() },
    })
}
