//! Digests and message authentication codes, as senders and receivers spell them.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

use crate::domain::secret::Secret;

crate::words! {
    /// The hash under an HMAC.
    pub enum Algorithm {
        /// HMAC-SHA-256.
        Sha256 = "sha256",
        /// HMAC-SHA-512.
        Sha512 = "sha512",
        /// HMAC-SHA-1, for senders that know nothing else.
        Sha1 = "sha1",
    }
}

crate::words! {
    /// How the bytes of a signature are written.
    pub enum Encoding {
        /// Hexadecimal, in either case.
        Hex = "hex",
        /// Base64 with padding.
        Base64 = "base64",
    }
}

impl Encoding {
    /// The bytes behind `text`, or `None` where it is not of this encoding.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            Self::Base64 => BASE64.decode(text.as_bytes()).ok(),
        }
    }

    /// `bytes` as text; hexadecimal in lower case.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
        }
    }
}

fn keyed<M: Mac + KeyInit>(key: &Secret, parts: &[&[u8]]) -> M {
    // HMAC takes a key of any length, so that this cannot fail (RFC 2104).
    let mut mac = <M as KeyInit>::new_from_slice(key.expose()).unwrap_or_else(|_| unreachable!());
    for part in parts {
        mac.update(part);
    }
    mac
}

/// The HMAC over the concatenation of `parts`.
pub fn hmac(algorithm: Algorithm, key: &Secret, parts: &[&[u8]]) -> Vec<u8> {
    match algorithm {
        Algorithm::Sha256 => keyed::<Hmac<Sha256>>(key, parts).finalize().into_bytes().to_vec(),
        Algorithm::Sha512 => keyed::<Hmac<Sha512>>(key, parts).finalize().into_bytes().to_vec(),
        Algorithm::Sha1 => keyed::<Hmac<sha1::Sha1>>(key, parts).finalize().into_bytes().to_vec(),
    }
}

/// Whether `signature` is the HMAC over the concatenation of `parts`, compared in constant time. An empty key
/// signs nothing.
pub fn verify(algorithm: Algorithm, key: &Secret, parts: &[&[u8]], signature: &[u8]) -> bool {
    if key.is_empty() {
        return false;
    }
    match algorithm {
        Algorithm::Sha256 => keyed::<Hmac<Sha256>>(key, parts).verify_slice(signature).is_ok(),
        Algorithm::Sha512 => keyed::<Hmac<Sha512>>(key, parts).verify_slice(signature).is_ok(),
        Algorithm::Sha1 => keyed::<Hmac<sha1::Sha1>>(key, parts).verify_slice(signature).is_ok(),
    }
}

/// SHA-256 as lower-case hex over the parts, each preceded by its length, so that no two lists of parts can
/// look the same.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    HEXLOWER.encode(&hash.finalize())
}

/// SHA-256 as lower-case hex over the concatenation of `parts`.
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    HEXLOWER.encode(&hash.finalize())
}

/// The URL token of a source whose sender cannot sign: lower-case hex of HMAC-SHA256(secret, `sluice:` + name).
pub fn url_token(secret: &Secret, source: &str) -> String {
    HEXLOWER.encode(&hmac(Algorithm::Sha256, secret, &[b"sluice:", source.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4231 test case 2, and RFC 2202 test case 2 for SHA-1.
    #[test]
    fn hmacs_agree_with_the_published_vectors() {
        let (key, data) = (Secret::new("Jefe"), b"what do ya want for nothing?");
        let hex = |algorithm| HEXLOWER.encode(&hmac(algorithm, &key, &[&data[..4], &data[4..]]));
        assert_eq!(hex(Algorithm::Sha256), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(hex(Algorithm::Sha1), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert!(hex(Algorithm::Sha512).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"));
    }

    #[test]
    fn an_empty_key_verifies_nothing() {
        let empty = Secret::new("");
        let signature = hmac(Algorithm::Sha256, &empty, &[b"body"]);
        assert!(!verify(Algorithm::Sha256, &empty, &[b"body"], &signature));
    }

    #[test]
    fn digests_of_differently_split_parts_differ() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
