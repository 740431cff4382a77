//! Faults by the second from a seed, while records flow: kills, pauses, joins and leaves of the program's instances,
//! kills and pauses of ClickHouse, kills of the broker. What is in the tables at the end equals the oracle's, and what
//! could be read on the way never contradicted it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::end_to_end::{dead_letters, dead_records, sections};
use crate::support::job::{Instance, Job, grain_name};
use crate::support::log::{Message, Producer};
use crate::support::oracle::{self, Cell, Settings, Tables};
use crate::support::requests::{self, Random};
use crate::support::services::{ClickHouse, Kafka};
use crate::support::wait_until;

const DEADLINE: Duration = Duration::from_secs(300);
const TOPICS: [&str; 2] = ["inferences", "labels"];
const PARTITIONS: usize = 4;
const MOST_INSTANCES: usize = 3;
/// Events of more than a day: windows of every grain seal.
const HOURS: i64 = 28;
/// Once nothing is held or killed any more, marks move on at least so often.
const STALL: Duration = Duration::from_secs(40);
/// Inserts time out while ClickHouse is held, and are applied when it goes on.
const ENVIRONMENT: [(&str, &str); 1] = [("TIDEGAUGE__CLICKHOUSE__TIMEOUT", "2s")];
/// A pause of this length is noted.
const SLOW: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(50);

/// `TIDEGAUGE_CHAOS=SEED:SECONDS` runs another seed, or longer.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn random_faults_leave_the_tables_equal_to_the_oracle() {
    let asked = std::env::var("TIDEGAUGE_CHAOS").unwrap_or_else(|_| "42:15".to_owned());
    let (seed, seconds) = asked.split_once(':').expect("SEED:SECONDS");
    run(seed.parse().expect("a seed"), seconds.parse().expect("seconds"));
}

fn run(seed: u64, seconds: u64) {
    let mut chaos = Chaos::start(seed, seconds);
    let done = catch_unwind(AssertUnwindSafe(|| chaos.play()));
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    chaos.job.keep_logs(&to);
    std::fs::write(to.join("events.txt"), chaos.events.join("\n")).expect("the folder is ours");
    // The cause has been printed where it arose.
    assert!(done.is_ok(), "seed {seed} failed, logs are in {}", to.display());
}

/// One instance and what is being done to it.
struct Runner {
    number: usize,
    instance: Instance,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Runs,
    HeldUntil(Instant),
    Ends { since: Instant, code_matters: bool },
}

struct Chaos {
    kafka: Kafka,
    clickhouse: ClickHouse,
    job: Job,
    settings: Settings,
    producer: Producer,
    messages: std::vec::IntoIter<Message>,
    random: Random,
    runners: Vec<Runner>,
    started: usize,
    clickhouse_held: Option<Instant>,
    began: Instant,
    lasts: Duration,
    total: usize,
    events: Vec<String>,
    /// The greatest counts ever read, by table, key and column.
    greatest: BTreeMap<(String, String), u64>,
    samples: usize,
}

/// Base windows of 5 to 30 minutes, and grains of which all but the greatest seal often.
fn settings(seed: u64) -> Settings {
    const MINUTE_MS: i64 = 60_000;
    let window = [15, 5, 30, 10][usize::try_from(seed % 4).expect("small")] * MINUTE_MS;
    Settings { window, grains: vec![60 * MINUTE_MS, 1440 * MINUTE_MS], ..requests::settings() }
}

/// Whether it has found its services and begun to work.
fn has_started(runner: &Runner) -> bool {
    runner.instance.log_text().contains("partitions assigned")
}

#[expect(clippy::disallowed_methods, reason = "faults come by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a pace"
)]
fn due(total: usize, share: f64) -> usize {
    (total as f64 * share) as usize
}

#[expect(clippy::disallowed_methods, reason = "the pace of the faults")]
fn pause() {
    std::thread::sleep(TICK);
}

impl Chaos {
    fn start(seed: u64, seconds: u64) -> Self {
        let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
        let settings = settings(seed);
        let more = sections(TOPICS, "json");
        let mut job = Job::new("fraud", &kafka, &clickhouse, TOPICS, &settings, &more);
        job.create_topics(&kafka, i32::try_from(PARTITIONS).expect("few"));
        job.run(&["init"], 0, DEADLINE);
        let inferences = usize::try_from(seconds * 1000).expect("few");
        let messages = requests::make(seed, inferences, PARTITIONS, HOURS);
        let total = messages.len();
        let producer = Producer::new(kafka.client_config(), TOPICS, PARTITIONS);
        let mut chaos = Self {
            kafka,
            clickhouse,
            job,
            settings,
            producer,
            messages: messages.into_iter(),
            random: Random(seed ^ 0xc4a0_5000),
            runners: Vec::new(),
            started: 0,
            clickhouse_held: None,
            began: now(),
            lasts: Duration::from_secs(seconds),
            total,
            events: Vec::new(),
            greatest: BTreeMap::new(),
            samples: 0,
        };
        chaos.add();
        chaos.add();
        chaos
    }

    fn note(&mut self, event: &str) {
        self.events.push(format!("{:7.2} {event}", self.began.elapsed().as_secs_f64()));
    }

    fn play(&mut self) {
        let mut sent = 0;
        let mut next_fault = Duration::from_secs(2);
        while self.began.elapsed() < self.lasts {
            let share = self.began.elapsed().as_secs_f64() / self.lasts.as_secs_f64();
            let due = due(self.total, share);
            let batch: Vec<_> = self.messages.by_ref().take(due.saturating_sub(sent)).collect();
            sent += batch.len();
            for message in batch {
                self.producer.send(message);
            }
            if self.began.elapsed() >= next_fault {
                self.fault();
                let pause = Duration::from_millis(300 + self.random.below(1500));
                next_fault = self.began.elapsed() + pause;
            }
            self.tend();
            if self.clickhouse_held.is_none() {
                self.sample();
            }
            pause();
        }
        self.recover();
        self.compare();
    }

    fn add(&mut self) {
        self.started += 1;
        let instance = self.job.start_with(&["run"], &ENVIRONMENT);
        self.note(&format!("start of {}", self.started));
        self.runners.push(Runner { number: self.started, instance, state: State::Runs });
    }

    /// Ends pauses in time, and sees whether an instance has ended by itself.
    fn tend(&mut self) {
        if self.clickhouse_held.is_some_and(|until| until <= now()) {
            self.clickhouse.resume();
            self.clickhouse_held = None;
            self.note("ClickHouse goes on");
        }
        let mut notes = Vec::new();
        self.runners.retain_mut(|runner| {
            let ended = runner.instance.ended();
            match (runner.state, ended) {
                (State::HeldUntil(until), None) if until <= now() => {
                    runner.instance.signal(Signal::SIGCONT);
                    runner.state = State::Runs;
                    notes.push(format!("{} goes on", runner.number));
                    true
                }
                (State::Runs | State::HeldUntil(_), None) => true,
                // A start that meets a service that is away says so and ends: a supervisor starts it again.
                (State::Runs | State::HeldUntil(_), Some(status))
                    if status.code() == Some(1) && !has_started(runner) =>
                {
                    notes.push(format!("{} did not start", runner.number));
                    false
                }
                (State::Runs | State::HeldUntil(_), Some(status)) => {
                    panic!(
                        "{} ended by itself, {status}\n{}",
                        runner.number,
                        runner.instance.log_text()
                    )
                }
                (State::Ends { since, .. }, None) => {
                    let text = runner.instance.log_text();
                    assert!(since.elapsed() < DEADLINE, "{} does not end\n{text}", runner.number);
                    true
                }
                (State::Ends { since, code_matters }, Some(status)) => {
                    let took = since.elapsed();
                    notes.push(format!("{} ended, {status}, after {took:?}", runner.number));
                    let text = runner.instance.log_text();
                    let code_matters = code_matters && has_started(runner);
                    assert!(
                        !code_matters || status.success(),
                        "{} {status}\n{text}",
                        runner.number
                    );
                    false
                }
            }
        });
        for note in notes {
            self.note(&note);
        }
    }

    /// An instance that is neither held nor ending.
    fn any_running(&mut self) -> Option<usize> {
        let running = (0..self.runners.len()).filter(|&i| self.runners[i].state == State::Runs);
        let running: Vec<usize> = running.collect();
        let count = u64::try_from(running.len()).expect("few");
        (count > 0).then(|| running[usize::try_from(self.random.below(count)).expect("few")])
    }

    fn fault(&mut self) {
        let live = self.runners.iter().filter(|r| !matches!(r.state, State::Ends { .. })).count();
        let kind = self.random.below(100);
        if live == 0 || (kind < 20 && live < MOST_INSTANCES) {
            return self.add();
        }
        if kind < 60 {
            let Some(at) = self.any_running() else { return };
            let number = self.runners[at].number;
            match kind {
                0..32 => {
                    self.note(&format!("kill of {number}"));
                    self.runners.remove(at).instance.kill();
                    if self.random.below(3) > 0 {
                        self.add();
                    }
                }
                32..38 => self.hold(at, 1000, 3000),
                38..50 => self.hold(at, 7000, 6000),
                _ => {
                    self.note(&format!("stop of {number}"));
                    self.runners[at].instance.signal(Signal::SIGTERM);
                    let code_matters = self.clickhouse_held.is_none();
                    self.runners[at].state = State::Ends { since: now(), code_matters };
                    if self.random.below(2) > 0 {
                        self.add();
                    }
                }
            }
            return;
        }
        match kind {
            60..72 if self.clickhouse_held.is_none() => self.restart_clickhouse(),
            72..84 if self.clickhouse_held.is_none() => {
                let held = Duration::from_millis(500 + self.random.below(4000));
                self.note(&format!("ClickHouse is held for {held:?}"));
                self.clickhouse.pause();
                self.clickhouse_held = Some(now() + held);
                self.forgive_exit_codes();
            }
            84..88 => {
                self.note("kill of the broker");
                self.kafka.kill();
                self.kafka.start_again();
                self.note("broker is back");
                self.forgive_exit_codes();
            }
            _ => {}
        }
    }

    /// While a service is away an instance that is asked to end may not manage to write all.
    fn forgive_exit_codes(&mut self) {
        for runner in &mut self.runners {
            if let State::Ends { code_matters, .. } = &mut runner.state {
                *code_matters = false;
            }
        }
    }

    fn restart_clickhouse(&mut self) {
        self.note("kill of ClickHouse");
        self.clickhouse.kill();
        self.forgive_exit_codes();
        self.clickhouse.start_again();
        self.note("ClickHouse is back");
    }

    fn hold(&mut self, at: usize, least_ms: u64, range_ms: u64) {
        let held = Duration::from_millis(least_ms + self.random.below(range_ms));
        let runner = &mut self.runners[at];
        runner.instance.signal(Signal::SIGSTOP);
        runner.state = State::HeldUntil(now() + held);
        let number = runner.number;
        self.note(&format!("{number} is held for {held:?}"));
    }

    /// Reads marks, then rows: rows are never behind marks. Remembers the counts.
    fn sample(&mut self) {
        let marked = self.pairs(
            "SELECT toString(partition), toUInt64(sum(accepted)) FROM tidegauge.stream_health \
             WHERE topic = 'inferences' GROUP BY partition",
        );
        let states = self.pairs(
            "SELECT toString(partition), sum(inferences) FROM tidegauge.window_state FINAL \
             WHERE segment = 'all' GROUP BY partition",
        );
        let metrics = self.pairs(
            "SELECT grain, sum(inferences) FROM tidegauge.serving FINAL WHERE segment = 'all' GROUP BY grain",
        );
        for (partition, &accepted) in &marked {
            let rows = states.get(partition).copied().unwrap_or_default();
            assert!(
                rows >= accepted,
                "partition {partition}: {accepted} in the mark, {rows} in rows"
            );
        }
        let accepted: u64 = marked.values().sum();
        for (grain, &rows) in &metrics {
            assert!(rows >= accepted, "grain {grain}: {accepted} in the marks, {rows} in the rows");
        }
        self.samples += 1;
        for table in ["serving", "labels", "quality_binary"] {
            let column = match table {
                "serving" => "inferences + 1000000 * errors",
                "labels" => "inferences + 1000000 * labelled",
                _ => "row_version",
            };
            let key = "concat(grain, ' ', model, ' ', version, ' ', segment, ' ', \
                       toString(toUnixTimestamp64Milli(window_start)))";
            let sql = format!("SELECT {key}, toUInt64({column}) FROM tidegauge.{table} FINAL");
            for (key, count) in self.pairs(&sql) {
                let greatest = self.greatest.entry((table.to_owned(), key)).or_default();
                *greatest = count.max(*greatest);
            }
        }
    }

    fn pairs(&self, sql: &str) -> BTreeMap<String, u64> {
        let text = self.clickhouse.query(sql);
        let pair = |line: &str| {
            let (key, count) = line.rsplit_once('\t').expect("two columns");
            (key.to_owned(), count.parse().expect("a count"))
        };
        text.lines().map(pair).collect()
    }

    /// No more faults: everything left is sent, and processed without a stall.
    fn recover(&mut self) {
        self.note("no more faults");
        if self.clickhouse_held.take().is_some() {
            self.clickhouse.resume();
        }
        let recovering = now();
        let messages = std::mem::take(&mut self.messages);
        messages.for_each(|message| self.producer.send(message));
        self.producer.flush();
        let (mut counted, mut moved) = (0, now());
        while counted < self.total {
            self.tend();
            if self.runners.iter().all(|runner| matches!(runner.state, State::Ends { .. })) {
                self.add();
            }
            let is = self.job.records_counted(&self.clickhouse);
            assert!(is <= self.total, "{is} of {} records counted", self.total);
            if is != counted {
                let pause = moved.elapsed();
                if pause > SLOW {
                    self.note(&format!("{is} counted, nothing was for {pause:?}"));
                }
                (counted, moved) = (is, now());
            }
            let held = self.runners.iter().any(|r| matches!(r.state, State::HeldUntil(_)));
            if held {
                moved = now();
            }
            let stalled = moved.elapsed();
            assert!(stalled < STALL, "{counted} of {} records, then nothing", self.total);
            pause();
        }
        self.note(&format!("all is counted, {:?} after the last fault", recovering.elapsed()));
        wait_until("all instances to end", DEADLINE, || {
            self.tend();
            for runner in &mut self.runners {
                if runner.state == State::Runs {
                    runner.instance.signal(Signal::SIGTERM);
                    runner.state = State::Ends { since: now(), code_matters: true };
                }
            }
            self.runners.is_empty()
        });
    }

    fn compare(&mut self) {
        let expected = oracle::compute(&self.settings, &self.producer.logs);
        self.job.must_equal(&self.clickhouse, &expected);
        self.must_be_within(&expected);
        self.seals_must_equal(&expected);
        let letters = dead_letters(&self.kafka, "dead.fraud");
        assert_eq!(letters, dead_records(TOPICS, &self.producer.logs));
        // No row was ever written that beats the right one.
        for table in ["serving", "labels", "quality_binary"] {
            self.newest_must_agree(table, "grain, ");
        }
        self.newest_must_agree("window_state", "partition, ");
        self.clickhouse.query("OPTIMIZE TABLE tidegauge.serving FINAL");
        self.job.must_equal(&self.clickhouse, &expected);
        let samples = self.samples;
        self.note(&format!("equal, {samples} samples"));
    }

    /// Any row of a key's greatest version is the same row.
    fn newest_must_agree(&self, table: &str, more: &str) {
        let key = format!("{more}model, version, segment, window_start");
        let sql = format!(
            "SELECT count() FROM (SELECT {key}, uniqExact(tuple(*)) AS kinds FROM tidegauge.{table} \
             WHERE ({key}, row_version) IN (SELECT {key}, max(row_version) FROM tidegauge.{table} GROUP BY {key}) \
             GROUP BY {key} HAVING kinds > 1)"
        );
        let differ = self.clickhouse.query(&sql);
        assert_eq!(differ.trim(), "0", "keys of {table} with several newest rows");
    }

    fn must_be_within(&self, expected: &Tables) {
        let mut last = BTreeMap::new();
        for row in &expected.rows {
            let key = format!(
                "{} {} {} {} {}",
                grain_name(row.grain),
                row.model,
                row.version,
                row.segment,
                row.start
            );
            let count = |name: &str| {
                let cell = row.cells.iter().find(|(is, _)| is == name);
                match cell.expect(name).1 {
                    Cell::Count(count) => count,
                    _ => panic!("{name} is no count"),
                }
            };
            let most = match row.table {
                "serving" => [count("inferences"), count("errors")],
                "labels" => [count("inferences"), count("labelled")],
                _ => [row.row_version, 0],
            };
            last.insert((row.table.to_owned(), key), most);
        }
        for (key, &greatest) in &self.greatest {
            let most = last.get(key).unwrap_or_else(|| panic!("{key:?} was never to be"));
            let is = match &*key.0 {
                "quality_binary" => [greatest, 0],
                _ => [greatest % 1_000_000, greatest / 1_000_000],
            };
            assert!(is[0] <= most[0] && is[1] <= most[1], "{key:?} was {is:?}, ends as {most:?}");
        }
    }

    fn seals_must_equal(&self, expected: &Tables) {
        let text = self.clickhouse.query(
            "SELECT s.partition, s.sealed_until_ms, m.sealed_until_ms FROM tidegauge.seals AS s FINAL \
             INNER JOIN (SELECT * FROM tidegauge.marks FINAL) AS m USING (partition) ORDER BY s.partition",
        );
        let of = |(partition, account): (usize, &oracle::Account)| {
            let mark = account.seal_mark.expect("a day has passed");
            format!("{partition}\t{mark}\t{mark}\n")
        };
        let wanted: String = expected.partitions.iter().enumerate().map(of).collect();
        assert_eq!(text, wanted, "seal marks");
    }
}
