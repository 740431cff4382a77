//! Dead letters to a Kafka topic: the original key and bytes, and headers that say where they came from and why.

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use tokio::sync::oneshot;

use super::producer::{Acknowledgement, Acknowledging, Producer, acknowledged, too_large};
use super::{DeadLetter, DeadLetters, SinkError};
use crate::source::kafka::without_values;

/// What the producer differs in from librdkafka's defaults, unless the configuration says otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("message.max.bytes", "100000000"), // the topic's own limit decides, not the client's
    ("message.timeout.ms", "30000"),
    ("compression.type", "lz4"),
];

/// Sends dead letters to a topic.
pub struct KafkaLetters {
    producer: Producer,
    topic: String,
    sources: [String; 2],
}

/// How much of a letter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Whole,
    NoPayload,
    Headers,
}

impl KafkaLetters {
    /// Letters to `topic`, of records from these two topics, inferences first.
    pub fn new(
        mut config: ClientConfig,
        topic: &str,
        sources: [&str; 2],
    ) -> Result<Self, SinkError> {
        for (name, value) in DEFAULTS {
            if config.get(name).is_none() {
                config.set(*name, *value);
            }
        }
        let producer = Producer::new(config);
        let producer = producer.map_err(|error| SinkError::Letters(without_values(&error)))?;
        Ok(Self { producer, topic: topic.to_owned(), sources: sources.map(str::to_owned) })
    }

    /// Hands a letter to the producer.
    fn enqueue(
        &self,
        producer: &ThreadedProducer<Acknowledging>,
        letter: &DeadLetter,
        share: Share,
    ) -> Result<Acknowledgement, KafkaError> {
        let record = &letter.record;
        let (sender, receiver) = oneshot::channel();
        let headers = headers(letter, &self.sources[record.stream.index()], share);
        let mut out = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, Box::new(sender))
            .headers(headers);
        if let Some(key) = record.key.as_deref().filter(|_| share != Share::Headers) {
            out = out.key(key);
        }
        if let Some(payload) = record.payload.as_deref().filter(|_| share == Share::Whole) {
            out = out.payload(payload);
        }
        producer.send(out).map(|()| receiver).map_err(|(error, _)| error)
    }

    /// Sends one letter alone, as much of it as the topic takes.
    async fn send_alone(
        &self,
        producer: &ThreadedProducer<Acknowledging>,
        letter: &DeadLetter,
    ) -> Result<(), KafkaError> {
        let mut result = Ok(());
        for share in [Share::Whole, Share::NoPayload, Share::Headers] {
            result = match self.enqueue(producer, letter, share) {
                Ok(acknowledgement) => acknowledged(acknowledgement).await,
                Err(error) => Err(error),
            };
            if !result.as_ref().is_err_and(too_large) {
                break;
            }
        }
        result
    }

    /// Sends these, each by itself where the topic does not take all of it.
    async fn send_all(&self, letters: &[DeadLetter]) -> Result<(), KafkaError> {
        let producer = self.producer.client()?;
        let mut letters_left = letters;
        let mut alone = Vec::new();
        while !letters_left.is_empty() {
            let mut waiting = Vec::new();
            for letter in letters_left {
                match self.enqueue(&producer, letter, Share::Whole) {
                    Ok(acknowledgement) => waiting.push((letter, Some(acknowledgement))),
                    Err(error) if too_large(&error) => waiting.push((letter, None)),
                    // First those that were taken, then the rest.
                    Err(error) if queue_full(&error) && !waiting.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            letters_left = &letters_left[waiting.len()..];
            for (letter, acknowledgement) in waiting {
                let Some(acknowledgement) = acknowledgement else {
                    alone.push(letter);
                    continue;
                };
                match acknowledged(acknowledgement).await {
                    Ok(()) => {}
                    // The limit is one on batches: a small letter may have shared its batch with others.
                    Err(error) if too_large(&error) => alone.push(letter),
                    Err(error) => return Err(error),
                }
            }
        }
        for letter in alone {
            self.send_alone(&producer, letter).await?;
        }
        Ok(())
    }
}

impl DeadLetters for KafkaLetters {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let sent = self.send_all(letters).await;
        sent.map_err(|error| SinkError::Letters(self.producer.reason(&error, &self.topic)))
    }
}

fn queue_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Where the record came from, and what is wrong with it.
fn headers(letter: &DeadLetter, topic: &str, share: Share) -> OwnedHeaders {
    let record = &letter.record;
    let mut headers: Vec<(&str, String)> = vec![
        ("tidegauge.topic", topic.to_owned()),
        ("tidegauge.partition", record.partition.0.to_string()),
        ("tidegauge.offset", record.offset.0.to_string()),
        ("tidegauge.timestamp", record.time.0.to_string()),
        ("tidegauge.error", letter.code.to_owned()),
        ("tidegauge.reason", letter.reason.clone()),
    ];
    if share != Share::Whole {
        let bytes = record.payload.as_ref().map_or(0, Vec::len);
        headers.push(("tidegauge.truncated", bytes.to_string()));
    }
    headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header { key, value: Some(value.as_str()) })
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::Message;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::{BorrowedMessage, Headers};
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::engine::event::{Offset, PartitionId, Stream};
    use crate::engine::time::RecordTime;
    use crate::sink::RecordBuf;
    use crate::source::kafka::client_config;

    fn letter(offset: i64, payload: Option<&[u8]>) -> DeadLetter {
        let record = RecordBuf {
            stream: Stream::Labels,
            partition: PartitionId(3),
            offset: Offset(offset),
            time: RecordTime(17),
            key: Some(b"key".to_vec()),
            payload: payload.map(<[u8]>::to_vec),
        };
        DeadLetter { record, code: "broken_json", reason: "no".to_owned() }
    }

    fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
        let headers = message.headers().unwrap();
        let found = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8(found.value.unwrap().to_vec()).unwrap())
    }

    fn read(brokers: &str, count: usize, mut see: impl FnMut(&BorrowedMessage<'_>)) {
        let properties = [("group.id", "reader"), ("auto.offset.reset", "earliest")];
        let owned = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let reader: BaseConsumer = client_config(brokers, &owned).create().unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset("dead", 0, rdkafka::Offset::Beginning).unwrap();
        reader.assign(&list).unwrap();
        for _ in 0..count {
            let message = reader.poll(std::time::Duration::from_secs(60)).unwrap().unwrap();
            see(&message);
        }
    }

    #[tokio::test]
    async fn letters_keep_bytes_and_say_where_they_came_from() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("dead", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let config = client_config(&brokers, &[]);
        let mut letters = KafkaLetters::new(config, "dead", ["in", "la"]).unwrap();
        letters.send(&[letter(1, Some(b"{")), letter(2, None)]).await.unwrap();
        let mut seen = Vec::new();
        read(&brokers, 2, |message| {
            assert_eq!(message.key(), Some(b"key".as_slice()));
            assert_eq!(header(message, "tidegauge.topic").unwrap(), "la");
            assert_eq!(header(message, "tidegauge.partition").unwrap(), "3");
            assert_eq!(header(message, "tidegauge.timestamp").unwrap(), "17");
            assert_eq!(header(message, "tidegauge.error").unwrap(), "broken_json");
            assert_eq!(header(message, "tidegauge.reason").unwrap(), "no");
            assert_eq!(header(message, "tidegauge.truncated"), None);
            let offset = header(message, "tidegauge.offset").unwrap();
            seen.push((offset, message.payload().map(<[u8]>::to_vec)));
        });
        assert_eq!(seen, [("1".to_owned(), Some(b"{".to_vec())), ("2".to_owned(), None)]);
    }

    #[tokio::test]
    async fn letter_too_large_for_the_topic_goes_without_its_payload() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("dead", 1, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let properties = [("message.max.bytes".to_owned(), "100000".to_owned())];
        let config = client_config(&brokers, &properties);
        let mut letters = KafkaLetters::new(config, "dead", ["in", "la"]).unwrap();
        letters
            .send(&[letter(1, Some(&vec![b'x'; 200_000])), letter(2, Some(b"{"))])
            .await
            .unwrap();
        let mut seen = Vec::new();
        read(&brokers, 2, |message| {
            let truncated = header(message, "tidegauge.truncated");
            seen.push((header(message, "tidegauge.offset").unwrap(), truncated));
        });
        assert_eq!(seen, [("2".to_owned(), None), ("1".to_owned(), Some("200000".to_owned()))]);
    }

    /// What librdkafka calls fatal stays so for the client's life.
    #[tokio::test]
    async fn a_right_that_comes_later_is_enough() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("dead", 1, 1).unwrap();
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
        // The first client may have been refused before it is asked for anything: then a second one sends.
        cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refusal; 9]);
        let config = client_config(&cluster.bootstrap_servers(), &[]);
        let mut letters = KafkaLetters::new(config, "dead", ["in", "la"]).unwrap();
        let error = letters.send(&[letter(1, Some(b"{"))]).await.unwrap_err();
        assert_eq!(error.code(), "dead_letters_unavailable");
        let said = error.to_string();
        assert!(said.contains("authorization failed"), "{said}");
        assert!(said.ends_with("Allow this client to write to topic dead"), "{said}");
        cluster.clear_request_errors(RDKafkaApiKey::InitProducerId);
        letters.send(&[letter(1, Some(b"{"))]).await.unwrap();
    }

    #[tokio::test]
    async fn refusal_by_the_broker_is_an_error() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("dead", 1, 1).unwrap();
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
        let config = client_config(&cluster.bootstrap_servers(), &[]);
        let mut letters = KafkaLetters::new(config, "dead", ["in", "la"]).unwrap();
        let error = letters.send(&[letter(1, Some(b"{"))]).await.unwrap_err();
        assert_eq!(error.code(), "dead_letters_unavailable");
    }
}
