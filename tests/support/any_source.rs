//! Any bytes at any source: what the fuzz target and the property test do with them.
#![allow(dead_code, reason = "the fuzz target and the property test use their own parts of this")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use sluice::domain::name::Name;
use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::Relay;
use sluice::rim::local::samples::{self, Sample};
use sluice::rim::yaml;
use sluice::source::{Request, TYPES, Via};

/// A source with its samples.
pub struct AnySource {
    pub name: Name,
    relay: Relay,
    secrets: Resolved,
    pub samples: Vec<(PathBuf, Sample)>,
}

/// All types, with what `events/` below `root` has of them.
pub fn all(root: &Path) -> Vec<AnySource> {
    TYPES.iter().map(|of| AnySource::load(root, of.name)).collect()
}

impl AnySource {
    fn load(root: &Path, of: &str) -> Self {
        let folder = root.join("events").join(of);
        let text = std::fs::read_to_string(folder.join("source.yaml")).expect("source.yaml");
        let entry = yaml::parse(&text).expect("YAML").value;
        let file = serde_json::json!({ "sources": { of: entry } });
        let relay = Relay::from_value(&file).unwrap_or_else(|why| panic!("{of}: {why}"));
        let mut secrets = Resolved::default();
        for reference in relay.sources[of].secrets() {
            secrets.insert(reference.clone(), vec![Secret::new("whsec_dGhlIGZpcnN0IHNlY3JldCBvZiB0aGlzIHNvdXJjZQ==")]);
        }
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).expect("folder").map(|file| file.expect("file").path()).collect();
        files.retain(|file| samples::is_body(file));
        files.sort();
        let samples = files.into_iter().map(|file| (file.clone(), samples::read(&file).expect("sample"))).collect();
        Self { name: Name::parse(of).expect("name"), relay, secrets, samples }
    }

    /// Signs `body` under the headers of a sample and takes it through the source, both by HTTP and by invocation. It
    /// must not panic, and what it says of the body must not repeat it at length.
    pub fn take(&self, sample: usize, body: &[u8]) {
        let entry = &self.relay.sources[&self.name];
        let (_, sample) = &self.samples[sample % self.samples.len()];
        for via in [Via::Http, Via::Invocation] {
            let mut request = Request {
                via,
                source: self.name.clone(),
                token: None,
                method: http::Method::POST,
                headers: sample.headers.clone(),
                body: Bytes::copy_from_slice(body),
                address: None,
            };
            let now = "2026-08-20T12:00:00Z".parse().expect("time");
            // Headers alone, unsigned, have to be refused; some kinds of secret cannot sign at all.
            let _ = entry.authenticate(&request, &self.secrets, now).map(drop);
            if entry.source.sign(&mut request, &self.secrets, now).is_err() {
                continue;
            }
            if let Ok(authentic) = entry.authenticate(&request, &self.secrets, now)
                && let Err(error) = entry.source.parse(authentic)
            {
                assert!(error.to_string().len() < 1000, "an error repeats its input: {error}");
            }
        }
    }
}
