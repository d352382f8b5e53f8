//! What events of AWS have in common.

use serde_json::{Value, json};

use crate::relay::format::{At, Problems, Read, kind_of};

/// The number of an AWS account: twelve digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountId(pub String);

impl Read for AccountId {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        // YAML makes a number of what is written without quotes; one that lost its leading zeros is too short.
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                problems.error(at, format!("expected the number of an account, found {}", kind_of(other)));
                return None;
            }
        };
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            problems.error(at, "an AWS account has twelve digits; write it in quotes");
            return None;
        }
        Some(Self(text))
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]{12}$" }, { "type": "integer" }] })
    }
}
