//! Files in place of topics: what `backfill` and `report` read.

use std::fmt::Write as _;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::{Failure, terminal};
use crate::calendar::instant;
use crate::config::{Settings, TopicSettings};
use crate::decode::fields::{Field, FieldPaths};
use crate::decode::registry::Schemas;
use crate::decode::{DecodeError, Decoder, Format, NotDecoded};
use crate::engine::Progress;
use crate::engine::event::{Event, Stream};
use crate::engine::names::Names;
use crate::engine::time::{EventTime, Millis};
use crate::evaluate::grain_name;
use crate::sink::job::{BoundTopic, FILES, JobBinding};
use crate::sink::rejected::{Place, RejectedFile};
use crate::source::feed::FeedFiles;
use crate::source::files::ahead::{self, FileBatch};
use crate::source::files::{Columns, FileList, FileReader};

/// A job's name may be so long; what is added to it by default has room.
const NAME_MAX: usize = 128;
/// Records that can't be used of which each stream shows so many.
const SHOWN: u64 = 10;
/// 2001-01-01 UTC. Seconds since 1970 that are read as milliseconds lie before it, whatever time of ours they mean.
const SECONDS_END_MS: i64 = 978_307_200_000;

/// Which files.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InputArgs {
    /// Files of inferences: paths and patterns (`*`, `?`, `**`), .jsonl, .csv, .tsv or .parquet
    #[arg(long, value_name = "FILES", num_args = 1..)]
    pub(super) inferences: Vec<String>,
    /// Files of labels; without them windows have no quality
    #[arg(long, value_name = "FILES", num_args = 1..)]
    pub(super) labels: Vec<String>,
}

/// The files that were found, and settings that read them instead of topics.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) settings: Settings,
    pub(super) feeds: Vec<FeedFiles>,
}

impl Inputs {
    /// Finds the files. All else stays as configured.
    pub(super) fn find(mut settings: Settings, args: &InputArgs) -> Result<Self, Failure> {
        settings.shard.progress = Progress::End;
        let settings = of_files(settings, !args.labels.is_empty());
        let mut feeds = Vec::new();
        let topics = [Some(&settings.inferences), settings.labels.as_ref()];
        let given = [&args.inferences, &args.labels];
        for ((stream, topic), patterns) in Stream::BOTH.into_iter().zip(topics).zip(given) {
            if let Some(topic) = topic {
                let columns = args.columns(&topic.fields, &settings.shard.dimensions);
                let files = FileList::find(patterns)?;
                FileReader::new(files.clone(), columns.clone()).check()?;
                feeds.push(FeedFiles { stream, files, columns, more: None });
            }
        }
        Ok(Self { settings, feeds })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.files.bytes()).sum()
    }

    /// The digest of the files of each stream, which are read through for it.
    pub(super) fn digests(&self) -> Result<Vec<String>, Failure> {
        let bar = terminal::bar(self.bytes(), "{total_bytes}");
        bar.set_message("to tell them from other files");
        let digests = self.feeds.iter().map(|feed| feed.files.digest(|bytes| bar.inc(bytes)));
        let digests = digests.collect::<Result<_, _>>()?;
        bar.finish_and_clear();
        Ok(digests)
    }

    /// The digests that earlier versions gave them.
    pub(super) fn former_digests(&self) -> Result<Vec<String>, Failure> {
        let digests = self.feeds.iter().map(|feed| feed.files.digest_of_ends());
        Ok(digests.collect::<Result<_, _>>()?)
    }

    /// A name that files of other digests, another configuration and any live job do not have.
    pub(super) fn default_job(&self, digests: &[String]) -> String {
        default_job(&self.settings, "files", &format!("{digests:?}"))
    }

    /// What the job's name is bound to: the files of these digests.
    pub(super) fn binding(&self, digests: &[String]) -> JobBinding {
        let bound = |index: usize| {
            let (feed, digest) = (self.feeds.get(index)?, digests.get(index)?);
            let name = format!("{} files {digest}", feed.files.files().len());
            Some(BoundTopic { name, id: String::new() })
        };
        JobBinding {
            cluster: FILES.to_owned(),
            inferences: bound(0).expect("inferences are required"),
            labels: bound(1),
            partitions: 1,
            configuration: self.settings.digest(),
            window: self.settings.shard.window,
        }
    }
}

/// A job's name by default: the configured one, and a digest of the settings and of what is read.
pub(super) fn default_job(settings: &Settings, kind: &str, what: &str) -> String {
    let text = format!("{what} {}", settings.digest());
    let digest = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    let mut job = settings.job.clone();
    job.truncate(NAME_MAX - 24);
    write!(job, ".{kind}-{digest:016x}").expect("a String takes all");
    job
}

/// Settings that read files instead of topics.
pub(super) fn of_files(mut settings: Settings, has_labels: bool) -> Settings {
    settings.shard.has_labels = has_labels;
    settings.inferences.format = Format::Json;
    settings.labels = has_labels.then(|| {
        let fields = settings.labels.map(|labels| labels.fields);
        let fields = fields.unwrap_or_else(|| FieldPaths::new(Stream::Labels));
        TopicSettings { name: "labels".to_owned(), format: Format::Json, fields }
    });
    settings
}

/// Settings that leave the label topic unread.
pub(super) fn without_labels(mut settings: Settings) -> Settings {
    settings.labels = None;
    settings.shard.has_labels = false;
    settings
}

/// Records of one stream that were decoded, and those that could not be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) good: u64,
    pub(super) bad: u64,
    /// The greatest time of those that were decoded.
    pub(super) newest: Option<EventTime>,
}

impl Counts {
    /// One more that was decoded.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        let time = match event {
            Event::Inference(inference) => inference.time,
            Event::Label(label) => label.time,
        };
        self.good += 1;
        self.newest = self.newest.max(Some(time));
    }

    /// What is asked where even the newest record is too old to be meant.
    pub(super) fn doubt(&self, stream: Stream) -> Option<String> {
        let EventTime(newest_ms) = self.newest?;
        doubt(&format!("record of {}", stream.name()), newest_ms)
    }

    /// One more that can't be used; the first ones are told.
    pub(super) fn reject(&mut self, bar: &ProgressBar, place: &Place<'_>, reason: &DecodeError) {
        self.bad += 1;
        if self.bad <= SHOWN {
            let line = format!("{place}: {reason}\n");
            bar.suspend(|| terminal::note(&line));
        }
    }
}

/// What is asked where the newest of all lies before 2001: of seconds a day becomes a minute and a half of January
/// 1970, and in files nothing is late, so that nothing else shows it.
pub(super) fn doubt(what: &str, newest_ms: i64) -> Option<String> {
    (newest_ms < SECONDS_END_MS).then(|| {
        let newest = instant(newest_ms);
        format!(
            "the newest {what} is of {newest}: are timestamps in seconds? They are read as milliseconds since 1970"
        )
    })
}

/// What is asked where more than a tenth of the labels match no inference; `wait` is `windows.label_wait`.
pub(super) fn unmatched(labels: u64, matched: u64, wait: Millis) -> Option<String> {
    let others = labels.saturating_sub(matched);
    if others <= labels / 10 {
        return None;
    }
    let many = if matched == 0 {
        format!("none of {labels} labels matches an inference")
    } else {
        format!("{others} of {labels} labels match no inference")
    };
    let wait = grain_name(wait);
    Some(format!(
        "{many}: are the request IDs the same in both, and do labels come within `windows.label_wait` ({wait}) after \
         their inference?"
    ))
}

impl Inputs {
    /// Hands every record of a stream that can be used, with its offset, to `take`, until it fails; the first others
    /// are told on standard error.
    pub(super) fn decode(
        &self,
        feed: &FeedFiles,
        names: &mut Names,
        take: impl FnMut(i64, &Event<'_>, &mut Names) -> Result<(), Failure>,
    ) -> Result<Counts, Failure> {
        self.decode_and_keep(feed, names, &mut RejectedFile::default(), take)
    }

    /// The same, and adds all records that can't be used to `kept`.
    pub(super) fn decode_and_keep(
        &self,
        feed: &FeedFiles,
        names: &mut Names,
        kept: &mut RejectedFile,
        mut take: impl FnMut(i64, &Event<'_>, &mut Names) -> Result<(), Failure>,
    ) -> Result<Counts, Failure> {
        let settings = self.settings.decoders()[feed.stream.index()].clone();
        let settings = settings.expect("files are found only of what is decoded");
        let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none()))?;
        let bar = terminal::bar(feed.files.bytes(), "{total_bytes}");
        bar.set_message(feed.stream.name());
        let mut counts = Counts::default();
        ahead::read(&feed.files, &feed.columns, |batch| {
            for (offset, object) in batch.records() {
                match decoder.decode(Some(object), names) {
                    Ok(event) => {
                        counts.take(&event);
                        take(offset, &event, names)?;
                    }
                    Err(NotDecoded::Waiting(_)) => unreachable!("JSON needs no schema"),
                    Err(NotDecoded::Bad(reason)) => {
                        let place = place(feed, batch, offset);
                        counts.reject(&bar, &place, &reason);
                        kept.add(&place, reason.code(), &reason, Some(object))?;
                    }
                }
            }
            bar.set_position(batch.bytes_read);
            Ok::<_, Failure>(())
        })?;
        bar.finish_and_clear();
        Ok(counts)
    }
}

/// Where a record stands.
fn place(feed: &FeedFiles, batch: &FileBatch, offset: i64) -> Place<'static> {
    let file = &feed.files.files()[batch.file];
    Place::File(file.path.clone(), offset - batch.first_offset + 1)
}

impl InputArgs {
    /// The columns that the decoder looks for. Where files of inferences are those of labels too, a row without a label
    /// is that of an inference that has none yet.
    pub(super) fn columns(&self, fields: &FieldPaths, dimensions: &[String]) -> Columns {
        let hold_both = self.inferences.iter().any(|pattern| self.labels.contains(pattern));
        let given = if hold_both { fields.of(Field::Label).to_vec() } else { Vec::new() };
        Columns { given, ..columns(fields, dimensions) }
    }
}

fn columns(fields: &FieldPaths, dimensions: &[String]) -> Columns {
    let mut columns = Columns::default();
    for field in Field::of(fields.stream()) {
        let paths = fields.of(field);
        let is_required = match field {
            Field::Model => fields.stream() == Stream::Inferences,
            Field::Timestamp | Field::Label => true,
            _ => false,
        };
        match field {
            // Each path is a part of the ID.
            Field::RequestId => columns.required.extend(paths.iter().map(|p| vec![p.clone()])),
            _ if is_required => columns.required.push(paths.to_vec()),
            _ => {}
        }
        if matches!(field, Field::RequestId | Field::Model | Field::Version | Field::Error) {
            columns.text.extend(paths.iter().cloned());
        }
        match field {
            Field::Segments => {
                let of = |path: &String| {
                    dimensions.iter().map(|name| format!("{path}.{name}")).collect::<Vec<_>>()
                };
                let places: Vec<String> = paths.iter().flat_map(of).collect();
                columns.text.extend(places.iter().cloned());
                columns.wanted.extend(places);
            }
            _ => columns.wanted.extend(paths.iter().cloned()),
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_labels_without_an_inference_are_told_with_the_time_that_they_have() {
        let wait = Millis(3_600_000);
        for (labels, matched) in [(0, 0), (9, 9), (10, 9), (1000, 900)] {
            assert_eq!(unmatched(labels, matched, wait), None, "{matched} of {labels}");
        }
        for (labels, matched, said) in [
            (9, 0, "none of 9 labels matches an inference: "),
            (10, 8, "2 of 10 labels match no inference: "),
            (1000, 899, "101 of 1000 labels match no inference: "),
        ] {
            let found = unmatched(labels, matched, wait).unwrap();
            assert!(found.starts_with(said), "{found}");
            assert!(found.contains("within `windows.label_wait` (1h) after"), "{found}");
        }
    }
}
