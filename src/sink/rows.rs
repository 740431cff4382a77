//! Metric rows back from the database, and which states a report merges, for people: `query` and `report`.

use serde_json::{Map, Value as Json};

use crate::engine::glob::fits;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::{Column, Kind};
use crate::engine::state::Key;
use crate::report::Row;
use crate::report::rows::{FEW, labelled_column};

use super::connection::{Connection, Parameter};
use super::read;
use super::rowbinary::Rows;
use super::tables::{METRIC_KEY, written_at_once};
use super::{SinkError, StateVersion};

/// Which metric rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    /// A model's name, in which `*` stands for any text; all when empty.
    pub model: String,
    /// One version.
    pub version: Option<String>,
    /// `all` or `dimension=value`, in which `*` stands for any text; every segment when empty.
    pub segment: String,
    /// The name of one grain.
    pub grain: Option<String>,
    /// Windows that end after it, in milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<i64>,
    /// Windows that start before it.
    pub until_ms: Option<i64>,
    /// Columns, or expressions of them, that must be this text: at most four.
    pub exact: Vec<(&'static str, String)>,
    /// Only rows of the window by which a report says how things stand: where the table counts labelled records, the
    /// newest that has enough of them or all it will ever have, else the newest with any; elsewhere the newest.
    pub only_newest: bool,
    /// The table whose rows say which window that is, where it is another one.
    pub judged_by: Option<MetricTable>,
    /// The most rows.
    pub limit: u32,
}

impl RowFilter {
    /// Whether it lets rows of a key pass, whatever their grain.
    pub fn admits(&self, key: &Key) -> bool {
        let fits = |glob: &str, name: &str| glob.is_empty() || fits(glob, name);
        fits(&self.model, &key.model)
            && fits(&self.segment, &key.segment)
            && self.version.as_deref().is_none_or(|version| *version == *key.version)
            && self.since_ms.is_none_or(|since| key.window.end.0 > since)
            && self.until_ms.is_none_or(|until| key.window.start.0 < until)
    }
}

/// For [`RowFilter::exact`]: drift by the one method of each feature that verdicts go by.
pub fn of_main_method() -> (&'static str, String) {
    ("toString(is_primary > 0)", "1".to_owned())
}

/// The columns before the figures, as they are asked for.
const KEYS: [&str; 8] = [
    "model",
    "version",
    "segment",
    "grain",
    "toUnixTimestamp64Milli(window_start)",
    "toUnixTimestamp64Milli(window_end)",
    "undefined",
    "sealed",
];

/// Rows of the connection's job; among their values is whether they are `sealed`.
pub(super) async fn select(
    connection: &Connection,
    table: MetricTable,
    filter: &RowFilter,
) -> Result<Vec<Row>, SinkError> {
    let figures = table.columns().iter().map(|column| match column.kind {
        Kind::Time => format!("toUnixTimestamp64Milli({})", column.name),
        _ => column.name.to_owned(),
    });
    let columns: Vec<String> = KEYS.into_iter().map(str::to_owned).chain(figures).collect();
    let (conditions, parameters) = conditions(connection, filter);
    let mut from = format!("{} FINAL {conditions}", connection.table(table.name()));
    if filter.only_newest {
        let judge = filter.judged_by.unwrap_or_else(|| judge(table));
        let judging = format!("{} FINAL {conditions}", connection.table(judge.name()));
        from = format!("{from} AND window_start = ({})", newest_window(judge, &judging));
    }
    if table.rows_can_go() {
        // Rows of a window are written at once: an older one is of what has gone.
        from = format!(
            "(SELECT *, max(row_version) OVER (PARTITION BY {}) AS newest FROM {from}) WHERE row_version = newest",
            written_at_once(table, &METRIC_KEY)
        );
    }
    let sql = format!(
        "SELECT formatRow('JSONCompactEachRow', {}) AS line FROM {from} ORDER BY {} LIMIT {}",
        columns.join(", "),
        order(table),
        filter.limit
    );
    let body = connection.fetch(&sql, &parameters).await?;
    let mut lines = Rows::new(body, table.name(), &[("line", "String")])?;
    let mut rows = Vec::new();
    while !lines.is_empty() {
        rows.push(row(table, &lines.text()?)?);
    }
    rows.reverse();
    Ok(rows)
}

/// The table whose rows say which window [`RowFilter::only_newest`] means: bins stand beside the row that they are of,
/// however few labels each of them has.
fn judge(table: MetricTable) -> MetricTable {
    match table {
        MetricTable::CalibrationBins => MetricTable::Calibration,
        other => other,
    }
}

/// The start of that window, by rows of this table.
fn newest_window(table: MetricTable, from: &str) -> String {
    let counts = MetricTable::MEASURED.into_iter().filter(|count| table.has(count));
    let counts: Vec<&str> = counts.collect();
    let standing = match labelled_column(table) {
        Some(n) => format!("{n} > 0 AND ({n} >= {FEW} OR sealed), {n} > 0"),
        None if counts.is_empty() => "true".to_owned(),
        None => format!("{} > 0", counts.join(" + ")),
    };
    format!("SELECT argMax(window_start, ({standing}, window_start)) FROM {from}")
}

/// The newest rows first, and of a window always the same ones, wherever a limit cuts it.
fn order(table: MetricTable) -> String {
    let own = table.columns().iter().take(table.keys()).map(|column| column.name);
    let all = ["window_start", "model", "version", "segment", "grain"].into_iter().chain(own);
    all.map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ")
}

/// The greatest version of every state row that the filter, which names no grain, lets pass. Of more than its limit
/// those of the newest generation, which a version begins with.
pub(super) async fn state_versions(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<StateVersion>, SinkError> {
    let (conditions, parameters) = conditions(connection, filter);
    let rest = format!("ORDER BY row_version DESC LIMIT {}", filter.limit);
    read::versions(connection, &conditions, &rest, &parameters).await
}

/// Names of the parameters of [`RowFilter::exact`].
const EXACT: [&str; 4] = ["exact_0", "exact_1", "exact_2", "exact_3"];

/// What stands behind `FINAL`, and its parameters. Conditions on the table's key hold for all versions of a row alike:
/// they are looked at first, so that only what is wanted is merged, which makes reads of many models five times as fast.
pub(super) fn conditions(
    connection: &Connection,
    filter: &RowFilter,
) -> (String, Vec<(&'static str, Parameter)>) {
    let mut of_key = "PREWHERE job = {job:String}".to_owned();
    let mut others = String::new();
    let mut parameters = vec![("job", Parameter::Text(connection.settings.job.clone()))];
    let mut add = |condition: &str, name, value| {
        of_key.push_str(" AND ");
        of_key.push_str(condition);
        parameters.push((name, value));
    };
    if !filter.model.is_empty() {
        add("model LIKE {model:String}", "model", Parameter::Text(like(&filter.model)));
    }
    if !filter.segment.is_empty() {
        add("segment LIKE {segment:String}", "segment", Parameter::Text(like(&filter.segment)));
    }
    if let Some(version) = &filter.version {
        add("version = {version:String}", "version", Parameter::Text(version.clone()));
    }
    if let Some(grain) = &filter.grain {
        add("grain = {grain:String}", "grain", Parameter::Text(grain.clone()));
    }
    // The end of a window follows from its start and its grain.
    if let Some(since) = filter.since_ms {
        let condition = "window_end > fromUnixTimestamp64Milli({since:Int64}, 'UTC')";
        add(condition, "since", Parameter::Number(since));
    }
    if let Some(until) = filter.until_ms {
        let condition = "window_start < fromUnixTimestamp64Milli({until:Int64}, 'UTC')";
        add(condition, "until", Parameter::Number(until));
    }
    assert!(filter.exact.len() <= EXACT.len(), "no condition is left out");
    for (&(column, ref value), name) in filter.exact.iter().zip(EXACT) {
        let condition = format!("{column} = {{{name}:String}}");
        let place = if METRIC_KEY.contains(&column) { &mut of_key } else { &mut others };
        place.push_str(" AND ");
        place.push_str(&condition);
        parameters.push((name, Parameter::Text(value.clone())));
    }
    (format!("{of_key} WHERE true{others}"), parameters)
}

/// A pattern of `LIKE` in which only `*` is special.
pub(super) fn like(glob: &str) -> String {
    let mut pattern = String::new();
    for sign in glob.chars() {
        match sign {
            '*' => pattern.push('%'),
            '%' | '_' | '\\' => {
                pattern.push('\\');
                pattern.push(sign);
            }
            _ => pattern.push(sign),
        }
    }
    pattern
}

fn row(table: MetricTable, line: &str) -> Result<Row, SinkError> {
    let unreadable = || SinkError::Unreadable(format!("a row of table {}", table.name()));
    let values: Vec<Json> = serde_json::from_str(line).map_err(|_| unreadable())?;
    if values.len() != KEYS.len() + table.columns().len() {
        return Err(unreadable());
    }
    let mut values = values.into_iter();
    let mut next = || values.next().unwrap_or_default();
    let mut text = || match next() {
        Json::String(text) => Ok(text),
        _ => Err(unreadable()),
    };
    let [model, version, segment, grain] = [text()?, text()?, text()?, text()?];
    let mut time = || whole(next()).as_i64().ok_or_else(unreadable);
    let (start_ms, end_ms) = (time()?, time()?);
    let undefined = next().as_str().unwrap_or_default().to_owned();
    let sealed = ("sealed".to_owned(), next());
    let figures = table.columns().iter().map(|column| (column.name.to_owned(), of(column, next())));
    let values: Map<String, Json> = std::iter::once(sealed).chain(figures).collect();
    let table = table.name().to_owned();
    Ok(Row { table, model, version, segment, grain, start_ms, end_ms, undefined, values })
}

fn of(column: &Column, value: Json) -> Json {
    if matches!(column.kind, Kind::Count | Kind::Time) { whole(value) } else { value }
}

/// Servers differ in whether they quote whole numbers of 64 bits.
fn whole(value: Json) -> Json {
    match &value {
        Json::String(text) => text
            .parse::<u64>()
            .map(Json::from)
            .or_else(|_| text.parse::<i64>().map(Json::from))
            .unwrap_or(value),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_one_order_by_all_of_their_keys() {
        let of_window = "window_start DESC, model DESC, version DESC, segment DESC, grain DESC";
        assert_eq!(order(MetricTable::Serving), of_window);
        let categories = format!("{of_window}, feature DESC, category DESC");
        assert_eq!(order(MetricTable::Categories), categories);
    }

    #[test]
    fn the_newest_window_is_the_newest_with_enough_labelled_records_where_they_are_counted() {
        let of = |table| newest_window(judge(table), "t");
        let newest = |standing: &str| {
            format!("SELECT argMax(window_start, ({standing}, window_start)) FROM t")
        };
        assert_eq!(of(MetricTable::DataQuality), newest("true"));
        assert_eq!(of(MetricTable::Categories), newest("n > 0"), "they wait for no label");
        for (table, n) in [
            (MetricTable::Labels, "labelled"),
            (MetricTable::QualityBinary, "n"),
            (MetricTable::QualityMulticlass, "n"),
            (MetricTable::QualityRegression, "n"),
            (MetricTable::Calibration, "n_scored"),
            (MetricTable::CalibrationBins, "n_scored"),
        ] {
            let settled = format!("{n} > 0 AND ({n} >= 100 OR sealed), {n} > 0");
            assert_eq!(of(table), newest(&settled), "{}", table.name());
            assert!(judge(table).has(n), "{}", table.name());
        }
    }

    #[test]
    fn only_a_star_is_special_in_a_glob() {
        assert_eq!(like("fraud-*"), "fraud-%");
        assert_eq!(like("a_b%c\\*"), "a\\_b\\%c\\\\%");
    }
}
