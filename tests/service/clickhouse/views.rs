//! What BI tools see.

use tidegauge::sink::rows::RowFilter;

use super::*;

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
            Value::Text(text) => text.to_string(),
            Value::Sum(_) | Value::Sums(_) | Value::Cells(_) | Value::Names(_) => {
                unreachable!("state only")
            }
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
    // Of tables with keys of their own only the one of custom metrics has place there.
    let families = 1 + MetricTable::ALL.iter().filter(|table| table.keys() == 0).count();
    let found = server().query("SELECT uniq(family) FROM long_view_bi.metrics");
    assert_eq!(found, format!("{families}\n"));
    let columns = MetricTable::ALL
        .iter()
        .filter(|table| table.keys() == 0)
        .flat_map(|table| table.columns())
        .filter(|c| !matches!(c.kind, Kind::Time))
        .filter(|c| !c.name.ends_with("_lower") && !c.name.ends_with("_upper"))
        .count();
    let rows = format!("{}\n", columns + 1);
    assert_eq!(server().query("SELECT count() FROM long_view_bi.metrics"), rows);
}

#[tokio::test]
async fn views_with_own_keys_show_the_newest_rows_of_a_window_only() {
    let mut sink = ready("newest_rows").await;
    let cell = |hour: i64, version: u64, classes: [&'static str; 2]| {
        let mut row = metric_row(MetricTable::Confusion, 1);
        row.key = key("m", "v1", "all", hour).into();
        row.version = Version(version);
        let [actual, predicted] = classes.map(|class| Value::Text(class.into()));
        let weight = Value::Figure(Ok(1.0));
        row.values = vec![actual, predicted, Value::Count(version), weight];
        row
    };
    let first = [cell(0, 4, ["a", "a"]), cell(0, 4, ["b", "a"]), cell(1, 3, ["b", "b"])];
    write(&mut sink, row::metrics(JOB, &first)).await;
    // The label of b is corrected to a: its cell is empty, and nothing says so but the other one's version.
    write(&mut sink, row::metrics(JOB, &[cell(0, 6, ["a", "a"])])).await;
    let of = |table: &str| {
        server().query(&format!(
            "SELECT toHour(window_start) AS hour, true_class, predicted_class, n FROM {table} ORDER BY ALL"
        ))
    };
    assert_eq!(of("newest_rows.confusion FINAL"), "0\ta\ta\t6\n0\tb\ta\t4\n1\tb\tb\t3\n");
    assert_eq!(of("newest_rows_bi.confusion"), "0\ta\ta\t6\n1\tb\tb\t3\n");
    let filter = RowFilter { limit: 9, ..RowFilter::default() };
    let read = sink.metric_rows(MetricTable::Confusion, &filter).await.unwrap();
    let read = read.iter().map(|row| (row.text("true_class"), row.count("n")));
    assert_eq!(read.collect::<Vec<_>>(), [("a", 6), ("b", 3)], "so do pages, reports and queries");
    assert_eq!(of("newest_rows_bi.confusion WHERE true_class = 'b'"), "1\tb\tb\t3\n");
    // A filter on the key reaches the table, below the search for the newest rows.
    let plan = server().query(
        "EXPLAIN indexes = 1 SELECT n FROM newest_rows_bi.confusion \
         WHERE job = 'j' AND model = 'm' AND grain = '1h' AND window_start > '2026-01-05 00:00:00'",
    );
    let [search, read] = ["Window: (PARTITION BY", "model in ["].map(|part| plan.find(part));
    assert!(search.is_some_and(|search| read.is_some_and(|read| search < read)), "{plan}");
}

#[tokio::test]
async fn a_limit_leaves_of_a_window_always_the_same_rows() {
    let mut sink = ready("limited").await;
    let rows = ["c", "a", "e", "b", "d"].map(|feature| {
        let mut row = metric_row(MetricTable::DataQuality, 1);
        row.values[0] = Value::Text(feature.into());
        row
    });
    write(&mut sink, row::metrics(JOB, &rows)).await;
    for limit in 1..=5 {
        let filter = RowFilter { limit, ..RowFilter::default() };
        let read = sink.metric_rows(MetricTable::DataQuality, &filter).await.unwrap();
        let read: Vec<_> = read.iter().map(|row| row.text("feature")).collect();
        let left_out = usize::try_from(5 - limit).unwrap();
        assert_eq!(read, ["a", "b", "c", "d", "e"][left_out..]);
    }
}

#[tokio::test]
async fn the_newest_window_of_all_segments_is_that_with_labelled_records() {
    const TABLES: [MetricTable; 4] = [
        MetricTable::Serving,
        MetricTable::Labels,
        MetricTable::QualityBinary,
        MetricTable::Categories,
    ];
    const SEGMENTS: [&str; 2] = ["all", "region=eu"];
    let mut sink = ready("newest_window").await;
    let mut rows = Vec::new();
    for (model, counts) in [("labelled", [3, 2, 0]), ("unlabelled", [0; 3])] {
        for (hour, count) in (0..).zip(counts) {
            for (table, segment) in TABLES.into_iter().flat_map(|t| SEGMENTS.map(|s| (t, s))) {
                let mut row = metric_row(table, 1);
                row.key = key(model, "v1", segment, hour).into();
                for (column, value) in table.columns().iter().zip(&mut row.values) {
                    if ["n", "labelled"].contains(&column.name) {
                        *value = Value::Count(count);
                    }
                }
                rows.push(row);
            }
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    for (model, hours) in [("labelled", [2, 1, 1, 1]), ("unlabelled", [2; 4])] {
        for (table, hour) in TABLES.into_iter().zip(hours) {
            let (model, limit) = (model.to_owned(), 100);
            let filter = RowFilter { model, only_newest: true, limit, ..RowFilter::default() };
            let read = sink.metric_rows(table, &filter).await.unwrap();
            let read: Vec<_> = read.iter().map(|row| (&*row.segment, row.start_ms)).collect();
            let expected = SEGMENTS.map(|segment| (segment, window(hour).start.0));
            assert_eq!(read, expected, "{} of {}", table.name(), filter.model);
        }
    }
}

#[tokio::test]
async fn the_newest_window_is_one_with_enough_labels_unless_no_more_can_come() {
    const TABLES: [MetricTable; 5] = [
        MetricTable::Labels,
        MetricTable::QualityBinary,
        MetricTable::Calibration,
        MetricTable::CalibrationBins,
        MetricTable::Categories,
    ];
    let mut sink = ready("enough_labels").await;
    let mut rows = Vec::new();
    for (model, is_sealed) in [("open", false), ("sealed", true)] {
        for ((hour, n), table) in (0..).zip([100, 3]).flat_map(|of| TABLES.map(|table| (of, table)))
        {
            let mut row = metric_row(table, 1);
            row.key = key(model, "v1", "all", hour).into();
            row.sealed = is_sealed;
            for (column, value) in table.columns().iter().zip(&mut row.values) {
                match column.name {
                    // Of a bin there are always few.
                    "n" if table == MetricTable::CalibrationBins => *value = Value::Count(2),
                    "n" | "n_scored" | "labelled" => *value = Value::Count(n),
                    _ => {}
                }
            }
            rows.push(row);
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    for (model, hours) in [("open", [0, 0, 0, 0, 1]), ("sealed", [1; 5])] {
        for (table, hour) in TABLES.into_iter().zip(hours) {
            let (model, limit) = (model.to_owned(), 100);
            let filter = RowFilter { model, only_newest: true, limit, ..RowFilter::default() };
            let read = sink.metric_rows(table, &filter).await.unwrap();
            let read: Vec<_> = read.iter().map(|row| row.start_ms).collect();
            assert_eq!(read, [window(hour).start.0], "{} of {}", table.name(), filter.model);
        }
    }
}

#[tokio::test]
async fn models_now_has_one_row_for_each_model_and_version() {
    let mut sink = ready("models_now").await;
    let mut rows = Vec::new();
    for (hour, count) in [(0, 10), (1, 30), (2, 2)] {
        for segment in ["all", "region=eu"] {
            for grain in ["1h", "1d"] {
                let mut row = metric_row(MetricTable::Serving, 1);
                row.key = key("m", "v1", segment, hour).into();
                if grain == "1d" {
                    let window = Window::of(row.key.window.start, Millis(24 * HOUR_MS));
                    row.key = Key { window, ..Key::clone(&row.key) }.into();
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

#[tokio::test]
async fn last_sealed_has_the_last_complete_window_of_each_model() {
    let mut sink = ready("last_sealed").await;
    let mut rows = Vec::new();
    // Of v2 the labels of the second hour are still awaited, of v1 those of the third.
    for (version, sealed_hours) in [("v1", 2), ("v2", 1)] {
        for hour in 0..3 {
            for table in [MetricTable::Serving, MetricTable::Labels, MetricTable::QualityMulticlass]
            {
                // The second hour of v1 has no decisions.
                if table == MetricTable::QualityMulticlass && hour == 1 {
                    continue;
                }
                let mut row = metric_row(table, 1);
                row.key = key("m", version, "all", hour).into();
                row.sealed = hour < sealed_hours;
                for (column, value) in table.columns().iter().zip(&mut row.values) {
                    match column.name {
                        "inferences" => *value = Value::Count(10 + u64::try_from(hour).unwrap()),
                        "accuracy" => *value = Value::Figure(Ok(0.75)),
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
            "SELECT version, toHour(window_start), grain, segment, inferences, accuracy, auroc, mae \
             FROM last_sealed_bi.last_sealed ORDER BY version"
        ),
        "v1\t1\t1h\tall\t11\t\\N\t\\N\t\\N\nv2\t0\t1h\tall\t10\t0.75\t\\N\t\\N\n"
    );
}

#[tokio::test]
async fn the_catalogue_has_every_metric_of_the_views_and_no_other() {
    let mut sink = ready("catalogue").await;
    let rows: Vec<_> = MetricTable::ALL.into_iter().map(|table| metric_row(table, 2)).collect();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let columns = "SELECT (table, name) FROM system.columns WHERE database = 'catalogue_bi'";
    for (what, condition) in [
        ("a column", format!("(family, metric) NOT IN ({columns})")),
        (
            "limits where it says so",
            // Those of drift say what binning may have changed.
            format!(
                "has_interval != (family != 'drift' AND (family, concat(metric, '_upper')) IN ({columns}))"
            ),
        ),
    ] {
        let found = server().query(&format!(
            "SELECT family, metric FROM catalogue_bi.metric_catalogue WHERE {condition}"
        ));
        assert_eq!(found, "", "each has {what}");
    }
    // Custom metrics are there once a job has defined them.
    let missing = server().query(
        "SELECT DISTINCT family, metric FROM catalogue_bi.metrics \
         WHERE family != 'custom' AND (family, metric) NOT IN (SELECT family, metric FROM catalogue_bi.metric_catalogue)",
    );
    assert_eq!(missing, "", "the long view has no other");
    assert_eq!(
        server().query(
            "SELECT unit, better, has_interval, description FROM catalogue_bi.metric_catalogue \
             WHERE family = 'quality_binary' AND metric = 'recall'"
        ),
        "ratio\thigher\ttrue\ttp / (tp + fn)\n"
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
    let mut views: Vec<_> = MetricTable::ALL.iter().map(|table| table.name()).collect();
    views.extend([
        "alerts",
        "keys",
        "last_sealed",
        "metric_catalogue",
        "metrics",
        "models_now",
        "reference_profiles",
        "stream_health",
    ]);
    views.sort_unstable();
    assert_eq!(
        server().query(&format!("SELECT name {tables} AND database = 'guard_bi' ORDER BY name")),
        views.join("\n") + "\n"
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
