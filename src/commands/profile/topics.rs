//! The configured topics, or a range of them, in place of files.

use std::sync::Arc;

use super::Args;
use super::reading::{Read, Reading};
use crate::commands::file_job::Judge;
use crate::commands::{Failure, ranges, runtime, terminal};
use crate::config::Settings;
use crate::engine::Progress;
use crate::engine::names::Names;
use crate::source::kafka;

/// Reads the topics, labels first.
pub(super) fn read(args: &Args, settings: Settings) -> Result<Read, Failure> {
    let mut settings = args.topic.apply(settings);
    settings.shard.progress = Progress::End;
    let of_job = settings.kafka(true);
    let topics = kafka::inspect(&of_job)?;
    let parts = ranges::find(&settings, &of_job, &topics, &args.topic, None)?;
    ranges::refuse_trimmed(&parts)?;
    for (_, range) in &parts {
        for (partition, first) in range.perhaps_trimmed() {
            let (topic, partition, first) = (range.topic(), partition.0, first.0);
            terminal::note(&format!(
                "topic {topic}, partition {partition}: earlier records of the range may be gone from the topic, which \
                 begins at offset {first}\n"
            ));
        }
    }
    let schemas = settings.schemas()?;
    let runtime = runtime()?;
    let asking = runtime.spawn(Arc::clone(&schemas).serve());
    let judge = Judge::of_topics(&settings);
    let mut reading = Reading::new(&args.wanted, &settings, "topics", judge);
    let mut names = Names::default();
    for part in parts.iter().rev() {
        let counts =
            ranges::decode(part, &schemas, &mut names, |event, names| reading.event(event, names))?;
        reading.count(part.0.stream, counts)?;
    }
    asking.abort();
    reading.finish(&names)
}
