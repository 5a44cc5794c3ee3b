//! Policies that change while the server runs: texts that are no files, what may follow what, and what changes mean.

use std::path::Path;

use super::{collection, private, schema, text};
use crate::policy::{
    Approval, Effect, PolicyFile, changes, check_against_schema, check_between, check_collection, check_recorded,
    check_successor, diff, parse_json, parse_text,
};

fn parsed(text: &str) -> PolicyFile {
    parse_text(Path::new("policy"), Path::new("/base"), text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn json(text: &str) -> Result<(PolicyFile, String), String> {
    parse_json(Path::new("policy"), Path::new("/base"), text).map_err(|errors| errors.to_string())
}

const JSON: &str = r#"{
  "dataset": { "owner": "a", "name": "b", "location": "x.parquet", "valid_until": "2027-12-31" },
  "privacy": { "unit": "id", "unit_domain": "person", "max_groups_per_unit": 2, "max_rows_per_unit_per_group": 3 },
  "budget": {
    "per_consumer": { "epsilon": 4, "delta": 1e-6, "per": "month" },
    "all_consumers": { "epsilon": 20, "delta": 1e-5, "per": "lifetime" },
    "default_query": { "epsilon": 0.2 }, "max_query": { "epsilon": 1 } },
  "columns": { "d": { "public_groups": { "from": "2024-01-01", "to": "2024-01-31" } }, "x": { "bounds": [0, 0.5] } }
}"#;

#[test]
fn a_text_has_a_place_and_a_base() {
    let file = parsed(&text("a", "b", "sub/x.parquet", ""));
    assert_eq!(file.location(), Some("/base/sub/x.parquet"));
    let errors = parse_text(Path::new("policy"), Path::new("/base"), "[dataset]\nowner = 7").unwrap_err().to_string();
    assert!(errors.contains("policy:2:9: dataset.owner: must be a name in quotes"), "{errors}");
    assert!(!errors.contains("/base"), "{errors}");
    let large = "#".repeat(8 * 1024 * 1024 + 1);
    let errors = parse_text(Path::new("policy"), Path::new("/base"), &large).unwrap_err().to_string();
    assert_eq!(errors, "policy: is larger than 8388608 bytes, which no policy needs to be");
}

#[test]
fn json_says_what_toml_says() {
    let toml = text(
        "a",
        "b",
        "x.parquet",
        "[columns]\nx.bounds = [0, 0.5]\nd.public_groups = { from = 2024-01-01, to = 2024-01-31 }",
    )
    .replace("[privacy]", "valid_until = 2027-12-31\n[privacy]");
    let (file, as_toml) = json(JSON).unwrap();
    assert_eq!(file.version(), parsed(&toml).version());
    assert_eq!(file.version(), parsed(&as_toml).version());
    assert_eq!(diff(&toml, &as_toml), "");
}

#[test]
fn what_json_cannot_say_is_refused_at_its_line() {
    for (was, becomes, expected) in [
        (
            "\"epsilon\": 4,",
            "\"epsilon\": 4, \"epsilon\": 400,",
            "policy:5:45: not JSON: the key \"epsilon\" stands twice",
        ),
        ("\"2027-12-31\"", "null", "not JSON: null says nothing: leave the key out"),
        ("[0, 0.5]", "[0, 0.5", "policy:8:"),
        ("[0, 0.5]", "[0, 9223372036854775808]", "not JSON: a whole number needs more than 64 bits"),
        (
            "\"2027-12-31\"",
            "\"soon\"",
            "policy: dataset.valid_until: must be a date without quotes, such as 2027-12-31, not a string",
        ),
        ("\"unit\": \"id\", ", "", "policy: privacy.unit: missing: add `unit = \"customer_id\"`"),
        ("\"max_query\"", "\"max_qury\"", "policy: budget.max_qury: unknown key; did you mean `max_query`?"),
        ("\"month\"", "1", "policy: budget.per_consumer.per: must be a word in quotes, not a whole number"),
    ] {
        assert_eq!(JSON.matches(was).count(), 1, "{was}");
        let said = json(&JSON.replace(was, becomes)).map(|(file, _)| file.version().to_owned()).unwrap_err();
        assert!(said.contains(expected), "{becomes}: {said}");
    }
    for no_object in ["[]", "7", "\"[dataset]\"", "true"] {
        assert!(json(no_object).unwrap_err().starts_with("policy: not JSON: a policy is an object"), "{no_object}");
    }
    let deep = "[".repeat(100_000);
    assert!(json(&deep).unwrap_err().contains("not JSON"));
}

#[test]
fn what_is_found_later_in_a_json_policy_has_no_line() {
    let (PolicyFile::Private(policy), _) = json(JSON).unwrap() else { panic!("private") };
    let errors = check_against_schema(&policy, &schema(&[("id", arrow::datatypes::DataType::Int64)])).unwrap_err();
    assert!(errors.to_string().starts_with("policy: columns.d: the data has no column `d`"), "{errors}");
}

#[test]
fn what_must_hold_between_policies_does_not_need_files() {
    let (a, b) = (parsed(&text("a", "t", "a/", "")), parsed(&text("b", "t", "b/", "")));
    let within = parsed(&text("c", "t", "a/sub/../x.parquet", ""));
    for check in [check_between, check_recorded] {
        assert!(check(&[&a, &b]).is_ok());
        let said = check(&[&a, &b, &within]).unwrap_err().to_string();
        assert!(said.contains("dataset.location: lies within the location of `a.t`"), "{said}");
        assert!(check(&[&a, &a]).unwrap_err().to_string().contains("`a.t` is also declared"));
    }
    let all = parsed(&collection("\"a.t\", \"b.t\""));
    assert!(check_collection(&all, &[&a, &b]).is_ok());
    let said = check_collection(&all, &[&a]).unwrap_err().to_string();
    assert_eq!(said, "policy:3:1: collection.members: no policy here declares `b.t`; did you mean `a.t`?");
}

#[test]
fn what_the_accounts_are_kept_by_does_not_change() {
    let old = text("a", "b", "x", "");
    let refused = |was: &str, becomes: &str| {
        let new = old.replacen(was, becomes, 1);
        assert_ne!(new, old, "{was}");
        check_successor(&parsed(&old), &parsed(&new)).map_err(|errors| errors.to_string())
    };
    for (was, becomes, expected) in [
        ("unit = \"id\"", "unit = \"trip\"", "policy:6:1: privacy.unit: is \"trip\", and was \"id\""),
        ("\"person\"", "\"firm\"", "policy:7:1: privacy.unit_domain: is \"firm\", and was \"person\""),
        (
            "[privacy]",
            "[privacy]\naccounting = \"pure\"",
            "policy:6:1: privacy.accounting: is \"pure\", and was \"zcdp\"",
        ),
        ("\"month\"", "\"year\"", "policy:11:45: budget.per_consumer.per: is \"year\", and was \"month\""),
        ("\"lifetime\"", "\"year\"", "budget.all_consumers.per: is \"year\", and was \"lifetime\""),
        // What is not said is what holds for all consumers.
        (
            "[budget]",
            "[budget]\nper_agency = { epsilon = 5, delta = 1e-6, per = \"month\" }",
            "budget.per_agency.per: is \"month\", and was \"lifetime\"",
        ),
    ] {
        let said = refused(was, becomes).unwrap_err();
        assert!(said.contains(expected), "{becomes}: {said}");
        assert!(said.contains("so it cannot change"), "{said}");
    }
    for (was, becomes) in [
        ("epsilon = 4", "epsilon = 3"),
        ("epsilon = 20", "epsilon = 40"),
        ("\"x\"", "\"y\""),
        ("_unit = 2", "_unit = 1"),
        ("[budget]", "[budget]\nper_consumer_in_domain = { epsilon = 8, delta = 1e-6, per = \"year\" }"),
    ] {
        assert_eq!(refused(was, becomes), Ok(()), "{becomes}");
    }
    let public = parsed("[dataset]\nowner = \"a\"\nname = \"b\"\nkind = \"public\"\nlocation = \"x\"\n");
    let said = check_successor(&parsed(&old), &public).unwrap_err().to_string();
    assert!(said.starts_with("policy:4:1: dataset.kind: is \"public\", and was \"private\""), "{said}");
    assert!(check_successor(&public, &public).is_ok());
}

/// The changes from a policy to one with `was` replaced, as lines.
fn said(was: &str, becomes: &str) -> Vec<String> {
    let old = text("a", "b", "x", COLUMNS);
    assert_eq!(old.matches(was).count(), 1, "{was}");
    let new = old.replace(was, becomes);
    changes(&parsed(&old), &parsed(&new)).iter().map(ToString::to_string).collect()
}

const COLUMNS: &str =
    "[columns]\nx = { bounds = [0, 9], access = [\"aggregate\", \"filter\"] }\ng = { public_groups = [1, 2] }\n";

#[test]
fn a_change_says_whether_it_loosens() {
    use Effect::{Either, Loosens, Neutral, Tightens};
    /// What is replaced, by what, and of each change its effect, its key, and what it was and becomes.
    type Case = (&'static str, &'static str, &'static [(Effect, &'static str, &'static str, &'static str)]);
    let cases: &[Case] = &[
        ("epsilon = 4", "epsilon = 6", &[(Loosens, "budget.per_consumer.epsilon", "4", "6")]),
        ("epsilon = 4", "epsilon = 2.5", &[(Tightens, "budget.per_consumer.epsilon", "4", "2.5")]),
        ("epsilon = 20", "epsilon = 21", &[(Loosens, "budget.all_consumers.epsilon", "20", "21")]),
        ("delta = 1e-5", "delta = 2e-6", &[(Tightens, "budget.all_consumers.delta", "0.00001", "0.000002")]),
        ("\"month\"", "\"year\"", &[(Tightens, "budget.per_consumer.per", "month", "year")]),
        ("epsilon = 1 ", "epsilon = 2 ", &[(Loosens, "budget.max_query.epsilon", "1", "2")]),
        ("epsilon = 0.2", "epsilon = 0.1", &[(Neutral, "budget.default_query.epsilon", "0.2", "0.1")]),
        ("[budget]", "[budget]\nauto_grant = false", &[(Tightens, "budget.auto_grant", "true", "false")]),
        ("[budget]", "[budget]\nquery_delta = 1e-8", &[(Loosens, "budget.query_delta", "0.000000001", "0.00000001")]),
        (
            "[budget]",
            "[budget]\nper_agency = { epsilon = 10, delta = 1e-5, per = \"lifetime\" }",
            &[(Tightens, "budget.per_agency.epsilon", "20", "10")],
        ),
        (
            "[budget]",
            "[budget]\nper_consumer_in_domain = { epsilon = 8, delta = 1e-6, per = \"year\" }",
            &[(Tightens, "budget.per_consumer_in_domain", "none", "{ epsilon = 8, delta = 0.000001, per = \"year\" }")],
        ),
        (
            "[budget]",
            "[budget]\nprice_per_epsilon = { amount = \"1\", currency = \"EUR\" }",
            &[(Neutral, "budget.price_per_epsilon", "none", "1.00 EUR")],
        ),
        ("[privacy]", "[privacy]\nmin_group_size = 5", &[(Tightens, "privacy.min_group_size", "1", "5")]),
        ("_unit = 2", "_unit = 3", &[(Loosens, "privacy.max_groups_per_unit", "2", "3")]),
        ("_group = 3", "_group = 2", &[(Tightens, "privacy.max_rows_per_unit_per_group", "3", "2")]),
        ("[privacy]", "[privacy]\nmax_rows_per_unit = 5", &[(Tightens, "privacy.max_rows_per_unit", "none", "5")]),
        ("[privacy]", "[privacy]\naccounting = \"pure\"", &[(Tightens, "privacy.accounting", "zcdp", "pure")]),
        ("[privacy]", "[privacy]\nsorted_by_unit = true", &[(Neutral, "privacy.sorted_by_unit", "false", "true")]),
        ("unit = \"id\"", "unit = \"trip\"", &[(Either, "privacy.unit", "id", "trip")]),
        ("[privacy]", "purposes = [\"p\"]\n[privacy]", &[(Tightens, "dataset.purposes", "any", "p")]),
        ("[privacy]", "consumers = [\"c\"]\n[privacy]", &[(Tightens, "dataset.consumers", "everyone", "c")]),
        (
            "[privacy]",
            "valid_until = 2027-12-31\n[privacy]",
            &[(Tightens, "dataset.valid_until", "none", "2027-12-31")],
        ),
        ("[privacy]", "approval = \"manual\"\n[privacy]", &[(Tightens, "dataset.approval", "auto", "manual")]),
        ("[privacy]", "description = \"d\"\n[privacy]", &[(Neutral, "dataset.description", "", "d")]),
        ("\"x\"", "\"y\"", &[(Either, "dataset.location", "/base/x", "/base/y")]),
        ("[0, 9]", "[-1, 9]", &[(Loosens, "columns.x.bounds", "[0, 9]", "[-1, 9]")]),
        ("[0, 9]", "[1, 8]", &[(Tightens, "columns.x.bounds", "[0, 9]", "[1, 8]")]),
        ("[0, 9]", "[1, 10]", &[(Either, "columns.x.bounds", "[0, 9]", "[1, 10]")]),
        ("bounds = [0, 9], ", "", &[(Tightens, "columns.x.bounds", "[0, 9]", "none")]),
        (", \"filter\"]", "]", &[(Tightens, "columns.x.access", "aggregate, filter", "aggregate")]),
        ("\"filter\"]", "\"group\"]", &[(Either, "columns.x.access", "aggregate, filter", "aggregate, group")]),
        // A column that is no longer mentioned may be used for anything.
        (
            "x = { bounds = [0, 9], access = [\"aggregate\", \"filter\"] }\n",
            "",
            &[
                (Loosens, "columns.x.access", "aggregate, filter", "aggregate, group, filter"),
                (Tightens, "columns.x.bounds", "[0, 9]", "none"),
            ],
        ),
        ("[1, 2]", "[1, 2, 3]", &[(Loosens, "columns.g.public_groups", "2 keys", "3 keys")]),
        ("[1, 2]", "[1, 3]", &[(Either, "columns.g.public_groups", "2 keys", "2 keys")]),
        (
            "{ public_groups = [1, 2] }",
            "{ access = \"deny\" }",
            &[
                (Tightens, "columns.g.access", "aggregate, group, filter", "deny"),
                (Tightens, "columns.g.public_groups", "2 keys", "none"),
            ],
        ),
        ("[1, 2]", "[1, 2], unit_key = \"k\"", &[(Loosens, "columns.g.unit_key", "none", "k")]),
        ("[1, 2]", "[1, 2], per_unit_constant = true", &[(Neutral, "columns.g.per_unit_constant", "false", "true")]),
        ("[privacy]", "# a comment\n[privacy]", &[]),
    ];
    for (was, becomes, expected) in cases {
        let found = said(was, becomes);
        assert_eq!(found.len(), expected.len(), "{becomes}: {found:#?}");
        for (found, (effect, key, was, new)) in found.iter().zip(*expected) {
            let expected = format!("{effect}: {key}: {was} becomes {new}: ");
            assert!(found.starts_with(&expected), "{becomes}: {found}\n{expected}");
        }
    }
}

#[test]
fn what_loosens_comes_first() {
    let old = text("a", "b", "x", "");
    let new = old.replace("epsilon = 4", "epsilon = 3").replace("epsilon = 20", "epsilon = 30");
    let effects: Vec<_> = changes(&parsed(&old), &parsed(&new)).iter().map(|change| change.effect).collect();
    assert_eq!(effects, [Effect::Loosens, Effect::Tightens]);
    let public = parsed("[dataset]\nowner = \"a\"\nname = \"b\"\nkind = \"public\"\nlocation = \"x\"\n");
    assert_eq!(changes(&parsed(&old), &public)[0].effect, Effect::Loosens);
    assert_eq!(changes(&public, &parsed(&old))[0].effect, Effect::Tightens);
}

#[test]
fn a_diff_is_of_what_is_said() {
    let old = text("a", "b", "x", "");
    assert_eq!(diff(&old, &format!("# why\n{}", old.replace("epsilon = 4,", "epsilon   = 4,"))), "");
    let shown = diff(&old, &old.replace("epsilon = 4,", "epsilon = 6,"));
    assert!(shown.starts_with("--- before\n+++ after\n@@ "), "{shown}");
    assert!(shown.contains("\n-epsilon = 4\n+epsilon = 6\n"), "{shown}");
    assert!(diff("", &old).contains("+unit = \"id\"\n"));
}

#[test]
fn new_keys_have_their_defaults() {
    let policy = private(&text("a", "b", "x", ""));
    assert_eq!(policy.approval, Approval::Auto);
    assert_eq!(policy.budget.per_agency, policy.budget.all_consumers);
    assert_eq!((policy.budget.per_consumer_in_domain, policy.budget.price_per_epsilon), (None, None));
    let said = text("a", "b", "x", "").replace(
        "[budget]",
        "approval = \"manual\"\n[budget]\nper_agency = { epsilon = 5, delta = 1e-6, per = \"year\" }\n\
         per_consumer_in_domain = { epsilon = 4, delta = 1e-6, per = \"month\" }\n\
         price_per_epsilon = { amount = \"0.5\", currency = \"USD\" }",
    );
    // Keys stand in their own sections.
    let errors = crate::policy::parse(Path::new("p.toml"), &said).unwrap_err().to_string();
    assert_eq!(errors, "p.toml:10:1: privacy.approval: this key belongs in [dataset]: move it there");
    let policy =
        private(&said.replace("approval = \"manual\"\n", "").replace("[privacy]", "approval = \"manual\"\n[privacy]"));
    assert_eq!(policy.approval, Approval::Manual);
    assert_eq!(policy.budget.per_agency.epsilon.to_f64(), 5.0);
    assert_eq!(policy.budget.per_consumer_in_domain.unwrap().epsilon.to_f64(), 4.0);
    assert_eq!(policy.budget.price_per_epsilon.unwrap().to_string(), "0.50 USD");
}
