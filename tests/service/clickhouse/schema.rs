//! Tables and views in place, other ones refused, a job's name bound.

use tidegauge::engine::dead_schemas::Judged;
use tidegauge::sink::files::FileRow;

use super::*;

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
async fn a_column_that_may_be_null_by_now_is_made_so_by_init() {
    let mut sink = ready("widened").await;
    server().query("ALTER TABLE widened.quality_estimated DROP COLUMN est_tp");
    server().query("ALTER TABLE widened.quality_estimated ADD COLUMN est_tp Float64 AFTER n");
    server().query(
        "INSERT INTO widened.quality_estimated (job, model, grain, window_start, window_end, est_tp, row_version) \
         VALUES ('old', 'm', '1h', 0, 3600, 2.5, 2)",
    );
    let error = sink.check_schema().await.unwrap_err();
    for part in ["est_tp", "Nullable(Float64)", "Run `tidegauge init`"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(sink.init().await.unwrap().done, ["column quality_estimated.est_tp may be NULL"]);
    sink.check_schema().await.unwrap();
    write(&mut sink, row::metrics(JOB, &[metric_row(MetricTable::QualityEstimated, 2)])).await;
    let found = "SELECT est_tp FROM widened_bi.quality_estimated ORDER BY job = 'old'";
    assert_eq!(server().query(found), "\\N\n2.5\n");
}

#[tokio::test]
async fn rows_of_before_weights_weigh_what_they_count() {
    let sink = ready("unweighted").await;
    for column in ["n_weight", "tp_weight", "n_eff"] {
        server().query(&format!("ALTER TABLE unweighted.quality_binary DROP COLUMN {column}"));
    }
    server().query(
        "INSERT INTO unweighted.quality_binary (job, model, grain, window_start, window_end, n, tp, row_version) \
         VALUES ('old', 'm', '1h', 0, 3600, 7, 5, 2)",
    );
    assert_eq!(sink.init().await.unwrap().done.len(), 3);
    let found = "SELECT n_weight, tp_weight, n_eff FROM unweighted_bi.quality_binary";
    assert_eq!(server().query(found), "7\t5\t7\n");
}

#[tokio::test]
async fn marks_of_before_dead_schemas_were_noted_know_none() {
    let mut sink = ready("unnoted").await;
    let marks = [0, 1].map(|partition| mark(partition, Positions { inferences: 9, labels: 9 }));
    write(&mut sink, row::marks(JOB, 0, &marks)).await;
    for column in ["inference_dead_schemas", "label_dead_schemas"] {
        server().query(&format!("ALTER TABLE unnoted.marks DROP COLUMN {column}"));
    }
    assert_eq!(sink.check_schema().await.unwrap_err().code(), "clickhouse_schema");
    assert_eq!(sink.init().await.unwrap().done.len(), 2);
    // An instance of an earlier version that still runs.
    server().query(
        "INSERT INTO unnoted.marks (job, partition, inference_clock_n, label_clock_n, row_version) \
         SELECT job, partition, 1, 1, row_version + 1 FROM unnoted.marks WHERE partition = 1",
    );
    let found = sink.marks(&[PartitionId(0), PartitionId(1)]).await.unwrap();
    assert_eq!((found.len(), found[1].positions), (2, Positions::default()));
    let unknown = DeadSchemas::restore([(None, Offsets { first: 0, last: i64::MAX })]);
    for schemas in found.iter().flat_map(|mark| &mark.dead_schemas) {
        assert_eq!((schemas, schemas.judge(SchemaId(7), 3)), (&unknown, Judged::Open));
    }
}

#[tokio::test]
async fn a_table_that_does_not_replace_equal_rows_is_refused() {
    let sink = ready("other_engine").await;
    server().query("CREATE TABLE other_engine.copy AS other_engine.marks ENGINE = MergeTree ORDER BY (job, partition)");
    server().query("EXCHANGE TABLES other_engine.copy AND other_engine.marks");
    let error = sink.check_schema().await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_schema");
    assert!(error.to_string().contains("`other_engine`.`marks`"), "{error}");
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let sink = ready("newer").await;
    server().query("INSERT INTO newer.migrations (version, views, program) VALUES (99, '', '')");
    for error in [sink.init().await.unwrap_err(), sink.check_schema().await.unwrap_err()] {
        assert_eq!(error.code(), "clickhouse_schema");
        assert!(error.to_string().contains("newer version"), "{error}");
    }
}

#[tokio::test]
async fn an_older_database_is_brought_forward_before_rows_are_written() {
    let sink = ready("older").await;
    server().query("TRUNCATE TABLE older.migrations");
    server().query("INSERT INTO older.migrations (version, views, program) VALUES (1, '', '')");
    let error = sink.check_schema().await.unwrap_err();
    assert_eq!(error.code(), "clickhouse_schema");
    assert!(error.to_string().contains("run `tidegauge init`"), "{error}");
    sink.init().await.unwrap();
    sink.check_schema().await.unwrap();
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

/// The server remembers tokens of rows that are gone.
#[tokio::test]
async fn a_name_that_was_forgotten_begins_anew_every_time() {
    let sink = ready("forgotten").await;
    let first = binding("inferences");
    let changed = JobBinding { configuration: "other".into(), ..first.clone() };
    let file = |name: &str| FileRow {
        stream: Stream::Labels,
        number: 0,
        name: name.into(),
        bytes: 3,
        digest: "d".into(),
        first_offset: 0,
        offsets: 2,
        records: 1,
        rejected: 1,
    };
    for life in 0..5 {
        assert_eq!(sink.bind(&first).await.unwrap(), 0, "life {life}");
        let unused = sink.unused(&changed).await.unwrap().unwrap();
        assert_eq!(sink.rebind(&changed, &unused).await.unwrap(), 1, "life {life}");
        sink.confirm(&changed, 1).await.unwrap();
        let rows = "SELECT generation, count() FROM forgotten.jobs GROUP BY ALL ORDER BY ALL";
        assert_eq!(server().query(rows), "0\t1\n1\t2\n", "life {life}");
        // Of two that take a file as the same number the first has it.
        let taken = file(&format!("{life}.csv"));
        for file in [&taken, &file("other.csv")] {
            let found = sink.take_file(1, file).await.unwrap();
            assert_eq!(found, std::slice::from_ref(&taken), "life {life}");
        }
        for table in ["jobs", "files"] {
            server().query(&format!("DELETE FROM forgotten.{table} WHERE 1"));
        }
    }
    let unbound = sink.take_file(1, &file("late.csv")).await.unwrap_err();
    assert_eq!(unbound.code(), "clickhouse_unreadable", "{unbound}");
    assert_eq!(server().query("SELECT count() FROM forgotten.files"), "0\n");
}

#[tokio::test]
async fn of_two_first_starts_on_other_topics_one_wins() {
    ready("bind_race").await;
    for round in 0..10 {
        let settings = ClickHouseSettings::new(&server().url(), "bind_race", &format!("j{round}"));
        let (a, b) = (ClickHouse::new(settings.clone()), ClickHouse::new(settings));
        let (x, y) = (binding("x"), binding("y"));
        let (first, second) = tokio::join!(a.bind(&x), b.bind(&y));
        let won = [&first, &second].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {first:?} {second:?}");
        let lost = first.err().or(second.err()).unwrap();
        assert!(matches!(lost, BindError::OtherTopics { .. }), "{lost}");
        let rows = format!("SELECT count() FROM bind_race.jobs WHERE job = 'j{round}'");
        assert_eq!(server().query(&rows), "1\n");
    }
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
