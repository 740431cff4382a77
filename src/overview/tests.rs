use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::sink::clickhouse::ClickHouseSettings;
use crate::sink::summary::{DriftCount, ModelSummary, Quality};

const NOW_MS: i64 = 1_767_600_000_000;
const HOUR_MS: i64 = 3_600_000;
const NAMES: [&str; 7] = [
    "plain",
    "it's",
    "\"quoted\"",
    "<script>alert(1)</script>",
    "v1.2.3 & more?#=%",
    "模型 🦀",
    "a/b//c",
];

fn summary(model: &str) -> ModelSummary {
    ModelSummary {
        model: model.to_owned(),
        version: "v1".to_owned(),
        inferences: 2000,
        errors: 5,
        labelled: 500,
        latest_ms: Some(NOW_MS - 90_000),
        traffic: vec![(NOW_MS - 7_200_000, 800.0), (NOW_MS - 3_600_000, 1200.0)],
        ..ModelSummary::default()
    }
}

fn models_page(models: Vec<ModelSummary>) -> String {
    models_page_at("", models, NOW_MS)
}

fn models_page_at(view: &str, models: Vec<ModelSummary>, now_ms: i64) -> String {
    let grains = ["5m".to_owned(), "1h".to_owned()];
    let choices = Choices { grains: &grains, grain: "1h", window_ms: HOUR_MS, ..NO_CHOICE };
    models::render(&of(view), choices, models, "Job fraud", now_ms)
}

/// The order in which texts stand on a page.
fn places(page: &str, texts: &[&str]) -> Vec<usize> {
    texts
        .iter()
        .map(|text| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}")))
        .collect()
}

#[test]
fn the_models_in_trouble_stand_first() {
    let drift = |drifting, warnings| Some(DriftCount { drifting, warnings, compared: 7 });
    let quality = Quality {
        name: "AUROC",
        value: 0.8125,
        interval: Some([0.75, 0.875]),
        n: 400,
        start_ms: NOW_MS - 2 * HOUR_MS,
        points: vec![(NOW_MS - HOUR_MS, 0.8125)],
    };
    let page = models_page(vec![
        ModelSummary { quality: Some(quality), drift: drift(0, 0), ..summary("calm") },
        ModelSummary { drift: drift(0, 2), ..summary("watched") },
        ModelSummary { errors: 900, ..summary("failing") },
        ModelSummary { drift: drift(3, 1), ..summary("drifting") },
        ModelSummary { open_alerts: Some(2), ..summary("alerting") },
    ]);
    let order = [">alerting<", ">drifting<", ">watched<", ">failing<", ">calm<"];
    assert!(places(&page, &order).is_sorted(), "{page}");
    for shown in [
        "3 of 7 drift",
        "1 to watch",
        "2 open",
        "0.8125",
        "0.7500 to 0.8750, n = 400",
        "window of 2026-01-05 06:00",
        "25.00 %",
        "45.00 %",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(
        page.contains("aria-label=\"Inferences in 24 windows: 0 to 1200, newest 1200\""),
        "{page}"
    );
    assert!(page.contains("90 s ago") && page.contains("no usable labels"));
    assert_eq!(page.matches("<th scope=\"col\"").count(), 10);
    let without = models_page(vec![summary("calm")]);
    assert!(!without.contains("alerts</th>"), "no table of alerts, no column");
}

#[test]
fn a_model_without_a_figure_of_quality_says_why() {
    for (inferences, labelled, why) in [
        (2000, 500, "– (no usable labels)"),
        (2000, 0, "– (no labels)"),
        (0, 0, "– (no inferences)"),
    ] {
        let page = models_page(vec![ModelSummary { inferences, labelled, ..summary("m") }]);
        assert!(page.contains(why), "{why}: {page}");
    }
}

#[test]
fn a_model_that_fell_silent_while_an_alert_is_open_stands_above_those_that_work() {
    let silent = ModelSummary {
        model: "silent".to_owned(),
        latest_ms: Some(NOW_MS - 3 * 86_400_000),
        open_alerts: Some(1),
        ..ModelSummary::default()
    };
    let drift = Some(DriftCount { drifting: 7, warnings: 0, compared: 7 });
    let works = ModelSummary { open_alerts: Some(0), drift, ..summary("works") };
    let page = models_page(vec![works, silent]);
    assert!(places(&page, &[">silent<", "1 open", "3 d ago", ">works<"]).is_sorted(), "{page}");
    let line = "aria-label=\"Inferences in 23 windows: 0 to 0, newest 0\"";
    assert!(page.contains(line), "the row of the last window may be on its way: {page}");
}

#[test]
fn a_model_that_fell_silent_stays_between_those_in_trouble_and_the_calm_ones() {
    let silent = ModelSummary {
        model: "silent".to_owned(),
        latest_ms: Some(NOW_MS - 3 * 86_400_000),
        ..ModelSummary::default()
    };
    let calm = ModelSummary { errors: 0, ..summary("calm") };
    let page = models_page(vec![calm.clone(), silent.clone(), summary("failing")]);
    let order = [">failing<", "<tr class=\"silent\">", ">silent<", "last data 2026-01-02 08:00"];
    assert!(places(&page, &[&order[..], &[">calm<"]].concat()).is_sorted(), "{page}");
    assert!(page.contains("3 models and versions, 1 of them silent in this range;"), "{page}");
    assert!(!page.contains("No rows"), "{page}");
    let working = models_page(vec![calm]);
    assert!(!working.contains("silent in this range") && !working.contains("class=\"silent\""));
    // Where all are, the page still says what to do.
    let page = models_page(vec![silent]);
    assert!(page.contains("No rows") && page.contains(">silent<"), "{page}");
}

/// The places between which the lines of inferences, and those of quality, are drawn.
fn lines(page: &str) -> Vec<Vec<[f64; 2]>> {
    let paths = page.split("<path class=\"line\" d=\"M").skip(1);
    let place = |text: &str| {
        let (x, y) = text.split_once(' ').expect("two numbers");
        [x, y].map(|number| number.parse().expect("a number"))
    };
    paths
        .map(|path| path.split('"').next().expect("an end").split('L').map(place).collect())
        .collect()
}

/// In the middle of an hour of a day that is 114 wide.
fn middle(hour: f64) -> f64 {
    ((3.0 + (hour + 0.5) / 24.0 * 114.0) * 10.0_f64).round() / 10.0
}

#[test]
fn lines_are_over_the_whole_range_and_show_what_is_missing() {
    let start = |hour: i64| NOW_MS + (hour - 24) * HOUR_MS;
    let quality = Quality {
        name: "AUROC",
        value: 0.75,
        interval: None,
        n: 400,
        start_ms: start(20),
        points: [4, 5, 10, 19, 20].map(|hour| (start(hour), 0.75)).to_vec(),
    };
    let traffic = [4, 5, 12].map(|hour| (start(hour), 100.0)).to_vec();
    let of = ModelSummary { traffic, quality: Some(quality), ..summary("m") };
    let page = models_page(vec![of]);
    let drawn = lines(&page);
    let hours = |line: &[[f64; 2]]| line.iter().map(|place| place[0]).collect::<Vec<_>>();
    // Of quality nothing is known between its runs; a window alone is a dot.
    assert_eq!(drawn.len(), 3, "{page}");
    assert_eq!(hours(&drawn[0]), [4.0, 5.0].map(middle), "{page}");
    assert_eq!(hours(&drawn[1]), [19.0, 20.0].map(middle), "{page}");
    assert!(page.contains(&format!("cx=\"{}\" cy=\"14.5\" r=\"1.5\"", middle(10.0))), "{page}");
    assert!(page.contains("AUROC in 5 of 24 windows: "), "{page}");
    // Without a row no inference came. What the last window has may be on its way.
    let expected = [0.0, 3.0, 4.0, 5.0, 6.0, 11.0, 12.0, 13.0, 22.0].map(middle);
    assert_eq!(hours(&drawn[2]), expected, "{page}");
    let heights: Vec<f64> = drawn[2].iter().map(|place| place[1]).collect();
    assert_eq!(heights, [26.0, 26.0, 3.0, 3.0, 26.0, 26.0, 3.0, 26.0, 26.0], "{page}");
}

#[test]
fn the_window_that_has_not_ended_is_left_out_of_the_inferences_over_time() {
    let now_ms = NOW_MS + HOUR_MS / 2;
    let traffic = vec![(NOW_MS - HOUR_MS, 1200.0), (NOW_MS, 7.0)];
    let page = models_page_at("", vec![ModelSummary { traffic, ..summary("m") }], now_ms);
    assert!(page.contains("0 to 1200, newest 1200"), "{page}");
    assert!(page.contains("leave out the window that has not ended"), "{page}");
}

#[test]
fn what_was_cut_off_is_not_shown_as_missing() {
    let start = |hour: i64| NOW_MS - hour * HOUR_MS;
    let most = i64::try_from(crate::report::rows::MOST_POINTS).expect("it is small");
    let cut = (1..=most).rev().map(|hour| (start(hour), 5.0)).collect();
    let page =
        models_page_at("range=7d", vec![ModelSummary { traffic: cut, ..summary("m") }], NOW_MS);
    assert!(page.contains("Inferences in 120 windows: 5 to 5, newest 5"), "{page}");
    // The whole time is that of all rows.
    let traffic = |hours: [i64; 2]| hours.map(|hour| (start(hour), 5.0)).to_vec();
    let [old, new] = [[900, 899], [890, 889]]
        .map(|hours| ModelSummary { traffic: traffic(hours), ..summary("m") });
    let page = models_page_at("range=all", vec![old, new], NOW_MS);
    assert_eq!(page.matches("Inferences in 12 windows: 0 to 5, newest ").count(), 2, "{page}");
}

#[test]
fn names_are_only_text_and_links_lead_back_to_them() {
    let page = models_page(NAMES.map(summary).to_vec());
    assert!(!page.contains("<script"), "{page}");
    for name in NAMES {
        let address =
            View::default().of_model(name, name).of_feature(FEATURE, name).address("/feature");
        let uri: Uri = address.parse().expect("an address");
        let back = view(&uri, &["model", "feature"]).expect("it is read");
        assert_eq!(
            (&*back.model, back.version.as_deref(), &*back.feature),
            (name, Some(name), name)
        );
        let link = View::default().of_model(name, "v1").address("/model").replace('&', "&amp;");
        assert!(page.contains(&format!("href=\"{link}\"")), "{link}: {page}");
    }
}

#[test]
fn a_view_is_its_address() {
    let text = "model=m&segment=region%3Deu&grain=1h&range=7d&until=2026-01-05&version=&live=1";
    let view = View::parse(text).expect("it is read");
    assert_eq!(view.address("/model"), format!("/model?{text}"));
    let filter = view.one_model(NOW_MS, 10);
    let end = 1_767_571_200_000;
    assert_eq!((filter.since_ms, filter.until_ms), (Some(end - 7 * 86_400_000), Some(end)));
    let exact = [("segment", "region=eu".to_owned()), ("model", "m".to_owned())];
    assert_eq!((filter.exact, filter.version), (exact.to_vec(), Some(String::new())));
    assert_eq!(View::default().address("/"), "/");
    assert_eq!(View::parse("range=all").expect("known").rows(NOW_MS, 1).since_ms, None);
    for (wrong, remedy) in [
        ("range=2d", "one of 15m"),
        ("until=tomorrow", "write a day"),
        (&*format!("model={}", "x".repeat(3000)), "longer"),
    ] {
        assert!(View::parse(wrong).expect_err(wrong).contains(remedy), "{wrong}");
    }
}

fn row(table: &str, segment: &str, values: &serde_json::Value) -> Row {
    Row {
        table: table.to_owned(),
        model: "m".to_owned(),
        version: "v1".to_owned(),
        segment: segment.to_owned(),
        grain: "1h".to_owned(),
        start_ms: NOW_MS - 3_600_000,
        end_ms: NOW_MS,
        undefined: String::new(),
        values: values.as_object().expect("an object").clone(),
    }
}

fn rows() -> Vec<Row> {
    let verdict = |kind: &str, feature: &str, verdict: &str| {
        json!({"kind": kind, "feature": feature, "method": "psi", "value": 0.4, "effect": 0.4, "drift_at": 0.25,
               "verdict": verdict, "is_primary": 1, "n": 900, "reference_n": 5000, "reference_id": "r1"})
    };
    let mut rows = Vec::new();
    for (segment, inferences) in [(ALL, 1234), ("region=<eu>", 77)] {
        rows.push(row("serving", segment, &json!({"inferences": inferences, "errors": 0})));
        rows.push(row("drift", segment, &verdict("feature", "<b>amount</b>", "drift")));
        rows.push(row("drift", segment, &verdict("score", "", "ok")));
        let quality = json!({"feature": "age", "kind": "numeric", "values": 90, "p25": 20.0, "p50": 30.0, "p75": 40.0,
                             "missing_rate": 0.1});
        rows.push(row("data_quality", segment, &quality));
    }
    rows
}

fn of(query: &str) -> View {
    View::parse(query).expect("it is read")
}

const HOURLY: Choices<'static> = Choices { grain: "1h", ..NO_CHOICE };

fn model_page(view: &str, rows: Vec<Row>) -> String {
    model::render(&of(view), HOURLY, rows, "Job fraud", &References::default())
}

fn feature_page(view: &str, rows: Vec<Row>) -> String {
    model::render_feature(&of(view), HOURLY, rows, "Job fraud", &References::default())
}

#[test]
fn every_window_is_read_of_what_is_drawn_over_time_and_the_newest_of_all_else() {
    let reads = |view: &str| {
        let view = of(view);
        reads_of_model(&view.one_model(NOW_MS, MOST_ROWS), &view.segment)
    };
    let names = |reads: &[Read], of_all_segments: bool, only_newest: bool| -> Vec<&str> {
        let of = reads.iter().filter(|read| read.of_all_segments == of_all_segments);
        let of = of.filter(|read| read.filter.only_newest == only_newest);
        of.map(|read| read.table.name()).collect()
    };
    let all = reads("model=m&version=v1");
    let newest = ["calibration_bins", "data_quality", "categories"];
    assert_eq!(names(&all, false, true), newest);
    let drawn = names(&all, false, false);
    for table in ["serving", "labels", "quality_binary", "quality_estimated", "drift", "custom"] {
        assert!(drawn.contains(&table), "{table}: {drawn:?}");
    }
    assert!(!drawn.contains(&"confusion") && !drawn.contains(&"quality_threshold"), "{drawn:?}");
    let by_segment = ["labels", "quality_binary", "quality_multiclass", "quality_regression"];
    assert_eq!(names(&all, true, true), by_segment);
    assert_eq!(names(&all, true, false), ["serving"], "what can be chosen");
    for read in &all {
        let is_of_one = read.filter.exact.iter().any(|(column, _)| *column == "segment");
        assert_ne!(is_of_one, read.of_all_segments, "{read:?}");
        assert_eq!(read.filter.limit, MOST_ROWS);
    }
    let one = reads("model=m&version=v1&segment=region%3Deu");
    assert_eq!(names(&one, true, true), [""; 0], "a segment has no segments");
    assert_eq!(names(&one, true, false), ["serving"]);
    // The default cap on features, each with its categories and one row for all others.
    let categories = 256 * (crate::engine::metrics::categories::MOST_ROWS + 1);
    assert!(usize::try_from(MOST_ROWS).is_ok_and(|most| most > categories));
}

#[test]
fn a_page_says_which_rows_it_lacks() {
    let read = |table, of_all_segments| {
        let filter = RowFilter { limit: 3, ..RowFilter::default() };
        Read { table, filter, of_all_segments }
    };
    let rows = |table: &str, segments: &[&str]| -> Vec<Row> {
        segments.iter().map(|segment| row(table, segment, &json!({"inferences": 1}))).collect()
    };
    let mut found = Found::default();
    found.add(&read(MetricTable::Labels, false), rows("labels", &[ALL; 2]), ALL);
    assert_eq!(found.full, [""; 0]);
    found.add(&read(MetricTable::Drift, false), rows("drift", &[ALL; 3]), ALL);
    found.add(&read(MetricTable::Serving, true), rows("serving", &[ALL, "a=b", "a=c"]), ALL);
    assert_eq!(found.full, ["drift", "serving of all segments"]);
    let segments: Vec<_> = found.rows.iter().map(|row| &*row.segment).collect();
    assert_eq!(segments, [ALL, ALL, ALL, ALL, ALL, "a=b", "a=c"], "the chosen one once");

    let left_out = left_out(&found.full, MOST_ROWS);
    let said = "of drift, serving of all segments only the newest 20\u{202f}000 rows were read";
    for left_out in [&*left_out, ""] {
        let choices = Choices { left_out, ..HOURLY };
        let references = References::default();
        let model = model::render(&of("model=m"), choices, Vec::new(), "", &references);
        let feature = model::render_feature(&of("model=m"), choices, Vec::new(), "", &references);
        for page in [model, feature] {
            assert_eq!(page.contains(said), !left_out.is_empty(), "{page}");
            assert_eq!(page.contains("Not all is shown"), !left_out.is_empty(), "{page}");
        }
    }
}

#[test]
fn the_page_of_a_model_has_the_reports_sections_and_leads_to_each_feature() {
    let page = model_page("model=m&version=v1", rows());
    assert!(!page.contains("<b>"), "{page}");
    assert!(page.contains("1 of 2 drift") && page.contains("1\u{202f}234"), "{page}");
    let links = ["amount&lt;/b&gt;: drift", ">score: ok", ">age<"];
    assert!(places(&page, &links).is_sorted(), "{page}");
    assert!(page.contains("Verdicts of 2026-01-05 07:00 to 2026-01-05 08:00 UTC"), "{page}");
    assert!(page.contains("href=\"/feature?model=m&amp;feature=age&amp;version=v1\""), "{page}");
    for said in ["<td>region=&lt;eu&gt;</td>", "<option value=\"region=&lt;eu&gt;\">"] {
        assert!(page.contains(said), "the table and the choice of segments: {page}");
    }
    let segment = model_page("model=m&version=v1&segment=region%3D<eu>", rows());
    assert!(segment.contains(">77<") && !segment.contains("1\u{202f}234"), "{segment}");
}

#[test]
fn the_page_of_a_feature_shows_its_drift_and_values() {
    let rows = rows().into_iter().filter(|row| row.segment == ALL && row.text("feature") == "age");
    let page = feature_page("model=m&version=v1&feature=age", rows.collect());
    assert!(page.contains("<title>age of m, version v1") && page.contains("30.00"), "{page}");
    let drift =
        self::rows().into_iter().filter(|row| row.text("kind") == "score" && row.segment == ALL);
    let page = feature_page("model=m&version=v1&feature=score", drift.collect());
    assert!(page.contains("psi (main)") && page.contains("against reference r1"), "{page}");
}

#[test]
fn a_feature_that_is_called_score_is_not_the_score() {
    let quality = json!({"feature": "score", "kind": "numeric", "values": 90});
    let rows = rows().into_iter().chain([row("data_quality", ALL, &quality)]);
    let page = model_page("model=m&version=v1", rows.collect());
    let links = ["feature=score&amp;version=v1\">score: ok<", "kind=feature\">score (feature)<"];
    assert!(places(&page, &links).is_sorted(), "{page}");
    let feature = "model=m&feature=score&version=v1&kind=feature";
    for (query, by) in [(feature, "feature"), ("model=m&feature=score&version=v1", "kind")] {
        let view = of(query);
        let reads = reads_of_feature(&view.one_model(NOW_MS, 10), &view.feature, view.kind());
        let asked = reads.iter().all(|read| read.filter.exact[2] == (by, "score".to_owned()));
        assert!(asked && reads.len() == if by == "kind" { 1 } else { 3 }, "{reads:?}");
    }
    let page = feature_page(feature, Vec::new());
    assert!(
        page.contains("<title>score (feature) of m") && page.contains("name=\"kind\""),
        "{page}"
    );
    assert_eq!(of(feature).address("/feature"), format!("/feature?{feature}"));
    assert!(!of(feature).of_model("m", "v1").is_feature);
}

#[test]
fn where_nothing_is_a_page_says_what_to_do() {
    let empty = models_page(Vec::new());
    assert!(empty.contains("No rows") && empty.contains("href=\"/?range=all\""), "{empty}");
    let page = model_page("model=m&segment=a%3Db", Vec::new());
    assert!(page.contains("No rows") && page.contains("Look at all segments together"), "{page}");
    let page = feature_page("model=m&feature=x&range=all", Vec::new());
    assert!(page.contains("No rows") && !page.contains("Look at the whole time"), "{page}");
    assert!(!page.contains("Other jobs"), "{page}");
    let choices = Choices { jobs: "fraud.<files>-67e0 (newest window 2026-01-09)", ..NO_CHOICE };
    let page = models::render(&View::default(), choices, Vec::new(), "Job fraud", NOW_MS);
    let said = "Other jobs with rows: fraud.&lt;files&gt;-67e0 (newest window 2026-01-09).";
    assert!(page.contains(said) && page.contains("tidegauge serve --job"), "{page}");
}

fn settings(listen: &str, token: Option<&str>) -> OverviewSettings {
    // Nothing listens on the discard port of this machine.
    let clickhouse = ClickHouseSettings::new("http://127.0.0.1:9", "tidegauge", "fraud");
    OverviewSettings {
        listen: listen.parse().expect("an address"),
        token: token.map(str::to_owned),
        clickhouse: ClickHouse::new(clickhouse),
        about: "Job fraud".to_owned(),
        references: References::default(),
        clock: || NOW_MS,
    }
}

/// The answer to a GET with these header lines.
async fn ask(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test]
async fn every_answer_is_guarded_and_says_what_is_wrong() {
    let overview = Overview::bind(settings("127.0.0.1:0", None)).await.expect("a free port");
    let address = overview.address();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(overview.serve(std::future::pending()));
    let host = "Host: localhost\r\n";
    for (path, status, text) in [
        ("/", 503, "ClickHouse does not answer"),
        ("/model?model=m", 503, "looks again every"),
        ("/feature?model=m&feature=f", 503, "refresh: 10"),
        ("/model", 400, "does not say which model"),
        ("/feature?model=m", 400, "does not say which feature"),
        ("/?range=1y", 400, "must be one of"),
        ("/nowhere", 404, "The overview is at /."),
        ("/healthz", 200, "ok"),
        ("/style.css", 200, "prefers-color-scheme: dark"),
    ] {
        let answer = ask(address, path, host).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains(text), "{path}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{path}: {answer}");
        assert!(!answer.contains("<script") && !answer.contains("style=\""), "{path}: {answer}");
    }
    let other = ask(address, "/", "Host: evil.example\r\n").await;
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    serving.abort_all();
}

#[tokio::test]
async fn a_token_in_the_address_becomes_a_cookie() {
    let token = "0123456789abcdef";
    let overview = Overview::bind(settings("127.0.0.1:0", Some(token))).await.expect("a free port");
    let address = overview.address();
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(overview.serve(std::future::pending()));
    let closed = ask(address, "/", "Host: x\r\n").await;
    assert!(closed.starts_with("HTTP/1.1 401") && !closed.contains("set-cookie"), "{closed}");
    assert!(ask(address, "/?token=wrong", "Host: x\r\n").await.starts_with("HTTP/1.1 401"));
    let opened = ask(address, "//model?model=a%26b&token=0123456789abcdef", "Host: x\r\n").await;
    assert!(opened.starts_with("HTTP/1.1 303"), "{opened}");
    assert!(opened.contains("location: /model?model=a%26b\r\n"), "{opened}");
    let cookie = opened.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next());
    let cookie = format!("Host: x\r\nCookie: {}\r\n", cookie.expect("it is set"));
    // Let in: what is missing now is the database.
    assert!(ask(address, "/", &cookie).await.starts_with("HTTP/1.1 503"));
    let header = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    assert!(ask(address, "/", &header).await.starts_with("HTTP/1.1 503"));
    assert!(ask(address, "/healthz", "Host: x\r\n").await.starts_with("HTTP/1.1 200"));
    serving.abort_all();
}

#[tokio::test]
async fn what_others_can_reach_needs_a_token_that_cannot_be_guessed() {
    for token in [None, Some("short")] {
        let error = Overview::bind(settings("0.0.0.0:0", token)).await.expect_err("it is refused");
        assert_eq!(error.code(), "overview_open");
    }
    let open = Overview::bind(settings("0.0.0.0:0", Some("0123456789abcdef"))).await;
    let open = open.expect("with a token");
    let taken = open.address();
    let error = Overview::bind(settings(&format!("127.0.0.1:{}", taken.port()), None)).await;
    assert_eq!(error.expect_err("it is taken").code(), "overview_bind");
}

#[tokio::test]
async fn it_ends_when_asked() {
    let overview = Overview::bind(settings("127.0.0.1:0", None)).await.expect("a free port");
    overview.serve(std::future::ready(())).await;
}
