//! How much of every type is in a process. What a process never does with sources and targets is left out of its binary, as
//! long as nothing in it names their whole lists: so every function reads the same relay file, and is small.

use crate::source::{self, Function, SourceType};
use crate::target::{self, TargetType};

/// The lists of types that a relay file is read by. They have the same names, in the same order.
pub trait Extent {
    /// The function that takes requests; `None` for a process that is no intake function.
    const FUNCTION: Option<Function>;

    /// The source types.
    fn sources() -> &'static [SourceType];

    /// The target types.
    fn targets() -> &'static [TargetType];
}

/// All of everything.
#[derive(Debug)]
pub struct Whole;

impl Extent for Whole {
    const FUNCTION: Option<Function> = None;

    fn sources() -> &'static [SourceType] {
        source::TYPES
    }

    fn targets() -> &'static [TargetType] {
        target::TYPES
    }
}

macro_rules! intake {
    ($(#[$doc:meta])* $name:ident, $sources:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Extent for $name {
            const FUNCTION: Option<Function> = Some(Function::$name);

            fn sources() -> &'static [SourceType] {
                $sources
            }

            fn targets() -> &'static [TargetType] {
                target::WANTED
            }
        }
    };
}

intake! {
    /// The sources of `git-webhook`, and what targets want.
    GitWebhook, source::GIT_WEBHOOK
}

intake! {
    /// The sources of `registry-push`, and what targets want.
    RegistryPush, source::REGISTRY_PUSH
}

intake! {
    /// The sources of `alert-intake`, and what targets want.
    AlertIntake, source::ALERT_INTAKE
}
