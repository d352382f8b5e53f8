//! Looks for secrets where none may be: byte for byte, and in the forms in which they get into requests.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER};

/// What may be found nowhere.
#[derive(Default)]
pub struct Needles(BTreeMap<String, String>);

impl Needles {
    /// A secret, named `of` where it is found: as it is, in base64, in hexadecimal and escaped for a URL.
    pub fn secret(&mut self, of: &str, value: &str) {
        let escaped: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        // Where other bytes follow, only whole groups of three look the same in base64.
        let whole = &value.as_bytes()[..value.len() / 3 * 3];
        for form in [
            value.to_owned(),
            BASE64.encode(value.as_bytes()),
            BASE64_NOPAD.encode(whole),
            BASE64URL_NOPAD.encode(whole),
            HEXLOWER.encode(value.as_bytes()),
            escaped,
        ] {
            self.exactly(of, &form);
        }
    }

    /// What stands for a secret: a signature, a URL token, a path.
    pub fn exactly(&mut self, of: &str, value: &str) {
        assert!(value.len() >= 8, "{of} is too short to be told from other text");
        self.0.insert(value.into(), of.to_owned());
    }

    /// What of all this is in `text`.
    pub fn found_in(&self, text: &[u8]) -> Vec<&str> {
        // What is no UTF-8 is replaced, and takes nothing of the text beside it along.
        let text = String::from_utf8_lossy(text);
        self.0.iter().filter(|(needle, _)| text.contains(needle.as_str())).map(|(_, of)| of.as_str()).collect()
    }

    /// # Panics
    /// If any of this is in `text`; `place` says where that is from.
    pub fn assert_none_in(&self, place: &str, text: &[u8]) {
        let found = self.found_in(text);
        assert!(
            found.is_empty(),
            "{place} holds {found:?}:\n{}",
            String::from_utf8_lossy(&text[..text.len().min(20_000)])
        );
    }

    /// Searches places: what each is called, its text, and what has to be in there.
    ///
    /// # Panics
    /// If any of this is in one of them, or what has to be there is not: then the search would prove nothing.
    pub fn assert_none_in_any<'p>(&self, places: impl IntoIterator<Item = (String, Vec<u8>, &'p [&'p str])>) {
        for (place, text, planted) in places {
            for planted in planted {
                Self::assert_finds(planted, &place, &text);
            }
            self.assert_none_in(&place, &text);
        }
    }

    /// # Panics
    /// If a search of `text` does not find `planted`: then it is not what `place` says, or a search proves nothing.
    pub fn assert_finds(planted: &str, place: &str, text: &[u8]) {
        let mut needles = Self::default();
        needles.exactly("planted", planted);
        let found = !needles.found_in(text).is_empty();
        assert!(found, "{planted} is not in {place}:\n{}", String::from_utf8_lossy(text));
    }
}
