//! The flow: records in, rows out. This file holds the threads, channels and timers; what they drive are plain
//! structs: [`Worker`] and [`Writer`].
//!
//! Who may wait for whom, so that nothing can lock up: a worker waits for nobody (its messages stay in its outbox
//! while the channel is full); the writer's task waits for workers' answers, which come between two batches, and for
//! ClickHouse, as long as it takes; the control thread behind the sources waits for a worker's reply to a revocation,
//! which comes in time whatever ClickHouse does.
#![warn(clippy::wildcard_enum_match_arm)]

mod budget;
mod growth;
mod late;
mod letters;
mod intake;
mod parts;
mod starts;
pub mod worker;
mod account;
mod audit;
mod step;
pub mod writer;
pub mod rebuild;
mod crew;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::decode::registry::Schemas;
use crate::decode::{DecoderError, DecoderSettings};
use crate::engine::ShardSettings;
use crate::engine::metrics::accumulator::StateError;
use crate::engine::outcome::Outcomes;
use crate::engine::time::Millis;
use crate::engine::window::Window;
use crate::sink::{DeadLetters, Sink, SinkError};
use crate::source::{Commits, Source, SourceError};
use crate::telemetry::{BatchCounts, Cause, OUTCOMES, Telemetry};

pub use budget::ManyNames;
use crew::{Crew, now};
pub use letters::DeadLetterLimit;
use starts::Starts;
pub use worker::Worker;
pub use writer::Writer;

/// What a stop leaves of its time to the workers, which leave the group after the last flush.
const LEAST_FOR_WORKERS: Duration = Duration::from_secs(2);

/// What the pipeline goes by.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// What every shard goes by.
    pub shard: Arc<ShardSettings>,
    /// How the topics are decoded: inferences, labels. None for a topic that is not read.
    pub decoders: [Option<DecoderSettings>; 2],
    /// Writer schemas; [`run`] serves them.
    pub schemas: Arc<Schemas>,
    /// The job's name.
    pub job: String,
    /// Partitions of each topic.
    pub partitions: i32,
    /// Lengths of the coarser windows, multiples of the base window's.
    pub grains: Vec<Millis>,
    /// Rows are written of windows, of every grain, that lie wholly within. Of the others not all records are read:
    /// theirs are folded and counted, and that is all.
    pub rows_within: Window,
    /// How often rows are written.
    pub flush_interval: Duration,
    /// What all workers' shards and names may hold together.
    pub state_budget_bytes: usize,
    /// How long a revocation may take to write what is there, and a stop in all.
    pub drain_budget: Duration,
    /// When dead letters stop the process.
    pub dead_letter_limit: DeadLetterLimit,
}

/// Why the pipeline ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Kafka.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// ClickHouse, or the dead-letter topic.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A decoder can't be made of the configuration.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// A stored state that this program did not write.
    #[error("{0}; drop the job's rows or take a new job name")]
    State(#[from] StateError),
    /// Memory is exhausted and nothing can free it.
    #[error(
        "state takes all of the budget of {budget} bytes ({bytes} and what the next records need), and partition \
         {partition} of topic {topic} frees nothing: set the state budget to {enough} bytes or more, or see why this \
         partition lags behind"
    )]
    StateBudget {
        /// The partition that holds it up.
        partition: i32,
        /// The topic that would have to move on.
        topic: &'static str,
        /// Bytes held.
        bytes: usize,
        /// The configured budget.
        budget: usize,
        /// A budget to try next: how much is to come, nobody knows.
        enough: usize,
    },
    /// Memory is exhausted, most of it by names.
    #[error("state takes all of the budget of {budget} bytes: {names}")]
    Names {
        /// What fills it.
        names: ManyNames,
        /// The configured budget.
        budget: usize,
    },
    /// Too many records can't be used.
    #[error(
        "{dead} of the last {records} records can't be used, the newest at topic {topic}, partition {partition}, \
         offset {offset} ({reason}): fix the format or the producer, or raise the dead-letter limit, and start again"
    )]
    DeadLetterLimit {
        /// The newest one's topic.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// The records that were looked at.
        records: u64,
        /// The bad ones among them.
        dead: u64,
        /// What is wrong with the newest.
        reason: String,
    },
    /// A worker thread ended by a panic: a bug.
    #[error(
        "worker {worker} failed ({message}): a bug, please report it; a restart goes on from the last mark"
    )]
    Worker {
        /// Which.
        worker: usize,
        /// What it said.
        message: String,
    },
}

impl PipelineError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source(error) => error.code(),
            Self::Sink(error) => error.code(),
            Self::Decoder(error) => error.code(),
            Self::State(error) => error.code(),
            Self::StateBudget { .. } | Self::Names { .. } => "state_budget_exceeded",
            Self::DeadLetterLimit { .. } => "dead_letter_limit",
            Self::Worker { .. } => "worker_failed",
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Records read of each topic, those read again after a start included.
    pub records: [u64; 2],
    /// First outcomes of each topic's records, in the order of
    /// [`OUTCOME_NAMES`](crate::telemetry::OUTCOME_NAMES); those read again are left out.
    pub outcomes: [[u64; OUTCOMES]; 2],
    /// What became of each topic's records since the job's start, as the last marks of the partitions say.
    pub accounts: [Outcomes; 2],
    /// Rows that ClickHouse acknowledged, of all tables.
    pub rows_written: u64,
    /// Dead letters that were acknowledged.
    pub letters: u64,
    /// Flushes that wrote something.
    pub flushes: u64,
    /// How long it ran.
    pub elapsed: Duration,
    /// Whether everything read was written when it ended. If not, the next start reads it again.
    pub is_drained: bool,
}

/// What the workers of a process share: sums, and one lock for each batch.
#[derive(Debug, Default)]
pub struct Shared {
    memory: budget::Memory,
    late: late::RecentlyLate,
    starts: Starts,
    records: [AtomicU64; 2],
    outcomes: [[AtomicU64; OUTCOMES]; 2],
}

impl Shared {
    fn count(&self, counts: &BatchCounts) {
        for stream in crate::engine::event::Stream::BOTH {
            let i = stream.index();
            self.records[i].fetch_add(counts.records(stream), Ordering::Relaxed);
            for (sum, &count) in self.outcomes[i].iter().zip(&counts.outcomes[i]) {
                sum.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Bytes held by all workers.
    pub fn state_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Records and outcomes so far; the writer's part is left at 0.
    pub fn totals(&self) -> Totals {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Totals {
            records: self.records.each_ref().map(read),
            outcomes: self.outcomes.each_ref().map(|of| of.each_ref().map(read)),
            ..Totals::default()
        }
    }
}

/// Runs until `stop` is ready, a bounded source has ended, or an error ends it. The ends are arguments, so a test runs
/// the whole program in memory and stops it when it likes.
pub async fn run<S, C, K, D>(
    settings: PipelineSettings,
    sources: Vec<S>,
    commits: C,
    sink: K,
    letters: D,
    telemetry: Telemetry,
    stop: impl Future<Output = ()>,
) -> Result<Totals, PipelineError>
where
    S: Source + 'static,
    C: Commits,
    K: Sink,
    D: DeadLetters,
{
    let started = now();
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared::default());
    telemetry.state_budget(settings.state_budget_bytes);
    telemetry.not_ready(Cause::Starting, "no partition has been assigned yet");
    let mut writer = Writer::new(Arc::clone(&settings), commits, sink, letters, telemetry.clone());
    let (mut crew, mut failures) = Crew::start(&settings, sources, &shared, &telemetry, started)?;
    let (say_stop, stopped) = watch::channel(false);
    let asked = OnceLock::new();
    let stop_in_time = async {
        stop.await;
        asked.set(now()).expect("a stop is asked for once");
        telemetry.not_ready(Cause::Stopping, "asked to stop");
        say_stop.send_replace(true);
        tokio::time::sleep(for_flush(settings.drain_budget)).await;
    };
    let schemas = async {
        Arc::clone(&settings.schemas).serve().await;
        std::future::pending::<()>().await;
    };
    let growth = growth::watch(&settings, &shared, &telemetry);
    // Dropping the writer's future in the middle of a flush is as harmless as a crash.
    let ended = tokio::select! {
        biased;
        Some(failure) = failures.recv() => Err(failure),
        ended = crew.work(&mut writer, stopped) => ended,
        () = stop_in_time => Ok(false),
        () = schemas => Ok(false),
        () = growth => Ok(false),
    };
    let since_asked = asked.get().map(Instant::elapsed);
    crew.end(for_workers(settings.drain_budget, since_asked)).await;
    let is_drained = ended?;
    Ok(Totals {
        accounts: writer.accounts(),
        rows_written: writer.rows_written(),
        letters: writer.letters_sent(),
        flushes: writer.flushes(),
        elapsed: started.elapsed(),
        is_drained,
        ..shared.totals()
    })
}

/// How long the last flush of a stop may take.
fn for_flush(budget: Duration) -> Duration {
    budget.saturating_sub(LEAST_FOR_WORKERS).max(budget / 2)
}

/// How long the workers may then take to end; `since_asked` is how long ago the stop was asked for, if it was.
fn for_workers(budget: Duration, since_asked: Option<Duration>) -> Duration {
    budget.saturating_sub(since_asked.unwrap_or_default()).max(LEAST_FOR_WORKERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_fits_into_the_drain_budget() {
        let seconds = Duration::from_secs;
        for budget in [4, 5, 20, 60].map(seconds) {
            // What is still written then is cut off.
            let flush = for_flush(budget);
            assert_eq!(flush + for_workers(budget, Some(flush)), budget);
            assert_eq!(for_workers(budget, Some(seconds(1))), budget.saturating_sub(seconds(1)));
            assert_eq!(for_workers(budget, None), budget, "an end that nobody asked for");
        }
        let short = Duration::from_millis(100);
        assert_eq!(for_flush(short), short / 2, "something may be written");
        assert_eq!(for_workers(short, Some(short)), LEAST_FOR_WORKERS);
    }
}
