//! Sample events: a body exactly as its sender sends it, and beside it, under the same name with the ending
//! `.headers`, its headers, one `Name: value` a line. What proves the sender is left out; it is made when needed.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// One sample event.
#[derive(Debug)]
pub struct Sample {
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Reads the sample whose body is at `path`.
///
/// # Errors
/// Where a file is missing or a header is none; the words name the file.
pub fn read(path: &Path) -> io::Result<Sample> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let body = std::fs::read(path).map_err(|error| named(path, error))?;
    let beside = path.with_extension("headers");
    let text = std::fs::read_to_string(&beside).map_err(|error| named(&beside, error))?;
    let mut headers = HeaderMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            HeaderValue::try_from(value.trim()).ok().map(|value| (name, value))
        });
        let wrong = || named(&beside, io::Error::other(format!("`{line}` is no header")));
        let (name, value) = header.ok_or_else(wrong)?;
        headers.append(name, value);
    }
    Ok(Sample { headers, body: body.into() })
}

/// The file that `name` means: a path, or `type/case` below `events/`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.is_file() {
        return Some(path.to_owned());
    }
    let below = Path::new("events").join(path);
    let stem = below.file_name()?;
    let mut matching: Vec<_> = std::fs::read_dir(below.parent()?)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.file_stem() == Some(stem) && is_body(file))
        .collect();
    matching.sort();
    matching.into_iter().next()
}

/// Whether a file in `events/` is the body of a sample: what lies beside it are its headers, what should come out of
/// it, and the relay-file entry that the folder's samples are for.
pub fn is_body(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending != "headers" && ending != "golden" && ending != "yaml")
}
