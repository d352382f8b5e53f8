//! Which types of sources and targets a binary carries in full. Of a type that it does not run it carries the keys alone:
//! so every function reads the same relay file, and is small.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_knows_every_type_by_its_name_and_keys_and_has_its_own_in_full() {
        fn compare<E: Extent>() {
            let row = |of: &SourceType| (of.name, of.function);
            assert!(E::sources().iter().map(row).eq(source::TYPES.iter().map(row)));
            assert!(E::targets().iter().map(|of| of.name).eq(target::TYPES.iter().map(|of| of.name)));
            for (own, whole) in E::sources().iter().zip(source::TYPES) {
                let movable = ["cloudevents", "standard-webhooks", "generic"].contains(&own.name);
                let is_whole = std::ptr::fn_addr_eq(own.read, whole.read);
                assert_eq!(is_whole, movable || Some(own.function) == E::FUNCTION, "{}", own.name);
            }
        }
        compare::<GitWebhook>();
        compare::<RegistryPush>();
        compare::<AlertIntake>();
    }
}
