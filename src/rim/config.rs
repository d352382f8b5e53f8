//! Finding the relay file: all the forms of `SLUICE_CONFIG`.

use std::io::Read as _;

use data_encoding::BASE64;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::yaml::{self, Document};
use crate::domain::secret::SecretRef;
use crate::port::{FetchError, SecretBackend};
use crate::relay::Relay;
use crate::relay::extent::Extent;

/// The environment variable that says where the relay file is.
pub const VARIABLE: &str = "SLUICE_CONFIG";

/// A relay file may unpack to this many bytes.
const MAX_UNPACKED: u64 = 8 * 1024 * 1024;

/// Why there is no relay file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody said where it is.
    #[error("{VARIABLE} is not set; it names the relay file: file:path, ssm:/name, or the JSON itself")]
    Unset,
    /// It is not where it should be, or cannot be read.
    #[error("the relay file cannot be read: {0}")]
    Unreadable(String),
    /// The store that it is in cannot be reached: another time it may work.
    #[error("the relay file cannot be had at the moment: {0}")]
    Unavailable(String),
    /// It is not YAML or JSON.
    #[error("the relay file is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// It is not a sound relay file; one problem a line.
    #[error("the relay file has problems:\n{0}")]
    Unsound(String),
}

/// The text of the relay file that `place` names: `file:path`; `ssm:/name` or `ssm:/name:version`, of which several
/// joined by commas are one text; or the text itself. Text may be gzip in base64.
///
/// # Errors
/// [`ConfigError::Unreadable`] and [`ConfigError::Unavailable`] say what could not be read.
pub async fn text(place: &str, store: &dyn SecretBackend) -> Result<String, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable(why);
    let text = if let Some(path) = place.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|error| unreadable(format!("{path}: {error}")))?
    } else if place.starts_with("ssm:") {
        let references: Result<Vec<_>, _> = place.split(',').map(|part| SecretRef::parse(part.trim())).collect();
        let references = references.map_err(unreadable)?;
        let mut text = String::new();
        for (reference, part) in references.iter().zip(store.current(&references).await) {
            let part = part.map_err(|error| {
                let why = format!("{reference}: {error}");
                if matches!(error, FetchError::Unavailable(_)) {
                    ConfigError::Unavailable(why)
                } else {
                    unreadable(why)
                }
            })?;
            text.push_str(part.value.expose_text().ok_or_else(|| unreadable(format!("{reference}: not text")))?);
        }
        text
    } else {
        place.to_owned()
    };
    unpack(text)
}

/// Text that is gzip in base64 begins with `H4sI`, which no relay file does.
fn unpack(text: String) -> Result<String, ConfigError> {
    if !text.trim_start().starts_with("H4sI") {
        return Ok(text);
    }
    let packed: String = text.split_ascii_whitespace().collect();
    let wrong = |why: &dyn std::fmt::Display| ConfigError::Unreadable(format!("not gzip in base64: {why}"));
    let packed = BASE64.decode(packed.as_bytes()).map_err(|error| wrong(&error))?;
    let mut plain = String::new();
    let mut unpacker = GzDecoder::new(&packed[..]).take(MAX_UNPACKED);
    unpacker.read_to_string(&mut plain).map_err(|error| wrong(&error))?;
    Ok(plain)
}

/// Parses the text of a relay file, and keeps the place of every value.
///
/// # Errors
/// [`ConfigError::Syntax`].
pub fn document(text: &str) -> Result<Document, ConfigError> {
    yaml::parse(text).map_err(ConfigError::Syntax)
}

/// The relay file that the environment names, for a function that needs no more of its sources and targets than `E` has.
///
/// # Errors
/// Any [`ConfigError`].
pub async fn from_environment<E: Extent>(store: &dyn SecretBackend) -> Result<Relay, ConfigError> {
    let place = std::env::var(VARIABLE).map_err(|_| ConfigError::Unset)?;
    let text = text(&place, store).await?;
    // What the module deploys is JSON, which needs no search for places.
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => document(&text)?.value,
    };
    Relay::from_value_of::<E>(&value).map_err(ConfigError::Unsound)
}
