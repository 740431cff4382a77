//! The web pages on a real ClickHouse: their figures are those of SQL, and they outlive the server's absence.

use std::fmt::Write as _;

use tidegauge::overview::{Overview, OverviewSettings};
use tidegauge::report::{References, count};
use tidegauge::sink::summary::MOST_MODELS;

use super::charts::{NAMES, fill, rows_of};
use super::*;

const DATABASE: &str = "overview";
const HOURS: i64 = 5;

/// Six hours after the first row.
fn clock() -> i64 {
    START_MS + 6 * HOUR_MS
}

/// As HTML has a text within quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a String takes all");
        encoded
    })
}

/// Rows of every name, of which one drifts.
fn all_rows() -> Vec<MetricRow> {
    let mut rows = Vec::new();
    for name in NAMES {
        (0..HOURS).for_each(|hour| rows.extend(rows_of(name, "v1", hour, true)));
    }
    let verdict = MetricTable::Drift.columns().iter().position(|column| column.name == "verdict");
    let verdict = verdict.expect("drift has verdicts");
    for row in rows.iter_mut().filter(|row| row.table == MetricTable::Drift) {
        if *row.key.model == *NAMES[5] {
            row.values[verdict] = Value::Text("drift".into());
        }
    }
    rows
}

async fn page(overview: &str, address: &str) -> http::Answer {
    let url = format!("{overview}{address}");
    let asked = tokio::task::spawn_blocking(move || http::get(&url));
    asked.await.expect("no panic").expect("an answer")
}

async fn good(overview: &str, address: &str) -> String {
    let answer = page(overview, address).await;
    assert_eq!(answer.status, 200, "{address}: {}", answer.body);
    answer.body
}

/// The line of a model in the table of all models.
fn line<'a>(page: &'a str, model: &str) -> &'a str {
    let name = format!(">{}</a>", escaped(model));
    let mut lines = page.split("<tr").filter(|line| line.contains(&name));
    lines.next().unwrap_or_else(|| panic!("no line of {model} in {page}"))
}

/// What SQL says of a model: inferences, labelled, errors, and the newest AUROC.
fn by_sql(server: &services::ClickHouse, model: &str, grain: &str) -> [String; 4] {
    let quoted = model.replace('\\', "\\\\").replace('\'', "\\'");
    let of = |columns: &str, table: &str| {
        let of = format!("grain = '{grain}' AND segment = 'all' AND model = '{quoted}'");
        let sql = format!("SELECT {columns} FROM {DATABASE}_bi.{table} WHERE {of}");
        server.query(&sql).trim_end().to_owned()
    };
    let number = |text: String| count(text.parse().expect("a count"));
    let share = |columns: &str, table: &str| {
        let share: f64 = of(columns, table).parse().expect("a share");
        format!("{:.2} %", share * 100.0)
    };
    let auroc: f64 = of("argMax(auroc, window_start)", "quality_binary").parse().expect("a figure");
    [
        number(of("sum(inferences)", "serving")),
        share("sum(labelled) / sum(inferences)", "labels"),
        share("sum(errors) / sum(inferences)", "serving"),
        format!("AUROC {auroc:.4}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_say_what_sql_says_and_outlive_the_servers_absence() {
    let mut server = services::ClickHouse::start();
    let mut clickhouse = ClickHouse::new(ClickHouseSettings::new(&server.url(), DATABASE, JOB));
    clickhouse.init().await.unwrap();
    let settings = OverviewSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: None,
        clickhouse: clickhouse.clone(),
        about: "Job".to_owned(),
        references: References::default(),
        clock,
    };
    let overview = Overview::bind(settings).await.unwrap();
    let at = format!("http://{}", overview.address());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(overview.serve(std::future::pending()));

    assert!(good(&at, "/").await.contains("No rows"));
    fill(&mut clickhouse, &all_rows()).await;
    let jobs = clickhouse.jobs().await.unwrap();
    assert!(jobs.has_own && jobs.named().is_empty(), "{jobs:?}");
    let other = ClickHouse::new(ClickHouseSettings::new(&server.url(), DATABASE, "other"));
    let jobs = other.jobs().await.unwrap();
    let named = format!("{JOB} (newest window 2026-01-05)");
    assert_eq!((jobs.has_own, jobs.named()), (false, named));
    let models = good(&at, "/").await;
    for name in NAMES {
        let line = line(&models, name);
        for figure in by_sql(&server, name, "10s") {
            assert!(line.contains(&figure), "{figure} of {name}: {line}");
        }
        let address = format!("/model?model={}&version=v1", encoded(name));
        let model = good(&at, &address).await;
        assert!(model.contains(&format!("<h1>{}, version v1</h1>", escaped(name))), "{model}");
        assert!(model.contains(&by_sql(&server, name, "10s")[0]), "{name}: {model}");
        assert!(model.contains("region=o&#39;er") || model.contains("region=o'er"), "segments");
    }
    let first = models.split("<tbody>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(first.contains(NAMES[5]) && first.contains("3 of 3 drift"), "{first}");

    filters_choose(&at, &models).await;
    open_alerts_are_counted(&server, &at).await;

    server.stop();
    let away = page(&at, "/").await;
    assert_eq!(away.status, 503, "{}", away.body);
    assert!(away.head.to_lowercase().contains("refresh: 10"), "{}", away.head);
    assert!(away.body.contains("ClickHouse does not answer"), "{}", away.body);
    server.start_again();
    let back = good(&at, "/").await;
    assert!(line(&back, "plain").contains(&by_sql(&server, "plain", "10s")[0]));
    serving.abort_all();
}

async fn filters_choose(at: &str, models: &str) {
    let plain = good(at, "/?model=pl*&grain=1h").await;
    assert!(plain.contains("1 model and version"), "{plain}");
    assert_eq!(models.matches("<th class=\"name\"").count(), NAMES.len());
    // Windows of the hours from 04:00 on are the last ones.
    let last = good(at, "/?model=plain&range=1h&until=2026-01-05T05:00:00Z").await;
    assert!(line(&last, "plain").contains(&count(104)), "{last}");
    // All were there before, and are silent by now.
    let silent = good(at, "/?range=1h").await;
    assert!(silent.contains("No rows") && silent.contains("Look at the whole time"), "{silent}");
    assert_eq!(silent.matches("<tr class=\"silent\">").count(), NAMES.len());
    let plain = line(&silent, "plain");
    assert!(plain.contains("last data 2026-01-05 04:00") && plain.contains("2 h ago"), "{plain}");
    assert!(!good(at, "/").await.contains("class=\"silent\""));
    assert!(good(at, "/?model=plain&version=v2").await.contains("No rows"));
    let segment = good(at, "/?segment=region%3Do%27er").await;
    assert_eq!(segment.matches("<th class=\"name\"").count(), NAMES.len());
    assert!(good(at, "/?segment=region%3D%25").await.contains("No rows"), "no pattern");
    let feature = good(at, "/feature?model=plain&version=v1&feature=feature%201").await;
    assert!(feature.contains("method 1") && feature.contains("Missing rate"), "{feature}");
    let none = good(at, "/feature?model=plain&version=v1&feature=%27%20OR%201%3D1").await;
    assert!(none.contains("No rows"), "{none}");
}

async fn open_alerts_are_counted(server: &services::ClickHouse, at: &str) {
    let column = "Open alerts</th>";
    server.query(&format!("DROP TABLE IF EXISTS {DATABASE}.alerts SYNC"));
    assert!(!good(at, "/").await.contains(column));
    server.query(&format!(
        "CREATE TABLE {DATABASE}.alerts (job String, rule String, model String, version String, state String, \
         row_version UInt64) ENGINE = ReplacingMergeTree(row_version) ORDER BY (job, rule, model, version)"
    ));
    let job = JOB.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
    for (rule, state, version) in
        [("a", "opened", 1), ("b", "opened", 1), ("c", "opened", 1), ("c", "resolved", 2)]
    {
        server.query(&format!(
            "INSERT INTO {DATABASE}.alerts VALUES ('{job}', '{rule}', 'two words', 'v1', '{state}', {version})"
        ));
    }
    let page = good(at, "/").await;
    assert!(line(&page, "two words").contains("2 open"), "{page}");
    assert!(line(&page, "plain").contains(">none<") && page.contains(column), "{page}");
    silent_models_with_open_alerts_are_shown(server, at, &job).await;
    // As many models as are counted at once, all of them before it by name.
    server.query(&format!(
        "INSERT INTO {DATABASE}.alerts SELECT '{job}', 'd', concat('a', toString(number)), 'v1', 'opened', 1 \
         FROM numbers({MOST_MODELS})"
    ));
    let chosen = good(at, "/?model=two*").await;
    assert!(line(&chosen, "two words").contains("2 open"), "{chosen}");
}

async fn silent_models_with_open_alerts_are_shown(
    server: &services::ClickHouse,
    at: &str,
    job: &str,
) {
    // One that had rows until two hours ago, and one that never had any.
    server.query(&format!(
        "INSERT INTO {DATABASE}.alerts VALUES ('{job}', 'a', 'never', 'v1', 'opened', 1)"
    ));
    let silent = good(at, "/?range=1h").await;
    assert_eq!(silent.matches("<th class=\"name\"").count(), NAMES.len() + 1, "{silent}");
    for (name, shown) in [("two words", ["2 open", "2 h ago"]), ("never", ["1 open", "<td>–</td>"])]
    {
        let line = line(&silent, name);
        for shown in shown.into_iter().chain(["(no inferences)", "<td>0</td>"]) {
            assert!(line.contains(shown), "{shown} of {name}: {line}");
        }
    }
    let all = good(at, "/").await;
    let first = all.split("<tbody>").nth(1).and_then(|body| body.split("</tr>").next());
    let first = first.expect("a row");
    assert!(first.contains("two words") && line(&all, "never").contains("1 open"), "{all}");
    // Each was silent in the range, but only one was there before.
    let then = good(at, "/?range=15m&until=2026-01-05T05:30:00Z").await;
    assert!(line(&then, "two words").contains("2 open"), "{then}");
    assert!(!then.contains(">never</a>"), "{then}");
    assert!(good(at, "/?until=2026-01-04").await.contains("No rows"));
    // Models of other names, and segments that most models lack.
    let plain = good(at, "/?model=pl*&range=1h").await;
    assert!(
        line(&plain, "plain").contains(">none<") && !plain.contains(">two words</a>"),
        "{plain}"
    );
    let segment = good(at, "/?segment=region%3D%25").await;
    assert!(segment.contains("No rows") && !segment.contains("<th class=\"name\""), "{segment}");
}

#[tokio::test]
async fn a_binary_model_without_scores_stands_by_its_accuracy() {
    const TABLES: [MetricTable; 3] =
        [MetricTable::Serving, MetricTable::Labels, MetricTable::QualityBinary];
    let mut sink = ready("headline").await;
    let mut rows = Vec::new();
    for (model, labelled, scored_hours) in
        [("decided", 9, 0), ("scored", 9, 1), ("unlabelled", 0, 0)]
    {
        for (hour, table) in (0..2).flat_map(|hour| TABLES.map(|table| (hour, table))) {
            let mut row = metric_row(table, 1);
            row.key = key(model, "v1", "all", hour).into();
            let figure = |is_defined: bool, value: f64| {
                Value::Figure(if is_defined { Ok(value) } else { Err(Undefined::NoScores) })
            };
            for (column, value) in table.columns().iter().zip(&mut row.values) {
                match column.name {
                    "inferences" => *value = Value::Count(10),
                    "errors" => *value = Value::Count(0),
                    "labelled" | "n" | "n_scored" => *value = Value::Count(labelled),
                    "accuracy" => *value = figure(labelled > 0, 0.5),
                    "auroc" => *value = figure(hour < scored_hours, 0.75),
                    _ => {}
                }
            }
            rows.push(row);
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let exact = vec![("segment", "all".to_owned())];
    let filter = RowFilter { grain: Some("1h".to_owned()), exact, ..RowFilter::default() };
    let models = sink.models(&filter).await.unwrap();
    let figures = models.iter().map(|of| {
        let quality = of.quality.as_ref();
        let quality = quality.map(|of| (of.name, of.value, of.n, of.points.len()));
        (&*of.model, of.labelled, quality)
    });
    let expected = [
        ("decided", 18, Some(("Accuracy", 0.5, 9, 2))),
        ("scored", 18, Some(("AUROC", 0.75, 9, 1))),
        ("unlabelled", 0, None),
    ];
    assert_eq!(figures.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn quality_is_that_of_the_newest_window_with_enough_labels_or_with_all_of_them() {
    let mut sink = ready("settled").await;
    let mut rows = Vec::new();
    // By model: the labelled records of each hour, and whether the last one is sealed.
    for (model, counts, is_sealed) in
        [("few", [150, 3], false), ("sealed", [150, 3], true), ("new", [20, 3], false)]
    {
        for (hour, n) in (0..).zip(counts) {
            for table in [MetricTable::Serving, MetricTable::QualityBinary] {
                let mut row = metric_row(table, 1);
                row.key = key(model, "v1", "all", hour).into();
                row.sealed = is_sealed && hour == 1;
                for (column, value) in table.columns().iter().zip(&mut row.values) {
                    match column.name {
                        "inferences" => *value = Value::Count(200),
                        "errors" => *value = Value::Count(0),
                        "n" | "n_scored" => *value = Value::Count(n),
                        "auroc" => *value = Value::Figure(Ok(0.5)),
                        _ => {}
                    }
                }
                rows.push(row);
            }
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let exact = vec![("segment", "all".to_owned())];
    let filter = RowFilter { grain: Some("1h".to_owned()), exact, ..RowFilter::default() };
    let models = sink.models(&filter).await.unwrap();
    let found = models.iter().map(|of| {
        let quality = of.quality.as_ref().unwrap();
        (&*of.model, quality.n, quality.start_ms)
    });
    let [first, last] = [START_MS, START_MS + HOUR_MS];
    assert_eq!(
        found.collect::<Vec<_>>(),
        [("few", 150, first), ("new", 3, last), ("sealed", 3, last)]
    );
    let grains = sink.grains(&filter).await.unwrap();
    assert_eq!(grains.iter().map(|grain| grain.window_ms).collect::<Vec<_>>(), [HOUR_MS]);
}

#[tokio::test]
async fn a_silent_model_is_found_behind_one_of_many_versions() {
    let mut sink = ready("versions").await;
    // Of a greater seed the newest event is later.
    let of = |model: &str, version: &str, seed: u64| {
        let mut row = metric_row(MetricTable::Serving, seed);
        row.key = key(model, version, "all", 0).into();
        row
    };
    let many = u64::try_from(2 * MOST_MODELS).unwrap();
    let versions = (0..=many).map(|i| of("a", &format!("v{i:04}"), many + 1 - i));
    let rows: Vec<_> = versions.chain([of("b", "v1", 1)]).collect();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let exact = vec![("segment", "all".to_owned())];
    let since_ms = Some(START_MS + 5 * HOUR_MS);
    let grain = Some("1h".to_owned());
    let filter = RowFilter { grain, since_ms, exact, ..RowFilter::default() };
    let models = sink.models(&filter).await.unwrap();
    let found = models.iter().map(|of| (&*of.model, &*of.version, of.is_silent()));
    assert_eq!(found.collect::<Vec<_>>(), [("a", "v0000", true), ("b", "v1", true)]);
}

#[tokio::test]
async fn lines_over_time_have_the_newest_windows_and_sums_all_of_them() {
    let mut sink = ready("points").await;
    let mut rows = Vec::new();
    for hour in 0..130 {
        for table in [MetricTable::Serving, MetricTable::QualityBinary] {
            let mut row = metric_row(table, 1);
            row.key = key("m", "v1", "all", hour).into();
            let count = u64::try_from(hour).unwrap() + 1;
            for (column, value) in table.columns().iter().zip(&mut row.values) {
                match column.name {
                    "inferences" | "n_scored" => *value = Value::Count(count),
                    "errors" => *value = Value::Count(0),
                    "auroc" => *value = Value::Figure(Ok(0.5)),
                    _ => {}
                }
            }
            rows.push(row);
        }
    }
    write(&mut sink, row::metrics(JOB, &rows)).await;
    let exact = vec![("segment", "all".to_owned())];
    let filter = RowFilter { grain: Some("1h".to_owned()), exact, ..RowFilter::default() };
    let models = sink.models(&filter).await.unwrap();
    let [model] = &models[..] else { panic!("one model: {models:?}") };
    assert_eq!((model.inferences, model.errors), ((1..=130).sum::<u64>(), 0));
    let newest = 10..130_i32;
    let start = |hour: i32| START_MS + i64::from(hour) * HOUR_MS;
    let traffic = newest.clone().map(|hour| (start(hour), f64::from(hour + 1)));
    assert_eq!(model.traffic, traffic.collect::<Vec<_>>());
    let quality = model.quality.as_ref().unwrap();
    assert_eq!(quality.points, newest.map(|hour| (start(hour), 0.5)).collect::<Vec<_>>());
    assert_eq!(quality.n, 130, "scored, in the newest window");
}
