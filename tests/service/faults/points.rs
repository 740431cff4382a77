//! Faults inside the process, at named points of its own: P2, P9 and D8 by the failpoints of test builds, T1 by a
//! library that shifts its wall clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::matrix::Fault;
use super::process::CLICKHOUSE;
use super::trial::{Plan, Trial};
use crate::support::log::Message;
use crate::support::oracle::Body;
use crate::support::requests;

const VARIABLE: &str = "TIDEGAUGE_FAILPOINTS";
/// The named points of P2, in the order of a flush.
const POINTS: [(&str, &str); 7] = [
    ("before-insert", "BeforeInsert"),
    ("insert-sent", "InsertSent"),
    ("states-acknowledged", "StatesAcknowledged"),
    ("seals-acknowledged", "SealsAcknowledged"),
    ("metrics-acknowledged", "MetricsAcknowledged"),
    ("mark-acknowledged", "MarkAcknowledged"),
    ("committed", "Committed"),
];
const DEADLINE: Duration = Duration::from_secs(180);
/// How long a fault of ours is waited for while a service is away: without it nothing may come by.
const DEADLINE_WITHOUT_SERVICE: Duration = Duration::from_secs(4);
/// Beyond it the group goes on without an instance that does not take part in a rebalance. Not below the session
/// timeout.
const MOST_BETWEEN_POLLS: Duration = Duration::from_secs(6);
/// The other instance's start, on a busy machine too, and the time that the group allows.
const BLOCKED: Duration = Duration::from_secs(30);
const ASLEEP: &str = "failpoint KafkaPoll";
const AWAKE: &str = ": awake";
/// Of every poll of the group's thread.
const POLLS_PER_SECOND: usize = 50;
const HOUR_SECONDS: i64 = 3600;
const CLOCK_SOURCE: &str = include_str!("clock.c");

pub const ROWS: &[Fault] = &[
    Fault {
        id: "P2",
        title: "SIGKILL at each named point of a flush",
        least: 21,
        in_ci: true,
        prepare: much_time,
        begin: die_at_a_point,
        lasts_ms: (0, 1),
        end: replace_the_dead,
        recovers_within: Duration::from_secs(10),
        injections: None,
    },
    Fault {
        id: "P9",
        title: "poll thread blocked beyond max.poll.interval.ms",
        least: 5,
        in_ci: false,
        prepare: few_seconds_between_polls,
        begin: block_the_poll_thread,
        lasts_ms: (500, 2000),
        end: wait_until_it_is_awake,
        recovers_within: Duration::from_secs(10),
        injections: None,
    },
    Fault {
        id: "D8",
        title: "request IDs with the same internal hash",
        least: 5,
        in_ci: false,
        prepare: short_hashes,
        begin: |_| {},
        lasts_ms: (500, 1500),
        end: |_| {},
        recovers_within: Duration::from_secs(10),
        injections: Some(collisions),
    },
    Fault {
        id: "T1",
        title: "the instances' wall clock jumps by an hour",
        least: 5,
        in_ci: false,
        prepare: own_clock,
        begin: jump,
        lasts_ms: (1000, 4000),
        end: jump_back,
        recovers_within: Duration::from_secs(10),
        injections: None,
    },
];

/// Adds a setting to the failpoints that a plan arms.
pub fn arm(plan: &mut Plan, setting: &str) {
    match plan.environment.iter_mut().find(|(name, _)| *name == VARIABLE) {
        Some((_, armed)) => *armed = format!("{armed},{setting}"),
        None => plan.environment.push((VARIABLE, setting.to_owned())),
    }
}

/// Starts an instance with one more failpoint; its index in `runners`.
pub fn add_armed(trial: &mut Trial, setting: &str) -> usize {
    let environment = trial.plan.environment.clone();
    arm(&mut trial.plan, setting);
    let at = trial.add();
    trial.plan.environment = environment;
    at
}

/// Lets records flow until the condition gives something; none where it does not in time, as without a service.
fn flow_for<T>(trial: &mut Trial, mut condition: impl FnMut(&mut Trial) -> Option<T>) -> Option<T> {
    let mut waited = Duration::ZERO;
    let step = Duration::from_millis(100);
    while waited < if trial.away.is_empty() { DEADLINE } else { DEADLINE_WITHOUT_SERVICE } {
        if let Some(found) = condition(trial) {
            return Some(found);
        }
        trial.flow(step);
        waited += step;
    }
    None
}

// P2.

/// An injection takes as long as a join, a few flushes and a session time-out.
fn much_time(plan: &mut Plan) {
    if plan.name == "P2" {
        plan.seconds *= 4;
        plan.records_per_second /= 3;
    }
}

/// An instance joins, and dies at the point. The points take turns.
fn die_at_a_point(trial: &mut Trial) {
    let before = trial.injections.iter().filter(|what| what.starts_with("death at ")).count();
    let (point, name) = POINTS[before % POINTS.len()];
    // A flush has several inserts.
    let times = if point == "insert-sent" { 15 } else { 4 };
    let time = 1 + trial.below(times);
    if die_at(trial, point, name, time) {
        trial.injected(&format!("death at {point}, time {time}"));
    }
}

/// Starts an instance that dies when it comes by a point for this time; whether it did.
pub fn die_at(trial: &mut Trial, point: &str, name: &str, time: usize) -> bool {
    let at = add_armed(trial, &format!("{point}@{time}=kill"));
    // Beside the trial's own, which may not end by themselves.
    let mut doomed = trial.runners.remove(at);
    let status = flow_for(trial, |_| doomed.instance.ended());
    let text = doomed.instance.log_text();
    let told = format!("failpoint {name}, time {time}: kill");
    let killed = |it: i32| Signal::try_from(it) == Ok(Signal::SIGKILL);
    if status.and_then(|it| it.signal()).is_some_and(killed) && text.contains(&told) {
        trial.note(&format!("{} died at {point}, time {time}", doomed.number));
        return true;
    }
    // Where a service is away it may not even start; where all are there, the row counts too few injections.
    trial.note(&format!("{} did not come by {point}, {status:?}\n{text}", doomed.number));
    false
}

/// The plan's number of instances goes on.
fn replace_the_dead(trial: &mut Trial) {
    if trial.there() < trial.plan.instances {
        trial.add();
    }
}

// P9.

fn few_seconds_between_polls(plan: &mut Plan) {
    let most = MOST_BETWEEN_POLLS.as_millis().to_string();
    plan.environment.push(("TIDEGAUGE__KAFKA__PROPERTIES__MAX_POLL_INTERVAL_MS", most));
    plan.environment.push(("TIDEGAUGE__DRAIN_BUDGET", "3s".to_owned()));
    if plan.name == "P9" {
        plan.seconds *= 4;
        plan.records_per_second /= 3;
    }
}

/// An instance joins, then its poll thread sleeps. Another joins meanwhile: a group that does not change would not miss
/// it, since the workers' own polls count for librdkafka too. It counts if the other gets partitions before it is awake.
fn block_the_poll_thread(trial: &mut Trial) {
    let poll = POLLS_PER_SECOND + trial.below(POLLS_PER_SECOND * 2);
    let setting = format!("kafka-poll@{poll}=sleep:{}", BLOCKED.as_millis());
    let at = add_armed(trial, &setting);
    let number = trial.runners[at].number;
    let asleep = format!("failpoint KafkaPoll, time {poll}: sleep");
    let is_asleep = flow_for(trial, |trial| log_of(trial, number)?.contains(&asleep).then_some(()));
    if is_asleep.is_none() {
        return;
    }
    trial.note(&format!("{number} does not poll for {} s", BLOCKED.as_secs()));
    let joined = trial.add();
    let joined = trial.runners[joined].number;
    let went_on = flow_for(trial, |trial| {
        let has_partitions = log_of(trial, joined)?.contains("partitions assigned");
        let is_awake = log_of(trial, number)?.contains(AWAKE);
        (has_partitions || is_awake).then_some(!is_awake)
    });
    if went_on == Some(true) {
        trial.injected("the group went on without an instance that did not poll");
    }
}

fn log_of(trial: &Trial, number: usize) -> Option<String> {
    let runner = trial.runners.iter().find(|runner| runner.number == number)?;
    Some(runner.instance.log_text())
}

/// Also ends as many as have joined, sleepers among them in turn.
fn wait_until_it_is_awake(trial: &mut Trial) {
    let is_asleep = |trial: &Trial, number: usize| {
        log_of(trial, number).is_some_and(|log| log.contains(ASLEEP) && !log.contains(AWAKE))
    };
    let newest = trial.runners.iter().map(|runner| runner.number);
    if let Some(newest) = newest.filter(|number| is_asleep(trial, *number)).max() {
        flow_for(trial, |trial| (!is_asleep(trial, newest)).then_some(()));
    }
    while trial.there() > trial.plan.instances {
        let Some(at) = trial.any_running() else { break };
        trial.stop(at);
    }
}

// D8.

fn short_hashes(plan: &mut Plan) {
    arm(plan, "short-request-id=break");
    plan.replays = false; // another job's instances would have the whole hash
    plan.traffic = requests_by_short_hash;
}

/// The usual requests, of which the oracle knows what is left of their IDs: two that collide are one request.
fn requests_by_short_hash(
    seed: u64,
    inferences: usize,
    partitions: usize,
    hours: i64,
) -> Vec<Message> {
    let short = |id: &str| format!("{:03x}", xxhash_rust::xxh3::xxh3_128(id.as_bytes()) & 0xfff);
    let mut messages = requests::make(seed, inferences, partitions, hours);
    for message in &mut messages {
        match &mut message.body {
            Body::Inference(inference) => inference.id = short(&inference.id),
            Body::Label(label) => label.id = short(&label.id),
            Body::Dead => {}
        }
    }
    messages
}

/// Inferences whose identity another one of another time has too: of the usual requests no two are of one identity.
fn collisions(trial: &Trial) -> usize {
    let mut times: BTreeMap<_, BTreeSet<i64>> = BTreeMap::new();
    for (partition, logs) in trial.logs().iter().enumerate() {
        for record in &logs.inferences {
            if let Body::Inference(one) = &record.body {
                let identity = (partition, &*one.id, &*one.model, &*one.version);
                times.entry(identity).or_default().insert(one.time);
            }
        }
    }
    times.values().map(|times| times.len() - 1).sum()
}

// T1.

fn clock_file(plan: &Plan) -> PathBuf {
    let name = format!("clock-{}-{}-{}", plan.name, plan.seed, std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Builds the library, and has every instance load it.
fn own_clock(plan: &mut Plan) {
    let file = clock_file(plan);
    std::fs::write(&file, [0; 16]).expect("the folder is ours");
    let (source, library) = (file.with_extension("c"), file.with_extension("so"));
    std::fs::write(&source, CLOCK_SOURCE).expect("the folder is ours");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .output()
        .expect("cc, which the Kafka client's build needs too");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    plan.environment.push(("LD_PRELOAD", text(&library)));
    plan.environment.push(("TEST_CLOCK", text(&file)));
}

/// Sets the clock; how many shifted times were given before.
fn set_clock(plan: &Plan, offset_seconds: i64) -> u64 {
    let file = OpenOptions::new().read(true).write(true).open(clock_file(plan));
    let file = file.expect("made before");
    let mut given = [0; 8];
    file.read_exact_at(&mut given, 8).expect("16 bytes");
    file.write_all_at(&offset_seconds.to_ne_bytes(), 0).expect("16 bytes");
    u64::from_ne_bytes(given)
}

/// Forth, or back, in turn.
fn jump(trial: &mut Trial) {
    let before = trial.injections.iter().filter(|what| what.starts_with("the clock ")).count();
    let forth = before.is_multiple_of(2);
    let given = set_clock(&trial.plan, if forth { HOUR_SECONDS } else { -HOUR_SECONDS });
    trial.injected(if forth { "the clock is put forth" } else { "the clock is put back" });
    trial.flow_until("an instance to read the shifted clock", DEADLINE, |trial| {
        let offset = if forth { HOUR_SECONDS } else { -HOUR_SECONDS };
        set_clock(&trial.plan, offset) > given
    });
}

/// By itself the Kafka client waits until wall-clock times: the control thread would wait in it for an hour longer, and
/// nothing but the worker's own start, which that thread serves, would end it.
#[test]
fn partitions_that_were_assigned_before_the_clock_was_put_back_are_read() {
    let mut plan = Plan::new("clock-back", 1);
    plan.seconds = 90;
    plan.replays = false;
    own_clock(&mut plan);
    let mut trial = Trial::start(plan);
    trial.flow_until("some samples", DEADLINE, |trial| {
        trial.samples.marks.min(trial.samples.commits) > 5
    });
    // Without records there are no commits, whose results would end the wait.
    let rate = std::mem::replace(&mut trial.plan.records_per_second, 0);
    let all = trial.sent;
    trial.flow_until("all to be counted", DEADLINE, |trial| trial.counted() == Some(all));
    set_clock(&trial.plan, HOUR_SECONDS);
    trial.away(CLICKHOUSE);
    trial.clickhouse.pause();
    let assigned = |trial: &Trial| {
        trial.runners[0].instance.log_text().matches("group: partitions assigned").count()
    };
    trial.kill(1);
    let before = assigned(&trial);
    // Its own partitions are taken away, and come back with those of the other. Where they begin it can't know yet.
    trial.flow_until("an assignment", DEADLINE, |trial| assigned(trial) > before);
    trial.flow(Duration::from_secs(1));
    set_clock(&trial.plan, 0);
    trial.clickhouse.resume();
    trial.back(CLICKHOUSE);
    trial.injected("the clock is put back");
    trial.plan.records_per_second = rate;
    trial.rows_move(Duration::from_secs(10));
    let failures = trial.finish().failures();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn jump_back(trial: &mut Trial) {
    set_clock(&trial.plan, 0);
    trial.note("the clock is right");
}
