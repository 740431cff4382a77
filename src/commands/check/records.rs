//! What the newest records of a topic say. Pure: they were read before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hashbrown::HashMap;

use super::finding::Finding;
use crate::decode::{Decoder, NotDecoded};
use crate::engine::event::{Event, PartitionId, RequestId, Target};
use crate::engine::lateness::Limits;
use crate::engine::names::Names;
use crate::engine::time::{EventTime, LogTime, RecordTime};
use crate::source::partitioner::Partitioner;
use crate::source::sample::Sampled;

/// Fewer keyed records than this may fit a partitioner by chance.
const LEAST_KEYED: usize = 20;
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
    /// How many wait for a schema that has not come.
    waiting: usize,
    ids: HashMap<RequestId, PartitionId>,
    models: BTreeMap<String, usize>,
    /// Inferences with a prediction, a score, or scores by class.
    predicting: usize,
    late: usize,
    future: usize,
    /// Records with a Kafka timestamp.
    stamped: usize,
    newest: Option<RecordTime>,
    keyed: usize,
    /// How many keyed records lie where each partitioner puts them, in the order of [`Partitioner::ALL`].
    fitting: [usize; 2],
    /// How many keys are the request ID.
    own_keys: usize,
}

impl Looked {
    /// Decodes all of them.
    pub(super) fn at(
        topic: &str,
        partitions: i32,
        records: &[Sampled],
        decoder: &mut Decoder,
        limits: &Limits,
    ) -> Self {
        let mut looked =
            Self { topic: topic.to_owned(), partitions, records: records.len(), ..Self::default() };
        let mut names = Names::default();
        for record in records {
            looked.newest = looked.newest.max(record.time);
            let id = match decoder.decode(record.payload.as_deref(), &mut names) {
                Ok(event) => {
                    looked.event(record, &event, &names, limits);
                    Some(id_of(&event))
                }
                Err(NotDecoded::Bad(error)) => {
                    let at = (record.partition.0, record.offset.0);
                    let first =
                        || format!("{error} (first at partition {}, offset {})", at.0, at.1);
                    looked.bad.entry(error.code()).or_insert_with(|| (0, first())).0 += 1;
                    None
                }
                Err(NotDecoded::Waiting(_)) => {
                    looked.waiting += 1;
                    None
                }
            };
            looked.key(record, id);
        }
        looked
    }

    fn event(&mut self, record: &Sampled, event: &Event<'_>, names: &Names, limits: &Limits) {
        self.good += 1;
        self.ids.insert(id_of(event), record.partition);
        let Event::Inference(inference) = event else { return };
        *self.models.entry(names.text(inference.model.0).to_string()).or_default() += 1;
        let says = inference.prediction != Target::Absent
            || inference.score.is_some()
            || !inference.scores.is_empty();
        self.predicting += usize::from(says);
        if let Some(RecordTime(time)) = record.time {
            self.stamped += 1;
            self.late += usize::from(limits.is_late(LogTime(time), inference.time));
            self.future += usize::from(limits.is_future(LogTime(time), inference.time));
        }
    }

    fn key(&mut self, record: &Sampled, id: Option<RequestId>) {
        let Some(key) = &record.key else { return };
        self.keyed += 1;
        self.own_keys += usize::from(id == Some(RequestId::of(key)));
        for (count, partitioner) in self.fitting.iter_mut().zip(Partitioner::ALL) {
            let fits = partitioner.partition(key, self.partitions) == record.partition.0;
            *count += usize::from(fits);
        }
    }

    /// The one partitioner that all keyed records fit.
    fn partitioner(&self) -> Option<Partitioner> {
        let fits = |at: usize| self.keyed >= LEAST_KEYED && self.fitting[at] == self.keyed;
        match [fits(0), fits(1)] {
            [true, false] => Some(Partitioner::ALL[0]),
            [false, true] => Some(Partitioner::ALL[1]),
            _ => None,
        }
    }

    /// Whether there is any record, and whether they can be used.
    pub(super) fn decoding(&self, is_whole: bool) -> Vec<Finding> {
        let Self { topic, records, good, .. } = self;
        let mut found = Vec::new();
        if !is_whole {
            found.push(Finding::note(
                "records",
                format!("topic {topic}: not all of the newest records came in time"),
                "look at the brokers; what came is judged below",
            ));
        }
        if *records == 0 {
            found.push(Finding::note(
                "records",
                format!("topic {topic} holds no records yet"),
                "check again once the producers write",
            ));
            return found;
        }
        if good == records {
            let what = format!("topic {topic}: the newest {records} records can be used");
            found.push(Finding::good("records", what + &self.named()));
        }
        for (code, (count, first)) in &self.bad {
            let remedy = crate::commands::codes::find(code).map_or("", |code| code.remedy);
            let what = format!("topic {topic}: {count} of the newest {records} records: {first}");
            found.push(Finding::problem(code, what, remedy.to_owned()));
        }
        if good > &0 && !self.models.is_empty() && self.predicting == 0 {
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

    /// How many records wait for a schema.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The newest Kafka timestamp.
    pub(super) fn newest(&self) -> Option<RecordTime> {
        self.newest
    }

    /// Event times of inferences against their Kafka timestamps, where these move the job.
    pub(super) fn times(&self, limits: &Limits) -> Option<Finding> {
        let Self { topic, stamped, late, future, .. } = self;
        if *stamped == 0 {
            return None;
        }
        if 2 * late > *stamped {
            return Some(Finding::problem(
                "lateness",
                format!(
                    "topic {topic}: {late} of {stamped} records came more than windows.lateness ({} ms) after \
                     their own time, and would not be measured",
                    limits.lateness.0
                ),
                "if this is history that was loaded later, set windows.progress = \"event\"; else raise \
                 windows.lateness"
                    .to_owned(),
            ));
        }
        if *future > 0 {
            return Some(Finding::problem(
                "future",
                format!(
                    "topic {topic}: {future} of {stamped} records claim a time more than windows.max_future \
                     ({} ms) ahead of Kafka's, and would be dead letters",
                    limits.max_future.0
                ),
                "set the producers' clocks right, or raise windows.max_future".to_owned(),
            ));
        }
        let what = format!("topic {topic}: {late} of {stamped} records came late");
        Some(Finding::good("lateness", what))
    }
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
    let (mut together, mut apart) = (0, 0);
    for (inference, label) in pairs {
        *(if inference == label { &mut together } else { &mut apart }) += 1;
    }
    let remedy = |wanted: Partitioner| {
        format!(
            "let both producers choose alike, such as `partitioner={}` in librdkafka's properties, and write to new \
             topics: what lies in other partitions is not joined",
            wanted.property()
        )
    };
    let wanted = inferences.partitioner().unwrap_or(Partitioner::Murmur2);
    if apart > 0 {
        let all = together + apart;
        let what = format!("{apart} of {all} labels lie in another partition than their inference");
        return Finding::problem(ABOUT, what, remedy(wanted));
    }
    match (inferences.partitioner(), labels.partitioner()) {
        (Some(left), Some(right)) if left != right => {
            let what = format!(
                "topic {} is partitioned by {}, topic {} by {}: labels lie in other partitions than their inferences",
                inferences.topic,
                left.name(),
                labels.topic,
                right.name()
            );
            Finding::problem(ABOUT, what, remedy(left))
        }
        (Some(both), Some(_)) if inferences.has_own_keys() && labels.has_own_keys() => {
            let what = format!("both topics are partitioned by request ID, {}", both.name());
            Finding::good(ABOUT, what)
        }
        _ if together > 0 => {
            let what = format!("{together} labels lie in the partitions of their inferences");
            Finding::good(ABOUT, what)
        }
        _ => Finding::note(
            ABOUT,
            format!(
                "whether labels lie in the partitions of their inferences can't be told from {} and {} keyed records",
                inferences.keyed, labels.keyed
            ),
            "give both topics the request ID as the key, and their producers one partitioner; or check again with \
             more --samples",
        ),
    }
}

impl Looked {
    fn has_own_keys(&self) -> bool {
        self.keyed > 0 && self.own_keys == self.keyed
    }
}

/// How far the newest record is ahead of this machine's clock.
pub(super) fn ahead(newest: Option<RecordTime>, now_ms: i64) -> i64 {
    newest.map_or(0, |RecordTime(time)| EventTime(time).0.saturating_sub(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::finding::Level;
    use crate::decode::fields::FieldPaths;
    use crate::decode::registry::Schemas;
    use crate::decode::{DecoderSettings, Format};
    use crate::engine::event::{Offset, Stream};
    use crate::engine::time::Millis;
    use std::sync::Arc;

    const LIMITS: Limits = Limits {
        lateness: Millis(60_000),
        label_wait: Millis(600_000),
        max_future: Millis(1_000),
        max_gap: Millis(600_000),
    };

    fn looked(stream: Stream, records: &[Sampled]) -> Looked {
        let settings = DecoderSettings {
            stream,
            format: Format::Json,
            fields: FieldPaths::new(stream),
            segments: Vec::new(),
        };
        let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
        Looked::at(stream.name(), 8, records, &mut decoder, &LIMITS)
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
    fn what_can_not_be_used_is_named_with_its_first_place() {
        let mut some = records(Stream::Inferences, 30, Partitioner::Crc32, 0);
        some[3].payload = None;
        some[4].payload = Some(b"{".to_vec());
        some[5].payload = Some(b"{".to_vec());
        let found = looked(Stream::Inferences, &some).decoding(true);
        let about: Vec<_> = found.iter().map(|it| (it.about, it.level)).collect();
        assert_eq!(about, [("broken_json", Level::Problem), ("tombstone", Level::Problem)]);
        assert!(found[0].what.contains("2 of the newest 30 records"), "{}", found[0].what);
        assert!(found[0].what.contains("offset 4)"), "{}", found[0].what);
        let found = looked(Stream::Inferences, &some[6..]).decoding(true);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].what.contains("m0 (4), m1 (4), m6 (4), m2 (3), m3 (3) and 2 more"),
            "{}",
            found[0].what
        );
        let found = looked(Stream::Inferences, &[]).decoding(false);
        assert!(found.iter().all(|it| it.level == Level::Note), "{found:?}");
    }

    #[test]
    fn a_history_that_was_loaded_later_is_told() {
        let of = |delay| {
            looked(Stream::Inferences, &records(Stream::Inferences, 9, Partitioner::Crc32, delay))
                .times(&LIMITS)
                .unwrap()
        };
        assert_eq!(of(60_000).level, Level::Good);
        assert_eq!((of(60_001).level, of(60_001).about), (Level::Problem, "lateness"));
        assert_eq!((of(-1_001).level, of(-1_001).about), (Level::Problem, "future"));
        assert_eq!(ahead(Some(RecordTime(70)), 50), 20);
    }
}
