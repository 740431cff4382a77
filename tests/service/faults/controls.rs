//! Negative controls (I8): the real program with one promise broken on purpose, and a fault that lets it show. A matrix
//! that caught none of them would show nothing. Each control says by which invariants it was caught.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::matrix::{self, Asked};
use super::points::{arm, die_at};
use super::report;
use super::trial::{Plan, Trial};

const SEED_IN_CI: u64 = 42;
/// How often the fault comes at most.
const TIMES: usize = 3;
const BETWEEN: Duration = Duration::from_secs(2);
const CLICKHOUSE_AWAY: Duration = Duration::from_secs(2);

/// One broken promise.
struct Control {
    /// As in the failpoints.
    point: &'static str,
    /// As the program tells it.
    name: &'static str,
    instances: usize,
    /// What lets it show.
    fault: fn(&mut Trial),
    /// The invariants that catch it.
    by: &'static [&'static str],
    /// What would be seen only because the control writes other numbers of rows or versions than it should.
    but_not: Option<&'static str>,
}

const MARK_BEFORE_ROWS: Control = Control {
    point: "mark-before-rows",
    name: "MarkBeforeRows",
    instances: 1,
    fault: |trial| {
        die_at(trial, "before-insert", "BeforeInsert", 2);
    },
    by: &["I1", "I3"],
    but_not: None,
};

const FAILED_INSERT_DROPPED: Control = Control {
    point: "failed-insert-dropped",
    name: "FailedInsertDropped",
    instances: 1,
    fault: |trial| {
        trial.away("ClickHouse");
        trial.clickhouse.kill();
        trial.flow(CLICKHOUSE_AWAY);
        trial.clickhouse.start_again();
        trial.back("ClickHouse");
    },
    by: &["I1", "I3"],
    but_not: None,
};

const DUPLICATE_FOLDED: Control = Control {
    point: "duplicate-folded",
    name: "DuplicateFolded",
    instances: 1,
    fault: |_| {},
    by: &["I1", "I4"],
    but_not: None,
};

const VERSION_FROM_COUNTER: Control = Control {
    point: "version-from-counter",
    name: "VersionFromCounter",
    instances: 1,
    fault: |trial| {
        trial.kill(0);
        trial.add();
    },
    by: &["I1", "I3"],
    but_not: Some(": row_version is"),
};

#[test]
fn marks_before_rows_are_caught() {
    println!("{}", must_be_caught(&MARK_BEFORE_ROWS, SEED_IN_CI));
}

#[test]
fn duplicates_folded_twice_are_caught() {
    println!("{}", must_be_caught(&DUPLICATE_FOLDED, SEED_IN_CI));
}

/// All of them, where `TIDEGAUGE_FAULTS` asks for `I8`; writes `target/faults/controls.md`.
pub fn run_asked(asked: &Asked) {
    if !asked.includes("I8") {
        return;
    }
    let mut text = String::new();
    let all =
        [&MARK_BEFORE_ROWS, &FAILED_INSERT_DROPPED, &DUPLICATE_FOLDED, &VERSION_FROM_COUNTER];
    for control in all {
        let line = must_be_caught(control, asked.seed);
        eprintln!("{line}");
        writeln!(text, "- {line}").expect("memory");
    }
    std::fs::write(report::folder().join("controls.md"), text).expect("the folder is ours");
}

/// Runs a trial that must fail; says by what it was caught.
fn must_be_caught(control: &Control, seed: u64) -> String {
    let mut plan = Plan::new(control.point, seed);
    plan.instances = control.instances;
    plan.seconds = 30;
    plan.replays = false;
    arm(&mut plan, &format!("{}=break", control.point));
    let folder = plan.folder();
    let report = matrix::guarded("I8", control.point, seed, || {
        let mut trial = Trial::start(plan);
        for _ in 0..TIMES {
            trial.flow(BETWEEN);
            (control.fault)(&mut trial);
        }
        trial.flow(BETWEEN);
        trial.finish()
    });
    let mut failures = report.failures();
    failures.retain(|failure| control.but_not.is_none_or(|not| !failure.contains(not)));
    let found = |number: &&str| failures.iter().any(|it| it.starts_with(*number));
    let caught: BTreeSet<&str> = control.by.iter().copied().filter(found).collect();
    let first = failures.iter().find(|it| caught.iter().any(|number| it.starts_with(number)));
    let Some(first) = first else {
        panic!("{}: not caught with seed {seed}\n{}", control.point, failures.join("\n"));
    };
    // The logs of a failed trial are kept.
    let told = format!("failpoint {}, time 1: broken from now on", control.name);
    let logs = std::fs::read_dir(&folder).expect("kept").flatten();
    let texts = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default());
    assert!(texts.into_iter().any(|text| text.contains(&told)), "{}: not broken", control.point);
    let by: Vec<&str> = caught.into_iter().collect();
    let shown: String = first.chars().take(160).collect();
    format!("{}: caught by {} with seed {seed}: {shown}", control.point, by.join(", "))
}
