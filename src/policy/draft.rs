//! A first policy for data that has none: written from the schema alone, for its steward to go through.

use arrow::datatypes::{DataType, Field, Schema};

use super::column::KeyKind;
use super::source::key_path;
use super::types;

/// Names of unit columns that say whom they identify, the likeliest first, with the unit domain of each.
const UNIT_NAMES: [(&str, &str); 25] = [
    ("user_id", "user"),
    ("customer_id", "customer"),
    ("person_id", "person"),
    ("patient_id", "patient"),
    ("member_id", "member"),
    ("rider_id", "rider"),
    ("passenger_id", "passenger"),
    ("subscriber_id", "subscriber"),
    ("employee_id", "employee"),
    ("citizen_id", "citizen"),
    ("client_id", "client"),
    ("buyer_id", "customer"),
    ("borrower_id", "borrower"),
    ("household_id", "household"),
    ("account_id", "account"),
    ("company_id", "company"),
    ("driver_id", "driver"),
    ("device_id", "device"),
    ("vehicle_id", "vehicle"),
    ("userid", "user"),
    ("customerid", "customer"),
    ("custkey", "customer"),
    ("c_custkey", "customer"),
    ("o_custkey", "customer"),
    ("tailnum", "aircraft"),
];

/// Beginnings of `*_id` columns that number rows or things, not those who are to be protected.
const RECORD_WORDS: [&str; 22] = [
    "row",
    "record",
    "event",
    "trip",
    "ride",
    "order",
    "transaction",
    "txn",
    "payment",
    "session",
    "request",
    "claim",
    "visit",
    "message",
    "line",
    "item",
    "product",
    "flight",
    "movie",
    "batch",
    "file",
    "station",
];

/// Words in the names of columns that identify a person by themselves.
const IDENTIFYING_WORDS: [&str; 15] = [
    "email",
    "mail",
    "phone",
    "mobile",
    "ssn",
    "passport",
    "iban",
    "address",
    "street",
    "surname",
    "lastname",
    "firstname",
    "fullname",
    "licence",
    "birthdate",
];

/// A commented draft of the policy `owner.name` over data of `schema` at `location`. No data is read.
///
/// Where a column's name gives the privacy unit away the draft is a valid policy; otherwise `unit` is left empty, and
/// [`super::parse`] refuses it until the steward has filled it in. Columns whose names say that they identify a person
/// are denied; every other column is a proposal behind `#`.
#[must_use]
pub fn draft(location: &str, schema: &Schema, owner: &str, name: &str) -> String {
    let unit = guess_unit(schema);
    let mut text = format!(
        "# A draft, written from the schema alone: no data was read. Go through every line, then run\n\
         #   tollgate policy check {owner}.{name}.toml\n\
         \n\
         [dataset]\n\
         owner = {}\n\
         name = {}\n\
         location = {}\n\
         description = \"\"                   # what analysts should know of it\n\
         purposes = []                      # a query must name one of these; empty: any\n\
         consumers = [\"*\"]                  # who may ask; \"*\" is everyone\n\
         # valid_until = 2027-12-31         # after this day every query is refused\n\
         # approval = \"manual\"              # a query of a new shape waits until you have allowed it\n\n",
        quoted(owner),
        quoted(name),
        quoted(location),
    );
    text.push_str(&privacy(unit.as_ref()));
    text.push_str(&epochs(schema));
    text.push_str(BUDGET);
    for field in schema.fields() {
        let is_unit = unit.as_ref().is_some_and(|unit| unit.column == field.name().as_str());
        text.push_str(&column(field, is_unit));
    }
    text
}

/// Caps to begin with, which a steward should choose and not take over.
const BUDGET: &str = "\
[budget]
# What one consumer may learn in a period, and all of them together. Smaller is safer.
per_consumer = { epsilon = 4.0, delta = 1e-6, per = \"month\" }
# per_agency = { epsilon = 10.0, delta = 1e-5, per = \"lifetime\" }  # all consumers of one agency together
all_consumers = { epsilon = 20.0, delta = 1e-5, per = \"lifetime\" }
# What one consumer may learn of one unit over all datasets of the unit domain, other owners' among them.
# per_consumer_in_domain = { epsilon = 8.0, delta = 1e-6, per = \"month\" }
default_query = { epsilon = 0.2 }  # the price of a query that names none
max_query = { epsilon = 1.0 }      # the highest price of one query
auto_grant = true                  # false: a consumer has nothing until an administrator grants it
# price_per_epsilon = { amount = \"12.50\", currency = \"EUR\" }  # what an agency owes you for what it spends

# Columns. Bounds come from what you know of the field, never from looking at the data: values outside are moved to the
# nearest bound, and the noise grows with their distance. Public groups are keys that everyone knows without the data.
";

/// A column that names the privacy unit, and its identifier space.
struct Unit<'s> {
    column: &'s str,
    domain: String,
}

fn guess_unit(schema: &Schema) -> Option<Unit<'_>> {
    let candidates = || schema.fields().iter().filter(|field| types::is_unit(field.data_type()));
    for (name, domain) in UNIT_NAMES {
        if let Some(field) = candidates().find(|field| field.name().eq_ignore_ascii_case(name)) {
            return Some(Unit { column: field.name(), domain: domain.to_owned() });
        }
    }
    candidates().find_map(|field| {
        let lower = field.name().to_lowercase();
        let stem = lower.strip_suffix("_id").filter(|stem| !stem.is_empty())?;
        let numbers_records = stem.split('_').any(|word| RECORD_WORDS.contains(&word));
        (!numbers_records).then(|| Unit { column: field.name(), domain: stem.to_owned() })
    })
}

fn privacy(unit: Option<&Unit<'_>>) -> String {
    let unit = match unit {
        Some(Unit { column, domain }) => format!(
            "# CHECK: the unit was guessed from the column's name. It must identify whom you protect, not a row or a thing.\n\
             unit = {}\n\
             unit_domain = {}  # datasets of one domain may be joined on their units\n",
            quoted(column),
            quoted(domain),
        ),
        None => "# FILL IN: no column's name says whom to protect. It must identify a person, a company, a device …\n\
                 unit = \"\"\n\
                 unit_domain = \"\"  # the identifier space of that column, such as \"customer\"\n"
            .to_owned(),
    };
    format!(
        "[privacy]\n{unit}\
         min_group_size = 10                # no released group has fewer units than this, ever\n\
         # To how many groups one unit counts, and with how many rows in each. Noise grows with both; what is above them\n\
         # is scaled down or left out.\n\
         max_groups_per_unit = 8\n\
         max_rows_per_unit_per_group = 50\n\
         accounting = \"zcdp\"                # or \"pure\"\n"
    )
}

/// The keys of epochs behind `#`, where a column could cut them.
fn epochs(schema: &Schema) -> String {
    let Some(moment) = schema.fields().iter().find(|field| types::is_moment(field.data_type())) else {
        return "\n".to_owned();
    };
    format!(
        "# With epochs each month (or quarter, or year) of new data brings a budget of its own, and the promise is per unit\n\
         # and month. All three lines, or none; rows before the first day are never read.\n\
         # epoch = \"month\"\n\
         # epoch_column = {}\n\
         # epoch_from = 2024-01-01\n\n",
        quoted(moment.name())
    )
}

/// A column's section: a proposal behind `#`, or a live refusal of what identifies a person.
fn column(field: &Field, is_unit: bool) -> String {
    let header = format!("[{}]", key_path("columns", field.name()));
    let data_type = field.data_type();
    // A nested type names its fields, which could break out of the comment.
    let shown = data_type.to_string().replace(char::is_control, " ");
    if is_unit {
        return format!(
            "\n# {header}  # {shown}: the privacy unit\n# access = \"deny\"  # analysts could not count or join units\n"
        );
    }
    if identifies(field.name()) {
        return format!("\n{header}  # {shown}: by its name it identifies a person\naccess = \"deny\"\n");
    }
    format!("\n# {header}  # {shown}\n{}", proposal(data_type))
}

fn proposal(data_type: &DataType) -> &'static str {
    match types::key_kind(data_type) {
        Some(KeyKind::Int) => {
            "# bounds = [LO, HI]  # whole numbers; for what is summed or averaged\n\
             # public_groups = { from = FIRST, to = LAST }  # for a code or a category, instead of bounds\n"
        }
        Some(KeyKind::Text) => {
            "# public_groups = [\"KEY\", \"KEY\"]  # if the keys are known without the data\n\
             # access = \"deny\"  # if it is free text, or identifies someone\n"
        }
        Some(KeyKind::Bool) => "# public_groups = [false, true]\n",
        Some(KeyKind::Date) => "# public_groups = { from = FIRST_DAY, to = LAST_DAY }  # days without quotes\n",
        None if types::is_number(data_type) => "# bounds = [LO, HI]  # for what is summed or averaged\n",
        None if matches!(data_type, DataType::Timestamp(..)) => {
            "# access = [\"group\", \"filter\"]  # grouped by parts of it, such as the hour\n"
        }
        None => "# access = \"deny\"\n",
    }
}

fn identifies(name: &str) -> bool {
    let lower = name.to_lowercase();
    let joined = lower.replace('_', "");
    lower.split('_').any(|word| IDENTIFYING_WORDS.contains(&word)) || IDENTIFYING_WORDS.contains(&joined.as_str())
}

/// A TOML basic string: a JSON string is one, and always stays on its line.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
