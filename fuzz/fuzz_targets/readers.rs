//! Arbitrary bytes at whatever reads what others have written, but for sources: the first byte picks the reader.
//!
//!     fuzz/seed && RUSTC_BOOTSTRAP=1 cargo fuzz run -s none readers -- -max_total_time=1200
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/any_reader.rs"]
mod any_reader;

fuzz_target!(|data: &[u8]| {
    if let [of, input @ ..] = data {
        any_reader::READERS[usize::from(*of) % any_reader::READERS.len()].1(input);
    }
});
