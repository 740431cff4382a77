//! Dead letters to a Kafka topic: the original bytes, and headers that say where they came from and why.

use rdkafka::ClientConfig;

use super::{DeadLetter, DeadLetters, SinkError};

/// Sends dead letters to a topic.
pub struct KafkaLetters {
    topic: String,
    sources: [String; 2],
}

impl KafkaLetters {
    /// Letters to `topic` from records of these topics, inferences first.
    pub fn new(_config: ClientConfig, topic: &str, sources: [&str; 2]) -> Result<Self, SinkError> {
        Ok(Self { topic: topic.to_owned(), sources: sources.map(str::to_owned) })
    }
}

impl DeadLetters for KafkaLetters {
    async fn send(&mut self, _letters: &[DeadLetter]) -> Result<(), SinkError> {
        Err(SinkError::Letters(format!("{} of {:?}", self.topic, self.sources)))
    }
}

/// Without a topic for them the pipeline only counts and logs dead letters.
impl DeadLetters for Option<KafkaLetters> {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        match self {
            Some(inner) => inner.send(letters).await,
            None => Ok(()),
        }
    }
}
