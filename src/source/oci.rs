//! What registries' events have in common: how an image is named (distribution-spec 1.1, «Pulling manifests»).

use crate::domain::event::ImagePush;

/// The text, if it is a digest: `sha256:` and 64 hex digits, or `sha512:` and 128.
pub fn digest(text: &str) -> Option<&str> {
    let (algorithm, hex) = text.split_once(':')?;
    let length = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    (hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(text)
}

/// The canonical form of a repository: lower case (a tag never is), no scheme, no slashes at its ends. The port of
/// the host stays.
pub fn repository(name: &str) -> String {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.trim_matches('/').to_lowercase()
}

/// The repository out of a full reference: without `@digest`, and without `:tag` (a colon before the last slash
/// belongs to the host's port). A tag may be empty: GitHub writes `ghcr.io/acme/app:` for an untagged version.
pub fn repository_of(reference: &str) -> Option<&str> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let path = name.rfind('/')?;
    let name = name[path..].find(':').map_or(name, |colon| &name[..path + colon]);
    (!name.is_empty()).then_some(name)
}

/// The tag in a full reference; a digest is none.
pub fn tag_of(reference: &str) -> Option<&str> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let (_, tag) = name[name.rfind('/')?..].split_once(':')?;
    (!tag.is_empty() && digest(tag).is_none()).then_some(tag)
}

/// The media types that an event tells of one manifest.
#[derive(Debug, Clone, Default)]
pub struct MediaType {
    /// Of the manifest itself.
    pub manifest: Option<String>,
    /// Of its configuration, which is what tells a Helm chart from an image.
    pub config: Option<String>,
}

impl MediaType {
    /// The one that says most: the configuration's, where it is not just an image's; else the manifest's.
    pub fn best(self) -> Option<String> {
        let image = |kind: &str| {
            matches!(
                kind,
                "application/vnd.oci.image.config.v1+json"
                    | "application/vnd.docker.container.image.v1+json"
                    | "application/vnd.oci.empty.v1+json"
            )
        };
        self.config.filter(|kind| !kind.is_empty() && !image(kind)).or(self.manifest.filter(|kind| !kind.is_empty()))
    }
}

/// The pushed thing as people write it: `repository:tag`, or `repository@digest`.
pub fn reference(push: &ImagePush) -> String {
    match (push.tags.as_slice(), &push.digest) {
        ([], Some(digest)) => format!("{}@{digest}", push.repository),
        ([], None) => push.repository.clone(),
        (tags, _) => format!("{}:{}", push.repository, tags.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_taken_out_of_every_form_of_reference() {
        for (reference, expected) in [
            ("ghcr.io/acme/app:1.2", "ghcr.io/acme/app"),
            ("ghcr.io/acme/app:", "ghcr.io/acme/app"),
            ("localhost:5000/acme/app", "localhost:5000/acme/app"),
            ("localhost:5000/acme/app:1@sha256:00", "localhost:5000/acme/app"),
        ] {
            assert_eq!(repository_of(reference), Some(expected));
        }
        assert_eq!(repository("https://GHCR.io/Acme/App/"), "ghcr.io/acme/app");
    }

    #[test]
    fn the_tag_of_a_reference_is_what_follows_the_last_colon_of_its_last_part() {
        let digest = format!("host.example/app:sha256:{}", "a".repeat(64));
        for (reference, expected) in [
            ("ghcr.io/acme/app:1.2", Some("1.2")),
            ("localhost:5000/acme/app", None),
            ("localhost:5000/acme/App:RC@sha256:00", Some("RC")),
            ("ghcr.io/acme/app:", None),
            (&digest, None),
        ] {
            assert_eq!(tag_of(reference), expected, "{reference}");
        }
    }

    #[test]
    fn only_whole_digests_are_digests() {
        assert!(digest(&format!("sha256:{}", "a".repeat(64))).is_some());
        for text in ["latest", "sha256:abc", &format!("sha1:{}", "a".repeat(40)), &"a".repeat(64)] {
            assert!(digest(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_charts_configuration_says_more_than_its_manifest() {
        let kind = |config: &str| {
            MediaType { manifest: Some("manifest".into()), config: Some(config.into()) }.best().expect("one")
        };
        assert_eq!(kind("application/vnd.cncf.helm.config.v1+json"), "application/vnd.cncf.helm.config.v1+json");
        assert_eq!(kind("application/vnd.oci.image.config.v1+json"), "manifest");
        assert_eq!(kind(""), "manifest");
    }
}
