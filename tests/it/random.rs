//! Every sample with random edits at every source and reader, and random events at every target that people read: a short,
//! deterministic run of what the fuzz targets in `fuzz/` do for longer.

use std::path::Path;

use crate::{any_reader, any_source, any_target};

/// Edits of each sample.
const EDITS: usize = 150;
/// Events for each target.
const EVENTS: usize = 12;

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).expect("below a usize")
    }
}

/// Pieces that parsers trip over.
const PIECES: &[&[u8]] = &[
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"-1",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"{\"a\":",
    b"[[[[",
    b":",
    b"@",
    b"/",
    b"sha256:",
    b"18446744073709551616",
    b"\"ref\":null,",
    b"%00",
    b"\xe2\x80\xae",
];

fn edit(body: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(body.len());
        match numbers.below(6) {
            0 if !body.is_empty() => body[at] ^= 1 << numbers.below(8),
            1 => body.truncate(at),
            2 => {
                let piece = PIECES[numbers.below(PIECES.len())];
                body.splice(at..at, piece.iter().copied());
            }
            3 => {
                let end = (at + numbers.below(40)).min(body.len());
                body.drain(at..end);
            }
            4 => {
                let end = (at + numbers.below(200)).min(body.len());
                let again = body[at..end].to_vec();
                body.splice(at..at, again);
            }
            _ => {
                // A value in place of another.
                let end = (at + numbers.below(12)).min(body.len());
                let piece = PIECES[numbers.below(PIECES.len())];
                body.splice(at..end, piece.iter().copied());
            }
        }
    }
    body
}

#[test]
fn no_edit_of_any_sample_makes_a_source_panic() {
    let mut numbers = Numbers(20_261_121);
    for source in any_source::all(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        for (i, (_, sample)) in source.samples.iter().enumerate() {
            source.take(i, &sample.body);
            for _ in 0..EDITS {
                source.take(i, &edit(&sample.body, &mut numbers));
            }
        }
    }
}

/// Pieces of one service's markup or another's.
const MARKUP: &[&str] = &[
    "<!channel>",
    "@everyone ",
    "<users/all>",
    "[x](https://e.example)",
    "<https://e.example|x>",
    "https://e.example/?a=<b>&c=\"d\"",
    "```",
    "**_~`|\\",
    "&<b>",
    "\u{202e}",
    "👨‍👩‍👧‍👦",
    "e\u{301}",
    "日本語",
    "\u{1b}[31m",
    "\r\n",
    "{{x}}",
    "%%%",
    "a word ",
];

/// A random event: lengths and choices, and texts of markup between them.
fn event(numbers: &mut Numbers) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..numbers.below(60) {
        if numbers.below(3) == 0 {
            input.push(u8::try_from(numbers.below(256)).expect("a byte"));
            continue;
        }
        let pieces: String = (0..numbers.below(12)).map(|_| MARKUP[numbers.below(MARKUP.len())]).collect();
        input.push(u8::try_from(pieces.len().min(255)).expect("a byte"));
        input.extend(pieces.bytes());
    }
    input
}

#[test]
fn no_event_makes_a_target_fail_or_say_more_than_it_may() {
    let mut numbers = Numbers(20_261_121);
    for target in any_target::all() {
        for _ in 0..EVENTS {
            target.take(&event(&mut numbers));
        }
    }
}

#[test]
fn no_edit_of_what_others_have_written_makes_its_reader_panic() {
    let mut numbers = Numbers(20_261_122);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/readers");
    for (name, read) in any_reader::READERS {
        let mut samples: Vec<_> =
            std::fs::read_dir(root.join(name)).expect("folder").map(|file| file.expect("file").path()).collect();
        samples.sort();
        assert!(!samples.is_empty(), "{name}");
        for sample in samples {
            let sample = std::fs::read(sample).expect("sample");
            read(&sample);
            for _ in 0..EDITS {
                read(&edit(&sample, &mut numbers));
            }
        }
    }
}

#[test]
fn no_depth_of_json_ends_the_process() {
    let nested = |open: &str, close: &str, depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
    // Deep at every sample, and deeper than any stack at one of each type.
    for (depth, most) in [(10_000, usize::MAX), (200_000, 1)] {
        for source in any_source::all(Path::new(env!("CARGO_MANIFEST_DIR"))) {
            for (i, (_, sample)) in source.samples.iter().enumerate().take(most) {
                let array = nested("[", "]", depth);
                let bodies = [array.clone(), nested("{\"a\":", "}", depth / 4), "[".repeat(depth)];
                for body in bodies {
                    source.take(i, body.as_bytes());
                }
                // Beneath a key that nobody reads, and beneath one that is read.
                let text = String::from_utf8_lossy(&sample.body);
                source.take(i, text.replacen('{', &format!("{{\"deep\":{array},"), 1).as_bytes());
                source.take(i, text.replacen(':', &format!(":{array},\"rest\":"), 1).as_bytes());
            }
        }
    }
}
