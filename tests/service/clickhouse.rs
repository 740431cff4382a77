//! The sink against a real ClickHouse: what is written comes back to the bit, and what BI tools see is right.

use std::sync::{Arc, OnceLock};

use tidegauge::engine::event::{PartitionId, Positions, Stream};
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
use tidegauge::sink::{FailureClass, RowBatch, Sink, StateVersion, row};

use super::support::services;

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
    ClickHouse::new(ClickHouseSettings::new(&server().url(), database, JOB))
}

async fn ready(database: &str) -> ClickHouse {
    let sink = sink(database);
    sink.init().await.unwrap();
    sink
}

async fn write(sink: &mut ClickHouse, batches: Vec<RowBatch>) {
    for batch in &batches {
        sink.write(batch).await.unwrap();
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

/// A value at the edges of its kind.
fn edge(column: &Column, seed: u64) -> Value {
    match column.kind {
        Kind::Count => Value::Count(u64::MAX - seed),
        Kind::Time => Value::Time(START_MS + i64::try_from(seed).unwrap()),
        Kind::Number => Value::Figure(Ok(0.1)),
        Kind::Figure if seed.is_multiple_of(2) => Value::Figure(Err(Undefined::NoLabels)),
        Kind::Figure => Value::Figure(Ok(f64::MIN_POSITIVE / 4.0)),
        Kind::Sum => {
            let mut sum = ExactSum::default();
            [1e300, -1e-300, 0.1, f64::MIN_POSITIVE].iter().for_each(|&term| sum.add(term));
            Value::Sum(if seed == 0 { ExactSum::default() } else { sum })
        }
        Kind::Cells if seed == 0 => Value::Cells(Vec::new()),
        Kind::Cells => Value::Cells(vec![(0, 1), (seed, u64::MAX), (u64::MAX, 1)]),
    }
}

fn state(key: Key, partition: i32, records: u64, seed: u64) -> StateRow {
    StateRow {
        key,
        partition: PartitionId(partition),
        version: Version::of(0, records, false),
        values: state_columns().map(|column| edge(column, seed)).collect(),
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
async fn init_twice_does_nothing_the_second_time() {
    let sink = sink("init_twice");
    assert_eq!(sink.check_schema().await.unwrap_err().code(), "clickhouse_schema");
    let first = sink.init().await.unwrap();
    assert!(first.done.contains(&"created table window_state".to_owned()), "{first:?}");
    sink.check_schema().await.unwrap();
    assert!(sink.init().await.unwrap().done.is_empty());
    server().query("DROP VIEW init_twice_bi.metrics");
    assert!(!sink.init().await.unwrap().done.is_empty());
    server().query("SELECT count() FROM init_twice_bi.metrics");
    assert!(sink.init().await.unwrap().done.is_empty());
}

#[tokio::test]
async fn a_column_that_is_missing_is_named_and_added_by_init() {
    let mut sink = ready("missing_column").await;
    server().query("ALTER TABLE missing_column.serving DROP COLUMN latency_n");
    let error = sink.check_schema().await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_schema");
    for part in ["`missing_column`.`serving`", "latency_n", "tidegauge init"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let rows = [metric_row(MetricTable::Serving, 1)];
    let refused = sink.write(&row::metrics(JOB, &rows)[0]).await.unwrap_err();
    assert_eq!(refused.class(), FailureClass::WaitForOperator, "{refused}");
    assert_eq!(server().query("SELECT count() FROM missing_column.serving"), "0\n");

    let done = sink.init().await.unwrap().done;
    assert_eq!(done, ["added column serving.latency_n"]);
    sink.check_schema().await.unwrap();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    assert_eq!(server().query("SELECT count() FROM missing_column_bi.serving"), "1\n");
}

#[tokio::test]
async fn a_column_of_another_type_is_refused() {
    let sink = ready("other_type").await;
    server().query("ALTER TABLE other_type.seals MODIFY COLUMN sealed_until_ms Int32");
    for error in [sink.check_schema().await.unwrap_err(), sink.init().await.unwrap_err()] {
        assert_eq!(error.code(), "clickhouse_schema");
        assert!(error.to_string().contains("sealed_until_ms"), "{error}");
        assert!(error.to_string().contains("Int32"), "{error}");
    }
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let sink = ready("newer").await;
    server().query("INSERT INTO newer.migrations (version, views, program) VALUES (99, '', '')");
    let error = sink.init().await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_schema");
    assert!(error.to_string().contains("newer version"), "{error}");
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
    other.iter_mut().for_each(|row| row.version = Version::of(0, 99, true));
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
    let rows: Vec<_> = (0..5_000_i32)
        .map(|i| state(key("m", "", &format!("s={}", i % 7), i64::from(i / 28) * 730), i % 4, 1, 1))
        .collect();
    let batches = row::states(JOB, &rows);
    assert_eq!(batches.len(), 1);
    write(&mut sink, batches).await;
    let found = sink.states(&wanted(&rows)).await.unwrap();
    assert_eq!(sorted(found), sorted(rows));
}

fn clock(k: usize, stamps: &[i64]) -> LogClock {
    LogClock::restore(k, stamps)
}

fn mark(partition: i32, positions: Positions) -> Mark {
    let mut tally = Tally::default();
    for (i, name) in ODD_NAMES.into_iter().enumerate() {
        let n = i64::try_from(i).unwrap() + 1;
        let outcomes = Outcomes { first: n, second: -n, third: i64::MAX / 4, dead: 1 };
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

    let health = "SELECT topic, records, accepted, duplicate, matched, dead, position, clock \
                  FROM marks_bi.stream_health WHERE startsWith(job, 'a') AND job != 'another' AND model = 'plain' \
                  ORDER BY topic";
    let third = i64::MAX / 4;
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

fn metric_row(table: MetricTable, seed: u64) -> MetricRow {
    let undefined = |column: &Column| matches!(column.kind, Kind::Figure) && seed.is_multiple_of(2);
    let reasons: Vec<_> = table
        .columns()
        .iter()
        .filter(|column| undefined(column))
        .map(|column| format!("{}=no_labels", column.name))
        .collect();
    MetricRow {
        table,
        key: key("it's", "v1", "all", 0),
        grain: "1h".into(),
        values: table.columns().iter().map(|column| edge(column, seed)).collect(),
        undefined: reasons.join(" "),
        sealed: seed == 1,
        version: Version::of(0, seed, false),
    }
}

#[tokio::test]
async fn metric_rows_are_seen_through_the_views() {
    let mut sink = ready("figures").await;
    for seed in [1, 2] {
        let rows: Vec<_> = MetricTable::ALL.into_iter().map(|t| metric_row(t, seed)).collect();
        write(&mut sink, row::metrics(JOB, &rows)).await;
    }
    // A replayed older row changes nothing.
    write(&mut sink, row::metrics(JOB, &[metric_row(MetricTable::Serving, 1)])).await;
    for table in MetricTable::ALL {
        let expected = metric_row(table, 2);
        let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
        let answer = server().query(&format!(
            "SELECT window_start, window_end, grain, model, version, segment, undefined, sealed, row_version, {} \
             FROM figures_bi.{} FORMAT JSONCompactStrings SETTINGS output_format_json_quote_64bit_integers = 1",
            names.join(", "),
            table.name()
        ));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let rows = answer["data"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{}", table.name());
        let mut texts = vec![
            "2026-01-05 00:00:00.000".to_owned(),
            "2026-01-05 01:00:00.000".to_owned(),
            "1h".to_owned(),
            "it's".to_owned(),
            "v1".to_owned(),
            "all".to_owned(),
            expected.undefined.clone(),
            "false".to_owned(),
            expected.version.0.to_string(),
        ];
        texts.extend(expected.values.iter().map(|value| match value {
            Value::Count(count) => count.to_string(),
            Value::Time(time) => {
                assert_eq!(*time, START_MS + 2);
                "2026-01-05 00:00:00.002".to_owned()
            }
            Value::Figure(Ok(number)) => number.to_string(),
            Value::Figure(Err(_)) => "ᴺᵁᴸᴸ".to_owned(),
            Value::Sum(_) | Value::Cells(_) => unreachable!("state only"),
        }));
        assert_eq!(rows[0], serde_json::json!(texts), "{}", table.name());
    }
}

#[tokio::test]
async fn the_long_view_gives_each_figure_a_row_with_its_reason() {
    let mut sink = ready("long_view").await;
    let rows: Vec<_> = MetricTable::ALL.into_iter().map(|table| metric_row(table, 2)).collect();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let one = |metric: &str| {
        server().query(&format!(
            "SELECT family, value, lower, upper, n, reason, sealed FROM long_view_bi.metrics WHERE metric = '{metric}'"
        ))
    };
    assert_eq!(
        one("auroc"),
        "quality_binary\t\\N\t\\N\t\\N\t18446744073709551613\tno_labels\tfalse\n"
    );
    assert_eq!(one("auroc_lower"), "", "limits stand beside their figure");
    assert_eq!(
        one("errors"),
        "serving\t18446744073709552000\t\\N\t\\N\t18446744073709551613\t\tfalse\n"
    );
    assert_eq!(server().query("SELECT uniq(family) FROM long_view_bi.metrics"), "3\n");
    let columns: usize = MetricTable::ALL
        .iter()
        .flat_map(|table| table.columns())
        .filter(|c| !matches!(c.kind, Kind::Time))
        .filter(|c| !c.name.ends_with("_lower") && !c.name.ends_with("_upper"))
        .count();
    assert_eq!(server().query("SELECT count() FROM long_view_bi.metrics"), format!("{columns}\n"));
}

#[tokio::test]
async fn models_now_has_one_row_for_each_model_and_version() {
    let mut sink = ready("models_now").await;
    let mut rows = Vec::new();
    for (hour, count) in [(0, 10), (1, 30), (2, 2)] {
        for segment in ["all", "region=eu"] {
            for grain in ["1h", "1d"] {
                let mut row = metric_row(MetricTable::Serving, 1);
                row.key = key("m", "v1", segment, hour);
                if grain == "1d" {
                    row.key.window = Window::of(row.key.window.start, Millis(24 * HOUR_MS));
                }
                row.grain = grain.into();
                let columns = MetricTable::Serving.columns();
                for (column, value) in columns.iter().zip(&mut row.values) {
                    match column.name {
                        "inferences" => *value = Value::Count(count),
                        "errors" => *value = Value::Count(1),
                        _ => {}
                    }
                }
                rows.push(row);
            }
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    assert_eq!(
        server().query(
            "SELECT model, version, grain, windows, first_window_start, last_window_start, last_inferences, \
             inferences, errors, labelled FROM models_now_bi.models_now"
        ),
        "m\tv1\t1h\t3\t2026-01-05 00:00:00.000\t2026-01-05 02:00:00.000\t2\t42\t3\t0\n"
    );
}

/// What Superset, Metabase and Grafana show without trouble.
const ALLOWED_TYPES: &str = "'String', 'LowCardinality(String)', 'Float64', 'Nullable(Float64)', 'UInt64', 'Int64', \
     'Int32', 'Bool', 'DateTime64(3, \\'UTC\\')', 'Nullable(DateTime64(3, \\'UTC\\'))'";

#[tokio::test]
async fn bi_views_have_only_types_that_bi_tools_know_and_all_is_commented() {
    ready("guard").await;
    let columns = "FROM system.columns WHERE database IN ('guard', 'guard_bi')";
    assert_eq!(
        server().query(&format!(
            "SELECT table, name, type {columns} AND database = 'guard_bi' AND type NOT IN ({ALLOWED_TYPES})"
        )),
        ""
    );
    assert_eq!(server().query(&format!("SELECT table, name {columns} AND comment = ''")), "");
    assert_eq!(
        server().query(&format!(
            "SELECT table, name {columns} AND NOT match(name, '^[a-z][a-z0-9_]*$')"
        )),
        ""
    );
    let tables = "FROM system.tables WHERE database IN ('guard', 'guard_bi')";
    assert_eq!(server().query(&format!("SELECT name {tables} AND comment = ''")), "");
    assert_eq!(
        server().query(&format!("SELECT groupArray(name) FROM (SELECT name {tables} AND database = 'guard_bi' ORDER BY name)")),
        "['labels','metrics','models_now','quality_binary','serving','stream_health']\n"
    );
    assert_eq!(
        server().query(&format!("SELECT count() {tables} AND database = 'guard_bi' AND create_table_query NOT LIKE '%SQL SECURITY DEFINER%'")),
        "0\n"
    );
    assert_eq!(
        server().query(
            "SELECT count() FROM system.databases WHERE name LIKE 'guard%' AND comment != ''"
        ),
        "2\n"
    );
}

fn binding(topic: &str) -> JobBinding {
    JobBinding {
        cluster: "cluster ?".into(),
        inferences: BoundTopic { name: topic.into(), id: "id '1'".into() },
        labels: None,
        partitions: 4,
        configuration: "digest\n".into(),
        window: Millis(HOUR_MS),
    }
}

#[tokio::test]
async fn a_job_is_bound_once_and_refuses_what_differs() {
    let sink = ready("binding").await;
    let first = binding("in'ferences");
    assert_eq!(sink.bind(&first).await.unwrap(), 0);
    assert_eq!(sink.bind(&first).await.unwrap(), 0);
    let mut labelled = first.clone();
    labelled.labels = Some(BoundTopic { name: "labels".into(), id: String::new() });
    assert_eq!(sink.bind(&labelled).await.unwrap_err().code(), "job_other_topics");
    let recreated = JobBinding {
        inferences: BoundTopic { id: "id 2".into(), ..first.inferences.clone() },
        ..first.clone()
    };
    assert_eq!(sink.bind(&recreated).await.unwrap_err().code(), "topic_recreated");
    let wider = JobBinding { partitions: 8, ..first.clone() };
    assert_eq!(sink.bind(&wider).await.unwrap_err().code(), "partitions_changed");
    let changed = JobBinding { configuration: String::new(), ..first.clone() };
    assert_eq!(sink.bind(&changed).await.unwrap_err().code(), "job_other_configuration");
    // A row taken out by hand frees the name.
    server().query("DELETE FROM binding.jobs WHERE 1");
    assert_eq!(sink.bind(&labelled).await.unwrap(), 0);
    assert_eq!(server().query("SELECT count() FROM binding.jobs"), "1\n");
}

#[tokio::test]
async fn of_two_first_starts_on_other_topics_one_wins() {
    let sink = ready("bind_race").await;
    for round in 0..10 {
        let settings = ClickHouseSettings::new(&server().url(), "bind_race", &format!("j{round}"));
        let (a, b) = (ClickHouse::new(settings.clone()), ClickHouse::new(settings));
        let (x, y) = (binding("x"), binding("y"));
        let (first, second) = tokio::join!(a.bind(&x), b.bind(&y));
        let won = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {first:?} {second:?}");
        let lost = first.err().or(second.err()).unwrap();
        assert!(matches!(lost, BindError::OtherTopics { .. }), "{lost}");
    }
    drop(sink);
}

#[tokio::test]
async fn a_refusal_says_who_can_help() {
    let mut settings = ClickHouseSettings::new(&server().url(), "refusal", JOB);
    settings.password = "wrong".into();
    let error = ClickHouse::new(settings).init().await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_refused");
    assert!(error.to_string().contains("clickhouse.password"), "{error}");
    let settings = ClickHouseSettings::new(&server().url(), "Bad-Name", JOB);
    assert_eq!(ClickHouse::new(settings).init().await.unwrap_err().code(), "clickhouse_schema");
    let mut absent = sink("no_such_database");
    assert_eq!(absent.seals().await.unwrap_err().code(), "clickhouse_schema");
}
