//! Arbitrary events at every target that people read: the first byte picks the target, the rest is the event.
//!
//!     fuzz/seed && RUSTC_BOOTSTRAP=1 cargo fuzz run -s none targets -- -max_total_time=1200 -dict=fuzz/targets.dict
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/any_target.rs"]
mod any_target;

static TARGETS: LazyLock<Vec<any_target::AnyTarget>> = LazyLock::new(any_target::all);

fuzz_target!(|data: &[u8]| {
    if let [of, input @ ..] = data {
        TARGETS[usize::from(*of) % TARGETS.len()].take(input);
    }
});
