//! Every statement of `docs/cookbook.md` is answered, each by an analyst of its own, since a month's budget is small.

use std::fs;

use serde_json::json;
use tollgate::ledger::Role;

use crate::fixture::{Server, over, repository};

/// By folder of policies, the statements of the cookbook.
fn statements() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("docs/cookbook.md")).expect("the cookbook");
    let (mut folder, mut found, mut sql) = (String::new(), Vec::new(), None::<String>);
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("<!-- policies: ").and_then(|rest| rest.strip_suffix(" -->")) {
            name.clone_into(&mut folder);
        }
        match &mut sql {
            None if line.trim() == "```sql" => sql = Some(String::new()),
            None => {}
            Some(statement) if line.trim() == "```" => {
                found.push((folder.clone(), std::mem::take(statement)));
                sql = None;
            }
            Some(statement) => {
                statement.push_str(line);
                statement.push('\n');
            }
        }
    }
    found
}

#[test]
fn every_question_of_the_cookbook_is_answered() {
    let statements = statements();
    assert!(statements.len() >= 25, "{} questions", statements.len());
    let mut faults = Vec::new();
    for folder in ["airlines", "ratings"] {
        let dir = tempfile::tempdir().expect("a folder");
        let server = Server::start(over(&repository().join("policies").join(folder), dir.path()));
        for (at, (_, sql)) in statements.iter().enumerate().filter(|(_, (of, _))| of == folder) {
            let consumer = format!("office-{at}");
            let token = server.administer(async |administration| {
                administration.add_consumer(&consumer, None).await.expect("a consumer");
                administration.create_token(Role::Analyst, Some(&consumer), None).await.expect("a token").secret
            });
            let bearer = format!("Bearer {token}");
            let seen =
                server.send_bare("POST", "/v1/query", &[("authorization", &bearer)], json!({ "sql": sql }).to_string());
            if seen.status != 200 {
                faults.push(format!("{sql}{}", seen.text()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
