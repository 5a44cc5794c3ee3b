//! Policy files: what is refused, with the exact message, and that the repository's own policies hold against its own
//! data.

use std::fs::File;
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tollgate::policy::{self, Key, PolicyFile, PublicGroups};

/// A policy with nothing wrong. The cases below each change one thing, so line numbers count from here.
const GOOD: &str = r#"[dataset]
owner = "united"
name = "flights"
location = "data/UA.parquet"

[privacy]
unit = "tailnum"
unit_domain = "aircraft"
min_group_size = 10
max_groups_per_unit = 8
max_rows_per_unit_per_group = 50

[budget]
per_consumer = { epsilon = 4.0, delta = 1e-6, per = "month" }
all_consumers = { epsilon = 20.0, delta = 1e-5, per = "lifetime" }
default_query = { epsilon = 0.2 }
max_query = { epsilon = 1.0 }

[columns.fare]
bounds = [0, 500]

[columns.origin]
public_groups = ["EWR", "JFK"]
"#;

/// What is said of a policy with nothing wrong.
const ACCEPTED: &str = "(accepted)";

/// One policy with a mistake: [`GOOD`] with `was` replaced, and every line that must be said of it.
struct Case {
    was: &'static str,
    becomes: &'static str,
    expected: &'static [&'static str],
}

const fn case(was: &'static str, becomes: &'static str, expected: &'static [&'static str]) -> Case {
    Case { was, becomes, expected }
}

/// Where one of `was` in [`GOOD`] is replaced, the problems must be `expected`, word for word.
fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for Case { was, becomes, expected } in cases {
        assert_eq!(GOOD.matches(was).count(), 1, "the case must name one place: {was}");
        let found = match policy::parse(Path::new("p.toml"), &GOOD.replacen(was, becomes, 1)) {
            Ok(_) => vec![ACCEPTED.to_owned()],
            Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
        };
        let expected: Vec<_> = match *expected {
            [ACCEPTED] => vec![ACCEPTED.to_owned()],
            lines => lines.iter().map(|line| format!("p.toml:{line}")).collect(),
        };
        if found != expected {
            wrong.push((*becomes, found, expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    check(&[
        case(
            "min_group_size",
            "min_group_sise",
            &["9:1: privacy.min_group_sise: unknown key; did you mean `min_group_size`?"],
        ),
        case(
            "[privacy]",
            "[privacyy]",
            &[" privacy: missing: add `[privacy]`", "6:2: privacyy: unknown key; did you mean `privacy`?"],
        ),
        case(
            "name = \"flights\"",
            "name = \"flights\"\nquery_delta = 1e-9",
            &["4:1: dataset.query_delta: this key belongs in [budget]: move it there"],
        ),
        case(
            "bounds = ",
            "limits = ",
            &[
                "20:1: columns.fare.limits: unknown key; known here: `access`, `bounds`, `public_groups`, `per_unit_constant`, `unit_key`",
            ],
        ),
        case(
            "per = \"month\" }",
            "per = \"month\", every = 1 }",
            &["14:62: budget.per_consumer.every: unknown key; known here: `epsilon`, `delta`, `per`"],
        ),
        // A column's name may hold anything; the message quotes it as TOML does.
        case(
            "[columns.fare]",
            "[columns.\"a b\"]\nbound = [0, 1]",
            &["20:1: columns.\"a b\".bound: unknown key; did you mean `bounds`?"],
        ),
    ]);
}

#[test]
fn missing_keys_are_named_with_an_example() {
    check(&[
        case("owner = \"united\"\n", "", &["1:2: dataset.owner: missing: add `owner = \"united\"`"]),
        case("unit = \"tailnum\"\n", "", &["6:2: privacy.unit: missing: add `unit = \"customer_id\"`"]),
        case(
            "max_groups_per_unit = 8\n",
            "",
            &["6:2: privacy.max_groups_per_unit: missing: add `max_groups_per_unit = 8`"],
        ),
        case(
            "max_query = { epsilon = 1.0 }",
            "max_query = {}",
            &["17:1: budget.max_query.epsilon: missing: add `epsilon = 0.2`"],
        ),
        case(", delta = 1e-6", "", &["14:1: budget.per_consumer.delta: missing: add `delta = 1e-6`"]),
        case(
            "[\"EWR\", \"JFK\"]",
            "{}",
            &[
                "23:1: columns.origin.public_groups.from: missing: add `from = 1`",
                "23:1: columns.origin.public_groups.to: missing: add `to = 12`",
            ],
        ),
    ]);
}

#[test]
fn all_problems_are_reported_together() {
    check(&[case(
        "owner = \"united\"\nname = \"flights\"",
        "owner = \"United\"\nnane = \"flights\"\nvalid_until = \"2027-12-31\"",
        &[
            "1:2: dataset.name: missing: add `name = \"flights\"`",
            "2:9: dataset.owner: `United` is not a name: use lower-case letters, digits and `_`, and begin with a letter or `_`, such as `united`",
            "3:1: dataset.nane: unknown key; did you mean `name`?",
            "4:15: dataset.valid_until: must be a date without quotes, such as 2027-12-31, not a string",
        ],
    )]);
}

#[test]
fn datasets_are_checked() {
    check(&[
        case(
            "\"united\"",
            "\"information_schema\"",
            &[
                "2:9: dataset.owner: `information_schema` is reserved: SQL clients expect their own catalogue under that name, so choose another owner",
            ],
        ),
        case(
            "\"flights\"",
            "\"a.b\"",
            &[
                "3:8: dataset.name: `a.b` is not a name: use lower-case letters, digits and `_`, and begin with a letter or `_`, such as `united`",
            ],
        ),
        case("\"flights\"", "7", &["3:8: dataset.name: must be a name in quotes, not a whole number"]),
        case(
            "\"data/UA.parquet\"",
            "\"gs://bucket/x\"",
            &[
                "4:12: dataset.location: `gs://` is not supported: give a file, a folder, a glob, or an `s3://bucket/prefix/` address",
            ],
        ),
        case(
            "\"data/UA.parquet\"",
            "\"s3:///x\"",
            &["4:12: dataset.location: names no bucket: write `s3://bucket/prefix/`"],
        ),
        case(
            "\"data/UA.parquet\"",
            "\" \"",
            &[
                "4:12: dataset.location: is empty: name the file, folder, glob or `s3://bucket/prefix/` address where the Parquet lies",
            ],
        ),
        case(
            "[dataset]",
            "[dataset]\nconsumers = []",
            &["2:13: dataset.consumers: is empty: nobody could ask; list who may, or write [\"*\"] for everyone"],
        ),
        case(
            "[dataset]",
            "[dataset]\nconsumers = [\"*\", \"dot\"]",
            &["2:13: dataset.consumers: \"*\" already means everyone: write [\"*\"], or list the consumers without it"],
        ),
        case(
            "[dataset]",
            "[dataset]\npurposes = [\"statistics\", \"\"]",
            &["2:27: dataset.purposes[1]: is empty: name the purpose, or leave it out"],
        ),
        case(
            "[dataset]",
            "[dataset]\nvalid_until = 2027-12-31T00:00:00Z",
            &["2:15: dataset.valid_until: must be a date without quotes, such as 2027-12-31, not a date or time"],
        ),
        case(
            "[dataset]",
            "[dataset]\nkind = \"pubic\"",
            &["2:8: dataset.kind: must be \"private\" or \"public\", not \"pubic\"; did you mean \"public\"?"],
        ),
        case(
            "[dataset]",
            "[dataset]\nkind = \"public\"\npurposes = []",
            &[
                "3:1: dataset.purposes: means nothing for a public table, which everyone may read: remove it, or remove `kind = \"public\"`",
                "8:2: privacy: means nothing for a public table, which everyone may read: remove it, or remove `kind = \"public\"`",
                "15:2: budget: means nothing for a public table, which everyone may read: remove it, or remove `kind = \"public\"`",
                "21:2: columns: means nothing for a public table, which everyone may read: remove it, or remove `kind = \"public\"`",
            ],
        ),
    ]);
}

#[test]
fn privacy_is_checked() {
    check(&[
        case("= 10\n", "= 0\n", &["9:18: privacy.min_group_size: must be a whole number from 1 to 1000000000, not 0"]),
        case(
            "= 8\n",
            "= 65_537\n",
            &["10:23: privacy.max_groups_per_unit: must be a whole number from 1 to 65536, not 65537"],
        ),
        case(
            "= 50\n",
            "= -1\n",
            &["11:31: privacy.max_rows_per_unit_per_group: must be a whole number from 1 to 65536, not -1"],
        ),
        case(
            "= 50\n",
            "= 2.5\n",
            &["11:31: privacy.max_rows_per_unit_per_group: must be a whole number, not a number with a fraction"],
        ),
        case(
            "= 50\n",
            "= 50\nmax_rows_per_unit = 49\n",
            &[
                "12:1: privacy.max_rows_per_unit: is 49, less than `privacy.max_rows_per_unit_per_group`, which is 50: raise this or lower that",
            ],
        ),
        case("\"tailnum\"", "\"\"", &["7:8: privacy.unit: is empty: name the column that identifies who is protected"]),
        case(
            "[privacy]",
            "[privacy]\naccounting = \"rdp\"",
            &["7:14: privacy.accounting: must be \"zcdp\" or \"pure\", not \"rdp\""],
        ),
        case(
            "[privacy]",
            "[privacy]\nsorted_by_unit = \"yes\"",
            &["7:18: privacy.sorted_by_unit: must be true or false, not a string"],
        ),
    ]);
}

#[test]
fn budgets_are_checked() {
    check(&[
        case(
            "epsilon = 4.0",
            "epsilon = 0",
            &[
                "14:28: budget.per_consumer.epsilon: an epsilon must be a number above 0, at least 1e-12 and at most 1000000, not 0",
            ],
        ),
        case(
            "epsilon = 4.0",
            "epsilon = inf",
            &[
                "14:28: budget.per_consumer.epsilon: an epsilon must be a number above 0, at least 1e-12 and at most 1000000, not inf",
            ],
        ),
        case(
            "epsilon = 4.0",
            "epsilon = nan",
            &[
                "14:28: budget.per_consumer.epsilon: an epsilon must be a number above 0, at least 1e-12 and at most 1000000, not NaN",
            ],
        ),
        case(
            "epsilon = 4.0",
            "epsilon = \"4\"",
            &["14:28: budget.per_consumer.epsilon: must be a number, such as 0.2, not a string"],
        ),
        case(
            "epsilon = 4.0",
            "epsilon = 5e-324",
            &[
                "14:28: budget.per_consumer.epsilon: an epsilon must be a number above 0, at least 1e-12 and at most 1000000, not 5e-324",
            ],
        ),
        case(
            "delta = 1e-6",
            "delta = 1",
            &["14:41: budget.per_consumer.delta: a delta must be a probability: at least 0 and less than 1, not 1"],
        ),
        case(
            "delta = 1e-6",
            "delta = 0",
            &[
                "14:33: budget.per_consumer.delta: must be above 0 with zcdp accounting (at least 1e-15), such as 1e-6; only `accounting = \"pure\"` can do without",
            ],
        ),
        case(
            "\"month\"",
            "\"monht\"",
            &[
                "14:53: budget.per_consumer.per: must be \"month\", \"quarter\", \"year\" or \"lifetime\", not \"monht\"; did you mean \"month\"?",
            ],
        ),
        case(
            "epsilon = 20.0, delta = 1e-5",
            "epsilon = 3, delta = 1e-7",
            &[
                "15:19: budget.all_consumers.epsilon: is 3, less than `budget.per_consumer.epsilon`, which is 4: raise this or lower that",
                "15:32: budget.all_consumers.delta: is 1e-7, less than `budget.per_consumer.delta`, which is 1e-6: raise this or lower that",
            ],
        ),
        case(
            "epsilon = 0.2",
            "epsilon = 1.5",
            &[
                "16:19: budget.default_query.epsilon: is 1.5, more than `budget.max_query.epsilon`, which is 1: lower this or raise that",
            ],
        ),
        case(
            "epsilon = 1.0",
            "epsilon = 4.5",
            &[
                "17:15: budget.max_query.epsilon: is 4.5, more than `budget.per_consumer.epsilon`, which is 4: lower this or raise that",
            ],
        ),
        case(
            "{ epsilon = 1.0 }",
            "1.0",
            &["17:13: budget.max_query: must be a table such as { epsilon = 0.2 }, not a number with a fraction"],
        ),
        case(
            "[budget]",
            "[budget]\nquery_delta = 1e-6",
            &["14:1: budget.query_delta: is 1e-6; it must be less than `budget.per_consumer.delta`, which is 1e-6"],
        ),
        case(
            "[budget]",
            "[budget]\nquery_delta = 0",
            &[
                "14:1: budget.query_delta: must be above 0 with zcdp accounting (at least 1e-18), such as 1e-9; only `accounting = \"pure\"` can do without",
            ],
        ),
        case(
            "[budget]",
            "[budget]\nauto_grant = \"yes\"",
            &["14:14: budget.auto_grant: must be true or false, not a string"],
        ),
    ]);
}

#[test]
fn caps_that_take_in_another_are_held_to_it() {
    check(&[
        case(
            "[budget]",
            "[budget]\nper_agency = { epsilon = 3, delta = 1e-7, per = \"month\" }",
            &[
                "14:16: budget.per_agency.epsilon: is 3, less than `budget.per_consumer.epsilon`, which is 4: raise this or lower that",
                "14:29: budget.per_agency.delta: is 1e-7, less than `budget.per_consumer.delta`, which is 1e-6: raise this or lower that",
            ],
        ),
        case(
            "[budget]",
            "[budget]\nper_agency = { epsilon = 21, delta = 1e-4, per = \"year\" }",
            &[
                "16:19: budget.all_consumers.epsilon: is 20, less than `budget.per_agency.epsilon`, which is 21: raise this or lower that",
                "16:35: budget.all_consumers.delta: is 1e-5, less than `budget.per_agency.delta`, which is 1e-4: raise this or lower that",
            ],
        ),
        case(
            "[budget]",
            "[budget]\nper_consumer_in_domain = { epsilon = 3.9, delta = 1e-6, per = \"lifetime\" }",
            &[
                "14:28: budget.per_consumer_in_domain.epsilon: is 3.9, less than `budget.per_consumer.epsilon`, which is 4: raise this or lower that",
            ],
        ),
        // A shorter period begins anew before the inner cap's does: 0.9 a month may be 4 in a year, but not 1 at once.
        case(
            "per = \"month\" }\n",
            "per = \"year\" }\nper_consumer_in_domain = { epsilon = 0.9, delta = 1e-6, per = \"month\" }\n",
            &[
                "18:15: budget.max_query.epsilon: is 1, more than `budget.per_consumer_in_domain.epsilon`, which is 0.9: lower this or raise that",
            ],
        ),
        case(
            "per = \"month\" }\n",
            "per = \"year\" }\nper_agency = { epsilon = 1, delta = 1e-6, per = \"month\" }\n",
            &[ACCEPTED],
        ),
        case(
            "[budget]",
            "[budget]\nper_agency = { epsilon = 5, per = \"month\" }",
            &["14:1: budget.per_agency.delta: missing: add `delta = 1e-6`"],
        ),
    ]);
}

#[test]
fn approvals_and_prices_are_checked() {
    check(&[
        case(
            "[dataset]",
            "[dataset]\napproval = \"manually\"",
            &["2:12: dataset.approval: must be \"auto\" or \"manual\", not \"manually\"; did you mean \"manual\"?"],
        ),
        case("[dataset]", "[dataset]\napproval = \"manual\"", &[ACCEPTED]),
        case("[budget]", "[budget]\nprice_per_epsilon = { amount = \"12.50\", currency = \"EUR\" }", &[ACCEPTED]),
        case(
            "[budget]",
            "[budget]\nprice_per_epsilon = {}",
            &[
                "14:1: budget.price_per_epsilon.amount: missing: add `amount = \"12.50\"`",
                "14:1: budget.price_per_epsilon.currency: missing: add `currency = \"EUR\"`",
            ],
        ),
        // A number would be a float, which no amount of money is.
        case(
            "[budget]",
            "[budget]\nprice_per_epsilon = { amount = 12.50, currency = \"EUR\" }",
            &[
                "14:32: budget.price_per_epsilon.amount: must be an amount in quotes, such as \"12.50\", not a number with a fraction",
            ],
        ),
        case(
            "[budget]",
            "[budget]\nprice_per_epsilon = { amount = \"1.0000001\", currency = \"EUR\" }",
            &[
                "14:32: budget.price_per_epsilon.amount: must be an amount above 0 and at most 1000000000, with at most six decimal places, such as \"12.50\", not \"1.0000001\"",
            ],
        ),
        case(
            "[budget]",
            "[budget]\nprice_per_epsilon = { amount = \"1\", currency = \"eur\" }",
            &[
                "14:48: budget.price_per_epsilon.currency: must be a currency's code in capitals (ISO 4217), such as \"EUR\", not \"eur\"",
            ],
        ),
    ]);
}

#[test]
fn columns_are_checked() {
    const BOUNDS: &str = "[0, 500]";
    const GROUPS: &str = "[\"EWR\", \"JFK\"]";
    check(&[
        case(
            BOUNDS,
            "[500, 0]",
            &["20:10: columns.fare.bounds: the lower bound 500 is above the upper bound 0: write [0, 500]"],
        ),
        case(
            BOUNDS,
            "[5, 5.0]",
            &[
                "20:10: columns.fare.bounds: both bounds are 5: every value would be clamped to it, and no sum or average would say anything of the data; widen them, or leave them out",
            ],
        ),
        case(
            BOUNDS,
            "[0, inf]",
            &["20:10: columns.fare.bounds: bounds must be finite: name the least and the largest value that matters"],
        ),
        case(
            BOUNDS,
            "[-1e308, 1e308]",
            &[
                "20:10: columns.fare.bounds: the bounds are too far apart for their difference to be a number: narrow them",
            ],
        ),
        case(
            BOUNDS,
            "[1]",
            &["20:10: columns.fare.bounds: must be two numbers, the lower and the upper bound, such as [0, 500]"],
        ),
        case(
            BOUNDS,
            "500",
            &[
                "20:10: columns.fare.bounds: must be two numbers, the lower and the upper bound, such as [0, 500], not a whole number",
            ],
        ),
        case(BOUNDS, "[0, \"500\"]", &["20:14: columns.fare.bounds[1]: must be a number, not a string"]),
        case(
            BOUNDS,
            "[0, 5]\naccess = \"agregate\"",
            &[
                "21:10: columns.fare.access: must be \"aggregate\", \"group\", \"filter\" or \"deny\", not \"agregate\"; did you mean \"aggregate\"?",
            ],
        ),
        case(
            BOUNDS,
            "[0, 5]\naccess = []",
            &[
                "21:10: columns.fare.access: an empty list allows nothing: write \"deny\" if the column must not be read",
            ],
        ),
        case(
            BOUNDS,
            "[0, 5]\naccess = [\"group\", \"deny\"]",
            &[
                "21:20: columns.fare.access[1]: \"deny\" stands alone: write access = \"deny\", or list the uses without it",
            ],
        ),
        case(
            BOUNDS,
            "[0, 5]\naccess = true",
            &[
                "21:10: columns.fare.access: must be a word such as \"aggregate\", or a list such as [\"aggregate\", \"filter\"], not true or false",
            ],
        ),
        case(
            GROUPS,
            "[]",
            &[
                "23:17: columns.origin.public_groups: has no keys: list them, or leave public_groups out so that groups are selected from the data",
            ],
        ),
        case(
            GROUPS,
            "[\"EWR\", 1]",
            &[
                "23:25: columns.origin.public_groups[1]: the keys before it are strings: all keys of a column are of one kind",
            ],
        ),
        case(
            GROUPS,
            "[\"EWR\", \"EWR\"]",
            &["23:25: columns.origin.public_groups[1]: \"EWR\" is listed twice: remove one"],
        ),
        case(
            GROUPS,
            "[1.5]",
            &[
                "23:18: columns.origin.public_groups[0]: must be a whole number, a string, true, false or a date, not a number with a fraction",
            ],
        ),
        case(
            GROUPS,
            "{ from = 12, to = 1 }",
            &["23:17: columns.origin.public_groups: `from` is 12, after `to`, which is 1: exchange them"],
        ),
        case(
            GROUPS,
            "{ from = 1, to = 100_001 }",
            &["23:17: columns.origin.public_groups: has 100001 keys; a column may have at most 100000"],
        ),
        case(
            GROUPS,
            "{ from = -9223372036854775808, to = 9223372036854775807 }",
            &["23:17: columns.origin.public_groups: has 18446744073709551615 keys; a column may have at most 100000"],
        ),
        case(
            GROUPS,
            "{ from = 2013-01-01, to = 5 }",
            &["23:17: columns.origin.public_groups: `from` and `to` must both be whole numbers or both be dates"],
        ),
        case(
            GROUPS,
            "{ from = 2013-02-01, to = 2013-01-01 }",
            &[
                "23:17: columns.origin.public_groups: `from` is 2013-02-01, after `to`, which is 2013-01-01: exchange them",
            ],
        ),
        case(
            GROUPS,
            "[\"EWR\"]\naccess = \"filter\"",
            &[
                "23:17: columns.origin.public_groups: `access` does not let this column be a group key: add \"group\" to it, or remove public_groups",
            ],
        ),
        case(
            "[columns.origin]",
            "[columns.tailnum]",
            &[
                "23:17: columns.tailnum.public_groups: this column is the privacy unit, and a list of units is no list of groups: remove public_groups",
            ],
        ),
    ]);
}

#[test]
fn what_is_no_policy_is_refused() {
    let refused = |text: &str| policy::parse(Path::new("p.toml"), text).unwrap_err().to_string();
    assert_eq!(
        refused(""),
        "p.toml: has neither a [dataset] nor a [collection] section: a policy file begins with one of them"
    );
    assert_eq!(
        refused("[dataset]\n[collection]\n"),
        "p.toml: has both a [dataset] and a [collection] section: put each in a file of its own"
    );
    assert!(refused("[dataset]\nowner = united\n").starts_with("p.toml:2:9: not TOML: "));
    assert!(refused("[dataset]\nname = \"a\"\nname = \"b\"\n").starts_with("p.toml:3:1: not TOML: "));
    assert_eq!(
        refused(
            "[collection]\nname = \"airlines\"\nmembers = [\"united.flights\", \"united.flights\", \"x\"]\n[budget]\n"
        ),
        "p.toml:2:8: collection.name: `airlines` is not a dataset's name: write `owner.name`, such as `united.flights`\n\
         p.toml:3:30: collection.members[1]: `united.flights` is listed twice: remove one\n\
         p.toml:3:48: collection.members[2]: `x` is not a dataset's name: write `owner.name`, such as `united.flights`\n\
         p.toml:4:2: budget: means nothing for a collection, whose members keep their own policies: remove it"
    );
}

/// The repository's own policies, against the schemas of the files that they are over.
#[test]
fn our_own_policies_fit_our_own_data() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["policies/airlines", "policies/ratings"] {
        for file in policy::load_dir(&root.join(folder)).unwrap_or_else(|errors| panic!("{errors}")) {
            let Some(location) = file.location() else { continue };
            let parquet = File::open(location).unwrap_or_else(|error| panic!("{location}: {error}"));
            let schema = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().schema().clone();
            if let PolicyFile::Private(policy) = &file {
                policy::check_against_schema(policy, &schema).unwrap_or_else(|errors| panic!("{errors}"));
            }
        }
    }
}

#[test]
fn the_example_of_the_design_reads_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/airlines/united.flights.toml");
    let PolicyFile::Private(united) = policy::load_file(&root).unwrap() else { panic!("a private dataset") };
    assert_eq!(united.name.to_string(), "united.flights");
    assert_eq!((united.privacy.max_groups_per_unit, united.privacy.max_rows_per_unit_per_group), (8, 200));
    assert_eq!(united.budget.query_delta.to_f64(), 1e-9);
    assert_eq!(united.column("month").public_groups, Some(PublicGroups::Range { from: 1, to: 12 }));
    assert_eq!(united.column("carrier").public_groups, Some(PublicGroups::List(vec![Key::Text("UA".to_owned())])));
    assert!(united.column("flight").uses.is_none());
    assert_eq!(united.column("never mentioned").bounds, None);
}
