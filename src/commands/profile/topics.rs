//! The configured topics, or a range of them, in place of files.

use std::sync::Arc;

use super::Args;
use super::reading::{Read, Reading};
use crate::commands::ranges::{self, SchemaWait};
use crate::commands::{Failure, runtime, terminal};
use crate::config::Settings;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded};
use crate::engine::Progress;
use crate::source::kafka;
use crate::source::range::{Ranged, TopicRange};

/// Records between two moves of the bar.
const BAR_STEP: u64 = 10_000;

/// Reads the topics, labels first.
pub(super) fn read(args: &Args, mut settings: Settings) -> Result<Read, Failure> {
    if args.topic.without_labels {
        settings.labels = None;
        settings.shard.has_labels = false;
    }
    settings.shard.progress = Progress::End;
    let of_job = settings.kafka(true);
    let topics = kafka::inspect(&of_job)?;
    let parts = ranges::find(&settings, &of_job, &topics, &args.topic, None)?;
    let total = parts.iter().map(|(_, range)| range.len()).sum();
    let bar = terminal::bar(total, "{len} records");
    let schemas = settings.schemas()?;
    let runtime = runtime()?;
    let asking = runtime.spawn(Arc::clone(&schemas).serve());
    let mut reading = Reading::new(&args.wanted, &settings, "topics", bar);
    for (decoder, range) in parts.iter().rev() {
        read_topic(&mut reading, decoder, &schemas, range)?;
    }
    asking.abort();
    reading.finish()
}

fn read_topic(
    reading: &mut Reading<'_>,
    settings: &DecoderSettings,
    schemas: &Arc<Schemas>,
    range: &TopicRange,
) -> Result<(), Failure> {
    let mut decoder = Decoder::new(settings, Arc::clone(schemas))?;
    range.read(|record: &Ranged<'_>| {
        let mut waiting = SchemaWait::new(schemas);
        loop {
            match decoder.decode(record.payload, &mut reading.names) {
                Ok(event) => {
                    reading.event(&event)?;
                    break;
                }
                Err(NotDecoded::Bad(reason)) => {
                    let (partition, offset) = (record.partition.0, record.offset.0);
                    reading.reject(&reason, || {
                        format!("topic {}, partition {partition}, offset {offset}", range.topic())
                    });
                    break;
                }
                Err(NotDecoded::Waiting(schema)) => waiting.look(schema, |line| {
                    reading.bar.suspend(|| terminal::note(line));
                }),
            }
        }
        if reading.records.is_multiple_of(BAR_STEP) {
            reading.bar.set_position(reading.records);
        }
        Ok(())
    })
}
