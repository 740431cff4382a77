//! The sink against a real ClickHouse: what is written comes back to the bit, and what BI tools see is right.

mod bi_user;
mod charts;
mod custom;
mod overview;
mod schema;
mod views;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegauge::engine::dead_schemas::{DeadSchemas, Offsets};
use tidegauge::engine::event::{PartitionId, Positions, SchemaId, Stream};
use tidegauge::engine::floor::{Floor, Mark};
use tidegauge::engine::log_time::LogClock;
use tidegauge::engine::metrics::accumulator::{Column, Kind, Undefined, Value};
use tidegauge::engine::metrics::exact_sum::ExactSum;
use tidegauge::engine::metrics::{MetricTable, state_columns};
use tidegauge::engine::outcome::{Outcomes, Tally};
use tidegauge::engine::state::{Key, StateRow, Version};
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::evaluate::MetricRow;
use tidegauge::sink::clickhouse::{ClickHouse, ClickHouseSettings};
use tidegauge::sink::job::{BindError, BoundTopic, JobBinding};
use tidegauge::sink::rows::RowFilter;
use tidegauge::sink::{FailureClass, MetricVersion, RowBatch, Sink, StateVersion, row};

use crate::support::{http, services};

const JOB: &str = "a 'job'\n\\";
const HOUR_MS: i64 = 3_600_000;
/// 2026-01-05 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;
const ODD_NAMES: [&str; 10] = [
    "",
    "plain",
    "it's",
    "\"quoted\"",
    "back\\slash \\n \\'",
    "two\nlines\ttab\r",
    "ünïcödé 模型 🦀",
    "{name:String} ? ?? ;--",
    "[a, 'b']",
    "nul\0 \u{8}\u{c}",
];

/// One server for all tests of this file; each has a database of its own.
fn server() -> &'static services::ClickHouse {
    static SERVER: OnceLock<services::ClickHouse> = OnceLock::new();
    SERVER.get_or_init(services::ClickHouse::start)
}

fn sink(database: &str) -> ClickHouse {
    let mut settings = ClickHouseSettings::new(&server().url(), database, JOB);
    // Nothing is repeated here, and all tests of this file ask one server at once.
    settings.timeout = Duration::from_secs(180);
    ClickHouse::new(settings)
}

async fn ready(database: &str) -> ClickHouse {
    let sink = sink(database);
    sink.init().await.expect("an empty database");
    sink
}

async fn write(sink: &mut ClickHouse, batches: impl IntoIterator<Item = RowBatch>) {
    for batch in batches {
        sink.write(&batch).await.expect("it is taken");
    }
}

fn window(hour: i64) -> Window {
    Window::of(EventTime(START_MS + hour * HOUR_MS), Millis(HOUR_MS))
}

fn key(model: &str, version: &str, segment: &str, hour: i64) -> Key {
    Key {
        model: model.into(),
        version: version.into(),
        segment: segment.into(),
        window: window(hour),
    }
}

fn sum_of(term: f64) -> ExactSum {
    let mut sum = ExactSum::default();
    sum.add(term);
    sum
}

/// A value of a state at the edges of its kind.
fn edge(column: &Column, seed: u64) -> Value {
    match column.kind {
        Kind::Count => Value::Count(u64::MAX - seed),
        Kind::Time => Value::Time(START_MS + i64::try_from(seed).expect("small")),
        Kind::Sum => {
            let mut sum = ExactSum::default();
            for term in [1e300, -1e-300, 0.1, f64::MIN_POSITIVE] {
                sum.add(term);
            }
            Value::Sum(Box::new(if seed == 0 { ExactSum::default() } else { sum }))
        }
        Kind::Sums if seed == 0 => Value::Sums(Vec::new()),
        Kind::Sums => Value::Sums([0.5, -0.1, 3e-300].map(sum_of).to_vec()),
        Kind::Cells if seed == 0 => Value::Cells(Vec::new()),
        Kind::Cells => Value::Cells(vec![(0, 1), (seed, u64::MAX), (u64::MAX, 1)]),
        Kind::Names if seed == 0 => Value::Names(Vec::new()),
        Kind::Names => Value::Names(["", "it's", "\\\t\n\0", "ü"].map(Into::into).to_vec()),
        Kind::Number | Kind::Figure | Kind::Text => unreachable!("of metric rows only"),
    }
}

fn state(key: Key, partition: i32, records: u64, seed: u64) -> StateRow {
    StateRow {
        key,
        partition: PartitionId(partition),
        version: Version::of(0, records, false),
        state: state_columns().map(|column| edge(column, seed)).collect::<Vec<_>>().into(),
    }
}

fn wanted(rows: &[StateRow]) -> Vec<(Key, PartitionId)> {
    rows.iter().map(|row| (row.key.clone(), row.partition)).collect()
}

fn sorted(mut rows: Vec<StateRow>) -> Vec<StateRow> {
    rows.sort_by(|a, b| (&a.key, a.partition).cmp(&(&b.key, b.partition)));
    rows
}

#[tokio::test]
async fn states_come_back_to_the_bit() {
    let mut sink = ready("states").await;
    let mut rows = Vec::new();
    for (i, name) in ODD_NAMES.into_iter().enumerate() {
        let seed = u64::try_from(i).unwrap();
        rows.push(state(key(name, "v", "all", 0), 0, 1, seed));
        rows.push(state(key("m", name, "all", 1), 3, 2, seed));
        rows.push(state(key("m", "v", &format!("region={name}"), -9), i32::MAX, 3, seed));
    }
    write(&mut sink, row::states(JOB, &rows)).await;
    // Repeating is harmless, and another job's rows are another's.
    write(&mut sink, row::states(JOB, &rows)).await;
    let mut other = rows.clone();
    for row in &mut other {
        row.version = Version::of(0, 99, true);
    }
    write(&mut sink, row::states("another", &other)).await;

    let mut asked = wanted(&rows);
    asked.push((key("m", "v", "all", 77), PartitionId(0)));
    let found = sink.states(&asked).await.unwrap();
    assert_eq!(sorted(found), sorted(rows.clone()));
    assert!(sink.states(&[]).await.unwrap().is_empty());

    let span = Window { start: EventTime(i64::MIN), end: EventTime(i64::MAX) };
    let mut versions = sink.state_versions(span).await.unwrap();
    versions.sort_by(|a, b| (&a.key, a.partition).cmp(&(&b.key, b.partition)));
    let expected: Vec<_> = sorted(rows)
        .into_iter()
        .map(|row| StateVersion { key: row.key, partition: row.partition, version: row.version })
        .collect();
    assert_eq!(versions, expected);
    let hour = sink.state_versions(window(1)).await.unwrap();
    assert_eq!(hour.len(), ODD_NAMES.len());
}

#[tokio::test]
async fn only_versions_of_states_that_a_filter_admits_are_read() {
    let mut sink = ready("filtered").await;
    let mut rows = Vec::new();
    for (model, version, segment) in
        [("fraud-a", "1", "all"), ("fraud-a", "2", "region=eu"), ("fraud_a", "1", "all")]
    {
        rows.extend((0..6).map(|hour| state(key(model, version, segment, hour), 0, 1, 0)));
    }
    rows[3].version = Version::of(1, 1, false);
    rows[9].version = Version::of(1, 5, false);
    write(&mut sink, row::states(JOB, &rows)).await;
    let hour = |hour: i64| Some(window(hour).start.0);
    let all = RowFilter { limit: 100, ..RowFilter::default() };
    for filter in [
        all.clone(),
        // Windows that touch the limits, and one that begins before them.
        RowFilter { since_ms: hour(2), until_ms: hour(4), ..all.clone() },
        RowFilter { since_ms: hour(2).map(|ms| ms + 1), ..all.clone() },
        RowFilter { since_ms: hour(2).map(|ms| ms - 1), ..all.clone() },
        RowFilter { model: "fraud-*".to_owned(), ..all.clone() },
        RowFilter { model: "fraud_*".to_owned(), until_ms: hour(1), ..all.clone() },
        RowFilter { version: Some("2".to_owned()), segment: "region=*".to_owned(), ..all.clone() },
    ] {
        let found = sink.filtered_versions(&filter).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|it| (it.key, it.version)).collect();
        found.sort();
        let admitted = rows.iter().filter(|row| filter.admits(&row.key));
        let mut expected: Vec<_> = admitted.map(|row| (row.key.clone(), row.version)).collect();
        expected.sort();
        assert_eq!(found, expected, "{filter:?}");
    }
    // Of the newest generation first.
    let two = sink.filtered_versions(&RowFilter { limit: 2, ..all }).await.unwrap();
    let two: Vec<_> = two.into_iter().map(|it| it.key).collect();
    assert_eq!(two, [rows[9].key.clone(), rows[3].key.clone()]);
}

#[tokio::test]
async fn an_older_version_never_wins() {
    let mut sink = ready("older").await;
    let k = key("m", "", "all", 0);
    let newer = state(k.clone(), 0, 10, 1);
    let older = state(k.clone(), 0, 9, 2);
    let sealed = StateRow { version: Version::of(0, 10, true), ..state(k, 0, 10, 3) };
    write(&mut sink, row::states(JOB, std::slice::from_ref(&newer))).await;
    write(&mut sink, row::states(JOB, std::slice::from_ref(&older))).await;
    let asked = wanted(std::slice::from_ref(&newer));
    assert_eq!(sink.states(&asked).await.unwrap(), std::slice::from_ref(&newer));
    assert_eq!(sink.state_versions(window(0)).await.unwrap()[0].version, newer.version);
    write(&mut sink, row::states(JOB, std::slice::from_ref(&sealed))).await;
    write(&mut sink, row::states(JOB, &[older])).await;
    server().query("OPTIMIZE TABLE older.window_state FINAL");
    assert_eq!(sink.states(&asked).await.unwrap(), [sealed]);
}

#[tokio::test]
async fn thousands_of_keys_and_hundreds_of_months_are_read_and_written_at_once() {
    let mut sink = ready("many").await;
    let rows: Vec<_> = (0..3_000_i32)
        .map(|i| state(key("m", "", &format!("s={}", i % 7), i64::from(i / 16) * 730), i % 4, 1, 1))
        .collect();
    let batches: Vec<_> = row::states(JOB, &rows).collect();
    let first = batches[0].rows;
    assert!(first > 16 * 100, "{first} rows are no more than a hundred months in one insert");
    write(&mut sink, batches).await;
    let found = sink.states(&wanted(&rows)).await.unwrap();
    assert_eq!(sorted(found), sorted(rows));
}

#[tokio::test]
async fn keys_with_the_longest_names_are_found() {
    let mut sink = ready("long").await;
    let name = |i: i32, of: &str| format!("{i}{}", of.repeat(1_000 / of.len()));
    let rows: Vec<_> = (0..600)
        .map(|i| state(key(&name(i, "'"), &name(i, "\\"), &name(i, "\t"), 0), 0, 1, 1))
        .collect();
    write(&mut sink, row::states(JOB, &rows)).await;
    let found = sink.states(&wanted(&rows)).await.unwrap();
    assert_eq!(sorted(found), sorted(rows));
}

fn clock(k: usize, stamps: &[i64]) -> LogClock {
    LogClock::restore(k, stamps)
}

fn mark(partition: i32, positions: Positions) -> Mark {
    let mut tally = Tally::default();
    for (i, name) in ODD_NAMES.into_iter().enumerate() {
        let n = i64::try_from(i).expect("small") + 1;
        let outcomes = Outcomes { first: n, second: -n, third: i64::MAX / 64, dead: 1 };
        tally.add(Stream::Inferences, &Arc::from(name), &outcomes);
        tally.add(Stream::Labels, &Arc::from(name), &Outcomes { first: 5, ..outcomes });
    }
    Mark {
        partition: PartitionId(partition),
        positions,
        floor: Floor {
            positions: Positions { inferences: 3, labels: 4 },
            inferences: clock(3, &[i64::MIN, 5, i64::MAX]),
            labels: clock(1, &[]),
            sealed_until: EventTime(START_MS),
        },
        clocks: [clock(3, &[START_MS, START_MS + 1, START_MS + 2]), clock(1, &[i64::MAX])],
        tally,
        dead_schemas: [
            DeadSchemas::restore([
                (Some(SchemaId(u32::MAX)), Offsets { first: 3, last: 3 }),
                (Some(SchemaId(0)), Offsets { first: 4, last: i64::MAX }),
                (None, Offsets { first: 0, last: 9 }),
            ]),
            DeadSchemas::default(),
        ],
    }
}

#[tokio::test]
async fn marks_come_back_and_the_farthest_wins() {
    let mut sink = ready("marks").await;
    let start = Mark::start(PartitionId(7), Positions { inferences: 0, labels: 0 }, 8);
    let near = mark(0, Positions { inferences: 10, labels: 20 });
    let far = mark(0, Positions { inferences: 31, labels: 2 });
    for each in [&far, &near, &start] {
        write(&mut sink, row::marks(JOB, 0, std::slice::from_ref(each))).await;
    }
    write(
        &mut sink,
        row::marks("another", 0, &[mark(0, Positions { inferences: 99, labels: 99 })]),
    )
    .await;
    let asked = [PartitionId(7), PartitionId(0), PartitionId(1)];
    assert_eq!(sink.marks(&asked).await.unwrap(), [far.clone(), start]);
    assert_eq!(sink.marks(&asked[..1]).await.unwrap().len(), 1);
    let mut orders = sink.mark_orders(&asked).await.unwrap();
    orders.sort_unstable();
    assert_eq!(orders, [(PartitionId(0), 33), (PartitionId(7), 0)]);

    let health = "SELECT topic, records, accepted, duplicate, matched, dead, position, clock \
                  FROM marks_bi.stream_health WHERE startsWith(job, 'a') AND job != 'another' AND model = 'plain' \
                  ORDER BY topic";
    let third = i64::MAX / 64;
    assert_eq!(
        server().query(health),
        format!(
            "inferences\t{}\t2\t-2\t0\t1\t31\t2026-01-05 00:00:00.000\n\
             labels\t{}\t0\t0\t5\t1\t2\t2283-11-11 23:59:59.999\n",
            third + 1,
            third + 4
        )
    );
    // A partition of which nothing was read has rows too, and no clock.
    let idle = "SELECT count(), sum(records), countIf(clock IS NULL) FROM marks_bi.stream_health WHERE partition = 7";
    assert_eq!(server().query(idle), "2\t0\t2\n");
}

#[tokio::test]
async fn seals_keep_the_greatest_of_the_newest_generation() {
    let mut sink = ready("seals").await;
    assert!(sink.seals().await.unwrap().is_empty());
    let at = |p: i32, t: i64| (PartitionId(p), EventTime(t));
    write(&mut sink, row::seals(JOB, 0, &[at(0, START_MS), at(1, START_MS), at(2, i64::MIN)]))
        .await;
    write(&mut sink, row::seals(JOB, 0, &[at(0, START_MS - 1), at(1, START_MS + 1)])).await;
    write(&mut sink, row::seals("another", 0, &[at(0, START_MS + 9)])).await;
    let expected = [at(0, START_MS), at(1, START_MS + 1), at(2, i64::MIN)];
    assert_eq!(sink.seals().await.unwrap(), expected);
    write(&mut sink, row::seals(JOB, 1, &[at(1, START_MS - 7)])).await;
    assert_eq!(sink.seals().await.unwrap(), [at(1, START_MS - 7)]);
}

/// A value that no other column of a metric row has, so that none can stand for another unseen; the figures of an even
/// seed are undefined.
fn own_value(column: &Column, at: usize, seed: u64) -> Value {
    let at = u32::try_from(at).expect("few columns");
    match column.kind {
        Kind::Count => Value::Count(u64::MAX - seed - 10 * u64::from(at)),
        Kind::Time => Value::Time(START_MS + i64::try_from(seed).expect("small")),
        Kind::Figure if seed.is_multiple_of(2) => Value::Figure(Err(Undefined::NoLabels)),
        // Eighths, which every program writes alike.
        Kind::Number | Kind::Figure => Value::Figure(Ok(f64::from(at + 1) / 8.0)),
        Kind::Text => Value::Text(Arc::<str>::from(format!("it's ü {}", column.name)).into()),
        Kind::Names | Kind::Sum | Kind::Sums | Kind::Cells => unreachable!("of states only"),
    }
}

fn metric_row(table: MetricTable, seed: u64) -> MetricRow {
    let undefined = |column: &Column| matches!(column.kind, Kind::Figure) && seed.is_multiple_of(2);
    let reasons: Vec<_> = table
        .columns()
        .iter()
        .filter(|column| undefined(column))
        .map(|column| format!("{}=no_labels", column.name))
        .collect();
    // Rows of other seeds are other versions of this one.
    let values = table.columns().iter().enumerate();
    let values = values.map(|(at, column)| {
        let is_key = at < table.keys();
        own_value(column, at, if is_key { 0 } else { seed })
    });
    MetricRow {
        table,
        key: key("it's", "v1", "all", 0).into(),
        grain: "1h".into(),
        values: values.collect(),
        undefined: reasons.join(" "),
        sealed: seed == 1,
        version: Version::of(0, seed, false),
    }
}

#[tokio::test]
async fn the_versions_of_metric_rows_are_read_back_by_their_windows() {
    let mut sink = ready("metric_versions").await;
    let day = Window { start: window(0).start, end: window(23).end };
    let at = |table, model: &str, window, version| MetricRow {
        key: Key { window, ..key(model, "v1", "region=it's", 0) }.into(),
        version: Version(version),
        ..metric_row(table, 1)
    };
    let rows = [
        at(MetricTable::Serving, "plain", window(0), 5),
        at(MetricTable::Serving, "plain", window(0), 7),
        at(MetricTable::Labels, ODD_NAMES[5], window(0), 9),
        at(MetricTable::QualityBinary, "plain", window(1), 11),
        at(MetricTable::Serving, "plain", day, 13),
        at(MetricTable::Serving, "plain", window(2), 15),
    ];
    for each in &rows {
        write(&mut sink, row::metrics(JOB, std::slice::from_ref(each))).await;
    }
    write(&mut sink, row::metrics("another", &[at(MetricTable::Serving, "x", window(0), 99)]))
        .await;
    let (all, windows) = (MetricTable::ALL, [window(0), window(1), day]);
    let mut found = sink.metric_versions(&all, &windows).await.unwrap();
    found.sort_by_key(|row| row.version);
    let of = |row: &MetricRow| MetricVersion {
        table: row.table,
        key: Key::clone(&row.key),
        version: row.version,
    };
    assert_eq!(found, rows[1..5].iter().map(of).collect::<Vec<_>>());
    assert_eq!(sink.metric_versions(&all, &[window(9)]).await.unwrap(), []);
    let found = sink.metric_versions(&[MetricTable::Labels], &windows).await.unwrap();
    assert_eq!(found, [of(&rows[2])]);
    assert_eq!(sink.metric_versions(&[], &windows).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_hangs_or_dies_is_unavailable_and_the_same_bytes_are_taken_later() {
    let mut server = services::ClickHouse::start();
    let mut settings = ClickHouseSettings::new(&server.url(), "outage", JOB);
    settings.timeout = Duration::from_secs(1);
    let mut impatient = ClickHouse::new(settings.clone());
    settings.timeout = Duration::from_secs(180);
    let mut sink = ClickHouse::new(settings);
    sink.init().await.unwrap();
    let rows = [state(key("m", "", "all", 0), 0, 1, 1)];
    let batch = row::states(JOB, &rows).next().unwrap();

    server.pause();
    let hung = impatient.write(&batch).await.unwrap_err();
    assert_eq!(hung.class(), FailureClass::Retry, "{hung}");
    let unread = impatient.states(&wanted(&rows)).await.unwrap_err();
    assert_eq!(unread.class(), FailureClass::Retry, "{unread}");
    server.resume();
    sink.write(&batch).await.unwrap();

    server.kill();
    let dead = sink.write(&batch).await.unwrap_err();
    assert_eq!(dead.class(), FailureClass::Retry, "{dead}");
    server.start_again();
    sink.write(&batch).await.unwrap();
    assert_eq!(sink.states(&wanted(&rows)).await.unwrap(), rows);
    assert_eq!(server.query("SELECT count() FROM outage.window_state FINAL"), "1\n");
}
