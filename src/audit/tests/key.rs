use std::fs;
use std::path::Path;

use super::super::key::{KeyError, SigningKey, VerifierKey, public_path};
use super::ORIGIN;

/// A key that OpenSSL made (`openssl genpkey -algorithm ed25519`), and its public key as OpenSSL tells it.
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIFDDmblfPEpOVa1d04jg4MC5o61TDtNOVRm/Oenuxci5
-----END PRIVATE KEY-----
";
const OPENSSL_PUBLIC: &str = "hC1buHTiEkYM1ZxAck3SAWHaZakYvSOigUOP2ynDMno=";

fn write(path: &Path, content: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_public_key_has_one_text() {
    let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key: VerifierKey = text.parse().expect("a key");
    assert_eq!((key.name(), key.id(), key.to_string().as_str()), ("PeterNeumann", 0xc74f_20a3, text));
    for wrong in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TX",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW+x",
    ] {
        assert!(wrong.parse::<VerifierKey>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_weak_key_verifies_nothing() {
    // The neutral element of the curve, of which anybody can sign anything.
    let mut bytes = vec![1u8, 1];
    bytes.resize(33, 0);
    let text = |id: u32| format!("weak+{id:08x}+{}", super::super::encoding::encode(&bytes));
    let error = text(0).parse::<VerifierKey>().expect_err("weak");
    assert!(error.to_string().contains("weak"), "{error}");
}

#[test]
fn names_that_would_break_a_line_are_refused() {
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "a\u{0}", &"x".repeat(256)] {
        assert!(matches!(SigningKey::from_seed(&[1; 32], name), Err(KeyError::Name)), "{name:?}");
    }
}

#[test]
fn a_key_is_made_once_and_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.key");
    let made = SigningKey::load_or_create(&path, ORIGIN).expect("made");
    let public = public_path(&path);
    assert_eq!(public, dir.path().join("audit.key.pub"));
    assert_eq!(fs::read_to_string(&public).expect("text"), format!("{}\n", made.verifier()));
    assert_eq!(mode(&path), 0o600);
    let pem = fs::read_to_string(&path).expect("text");
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8");
    let read = SigningKey::load_or_create(&path, ORIGIN).expect("read");
    assert_eq!(read.verifier(), made.verifier());
    assert_eq!(fs::read_to_string(&path).expect("text"), pem);
    // The public key is written again where it was lost.
    fs::remove_file(&public).expect("removed");
    SigningKey::load_or_create(&path, ORIGIN).expect("read");
    assert_eq!(fs::read_to_string(&public).expect("text"), format!("{}\n", made.verifier()));
    assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "nothing else is left there");
    let other = SigningKey::load_or_create(&dir.path().join("other"), ORIGIN).expect("made");
    assert_ne!(other.verifier(), made.verifier());
    let secret = pem.lines().nth(1).expect("base64");
    assert!(!format!("{made:?}").contains(secret));
}

#[test]
fn a_key_that_openssl_made_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.key");
    write(&path, OPENSSL, 0o600);
    let key = SigningKey::load_or_create(&path, ORIGIN).expect("read");
    let text = key.verifier().to_string();
    let encoded = text.rsplit('+').next().expect("a key");
    let bytes = super::super::encoding::decode(encoded).expect("base64");
    assert_eq!(super::super::encoding::encode(&bytes[1..]), OPENSSL_PUBLIC);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.key");
    for bits in [0o640, 0o604, 0o644, 0o620, 0o601] {
        write(&path, OPENSSL, bits);
        let error = SigningKey::load_or_create(&path, ORIGIN).expect_err("refused");
        assert!(matches!(error, KeyError::NotPrivate { mode, .. } if mode == bits), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn what_is_no_key_is_refused_and_left_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.key");
    for wrong in
        ["", "x", &OPENSSL.replace("MC4C", "MC4D"), &"x".repeat(100_000), &OPENSSL.replace("PRIVATE", "EC PRIVATE")]
    {
        write(&path, wrong, 0o600);
        let error = SigningKey::load_or_create(&path, ORIGIN).expect_err("refused");
        assert!(matches!(error, KeyError::NotAKey { .. }), "{error}");
        assert_eq!(&fs::read_to_string(&path).expect("text"), wrong);
    }
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    assert!(SigningKey::load_or_create(&path, ORIGIN).is_err());
    assert!(matches!(SigningKey::load_or_create(&dir.path().join("no/such/folder"), ORIGIN), Err(KeyError::Io { .. })));
}

#[test]
fn a_log_does_not_change_its_key_or_name_unnoticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.key");
    SigningKey::load_or_create(&path, ORIGIN).expect("made");
    let error = SigningKey::load_or_create(&path, "another.example/log").expect_err("another name");
    assert!(matches!(error, KeyError::Differs { .. }), "{error}");
    write(&path, OPENSSL, 0o600);
    let error = SigningKey::load_or_create(&path, ORIGIN).expect_err("another key");
    assert!(matches!(error, KeyError::Differs { .. }), "{error}");
    fs::remove_file(&path).expect("removed");
    let error = SigningKey::load_or_create(&path, ORIGIN).expect_err("no key");
    assert!(matches!(error, KeyError::Lost { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn of_many_that_start_at_once_one_makes_the_key() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> =
                (0..8).map(|_| scope.spawn(|| SigningKey::load_or_create(&path, ORIGIN).expect("a key"))).collect();
            started.into_iter().map(|thread| thread.join().expect("an end").verifier().to_string()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}
