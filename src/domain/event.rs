//! What happened, normalised: the same shape whoever the sender was.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::alert::{Alert, Alerts};
use crate::domain::name::Name;
use crate::domain::signature;

/// One normalised event. Its JSON is the body that `generic` Flux Receivers and `http` targets get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing happened, with what is known of it.
    #[serde(flatten)]
    pub detail: Detail,
    /// Stable over redeliveries of the same event: 32 hex digits.
    pub id: String,
    /// Name of the source it came by.
    pub source: Name,
    /// The cluster that the source speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Labels of the source, and what the event itself carries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it happened, as the sender says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Detail {
    /// An image, chart or other OCI artifact was pushed to a registry.
    ImagePush(ImagePush),
    /// Something happened in a Git repository or at its host.
    Git(Box<GitEvent>),
    /// Something is wrong, is over, or just happened.
    Alert(Box<Alerts>),
}

/// A push to a registry: one manifest, under no, one or several tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePush {
    /// Registry host (with its port, if it has one) and path, in lower case: `ghcr.io/acme/app`.
    pub repository: String,
    /// The first tag; missing where the manifest was pushed by digest alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// All tags of this push.
    pub tags: Vec<String>,
    /// Digest of the manifest, with its algorithm: `sha256:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Media type of the manifest or, where that says less, of its configuration (which tells a Helm chart).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Something that happened in a Git repository or at its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitEvent {
    /// The event in the words of the sender: `push`, `release`, `workflow_run` …
    pub event: String,
    /// What of it: `published`, `completed` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Host and path of the repository: `github.com/acme/app`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The URLs it can be cloned from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone_urls: Vec<String>,
    /// The full ref that moved: `refs/heads/main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The branch, where the ref is one or the sender names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag, where the ref is one or the sender names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The commit before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The commit that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Paths that the listed commits touched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether the sender listed only some of the commits, so that `paths` may lack some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paths_truncated: bool,
    /// Whether the ref was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// How it ended, for what has an end: `success`, `failure` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The name of what it is about: a workflow, an environment, a release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First line of the newest commit's message, or the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A page about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl GitEvent {
    /// Sets the full ref, and by it the branch or tag.
    pub fn set_reference(&mut self, reference: &str) {
        self.branch = reference.strip_prefix("refs/heads/").map(Into::into);
        self.tag = reference.strip_prefix("refs/tags/").map(Into::into);
        self.reference = Some(reference.into());
    }
}

/// The sender's own request, for targets that get it passed through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// Media type of the body. A form delivery has been unpacked to the JSON it carries.
    pub content_type: String,
    /// The headers that name the event and the delivery; never one that authenticates.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: bytes::Bytes,
}

impl Event {
    /// The id of the event with this `identity` from `source`: the same for a redelivery.
    pub fn id_of(source: &Name, identity: &str) -> String {
        signature::digest(&["event", source.as_str(), identity])[..32].to_owned()
    }

    /// The kind as matchers and metrics name it.
    pub fn kind(&self) -> &'static str {
        match self.detail {
            Detail::ImagePush(_) => "image_push",
            Detail::Git(_) => "git",
            Detail::Alert(_) => "alert",
        }
    }

    /// As JSON of at most `limit` bytes: where it is longer, without what makes it long, the paths of a push and the
    /// texts of alerts. `None` where that is still too long.
    pub fn json_within(&self, limit: usize) -> Option<String> {
        let whole = |event: &Self| serde_json::to_string(event).ok().filter(|json| json.len() <= limit);
        whole(self).or_else(|| {
            let mut shorter = self.clone();
            match &mut shorter.detail {
                Detail::Git(git) => {
                    git.paths.clear();
                    git.paths_truncated = true;
                }
                Detail::Alert(group) => group.alerts.iter_mut().for_each(|alert| alert.text = None),
                Detail::ImagePush(_) => {}
            }
            whole(&shorter)
        })
    }

    /// What conditions are judged on: each alert of a group by itself, and everything else as a whole.
    pub fn subjects(&self) -> Vec<Subject<'_>> {
        match &self.detail {
            Detail::Alert(group) => {
                group.alerts.iter().map(|alert| Subject { event: self, alert: Some(alert) }).collect()
            }
            _ => vec![Subject { event: self, alert: None }],
        }
    }

    /// The event with only those of its [`subjects`](Self::subjects) that are `taken`, of which there is one at least.
    pub fn only(&self, taken: &[bool]) -> Cow<'_, Self> {
        match &self.detail {
            Detail::Alert(group) if !taken.iter().all(|taken| *taken) => {
                let alerts = group.alerts.iter().zip(taken).filter(|(_, taken)| **taken);
                let alerts = alerts.map(|(alert, _)| alert.clone()).collect();
                let group = Alerts { alerts, ..Alerts::clone(group) };
                Cow::Owned(Self { detail: Detail::Alert(Box::new(group)), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

/// What a condition is judged on: an event or, of alerts that were told together, one.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'e> {
    event: &'e Event,
    alert: Option<&'e Alert>,
}

impl<'e> Subject<'e> {
    /// The alert, if it is one.
    pub fn alert(&self) -> Option<&'e Alert> {
        self.alert
    }

    /// Whether the event may have touched more paths than it lists.
    pub fn paths_are_truncated(&self) -> bool {
        matches!(&self.event.detail, Detail::Git(git) if git.paths_truncated)
    }

    /// All values that the event has under a matcher's key; none where it has no such thing.
    pub fn values(&self, key: &str) -> Vec<Cow<'e, str>> {
        fn one(value: &Option<String>) -> Vec<Cow<'_, str>> {
            value.iter().map(|value| value.into()).collect()
        }
        let event = self.event;
        if let Some(alert) = self.alert
            && let Some(values) = alert_values(alert, key)
        {
            return values;
        }
        match (key, &event.detail) {
            ("kind", _) => vec![event.kind().into()],
            ("source", _) => vec![event.source.as_str().into()],
            ("cluster", _) => one(&event.cluster),
            ("repository", Detail::ImagePush(push)) => vec![push.repository.as_str().into()],
            ("tag", Detail::ImagePush(push)) => push.tags.iter().map(|tag| tag.into()).collect(),
            ("digest", Detail::ImagePush(push)) => one(&push.digest),
            ("media_type", Detail::ImagePush(push)) => one(&push.media_type),
            ("actor", Detail::ImagePush(push)) => one(&push.actor),
            ("event", Detail::Git(git)) => vec![git.event.as_str().into()],
            // People write `acme/app` as well as `github.com/acme/app`.
            ("repository", Detail::Git(git)) => git
                .repository
                .iter()
                .flat_map(|full| {
                    [Some(full.as_str()), full.split_once('/').map(|(_, path)| path)].into_iter().flatten()
                })
                .map(Cow::from)
                .collect(),
            ("ref", Detail::Git(git)) => one(&git.reference),
            ("branch", Detail::Git(git)) => one(&git.branch),
            ("tag", Detail::Git(git)) => one(&git.tag),
            ("paths", Detail::Git(git)) => git.paths.iter().map(|path| path.into()).collect(),
            ("actor", Detail::Git(git)) => one(&git.actor),
            ("status", Detail::Git(git)) => one(&git.status),
            ("name", Detail::Git(git)) => one(&git.name),
            ("message", Detail::Git(git)) => one(&git.message),
            _ => match key.strip_prefix("labels.").and_then(|label| event.labels.get(label)) {
                Some(value) => vec![value.as_str().into()],
                None => Vec::new(),
            },
        }
    }
}

/// The values that an alert has of its own; `None` where its event's count.
fn alert_values<'a>(alert: &'a Alert, key: &str) -> Option<Vec<Cow<'a, str>>> {
    let object = alert.object.as_ref();
    let own = |value: Option<&'a String>| Some(value.map(Cow::from).into_iter().collect());
    match key {
        "severity" => Some(vec![alert.severity.word().into()]),
        "status" => Some(vec![alert.status.word().into()]),
        "reason" => own(alert.reason.as_ref()),
        "namespace" => own(object.and_then(|object| object.namespace.as_ref())),
        "name" => own(object.map(|object| &object.name)),
        "object_kind" => own(object.and_then(|object| object.kind.as_ref())),
        // Where there is nothing more to say than the title, that is the message.
        "message" => Some(vec![alert.text.as_ref().unwrap_or(&alert.title).into()]),
        "cluster" => alert.cluster.as_ref().map(|cluster| vec![cluster.into()]),
        _ => {
            let label = alert.labels.get(key.strip_prefix("labels.")?)?;
            Some(vec![label.into()])
        }
    }
}
