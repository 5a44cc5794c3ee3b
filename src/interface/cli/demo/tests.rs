use super::paste::{as_command, as_curl, quoted, wrapped};
use crate::demo::QUERIES;

#[test]
fn a_shell_reads_back_what_was_quoted() {
    for text in ["plain", "", "it's", "a b", "$HOME", "\"x\"", "back\\slash", "'", "SELECT 'a' || \"b\""] {
        let echoed = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(text))).output();
        assert_eq!(String::from_utf8_lossy(&echoed.expect("a shell").stdout), text);
    }
}

#[test]
fn what_to_paste_is_one_line_and_says_the_price() {
    for query in &QUERIES {
        for line in [as_command(query, "tollgate"), as_curl(query)] {
            assert!(!line.contains('\n'), "{line}");
            assert!(line.contains(&query.epsilon.to_string()), "{line}");
            assert_eq!(line.contains("statistics"), query.purpose == Some("statistics"), "{line}");
        }
    }
}

#[test]
fn notes_are_wrapped_between_words() {
    assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
}

#[test]
fn a_directory_is_configured_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tollgate.toml");
    super::write_config(&path).expect("written");
    std::fs::write(&path, "mine").expect("changed");
    super::write_config(&path).expect("kept");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "mine");
}
