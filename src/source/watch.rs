//! Whether the topics are still those that the job was bound to. A topic that is deleted and created again, or that
//! gets more partitions, goes on to deliver records, and nothing in a record tells them from those that belong to the
//! job. So the brokers are asked: every second, and each time before rows are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::watch;

use super::SourceError;
use super::health::KafkaHealth;
use super::settings::{KafkaSettings, Topics};
use super::topics::{Asker, Described};

/// How often the brokers are asked when nobody wants to know.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions while nobody answers and somebody waits.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks for the topics; clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct TopicWatch {
    questions: mpsc::Sender<u64>,
    /// The number of the newest question.
    asked: Arc<AtomicU64>,
    /// The newest question that was asked before the brokers said that nothing has changed.
    unchanged: watch::Receiver<u64>,
}

impl TopicWatch {
    /// Starts to watch. What it finds goes to the health: a topic that is away for now, or why the run must end.
    pub(super) fn start(
        settings: &KafkaSettings,
        config: ClientConfig,
        topics: &Topics,
        health: &KafkaHealth,
    ) -> Result<Self, SourceError> {
        let asker = Asker::new(settings, config)?;
        let (questions, asked) = mpsc::channel();
        let (say_unchanged, unchanged) = watch::channel(0);
        let watcher = Watcher {
            asker,
            topics: topics.clone(),
            health: health.clone(),
            asked,
            unchanged: say_unchanged,
        };
        let thread = thread::Builder::new().name("kafka-topics".to_owned());
        thread.spawn(move || watcher.run()).map_err(|error| {
            SourceError::Client(format!("can't start the thread that watches the topics: {error}"))
        })?;
        Ok(Self { questions, asked: Arc::default(), unchanged })
    }

    /// Ready when the brokers have said, after this was called, that the topics are what they were. Then every record
    /// delivered before is of these topics. Never ready where they are not: the sources end with the reason.
    pub async fn confirm(&self) {
        let question = self.look();
        let mut unchanged = self.unchanged.clone();
        if unchanged.wait_for(|newest| *newest >= question).await.is_err() {
            std::future::pending::<()>().await; // the thread is gone, and so are the sources
        }
    }

    /// Asks at once, without waiting; the number of the question.
    pub(super) fn look(&self) -> u64 {
        let question = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        // The thread lives as long as its channel.
        self.questions.send(question).ok();
        question
    }

    /// Whether this question was answered: nothing has changed.
    pub(super) fn is_unchanged_since(&self, question: u64) -> bool {
        *self.unchanged.borrow() >= question
    }
}

/// The thread's state.
struct Watcher {
    asker: Asker,
    topics: Topics,
    health: KafkaHealth,
    asked: mpsc::Receiver<u64>,
    unchanged: watch::Sender<u64>,
}

impl Watcher {
    fn run(mut self) {
        let mut newest = 0;
        loop {
            let waits = newest > *self.unchanged.borrow();
            match self.asked.recv_timeout(if waits { RETRY_INTERVAL } else { INTERVAL }) {
                Ok(question) => newest = newest.max(question),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            newest = self.asked.try_iter().fold(newest, u64::max);
            match self.asker.ask(ANSWER_TIMEOUT) {
                Ok(found) => match compare(&self.topics, &found) {
                    Ok(gone) => {
                        self.health.gone(gone.as_deref());
                        if gone.is_none() {
                            self.unchanged.send_replace(newest);
                        }
                    }
                    Err(error) => self.health.refuse(error),
                },
                // The client that reads says what is the matter.
                Err(error) => tracing::debug!(error, "asking again what the topics are"),
            }
        }
    }
}

/// Holds what was found against what there was at the start; gives a topic that is not there.
///
/// A topic that is away is no refusal: brokers that have just started may not know it yet, and only its new id says
/// that it is another one.
fn compare(topics: &Topics, found: &[Option<Described>]) -> Result<Option<String>, SourceError> {
    let mut gone = None;
    for (topic, found) in
        [Some(&topics.inferences), topics.labels.as_ref()].iter().flatten().zip(found)
    {
        let Some(found) = found else {
            gone = gone.or_else(|| Some(topic.name.clone()));
            continue;
        };
        let (was, is) = (&topic.id, &found.id);
        if !was.is_empty() && !is.is_empty() && was != is {
            let (topic, was, is) = (topic.name.clone(), was.clone(), is.clone());
            return Err(SourceError::Replaced { topic, was, is });
        }
        let partitions = i32::try_from(found.partitions).unwrap_or(i32::MAX);
        if partitions > topics.partitions {
            return Err(SourceError::Grown { partition: topics.partitions });
        }
        if partitions < topics.partitions {
            let was = format!("of {} partitions", topics.partitions);
            let is = format!("of {partitions} partitions");
            return Err(SourceError::Replaced { topic: topic.name.clone(), was, is });
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::settings::TopicIdentity;

    fn topics() -> Topics {
        let topic = |name: &str, id: &str| TopicIdentity { name: name.into(), id: id.into() };
        Topics {
            partitions: 4,
            inferences: topic("in", "a"),
            labels: Some(topic("la", "b")),
            cluster: String::new(),
            append_time: false,
            retention: [None, None],
        }
    }

    fn found(id: &str, partitions: usize) -> Option<Described> {
        Some(Described { id: id.into(), partitions })
    }

    #[test]
    fn only_another_topic_is_refused() {
        let code = |found: &[_]| compare(&topics(), found).map_err(|error| error.code());
        assert_eq!(code(&[found("a", 4), found("b", 4)]), Ok(None));
        assert_eq!(code(&[found("", 4), found("b", 4)]), Ok(None));
        assert_eq!(code(&[found("a", 4), None]), Ok(Some("la".into())));
        assert_eq!(code(&[None, None]), Ok(Some("in".into())));
        assert_eq!(code(&[found("a", 4), found("c", 4)]), Err("topic_recreated"));
        assert_eq!(code(&[None, found("c", 4)]), Err("topic_recreated"));
        assert_eq!(code(&[found("a", 5), found("b", 4)]), Err("partitions_changed"));
        assert_eq!(code(&[found("a", 4), found("b", 3)]), Err("topic_recreated"));
    }
}
