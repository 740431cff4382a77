//! Files in place of topics: what `backfill` and `report` read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
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
use crate::engine::metrics::reference::FeatureKind;
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
/// Ends of names of files that are no CSV.
const TYPED: [&str; 5] = ["jsonl", "ndjson", "json", "parquet", "pq"];
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
    #[command(flatten)]
    pub(super) cells: CellArgs,
}

/// How the cells of CSV are read.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct CellArgs {
    /// Take CSV cells of this text for empty ones, such as NA, which R writes; may be given several times
    #[arg(
        long = "null",
        value_name = "TEXT",
        requires = "inferences",
        allow_negative_numbers = true
    )]
    pub(super) nulls: Vec<String>,
}

/// The files that were found, and settings that read them instead of topics.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) settings: Settings,
    pub(super) feeds: Vec<FeedFiles>,
    /// See [`InputArgs::reading`].
    reading: String,
}

impl Inputs {
    /// Finds the files. All else stays as configured.
    pub(super) fn find(mut settings: Settings, args: &InputArgs) -> Result<Self, Failure> {
        settings.shard.progress = Progress::End;
        let settings = of_files(settings, !args.labels.is_empty());
        let (mut feeds, mut names) = (Vec::<FeedFiles>::new(), BTreeSet::new());
        let topics = [Some(&settings.inferences), settings.labels.as_ref()];
        let given = [&args.inferences, &args.labels];
        for ((stream, topic), patterns) in Stream::BOTH.into_iter().zip(topics).zip(given) {
            if let Some(topic) = topic {
                let columns = args.columns(&topic.fields, &settings);
                let files = FileList::find(patterns)?;
                names.extend(FileReader::new(files.clone(), columns.clone()).check()?);
                feeds.push(FeedFiles { stream, files, columns, more: None });
            }
        }
        // Which segments there are is configured: the others are not missed.
        names.retain(|name| {
            !name.starts_with("segments.") && feeds.iter().all(|feed| !feed.columns.wants(name))
        });
        if !names.is_empty() {
            terminal::note(&format!("{}\n", unread(&names)));
        }
        let reading = args.reading(&settings);
        Ok(Self { settings, feeds, reading })
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
        default_job(&self.settings, "files", &format!("{digests:?}{}", self.reading))
    }

    /// What the job's name is bound to: the files of these digests.
    pub(super) fn binding(&self, digests: &[String]) -> JobBinding {
        let bound = |index: usize| {
            let (feed, digest) = (self.feeds.get(index)?, digests.get(index)?);
            let name = format!("{} files {digest}{}", feed.files.files().len(), self.reading);
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

/// What is said of columns that nothing is read of: somebody may have meant them to be features.
fn unread(names: &BTreeSet<String>) -> String {
    let shown = listed(names.iter().map(String::as_str), 8);
    format!(
        "not read: columns {shown} (features are columns named `features.NAME`; [inferences.fields] and \
         [labels.fields] give other places)"
    )
}

/// The first `most` names of many.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let others = match names.len().saturating_sub(most) {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    names.take(most).collect::<Vec<_>>().join(", ") + &others
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
    /// Rows of labels that have none, in files that hold both streams.
    pub(super) unlabelled: u64,
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

    /// Says how many were not told, once all are read.
    pub(super) fn tell_others(&self, stream: Stream) {
        if self.bad > SHOWN {
            let (others, stream) = (self.bad - SHOWN, stream.name());
            terminal::note(&format!("and {others} more {stream} that can't be used\n"));
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
            counts.unlabelled = batch.left_out;
            bar.set_position(batch.bytes_read);
            Ok::<_, Failure>(())
        })?;
        bar.finish_and_clear();
        counts.tell_others(feed.stream);
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
    pub(super) fn columns(&self, fields: &FieldPaths, settings: &Settings) -> Columns {
        let hold_both = self.inferences.iter().any(|pattern| self.labels.contains(pattern));
        let given = if hold_both { fields.of(Field::Label).to_vec() } else { Vec::new() };
        let nulls = self.cells.nulls.clone();
        Columns { nulls, given, ..columns(fields, settings) }
    }

    /// How the cells of CSV are read, where it is not as by default: rows depend on it, so a job is bound to it beside
    /// its files. Whether a file is CSV is asked of the patterns, since a folder's files come later.
    pub(super) fn reading(&self, settings: &Settings) -> String {
        let mut reading = String::new();
        let nulls: BTreeSet<&str> = self.cells.nulls.iter().map(|null| null.trim()).collect();
        if !nulls.is_empty() {
            write!(reading, " with null {nulls:?}").expect("a String takes all");
        }
        let texts = categorical(settings);
        if !texts.is_empty() && self.inferences.iter().any(|pattern| may_be_csv(pattern)) {
            // There may be many.
            let digest = xxhash_rust::xxh3::xxh3_64(format!("{texts:?}").as_bytes());
            write!(reading, " with {} features as text ({digest:016x})", texts.len())
                .expect("a String takes all");
        }
        reading
    }
}

fn may_be_csv(pattern: &str) -> bool {
    let end = Path::new(pattern).extension().and_then(|end| end.to_str());
    end.is_none_or(|end| !TYPED.iter().any(|typed| end.eq_ignore_ascii_case(typed)))
}

/// The features that are declared as categories, by no model as anything else: a column is read in one way, whatever
/// the models of its rows.
fn categorical(settings: &Settings) -> BTreeSet<&str> {
    let declared = || settings.declared.iter().flat_map(|(_, features)| features);
    let named = |is_category: bool| {
        declared().filter_map(move |(name, feature)| {
            let is_so = (feature.kind? == FeatureKind::Categorical) == is_category;
            is_so.then_some(name.as_str())
        })
    };
    let others: BTreeSet<&str> = named(false).collect();
    named(true).filter(|name| !others.contains(name)).collect()
}

fn columns(fields: &FieldPaths, settings: &Settings) -> Columns {
    let mut columns = Columns::default();
    let dimensions: Vec<&str> = settings.shard.dimensions.iter().map(String::as_str).collect();
    let texts: Vec<&str> = categorical(settings).into_iter().collect();
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
        match field {
            Field::RequestId | Field::Model | Field::Version => {
                columns.text.extend(paths.iter().cloned());
            }
            // Tables have a column of truth values as often as one of messages.
            Field::Error => columns.truth_or_text.extend(paths.iter().cloned()),
            Field::Features => columns.text.extend(entries(paths, &texts)),
            _ => {}
        }
        match field {
            Field::Segments => {
                let places = entries(paths, &dimensions);
                columns.text.extend(places.iter().cloned());
                columns.wanted.extend(places);
            }
            _ => columns.wanted.extend(paths.iter().cloned()),
        }
        let is_map = matches!(field, Field::Features | Field::Scores | Field::Segments);
        let kept = if is_map { &mut columns.maps } else { &mut columns.values };
        kept.extend(paths.iter().cloned());
    }
    columns
}

/// The columns of these entries of a map, which may lie at several places.
fn entries(maps: &[String], names: &[&str]) -> Vec<String> {
    let mut columns = Vec::new();
    for map in maps {
        columns.extend(names.iter().map(|name| format!("{map}.{name}")));
    }
    columns
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::Environment;
    use crate::engine::event::{Feature, FeatureValue, Inference};

    fn settings(text: &str) -> Settings {
        let text = format!("[inferences]\ntopic = \"i\"\n{text}");
        Settings::parse("t", &text, &Environment::default()).unwrap()
    }

    fn of(files: &[&str], nulls: &[&str]) -> InputArgs {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let cells = CellArgs { nulls: owned(nulls) };
        InputArgs { inferences: owned(files), labels: Vec::new(), cells }
    }

    /// What is seen of each inference of a CSV file of this text.
    fn seen<T>(
        config: &str,
        text: &str,
        mut see: impl FnMut(&Inference<'_>, &Names) -> T,
    ) -> Vec<T> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let args = of(&[path.to_str().unwrap()], &["NA"]);
        let inputs = Inputs::find(settings(config), &args).unwrap();
        let mut all = Vec::new();
        let read = inputs.decode(&inputs.feeds[0], &mut Names::default(), |_, event, names| {
            let Event::Inference(inference) = event else { panic!("it is an inference") };
            all.push(see(inference, names));
            Ok(())
        });
        let counts = read.unwrap();
        assert_eq!(counts.bad, 0);
        all
    }

    #[test]
    fn an_error_that_is_a_truth_value_or_no_value_is_no_failure_by_its_mere_text() {
        let cells = [
            ("False", false),
            ("True", true),
            ("", false),
            ("NaN", false),
            ("NA", false),
            ("timeout", true),
            ("500", true),
        ];
        let rows = cells.map(|(cell, _)| format!("r,m,1767571200000,{cell}\n")).concat();
        let text = format!("request_id,model,timestamp,error\n{rows}");
        let failed = seen("", &text, |inference, _| inference.failed);
        assert_eq!(failed, cells.map(|(_, failed)| failed));
    }

    #[test]
    fn a_version_that_is_not_a_number_is_none() {
        let text =
            "request_id,model,timestamp,version\nr,m,1767571200000,NaN\ns,m,1767571200000,007\n";
        let versions =
            seen("", text, |inference, names| (**names.text(inference.version.0)).to_owned());
        assert_eq!(versions, ["", "007"]);
    }

    #[test]
    fn features_declared_as_categories_are_text_and_names_of_features_have_dots() {
        let config = "fields = { features = \"in.x\" }\n\
                      [models.\"a*\".features]\nzip = { kind = \"categorical\" }\n\
                      \"plan.no\" = { kind = \"categorical\" }\nage = { range = [0, 120] }\n\
                      [models.b.features]\n\"plan.no\" = { kind = \"numeric\" }\n";
        let text = "request_id,model,timestamp,in.x.zip,in.x.zip.code,in.x.age,in.x.plan.no\n\
                    r,m,1767571200000,10001,10001,30,5\ns,m,1767571200000,02139,10001,NA,6\n";
        let features = seen(config, text, |inference, names| {
            let of = |it: &Feature<'_>| {
                let value = match it.value {
                    FeatureValue::Text(text) => format!("text {text}"),
                    FeatureValue::Number(number) => format!("number {number}"),
                    other => panic!("{other:?}"),
                };
                ((**names.text(it.name.0)).to_owned(), value)
            };
            inference.features.iter().map(of).collect::<Vec<_>>()
        });
        let owned = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let first = owned(&[
            ("zip", "text 10001"),
            ("zip.code", "number 10001"),
            ("age", "number 30"),
            ("plan.no", "number 5"),
        ]);
        let second =
            owned(&[("zip", "text 02139"), ("zip.code", "number 10001"), ("plan.no", "number 6")]);
        assert_eq!(features, [first, second]);
    }

    #[test]
    fn a_job_is_bound_to_how_cells_are_read_where_that_is_not_as_by_default() {
        let plain = settings("");
        let declared = settings("[models.m.features]\nzip = { kind = \"categorical\" }\n");
        let reading = |files: &[&str], nulls: &[&str], by: &Settings| of(files, nulls).reading(by);
        assert_eq!(reading(&["a.csv"], &[], &plain), "");
        assert_eq!(reading(&["x/*.parquet", "b.JSONL"], &[], &declared), "");
        assert_eq!(reading(&["a.csv"], &["NA", "-"], &plain), " with null {\"-\", \"NA\"}");
        assert_eq!(reading(&["a.csv"], &["-", "NA", "NA"], &plain), " with null {\"-\", \"NA\"}");
        for files in [&["a.csv"][..], &["x.parquet", "x/*"], &["a.tsv"]] {
            let found = reading(files, &[], &declared);
            assert!(found.starts_with(" with 1 features as text ("), "{found}");
        }
        // Names and bindings of jobs of earlier versions stay as they were.
        let inputs = |reading: &str| {
            let feed = FeedFiles {
                stream: Stream::Inferences,
                files: FileList::default(),
                columns: Columns::default(),
                more: None,
            };
            Inputs { settings: plain.clone(), feeds: vec![feed], reading: reading.to_owned() }
        };
        let digests = ["whole-0".to_owned()];
        let (before, null) = (inputs(""), inputs(" with null {\"NA\"}"));
        assert_eq!(before.binding(&digests).inferences.name, "0 files whole-0");
        assert_eq!(before.default_job(&digests), default_job(&plain, "files", "[\"whole-0\"]"));
        assert_ne!(before.binding(&digests), null.binding(&digests));
        assert_ne!(before.default_job(&digests), null.default_job(&digests));
    }

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
