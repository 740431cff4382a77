//! What BI tools see.

use serde_json::{Value as Json, json};
use tidegauge::sink::rows::RowFilter;

use super::*;

/// A row whose counts go from 100 on and whose figures are eighths: each column has its own.
fn numbered(table: MetricTable, model: &str, hour: i64) -> MetricRow {
    let mut row = metric_row(table, 1);
    row.key = key(model, "v1", "all", hour).into();
    for (value, count) in row.values.iter_mut().zip(100..) {
        if matches!(value, Value::Count(_)) {
            *value = Value::Count(count);
        }
    }
    row
}

fn place(table: MetricTable, name: &str) -> Option<usize> {
    table.columns().iter().position(|column| column.name == name)
}

fn set(row: &mut MetricRow, name: &str, value: Value) {
    let at = place(row.table, name).expect("a column");
    row.values[at] = value;
}

/// What ClickHouse writes of a row's count or figure; that of NULL where the table has no such column.
fn text_of(row: &MetricRow, name: &str) -> String {
    match place(row.table, name).map(|at| &row.values[at]) {
        None => "\\N".to_owned(),
        Some(Value::Count(count)) => count.to_string(),
        Some(Value::Figure(Ok(figure))) => figure.to_string(),
        Some(other) => panic!("{name} is {other:?}"),
    }
}

/// The names of a view's columns, then its rows.
fn all_of(view: &str) -> Vec<Json> {
    let answer = server().query(&format!(
        "SELECT * FROM {view} ORDER BY model, version FORMAT JSONCompactEachRowWithNames \
         SETTINGS output_format_json_quote_64bit_integers = 0"
    ));
    answer.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A row of a wide view as [`metric_rows_are_seen_through_the_views`] asks for it.
fn shown(row: &MetricRow) -> Vec<String> {
    let mut texts = vec![
        "2026-01-05 00:00:00.000".to_owned(),
        "2026-01-05 01:00:00.000".to_owned(),
        "1h".to_owned(),
        "it's".to_owned(),
        "v1".to_owned(),
        "all".to_owned(),
        row.undefined.clone(),
        "false".to_owned(),
        row.version.0.to_string(),
    ];
    texts.extend(row.values.iter().map(|value| match value {
        Value::Count(count) => count.to_string(),
        Value::Time(time) => format!("2026-01-05 00:00:00.{:03}", time - START_MS),
        Value::Figure(Ok(number)) => number.to_string(),
        Value::Figure(Err(_)) => "ᴺᵁᴸᴸ".to_owned(),
        Value::Text(text) => text.to_string(),
        Value::Sum(_) | Value::Sums(_) | Value::Cells(_) | Value::Names(_) => {
            unreachable!("state only")
        }
    }));
    texts
}

#[tokio::test]
async fn metric_rows_are_seen_through_the_views() {
    let mut sink = ready("figures").await;
    // The newest rows first without figures, then with one of its own in each column.
    for newest in [2, 3] {
        // An older row that is replayed changes nothing.
        for seed in [newest, 1] {
            let rows: Vec<_> = MetricTable::ALL.into_iter().map(|t| metric_row(t, seed)).collect();
            write(&mut sink, row::metrics(JOB, &rows)).await;
        }
        for table in MetricTable::ALL {
            let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            let answer = server().query(&format!(
                "SELECT window_start, window_end, grain, model, version, segment, undefined, sealed, row_version, {} \
                 FROM figures_bi.{} FORMAT JSONCompactStrings SETTINGS output_format_json_quote_64bit_integers = 1",
                names.join(", "),
                table.name()
            ));
            let answer: Json = serde_json::from_str(&answer).unwrap();
            let rows = answer["data"].as_array().unwrap();
            assert_eq!(rows.len(), 1, "{}", table.name());
            assert_eq!(rows[0], json!(shown(&metric_row(table, newest))), "{}", table.name());
        }
    }
}

/// Labels write the rows of drift that they change with a version of their own, which makes nothing else old.
#[tokio::test]
async fn rows_of_drift_that_labels_leave_alone_stay_in_its_view() {
    let mut sink = ready("kinds").await;
    let of = |kind: &'static str, method: &'static str, seed| {
        let mut row = metric_row(MetricTable::Drift, seed);
        set(&mut row, "kind", Value::Text(kind.into()));
        set(&mut row, "method", Value::Text(method.into()));
        row
    };
    let first = [of("score", "psi", 2), of("score", "ks", 2), of("label", "psi", 3)];
    let gone = of("label", "ks", 3);
    write(&mut sink, row::metrics(JOB, &[&first[..], &[gone]].concat())).await;
    write(&mut sink, row::metrics(JOB, &[of("label", "psi", 5)])).await;
    let rows = "SELECT kind, method, row_version FROM kinds_bi.drift ORDER BY ALL FORMAT TSV";
    assert_eq!(server().query(rows), "label\tpsi\t10\nscore\tks\t4\nscore\tpsi\t4\n");
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
    let scored = text_of(&metric_row(MetricTable::QualityBinary, 2), "n_scored");
    let undefined = format!("quality_binary\t\\N\t\\N\t\\N\t{scored}\tno_labels\tfalse\n");
    assert_eq!(one("auroc"), undefined);
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

/// Which counts a figure of a wide table is over: what its comment divides by, or counts the inputs of.
const RECORDS: [(MetricTable, &str, &[&str]); 25] = [
    (MetricTable::Serving, "inferences_per_s", &["inferences"]),
    (MetricTable::Serving, "error_rate", &["inferences"]),
    (MetricTable::Serving, "latency_p99_ms", &["latency_n"]),
    (MetricTable::Labels, "coverage", &["inferences"]),
    (MetricTable::Labels, "coverage_positive", &["inferences_positive"]),
    (MetricTable::Labels, "coverage_negative", &["inferences_negative"]),
    (MetricTable::Labels, "label_delay_p90_ms", &["labelled"]),
    (MetricTable::Labels, "label_corrections", &["labels_matched"]),
    (MetricTable::QualityBinary, "accuracy", &["n"]),
    (MetricTable::QualityBinary, "precision", &["predicted_positive"]),
    (MetricTable::QualityBinary, "npv", &["tn", "fn"]),
    (MetricTable::QualityBinary, "recall", &["positives"]),
    (MetricTable::QualityBinary, "specificity", &["negatives"]),
    (MetricTable::QualityBinary, "f1", &["tp", "fp", "fn"]),
    (MetricTable::QualityBinary, "auroc", &["n_scored"]),
    (MetricTable::QualityBinary, "brier", &["n_scored"]),
    (MetricTable::Calibration, "ece", &["n_scored"]),
    (MetricTable::QualityRegression, "mae", &["n"]),
    (MetricTable::QualityRegression, "mape", &["mape_n"]),
    (MetricTable::QualityRegression, "rmsle", &["rmsle_n"]),
    (MetricTable::QualityMulticlass, "accuracy", &["n"]),
    (MetricTable::QualityMulticlass, "log_loss", &["n_scored"]),
    (MetricTable::QualityMulticlass, "top_2_accuracy", &["n_scored"]),
    (MetricTable::QualityEstimated, "est_accuracy", &["n"]),
    (MetricTable::QualityEstimated, "realized_accuracy", &["n_labelled"]),
];

#[tokio::test]
async fn the_long_view_gives_each_figure_its_own_value_limits_and_records() {
    let mut sink = ready("long_columns").await;
    let tables = MetricTable::ALL.into_iter().filter(|table| table.keys() == 0);
    let rows: Vec<_> = tables.map(|table| numbered(table, "m", 0)).collect();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let mut expected = Vec::new();
    for row in &rows {
        let columns = row.table.columns().iter().filter(|c| !matches!(c.kind, Kind::Time));
        let is_limit = |name: &str| name.ends_with("_lower") || name.ends_with("_upper");
        for name in columns.map(|column| column.name).filter(|name| !is_limit(name)) {
            let own = [name.to_owned(), format!("{name}_lower"), format!("{name}_upper")];
            let texts = own.map(|column| text_of(row, &column)).join("\t");
            expected.push(format!("{}\t{name}\t{texts}", row.table.name()));
        }
    }
    expected.sort_unstable();
    let found =
        server().query("SELECT family, metric, value, lower, upper FROM long_columns_bi.metrics");
    let mut found: Vec<_> = found.lines().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    for (table, metric, counts) in RECORDS {
        let row = rows.iter().find(|row| row.table == table).expect("a row");
        let counts = counts.iter().map(|name| text_of(row, name));
        let n: u64 = counts.map(|count| count.parse::<u64>().expect("a count")).sum();
        let family = table.name();
        let found = server().query(&format!(
            "SELECT n FROM long_columns_bi.metrics WHERE family = '{family}' AND metric = '{metric}'"
        ));
        assert_eq!(found, format!("{n}\n"), "{family}.{metric}");
    }
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
    let [serving, mut labels] =
        [MetricTable::Serving, MetricTable::Labels].map(|table| numbered(table, "new", 0));
    set(&mut labels, "labelled", Value::Count(0));
    let mut rows = vec![serving, labels];
    for (hour, inferences, errors, labelled) in [(0, 10, 1, 4), (1, 28, 5, 9), (2, 2, 2, 1)] {
        let mut serving = numbered(MetricTable::Serving, "m", hour);
        set(&mut serving, "inferences", Value::Count(inferences));
        set(&mut serving, "errors", Value::Count(errors));
        set(&mut serving, "latest_event_time", Value::Time(window(hour).start.0 + 7));
        let mut labels = numbered(MetricTable::Labels, "m", hour);
        set(&mut labels, "labelled", Value::Count(labelled));
        // Segments and longer windows hold the same records again.
        for row in [serving, labels] {
            for segment in ["all", "region=eu"] {
                let key = key("m", "v1", segment, hour);
                let window = Window::of(key.window.start, Millis(24 * HOUR_MS));
                let day = Key { window, ..key.clone() };
                rows.push(MetricRow { key: key.into(), ..row.clone() });
                rows.push(MetricRow { key: day.into(), grain: "1d".into(), ..row.clone() });
            }
        }
    }
    write(&mut sink, row::metrics("j", &rows)).await;
    let at = |time: &str| format!("2026-01-05 {time}");
    let [first, second, third, fourth] = ["00", "01", "02", "03"].map(|h| at(h) + ":00:00.000");
    let [event, only_event] = ["02:00:00.007", "00:00:00.001"].map(at);
    let names = "job model version grain windows first_window_start last_window_start last_window_end \
                 latest_event_time last_inferences inferences errors error_rate labelled coverage";
    let expected = [
        json!(names.split(' ').collect::<Vec<_>>()),
        // 8 of 40, and 14 of 40.
        json!(["j", "m", "v1", "1h", 3, first, third, fourth, event, 2, 40, 8, 0.2, 14, 0.35]),
        json!([
            "j", "new", "v1", "1h", 1, first, first, second, only_event, 100, 100, 102, 1.02, 0, 0
        ]),
    ];
    assert_eq!(all_of("models_now_bi.models_now"), expected);
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

/// What the last sealed windows hold of the columns that `last_sealed` shows.
const SEALED: [(MetricTable, &str, f64); 14] = [
    (MetricTable::Serving, "error_rate", 0.02),
    (MetricTable::Serving, "latency_p99_ms", 12.5),
    (MetricTable::Labels, "coverage", 0.9),
    (MetricTable::QualityBinary, "accuracy", 0.81),
    (MetricTable::QualityBinary, "accuracy_lower", 0.79),
    (MetricTable::QualityBinary, "accuracy_upper", 0.83),
    (MetricTable::QualityBinary, "auroc", 0.71),
    (MetricTable::QualityBinary, "auroc_lower", 0.69),
    (MetricTable::QualityBinary, "auroc_upper", 0.73),
    (MetricTable::QualityMulticlass, "accuracy", 0.61),
    (MetricTable::QualityMulticlass, "accuracy_lower", 0.59),
    (MetricTable::QualityMulticlass, "accuracy_upper", 0.63),
    (MetricTable::QualityRegression, "mae", 3.5),
    (MetricTable::QualityRegression, "rmse", 4.5),
];

#[tokio::test]
async fn last_sealed_shows_each_figure_under_its_own_name() {
    use MetricTable::{Labels, QualityBinary, QualityMulticlass, QualityRegression, Serving};
    const MODELS: [(&str, &[MetricTable]); 4] = [
        ("binary", &[Serving, Labels, QualityBinary]),
        ("classes", &[Serving, Labels, QualityMulticlass]),
        ("numbers", &[Serving, Labels, QualityRegression]),
        // Nothing is known of its predictions.
        ("other", &[Serving, Labels]),
    ];
    let mut sink = ready("last_sealed_columns").await;
    let mut rows = Vec::new();
    for (model, tables) in MODELS {
        for (hour, &table) in (0..3).flat_map(|hour| tables.iter().map(move |of| (hour, of))) {
            let mut row = numbered(table, model, hour);
            row.sealed = hour < 2;
            // Windows before it and behind it have other figures.
            for (_, name, figure) in SEALED.iter().filter(|(of, ..)| hour == 1 && *of == table) {
                set(&mut row, name, Value::Figure(Ok(*figure)));
            }
            rows.push(row);
        }
    }
    write(&mut sink, row::metrics("j", &rows)).await;
    let names = "window_start window_end grain job model version segment inferences error_rate latency_p99_ms \
                 labelled coverage accuracy accuracy_lower accuracy_upper auroc auroc_lower auroc_upper mae rmse";
    let [start, end] = ["01", "02"].map(|hour| format!("2026-01-05 {hour}:00:00.000"));
    let no = json!(null);
    // 100 and 101: `inferences` is the first of the counts, and `labelled` stands behind it.
    let expected = [
        json!(names.split(' ').collect::<Vec<_>>()),
        json!([
            start, end, "1h", "j", "binary", "v1", "all", 100, 0.02, 12.5, 101, 0.9, 0.81, 0.79,
            0.83, 0.71, 0.69, 0.73, no, no
        ]),
        json!([
            start, end, "1h", "j", "classes", "v1", "all", 100, 0.02, 12.5, 101, 0.9, 0.61, 0.59,
            0.63, no, no, no, no, no
        ]),
        json!([
            start, end, "1h", "j", "numbers", "v1", "all", 100, 0.02, 12.5, 101, 0.9, no, no, no,
            no, no, no, 3.5, 4.5
        ]),
        json!([
            start, end, "1h", "j", "other", "v1", "all", 100, 0.02, 12.5, 101, 0.9, no, no, no, no,
            no, no, no, no
        ]),
    ];
    assert_eq!(all_of("last_sealed_columns_bi.last_sealed"), expected);
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
