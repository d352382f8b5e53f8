//! The message on the queue, and what becomes of it when it is given up.
//!
//! A message carries everything in its body. The body has a version; a reader knows its own and the one before.

use std::borrow::Cow;
use std::io::{Read as _, Write};

use bytes::Bytes;
use data_encoding::BASE64;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::event::{Event, Original};
use crate::domain::name::Name;
use crate::domain::outcome::GivenUp;
use crate::domain::signature;

/// Version of the body that this code writes.
const VERSION: u32 = 1;

/// What a body may unpack to: the largest request (3 MiB) with every byte escaped, and some room.
const MAX_UNPACKED: u64 = 24 * 1024 * 1024;

/// One event for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Stable over redeliveries of the event and over redriving: 32 hex digits.
    pub id: String,
    /// Whom it is for.
    pub target: Name,
    /// Raised each time the delivery is put on the queue anew, so that it is not taken for the one before.
    pub generation: u32,
    /// When it was first put on the queue; its age counts from here.
    pub queued: Timestamp,
    /// Attempts that were made before it was put on the queue this time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// What happened.
    pub event: Event,
    /// The sender's own request, where the target gets it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "original")]
    pub original: Option<Original>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The body does not fit the queue, not even compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event takes {bytes} bytes compressed, over the queue's limit of {limit}")]
pub struct TooLarge {
    /// What it takes.
    pub bytes: usize,
    /// What the queue takes.
    pub limit: usize,
}

/// A body that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Written by a version that this code does not know.
    #[error("the message has version {version}, and this version of Sluice reads up to {VERSION}")]
    Version {
        /// The version.
        version: u32,
        /// When it was first put on the queue: every version has that, and packs its body, where this one does.
        queued: Option<Timestamp>,
    },
    /// Not a message of ours.
    #[error("not a delivery: {0}")]
    Malformed(String),
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    v: u32,
    #[serde(flatten)]
    content: &'a T,
}

/// `content` as the body of a queue message of at most `limit` bytes, compressed where it would not fit else.
fn pack<T: Serialize>(content: &T, likely_large: bool, limit: usize) -> Result<String, TooLarge> {
    let malformed = |_| TooLarge { bytes: 0, limit };
    let envelope = Envelope { v: VERSION, content };
    if !likely_large {
        let body = serde_json::to_string(&envelope).map_err(malformed)?;
        if body.len() <= limit {
            return Ok(body);
        }
    }
    // Straight into the compressor: the plain text of a large body is never held in memory.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let zipped = serde_json::to_writer(&mut gzip, &envelope)
        .map_err(std::io::Error::from)
        .and_then(|()| gzip.flush())
        .and_then(|()| gzip.finish())
        .map_err(|_| TooLarge { bytes: 0, limit })?;
    let body = format!("{{\"v\":{VERSION},\"gzip\":\"{}\"}}", BASE64.encode(&zipped));
    if body.len() > limit { Err(TooLarge { bytes: body.len(), limit }) } else { Ok(body) }
}

fn unpack<T: for<'de> Deserialize<'de>>(body: &str) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        v: u32,
        gzip: Option<String>,
    }
    #[derive(Deserialize)]
    struct Later {
        queued: Timestamp,
    }
    let malformed = |e: &dyn std::fmt::Display| Unreadable::Malformed(e.to_string());
    let head: Head = serde_json::from_str(body).map_err(|e| malformed(&e))?;
    let plain = match head.gzip {
        None => Ok(Cow::Borrowed(body.as_bytes())),
        Some(zipped) => unzip(&zipped).map(Cow::Owned).map_err(|e| malformed(&e)),
    };
    if head.v > VERSION {
        let later = plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
        return Err(Unreadable::Version { version: head.v, queued: later.map(|Later { queued }| queued) });
    }
    serde_json::from_slice(&plain?).map_err(|e| malformed(&e))
}

fn unzip(zipped: &str) -> std::io::Result<Vec<u8>> {
    let zipped = BASE64.decode(zipped.as_bytes()).map_err(std::io::Error::other)?;
    let mut plain = Vec::new();
    GzDecoder::new(&zipped[..]).take(MAX_UNPACKED).read_to_end(&mut plain)?;
    Ok(plain)
}

impl Delivery {
    /// A first delivery of `event` to `target`.
    pub fn new(event: Event, identity: &str, target: &Name, original: Option<Original>, now: Timestamp) -> Self {
        let id = signature::digest(&["delivery", event.source.as_str(), identity, target.as_str()])[..32].to_owned();
        Self { id, target: target.clone(), generation: 0, queued: now, attempts: 0, event, original }
    }

    /// What tells this message from all others within five minutes: SHA-256 hex over source, the event's
    /// identity and target (which the id stands for), and generation.
    pub fn deduplication_id(&self) -> String {
        signature::digest(&[self.event.source.as_str(), &self.id, self.target.as_str(), &self.generation.to_string()])
    }

    /// As the body of a message of at most `limit` bytes.
    pub fn encode(&self, limit: usize) -> Result<String, TooLarge> {
        let large = self.original.as_ref().is_some_and(|original| original.body.len() > limit);
        pack(self, large, limit)
    }

    /// Reads a message's body.
    pub fn decode(body: &str) -> Result<Self, Unreadable> {
        unpack(body)
    }
}

/// A delivery that was given up, with what is needed to decide about it and to send it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why, as a class.
    pub class: GivenUp,
    /// Why, in words, without secrets.
    pub reason: String,
    /// When.
    pub given_up: Timestamp,
    /// Attempts that were made.
    pub attempts: u32,
    /// The delivery, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The message's body as it was, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl DeadLetter {
    /// As the body of a message of at most `limit` bytes.
    pub fn encode(&self, limit: usize) -> Result<String, TooLarge> {
        pack(self, false, limit)
    }

    /// Reads a message's body.
    pub fn decode(body: &str) -> Result<Self, Unreadable> {
        unpack(body)
    }
}

/// [`Original`] with its body as text where it is text.
mod original {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    struct Written {
        content_type: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<(String, String)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    }

    #[derive(Serialize)]
    struct Borrowed<'a> {
        content_type: &'a str,
        headers: &'a [(String, String)],
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    }

    pub fn serialize<S: Serializer>(value: &Option<Original>, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(value) = value else { return serializer.serialize_none() };
        let text = std::str::from_utf8(&value.body).ok();
        let base64 = text.is_none().then(|| BASE64.encode(&value.body));
        Borrowed { content_type: &value.content_type, headers: &value.headers, text, base64 }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Original>, D::Error> {
        let Some(written) = Option::<Written>::deserialize(deserializer)? else { return Ok(None) };
        let body = match (written.text, written.base64) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(base64)) => BASE64.decode(base64.as_bytes()).map_err(D::Error::custom)?.into(),
            _ => return Err(D::Error::custom("the original has either text or base64")),
        };
        Ok(Some(Original { content_type: written.content_type, headers: written.headers, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Detail, GitEvent};

    fn delivery(body: Vec<u8>) -> Delivery {
        let source = Name::parse("github").expect("name");
        let event = Event {
            detail: Detail::Git(Box::new(GitEvent { event: "push".into(), ..GitEvent::default() })),
            id: Event::id_of(&source, "1"),
            source,
            cluster: None,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            time: Some(Timestamp::UNIX_EPOCH),
        };
        let original = Original {
            content_type: "application/json".into(),
            headers: vec![("x-github-event".into(), "push".into())],
            body: body.into(),
        };
        let target = Name::parse("prod").expect("name");
        Delivery::new(event, "1", &target, Some(original), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_delivery_reads_back_as_it_was_plain_and_compressed_text_and_binary() {
        for body in [b"{\"a\":\"b\"}".to_vec(), vec![0xff, 0, 1], b"a".repeat(100_000), vec![0xfe; 100_000]] {
            let before = delivery(body);
            for limit in [20_000, 1_000_000] {
                let encoded = before.encode(limit).expect("fits");
                assert!(encoded.len() <= limit);
                assert_eq!(Delivery::decode(&encoded).expect("readable"), before);
            }
        }
    }

    #[test]
    fn what_does_not_fit_compressed_is_refused() {
        // A linear congruential generator: nothing that gzip could shorten.
        let noise = (0..100_000u64).scan(1u64, |x, _| {
            *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*x >> 56) as u8)
        });
        let refused = delivery(noise.collect()).encode(50_000).expect_err("too large");
        assert!(refused.bytes > 50_000 && refused.limit == 50_000);
    }

    #[test]
    fn a_message_of_a_later_version_is_not_guessed_at() {
        for (body, limit) in [(vec![], 10_000), (b"a".repeat(100_000), 20_000)] {
            let encoded = delivery(body).encode(limit).expect("fits").replacen("\"v\":1", "\"v\":2", 1);
            let Err(Unreadable::Version { version, queued }) = Delivery::decode(&encoded) else { panic!("guessed at") };
            assert_eq!((version, queued), (2, Some(Timestamp::UNIX_EPOCH)));
        }
        assert!(matches!(Delivery::decode("[]"), Err(Unreadable::Malformed(_))));
    }

    #[test]
    fn a_raised_generation_is_another_message_of_the_same_delivery() {
        let first = delivery(vec![]);
        let second = Delivery { generation: 1, ..first.clone() };
        assert_eq!(first.id, second.id);
        assert_ne!(first.deduplication_id(), second.deduplication_id());
    }
}
