//! Seeded simulation: several instances of the real workers and writers in one thread, around a group that moves
//! partitions and leaves zombies, and tables behind a network that can't be trusted. One seed replays a failure:
//! `SEED=17 cargo test --test contract simulator`; `SEEDS=5000` runs more of them.

mod compared;
mod group;
mod instance;
mod random;
mod sink;
mod traffic;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use tidegauge::engine::metrics::MetricTable;
use tidegauge::pipeline::{PipelineError, PipelineSettings};
use tidegauge::sink::StateVersion;
use tidegauge::source::Record;

use crate::memory::Versioned;
use group::Group;
use instance::Instance;
use random::Random;
pub(crate) use traffic::Case;
use truth::Truth;
use world::{Shared, World};

/// The job's name.
const JOB: &str = "test";
/// Seeds of one normal run.
const SEEDS: u64 = 200;
/// Steps in which everything must be written once all faults have stopped.
const CALM_MAX: u64 = 6000;
/// What one instance does in a step.
const TURNS: u64 = 5;
/// Steps that a run goes on when all is written.
const AFTERWARDS: u64 = 80;

/// Breaks a promise at one of the seams; as it stands, none.
pub(crate) trait Tamper: Send + Sync {
    /// What the workers froze, on its way to the writer.
    fn frozen(&self, _frozen: &mut [tidegauge::engine::state::Frozen], _step: u64) {}
    /// A record on its way to a worker; `latest` is the greatest Kafka timestamp that it was given.
    fn record(&self, record: Record<'static>, _latest: i64) -> Record<'static> {
        record
    }
    /// An answer of the tables.
    fn versions(&self, _versions: &mut Vec<StateVersion>) {}
    /// An answer of the tables.
    fn marks(&self, _marks: &mut [tidegauge::engine::floor::Mark]) {}
    /// Whether marks overtake the rows before them.
    fn is_marks_first(&self) -> bool {
        false
    }
    /// Whether the tables' marks are said to be where they were.
    fn hides_older_marks(&self) -> bool {
        false
    }
    /// Whether a failed insert is called acknowledged.
    fn acknowledges_failures(&self) -> bool {
        false
    }
    /// Whether rows' versions are what the oracle says.
    fn has_true_versions(&self) -> bool {
        true
    }
}

/// Keeps all promises.
pub(crate) struct Honest;

impl Tamper for Honest {}

/// A broken invariant.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub invariant: &'static str,
    pub text: String,
}

impl Violation {
    fn new(invariant: &'static str, text: String) -> Self {
        Self { invariant, text }
    }
}

impl From<PipelineError> for Violation {
    fn from(error: PipelineError) -> Self {
        Self::new("stopped", format!("{}: {error}", error.code()))
    }
}

/// A run that failed: why, and the last events before.
#[derive(Debug)]
pub(crate) struct Failure {
    pub violation: Violation,
    pub events: Vec<String>,
}

/// How a run goes, whatever it is about.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    seed: u64,
    instances_max: usize,
    workers_max: usize,
    steps: u64,
    pub(crate) flush_interval: Duration,
    pub(crate) drain_budget: Duration,
    /// Of so many calls to the tables one goes wrong.
    trouble: u64,
    /// Of so many parts of calls one takes long.
    slowness: u64,
    /// The share of steps that bring no fault grows with it.
    calmness: u64,
    /// Whether the tables are put back to an older state.
    puts_back: bool,
    restarts_at_end: bool,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        Self {
            seed,
            instances_max: 1 + random.index(4),
            workers_max: 1 + random.index(2),
            steps: 150 + random.below(450),
            flush_interval: Duration::from_millis(*random.pick(&[20, 60, 300])),
            drain_budget: Duration::from_millis(*random.pick(&[100, 1000])),
            trouble: *random.pick(&[0, 6, 20, 60]),
            slowness: *random.pick(&[1, 2, 4, 20]),
            calmness: *random.pick(&[200, 400, 400, 1500]),
            puts_back: random.one_in(3),
            restarts_at_end: random.one_in(3),
        }
    }
}

struct Simulation<'a> {
    schedule: &'a Schedule,
    settings: Arc<PipelineSettings>,
    world: Shared,
    group: Group,
    instances: Vec<Instance>,
    started: usize,
    now: Duration,
}

/// A run that held.
pub(crate) struct Held {
    /// Metric rows by table and key, without those that are gone: some runs write them and some don't.
    metrics: BTreeMap<(&'static str, Vec<u8>), Versioned>,
    /// How often each kind of thing has happened.
    counts: BTreeMap<&'static str, u64>,
}

/// Runs a case by a schedule.
pub(crate) fn run(
    case: &Case,
    schedule: &Schedule,
    tamper: Arc<dyn Tamper>,
) -> Result<Held, Failure> {
    let random = Random::new(schedule.seed ^ 0xfa_17);
    let world = World::new(random, case.records.clone(), Truth::new(case), tamper);
    let world = Shared::new(world);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let simulated = catch_unwind(AssertUnwindSafe(|| {
        let mut simulation = Simulation {
            schedule,
            settings: Arc::new(case.pipeline(schedule)),
            group: Group::new(case.partitions()),
            instances: Vec::new(),
            started: 0,
            now: Duration::ZERO,
            world: world.clone(),
        };
        runtime.block_on(simulation.run())
    }));
    let ended = simulated.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new("panic", text.unwrap_or_default()))
    });
    let mut world = world.lock();
    match ended {
        Ok(()) => {
            let mut metrics = std::mem::take(&mut world.tables.metrics);
            metrics.retain(|row, _| world.truth.has(row));
            Ok(Held { metrics, counts: std::mem::take(&mut world.counts) })
        }
        Err(violation) => Err(Failure { violation, events: world.take_events() }),
    }
}

impl Simulation<'_> {
    async fn run(&mut self) -> Result<(), Violation> {
        self.world.lock().trouble = self.schedule.trouble;
        self.world.lock().slowness = self.schedule.slowness;
        self.start()?;
        for _ in 0..self.schedule.steps {
            self.fault()?;
            self.step().await?;
        }
        self.calm_down().await?;
        if self.schedule.restarts_at_end {
            self.crash_all();
            self.start()?;
        }
        for _ in 0..AFTERWARDS {
            self.assign(true);
            self.step().await?;
        }
        let mut world = self.world.lock();
        world.apply_all();
        let with_versions = world.tamper.has_true_versions();
        world.truth.sample(&world.tables, with_versions)?;
        world.truth.check_end(&world.tables, with_versions)
    }

    /// All faults stop, and everything is read and written.
    async fn calm_down(&mut self) -> Result<(), Violation> {
        {
            let mut world = self.world.lock();
            world.trouble = 0;
            world.note(&|| "all faults stop".to_owned());
            let all: Vec<_> = world.available.keys().copied().collect();
            for key in all {
                world.produce(key, usize::MAX / 2);
            }
        }
        self.group.notify(None, &self.world);
        for instance in &mut self.instances {
            instance.stopped_until = 0;
        }
        for _ in 0..CALM_MAX {
            if self.instances.iter().all(|instance| instance.is_leaving) {
                self.start()?;
            }
            self.assign(true);
            self.step().await?;
            let world = self.world.lock();
            if world.truth.is_complete(&world.tables) {
                return Ok(());
            }
        }
        let world = self.world.lock();
        let text = format!("not all is written: {:#?}", world.tables.marks);
        Err(Violation::new("I5 lag", text))
    }

    fn start(&mut self) -> Result<(), Violation> {
        self.started += 1;
        let number = self.started;
        let workers = 1 + self.world.lock().random.index(self.schedule.workers_max);
        let (instance, mailboxes) =
            Instance::start(number, workers, &self.settings, &self.world, self.now)?;
        self.group.join(number, mailboxes);
        self.instances.push(instance);
        self.world.lock().living.insert(number);
        self.world.lock().note(&|| format!("instance {number} starts with {workers} workers"));
        Ok(())
    }

    /// Any of those that are there and stay.
    fn anyone(&mut self) -> Option<usize> {
        let staying: Vec<usize> =
            (0..self.instances.len()).filter(|&at| !self.instances[at].is_leaving).collect();
        (!staying.is_empty()).then(|| *self.world.lock().random.pick(&staying))
    }

    fn assign(&mut self, all: bool) {
        if let Some(at) = self.anyone() {
            self.group.assign(self.instances[at].number, &self.world, all);
        }
    }

    fn crash(&mut self, at: usize) {
        let instance = self.instances.remove(at);
        self.group.leave(instance.number);
        {
            let mut world = self.world.lock();
            world.living.remove(&instance.number);
            world.count(if instance.is_flushing() { "crash in a flush" } else { "crash" });
            world.note(&|| format!("instance {} crashes", instance.number));
        }
        drop(instance);
    }

    fn crash_all(&mut self) {
        while !self.instances.is_empty() {
            self.crash(0);
        }
    }

    /// Something that may happen.
    fn fault(&mut self) -> Result<(), Violation> {
        let calmness = self.schedule.calmness;
        let chance = self.world.lock().random.below(calmness);
        if self.world.lock().random.one_in(10) {
            let all = self.world.lock().random.one_in(2);
            self.assign(all);
        }
        let anyone = self.anyone();
        match (chance, anyone) {
            (40..45, Some(at)) => self.group.revoke(self.instances[at].number, &self.world),
            (45..50, Some(at)) => self.group.take_away(self.instances[at].number, &self.world),
            (50..57, Some(at)) => {
                self.group.notify(Some(self.instances[at].number), &self.world);
            }
            (57..60, Some(at)) => self.crash(at),
            (60..62, Some(at)) => {
                self.instances[at].leave();
                let number = self.instances[at].number;
                self.world.lock().note(&|| format!("instance {number} is asked to end"));
            }
            (62..66, Some(at)) => {
                let mut world = self.world.lock();
                let until = world.step + world.random.below(120);
                self.instances[at].stopped_until = until;
                world.count("instance stood still");
                let number = self.instances[at].number;
                world.note(&|| format!("instance {number} stands still until {until}"));
            }
            (66..69, _) if self.schedule.puts_back => self.world.lock().copy(),
            (69..72, _) if self.schedule.puts_back && self.world.lock().has_copies() => {
                self.crash_all();
                self.world.lock().put_back();
            }
            (72..74, _) => {
                let world = self.world.lock();
                let with_versions = world.tamper.has_true_versions();
                world.truth.sample(&world.tables, with_versions)?;
            }
            (74..76, _) => {
                let mut world = self.world.lock();
                let outage = u64::from(self.schedule.trouble > 0);
                world.trouble = *world.random.pick(&[outage, self.schedule.trouble]);
            }
            (86..92, _) if self.schedule.puts_back && self.world.lock().has_copies() => {
                for instance in &mut self.instances {
                    instance.stopped_until = 0;
                }
                self.world.lock().put_back_under_way();
            }
            (76..86, _) if self.instances.len() < self.schedule.instances_max => self.start()?,
            _ => {}
        }
        if self.instances.is_empty() {
            self.start()?;
        }
        Ok(())
    }

    /// Time goes on a little, and everybody does something.
    async fn step(&mut self) -> Result<(), Violation> {
        let passed = {
            let mut world = self.world.lock();
            world.tick();
            let keys: Vec<_> = world.available.keys().copied().collect();
            if !keys.is_empty() {
                let key = *world.random.pick(&keys);
                let count = world.random.index(6);
                world.produce(key, count);
            }
            *world.random.pick(&[1, 5, 5, 20, 20, 100])
        };
        self.group.tick(&self.world);
        let passed = Duration::from_millis(passed);
        self.now += passed;
        tokio::time::advance(passed).await;
        let mut ended = Vec::new();
        for instance in &mut self.instances {
            for _ in 0..TURNS {
                let which = {
                    let mut world = self.world.lock();
                    if instance.stopped_until > world.step {
                        continue;
                    }
                    world.random.index(instance.workers() + 2)
                };
                if instance.step(self.now, which)? {
                    ended.push(instance.number);
                    break;
                }
            }
        }
        for number in ended {
            self.instances.retain(|instance| instance.number != number);
            self.group.leave(number);
            let mut world = self.world.lock();
            world.living.remove(&number);
            world.count("instance ended by itself");
            world.note(&|| format!("instance {number} has ended"));
        }
        match self.world.lock().violation.take() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }
}

/// The number in an environment variable.
#[expect(clippy::disallowed_methods, reason = "how a developer asks for one seed or many")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Each must have happened in the normal run, or it shows nothing.
const MUST_HAPPEN: [&str; 18] = [
    "call failed",
    "crash",
    "crash in a flush",
    "insert applied after its sender's death",
    "insert applied in part",
    "insert applied late",
    "insert cut off by a crash",
    "instance ended by itself",
    "instance stood still",
    "mark with sealed windows checked",
    "partition taken from a zombie",
    "reply lost",
    "revocation answered",
    "revocation not answered in time",
    "assigned anew by the instance itself",
    "tables put back",
    "tables put back under running instances",
    "zombie told",
];

/// Threads that divide the seeds.
const SHARES: u64 = 4;

/// How often each kind of thing has happened, rows of each metric table among them.
type Counts = BTreeMap<&'static str, u64>;

/// Runs a case, which must hold.
fn held(seed: u64, case: &Case) -> Held {
    match run(case, &Schedule::new(seed), Arc::new(Honest)) {
        Ok(held) => held,
        Err(Failure { violation, events }) => panic!(
            "SEED={seed} breaks {}: {}\nthe last events:\n{}",
            violation.invariant,
            violation.text,
            events.join("\n")
        ),
    }
}

/// Runs a share of the seeds.
fn hold(seeds: Range<u64>, share: u64) -> Counts {
    let mut counts = Counts::new();
    for seed in seeds.filter(|seed| seed % SHARES == share) {
        let held = held(seed, &Case::new(seed));
        for (what, count) in held.counts {
            *counts.entry(what).or_default() += count;
        }
        for (table, _) in held.metrics.into_keys() {
            *counts.entry(table).or_default() += 1;
        }
    }
    counts
}

#[test]
fn whatever_happens_the_tables_equal_the_batch() {
    let from = number("SEED").unwrap_or(0);
    let is_one = number("SEED").is_some() && number("SEEDS").is_none();
    let count = number("SEEDS").unwrap_or(if is_one { 1 } else { SEEDS });
    let seeds = from..from + count;
    let shares: Vec<Counts> = thread::scope(|scope| {
        let threads: Vec<_> = (0..SHARES)
            .map(|share| {
                let seeds = seeds.clone();
                scope.spawn(move || hold(seeds, share))
            })
            .collect();
        let done = threads.into_iter().map(ScopedJoinHandle::join);
        done.map(|counts| counts.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut happened = Counts::new();
    for (what, count) in shares.into_iter().flatten() {
        *happened.entry(what).or_default() += count;
    }
    let tables = MetricTable::ALL.into_iter().map(MetricTable::name);
    let mut needed = MUST_HAPPEN.into_iter().chain(tables);
    let missing = needed.find(|what| !happened.contains_key(what));
    assert!(count < SEEDS || missing.is_none(), "{missing:?} never happened");
}

/// As of a range of the topics, at whose ends windows have a part of their records only.
#[test]
fn windows_across_the_ends_of_a_range_have_no_row_whatever_happens() {
    let mut lengths = BTreeMap::<i64, usize>::new();
    for seed in 0..SEEDS / 5 {
        // No window of a grain begins or ends there.
        let ends = if seed % 2 == 0 { [-23, 51] } else { [7, 103] };
        for ((_, key), _) in held(seed, &Case::new(seed).within(ends)).metrics {
            let time = |at: usize| i64::from_le_bytes(key[at..at + 8].try_into().unwrap());
            *lengths.entry(time(8) - time(0)).or_default() += 1;
        }
    }
    let all = [5_000, 10_000, 20_000, 60_000];
    assert!(lengths.keys().eq(&all), "{lengths:?}: of each length some lie between");
}

#[test]
fn instances_and_flush_intervals_change_no_byte() {
    for seed in 0..6 {
        let case = Case::new(seed);
        let rows = |instances_max, flush_interval_ms| {
            let schedule = Schedule {
                instances_max,
                flush_interval: Duration::from_millis(flush_interval_ms),
                ..Schedule::new(seed + instances_max_seed(instances_max))
            };
            run(&case, &schedule, Arc::new(Honest)).unwrap().metrics
        };
        let first = rows(1, 20);
        assert!(first == rows(2, 100) && first == rows(3, 700), "I6 of case {seed}");
    }
}

/// Other events for other numbers of instances.
fn instances_max_seed(instances_max: usize) -> u64 {
    u64::try_from(instances_max).unwrap() * 1000
}
