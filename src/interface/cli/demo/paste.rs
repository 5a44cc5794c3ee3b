//! What the demo prints for pasting into another terminal.

use super::CONSUMER;
use crate::demo::{DemoQuery, QUERIES};

/// How wide a note is, in bytes.
const NOTE_WIDTH: usize = 96;

/// What to paste into another terminal.
pub(super) fn what_to_try(url: &str, token: &str, program: &str) -> String {
    let mut lines = vec![
        String::new(),
        format!("This token asks for {CONSUMER}. In another terminal:"),
        String::new(),
        format!("  export TOLLGATE_URL={url}"),
        format!("  export TOLLGATE_TOKEN={token}"),
        String::new(),
    ];
    for (at, query) in QUERIES.iter().enumerate() {
        lines.push(format!("{}. {}", at + 1, query.title));
        lines.extend(wrapped(query.note, NOTE_WIDTH).into_iter().map(|line| format!("   {line}")));
        for line in [as_command(query, program), as_curl(query)] {
            lines.extend([String::new(), format!("  {line}")]);
        }
        lines.push(String::new());
    }
    lines.push(
        "Ctrl-C stops the gateway; the same command starts it again on the same data and budgets.\n\n".to_owned(),
    );
    lines.join("\n")
}

pub(super) fn as_command(query: &DemoQuery, program: &str) -> String {
    let purpose = query.purpose.map(|purpose| format!(" --purpose {}", quoted(purpose))).unwrap_or_default();
    format!("{program} query --epsilon {}{purpose} {}", query.epsilon, quoted(&on_one_line(query.sql)))
}

pub(super) fn as_curl(query: &DemoQuery) -> String {
    let mut body = serde_json::json!({ "sql": on_one_line(query.sql), "epsilon": query.epsilon });
    if let Some(purpose) = query.purpose {
        body["purpose"] = purpose.into();
    }
    format!(
        "curl -s \"$TOLLGATE_URL/v1/query\" -H \"Authorization: Bearer $TOLLGATE_TOKEN\" -H 'Content-Type: application/json' -d {}",
        quoted(&body.to_string())
    )
}

/// The statement on one line. None of the demo's has a comment or a string with a line break in it.
fn on_one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` as one word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/=:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// How this program was called, so that what is printed works where it was.
pub(super) fn program() -> String {
    let name = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    quoted(&name.unwrap_or_else(|| "tollgate".to_owned()))
}
