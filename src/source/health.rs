//! How the Kafka client is doing: read by telemetry and `/readyz`, written by the client's threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::event::{PartitionId, Stream};

/// Connection and lag, as librdkafka last reported them. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct KafkaHealth(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outage: Option<String>,
    refusal: Option<String>,
    fatal: Option<String>,
    logs: BTreeMap<(Stream, PartitionId), LogState>,
}

/// What the client's statistics say of one topic partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogState {
    /// The end of what can be read.
    pub end: i64,
    /// The next offset that a worker will be given.
    pub position: i64,
    /// The next offset to fetch: all before it has been fetched or does not exist.
    pub next_fetch: i64,
    /// How many reports in a row have given this `next_fetch`.
    pub repeats: u32,
}

impl KafkaHealth {
    /// Why nothing can be read at present: no broker can be reached, or they refuse this client.
    pub fn outage(&self) -> Option<String> {
        let state = self.state();
        state.outage.clone().or_else(|| state.refusal.clone())
    }

    /// Records not yet read, for each topic partition that this instance reads.
    pub fn lags(&self) -> Vec<(Stream, PartitionId, i64)> {
        let lag = |log: &LogState| log.end.saturating_sub(log.position).max(0);
        self.state().logs.iter().map(|(&(stream, part), log)| (stream, part, lag(log))).collect()
    }

    /// Notes an outage; logged once for each change.
    pub(super) fn lost(&self, reason: &str) {
        let mut state = self.state();
        if state.outage.is_none() {
            tracing::warn!(reason, "no Kafka broker can be reached");
        }
        state.outage = Some(reason.to_owned());
    }

    /// Notes that a broker answers.
    pub(super) fn reached(&self) {
        let mut state = self.state();
        if state.outage.take().is_some() {
            tracing::warn!("Kafka can be reached again");
        }
    }

    /// Notes that brokers refuse what the client asks for; logged once for each change.
    pub(super) fn refused(&self, reason: &str) {
        let mut state = self.state();
        if state.refusal.is_none() {
            tracing::warn!(reason, "Kafka refuses a request; trying again");
        }
        state.refusal = Some(reason.to_owned());
    }

    /// Notes that what was refused works.
    pub(super) fn accepted(&self) {
        self.state().refusal = None;
    }

    /// Notes that the client can't go on.
    pub(super) fn fail(&self, reason: &str) {
        self.state().fatal.get_or_insert_with(|| reason.to_owned());
    }

    /// Why the client can't go on, if so.
    pub(super) fn fatal(&self) -> Option<String> {
        self.state().fatal.clone()
    }

    /// Notes what statistics say of a topic partition.
    pub(super) fn report(&self, stream: Stream, partition: PartitionId, mut log: LogState) {
        let mut state = self.state();
        if let Some(before) = state.logs.get(&(stream, partition))
            && before.next_fetch == log.next_fetch
        {
            log.repeats = before.repeats.saturating_add(1);
        }
        state.logs.insert((stream, partition), log);
    }

    /// What statistics last said of a topic partition.
    pub(super) fn log(&self, stream: Stream, partition: PartitionId) -> Option<LogState> {
        self.state().logs.get(&(stream, partition)).copied()
    }

    /// Forgets all topic partitions: the assignment changed.
    pub(super) fn forget_logs(&self) {
        self.state().logs.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
