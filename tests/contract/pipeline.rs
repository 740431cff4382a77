//! The whole pipeline between ends in memory. What it writes is compared with shards that are fed directly, each with
//! its whole log at once, and with metric rows merged from those in one go.
#![expect(clippy::disallowed_methods, reason = "the end of a wait is a matter of the wall clock")]

mod audit;
mod begin;
mod budget;
mod failures;
mod group;
mod schemas;
mod within;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Arrival, Offset, PartitionId, Positions, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::keys::GATHER_AFTER;
use tidegauge::engine::lateness::Limits;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::metrics::accumulator::Asked;
use tidegauge::engine::metrics::custom::{CustomMetric, Expression, Input, Operator};
use tidegauge::engine::metrics::method::Options;
use tidegauge::engine::names::Names;
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::state::{Frozen, Key, StateRow};
use tidegauge::engine::time::{EventTime, Millis, RecordTime};
use tidegauge::engine::window::Window;
use tidegauge::engine::{Caps, ModelSettings, Progress, Shard, ShardSettings};
use tidegauge::evaluate::{Merged, RowContext, grain_name};
use tidegauge::pipeline::{DeadLetterLimit, PipelineError, PipelineSettings, Totals, run};
use tidegauge::sink::row;
use tidegauge::sink::tables::Table;
use tidegauge::source::Record;
use tidegauge::telemetry::{Cause, Telemetry};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::memory::{Control, Cursor, Log, Memory, Mode, Player};

const JOB: &str = "test";
const START: i64 = 1_700_000_000_000;
const GRAINS: [Millis; 2] = [Millis(60_000), Millis(300_000)];
/// For what comes in a moment, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(180);

fn settings(partitions: i32) -> PipelineSettings {
    let decoder = |stream| {
        let segments = vec!["region".to_owned()];
        Some(DecoderSettings {
            stream,
            format: Format::Json,
            fields: FieldPaths::new(stream),
            segments,
        })
    };
    PipelineSettings {
        shard: Arc::new(ShardSettings {
            window: Millis(10_000),
            limits: Limits {
                lateness: Millis(5_000),
                label_wait: Millis(20_000),
                max_future: Millis(5_000),
                max_gap: Millis(604_800_000),
            },
            clock_stamps: 2,
            progress: Progress::Log,
            has_labels: true,
            generation: 3,
            caps: Caps {
                models: 100,
                versions: 20,
                segments: 50,
                features: 40,
                max_classes: 256,
                auroc_classes: 32,
            },
            gather_after: GATHER_AFTER,
            dimensions: vec!["region".to_owned()],
            models: vec![ModelSettings {
                dimensions: vec![0],
                thresholds: vec![0.25, 0.75],
                ..ModelSettings::default()
            }],
            custom: custom(),
        }),
        decoders: [decoder(Stream::Inferences), decoder(Stream::Labels)],
        schemas: Arc::new(Schemas::none()),
        job: JOB.to_owned(),
        partitions,
        grains: GRAINS.to_vec(),
        rows_within: Window::ALL,
        flush_interval: Duration::from_millis(15),
        state_budget_bytes: 1 << 30,
        drain_budget: Duration::from_secs(5),
        dead_letter_limit: DeadLetterLimit::default(),
    }
}

/// Decisions for each inference, of all models and segments.
fn custom() -> Vec<Arc<CustomMetric>> {
    let input = |name: &str| Expression::input(Input::all().find(|it| it.name() == name).unwrap());
    let decided = input("labels.inferences_positive");
    let all = || vec!["*".to_owned()];
    vec![Arc::new(CustomMetric {
        name: "approval_rate".into(),
        models: all(),
        segments: all(),
        expression: decided.joined(Operator::Divide, input("serving.inferences")),
    })]
}

/// A small generator of its own: the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn add(log: &mut Log, stream: Stream, partition: i32, time: i64, payload: impl Into<Vec<u8>>) {
    let records = log.entry((stream, PartitionId(partition))).or_default();
    // Holes, as compaction and transactions leave them.
    let offset =
        records.last().map_or(0, |last| last.offset.0 + 1 + i64::from(records.len() % 9 == 8));
    records.push(Record {
        stream,
        partition: PartitionId(partition),
        offset: Offset(offset),
        time: RecordTime(time),
        key: None,
        payload: Some(Box::leak(payload.into().into_boxed_slice())),
    });
}

/// Two models, two regions, labels for most, some late, double, corrected or broken; `steps` inferences in each
/// partition, one a `spacing_ms`.
fn traffic(partitions: i32, steps: i64, spacing_ms: i64) -> Log {
    let mut log = Log::new();
    let mut random = Random(7);
    for partition in 0..partitions {
        let mut labels: Vec<(i64, String)> = Vec::new();
        for step in 0..steps {
            let time = START + step * spacing_ms;
            let id = format!("p{partition}-{step}");
            let (model, region) = (random.below(2), random.below(2));
            let (score, truth) = (random.below(1000), random.below(2));
            let event_time = time - if random.below(40) == 0 { 9_000 } else { 0 };
            let inference = format!(
                r#"{{"request_id":"{id}","model":"m{model}","version":"v1","timestamp":{event_time},"score":0.{score:03},"latency_ms":{},"segments":{{"region":"r{region}"}}}}"#,
                random.below(90) + 1
            );
            add(&mut log, Stream::Inferences, partition, time, inference.clone());
            if random.below(30) == 0 {
                add(&mut log, Stream::Inferences, partition, time, inference);
            }
            if random.below(100) == 0 {
                add(&mut log, Stream::Inferences, partition, time, "{broken".to_owned());
            }
            let mut label = |delay: u64, value: u64| {
                let at = time + i64::try_from(delay).unwrap();
                let label = format!(r#"{{"request_id":"{id}","timestamp":{at},"label":{value}}}"#);
                labels.push((at, label));
            };
            if random.below(10) > 0 {
                label(random.below(23_000), truth);
            }
            if random.below(15) == 0 {
                label(random.below(23_000), 1 - truth);
            }
        }
        labels.sort();
        for (at, label) in labels {
            add(&mut log, Stream::Labels, partition, at, label);
        }
        // Both clocks pass everything but the last.
        let end = START + steps * spacing_ms + 30_000;
        for (stream, n) in [(Stream::Inferences, 2), (Stream::Labels, 2)] {
            for i in 0..n {
                let payload = match stream {
                    Stream::Inferences => {
                        format!(
                            r#"{{"request_id":"end-{partition}-{i}","model":"m0","timestamp":{end}}}"#
                        )
                    }
                    Stream::Labels => {
                        format!(
                            r#"{{"request_id":"none-{partition}-{i}","timestamp":{end},"label":1}}"#
                        )
                    }
                };
                add(&mut log, stream, partition, end, payload);
            }
        }
    }
    log
}

type States = BTreeMap<(Key, PartitionId), StateRow>;

/// A shard that is fed directly: all inferences, then all labels, and frozen once.
fn fed(settings: &PipelineSettings, log: &Log, begin: &Mark) -> Frozen {
    let mut names = Names::default();
    let mut shard = Shard::new(Arc::clone(&settings.shard), begin);
    for stream in Stream::BOTH {
        let of = settings.decoders[stream.index()].as_ref().unwrap();
        let mut decoder = Decoder::new(of, Arc::clone(&settings.schemas)).unwrap();
        for record in log.get(&(stream, begin.partition)).into_iter().flatten() {
            let at = Arrival { stream, offset: record.offset, time: record.time };
            let outcome = match decoder.decode(record.payload, &mut names) {
                Ok(event) => shard.observe(at, &event, &mut names),
                Err(NotDecoded::Bad(_)) => shard.dead(at),
                Err(NotDecoded::Waiting(_)) => panic!("no registry"),
            };
            let is_label = matches!(outcome, Outcome::Matched | Outcome::Kept | Outcome::Orphan);
            assert!(!is_label || stream == Stream::Labels);
        }
    }
    shard.freeze(&names)
}

/// The rows and marks of shards that are fed directly, of windows that are to have rows.
fn direct(settings: &PipelineSettings, log: &Log) -> (States, Vec<Mark>) {
    let mut states = States::new();
    let mut marks = Vec::new();
    for partition in 0..settings.partitions {
        let begin = Mark::start(PartitionId(partition), Positions::default(), 2);
        let frozen = fed(settings, log, &begin);
        marks.push(frozen.mark);
        let within = |row: &StateRow| settings.rows_within.holds(row.key.window);
        for row in frozen.states.into_iter().filter(within) {
            states.insert((row.key.clone(), row.partition), row);
        }
    }
    (states, marks)
}

/// Asserts that the tables hold what the direct shards give: states, marks, and every metric row to the byte.
fn assert_complete(settings: &PipelineSettings, log: &Log, memory: &Memory) {
    let (states, marks) = direct(settings, log);
    let tables = memory.lock();
    assert_eq!(tables.states.len(), states.len(), "state rows");
    for (key, row) in &states {
        assert_eq!(tables.states.get(key), Some(row), "{key:?}");
    }
    for mark in &marks {
        let written = &tables.marks[&mark.partition];
        assert_eq!((written.positions, &written.tally), (mark.positions, &mark.tally));
        assert_eq!(written.floor.sealed_until, mark.floor.sealed_until);
    }
    let common = marks.iter().map(|mark| mark.floor.sealed_until).min().unwrap();
    let caps = settings.shard.caps.classes();
    let mut merged: BTreeMap<Key, Merged> = BTreeMap::new();
    for row in states.values() {
        for size in [settings.shard.window].into_iter().chain(GRAINS) {
            let window = Window::of(row.key.window.start, size);
            if !settings.rows_within.holds(window) {
                continue;
            }
            merged.entry(Key { window, ..row.key.clone() }).or_default().add(row, caps).unwrap();
        }
    }
    let mut expected = BTreeMap::new();
    for (key, merged) in merged {
        let about = RowContext {
            grain: Arc::from(grain_name(key.window.size())),
            generation: settings.shard.generation,
            sealed: key.window.end <= common,
            value: None,
            thresholds: vec![0.25, 0.75],
            weighted: false,
            reference: None,
            drift: Options::default(),
            custom: custom(),
        };
        for batch in row::metrics(JOB, &merged.rows(&key, &about, Asked::All)) {
            let (types, mut at) = Cursor::open(&batch.body);
            let Table::Metric(table) = batch.table else { panic!("a metric row") };
            for _ in 0..batch.rows {
                let (key, row, version) = at.metric_row(table, &types);
                expected.insert((table.name(), key), (version, row));
            }
        }
    }
    assert!(common > EventTime(START + 60_000), "a minute is sealed by all partitions");
    let name = |(table, key): &(&'static str, Vec<u8>)| {
        format!("{table} {:?}", String::from_utf8_lossy(key))
    };
    for (key, row) in &expected {
        let written = tables.metrics.get(key).map(|(version, _)| version);
        assert_eq!(written, Some(&row.0), "version of {}", name(key));
        assert_eq!(tables.metrics[key].1, row.1, "{}", name(key));
    }
    assert_eq!(tables.metrics.len(), expected.len(), "metric rows");
}

struct Running {
    tasks: JoinSet<Result<Totals, PipelineError>>,
    stop: oneshot::Sender<()>,
    telemetry: Telemetry,
    controls: Vec<Arc<Mutex<VecDeque<Control>>>>,
}

/// Starts an instance with one worker for each list of partitions.
fn start(
    settings: PipelineSettings,
    log: &Arc<Mutex<Log>>,
    workers: &[&[i32]],
    bounded: bool,
    memory: &Memory,
) -> Running {
    let players = workers.iter().map(|of| Player::new(log, of, bounded)).collect();
    start_with(settings, players, memory)
}

/// Starts an instance with one worker for each player.
fn start_with(settings: PipelineSettings, players: Vec<Player>, memory: &Memory) -> Running {
    let controls = players.iter().map(|player| Arc::clone(&player.control)).collect();
    let (stop, stopped) = oneshot::channel::<()>();
    let telemetry = Telemetry::new();
    let (t, m) = (telemetry.clone(), memory.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let stop = async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        run(settings, players, m.clone(), m.clone(), m, t, stop).await
    });
    Running { tasks, stop, telemetry, controls }
}

impl Running {
    /// Waits for a condition; fails at once when the run ends before.
    async fn until(&mut self, what: &str, is: impl FnMut() -> bool) {
        tokio::select! {
            ended = self.tasks.join_next() => panic!("{what}: ended with {ended:?}"),
            () = until(what, is) => {}
        }
    }

    async fn end(mut self) -> Result<Totals, PipelineError> {
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await;
        ended.expect("it ends").unwrap().unwrap()
    }

    async fn stop(self) -> Result<Totals, PipelineError> {
        let Self { mut tasks, stop, .. } = self;
        stop.send(()).unwrap();
        let ended = tokio::time::timeout(PATIENCE, tasks.join_next()).await;
        ended.expect("it ends").unwrap().unwrap()
    }
}

/// The group takes partition 0 away, which is answered.
async fn give_up(owner: &mut Running) {
    let (reply, answered) = sync_channel::<()>(0);
    let revoke = Control::Revoke(vec![PartitionId(0)], reply);
    owner.controls[0].lock().unwrap().push_back(revoke);
    let is_answered = || answered.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected);
    owner.until("the revocation is answered", is_answered).await;
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn shared(log: &Log) -> Arc<Mutex<Log>> {
    Arc::new(Mutex::new(log.clone()))
}

/// The sum of the positions that the marks have.
fn written(memory: &Memory) -> i64 {
    memory.lock().marks.values().map(Mark::order).sum()
}

/// The same sum once all of a log is written.
fn ends(log: &Log) -> i64 {
    log.values().filter_map(|all| Some(all.last()?.offset.0 + 1)).sum()
}

/// The first records of each topic partition: so many of six parts.
fn part(log: &Log, of: usize) -> Log {
    log.iter().map(|(&key, all)| (key, all[..all.len() * of / 6].to_vec())).collect()
}

#[test]
fn rows_equal_those_of_shards_fed_directly() {
    let log = traffic(4, 400, 700);
    let memory = Memory::new();
    let totals = block_on(async {
        start(settings(4), &shared(&log), &[&[0, 2], &[1, 3]], true, &memory).end().await
    })
    .unwrap();
    assert_complete(&settings(4), &log, &memory);
    let records: usize = log.values().map(Vec::len).sum();
    assert_eq!(totals.records.iter().sum::<u64>(), u64::try_from(records).unwrap());
    assert_eq!(
        totals.outcomes.as_flattened().iter().sum::<u64>(),
        totals.records.iter().sum::<u64>()
    );
    assert!(totals.is_drained && totals.flushes > 0, "{totals:?}");
    assert_eq!(u64::try_from(memory.lock().letters.len()).unwrap(), totals.letters);
    assert_eq!(totals.letters, totals.outcomes[0][6]);
}

#[test]
fn history_loaded_later_is_told_by_log_time_and_measured_by_event_time() {
    let mut log = Log::new();
    for i in 0..1500 {
        let (event, loaded) = (START + i * 10_000, START + 100_000_000 + i);
        let payload =
            format!(r#"{{"request_id":"r{i}","model":"m","timestamp":{event},"score":0.5}}"#);
        add(&mut log, Stream::Inferences, 0, loaded, payload);
    }
    // Accepted, duplicate, late.
    let (all_late, all_accepted) = ([0, 0, 1500_u64], [1500_u64, 0, 0]);
    for (progress, told, outcomes) in
        [(Progress::Log, 1, all_late), (Progress::Event, 0, all_accepted)]
    {
        let mut settings = settings(1);
        settings.shard = Arc::new(ShardSettings { progress, ..(*settings.shard).clone() });
        let (totals, telemetry) = block_on(async {
            let running = start(settings, &shared(&log), &[&[0]], true, &Memory::new());
            let telemetry = running.telemetry.clone();
            (running.end().await.unwrap(), telemetry)
        });
        assert_eq!(totals.outcomes[0][..3], outcomes, "{totals:?}");
        assert!(telemetry.encode().contains(&format!("tidegauge_mostly_late {told}\n")));
    }
}

fn is_metric_write(call: &str) -> bool {
    let table = call.strip_prefix("write ");
    MetricTable::ALL.iter().any(|metric| table == Some(metric.name()))
}

#[test]
fn a_flush_calls_in_the_documented_order() {
    let log = traffic(2, 300, 700);
    let memory = Memory::new();
    block_on(async { start(settings(2), &shared(&log), &[&[0, 1]], true, &memory).end().await })
        .unwrap();
    let rank = |call: &str, last: u32, has_states: bool| match call {
        // Where a partition begins is written before its first rows.
        "write marks" if !has_states => 0,
        // What was written is read back before the seal marks and before the marks.
        "read mark orders" | "read states" if last == 0 => 0,
        "read mark orders" | "read metric versions" => 7,
        "read states" | "read seals" if last >= 5 => 7,
        "write window_state" => 0,
        "write seals" => 1,
        "read seals" | "read windows" => 2,
        "read versions" => 3,
        "read states" => 4,
        call if is_metric_write(call) => 5,
        "letters" => 6,
        "write marks" => 8,
        "commit" => 9,
        other => panic!("{other}"),
    };
    let tables = memory.lock();
    let (mut last, mut before, mut has_states) = (0, "", false);
    for call in &tables.calls {
        if call == "read versions" && before == "read seals" && last == 7 {
            // The next piece of a long span that was sealed at once.
            last = 2;
        }
        before = call;
        has_states |= call == "write window_state";
        let now = rank(call, last, has_states);
        assert!(now >= last, "{call} comes too late in {:?}", tables.calls);
        last = if now == 9 { 0 } else { now };
    }
    assert_eq!(last, 0, "the last flush was committed");
    let first = |call: &str| tables.calls.iter().position(|it| it == call);
    assert!(first("write marks").unwrap() < first("write window_state").unwrap());
    for call in [
        "write seals",
        "write window_state",
        "read windows",
        "letters",
        "write quality_binary",
        "read metric versions",
    ] {
        assert!(tables.calls.iter().any(|c| c == call), "{call}");
    }
}

#[test]
fn a_long_span_that_is_sealed_at_once_is_written_once() {
    let log = traffic(2, 1400, 700);
    let memory = Memory::new();
    let settings = PipelineSettings { flush_interval: Duration::from_secs(3600), ..settings(2) };
    block_on(async {
        start(settings.clone(), &shared(&log), &[&[0, 1]], true, &memory).end().await
    })
    .unwrap();
    assert_complete(&settings, &log, &memory);
    let tables = memory.lock();
    let marks = tables.calls.iter().filter(|call| *call == "write marks").count();
    assert_eq!(marks, 2, "where the partitions begin, and where they stand in the end");
    let plans = tables.calls.iter().filter(|call| *call == "read versions").count();
    assert!(plans > 2, "{plans} pieces");
    let is_metric = |table: Table| MetricTable::ALL.iter().any(|&m| table == Table::Metric(m));
    let batches = tables.bodies.iter().filter(|batch| is_metric(batch.table));
    assert_eq!(batches.map(|batch| batch.rows).sum::<usize>(), tables.metrics.len());
}

#[test]
fn a_restart_goes_on_from_the_marks() {
    let log = traffic(2, 300, 700);
    let memory = Memory::new();
    block_on(async {
        // Each start may read a little more of the log than the one before.
        for share in 1..=6 {
            let log = shared(&part(&log, share));
            let running = start(settings(2), &log, &[&[0, 1]], true, &memory);
            running.end().await.unwrap();
        }
    });
    assert_complete(&settings(2), &log, &memory);
    let letters = memory.lock().letters.len();
    let broken = |r: &&Record<'_>| r.payload == Some(b"{broken");
    assert_eq!(letters, log.values().flatten().filter(broken).count(), "no letter twice");
}

#[test]
fn rows_move_again_as_soon_as_memory_is_rebuilt() {
    let log = traffic(1, 3_000, 700);
    let memory = Memory::new();
    block_on(async {
        start(settings(1), &shared(&part(&log, 2)), &[&[0]], true, &memory).end().await.unwrap();
        let before = written(&memory);
        // No flush of the timer's.
        let mut settings = settings(1);
        settings.flush_interval = Duration::from_secs(3_600);
        let mut second = start(settings, &shared(&log), &[&[0]], false, &memory);
        second.until("a mark moves on", || written(&memory) > before).await;
        second.stop().await.unwrap();
    });
}

/// Another bounded instance that began later has gone further than this one may read.
#[test]
fn a_bounded_run_that_ends_before_the_marks_leaves_them_alone() {
    let log = traffic(2, 300, 700);
    let share = |of: usize| shared(&part(&log, of));
    let memory = Memory::new();
    block_on(async {
        start(settings(2), &share(4), &[&[0, 1]], true, &memory).end().await.unwrap();
        let marks = memory.lock().marks.clone();
        start(settings(2), &share(3), &[&[0, 1]], true, &memory).end().await.unwrap();
        assert_eq!(memory.lock().marks, marks);
        start(settings(2), &share(6), &[&[0, 1]], true, &memory).end().await.unwrap();
    });
    assert_complete(&settings(2), &log, &memory);
}

/// Records counted by telemetry.
fn counted(telemetry: &Telemetry) -> usize {
    let text = telemetry.encode();
    let lines = text.lines().filter(|line| line.starts_with("tidegauge_records_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn a_stop_writes_what_was_read() {
    let log = traffic(2, 100, 700);
    let memory = Memory::new();
    let mut settings = settings(2);
    settings.flush_interval = Duration::from_secs(3600);
    block_on(async {
        let mut running = start(settings.clone(), &shared(&log), &[&[0], &[1]], false, &memory);
        let telemetry = running.telemetry.clone();
        let records: usize = log.values().map(Vec::len).sum();
        running.until("all is read", || counted(&telemetry) == records).await;
        assert!(running.stop().await.unwrap().is_drained);
    });
    assert_eq!(written(&memory), ends(&log));
}

/// An orchestrator kills what takes longer.
#[test]
fn a_stop_that_can_write_nothing_ends_within_the_drain_budget() {
    let memory = Memory::new();
    memory.lock().mode = Mode::Hangs;
    let settings = PipelineSettings { drain_budget: Duration::from_secs(4), ..settings(1) };
    block_on(async {
        let log = shared(&traffic(1, 100, 700));
        let mut running = start(settings.clone(), &log, &[&[0]], false, &memory);
        running.until("a write hangs", || !memory.lock().bodies.is_empty()).await;
        let asked = Instant::now();
        assert!(!running.stop().await.unwrap().is_drained);
        assert!(asked.elapsed() < settings.drain_budget, "{:?}", asked.elapsed());
    });
}

#[test]
fn labels_that_waited_in_vain_are_counted_once_though_the_process_starts_again() {
    let log = traffic(2, 300, 700);
    let memory = Memory::new();
    let mut counted = 0;
    block_on(async {
        for log in [part(&log, 3), log.clone()] {
            let mut running = start(settings(2), &shared(&log), &[&[0, 1]], false, &memory);
            running.until("all is marked", || written(&memory) == ends(&log)).await;
            let text = running.telemetry.encode();
            let waited = text.lines().find(|it| it.starts_with("tidegauge_labels_orphaned_total "));
            let at_once = r#"tidegauge_records_total{topic="labels",outcome="orphan"} "#;
            let at_once = text.lines().find(|it| it.starts_with(at_once));
            assert!(
                waited.is_some_and(|line| !line.ends_with(" 0")),
                "none waited in vain: {text}"
            );
            for line in waited.into_iter().chain(at_once) {
                counted += line.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap();
            }
            running.stop().await.unwrap();
        }
    });
    let marks = &memory.lock().marks;
    let tallies = marks.values().flat_map(|mark| mark.tally.of(Stream::Labels));
    assert_eq!(counted, tallies.map(|(_, outcomes)| outcomes.third).sum::<i64>());
}
