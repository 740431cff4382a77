//! The configured topics, or a range of them, in place of files.

use std::sync::Arc;

use super::Args;
use super::reading::{Read, Reading};
use crate::commands::file_job::Judge;
use crate::commands::{Failure, ranges, runtime, terminal};
use crate::config::Settings;
use crate::engine::Progress;
use crate::engine::event::Event;
use crate::engine::names::Names;
use crate::source::kafka;

/// Reads the topics, labels first.
pub(super) fn read(args: &Args, settings: Settings) -> Result<Read, Failure> {
    let mut settings = args.topic.apply(settings);
    let of_job = settings.kafka(true);
    let topics = kafka::inspect(&of_job)?;
    // Asked while the settings say how the stream goes on: only by log time do times bound windows.
    let span = ranges::span(&settings, &args.topic);
    let parts = ranges::find(&settings, &of_job, &topics, &args.topic, None)?;
    settings.shard.progress = Progress::End;
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
    let mut reading = Reading::new(&args.wanted, &settings, "topics", judge, span);
    let mut names = Names::default();
    let times = span.start..span.end;
    let (mut inside, mut outside) = (0_u64, 0_u64);
    for part in parts.iter().rev() {
        let counts = ranges::decode(part, &schemas, &mut names, |event, names| {
            // More is read than is meant, so that what came early or late is there.
            if let Event::Inference(inference) = event {
                if !times.contains(&inference.time) {
                    outside += 1;
                    return Ok(());
                }
                inside += 1;
            }
            reading.event(event, names)
        })?;
        reading.count(part.0.stream, counts)?;
    }
    asking.abort();
    let outside = if inside == 0 { outside } else { 0 };
    reading.finish(&names).map_err(|failure| with_others(failure, outside))
}

/// Says why there is no profile though so many inferences were read, and none of the range. Of a history that was loaded
/// later Kafka's timestamps lie in the range, and its own times do not.
fn with_others(mut failure: Failure, outside: u64) -> Failure {
    if outside > 0 {
        failure.message = format!(
            "{}; {outside} that were read have times of their own outside `--from` and `--to`: choose a history that \
             was loaded later by its offsets",
            failure.message
        );
    }
    failure
}
