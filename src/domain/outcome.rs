//! What became of an attempt to deliver.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. What is the target's holds everything for that target; what may be the event's
/// must not hold up the events behind it for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// No connection, 429, 502 to 504: the next event would fare no better.
    Target,
    /// 401, 403, 404, 410, a token that was revoked: nor will any other, until somebody mends the target or what we have
    /// been told of it. Its breaker opens.
    Setup,
    /// 500 and the like: another event may well pass.
    Event,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target has it.
    Delivered,
    /// The target took it and will work on it later; as good as delivered, but the words differ in logs.
    Accepted,
    /// The target asks for a pause.
    RetryAfter {
        /// How long it asks for.
        wait: Duration,
        /// What it said, without secrets.
        reason: String,
    },
    /// Worth trying again, at our own pace.
    Retry {
        /// Whose fault it is.
        blame: Blame,
        /// What happened and what to do about it, without secrets.
        reason: String,
    },
    /// Trying again cannot help.
    Rejected {
        /// What happened and what to do about it, without secrets.
        reason: String,
    },
}

impl Outcome {
    /// The outcome's name, for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::RetryAfter { .. } => "retry_after",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// Why the delivery has not arrived, without secrets. `None` if it has.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Delivered | Self::Accepted => None,
            Self::RetryAfter { reason, .. } | Self::Retry { reason, .. } | Self::Rejected { reason } => Some(reason),
        }
    }
}

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenUp {
    /// The target refused it for good.
    Rejected,
    /// It failed until its `max_age` was over.
    Expired,
    /// It was sent and not answered, and is not to be repeated without knowing whether it arrived.
    Unanswered,
    /// Every attempt ended the process that made it.
    Crashed,
    /// The message could not be read, or names a target that the relay file does not have, and no deploy changed that.
    Undeliverable,
}
