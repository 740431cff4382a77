//! The configured topics, or a range of them, in place of files.

use std::sync::Arc;

use super::Args;
use super::reading::{Read, Reading};
use crate::commands::{Failure, ranges, runtime};
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
    let schemas = settings.schemas()?;
    let runtime = runtime()?;
    let asking = runtime.spawn(Arc::clone(&schemas).serve());
    let mut reading = Reading::new(&args.wanted, &settings, "topics");
    let mut names = Names::default();
    for part in parts.iter().rev() {
        let counts =
            ranges::decode(part, &schemas, &mut names, |event, names| reading.event(event, names))?;
        reading.rejected += counts.bad;
    }
    asking.abort();
    reading.finish(&names)
}
