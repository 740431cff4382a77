//! What a job's name is bound to: one row of table `jobs`. The same name on other topics, or with another
//! configuration, would mix rows that don't belong together, so it is refused.

use crate::engine::time::Millis;

use super::SinkError;
use super::connection::{Connection, Parameter};
use super::rowbinary::Rows;

/// What the first start of a job writes down and every later one must find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobBinding {
    /// Kafka's cluster ID, or [`FILES`]; `''` where the cluster tells none, which is then not compared.
    pub cluster: String,
    /// The inference topic.
    pub inferences: BoundTopic,
    /// The label topic, where there is one.
    pub labels: Option<BoundTopic>,
    /// Partitions of each topic, at least 1.
    pub partitions: i32,
    /// Digest of all options that change what a row says.
    pub configuration: String,
    /// Length of the base window.
    pub window: Millis,
}

/// One topic of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoundTopic {
    /// Its name.
    pub name: String,
    /// Kafka's topic ID; `''` where the broker tells none, which is then not compared.
    pub id: String,
}

/// Why a job may not start. All but [`Sink`](Self::Sink) are refusals: only a person can decide.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name belongs to a job on other topics or another cluster.
    #[error(
        "job '{job}' reads {bound}, and now it would read {found}. Give this job another name (`job`, `--job`), or \
         name what it was made for"
    )]
    OtherTopics {
        /// The job.
        job: String,
        /// What it is bound to.
        bound: String,
        /// What the configuration names.
        found: String,
    },
    /// A topic was deleted and created again, so its offsets begin anew.
    #[error(
        "topic '{topic}' was created anew since job '{job}' began (its ID was {bound} and is {found}), so stored \
         positions mean nothing in it. Start under another job name (`job`)"
    )]
    TopicRecreated {
        /// The job.
        job: String,
        /// The topic.
        topic: String,
        /// The ID that it had.
        bound: String,
        /// The ID that it has.
        found: String,
    },
    /// Partitions were added.
    #[error(
        "the topics of job '{job}' had {bound} partitions when it began and have {found} now, so keys have moved \
         between partitions. Start under another job name (`job`)"
    )]
    PartitionsChanged {
        /// The job.
        job: String,
        /// How many there were.
        bound: i32,
        /// How many there are.
        found: i32,
    },
    /// An option that changes what a row says differs from the one that the job's rows were made with.
    #[error(
        "job '{job}' was started with other windows, models, segments, metrics, caps, formats or fields, and its rows \
         would not fit together. Put the configuration back, or start under another job name (`job`)"
    )]
    OtherConfiguration {
        /// The job.
        job: String,
    },
    /// The table could not be read or written.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl BindError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherTopics { .. } => "job_other_topics",
            Self::TopicRecreated { .. } => "topic_recreated",
            Self::PartitionsChanged { .. } => "partitions_changed",
            Self::OtherConfiguration { .. } => "job_other_configuration",
            Self::Sink(error) => error.code(),
        }
    }
}

/// The cluster of what is read from files.
pub const FILES: &str = "files";

impl JobBinding {
    /// Whether it reads files.
    pub fn is_of_files(&self) -> bool {
        self.cluster == FILES
    }

    /// Compares what was `bound` at the first start with this. Topics come before their IDs, and both before the
    /// digest, so that the message names the cause and not its consequence.
    pub fn compare(&self, job: &str, bound: &Self) -> Result<(), BindError> {
        let job = job.to_owned();
        let same_cluster = unknown_or_equal(&bound.cluster, &self.cluster);
        if !same_cluster || bound.topic_names() != self.topic_names() {
            return Err(BindError::OtherTopics {
                job,
                bound: bound.describe(),
                found: self.describe(),
            });
        }
        for (then, now) in bound.topics().zip(self.topics()) {
            if !unknown_or_equal(&then.id, &now.id) {
                return Err(BindError::TopicRecreated {
                    job,
                    topic: now.name.clone(),
                    bound: then.id.clone(),
                    found: now.id.clone(),
                });
            }
        }
        if bound.partitions != self.partitions {
            return Err(BindError::PartitionsChanged {
                job,
                bound: bound.partitions,
                found: self.partitions,
            });
        }
        if bound.configuration != self.configuration || bound.window != self.window {
            return Err(BindError::OtherConfiguration { job });
        }
        Ok(())
    }

    fn topics(&self) -> impl Iterator<Item = &BoundTopic> {
        std::iter::once(&self.inferences).chain(&self.labels)
    }

    fn topic_names(&self) -> Vec<&str> {
        self.topics().map(|topic| topic.name.as_str()).collect()
    }

    fn describe(&self) -> String {
        let labels = match &self.labels {
            Some(labels) => format!(" and '{}'", labels.name),
            None => " without labels".to_owned(),
        };
        let place = if self.is_of_files() {
            String::new()
        } else {
            format!(" on cluster '{}'", self.cluster)
        };
        format!("'{}'{labels}{place}", self.inferences.name)
    }
}

/// Times that a first start writes its row before it gives up. Each time that a name was forgotten costs the next first
/// start one more, some milliseconds.
const MAX_ATTEMPTS: i64 = 100;

/// Binds the job's name at its first start, compares at later ones; the job's generation.
///
/// Of two first starts at once one must win, and both must see which. An insert with a token is dropped by the server
/// when an equal token came before, whatever its rows say: so there is one row, and whoever reads it back agrees.
pub(super) async fn bind(connection: &Connection, binding: &JobBinding) -> Result<u16, BindError> {
    let job = &connection.settings.job;
    for attempt in 0..MAX_ATTEMPTS {
        if let Some(bound) = bound(connection).await? {
            binding.compare(job, &bound.binding)?;
            return Ok(bound.generation);
        }
        // A row that was deleted by hand leaves its token behind: the next attempt has another. Whoever starts at the
        // same time goes through the same ones, and stops where the other was the first.
        insert(connection, binding, 0, &format!("bind {attempt} {job}")).await?;
    }
    match bound(connection).await? {
        Some(bound) => binding.compare(job, &bound.binding).map(|()| bound.generation),
        None => Err(SinkError::Unavailable(
            "the job's row in table jobs does not appear after it was written. Several replicas need `insert_settings` \
             and `read_settings`, as deploy/tidegauge.toml says"
                .to_owned(),
        )
        .into()),
    }
}

/// What the job's name is bound to at present.
pub(super) struct Bound {
    generation: u16,
    /// When the server wrote the row, in milliseconds since 1970-01-01 UTC. It stands in each token, since tokens outlive
    /// their rows: those of a job of this name that was forgotten are others.
    created_ms: i64,
    /// Rows of this generation. Whoever adds one puts their number into the token, so that of several at once only one
    /// succeeds: a first flush that says "rows follow", or another configuration that takes the next generation.
    rows: u64,
    binding: JobBinding,
}

impl Bound {
    fn next_token(&self, job: &str) -> String {
        format!("bind after {}.{} of {} {job}", self.generation, self.rows, self.created_ms)
    }
}

/// What the job is bound to; none where it has not begun.
pub(super) async fn recorded(connection: &Connection) -> Result<Option<JobBinding>, SinkError> {
    Ok(bound(connection).await?.map(|bound| bound.binding))
}

/// When the server wrote the row that binds the job, for tokens of other tables.
pub(super) async fn created_ms(connection: &Connection) -> Result<i64, SinkError> {
    Ok(present(connection).await?.created_ms)
}

/// What the job is bound to, as it has begun.
async fn present(connection: &Connection) -> Result<Bound, SinkError> {
    let job = &connection.settings.job;
    let gone = || SinkError::Unreadable(format!("the row of job '{job}' in table jobs is gone"));
    bound(connection).await?.ok_or_else(gone)
}

/// Says that rows of this configuration follow; called before the first of them. From then on nobody else takes the
/// job. Refused where another configuration has taken it already: of an instance that is just starting nothing is to
/// be seen in the group, so another one may have found the job unused.
pub(super) async fn confirm(
    connection: &Connection,
    binding: &JobBinding,
    generation: u16,
) -> Result<(), BindError> {
    let before = still_bound(connection, binding, generation).await?;
    if has_written(connection).await? {
        return Ok(());
    }
    let token = before.next_token(&connection.settings.job);
    insert(connection, binding, generation, &token).await?;
    still_bound(connection, binding, generation).await.map(drop)
}

/// The job as it is bound, refused where another configuration has taken it since.
pub(super) async fn still_bound(
    connection: &Connection,
    binding: &JobBinding,
    generation: u16,
) -> Result<Bound, BindError> {
    let job = &connection.settings.job;
    let bound = present(connection).await?;
    binding.compare(job, &bound.binding)?;
    let is_ours = bound.generation == generation;
    is_ours.then_some(bound).ok_or(BindError::OtherConfiguration { job: job.clone() })
}

/// A job that is bound to another configuration and has written nothing with it.
#[derive(Debug)]
pub struct Unused {
    next: u16,
    token: String,
}

/// Whether the job may be bound to another configuration, if no instance of it runs. That is to be seen after this and
/// before [`rebind`], which fails where an instance has begun to write meanwhile.
pub(super) async fn unused(
    connection: &Connection,
    binding: &JobBinding,
) -> Result<Option<Unused>, BindError> {
    let job = &connection.settings.job;
    let Some(before) = bound(connection).await? else { return Ok(None) };
    let next = before.generation.checked_add(1);
    let differs = binding.compare(job, &before.binding);
    let may_change = match differs {
        Err(BindError::OtherConfiguration { .. }) => true,
        // Files that were of no use are written again. A name that reads other topics is a mistake.
        Err(BindError::OtherTopics { .. }) => binding.is_of_files() && before.binding.is_of_files(),
        _ => false,
    };
    let is_unused = may_change && !has_written(connection).await?;
    Ok(next.filter(|_| is_unused).map(|next| Unused { next, token: before.next_token(job) }))
}

/// Binds an unused job, of which the caller has seen that no instance runs, as the next generation.
pub(super) async fn rebind(
    connection: &Connection,
    binding: &JobBinding,
    unused: &Unused,
) -> Result<u16, BindError> {
    insert(connection, binding, unused.next, &unused.token).await?;
    bind(connection, binding).await
}

/// Whether any record of the job is counted in a mark or a state.
async fn has_written(connection: &Connection) -> Result<bool, SinkError> {
    let sql = format!(
        "SELECT sum(rows) AS rows FROM (\
         SELECT count() AS rows FROM {} WHERE job = {{job:String}} \
         AND (notEmpty(inference_tally) OR notEmpty(label_tally)) \
         UNION ALL SELECT count() AS rows FROM {} WHERE job = {{job:String}})",
        connection.table("marks"),
        connection.table("window_state")
    );
    let job = Parameter::Text(connection.settings.job.clone());
    let body = connection.fetch(&sql, &[("job", job)]).await?;
    Ok(Rows::new(body, "table marks", &[("rows", "UInt64")])?.u64()? > 0)
}

async fn insert(
    connection: &Connection,
    binding: &JobBinding,
    generation: u16,
    token: &str,
) -> Result<(), SinkError> {
    let labels = binding.labels.clone().unwrap_or_default();
    let text = |text: &str| Parameter::Text(text.to_owned());
    let parameters = [
        ("job", text(&connection.settings.job)),
        ("generation", Parameter::Number(i64::from(generation))),
        ("cluster", text(&binding.cluster)),
        ("inferences", text(&binding.inferences.name)),
        ("inferences_id", text(&binding.inferences.id)),
        ("labels", text(&labels.name)),
        ("labels_id", text(&labels.id)),
        ("partitions", Parameter::Number(i64::from(binding.partitions))),
        ("configuration", text(&binding.configuration)),
        ("window_ms", Parameter::Number(binding.window.0)),
    ];
    let values = "(job, generation, cluster, inference_topic, inference_topic_id, label_topic, label_topic_id, \
                  partitions, configuration, window_ms) SELECT {job:String}, {generation:UInt16}, {cluster:String}, \
                  {inferences:String}, {inferences_id:String}, {labels:String}, {labels_id:String}, \
                  {partitions:Int32}, {configuration:String}, {window_ms:Int64}";
    let settings =
        [("async_insert", "0"), ("insert_deduplicate", "1"), ("insert_deduplication_token", token)];
    connection.insert_values("jobs", values, &parameters, &settings).await
}

const JOB_COLUMNS: [(&str, &str); 9] = [
    ("generation", "UInt16"),
    ("cluster", "String"),
    ("inference_topic", "String"),
    ("inference_topic_id", "String"),
    ("label_topic", "String"),
    ("label_topic_id", "String"),
    ("partitions", "Int32"),
    ("configuration", "String"),
    ("window_ms", "Int64"),
];

/// The row of the newest generation; of several the first written, ties by content, so that all readers agree.
async fn bound(connection: &Connection) -> Result<Option<Bound>, SinkError> {
    let names = JOB_COLUMNS.map(|(name, _)| name).join(", ");
    let sql = format!(
        "SELECT {names}, toUnixTimestamp64Milli(created) AS created_ms, \
         count() OVER (PARTITION BY generation) AS rows FROM {} WHERE job = {{job:String}} \
         ORDER BY generation DESC, created, {names} LIMIT 1",
        connection.table("jobs")
    );
    let job = Parameter::Text(connection.settings.job.clone());
    let body = connection.fetch(&sql, &[("job", job)]).await?;
    let more = [("created_ms", "Int64"), ("rows", "UInt64")];
    let columns: Vec<_> = JOB_COLUMNS.into_iter().chain(more).collect();
    let mut rows = Rows::new(body, "table jobs", &columns)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let generation = rows.u16()?;
    let mut text = || rows.text().map(|text| text.to_string());
    let cluster = text()?;
    let inferences = BoundTopic { name: text()?, id: text()? };
    let labels = BoundTopic { name: text()?, id: text()? };
    let partitions = rows.i32()?;
    let configuration = rows.text()?.to_string();
    let window = Millis(rows.i64()?);
    let labels = (!labels.name.is_empty()).then_some(labels);
    let binding = JobBinding { cluster, inferences, labels, partitions, configuration, window };
    Ok(Some(Bound { generation, created_ms: rows.i64()?, rows: rows.u64()?, binding }))
}

fn unknown_or_equal(a: &str, b: &str) -> bool {
    a.is_empty() || b.is_empty() || a == b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> JobBinding {
        let topic = |name: &str, id: &str| BoundTopic { name: name.into(), id: id.into() };
        JobBinding {
            cluster: "c1".into(),
            inferences: topic("inferences", "id-a"),
            labels: Some(topic("labels", "id-b")),
            partitions: 4,
            configuration: "digest".into(),
            window: Millis(300_000),
        }
    }

    fn code(change: impl FnOnce(&mut JobBinding)) -> Result<(), &'static str> {
        let mut now = binding();
        change(&mut now);
        now.compare("fraud", &binding()).map_err(|error| {
            assert!(!matches!(error, BindError::Sink(_)));
            assert!(error.to_string().contains("'fraud'"), "{error}");
            error.code()
        })
    }

    #[test]
    fn each_difference_has_its_own_code() {
        assert_eq!(code(|_| ()), Ok(()));
        assert_eq!(code(|b| b.cluster = "c2".into()), Err("job_other_topics"));
        assert_eq!(code(|b| b.inferences.name = "x".into()), Err("job_other_topics"));
        assert_eq!(code(|b| b.labels = None), Err("job_other_topics"));
        assert_eq!(code(|b| b.inferences.id = "x".into()), Err("topic_recreated"));
        assert_eq!(code(|b| b.partitions = 8), Err("partitions_changed"));
        assert_eq!(code(|b| b.configuration = "x".into()), Err("job_other_configuration"));
        assert_eq!(code(|b| b.window = Millis(1)), Err("job_other_configuration"));
    }

    #[test]
    fn what_a_broker_does_not_tell_is_not_compared() {
        assert_eq!(code(|b| b.cluster = String::new()), Ok(()));
        assert_eq!(code(|b| b.inferences.id = String::new()), Ok(()));
    }
}
