//! The names under which Receivers know events, whichever host an event came from.
//!
//! A Receiver compares one header with its `.spec.events`, and never with the body. So a push at GitHub can come to a
//! `gitlab` Receiver as the `Push Hook` that it waits for.

use super::ReceiverType;
use super::body::ARTIFACT_PUBLISHED;
use crate::domain::event::{Detail, Event, GitEvent};

/// The header in which Receivers of this type look for the event's name, in lower case. The others look at none.
pub fn header(kind: ReceiverType) -> Option<&'static str> {
    match kind {
        ReceiverType::Github => Some("x-github-event"),
        ReceiverType::Gitlab => Some("x-gitlab-event"),
        ReceiverType::Bitbucket => Some("x-event-key"),
        ReceiverType::Cdevents => Some("ce-type"),
        _ => None,
    }
}

/// What an event means, where more than one host has a word for it.
#[derive(Clone, Copy)]
enum Meaning {
    /// A branch moved.
    Push,
    /// A tag moved.
    Tag,
    /// A change that is proposed, by whatever name.
    Merge,
    /// A release.
    Release,
    /// A run of a pipeline.
    Run,
    /// A deployment.
    Deployment,
}

impl Meaning {
    fn of(git: &GitEvent) -> Option<Self> {
        let word = git.event.to_ascii_lowercase();
        Some(match word.as_str() {
            "push" | "push hook" | "repo:push" | "repo:refs_changed" | "git.push" | "referencecreated"
            | "referenceupdated" | "referencedeleted" => match git.tag {
                Some(_) => Self::Tag,
                None => Self::Push,
            },
            "tag_push" | "tag push hook" => Self::Tag,
            "pull_request" | "merge_request" | "merge request hook" => Self::Merge,
            word if ["pullrequest:", "pr:", "git.pullrequest."].iter().any(|start| word.starts_with(start)) => {
                Self::Merge
            }
            "release" | "release hook" => Self::Release,
            "workflow_run" | "pipeline" | "pipeline hook" => Self::Run,
            "deployment" | "deployment_status" | "deployment hook" => Self::Deployment,
            _ => return None,
        })
    }
}

/// The names under which a Receiver of type `kind` may know `event`: the best first, never none. An event for which
/// the Receiver's host has no word keeps the one that it has.
pub fn names(kind: ReceiverType, event: &Event) -> Vec<&str> {
    let git = match &event.detail {
        Detail::ImagePush(_) if kind == ReceiverType::Cdevents => return vec![ARTIFACT_PUBLISHED],
        // GitHub's word; GitLab and Bitbucket have none for it.
        Detail::ImagePush(_) => return vec!["package"],
        // No host has a word for it; only Receivers that know no events are told of alerts.
        Detail::Alert(_) => return vec!["alert"],
        Detail::Git(git) => git,
    };
    let own = git.event.as_str();
    let opened = git.action.as_deref() == Some("opened");
    match (kind, Meaning::of(git)) {
        (ReceiverType::Github, Some(Meaning::Push | Meaning::Tag)) => vec!["push"],
        (ReceiverType::Github, Some(Meaning::Merge)) => vec!["pull_request"],
        (ReceiverType::Github, Some(Meaning::Release)) => vec!["release"],
        (ReceiverType::Github, Some(Meaning::Run)) => vec!["workflow_run"],
        // GitHub has two: that there is one, and what became of it. GitLab's is the latter.
        (ReceiverType::Github, Some(Meaning::Deployment)) if own != "deployment" => vec!["deployment_status"],
        (ReceiverType::Gitlab, Some(Meaning::Push)) => vec!["Push Hook"],
        (ReceiverType::Gitlab, Some(Meaning::Tag)) => vec!["Tag Push Hook"],
        (ReceiverType::Gitlab, Some(Meaning::Merge)) => vec!["Merge Request Hook"],
        (ReceiverType::Gitlab, Some(Meaning::Release)) => vec!["Release Hook"],
        (ReceiverType::Gitlab, Some(Meaning::Run)) => vec!["Pipeline Hook"],
        (ReceiverType::Gitlab, Some(Meaning::Deployment)) => vec!["Deployment Hook"],
        // Bitbucket Cloud and Data Center have different words, and no other host has a colon in its own.
        (ReceiverType::Bitbucket, _) if own.contains(':') => vec![own],
        (ReceiverType::Bitbucket, Some(Meaning::Push | Meaning::Tag)) => vec!["repo:push", "repo:refs_changed"],
        (ReceiverType::Bitbucket, Some(Meaning::Merge)) if opened => vec!["pullrequest:created", "pr:opened"],
        (ReceiverType::Bitbucket, Some(Meaning::Merge)) => vec!["pullrequest:updated", "pr:modified"],
        _ => vec![own],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::event::ImagePush;
    use crate::domain::name::Name;

    fn event(detail: Detail) -> Event {
        let source = Name::parse("source").expect("name");
        Event { detail, id: "1".into(), source, cluster: None, labels: BTreeMap::new(), time: None }
    }

    #[test]
    fn every_host_has_its_own_word_for_a_push() {
        for word in ["push", "Push Hook", "git.push", "referenceUpdated"] {
            let mut git = GitEvent { event: word.into(), ..GitEvent::default() };
            git.set_reference("refs/heads/main");
            let push = event(Detail::Git(Box::new(git.clone())));
            assert_eq!(names(ReceiverType::Github, &push), ["push"], "{word}");
            assert_eq!(names(ReceiverType::Gitlab, &push), ["Push Hook"], "{word}");
            assert_eq!(names(ReceiverType::Bitbucket, &push), ["repo:push", "repo:refs_changed"], "{word}");
            git.set_reference("refs/tags/v1");
            let tag = event(Detail::Git(Box::new(git)));
            assert_eq!(names(ReceiverType::Github, &tag), ["push"], "{word}");
            assert_eq!(names(ReceiverType::Gitlab, &tag), ["Tag Push Hook"], "{word}");
        }
    }

    #[test]
    fn other_words_are_translated_where_there_is_one_and_kept_where_there_is_none() {
        for (word, github, gitlab, bitbucket) in [
            ("tag_push", "push", "Tag Push Hook", "repo:push"),
            ("repo:refs_changed", "push", "Push Hook", "repo:refs_changed"),
            ("pull_request", "pull_request", "Merge Request Hook", "pullrequest:updated"),
            ("pr:merged", "pull_request", "Merge Request Hook", "pr:merged"),
            ("git.pullrequest.created", "pull_request", "Merge Request Hook", "pullrequest:updated"),
            ("release", "release", "Release Hook", "release"),
            ("workflow_run", "workflow_run", "Pipeline Hook", "workflow_run"),
            ("deployment", "deployment", "Deployment Hook", "deployment"),
            ("deployment_status", "deployment_status", "Deployment Hook", "deployment_status"),
            ("repository_dispatch", "repository_dispatch", "repository_dispatch", "repository_dispatch"),
            ("System Hook", "System Hook", "System Hook", "System Hook"),
        ] {
            let git = GitEvent { event: word.into(), ..GitEvent::default() };
            let event = event(Detail::Git(Box::new(git)));
            let first = |kind| names(kind, &event)[0];
            assert_eq!(
                [ReceiverType::Github, ReceiverType::Gitlab, ReceiverType::Bitbucket].map(first),
                [github, gitlab, bitbucket],
                "{word}"
            );
        }
        let image = event(Detail::ImagePush(ImagePush::default()));
        assert_eq!(names(ReceiverType::Bitbucket, &image), ["package"]);
    }
}
