//! Figures, counts, names and the time that a row covers, as people write them.

use serde_json::Number;

use super::rows::Row;
use super::{Cell, Figure};
use crate::calendar::time;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::drift::verdict::Kind;

/// The kind of a comparison that has a name beside it.
pub(crate) const FEATURE: &str = "feature";

/// Whether something that is no feature is compared under this name, its kind: a feature may be called so, too.
pub(crate) fn is_kind(name: &str) -> bool {
    [Kind::Score, Kind::Prediction, Kind::Label].iter().any(|kind| kind.name() == name)
}

/// As people see it: a feature that is called like a kind says that it is one.
pub(crate) fn shown_name(kind: &str, name: &str) -> String {
    let is_odd = kind == FEATURE && is_kind(name);
    if is_odd { format!("{name} (feature)") } else { name.to_owned() }
}

/// A figure with about four digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e7 || (size > 0.0 && size < 1e-4) {
        format!("{value:.3e}")
    } else if size >= 1000.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// A figure with five decimals; where these would say little of it or fill the line, as a power of ten.
pub(crate) fn precise(value: f64) -> String {
    let size = value.abs();
    if size >= 1e15 || (size > 0.0 && size < 1e-3) {
        format!("{value:.4e}")
    } else {
        format!("{value:.5}")
    }
}

/// A count in groups of three.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A share in percent; 0 and 100 only where it is just that.
pub(super) fn percent(value: f64) -> String {
    let text = format!("{:.2} %", value * 100.0);
    match text.as_str() {
        "0.00 %" if value > 0.0 => "< 0.01 %".to_owned(),
        "100.00 %" if value < 1.0 => "> 99.99 %".to_owned(),
        _ => text,
    }
}

/// A share of counts in percent; none of nothing.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) }
}

/// What is said of tables that have more rows than were read; empty where there are none.
pub fn left_out(tables: &[String], most: u32) -> String {
    if tables.is_empty() {
        return String::new();
    }
    format!("of {} only the newest {} rows were read", tables.join(", "), count(most.into()))
}

/// A figure of a row, or why there is none.
pub(super) fn figure(row: &Row, column: &str) -> String {
    match (row.figure(column), row.reason(column)) {
        (Some(value), _) => number(value),
        (None, Some(reason)) => format!("– ({})", reason.replace('_', " ")),
        (None, None) => "–".to_owned(),
    }
}

/// The numbers behind a figure of a row.
pub(super) fn numbers(row: &Row, column: &str) -> Figure {
    let limits = row.interval(column);
    Figure {
        number: row.figure(column).and_then(Number::from_f64),
        lower: limits.map(|[lower, _]| lower),
        upper: limits.map(|[_, upper]| upper),
        n: records(row, column),
    }
}

/// Records that a figure of a row was computed from; none where the row has no such count.
pub(super) fn records(row: &Row, column: &str) -> Option<u64> {
    let counts = MetricTable::named(&row.table)?.denominator(column);
    let found = counts.iter().map(|name| row.values.get(*name)?.as_u64());
    (!counts.is_empty()).then(|| found.sum::<Option<u64>>()).flatten()
}

/// The numbers behind a count.
pub(super) fn counted(value: u64) -> Figure {
    Figure { number: Some(value.into()), ..Figure::default() }
}

/// A figure of a row in a table.
pub(super) fn figure_cell(row: &Row, column: &str) -> Cell {
    (figure(row, column), Some(numbers(row, column)))
}

/// A count in a table.
pub(super) fn count_cell(value: u64) -> Cell {
    (count(value), Some(counted(value)))
}

/// A text in a table.
pub(super) fn words(text: impl Into<String>) -> Cell {
    (text.into(), None)
}

/// A figure's interval; empty where it has none.
pub(super) fn interval(row: &Row, column: &str) -> String {
    row.interval(column).map_or_else(String::new, |[lower, upper]| {
        format!("95 %: {} to {}", number(lower), number(upper))
    })
}

/// Which time a row covers.
pub(super) fn about(row: &Row) -> String {
    format!("{} to {} UTC", time(row.start_ms), time(row.end_ms))
}
