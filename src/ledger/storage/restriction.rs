//! The `WHERE` of a report: conditions that are put together from pieces of this program, with their values beside them.

use super::database::Value;

/// Conditions that must all hold; none yet.
#[derive(Debug, Default)]
pub(super) struct Restriction {
    text: String,
    values: Vec<Value>,
}

impl Restriction {
    fn joint(&self) -> &'static str {
        if self.values.is_empty() { " WHERE " } else { " AND " }
    }

    /// One condition more, of one value, which stands where its `?` is.
    pub(super) fn and(&mut self, condition: &'static str, value: impl Into<Value>) {
        let place = format!("${}", self.values.len() + 1);
        self.text.push_str(self.joint());
        self.text.push_str(&condition.replace('?', &place));
        self.values.push(value.into());
    }

    /// That a column holds one of `names`; nothing where there are none.
    pub(super) fn one_of(&mut self, column: &'static str, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let (joint, places) = (self.joint(), self.places(names));
        self.text = format!("{}{joint}{column} IN ({places})", self.text);
    }

    /// That there is a row of `select`, whose last column is one of `names`.
    pub(super) fn exists(&mut self, select: &'static str, names: &[String]) {
        let (joint, places) = (self.joint(), self.places(names));
        self.text = format!("{}{joint}EXISTS ({select} IN ({places}))", self.text);
    }

    /// The places of `names`, which are values from now on.
    fn places(&mut self, names: &[String]) -> String {
        let first = self.values.len() + 1;
        let places: Vec<String> = (first..first + names.len()).map(|at| format!("${at}")).collect();
        self.values.extend(names.iter().map(|name| Value::from(name.as_str())));
        places.join(", ")
    }

    /// The text, which begins with ` WHERE ` or is empty, and the values of its parameters from `$1` on.
    pub(super) fn parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }
}
