//! How each model stands, in few and bounded queries: what an overview of all of them shows.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::engine::metrics::MetricTable;
use crate::engine::state::ALL;
use crate::report::headlines;
use crate::report::rows::{FEW, MOST_POINTS};

use super::SinkError;
use super::connection::{Connection, Parameter};
use super::rowbinary::Rows;
use super::rows::{RowFilter, conditions};

/// Models and versions that one overview has.
pub const MOST_MODELS: usize = 1000;

/// How long before the range a model that is silent in it may have been silent already: of one that was given up long
/// ago nobody wants to hear each day.
const SILENT_MS: i64 = 90 * 86_400_000;

/// Bytes of names in one parameter: a server takes 128 KiB, and escapes make four of one.
const MOST_NAME_BYTES: usize = 24 << 10;

/// A model and its version.
type Name = (String, String);
type Models = BTreeMap<Name, ModelSummary>;

/// A grain that there are rows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Its name, as `5m`.
    pub name: String,
    /// Length of its windows in milliseconds.
    pub window_ms: i64,
    /// Windows of it.
    pub windows: u64,
}

impl Grain {
    /// Of grains, the finest first, the first with few enough windows for a chart; else the coarsest.
    pub fn of_charts(grains: &[Self]) -> Option<&Self> {
        let fits = |grain: &&Self| usize::try_from(grain.windows).is_ok_and(|n| n <= MOST_POINTS);
        grains.iter().find(fits).or(grains.last())
    }
}

/// How one model and version stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSummary {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Accepted inferences.
    pub inferences: u64,
    /// Those with an error.
    pub errors: u64,
    /// Labelled ones.
    pub labelled: u64,
    /// Greatest event time, in milliseconds since 1970-01-01 UTC.
    pub latest_ms: Option<i64>,
    /// Inferences by start of the window, by time: the newest that a chart has room for.
    pub traffic: Vec<(i64, f64)>,
    /// The figure that stands for its quality; none where it is not defined in any window.
    pub quality: Option<Quality>,
    /// Of the newest window with a verdict; none without one.
    pub drift: Option<DriftCount>,
    /// Alerts that are open; none where no table of alerts is.
    pub open_alerts: Option<u64>,
}

impl ModelSummary {
    /// Whether nothing came of it in the range.
    pub fn is_silent(&self) -> bool {
        self.inferences == 0
    }
}

/// A quality figure over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// What it is.
    pub name: &'static str,
    /// The value of the newest window that has enough labels or all it will ever have, else of the newest window.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Labelled records that it was computed from.
    pub n: u64,
    /// Start of its window, in milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// Values by start of the window, by time: the newest that a chart has room for.
    pub points: Vec<(i64, f64)>,
}

/// Verdicts of one window on features, scores, predictions and labels, by their main methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriftCount {
    /// Those that drift.
    pub drifting: u64,
    /// Those that are worth a look.
    pub warnings: u64,
    /// All that have a verdict.
    pub compared: u64,
}

/// The grains that the filter's rows of `serving` have.
pub(super) async fn grains(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<Grain>, SinkError> {
    let length = "min(toUnixTimestamp64Milli(window_end) - toUnixTimestamp64Milli(window_start))";
    let columns = format!("grain, toFloat64({length}), toFloat64(uniqExact(window_start))");
    let rest = format!("GROUP BY grain ORDER BY {length}, grain LIMIT 20");
    let found: Vec<(String, f64, f64)> =
        ask(connection, "serving", filter, &columns, "", &rest).await?;
    let grain = |(name, length, windows)| {
        let (window_ms, windows) = (time(length), whole(windows));
        Grain { name, window_ms, windows }
    };
    Ok(found.into_iter().map(grain).collect())
}

/// One for each model and version that has rows in `serving` or open alerts, or had rows in the [`SILENT_MS`] before, by
/// name.
pub(super) async fn models(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<ModelSummary>, SinkError> {
    let (traffic, labelled, drift, alerts, known, binary, multiclass, regression) = tokio::try_join!(
        traffic(connection, filter),
        labelled(connection, filter),
        drift(connection, filter),
        alerts(connection, filter),
        known(connection, filter),
        quality(connection, filter, MetricTable::QualityBinary, 0),
        quality(connection, filter, MetricTable::QualityMulticlass, 0),
        quality(connection, filter, MetricTable::QualityRegression, 0),
    )?;
    let mut models = Models::new();
    for one in traffic {
        models.insert((one.model.clone(), one.version.clone()), one);
    }
    for (model, version, count) in labelled {
        if let Some(of) = models.get_mut(&(model, version)) {
            of.labelled = whole(count);
        }
    }
    add_quality(&mut models, binary.into_iter().chain(multiclass).chain(regression));
    // Without scores there is no AUROC, but there are right and wrong decisions.
    if models.values().any(|of| of.labelled > 0 && of.quality.is_none()) {
        let second = quality(connection, filter, MetricTable::QualityBinary, 1).await?;
        add_quality(&mut models, second);
    }
    for (model, version, drifting, warnings, compared) in drift {
        if let Some(of) = models.get_mut(&(model, version)) {
            let [drifting, warnings, compared] = [drifting, warnings, compared].map(whole);
            of.drift = Some(DriftCount { drifting, warnings, compared });
        }
    }
    let open_alerts = alerts.is_some().then_some(0);
    if let Some(alerts) = alerts {
        let silent = add_alerts(&mut models, alerts);
        add_alerting(connection, filter, &mut models, silent).await?;
    }
    add_silent(&mut models, known, open_alerts);
    Ok(models.into_values().collect())
}

fn add_quality(models: &mut Models, figures: impl IntoIterator<Item = (Name, Quality)>) {
    for (name, quality) in figures {
        if let Some(of) = models.get_mut(&name) {
            of.quality.get_or_insert(quality);
        }
    }
}

/// Those with open alerts that have no rows.
fn add_alerts(models: &mut Models, alerts: Vec<(String, String, f64)>) -> Vec<(Name, u64)> {
    for of in models.values_mut() {
        of.open_alerts = Some(0);
    }
    let mut silent = Vec::new();
    for (model, version, open) in alerts {
        let (name, open) = ((model, version), whole(open));
        match models.get_mut(&name) {
            Some(of) => of.open_alerts = Some(open),
            None => silent.push((name, open)),
        }
    }
    silent
}

/// Adds the models that fell silent with their newest versions, as far as there is room: they hide none that works or
/// has alerts. A version that another one has replaced is not silent.
fn add_silent(models: &mut Models, known: Vec<(Name, Option<i64>)>, open_alerts: Option<u64>) {
    let shown: BTreeSet<String> = models.keys().map(|(model, _)| model.clone()).collect();
    let mut newest: BTreeMap<String, (Option<i64>, String)> = BTreeMap::new();
    for ((model, version), latest_ms) in known {
        if !shown.contains(&model) {
            let of_model = newest.entry(model).or_default();
            *of_model = (latest_ms, version).max(std::mem::take(of_model));
        }
    }
    let room = MOST_MODELS.saturating_sub(models.len());
    for (model, (latest_ms, version)) in newest.into_iter().take(room) {
        let name = (model.clone(), version.clone());
        let silent =
            ModelSummary { model, version, latest_ms, open_alerts, ..ModelSummary::default() };
        models.insert(name, silent);
    }
}

/// Whether the filter chooses one segment: most models lack it, so that nothing is said of those without rows.
fn is_of_segment(filter: &RowFilter) -> bool {
    filter.exact.iter().any(|(column, of)| *column == "segment" && of != ALL)
}

/// Models that have rows of any grain in the range or not long before it, by name, each with the version that had the
/// newest event and the time of that. Of superseded rows, too: a merge of all of them for this would cost more than all
/// else on the page.
async fn known(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<(Name, Option<i64>)>, SinkError> {
    let Some(since_ms) = filter.since_ms.filter(|_| !is_of_segment(filter)) else {
        return Ok(Vec::new());
    };
    let since_ms = Some(since_ms.saturating_sub(SILENT_MS));
    let wider = RowFilter { since_ms, grain: None, ..filter.clone() };
    let (given, parameters) = conditions(connection, &wider);
    // Whole months of older rows are left out by the start of their windows, not by its end. Twice as many names as there
    // is room for: some of them work.
    let sql = format!(
        "SELECT formatRow('JSONCompactEachRow', model, argMax(version, (latest_event_time, version)), \
         toFloat64(toUnixTimestamp64Milli(max(latest_event_time)))) AS line FROM {} {given} \
         AND window_start > fromUnixTimestamp64Milli({{since:Int64}}, 'UTC') GROUP BY model ORDER BY model LIMIT {}",
        connection.table("serving"),
        2 * MOST_MODELS
    );
    let found: Vec<(String, String, Option<f64>)> =
        lines(connection, "serving", &sql, &parameters).await?;
    let named = |(model, version, latest): (String, String, Option<f64>)| {
        ((model, version), latest.map(time))
    };
    Ok(found.into_iter().map(named).collect())
}

/// Adds those without rows that have open alerts. Not where one segment is chosen.
async fn add_alerting(
    connection: &Connection,
    filter: &RowFilter,
    models: &mut Models,
    silent: Vec<(Name, u64)>,
) -> Result<(), SinkError> {
    if silent.is_empty() || is_of_segment(filter) {
        return Ok(());
    }
    let latest = latest(connection, filter, &silent).await?;
    // They hide none that works.
    let room = MOST_MODELS.saturating_sub(models.len());
    for (name, open) in silent.into_iter().take(room) {
        let latest_ms = latest.get(&name).copied();
        // Before the end of a range that is over, it may not have been there yet.
        if latest_ms.is_none() && filter.until_ms.is_some() {
            continue;
        }
        let (model, version) = name.clone();
        let open_alerts = Some(open);
        let of = ModelSummary { model, version, latest_ms, open_alerts, ..ModelSummary::default() };
        models.insert(name, of);
    }
    Ok(())
}

/// Greatest event times before the end of the range, of any grain and however long ago.
async fn latest(
    connection: &Connection,
    filter: &RowFilter,
    of: &[(Name, u64)],
) -> Result<BTreeMap<Name, i64>, SinkError> {
    let RowFilter { until_ms, exact, .. } = filter.clone();
    let ever = RowFilter { until_ms, exact, ..RowFilter::default() };
    let (given, mut parameters) = conditions(connection, &ever);
    let mut bytes = 0;
    let named = of.iter().map(|(name, _)| name).take_while(|(model, version)| {
        bytes += model.len() + version.len() + 2;
        bytes <= MOST_NAME_BYTES
    });
    let (models, versions): (Vec<String>, Vec<String>) = named.cloned().unzip();
    parameters.push(("models", Parameter::Texts(models)));
    parameters.push(("versions", Parameter::Texts(versions)));
    let sql = format!(
        "SELECT formatRow('JSONCompactEachRow', model, version, \
         toFloat64(toUnixTimestamp64Milli(max(latest_event_time)))) AS line \
         FROM {} FINAL {given} AND (model, version) IN (SELECT w.1, w.2 FROM (\
         SELECT arrayJoin(arrayZip({{models:Array(String)}}, {{versions:Array(String)}})) AS w)) {OF_MODEL}",
        connection.table("serving")
    );
    let found: Vec<(String, String, f64)> = lines(connection, "serving", &sql, &parameters).await?;
    Ok(found.into_iter().map(|(model, version, ms)| ((model, version), time(ms))).collect())
}

const OF_MODEL: &str = "GROUP BY model, version ORDER BY model, version";

async fn traffic(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<ModelSummary>, SinkError> {
    type Line = (String, String, f64, f64, Option<f64>, Vec<[f64; 2]>);
    let columns = format!(
        "model, version, toFloat64(sum(inferences)), toFloat64(sum(errors)), \
         toFloat64(toUnixTimestamp64Milli(max(latest_event_time))), {}",
        newest_points("toFloat64(inferences)")
    );
    let lines: Vec<Line> =
        ask(connection, "serving", filter, &columns, "", &most_models(OF_MODEL)).await?;
    Ok(lines
        .into_iter()
        .map(|(model, version, inferences, errors, latest, points)| ModelSummary {
            model,
            version,
            inferences: whole(inferences),
            errors: whole(errors),
            latest_ms: latest.map(time),
            traffic: by_time(points.into_iter().map(|[start, count]| (time(start), count))),
            ..ModelSummary::default()
        })
        .collect())
}

async fn labelled(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<(String, String, f64)>, SinkError> {
    let columns = "model, version, toFloat64(sum(labelled))";
    ask(connection, "labels", filter, columns, "", &most_models(OF_MODEL)).await
}

/// One of the table's headlines, counted from the main one, where it is defined.
async fn quality(
    connection: &Connection,
    filter: &RowFilter,
    table: MetricTable,
    place: usize,
) -> Result<Vec<(Name, Quality)>, SinkError> {
    type Line = (String, String, Vec<Point>);
    let Some((column, name)) = headlines(table.name()).nth(place) else {
        return Ok(Vec::new());
    };
    let n = table.denominator(column).join(" + ");
    let point =
        format!("{column}, {column}_lower, {column}_upper, toFloat64({n}), toFloat64(sealed)");
    let columns = format!("model, version, {}", newest_points(&point));
    let only = format!("AND {column} IS NOT NULL");
    let lines: Vec<Line> =
        ask(connection, table.name(), filter, &columns, &only, &most_models(OF_MODEL)).await?;
    let quality = |(model, version, points): Line| {
        let [start, value, lower, upper, n, _] = *shown(&points)?;
        let all = points.iter().filter_map(|point| Some((time(point[0]?), point[1]?)));
        let points = by_time(all);
        let interval = lower.zip(upper).map(|(lower, upper)| [lower, upper]);
        let (start_ms, value, n) = (time(start?), value?, whole(n.unwrap_or(0.0)));
        Some(((model, version), Quality { name, value, interval, n, start_ms, points }))
    };
    Ok(lines.into_iter().filter_map(quality).collect())
}

/// Start of a window, a figure, its limits, the records behind it, and whether the window is sealed (1 or 0).
type Point = [Option<f64>; 6];

/// The window whose figure stands for the model: labels come late, so that the newest says little until it has enough of
/// them or no more can come.
fn shown(points: &[Point]) -> Option<&Point> {
    let rank = |point: &Point| {
        let n = whole(point[4].unwrap_or(0.0));
        let is_sealed = point[5].is_some_and(|sealed| sealed > 0.0);
        (n > 0 && (n >= FEW || is_sealed), point[0].map(time))
    };
    points.iter().max_by_key(|&point| rank(point))
}

async fn drift(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Vec<(String, String, f64, f64, f64)>, SinkError> {
    let newest = |verdict: &str| {
        format!("toFloat64(countIf(window_start = newest AND verdict = '{verdict}'))")
    };
    let columns = format!(
        "model, version, {}, {}, toFloat64(countIf(window_start = newest))",
        newest("drift"),
        newest("warn")
    );
    // The newest window of each model that has a verdict at all.
    let (given, parameters) = conditions(connection, filter);
    let sql = format!(
        "SELECT formatRow('JSONCompactEachRow', {columns}) AS line FROM \
         (SELECT model, version, window_start, verdict, max(window_start) OVER (PARTITION BY model, version) AS newest \
          FROM {} FINAL {given} AND is_primary > 0 AND verdict != 'insufficient_data') \
         {}",
        connection.table("drift"),
        most_models(OF_MODEL)
    );
    lines(connection, "drift", &sql, &parameters).await
}

/// Open alerts by model and version, whenever they were opened; none where there is no such table.
async fn alerts(
    connection: &Connection,
    filter: &RowFilter,
) -> Result<Option<Vec<(String, String, f64)>>, SinkError> {
    let database = Parameter::Text(connection.databases.tables.clone());
    let sql = "SELECT formatRow('JSONCompactEachRow', toFloat64(count())) AS line FROM system.tables \
               WHERE database = {database:String} AND name = 'alerts'";
    let there: Vec<(f64,)> =
        lines(connection, "system.tables", sql, &[("database", database)]).await?;
    if there.first().is_none_or(|&(count,)| count < 1.0) {
        return Ok(None);
    }
    let columns = "model, version, toFloat64(count())";
    let open = "AND state = 'opened'";
    let RowFilter { model, version, .. } = filter.clone();
    let of_models = RowFilter { model, version, ..RowFilter::default() };
    Ok(Some(ask(connection, "alerts", &of_models, columns, open, &most_models(OF_MODEL)).await?))
}

/// What is drawn of each window, behind its start: of the newest windows only, so that an answer is bounded however
/// long the range is.
fn newest_points(point: &str) -> String {
    format!(
        "arraySlice(arrayReverseSort(point -> point[1], \
         groupArray([toFloat64(toUnixTimestamp64Milli(window_start)), {point}])), 1, {MOST_POINTS})"
    )
}

fn most_models(order: &str) -> String {
    format!("{order} LIMIT {MOST_MODELS}")
}

async fn ask<T: DeserializeOwned>(
    connection: &Connection,
    table: &'static str,
    filter: &RowFilter,
    columns: &str,
    only: &str,
    rest: &str,
) -> Result<Vec<T>, SinkError> {
    let (given, parameters) = conditions(connection, filter);
    let sql = format!(
        "SELECT formatRow('JSONCompactEachRow', {columns}) AS line FROM {} FINAL {given} {only} {rest}",
        connection.table(table)
    );
    lines(connection, table, &sql, &parameters).await
}

async fn lines<T: DeserializeOwned>(
    connection: &Connection,
    what: &'static str,
    sql: &str,
    parameters: &[(&str, Parameter)],
) -> Result<Vec<T>, SinkError> {
    let body = connection.fetch(sql, parameters).await?;
    let mut rows = Rows::new(body, what, &[("line", "String")])?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        let unreadable = |_| SinkError::Unreadable(format!("a summary of table {what}"));
        found.push(serde_json::from_str(&rows.text()?).map_err(unreadable)?);
    }
    Ok(found)
}

fn by_time(points: impl Iterator<Item = (i64, f64)>) -> Vec<(i64, f64)> {
    let mut points: Vec<_> = points.collect();
    points.sort_by_key(|&(start, _)| start);
    points
}

#[expect(clippy::as_conversions, reason = "a count that the server gave as a Float64")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[expect(clippy::as_conversions, reason = "milliseconds that the server gave as a Float64")]
fn time(ms: f64) -> i64 {
    ms as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_of_the_newest_window_with_enough_labels_or_with_all_of_them() {
        let point = |start: f64, n: f64, sealed: f64| -> Point {
            [Some(start), Some(0.5), None, None, Some(n), Some(sealed)]
        };
        for (points, start) in [
            (vec![point(3.0, 2.0, 0.0), point(1.0, 100.0, 0.0), point(2.0, 150.0, 0.0)], 2.0),
            (vec![point(1.0, 5.0, 1.0), point(2.0, 2.0, 0.0)], 1.0),
            (vec![point(1.0, 500.0, 1.0), point(2.0, 3.0, 1.0)], 2.0),
            (vec![point(1.0, 99.0, 0.0), point(2.0, 2.0, 0.0)], 2.0),
            (vec![point(1.0, 7.0, 0.0), point(2.0, 0.0, 1.0), point(0.0, 100.0, 0.0)], 0.0),
        ] {
            assert_eq!(shown(&points).and_then(|point| point[0]), Some(start), "{points:?}");
        }
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn models_that_fell_silent_are_added_to_those_that_work_as_far_as_there_is_room() {
        let name = |i: usize| (format!("m{i:04}"), "v".to_owned());
        let works = ModelSummary { inferences: 7, open_alerts: Some(2), ..ModelSummary::default() };
        let mut models = Models::from([(name(1), works.clone())]);
        add_silent(&mut models, vec![(name(0), Some(5)), (name(1), Some(9))], Some(0));
        assert_eq!(models[&name(1)], works);
        let silent = &models[&name(0)];
        assert!(silent.is_silent() && !works.is_silent());
        assert_eq!((&*silent.model, &*silent.version), ("m0000", "v"));
        assert_eq!((silent.latest_ms, silent.open_alerts), (Some(5), Some(0)));

        // One that is trained anew each day has a version that works, or a newest one that was the last.
        let of =
            |model: &str, version: &str, latest| ((model.to_owned(), version.to_owned()), latest);
        let versions = [of("m0001", "old", Some(1)), of("x", "a", Some(3)), of("x", "b", Some(2))];
        add_silent(&mut models, versions.into(), Some(0));
        let names: Vec<_> =
            models.keys().map(|(model, version)| format!("{model} {version}")).collect();
        assert_eq!(names, ["m0000 v", "m0001 v", "x a"]);

        let many = (0..2 * MOST_MODELS).map(|i| (name(i), None));
        add_silent(&mut models, many.collect(), None);
        assert_eq!(models.len(), MOST_MODELS);
        assert_eq!(models[&name(1)], works, "it is not hidden");
    }

    #[test]
    fn of_a_segment_nobody_says_which_models_lack_it() {
        let of = |segment: &str| RowFilter {
            exact: vec![("segment", segment.to_owned())],
            ..RowFilter::default()
        };
        assert!(is_of_segment(&of("region=eu")) && !is_of_segment(&of(ALL)));
        assert!(!is_of_segment(&RowFilter::default()));
    }
}
