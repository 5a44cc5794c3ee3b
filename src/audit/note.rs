//! Signed notes, as C2SP specifies them (`c2sp.org/signed-note`): a text, an empty line, and signature lines.
//!
//! ```text
//!  the text, of any number of lines⏎
//!  ⏎
//!  — NAME base64(key id (4 bytes) ‖ Ed25519 signature (64 bytes))⏎
//! ```
//!
//! The signature is over the text with its last line break, and without the empty line.

use thiserror::Error;

use super::encoding::{decode, encode};
use super::key::{SigningKey, VerifierKey};

/// The longest note that is read, in bytes: sixteen post-quantum signatures of witnesses fit.
pub const MAX_BYTES: usize = 128 * 1024;

/// What begins a signature line: an em dash and a space.
const DASH: &str = "— ";

/// Why a note is not believed. No message holds anything that the note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// It is too long to be one.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// It does not have the form of a signed note.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// The key did not sign it: there is no signature with its name and identifier.
    #[error("this key has not signed it: there is no signature with the key's name and identifier")]
    AnotherKey,
    /// It has a signature that says it is the key's, and is not.
    #[error("the signature is wrong: the text is not the one that was signed, or somebody else signed it")]
    BadSignature,
}

/// `text` signed by `key`. The caller sees to it that the text ends its last line and holds no control characters.
pub(super) fn sign(text: &str, key: &SigningKey) -> String {
    let mut signed = key.verifier().id().to_be_bytes().to_vec();
    signed.extend(key.sign(text.as_bytes()));
    format!("{text}\n{DASH}{} {}\n", key.name(), encode(&signed))
}

/// The text of `note`, once `key` is seen to have signed it. Signatures of other keys, such as witnesses', are ignored, as
/// the specification has it; every signature that says it is this key's must be right.
///
/// # Errors
/// When it is no signed note, when `key` has not signed it, or when its signature is wrong.
pub fn open<'note>(note: &'note str, key: &VerifierKey) -> Result<&'note str, NoteError> {
    if note.len() > MAX_BYTES {
        return Err(NoteError::TooLong);
    }
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("it holds control characters"));
    }
    let empty_line = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line parts its text from signatures"))?;
    let (text, signatures) = (&note[..=empty_line], &note[empty_line + 2..]);
    let lines = signatures.strip_suffix('\n').ok_or(NoteError::Malformed("its last line does not end"))?;
    let mut signed = false;
    for line in lines.split('\n') {
        let (name, signature) = signature_line(line).ok_or(NoteError::Malformed("a signature line is wrong"))?;
        let (id, signature) =
            signature.split_first_chunk::<4>().ok_or(NoteError::Malformed("a signature is too short"))?;
        if name != key.name() || u32::from_be_bytes(*id) != key.id() {
            continue;
        }
        if !key.has_signed(text.as_bytes(), signature) {
            return Err(NoteError::BadSignature);
        }
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::AnotherKey) }
}

/// The name and the bytes of a signature line.
fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
    if !super::key::is_name(name) {
        return None;
    }
    Some((name, decode(signature)?))
}
