//! What rules read and write: windows of metric rows, alerts, notifications.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BufMut;

use crate::alerts::{Alert, AlertKey, AlertRow, Change, Rule, Seen, State};
use crate::engine::metrics::MetricTable;
use crate::engine::state::Version;
use crate::engine::time::EventTime;
use crate::engine::window::Window;

use super::connection::{Connection, Parameter};
use super::row::{Batch, MAX_BATCH_BYTES, Texts};
use super::rowbinary::{Rows, put_bytes, put_figure};
use super::rows::like;
use super::tables::{TIME, Table, written_at_once};
use super::{RowBatch, SinkError};

const NAME: &str = "LowCardinality(String)";
const FIGURE: &str = "Nullable(Float64)";
const NULLABLE_TIME: &str = "Nullable(DateTime64(3, 'UTC'))";

/// One window of one key, with the row's own keys.
#[derive(Clone, Debug)]
pub struct SeenRow {
    /// What it is about.
    pub key: AlertKey,
    /// The window.
    pub seen: Seen,
    /// Whether its coverage is of another version: a flush is under way.
    pub in_flux: bool,
}

/// Someone to tell of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The change: the same in every attempt and at every target.
    pub key: String,
    /// Name of the target; empty for the change itself.
    pub target: String,
    /// The change as JSON.
    pub payload: String,
    /// What was answered, or why it was given up.
    pub answer: String,
    /// Where it stands.
    pub status: Status,
    /// How long ago it was written down, in milliseconds; not written.
    pub age_ms: i64,
}

/// Where a notification stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// To be sent.
    Pending,
    /// Acknowledged.
    Delivered,
    /// Refused for too long.
    GivenUp,
}

impl Status {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

fn job(connection: &Connection) -> (&'static str, Parameter) {
    ("job", Parameter::Text(connection.settings.job.clone()))
}

/// Up to where the windows of all partitions are sealed and their rows written; none before every partition has a
/// mark. The marks say it, and not the seals: a mark is written after the rows.
pub(super) async fn sealed_until(
    connection: &Connection,
    partitions: i32,
) -> Result<Option<EventTime>, SinkError> {
    let sql = format!(
        "SELECT toInt32(count()) AS partitions, min(sealed_until_ms) AS sealed_until FROM {} FINAL \
         WHERE job = {{job:String}}",
        connection.table("marks")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let columns = [("partitions", "Int32"), ("sealed_until", "Int64")];
    let mut rows = Rows::new(body, "table marks", &columns)?;
    let (count, until) = (rows.i32()?, EventTime(rows.i64()?));
    Ok((count >= partitions).then_some(until))
}

/// Start of the first and end of the last window of a rule's metric that begin at `since` or later, whoever's: others
/// show that a model is silent. None where there are no rows.
pub(super) async fn span(
    connection: &Connection,
    rule: &Rule,
    since: Option<EventTime>,
) -> Result<Option<Window>, SinkError> {
    let mut sql = format!(
        "SELECT min(window_start) AS first, max(window_end) AS last, count() AS rows FROM {} \
         WHERE job = {{job:String}} AND grain = {{grain:String}}",
        connection.table(rule.metric.table.name())
    );
    let mut parameters = vec![job(connection), ("grain", Parameter::Text(rule.grain.to_string()))];
    // A year of rows is not to be looked through after every flush.
    if let Some(since) = since {
        sql += " AND window_start >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')";
        parameters.push(("since", Parameter::Number(since.0)));
    }
    let body = connection.fetch(&sql, &parameters).await?;
    let columns = [("first", TIME), ("last", TIME), ("rows", "UInt64")];
    let mut rows = Rows::new(body, "a metric table", &columns)?;
    let window = Window { start: EventTime(rows.i64()?), end: EventTime(rows.i64()?) };
    Ok((rows.u64()? > 0).then_some(window))
}

/// The start of the first window from `from` on that has a row of the models and segments that a rule is about; none
/// where there is no such row.
pub(super) async fn next(
    connection: &Connection,
    rule: &Rule,
    from: EventTime,
) -> Result<Option<EventTime>, SinkError> {
    let (about, globs) = about(rule);
    let sql = format!(
        "SELECT min(window_start) AS first, count() AS rows FROM {} \
         WHERE job = {{job:String}} AND grain = {{grain:String}} \
         AND window_start >= fromUnixTimestamp64Milli({{from:Int64}}, 'UTC'){about}",
        connection.table(rule.metric.table.name())
    );
    let mut parameters = vec![
        job(connection),
        ("grain", Parameter::Text(rule.grain.to_string())),
        ("from", Parameter::Number(from.0)),
    ];
    parameters.extend(globs.iter().map(|(name, glob)| (&**name, glob.clone())));
    let body = connection.fetch(&sql, &parameters).await?;
    let columns = [("first", TIME), ("rows", "UInt64")];
    let mut rows = Rows::new(body, "a metric table", &columns)?;
    let first = EventTime(rows.i64()?);
    Ok((rows.u64()? > 0).then_some(first))
}

const SEEN_COLUMNS: [(&str, &str); 15] = [
    ("model", "String"),
    ("version", "String"),
    ("segment", "String"),
    ("item", "String"),
    ("window_start", TIME),
    ("window_end", TIME),
    ("value", FIGURE),
    ("lower", FIGURE),
    ("upper", FIGURE),
    ("verdict", "String"),
    ("n", "Nullable(UInt64)"),
    ("coverage", FIGURE),
    ("coverage_version", "UInt64"),
    ("sealed", "UInt32"),
    ("row_version", "UInt64"),
];

/// The windows within `span` of the keys that a rule is about, by time.
pub(super) async fn seen(
    connection: &Connection,
    rule: &Rule,
    span: Window,
) -> Result<Vec<SeenRow>, SinkError> {
    let (about, globs) = about(rule);
    let mut parameters = vec![
        job(connection),
        ("grain", Parameter::Text(rule.grain.to_string())),
        ("from", Parameter::Number(span.start.0)),
        ("until", Parameter::Number(span.end.0)),
    ];
    let custom = rule.custom.as_ref().map(|metric| Parameter::Text(metric.name.to_string()));
    parameters.extend(custom.map(|name| ("custom", name)));
    parameters.extend(globs.iter().map(|(name, glob)| (&**name, glob.clone())));
    let body = connection.fetch(&seen_query(connection, rule, &about), &parameters).await?;
    let mut rows = Rows::new(body, "a metric table", &SEEN_COLUMNS)?;
    let (mut texts, mut found) = (Texts::default(), Vec::new());
    while !rows.is_empty() {
        let mut text = || Ok::<_, SinkError>(texts.share(rows.text()?));
        let [model, version, segment, feature] = [text()?, text()?, text()?, text()?];
        let window = Window { start: EventTime(rows.i64()?), end: EventTime(rows.i64()?) };
        let mut figure = || rows.optional(Rows::f64);
        let (value, lower, upper) = (figure()?, figure()?, figure()?);
        let verdict = texts.share(rows.text()?);
        let n = rows.optional(Rows::u64)?;
        let coverage = rows.optional(Rows::f64)?;
        let coverage_version = rows.u64()?;
        let sealed = rows.u32()? > 0;
        let version_of_row = rows.u64()?;
        if !rule.is_about(&model, &segment) {
            continue;
        }
        let in_flux = rule.reads_labels() && coverage_version != version_of_row;
        let (name, grain) = (Arc::clone(&rule.name), Arc::clone(&rule.grain));
        found.push(SeenRow {
            key: AlertKey { rule: name, model, version, segment, feature, grain },
            seen: Seen {
                window,
                value,
                lower,
                upper,
                verdict,
                n,
                coverage,
                sealed,
                version: Version(version_of_row),
            },
            in_flux,
        });
    }
    Ok(found)
}

/// What only the rows of models and segments that a rule is about fulfil, so that no others are sent.
fn about(rule: &Rule) -> (String, Vec<(String, Parameter)>) {
    let (mut all, mut parameters) = (String::new(), Vec::new());
    for (column, globs) in [("model", &rule.models), ("segment", &rule.segments)] {
        // Of no pattern there are no rows.
        all += " AND (false";
        for (i, glob) in globs.iter().enumerate() {
            let name = format!("{column}_{i}");
            write!(all, " OR {column} LIKE {{{name}:String}}").expect("a String takes all");
            parameters.push((name, Parameter::Text(like(glob))));
        }
        all.push(')');
    }
    (all, parameters)
}

fn seen_query(connection: &Connection, rule: &Rule, about: &str) -> String {
    let metric = rule.metric;
    let table = metric.table;
    let within = format!(
        "job = {{job:String}} AND grain = {{grain:String}} \
         AND window_start >= fromUnixTimestamp64Milli({{from:Int64}}, 'UTC') \
         AND window_start < fromUnixTimestamp64Milli({{until:Int64}}, 'UTC'){about}"
    );
    let figure = if metric.is_verdict() { "effect" } else { metric.column };
    let limit = |end: &str| {
        let of = metric.has_interval().then(|| format!("`{figure}_{end}`"));
        format!("CAST({} AS {FIGURE})", of.as_deref().unwrap_or("NULL"))
    };
    let own = table.columns().iter().take(table.keys());
    let own: Vec<_> = own.map(|column| format!("toString(`{}`)", column.name)).collect();
    let item = match own.as_slice() {
        [] => "''".to_owned(),
        keys => format!("arrayStringConcat(arrayFilter(k -> k != '', [{}]), '/')", keys.join(", ")),
    };
    let count = metric.count_column().map_or("NULL".to_owned(), |name| format!("`{name}`"));
    let verdict = if metric.is_verdict() { "CAST(verdict AS String)" } else { "''" };
    // Of drift only the rows of labels wait for labels.
    let (coverage, coverage_version) = match table {
        _ if !rule.reads_labels() => ("NULL", "toUInt64(0)"),
        MetricTable::Drift => (
            "if(m.kind = 'label', l.coverage, 1)",
            "if(m.kind = 'label', l.coverage_version, m.newest)",
        ),
        _ => ("l.coverage", "l.coverage_version"),
    };
    let mut sql = format!(
        "SELECT CAST(model AS String) AS model, CAST(version AS String) AS version, \
         CAST(segment AS String) AS segment, item, \
         window_start, window_end, m.value AS value, m.lower AS lower, m.upper AS upper, m.word AS verdict, \
         m.count AS n, CAST({coverage} AS {FIGURE}) AS coverage, {coverage_version} AS coverage_version, \
         m.is_sealed AS sealed, m.newest AS row_version FROM (\
         SELECT model, version, segment, window_start, window_end, {item} AS item, \
         CAST(`{figure}` AS {FIGURE}) AS value, {lower} AS lower, {upper} AS upper, {verdict} AS word, \
         CAST({count} AS Nullable(UInt64)) AS count, toUInt32(sealed) AS is_sealed, row_version AS own_version, \
         max(row_version) OVER (PARTITION BY {at_once}) AS newest{drift} \
         FROM {rows} FINAL WHERE {within}) AS m ",
        lower = limit("lower"),
        upper = limit("upper"),
        at_once = written_at_once(table, &["model", "version", "segment", "window_start"]),
        drift = if table == MetricTable::Drift { ", kind, is_primary" } else { "" },
        rows = connection.table(table.name()),
    );
    if rule.reads_labels() {
        write!(
            sql,
            "LEFT JOIN (SELECT model, version, segment, window_start, coverage, row_version AS coverage_version \
             FROM {} FINAL WHERE {within}) AS l USING (model, version, segment, window_start) ",
            connection.table(MetricTable::Labels.name())
        )
        .expect("a String takes all");
    }
    // Rows of a window are written at once: one of an older version is of a class or cell that is empty now.
    sql += "WHERE m.own_version = m.newest ";
    // The other methods are there to look closer: without drift statistics are great, and so may rates be.
    if table == MetricTable::Drift {
        sql += "AND m.is_primary = 1 ";
    }
    if rule.custom.is_some() {
        sql += "AND m.item = {custom:String} ";
    }
    sql + "ORDER BY window_start"
}

const ALERT_COLUMNS: [(&str, &str); 20] = [
    ("rule", NAME),
    ("metric", NAME),
    ("severity", NAME),
    ("model", NAME),
    ("version", NAME),
    ("segment", NAME),
    ("feature", "String"),
    ("grain", NAME),
    ("opened_window", TIME),
    ("opened_window_end", TIME),
    ("state", NAME),
    ("resolved_window", NULLABLE_TIME),
    ("resolved_window_end", NULLABLE_TIME),
    ("value", FIGURE),
    ("lower", FIGURE),
    ("upper", FIGURE),
    ("threshold", FIGURE),
    ("n", "Nullable(UInt64)"),
    ("announced", "UInt32"),
    ("row_version", "UInt64"),
];

/// All alerts of the job, by time.
pub(super) async fn stored(connection: &Connection) -> Result<Vec<AlertRow>, SinkError> {
    let sql = format!(
        "SELECT {} FROM {} FINAL WHERE job = {{job:String}} ORDER BY opened_window, rule, model, version, segment, feature",
        ALERT_COLUMNS.map(|(name, _)| name).join(", "),
        connection.table("alerts")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let mut rows = Rows::new(body, "table alerts", &ALERT_COLUMNS)?;
    let (mut texts, mut found) = (Texts::default(), Vec::new());
    while !rows.is_empty() {
        found.push(alert_row(&mut rows, &mut texts)?);
    }
    Ok(found)
}

/// Jobs that are named at most.
const MOST_JOBS: usize = 5;

/// Other jobs that have alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertJobs {
    /// A few of them, those whose newest alert opened last first, and how many alerts each has.
    pub named: Vec<(String, u64)>,
    /// How many more jobs there are.
    pub more: u64,
}

impl AlertJobs {
    /// These jobs in words; empty where there are none.
    pub fn in_words(&self) -> String {
        let one = |(job, count): &(String, u64)| format!("{job} ({count})");
        let mut names: Vec<String> = self.named.iter().map(one).collect();
        if self.more > 0 {
            names.push(format!("{} more", self.more));
        }
        names.join(", ")
    }
}

/// The other jobs that have alerts, in this state where one is given.
pub(super) async fn other_jobs(
    connection: &Connection,
    state: Option<State>,
) -> Result<AlertJobs, SinkError> {
    let only = state.map_or(String::new(), |state| format!(" AND state = '{}'", state.name()));
    let sql = format!(
        "SELECT job, found, count() OVER () AS jobs FROM \
         (SELECT job, count() AS found, max(opened_window) AS newest FROM {} FINAL \
         WHERE job != {{job:String}}{only} GROUP BY job) \
         ORDER BY newest DESC, job LIMIT {MOST_JOBS}",
        connection.table("alerts")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let columns = [("job", NAME), ("found", "UInt64"), ("jobs", "UInt64")];
    let mut rows = Rows::new(body, "table alerts", &columns)?;
    let (mut named, mut all) = (Vec::new(), 0_u64);
    while !rows.is_empty() {
        named.push((rows.text()?.to_string(), rows.u64()?));
        all = rows.u64()?;
    }
    let more = all.saturating_sub(u64::try_from(named.len()).expect("it is small"));
    Ok(AlertJobs { named, more })
}

fn alert_row(rows: &mut Rows, texts: &mut Texts) -> Result<AlertRow, SinkError> {
    let mut text = || Ok::<_, SinkError>(texts.share(rows.text()?));
    let [rule, metric, severity] = [text()?, text()?, text()?];
    let [model, version, segment, feature, grain] = [text()?, text()?, text()?, text()?, text()?];
    let opened = Window { start: EventTime(rows.i64()?), end: EventTime(rows.i64()?) };
    let state = State::named(&rows.text()?).ok_or_else(|| rows.cut())?;
    let (start, end) = (rows.optional(Rows::i64)?, rows.optional(Rows::i64)?);
    let resolved = start.zip(end);
    let resolved =
        resolved.map(|(start, end)| Window { start: EventTime(start), end: EventTime(end) });
    let mut figure = || rows.optional(Rows::f64);
    let (value, lower, upper, threshold) = (figure()?, figure()?, figure()?, figure()?);
    let n = rows.optional(Rows::u64)?;
    Ok(AlertRow {
        key: AlertKey { rule, model, version, segment, feature, grain },
        alert: Alert { opened, state, resolved, value, lower, upper, threshold, n },
        metric,
        severity,
        announced: rows.u32()?,
        version: Version(rows.u64()?),
    })
}

/// Rows of `alerts`; no batch for no rows.
pub fn alert_rows(job: &str, rows: &[AlertRow]) -> Vec<RowBatch> {
    let (mut batch, mut done) = (Batch::new(Table::Alerts, MAX_BATCH_BYTES), Vec::new());
    for row in rows {
        if batch.is_full() {
            done.extend(batch.take());
        }
        let (key, alert, out) = (&row.key, &row.alert, batch.row());
        let names = [job, &key.rule, &row.metric, &row.severity];
        let about = [&*key.model, &key.version, &key.segment, &key.feature, &key.grain];
        names.into_iter().chain(about).for_each(|name| put_bytes(out, name.as_bytes()));
        out.put_i64_le(alert.opened.start.0);
        out.put_i64_le(alert.opened.end.0);
        put_bytes(out, alert.state.name().as_bytes());
        for time in [alert.resolved.map(|w| w.start), alert.resolved.map(|w| w.end)] {
            put_optional(out, time.map(|time| time.0.to_le_bytes()));
        }
        for number in [alert.value, alert.lower, alert.upper, alert.threshold] {
            put_figure(out, number);
        }
        put_optional(out, alert.n.map(u64::to_le_bytes));
        out.put_u32_le(row.announced);
        out.put_u64_le(row.version.0);
    }
    done.extend(batch.take());
    done
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<[u8; 8]>) {
    out.put_u8(u8::from(bytes.is_none()));
    out.extend_from_slice(&bytes.map_or(Vec::new(), Vec::from));
}

const NOTIFICATION_COLUMNS: [(&str, &str); 4] =
    [("idempotency_key", "String"), ("target", NAME), ("payload", "String"), ("age_ms", "Int64")];

/// What is still to be sent to one target, the oldest first; changes of one time by their number, which ends the key.
pub(super) async fn pending(
    connection: &Connection,
    target: &str,
) -> Result<Vec<Notification>, SinkError> {
    let sql = format!(
        "SELECT idempotency_key, target, payload, \
         toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(created) AS age_ms \
         FROM {} FINAL WHERE job = {{job:String}} AND status = 'pending' AND target = {{target:String}} \
         ORDER BY created, length(idempotency_key), idempotency_key",
        connection.table("notifications")
    );
    let target = ("target", Parameter::Text(target.to_owned()));
    let body = connection.fetch(&sql, &[job(connection), target]).await?;
    let mut rows = Rows::new(body, "table notifications", &NOTIFICATION_COLUMNS)?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        let mut text = || rows.text().map(|text| text.to_string());
        let (key, target, payload) = (text()?, text()?, text()?);
        let (answer, status) = (String::new(), Status::Pending);
        found.push(Notification { key, target, payload, answer, status, age_ms: rows.i64()? });
    }
    Ok(found)
}

/// Keys of the changes that have been written down.
pub(super) async fn noted(connection: &Connection) -> Result<Vec<String>, SinkError> {
    let sql = format!(
        "SELECT DISTINCT idempotency_key FROM {} WHERE job = {{job:String}}",
        connection.table("notifications")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let mut rows = Rows::new(body, "table notifications", &[("idempotency_key", "String")])?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        found.push(rows.text()?.to_string());
    }
    Ok(found)
}

/// The last change of each alert that has been written down, by the alert's id, which begins the change's key.
pub(super) async fn last_changes(
    connection: &Connection,
) -> Result<BTreeMap<String, Change>, SinkError> {
    let sql = format!(
        "SELECT alert, max(number) AS last, argMax(said, number) AS state FROM (\
         SELECT splitByChar('-', idempotency_key)[1] AS alert, \
         toUInt64OrZero(splitByChar('-', idempotency_key)[2]) AS number, \
         JSONExtractString(payload, 'state') AS said \
         FROM {} WHERE job = {{job:String}} AND target = '') GROUP BY alert",
        connection.table("notifications")
    );
    let columns = [("alert", "String"), ("last", "UInt64"), ("state", "String")];
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let mut rows = Rows::new(body, "table notifications", &columns)?;
    let mut found = BTreeMap::new();
    while !rows.is_empty() {
        let (alert, number) = (rows.text()?.to_string(), u32::try_from(rows.u64()?));
        // Anything else was not written by this program.
        if let (Ok(number), Some(state)) = (number, State::named(&rows.text()?)) {
            found.insert(alert, (number, state));
        }
    }
    Ok(found)
}

/// Rows of `notifications`; no batch for no rows.
pub fn notification_rows(job: &str, rows: &[Notification]) -> Vec<RowBatch> {
    let (mut batch, mut done) = (Batch::new(Table::Notifications, MAX_BATCH_BYTES), Vec::new());
    for row in rows {
        if batch.is_full() {
            done.extend(batch.take());
        }
        let out = batch.row();
        for text in [job, &row.key, &row.target, &row.payload, &row.answer, row.status.name()] {
            put_bytes(out, text.as_bytes());
        }
        out.put_u64_le(if row.status == Status::Pending { 1 } else { 2 });
    }
    done.extend(batch.take());
    done
}
