//! Metric rows, from the engine or from the database, and how a report looks things up in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::Value;
use crate::engine::metrics::reference::{FeatureProfile, Profile};
use crate::engine::state::ALL;
use crate::evaluate::{MetricRow, WHOLE};

/// More points than this are no easier to read.
pub const MOST_POINTS: usize = 120;

/// Below so many labelled records a figure says little.
pub(crate) const FEW: u64 = 100;

/// The column that counts the labelled records behind a row, in the tables that say how good a model is: labels come
/// late, so their newest windows hold few.
pub(crate) fn labelled_column(table: MetricTable) -> Option<&'static str> {
    match table {
        MetricTable::Labels => Some("labelled"),
        MetricTable::Calibration => Some("n_scored"),
        MetricTable::QualityBinary
        | MetricTable::QualityMulticlass
        | MetricTable::QualityRegression => Some("n"),
        _ => None,
    }
}

/// What is odd about the labels of models, by rows of one window or time: none counts for quality or as positive, none
/// is what was predicted, decisions were taken for numbers, some are of classes and others are numbers; or weights
/// are smaller than what they are counted in.
pub fn odd_labels<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeSet<String> {
    #[derive(Default)]
    struct Labels<'a> {
        given: u64,
        counted: u64,
        rows: Vec<(MetricTable, &'a Row)>,
    }
    let mut models: BTreeMap<[&str; 2], Labels<'_>> = BTreeMap::new();
    for row in rows {
        let labels = models.entry([&row.model, &row.version]).or_default();
        match MetricTable::named(&row.table) {
            Some(MetricTable::Labels) => labels.given = row.count("labelled"),
            Some(
                table @ (MetricTable::QualityBinary
                | MetricTable::QualityMulticlass
                | MetricTable::QualityRegression),
            ) => {
                labels.counted += row.count("n");
                labels.rows.push((table, row));
            }
            _ => {}
        }
    }
    let mut odd = BTreeSet::new();
    for ([model, _], labels) in models {
        if labels.counted > 0 {
            odd.extend(labels.rows.iter().filter_map(|(table, row)| odd_quality(*table, row)));
            odd.extend(labels.rows.iter().filter_map(|(_, row)| light(row)));
            odd.extend(of_several_kinds(model, labels.given, &labels.rows));
        } else if labels.given > 0 {
            let key = toml_text(model);
            let is_regression = |(table, _): &_| *table == MetricTable::QualityRegression;
            let why = if labels.rows.iter().any(is_regression) {
                format!(
                    "not one is a number that stands beside a number as prediction. If it predicts classes, say so in \
                     the configuration, [models.{key}] task = \"multiclass\"."
                )
            } else {
                "its inferences have neither a score nor a prediction. Where these have other names, map them in \
                 [inferences.fields] of the configuration."
                    .to_owned()
            };
            odd.insert(format!(
                "None of the {} labels of {model} counts for quality: {why}",
                labels.given
            ));
        }
    }
    odd
}

/// What is said where a model's labels are of several tasks, each with figures of its own.
fn of_several_kinds(model: &str, given: u64, rows: &[(MetricTable, &Row)]) -> Option<String> {
    let kind = |table| match table {
        MetricTable::QualityBinary => "decisions",
        MetricTable::QualityMulticlass => "classes",
        _ => "numbers",
    };
    let counted = rows.iter().map(|(table, row)| (kind(*table), row.count("n")));
    let counted: Vec<_> = counted.filter(|(_, n)| *n > 0).collect();
    if counted.len() < 2 {
        return None;
    }
    let others = given.saturating_sub(counted.iter().map(|(_, n)| n).sum());
    let parts = counted.iter().map(|(kind, n)| format!("{n} are {kind}"));
    let parts = parts.chain((others > 0).then(|| format!("{others} fit no prediction")));
    Some(format!(
        "Labels of {model} are of several kinds, and each kind has figures of its own: {}. If it is one task, say which in \
         the configuration, [models.{}] task = \"multiclass\".",
        parts.collect::<Vec<_>>().join(", "),
        toml_text(model)
    ))
}

/// What is said of weights of which much is rounded away.
fn light(row: &Row) -> Option<String> {
    let (model, n) = (&row.model, row.count("n"));
    // Of 1,000 steps a thousandth is.
    let is_light = n > 0 && row.figure("n_weight")? / number(n) < 1e-3;
    is_light.then(|| {
        format!(
            "Labels of {model} weigh less than a thousandth on average, and weights are rounded to steps of 1/1048576: \
             multiply them all by the same number, so that they are about 1."
        )
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "for a comparison")]
fn number(count: u64) -> f64 {
    count as f64
}

/// A name as a configuration has it.
fn toml_text(name: &str) -> String {
    toml::Value::from(name).to_string()
}

/// What is odd about the quality in a row of a model, whose labels count.
fn odd_quality(table: MetricTable, row: &Row) -> Option<String> {
    let (model, n) = (&row.model, row.count("n"));
    let key = toml_text(model);
    match table {
        _ if n == 0 => None,
        MetricTable::QualityBinary => (row.count("positives") == 0).then(|| {
            format!(
                "None of the {n} labels of {model} counts as positive: if some should, as `yes` among words, name them \
                 in the configuration, [models.{key}] positive = [\"yes\"]."
            )
        }),
        MetricTable::QualityMulticlass => (n >= 20 && row.count("correct") == 0).then(|| {
            format!(
                "None of the {n} labels of {model} is what was predicted: are classes written alike in both, and \
                 numbers without units and with a point?"
            )
        }),
        // Such errors are their own squares.
        _ => {
            let [errors, squares] = ["abs_error_sum", "error_square_sum"].map(|it| row.figure(it));
            let decides = errors.zip(squares).is_some_and(|(errors, squares)| {
                n >= 20 && errors > 0.0 && errors.total_cmp(&squares).is_eq()
            });
            decides.then(|| {
                format!(
                    "Every error of {model} is 0 or 1: if its predictions are decisions between two classes, say so in \
                     the configuration, [models.{key}] task = \"binary\"."
                )
            })
        }
    }
}

/// One metric row with its columns by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The table.
    pub table: String,
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// `all`, or `dimension=value`.
    pub segment: String,
    /// The grain, or [`WHOLE`].
    pub grain: String,
    /// Start of the window, in milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// End of the window.
    pub end_ms: i64,
    /// `column=reason` of each figure that is NULL.
    pub undefined: String,
    /// The figures.
    pub values: Map<String, Json>,
}

impl From<&MetricRow> for Row {
    fn from(row: &MetricRow) -> Self {
        let columns = row.table.columns().iter().map(|column| column.name.to_owned());
        let sealed = ("sealed".to_owned(), Json::Bool(row.sealed));
        Self {
            table: row.table.name().to_owned(),
            model: row.key.model.to_string(),
            version: row.key.version.to_string(),
            segment: row.key.segment.to_string(),
            grain: row.grain.to_string(),
            start_ms: row.key.window.start.0,
            end_ms: row.key.window.end.0,
            undefined: row.undefined.clone(),
            values: columns.zip(row.values.iter().map(json)).chain([sealed]).collect(),
        }
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Count(count) => (*count).into(),
        Value::Time(time) => (*time).into(),
        Value::Figure(Ok(figure)) => Number::from_f64(*figure).map_or(Json::Null, Json::Number),
        Value::Text(text) => (**text).into(),
        // Only state rows have the others.
        Value::Figure(Err(_))
        | Value::Names(_)
        | Value::Sum(_)
        | Value::Sums(_)
        | Value::Cells(_) => Json::Null,
    }
}

impl Row {
    /// A figure; none where it is NULL.
    pub fn figure(&self, column: &str) -> Option<f64> {
        self.values.get(column)?.as_f64()
    }

    /// A count; 0 where there is no such column.
    pub fn count(&self, column: &str) -> u64 {
        self.values.get(column).and_then(Json::as_u64).unwrap_or(0)
    }

    /// A text; empty where there is no such column.
    pub fn text(&self, column: &str) -> &str {
        self.values.get(column).and_then(Json::as_str).unwrap_or_default()
    }

    /// Whether nothing can change it any more; false where that is not said.
    pub fn is_sealed(&self) -> bool {
        self.values.get("sealed").and_then(Json::as_bool).unwrap_or(false)
    }

    /// How much it says of how things stand, the greater the more: whether so many of its labels are there that its
    /// figures hold, and whether there are any. `labelled` is [`labelled_column`] of its table; where that has none,
    /// [`MetricTable::MEASURED`] counts.
    fn standing(&self, labelled: Option<&str>) -> [bool; 2] {
        let Some(column) = labelled else {
            return [false, MetricTable::MEASURED.iter().any(|column| self.count(column) > 0)];
        };
        let n = self.count(column);
        [n > 0 && (n >= FEW || self.is_sealed()), n > 0]
    }

    /// A figure's 95 % interval; none where the limits beside it say something else.
    pub fn interval(&self, column: &str) -> Option<[f64; 2]> {
        if !MetricTable::named(&self.table)?.has_interval(column) {
            return None;
        }
        let limit = |end: &str| self.figure(&format!("{column}_{end}"));
        Some([limit("lower")?, limit("upper")?])
    }

    /// Why a figure is NULL.
    pub fn reason(&self, column: &str) -> Option<&str> {
        let entries = self.undefined.split(' ').filter_map(|entry| entry.split_once('='));
        entries.into_iter().find(|(name, _)| *name == column).map(|(_, reason)| reason)
    }
}

/// The profiles that rows were compared with, as far as they are known here: by id.
#[derive(Clone, Debug, Default)]
pub struct References(BTreeMap<Arc<str>, Arc<Profile>>);

impl FromIterator<Arc<Profile>> for References {
    fn from_iter<I: IntoIterator<Item = Arc<Profile>>>(profiles: I) -> Self {
        Self(profiles.into_iter().map(|profile| (Arc::clone(&profile.id), profile)).collect())
    }
}

impl References {
    /// The profile of one feature.
    pub(super) fn feature(&self, id: &str, name: &str) -> Option<&FeatureProfile> {
        self.0.get(id)?.features.get(name).map(|profile| &**profile)
    }
}

/// The rows of each model and version, by name.
pub(super) fn models(rows: &[Row]) -> BTreeMap<(&str, &str), Vec<&Row>> {
    let mut models: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        models.entry((row.model.as_str(), row.version.as_str())).or_default().push(row);
    }
    models
}

/// The finest grain of which no model has more windows than a chart has room for; else the coarsest.
pub(super) fn chart_grain(rows: &[Row]) -> String {
    let mut windows: BTreeMap<(i64, &str), BTreeSet<i64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.grain != WHOLE && row.table == "serving") {
        let of = windows.entry((row.end_ms - row.start_ms, &row.grain)).or_default();
        of.insert(row.start_ms);
    }
    let fits = windows.iter().find(|(_, starts)| starts.len() <= MOST_POINTS);
    let grain = fits.or_else(|| windows.iter().next_back()).map(|((_, grain), _)| *grain);
    grain.unwrap_or(WHOLE).to_owned()
}

/// The rows of one model and version.
pub(super) struct ModelRows<'a> {
    /// By table; of each by start of the window, then by segment.
    tables: BTreeMap<&'a str, Vec<&'a Row>>,
    grain: &'a str,
    references: &'a References,
}

impl<'a> ModelRows<'a> {
    pub(super) fn new(mut rows: Vec<&'a Row>, grain: &'a str, references: &'a References) -> Self {
        rows.sort_by(|a, b| (a.start_ms, &a.segment).cmp(&(b.start_ms, &b.segment)));
        let mut tables: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            tables.entry(row.table.as_str()).or_default().push(row);
        }
        Self { tables, grain, references }
    }

    /// What the rows were compared with.
    pub(super) fn references(&self) -> &'a References {
        self.references
    }

    fn table(&self, table: &str) -> impl Iterator<Item = &'a Row> {
        self.tables.get(table).into_iter().flatten().copied()
    }

    /// The rows of all inferences in a table, window by window of the charts' grain.
    pub(super) fn over_time(&self, table: &str) -> impl Iterator<Item = &'a Row> {
        let grain = self.grain;
        self.table(table).filter(move |row| row.grain == grain && row.segment == ALL)
    }

    /// The rows that say how things stand: those of the whole time, else of the newest window that has at least [`FEW`]
    /// labelled records or all it will ever have, else of the newest with any, else of the newest window.
    pub(super) fn now(&self, table: &str) -> Vec<&'a Row> {
        let whole: Vec<&Row> = self.table(table).filter(|row| row.grain == WHOLE).collect();
        if !whole.is_empty() {
            return whole;
        }
        let labelled = MetricTable::named(table).and_then(labelled_column);
        let of_grain = || self.table(table).filter(|row| row.grain == self.grain);
        let newest = of_grain().map(|row| (row.standing(labelled), row.start_ms)).max();
        let newest = newest.map(|(_, start_ms)| start_ms);
        of_grain().filter(|row| Some(row.start_ms) == newest).collect()
    }

    /// Of [`now`](Self::now) the row of all inferences.
    pub(super) fn now_all(&self, table: &str) -> Option<&'a Row> {
        self.now(table).into_iter().find(|row| row.segment == ALL)
    }

    /// The rows of a table in the window of this row.
    pub(super) fn beside(&self, table: &str, of: &Row) -> impl Iterator<Item = &'a Row> {
        self.table(table).filter(move |row| row.grain == of.grain && row.start_ms == of.start_ms)
    }

    /// The row of each segment in the window of this row, of a table that has one.
    pub(super) fn by_segment(&self, table: &str, of: &Row) -> BTreeMap<&'a str, &'a Row> {
        self.beside(table, of).map(|row| (row.segment.as_str(), row)).collect()
    }
}
