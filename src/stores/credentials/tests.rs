use std::fs;
use std::time::{Duration, SystemTime};

use super::{FileCredentials, parse};

const FILE: &str = "# keys\n[other]\naws_access_key_id = A\naws_secret_access_key = B\n\n[default]\naws_access_key_id=C\n\
                    aws_secret_access_key = D=E/+\naws_session_token = F\nregion = x\n";

#[test]
fn the_keys_of_a_section_are_read() {
    let keys = parse(FILE, "default").unwrap();
    assert_eq!((keys.key_id.as_str(), keys.secret_key.as_str(), keys.token.as_deref()), ("C", "D=E/+", Some("F")));
    let keys = parse(FILE, "other").unwrap();
    assert_eq!((keys.key_id.as_str(), keys.secret_key.as_str(), keys.token), ("A", "B", None));
}

#[test]
fn what_is_wrong_is_told_without_the_text() {
    for (text, expected) in [
        ("", "has no section of the name that `profile` gives"),
        ("[default]\naws_access_key_id = SECRET\n", "its section has no aws_secret_access_key"),
        ("[default]\naws_secret_access_key = SECRET\n", "its section has no aws_access_key_id"),
        ("[default]\naws_access_key_id =\naws_secret_access_key = S\n", "its section has no aws_access_key_id"),
        ("[default]\nSECRET\n", "a line is no section and no `key = value`"),
    ] {
        assert_eq!(parse(text, "default").unwrap_err(), expected);
    }
}

#[test]
fn keys_that_change_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials");
    let keys = FileCredentials::new(path.clone(), "other".to_owned());
    assert!(keys.read().unwrap_err().to_string().ends_with("credentials: cannot be read"));
    fs::write(&path, FILE).unwrap();
    assert_eq!(keys.read().unwrap().key_id, "A");
    fs::write(&path, FILE.replace("= A", "= Z")).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(9))
        .unwrap();
    assert_eq!(keys.read().unwrap().key_id, "Z");
}
