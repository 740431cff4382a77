//! The windows of a reference → what is expected of each column.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::Value;
use crate::engine::metrics::exact_sum::ExactSum;
use crate::engine::metrics::expected::{
    Expectation, Expected, FEWEST_WINDOWS, is_expected, name_of,
};
use crate::engine::state::Key;
use crate::engine::time::EventTime;

/// Grain, segment, and name of the column.
type Place = (Arc<str>, Arc<str>, Arc<str>);

/// Collects metric rows. Each defined figure takes 16 bytes.
#[derive(Clone, Debug, Default)]
pub struct ExpectedBuilder {
    /// Each with the start of its window.
    figures: BTreeMap<Place, Vec<(EventTime, f64)>>,
}

impl ExpectedBuilder {
    /// Adds a row of a table: one value for each of its columns. Versions of the model are not told apart: each has rows
    /// of its own, as a rule sees them.
    pub fn add(&mut self, grain: &Arc<str>, key: &Key, table: MetricTable, values: &[Value]) {
        let columns = table.columns().iter().zip(values);
        let keys = columns.clone().take(table.keys()).filter_map(|(_, value)| text(value));
        let item = keys.filter(|key| !key.is_empty()).collect::<Vec<_>>().join("/");
        for (column, value) in columns.skip(table.keys()) {
            let Some(figure) = figure(value).filter(|_| is_expected(table, column.name)) else {
                continue;
            };
            let name = name_of(table, column.name, &item).into();
            let place = (Arc::clone(grain), Arc::clone(&key.segment), name);
            self.figures.entry(place).or_default().push((key.window.start, figure));
        }
    }

    /// What is expected, of columns that enough windows define.
    pub fn finish(self) -> Expected {
        let mut expected = Expected::default();
        for ((grain, segment, name), figures) in self.figures {
            if let Some(expectation) = expectation(&figures) {
                let names = expected.0.entry(grain).or_default().entry(segment).or_default();
                names.insert(name, expectation);
            }
        }
        expected
    }
}

/// Mean and spread; none of fewer windows than [`FEWEST_WINDOWS`].
fn expectation(rows: &[(EventTime, f64)]) -> Option<Expectation> {
    let count = |rows: usize| u64::try_from(rows).expect("rows are few");
    let windows = rows.iter().map(|(start, _)| *start).collect::<BTreeSet<_>>();
    let (windows, n) = (count(windows.len()), count(rows.len()));
    if windows < FEWEST_WINDOWS {
        return None;
    }
    let figures = rows.iter().map(|(_, figure)| *figure);
    let mut sum = ExactSum::default();
    figures.clone().for_each(|figure| sum.add(figure));
    let mean = sum.mean(n);
    // In units of the largest deviation, so that no square is too large for a double.
    let largest = figures.clone().map(|figure| (figure - mean).abs()).fold(0.0, f64::max);
    let sd = if largest > 0.0 {
        let mut squares = ExactSum::default();
        figures.for_each(|figure| squares.add(((figure - mean) / largest).powi(2)));
        largest * squares.mean(n).sqrt()
    } else {
        0.0
    };
    Some(Expectation { windows, mean, sd }).filter(Expectation::is_sound)
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts below 2^53")]
fn figure(value: &Value) -> Option<f64> {
    match value {
        Value::Count(count) => Some(*count as f64),
        Value::Figure(figure) => figure.ok(),
        Value::Time(_)
        | Value::Sum(_)
        | Value::Sums(_)
        | Value::Cells(_)
        | Value::Names(_)
        | Value::Text(_) => None,
    }
}

/// One of a row's own keys, as alerts have it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Count(count) => Some(count.to_string()),
        Value::Figure(Ok(number)) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_string()),
        Value::Figure(Err(_))
        | Value::Time(_)
        | Value::Sum(_)
        | Value::Sums(_)
        | Value::Cells(_)
        | Value::Names(_) => None,
    }
}
