//! P6: the instances of a job are restarted one after the other, as an orchestrator does it: SIGTERM, the end waited
//! for, a new one, its readiness waited for, then the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::matrix::Fault;
use super::trial::{JOB, Plan, Runner, State, Trial, now};
use crate::support::http;

/// For an end and for a start, in a debug build on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(180);
const AFTER_PROCESS: Duration = Duration::from_secs(10);
/// How often the marks are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub const ROWS: &[Fault] = &[
    Fault {
        id: "P6",
        title: "rolling restart of three instances",
        least: 5,
        in_ci: false,
        prepare: three,
        begin: restart_all,
        lasts_ms: (0, 1000),
        end: nothing,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "P6s",
        title: "rolling restart of three static members",
        least: 5,
        in_ci: false,
        prepare: three_static,
        begin: restart_all,
        lasts_ms: (0, 1000),
        end: nothing,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
];

/// Three instances with two partitions each.
pub fn three(plan: &mut Plan) {
    plan.instances = 3;
    plan.partitions = 6;
}

/// The same, each with a name of its own in the group, which waits longer for it than any restart takes.
pub fn three_static(plan: &mut Plan) {
    three(plan);
    plan.is_static = true;
    let timeout = "TIDEGAUGE__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS";
    plan.environment.push((timeout, "90000".to_owned()));
}

fn nothing(_: &mut Trial) {}

fn restart_all(trial: &mut Trial) {
    trial.injected("rolling restart");
    for slot in 0..trial.plan.instances {
        // Another fault may have left fewer, or hold one.
        if trial.runners.iter().any(|runner| runner.slot == slot && runner.state == State::Runs) {
            restart(trial, slot);
        }
    }
}

/// Ends the instance in this slot, starts another in its place, and waits until it is ready.
pub fn restart(trial: &mut Trial, slot: usize) {
    let at = position(trial, slot).expect("no instance ends by itself");
    trial.stop(at);
    trial.flow_until("an instance to end", DEADLINE, |trial| position(trial, slot).is_none());
    trial.add();
    trial.flow_until("an instance to be ready", DEADLINE, |trial| {
        position(trial, slot).is_some_and(|at| is_ready(&trial.runners[at]))
    });
    trial.note("it is ready");
}

fn position(trial: &Trial, slot: usize) -> Option<usize> {
    trial.runners.iter().position(|runner| runner.slot == slot)
}

fn is_ready(runner: &Runner) -> bool {
    runner.instance.get("/readyz").is_ok_and(|answer| answer.status == 200)
}

/// How often the group gave partitions to this instance or took some away.
pub fn group_events(runner: &Runner) -> usize {
    let log = runner.instance.log_text();
    ["partitions assigned", "partitions revoked", "partitions lost"]
        .iter()
        .map(|event| log.matches(event).count())
        .sum()
}

/// Looks at the marks from a thread of its own, so that nothing else of the trial stretches a gap.
pub struct Freshness {
    stop: Arc<AtomicBool>,
    looking: Option<JoinHandle<Gaps>>,
}

/// The longest times during which the marks counted nothing new.
#[derive(Debug, Default)]
pub struct Gaps {
    /// Of each partition.
    pub by_partition: BTreeMap<u32, Duration>,
    /// Of all together.
    pub overall: Duration,
    /// How often the marks were read.
    pub looks: usize,
}

impl Gaps {
    /// The longest gap of any partition.
    pub fn longest(&self) -> Duration {
        self.by_partition.values().max().copied().unwrap_or_default()
    }
}

impl Freshness {
    /// Looks from now on.
    pub fn start(trial: &Trial) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, until) = (format!("{}/", trial.clickhouse.url()), Arc::clone(&stop));
        let looking = std::thread::spawn(move || look(&url, &until));
        Self { stop, looking: Some(looking) }
    }

    /// What was seen until now.
    pub fn stop(mut self) -> Gaps {
        self.stop.store(true, Ordering::Relaxed);
        let looking = self.looking.take().expect("it is taken here only");
        looking.join().expect("it looks until it is stopped")
    }
}

impl Drop for Freshness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn look(url: &str, until: &AtomicBool) -> Gaps {
    let sql = format!(
        "SELECT partition, inference_position + label_position FROM tidegauge.marks FINAL WHERE job = '{JOB}'"
    );
    let mut gaps = Gaps::default();
    let mut last: BTreeMap<u32, (i64, Instant)> = BTreeMap::new();
    let mut moved = now();
    while !until.load(Ordering::Relaxed) {
        let answer = http::request("POST", url, &[], sql.as_bytes()).expect("ClickHouse answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let at = now();
        gaps.looks += 1;
        for line in answer.body.lines() {
            let (partition, position) = line.split_once('\t').expect("two columns");
            let partition = partition.parse().expect("a number");
            let position: i64 = position.parse().expect("a number");
            let (before, since) = last.entry(partition).or_insert((position, at));
            let gap = gaps.by_partition.entry(partition).or_default();
            *gap = at.duration_since(*since).max(*gap);
            gaps.overall = at.duration_since(moved).max(gaps.overall);
            if position > *before {
                (*before, *since, moved) = (position, at, at);
            }
        }
        pace();
    }
    gaps
}

#[expect(clippy::disallowed_methods, reason = "the pace of looking")]
fn pace() {
    std::thread::sleep(LOOK_EVERY);
}
