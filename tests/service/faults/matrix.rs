//! The rows: what a fault is, which ones there are, and how one is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::report::{self, Report};
use super::trial::{Plan, Trial, now};
use super::{compared, controls, data, database, network, pairs, points, process, rolling, topics};
use crate::support::requests::Random;

/// Where limits are not strict, a recovery must end within this all the same: a dozen test programs may share the
/// machine.
pub const LOOSE: Duration = Duration::from_secs(120);
/// Seed of the rows that `cargo test` runs.
const SEED_IN_CI: u64 = 42;
/// How often CI injects a row's fault, for time forbids the least number of the whole matrix; P2 has seven points.
const TIMES_IN_CI: usize = 3;
const MORE_IN_CI: &[(&str, usize)] = &[("P1", 6), ("P2", 7)];

/// How often records flow for a while where the fault is in the data.
const ROUNDS_OF_DATA: usize = 5;

/// One row of the matrix. Between two injections records flow for a second or three; after `end` recovery is timed.
pub struct Fault {
    /// Such as P1.
    pub id: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// How many injections show something.
    pub least: usize,
    /// Whether `cargo test` runs it.
    pub in_ci: bool,
    pub prepare: fn(&mut Plan),
    /// Injects; calls [`Trial::injected`].
    pub begin: fn(&mut Trial),
    /// How long it lasts, at random, in milliseconds; records flow meanwhile.
    pub lasts_ms: (u64, u64),
    /// Heals.
    pub end: fn(&mut Trial),
    /// 10 s after a process restart, 30 s after a broker's or ClickHouse's.
    pub recovers_within: Duration,
    /// For faults in the data: how many the log holds.
    pub injections: Option<fn(&Trial) -> usize>,
}

/// Every row, X1 apart.
pub fn rows() -> Vec<&'static Fault> {
    let all: [&'static [Fault]; 7] = [
        process::ROWS,
        rolling::ROWS,
        points::ROWS,
        topics::ROWS,
        network::ROWS,
        database::ROWS,
        data::ROWS,
    ];
    all.into_iter().flatten().collect()
}

/// What `TIDEGAUGE_FAULTS` asks for: `all:1,2,3:4` are all rows with three seeds, four trials at a time; `P3,C2:7` is
/// two of them with one.
pub struct Asked {
    ids: String,
    seeds: Vec<u64>,
    jobs: usize,
}

impl Asked {
    /// None where the variable is not set, as under `cargo test`.
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    pub fn read() -> Option<Self> {
        let text = std::env::var("TIDEGAUGE_FAULTS").ok()?;
        let mut parts = text.split(':');
        let ids = parts.next().expect("split gives one at least").to_owned();
        let number = |what: &str, part: &str| {
            part.parse::<u64>().unwrap_or_else(|_| panic!("TIDEGAUGE_FAULTS: {what} is {part:?}"))
        };
        let seeds = parts.next().unwrap_or("1").split(',').map(|part| number("a seed", part));
        let seeds = seeds.collect();
        let jobs = number("trials at a time", parts.next().unwrap_or("2"));
        Some(Self { ids, seeds, jobs: usize::try_from(jobs).expect("few").max(1) })
    }

    fn includes(&self, id: &str) -> bool {
        self.ids == "all" || self.ids.split(',').any(|asked| asked == id)
    }
}

/// Whether recovery times are held against the rows' limits: debug builds, and trials beside others, are slow.
pub fn limits_are_strict() -> bool {
    Asked::read().is_some_and(|asked| asked.jobs == 1)
}

/// Milliseconds between two numbers.
pub fn between(random: &mut Random, (least, most): (u64, u64)) -> Duration {
    Duration::from_millis(least + random.below((most - least).max(1)))
}

/// One row of the table, as a test of its own. Panics where it fails.
pub fn run_in_ci(id: &str) {
    let fault = rows().into_iter().find(|fault| fault.id == id).expect("a row of this name");
    let more = MORE_IN_CI.iter().find(|(more, _)| *more == id);
    let times = more.map_or(TIMES_IN_CI, |(_, times)| *times);
    let report = run(fault, SEED_IN_CI, times);
    must_be_good(&report);
}

/// Panics with what is wrong.
pub fn must_be_good(report: &Report) {
    eprintln!("{} {}\n{}", report.id, report.title, report.details());
    eprintln!("  recoveries {:.1?}", report.recoveries);
    let failures = report.verdict();
    let shown: Vec<_> = failures.iter().take(40).cloned().collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), shown.join("\n"));
}

/// Runs one trial; a panic in it is a failed report.
pub fn guarded(id: &str, title: &str, seed: u64, trial: impl FnOnce() -> Report) -> Report {
    let began = now();
    let mut report = catch_unwind(AssertUnwindSafe(trial)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report { broken: Some(text.unwrap_or_default()), ..Report::default() }
    });
    id.clone_into(&mut report.id);
    title.clone_into(&mut report.title);
    report.seed = seed;
    report.took = began.elapsed();
    report
}

/// One row: the fault so many times, then every invariant.
pub fn run(fault: &Fault, seed: u64, times: usize) -> Report {
    let mut report = guarded(fault.id, fault.title, seed, || injected(fault, seed, times));
    report.least = times;
    report
}

fn injected(fault: &Fault, seed: u64, least: usize) -> Report {
    // What is counted in the log needs no rounds.
    let times = if fault.injections.is_some() { least.min(ROUNDS_OF_DATA) } else { least };
    let mut plan = Plan::new(fault.id, seed);
    // In CI one row replays; see `faults.rs`.
    plan.replays = Asked::read().is_some() || fault.id == "P5";
    let lasts = usize::try_from(fault.lasts_ms.1 / 1000).expect("short");
    plan.seconds = times * (lasts + 8) + 15;
    (fault.prepare)(&mut plan);
    if compares(fault.id, seed) && plan.replays {
        compared::prepare(&mut plan);
    }
    let mut trial = Trial::start(plan);
    for time in 1..=times {
        let pause = between(&mut trial.random, (1000, 3000));
        trial.flow(pause);
        (fault.begin)(&mut trial);
        let lasts = between(&mut trial.random, fault.lasts_ms);
        trial.flow(lasts);
        (fault.end)(&mut trial);
        if fault.injections.is_none() {
            trial.rows_move(fault.recovers_within);
        }
        progress(&trial, fault.id, time, times);
        trial.done(time, times);
    }
    let in_log = fault.injections.map(|count| count(&trial));
    let mut report = trial.finish();
    report.injected = in_log.unwrap_or(report.injected);
    report
}

/// Whether a row has a reference, custom metrics and rules for alerts: two of three have, with another seed others. In CI
/// it is the one that replays.
pub fn compares(id: &str, seed: u64) -> bool {
    let Some(place) = Asked::read().and_then(|_| place(id)) else { return true };
    !(seed + u64::try_from(place).expect("few")).is_multiple_of(3)
}

/// A line for whoever waits.
pub fn progress(trial: &Trial, id: &str, time: usize, times: usize) {
    let recovery = trial.recoveries.last().map(|it| format!(", rows moved after {it:.1?}"));
    eprintln!("{id} {time}/{times}, {} records{}", trial.sent, recovery.unwrap_or_default());
}

/// A trial that waits for its turn.
type Work = Box<dyn Fn() -> Report + Send + Sync>;

/// The trials of the rows that were asked for, with one seed.
fn work(asked: &Asked, seed: u64) -> Vec<Work> {
    let mut work: Vec<Work> = Vec::new();
    for fault in rows() {
        if asked.includes(fault.id) {
            work.push(Box::new(move || run(fault, seed, fault.least)));
        }
    }
    for &(id, run) in topics::REFUSED {
        if asked.includes(id) {
            work.push(Box::new(move || run(seed)));
        }
    }
    if asked.includes("X1") {
        work.push(Box::new(move || pairs::run(seed, pairs::LEAST)));
    }
    if asked.includes("I8") {
        for control in controls::ALL {
            work.push(Box::new(move || controls::run(control, seed)));
        }
    }
    work
}

/// The place of a row in the report.
fn place(id: &str) -> Option<usize> {
    let rows = rows().into_iter().map(|fault| fault.id);
    let refused = topics::REFUSED.iter().map(|(id, _)| *id);
    rows.chain(refused).chain(["X1", "I8"]).position(|row| row == id)
}

/// Runs the rows that were asked for, some at a time, and writes the report. Panics where one fails.
pub fn run_asked(asked: &Asked) {
    let work: Vec<Work> = asked.seeds.iter().flat_map(|seed| work(asked, *seed)).collect();
    assert!(!work.is_empty(), "no row is called {}", asked.ids);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                while let Some(row) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let report = row();
                    let verdict = if report.verdict().is_empty() { "ok" } else { "FAILED" };
                    let mut done = done.lock().expect("no holder panics");
                    let (id, seed, took) = (&report.id, report.seed, report.took.as_secs());
                    let so_far = format!("{} of {} trials done", done.len() + 1, work.len());
                    eprintln!("{id} seed {seed} {verdict} after {took} s, {so_far}");
                    done.push(report);
                    done.sort_by_cached_key(|it| (place(&it.id), it.title.clone(), it.seed));
                    // Whoever ends a long run early has what was done.
                    report::write("report", &done);
                }
            });
        }
    });
    let reports = done.into_inner().expect("no holder panics");
    eprintln!("\n{}", report::write("report", &reports));
    let failed = reports.iter().filter(|report| !report.verdict().is_empty());
    let failed: Vec<_> =
        failed.map(|report| format!("{} with seed {}", report.id, report.seed)).collect();
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}
