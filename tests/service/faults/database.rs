//! What happens to ClickHouse itself: parts that are not merged, a full disk, a server that only reads, tables that
//! are altered under the program, and a server that loses what it had acknowledged.
//!
//! A full disk is made by the server's own threshold for inserts, which ends in the same refusal (code 243) as a disk
//! without room, table by table, and needs no right to mount anything. A limit on file sizes would kill the server by
//! a signal instead.

use std::time::Duration;

use super::compared;
use super::matrix::Fault;
use super::process::as_it_is;
use super::samples::METRICS;
use super::trial::{JOB, Plan, Runner, State, TOPICS, Trial};
use crate::support::job::{Instance, Job, sections};
use crate::support::log::Producer;
use crate::support::services::{ClickHouse, Kafka};
use crate::support::{oracle, requests, wait_until};

/// After ClickHouse was in the way, whatever of it.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);
/// Until instances have met the fault.
const SEEN_WITHIN: Duration = Duration::from_secs(180);
/// Parts of one month that a table may have in [`too_many_parts`].
const MOST_PARTS: usize = 10;
/// Tables that rows are written to in every trial, in the order of a flush.
const TABLES: [&str; 6] = ["window_state", "seals", "serving", "labels", "quality_binary", "marks"];
/// Columns and types that look alike, and that the values fit.
const OTHER_TYPES: [(&str, &str, &str, &str); 5] = [
    ("window_state", "inferences", "UInt64", "Int64"),
    ("serving", "errors", "UInt64", "UInt32"),
    ("labels", "labelled", "UInt64", "UInt32"),
    ("quality_binary", "n", "UInt64", "Int64"),
    ("marks", "label_floor", "Int64", "Int32"),
];
/// The user may do all but insert.
const READ_ONLY: &str = "<clickhouse>
  <profiles><default></default></profiles>
  <users><default>
    <password></password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota>
    <grants><query>GRANT SELECT, ALTER, CREATE, DROP, OPTIMIZE, SYSTEM ON *.*</query></grants>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
";

pub const ROWS: &[Fault] = &[
    Fault {
        id: "C6",
        title: "too many parts",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: too_many_parts,
        lasts_ms: (1000, 4000),
        end: merge_again,
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C7",
        title: "disk full",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: disk_full,
        lasts_ms: (1000, 4000),
        end: |trial| alter_each(trial, "RESET SETTING min_free_disk_ratio_to_perform_insert"),
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C7r",
        title: "server that lets only read",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: |trial| {
            restart(trial, Some(READ_ONLY));
            until_told(trial, "Grant the user");
            trial.injected("ClickHouse only reads");
        },
        lasts_ms: (500, 3000),
        end: |trial| restart(trial, None),
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C8a",
        title: "column added",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: add_columns,
        lasts_ms: (1000, 3000),
        end: drop_columns,
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C8b",
        title: "column of another type",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: change_a_type,
        lasts_ms: (500, 3000),
        end: change_types_back,
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C8c",
        title: "table away, and back with its rows",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: take_a_table_away,
        lasts_ms: (500, 3000),
        end: put_tables_back,
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C9",
        title: "merges stopped and forced",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: stop_and_force_merges,
        lasts_ms: (500, 3000),
        end: |trial| {
            trial.clickhouse.query("SYSTEM START MERGES");
            force_merges(trial);
        },
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C10a",
        title: "older data put back, instances stopped",
        least: 5,
        in_ci: false,
        prepare: marks_go_back,
        begin: |trial| {
            put_back_older_data(trial, true);
            while trial.runners.len() < trial.plan.instances {
                trial.add();
            }
        },
        lasts_ms: (0, 1000),
        end: |_| {},
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
    Fault {
        id: "C10b",
        title: "older data put back, instances running",
        least: 5,
        in_ci: false,
        prepare: rows_go_back_under_instances,
        begin: |trial| put_back_older_data(trial, false),
        lasts_ms: (0, 1000),
        end: |_| {},
        recovers_within: RECOVERS_WITHIN,
        injections: None,
    },
];

/// Offsets committed before are ahead of marks that went back.
fn marks_go_back(plan: &mut Plan) {
    plan.samples_commits = false;
}

fn rows_go_back_under_instances(plan: &mut Plan) {
    marks_go_back(plan);
    plan.samples_marks = false;
}

fn any<'a, T>(trial: &mut Trial, of: &'a [T]) -> &'a T {
    &of[trial.random.index(of.len())]
}

fn alter_each(trial: &mut Trial, what: &str) {
    for table in tables(trial) {
        trial.clickhouse.query(&format!("ALTER TABLE tidegauge.{table} {what}"));
    }
}

/// All tables of the trial that rows are written to.
fn tables(trial: &Trial) -> Vec<&'static str> {
    let more = compared::READ.map(|(table, _)| table).into_iter();
    TABLES.into_iter().chain(more.filter(|_| trial.plan.compares)).collect()
}

fn any_table(trial: &mut Trial) -> &'static str {
    let tables = tables(trial);
    tables[trial.random.index(tables.len())]
}

/// Records flow until an instance says on `/readyz` that it is kept from working, and why. One that is held would not
/// answer.
pub fn until_told(trial: &mut Trial, why: &str) {
    trial.flow_until(&format!("/readyz to say {why:?}"), SEEN_WITHIN, |trial| {
        let is_held = |runner: &&Runner| matches!(runner.state, State::Held(_));
        trial.runners.iter().filter(|runner| !is_held(runner)).any(|runner| {
            let answer = runner.instance.get("/readyz");
            answer.is_ok_and(|it| it.status == 503 && it.body.contains(why))
        })
    });
}

fn too_many_parts(trial: &mut Trial) {
    // Seal marks are too rare.
    let table = *any(trial, &["window_state", "serving", "labels", "quality_binary", "marks"]);
    alter_each(trial, "RESET SETTING parts_to_delay_insert, parts_to_throw_insert");
    trial.clickhouse.query("SYSTEM STOP MERGES");
    trial.clickhouse.query(&format!(
        "ALTER TABLE tidegauge.{table} MODIFY SETTING parts_to_delay_insert = {}, parts_to_throw_insert = {MOST_PARTS}",
        MOST_PARTS - 1
    ));
    until_told(trial, "Code: 252");
    trial.injected(&format!("too many parts of {table}"));
}

/// The limits stay as they are: it is by merges that inserts are taken again.
fn merge_again(trial: &mut Trial) {
    trial.clickhouse.query("SYSTEM START MERGES");
}

fn disk_full(trial: &mut Trial) {
    let table = any_table(trial);
    trial.clickhouse.query(&format!(
        "ALTER TABLE tidegauge.{table} MODIFY SETTING min_free_disk_ratio_to_perform_insert = 1.0"
    ));
    until_told(trial, "Free disk space on the server");
    trial.injected(&format!("no room for {table}"));
}

fn restart(trial: &mut Trial, users: Option<&str>) {
    trial.away("ClickHouse");
    trial.clickhouse.kill();
    trial.clickhouse.set_users(users);
    trial.clickhouse.start_again();
    trial.back("ClickHouse");
}

fn add_columns(trial: &mut Trial) {
    let place = *any(trial, &["", " FIRST"]);
    for table in tables(trial) {
        // The harness samples metric rows whole, and takes a column more for a difference: this kind is not in `*`.
        let is_whole = METRICS.contains(&table) || !TABLES.contains(&table);
        let kind = if is_whole { "MATERIALIZED" } else { "DEFAULT" };
        trial.clickhouse.query(&format!(
            "ALTER TABLE tidegauge.{table} ADD COLUMN added_by_hand String {kind} 'nothing'{place}"
        ));
    }
    trial.injected("a column more in each table");
}

/// They did no harm: nobody complains, and rows went on.
fn drop_columns(trial: &mut Trial) {
    let counted = trial.counted();
    trial.flow_until("rows to go on", SEEN_WITHIN, |trial| trial.counted() > counted);
    let mut told = Vec::new();
    // Whoever wrote them listens. One that is held would not answer, and one that was just started may not yet.
    trial.flow_until("an instance to answer", SEEN_WITHIN, |trial| {
        let is_held = |runner: &&Runner| matches!(runner.state, State::Held(_));
        let asked = trial.runners.iter().filter(|runner| !is_held(runner));
        told = asked.filter_map(|runner| runner.instance.get("/readyz").ok()).collect();
        !told.is_empty()
    });
    for answer in told {
        assert!(!answer.body.contains("not those of this version"), "{}", answer.body);
    }
    alter_each(trial, "DROP COLUMN added_by_hand");
}

fn change_a_type(trial: &mut Trial) {
    let (table, column, _, other) = *any(trial, &OTHER_TYPES);
    trial
        .clickhouse
        .query(&format!("ALTER TABLE tidegauge.{table} MODIFY COLUMN {column} {other}"));
    until_told(trial, table);
    trial.injected(&format!("{table}.{column} is {other}"));
}

fn change_types_back(trial: &mut Trial) {
    for (table, column, right, _) in OTHER_TYPES {
        let sql = format!("ALTER TABLE tidegauge.{table} MODIFY COLUMN {column} {right}");
        trial.clickhouse.query(&sql);
    }
}

fn take_a_table_away(trial: &mut Trial) {
    let table = any_table(trial);
    trial.clickhouse.query(&format!("RENAME TABLE tidegauge.{table} TO tidegauge.{table}_away"));
    until_told(trial, table);
    trial.injected(&format!("{table} is away"));
}

fn put_tables_back(trial: &mut Trial) {
    for table in tables(trial) {
        let sql = format!("RENAME TABLE IF EXISTS tidegauge.{table}_away TO tidegauge.{table}");
        trial.clickhouse.query(&sql);
    }
}

fn stop_and_force_merges(trial: &mut Trial) {
    let table = any_table(trial);
    match trial.random.below(3) {
        0 => {
            trial.clickhouse.query("SYSTEM STOP MERGES");
        }
        1 => {
            trial.clickhouse.query(&format!("SYSTEM STOP MERGES tidegauge.{table}"));
        }
        _ => force_merges(trial),
    }
    trial.injected("merges");
}

fn force_merges(trial: &mut Trial) {
    for table in tables(trial) {
        trial.clickhouse.query(&format!("OPTIMIZE TABLE tidegauge.{table} FINAL"));
    }
}

/// Copies the data while records flow, and puts the copy back some seconds later.
fn put_back_older_data(trial: &mut Trial, is_stopped_first: bool) {
    trial.clickhouse.pause();
    let copy = trial.clickhouse.copy_data();
    trial.clickhouse.resume();
    let counted = trial.counted().expect("ClickHouse answers");
    trial.note(&format!("a copy, {counted} records counted"));
    let lasts = Duration::from_millis(500 + trial.random.below(4000));
    trial.flow(lasts);
    trial.flow_until("records to be counted that will be lost", SEEN_WITHIN, |trial| {
        trial.counted() > Some(counted)
    });
    let lost = trial.counted().expect("ClickHouse answers") - counted;
    while is_stopped_first && let Some(at) = trial.any_running() {
        trial.kill(at);
    }
    trial.away("ClickHouse");
    trial.clickhouse.kill();
    trial.clickhouse.put_back(&copy);
    trial.clickhouse.start_again();
    trial.back("ClickHouse");
    trial.injected(&format!("older data put back, {lost} records less"));
}

/// `init` after a table was dropped gives an empty one. Whoever went on with it would write rows that lack what was
/// sealed before; so all wait, a start is refused, and what `/readyz` says is what helps.
#[test]
fn a_table_made_anew_is_waited_for_and_its_remedy_brings_all_rows_back() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let settings = requests::settings();
    let mut job = Job::new(JOB, &kafka, &clickhouse, TOPICS, &settings, &sections(TOPICS));
    job.create_topics(&kafka, 4);
    job.run(&["init"], 0, SEEN_WITHIN);
    let mut producer = Producer::new(kafka.client_config(), TOPICS, 4);
    let mut messages = requests::make(8, 12_000, 4, 28).into_iter();
    let mut send = |producer: &mut Producer, count: usize| {
        messages.by_ref().take(count).for_each(|message| producer.send(message));
        producer.flush();
        producer.logs.iter().map(|logs| logs.inferences.len() + logs.labels.len()).sum::<usize>()
    };
    for table in ["window_state", "seals"] {
        let total = send(&mut producer, 4000);
        let instances = [0, 1].map(|_| job.start(&["run"]));
        job.wait_for_records(&clickhouse, total, SEEN_WITHIN);
        // One that only starts would take the new table for the old one.
        for instance in &instances {
            let owned = || instance.meter("tidegauge_partitions") > Some(0);
            wait_until("each instance to own partitions", SEEN_WITHIN, owned);
        }
        let drop = |table: &str| clickhouse.query(&format!("DROP TABLE tidegauge.{table} SYNC"));
        drop(table);
        job.run(&["init"], 0, SEEN_WITHIN);
        send(&mut producer, 500);
        for instance in &instances {
            let told = instance.wait_for_readiness(503, "made anew", SEEN_WITHIN);
            assert!(told.contains(table) && told.contains("marks and seals"), "{told}");
        }
        let rows = clickhouse.query(&format!("SELECT count() FROM tidegauge.{table}"));
        assert_eq!(rows, "0\n", "nothing is written to {table}");
        instances.into_iter().for_each(Instance::kill);
        if table == "window_state" {
            let said = job.run(&["run", "--until-end"], 3, SEEN_WITHIN);
            assert!(said.contains("error[clickhouse_schema]") && said.contains(table), "{said}");
        }
        drop("marks");
        drop("seals");
        job.run(&["init"], 0, SEEN_WITHIN);
        job.run(&["run", "--until-end"], 0, SEEN_WITHIN);
        job.must_equal(&clickhouse, &oracle::compute(&settings, &producer.logs));
    }
}
