//! The users of `deploy/clickhouse`: who looks may look, and nothing else.

use tidegauge::sink::tables::DEFAULT_DATABASE;
use tidegauge::sink::tables::Databases;
use tidegauge::sink::views::views;

use super::*;

const USERS_XML: &str = include_str!("../../../deploy/clickhouse/users.d/tidegauge.xml");
const USERS_SQL: &str = include_str!("../../../deploy/clickhouse/users.sql");

/// A server with the deployed users, and tables that the deployed writer made and filled.
async fn deployed() -> services::ClickHouse {
    let server = services::ClickHouse::start_with_deployed_users();
    let mut settings = ClickHouseSettings::new(&server.url(), DEFAULT_DATABASE, JOB);
    (settings.user, settings.password) = ("tidegauge".into(), "tidegauge".into());
    let mut sink = ClickHouse::new(settings);
    sink.init().await.expect("the writer's rights suffice");
    assert!(sink.init().await.expect("again").done.is_empty());
    let rows: Vec<_> = MetricTable::ALL.into_iter().map(|table| metric_row(table, 1)).collect();
    write(&mut sink, row::metrics(JOB, &rows)).await;
    write(&mut sink, row::marks(JOB, 0, &[mark(0, Positions { inferences: 1, labels: 1 })])).await;
    server
}

fn ask(server: &services::ClickHouse, settings: &str, sql: &str) -> http::Answer {
    let url = format!("{}/?user=tidegauge_bi&password=tidegauge_bi{settings}", server.url());
    http::request("POST", &url, &[], sql.as_bytes()).expect("ClickHouse answers")
}

/// What each tool sends with its queries over HTTP: that of clickhouse-connect, which asks first what it may send; of
/// the JDBC client; of clickhouse-go, and the plugin's ad hoc filters.
const SENT: [(&str, &str); 4] = [
    ("Superset", "&client_protocol_version=54405&wait_end_of_query=1&session_id=a-1&query_id=q-1"),
    (
        "Metabase",
        "&default_format=RowBinaryWithNamesAndTypes&select_sequential_consistency=1&max_result_rows=1048575\
         &result_overflow_mode=break&session_timezone=Asia/Tokyo&query_id=q-2&compress=0",
    ),
    (
        "Grafana",
        "&default_format=Native&client_protocol_version=54460&max_execution_time=60&query_id=q-3",
    ),
    (
        "Grafana, ad hoc",
        "&additional_table_filters=%7B%27tidegauge_bi.serving%27%3A%27model%3D%5C%27none%5C%27%27%7D",
    ),
];

#[tokio::test]
async fn a_bi_user_reads_every_view_with_what_the_tools_send() {
    let server = deployed().await;
    for (tool, settings) in SENT {
        let shown = views(&Databases::of(DEFAULT_DATABASE));
        for view in shown.iter().filter(|view| view.definer) {
            let answer =
                ask(&server, settings, &format!("SELECT * FROM tidegauge_bi.{}", view.name));
            assert_eq!(answer.status, 200, "{tool}, {}: {}", view.name, answer.body);
            assert!(
                !answer.body.contains("DB::Exception"),
                "{tool}, {}: {}",
                view.name,
                answer.body
            );
        }
    }
    let filtered = ask(&server, SENT[3].1, "SELECT count() FROM tidegauge_bi.serving");
    assert_eq!(filtered.body, "0\n", "the filter holds");
    let start = ask(
        &server,
        "&session_timezone=Asia/Tokyo",
        "SELECT window_start FROM tidegauge_bi.serving",
    );
    assert_eq!(start.body, "2026-01-05 00:00:00.000\n", "UTC, whatever the session's zone");
    // What tools list: the one database, all of its views with their comments, and all settings.
    let listed = |sql: &str| ask(&server, "", sql).body;
    assert_eq!(listed("SELECT name FROM system.databases"), "tidegauge_bi\n");
    assert_eq!(listed("SELECT DISTINCT database FROM system.tables"), "tidegauge_bi\n");
    assert_eq!(listed("SELECT count() > 0, countIf(comment = '') FROM system.columns"), "1\t0\n");
    assert_eq!(listed("SELECT count() > 1000 FROM system.settings"), "1\n");
    assert_eq!(listed("SELECT getSetting('final')"), "true\n");
}

#[tokio::test]
async fn conditions_on_figures_see_the_newest_rows_only() {
    let server = deployed().await;
    let listed = |sql: &str| ask(&server, "", sql).body;
    assert_eq!(listed("SELECT getSetting('optimize_move_to_prewhere_if_final')"), "true\n");
    server.query("SYSTEM STOP MERGES");
    let count = |at: &str| {
        listed(&format!(
            "SELECT count() FROM tidegauge_bi.serving WHERE segment = 'all' AND inferences = {at}"
        ))
    };
    let old = listed("SELECT inferences FROM tidegauge_bi.serving").trim_end().to_owned();
    assert_eq!(count(&old), "1\n");
    let mut settings = ClickHouseSettings::new(&server.url(), DEFAULT_DATABASE, JOB);
    (settings.user, settings.password) = ("tidegauge".into(), "tidegauge".into());
    write(
        &mut ClickHouse::new(settings),
        row::metrics(JOB, &[metric_row(MetricTable::Serving, 3)]),
    )
    .await;
    let new = listed("SELECT inferences FROM tidegauge_bi.serving").trim_end().to_owned();
    assert_ne!(new, old);
    let parts = "SELECT sum(rows) FROM system.parts WHERE active AND database = 'tidegauge' AND table = 'serving'";
    assert_eq!(server.query(parts), "2\n", "both rows are there");
    // A condition that was looked at before the rows are merged would find the older one.
    assert_eq!([count(&old), count(&new)], ["0\n", "1\n"]);
}

#[tokio::test]
async fn a_bi_user_does_nothing_else() {
    let server = deployed().await;
    let denied = [
        // Writes and DDL.
        "INSERT INTO tidegauge_bi.serving (model) VALUES ('a')",
        "INSERT INTO tidegauge.serving (model) VALUES ('a')",
        "CREATE TABLE tidegauge_bi.x (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE x (a Int8)",
        "CREATE DATABASE x",
        "DROP VIEW tidegauge_bi.serving",
        "ALTER TABLE tidegauge.serving DELETE WHERE 1",
        "TRUNCATE TABLE tidegauge.serving",
        "GRANT SELECT ON *.* TO tidegauge_bi",
        // Elsewhere.
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM file('x', 'LineAsString')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
        "SELECT * FROM executable('a', 'TSV', 'a Int8')",
        // Other databases.
        "SELECT count() FROM tidegauge.serving",
        "SELECT count() FROM tidegauge.window_state",
        "SELECT count() FROM tidegauge.marks",
        "SELECT count() FROM system.processes",
        "SELECT count() FROM system.users",
        "KILL QUERY WHERE 1",
    ];
    for sql in denied {
        let answer = ask(&server, "", sql);
        assert!(answer.body.contains("(ACCESS_DENIED)"), "{sql}: {}", answer.body);
    }
    // Each table is hidden from merge(), which tells of none.
    assert!(ask(&server, "", "SELECT count() FROM merge('tidegauge', '.*')").status >= 400);
    let wrong = format!("{}/?user=tidegauge_bi&password=", server.url());
    assert!(http::request("POST", &wrong, &[], b"SELECT 1").unwrap().status >= 400);
    // Who may not write is told so.
    let mut settings = ClickHouseSettings::new(&server.url(), DEFAULT_DATABASE, JOB);
    (settings.user, settings.password) = ("tidegauge_bi".into(), "tidegauge_bi".into());
    let batch = row::seals(JOB, 0, &[(PartitionId(0), EventTime(1))]).unwrap();
    let refused = ClickHouse::new(settings).write(&batch).await.unwrap_err();
    assert_eq!(refused.code(), "clickhouse_refused");
}

#[test]
fn a_bi_user_raises_no_limits() {
    let server = services::ClickHouse::start_with_deployed_users();
    let limits = [
        "max_execution_time=301",
        "max_execution_time=0",
        "max_memory_usage=0",
        "max_memory_usage=4000000001",
        "max_result_rows=0",
        "max_result_rows=1048577",
        "readonly=0",
        "readonly=2",
        "final=0",
        "max_threads=64",
        "join_use_nulls=1",
    ];
    for limit in limits {
        for (settings, sql) in [
            (format!("&{limit}"), "SELECT 1".to_owned()),
            (String::new(), format!("SELECT 1 SETTINGS {limit}")),
            (String::new(), format!("SET {limit}")),
        ] {
            let answer = ask(&server, &settings, &sql);
            let refused = ["(READONLY)", "(SETTING_CONSTRAINT_VIOLATION)"];
            assert!(
                refused.iter().any(|r| answer.body.contains(r)),
                "{sql} {settings}: {}",
                answer.body
            );
        }
    }
}

#[test]
fn both_forms_of_the_users_say_the_same() {
    let statements: Vec<&str> =
        USERS_SQL.split(";\n").filter(|s| s.contains("CREATE") || s.contains("GRANT")).collect();
    assert_eq!(statements.len(), 8);
    for sql in &statements {
        // The embedded server keeps no users, but it reads the language.
        let url = format!("{}/?param_bi_password=a&param_password=b", server().url());
        let read =
            http::request("POST", &url, &[], format!("EXPLAIN AST {sql}").as_bytes()).unwrap();
        assert_eq!(read.status, 200, "{}", read.body);
    }
    let grants = |user: &str| -> Vec<String> {
        let end = format!(" TO {user}");
        statements
            .iter()
            .filter_map(|s| s.lines().last()?.strip_suffix(&end))
            .map(str::to_owned)
            .collect()
    };
    let in_xml: Vec<_> = USERS_XML
        .lines()
        .filter_map(|line| line.trim().strip_prefix("<query>")?.strip_suffix("</query>"))
        .collect();
    assert_eq!([grants("tidegauge_bi"), grants("tidegauge")].concat(), in_xml);

    let profile = USERS_XML
        .split("<tidegauge_bi>")
        .nth(1)
        .and_then(|rest| rest.split("</tidegauge_bi>").next())
        .unwrap();
    let (values, constraints) = profile.split_once("<constraints>").unwrap();
    let tag = |line: &str| {
        line.trim().strip_prefix('<').and_then(|l| l.split('>').next()).unwrap_or("").to_owned()
    };
    let between = |line: &str, name: &str| {
        line.split_once(&format!("<{name}>"))?.1.split('<').next().map(str::to_owned)
    };
    let mut expected: Vec<String> = Vec::new();
    for line in values.lines().chain(constraints.lines()).filter(|l| l.trim().starts_with('<')) {
        let name = tag(line);
        let limits = [("min", "MIN"), ("max", "MAX")]
            .into_iter()
            .filter_map(|(xml, sql)| Some(format!(" {sql} {}", between(line, xml)?)))
            .collect::<String>();
        let changeable =
            if line.contains("changeable_in_readonly") { " CHANGEABLE_IN_READONLY" } else { "" };
        match expected.iter_mut().find(|e| e.starts_with(&format!("{name} "))) {
            Some(known) => *known += &(limits + changeable),
            None if changeable.is_empty() && line.contains("</") && !name.starts_with('/') => {
                expected.push(format!("{name} = {}", between(line, &name).unwrap()));
            }
            None if !changeable.is_empty() => expected.push(format!("{name}{limits}{changeable}")),
            None => {}
        }
    }
    let in_sql: Vec<_> =
        statements[0].split("SETTINGS\n").nth(1).unwrap().split(",\n").map(str::trim).collect();
    assert_eq!(in_sql, expected);
}
