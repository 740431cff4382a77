//! What the program says about itself: counters and gauges in Prometheus text, readiness with its reasons, and the
//! log. "Metrics" are the models' figures; these here are *meters*. One function per happening both counts and logs,
//! so that log and count can't drift apart; nothing is done per record, and no payload or secret is ever logged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

use crate::engine::event::{PartitionId, Stream};
use crate::engine::outcome::Outcome;
use crate::engine::time::EventTime;

/// Why the program is not ready. Each cause is set and cleared on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No partition has been assigned yet.
    Starting,
    /// Kafka can't be reached.
    Kafka,
    /// ClickHouse does not take rows.
    ClickHouse,
    /// Memory is near the byte budget: one topic is left unread.
    StateBudget,
    /// Records wait for a schema that the registry does not give.
    SchemaRegistry,
    /// The dead-letter topic does not take records.
    DeadLetters,
    /// Rules of alerts are not evaluated any more.
    Alerting,
    /// The program was asked to stop.
    Stopping,
}

impl Cause {
    /// The name on `/readyz`, in telemetry and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Kafka => "kafka",
            Self::ClickHouse => "clickhouse",
            Self::StateBudget => "state_budget",
            Self::SchemaRegistry => "schema_registry",
            Self::DeadLetters => "dead_letters",
            Self::Alerting => "alerting",
            Self::Stopping => "stopping",
        }
    }
}

/// Memory that is full sooner is warned of.
const WARN_BELOW_HOURS: f64 = 24.0;

/// How many outcomes there are.
pub const OUTCOMES: usize = 7;

/// Every outcome, its topic and its name, in the order of [`outcome_index`].
pub const OUTCOME_NAMES: [(Stream, &str); OUTCOMES] = [
    (Stream::Inferences, "accepted"),
    (Stream::Inferences, "duplicate"),
    (Stream::Inferences, "late"),
    (Stream::Labels, "matched"),
    (Stream::Labels, "kept"),
    (Stream::Labels, "orphan"),
    (Stream::Inferences, "dead"),
];

/// The place of an outcome in [`BatchCounts::outcomes`].
pub fn outcome_index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Accepted => 0,
        Outcome::Duplicate => 1,
        Outcome::Late => 2,
        Outcome::Matched => 3,
        Outcome::Kept => 4,
        Outcome::Orphan => 5,
        Outcome::Dead => 6,
    }
}

/// What became of one batch of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// First outcomes of the records of each topic; those read again after a start are left out.
    pub outcomes: [[u64; OUTCOMES]; 2],
    /// Records of each topic that were read again to rebuild memory.
    pub replayed: [u64; 2],
    /// Those of them that this process itself had read before: it gave the partition up and got it back.
    pub reread: [u64; 2],
    /// Labels that were kept and are orphans now.
    pub orphaned: u64,
}

impl BatchCounts {
    /// Counts one record.
    pub fn count(&mut self, stream: Stream, outcome: Outcome, is_replay: bool) {
        if is_replay {
            self.replayed[stream.index()] += 1;
        } else {
            self.outcomes[stream.index()][outcome_index(outcome)] += 1;
        }
    }

    /// Records of one topic, those read again included.
    pub fn records(&self, stream: Stream) -> u64 {
        self.outcomes[stream.index()].iter().sum::<u64>() + self.replayed[stream.index()]
    }
}

/// What one worker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes of its shards, names and letters.
    pub bytes: usize,
    /// Inferences held.
    pub held: usize,
    /// Labels kept.
    pub kept: usize,
}

/// The partition that holds the most memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// Its number.
    pub partition: PartitionId,
    /// What it holds, in bytes.
    pub bytes: usize,
    /// The topic of it that is behind, if one is: until that moves on, the memory is kept.
    pub behind: Option<Stream>,
}

/// Memory that grows towards its budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growing {
    /// Until it is full, if it goes on so.
    pub hours_left: f64,
    /// What is held, in bytes.
    pub bytes: usize,
    /// The byte budget.
    pub budget: usize,
    /// What holds most of it.
    pub largest: Largest,
}

impl std::fmt::Display for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hours_left, bytes, budget, largest } = self;
        write!(
            f,
            "state holds {bytes} of {budget} bytes and grows: it is full in {hours_left:.1} hours; partition {} holds \
             the most, {} bytes",
            largest.partition.0, largest.bytes,
        )?;
        match largest.behind {
            Some(stream) => write!(f, ", and its topic {} is behind", stream.name()),
            None => Ok(()),
        }
    }
}

/// What a finished flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlushReport {
    /// From the freeze to the end.
    pub took: Duration,
    /// State rows written.
    pub states: usize,
    /// Metric rows written.
    pub metrics: usize,
    /// Dead letters sent.
    pub letters: usize,
    /// Whether its marks were written: not if partitions have to begin again from the marks that there are.
    pub has_marked: bool,
}

type Pair = [(&'static str, &'static str); 2];
type Single = [(&'static str, &'static str); 1];
type Numbered = [(&'static str, i64); 1];

/// Every meter; the names stand in [`Meters::register`] and nowhere else.
#[derive(Debug)]
struct Meters {
    records: Family<Pair, Counter>,
    replayed: Family<Single, Counter>,
    reread: Family<Single, Counter>,
    orphaned: Counter,
    dead_letters: Family<Pair, Counter>,
    rows: Family<Single, Counter>,
    audited: Family<Single, Counter>,
    audit_mismatches: Family<Single, Counter>,
    tables_went_back: Counter,
    retries: Family<Single, Counter>,
    commit_failures: Counter,
    flushes: Counter,
    flush_seconds: Histogram,
    last_flush: Gauge<f64, AtomicU64>,
    state_bytes: Family<Numbered, Gauge>,
    held: Family<Numbered, Gauge>,
    kept: Family<Numbered, Gauge>,
    state_budget: Gauge,
    hours_left: Gauge<f64, AtomicU64>,
    largest_partition: Gauge,
    cache_rows: Gauge,
    seal_marks: Family<Numbered, Gauge<f64, AtomicU64>>,
    lag: Family<[(&'static str, String); 2], Gauge>,
    partitions: Family<Numbered, Gauge>,
    not_ready: Family<Single, Gauge>,
    mostly_late: Gauge,
    alerts_open: Gauge,
    notifications: Family<[(&'static str, String); 2], Counter>,
}

impl Meters {
    fn register(registry: &mut Registry) -> Self {
        macro_rules! meter {
            ($name:literal, $help:literal) => {
                meter!($name, $help, Default::default())
            };
            ($name:literal, $help:literal, $new:expr) => {{
                let meter = $new;
                registry.register($name, $help, Clone::clone(&meter));
                meter
            }};
        }
        Self {
            records: meter!("records", "Records read, by topic and first outcome"),
            replayed: meter!("replayed_records", "Records read again after a start"),
            reread: meter!("reread_records", "Records read again that this process had read"),
            orphaned: meter!(
                "labels_orphaned",
                "Kept labels that matched nothing until none could come; after a rebalance some twice"
            ),
            dead_letters: meter!("dead_letters", "Dead letters, by topic and code"),
            rows: meter!("rows_written", "Rows acknowledged by ClickHouse, by table"),
            audited: meter!(
                "audited_rows",
                "Rows read back before a mark vouched for them, by table"
            ),
            audit_mismatches: meter!(
                "audit_mismatches",
                "Rows that were not as written when read back, and were written again, by table; stays 0"
            ),
            tables_went_back: meter!(
                "tables_went_back",
                "Times that ClickHouse had lost marks and partitions were read again; stays 0"
            ),
            retries: meter!("retries", "Failed attempts that are repeated, by code"),
            commit_failures: meter!("commit_failures", "Failed commits of offsets (harmless)"),
            flushes: meter!("flushes", "Finished flushes"),
            flush_seconds: meter!(
                "flush_seconds",
                "Length of a flush, from freeze to commit",
                Histogram::new(exponential_buckets(0.005, 2.0, 15))
            ),
            last_flush: meter!("last_flush_timestamp_seconds", "When the last flush finished"),
            state_bytes: meter!("state_bytes", "Memory of shards, names and letters, by worker"),
            held: meter!("held_inferences", "Inferences held, by worker"),
            kept: meter!("kept_labels", "Labels that matched nothing yet, by worker"),
            state_budget: meter!("state_budget_bytes", "The configured byte budget"),
            hours_left: meter!("state_budget_hours_left", "Until memory fills, -1 if it does not"),
            largest_partition: meter!(
                "state_budget_partition",
                "The partition that holds the most of the memory that fills, -1 if it does not"
            ),
            cache_rows: meter!("writer_cached_states", "State rows that the writer remembers"),
            seal_marks: meter!("seal_mark_timestamp_seconds", "Seal mark, by partition"),
            lag: meter!("lag_records", "Records not read yet, by topic and partition"),
            partitions: meter!("partitions", "Partitions owned, by worker"),
            not_ready: meter!("not_ready", "1 while the cause keeps the program from being ready"),
            mostly_late: meter!(
                "mostly_late",
                "1 while nearly all inferences are late: loaded later, or lateness is too short"
            ),
            alerts_open: meter!("alerts_open", "Alerts of the configured rules that are open"),
            notifications: meter!(
                "notifications",
                "Attempts to tell a target of a change of an alert, by target and result"
            ),
        }
    }

    /// All that records can become, at 0: `increase()` sees nothing of what a series holds when it first appears.
    fn begin_records(&self) {
        let of_labels = (Stream::Labels, OUTCOME_NAMES[outcome_index(Outcome::Dead)].1);
        for (stream, outcome) in OUTCOME_NAMES.into_iter().chain([of_labels]) {
            let labels = [("topic", stream.name()), ("outcome", outcome)];
            self.records.get_or_create(&labels).inc_by(0);
        }
    }
}

/// The meters and the readiness of one process (or one test). Clones share them.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    meters: Meters,
    reasons: Mutex<BTreeMap<Cause, String>>,
    warning: Mutex<Option<String>>,
    is_late_said: AtomicBool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("reasons", &self.reasons()).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Meters that all stand at 0, and no reason against being ready.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tidegauge");
        let meters = Meters::register(&mut registry);
        meters.hours_left.set(-1.0);
        meters.largest_partition.set(-1);
        meters.begin_records();
        let reasons = Mutex::new(BTreeMap::new());
        Self {
            inner: Arc::new(Inner {
                registry,
                meters,
                reasons,
                warning: Mutex::new(None),
                is_late_said: AtomicBool::new(false),
            }),
        }
    }

    /// All meters as Prometheus text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.inner.registry)
            .expect("a String takes all that is written");
        text
    }

    fn reasons_lock(&self) -> MutexGuard<'_, BTreeMap<Cause, String>> {
        self.inner.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many alerts are open.
    pub fn alerts_open(&self, open: usize) {
        self.meters().alerts_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// One attempt to tell a target.
    pub fn notification(&self, target: &str, is_delivered: bool) {
        let result = if is_delivered { "delivered" } else { "failed" };
        let labels = [("target", target.to_owned()), ("result", result.to_owned())];
        self.meters().notifications.get_or_create(&labels).inc();
    }

    fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    /// Says why the program is not ready. Logged when the cause is new, or now has another reason.
    pub fn not_ready(&self, cause: Cause, reason: impl Into<String>) {
        let reason = reason.into();
        let mut reasons = self.reasons_lock();
        let before = reasons.insert(cause, reason.clone());
        self.set_not_ready(&reasons, cause);
        drop(reasons);
        let is_expected = matches!(cause, Cause::Starting | Cause::Stopping);
        if before.is_none() && is_expected {
            info!(cause = cause.name(), %reason, "not ready");
        } else if before.is_none() {
            warn!(cause = cause.name(), %reason, "not ready");
        } else if before.as_ref() != Some(&reason) {
            debug!(cause = cause.name(), %reason, "still not ready");
        }
    }

    /// The cause is gone.
    pub fn ready(&self, cause: Cause) {
        let mut reasons = self.reasons_lock();
        if reasons.remove(&cause).is_some() {
            self.set_not_ready(&reasons, cause);
            let is_ready = reasons.is_empty();
            drop(reasons);
            info!(cause = cause.name(), is_ready, "cause is gone");
        }
    }

    /// Takes the locked reasons: set after the lock is gone, the gauge could keep what another thread has changed since.
    fn set_not_ready(&self, reasons: &BTreeMap<Cause, String>, cause: Cause) {
        let gauge = self.meters().not_ready.get_or_create(&[("cause", cause.name())]);
        gauge.set(i64::from(reasons.contains_key(&cause)));
    }

    /// Why the program is not ready; empty when it is.
    pub fn reasons(&self) -> Vec<(Cause, String)> {
        self.reasons_lock().iter().map(|(cause, reason)| (*cause, reason.clone())).collect()
    }

    /// A batch was folded in.
    pub fn batch(&self, counts: &BatchCounts) {
        for stream in Stream::BOTH {
            let topic = ("topic", stream.name());
            for ((_, name), &count) in OUTCOME_NAMES.iter().zip(&counts.outcomes[stream.index()]) {
                if count > 0 {
                    self.meters().records.get_or_create(&[topic, ("outcome", name)]).inc_by(count);
                }
            }
            let replayed = counts.replayed[stream.index()];
            if replayed > 0 {
                self.meters().replayed.get_or_create(&[topic]).inc_by(replayed);
            }
            // Always there, because that it stays 0 is what one looks for.
            let reread = counts.reread[stream.index()];
            self.meters().reread.get_or_create(&[topic]).inc_by(reread);
        }
        self.meters().orphaned.inc_by(counts.orphaned);
    }

    /// What a worker holds after a batch.
    pub fn holding(&self, worker: usize, holding: Holding) {
        let label = [("worker", number(worker))];
        self.meters().state_bytes.get_or_create(&label).set(number(holding.bytes));
        self.meters().held.get_or_create(&label).set(number(holding.held));
        self.meters().kept.get_or_create(&label).set(number(holding.kept));
    }

    /// The configured byte budget.
    pub fn state_budget(&self, bytes: usize) {
        self.meters().state_budget.set(number(bytes));
    }

    /// How memory grows; none when it does not.
    pub fn growth(&self, growing: Option<Growing>) {
        let partition = growing.map_or(-1, |growing| growing.largest.partition.0);
        self.meters().hours_left.set(growing.map_or(-1.0, |growing| growing.hours_left));
        self.meters().largest_partition.set(i64::from(partition));
        let soon = growing.filter(|growing| growing.hours_left < WARN_BELOW_HOURS);
        *self.warning_lock() = soon.map(|growing| growing.to_string());
        if let Some(Growing { hours_left, bytes, budget, largest }) = soon {
            warn!(
                hours_left,
                bytes,
                budget,
                partition = largest.partition.0,
                partition_bytes = largest.bytes,
                behind = largest.behind.map_or("", Stream::name),
                "state grows towards its budget"
            );
        }
    }

    /// What is to be looked at soon though the program is ready: memory that will be full.
    pub fn warning(&self) -> Option<String> {
        self.warning_lock().clone()
    }

    fn warning_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.inner.warning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nearly all inferences of late were late, or no longer. Logged once in a process, with the remedy.
    pub fn mostly_late(&self, late: Option<(u64, u64)>) {
        let before = self.meters().mostly_late.set(i64::from(late.is_some()));
        let Some((late, of)) = late.filter(|_| before == 0) else { return };
        if !self.inner.is_late_said.swap(true, Ordering::Relaxed) {
            warn!(
                late,
                of,
                "nearly all inferences arrived later than windows.lateness allows, so none of them is measured. \
                 If their history was loaded into Kafka later, set windows.progress = \"event\"; if they come late, \
                 raise windows.lateness. Either needs another job name"
            );
        }
    }

    /// Dead letters were acknowledged.
    pub fn dead_letters(&self, by: &BTreeMap<(Stream, &'static str), u64>) {
        for (&(stream, code), &count) in by {
            let labels = [("topic", stream.name()), ("code", code)];
            self.meters().dead_letters.get_or_create(&labels).inc_by(count);
            info!(topic = stream.name(), code, count, "dead letters sent");
        }
    }

    /// Rows of a table were acknowledged.
    pub fn rows_written(&self, table: &'static str, rows: usize) {
        let rows = natural(rows);
        self.meters().rows.get_or_create(&[("table", table)]).inc_by(rows);
    }

    /// An attempt failed and will be repeated after a pause.
    pub fn retry(&self, code: &'static str, error: &dyn std::fmt::Display, pause: Duration) {
        self.meters().retries.get_or_create(&[("code", code)]).inc();
        warn!(code, %error, pause_ms = pause.as_millis(), "failed, will be repeated");
    }

    /// Offsets could not be committed to Kafka; the next flush commits again.
    pub fn commit_failed(&self, error: &dyn std::fmt::Display) {
        self.meters().commit_failures.inc();
        warn!(%error, "offsets not committed; marks count, so nothing is lost");
    }

    /// A flush has not finished for so long.
    pub fn flush_is_slow(&self, waited: Duration, waits_for: &'static str) {
        warn!(seconds = waited.as_secs(), waits_for, "a flush does not end");
    }

    /// Flushes that have finished.
    pub fn flushes(&self) -> u64 {
        self.meters().flushes.get()
    }

    /// A flush has finished.
    #[expect(clippy::disallowed_methods, reason = "telemetry says when by the wall clock")]
    pub fn flushed(&self, report: &FlushReport) {
        self.meters().flushes.inc();
        self.meters().flush_seconds.observe(report.took.as_secs_f64());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.meters().last_flush.set(now.unwrap_or_default().as_secs_f64());
        debug!(
            took_ms = report.took.as_millis(),
            states = report.states,
            metrics = report.metrics,
            letters = report.letters,
            "flushed"
        );
    }

    /// Rows were read back; some were not as they had been written.
    pub fn audited(&self, table: &'static str, rows: usize, lost: usize) {
        let label = [("table", table)];
        self.meters().audited.get_or_create(&label).inc_by(natural(rows));
        self.meters().audit_mismatches.get_or_create(&label).inc_by(natural(lost));
        if lost > 0 {
            warn!(
                table,
                rows, lost, "rows that ClickHouse had acknowledged were not there: written again"
            );
        }
    }

    /// ClickHouse has lost marks of these partitions, and so the rows before them.
    pub fn tables_went_back(&self, partitions: &[PartitionId]) {
        self.meters().tables_went_back.inc();
        let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
        warn!(
            ?partitions,
            "ClickHouse has lost rows that it had acknowledged (put back to an older state?): \
             the partitions are read again from the marks that it still has"
        );
    }

    /// State rows that the writer remembers.
    pub fn writer_cache(&self, rows: usize) {
        self.meters().cache_rows.set(number(rows));
    }

    /// A partition's seal mark.
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "seconds for a gauge")]
    pub fn seal_mark(&self, partition: PartitionId, mark: EventTime) {
        let label = [("partition", i64::from(partition.0))];
        self.meters().seal_marks.get_or_create(&label).set(mark.0 as f64 / 1000.0);
    }

    /// Records that are not read yet, of all topic partitions of this instance: others are another's to tell.
    pub fn lags(&self, lags: &[(Stream, PartitionId, i64)]) {
        self.meters().lag.clear();
        for &(stream, partition, records) in lags {
            let labels =
                [("topic", stream.name().to_owned()), ("partition", partition.0.to_string())];
            self.meters().lag.get_or_create(&labels).set(records);
        }
    }

    /// A worker's partitions have changed.
    pub fn assigned(&self, worker: usize, owned: usize, change: &'static str, of: &[PartitionId]) {
        self.meters().partitions.get_or_create(&[("worker", number(worker))]).set(number(owned));
        let partitions: Vec<i32> = of.iter().map(|partition| partition.0).collect();
        info!(worker, owned, ?partitions, "partitions {change}");
    }
}

fn natural(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a list of `target=level`.
    #[error(
        "logs.level is {level:?}; it must be error, warn, info, debug or trace, or a list like \"info,librdkafka=debug\""
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// Another log is in place already.
    #[error("the log is set up already")]
    SetUpTwice,
}

impl LogError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Level { .. } => "log_level",
            Self::SetUpTwice => "log_set_up_twice",
        }
    }
}

/// Refuses what [`set_up_log`] would refuse.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

/// What is logged at this level, or list such as `info,tidegauge=debug`.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refused = || LogError::Level { level: level.to_owned() };
    // The filter itself takes "loud" for the name of a module, and then logs nothing else.
    let is_level = |directive: &str| {
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        ["error", "warn", "info", "debug", "trace", "off"].contains(&&*level.to_lowercase())
    };
    if !level.split(',').all(is_level) {
        return Err(refused());
    }
    EnvFilter::try_new(level).map_err(|_| refused())
}

/// Sends the log to standard error. `level` is a level, or a list such as `info,tidegauge=debug`. Called once, by
/// `main`.
pub fn set_up_log(format: LogFormat, level: &str) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let done = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| LogError::SetUpTwice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the text has exactly this line.
    fn says(telemetry: &Telemetry, line: &str) -> bool {
        telemetry.encode().lines().any(|it| it == line)
    }

    #[test]
    fn counts_reach_the_text() {
        let telemetry = Telemetry::new();
        let mut counts = BatchCounts::default();
        counts.count(Stream::Inferences, Outcome::Accepted, false);
        counts.count(Stream::Inferences, Outcome::Accepted, false);
        counts.count(Stream::Labels, Outcome::Dead, false);
        counts.count(Stream::Labels, Outcome::Matched, true);
        counts.orphaned = 4;
        telemetry.batch(&counts);
        telemetry.rows_written("window_state", 3);
        for line in [
            "tidegauge_records_total{topic=\"inferences\",outcome=\"accepted\"} 2",
            "tidegauge_records_total{topic=\"labels\",outcome=\"dead\"} 1",
            "tidegauge_replayed_records_total{topic=\"labels\"} 1",
            "tidegauge_reread_records_total{topic=\"labels\"} 0",
            "tidegauge_labels_orphaned_total 4",
            "tidegauge_rows_written_total{table=\"window_state\"} 3",
        ] {
            assert!(says(&telemetry, line), "{line} is not in\n{}", telemetry.encode());
        }
    }

    #[test]
    fn a_first_burst_is_an_increase() {
        let text = Telemetry::new().encode();
        let records = text.lines().filter(|line| line.starts_with("tidegauge_records_total{"));
        let mut found: Vec<&str> = records.collect();
        found.sort_unstable();
        let of = |topic: &str, outcomes: [&str; 4]| {
            outcomes.map(|outcome| {
                format!("tidegauge_records_total{{topic=\"{topic}\",outcome=\"{outcome}\"}} 0")
            })
        };
        let expected = [
            of("inferences", ["accepted", "dead", "duplicate", "late"]),
            of("labels", ["dead", "kept", "matched", "orphan"]),
        ];
        assert_eq!(found, expected.concat());
    }

    #[test]
    fn lag_is_told_of_own_partitions_only() {
        let telemetry = Telemetry::new();
        telemetry.lags(&[(Stream::Labels, PartitionId(3), 7)]);
        let line = "tidegauge_lag_records{topic=\"labels\",partition=\"3\"} 7";
        assert!(says(&telemetry, line));
        telemetry.lags(&[(Stream::Labels, PartitionId(2), 5)]);
        assert!(!telemetry.encode().contains("partition=\"3\""));
    }

    #[test]
    fn each_cause_is_set_and_cleared_on_its_own() {
        let telemetry = Telemetry::new();
        telemetry.not_ready(Cause::ClickHouse, "no answer");
        telemetry.not_ready(Cause::StateBudget, "full");
        telemetry.ready(Cause::ClickHouse);
        telemetry.ready(Cause::Kafka);
        assert_eq!(telemetry.reasons(), [(Cause::StateBudget, "full".to_owned())]);
        assert!(says(&telemetry, "tidegauge_not_ready{cause=\"clickhouse\"} 0"));
        assert!(says(&telemetry, "tidegauge_not_ready{cause=\"state_budget\"} 1"));
    }

    #[test]
    fn the_gauge_of_a_cause_that_threads_share_says_what_the_reasons_say() {
        const ROUNDS: usize = 2000;
        let (telemetry, both) = (Telemetry::new(), std::sync::Barrier::new(2));
        let mut differing = 0;
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    both.wait();
                    telemetry.ready(Cause::SchemaRegistry);
                    both.wait();
                }
            });
            // Counted first: a panic in here would leave the other waiting.
            for _ in 0..ROUNDS {
                both.wait();
                telemetry.not_ready(Cause::SchemaRegistry, "no answer");
                both.wait();
                let reasons = telemetry.reasons().len();
                let line = format!("tidegauge_not_ready{{cause=\"schema_registry\"}} {reasons}\n");
                differing += usize::from(!telemetry.encode().contains(&line));
            }
        });
        assert_eq!(differing, 0, "of {ROUNDS}");
    }

    #[test]
    fn memory_that_is_full_soon_is_a_warning_that_names_the_partition() {
        let telemetry = Telemetry::new();
        let tells = |hours: &str, partition: &str| {
            says(&telemetry, &format!("tidegauge_state_budget_hours_left {hours}"))
                && says(&telemetry, &format!("tidegauge_state_budget_partition {partition}"))
        };
        assert!(tells("-1.0", "-1") && telemetry.warning().is_none());
        let (partition, behind) = (PartitionId(3), Some(Stream::Labels));
        let largest = Largest { partition, bytes: 400, behind };
        let growing = Growing { hours_left: 2.5, bytes: 700, budget: 1000, largest };
        telemetry.growth(Some(growing));
        assert!(tells("2.5", "3"));
        let said = "state holds 700 of 1000 bytes and grows: it is full in 2.5 hours; partition 3 holds the most, 400 \
                    bytes, and its topic labels is behind";
        assert_eq!(telemetry.warning().as_deref(), Some(said));
        telemetry.growth(Some(Growing { hours_left: 24.0, ..growing }));
        assert!(tells("24.0", "3") && telemetry.warning().is_none(), "there is time");
        telemetry.growth(None);
        assert!(tells("-1.0", "-1"));
    }

    #[test]
    fn an_unknown_level_is_refused() {
        for level in ["tidegauge=loud", "loud", "info,", ""] {
            let error = set_up_log(LogFormat::Text, level).expect_err(level);
            assert_eq!(error.code(), "log_level");
        }
    }
}
