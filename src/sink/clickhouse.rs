//! The ClickHouse end: what the pipeline writes to and reads from, and what `init` and `check` ask.

use std::collections::BTreeMap;

use crate::alerts::{AlertRow, Change, Rule, State};
use crate::engine::ModelSettings;
use crate::engine::event::PartitionId;
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::state::{Key, StateRow};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::report::Row;

pub use super::alerts::AlertJobs;
pub use super::connection::{ClickHouseSettings, DEFAULT_TIMEOUT, INSERT_SETTINGS};
pub use super::migrate::Migrated;
pub use super::read::Jobs;

use super::alerts::{Notification, SeenRow};
use super::connection::Connection;
use super::ddl::{Databases, Engine};
use super::definitions::{self, MetricDefinition};
use super::files::{self, FileRow};
use super::job::{self, BindError, JobBinding, Unused};
use super::rows::{self, RowFilter};
use super::summary::{self, Grain, ModelSummary};
use super::{
    MetricVersion, RowBatch, Sink, SinkError, StateVersion, alerts, migrate, read, tables, views,
};

/// The database of one job. Clones share the connections.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    connection: Connection,
}

/// All statements of `init` for an empty server, in order; no server is asked.
pub fn print(database: &str, engine: &Engine) -> String {
    let databases = Databases::of(database);
    tables::print(&databases, engine) + "\n" + &views::print(&databases, engine)
}

impl ClickHouse {
    /// Connects to nothing yet.
    pub fn new(settings: ClickHouseSettings) -> Self {
        Self { connection: Connection::new(settings) }
    }

    /// Creates or brings forward databases, tables and views. Repeating it does nothing.
    pub async fn init(&self) -> Result<Migrated, SinkError> {
        migrate::init(&self.connection).await
    }

    /// Compares the tables with what this program writes.
    pub async fn check_schema(&self) -> Result<(), SinkError> {
        migrate::check(&self.connection).await
    }

    /// The same for a job that keeps only rows of some windows, and whose marks count all records.
    pub async fn check_schema_but_rows(&self) -> Result<(), SinkError> {
        migrate::check_but_rows(&self.connection).await
    }

    /// The same of the tables alone, whatever rows they hold.
    pub async fn check_tables(&self) -> Result<(), SinkError> {
        migrate::check_tables(&self.connection).await
    }

    /// The server's wall clock: milliseconds since 1970-01-01 UTC.
    pub async fn now_ms(&self) -> Result<i64, SinkError> {
        read::now_ms(&self.connection).await
    }

    /// The metric rows of one table that pass the filter, by time; of more than its limit the newest.
    pub async fn metric_rows(
        &self,
        table: MetricTable,
        filter: &RowFilter,
    ) -> Result<Vec<Row>, SinkError> {
        rows::select(&self.connection, table, filter).await
    }

    /// The greatest version of every state row that passes the filter, which names no grain; of more than its limit
    /// those of the newest generation.
    pub async fn filtered_versions(
        &self,
        filter: &RowFilter,
    ) -> Result<Vec<StateVersion>, SinkError> {
        rows::state_versions(&self.connection, filter).await
    }

    /// The grains that the rows of the filter have, the finest first.
    pub async fn grains(&self, filter: &RowFilter) -> Result<Vec<Grain>, SinkError> {
        summary::grains(&self.connection, filter).await
    }

    /// How each model stands, by the rows of the filter's grain and segment; at most [`summary::MOST_MODELS`].
    pub async fn models(&self, filter: &RowFilter) -> Result<Vec<ModelSummary>, SinkError> {
        Box::pin(summary::models(&self.connection, filter)).await
    }

    /// The jobs that have metric rows: where there are none of this one.
    pub async fn jobs(&self) -> Result<Jobs, SinkError> {
        read::jobs(&self.connection).await
    }

    /// Binds the job's name at its first start, compares at later ones; the job's generation.
    pub async fn bind(&self, binding: &JobBinding) -> Result<u16, BindError> {
        job::bind(&self.connection, binding).await
    }

    /// What the job is bound to, whatever this configuration says; none where it has not begun.
    pub async fn bound(&self) -> Result<Option<JobBinding>, SinkError> {
        job::recorded(&self.connection).await
    }

    /// Whether the job may be bound to another configuration, if no instance of it runs.
    pub async fn unused(&self, binding: &JobBinding) -> Result<Option<Unused>, BindError> {
        job::unused(&self.connection, binding).await
    }

    /// Binds an unused job, of which no instance runs, to another configuration; its new generation.
    pub async fn rebind(&self, binding: &JobBinding, unused: &Unused) -> Result<u16, BindError> {
        job::rebind(&self.connection, binding, unused).await
    }

    /// Says, before the first row, that rows of this configuration follow. Refused where another has taken the job.
    pub async fn confirm(&self, binding: &JobBinding, generation: u16) -> Result<(), BindError> {
        job::confirm(&self.connection, binding, generation).await
    }

    /// Refused where another configuration has taken the job since it was bound.
    pub async fn still_bound(
        &self,
        binding: &JobBinding,
        generation: u16,
    ) -> Result<(), BindError> {
        job::still_bound(&self.connection, binding, generation).await.map(drop)
    }
}

/// Which files the job has taken.
impl ClickHouse {
    /// All of them, by stream, in their order.
    pub async fn taken_files(&self, generation: u16) -> Result<[Vec<FileRow>; 2], SinkError> {
        files::taken(&self.connection, generation).await
    }

    /// Takes a file as the next of its stream, unless another process was faster; the files from its number on.
    pub async fn take_file(
        &self,
        generation: u16,
        file: &FileRow,
    ) -> Result<Vec<FileRow>, SinkError> {
        files::take(&self.connection, generation, file).await
    }
}

/// What the configuration defines.
impl ClickHouse {
    /// Writes down the custom metrics and the models' reference profiles, where they are not there yet as they are.
    pub async fn define(
        &self,
        metrics: &[MetricDefinition],
        models: &[ModelSettings],
    ) -> Result<(), SinkError> {
        definitions::write_metrics(&self.connection, metrics).await?;
        definitions::write_profiles(&self.connection, models).await
    }
}

/// What rules read and write.
impl ClickHouse {
    /// The job's name.
    pub fn job(&self) -> &str {
        &self.connection.settings.job
    }

    /// Inserts and waits for the acknowledgement.
    pub async fn insert(&self, batches: &[RowBatch]) -> Result<(), SinkError> {
        for batch in batches {
            self.connection.insert(batch).await?;
        }
        Ok(())
    }

    /// Up to where windows are sealed in all partitions and their rows written.
    pub async fn sealed_until(&self, partitions: i32) -> Result<Option<EventTime>, SinkError> {
        alerts::sealed_until(&self.connection, partitions).await
    }

    /// From the first to the last window of a rule's metric.
    pub async fn rule_span(
        &self,
        rule: &Rule,
        since: Option<EventTime>,
    ) -> Result<Option<Window>, SinkError> {
        alerts::span(&self.connection, rule, since).await
    }

    /// The start of the first window from `from` on that has a row of the keys that a rule is about.
    pub async fn rule_next(
        &self,
        rule: &Rule,
        from: EventTime,
    ) -> Result<Option<EventTime>, SinkError> {
        alerts::next(&self.connection, rule, from).await
    }

    /// The windows that start within `span` of the keys that a rule is about, by time.
    pub async fn rule_windows(&self, rule: &Rule, span: Window) -> Result<Vec<SeenRow>, SinkError> {
        alerts::seen(&self.connection, rule, span).await
    }

    /// All alerts of the job, by time.
    pub async fn alerts(&self) -> Result<Vec<AlertRow>, SinkError> {
        alerts::stored(&self.connection).await
    }

    /// The other jobs that have alerts, in this state where one is given: where there are none of this one.
    pub async fn jobs_with_alerts(&self, state: Option<State>) -> Result<AlertJobs, SinkError> {
        alerts::other_jobs(&self.connection, state).await
    }

    /// Notifications that are still to be sent to one target, the oldest first.
    pub async fn pending_notifications(
        &self,
        target: &str,
    ) -> Result<Vec<Notification>, SinkError> {
        alerts::pending(&self.connection, target).await
    }

    /// Keys of all changes that have been written down as notifications.
    pub async fn noted_changes(&self) -> Result<Vec<String>, SinkError> {
        alerts::noted(&self.connection).await
    }

    /// The last change of each alert of which some is written down, by the alert's id.
    pub async fn last_changes(&self) -> Result<BTreeMap<String, Change>, SinkError> {
        alerts::last_changes(&self.connection).await
    }
}

impl Sink for ClickHouse {
    async fn write(&mut self, batch: &RowBatch) -> Result<(), SinkError> {
        self.connection.insert(batch).await
    }

    async fn state_versions(&mut self, span: Window) -> Result<Vec<StateVersion>, SinkError> {
        read::state_versions(&self.connection, span).await
    }

    async fn window_starts(&mut self) -> Result<Vec<EventTime>, SinkError> {
        read::window_starts(&self.connection).await
    }

    async fn states(&mut self, wanted: &[(Key, PartitionId)]) -> Result<Vec<StateRow>, SinkError> {
        read::states(&self.connection, wanted).await
    }

    async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Vec<Mark>, SinkError> {
        read::marks(&self.connection, partitions).await
    }

    async fn seals(&mut self) -> Result<Vec<(PartitionId, EventTime)>, SinkError> {
        read::seals(&self.connection).await
    }

    async fn mark_orders(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, i64)>, SinkError> {
        read::mark_orders(&self.connection, partitions).await
    }

    async fn metric_versions(
        &mut self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> Result<Vec<MetricVersion>, SinkError> {
        read::metric_versions(&self.connection, tables, windows).await
    }
}
