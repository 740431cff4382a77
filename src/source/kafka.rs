//! Kafka: the topics, and the way to one source per worker.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use super::SourceError;
use super::batch::Waker;
pub use super::context::log_client_line;
use super::context::{GroupContext, TopicNames};
pub use super::group::KafkaCommits;
use super::group::{Control, GroupConsumer, Membership, WorkerEnd};
pub use super::health::KafkaHealth;
use super::progress::Ends;
use super::range::TopicRange;
pub use super::retention::{Retention, needed as needed_retention};
use super::settings::consumer_config;
pub use super::settings::{
    KafkaSettings, Start, TopicIdentity, Topics, check_properties, client_config, without_values,
};
pub use super::share::KafkaSource;
use super::share::{Begin, Channels, Link};
pub use super::watch::TopicWatch;
use crate::engine::event::{PartitionId, Stream};

/// Events that a worker may leave unread before it counts as stuck.
const EVENTS_LIMIT: usize = 64;
/// Starts that the control thread may leave unread.
const REQUESTS_LIMIT: usize = 1024;
/// How often the brokers are asked where a bounded run ends before giving up.
const OPEN_ATTEMPTS: usize = 6;

/// The sources of an instance. When all of it is dropped the group is left.
pub struct Opened {
    /// One for each worker.
    pub sources: Vec<KafkaSource>,
    /// For the writer.
    pub commits: KafkaCommits,
    /// For telemetry and `/readyz`.
    pub health: KafkaHealth,
    /// For the writer: whether the topics are still those that were inspected.
    pub watch: TopicWatch,
}

/// Asks the brokers about the topics, for at most half a minute: do they exist, with equal numbers of partitions?
/// Must not be called on a thread that drives a runtime: it waits.
pub fn inspect(settings: &KafkaSettings) -> Result<Topics, SourceError> {
    super::topics::inspect(settings, &consumer_config(settings)?)
}

/// Whether any instance of the job runs at present: is in its group. Waits, as [`inspect`] does.
pub fn has_members(settings: &KafkaSettings) -> Result<bool, SourceError> {
    super::topics::has_members(settings, &consumer_config(settings)?)
}

/// Joins the group: one source per worker.
pub fn open(settings: &KafkaSettings, topics: &Topics) -> Result<Opened, SourceError> {
    let link = connect(settings, topics)?;
    let ends =
        if settings.until_end { Some(Arc::new(ends(settings, &link, topics)?)) } else { None };
    let subscribed: Vec<&str> = link.topics.iter().flatten().map(String::as_str).collect();
    link.consumer.subscribe(&subscribed).map_err(client_error)?;
    let span = (Begin::Log(settings.start), ends);
    start_workers(settings, topics.partitions, &link, &span, false)
}

/// Reads these ranges, inferences first, without a group: all partitions are this instance's, and nothing is committed
/// (the [`Opened::commits`] are to be dropped).
pub fn open_ranges(
    settings: &KafkaSettings,
    topics: &Topics,
    ranges: [Option<&TopicRange>; 2],
) -> Result<Opened, SourceError> {
    let link = connect(settings, topics)?;
    let starts = ranges.map(|range| range.map_or_else(Vec::new, |range| range.starts().collect()));
    let ends = ranges.map(|range| range.map_or_else(Vec::new, |range| range.ends().collect()));
    let span = (Begin::At(Arc::new(starts)), Some(Arc::new(ends)));
    start_workers(settings, topics.partitions, &link, &span, true)
}

fn connect(settings: &KafkaSettings, topics: &Topics) -> Result<Link, SourceError> {
    let mut config = consumer_config(settings)?;
    config.set("group.id", &settings.group);
    let health = KafkaHealth::default();
    let names: TopicNames = [Some(settings.inferences.clone()), settings.labels.clone()];
    let context = GroupContext::new(names.clone(), health.clone());
    let consumer: GroupConsumer = config.create_with_context(context).map_err(client_error)?;
    let consumer = Arc::new(consumer);
    let watch = TopicWatch::start(settings, consumer_config(settings)?, topics, &health)?;
    Ok(Link { consumer, topics: names, health, watch })
}

/// Makes the sources and starts the control thread.
fn start_workers(
    settings: &KafkaSettings,
    partitions: i32,
    link: &Link,
    (begin, ends): &(Begin, Option<Arc<Ends>>),
    is_alone: bool,
) -> Result<Opened, SourceError> {
    let stop = Arc::new(AtomicBool::new(false));
    let assigned = Arc::default();
    let (ended_sender, ended) = sync_channel(1);
    let membership = Arc::new(Membership { stop: Arc::clone(&stop), ended: Mutex::new(ended) });
    let (ask, requests) = sync_channel(REQUESTS_LIMIT);
    let mut workers = Vec::new();
    let mut sources = Vec::new();
    for _ in 0..settings.workers.max(1) {
        let (sender, events) = sync_channel(EVENTS_LIMIT);
        let waker = Arc::<Waker>::default();
        workers.push(WorkerEnd { events: sender, waker: Arc::clone(&waker) });
        let channels = Channels { events, requests: ask.clone(), waker };
        let (link, begin, ends) = (link.clone(), begin.clone(), ends.clone());
        let membership = Arc::clone(&membership);
        sources.push(KafkaSource::new(link, channels, begin, ends, membership));
    }
    let control = Control {
        consumer: Arc::clone(&link.consumer),
        topics: link.topics.clone(),
        partitions,
        health: link.health.clone(),
        workers,
        requests,
        stop,
        drain_budget: settings.drain_budget,
        assigned: Arc::clone(&assigned),
        assignment: 0,
        wanted: BTreeMap::new(),
        reading: false,
        is_alone,
    };
    let commits = KafkaCommits {
        consumer: Arc::clone(&link.consumer),
        topics: link.topics.clone(),
        assigned,
        _membership: membership,
    };
    let run = move || {
        let _ended = ended_sender; // dropped when the thread ends, however it ends
        control.run();
    };
    let thread = thread::Builder::new().name("kafka-control".to_owned()).spawn(run);
    match thread {
        Ok(_) => {
            let (health, watch) = (link.health.clone(), link.watch.clone());
            Ok(Opened { sources, commits, health, watch })
        }
        Err(error) => Err(SourceError::Client(format!("can't start its control thread: {error}"))),
    }
}

/// The end offsets of all partitions of both topics.
fn ends(settings: &KafkaSettings, link: &Link, topics: &Topics) -> Result<Ends, SourceError> {
    let all: Vec<PartitionId> = (0..topics.partitions).map(PartitionId).collect();
    let wanted = link.of_both(&all);
    let mut attempt = 1;
    let bounds = loop {
        match link.bounds(&wanted) {
            Ok(bounds) => break bounds,
            Err(error) if attempt == OPEN_ATTEMPTS => {
                let brokers = settings.brokers.clone();
                return Err(SourceError::Unreachable { brokers, reason: error.to_string() });
            }
            Err(_) => attempt += 1,
        }
    };
    let of = |wanted_stream| {
        let pairs = wanted.iter().zip(&bounds).filter(|((stream, _), _)| *stream == wanted_stream);
        pairs.map(|(_, bounds)| bounds.end).collect()
    };
    Ok(Stream::BOTH.map(of))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn client_error(error: KafkaError) -> SourceError {
    SourceError::Client(without_values(&error))
}
