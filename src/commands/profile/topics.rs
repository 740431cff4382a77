//! The configured topics, or a range of them, in place of files.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::reading::{Read, Reading};
use super::{Args, BAR_STEP};
use crate::commands::{Failure, runtime, terminal};
use crate::config::Settings;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded, rfc3339};
use crate::engine::Progress;
use crate::engine::event::{Offset, Stream};
use crate::engine::time::RecordTime;
use crate::source::kafka;
use crate::source::range::{Bound, Ranged, TopicRange};

/// Between two looks for a schema that the registry has not given yet.
const PAUSE: Duration = Duration::from_millis(100);
/// So many looks, then it is said what is waited for.
const LOOKS: u32 = 50;

/// Which records of the topics.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TopicArgs {
    /// Read the topics that the configuration names, in place of files, up to the ends that they have now
    #[arg(long, conflicts_with_all = ["inferences", "labels"])]
    pub(super) topics: bool,
    /// First inferences: by Kafka's timestamp (2026-11-27, 2026-11-27T08:00:00Z), or an offset of every partition
    /// (offset:1000)
    #[arg(long, value_name = "WHERE", requires = "topics", value_parser = bound)]
    from: Option<Bound>,
    /// The first inferences that are no longer read; labels are read from `windows.lateness` before the first ones to
    /// the end of their topic
    #[arg(long, value_name = "WHERE", requires = "topics", value_parser = bound)]
    to: Option<Bound>,
    /// Leave the label topic unread
    #[arg(long, requires = "topics")]
    without_labels: bool,
}

fn bound(text: &str) -> Result<Bound, String> {
    if let Some(offset) = text.strip_prefix("offset:") {
        let offset = offset.parse().ok().filter(|offset| *offset >= 0);
        let offset = offset.ok_or("an offset is a whole number, like offset:1000")?;
        return Ok(Bound::Offset(Offset(offset)));
    }
    let day = || rfc3339::milliseconds(&format!("{text}T00:00:00Z"));
    let time = rfc3339::milliseconds(text).or_else(day).ok_or(
        "write a time, like 2026-11-27 or 2026-11-27T08:00:00Z, or an offset, like offset:1000",
    )?;
    Ok(Bound::Time(RecordTime(time)))
}

/// Reads the topics, labels first.
pub(super) fn read(args: &Args, mut settings: Settings) -> Result<Read, Failure> {
    if args.topic.without_labels {
        settings.labels = None;
        settings.shard.has_labels = false;
    }
    settings.shard.progress = Progress::End;
    let of_job = settings.kafka(true);
    let topics = kafka::inspect(&of_job)?;
    let TopicArgs { from, to, .. } = args.topic;
    // A label may come long after its inference, and never long before it.
    let labels_from = match from {
        Some(Bound::Time(time)) => {
            let reach = settings.shard.limits.lateness.0;
            Some(Bound::Time(RecordTime(time.0.saturating_sub(reach))))
        }
        Some(Bound::Offset(_)) | None => None,
    };
    let mut parts = Vec::new();
    for decoder in settings.decoders().into_iter().flatten() {
        let (name, bounds) = match decoder.stream {
            Stream::Inferences => (&topics.inferences.name, (from, to)),
            Stream::Labels => {
                let labels = topics.labels.as_ref().expect("decoders are of topics");
                (&labels.name, (labels_from, None))
            }
        };
        let range = TopicRange::find(&of_job, name, topics.partitions, bounds)?;
        parts.push((decoder, name.clone(), range));
    }
    let bar = ProgressBar::new(parts.iter().map(|(_, _, range)| range.len()).sum());
    let style = "{bar:30} {percent:>3} % of {len} records  {msg}  {elapsed} gone, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is right"));
    let schemas = settings.schemas()?;
    let runtime = runtime()?;
    let asking = runtime.spawn(Arc::clone(&schemas).serve());
    let mut reading = Reading::new(args, &settings, "topics", bar);
    for (decoder, name, range) in parts.iter().rev() {
        read_topic(&mut reading, decoder, &schemas, (name, range))?;
    }
    asking.abort();
    reading.finish()
}

fn read_topic(
    reading: &mut Reading<'_>,
    settings: &DecoderSettings,
    schemas: &Arc<Schemas>,
    (topic, range): (&str, &TopicRange),
) -> Result<(), Failure> {
    let mut decoder = Decoder::new(settings, Arc::clone(schemas))?;
    range.read(|record: &Ranged<'_>| {
        let mut looks = 0_u32;
        loop {
            match decoder.decode(record.payload, &mut reading.names) {
                Ok(event) => {
                    reading.event(&event)?;
                    break;
                }
                Err(NotDecoded::Bad(reason)) => {
                    let (partition, offset) = (record.partition.0, record.offset.0);
                    reading.reject(&reason, || {
                        format!("topic {topic}, partition {partition}, offset {offset}")
                    });
                    break;
                }
                Err(NotDecoded::Waiting(schema)) => {
                    looks += 1;
                    if looks == LOOKS {
                        let why = schemas.waiting().into_iter().find(|it| it.id == schema);
                        let why = why.map_or_else(String::new, |it| format!(": {}", it.reason));
                        let line = format!("waiting for schema {}{why}\n", schema.0);
                        reading.bar.suspend(|| terminal::note(&line));
                    }
                    schemas.wait(PAUSE);
                }
            }
        }
        if reading.records.is_multiple_of(BAR_STEP) {
            reading.bar.set_position(reading.records);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_range_are_times_or_offsets() {
        assert_eq!(bound("offset:12"), Ok(Bound::Offset(Offset(12))));
        assert_eq!(bound("1970-01-02"), Ok(Bound::Time(RecordTime(86_400_000))));
        assert_eq!(bound("1970-01-01T00:00:01Z"), Ok(Bound::Time(RecordTime(1000))));
        for wrong in ["offset:-1", "offset:", "12", "yesterday", ""] {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
