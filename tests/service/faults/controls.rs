//! Negative controls (I8): the real program with one promise broken on purpose, and a fault that lets it show. A matrix
//! that caught none of them would show nothing. Each control says by which invariants it was caught.

use std::cell::Cell;
use std::time::Duration;

use super::matrix;
use super::points::{arm, die_at};
use super::process::AFTER_SERVICE;
use super::report::{Check, Report};
use super::trial::{Plan, Trial};

const SEED_IN_CI: u64 = 42;
/// How often the fault comes.
const TIMES: usize = 3;
/// And at most where it has not met the broken promise: no insert need be on its way when ClickHouse ends.
const MOST_TIMES: usize = 20;
const BETWEEN: Duration = Duration::from_secs(2);
const CLICKHOUSE_AWAY: Duration = Duration::from_secs(2);

/// One broken promise.
pub struct Control {
    /// As in the failpoints.
    point: &'static str,
    /// Another promise that is broken beside it, where it would mend what comes of the first.
    beside: Option<&'static str>,
    /// As the program tells it.
    name: &'static str,
    /// What lets it show.
    fault: fn(&mut Trial),
    /// The invariants that catch it.
    by: &'static [&'static str],
    /// Failures that do not count: what the control writes on purpose, not what comes of it.
    but_not: Option<&'static str>,
}

const MARK_BEFORE_ROWS: Control = Control {
    point: "mark-before-rows",
    beside: None,
    name: "MarkBeforeRows",
    fault: |trial| {
        die_at(trial, "before-insert", "BeforeInsert", 2);
    },
    by: &["I1", "I3"],
    but_not: None,
};

const FAILED_INSERT_DROPPED: Control = Control {
    point: "failed-insert-dropped",
    // What is read back before a mark is written again.
    beside: Some("audit-skipped"),
    name: "FailedInsertDropped",
    fault: |trial| {
        trial.away("ClickHouse");
        trial.clickhouse.kill();
        trial.flow(CLICKHOUSE_AWAY);
        trial.clickhouse.start_again();
        trial.back("ClickHouse");
        // The next time must not meet it between two attempts.
        trial.rows_move(AFTER_SERVICE);
    },
    by: &["I1", "I3"],
    but_not: None,
};

const DUPLICATE_FOLDED: Control = Control {
    point: "duplicate-folded",
    beside: None,
    name: "DuplicateFolded",
    fault: |_| {},
    by: &["I1", "I4"],
    but_not: None,
};

const VERSION_FROM_COUNTER: Control = Control {
    point: "version-from-counter",
    beside: None,
    name: "VersionFromCounter",
    fault: |trial| {
        trial.kill(0);
        trial.add();
    },
    by: &["I1", "I3"],
    but_not: Some(": row_version is"),
};

/// Every control.
pub const ALL: &[Control] =
    &[MARK_BEFORE_ROWS, FAILED_INSERT_DROPPED, DUPLICATE_FOLDED, VERSION_FROM_COUNTER];

#[test]
fn marks_before_rows_are_caught() {
    matrix::must_be_good(&run(&MARK_BEFORE_ROWS, SEED_IN_CI));
}

#[test]
fn duplicates_folded_twice_are_caught() {
    matrix::must_be_good(&run(&DUPLICATE_FOLDED, SEED_IN_CI));
}

/// Runs a trial that must fail: a good report says by what it was caught.
pub fn run(control: &Control, seed: u64) -> Report {
    let mut plan = Plan::new(control.point, seed);
    plan.instances = 1;
    plan.seconds = 30;
    plan.replays = false;
    // Often enough that an insert meets each fault.
    plan.environment.push(("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", "300ms".to_owned()));
    for point in [Some(control.point), control.beside].into_iter().flatten() {
        arm(&mut plan, &format!("{point}=break"));
    }
    let folder = plan.folder();
    // As the failpoints tell it.
    let told = format!("failpoint {}, time 1: broken from now on", control.name);
    let is_broken = |trial: &Trial| {
        trial.runners.iter().any(|runner| runner.instance.log_text().contains(&told))
    };
    let was_broken = Cell::new(false);
    let trial = matrix::guarded("I8", control.point, seed, || {
        let (mut trial, mut times) = (Trial::start(plan), 0);
        while times < TIMES || (times < MOST_TIMES && !was_broken.get()) {
            trial.flow(BETWEEN);
            (control.fault)(&mut trial);
            was_broken.set(was_broken.get() || is_broken(&trial));
            times += 1;
        }
        trial.flow(BETWEEN);
        trial.finish()
    });
    let mut found = trial.failures();
    found.retain(|failure| control.but_not.is_none_or(|not| !failure.contains(not)));
    let by: Vec<&str> =
        control.by.iter().copied().filter(|by| first(&found, by).is_some()).collect();
    let mut failures = Vec::new();
    if by.is_empty() {
        failures.push(format!("not caught\n{}", trial.failures().join("\n")));
    }
    // The logs of a trial that failed, also in the middle of it, are kept.
    let logs = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut texts = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default());
    if !was_broken.get() && !texts.any(|text| text.contains(&told)) {
        failures.push("the promise was not broken".to_owned());
    }
    let example: String = by.first().and_then(|by| first(&found, by)).into_iter().collect();
    let about = format!("by {}: {}", by.join(", "), example.chars().take(200).collect::<String>());
    let check = Check { name: "I8 caught", compared: found.len(), about, failures };
    let title = format!("control: {}, caught by {}", control.point, by.join(", "));
    let rows_compared = trial.rows_compared.max(1);
    Report {
        title,
        rows_compared,
        injected: 1,
        least: 1,
        checks: vec![check],
        broken: None,
        ..trial
    }
}

/// The first failure of an invariant.
fn first(failures: &[String], invariant: &str) -> Option<String> {
    failures.iter().find(|failure| failure.starts_with(invariant)).cloned()
}
