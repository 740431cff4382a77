//! How the Kafka client is doing: read by telemetry and `/readyz`, written by the client's threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SourceError;
use crate::engine::event::{PartitionId, Stream};

/// Connection and lag, as librdkafka last reported them. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct KafkaHealth(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outage: Option<String>,
    refusal: Option<String>,
    /// What is refused of single topic partitions.
    refused: BTreeMap<(Stream, PartitionId), Refused>,
    /// Nobody says whether the topics are the same.
    unanswered: Option<String>,
    /// A topic that is not there at present.
    gone: Option<String>,
    fatal: Option<SourceError>,
    logs: BTreeMap<(Stream, PartitionId), LogState>,
}

#[derive(Debug)]
struct Refused {
    reason: String,
    /// It was refused of the whole topic: told once for each partition, and never that it is over.
    of_topic: bool,
}

/// What one report says of a topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogReport {
    /// The end of what can be read, if known.
    pub(super) end: Option<i64>,
    /// The next offset that a worker will be given, if it was given any.
    pub(super) position: Option<i64>,
    /// The next offset to fetch.
    pub(super) next_fetch: i64,
}

/// What is known of one topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    /// The end of what can be read.
    pub(super) end: i64,
    /// The next offset that a worker will be given.
    pub(super) position: i64,
    /// The next offset to fetch: all before it has been fetched or does not exist.
    pub(super) next_fetch: i64,
    /// How many reports in a row have given this `next_fetch`.
    pub(super) repeats: u32,
}

impl KafkaHealth {
    /// Why nothing can be read at present: no broker can be reached, or they refuse this client.
    pub fn outage(&self) -> Option<String> {
        let state = self.state();
        let State { outage, gone, refusal, refused, unanswered, .. } = &*state;
        let first = [outage, gone, refusal].into_iter().flatten().next();
        let refused = || refused.values().map(|refused| &refused.reason).next();
        first.or_else(refused).or(unanswered.as_ref()).cloned()
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

    /// Notes that records of these topic partitions come. What is refused of others is so still.
    pub(super) fn flowing(&self, of: impl Iterator<Item = (Stream, PartitionId)>) {
        let mut state = self.state();
        let State { outage, refusal, refused, .. } = &mut *state;
        if outage.is_none() && refusal.is_none() && refused.is_empty() {
            return;
        }
        let before = refused.len();
        for (stream, partition) in of {
            refused.retain(|&at, refused| {
                at != (stream, partition) && !(refused.of_topic && at.0 == stream)
            });
        }
        let (was_out, was_refused) = (outage.take().is_some(), refusal.take().is_some());
        if was_out || was_refused || refused.len() < before {
            tracing::warn!("records come from Kafka again");
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

    /// Notes that nothing can be read of a topic partition; logged once for each.
    pub(super) fn refused_at(
        &self,
        stream: Stream,
        partition: PartitionId,
        reason: &str,
        of_topic: bool,
    ) {
        let refused = Refused { reason: reason.to_owned(), of_topic };
        let before = self.state().refused.insert((stream, partition), refused);
        if before.is_none() {
            tracing::warn!(reason, "Kafka refuses a request; trying again");
        }
    }

    /// Notes whether somebody says what the topics are; logged once for each change.
    pub(super) fn unanswered(&self, reason: Option<&str>) {
        let mut state = self.state();
        let reason = reason
            .map(|reason| format!("nobody says whether the topics are still the same: {reason}"));
        match (&state.unanswered, &reason) {
            (None, Some(reason)) => tracing::warn!(reason, "asking again"),
            (Some(_), None) => tracing::warn!("the topics are still the same"),
            _ => {}
        }
        state.unanswered = reason;
    }

    /// Notes that what was refused works.
    pub(super) fn accepted(&self) {
        self.state().refusal = None;
    }

    /// Notes whether a topic is not there at present; logged once for each change.
    pub(super) fn gone(&self, topic: Option<&str>) {
        let mut state = self.state();
        match (&state.gone, topic) {
            (None, Some(topic)) => tracing::warn!(topic, "a topic does not exist any more"),
            (Some(_), None) => tracing::warn!("the topics are there again"),
            _ => {}
        }
        state.gone = topic.map(|topic| {
            format!("topic {topic} does not exist any more: if it was deleted, start under another job name")
        });
    }

    /// Whether a topic is not there at present.
    pub(super) fn is_gone(&self) -> bool {
        self.state().gone.is_some()
    }

    /// Notes that the client can't go on.
    pub(super) fn fail(&self, reason: &str) {
        self.refuse(SourceError::Client(reason.to_owned()));
    }

    /// Ends all sources of the instance with this error.
    pub fn refuse(&self, error: SourceError) {
        self.state().fatal.get_or_insert(error);
    }

    /// Why nothing more may be read, if so.
    pub(super) fn fatal(&self) -> Option<SourceError> {
        self.state().fatal.clone()
    }

    /// Notes where reading of a topic partition begins.
    pub(super) fn started(&self, stream: Stream, partition: PartitionId, position: i64) {
        let log = LogState { end: position, position, next_fetch: -1, repeats: 0 };
        let mut state = self.state();
        state.refused.remove(&(stream, partition));
        state.logs.insert((stream, partition), log);
    }

    /// Notes what statistics say of a topic partition; of one that was not started it means nothing.
    pub(super) fn report(&self, stream: Stream, partition: PartitionId, report: LogReport) {
        let mut state = self.state();
        if let Some(log) = state.logs.get_mut(&(stream, partition)) {
            let repeated = log.next_fetch == report.next_fetch;
            log.repeats = if repeated { log.repeats.saturating_add(1) } else { 0 };
            log.next_fetch = report.next_fetch;
            log.position = report.position.unwrap_or(log.position);
            log.end = report.end.unwrap_or(log.end);
        }
    }

    /// What statistics last said of a topic partition.
    pub(super) fn log(&self, stream: Stream, partition: PartitionId) -> Option<LogState> {
        self.state().logs.get(&(stream, partition)).copied()
    }

    /// Forgets all topic partitions: the assignment changed.
    pub(super) fn forget_logs(&self) {
        let mut state = self.state();
        state.logs.clear();
        state.refused.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P1: PartitionId = PartitionId(1);

    #[test]
    fn lag_is_end_minus_position() {
        let health = KafkaHealth::default();
        let unread = LogReport { end: Some(50), position: None, next_fetch: 50 };
        health.report(Stream::Labels, P1, unread);
        assert_eq!(health.lags(), []); // not started
        health.started(Stream::Labels, P1, 20);
        assert_eq!(health.lags(), [(Stream::Labels, P1, 0)]);
        health.report(Stream::Labels, P1, unread);
        assert_eq!(health.lags(), [(Stream::Labels, P1, 30)]);
        health.report(Stream::Labels, P1, LogReport { position: Some(45), ..unread });
        assert_eq!(health.lags(), [(Stream::Labels, P1, 5)]);
        health.forget_logs();
        assert_eq!(health.lags(), []);
    }

    #[test]
    fn outage_ends_when_a_broker_answers_and_refusal_when_records_come() {
        let health = KafkaHealth::default();
        health.refused("no right");
        health.lost("no route");
        assert_eq!(health.outage().as_deref(), Some("no route"));
        health.reached();
        assert_eq!(health.outage().as_deref(), Some("no right"));
        let records = || [(Stream::Labels, P1)].into_iter();
        health.flowing(records());
        assert_eq!(health.outage(), None);
        health.gone(Some("labels"));
        health.flowing(records());
        assert!(health.outage().is_some_and(|reason| reason.contains("topic labels")));
        health.gone(None);
        assert_eq!(health.outage(), None);
    }

    #[test]
    fn what_is_refused_of_one_partition_is_not_over_when_records_of_another_come() {
        let health = KafkaHealth::default();
        let others = || [(Stream::Inferences, P1), (Stream::Labels, PartitionId(0))].into_iter();
        health.refused_at(Stream::Labels, P1, "damaged", false);
        health.flowing(others());
        assert_eq!(health.outage().as_deref(), Some("damaged"));
        health.flowing([(Stream::Labels, P1)].into_iter());
        assert_eq!(health.outage(), None);
        // What is refused of a topic is granted for all of it.
        health.refused_at(Stream::Labels, P1, "no right", true);
        health.flowing([(Stream::Inferences, P1)].into_iter());
        assert_eq!(health.outage().as_deref(), Some("no right"));
        health.flowing(others());
        assert_eq!(health.outage(), None);
        health.refused_at(Stream::Labels, P1, "no right", true);
        health.forget_logs();
        assert_eq!(health.outage(), None, "it is another's now");
    }

    #[test]
    fn first_fatal_reason_is_kept() {
        let health = KafkaHealth::default();
        health.fail("first");
        health.fail("second");
        assert_eq!(health.fatal(), Some(SourceError::Client("first".to_owned())));
    }
}
