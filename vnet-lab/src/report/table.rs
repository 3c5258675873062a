//! Tables that fit a width, and what is left out of long ones.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, presets};

use crate::quantity::{count, counted};

/// A table with lines around its header and at its end only. The columns in `numbers` are aligned to
/// the right.
pub(super) fn table(width: u16, header: &[&str], numbers: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()))
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(header);
    for (column, name) in table.column_iter_mut().zip(header) {
        if numbers.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Columns of the terminal for the last column of a table, of which the others take the rest.
const LAST: u16 = 16;

/// Adds a table as lines without blanks at their ends. If there is room, only its last column is broken
/// into several lines.
pub(super) fn push(out: &mut String, mut table: Table) {
    let widths = table.column_max_content_widths();
    let last = widths.len().saturating_sub(1);
    // Each column has a blank on either side and a separator.
    let taken = widths[..last].iter().sum::<u16>() + 3 * widths.len() as u16;
    if table.width().is_some_and(|width| taken + LAST <= width) {
        for column in table.column_iter_mut().take(last) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    out.push_str(&table.trim_fmt().replace(HOLDS, " "));
    out.push('\n');
}

/// A blank at which a cell is not broken into lines; a usual one once the lines are made.
const HOLDS: &str = "\u{a0}";

/// The counts of `parts` that are not zero, such as `3 lost, 1 marked`.
pub(super) fn parts<'a>(parts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let there = parts.into_iter().filter(|(n, _)| *n > 0);
    let there: Vec<String> = there
        .map(|(n, what)| format!("{} {what}", count(n)))
        .collect();
    there.join(", ")
}

/// The same for a cell of a table, which is broken into lines between parts only.
pub(super) fn cell<'a>(counts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    phrases(&parts(counts))
}

/// A text for a cell that is broken into lines behind its commas and arrows only.
pub(super) fn phrases(text: &str) -> String {
    let text = text.replace(' ', HOLDS);
    text.replace(&format!(",{HOLDS}"), ", ")
        .replace(&format!("→{HOLDS}"), "→ ")
}

/// What a short table shows of a long list.
pub(super) struct Excerpt<'a, T> {
    pub(super) shown: Vec<&'a T>,
    /// Left out, although they have something to show.
    pub(super) more: usize,
    /// Left out, because they have nothing to show.
    pub(super) idle: usize,
}

impl<'a, T> Excerpt<'a, T> {
    /// Everything.
    pub(super) fn all(items: &'a [T]) -> Excerpt<'a, T> {
        Excerpt {
            shown: items.iter().collect(),
            more: 0,
            idle: 0,
        }
    }

    /// At most `most` items: in their order when there are no more that are not idle, else those of the
    /// highest `rank`, the highest first.
    pub(super) fn busiest<K: Ord>(
        items: &'a [T],
        most: usize,
        is_idle: impl Fn(&T) -> bool,
        rank: impl Fn(&T) -> K,
    ) -> Excerpt<'a, T> {
        let mut shown: Vec<&T> = items.iter().filter(|item| !is_idle(item)).collect();
        let (idle, more) = (items.len() - shown.len(), shown.len().saturating_sub(most));
        if more > 0 {
            // Those of equal rank stay in their order.
            shown.sort_by_key(|item| std::cmp::Reverse(rank(item)));
            shown.truncate(most);
        }
        Excerpt { shown, more, idle }
    }

    /// What is left out, in words, if `what` is what the items are called; empty if nothing is.
    pub(super) fn rest(&self, what: &str) -> String {
        let (more, idle) = (self.more as u64, self.idle as u64);
        if more == 0 {
            return match idle {
                0 => String::new(),
                _ => left_out(&counted(idle, &format!("idle {what}"))),
            };
        }
        let mut rest = counted(more, &format!("more {what}"));
        if idle > 0 {
            rest.push_str(&format!(", and {} idle", count(idle)));
        }
        format!(
            "{}The {what}s that dropped most come first, then those that carried most.\n",
            left_out(&rest)
        )
    }
}

/// The line that says what a table leaves out.
pub(super) fn left_out(what: &str) -> String {
    format!("… and {what}; --verbose shows all\n")
}
