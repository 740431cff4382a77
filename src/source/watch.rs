//! Whether the topics are still those that the job was bound to. A topic that is deleted and created again, or that
//! gets more partitions, goes on to deliver records, and nothing in a record tells them from those that belong to the
//! job. So the brokers are asked: every second, and each time before rows are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
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
/// So many questions in a row without an answer are told.
const UNANSWERED_UNTIL_TOLD: u32 = 5;
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks for the topics; clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct TopicWatch {
    /// Wakes the thread.
    wake: SyncSender<()>,
    /// The number of the newest question.
    newest: Arc<AtomicU64>,
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
        let newest = Arc::<AtomicU64>::default();
        let (wake, woken) = sync_channel(1);
        let (say_unchanged, unchanged) = watch::channel(0);
        let watcher = Watcher {
            asker: Asker::new(settings, config)?,
            topics: topics.clone(),
            health: health.clone(),
            newest: Arc::clone(&newest),
            woken,
            unchanged: say_unchanged,
        };
        let thread = thread::Builder::new().name("kafka-topics".to_owned());
        thread.spawn(move || watcher.run()).map_err(|error| {
            SourceError::Client(format!("can't start the thread that watches the topics: {error}"))
        })?;
        Ok(Self { wake, newest, unchanged })
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
        let question = self.newest.fetch_add(1, Ordering::AcqRel) + 1;
        // Where the channel is full, the thread is yet to look at the numbers.
        self.wake.try_send(()).ok();
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
    newest: Arc<AtomicU64>,
    woken: Receiver<()>,
    unchanged: watch::Sender<u64>,
}

impl Watcher {
    fn run(mut self) {
        let mut unanswered = 0;
        loop {
            let is_open = self.newest.load(Ordering::Acquire) > *self.unchanged.borrow();
            let wait = if is_open { RETRY_INTERVAL } else { INTERVAL };
            if self.woken.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            // Only questions that were asked before the brokers are.
            let newest = self.newest.load(Ordering::Acquire);
            let answer = self.asker.ask(ANSWER_TIMEOUT);
            unanswered = if answer.is_ok() { 0 } else { unanswered + 1 };
            match answer {
                Ok(found) => match compare(&self.topics, &found) {
                    Ok(gone) => {
                        self.health.unanswered(None);
                        self.health.gone(gone.as_deref());
                        if gone.is_none() {
                            self.unchanged.send_replace(newest);
                        }
                    }
                    Err(error) => self.health.refuse(error),
                },
                // Rows wait for the answer. In an outage the client that reads says what is the matter.
                Err(error) if unanswered >= UNANSWERED_UNTIL_TOLD => {
                    self.health.unanswered(Some(&error));
                }
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

    fn of(id: &str, partitions: usize) -> Described {
        Described { id: id.into(), partitions }
    }

    #[test]
    fn only_another_topic_is_refused() {
        let code = |found: &[_]| compare(&topics(), found).map_err(|error| error.code());
        assert_eq!(code(&[Some(of("a", 4)), Some(of("b", 4))]), Ok(None));
        assert_eq!(code(&[Some(of("", 4)), Some(of("b", 4))]), Ok(None));
        assert_eq!(code(&[Some(of("a", 4)), None]), Ok(Some("la".into())));
        assert_eq!(code(&[None, None]), Ok(Some("in".into())));
        assert_eq!(code(&[Some(of("a", 4)), Some(of("c", 4))]), Err("topic_recreated"));
        assert_eq!(code(&[None, Some(of("c", 4))]), Err("topic_recreated"));
        assert_eq!(code(&[Some(of("a", 5)), Some(of("b", 4))]), Err("partitions_changed"));
        assert_eq!(code(&[Some(of("a", 4)), Some(of("b", 3))]), Err("topic_recreated"));
    }
}
