use clap::{Command, CommandFactory, Parser};
use serde_json::json;

use super::Cli;
use super::client::{AnswerView, Client, part};
use super::failure::{Failure, Problem};
use super::listing::as_table;
use super::query::facts;
use super::table::{self, figure, printable};
use crate::gateway::{Code, GatewayError};

#[test]
fn the_arguments_do_not_contradict_each_other() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    fn leaves(command: &Command, path: &str) -> Vec<(String, String)> {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            return command.get_subcommands().flat_map(|command| leaves(command, &path)).collect();
        }
        vec![(path, command.get_after_help().map(ToString::to_string).unwrap_or_default())]
    }
    let leaves = leaves(&Cli::command(), "");
    assert_eq!(leaves.len(), 46, "{leaves:?}");
    for (path, help) in leaves {
        assert!(help.contains("Example") && help.contains(path.trim()), "{path}: {help}");
    }
}

#[test]
fn help_does_not_show_the_token_of_the_environment() {
    let mut command = Cli::command();
    let query = command.find_subcommand_mut("query").expect("query");
    let token = query.get_arguments().find(|argument| argument.get_id() == "token").expect("--token");
    assert!(token.is_hide_env_values_set());
}

#[test]
fn wrong_usage_is_told_from_failure() {
    for wrong in [
        &["tollgate", "token", "create", "--role", "king"][..],
        &["tollgate", "token", "create", "--role", "analyst"],
        &["tollgate", "token", "create", "--role", "steward"],
        &["tollgate", "budget", "set", "c", "u.f", "--epsilon", "1", "--delta", "1e-6", "--per", "week"],
        &["tollgate", "query"],
        &["tollgate", "query", "x", "--format", "xml"],
        &["tollgate", "report"],
        &["tollgate", "audit", "verify", "log.jsonl"],
        &["tollgate", "audit", "proof", "first"],
        &["tollgate", "audit", "consistency"],
        &["tollgate", "ledger", "adopt"],
        &["tollgate", "dataset", "register"],
        &["tollgate", "approval", "approve", "0198c0de-0000-7000-8000-000000000000"],
        &["tollgate", "budget", "approve", "sesame"],
        &["tollgate", "budget", "request", "u.f", "--epsilon", "1", "--delta", "1e-6", "--per", "month"],
        &["tollgate", "audit", "verify", "log.jsonl", "--key", "k", "--proof", "p"],
        &["tollgate"],
    ] {
        let error = Cli::try_parse_from(wrong).expect_err("wrong usage");
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
    }
    assert_eq!(Failure::NoToken.exit_status(), 2);
    assert_eq!(Failure::NothingToServe.exit_status(), 1);
}

#[test]
fn a_failure_says_its_code_and_what_to_do() {
    let error = GatewayError::new(Code::QueryNotPrivate, "the column has no bounds").with_hint("clamp it");
    assert_eq!(Failure::from(error).render(), "error[query_not_private]: the column has no bounds\nhint: clamp it\n");
    // The server's words are another machine's, and a terminal obeys escapes.
    let problem = Problem { code: "x".to_owned(), detail: "a\u{1b}[2Jb".to_owned(), hint: None };
    assert_eq!(Failure::Refused(problem).render(), "error[x]: a\u{fffd}[2Jb\n");
}

#[test]
fn only_http_addresses_are_gateways() {
    for url in ["http://127.0.0.1:8080", "http://[::1]:80/", "http://gateway.example"] {
        assert!(Client::new(url, "token").is_ok(), "{url}");
    }
    for url in ["https://gateway.example", "127.0.0.1:8080", "file:///etc/passwd", "", "http://"] {
        assert!(matches!(Client::new(url, "token"), Err(Failure::BadUrl { .. })), "{url}");
    }
}

#[test]
fn figures_are_short_and_right() {
    for (value, text) in [
        (0.0, "0"),
        (0.2, "0.2"),
        (1e-9, "1e-9"),
        (0.000_675, "0.000675"),
        (0.000_067_5, "6.75e-5"),
        (4620.4, "4620"),
        (51.234, "51.23"),
        (999_999.0, "999999"),
        (12_345_678.0, "1.235e7"),
        (-1.5, "-1.5"),
        (100.0, "100"),
    ] {
        assert_eq!(figure(value), text);
    }
}

#[test]
fn names_are_one_part_of_a_path() {
    for (name, written) in
        [("united.flights", "united.flights"), ("a/b", "a%2Fb"), ("?x=ä", "%3Fx%3D%C3%A4"), ("..%2f", "..%252f")]
    {
        assert_eq!(part(name).to_string(), written);
    }
}

#[test]
fn lists_are_tables() {
    let document = json!({"rows": [
        {"name": "a", "n": 17, "x": 0.000_675, "yes": true},
        {"name": "two\nlines\u{1b}", "n": null, "yes": false},
    ]});
    let text =
        as_table(&document, "rows", &[("name", "name"), ("n", "n"), ("x", "x"), ("yes", "yes"), ("none", "none")]);
    for words in ["two lines\u{fffd}", "17", "0.000675", "yes", "no"] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(as_table(&json!({}), "rows", &[("name", "name")]).lines().count(), 4);
}

#[test]
fn what_a_terminal_would_obey_is_not_printed() {
    assert_eq!(printable("plain – text"), "plain – text");
    assert_eq!(printable("\u{1b}]0;x\u{7}\r\n\u{9b}"), "\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
}

fn answer(with_rows: bool) -> AnswerView {
    let mut document = json!({
        "columns": [{"name": "origin", "type": "Utf8"}, {"name": "n", "type": "Int64"}, {"name": "x", "type": "Float64"}],
        "accuracy": [
            null,
            {"mechanism": "discrete_gaussian", "std_dev": 10.0, "half_width_95": 19.6},
            {"mechanism": "discrete_gaussian", "per_row": true}
        ],
        "privacy": {"epsilon": 0.2, "delta": 1e-9, "rho": 0.000_675, "delta_selection": 1e-10, "cached": false,
                    "charges": [{"account": "consumer/united.flights", "rho": 0.000_675, "delta": 0.0}]},
        "budget": [{"dataset": "united.flights", "accounting": "zcdp", "per": "month", "window": "2026-11",
                    "epsilon_limit": 4.0, "delta_limit": 1e-6, "epsilon_spent": 0.154, "fraction_spent": 0.0023}],
        "groups": {"public": false, "min_size": 10, "units_to_appear_95": 143}
    });
    if with_rows {
        document["rows"] = json!([["EWR", 20_315, 1.234_567_89], [null, -3, null]]);
    }
    serde_json::from_value(document).expect("an answer")
}

#[test]
fn an_answer_is_a_table_with_its_error_at_the_head() {
    let text = table::answer(&answer(true));
    let expected = "\
┌────────┬───────────────┬──────────┐
│ origin ┆             n ┆        x │
│        ┆ ± 19.6 (95 %) ┆ ± by row │
╞════════╪═══════════════╪══════════╡
│ EWR    ┆         20315 ┆   1.2346 │
│ NULL   ┆            -3 ┆     NULL │
└────────┴───────────────┴──────────┘
";
    assert_eq!(text, expected);
}

#[test]
fn numbers_are_rounded_to_their_error() {
    let mut answer = answer(true);
    for (width, shown) in [(0.0123, "1.235"), (0.5, "1.23"), (19.6, "1 ")] {
        answer.accuracy[2].as_mut().expect("an accuracy").half_width_95 = Some(width);
        let text = table::answer(&answer);
        assert!(text.contains(shown), "{width}: {text}");
    }
}

#[test]
fn a_dry_run_is_a_table_of_what_to_expect() {
    let text = table::answer(&answer(false));
    for words in ["19.6", "by row", "discrete_gaussian", "Float64"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(facts(&answer(false)).contains("would be charged to consumer/united.flights"));
}

#[test]
fn the_price_is_told_with_what_is_left() {
    assert_eq!(
        facts(&answer(true)),
        "ε 0.2 at δ 1e-9 (ρ 0.000675), δ 1e-10 for choosing groups; charged to consumer/united.flights\n\
         united.flights: 0.23 % of the budget spent (2026-11)\n\
         groups: none of fewer than 10 units appears; one of 143 does with 95 %"
    );
    let mut cached = answer(true);
    cached.privacy.cached = true;
    assert!(facts(&cached).contains("paid for before, so free"));
}
