//! What can be wrong with a policy: every message, in one place.
//!
//! A message says what is wrong and what would be right. It may quote the policy file, which is the owner's own text,
//! and the names and types of columns; it never holds a value of the data, which this module never sees.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::column::{KeyKind, MAX_PUBLIC_GROUPS};
use super::epoch::EpochKind;
use super::model::PolicyFile;
use super::name::NameError;
use super::source::Position;

/// One thing that is wrong in a policy file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// Where in the file; `None` when it is the file as a whole, or something that is not there.
    pub position: Option<Position>,
    /// The key, such as `budget.per_consumer.epsilon`; empty when no key is at fault.
    pub key: String,
    /// What is wrong, and what would be right.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.file, self.position, &self.key)?;
        write!(f, "{}", self.fault)
    }
}

/// Writes `file:line:column: key: `, without what is not known.
pub(super) fn write_place(
    f: &mut fmt::Formatter<'_>,
    file: &Path,
    position: Option<Position>,
    key: &str,
) -> fmt::Result {
    write!(f, "{}", file.display())?;
    if let Some(position) = position {
        write!(f, ":{position}")?;
    }
    f.write_str(": ")?;
    if key.is_empty() { Ok(()) } else { write!(f, "{key}: ") }
}

/// All that is wrong with a policy file, or with a folder of them: at least one problem, in the order of the files and
/// of their lines.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct PolicyErrors(Vec<Problem>);

impl PolicyErrors {
    /// Sorts `problems`, of which there is at least one.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.position).cmp(&(&b.file, b.position)));
        Self(problems)
    }

    /// A fault of `key` in `file`, found by whoever knows more than the policy.
    #[must_use]
    pub fn of_key(file: &PolicyFile, key: &str, fault: Fault) -> Self {
        let source = file.source();
        let position = source.position(key);
        Self(vec![Problem { file: source.path().to_owned(), position, key: key.to_owned(), fault }])
    }

    pub(super) fn one(file: &Path, fault: Fault) -> Self {
        Self(vec![Problem { file: file.to_owned(), position: None, key: String::new(), fault }])
    }

    /// The problems, in the order of the files and of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0
    }
}

impl fmt::Display for PolicyErrors {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// What is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's message, which is the documentation")]
pub enum Fault {
    // ---- the file ----
    /// It could not be read.
    #[error("cannot be read: {kind}")]
    Unreadable { kind: io::ErrorKind },
    /// It is larger than any policy needs to be.
    #[error("is larger than {max} bytes, which no policy needs to be")]
    TooLarge { max: u64 },
    /// It is not UTF-8.
    #[error("is not UTF-8 text: save it as UTF-8")]
    NotUtf8,
    /// It is not TOML.
    #[error("not TOML: {message}")]
    Syntax { message: String },
    /// It is not JSON, or holds what no policy can say.
    #[error("not JSON: {message}")]
    Json { message: String },
    /// It has neither of the sections that say what it is.
    #[error("has neither a [dataset] nor a [collection] section: a policy file begins with one of them")]
    NoSubject,
    /// It has both of the sections that say what it is.
    #[error("has both a [dataset] and a [collection] section: put each in a file of its own")]
    TwoSubjects,
    /// Its name is not that of what it describes.
    #[error("the file must be called `{expected}`, after the name that it declares")]
    FileName { expected: String },

    // ---- keys ----
    /// A key that is nearly one that is known.
    #[error("unknown key; did you mean `{nearest}`?")]
    MisspeltKey { nearest: String },
    /// A key of another section.
    #[error("this key belongs in [{section}]: move it there")]
    MisplacedKey { section: &'static str },
    /// A key like none that is known.
    #[error("unknown key; known here: {}", ticked(.known))]
    UnknownKey { known: Vec<&'static str> },
    /// A key that must be there.
    #[error("missing: add `{example}`")]
    Missing { example: &'static str },
    /// A section or key that a public table cannot have.
    #[error("means nothing for a public table, which everyone may read: remove it, or remove `kind = \"public\"`")]
    NotForPublic,
    /// A section that a collection cannot have.
    #[error("means nothing for a collection, whose members keep their own policies: remove it")]
    NotForCollection,

    // ---- values ----
    /// A value of the wrong type.
    #[error("must be {expected}, not {found}")]
    WrongType { expected: &'static str, found: &'static str },
    /// A text or list with nothing in it.
    #[error("is empty: {hint}")]
    Empty { hint: &'static str },
    /// A whole number out of range.
    #[error("must be a whole number from {lo} to {hi}, not {found}")]
    OutOfRange { found: String, lo: u64, hi: u64 },
    /// A word that is none of those known.
    #[error("must be {}, not {found:?}{}", quoted(.known), meant(*.nearest))]
    UnknownWord { found: String, known: Vec<&'static str>, nearest: Option<&'static str> },
    /// A name that is no name of a dataset.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A place that we cannot read data from.
    #[error("`{scheme}://` is not supported: give a file, a folder, a glob, or an `s3://bucket/prefix/` address")]
    Scheme { scheme: String },
    /// An object store's address without a bucket.
    #[error("names no bucket: write `s3://bucket/prefix/`")]
    NoBucket,
    /// A bucket of a name that no bucket has.
    #[error("is no name of a bucket: those are of lower-case letters, digits, `-`, `.` and `_`")]
    BucketName,
    /// An object store's address that may hold a secret. Does not say what it holds.
    #[error(
        "an address holds no user, password, port or parameters: keys come from the environment (AWS_*) or from a file that tollgate.toml names under [stores.NAME]; write `s3://bucket/prefix/`"
    )]
    AddressSecret,
    /// An object store's address with more than one spelling.
    #[error(
        "an address has no empty part, `.`, `..`, `\\`, `%` or control character after its bucket, and at most 1024 bytes"
    )]
    AddressParts,
    /// Everyone, and then some more.
    #[error("\"*\" already means everyone: write [\"*\"], or list the consumers without it")]
    EveryoneAndSome,

    // ---- epochs ----
    /// A key of epochs where there are none.
    #[error("means nothing without epochs: add `epoch = \"month\"` (or \"quarter\", \"year\"), or remove it")]
    WithoutEpoch,
    /// A beginning that is no epoch's.
    #[error("must be the first day of a {kind}, not {found}: write {first}")]
    EpochFrom { kind: EpochKind, found: NaiveDate, first: NaiveDate },
    /// A beginning that is out of reach.
    #[error("must lie from 1900 to 2199, not {found}")]
    EpochYear { found: NaiveDate },

    // ---- budgets ----
    /// An ε that buys nothing or everything.
    #[error("an epsilon must be a number above 0, at least 1e-12 and at most 1000000, not {found}")]
    Epsilon { found: String },
    /// A δ that is no probability.
    #[error("a delta must be a probability: at least 0 and less than 1, not {found}")]
    Delta { found: String },
    /// A δ of zero where zCDP needs more.
    #[error(
        "must be above 0 with zcdp accounting (at least {least}), such as {example}; only `accounting = \"pure\"` can do without"
    )]
    DeltaTooSmall { least: &'static str, example: &'static str },
    /// More than another key allows.
    #[error("is {found}, more than `{other}`, which is {limit}: lower this or raise that")]
    Above { found: String, other: &'static str, limit: String },
    /// Less than another key allows.
    #[error("is {found}, less than `{other}`, which is {limit}: raise this or lower that")]
    Below { found: String, other: &'static str, limit: String },
    /// A price that is no amount of money.
    #[error(
        "must be an amount above 0 and at most 1000000000, with at most six decimal places, such as \"12.50\", not {found:?}"
    )]
    Amount { found: String },
    /// A currency that ISO 4217 does not list.
    #[error("must be a currency's code in capitals (ISO 4217), such as \"EUR\", not {found:?}")]
    Currency { found: String },
    /// Not less than another key, where it must be.
    #[error("is {found}; it must be less than `{other}`, which is {limit}")]
    NotLess { found: String, other: &'static str, limit: String },

    // ---- columns ----
    /// Bounds that are not two numbers.
    #[error("must be two numbers, the lower and the upper bound, such as [0, 500]")]
    BoundsShape,
    /// `lo > hi`.
    #[error("the lower bound {lo} is above the upper bound {hi}: write [{hi}, {lo}]")]
    BoundsReversed { lo: String, hi: String },
    /// `lo == hi`.
    #[error(
        "both bounds are {value}: every value would be clamped to it, and no sum or average would say anything of the data; widen them, or leave them out"
    )]
    BoundsSingle { value: String },
    /// NaN or an infinity.
    #[error("bounds must be finite: name the least and the largest value that matters")]
    BoundsNotFinite,
    /// A difference beyond what a float holds.
    #[error("the bounds are too far apart for their difference to be a number: narrow them")]
    BoundsTooWide,
    /// `access = []`.
    #[error("an empty list allows nothing: write \"deny\" if the column must not be read")]
    AccessEmpty,
    /// `"deny"` among uses.
    #[error("\"deny\" stands alone: write access = \"deny\", or list the uses without it")]
    AccessDenyInList,
    /// Public groups with no keys.
    #[error("has no keys: list them, or leave public_groups out so that groups are selected from the data")]
    GroupsEmpty,
    /// Keys of two kinds.
    #[error("the keys before it are {first}: all keys of a column are of one kind")]
    GroupsMixed { first: KeyKind },
    /// A key listed twice.
    #[error("{key} is listed twice: remove one")]
    GroupsDuplicate { key: String },
    /// More keys than a column may have.
    #[error("has {count} keys; a column may have at most {MAX_PUBLIC_GROUPS}")]
    GroupsTooMany { count: u64 },
    /// `from > to`.
    #[error("`from` is {from}, after `to`, which is {to}: exchange them")]
    GroupsReversed { from: String, to: String },
    /// One end is a number and the other a date.
    #[error("`from` and `to` must both be whole numbers or both be dates")]
    GroupsMixedRange,
    /// Public groups on a column that cannot be a key.
    #[error("`access` does not let this column be a group key: add \"group\" to it, or remove public_groups")]
    GroupsUnusable,
    /// Public groups of the unit itself.
    #[error("this column is the privacy unit, and a list of units is no list of groups: remove public_groups")]
    GroupsOfUnit,

    // ---- a folder of policies ----
    /// Two files that declare one name.
    #[error("`{name}` is also declared in {}: rename one", .other.display())]
    DuplicateName { name: String, other: PathBuf },
    /// Two policies over the same data.
    #[error("is also the location of `{other}`: data lies under one policy, or its budget would be two")]
    SameLocation { other: String },
    /// A policy whose data lies in another's folder.
    #[error("lies within the location of `{other}`: data lies under one policy, or its budget would be two")]
    NestedLocation { other: String },
    /// A member that no file declares.
    #[error("no policy here declares `{member}`{}", meant_name(.nearest.as_deref()))]
    UnknownMember { member: String, nearest: Option<String> },
    /// A member that is no private dataset.
    #[error("`{member}` is no private dataset: a collection's members are datasets with a policy of their own")]
    MemberNotPrivate { member: String },
    /// A member listed twice.
    #[error("`{member}` is listed twice: remove one")]
    MemberRepeated { member: String },
    /// Members that protect different things.
    #[error(
        "the unit of `{member}` is `{unit}` of domain `{domain}`, but that of `{first}` is `{first_unit}` of domain `{first_domain}`: members of a collection share both"
    )]
    MemberUnit { member: String, unit: String, domain: String, first: String, first_unit: String, first_domain: String },

    /// Members whose time is cut in different ways.
    #[error(
        "the epochs of `{member}` are: {found}, but those of `{first}`: {first_found}; members of a collection share them"
    )]
    MemberEpoch { member: String, found: &'static str, first: String, first_found: &'static str },

    // ---- a policy that its steward sends ----
    /// Data that lies where another policy's data lies or lay. Does not say whose, since it may be another owner's.
    #[error("this place is not free: data lies, or has lain, under another policy there, and its budget would be two")]
    LocationTaken,
    /// Data outside the folders that the operator has named for this owner. The same whether anything is there or not.
    #[error(
        "is in no folder from which this owner's data may be registered, or a link leads out of it; the operator names the folders under `[policies.locations]` of tollgate.toml"
    )]
    LocationNotAllowed,
    /// What the accounts are kept by, and so cannot change.
    #[error(
        "is {found}, and was {was}: what was spent of this dataset is on record by it, so it cannot change; write {was} again"
    )]
    Fixed { found: String, was: String },
    /// A member of another owner.
    #[error("`{member}` is another owner's: a collection over several owners' datasets is the operator's to declare")]
    MemberOfAnother { member: String },

    // ---- against the data's schema ----
    /// A column that the data has not.
    #[error("the data has no column `{column}`{}", meant_name(.nearest.as_deref()))]
    UnknownColumn { column: String, nearest: Option<String> },
    /// A unit of a type whose equality is not exact.
    #[error("`{column}` is of type {found}; a privacy unit must be an integer, a string or binary")]
    UnitType { column: String, found: String },
    /// A time of a type that is none.
    #[error("`{column}` is of type {found}; epochs are cut by a date, or by a timestamp without zone or in \"UTC\"")]
    EpochColumnType { column: String, found: String },
    /// Bounds on what is no number.
    #[error("bounds are for numbers, and `{column}` is of type {found}: remove them")]
    BoundsType { column: String, found: String },
    /// Bounds with fractions on integers.
    #[error("`{column}` holds integers ({found}): write whole numbers, such as [{lo}, {hi}]")]
    BoundsNotWhole { column: String, found: String, lo: String, hi: String },
    /// Public groups on a type that can have none.
    #[error(
        "a column of type {found} cannot have public groups: only integers, strings, booleans and dates (Date32) can"
    )]
    GroupsColumnType { found: String },
    /// Public groups of another type than the column's.
    #[error("the keys are {kind}, and `{column}` is of type {found}: list {wanted}")]
    GroupsType { column: String, found: String, kind: KeyKind, wanted: KeyKind },
    /// An integer key that the column cannot hold.
    #[error("{key} does not fit in `{column}`, which is of type {found}: remove it")]
    GroupsBeyondType { column: String, found: String, key: i64 },
}

/// "`a`, `b`, `c`"
fn ticked(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// "\"a\", \"b\" or \"c\""
fn quoted(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            let rest: Vec<_> = rest.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", rest.join(", "))
        }
        Some((only, _)) => format!("{only:?}"),
        None => String::new(),
    }
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default()
}

fn meant_name(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
