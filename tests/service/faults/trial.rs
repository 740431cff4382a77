//! One trial: services of its own, a job with instances, records that flow, faults, and what was read on the way.

use std::any::Any;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::compared;
use super::raw::Sent;
use super::report::Report;
use super::samples::{self, Samples};
use crate::support::job::{Instance, Job};
use crate::support::log::{Message, Producer};
use crate::support::oracle::{Partition, Settings};
use crate::support::requests::{self, Random};
use crate::support::services::{ClickHouse, Kafka};

pub const JOB: &str = "fraud";
pub const TOPICS: [&str; 2] = ["inferences", "labels"];
const DEADLINE: Duration = Duration::from_secs(300);
const SIGTERM: i32 = 15;
const MINUTE_MS: i64 = 60_000;
/// The standard rate.
pub const RECORDS_PER_SECOND: usize = 1000;
const TICK: Duration = Duration::from_millis(25);
/// A condition may cost a query.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
const SAMPLE_EVERY: Duration = Duration::from_millis(700);
/// Between two samples so many times as long as one takes, so that reading is not what keeps ClickHouse busy.
const SAMPLE_REST: u32 = 9;
/// A sample that met a server that stands still says nothing of the next.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// So much traffic is always left: where a trial lasts longer than planned, its rate sinks.
const LEAST_LEFT: Duration = Duration::from_secs(15);
/// After a stop of the whole trial, such as a broker's start, the rate does not jump.
const LONGEST_STEP: Duration = Duration::from_millis(500);
/// What `rows_move` needs sent before it believes that every partition with traffic has got some.
const LEAST_SENT: usize = 64;
const AT_ONCE: f64 = 64.0;
/// A supervisor waits before it starts an instance again.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// Once nothing is held or killed any more, marks move on at least so often. (A loaded machine may need longer for the
/// one flush that has all that was left.)
const STALL: Duration = Duration::from_secs(60);

/// Seeded traffic: seed, number of inferences, partitions, hours of event time.
pub type Traffic = fn(u64, usize, usize, i64) -> Vec<Message>;

/// What a trial is made of. A row's `prepare` changes it.
#[expect(clippy::struct_excessive_bools, reason = "each switches another thing")]
pub struct Plan {
    /// Names the folder of what is kept when the trial fails.
    pub name: String,
    pub seed: u64,
    /// Started at the beginning.
    pub instances: usize,
    /// Whether instances are static members of the group: one that starts takes the name of one that has ended.
    pub is_static: bool,
    pub partitions: usize,
    /// Of both topics together.
    pub records_per_second: usize,
    /// For how long the traffic lasts at that rate.
    pub seconds: usize,
    /// Of event time, over which the traffic is spread. More than a day, so that windows of every grain seal.
    pub hours: i64,
    /// Windows and rules.
    pub settings: Settings,
    /// Of every instance.
    pub environment: Vec<(&'static str, String)>,
    /// More TOML of the configuration.
    pub sections: String,
    pub kafka_through_proxy: bool,
    pub clickhouse_through_proxy: bool,
    pub traffic: Traffic,
    /// What else runs as long as the trial.
    pub service: Option<Arc<dyn Any + Send + Sync>>,
    /// Bytes of `state.budget`.
    pub budget_bytes: usize,
    /// Resident bytes of an instance beside the state: code, buffers of the Kafka client, what the allocator keeps.
    pub allowance_bytes: usize,
    /// Whether a fresh job replays the log at the end, with another flush interval and number of instances (I6).
    pub replays: bool,
    /// Whether a model is compared with a reference, and there are custom metrics and rules for alerts: see
    /// [`compared`].
    pub compares: bool,
    /// Whether marks are held against rows during the run: not where rows are taken away under running instances.
    pub samples_marks: bool,
    /// Whether committed offsets are held against marks: not where others commit, or marks are put back.
    pub samples_commits: bool,
}

impl Plan {
    /// The standard one: base windows of 5 to 30 minutes and flushes every 0.3 to 1 s, by the seed, and requests with
    /// the faults of real topics.
    pub fn new(name: &str, seed: u64) -> Self {
        let window = [15, 5, 30, 10][usize::try_from(seed % 4).expect("small")] * MINUTE_MS;
        let flush = ["300ms", "1s", "600ms"][usize::try_from(seed % 3).expect("small")];
        let settings = Settings {
            window,
            grains: vec![60 * MINUTE_MS, 1440 * MINUTE_MS],
            ..requests::settings()
        };
        Self {
            name: name.to_owned(),
            seed,
            instances: 2,
            is_static: false,
            partitions: 4,
            records_per_second: RECORDS_PER_SECOND,
            seconds: 60,
            hours: 28,
            settings,
            environment: vec![("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", flush.to_owned())],
            sections: String::new(),
            kafka_through_proxy: false,
            clickhouse_through_proxy: false,
            traffic: requests::make,
            service: None,
            budget_bytes: 64 << 20,
            // At most 217 MiB were seen in all, in a debug build that takes over all partitions after an outage.
            allowance_bytes: 192 << 20,
            replays: true,
            compares: false,
            samples_marks: true,
            samples_commits: true,
        }
    }

    /// Where a failed trial's logs are.
    pub fn folder(&self) -> PathBuf {
        let name = format!("faults-{}-{}", self.name, self.seed);
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
    }
}

/// One instance and what is being done to it.
pub struct Runner {
    pub number: usize,
    /// The least number that no other instance had when it was started: what a static member is named by.
    pub slot: usize,
    pub instance: Instance,
    pub state: State,
    /// How often the group had taken its partitions away when it was last held.
    pub lost_before: usize,
}

impl Runner {
    /// How often the group took its partitions away because it was not there to be asked, as it tells itself.
    pub fn times_lost(&self) -> usize {
        self.instance.log_text().matches("the group took the partitions away").count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Runs,
    /// SIGSTOP, by the row of this name.
    Held(&'static str),
    /// It may end at any time and in any way: a supervisor then starts another one.
    MayEnd(&'static str),
    /// It was asked to end.
    Ends {
        since: Instant,
        code_matters: bool,
    },
}

/// A trial that goes on. Dropped by a panic it keeps its logs.
pub struct Trial {
    pub plan: Plan,
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
    pub job: Job,
    pub random: Random,
    pub runners: Vec<Runner>,
    pub producer: Producer,
    /// Times from the end of a fault until rows moved.
    pub recoveries: Vec<Duration>,
    /// Services that are down or held.
    pub away: BTreeSet<&'static str>,
    pub(super) samples: Samples,
    /// Of the tables that the oracle knows nothing of.
    pub(super) seen: compared::Seen,
    pub(super) log: Vec<String>,
    pub(super) injections: Vec<String>,
    pub(super) began: Instant,
    pub(super) sent: usize,
    /// The greatest resident size of an instance.
    pub(super) peak_bytes: usize,
    raw: Sent,
    messages: std::vec::IntoIter<Message>,
    started: usize,
    starts_due: Vec<Instant>,
    /// How long the trial will still last.
    expected: Duration,
    sampled: Instant,
    sample_took: Duration,
    sends_from: Instant,
    owed: f64,
}

#[expect(clippy::disallowed_methods, reason = "faults come by the clock")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the pace of the faults")]
fn pause() {
    std::thread::sleep(TICK);
}

/// Whether it has found its services and begun to work.
fn has_started(runner: &Runner) -> bool {
    runner.instance.log_text().contains("partitions assigned")
}

/// Those of the trial; each behind a proxy where a row makes faults of the network.
fn services(plan: &Plan) -> (Kafka, ClickHouse) {
    let kafka = if plan.kafka_through_proxy { Kafka::start_behind_proxy } else { Kafka::start };
    let clickhouse = if plan.clickhouse_through_proxy {
        ClickHouse::start_behind_proxy
    } else {
        ClickHouse::start
    };
    (kafka(), clickhouse())
}

impl Trial {
    /// Services, topics and tables are made, instances run, records flow.
    pub fn start(plan: Plan) -> Self {
        let (kafka, clickhouse) = services(&plan);
        let mut job = compared::job(&plan, JOB, &kafka, &clickhouse);
        job.create_topics(&kafka, i32::try_from(plan.partitions).expect("few"));
        job.run(&["init"], 0, DEADLINE);
        // About three of five records are inferences.
        let inferences = plan.records_per_second * plan.seconds / 100 * 61;
        let messages = (plan.traffic)(plan.seed, inferences, plan.partitions, plan.hours);
        let producer = Producer::new(kafka.client_config(), TOPICS, plan.partitions);
        let mut trial = Self {
            samples: Samples::new(&kafka, plan.partitions),
            seen: compared::Seen::default(),
            random: Random(plan.seed ^ 0xfa17_5000),
            kafka,
            clickhouse,
            job,
            runners: Vec::new(),
            producer,
            recoveries: Vec::new(),
            away: BTreeSet::new(),
            log: Vec::new(),
            injections: Vec::new(),
            began: now(),
            sent: 0,
            peak_bytes: 0,
            raw: Sent::default(),
            messages: messages.into_iter(),
            started: 0,
            starts_due: Vec::new(),
            expected: Duration::ZERO,
            sampled: now(),
            sample_took: Duration::ZERO,
            sends_from: now(),
            owed: 0.0,
            plan,
        };
        for _ in 0..trial.plan.instances {
            trial.add();
        }
        trial.flow_until("the instances to begin", DEADLINE, |trial| {
            trial.runners.iter().all(has_started) && trial.counted().is_some_and(|it| it > 0)
        });
        trial
    }

    /// Whether a partition may have gone to another instance while its owner had written what no mark says yet.
    pub fn has_heirs(&self) -> bool {
        let is_new = self.started > self.plan.instances;
        is_new || self.runners.iter().any(|runner| runner.times_lost() > 0)
    }

    /// Sends what is due, tends the instances (one that ends by itself fails the trial), samples the tables.
    pub fn flow(&mut self, lasts: Duration) {
        let until = now() + lasts;
        while now() < until {
            self.step();
            pause();
        }
    }

    /// The same until the condition holds; panics at the deadline.
    pub fn flow_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) {
        let since = now();
        while !condition(self) {
            assert!(since.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
            self.flow(BETWEEN_LOOKS);
        }
    }

    fn step(&mut self) {
        self.send_due();
        self.tend();
        let rest = (self.sample_took * SAMPLE_REST).min(LONGEST_REST);
        if self.sampled.elapsed() >= SAMPLE_EVERY.max(rest) {
            let began = now();
            samples::take(self);
            self.sample_took = began.elapsed();
            for runner in &self.runners {
                let bytes = runner.instance.resident_bytes().unwrap_or_default();
                self.peak_bytes = self.peak_bytes.max(bytes);
            }
            self.sampled = now();
        }
    }

    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a pace"
    )]
    fn send_due(&mut self) {
        let lasted = self.sends_from.elapsed().min(LONGEST_STEP).as_secs_f64();
        self.sends_from = now();
        let left = self.messages.len() as f64;
        let lasts = LEAST_LEFT.max(self.expected).as_secs_f64();
        let rate = (self.plan.records_per_second as f64).min(left / lasts);
        self.owed += rate * lasted;
        let due = self.owed as usize;
        self.owed -= due as f64;
        let batch: Vec<_> = self.messages.by_ref().take(due).collect();
        for message in batch {
            self.send(message);
        }
    }

    fn send(&mut self, message: Message) {
        let log = &self.producer.logs[message.partition];
        let number = if message.topic == 0 { log.inferences.len() } else { log.labels.len() };
        self.raw.note(&message, number);
        self.producer.send(message);
        self.sent += 1;
    }

    /// So many of all rounds are done: the rest of the traffic is to last for the others.
    pub fn done(&mut self, rounds: usize, of: usize) {
        let each = self.began.elapsed() / u32::try_from(rounds).expect("few");
        let left = u32::try_from(of - rounds).expect("few");
        self.expected = each * left * 5 / 4;
    }

    /// Starts an instance; its index in `runners`.
    pub fn add(&mut self) -> usize {
        self.started += 1;
        let number = self.started;
        let budget = self.plan.budget_bytes.to_string();
        let is_free = |slot: &usize| self.runners.iter().all(|runner| runner.slot != *slot);
        let slot = (0..=self.runners.len()).find(is_free).expect("one more than instances");
        let member = format!("member-{slot}");
        let mut environment = vec![("TIDEGAUGE__STATE__BUDGET", &*budget)];
        if self.plan.is_static {
            environment.push(("TIDEGAUGE__KAFKA__PROPERTIES__GROUP_INSTANCE_ID", &*member));
        }
        environment.extend(self.plan.environment.iter().map(|(name, value)| (*name, &**value)));
        let instance = self.job.start_with(&["run"], &environment);
        self.note(&format!("start of {number}"));
        let (state, lost_before) = (State::Runs, 0);
        self.runners.push(Runner { number, slot, instance, state, lost_before });
        self.runners.len() - 1
    }

    /// One that is neither held nor ending.
    pub fn any_running(&mut self) -> Option<usize> {
        let running = (0..self.runners.len()).filter(|&i| self.runners[i].state == State::Runs);
        let running: Vec<usize> = running.collect();
        (!running.is_empty()).then(|| running[self.below(running.len())])
    }

    /// How many are neither held nor ending.
    pub fn running(&self) -> usize {
        self.runners.iter().filter(|runner| runner.state == State::Runs).count()
    }

    /// How many were not asked to end: they run or are held.
    pub fn there(&self) -> usize {
        self.runners.iter().filter(|runner| !matches!(runner.state, State::Ends { .. })).count()
    }

    /// A random whole number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("small");
        usize::try_from(self.random.below(end)).expect("small")
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        let runner = self.runners.remove(at);
        self.note(&format!("kill of {}", runner.number));
        runner.instance.kill();
    }

    /// SIGSTOP, until [`Trial::go_on`] with the same name.
    pub fn hold(&mut self, at: usize, by: &'static str) {
        let runner = &mut self.runners[at];
        runner.instance.signal(Signal::SIGSTOP);
        runner.state = State::Held(by);
        runner.lost_before = runner.times_lost();
        let number = runner.number;
        self.note(&format!("{number} is held"));
    }

    /// SIGCONT to all that this row holds.
    pub fn go_on(&mut self, by: &'static str) {
        let mut notes = Vec::new();
        for runner in self.runners.iter_mut().filter(|runner| runner.state == State::Held(by)) {
            runner.instance.signal(Signal::SIGCONT);
            runner.state = State::Runs;
            notes.push(format!("{} goes on", runner.number));
        }
        for note in &notes {
            self.note(note);
        }
    }

    /// SIGTERM. The exit code must be 0 unless a service is away meanwhile.
    pub fn stop(&mut self, at: usize) {
        let code_matters = self.away.is_empty();
        let runner = &mut self.runners[at];
        runner.instance.signal(Signal::SIGTERM);
        runner.state = State::Ends { since: now(), code_matters };
        let number = runner.number;
        self.note(&format!("stop of {number}"));
    }

    /// From now on a service does not answer: an instance that ends meanwhile may not manage to write all.
    pub fn away(&mut self, what: &'static str) {
        self.note(&format!("{what} is away"));
        self.away.insert(what);
        for runner in &mut self.runners {
            if let State::Ends { code_matters, .. } = &mut runner.state {
                *code_matters = false;
            }
        }
    }

    /// The service answers again.
    pub fn back(&mut self, what: &'static str) {
        self.note(&format!("{what} is back"));
        self.away.remove(what);
    }

    /// A line of the fault log, which is kept when a run fails.
    pub fn note(&mut self, event: &str) {
        self.log.push(format!("{:7.2} {event}", self.began.elapsed().as_secs_f64()));
    }

    /// Notes and counts one injection of a row's fault.
    pub fn injected(&mut self, what: &str) {
        self.note(&format!("INJECTED {what}"));
        self.injections.push(what.to_owned());
    }

    /// What has been sent so far.
    pub fn logs(&self) -> &[Partition] {
        &self.producer.logs
    }

    /// Records that the marks count; none while ClickHouse does not answer.
    pub fn counted(&self) -> Option<usize> {
        let sql = format!("SELECT sum(records) FROM tidegauge.stream_health WHERE job = '{JOB}'");
        samples::ask(&self.clickhouse, &sql)?.trim().parse().ok()
    }

    /// From now until in every partition the marks count a record that was sent after now; the time is a recovery
    /// time. It is none of the pace, which sinks towards the end of a trial: as many as it takes are sent at once.
    /// Panics beyond `within`, or, where the machine may be loaded (`cargo test`), beyond two minutes.
    pub fn rows_move(&mut self, within: Duration) {
        let most = if super::matrix::limits_are_strict() { within } else { super::matrix::LOOSE };
        let lengths = |trial: &Self| -> Vec<usize> {
            let of = |logs: &Partition| logs.inferences.len() + logs.labels.len();
            trial.logs().iter().map(of).collect()
        };
        let (before, sent, since) = (lengths(self), self.sent, now());
        self.owed = self.owed.max(AT_ONCE);
        self.flow_until("rows to move again after a fault", most, |trial| {
            if trial.sent < sent + LEAST_SENT && trial.messages.len() > 0 {
                return false;
            }
            let Some(marked) = samples::positions(&trial.clickhouse) else { return false };
            let of = |at: usize| marked.get(&at).map_or(0, |[i, l]| i + l);
            let is = lengths(trial);
            (0..is.len()).all(|at| {
                let least = i64::try_from(before[at]).expect("few");
                is[at] == before[at] || of(at) > least
            })
        });
        let took = since.elapsed();
        self.note(&format!("rows move after {took:?}"));
        self.recoveries.push(took);
    }

    /// Sees which instances have ended, and starts those anew that a supervisor would.
    fn tend(&mut self) {
        let mut runners = std::mem::take(&mut self.runners);
        runners.retain_mut(|runner| self.still_there(runner));
        self.runners.extend(runners);
        self.runners.sort_by_key(|runner| runner.number);
        let due = self.starts_due.iter().filter(|at| **at <= now()).count();
        self.starts_due.retain(|at| *at > now());
        for _ in 0..due {
            self.add();
        }
    }

    fn still_there(&mut self, runner: &mut Runner) -> bool {
        let Runner { number, instance, state, .. } = runner;
        let Some(status) = instance.ended() else {
            if let State::Ends { since, .. } = state {
                let text = || instance.log_text();
                assert!(since.elapsed() < DEADLINE, "{number} does not end\n{}", text());
            }
            return true;
        };
        // Code 3 is the right answer while a table is not its own, as long as a fault has altered it.
        let is_refused = status.code() == Some(3)
            && runner.instance.log_text().contains("error[clickhouse_schema]");
        let never_began = (status.code() == Some(1) || is_refused) && !has_started(runner);
        // Asked to end while it still connected, or before it listened to signals.
        let is_early = status.code() == Some(130) || status.signal() == Some(SIGTERM);
        let is_stopped_early = is_early && !has_started(runner);
        let (number, text) = (runner.number, runner.instance.log_text());
        match runner.state {
            State::MayEnd(_) => {
                self.note(&format!("{number} ended, {status}"));
                self.starts_due.push(now() + RESTART_AFTER);
            }
            // A start that meets a service that is away says so and ends: a supervisor starts it again.
            State::Runs | State::Held(_) if never_began => {
                self.note(&format!("{number} did not start: it is started again"));
                self.starts_due.push(now() + RESTART_AFTER);
            }
            State::Runs | State::Held(_) => panic!("{number} ended by itself, {status}\n{text}"),
            State::Ends { since, code_matters } => {
                self.note(&format!("{number} ended, {status}, after {:?}", since.elapsed()));
                let is_well = status.success() || never_began || is_stopped_early || !code_matters;
                assert!(is_well, "{number} {status}\n{text}");
            }
        }
        false
    }

    /// Nobody is held, all is sent and counted, all instances end with code 0; then every invariant.
    pub fn finish(mut self) -> Report {
        self.note("no more faults");
        assert!(self.away.is_empty(), "still away: {:?}", self.away);
        for runner in &self.runners {
            assert!(!matches!(runner.state, State::Held(_)), "{} is still held", runner.number);
        }
        let caught_up = self.catch_up();
        self.end_all();
        let report = super::invariants::check(&mut self, caught_up);
        self.keep(!report.failures().is_empty());
        report
    }

    /// Sends the rest of the traffic, thinned, so that event time comes to its end and windows of every grain seal.
    fn catch_up(&mut self) -> Duration {
        const MOST: usize = 10_000;
        let rest = std::mem::take(&mut self.messages);
        let every = (rest.len() / MOST).max(1);
        let mut rest: Vec<Message> = rest.step_by(every).collect();
        let last = if self.plan.compares { compared::last_labels(&mut rest) } else { Vec::new() };
        for message in rest {
            self.send(message);
        }
        self.producer.deliver();
        let since = now();
        if !last.is_empty() {
            self.until_counted("all but the last labels to be counted", self.sent);
            for message in last {
                self.send(message);
            }
            self.producer.deliver();
        }
        self.producer.logs = self.raw.read_back(&self.kafka, &self.producer.logs);
        let is = self.logs().iter().map(|log| log.inferences.len() + log.labels.len()).sum();
        if is != self.sent {
            self.note(&format!("{} records sent, {is} in the topics", self.sent));
            self.sent = is;
        }
        let counted = self.until_counted("all records to be counted", is);
        assert_eq!(counted, is, "records counted, of those in the topics");
        self.note(&format!("all is counted after {:?}", since.elapsed()));
        since.elapsed()
    }

    /// Until at least so many records are counted; how many are.
    fn until_counted(&mut self, what: &str, least: usize) -> usize {
        let (mut counted, mut moved) = (0, now());
        let most = if super::matrix::limits_are_strict() { STALL } else { DEADLINE };
        self.flow_until(what, DEADLINE, |trial| {
            trial.add_if_none();
            let is = trial.counted().unwrap_or_default();
            if is > counted {
                (counted, moved) = (is, now());
            }
            assert!(moved.elapsed() < most, "{counted} of {least} records, then nothing");
            is >= least
        });
        counted
    }

    fn add_if_none(&mut self) {
        if self.running() == 0 && self.starts_due.is_empty() {
            self.add();
        }
    }

    fn end_all(&mut self) {
        self.starts_due.clear();
        for at in 0..self.runners.len() {
            if !matches!(self.runners[at].state, State::Ends { .. }) {
                self.stop(at);
            }
        }
        self.flow_until("all instances to end", DEADLINE, |trial| trial.runners.is_empty());
    }

    /// Where fault log and instances' logs are kept when the trial fails.
    pub fn folder(&self) -> PathBuf {
        self.plan.folder()
    }

    fn keep(&self, failed: bool) {
        let to = self.folder();
        // Those of an earlier run.
        std::fs::remove_dir_all(&to).ok();
        if failed {
            self.job.keep_logs(&to);
            let log = format!("seed {}\n{}\n", self.plan.seed, self.log.join("\n"));
            std::fs::write(to.join("faults.txt"), log).expect("the folder is ours");
            eprintln!("{} failed, its logs are in {}", self.plan.name, to.display());
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep(true);
        }
    }
}
