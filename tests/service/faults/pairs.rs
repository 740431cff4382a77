//! X1: two faults at once, of all rows.

use std::time::Duration;

use super::compared;
use super::matrix::{self, Fault};
use super::report::Report;
use super::trial::{Plan, Trial};

pub const ID: &str = "X1";
const TITLE: &str = "random pairs of the others";
/// Pairs in a run.
pub const LEAST: usize = 8;
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

/// Rows that bear no other fault beside them, and why.
const ALONE: &[(&str, &str)] = &[
    ("C6", "its low limit of parts stays, which merges do not reach in a table that has grown"),
    (
        "P6s",
        "a static member whose answer from the group is lost may be fenced by its own next question, and ends",
    ),
    ("P8", "it waits for its fault to strike, which needs an instance that takes in records"),
    ("K7", "it waits for all instances to end, which one that is held does not"),
    ("D7", "its traffic is Avro"),
    ("C10a", "held instances must not wake up after it"),
    ("C10b", "marks and rows go back"),
];

/// Rows that can be one of two, or one of many.
pub fn rows() -> Vec<&'static Fault> {
    let all = matrix::rows().into_iter();
    let alone = |fault: &Fault| ALONE.iter().any(|(id, _)| *id == fault.id);
    all.filter(|fault| fault.injections.is_none() && !alone(fault)).collect()
}

/// What all of them need.
pub fn prepare(plan: &mut Plan) {
    for fault in rows() {
        (fault.prepare)(plan);
    }
    plan.instances = 2;
}

/// What a row strikes: K the broker, C ClickHouse, P instances. P7 holds back whatever ClickHouse says.
fn strikes(fault: &Fault) -> Option<char> {
    if fault.id == "P7" { Some('C') } else { fault.id.chars().next() }
}

/// Rows during which no instance that starts is ready: no row is taken, or the tables are not those of the program.
const NOBODY_IS_READY: [&str; 4] = ["C7", "C7r", "C8b", "C8c"];
/// The row that goes on only when an instance that it has started is ready.
const WAITS_FOR_STARTS: &str = "P6";

/// Whether two rows do not fight for one process, as K and C rows stop and start theirs, and neither waits for what the
/// other prevents.
fn fit(a: &Fault, b: &Fault) -> bool {
    let ids = [a.id, b.id];
    let waits_in_vain =
        ids.contains(&WAITS_FOR_STARTS) && ids.iter().any(|id| NOBODY_IS_READY.contains(id));
    a.id != b.id && !waits_in_vain && (strikes(a) != strikes(b) || strikes(a) == Some('P'))
}

/// The row of C that waits for rows at its end, and not before.
const WAITS_AT_ITS_END: &str = "C8a";

/// Rows of C wait for inserts, of which there are none any more once the broker is away: they begin first, or end last.
fn in_order([a, b]: [&'static Fault; 2]) -> [&'static Fault; 2] {
    let swapped = match (strikes(a), strikes(b)) {
        (Some('K'), Some('C')) => b.id != WAITS_AT_ITS_END,
        (Some('C'), Some('K')) => a.id == WAITS_AT_ITS_END,
        _ => false,
    };
    if swapped { [b, a] } else { [a, b] }
}

pub fn run(seed: u64, times: usize) -> Report {
    let mut report = matrix::guarded(ID, TITLE, seed, || injected(seed, times));
    report.least = times;
    report
}

fn injected(seed: u64, times: usize) -> Report {
    let mut plan = Plan::new(ID, seed);
    plan.seconds = times * 20 + 15;
    prepare(&mut plan);
    if matrix::compares(ID, seed) {
        compared::prepare(&mut plan);
    }
    let mut trial = Trial::start(plan);
    let mut pairs = 0;
    while pairs < times {
        let all = rows();
        let [a, b] = [0, 1].map(|_| all[trial.below(all.len())]);
        if !fit(a, b) {
            continue;
        }
        let [a, b] = in_order([a, b]);
        let wait = |trial: &mut Trial, (least, most): (u64, u64)| {
            let lasts = matrix::between(&mut trial.random, (least / 2, most / 2 + 1));
            trial.flow(lasts);
        };
        trial.note(&format!("{} with {}", a.id, b.id));
        wait(&mut trial, (2000, 5000));
        (a.begin)(&mut trial);
        wait(&mut trial, a.lasts_ms);
        (b.begin)(&mut trial);
        wait(&mut trial, b.lasts_ms);
        (a.end)(&mut trial);
        wait(&mut trial, (0, 2000));
        (b.end)(&mut trial);
        trial.rows_move(RECOVERS_WITHIN);
        pairs += 1;
        matrix::progress(&trial, ID, pairs, times);
        trial.done(pairs, times);
    }
    let mut report = trial.finish();
    report.injected = pairs;
    report
}
