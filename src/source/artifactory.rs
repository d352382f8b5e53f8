//! JFrog Artifactory's webhooks, of the domain `docker`, which is that of OCI artifacts, too.
//!
//! One header has two meanings: `X-JFrog-Event-Auth` is the secret or, with «Use secret for payload signing», the hex
//! HMAC-SHA256 of the body, without anything before it. Which of them, `mode` says: who expects signatures must not take
//! the bare secret. Time-out and retries are undocumented.
//!
//! Oddities: there is no id, no time and nobody who pushed, so that each request is an event of its own. `image_name` is
//! sometimes only the last part of a nested name: the path is what counts, without its last two parts (tag and file).
//! `jpd_origin` is missing where the server has no base URL. An image that is pulled from a virtual repository is told of
//! under the local one's name: `virtual_repository`. Where the repository is part of the host («subdomain» or a port), it
//! is not part of the name: `repository_hosts`. The same upload is told in the domain `artifact`, too. A promotion
//! (`promoted`) names the repository that the image came from. The button «Test» sends names that begin with `sample`.
//! Sources: docs.jfrog.com/integrations, «Predefined Webhooks»; jfrog/terraform-provider-artifactory, webhook resources;
//! akuity/kargo, pkg/webhook/external/artifactory.go, and its issues 4498, 4899, 4945 and 5222 (read 2026-08).

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{self, AuthError, Authentic, Mode, SignatureHeader};
use super::json::text;
use super::oci::{self, RepositoryKeys};
use super::{Found, ParseError, Parsed, Request, Source, git, json};
use crate::domain::event::Detail;
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{Algorithm, Encoding};
use crate::relay::format::OneOrMany;

crate::keys! {
    /// An `artifactory` source.
    pub struct Artifactory {
        ..repositories: RepositoryKeys,
        /// The webhook's secret; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// What Artifactory does with it: `hmac` («Use secret for payload signing»), or `token`.
        mode: Mode = Mode::Hmac,
        /// The virtual repository that images are pulled from, which stands in their names in place of the one that
        /// they were pushed to.
        virtual_repository: Option<String>,
    }
}

const HEADER: &str = "X-JFrog-Event-Auth";

const SIGNATURE: SignatureHeader<'static> =
    SignatureHeader { name: HEADER, prefix: "", algorithm: Algorithm::Sha256, encoding: Encoding::Hex };

impl Source for Artifactory {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        _now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        match self.mode {
            Mode::Hmac => auth::hmac(request, SIGNATURE, &self.secret.0, secrets),
            Mode::Token => auth::header(request, HEADER, false, &self.secret.0, secrets),
        }
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        self.push(json::read(&request.body)?)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        match self.mode {
            Mode::Hmac => SIGNATURE.sign(request, &self.secret.0[0], secrets),
            Mode::Token => auth::repeat(request, HEADER, &self.secret.0, secrets),
        }
    }
}

#[derive(Deserialize)]
struct Data {
    repo_key: Option<String>,
    path: Option<String>,
    sha256: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    domain: Option<String>,
    event_type: Option<String>,
    data: Option<Data>,
    jpd_origin: Option<String>,
}

impl Artifactory {
    fn push(&self, payload: Payload) -> Result<Parsed, ParseError> {
        let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
        let domain = text(payload.domain).ok_or_else(|| missing("domain"))?;
        let event = text(payload.event_type).ok_or_else(|| missing("event_type"))?;
        let summary = format!("{domain} {event}");
        if (domain.as_str(), event.as_str()) != ("docker", "pushed") {
            return Ok(Parsed::ignored(summary, "not a push of an image"));
        }
        let data = payload.data.ok_or_else(|| missing("data"))?;
        let repository = text(data.repo_key).ok_or_else(|| missing("data.repo_key"))?;
        let path = text(data.path).ok_or_else(|| missing("data.path"))?;
        let digest = text(data.sha256).map(|sum| format!("sha256:{sum}"));
        if digest.as_deref().is_some_and(|digest| oci::digest(digest).is_none()) {
            return Ok(Parsed::ignored(summary, "a test; the webhook works"));
        }
        // IMAGE/TAG/manifest.json, and an image's name may have slashes.
        let mut parts = path.trim_matches('/').rsplitn(3, '/');
        let (_, tag, image) = (parts.next(), parts.next(), parts.next());
        let image = image.ok_or(ParseError::Malformed("the body's `data.path` is not IMAGE/TAG/FILE".into()))?;
        // A manifest without a tag lies under its digest, whose colon no file system has to like.
        let tag = text(data.tag).or(tag.map(str::to_owned)).map(|tag| tag.replacen("sha256__", "sha256:", 1));
        let name = match self.repositories.prefix(&repository) {
            Some(prefix) => format!("{prefix}/{image}"),
            None => {
                let origin = payload.jpd_origin.as_deref().and_then(git::host);
                let host = self.repositories.host.host(origin.as_deref());
                let host = host.ok_or(ParseError::Malformed(
                    format!("the body's `jpd_origin` is missing: {}", oci::NO_HOST).into(),
                ))?;
                format!("{host}/{}/{image}", self.virtual_repository.as_ref().unwrap_or(&repository))
            }
        };
        let push = oci::push(&name, tag, digest.as_deref()).ok_or_else(|| missing("data.tag"))?;
        Ok(oci::pushes(vec![Found { identity: None, detail: Detail::ImagePush(push), time: None }]))
    }
}
