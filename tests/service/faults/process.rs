//! Faults of processes: the program's instances, the broker, ClickHouse. And those that the standard traffic holds.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use super::matrix::{Fault, LOOSE};
use super::trial::{Plan, State, Trial, now};
use crate::support::oracle::{Body, Partition, Record};

pub const AFTER_PROCESS: Duration = Duration::from_secs(10);
pub const AFTER_SERVICE: Duration = Duration::from_secs(30);
pub const BROKER: &str = "the broker";
pub const CLICKHOUSE: &str = "ClickHouse";
/// Rows that count what the standard traffic holds.
pub const IN_TRAFFIC: [&str; 3] = ["D1", "D2", "D3"];
const MOST_INSTANCES: usize = 3;
/// An instance that lives so long without a further page is killed instead.
const NEEDS_NO_PAGE: Duration = Duration::from_secs(6);
const MEMORY_DEADLINE: Duration = Duration::from_secs(90);
/// For an instance to say what a fault has done to it.
const SHOWN_WITHIN: Duration = LOOSE;
/// So many by an instance that was held, and it has heard from the group too.
const FLUSHES: u64 = 3;
/// Of address space: less than any instance has, so that it gets no further page from the system.
const TOO_LITTLE_BYTES: usize = 48 << 20;

pub const ROWS: &[Fault] = &[
    Fault {
        id: "P1",
        title: "SIGKILL of an instance at a random time",
        least: 20,
        in_ci: true,
        prepare: as_it_is,
        begin: kill_one,
        lasts_ms: (0, 600),
        end: start_missing,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "P3",
        title: "SIGSTOP longer than the session timeout, then SIGCONT",
        least: 5,
        in_ci: true,
        prepare: as_it_is,
        begin: |trial| hold_one(trial, "P3"),
        lasts_ms: (7000, 12_000),
        end: |trial| {
            others_own_all(trial, "P3");
            wake(trial, "P3", has_lost_partitions);
        },
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "P4",
        title: "SIGSTOP shorter than the session timeout",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: |trial| hold_one(trial, "P4"),
        lasts_ms: (1000, 4000),
        end: |trial| wake(trial, "P4", has_kept_partitions),
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "P5",
        title: "scaled 1 → 3 → 1, joins and leaves at random times",
        least: 5,
        in_ci: true,
        prepare: |plan| plan.instances = 1,
        begin: scale_up,
        lasts_ms: (500, 5000),
        end: scale_down,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "P8",
        title: "killed for memory (no further page, or SIGKILL), restart loop",
        least: 5,
        in_ci: false,
        // The allocator asks the system for what it needs, and not for a gigabyte ahead.
        prepare: |plan| plan.environment.push(("MIMALLOC_DISALLOW_ARENA_ALLOC", "1".to_owned())),
        begin: starve,
        lasts_ms: (0, 500),
        end: start_missing,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "K1",
        title: "SIGKILL and restart of the broker",
        least: 5,
        in_ci: true,
        prepare: as_it_is,
        begin: kill_broker,
        lasts_ms: (200, 3000),
        end: start_broker,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "K2",
        title: "SIGSTOP of the broker, 10 to 20 s",
        least: 5,
        in_ci: false,
        prepare: as_it_is,
        begin: hold_broker,
        lasts_ms: (10_000, 20_000),
        end: resume_broker,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "C1",
        title: "SIGKILL and restart of ClickHouse",
        least: 5,
        in_ci: true,
        prepare: as_it_is,
        begin: kill_clickhouse,
        lasts_ms: (200, 3000),
        end: start_clickhouse,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "C2",
        title: "SIGSTOP of ClickHouse beyond the timeout of inserts, which it applies late",
        least: 5,
        in_ci: true,
        prepare: |plan| plan.environment.push(("TIDEGAUGE__CLICKHOUSE__TIMEOUT", "2s".to_owned())),
        begin: hold_clickhouse,
        lasts_ms: (500, 3500),
        end: resume_clickhouse,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    of_traffic("D1", "duplicates of inferences and labels", duplicates),
    of_traffic("D2", "out of order; label before inference, very late, never", out_of_order),
    of_traffic("D3", "records that cannot be used", broken),
];

/// What the log holds anyhow: nothing else is injected. (A soak's log is held against these rows' counts too.)
const fn of_traffic(
    id: &'static str,
    title: &'static str,
    injections: fn(&Trial) -> usize,
) -> Fault {
    Fault {
        id,
        title,
        least: 20,
        in_ci: false,
        prepare: as_it_is,
        begin: |_| {},
        lasts_ms: (0, 100),
        end: |_| {},
        recovers_within: AFTER_PROCESS,
        injections: Some(injections),
    }
}

/// The standard trial.
pub fn as_it_is(_: &mut Plan) {}

fn kill_one(trial: &mut Trial) {
    if let Some(at) = trial.any_running() {
        trial.kill(at);
        trial.injected("SIGKILL");
    }
}

/// As many are there as the plan says.
pub fn start_missing(trial: &mut Trial) {
    while trial.there() < trial.plan.instances {
        trial.add();
    }
}

/// Whether a trial is of this row alone. Beside another fault what the row does need not show.
fn is_alone(trial: &Trial, row: &str) -> bool {
    trial.plan.name == row
}

fn owned(trial: &Trial, number: usize) -> Option<u64> {
    let runner = trial.runners.iter().find(|runner| runner.number == number)?;
    runner.instance.meter("tidegauge_partitions")
}

/// Only who has partitions can lose them.
fn hold_one(trial: &mut Trial, by: &'static str) {
    if is_alone(trial, by) {
        trial.flow_until("each instance to own partitions", SHOWN_WITHIN, |trial| {
            let mut numbers = trial.runners.iter().map(|runner| runner.number);
            numbers.all(|number| owned(trial, number) > Some(0))
        });
    }
    if let Some(at) = trial.any_running() {
        trial.hold(at, by);
        if !is_alone(trial, by) {
            trial.injected("SIGSTOP");
        }
    }
}

/// Until the group has given all partitions to those that are not held: a busy broker may notice late that one is
/// silent.
fn others_own_all(trial: &mut Trial, row: &str) {
    if !is_alone(trial, row) {
        return;
    }
    trial.flow_until("the others to own all partitions", SHOWN_WITHIN, |trial| {
        let running = trial.runners.iter().filter(|runner| runner.state == State::Runs);
        let owned = running.filter_map(|it| it.instance.meter("tidegauge_partitions"));
        usize::try_from(owned.sum::<u64>()) == Ok(trial.plan.partitions)
    });
}

/// Lets an instance go on. It counts if it was held as the row says: `is_shown` looks at the instance of a number.
fn wake(trial: &mut Trial, by: &'static str, is_shown: fn(&mut Trial, usize) -> bool) {
    let held = trial.runners.iter().filter(|runner| runner.state == State::Held(by));
    let held: Vec<usize> = held.map(|runner| runner.number).collect();
    trial.go_on(by);
    if !is_alone(trial, by) {
        return;
    }
    for number in held {
        if is_shown(trial, number) {
            trial.injected("SIGSTOP");
        } else {
            trial.note(&format!("{number} was not held as {by} wants it"));
        }
    }
}

/// How often an instance has lost its partitions since it was held.
fn lost_since(trial: &Trial, number: usize) -> usize {
    let runner = trial.runners.iter().find(|runner| runner.number == number);
    runner.map_or(0, |runner| runner.times_lost() - runner.lost_before)
}

/// It wakes up and owns nothing any more.
fn has_lost_partitions(trial: &mut Trial, number: usize) -> bool {
    trial.flow_until(
        "an instance to be told that its partitions are lost",
        SHOWN_WITHIN,
        |trial| lost_since(trial, number) > 0,
    );
    true
}

/// It goes on with what it had.
fn has_kept_partitions(trial: &mut Trial, number: usize) -> bool {
    let mut before = None;
    trial.flow_until("an instance to flush again", SHOWN_WITHIN, |trial| {
        let runner = trial.runners.iter().find(|runner| runner.number == number);
        let flushes = runner.and_then(|it| it.instance.meter("tidegauge_flushes_total"));
        flushes.is_some_and(|flushes| flushes >= *before.get_or_insert(flushes) + FLUSHES)
    });
    lost_since(trial, number) == 0 && owned(trial, number) > Some(0)
}

fn scale_up(trial: &mut Trial) {
    while trial.running() < MOST_INSTANCES {
        trial.add();
        let pause = Duration::from_millis(trial.random.below(1500));
        trial.flow(pause);
    }
    trial.injected("1 to 3 to 1");
}

fn scale_down(trial: &mut Trial) {
    while trial.running() > trial.plan.instances.max(1) {
        let at = trial.any_running().expect("several run");
        trial.stop(at);
        let pause = Duration::from_millis(trial.random.below(1500));
        trial.flow(pause);
    }
}

/// An instance gets no more memory than it has: it aborts once its allocator needs a page. So do those that a
/// supervisor starts in its place, some times.
fn starve(trial: &mut Trial) {
    let Some(mut at) = trial.any_running() else { return };
    for _ in 0..=trial.below(3) {
        let newest = trial.runners.iter().map(|runner| runner.number).max().unwrap_or_default();
        let next = |trial: &Trial| trial.runners.iter().position(|it| it.number > newest);
        starve_one(trial, at);
        trial.flow_until("a restart", MEMORY_DEADLINE, |trial| next(trial).is_some());
        at = next(trial).expect("just seen");
    }
    trial.injected("memory refused");
}

fn starve_one(trial: &mut Trial, at: usize) {
    let runner = &mut trial.runners[at];
    runner.state = State::MayEnd("P8");
    let (number, pid) = (runner.number, runner.instance.pid().to_string());
    let limit = format!("--as={TOO_LITTLE_BYTES}");
    let limited = Command::new("prlimit").args(["--pid", &*pid, &*limit]).status();
    assert!(limited.expect("util-linux is there").success(), "prlimit of {number}");
    trial.note(&format!("{number} gets no more memory"));
    let since = now();
    let at = |trial: &Trial| trial.runners.iter().position(|it| it.number == number);
    while let Some(at) = at(trial) {
        if since.elapsed() >= NEEDS_NO_PAGE {
            // What it has is enough for it: the end that the system's out-of-memory killer makes.
            trial.kill(at);
            trial.add();
            return;
        }
        trial.flow(Duration::from_millis(100));
    }
}

fn kill_broker(trial: &mut Trial) {
    trial.away(BROKER);
    trial.kafka.kill();
    trial.injected("SIGKILL of the broker");
}

fn start_broker(trial: &mut Trial) {
    trial.kafka.start_again();
    trial.back(BROKER);
}

fn hold_broker(trial: &mut Trial) {
    trial.away(BROKER);
    trial.kafka.pause();
    trial.injected("SIGSTOP of the broker");
}

fn resume_broker(trial: &mut Trial) {
    trial.kafka.resume();
    trial.back(BROKER);
}

fn kill_clickhouse(trial: &mut Trial) {
    trial.away(CLICKHOUSE);
    trial.clickhouse.kill();
    trial.injected("SIGKILL of ClickHouse");
}

fn start_clickhouse(trial: &mut Trial) {
    trial.clickhouse.start_again();
    trial.back(CLICKHOUSE);
}

fn hold_clickhouse(trial: &mut Trial) {
    trial.away(CLICKHOUSE);
    let before = retries(trial);
    trial.clickhouse.pause();
    if is_alone(trial, "C2") {
        trial.flow_until("a call to ClickHouse to run out of time", SHOWN_WITHIN, |trial| {
            retries(trial) > before
        });
    }
    trial.injected("SIGSTOP of ClickHouse");
}

/// Of all instances.
fn retries(trial: &Trial) -> u64 {
    let each = trial.runners.iter();
    each.filter_map(|it| it.instance.meter("tidegauge_retries_total")).sum()
}

fn resume_clickhouse(trial: &mut Trial) {
    trial.clickhouse.resume();
    trial.back(CLICKHOUSE);
}

/// How often the rarer of several kinds is in the log: each is to be there as often as the row asks for.
fn least(counts: &[usize]) -> usize {
    counts.iter().copied().min().unwrap_or_default()
}

/// Further records of the same request: of inferences and of labels, whichever are fewer.
pub fn duplicates(trial: &Trial) -> usize {
    let mut more = [0; 2];
    for log in trial.logs() {
        let mut seen = BTreeSet::new();
        for record in log.inferences.iter().chain(&log.labels) {
            let (topic, identity) = match &record.body {
                Body::Inference(said) => (0, [&*said.id, &*said.model, &*said.version]),
                Body::Label(said) => (1, [&*said.id, "", "label"]),
                Body::Dead => continue,
            };
            more[topic] += usize::from(!seen.insert(identity));
        }
    }
    least(&more)
}

/// The fewest of: inferences, and labels, behind later ones by more than a minute; requests with a label before their
/// inference, with one when none is waited for any more, with none at all.
pub fn out_of_order(trial: &Trial) -> usize {
    let mut counts = [0; 5];
    for log in trial.logs() {
        let order = [&log.inferences, &log.labels].map(|topic| behind(topic));
        let requests = by_label(log, trial.plan.settings.label_wait);
        for (sum, count) in counts.iter_mut().zip(order.into_iter().chain(requests)) {
            *sum += count;
        }
    }
    least(&counts)
}

/// Records behind later ones by more than a minute.
fn behind(topic: &[Record]) -> usize {
    const MINUTE_MS: i64 = 60_000;
    let (mut count, mut newest) = (0, i64::MIN);
    for record in topic {
        let time = match &record.body {
            Body::Inference(said) => said.time,
            Body::Label(said) => said.time,
            Body::Dead => continue,
        };
        count += usize::from(time < newest.saturating_sub(MINUTE_MS));
        newest = newest.max(time);
    }
    count
}

/// Requests with a label stamped before their first inference, with one stamped after the wait, without any.
fn by_label(log: &Partition, label_wait: i64) -> [usize; 3] {
    let mut inferences: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for record in &log.inferences {
        if let Body::Inference(said) = &record.body {
            let first = inferences.entry(&said.id).or_insert((record.stamp, said.time));
            first.0 = first.0.min(record.stamp);
        }
    }
    let (mut early, mut late, mut labelled) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for record in &log.labels {
        let Body::Label(said) = &record.body else { continue };
        let Some((first, time)) = inferences.get(&*said.id) else { continue };
        labelled.insert(&*said.id);
        if record.stamp < *first {
            early.insert(&*said.id);
        }
        if record.stamp > time + label_wait {
            late.insert(&*said.id);
        }
    }
    [early.len(), late.len(), inferences.len() - labelled.len()]
}

/// Tombstones, halves, other types, missing fields.
pub fn broken(trial: &Trial) -> usize {
    let records = trial.logs().iter().flat_map(|log| log.inferences.iter().chain(&log.labels));
    records.filter(|record| matches!(record.body, Body::Dead)).count()
}
