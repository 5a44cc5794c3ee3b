use super::super::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, verify};
use super::super::encoding::decode_hash;
use super::super::key::SigningKey;
use super::super::note::{self, NoteError};
use super::{Log, ORIGIN, key};

/// The example of C2SP's specification. The key that signed it is not published; its text is what is checked.
const C2SP: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
";

#[test]
fn the_specifications_example_is_read_and_written() {
    let text = C2SP.split_once("\n\n").expect("a note").0.to_owned() + "\n";
    let checkpoint = Checkpoint::from_text(&text).expect("a checkpoint");
    let root = decode_hash("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=").expect("a hash");
    assert_eq!(checkpoint, Checkpoint { origin: "example.com/behind-the-sofa".to_owned(), size: 20_852_163, root });
    let key = SigningKey::from_seed(&[1; 32], "example.com/behind-the-sofa").expect("a key");
    let signed = checkpoint.sign(&key).expect("signed");
    assert_eq!(signed.text().split_once("\n\n").expect("a note").0.to_owned() + "\n", text);
    assert_eq!(verify(C2SP, key.verifier()), Err(CheckpointError::Note(NoteError::AnotherKey)));
}

#[test]
fn what_is_signed_is_verified() {
    let log = Log::of(12);
    let signed = log.checkpoint();
    let read = SignedCheckpoint::verify(signed.text(), key().verifier()).expect("verified");
    assert_eq!(read, signed);
    assert_eq!(read.to_string(), signed.text());
    assert_eq!(verify(signed.text(), key().verifier()).as_ref(), Ok(signed.checkpoint()));
    assert_eq!((read.checkpoint().size, read.checkpoint().root), (12, log.tree.root()));
}

#[test]
fn only_the_logs_own_key_signs() {
    let checkpoint = Log::of(3).checkpoint().checkpoint().clone();
    let other = SigningKey::from_seed(&[7; 32], "another.example").expect("a key");
    assert_eq!(checkpoint.sign(&other), Err(CheckpointError::AnotherOrigin));
    // What it signs all the same, as a note, is not believed.
    let signed = checkpoint.sign(&key()).expect("signed");
    let text = note::open(signed.text(), key().verifier()).expect("a note");
    let forged = note::sign(text, &other);
    assert_eq!(verify(&forged, other.verifier()), Err(CheckpointError::AnotherOrigin));
    let injected = Checkpoint { origin: format!("{ORIGIN}\n9"), ..checkpoint };
    assert_eq!(injected.sign(&key()), Err(CheckpointError::AnotherOrigin));
}

#[test]
fn a_signed_text_that_is_no_checkpoint_is_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let key = key();
    for text in [
        "\n".to_owned(),
        format!("{ORIGIN}\n5\n"),
        format!("{ORIGIN}\n5\n{root}\nextension\n"),
        format!("{ORIGIN}\n5\n\n{root}\n"),
        format!("\n5\n{root}\n"),
        format!("{ORIGIN}\n\n{root}\n"),
        format!("{ORIGIN}\n05\n{root}\n"),
        format!("{ORIGIN}\n+5\n{root}\n"),
        format!("{ORIGIN}\n-5\n{root}\n"),
        format!("{ORIGIN}\n5 \n{root}\n"),
        format!("{ORIGIN}\n0x5\n{root}\n"),
        format!("{ORIGIN}\n٥\n{root}\n"),
        format!("{ORIGIN}\n18446744073709551616\n{root}\n"),
        format!("{ORIGIN}\n5\n{}\n", &root[..43]),
        format!("{ORIGIN}\n5\n{root} \n"),
        format!("{ORIGIN}\n5\n{}\n", root.replace("q2I=", "q2J=")),
        format!("{ORIGIN}\n5\nAAAA\n"),
    ] {
        let signed = note::sign(&text, &key);
        assert!(matches!(verify(&signed, key.verifier()), Err(CheckpointError::Malformed(_))), "{text:?}");
    }
    let signed = note::sign(&format!("another.example\n5\n{root}\n"), &key);
    assert_eq!(verify(&signed, key.verifier()), Err(CheckpointError::AnotherOrigin));
    for size in ["0", "18446744073709551615"] {
        let signed = note::sign(&format!("{ORIGIN}\n{size}\n{root}\n"), &key);
        assert_eq!(verify(&signed, key.verifier()).map(|read| read.size.to_string()).as_deref(), Ok(size));
    }
}
