//! Hashes as text: standard base64 with padding (RFC 4648, section 4), as in a checkpoint. One hash has one text: other
//! alphabets, missing padding and stray bits are refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::merkle::Hash;

/// `bytes` as base64.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes that `text` encodes; `None` if it is not the one way to write them.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The hash that `text` encodes; `None` if it is no base64 of 32 bytes.
#[must_use]
pub fn decode_hash(text: &str) -> Option<Hash> {
    decode(text)?.try_into().ok()
}

/// A hash in a JSON document: a string of base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashText(pub Hash);

impl Serialize for HashText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode_hash(&text).map(Self).ok_or_else(|| de::Error::custom("a hash is the base64 of 32 bytes"))
    }
}

/// Hashes for a document.
pub(super) fn texts(hashes: &[Hash]) -> Vec<HashText> {
    hashes.iter().copied().map(HashText).collect()
}

/// The hashes of a document.
pub(super) fn hashes(texts: &[HashText]) -> Vec<Hash> {
    texts.iter().map(|text| text.0).collect()
}
