//! What the newest records of a topic say. Pure: they were read before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hashbrown::{HashMap, HashSet};

use super::finding::Finding;
use crate::commands::codes;
use crate::decode::{Decoder, NotDecoded, SchemaId};
use crate::engine::ShardSettings;
use crate::engine::event::{Event, PartitionId, RequestId, Target};
use crate::engine::log_time::LogClock;
use crate::engine::names::Names;
use crate::engine::time::RecordTime;
use crate::source::partitioner::Partitioner;
use crate::source::sample::{Newest, Sampled};

/// Fewer different keys than this may fit a partitioner by chance, and so few bits tell pairs from chance.
const LEAST_KEYS: usize = 20;
/// Late records from this share on are worth a line, in percent.
const LATE_PERCENT: usize = 1;
/// Models that are named in one line.
const MODELS_SHOWN: usize = 5;

/// The records of one topic, looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    topic: String,
    partitions: i32,
    records: usize,
    good: usize,
    /// How many were bad, by code, and what is wrong with the first.
    bad: BTreeMap<&'static str, (usize, String)>,
    /// How many wait for a schema that has not come, and the first such schema.
    waiting: usize,
    schema: Option<SchemaId>,
    ids: HashMap<RequestId, PartitionId>,
    models: BTreeMap<String, usize>,
    /// Inferences with a prediction, a score, or scores by class.
    predicting: usize,
    late: usize,
    future: usize,
    /// Records with a Kafka timestamp.
    stamped: usize,
    newest: Option<RecordTime>,
    clocks: BTreeMap<PartitionId, LogClock>,
    keyed: usize,
    /// Their keys, hashed as request IDs are.
    keys: HashSet<RequestId>,
    /// How many keyed records lie where each partitioner puts them, in the order of [`Partitioner::ALL`].
    fitting: [usize; 2],
    /// How many keys of records that can be used are the request ID, and how many are not.
    own_keys: [usize; 2],
}

impl Looked {
    /// Decodes all of them.
    pub(super) fn at(
        topic: &str,
        partitions: i32,
        newest: &Newest,
        decoder: &mut Decoder,
        settings: &ShardSettings,
    ) -> Self {
        let mut looked = Self {
            topic: topic.to_owned(),
            partitions,
            records: newest.records.len(),
            ..Self::default()
        };
        let mut names = Names::default();
        for record in &newest.records {
            looked.newest = looked.newest.max(record.time);
            let id = match decoder.decode(record.payload.as_deref(), &mut names) {
                Ok(event) => {
                    looked.event(record, &event, &names, settings);
                    Some(id_of(&event))
                }
                Err(NotDecoded::Bad(error)) => {
                    let at = (record.partition.0, record.offset.0);
                    let first =
                        || format!("{error} (first at partition {}, offset {})", at.0, at.1);
                    looked.bad.entry(error.code()).or_insert_with(|| (0, first())).0 += 1;
                    None
                }
                Err(NotDecoded::Waiting(schema)) => {
                    looked.waiting += 1;
                    looked.schema.get_or_insert(schema);
                    None
                }
            };
            looked.key(record, id);
        }
        looked
    }

    fn event(
        &mut self,
        record: &Sampled,
        event: &Event<'_>,
        names: &Names,
        settings: &ShardSettings,
    ) {
        self.good += 1;
        self.ids.insert(id_of(event), record.partition);
        let Event::Inference(inference) = event else { return };
        *self.models.entry(names.text(inference.model.0).to_string()).or_default() += 1;
        let says = inference.prediction != Target::Absent
            || inference.score.is_some()
            || !inference.scores.is_empty();
        self.predicting += usize::from(says);
        if let Some(time) = record.time {
            let new = || LogClock::new(settings.clock_stamps);
            let clock = self.clocks.entry(record.partition).or_insert_with(new);
            clock.read(time);
            let arrival = clock.arrival(time, settings.limits.max_gap);
            self.stamped += 1;
            self.late += usize::from(settings.limits.is_late(arrival, inference.time));
            self.future += usize::from(settings.limits.is_future(arrival, inference.time));
        }
    }

    fn key(&mut self, record: &Sampled, id: Option<RequestId>) {
        let Some(key) = &record.key else { return };
        self.keyed += 1;
        let hashed = RequestId::of(key);
        self.keys.insert(hashed);
        if let Some(id) = id {
            self.own_keys[usize::from(id != hashed)] += 1;
        }
        for (count, partitioner) in self.fitting.iter_mut().zip(Partitioner::ALL) {
            let fits = partitioner.partition(key, self.partitions) == record.partition.0;
            *count += usize::from(fits);
        }
    }

    /// The one partitioner that all records fit, all of them keyed.
    fn partitioner(&self) -> Option<Partitioner> {
        let fits = |at: usize| self.has_many_keys() && self.fitting[at] == self.records;
        match [fits(0), fits(1)] {
            [true, false] => Some(Partitioner::ALL[0]),
            [false, true] => Some(Partitioner::ALL[1]),
            _ => None,
        }
    }

    fn has_many_keys(&self) -> bool {
        self.keyed == self.records && self.keys.len() >= LEAST_KEYS
    }

    /// Whether every record that can be used has its request ID as the key.
    fn has_own_keys(&self) -> bool {
        let [own, others] = self.own_keys;
        self.keyed == self.records && own > 0 && others == 0
    }

    /// Whether there is any record, and whether they can be used. Up to the share `tolerated` bad ones stop no job.
    pub(super) fn decoding(&self, missing: Option<&str>, tolerated: f64) -> Vec<Finding> {
        let Self { topic, records, good, .. } = self;
        let mut found = Vec::new();
        if let Some(reason) = missing {
            found.push(Finding::problem(
                "records",
                format!("topic {topic}: not all of the newest records could be read: {reason}"),
                "see that the user may read the topic, and that the brokers answer".to_owned(),
            ));
        } else if *records == 0 {
            found.push(Finding::note(
                "records",
                format!("topic {topic} holds no records yet"),
                "check again once the producers write",
            ));
        }
        if good == records && *records > 0 {
            let what = format!("topic {topic}: the newest {records} records can be used");
            found.push(Finding::good("records", what + &self.named()));
        }
        let all_bad: usize = self.bad.values().map(|(count, _)| count).sum();
        let stops = share(all_bad, *records) > tolerated;
        for (code, (count, first)) in &self.bad {
            let remedy = codes::remedy(code);
            let what = format!("topic {topic}: {count} of the newest {records} records: {first}");
            found.push(if stops {
                Finding::problem(code, what, remedy.to_owned())
            } else {
                Finding::note(code, what, remedy)
            });
        }
        if *good > 0 && !self.models.is_empty() && self.predicting == 0 {
            found.push(Finding::problem(
                "records",
                format!("topic {topic}: no record has a prediction, a score or scores"),
                "name the fields under `inferences.fields`; without them no quality is measured"
                    .to_owned(),
            ));
        }
        found
    }

    fn named(&self) -> String {
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let mut text = String::new();
        for (at, (name, count)) in models.iter().take(MODELS_SHOWN).enumerate() {
            let between = if at == 0 { "; models " } else { ", " };
            write!(text, "{between}{name} ({count})").expect("memory");
        }
        if let Some(more) = models.len().checked_sub(MODELS_SHOWN).filter(|more| *more > 0) {
            write!(text, " and {more} more").expect("memory");
        }
        text
    }

    /// How many records wait for a schema, and for which the first of them does.
    pub(super) fn waiting(&self) -> Option<(usize, SchemaId)> {
        Some((self.waiting, self.schema?))
    }

    /// The newest Kafka timestamp.
    pub(super) fn newest(&self) -> Option<RecordTime> {
        self.newest
    }

    /// Event times of inferences against the log time at which they came.
    pub(super) fn times(&self, settings: &ShardSettings) -> Option<Finding> {
        let Self { topic, stamped, late, future, .. } = self;
        let limits = &settings.limits;
        if *stamped == 0 {
            return None;
        }
        let of = format!(
            "topic {topic}: {late} of {stamped} records came more than windows.lateness ({} ms) after their own \
             time, and would not be measured",
            limits.lateness.0
        );
        Some(if 2 * late > *stamped {
            Finding::problem(
                "lateness",
                of,
                "if this is history that was loaded later, set windows.progress = \"event\"; else raise \
                 windows.lateness"
                    .to_owned(),
            )
        } else if *future > 0 {
            let what = format!(
                "topic {topic}: {future} of {stamped} records claim a time more than windows.max_future ({} ms) \
                 ahead of Kafka's, and would be dead letters",
                limits.max_future.0
            );
            let remedy = "set the producers' clocks right, or raise windows.max_future";
            Finding::note("future", what, remedy)
        } else if 100 * late > LATE_PERCENT * stamped {
            Finding::note("lateness", of, "raise windows.lateness if they are to be measured")
        } else {
            Finding::good(
                "lateness",
                format!("topic {topic}: {late} of {stamped} records came late"),
            )
        })
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share")]
fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

fn id_of(event: &Event<'_>) -> RequestId {
    match event {
        Event::Inference(inference) => inference.id,
        Event::Label(label) => label.id,
    }
}

/// Whether labels lie in the partitions of their inferences: by pairs that were seen, else by how producers choose.
pub(super) fn partitioning(inferences: &Looked, labels: &Looked) -> Finding {
    const ABOUT: &str = "partitioner";
    if inferences.partitions == 1 {
        return Finding::good(
            ABOUT,
            "with one partition labels lie beside their inferences".into(),
        );
    }
    let pairs = labels.ids.iter().filter_map(|(id, at)| Some((*inferences.ids.get(id)?, *at)));
    let (mut together, mut apart) = (0_usize, 0);
    for (inference, label) in pairs {
        *(if inference == label { &mut together } else { &mut apart }) += 1;
    }
    let have_own_keys = inferences.has_own_keys() && labels.has_own_keys();
    let remedy = if have_own_keys {
        let wanted = inferences.partitioner().unwrap_or(Partitioner::Murmur2);
        format!(
            "let both producers choose alike, such as `partitioner={}` in librdkafka's properties, and write to new \
             topics: what lies in other partitions is not joined",
            wanted.property()
        )
    } else {
        "give both topics the request ID as the key, or else what is equal for an inference and its labels, and write \
         to new topics: what lies in other partitions is not joined"
            .to_owned()
    };
    if apart > 0 {
        let all = together + apart;
        let what = format!("{apart} of {all} labels lie in another partition than their inference");
        return Finding::problem(ABOUT, what, remedy);
    }
    let name = |looked: &Looked| looked.partitioner().map_or("something else", Partitioner::name);
    let (left, right) = (inferences.partitioner(), labels.partitioner());
    let many = inferences.has_many_keys() && labels.has_many_keys();
    if have_own_keys && many && left != right {
        let what = format!(
            "topic {} is partitioned by {}, topic {} by {}: labels lie in other partitions than their inferences",
            inferences.topic,
            name(inferences),
            labels.topic,
            name(labels)
        );
        return Finding::problem(ABOUT, what, remedy);
    }
    if have_own_keys && left.is_some() && left == right {
        let what = format!("both topics are partitioned by request ID, {}", name(inferences));
        return Finding::good(ABOUT, what);
    }
    // Of so many pairs all would lie together by chance once in 2^bits.
    let bits = inferences.partitions.max(2).ilog2();
    if together.saturating_mul(usize::try_from(bits).unwrap_or(1)) >= LEAST_KEYS {
        let what = format!("{together} labels lie in the partitions of their inferences");
        return Finding::good(ABOUT, what);
    }
    Finding::note(
        ABOUT,
        format!(
            "whether labels lie in the partitions of their inferences can't be told from {} and {} keyed records and \
             {together} pairs",
            inferences.keyed, labels.keyed
        ),
        "give both topics the request ID as the key, and their producers one partitioner; or check again with more \
         --samples",
    )
}

/// How far the newest record is ahead of this machine's clock.
pub(super) fn ahead(newest: Option<RecordTime>, now_ms: i64) -> i64 {
    newest.map_or(0, |RecordTime(time)| time.saturating_sub(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::finding::Level;
    use crate::decode::fields::FieldPaths;
    use crate::decode::registry::Schemas;
    use crate::decode::{DecoderSettings, Format};
    use crate::engine::event::{Offset, Stream};
    use std::sync::Arc;

    fn by() -> ShardSettings {
        let text =
            "[inferences]\ntopic = \"i\"\n\n[windows]\nlateness = \"1m\"\nmax_future = \"1s\"\n";
        let environment = crate::config::Environment::default();
        crate::config::Settings::parse("test.toml", text, &environment).unwrap().shard
    }

    fn looked(stream: Stream, records: &[Sampled]) -> Looked {
        let settings = DecoderSettings {
            stream,
            format: Format::Json,
            fields: FieldPaths::new(stream),
            segments: Vec::new(),
        };
        let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
        let newest = Newest { records: records.to_vec(), missing: None };
        Looked::at(stream.name(), 8, &newest, &mut decoder, &by())
    }

    /// Records of `count` requests, each where the partitioner puts it.
    fn records(stream: Stream, count: i64, by: Partitioner, delay_ms: i64) -> Vec<Sampled> {
        let one = |number: i64| {
            let id = format!("request-{number}");
            let said = match stream {
                Stream::Inferences => format!(r#""model":"m{}","score":0.5"#, number % 7),
                Stream::Labels => r#""label":1"#.to_owned(),
            };
            Sampled {
                partition: PartitionId(by.partition(id.as_bytes(), 8)),
                offset: Offset(number),
                time: Some(RecordTime(1_000_000 + delay_ms)),
                payload: Some(
                    format!(r#"{{"request_id":"{id}","timestamp":1000000,{said}}}"#).into(),
                ),
                key: Some(id.into_bytes()),
            }
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn partitioners_that_differ_are_a_problem() {
        let all = Partitioner::ALL;
        for left in all {
            for right in all {
                let inferences =
                    looked(Stream::Inferences, &records(Stream::Inferences, 50, left, 0));
                // Of other requests: only the partitioner can tell.
                let mut others = records(Stream::Labels, 100, right, 0);
                others.drain(..50);
                let found = partitioning(&inferences, &looked(Stream::Labels, &others));
                let expected = if left == right { Level::Good } else { Level::Problem };
                assert_eq!(found.level, expected, "{found:?}");
                // Of the same: the pairs tell.
                let labels = looked(Stream::Labels, &records(Stream::Labels, 10, right, 0));
                assert_eq!(partitioning(&inferences, &labels).level, expected);
            }
        }
    }

    #[test]
    fn without_keys_only_pairs_tell() {
        let mut inferences = records(Stream::Inferences, 50, Partitioner::Murmur2, 0);
        let mut labels = records(Stream::Labels, 100, Partitioner::Murmur2, 0);
        inferences.iter_mut().chain(&mut labels).for_each(|record| record.key = None);
        let inferences = looked(Stream::Inferences, &inferences);
        let found = partitioning(&inferences, &looked(Stream::Labels, &labels[50..]));
        assert_eq!(found.level, Level::Note, "{found:?}");
        let found = partitioning(&inferences, &looked(Stream::Labels, &labels));
        assert_eq!(found.level, Level::Good, "{found:?}");
    }

    #[test]
    fn a_few_keyed_records_or_pairs_prove_nothing() {
        let mut inferences = records(Stream::Inferences, 50, Partitioner::Murmur2, 0);
        let labels = records(Stream::Labels, 100, Partitioner::Murmur2, 0);
        // Some records have no key, and lie anywhere.
        inferences[30..].iter_mut().for_each(|record| record.key = None);
        let of = |inferences: &[Sampled], labels: &[Sampled]| {
            partitioning(&looked(Stream::Inferences, inferences), &looked(Stream::Labels, labels))
        };
        assert_eq!(of(&inferences, &labels[50..]).level, Level::Note);
        assert_eq!(of(&inferences, &labels[47..]).level, Level::Note, "three pairs");
        assert_eq!(of(&inferences, &labels[40..]).level, Level::Good, "ten pairs of 8 partitions");
        // One key over and over fits one partitioner in eight by chance.
        let same: Vec<_> = (0..40).map(|_| inferences[0].clone()).collect();
        assert_eq!(of(&same, &labels[50..]).level, Level::Note);
        // Placed by neither, though by request ID.
        let mut others = records(Stream::Labels, 100, Partitioner::Crc32, 0);
        for (at, record) in others.iter_mut().enumerate() {
            record.partition = PartitionId(i32::try_from(at % 8).unwrap());
        }
        let all = records(Stream::Inferences, 50, Partitioner::Murmur2, 0);
        let found = of(&all, &others[50..]);
        assert_eq!(found.level, Level::Problem);
        assert!(found.what.contains("something else"), "{}", found.what);
    }

    #[test]
    fn what_can_not_be_used_is_named_with_its_first_place() {
        let mut some = records(Stream::Inferences, 30, Partitioner::Crc32, 0);
        some[3].payload = None;
        some[4].payload = Some(b"{".to_vec());
        some[5].payload = Some(b"{".to_vec());
        let found = looked(Stream::Inferences, &some).decoding(None, 0.05);
        let about: Vec<_> = found.iter().map(|it| (it.about, it.level)).collect();
        assert_eq!(about, [("broken_json", Level::Problem), ("tombstone", Level::Problem)]);
        assert!(found[0].what.contains("2 of the newest 30 records"), "{}", found[0].what);
        assert!(found[0].what.contains("offset 4)"), "{}", found[0].what);
        let found = looked(Stream::Inferences, &some[6..]).decoding(None, 0.05);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].what.contains("m0 (4), m1 (4), m6 (4), m2 (3), m3 (3) and 2 more"),
            "{}",
            found[0].what
        );
        let nothing = looked(Stream::Inferences, &[]);
        assert_eq!(nothing.decoding(None, 0.05)[0].level, Level::Note);
        let found = nothing.decoding(Some("not authorized"), 0.05);
        assert_eq!((found.len(), found[0].level), (1, Level::Problem), "{found:?}");
        let found = looked(Stream::Inferences, &some).decoding(None, 0.1);
        assert!(found.iter().all(|it| it.level == Level::Note), "few are tolerated: {found:?}");
    }

    #[test]
    fn a_history_that_was_loaded_later_is_told() {
        let of = |delay| {
            looked(Stream::Inferences, &records(Stream::Inferences, 9, Partitioner::Crc32, delay))
                .times(&by())
                .unwrap()
        };
        assert_eq!(of(60_000).level, Level::Good);
        assert_eq!((of(60_001).level, of(60_001).about), (Level::Problem, "lateness"));
        assert_eq!((of(-1_001).level, of(-1_001).about), (Level::Note, "future"));
        assert_eq!(ahead(Some(RecordTime(70)), 50), 20);
    }
}
