use super::super::key::{SigningKey, VerifierKey};
use super::super::note::{MAX_BYTES, NoteError, open, sign};
use super::key;

/// The key and the note of the documentation of Go's `note` package, from which C2SP's specification comes.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_PRIVATE: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const NEUMANN_TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const NEUMANN_NOTE: &str = "If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
";

/// The key of Go's checksum database, and two tree heads that it signed.
const GO: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
const GO_NOTES: [&str; 2] = [
    "go.sum database tree
6476701
mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
",
    "go.sum database tree
15067302
gJyioq6dwR9n+NjEWORfYmH+ubeYm3kH42BBQ0bTpYI=

— sum.golang.org Az3grp1rvWOs5NKlr/xR4GLN/CDyzzakmt1o61uSxYKpK1SerqOP2ClbX/peKUZjYnyomH5Xz7GZG3TpB7OeKn4E2ww=
— test.example.com qTGhC/xIPQ0AXKHK6Y+9ypRfuvMZWPjRXM8NiOg5M1WREn07VQXyuIXM3NRNav3ieVFLUqDRK77PWDmL6w8w84UqeAw=
",
];

fn verifier(text: &str) -> VerifierKey {
    text.parse().expect("a key")
}

#[test]
fn notes_that_others_signed_are_opened() {
    assert_eq!(open(NEUMANN_NOTE, &verifier(NEUMANN)), Ok(NEUMANN_TEXT));
    for note in GO_NOTES {
        let text = note.split_inclusive("=\n").next().expect("a text");
        assert_eq!(open(note, &verifier(GO)), Ok(text));
    }
}

#[test]
fn we_sign_as_others_do() {
    let mut key = super::super::encoding::decode(NEUMANN_PRIVATE).expect("base64");
    assert_eq!(key.remove(0), 1, "the type");
    let key = SigningKey::from_seed(&key.try_into().expect("32 bytes"), "PeterNeumann").expect("a key");
    assert_eq!(key.verifier().to_string(), NEUMANN);
    assert_eq!(sign(NEUMANN_TEXT, &key), NEUMANN_NOTE);
}

#[test]
fn a_text_may_hold_empty_lines() {
    let key = key();
    let note = sign("one\n\n\n\ntwo\n\n", &key);
    assert_eq!(open(&note, key.verifier()), Ok("one\n\n\n\ntwo\n\n"));
}

#[test]
fn any_changed_byte_is_seen() {
    let key = key();
    let note = sign("a text\nof two lines\n", &key);
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            // What is no text is no note.
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(open(&changed, key.verifier()).is_err(), "byte {at}, bit {bit}: {changed}");
            }
        }
    }
}

#[test]
fn what_is_no_note_is_refused() {
    let key = key();
    let good = sign("text\n", &key);
    let line = good.strip_prefix("text\n\n").expect("a signature line");
    let bad_signature = sign("other\n", &key).replace("other", "text");
    let no_form: &[&str] = &[
        "",
        "\n",
        "text\n",
        "text\n\n",
        &format!("text\n{line}"),
        &good.replace("— ", "- "),
        good.trim_end(),
        &format!("{good}\n"),
        &format!("{good}x\n"),
        &good.replace('\n', "\r\n"),
        &good.replace("text", "te\txt"),
        &good.replace("=\n", "\n"),
        &format!("{good}— a+b AAAAAAAA\n"),
        &format!("{good}— witness AAA=\n"),
        &format!("{good}— witness AAAAAB==\n"),
    ];
    for note in no_form {
        assert!(matches!(open(note, key.verifier()), Err(NoteError::Malformed(_))), "{note:?}");
    }
    assert_eq!(open(&bad_signature, key.verifier()), Err(NoteError::BadSignature));
    // A right one beside it does not make up for it.
    let wrong = bad_signature.strip_prefix("text\n\n").expect("a signature line");
    assert_eq!(open(&format!("{good}{wrong}"), key.verifier()), Err(NoteError::BadSignature));
    assert_eq!(open(&"x".repeat(MAX_BYTES + 1), key.verifier()), Err(NoteError::TooLong));
}

#[test]
fn signatures_of_others_are_passed_over() {
    let (ours, other) = (key(), SigningKey::from_seed(&[8; 32], "witness.example").expect("a key"));
    let same_name = SigningKey::from_seed(&[9; 32], ours.name()).expect("a key");
    let line = |key: &SigningKey| sign("text\n", key).replace("text\n\n", "");
    let note = format!("text\n\n{}{}{}", line(&other), line(&same_name), line(&ours));
    assert_eq!(open(&note, ours.verifier()), Ok("text\n"));
    assert_eq!(open(&note, other.verifier()), Ok("text\n"));
    let without = format!("text\n\n{}{}", line(&other), line(&same_name));
    assert_eq!(open(&without, ours.verifier()), Err(NoteError::AnotherKey));
}
