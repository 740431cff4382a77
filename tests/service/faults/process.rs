//! Faults of processes: the program's instances, the broker, ClickHouse. And those that the standard traffic holds.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use super::matrix::Fault;
use super::trial::{Plan, State, Trial, now};
use crate::support::oracle::Body;

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
        end: |trial| trial.go_on("P3"),
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
        lasts_ms: (1000, 4500),
        end: |trial| trial.go_on("P4"),
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
        lasts_ms: (3000, 6000),
        end: resume_clickhouse,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    of_traffic("D1", "duplicates of inferences and labels", duplicates),
    of_traffic("D2", "out of order; label before inference, very late, never", out_of_order),
    of_traffic("D3", "records that cannot be used", broken),
];

/// What the log holds anyhow: nothing else is injected. (Every trial's log is held against these rows' counts.)
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

fn hold_one(trial: &mut Trial, by: &'static str) {
    if let Some(at) = trial.any_running() {
        trial.hold(at, by);
        trial.injected("SIGSTOP");
    }
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
    trial.clickhouse.pause();
    trial.injected("SIGSTOP of ClickHouse");
}

fn resume_clickhouse(trial: &mut Trial) {
    trial.clickhouse.resume();
    trial.back(CLICKHOUSE);
}

/// Further records of the same request, in both topics.
pub fn duplicates(trial: &Trial) -> usize {
    let mut more = 0;
    for log in trial.logs() {
        let mut seen = BTreeSet::new();
        for record in log.inferences.iter().chain(&log.labels) {
            more += usize::from(match &record.body {
                Body::Inference(said) => !seen.insert([&*said.id, &*said.model, &*said.version]),
                Body::Label(said) => !seen.insert([&*said.id, "", "label"]),
                Body::Dead => false,
            });
        }
    }
    more
}

/// Records behind later ones by more than a minute, and labels stamped before their inference.
pub fn out_of_order(trial: &Trial) -> usize {
    const MINUTE_MS: i64 = 60_000;
    let mut count = 0;
    for log in trial.logs() {
        for topic in [&log.inferences, &log.labels] {
            let mut newest = i64::MIN;
            for record in topic {
                let time = match &record.body {
                    Body::Inference(said) => said.time,
                    Body::Label(said) => said.time,
                    Body::Dead => continue,
                };
                count += usize::from(time < newest.saturating_sub(MINUTE_MS));
                newest = newest.max(time);
            }
        }
    }
    count
}

/// Tombstones, halves, other types, missing fields.
pub fn broken(trial: &Trial) -> usize {
    let records = trial.logs().iter().flat_map(|log| log.inferences.iter().chain(&log.labels));
    records.filter(|record| matches!(record.body, Body::Dead)).count()
}
