//! What is read back: versions, states, marks, seals. Each query stands beside the function that reads its rows.

use bytes::Bytes;
use hashbrown::HashSet;

use crate::calendar::instant;
use crate::engine::dead_schemas::{DeadSchemas, Offsets};
use crate::engine::event::{PartitionId, Positions, SchemaId, Stream};
use crate::engine::floor::{Floor, Mark};
use crate::engine::log_time::LogClock;
use crate::engine::metrics::accumulator::{Kind, Value};
use crate::engine::metrics::exact_sum::ExactSum;
use crate::engine::metrics::{MetricTable, state_columns};
use crate::engine::outcome::{Outcomes, Tally};
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::EventTime;
use crate::engine::window::Window;

use super::connection::{Connection, Parameter};
use super::row::Texts;
use super::rowbinary::Rows;
use super::tables::{DEAD_SCHEMAS, INFERENCE_TALLY, LABEL_TALLY, OTHER_SCHEMAS, TIME, data_type};
use super::{MetricVersion, SinkError, StateVersion};

/// Keys asked for in one query: a request of a few hundred kilobytes.
const KEYS_AT_ONCE: usize = 2_000;
/// Bytes of names in one parameter: a server takes 128 KiB (`http_max_field_value_size`), and escapes make four of one.
const NAME_BYTES_AT_ONCE: usize = 24 << 10;

/// Instants that ClickHouse can compare with: 1900-01-01 to 2283-11-11, in milliseconds.
const INSTANTS_MS: (i64, i64) = (-2_208_988_800_000, 9_904_550_399_999);

fn job(connection: &Connection) -> (&'static str, Parameter) {
    ("job", Parameter::Text(connection.settings.job.clone()))
}

const NAME: &str = "LowCardinality(String)";
const VERSION_COLUMNS: [(&str, &str); 7] = [
    ("model", NAME),
    ("version", NAME),
    ("segment", NAME),
    ("window_start", TIME),
    ("window_end", TIME),
    ("partition", "Int32"),
    ("row_version", "UInt64"),
];

/// The server's wall clock.
pub(super) async fn now_ms(connection: &Connection) -> Result<i64, SinkError> {
    let sql = "SELECT toUnixTimestamp64Milli(now64(3)) AS ms";
    let mut rows = Rows::new(connection.fetch(sql, &[]).await?, "the clock", &[("ms", "Int64")])?;
    rows.i64()
}

/// Jobs that are named at most.
const MOST_JOBS: usize = 5;

/// The jobs that have metric rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Whether the connection's own job has some.
    pub has_own: bool,
    /// A few of the others, those with the newest windows first, and where those windows start, in milliseconds since
    /// 1970-01-01 UTC.
    pub others: Vec<(String, i64)>,
    /// How many more there are.
    pub more: u64,
}

impl Jobs {
    /// The others in words; empty where there are none.
    pub fn named(&self) -> String {
        let one = |(job, newest_ms): &(String, i64)| {
            format!("{job} (newest window {})", &instant(*newest_ms)[..10])
        };
        let mut names: Vec<String> = self.others.iter().map(one).collect();
        if self.more > 0 {
            names.push(format!("{} more", self.more));
        }
        names.join(", ")
    }
}

/// The jobs that have metric rows. Reads two columns of `serving`, which has a row for each window of any table.
pub(super) async fn jobs(connection: &Connection) -> Result<Jobs, SinkError> {
    let sql = format!(
        "SELECT job, newest, count() OVER () AS jobs FROM \
         (SELECT job, max(window_start) AS newest FROM {} GROUP BY job) \
         ORDER BY job = {{job:String}} DESC, newest DESC, job LIMIT {}",
        connection.table(MetricTable::Serving.name()),
        MOST_JOBS + 1
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let columns = [("job", NAME), ("newest", TIME), ("jobs", "UInt64")];
    let mut rows = Rows::new(body, "table serving", &columns)?;
    let mut jobs = Jobs::default();
    while !rows.is_empty() {
        let (name, newest_ms, all) = (rows.text()?, rows.i64()?, rows.u64()?);
        if *name == *connection.settings.job {
            jobs.has_own = true;
        } else if jobs.others.len() < MOST_JOBS {
            jobs.others.push((name.to_string(), newest_ms));
        }
        let named = jobs.others.len() + usize::from(jobs.has_own);
        jobs.more = all.saturating_sub(u64::try_from(named).expect("it is small"));
    }
    Ok(jobs)
}

/// The greatest version of every state row whose window lies within `span`. Reads the key columns only; parts and
/// granules outside the span are skipped.
pub(super) async fn state_versions(
    connection: &Connection,
    span: Window,
) -> Result<Vec<StateVersion>, SinkError> {
    let conditions = "WHERE job = {job:String} \
         AND window_start >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') \
         AND window_end <= fromUnixTimestamp64Milli({end:Int64}, 'UTC')";
    let parameters = [
        job(connection),
        ("start", Parameter::Number(span.start.0.clamp(INSTANTS_MS.0, INSTANTS_MS.1))),
        ("end", Parameter::Number(span.end.0.clamp(INSTANTS_MS.0, INSTANTS_MS.1))),
    ];
    versions(connection, conditions, "", &parameters).await
}

/// When the windows start that have a state row of the job, ascending.
pub(super) async fn window_starts(connection: &Connection) -> Result<Vec<EventTime>, SinkError> {
    let sql = format!(
        "SELECT DISTINCT window_start FROM {} WHERE job = {{job:String}} ORDER BY window_start",
        connection.table("window_state")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let mut rows = Rows::new(body, "table window_state", &[("window_start", TIME)])?;
    let mut starts = Vec::new();
    while !rows.is_empty() {
        starts.push(EventTime(rows.i64()?));
    }
    Ok(starts)
}

/// The greatest version of every state row that the conditions let pass; `rest` stands behind the grouping.
pub(super) async fn versions(
    connection: &Connection,
    conditions: &str,
    rest: &str,
    parameters: &[(&'static str, Parameter)],
) -> Result<Vec<StateVersion>, SinkError> {
    let sql = format!(
        "SELECT model, version, segment, window_start, window_end, partition, max(s.row_version) AS row_version \
         FROM {} AS s {conditions} \
         GROUP BY model, version, segment, window_start, window_end, partition {rest}",
        connection.table("window_state")
    );
    let body = connection.fetch(&sql, parameters).await?;
    let mut rows = Rows::new(body, "table window_state", &VERSION_COLUMNS)?;
    let mut texts = Texts::default();
    let mut found = Vec::new();
    while !rows.is_empty() {
        let (key, partition) = key(&mut rows, &mut texts)?;
        found.push(StateVersion { key, partition, version: Version(rows.u64()?) });
    }
    Ok(found)
}

fn key(rows: &mut Rows, texts: &mut Texts) -> Result<(Key, PartitionId), SinkError> {
    Ok((key_of(rows, texts)?, PartitionId(rows.i32()?)))
}

fn key_of(rows: &mut Rows, texts: &mut Texts) -> Result<Key, SinkError> {
    Ok(Key {
        model: texts.share(rows.text()?),
        version: texts.share(rows.text()?),
        segment: texts.share(rows.text()?),
        window: Window { start: EventTime(rows.i64()?), end: EventTime(rows.i64()?) },
    })
}

/// The newest row of each of these. The keys travel as arrays and become a set on the sorting key, so that only
/// granules with one of them are read, and of those the many columns of the state only where a key is. (`PREWHERE` is
/// right beside `FINAL`, since all versions of a row have the same key.)
pub(super) async fn states(
    connection: &Connection,
    wanted: &[(Key, PartitionId)],
) -> Result<Vec<StateRow>, SinkError> {
    let mut found = Vec::with_capacity(wanted.len());
    for some in batches(wanted) {
        let asked: HashSet<_, foldhash::fast::FixedState> =
            some.iter().map(|(key, partition)| (key, *partition)).collect();
        let body =
            connection.fetch(&states_query(connection), &key_parameters(connection, some)).await?;
        let rows = states_in(body)?.into_iter();
        // A window of another size that begins at the same time is another key.
        found.extend(rows.filter(|row| asked.contains(&(&row.key, row.partition))));
    }
    Ok(found)
}

/// The state rows of an answer.
pub fn states_in(body: Bytes) -> Result<Vec<StateRow>, SinkError> {
    let mut columns = VERSION_COLUMNS.to_vec();
    columns.extend(state_columns().map(|column| (column.name, data_type(column.kind))));
    let mut rows = Rows::new(body, "table window_state", &columns)?;
    let (mut texts, mut found) = (Texts::default(), Vec::new());
    while !rows.is_empty() {
        let (key, partition) = key(&mut rows, &mut texts)?;
        let version = Version(rows.u64()?);
        let values = state_columns()
            .map(|column| value(&mut rows, column.kind))
            .collect::<Result<Vec<_>, _>>()?;
        found.push(StateRow { key, partition, version, state: values.into() });
    }
    Ok(found)
}

fn states_query(connection: &Connection) -> String {
    let state: Vec<_> = state_columns().map(|column| column.name).collect();
    format!(
        "SELECT model, version, segment, window_start, window_end, partition, row_version, {} \
         FROM {} FINAL PREWHERE job = {{job:String}} AND (model, version, segment, window_start, partition) IN (\
         SELECT w.1, w.2, w.3, fromUnixTimestamp64Milli(w.4, 'UTC'), toInt32(w.5) FROM (\
         SELECT arrayJoin(arrayZip({{models:Array(String)}}, {{versions:Array(String)}}, {{segments:Array(String)}}, \
         {{starts:Array(Int64)}}, {{partitions:Array(Int64)}})) AS w)) \
         SETTINGS do_not_merge_across_partitions_select_final = 1",
        state.join(", "),
        connection.table("window_state")
    )
}

/// As many keys at once as a server takes.
fn batches(mut wanted: &[(Key, PartitionId)]) -> impl Iterator<Item = &[(Key, PartitionId)]> {
    std::iter::from_fn(move || {
        let mut bytes = [0; 3];
        let fits = wanted.iter().take(KEYS_AT_ONCE).take_while(|(key, _)| {
            let names = [&key.model, &key.version, &key.segment];
            bytes.iter_mut().zip(names).for_each(|(sum, name)| *sum += name.len() + 1);
            bytes.iter().all(|sum| *sum <= NAME_BYTES_AT_ONCE)
        });
        // One key fits always.
        let count = fits.count().max(1).min(wanted.len());
        let (some, rest) = wanted.split_at(count);
        wanted = rest;
        (count > 0).then_some(some)
    })
}

fn key_parameters(
    connection: &Connection,
    wanted: &[(Key, PartitionId)],
) -> [(&'static str, Parameter); 6] {
    let texts = |of: fn(&Key) -> &str| {
        Parameter::Texts(wanted.iter().map(|(key, _)| of(key).to_owned()).collect())
    };
    let numbers =
        |of: fn(&(Key, PartitionId)) -> i64| Parameter::Numbers(wanted.iter().map(of).collect());
    [
        job(connection),
        ("models", texts(|key| &key.model)),
        ("versions", texts(|key| &key.version)),
        ("segments", texts(|key| &key.segment)),
        ("starts", numbers(|(key, _)| key.window.start.0)),
        ("partitions", numbers(|(_, partition)| i64::from(partition.0))),
    ]
}

fn sum(rows: &mut Rows) -> Result<ExactSum, SinkError> {
    rows.bytes(ExactSum::from_bytes)
}

fn value(rows: &mut Rows, kind: Kind) -> Result<Value, SinkError> {
    Ok(match kind {
        Kind::Count => Value::Count(rows.u64()?),
        Kind::Time => Value::Time(rows.i64()?),
        Kind::Number => Value::Figure(Ok(rows.f64()?)),
        Kind::Sum => Value::Sum(Box::new(sum(rows)?)),
        Kind::Sums => Value::Sums(rows.array(sum)?),
        Kind::Cells => Value::Cells(rows.array(|rows| Ok((rows.u64()?, rows.u64()?)))?),
        Kind::Names => Value::Names(rows.array(Rows::text)?),
        Kind::Text => Value::Text(rows.text()?.into()),
        // Why a figure is NULL stands in no column of its own, so no state has one.
        Kind::Figure => return Err(rows.cut()),
    })
}

const METRIC_COLUMNS: [(&str, &str); 7] = [
    ("metric_table", "String"),
    ("model", NAME),
    ("version", NAME),
    ("segment", NAME),
    ("window_start", TIME),
    ("window_end", TIME),
    ("row_version", "UInt64"),
];

/// Windows asked for in one query.
const WINDOWS_AT_ONCE: usize = 5_000;

/// The greatest version of every metric row of these windows in these tables. Key columns only; windows come in order,
/// so that granules without them are skipped.
pub(super) async fn metric_versions(
    connection: &Connection,
    tables: &[MetricTable],
    windows: &[Window],
) -> Result<Vec<MetricVersion>, SinkError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let of_table = |table: &MetricTable| {
        format!(
            "SELECT '{name}' AS metric_table, model, version, segment, window_start, window_end, \
             max(m.row_version) AS row_version FROM {} AS m WHERE job = {{job:String}} \
             AND (window_start, window_end) IN (\
             SELECT fromUnixTimestamp64Milli(w.1, 'UTC'), fromUnixTimestamp64Milli(w.2, 'UTC') FROM (\
             SELECT arrayJoin(arrayZip({{starts:Array(Int64)}}, {{ends:Array(Int64)}})) AS w)) \
             GROUP BY model, version, segment, window_start, window_end",
            connection.table(table.name()),
            name = table.name()
        )
    };
    let sql = tables.iter().map(of_table).collect::<Vec<_>>().join(" UNION ALL ");
    let mut texts = Texts::default();
    let mut found = Vec::new();
    for some in windows.chunks(WINDOWS_AT_ONCE) {
        let times = |of: fn(&Window) -> EventTime| {
            Parameter::Numbers(some.iter().map(|window| of(window).0).collect())
        };
        let parameters = [
            job(connection),
            ("starts", times(|window| window.start)),
            ("ends", times(|window| window.end)),
        ];
        let body = connection.fetch(&sql, &parameters).await?;
        let mut rows = Rows::new(body, "the metric tables", &METRIC_COLUMNS)?;
        while !rows.is_empty() {
            let name = rows.text()?;
            let table = tables.iter().copied().find(|table| table.name() == &*name);
            let table = table.ok_or_else(|| rows.cut())?;
            let key = key_of(&mut rows, &mut texts)?;
            found.push(MetricVersion { table, key, version: Version(rows.u64()?) });
        }
    }
    Ok(found)
}

/// A first flush that broke off can leave marks of a configuration that the job is bound to no more.
fn of_the_job_as_bound(connection: &Connection) -> String {
    let jobs = connection.table("jobs");
    format!("generation >= (SELECT max(generation) FROM {jobs} WHERE job = {{job:String}})")
}

/// How far the newest mark of each of these partitions is.
pub(super) async fn mark_orders(
    connection: &Connection,
    partitions: &[PartitionId],
) -> Result<Vec<(PartitionId, i64)>, SinkError> {
    let sql = format!(
        "SELECT partition, argMax(inference_position + label_position, row_version) AS positions FROM {} WHERE job = {{job:String}} \
         AND {} AND has({{partitions:Array(Int64)}}, toInt64(partition)) GROUP BY partition",
        connection.table("marks"),
        of_the_job_as_bound(connection),
    );
    let numbers = partitions.iter().map(|partition| i64::from(partition.0)).collect();
    let parameters = [job(connection), ("partitions", Parameter::Numbers(numbers))];
    let body = connection.fetch(&sql, &parameters).await?;
    let columns = [("partition", "Int32"), ("positions", "Int64")];
    let mut rows = Rows::new(body, "table marks", &columns)?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        found.push((PartitionId(rows.i32()?), rows.i64()?));
    }
    Ok(found)
}

/// The newest mark of each of these partitions.
pub(super) async fn marks(
    connection: &Connection,
    partitions: &[PartitionId],
) -> Result<Vec<Mark>, SinkError> {
    let sql = format!(
        "SELECT {} FROM {} FINAL WHERE job = {{job:String}} \
         AND {} AND has({{partitions:Array(Int64)}}, toInt64(partition)) ORDER BY partition",
        MARK_COLUMNS.map(|(name, _)| name).join(", "),
        connection.table("marks"),
        of_the_job_as_bound(connection),
    );
    let numbers = partitions.iter().map(|partition| i64::from(partition.0)).collect();
    let parameters = [job(connection), ("partitions", Parameter::Numbers(numbers))];
    marks_in(connection.fetch(&sql, &parameters).await?)
}

/// The marks of an answer.
pub fn marks_in(body: Bytes) -> Result<Vec<Mark>, SinkError> {
    let mut rows = Rows::new(body, "table marks", &MARK_COLUMNS)?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        found.push(mark(&mut rows)?);
    }
    Ok(found)
}

const MARK_COLUMNS: [(&str, &str); 16] = [
    ("partition", "Int32"),
    ("inference_position", "Int64"),
    ("label_position", "Int64"),
    ("inference_floor", "Int64"),
    ("label_floor", "Int64"),
    ("inference_clock_n", "UInt32"),
    ("label_clock_n", "UInt32"),
    ("inference_floor_clock", "Array(Int64)"),
    ("label_floor_clock", "Array(Int64)"),
    ("inference_clock", "Array(Int64)"),
    ("label_clock", "Array(Int64)"),
    ("sealed_until_ms", "Int64"),
    ("inference_tally", INFERENCE_TALLY),
    ("label_tally", LABEL_TALLY),
    ("inference_dead_schemas", DEAD_SCHEMAS),
    ("label_dead_schemas", DEAD_SCHEMAS),
];

fn mark(rows: &mut Rows) -> Result<Mark, SinkError> {
    let partition = PartitionId(rows.i32()?);
    let positions = Positions { inferences: rows.i64()?, labels: rows.i64()? };
    let floor_positions = Positions { inferences: rows.i64()?, labels: rows.i64()? };
    let sizes = [rows.u32()?, rows.u32()?];
    let mut clock = |stream: Stream| -> Result<LogClock, SinkError> {
        let stamps = rows.array(Rows::i64)?;
        let k = usize::try_from(sizes[stream.index()]).expect("u32 fits usize");
        // A clock as large as a damaged row says would be allocated whole.
        if k > MAX_CLOCK_STAMPS || stamps.len() > k {
            return Err(rows.cut());
        }
        Ok(LogClock::restore(k, &stamps))
    };
    let floor_clocks = [clock(Stream::Inferences)?, clock(Stream::Labels)?];
    let clocks = [clock(Stream::Inferences)?, clock(Stream::Labels)?];
    let sealed_until = EventTime(rows.i64()?);
    let [inferences, labels] = floor_clocks;
    let mut tally = Tally::default();
    for stream in Stream::BOTH {
        add_outcomes(&mut tally, stream, rows)?;
    }
    let dead_schemas = [dead_schemas(rows)?, dead_schemas(rows)?];
    let floor = Floor { positions: floor_positions, inferences, labels, sealed_until };
    Ok(Mark { partition, positions, floor, clocks, tally, dead_schemas })
}

/// The dead schemas of one topic.
fn dead_schemas(rows: &mut Rows) -> Result<DeadSchemas, SinkError> {
    let runs = rows.array(|rows| Ok([rows.i64()?, rows.i64()?, rows.i64()?]))?;
    let run = |[schema, first, last]: [i64; 3]| {
        let id = match schema {
            OTHER_SCHEMAS => None,
            schema => Some(SchemaId(u32::try_from(schema).ok()?)),
        };
        (first <= last).then_some((id, Offsets { first, last }))
    };
    let runs: Option<Vec<_>> = runs.into_iter().map(run).collect();
    runs.map(DeadSchemas::restore).ok_or_else(|| rows.cut())
}

/// Adds the outcomes of one topic: each model stands once, and all together can be counted.
fn add_outcomes(tally: &mut Tally, stream: Stream, rows: &mut Rows) -> Result<(), SinkError> {
    let counts = |rows: &mut Rows| {
        let model = rows.text()?;
        let [first, second, third, dead] = [rows.i64()?, rows.i64()?, rows.i64()?, rows.i64()?];
        Ok((model, Outcomes { first, second, third, dead }))
    };
    let (mut last, mut total) = (None, 0_u64);
    for (model, outcomes) in rows.array(counts)? {
        let Outcomes { first, second, third, dead } = outcomes;
        let sizes = [first, second, third, dead].map(i64::unsigned_abs);
        total = sizes.iter().fold(total, |total, size| total.saturating_add(*size));
        if total > i64::MAX.unsigned_abs() || last.as_ref().is_some_and(|last| *last >= model) {
            return Err(rows.cut());
        }
        tally.add(stream, &model, &outcomes);
        last = Some(model);
    }
    Ok(())
}

/// More timestamps than any configuration may ask a clock to hold.
const MAX_CLOCK_STAMPS: usize = 1 << 16;

/// The greatest seal mark of each partition, of the newest generation that has any.
pub(super) async fn seals(
    connection: &Connection,
) -> Result<Vec<(PartitionId, EventTime)>, SinkError> {
    let sql = format!(
        "SELECT partition, sealed_until_ms FROM {table} FINAL WHERE job = {{job:String}} \
         AND generation = (SELECT max(generation) FROM {table} WHERE job = {{job:String}}) ORDER BY partition",
        table = connection.table("seals")
    );
    let body = connection.fetch(&sql, &[job(connection)]).await?;
    let columns = [("partition", "Int32"), ("sealed_until_ms", "Int64")];
    let mut rows = Rows::new(body, "table seals", &columns)?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        found.push((PartitionId(rows.i32()?), EventTime(rows.i64()?)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Jobs;

    #[test]
    fn jobs_are_named_with_their_newest_windows() {
        assert_eq!(Jobs::default().named(), "");
        let others = [("fraud.files-67e0", 1_767_916_800_000), ("night", 1_767_571_200_000)];
        let others = others.map(|(job, newest_ms)| (job.to_owned(), newest_ms)).to_vec();
        let jobs = Jobs { others, more: 2, ..Jobs::default() };
        let expected =
            "fraud.files-67e0 (newest window 2026-01-09), night (newest window 2026-01-05), 2 more";
        assert_eq!(jobs.named(), expected);
    }
}
