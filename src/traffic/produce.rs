//! The loop that sends traffic to Kafka.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::{Produced, Traffic};
use crate::engine::event::Stream;

/// Why traffic could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The client does not start.
    #[error(
        "the Kafka producer does not start: {0}; check the brokers' address and the properties"
    )]
    Client(KafkaError),
    /// The brokers did not take a record.
    #[error(
        "Kafka did not take {failed} records, the first because: {reason}; check that the topics exist"
    )]
    Refused {
        /// How many.
        failed: u64,
        /// Why.
        reason: String,
    },
}

impl TrafficError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client(_) => "producer_client",
            Self::Refused { .. } => "producer_refused",
        }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Until {
    /// After so many inferences (those sent again not counted).
    pub inferences: Option<u64>,
    /// When the traffic's own time has come there.
    pub time_ms: Option<i64>,
    /// Whether to send, after the last inference, the labels that are still to come.
    pub all_labels: bool,
}

/// The wall clock, as the caller gives it: each record is sent when its time has come.
pub type WallClock<'a> = &'a (dyn Fn() -> i64 + Sync);

/// Sends to the two topics.
pub struct Sender {
    producer: BaseProducer<Deliveries>,
    topics: [String; 2],
    /// How long the last records may take to be acknowledged.
    patience: Duration,
}

#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
    first: Mutex<Option<String>>,
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut first = self.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        }
    }
}

/// How long the last records may take, as a rule: brokers that are there need no more.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one wait for a record's time lasts at most, so that a stop is seen.
const STEP_MS: i64 = 50;
/// How many records are sent between two looks at the producer's events.
const POLL_EVERY: u32 = 1000;

impl Sender {
    /// A producer for topics of inferences and labels. Partitions are chosen by key, alike for both.
    pub fn new(config: &ClientConfig, topics: [String; 2]) -> Result<Self, TrafficError> {
        let producer =
            config.create_with_context(Deliveries::default()).map_err(TrafficError::Client)?;
        Ok(Self { producer, topics, patience: FLUSH_TIMEOUT })
    }

    /// Sends until `until` or until `stop` says so; with a `clock` each record at its time, else as fast as it
    /// goes. Calls `progress` a few times a second. All that was sent is acknowledged when this returns `Ok`.
    pub fn run(
        &self,
        traffic: &mut Traffic,
        until: Until,
        clock: Option<WallClock<'_>>,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(&Traffic),
    ) -> Result<(), TrafficError> {
        let mut since_poll = 0;
        while !stop() {
            let more = until.inferences.is_none_or(|limit| traffic.inferences() < limit)
                && until
                    .time_ms
                    .is_none_or(|end| traffic.due_ms(true).is_some_and(|due| due < end));
            let Some(due_ms) = traffic.due_ms(more).filter(|_| more || until.all_labels) else {
                break;
            };
            if let Some(wait_ms) = clock.map(|now| due_ms - now()).filter(|&wait| wait > 0) {
                progress(traffic);
                let nap_ms = u64::try_from(wait_ms.min(STEP_MS)).unwrap_or(0);
                self.producer.poll(Duration::from_millis(nap_ms));
                continue;
            }
            let record = traffic.produce(more).expect("one is due");
            self.send(&record, stop)?;
            since_poll += 1;
            if since_poll == POLL_EVERY {
                since_poll = 0;
                self.producer.poll(Duration::ZERO);
                progress(traffic);
            }
        }
        self.finish()
    }

    /// Hands one record over, waiting for room. After a stop the record still goes with those before it, since the
    /// truth counts it; but where brokers don't take these in time, nothing more is waited for.
    fn send(&self, what: &Produced, stop: &dyn Fn() -> bool) -> Result<(), TrafficError> {
        let topic = &self.topics[match what.stream {
            Stream::Inferences => 0,
            Stream::Labels => 1,
        }];
        let mut record = BaseRecord::to(topic).key(&what.key).timestamp(what.at_ms);
        if let Some(payload) = &what.payload {
            record = record.payload(payload);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if stop() {
                        self.finish()?;
                    } else {
                        self.producer.poll(Duration::from_millis(10));
                    }
                    record = back;
                }
                Err((error, _)) => {
                    return Err(TrafficError::Refused { failed: 1, reason: error.to_string() });
                }
            }
        }
    }

    /// Waits until all that was handed over is acknowledged.
    fn finish(&self) -> Result<(), TrafficError> {
        let flushed = self.producer.flush(self.patience);
        let context = self.producer.context();
        let failed = context.failed.load(Ordering::Relaxed);
        let first = context.first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        match (first, flushed) {
            (Some(reason), _) => Err(TrafficError::Refused { failed, reason }),
            (None, Err(error)) => {
                Err(TrafficError::Refused { failed: 1, reason: error.to_string() })
            }
            (None, Ok(())) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::traffic::encode::Encoding;
    use crate::traffic::{Shape, Shares, TrafficSettings};

    fn traffic() -> Traffic {
        let settings = TrafficSettings {
            seed: 7,
            start_ms: 1_700_000_000_000,
            inferences_per_s: 500.0,
            window_ms: 10_000,
            lateness_ms: 2_000,
            label_wait_ms: 20_000,
            falls_after_ms: 5_000,
            shares: Shares::NONE,
            shape: Shape::USUAL,
        };
        Traffic::new(settings, Encoding::Json)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a client without the program's defaults")]
    fn a_stop_is_seen_while_brokers_that_are_away_leave_the_queue_full() {
        let mut config = ClientConfig::new();
        // Nobody listens there, and what is in the queue would be given up only much later.
        config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "20000");
        config.set("queue.buffering.max.messages", "1");
        let sender = Sender::new(&config, ["i".to_owned(), "l".to_owned()]).unwrap();
        let sender = Sender { patience: Duration::from_millis(10), ..sender };
        // Asked before each of the first two records, of which the second finds no room.
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let ended = sender.run(&mut traffic(), Until::default(), None, &stop, &mut |_| {});
        let error = ended.unwrap_err();
        assert_eq!(error.code(), "producer_refused");
        assert!(error.to_string().contains("Flush error"), "{error}");
        assert_eq!(asked.get(), 3);
    }
}
