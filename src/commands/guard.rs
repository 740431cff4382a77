//! What must hold before a row is written: the topics are still those that the job was bound to, and the job is still
//! bound to this configuration. Both can change under a running instance, and a row that is written is written.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Failure;
use crate::engine::event::PartitionId;
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::state::{Key, StateRow};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::sink::tables::Table;
use crate::sink::{MetricVersion, RowBatch, Sink, SinkError, StateVersion};
use crate::source::SourceError;
use crate::source::kafka::{KafkaHealth, TopicWatch};

/// Why the job was refused while it ran, if it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<Failure>>>);

impl Refusal {
    /// Takes it out.
    pub(crate) fn take(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// ClickHouse behind these two questions.
pub(crate) struct Guarded {
    clickhouse: ClickHouse,
    /// Files have neither.
    topics: Option<(TopicWatch, KafkaHealth)>,
    binding: JobBinding,
    generation: u16,
    refusal: Refusal,
    /// Who waits for the ends of flushes; dropped with this.
    flushed: Option<watch::Sender<u64>>,
    /// Whether the job is ours.
    is_ours: bool,
    /// Whether the topics are what they were, of all that this flush writes.
    are_same: bool,
}

impl Guarded {
    pub(crate) fn new(
        clickhouse: ClickHouse,
        topics: (TopicWatch, KafkaHealth),
        (binding, generation): (JobBinding, u16),
        refusal: Refusal,
    ) -> Self {
        Self { topics: Some(topics), ..Self::of_files(clickhouse, binding, generation, refusal) }
    }

    /// The same where files are read: then only the job may be somebody else's.
    pub(crate) fn of_files(
        clickhouse: ClickHouse,
        binding: JobBinding,
        generation: u16,
        refusal: Refusal,
    ) -> Self {
        let (topics, is_ours, are_same) = (None, false, false);
        let flushed = None;
        Self { clickhouse, topics, binding, generation, refusal, flushed, is_ours, are_same }
    }

    /// Says after each flush that there was one.
    pub(crate) fn telling(mut self, flushed: watch::Sender<u64>) -> Self {
        self.flushed = Some(flushed);
        self
    }

    /// Takes the job for this configuration, once.
    async fn take_job(&mut self) -> Result<(), SinkError> {
        if !self.is_ours {
            self.or_end(self.clickhouse.confirm(&self.binding, self.generation).await).await?;
            self.is_ours = true;
        }
        Ok(())
    }

    /// Whether the job is still bound to this configuration. An instance that finds nothing left to write would else go on
    /// as one of a group that counts otherwise, until the next record; and one that was away while the job was bound anew
    /// would begin again and again, as nobody reads its marks.
    async fn check_bound(&self) -> Result<(), SinkError> {
        self.or_end(self.clickhouse.still_bound(&self.binding, self.generation).await).await
    }

    /// Ends the run where the job was refused.
    async fn or_end(&self, bound: Result<(), BindError>) -> Result<(), SinkError> {
        match bound {
            Ok(()) => Ok(()),
            Err(BindError::Sink(error)) => Err(error),
            Err(refused) => {
                let failure = Failure::from(refused);
                let message = failure.message.clone();
                self.refusal.set(failure);
                let Some((_, health)) = &self.topics else {
                    return Err(SinkError::Unreadable(message));
                };
                // The sources end the run, and the caller finds the reason.
                health.refuse(SourceError::Client(message));
                std::future::pending().await
            }
        }
    }
}

impl Sink for Guarded {
    async fn write(&mut self, batch: &RowBatch) -> Result<(), SinkError> {
        self.take_job().await?;
        // All that a flush writes was read before its first row is written. If the topics are the same then, it was
        // read from them.
        if let Some((watch, _)) = self.topics.as_ref().filter(|_| !self.are_same) {
            watch.confirm().await;
            self.are_same = true;
        }
        self.clickhouse.write(batch).await?;
        // The marks end a flush; what the next one writes is read after.
        self.are_same &= batch.table != Table::Marks;
        if let Some(flushed) = self.flushed.as_ref().filter(|_| batch.table == Table::Marks) {
            flushed.send_modify(|flushes| *flushes += 1);
        }
        Ok(())
    }

    async fn state_versions(&mut self, span: Window) -> Result<Vec<StateVersion>, SinkError> {
        self.clickhouse.state_versions(span).await
    }

    async fn window_starts(&mut self) -> Result<Vec<EventTime>, SinkError> {
        self.clickhouse.window_starts().await
    }

    async fn states(&mut self, wanted: &[(Key, PartitionId)]) -> Result<Vec<StateRow>, SinkError> {
        self.clickhouse.states(wanted).await
    }

    async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Vec<Mark>, SinkError> {
        // Partitions begin, perhaps after a flush that was given up before its marks.
        self.are_same = false;
        self.check_bound().await?;
        self.clickhouse.marks(partitions).await
    }

    async fn seals(&mut self) -> Result<Vec<(PartitionId, EventTime)>, SinkError> {
        self.clickhouse.seals().await
    }

    async fn mark_orders(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, i64)>, SinkError> {
        self.clickhouse.mark_orders(partitions).await
    }

    async fn metric_versions(
        &mut self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> Result<Vec<MetricVersion>, SinkError> {
        self.clickhouse.metric_versions(tables, windows).await
    }
}
