//! Which figure of the tables stands where in a chart.

use tidegauge::dashboards::chart::Kind as Drawn;

use super::*;

/// Of each line over time its chart, what stands behind model and version in its name, and the column that it shows.
const LINES: [(&str, &str, MetricTable, &str); 48] = [
    ("model-10-accuracy", "", MetricTable::QualityBinary, "accuracy"),
    ("model-10-accuracy", " lower", MetricTable::QualityBinary, "accuracy_lower"),
    ("model-10-accuracy", " upper", MetricTable::QualityBinary, "accuracy_upper"),
    ("model-11-auroc", "", MetricTable::QualityBinary, "auroc"),
    ("model-11-auroc", " lower", MetricTable::QualityBinary, "auroc_lower"),
    ("model-11-auroc", " upper", MetricTable::QualityBinary, "auroc_upper"),
    ("model-12-precision-recall", " precision", MetricTable::QualityBinary, "precision"),
    ("model-12-precision-recall", " recall", MetricTable::QualityBinary, "recall"),
    ("model-12-precision-recall", " F1", MetricTable::QualityBinary, "f1"),
    ("model-13-loss", " log loss", MetricTable::QualityBinary, "log_loss"),
    ("model-13-loss", " Brier", MetricTable::QualityBinary, "brier"),
    ("model-14-calibration", " ECE", MetricTable::Calibration, "ece"),
    ("model-14-calibration", " bias", MetricTable::Calibration, "calibration_bias"),
    ("model-20-classes-accuracy", "", MetricTable::QualityMulticlass, "accuracy"),
    ("model-20-classes-accuracy", " lower", MetricTable::QualityMulticlass, "accuracy_lower"),
    ("model-20-classes-accuracy", " upper", MetricTable::QualityMulticlass, "accuracy_upper"),
    ("model-25-regression", " MAE", MetricTable::QualityRegression, "mae"),
    ("model-25-regression", " RMSE", MetricTable::QualityRegression, "rmse"),
    ("model-26-regression-bias", "", MetricTable::QualityRegression, "mean_error"),
    ("model-26-regression-bias", " lower", MetricTable::QualityRegression, "mean_error_lower"),
    ("model-26-regression-bias", " upper", MetricTable::QualityRegression, "mean_error_upper"),
    ("model-30-estimated", "", MetricTable::QualityEstimated, "est_accuracy"),
    ("model-30-estimated", " lower", MetricTable::QualityEstimated, "est_accuracy_lower"),
    ("model-30-estimated", " upper", MetricTable::QualityEstimated, "est_accuracy_upper"),
    ("model-31-realized", "", MetricTable::QualityEstimated, "accuracy_gap_z"),
    ("model-50-latency", " p50", MetricTable::Serving, "latency_p50_ms"),
    ("model-50-latency", " p90", MetricTable::Serving, "latency_p90_ms"),
    ("model-50-latency", " p99", MetricTable::Serving, "latency_p99_ms"),
    ("model-51-label-delay", " p50", MetricTable::Labels, "label_delay_p50_ms"),
    ("model-51-label-delay", " p90", MetricTable::Labels, "label_delay_p90_ms"),
    ("model-51-label-delay", " p99", MetricTable::Labels, "label_delay_p99_ms"),
    ("model-52-coverage", " coverage", MetricTable::Labels, "coverage"),
    ("model-52-coverage", " settled", MetricTable::Labels, "settled_ratio"),
    ("model-53-error-rate", "", MetricTable::Serving, "error_rate"),
    ("model-53-error-rate", " lower", MetricTable::Serving, "error_rate_lower"),
    ("model-53-error-rate", " upper", MetricTable::Serving, "error_rate_upper"),
    ("overview-20-traffic", "", MetricTable::Serving, "inferences_per_s"),
    ("overview-21-errors", "", MetricTable::Serving, "error_rate"),
    ("overview-22-coverage", "", MetricTable::Labels, "coverage"),
    ("overview-23-latency", "", MetricTable::Serving, "latency_p99_ms"),
    ("overview-24-accuracy", "", MetricTable::QualityBinary, "accuracy"),
    ("overview-24-accuracy", "", MetricTable::QualityMulticlass, "accuracy"),
    ("overview-25-auroc", "", MetricTable::QualityBinary, "auroc"),
    ("stream-30-open", "", MetricTable::Labels, "pending"),
    ("stream-32-arrival", "", MetricTable::Serving, "freshness_p99_ms"),
    ("stream-33-corrections", " corrections", MetricTable::Labels, "label_corrections"),
    ("stream-33-corrections", " duplicates", MetricTable::Labels, "label_duplicates"),
    ("stream-33-corrections", " conflicts", MetricTable::Labels, "label_conflicts"),
];

/// The newest hour of the tests here.
const NEWEST: i64 = HOURS - 1;

/// What the lines of a chart show of the model `m v` in the newest hour, by name.
fn wanted(chart: &str) -> Vec<(String, Option<f64>)> {
    let lines = LINES.iter().filter(|(of, ..)| *of == chart);
    let mut wanted: Vec<_> = lines
        .map(|(_, name, table, column)| {
            (format!("m v{name}"), held(*table, column, NEWEST).as_f64())
        })
        .collect();
    // Those that show no single column.
    match chart {
        "model-42-missing" => {
            let [missing, all] = ["missing", "inferences"]
                .map(|name| held(MetricTable::DataQuality, name, NEWEST).as_f64());
            let share = missing.zip(all).map(|(missing, all)| missing / all);
            wanted.extend((1..4).map(|own| (format!("feature {own}"), share)));
        }
        // Of 104 inferences 94 are labelled and 3 expired.
        "stream-31-seal-audit" => wanted.push(("m v".to_owned(), Some(7.0))),
        _ => {}
    }
    wanted
}

/// In the order of names; two lines of one name in that of their figures.
fn ordered(mut lines: Vec<(String, Option<f64>)>) -> Vec<(String, Option<f64>)> {
    lines.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    lines
}

/// The rows of the charts whose names begin so.
fn of_begins<const N: usize>(
    server: &services::ClickHouse,
    begins: [&str; N],
) -> BTreeMap<String, Vec<Json>> {
    begins.into_iter().flat_map(|begin| charts_of(begin, server, Chosen::default())).collect()
}

fn of_all_hours() -> Vec<MetricRow> {
    (0..HOURS).flat_map(|hour| rows_of("m", "v", hour, true)).collect()
}

#[tokio::test]
async fn every_line_shows_the_figure_that_it_is_named_after() {
    let (server, mut sink) = deployed().await;
    fill_job(SHOWN_JOB, &mut sink, &of_all_hours()).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
    let mut charts = Definitions::read(&folder).expect("the definitions").charts;
    charts.retain(|chart| matches!(chart.kind, Drawn::Lines | Drawn::Band | Drawn::Stacked));
    let all = every_chart(&server, Chosen::default());
    for chart in &charts {
        let newest = all[&chart.name].iter().filter(|row| row[0] == "2026-01-05 04:00:00.000");
        let line = |row: &Json| (row[1].as_str().expect("a name").to_owned(), row[2].as_f64());
        let shown: Vec<_> = newest.map(line).collect();
        let wanted = wanted(&chart.name);
        assert!(!wanted.is_empty(), "{}: nothing says what its lines show", chart.name);
        assert_eq!(ordered(shown), ordered(wanted), "{}", chart.name);
    }
    for (name, ..) in LINES {
        assert!(charts.iter().any(|chart| chart.name == name), "{name} is no chart with lines");
    }
}

#[tokio::test]
async fn verdicts_are_counted_as_what_they_are() {
    let (server, mut sink) = deployed().await;
    let mut rows = of_all_hours();
    let names = ["kind 1", "kind 2", "kind 3"];
    let verdict = MetricTable::Drift.columns().iter().position(|of| of.name == "verdict");
    let verdict = verdict.expect("drift has verdicts");
    for row in rows.iter_mut().filter(|row| row.table == MetricTable::Drift) {
        let Value::Text(kind) = &row.values[0] else { panic!("{row:?}") };
        let own = names.iter().position(|name| **name == **kind).expect("one of three");
        // The last hour that has verdicts is the one before the newest.
        let verdicts = match (row.key.window.start.0 - START_MS) / HOUR_MS {
            4 => ["insufficient_data"; 3],
            3 => ["warn", "drift", "drift"],
            _ => ["ok"; 3],
        };
        row.values[verdict] = Value::Text(verdicts[own].into());
    }
    fill_job(SHOWN_JOB, &mut sink, &rows).await;
    let end = "2026-01-05 04:00:00.000";
    let all = of_begins(&server, ["model-4", "overview-15"]);
    // Two drift and one is worth a look, of three.
    assert_eq!(all["overview-15-drift"], [json!([SHOWN_JOB, "m", "v", end, 2, 1, 3])]);
    let of = |name| held(MetricTable::Drift, name, 3);
    // The worst first.
    let now = [(2, "drift"), (3, "drift"), (1, "warn")].map(|(own, verdict)| {
        let [kind, feature, method] = ["kind", "feature", "method"].map(|of| format!("{of} {own}"));
        let [value, p, n] = ["value", "p_adjusted", "n"].map(of);
        json!([SHOWN_JOB, "m", "v", kind, feature, method, verdict, value, p, n, end])
    });
    assert_eq!(all["model-41-drift-now"], now);
    let effects = (0..4).flat_map(|hour| {
        let time = format!("2026-01-05 0{hour}:00:00.000");
        names.map(|kind| json!([time, kind, held(MetricTable::Drift, "effect", hour)]))
    });
    assert_eq!(all["model-40-drift"], effects.collect::<Vec<_>>());
}

#[tokio::test]
async fn tables_of_features_and_classes_show_their_own_columns() {
    let (server, mut sink) = deployed().await;
    fill_job(SHOWN_JOB, &mut sink, &of_all_hours()).await;
    let all = of_begins(&server, ["model-22", "model-4", "overview-1"]);
    let end = "2026-01-05 05:00:00.000";
    let row = |own: i32, texts: &[&str], table: MetricTable, columns: &[&str], behind: &[Json]| {
        let mut row = vec![json!(SHOWN_JOB), json!("m"), json!("v")];
        row.extend(texts.iter().map(|text| json!(format!("{text} {own}"))));
        row.extend(columns.iter().map(|name| held(table, name, NEWEST)));
        row.extend_from_slice(behind);
        json!(row)
    };
    let of_each = |row: &dyn Fn(i32) -> Json| (1..4).map(row).collect::<Vec<_>>();
    let features = |own| {
        let columns =
            ["values", "type_errors", "mean", "p50", "out_of_range", "new_category_values"];
        let behind = [json!(format!("top_category {own}")), json!(end)];
        row(own, &["feature", "kind"], MetricTable::DataQuality, &columns, &behind)
    };
    assert_eq!(all["model-43-data-quality"], of_each(&features));
    let categories = |own| {
        let columns = ["n", "share", "share_lower", "share_upper", "reference_share"];
        row(own, &["feature", "category"], MetricTable::Categories, &columns, &[])
    };
    assert_eq!(all["model-44-categories"], of_each(&categories));
    let confused = |own| {
        let cell = |hour| held(MetricTable::Confusion, "n", hour).as_u64().expect("a count");
        let decisions = json!((0..HOURS).map(cell).sum::<u64>());
        let texts = ["true_class", "predicted_class"];
        row(own, &texts, MetricTable::Confusion, &[], &[decisions])
    };
    assert_eq!(all["model-22-confusion"], of_each(&confused));
    // 90 + 91 + ... of 100 + 101 + ...
    assert_eq!(all["overview-13-coverage"], [json!([460.0 / 510.0])]);
    assert_eq!(all["overview-12-error-rate"], [json!([10.0 / 510.0])]);
}

#[tokio::test]
async fn the_accounts_of_the_stream_stand_under_their_own_names() {
    let (server, mut sink) = deployed().await;
    let positions = Positions { inferences: 31, labels: 20 };
    write(&mut sink, row::marks(SHOWN_JOB, 0, &[mark(0, positions)])).await;
    let all = charts_of("stream-", &server, Chosen::default());
    // Of the n-th of ten names n inferences were accepted, -n were duplicates and one was dead; of labels five matched,
    // -n were kept and one was dead. As many of either were late, or orphans.
    let third = i64::MAX / 64;
    let plain = |row: &&Json| row[2] == "plain";
    assert_eq!(
        all["stream-20-accounts"].iter().filter(plain).cloned().collect::<Vec<_>>(),
        [
            json!([SHOWN_JOB, "inferences", "plain", third + 1, 2, -2, third, 0, 0, 0, 1]),
            json!([SHOWN_JOB, "labels", "plain", third + 4, 0, 0, 0, 5, -2, third, 1]),
        ]
    );
    assert_eq!(
        all["stream-21-outcomes"],
        [
            json!(["inferences: accepted", 55]),
            json!(["inferences: dead", 10]),
            json!(["inferences: late", 10 * third]),
            json!(["labels: dead", 10]),
            json!(["labels: matched", 50]),
            json!(["labels: orphan", 10 * third]),
        ]
    );
    let (clock, last) = ("2026-01-05 00:00:00.000", "2283-11-11 23:59:59.999");
    assert_eq!(
        all["stream-22-clocks"],
        [
            json!([SHOWN_JOB, "inferences", 0, 31, clock, "an age"]),
            json!([SHOWN_JOB, "labels", 0, 20, last, "an age"]),
        ]
    );
    // Of labels 50 matched less 55 kept.
    let records = 10 * (third + 1) + 10 * (third + 1) - 5;
    for (name, value) in
        [("stream-10-records", records), ("stream-12-dead", 20), ("stream-13-late", 10 * third)]
    {
        assert_eq!(all[name], [json!([value])], "{name}");
    }
}

/// What `overview-30-models` says of a model whose window of hour 1 is shown, by the tables that it has rows in.
fn newest(
    model: &str,
    last_event: &str,
    tables: &[MetricTable],
    undefined: &[&str],
    sealed: bool,
) -> Json {
    let names = "error_rate labelled coverage accuracy accuracy_lower accuracy_upper auroc auroc_lower auroc_upper \
                 mae mae_lower mae_upper";
    let figures = names.split(' ').map(|name| {
        let table = tables.iter().find(|table| table.has(name) && !undefined.contains(&name));
        match table {
            Some(&table) => held(table, name, 1),
            None if name == "labelled" => json!(0),
            None => Json::Null,
        }
    });
    let mut row = vec![json!(SHOWN_JOB), json!(model), json!("v"), json!(last_event)];
    row.extend([json!("2026-01-05 02:00:00.000"), held(MetricTable::Serving, "inferences", 1)]);
    row.extend(figures);
    row.push(json!(sealed));
    json!(row)
}

#[tokio::test]
async fn a_row_of_a_table_is_of_one_window_whatever_is_undefined_there() {
    use MetricTable::{
        DataQuality, Drift, Labels, QualityBinary, QualityMulticlass, QualityRegression, Serving,
    };

    let (server, mut sink) = deployed().await;
    let mut rows = rows_of("m", "v", 1, true);
    // One positive has no interval, and the features came without values.
    let undefined = Value::Figure(Err(Undefined::TooFewSamples));
    for (table, names) in [
        (QualityBinary, ["auroc_lower", "auroc_upper", "mcc"]),
        (DataQuality, ["mean", "p50", "new_category_values"]),
        (Drift, ["value", "p_adjusted", "effect"]),
    ] {
        for name in names {
            set(&mut rows, table, name, &undefined);
        }
    }
    set(&mut rows, DataQuality, "values", &Value::Count(0));
    // The window before has all, the one behind no labels yet.
    rows.extend(rows_of("m", "v", 0, true));
    rows.extend(rows_of("m", "v", 2, false));
    // Of a job that reads no labels there are no rows of them.
    let unread = (0..2).flat_map(|hour| rows_of("n", "v", hour, false));
    rows.extend(unread.filter(|row| row.table == Serving));
    // One of several classes.
    let of_classes = [Serving, Labels, QualityMulticlass];
    let classes = rows_of("k", "v", 1, true).into_iter();
    rows.extend(classes.filter(|row| of_classes.contains(&row.table)));
    fill_job(SHOWN_JOB, &mut sink, &rows).await;

    let (nothing, no) = (Chosen::default(), json!(null));
    // Who has been silent for longer stands first, however its name begins.
    let [before, end] = ["2026-01-05 01:00:00.000", "2026-01-05 02:00:00.000"];
    let of_m = [Serving, Labels, QualityBinary, QualityRegression];
    assert_eq!(
        charts_of("overview-30", &server, nothing)["overview-30-models"],
        [
            newest("k", before, &of_classes, &[], true),
            newest("n", before, &[Serving], &[], false),
            newest("m", end, &of_m, &["auroc_lower", "auroc_upper"], true),
        ]
    );
    let accuracy = &charts_of("overview-24", &server, nothing)["overview-24-accuracy"];
    let right = held(QualityMulticlass, "accuracy", 1);
    assert!(accuracy.contains(&json!([before, "k v", right])), "{accuracy:?}");
    let features = charts_of("model-4", &server, nothing);
    let of_each = |row: &dyn Fn(i32) -> Json| (1..4).map(row).collect::<Vec<_>>();
    let verdict = |own: i32| {
        let [kind, feature, method] = ["kind", "feature", "method"].map(|of| format!("{of} {own}"));
        let n = held(Drift, "n", 1);
        json!([SHOWN_JOB, "m", "v", kind, feature, method, "ok", no, no, n, end])
    };
    assert_eq!(features["model-41-drift-now"], of_each(&verdict));
    let values = |own: i32| {
        let [feature, kind, top] =
            ["feature", "kind", "top_category"].map(|of| format!("{of} {own}"));
        let [errors, outside] =
            ["type_errors", "out_of_range"].map(|name| held(DataQuality, name, 1));
        json!([SHOWN_JOB, "m", "v", feature, kind, 0, errors, no, no, outside, no, top, end])
    };
    assert_eq!(features["model-43-data-quality"], of_each(&values));
}
