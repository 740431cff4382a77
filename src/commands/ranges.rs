//! A bounded range of the configured topics, in place of files: what `profile` and `backfill` read.

use std::sync::Arc;
use std::time::Duration;

use clap::ArgGroup;

use super::inputs::{Counts, without_labels};
use super::{Failure, terminal};
use crate::calendar;
use crate::config::Settings;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded, SchemaId};
use crate::engine::Progress;
use crate::engine::event::{Event, Offset, Stream};
use crate::engine::names::Names;
use crate::engine::time::{EventTime, RecordTime};
use crate::engine::window::Window;
use crate::sink::rejected::{Place, RejectedFile};
use crate::source::kafka::{KafkaSettings, Topics};
use crate::source::range::{Bound, TopicRange};

/// Between two looks for a schema that the registry has not given yet.
const PAUSE: Duration = Duration::from_millis(100);
/// So many looks, then it is said what is waited for.
const LOOKS: u32 = 50;

/// The options of files. (An option that requires `--topics` would not be refused beside files, since what
/// conflicts with something given is not asked for.)
pub(super) const FILES: [&str; 3] = ["inferences", "labels", "nulls"];

/// What is read, of which one has to be said.
pub(super) fn source() -> ArgGroup {
    ArgGroup::new("source").required(true).args(["inferences", "topics"])
}

/// Which records of the topics.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TopicArgs {
    /// Read the topics that the configuration names, in place of files, up to the ends that they have now
    #[arg(long, conflicts_with_all = FILES)]
    pub(super) topics: bool,
    /// First inferences: by Kafka's timestamp (2026-11-27T08:00:00Z, or 2026-11-27: a day is its start in UTC), or an
    /// offset of every partition (offset:1000)
    #[arg(long, value_name = "WHERE", conflicts_with_all = FILES, value_parser = bound)]
    pub(super) from: Option<Bound>,
    /// The first inferences that are no longer meant (a day is its start in UTC); labels are read from
    /// `windows.lateness` before the first ones on
    #[arg(long, value_name = "WHERE", conflicts_with_all = FILES, value_parser = bound)]
    pub(super) to: Option<Bound>,
    /// Leave the label topic unread
    #[arg(long, conflicts_with_all = FILES)]
    pub(super) without_labels: bool,
}

impl TopicArgs {
    /// The settings of a job that reads what is asked for.
    pub(super) fn apply(&self, settings: Settings) -> Settings {
        if self.without_labels { without_labels(settings) } else { settings }
    }
}

pub(super) fn bound(text: &str) -> Result<Bound, String> {
    if let Some(offset) = text.strip_prefix("offset:") {
        let offset = offset.parse().ok().filter(|offset| *offset >= 0);
        let offset = offset.ok_or("an offset is a whole number, like offset:1000")?;
        return Ok(Bound::Offset(Offset(offset)));
    }
    let time = calendar::time_or_day(text).ok_or(
        "write a time, like 2026-11-27 or 2026-11-27T08:00:00Z, or an offset, like offset:1000",
    )?;
    Ok(Bound::Time(RecordTime(time)))
}

/// The time that a bound is, if it is one.
pub(super) fn time(bound: Option<Bound>) -> Option<RecordTime> {
    match bound {
        Some(Bound::Time(time) | Bound::Passed(time, _)) => Some(time),
        Some(Bound::Offset(_)) | None => None,
    }
}

/// Since when labels are read. A label may come long after its inference, and never long before it.
pub(super) fn labels_from(settings: &Settings, args: &TopicArgs) -> Option<RecordTime> {
    let reach = settings.shard.limits.lateness.0;
    time(args.from).map(|time| RecordTime(time.0.saturating_sub(reach)))
}

/// What lies wholly between the times that are given: the windows of which all inferences can be had. Offsets say
/// nothing of windows; nor do Kafka's timestamps of a history that was loaded later, whose own times move the clocks.
pub(super) fn span(settings: &Settings, args: &TopicArgs) -> Window {
    let is_by_log = settings.shard.progress == Progress::Log;
    let of = |bound| time(bound).filter(|_| is_by_log).map(|time| EventTime(time.0));
    let Window { start, end } = Window::ALL;
    Window { start: of(args.from).unwrap_or(start), end: of(args.to).unwrap_or(end) }
}

/// Until when labels are read where nobody says so: none that comes later matches an inference of the range.
pub(super) fn labels_to(settings: &Settings, args: &TopicArgs) -> Option<Bound> {
    let span = span(settings, args);
    let end = settings.shard.limits.end_of_labels(span);
    (span.end < Window::ALL.end).then_some(Bound::Time(RecordTime(end.0)))
}

/// What is read of each topic, inferences first: between times, all that the stream takes into a window of the
/// [`span`], of which some come before its first ones, and stragglers after its last; else what is asked for.
pub(super) fn find(
    settings: &Settings,
    of_job: &KafkaSettings,
    topics: &Topics,
    args: &TopicArgs,
    labels_to: Option<Bound>,
) -> Result<Vec<(DecoderSettings, TopicRange)>, Failure> {
    let span = span(settings, args);
    let (first, beyond) = settings.shard.limits.arrivals(span);
    // The broker's stamps are never wrong, so one of them makes the clock.
    let stamps = if topics.append_time { 1 } else { settings.shard.clock_stamps };
    let (mut from, mut to) = (args.from, args.to);
    if span.start > Window::ALL.start {
        from = Some(Bound::Time(RecordTime(first.0)));
    }
    if span.end < Window::ALL.end {
        to = Some(Bound::Passed(RecordTime(beyond.0), stamps));
    }
    let labels_from = labels_from(settings, args).map(Bound::Time);
    // One wrong timestamp far ahead ends nothing, and the labels' clock passes the end.
    let labels_to = match labels_to {
        Some(Bound::Time(time)) => Some(Bound::Passed(time, stamps + 1)),
        given => given,
    };
    let ends = [(from, to), (labels_from, labels_to)];
    let mut parts = Vec::new();
    for decoder in settings.decoders().into_iter().flatten() {
        let name = match decoder.stream {
            Stream::Inferences => &topics.inferences.name,
            Stream::Labels => &topics.labels.as_ref().expect("decoders are of topics").name,
        };
        let bounds = ends[decoder.stream.index()];
        let range = TopicRange::find(of_job, name, topics.partitions, bounds)?;
        parts.push((decoder, range));
    }
    Ok(parts)
}

/// Refuses ranges of which retention has removed the first records: what is left looks like all that was asked for.
pub(super) fn refuse_trimmed(parts: &[(DecoderSettings, TopicRange)]) -> Result<(), Failure> {
    match parts.iter().flat_map(|(_, range)| range.trimmed()).next() {
        Some((_, gone)) => Err(gone.into()),
        None => Ok(()),
    }
}

/// Hands every record of a range that can be used to `take`, until it fails; the first others are told on standard
/// error. Waits for schemas, which somebody serves.
pub(super) fn decode(
    part: &(DecoderSettings, TopicRange),
    schemas: &Arc<Schemas>,
    names: &mut Names,
    take: impl FnMut(&Event<'_>, &mut Names) -> Result<(), Failure>,
) -> Result<Counts, Failure> {
    decode_and_keep(part, schemas, names, &mut RejectedFile::default(), take)
}

/// The same, and adds all records that can't be used to `kept`.
pub(super) fn decode_and_keep(
    (settings, range): &(DecoderSettings, TopicRange),
    schemas: &Arc<Schemas>,
    names: &mut Names,
    kept: &mut RejectedFile,
    mut take: impl FnMut(&Event<'_>, &mut Names) -> Result<(), Failure>,
) -> Result<Counts, Failure> {
    let mut decoder = Decoder::new(settings, Arc::clone(schemas))?;
    let bar = terminal::bar(range.len(), "{len} records");
    bar.set_message(settings.stream.name());
    let mut counts = Counts::default();
    range.read(|record| {
        let mut waiting = SchemaWait::new(schemas);
        loop {
            match decoder.decode(record.payload, names) {
                Ok(event) => {
                    counts.take(&event);
                    take(&event, names)?;
                    break;
                }
                Err(NotDecoded::Bad(reason)) => {
                    let place = Place::Topic(range.topic(), record.partition, record.offset);
                    counts.reject(&bar, &place, &reason);
                    kept.add(&place, reason.code(), &reason, record.payload)?;
                    break;
                }
                Err(NotDecoded::Waiting(schema)) => {
                    waiting.look(schema, |line| bar.suspend(|| terminal::note(line)));
                }
            }
        }
        bar.inc(1);
        Ok::<_, Failure>(())
    })?;
    bar.finish_and_clear();
    counts.tell_others(settings.stream);
    Ok(counts)
}

/// Waits for a schema, for the reading of one record.
struct SchemaWait<'a> {
    schemas: &'a Schemas,
    looks: u32,
}

impl<'a> SchemaWait<'a> {
    fn new(schemas: &'a Schemas) -> Self {
        Self { schemas, looks: 0 }
    }

    /// One look; tells, once, what is waited for.
    fn look(&mut self, schema: SchemaId, tell: impl FnOnce(&str)) {
        self.looks += 1;
        if self.looks == LOOKS {
            let why = self.schemas.waiting().into_iter().find(|it| it.id == schema);
            let why = why.map_or_else(String::new, |it| format!(": {}", it.reason));
            tell(&format!("waiting for schema {}{why}\n", schema.0));
        }
        self.schemas.wait(PAUSE);
    }
}

/// Whether a job of topics is of a range between times, by what its topic is bound as: with other bounds, or none, it has
/// rows of all windows.
pub(super) fn is_between_times(bound: &str) -> bool {
    // No name of a topic has spaces.
    let ends = bound.split_once(" from ").and_then(|(_, ends)| ends.split_once(" to "));
    let is_time = |end: &str| !["first", "end"].contains(&end) && !end.starts_with("offset:");
    ends.is_some_and(|(from, to)| is_time(from) || is_time(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn only_times_bound_the_windows_and_only_by_log_time() {
        let text = "[inferences]\ntopic = \"i\"\n";
        let mut settings = Settings::parse("t.toml", text, &Environment::default()).unwrap();
        let of = |from: Option<&str>, to: Option<&str>, settings: &Settings| {
            let end = |text: Option<&str>| text.map(|text| bound(text).unwrap());
            let (from, to) = (end(from), end(to));
            let args = TopicArgs { topics: true, from, to, without_labels: false };
            let (Window { start, end }, labels) =
                (span(settings, &args), labels_from(settings, &args));
            (start.0, end.0, labels.map(|time| time.0))
        };
        let (first, last) = (i64::MIN, i64::MAX);
        let days = (Some("1970-01-02"), Some("1970-01-03"));
        let (day, lateness) = (86_400_000, 600_000);
        assert_eq!(of(days.0, days.1, &settings), (day, 2 * day, Some(day - lateness)));
        assert_eq!(of(None, days.1, &settings), (first, 2 * day, None));
        assert_eq!(of(Some("offset:3"), None, &settings), (first, last, None));
        // A history that was loaded on that day is of other ones.
        settings.shard.progress = Progress::Event;
        assert_eq!(of(days.0, days.1, &settings), (first, last, Some(day - lateness)));
    }

    #[test]
    fn ends_of_a_range_are_times_or_offsets() {
        assert_eq!(bound("offset:12"), Ok(Bound::Offset(Offset(12))));
        assert_eq!(bound("1970-01-02"), Ok(Bound::Time(RecordTime(86_400_000))));
        assert_eq!(bound("1970-01-01T00:00:01Z"), Ok(Bound::Time(RecordTime(1000))));
        for wrong in ["offset:-1", "offset:", "12", "yesterday", ""] {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_between_times_are_told_from_others() {
        for (bound, is) in [
            ("requests", false),
            ("requests from first to end", false),
            ("requests from offset:5 to offset:9", false),
            ("requests from 2026-01-01T00:00:00Z to end", true),
            ("requests from first to 2026-01-01T00:00:00Z", true),
        ] {
            assert_eq!(is_between_times(bound), is, "{bound}");
        }
    }
}
