//! States of all partitions of a key, or of all windows of a coarser grain, to metric rows. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::ShardSettings;
use crate::engine::metrics::accumulator::{Asked, FigureContext, StateError, Value, ValueMatrix};
use crate::engine::metrics::custom::{self, CustomMetric};
use crate::engine::metrics::dictionary::ClassCaps;
use crate::engine::metrics::method::Options;
use crate::engine::metrics::reference::Profile;
use crate::engine::metrics::{Families, MetricTable};
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::Millis;
use crate::engine::window::Window;

/// Merged states of several parts (partitions, windows), and the sum of their versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// None while there is no part: the first becomes it as it is.
    families: Option<Arc<Families>>,
    versions: Version,
}

impl Default for Merged {
    fn default() -> Self {
        Self { families: None, versions: Version(0) }
    }
}

impl Merged {
    /// Folds one part in. The caller gives each part once: of several rows of a part the one of the greatest version.
    /// All go by the same caps.
    pub fn add(&mut self, row: &StateRow, caps: ClassCaps) -> Result<(), StateError> {
        let families = row.state.families(caps)?;
        match &mut self.families {
            Some(all) => Arc::make_mut(all).merge(&families),
            None => self.families = Some(families),
        }
        self.versions = Version::sum(0, [self.versions, row.version]);
        Ok(())
    }

    /// Whether no part was folded in.
    pub fn is_empty(&self) -> bool {
        self.families.is_none()
    }

    /// Folds in what was merged of other parts.
    pub fn add_all(&mut self, other: &Self) {
        match (&mut self.families, &other.families) {
            (Some(all), Some(families)) => Arc::make_mut(all).merge(families),
            (None, Some(families)) => self.families = Some(Arc::clone(families)),
            (_, None) => {}
        }
        self.versions = Version::sum(0, [self.versions, other.versions]);
    }

    /// Inferences of all parts.
    pub fn inferences(&self) -> u64 {
        self.families.as_deref().map_or(0, |families| families.serving.inferences())
    }

    /// The metric rows of a key that are asked for, whose window is that of the row's grain.
    pub fn rows(&self, key: &Key, about: &RowContext, asked: Asked) -> Vec<MetricRow> {
        let context = FigureContext {
            window_ms: key.window.size().0,
            value: about.value,
            thresholds: &about.thresholds,
            weighted: about.weighted,
            reference: about.reference.as_deref(),
            drift: Some(&about.drift),
            // Custom metrics may be of all of them.
            rows: if about.custom.is_empty() { asked } else { Asked::All },
        };
        let mut rows = self.families.as_deref().unwrap_or(&Families::default()).figures(&context);
        let own = custom::rows(&about.custom, &rows, about.reference.as_deref());
        rows.extend(own.into_iter().map(|row| (MetricTable::Custom, row)));
        let version = |counts| Version::of_metrics(about.generation, counts, about.sealed);
        let of_all = version(self.versions);
        let of_inferences = version(Version::of(0, self.inferences(), false));
        let key = Arc::new(key.clone());
        let row = |(table, values): (MetricTable, Vec<Value>)| {
            let reads_labels = table.row_reads_labels(&values);
            (reads_labels || asked == Asked::All).then(|| MetricRow {
                table,
                key: Arc::clone(&key),
                grain: Arc::clone(&about.grain),
                undefined: undefined(table, &values),
                values,
                sealed: about.sealed,
                version: if reads_labels { of_all } else { of_inferences },
            })
        };
        rows.into_iter().filter_map(row).collect()
    }
}

/// What rows say beside their figures.
#[derive(Clone, Debug, PartialEq)]
pub struct RowContext {
    /// The name of the grain.
    pub grain: Arc<str>,
    /// The generation of all parts.
    pub generation: u16,
    /// Whether the seal marks of all partitions have passed the row's window.
    pub sealed: bool,
    /// The model's value matrix, where configured.
    pub value: Option<ValueMatrix>,
    /// The model's other thresholds.
    pub thresholds: Vec<f64>,
    /// Whether the model's figures take the weights of its labels.
    pub weighted: bool,
    /// What the model's windows are compared with.
    pub reference: Option<Arc<Profile>>,
    /// What the comparisons are judged by.
    pub drift: Options,
    /// The custom metrics of the key.
    pub custom: Vec<Arc<CustomMetric>>,
}

impl RowContext {
    /// What the settings say of the rows of a key.
    pub fn of(settings: &ShardSettings, key: &Key, grain: &Arc<str>, sealed: bool) -> Self {
        let model = settings.model(&key.model);
        Self {
            grain: Arc::clone(grain),
            generation: settings.generation,
            sealed,
            value: model.value,
            thresholds: model.thresholds,
            weighted: model.weighted,
            reference: model.reference,
            drift: model.drift,
            custom: settings.custom_of(&key.model, &key.segment),
        }
    }
}

/// One row of one metric table.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRow {
    /// The table.
    pub table: MetricTable,
    /// Model, version, segment and window; one for all rows of a key, which may be hundreds.
    pub key: Arc<Key>,
    /// The name of the grain.
    pub grain: Arc<str>,
    /// One value for each of the table's columns, its own keys first.
    pub values: Vec<Value>,
    /// `column=reason` for each figure that is NULL, separated by one space, in column order; the two limits of an
    /// interval once, under `_lower`.
    pub undefined: String,
    /// Whether nothing can change the row any more.
    pub sealed: bool,
    /// Of several rows of one key, grain and table the greatest version is the truth. It counts inferences and labels,
    /// or inferences alone where the [row reads no labels](MetricTable::row_reads_labels): of two rows that stand over as
    /// many of what they read one may be left out.
    pub version: Version,
}

/// The name of the grain of rows over the whole time.
pub const WHOLE: &str = "all";

/// All metric rows of states when nothing more will come: of the base windows, of each coarser grain, and of the whole
/// time of each model and version. Of a key and partition there is one state.
pub fn complete(
    settings: &ShardSettings,
    grains: &[Millis],
    states: &[StateRow],
) -> Result<Vec<MetricRow>, StateError> {
    let mut rows = windows(settings, grains, states)?;
    rows.extend(whole(settings, states)?);
    Ok(rows)
}

/// Of these only the rows of windows.
pub fn windows(
    settings: &ShardSettings,
    grains: &[Millis],
    states: &[StateRow],
) -> Result<Vec<MetricRow>, StateError> {
    let sizes = std::iter::once(settings.window).chain(grains.iter().copied());
    let mut rows = Vec::new();
    for grain in sizes {
        let window = |key: &Key| Window::of(key.window.start, grain);
        rows.extend(merged_rows(settings, &grain_name(grain), states, window)?);
    }
    Ok(rows)
}

/// Of these only the rows of the whole time.
pub fn whole(settings: &ShardSettings, states: &[StateRow]) -> Result<Vec<MetricRow>, StateError> {
    let mut spans: BTreeMap<(Arc<str>, Arc<str>), Window> = BTreeMap::new();
    let of = |key: &Key| (Arc::clone(&key.model), Arc::clone(&key.version));
    for StateRow { key, .. } in states {
        let span = spans.entry(of(key)).or_insert(key.window);
        span.start = span.start.min(key.window.start);
        span.end = span.end.max(key.window.end);
    }
    merged_rows(settings, WHOLE, states, |key| spans[&of(key)])
}

/// The rows of all states that `window` puts together.
fn merged_rows(
    settings: &ShardSettings,
    grain: &str,
    states: &[StateRow],
    window: impl Fn(&Key) -> Window,
) -> Result<Vec<MetricRow>, StateError> {
    let mut merged: BTreeMap<Key, Merged> = BTreeMap::new();
    for row in states {
        let window = window(&row.key);
        merged
            .entry(Key { window, ..row.key.clone() })
            .or_default()
            .add(row, settings.caps.classes())?;
    }
    let grain: Arc<str> = grain.into();
    let about = |key: &Key| RowContext::of(settings, key, &grain, true);
    Ok(merged.iter().flat_map(|(key, merged)| merged.rows(key, &about(key), Asked::All)).collect())
}

/// The text of column `undefined`.
fn undefined(table: MetricTable, values: &[Value]) -> String {
    let mut text = String::new();
    for (column, value) in table.columns().iter().zip(values) {
        if let Value::Figure(Err(reason)) = value
            && !column.name.ends_with("_upper")
        {
            if text.is_empty() {
                // Enough for most rows, so that it does not grow word by word.
                text.reserve(64);
            } else {
                text.push(' ');
            }
            text.push_str(column.name);
            text.push('=');
            text.push_str(reason.code());
        }
    }
    text
}

/// The name of a grain: its length in the largest of the units d, h, m, s, ms that divides it.
pub fn grain_name(grain: Millis) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let (length, unit) =
        units.into_iter().find(|(length, _)| grain.0 % length == 0).unwrap_or((1, "ms"));
    format!("{}{unit}", grain.0 / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grains_are_named_by_their_largest_whole_unit() {
        let names = [300_000, 3_600_000, 86_400_000, 604_800_000, 10_000, 90_000, 1500];
        let names = names.map(|ms| grain_name(Millis(ms)));
        assert_eq!(names, ["5m", "1h", "1d", "7d", "10s", "90s", "1500ms"]);
    }
}
