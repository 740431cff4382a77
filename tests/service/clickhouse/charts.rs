//! Every chart's SQL as each tool sends it, by the BI user, on tables in every state.

mod figures;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use tidegauge::dashboards::chart::{Chart, Definitions, Unit};
use tidegauge::dashboards::sql::{FILTERS, Tool, expand};
use tidegauge::dashboards::{metabase_query, page_charts};
use tidegauge::sink::tables::DEFAULT_DATABASE;

use super::*;

const TOOLS: [Tool; 4] = [Tool::Superset, Tool::Grafana, Tool::Metabase, Tool::ClickHouse];
const VIEWS: &str = "tidegauge_bi";
/// Quotes, spaces, dots, signs of templates and other scripts.
pub(super) const NAMES: [&str; 9] = [
    "plain",
    "it's",
    "\"quoted\"",
    "two words",
    "v1.2.3",
    "ünïcödé 模型 🦀",
    "(other)",
    "a, 'b'",
    "{{x}} $y [[z]] %",
];
/// Grafana's filters don't escape a backslash, which no job's name may hold.
const SHOWN_JOB: &str = "it's a job";
const OTHER_JOB: &str = "it's another";
const UNLABELLED: &str = "no labels";
const HOURS: i64 = 5;

/// What a viewer has chosen; the time is the day of [`START_MS`].
#[derive(Clone, Copy, Debug, Default)]
struct Chosen<'a> {
    job: Option<&'a str>,
    model: Option<&'a str>,
    version: Option<&'a str>,
    segment: Option<&'a str>,
    grain: Option<&'a str>,
}

impl<'a> Chosen<'a> {
    fn get(&self, filter: &str) -> Option<&'a str> {
        match filter {
            "job" => self.job,
            "model" => self.model,
            "version" => self.version,
            "segment" => self.segment,
            _ => self.grain,
        }
    }
}

fn quoted_twice(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// As Superset's Jinja: its functions and filters by the names and with the results that its documentation gives.
fn superset(sql: &str, chosen: Chosen<'_>) -> String {
    let mut jinja = minijinja::Environment::new();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for filter in FILTERS {
        let one = chosen.get(filter.name).map(str::to_owned);
        values.insert(filter.name.to_owned(), one.into_iter().collect());
    }
    jinja.add_function("filter_values", move |name: &str| values[name].clone());
    jinja.add_filter("where_in", |values: Vec<String>| {
        let listed: Vec<_> = values.iter().map(|value| quoted_twice(value)).collect();
        format!("({})", listed.join(", "))
    });
    let times = minijinja::context! {
        from_dttm => "2026-01-05T00:00:00", to_dttm => "2026-01-06T00:00:00",
    };
    jinja.render_str(sql, times).expect("it is Jinja")
}

/// As the data source's macros and Grafana's variables.
fn grafana(sql: &str, chosen: Chosen<'_>) -> String {
    let range = "window_start >= fromUnixTimestamp64Milli(1767571200000) AND window_start <= fromUnixTimestamp64Milli(1767657599999)";
    let mut sql = sql.replace("$__timeFilter_ms(window_start)", range);
    while let Some(at) = sql.find("$__conditionalAll(") {
        let inner = at + "$__conditionalAll(".len();
        let mut depth = 1;
        let end = inner
            + sql[inner..]
                .find(|c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth == 0
                })
                .expect("it is closed");
        let (condition, variable) = sql[inner..end].rsplit_once(", $").expect("two arguments");
        let shown = chosen.get(variable).map_or("1=1", |_| condition).to_owned();
        sql.replace_range(at..=end, &shown);
    }
    // At once, since names may hold what looks like a variable.
    let mut filled = String::new();
    let mut rest = sql.as_str();
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, after) = behind.split_once(":sqlstring}").expect("a format");
        let filter = FILTERS.iter().find(|filter| filter.name == name).expect("a variable");
        let value = chosen.get(name).or(filter.default).expect("a value");
        filled += before;
        filled += &quoted_twice(value);
        rest = after;
    }
    filled + rest
}

/// As Metabase: optional clauses stay where their variable has a value, and its driver quotes values.
fn metabase(sql: &str, chosen: Chosen<'_>, [from, to]: [Option<&str>; 2]) -> String {
    let value = |name: &str| match name {
        "from" => from.map(str::to_owned),
        "to" => to.map(str::to_owned),
        _ => {
            let filter = FILTERS.iter().find(|filter| filter.name == name).expect("a variable");
            chosen.get(name).or(filter.default).map(str::to_owned)
        }
    };
    let fill = |text: &str| {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (name, after) = behind.split_once("}}").expect("it is closed");
            let text = value(name)?.replace('\\', "\\\\").replace('\'', "\\'");
            filled.extend([before, "'", &text, "'"]);
            rest = after;
        }
        Some(filled + rest)
    };
    let mut filled = String::new();
    let mut rest = sql;
    while let Some((before, behind)) = rest.split_once("[[") {
        let (clause, after) = behind.split_once("]]").expect("it is closed");
        filled += &fill(before).expect("no default is missing");
        filled += &fill(clause).unwrap_or_default();
        rest = after;
    }
    filled + &fill(rest).expect("no default is missing")
}

/// What its driver sends with a query.
const METABASE: &str =
    "&select_sequential_consistency=1&max_result_rows=1048575&result_overflow_mode=break";
/// The day that tests look at, as the dates of its filters.
const DAY: [Option<&str>; 2] = [Some("2026-01-05"), Some("2026-01-06")];

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

struct Answer {
    columns: Vec<(String, String)>,
    rows: Vec<Json>,
}

fn ask(server: &services::ClickHouse, settings: &str, sql: &str) -> Answer {
    let url = format!(
        "{}/?user=tidegauge_bi&password=tidegauge_bi&default_format=JSONCompact{settings}",
        server.url()
    );
    let answer = http::request("POST", &url, &[], sql.as_bytes()).expect("ClickHouse answers");
    assert_eq!(answer.status, 200, "{}\n{sql}", answer.body);
    let found: Json = serde_json::from_str(&answer.body)
        .unwrap_or_else(|error| panic!("{error}: {}\n{sql}", answer.body));
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let columns = found["meta"].as_array().expect("columns");
    Answer {
        columns: columns.iter().map(|c| (text(&c["name"]), text(&c["type"]))).collect(),
        rows: found["data"].as_array().expect("rows").clone(),
    }
}

/// A chart's rows as one tool gets them.
fn run(server: &services::ClickHouse, chart: &Chart, tool: Tool, chosen: Chosen<'_>) -> Answer {
    let sql = expand(&chart.sql, tool, VIEWS);
    match tool {
        Tool::Superset => ask(server, "", &superset(&sql, chosen)),
        Tool::Grafana => ask(server, "&max_execution_time=60", &grafana(&sql, chosen)),
        Tool::Metabase => {
            let sql = metabase(&metabase_query(chart, VIEWS), chosen, DAY);
            let mut answer = ask(server, METABASE, &sql);
            if chart.kind.over_time() {
                // Its own charts put them in this order; lines of one time stay in theirs.
                answer.rows.sort_by(|a, b| a[0].as_str().cmp(&b[0].as_str()));
            }
            answer
        }
        Tool::ClickHouse => {
            let mut settings = "&param_seconds=604800&param_from=2026-01-05%2000:00:00&param_to=2026-01-06%2000:00:00".to_owned();
            for filter in FILTERS {
                let value = chosen.get(filter.name).unwrap_or("");
                settings.extend(["&param_", filter.name, "=", &percent_encoded(value)]);
            }
            ask(server, &settings, &sql)
        }
    }
}

fn is_right(unit: Unit, data_type: &str) -> bool {
    let plain = data_type.replace("Nullable(", "").replace("LowCardinality(", "").replace(')', "");
    match unit {
        Unit::Text => plain == "String" || plain == "Bool",
        Unit::Time => plain.starts_with("DateTime64(3"),
        _ => plain.starts_with("Float64") || plain.starts_with("UInt") || plain.starts_with("Int"),
    }
}

/// The columns of charts that tell how long ago something was: they differ from one look to the next.
const AGES: [(&str, &str); 2] =
    [("overview-14-freshness", "value"), ("stream-22-clocks", "behind_s")];

/// A chart's rows where an age, whatever it is, is only there or not.
fn without_ages(chart: &str, columns: &[(String, Unit)], mut rows: Vec<Json>) -> Vec<Json> {
    for (at, (name, _)) in columns.iter().enumerate() {
        if AGES.contains(&(chart, name.as_str())) {
            let known = rows.iter_mut().map(|row| &mut row[at]).filter(|age| !age.is_null());
            known.for_each(|age| *age = json!("an age"));
        }
    }
    rows
}

/// Two tables may have a line of one name: their rows of one time come in any order.
fn settle_ties(rows: &mut [Json]) {
    for tied in rows.chunk_by_mut(|a, b| a[0] == b[0] && a[1] == b[1]) {
        tied.sort_by_key(|row| row[2].to_string());
    }
}

/// The rows of every chart with this choice: each tool gets the same, in the columns that the chart promises.
fn every_chart(server: &services::ClickHouse, chosen: Chosen<'_>) -> BTreeMap<String, Vec<Json>> {
    charts_of("", server, chosen)
}

/// The same of charts whose names begin so.
fn charts_of(
    begin: &str,
    server: &services::ClickHouse,
    chosen: Chosen<'_>,
) -> BTreeMap<String, Vec<Json>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
    let definitions = Definitions::read(&folder).expect("the definitions");
    let offered = ask(server, "", &FILTERS[0].values(VIEWS, "")).rows;
    let first_job = offered.first().and_then(|row| row[0].as_str()).unwrap_or("");
    let mut all = BTreeMap::new();
    for chart in definitions.charts.iter().filter(|chart| chart.name.starts_with(begin)) {
        let mut first: Option<Vec<Json>> = None;
        for tool in TOOLS {
            // Grafana chooses the first by itself; in the other tools the SQL does.
            let job = chosen.job.or((tool == Tool::Grafana).then_some(first_job));
            let answer = run(server, chart, tool, Chosen { job, ..chosen });
            let promised = chart.all_columns();
            assert_eq!(answer.columns.len(), promised.len(), "{}", chart.name);
            for ((name, data_type), (wanted, unit)) in answer.columns.iter().zip(&promised) {
                assert_eq!(name, wanted, "{}", chart.name);
                assert!(is_right(*unit, data_type), "{}: {name} is {data_type}", chart.name);
            }
            for value in answer.rows.iter().filter_map(Json::as_array).flatten() {
                assert!(!["nan", "inf", "-inf"].iter().any(|bad| value == bad), "{}", chart.name);
            }
            let mut rows = without_ages(&chart.name, &promised, answer.rows);
            if chart.kind.over_time() {
                settle_ties(&mut rows);
            }
            let first = first.get_or_insert_with(|| rows.clone());
            assert_eq!(*first, rows, "{} in {tool:?}, {chosen:?}", chart.name);
        }
        all.insert(chart.name.clone(), first.unwrap_or_default());
    }
    all
}

/// One window's row of one table. Figures and counts of each column and hour are their own, so that none can stand for
/// another unseen.
fn metric(table: MetricTable, key: Key, grain: &str, own: u32, labelled: bool) -> MetricRow {
    let hour = u32::try_from((key.window.start.0 - START_MS) / HOUR_MS).expect("after the start");
    let columns = table.columns().iter().zip(0_u32..);
    let values = columns.map(|(column, at)| match (column.kind, column.name) {
        (Kind::Count, "bin") => Value::Count(own.into()),
        (Kind::Number, "threshold" | "bin_upper") => Value::Figure(Ok(f64::from(own) / 10.0)),
        (Kind::Number, "bin_lower") => Value::Figure(Ok(f64::from(own - 1) / 10.0)),
        (Kind::Count, "inferences") => Value::Count(100 + u64::from(hour)),
        (Kind::Count, "errors") => Value::Count(hour.into()),
        (Kind::Count, "pending") if !labelled => Value::Count(100 + u64::from(hour)),
        (Kind::Count, _) if table == MetricTable::Labels && !labelled => Value::Count(0),
        // Seven inferences are neither, which the seal audit is to show.
        (Kind::Count, "labelled") => Value::Count(90 + u64::from(hour)),
        (Kind::Count, "expired") => Value::Count(3),
        (Kind::Count, "pending") => Value::Count(0),
        (Kind::Count, _) => Value::Count(u64::from(7 + hour + 10 * at)),
        (Kind::Time, _) => Value::Time(key.window.start.0),
        // Sums of such fractions are exact in whatever order a server adds, and so are quotients by a half.
        (Kind::Number, "n_eff") => Value::Figure(Ok(0.5)),
        (Kind::Number, _) => {
            Value::Figure(Ok(0.5 + f64::from(hour) / 8.0 + f64::from(at) / 1024.0))
        }
        (Kind::Figure, _) if table != MetricTable::Serving && !labelled => {
            Value::Figure(Err(Undefined::NoLabels))
        }
        (Kind::Figure, _) => Value::Figure(Ok(f64::from(250 + 100 * hour + at) / 1000.0)),
        (Kind::Text, "verdict") => Value::Text("ok".into()),
        (Kind::Text, _) => {
            Value::Text(std::sync::Arc::<str>::from(format!("{} {own}", column.name)).into())
        }
        (Kind::Names | Kind::Sum | Kind::Sums | Kind::Cells, _) => unreachable!("state only"),
    });
    let undefined = table.columns().iter().filter(|column| {
        matches!(column.kind, Kind::Figure) && table != MetricTable::Serving && !labelled
    });
    let undefined: Vec<_> = undefined.map(|column| format!("{}=no_labels", column.name)).collect();
    MetricRow {
        table,
        grain: grain.into(),
        values: values.collect(),
        undefined: undefined.join(" "),
        sealed: labelled,
        version: Version::of(0, 1, false),
        key: key.into(),
    }
}

/// What the labelled rows of an hour have in a column.
fn held(table: MetricTable, name: &str, hour: i64) -> Json {
    let row = metric(table, key("m", "v", "all", hour), "1h", 1, true);
    let at = table.columns().iter().position(|column| column.name == name).expect("a column");
    match &row.values[at] {
        Value::Count(count) => json!(count),
        Value::Figure(Ok(figure)) => json!(figure),
        value => panic!("{name} is {value:?}"),
    }
}

/// All rows of a model in one window.
pub(super) fn rows_of(model: &str, version: &str, hour: i64, labelled: bool) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    for segment in ["all", "region=o'er"] {
        for (grain, size) in [("10s", 10_000), ("1h", HOUR_MS)] {
            let at = EventTime(START_MS + hour * HOUR_MS);
            let key =
                Key { window: Window::of(at, Millis(size)), ..key(model, version, segment, hour) };
            for table in MetricTable::ALL {
                // Of a model without labels there are only these rows.
                let always = matches!(
                    table,
                    MetricTable::Serving | MetricTable::Labels | MetricTable::QualityBinary
                );
                if !labelled && !always {
                    continue;
                }
                let own = if table.keys() == 0 { 1..2 } else { 1..4 };
                rows.extend(own.map(|own| metric(table, key.clone(), grain, own, labelled)));
            }
        }
    }
    rows
}

pub(super) async fn fill(sink: &mut ClickHouse, rows: &[MetricRow]) {
    fill_job(JOB, sink, rows).await;
}

async fn fill_job(job: &str, sink: &mut ClickHouse, rows: &[MetricRow]) {
    for table in MetricTable::ALL {
        let of: Vec<_> = rows.iter().filter(|row| row.table == table).cloned().collect();
        write(sink, row::metrics(job, &of)).await;
    }
}

/// A server with the deployed users and empty tables.
async fn deployed() -> (services::ClickHouse, ClickHouse) {
    let server = services::ClickHouse::start_with_deployed_users();
    let mut settings = ClickHouseSettings::new(&server.url(), DEFAULT_DATABASE, JOB);
    (settings.user, settings.password) = ("tidegauge".into(), "tidegauge".into());
    let sink = ClickHouse::new(settings);
    sink.init().await.expect("tables are made");
    (server, sink)
}

#[tokio::test]
async fn every_chart_of_every_tool_answers_whatever_the_tables_hold() {
    let (server, mut sink) = deployed().await;
    let nothing = Chosen::default();

    let empty = every_chart(&server, nothing);
    for (name, rows) in &empty {
        // A sum of nothing is one row with 0 or NULL; all else has no rows.
        assert!(
            rows.is_empty()
                || *rows == [json!([0])]
                || *rows == [json!([null])]
                || *rows == [json!(["0"])],
            "{name}: {rows:?}"
        );
    }
    fill_job(SHOWN_JOB, &mut sink, &rows_of(UNLABELLED, "", 0, false)).await;
    let unlabelled = every_chart(&server, nothing);
    assert_eq!(unlabelled["overview-20-traffic"].len(), 1, "a single window");
    assert_eq!(unlabelled["overview-13-coverage"], [json!([0])]);
    assert_eq!(unlabelled["overview-25-auroc"][0][2], json!(null), "undefined, not 0");
    assert!(!unlabelled["model-61-undefined"].is_empty());

    let mut rows = Vec::new();
    for name in NAMES {
        (0..HOURS).for_each(|hour| rows.extend(rows_of(name, name, hour, true)));
    }
    fill_job(SHOWN_JOB, &mut sink, &rows).await;
    write(&mut sink, row::marks(SHOWN_JOB, 0, &[mark(0, Positions { inferences: 1, labels: 1 })]))
        .await;
    let full = every_chart(&server, nothing);
    for (name, rows) in &full {
        let is_nothing = rows.is_empty() || *rows == [json!([null])];
        assert!(!is_nothing, "{name} shows nothing of the full tables");
    }
    assert_eq!(full["overview-10-models"], [json!([10])]);
    // The accounts, of models of other names, are not of these rows: 1 to 10 less 100 + 101 + ... and 100.
    assert_eq!(full["stream-11-unaccounted"], [json!([55 - (9 * 510 + 100)])]);
    for (at, name) in NAMES.into_iter().enumerate() {
        let chosen = if at.is_multiple_of(2) {
            Chosen { model: Some(name), ..nothing }
        } else {
            Chosen {
                version: Some(name),
                segment: Some("region=o'er"),
                grain: Some("10s"),
                ..nothing
            }
        };
        let shown = charts_of("overview", &server, chosen);
        let traffic = &shown["overview-20-traffic"];
        assert_eq!(traffic.len(), usize::try_from(HOURS).unwrap(), "{chosen:?}");
        assert!(traffic.iter().all(|row| row[1] == json!(format!("{name} {name}"))));
        // 100 + 101 + ... of one model and version.
        assert_eq!(shown["overview-11-inferences"], [json!([510])], "{chosen:?}");
        assert_eq!(shown["overview-12-error-rate"], [json!([10.0 / 510.0])], "{chosen:?}");
        assert_eq!(shown["overview-30-models"].len(), 1, "{chosen:?}");
    }
    let [odd, other] = [NAMES[8], NAMES[1]];
    let one = Chosen {
        model: Some(odd),
        version: Some(odd),
        segment: Some("all"),
        grain: Some("1h"),
        ..nothing
    };
    assert_eq!(every_chart(&server, one)["model-15-reliability"].len(), 3 + 2, "with a diagonal");
    let none = every_chart(&server, Chosen { model: Some(odd), version: Some(other), ..nothing });
    assert!(none["overview-20-traffic"].is_empty());

    // A second job over the same records: one is shown alone, the chosen one or else the newest.
    rows.extend(rows_of(UNLABELLED, "", 0, false));
    fill_job(OTHER_JOB, &mut sink, &rows).await;
    let marks = [mark(0, Positions { inferences: 1, labels: 1 })];
    write(&mut sink, row::marks(OTHER_JOB, 0, &marks)).await;
    let alone = every_chart(&server, Chosen { job: Some(OTHER_JOB), ..nothing });
    let text =
        |rows: &[Json], job: &str| json!(rows).to_string().replace(&json!(job).to_string(), "job");
    for (name, rows) in &full {
        assert_eq!(text(&alone[name], OTHER_JOB), text(rows, SHOWN_JOB), "{name}");
    }
    let count = || charts_of("overview-11", &server, nothing)["overview-11-inferences"].clone();
    assert_eq!(count(), [json!([9 * 510 + 100])], "of equally new ones the first by name");
    fill_job(OTHER_JOB, &mut sink, &rows_of(UNLABELLED, "", HOURS, false)).await;
    assert_eq!(count(), [json!([9 * 510 + 100 + 105])]);
}

#[tokio::test]
async fn what_can_be_chosen_and_what_the_own_page_draws_are_answered() {
    let (server, mut sink) = deployed().await;
    let rows: Vec<_> = NAMES.iter().flat_map(|name| rows_of(name, "v1", 0, true)).collect();
    fill_job(SHOWN_JOB, &mut sink, &rows).await;
    fill_job(OTHER_JOB, &mut sink, &rows_of(NAMES[0], "v1", 1, true)).await;
    let mut names = NAMES.map(|name| json!([name]));
    names.sort_by_key(ToString::to_string);
    for (filter, expected) in FILTERS.iter().zip([
        // The newest windows first.
        vec![json!([OTHER_JOB]), json!([SHOWN_JOB])],
        names.to_vec(),
        vec![json!(["v1"])],
        vec![json!(["all"]), json!(["region=o'er"])],
        vec![json!(["10s"]), json!(["1h"])],
    ]) {
        let of_job = format!("job = {}", quoted_twice(SHOWN_JOB));
        let mut found = ask(&server, "", &filter.values(VIEWS, &of_job)).rows;
        if filter.name == "model" {
            found.sort_by_key(ToString::to_string);
        }
        assert_eq!(found, expected, "{}", filter.name);
    }
    // A model of another job is not offered, and where tools choose among the rows it stands beside its job.
    let of_other = FILTERS[1].values(VIEWS, &format!("job = {}", quoted_twice(OTHER_JOB)));
    assert_eq!(ask(&server, "", &of_other).rows, [json!([NAMES[0]])]);
    let mut by_job = ask(&server, "", &FILTERS[1].values_by_job(VIEWS)).rows;
    by_job.retain(|row| row[0] == OTHER_JOB);
    assert_eq!(by_job, [json!([OTHER_JOB, NAMES[0]])]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
    let definitions = Definitions::read(&folder).unwrap();
    for dashboard in &definitions.dashboards {
        let charts = page_charts(&definitions, &dashboard.name, VIEWS);
        assert!(charts.len() >= 4, "{}", dashboard.name);
        for (title, query) in charts {
            let chosen = "&param_job=&param_model=plain&param_version=&param_segment=all&param_grain=1h\
                          &param_seconds=604800&param_from=2026-01-05&param_to=2026-01-06";
            let answer = ask(&server, chosen, &query);
            let names: Vec<_> = answer.columns.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["t", "line", "value"], "{title}");
            assert!(
                answer.columns[0].1.starts_with("UInt32")
                    || answer.columns[0].1.starts_with("Int64"),
                "{title}: {:?}",
                answer.columns
            );
            assert!(!answer.rows.is_empty(), "{title}");
        }
    }
}

/// Gives a column another value in all rows of a table.
fn set(rows: &mut [MetricRow], table: MetricTable, name: &str, value: &Value) {
    let at = table.columns().iter().position(|column| column.name == name).expect("a column");
    for row in rows.iter_mut().filter(|row| row.table == table) {
        row.values[at] = value.clone();
    }
}

#[tokio::test]
async fn sums_over_windows_take_what_labels_weigh() {
    let (server, mut sink) = deployed().await;
    let mut rows = rows_of("m", "v", 0, true);
    let mut weightless = rows_of("weightless", "v", 0, true);
    for (table, weights) in [
        (
            MetricTable::CalibrationBins,
            [("score_sum", 3.0), ("n_weight", 6.0), ("positives_weight", 3.0)],
        ),
        (
            MetricTable::QualityThreshold,
            [("tp_weight", 3.0), ("fp_weight", 2.0), ("fn_weight", 1.0)],
        ),
        (
            MetricTable::QualityClasses,
            [("tp_weight", 1.0), ("support_weight", 3.0), ("predicted_weight", 1.0)],
        ),
        (MetricTable::QualityBinary, [("tp_weight", 3.0), ("tn_weight", 1.0), ("n_weight", 8.0)]),
        (
            MetricTable::QualityMulticlass,
            [("correct_weight", 2.0), ("n_weight", 4.0), ("n_eff", 2.0)],
        ),
    ] {
        for (name, weight) in weights {
            set(&mut rows, table, name, &Value::Figure(Ok(weight)));
            set(&mut weightless, table, name, &Value::Figure(Ok(0.0)));
        }
    }
    set(&mut rows, MetricTable::QualityBinary, "n_eff", &Value::Figure(Ok(4.0)));
    rows.extend(weightless);
    fill_job(SHOWN_JOB, &mut sink, &rows).await;
    for (name, expected) in [
        ("model-15-reliability", vec![0.5, 0.5, 0.5, 0.0, 1.0]),
        ("model-17-thresholds", vec![2.0 / 3.0; 3]),
        ("model-21-classes", vec![0.5; 3]),
    ] {
        let shown = |model| {
            let chosen = Chosen { model: Some(model), ..Chosen::default() };
            let rows = charts_of(name, &server, chosen).remove(name).expect("the chart");
            let last = rows.iter().map(|row| row.as_array().and_then(|row| row.last()?.as_f64()));
            last.collect::<Vec<_>>()
        };
        assert_eq!(shown("m"), expected.into_iter().map(Some).collect::<Vec<_>>(), "{name}");
        assert!(shown("weightless").iter().all(Option::is_none), "{name}");
    }
    let nothing = Chosen::default();
    let reliability = &charts_of("model-15", &server, nothing)["model-15-reliability"];
    let of_bin = held(MetricTable::CalibrationBins, "n", 0).as_u64().expect("a count");
    let name = format!("m v, n = {}", 3 * of_bin);
    assert_eq!(reliability[..3], vec![json!([0.5, name, 0.5]); 3]);
    assert_eq!(reliability[3..], [json!([0, "perfect", 0]), json!([1, "perfect", 1])]);
    // Both tables have rows of this model: 3 + 1 + 2 right of 8 + 4, of the effective size
    // 12^2 / (8^2 / 4 + 4^2 / 2) = 6, and the interval is Wilson's of 3 of 6.
    let segments = &charts_of("model-60", &server, nothing)["model-60-segments"];
    assert_eq!(segments.len(), 2, "{segments:?}");
    for (row, segment) in segments.iter().zip(["all", "region=o'er"]) {
        let row = row.as_array().expect("a row");
        assert_eq!(row[..6], *json!([SHOWN_JOB, "m", "v", segment, 14, 0.5]).as_array().unwrap());
        let limits = [&row[6], &row[7]].map(|limit| limit.as_f64().expect("a limit"));
        let off = [limits[0] - 0.187_616_306_482_65, limits[1] - 0.812_383_693_517_35];
        assert!(off.iter().all(|off| off.abs() < 1e-9), "{limits:?}");
    }
}

#[tokio::test]
async fn metabase_shows_a_week_until_dates_are_chosen_and_loses_the_oldest_rows() {
    let (server, mut sink) = deployed().await;
    let rows: Vec<_> = (0..HOURS).flat_map(|hour| rows_of("m", "v", hour, true)).collect();
    fill_job(SHOWN_JOB, &mut sink, &rows).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
    let definitions = Definitions::read(&folder).unwrap();
    let errors = |chart: &&Chart| chart.name == "overview-21-errors";
    let chart = definitions.charts.iter().find(errors).expect("a chart over time");
    let shown = |dates: [Option<&str>; 2], more: &str| {
        let sql = metabase(&metabase_query(chart, VIEWS), Chosen::default(), dates);
        ask(&server, METABASE, &(sql + more)).rows
    };
    // All hours are of the fifth.
    for (dates, hours) in [
        (DAY, 5),
        ([Some("2026-01-05"), None], 5),
        ([Some("2026-01-06"), None], 0),
        ([None, Some("2026-01-12")], 5),
        ([None, Some("2026-01-13")], 0),
        ([None, None], 0),
    ] {
        assert_eq!(shown(dates, "").len(), hours, "{dates:?}");
    }
    assert_eq!(shown(DAY, "\nLIMIT 1")[0][0], json!("2026-01-05 04:00:00.000"));
}
