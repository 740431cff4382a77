//! What the brokers say of the topics before anything is read.
#![expect(
    unsafe_code,
    reason = "the client crate does not describe topics: their ids come by librdkafka's admin calls"
)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataBroker;
use rdkafka::statistics::Statistics;
use rdkafka::{ClientConfig, ClientContext};
use rdkafka_sys as sys;

use super::SourceError;
use super::context::log_client_line;
use super::retention::Retention;
use super::settings::{KafkaSettings, TopicIdentity, Topics, without_values};

/// How long the brokers may take for one answer before the start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a topic's metadata is asked for: a broker that has just started answers with errors at first.
const METADATA_ATTEMPTS: usize = 3;
/// What librdkafka prints for the id of a topic on brokers that have no ids.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Remembers why the brokers could not be reached.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    reason: Mutex<Option<String>>,
    /// Another client of the process says what happens to the connections.
    is_quiet: bool,
}

impl ClientContext for Inspector {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if !self.is_quiet {
            log_client_line(level, facility, message);
        }
    }

    fn stats(&self, _statistics: Statistics) {} // the default logs them

    fn error(&self, error: KafkaError, reason: &str) {
        let first = error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown);
        let mut kept = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if first || kept.is_none() {
            *kept = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Inspector {}

pub(super) type Client = BaseConsumer<Inspector>;

/// Asks the brokers about the topics.
pub(super) fn inspect(
    settings: &KafkaSettings,
    config: &ClientConfig,
) -> Result<Topics, SourceError> {
    let client: Client = config
        .create_with_context(Inspector::default())
        .map_err(|error| SourceError::Client(without_values(&error)))?;
    let names: Vec<&str> = [Some(&settings.inferences), settings.labels.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let mut partitions = Vec::new();
    let mut broker = None;
    for name in &names {
        let found = partitions_of(&client, settings, name)?;
        partitions.push(found.partitions);
        broker = found.broker.or(broker);
    }
    let client = Admin { client: &client, broker, timeout: ANSWER_TIMEOUT };
    if let [inferences, labels] = partitions[..]
        && inferences != labels
    {
        return Err(SourceError::UnequalPartitions {
            inferences: settings.inferences.clone(),
            inference_partitions: inferences,
            labels: names[1].to_owned(),
            label_partitions: labels,
        });
    }
    let unreachable =
        |reason| SourceError::Unreachable { brokers: settings.brokers.clone(), reason };
    let described = describe(&client, &names).map_err(unreachable)?;
    // The broker that was asked may not know yet what another one has said is there.
    if let Some((_, name)) = described.iter().zip(&names).find(|(described, _)| described.is_none())
    {
        return Err(unreachable(format!("a broker does not know topic {name} yet")));
    }
    let mut identities = described
        .into_iter()
        .flatten()
        .zip(&names)
        .map(|(described, &name)| TopicIdentity { name: name.to_owned(), id: described.id });
    let configs = names.iter().map(|name| configs_of(&client, name));
    let configs = configs.collect::<Result<Vec<_>, _>>().map_err(unreachable)?;
    let stamps = |configs: &Vec<(String, String)>| {
        let kind = configs.iter().find(|(name, _)| name == "message.timestamp.type");
        kind.is_some_and(|(_, value)| value == "LogAppendTime")
    };
    Ok(Topics {
        partitions: i32::try_from(partitions[0]).expect("partition numbers are i32"),
        inferences: identities.next().expect("one id per name"),
        labels: identities.next(),
        cluster: client.client.client().fetch_cluster_id(ANSWER_TIMEOUT).unwrap_or_default(),
        append_time: configs.iter().all(|configs| configs.as_ref().is_some_and(stamps)),
        retention: [0, 1].map(|at| configs.get(at)?.as_deref().map(Retention::of)),
    })
}

/// Asks again and again what the topics are, with a client of its own.
pub(super) struct Asker {
    config: ClientConfig,
    client: Client,
    /// Questions in a row that nobody has answered.
    failures: u32,
    names: Vec<String>,
    brokers: Vec<i32>,
    /// Which broker is asked next: after a failure another one.
    turn: usize,
}

impl Asker {
    pub(super) fn new(
        settings: &KafkaSettings,
        mut config: ClientConfig,
    ) -> Result<Self, SourceError> {
        let names = [Some(&settings.inferences), settings.labels.as_ref()];
        config.set("statistics.interval.ms", "0");
        let client =
            quiet_client(&config).map_err(|error| SourceError::Client(without_values(&error)))?;
        let names = names.into_iter().flatten().cloned().collect();
        Ok(Self { config, client, failures: 0, names, brokers: Vec::new(), turn: 0 })
    }

    /// The topics as they are now, in the order inferences, labels; none in the place of one that does not exist.
    pub(super) fn ask(&mut self, timeout: Duration) -> Result<Vec<Option<Described>>, String> {
        let found = self.ask_once(timeout);
        match &found {
            Ok(_) => self.failures = 0,
            Err(error) => self.failed(error),
        }
        found
    }

    /// A client may forget all brokers where one, not heard by its controller for a while, names none, not even itself
    /// (librdkafka #5301): only a new one is sure to begin where it began.
    fn failed(&mut self, error: &str) {
        self.turn = self.turn.wrapping_add(1);
        self.brokers.clear();
        self.failures += 1;
        if !self.failures.is_multiple_of(FAILURES_A_CLIENT) {
            return;
        }
        if (self.failures / FAILURES_A_CLIENT).is_power_of_two() {
            let times = self.failures;
            tracing::warn!(error, times, "nobody says whether the topics are the same: rows wait");
        }
        if let Ok(client) = quiet_client(&self.config) {
            self.client = client;
        }
    }

    fn ask_once(&mut self, timeout: Duration) -> Result<Vec<Option<Described>>, String> {
        // An error of the connection waits to be served, and nobody needs it.
        drop(self.client.poll(Duration::ZERO));
        if self.brokers.is_empty() {
            let name = self.names.first().map(String::as_str);
            let metadata =
                self.client.fetch_metadata(name, timeout).map_err(|error| error.to_string())?;
            self.brokers = metadata.brokers().iter().map(MetadataBroker::id).collect();
        }
        let broker = self.brokers.get(self.turn % self.brokers.len().max(1)).copied();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        describe(&Admin { client: &self.client, broker, timeout }, &names)
    }
}

/// Failures in a row after which the client itself is doubted.
const FAILURES_A_CLIENT: u32 = 5;

pub(super) fn quiet_client(config: &ClientConfig) -> Result<Client, KafkaError> {
    config.create_with_context(Inspector { is_quiet: true, ..Inspector::default() })
}

/// How often, and after how long, a coordinator that still loads its groups is asked again.
const LOAD_ATTEMPTS: u32 = 100;
const LOAD_PAUSE: Duration = Duration::from_millis(100);

/// Whether any instance is in the group at present.
#[expect(clippy::disallowed_methods, reason = "nothing tells when the coordinator has loaded")]
pub(super) fn has_members(
    settings: &KafkaSettings,
    config: &ClientConfig,
) -> Result<bool, SourceError> {
    let client: Client = config
        .create_with_context(Inspector::default())
        .map_err(|error| SourceError::Client(error.to_string()))?;
    let mut attempts_left = LOAD_ATTEMPTS;
    let groups = loop {
        match client.fetch_group_list(Some(&settings.group), ANSWER_TIMEOUT) {
            Ok(groups) => break groups,
            // A broker that has just started reads its groups first.
            Err(KafkaError::GroupListFetch(RDKafkaErrorCode::CoordinatorLoadInProgress))
                if attempts_left > 0 =>
            {
                attempts_left -= 1;
                std::thread::sleep(LOAD_PAUSE);
            }
            Err(error) => {
                let (brokers, reason) = (settings.brokers.clone(), error.to_string());
                return Err(SourceError::Unreachable { brokers, reason });
            }
        }
    };
    Ok(groups.groups().iter().any(|group| !group.members().is_empty()))
}

/// What metadata say of a topic.
struct Found {
    partitions: usize,
    /// One broker's id.
    broker: Option<i32>,
}

/// The client, and which broker to ask. Any of them knows; left to itself librdkafka waits for the controller, which
/// its own mock cluster does not have.
struct Admin<'a> {
    client: &'a Client,
    broker: Option<i32>,
    timeout: Duration,
}

/// One topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// Its id; empty where the brokers have none.
    pub(super) id: String,
    /// How many partitions it has.
    pub(super) partitions: usize,
}

fn partitions_of(
    client: &Client,
    settings: &KafkaSettings,
    topic: &str,
) -> Result<Found, SourceError> {
    let missing =
        || SourceError::MissingTopic { topic: topic.to_owned(), brokers: settings.brokers.clone() };
    let mut failure = String::new();
    for _ in 0..METADATA_ATTEMPTS {
        match client.fetch_metadata(Some(topic), ANSWER_TIMEOUT) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                let found = found.ok_or_else(missing)?;
                match found.error().map(RDKafkaErrorCode::from) {
                    None if !found.partitions().is_empty() => {
                        return Ok(Found {
                            partitions: found.partitions().len(),
                            broker: metadata.brokers().first().map(MetadataBroker::id),
                        });
                    }
                    None
                    | Some(
                        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                    ) => return Err(missing()),
                    Some(code) => failure = format!("topic {topic}: {code}"),
                }
            }
            Err(error) => {
                failure = error.to_string();
                break;
            }
        }
    }
    client.poll(Duration::from_millis(10)).map(drop).unwrap_or_default(); // serves the error callback
    let reason = client.context().reason.lock().unwrap_or_else(PoisonError::into_inner).take();
    let reason = reason.unwrap_or(failure);
    Err(SourceError::Unreachable { brokers: settings.brokers.clone(), reason })
}

/// The topics, in the order of the names; none in the place of one that does not exist.
fn describe(client: &Admin<'_>, names: &[&str]) -> Result<Vec<Option<Described>>, String> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the pointers are valid C texts, copied by the call; the collection is destroyed below.
    let topics = unsafe {
        sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len())
    };
    let answer =
        Answer::wait(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, |ask| {
            // SAFETY: client, topics, options and queue are valid for the call, which copies what it keeps.
            unsafe { sys::rd_kafka_DescribeTopics(ask.client, topics, ask.options, ask.queue) }
        });
    // SAFETY: made above, and used no more.
    unsafe { sys::rd_kafka_TopicCollection_destroy(topics) };
    let answer = answer.map_err(|unanswered| unanswered.reason)?;
    // SAFETY: the event is the answer to DescribeTopics; arrays come with their lengths, are checked for null, and all
    // that is read of it is copied before it is destroyed.
    let found = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.0.as_ptr());
        if result.is_null() {
            return Err("no answer to the question for topic ids".to_owned());
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let topics = if topics.is_null() { &[] } else { std::slice::from_raw_parts(topics, count) };
        let one = |&topic: &*const sys::rd_kafka_TopicDescription_t| {
            (text(sys::rd_kafka_TopicDescription_name(topic)), describe_one(topic))
        };
        topics.iter().map(one).collect::<Vec<_>>()
    };
    let of = |name: &CString| {
        let found = found.iter().find(|(found, _)| found.as_bytes() == name.as_bytes());
        found.map_or(Ok(None), |(_, described)| described.clone())
    };
    names.iter().map(of).collect()
}

/// Copies what an answer says of one topic.
///
/// # Safety
/// The pointer is one of the answer's topics, and the answer still there.
unsafe fn describe_one(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> Result<Option<Described>, String> {
    // SAFETY: promised by the caller; errors and ids are checked for null.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = if error.is_null() {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            sys::rd_kafka_error_code(error)
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                return Ok(None);
            }
            _ => return Err(text(sys::rd_kafka_error_string(error))),
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() { String::new() } else { text(sys::rd_kafka_Uuid_base64str(id)) };
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        Ok(Some(Described { id: if id == NO_ID { String::new() } else { id }, partitions }))
    }
}

/// The topic's configuration. None where the broker does not say; an error where it did not answer in time: what a job
/// goes by must not depend on that.
fn configs_of(client: &Admin<'_>, topic: &str) -> Result<Option<Vec<(String, String)>>, String> {
    let Ok(name) = CString::new(topic) else { return Ok(None) };
    let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
    // SAFETY: the name is a valid C text, copied by the call; the resource is destroyed below.
    let mut resource = unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
    let question = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let answer = Answer::wait(client, question, |ask| {
        // SAFETY: all four are valid for the call, which copies what it keeps; there is one resource.
        unsafe {
            sys::rd_kafka_DescribeConfigs(ask.client, &raw mut resource, 1, ask.options, ask.queue);
        }
    });
    // SAFETY: made above, and used no more.
    unsafe { sys::rd_kafka_ConfigResource_destroy(resource) };
    match answer {
        // A topic that this client may not ask about has an answer without entries.
        Ok(answer) => Ok(Some(configs(&answer)).filter(|configs| !configs.is_empty())),
        Err(Unanswered { reason, is_late: true }) => Err(reason),
        Err(Unanswered { reason, .. }) => {
            tracing::debug!(topic, reason, "the broker does not say how the topic is configured");
            Ok(None)
        }
    }
}

/// Name and value of each configuration entry in an answer to `DescribeConfigs`.
fn configs(answer: &Answer) -> Vec<(String, String)> {
    let mut all = Vec::new();
    // SAFETY: the event is the answer to DescribeConfigs; arrays come with their lengths, are checked for null, and all
    // that is read is copied before the event is destroyed.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(answer.0.as_ptr());
        if result.is_null() {
            return all;
        }
        let mut resources = 0;
        let list = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut resources);
        let list = if list.is_null() { &[] } else { std::slice::from_raw_parts(list, resources) };
        for &resource in list {
            let mut entries = 0;
            let list = sys::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
            let list = if list.is_null() { &[] } else { std::slice::from_raw_parts(list, entries) };
            all.extend(list.iter().map(|&entry| {
                let name = text(sys::rd_kafka_ConfigEntry_name(entry));
                (name, text(sys::rd_kafka_ConfigEntry_value(entry)))
            }));
        }
    }
    all
}

/// What an admin call needs.
struct Ask {
    client: *mut sys::rd_kafka_t,
    options: *mut sys::rd_kafka_AdminOptions_t,
    queue: *mut sys::rd_kafka_queue_t,
}

/// The answer to an admin call; destroyed when dropped.
struct Answer(NonNull<sys::rd_kafka_event_t>);

/// Why there is no answer.
struct Unanswered {
    reason: String,
    /// Nobody answered in time, and somebody may yet.
    is_late: bool,
}

impl Answer {
    /// Asks, and waits for the answer.
    fn wait(
        admin: &Admin<'_>,
        question: sys::rd_kafka_admin_op_t,
        ask: impl FnOnce(&Ask),
    ) -> Result<Self, Unanswered> {
        let client = admin.client.client().native_ptr();
        let timeout = i32::try_from(admin.timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client is valid for the call; options and queue are destroyed below. An answer that comes after
        // the queue is destroyed is thrown away by librdkafka, which counts its queues.
        let event = unsafe {
            let options = sys::rd_kafka_AdminOptions_new(client, question);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout, ptr::null_mut(), 0);
            if let Some(broker) = admin.broker {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            }
            let queue = sys::rd_kafka_queue_new(client);
            ask(&Ask { client, options, queue });
            let event = sys::rd_kafka_queue_poll(queue, timeout + 1000);
            sys::rd_kafka_queue_destroy(queue);
            sys::rd_kafka_AdminOptions_destroy(options);
            event
        };
        let Some(event) = NonNull::new(event) else {
            return Err(Unanswered { reason: "no answer in time".to_owned(), is_late: true });
        };
        let answer = Self(event);
        // SAFETY: the event is valid, and its text is copied.
        let (error, reason) = unsafe {
            let event = answer.0.as_ptr();
            (sys::rd_kafka_event_error(event), text(sys::rd_kafka_event_error_string(event)))
        };
        let is_late = matches!(
            error.into(),
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
        );
        match error.into() {
            RDKafkaErrorCode::NoError => Ok(answer),
            _ => Err(Unanswered { reason, is_late }),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the event came from `rd_kafka_queue_poll` and is destroyed only here.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// Copies a C text; empty where there is none.
///
/// # Safety
/// The pointer is null or a valid C text.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}
