//! Arbitrary bytes at every source: the first byte picks the type, the second the sample whose headers come with them,
//! the rest is the body. It is signed, so that what lies behind authentication is reached.
//!
//!     fuzz/seed && RUSTC_BOOTSTRAP=1 cargo fuzz run -s none sources -- -max_total_time=1200
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/any_source.rs"]
mod any_source;

static SOURCES: LazyLock<Vec<any_source::AnySource>> =
    LazyLock::new(|| any_source::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")));

fuzz_target!(|data: &[u8]| {
    if let [of, sample, body @ ..] = data {
        SOURCES[usize::from(*of) % SOURCES.len()].take(usize::from(*sample), body);
    }
});
