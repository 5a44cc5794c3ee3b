//! What the demo prints for pasting into another terminal.

use std::path::Path;

use super::{CONSUMER, OWNER, Tokens};
use crate::demo::{DemoQuery, QUERIES};

/// How wide a note is, in bytes.
const NOTE_WIDTH: usize = 96;

/// What to paste into another terminal.
pub(super) fn what_to_try(url: &str, tokens: &Tokens, dir: &Path, program: &str) -> String {
    let mut lines = vec![
        String::new(),
        format!("This token asks for {CONSUMER}. In another terminal:"),
        String::new(),
        format!("  export TOLLGATE_URL={url}"),
        format!("  export TOLLGATE_TOKEN={}", tokens.analyst),
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
    lines.extend(others(tokens, dir, program));
    lines.push(
        "Ctrl-C stops the gateway; the same command starts it again on the same data and budgets.\n\n".to_owned(),
    );
    lines.join("\n")
}

/// What the other people of the demo can do.
fn others(tokens: &Tokens, dir: &Path, program: &str) -> Vec<String> {
    let at = |file: &str| quoted(&dir.join(file).display().to_string());
    let trips = format!("{OWNER}.trips");
    let parts = [
        (
            format!(
                "The steward of {OWNER} sees who asked what, and decides. The last three lines register a second dataset."
            ),
            ("STEWARD", &tokens.steward),
            vec![
                format!("{program} dataset queries {trips}"),
                format!("{program} dataset suspend {trips} --reason 'the contract is being renewed'"),
                format!("{program} dataset resume {trips}"),
                format!("{program} dataset versions {trips}"),
                format!("cp {} {}", at("data/velo/trips.parquet"), at("data/velo/rides.parquet")),
                format!(
                    "sed -e 's/^name = \"trips\"/name = \"rides\"/' -e 's/^location = .*/location = \"rides.parquet\"/' {} > {}",
                    at("policies/velo.trips.toml"),
                    at("rides.toml")
                ),
                format!("{program} dataset register {} --reason 'the new contract'", at("rides.toml")),
            ],
        ),
        (
            "The budget administrator grants budgets and freezes consumers.".to_owned(),
            ("ADMINISTRATOR", &tokens.administrator),
            vec![
                format!("{program} consumer list"),
                format!("{program} budget show --consumer {CONSUMER}"),
                format!("{program} budget set {CONSUMER} {trips} --epsilon 2 --delta 1e-7 --per month"),
            ],
        ),
        (
            "The auditor reads the log of decisions, and verifies it without the gateway.".to_owned(),
            ("AUDITOR", &tokens.auditor),
            vec![
                format!("{program} audit list"),
                format!("{program} audit export > {}", at("log.jsonl")),
                format!("{program} audit verify {} --key {}", at("log.jsonl"), at("audit.key.pub")),
            ],
        ),
    ];
    let mut lines = Vec::new();
    for (what, (name, token), commands) in parts {
        lines.extend([what, String::new(), format!("  {name}={token}")]);
        for command in commands {
            let for_this_token = command.starts_with(program) && !command.contains(" audit verify ");
            let token = if for_this_token { format!("TOLLGATE_TOKEN=${name} ") } else { String::new() };
            lines.push(format!("  {token}{command}"));
        }
        lines.push(String::new());
    }
    lines
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
