//! `backfill --watch`: files that land in a folder, each taken once.
//!
//! What a fixed list of files can't carry is a list that grows: a mark is a position in the records of the job, and a
//! list in the order of names would move positions with every file that lands. So a file is *taken*: read through once,
//! which shows that it is whole and counts its records, then written to table `files` with the next number of its
//! stream and the position where it begins, and only then fed to the pipeline. From there on everything is as with any
//! other source: rows, then the mark, then the line that says that the file is done; a start reads the table and the
//! mark, and goes on from the mark's floors. The table lies beside the marks, so the two are backed up, restored and
//! replicated together, and a folder that can only be read will do. Of two processes that watch for one job both feed
//! the same list, and so write the same rows.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::file_job::{self, Filled};
use super::guard::{Guarded, Refusal};
use super::inputs::{self, InputArgs, default_job};
use super::processor::Rules;
use super::{Failure, runtime, terminal};
use crate::config::Settings;
use crate::config::values::duration;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded};
use crate::engine::Progress;
use crate::engine::event::{Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::names::Names;
use crate::engine::time::{EventTime, Millis};
use crate::pipeline::{self, DeadLetterLimit, PipelineSettings};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::files::FileRow;
use crate::sink::job::{BoundTopic, FILES, JobBinding};
use crate::sink::rejected::Rejected;
use crate::sink::{FailureClass, Sink as _};
use crate::source::feed::{Feed, FeedFiles, FeedProgress, PARTITION};
use crate::source::files::{Columns, File, FileList, FileReader, Folder, Landed, Taken, TakenFile};
use crate::source::{Commits, SourceError};
use crate::telemetry::Telemetry;

/// Codes of what may pass without a change of the file's size or time: rights are given, a mount comes back.
const PASSING: [&str; 2] = ["file_unreadable", "file_changed"];

/// How a folder is watched.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Take each file that lands in this folder, once; --inferences and --labels are patterns within it
    #[arg(long, value_name = "DIR", conflicts_with = "topics")]
    pub(super) watch: Option<PathBuf>,
    /// How often to look for files
    #[arg(long, value_name = "SPAN", default_value = "5s", requires = "watch", value_parser = span)]
    every: Millis,
    /// Take what is there, seal all windows and end; the job takes no file after that. Where a file can't be used,
    /// nothing is sealed and it ends with exit code 1
    #[arg(long, requires = "watch")]
    finish: bool,
    /// End at the first file that can't be used, instead of telling it and going on
    #[arg(long, requires = "watch")]
    fail_fast: bool,
}

/// What the command line names beside the folder.
pub(super) struct Named {
    pub(super) job: Option<String>,
    pub(super) rejected: Option<PathBuf>,
    pub(super) alerts: bool,
}

fn span(text: &str) -> Result<Millis, String> {
    let span = duration(text).filter(|span| span.0 > 0);
    span.ok_or_else(|| "write it like 500ms, 5s or 1m".to_owned())
}

/// Watches until it is told to end.
pub(super) fn run(
    settings: Settings,
    folder: &Path,
    patterns: &InputArgs,
    args: &WatchArgs,
    named: &Named,
) -> Result<ExitCode, Failure> {
    // The same job from whatever folder the command is started in.
    let folder = folder.canonicalize().map_err(|error| {
        Failure::new("file_unreadable", format!("can't watch {}: {error}", folder.display()))
    })?;
    if !folder.is_dir() {
        let message = format!("can't watch {}: it is no folder", folder.display());
        return Err(Failure::new("file_unreadable", message));
    }
    let mut settings = inputs::of_files(settings, !patterns.labels.is_empty());
    if settings.shard.progress != Progress::Event {
        settings.shard.progress = Progress::End;
    }
    let what = format!("{} {:?} {:?}", folder.display(), patterns.inferences, patterns.labels);
    settings.job = named.job.clone().unwrap_or_else(|| default_job(&settings, "watch", &what));
    let job = settings.job.clone();
    tracing::info!(%job, folder = %folder.display(), "watching");
    let runtime = runtime()?;
    let filled = runtime.block_on(follow(settings, &folder, patterns, args, named));
    runtime.shutdown_background();
    let (filled, bytes) = filled?;
    terminal::print(&file_job::summary(&job, Some(bytes), &filled, "", true));
    Ok(if filled.is_complete { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

/// What was done, and how many bytes of files were read.
async fn follow(
    mut settings: Settings,
    folder: &Path,
    patterns: &InputArgs,
    args: &WatchArgs,
    named: &Named,
) -> Result<(Filled, u64), Failure> {
    let telemetry = Telemetry::new();
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let binding = binding(&settings, patterns);
    let mut signals = terminal::Signals::catch()?;
    file_job::bind(&clickhouse, &mut settings, &binding, &telemetry).await?;
    let mark = unfinished(&clickhouse, args.finish).await?;
    let mut watcher = Watcher::new(&settings, folder, patterns, args, clickhouse.clone(), mark)?;
    watcher.restore().await?;
    let progress = FeedProgress::default();
    let letters = Rejected::new(progress.clone(), named.rejected.as_deref())?;
    let refusal = Refusal::default();
    let generation = settings.shard.generation;
    let alerting = file_job::alerting(&settings, named.alerts, 1, &clickhouse, &telemetry)?;
    let sink = Guarded::of_files(clickhouse, binding, generation, refusal.clone());
    let (sink, rules) = Rules::beside(sink, alerting, &telemetry);
    // Each file was held against the limit when it was taken.
    let dead_letter_limit = DeadLetterLimit { share: 1.0, at_least: u64::MAX };
    let pipeline_settings = PipelineSettings { dead_letter_limit, ..settings.pipeline(1)? };
    let source = Feed::new(watcher.feeds(), progress.clone());
    let done = watcher.done.clone();
    let mut failure = None;
    let stop = async {
        tokio::select! {
            () = signals.next() => {}
            failed = watcher.run() => failure = Some(failed),
        }
    };
    let work = pipeline::run(pipeline_settings, vec![source], done, sink, letters, telemetry, stop);
    let ended = Box::pin(work).await;
    let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
    rules.end().await;
    match failure {
        Some(failure) => Err(failure),
        None => Ok((Filled { is_complete: totals.is_drained, totals }, progress.bytes())),
    }
}

/// What the job's name is bound to: these patterns. Where the folder is mounted may change; that its files are those
/// that were taken is seen from their digests.
fn binding(settings: &Settings, patterns: &InputArgs) -> JobBinding {
    let topic = |patterns: &[String]| BoundTopic {
        name: format!("watched {}", patterns.join(" ")),
        id: String::new(),
    };
    JobBinding {
        cluster: FILES.to_owned(),
        inferences: topic(&patterns.inferences),
        labels: settings.labels.as_ref().map(|_| topic(&patterns.labels)),
        partitions: 1,
        configuration: settings.digest(),
        window: settings.shard.window,
    }
}

/// The newest mark of the job. Refused where it was finished: nothing can reach its windows any more.
async fn unfinished(clickhouse: &ClickHouse, finishes: bool) -> Result<Option<Mark>, Failure> {
    let mut clickhouse = clickhouse.clone();
    let mark = clickhouse.marks(&[PARTITION]).await?.into_iter().max_by_key(Mark::order);
    let seals = clickhouse.seals().await?;
    let is_last = |time: EventTime| time >= EventTime::LATEST;
    let is_finished = mark.as_ref().is_some_and(|mark| is_last(mark.floor.sealed_until));
    // A start that died while it finished has perhaps sealed already: then only finishing it is left.
    let is_sealed = seals.iter().any(|&(_, until)| is_last(until));
    if is_finished || (is_sealed && !finishes) {
        let job = clickhouse.job();
        let message = format!("job '{job}' was finished (--finish), so its windows are sealed");
        return Err(Failure::new("job_finished", message));
    }
    Ok(mark)
}

/// The part of the folder that holds one stream.
struct Watched {
    stream: Stream,
    folder: Folder,
    columns: Columns,
    decoder: DecoderSettings,
    taken: Taken,
    /// How many files the job has taken, and their digests by name.
    count: i64,
    digests: BTreeMap<String, String>,
    /// The files that lie there and can't be used, by name, and what was told of them.
    untaken: BTreeMap<String, Failure>,
}

/// Looks for files and takes them.
struct Watcher {
    path: PathBuf,
    streams: Vec<Watched>,
    clickhouse: ClickHouse,
    generation: u16,
    limit: DeadLetterLimit,
    every: Duration,
    finishes: bool,
    fails_fast: bool,
    done: Done,
}

impl Watcher {
    fn new(
        settings: &Settings,
        path: &Path,
        patterns: &InputArgs,
        args: &WatchArgs,
        clickhouse: ClickHouse,
        mark: Option<Mark>,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        let of_stream = [&patterns.inferences, &patterns.labels];
        for decoder in settings.decoders().into_iter().flatten() {
            // What is wrong with it shows before a file is looked at.
            Decoder::new(&decoder, Arc::new(Schemas::none()))?;
            let stream = decoder.stream;
            let folder = Folder::new(path, of_stream[stream.index()]);
            let columns = patterns.columns(&decoder.fields, &settings.shard.dimensions);
            let taken = Taken::starting_at(0);
            let (count, digests, untaken) = (0, BTreeMap::new(), BTreeMap::new());
            streams.push(Watched {
                stream,
                folder,
                columns,
                decoder,
                taken,
                count,
                digests,
                untaken,
            });
        }
        let every = Duration::from_millis(u64::try_from(args.every.0).unwrap_or(1));
        Ok(Self {
            path: path.to_owned(),
            streams,
            clickhouse,
            generation: settings.shard.generation,
            limit: settings.dead_letter_limit(),
            every,
            finishes: args.finish,
            fails_fast: args.fail_fast,
            done: Done::new(mark),
        })
    }

    fn feeds(&self) -> Vec<FeedFiles> {
        let of = |watched: &Watched| FeedFiles {
            stream: watched.stream,
            files: FileList::default(),
            columns: watched.columns.clone(),
            more: Some(watched.taken.clone()),
        };
        self.streams.iter().map(of).collect()
    }

    /// The files that the job has taken before. Those behind the floors are needed no more, and may be gone.
    async fn restore(&mut self) -> Result<(), Failure> {
        let rows = self.clickhouse.taken_files(self.generation).await?;
        let floor = self.done.floor();
        for watched in &mut self.streams {
            let rows = &rows[watched.stream.index()];
            let floor = floor.of(watched.stream);
            let passed = rows.iter().take_while(|row| row.end() <= floor);
            let passed = passed.count();
            watched.taken =
                Taken::starting_at(passed.checked_sub(1).map_or(0, |at| rows[at].end()));
            for row in &rows[..passed] {
                watched.note(row);
            }
            for row in &rows[passed..] {
                let file = found(&self.path, row).await?;
                watched.adopt(row, file);
                if !self.done.is_told(row) {
                    self.done.add(row);
                }
            }
        }
        Ok(())
    }

    /// Takes files until something is wrong that only a person can put right.
    async fn run(&mut self) -> Failure {
        loop {
            let mut is_all = true;
            for at in 0..self.streams.len() {
                match self.look(at).await {
                    Ok(none_left) => is_all &= none_left,
                    Err(failure) => return failure,
                }
            }
            if self.finishes && is_all {
                // Nothing could take the file after the seal.
                if let Some(failure) = self.streams.iter_mut().find_map(Watched::untaken) {
                    return failure;
                }
                self.streams.iter().for_each(|watched| watched.taken.finish());
                return std::future::pending().await;
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// Takes what has landed of one stream; whether nothing is left that may still be taken.
    async fn look(&mut self, at: usize) -> Result<bool, Failure> {
        let mut folder = self.streams[at].folder.clone();
        let (folder, looked) = blocking(move || {
            let looked = folder.look();
            (folder, looked)
        })
        .await?;
        self.streams[at].folder = folder;
        let (landed, unfinished) = match looked {
            Ok(looked) => looked,
            // A mount may be away for a while.
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "can't look into the folder");
                return Ok(false);
            }
        };
        let mut is_all = unfinished == 0;
        let Watched { folder, untaken, .. } = &mut self.streams[at];
        untaken.retain(|name, _| folder.has(name));
        for landed in landed {
            let told = self.streams[at].untaken.remove(&landed.name);
            is_all &= self.take(at, &landed, told.as_ref()).await?;
        }
        Ok(is_all)
    }

    /// Takes one file, of which `told` was told at the last look; whether it is dealt with.
    async fn take(
        &mut self,
        at: usize,
        landed: &Landed,
        told: Option<&Failure>,
    ) -> Result<bool, Failure> {
        let watched = &self.streams[at];
        let (path, columns) = (landed.path.clone(), watched.columns.clone());
        let known = watched.digests.get(&landed.name).cloned();
        let (decoder, limit) = (watched.decoder.clone(), self.limit);
        let looked_at = match known {
            Some(known) => blocking(move || still(path, &known)).await?.map(|()| None),
            None => blocking(move || examine(path, columns, &decoder, limit)).await?.map(Some),
        };
        if !self.streams[at].folder.is_unchanged(&landed.path) {
            return Ok(false);
        }
        match looked_at {
            Ok(None) => {}
            Ok(Some(examined)) => {
                if !self.claim(at, landed, examined).await? {
                    return Ok(false);
                }
            }
            Err(failure) if self.fails_fast => return Err(failure),
            Err(failure) => {
                self.streams[at].refuse(landed, failure, told);
                return Ok(true);
            }
        }
        self.streams[at].folder.settle(&landed.path);
        Ok(true)
    }

    /// Writes down that the job has the file, and feeds it; whether both succeeded.
    async fn claim(
        &mut self,
        at: usize,
        landed: &Landed,
        examined: Examined,
    ) -> Result<bool, Failure> {
        let watched = &mut self.streams[at];
        let row = FileRow {
            stream: watched.stream,
            number: watched.count,
            name: landed.name.clone(),
            bytes: examined.file.bytes,
            digest: examined.digest,
            first_offset: watched.taken.end(),
            offsets: examined.offsets,
            records: examined.records,
            rejected: examined.rejected,
        };
        let rows = match self.clickhouse.take_file(self.generation, &row).await {
            Ok(rows) => rows,
            Err(error) if error.class() == FailureClass::Final => return Err(error.into()),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "the file is taken later");
                return Ok(false);
            }
        };
        if rows.is_empty() {
            tracing::warn!(
                file = row.name,
                "not taken: its row does not appear in table files. Where rows were deleted there, delete those of the \
                 job from every table, or watch under another --job"
            );
        }
        // Another process of the job may have taken others meanwhile.
        let is_ours = rows.iter().any(|taken| taken.name == row.name);
        for row in rows {
            let file = found(&self.path, &row).await?;
            watched.adopt(&row, file);
            self.done.add(&row);
        }
        Ok(is_ours)
    }
}

impl Watched {
    /// Tells what is wrong with a file, unless the last look did. Where it may pass, the next look gives it again.
    fn refuse(&mut self, landed: &Landed, failure: Failure, told: Option<&Failure>) {
        if told.is_none_or(|told| told.message != failure.message) {
            let reason = &failure.message;
            tracing::warn!(file = landed.name, code = failure.code, reason, "not taken");
            let line = json!({"file": landed.name, "stream": self.stream.name(), "code": failure.code,
                              "reason": reason});
            terminal::print(&format!("{line}\n"));
        }
        if !PASSING.contains(&failure.code) {
            self.folder.settle(&landed.path);
        }
        self.untaken.insert(landed.name.clone(), failure);
    }

    /// Why a file is not taken, where there is one.
    fn untaken(&mut self) -> Option<Failure> {
        let (_, failure) = self.untaken.pop_first()?;
        let remedy = "so nothing is sealed: mend the file or move it away, and finish again";
        Some(Failure::new(failure.code, format!("{}; {remedy}", failure.message)))
    }

    fn note(&mut self, row: &FileRow) {
        self.count = row.number + 1;
        self.digests.insert(row.name.clone(), row.digest.clone());
    }

    fn adopt(&mut self, row: &FileRow, file: File) {
        self.note(row);
        self.taken.push(TakenFile { file, first_offset: row.first_offset, offsets: row.offsets });
    }
}

/// What a file holds.
struct Examined {
    file: File,
    digest: String,
    offsets: i64,
    records: u64,
    rejected: u64,
}

/// Reads a file through. Refused where it is broken, or where more of its records than the limit can't be used, or
/// none can: those of a good file among them would be counted without the rest.
fn examine(
    path: PathBuf,
    columns: Columns,
    decoder: &DecoderSettings,
    limit: DeadLetterLimit,
) -> Result<Examined, Failure> {
    let file = File::find(path)?;
    let files = FileList::from(file.clone());
    let digest = files.digest()?;
    let mut decoder = Decoder::new(decoder, Arc::new(Schemas::none()))?;
    let mut reader = FileReader::new(files, columns);
    let mut names = Names::default();
    let (mut records, mut rejected, mut first) = (0_u64, 0_u64, None);
    while let Some(record) = reader.next_record()? {
        match decoder.decode(Some(record.object), &mut names) {
            Ok(_) => records += 1,
            Err(NotDecoded::Waiting(_)) => unreachable!("JSON needs no schema"),
            Err(NotDecoded::Bad(reason)) => {
                rejected += 1;
                first.get_or_insert_with(|| (record.offset + 1, reason.to_string()));
            }
        }
    }
    let all = records + rejected;
    if let Some((number, reason)) = first
        && (records == 0 || limit.is_exceeded(all, rejected))
    {
        let file = file.path.display();
        let message = format!(
            "{rejected} of {all} records of {file} can't be used; record {number}: {reason}"
        );
        return Err(Failure::new("file_unusable", message));
    }
    Ok(Examined { file, digest, offsets: reader.position(), records, rejected })
}

/// Refused where a file that was taken is another one now.
fn still(path: PathBuf, known: &str) -> Result<(), Failure> {
    let file = File::find(path)?;
    if FileList::from(file.clone()).digest()? == known {
        return Ok(());
    }
    let file = file.path.display();
    let message = format!(
        "{file} was taken before and holds something else now. The job has counted what it held: put it back, \
         and give what is new a name of its own"
    );
    Err(Failure::new("file_not_as_taken", message))
}

/// The file that a job has taken, which must be as it was.
async fn found(folder: &Path, row: &FileRow) -> Result<File, Failure> {
    let (path, digest) = (folder.join(&row.name), row.digest.clone());
    let looked = blocking(move || {
        still(path.clone(), &digest)?;
        Ok(File::find(path)?)
    });
    looked.await?.map_err(|failure: Failure| {
        let said = failure.message;
        let message = format!(
            "{said}. The job took {} as file {} of {} and reads it again, since not all of it is sealed",
            row.name,
            row.number,
            row.stream.name(),
        );
        Failure::new("file_not_as_taken", message)
    })
}

/// Does work that waits for a disk or a mount.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new("runtime", format!("a look at files failed: {error}")))
}

/// Says of each file when all rows of its records are acknowledged. Clones share it.
#[derive(Clone)]
struct Done(Arc<Mutex<Undone>>);

struct Undone {
    floor: Positions,
    positions: Positions,
    /// By stream.
    files: [VecDeque<FileRow>; 2],
}

impl Done {
    fn new(mark: Option<Mark>) -> Self {
        let (floor, positions) =
            mark.map_or_else(Default::default, |mark| (mark.floor.positions, mark.positions));
        Self(Arc::new(Mutex::new(Undone { floor, positions, files: Default::default() })))
    }

    /// Where a start reads from.
    fn floor(&self) -> Positions {
        self.undone().floor
    }

    /// Whether all of the file was acknowledged before.
    fn is_told(&self, row: &FileRow) -> bool {
        row.end() <= self.undone().positions.of(row.stream)
    }

    /// One more file.
    fn add(&self, row: &FileRow) {
        let mut undone = self.undone();
        undone.files[row.stream.index()].push_back(row.clone());
        undone.tell();
    }

    fn undone(&self) -> MutexGuard<'_, Undone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Undone {
    fn tell(&mut self) {
        for stream in Stream::BOTH {
            let position = self.positions.of(stream);
            let files = &mut self.files[stream.index()];
            while files.front().is_some_and(|row| row.end() <= position) {
                let row = files.pop_front().expect("it was there");
                let line = json!({"file": row.name, "stream": stream.name(), "bytes": row.bytes,
                                  "records": row.records, "rejected": row.rejected});
                terminal::print(&format!("{line}\n"));
            }
        }
    }
}

impl Commits for Done {
    fn commit(&self, marks: &[Mark]) -> Result<(), SourceError> {
        let mut undone = self.undone();
        for mark in marks {
            undone.positions = mark.positions;
        }
        undone.tell();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_file_that_could_not_be_read_is_given_again_and_a_broken_one_is_not() {
        let temp = TempDir::new().unwrap();
        let text = "[inferences]\ntopic = \"inferences\"\n";
        let settings = Settings::parse("test", text, &Environment::default()).unwrap();
        let [decoder, _] = settings.decoders();
        let mut watched = Watched {
            stream: Stream::Inferences,
            folder: Folder::new(temp.path(), &["*.jsonl".to_owned()]),
            columns: Columns::default(),
            decoder: decoder.unwrap(),
            taken: Taken::starting_at(0),
            count: 0,
            digests: BTreeMap::new(),
            untaken: BTreeMap::new(),
        };
        for name in ["broken.jsonl", "changed.jsonl", "unread.jsonl"] {
            fs::write(temp.path().join(name), "{}\n").unwrap();
        }
        watched.folder.look().unwrap();
        let (landed, _) = watched.folder.look().unwrap();
        let codes = ["file_broken", "file_changed", "file_unreadable"];
        for (landed, code) in landed.iter().zip(codes) {
            watched.refuse(landed, Failure::new(code, format!("a {code}")), None);
        }
        // Nobody has written to any of them.
        let (again, _) = watched.folder.look().unwrap();
        assert_eq!(again, landed[1..]);
        let untaken: Vec<_> = std::iter::from_fn(|| watched.untaken()).map(|it| it.code).collect();
        assert_eq!(untaken, codes, "nothing is sealed without any of them");
    }
}
