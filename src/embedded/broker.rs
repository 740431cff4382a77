//! A Kafka cluster inside the process: librdkafka's mock of one broker, for the demo and for tests
//! of client faults. Everything in it is gone at its end.
#![expect(unsafe_code, reason = "one setting of the mock cluster has no safe binding")]

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};

/// Three seconds by default, for which the first rows of a demo would have to wait.
const REBALANCE_DELAY_MS: i32 = 100;

/// Why the broker inside the process did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// librdkafka gave no mock cluster.
    #[error("the broker inside the process did not start: {0}; name a real one instead")]
    NotStarted(KafkaError),
    /// A topic was refused.
    #[error("topic {topic} cannot be made in the broker inside the process: {source}")]
    Topic {
        /// Its name.
        topic: String,
        /// Why.
        source: KafkaError,
    },
}

impl BrokerError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotStarted(_) => "embedded_broker_not_started",
            Self::Topic { .. } => "embedded_broker_topic",
        }
    }
}

/// The broker; it ends when this is dropped. Drop its clients first: each would wait for it.
///
/// It keeps at most 5 MiB of each partition and drops the oldest record batches beyond that, so a
/// slow reader or a replay from far back loses records. It has no admin API, and knows no topic ids.
pub struct EmbeddedBroker {
    /// Owns the mock cluster, and is never used to produce.
    owner: BaseProducer,
    bootstrap_servers: String,
}

impl EmbeddedBroker {
    /// Starts one broker on a free port of 127.0.0.1 with these topics: name and partitions.
    #[expect(clippy::disallowed_methods, reason = "this client only owns the mock cluster")]
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, BrokerError> {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let owner: BaseProducer = config.create().map_err(BrokerError::NotStarted)?;
        let client = owner.client();
        let none = BrokerError::NotStarted(KafkaError::MockCluster(RDKafkaErrorCode::Fail));
        let cluster = client.mock_cluster().ok_or(none)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).map_err(|source| {
                let topic = (*topic).to_owned();
                BrokerError::Topic { topic, source }
            })?;
        }
        let bootstrap_servers = cluster.bootstrap_servers();
        // SAFETY: the client lives, so its handle does, and with it the mock cluster it owns.
        unsafe {
            let cluster = rdkafka_sys::rd_kafka_handle_mock_cluster(client.native_ptr());
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(
                cluster,
                REBALANCE_DELAY_MS,
            );
        }
        drop(cluster);
        Ok(Self { owner, bootstrap_servers })
    }

    /// Where its clients connect.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The cluster itself, for planted faults.
    pub fn client(&self) -> &rdkafka::client::Client<impl rdkafka::ClientContext + use<>> {
        self.owner.client()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::Message as _;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::producer::BaseRecord;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a client without the program's defaults")]
    fn group_reads_what_was_produced() {
        let broker = EmbeddedBroker::start(&[("a", 2)]).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let producer: BaseProducer = config.create().unwrap();
        let record = BaseRecord::<(), _>::to("a").partition(1).payload("one").timestamp(77);
        producer.send(record).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
        config.set("group.id", "g").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&["a"]).unwrap();
        // A poll that handled the assignment gives nothing.
        let next = || consumer.poll(Duration::from_secs(1));
        let message = (0..120).find_map(|_| next()).unwrap().unwrap();
        assert_eq!((message.partition(), message.payload()), (1, Some(&b"one"[..])));
        assert_eq!(message.timestamp().to_millis(), Some(77));
        let metadata = consumer.fetch_metadata(Some("a"), Duration::from_secs(30)).unwrap();
        assert_eq!(metadata.topics()[0].partitions().len(), 2);
    }
}
