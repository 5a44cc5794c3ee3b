//! How far the data is.

use std::cell::RefCell;

use indicatif::{ProgressBar, ProgressStyle};

/// One bar, of the table that is being written. Draws on a terminal alone.
#[derive(Default)]
pub(super) struct Bars {
    current: RefCell<Option<(String, ProgressBar)>>,
}

impl Bars {
    /// Shows that `table` has `done` of `all` rows.
    pub(super) fn tell(&self, table: &str, done: u64, all: u64) {
        let mut current = self.current.borrow_mut();
        if current.as_ref().is_none_or(|(shown, _)| shown != table) {
            if let Some((_, finished)) = current.take() {
                finished.finish_and_clear();
            }
            let style = ProgressStyle::with_template("{msg:16} {wide_bar} {human_pos}/{human_len} rows")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            *current = Some((table.to_owned(), ProgressBar::new(all).with_style(style).with_message(table.to_owned())));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}
