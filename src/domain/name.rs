//! Names of sources, targets and agents.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::relay::format::{At, Problems, Read, parsed};

/// A name: `[a-z0-9][a-z0-9-]{0,62}`, and not `healthz`, which is a path of our own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Checks the form; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if text == "healthz" {
            return Err("the name `healthz` is reserved".into());
        }
        let fits =
            (1..=63).contains(&text.len()) && text.starts_with(valid) && text.chars().all(|c| valid(c) || c == '-');
        if !fits {
            return Err(
                "a name has 1 to 63 lower-case letters, digits and dashes, and does not begin with a dash".into()
            );
        }
        Ok(Self(text.into()))
    }

    /// What stands for the relay itself where others have a source's name.
    pub fn of_the_relay() -> Self {
        Self("sluice".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Read for Name {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, Self::parse)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_that_are_not_reserved() {
        for good in ["a", "github", "0-x", &"a".repeat(63)] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "healthz", &"a".repeat(64)] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
    }
}
