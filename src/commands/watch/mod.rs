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

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::done::Done;
use super::file_job::{self, Filled};
use super::guard::{Guarded, Refusal};
use super::inputs::{self, Counts, InputArgs, default_job};
use super::processor::{LAST_WORDS, Rules};
use super::{Failure, runtime, terminal};
use crate::config::Settings;
use crate::config::values::duration;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded};
use crate::engine::Progress;
use crate::engine::event::Stream;
use crate::engine::floor::Mark;
use crate::engine::names::Names;
use crate::engine::outcome::Outcomes;
use crate::engine::time::{EventTime, Millis};
use crate::pipeline::{self, DeadLetterLimit, PipelineSettings, Totals};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::files::FileRow;
use crate::sink::job::{BoundTopic, FILES, JobBinding};
use crate::sink::rejected::Rejected;
use crate::sink::{FailureClass, Sink as _};
use crate::source::feed::{Feed, FeedFiles, FeedProgress, PARTITION};
use crate::source::files::{
    Columns, Digests, File, FileList, FileReader, Folder, Landed, Taken, TakenFile,
};
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
    filled.exit()
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
    let mark = newest_mark(&clickhouse).await?;
    let (was_finished, totals) = (is_finished(mark.as_ref()), totals_of(mark.as_ref()));
    let mut watcher = Watcher::new(&settings, folder, patterns, args, clickhouse.clone(), mark)?;
    let only_tells = was_finished && args.finish && named.alerts && !watcher.finds_more().await?;
    if !only_tells {
        check_unfinished(&clickhouse, was_finished, args.finish).await?;
        tokio::select! {
            restored = watcher.restore() => restored?,
            () = signals.next() => return Err(interrupted()),
        }
    }
    let refusal = Refusal::default();
    let generation = settings.shard.generation;
    let alerting = file_job::alerting(&settings, named.alerts, 1, &clickhouse, &telemetry)?;
    let sink = Guarded::of_files(clickhouse.clone(), binding, generation, refusal.clone());
    let (sink, rules) = Rules::beside(sink, alerting, &telemetry);
    if only_tells {
        tracing::info!("the job was finished before: what its rules left is done");
        // The rules wait for its flushes.
        drop(sink);
        let finished = rules.finish(signals.next()).await;
        return Ok((Filled::new(totals, finished), 0));
    }
    let progress = FeedProgress::default();
    let letters = Rejected::new(progress.clone(), named.rejected.as_deref())?;
    // Each file was held against the limit when it was taken.
    let dead_letter_limit = DeadLetterLimit::NONE;
    let pipeline_settings = PipelineSettings { dead_letter_limit, ..settings.pipeline(1)? };
    let source = Feed::new(watcher.feeds(), progress.clone());
    let done = watcher.done.clone();
    let (mut failure, mut was_stopped) = (None, false);
    let stopping = Notify::new();
    let watching = async {
        tokio::select! {
            () = signals.next() => was_stopped = true,
            failed = watcher.run() => failure = Some(failed),
        }
        stopping.notify_one();
        if !was_stopped {
            // The first one asks for what happens already.
            signals.next().await;
        }
        signals.leave().await;
    };
    let stop = stopping.notified();
    let work = pipeline::run(pipeline_settings, vec![source], done, sink, letters, telemetry, stop);
    let ended = tokio::select! {
        ended = Box::pin(work) => ended,
        () = Box::pin(watching) => unreachable!("the process ends before"),
    };
    let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
    if let Some(failure) = failure {
        rules.end().await;
        return Err(failure);
    }
    let how = (args.finish, was_stopped);
    let filled = end(&clickhouse, rules, totals, how, &mut signals).await?;
    Ok((filled, progress.bytes()))
}

/// Waits for the rules: where all is sealed until they are done, or another signal comes.
async fn end(
    clickhouse: &ClickHouse,
    rules: Rules,
    totals: Totals,
    (finishes, was_stopped): (bool, bool),
    signals: &mut terminal::Signals,
) -> Result<Filled, Failure> {
    // A signal can come before all is sealed, and after.
    let is_sealed = finishes
        && totals.is_drained
        && (!was_stopped || is_finished(newest_mark(clickhouse).await?.as_ref()));
    let rules_done = if is_sealed && was_stopped {
        tokio::select! {
            biased;
            told = rules.finish(tokio::time::sleep(LAST_WORDS)) => told,
            () = signals.leave() => unreachable!("the process ends before"),
        }
    } else if is_sealed {
        rules.finish(signals.next()).await
    } else {
        tokio::select! {
            biased;
            () = rules.end() => {}
            () = signals.leave() => unreachable!("the process ends before"),
        }
        Ok(totals.is_drained && !finishes)
    };
    Ok(Filled::new(totals, rules_done))
}

fn interrupted() -> Failure {
    let message = "asked to stop before the files that the job took were looked through";
    Failure::new("interrupted", message.to_owned())
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

/// The newest mark of the job.
async fn newest_mark(clickhouse: &ClickHouse) -> Result<Option<Mark>, Failure> {
    let mut clickhouse = clickhouse.clone();
    Ok(clickhouse.marks(&[PARTITION]).await?.into_iter().max_by_key(Mark::order))
}

/// Whether the job was finished: nothing can reach its windows any more.
fn is_finished(mark: Option<&Mark>) -> bool {
    mark.is_some_and(|mark| mark.floor.sealed_until >= EventTime::LATEST)
}

/// What the job has counted so far.
fn totals_of(mark: Option<&Mark>) -> Totals {
    let accounts = Stream::BOTH.map(|stream| {
        let mut all = Outcomes::default();
        let tallies = mark.into_iter().flat_map(|mark| mark.tally.of(stream));
        tallies.for_each(|(_, outcomes)| all.add(outcomes));
        all
    });
    Totals { accounts, ..Totals::default() }
}

/// Refuses a job that was finished.
async fn check_unfinished(
    clickhouse: &ClickHouse,
    was_finished: bool,
    finishes: bool,
) -> Result<(), Failure> {
    let mut clickhouse = clickhouse.clone();
    let seals = clickhouse.seals().await?;
    // A start that died while it finished has perhaps sealed already: then only finishing it is left.
    let is_sealed = seals.iter().any(|&(_, until)| until >= EventTime::LATEST);
    if was_finished || (is_sealed && !finishes) {
        let job = clickhouse.job();
        let message = format!("job '{job}' was finished (--finish), so its windows are sealed");
        return Err(Failure::new("job_finished", message));
    }
    Ok(())
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
    hashed: Digests,
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
            hashed: Digests::default(),
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
                let file = found(&self.path, row, &self.hashed).await?;
                watched.adopt(row, file);
                if !self.done.is_told(row) {
                    self.done.add(row);
                }
            }
        }
        Ok(())
    }

    /// Whether files lie there that the job did not take before it was finished.
    async fn finds_more(&self) -> Result<bool, Failure> {
        let rows = self.clickhouse.taken_files(self.generation).await?;
        for watched in &self.streams {
            let mut folder = watched.folder.clone();
            // Only two looks tell which files are whole.
            let looked = blocking(move || folder.look().and_then(|_| folder.look())).await?;
            let (landed, unfinished) = looked?;
            let taken = rows[watched.stream.index()].iter().map(|row| row.name.as_str());
            let taken: BTreeSet<&str> = taken.collect();
            if unfinished > 0 || landed.iter().any(|landed| !taken.contains(&*landed.name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes files until something is wrong that only a person can put right.
    async fn run(&mut self) -> Failure {
        loop {
            let is_all = match self.look().await {
                Ok(is_all) => is_all,
                Err(failure) => return failure,
            };
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

    /// Takes what has landed; whether nothing is left that may still be taken. Files that were taken before come last,
    /// and only for a while: hashing them can take long after a start, and the next look gives the rest again.
    async fn look(&mut self) -> Result<bool, Failure> {
        let (mut is_all, mut known) = (true, Vec::new());
        for at in 0..self.streams.len() {
            let Some((landed, unfinished)) = self.landed(at).await? else {
                is_all = false;
                continue;
            };
            is_all &= unfinished == 0;
            for landed in landed {
                if self.streams[at].digests.contains_key(&landed.name) {
                    known.push((at, landed));
                } else {
                    is_all &= self.take(at, &landed).await?;
                }
            }
        }
        // Those that failed at the last look keep no others away.
        known.sort_by_key(|(at, landed)| self.streams[*at].untaken.contains_key(&landed.name));
        let begun = terminal::start();
        for (at, landed) in known {
            is_all &= self.take(at, &landed).await?;
            if !self.finishes && begun.elapsed() > self.every {
                return Ok(false);
            }
        }
        Ok(is_all)
    }

    /// The whole files of one stream that are not dealt with, and how many others may still be written to; none where
    /// the folder can't be looked into.
    async fn landed(&mut self, at: usize) -> Result<Option<(Vec<Landed>, usize)>, Failure> {
        let mut folder = self.streams[at].folder.clone();
        let (folder, looked) = blocking(move || {
            let looked = folder.look();
            (folder, looked)
        })
        .await?;
        self.streams[at].folder = folder;
        let looked = match looked {
            Ok(looked) => looked,
            // A mount may be away for a while.
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "can't look into the folder");
                return Ok(None);
            }
        };
        let Watched { folder, untaken, .. } = &mut self.streams[at];
        untaken.retain(|name, _| folder.has(name));
        for (below, error) in folder.unread() {
            if self.fails_fast {
                return Err(error.into());
            }
            let told = self.streams[at].untaken.remove(&below.name);
            self.streams[at].refuse(&below, error.into(), told.as_ref());
        }
        Ok(Some(looked))
    }

    /// Takes one file; whether it is dealt with.
    async fn take(&mut self, at: usize, landed: &Landed) -> Result<bool, Failure> {
        let watched = &mut self.streams[at];
        let told = watched.untaken.remove(&landed.name);
        let (path, columns) = (landed.path.clone(), watched.columns.clone());
        let known = watched.digests.get(&landed.name).cloned();
        let (decoder, limit, hashed) = (watched.decoder.clone(), self.limit, self.hashed.clone());
        let looked_at = blocking(move || match known {
            Some(known) => still(path, &known, &hashed).map(|()| None),
            None => examine(path, columns, &decoder, limit, &hashed).map(Some),
        });
        let looked_at = looked_at.await?;
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
                self.streams[at].refuse(landed, failure, told.as_ref());
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
            let file = found(&self.path, &row, &self.hashed).await?;
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
/// none can: those of a good file among them would be counted without the rest. One whose times can hardly be meant is
/// only told.
fn examine(
    path: PathBuf,
    columns: Columns,
    decoder: &DecoderSettings,
    limit: DeadLetterLimit,
    hashed: &Digests,
) -> Result<Examined, Failure> {
    let file = File::find(path)?;
    let digest = hashed.of(&file)?;
    let stream = decoder.stream;
    let mut decoder = Decoder::new(decoder, Arc::new(Schemas::none()))?;
    let mut reader = FileReader::new(file.clone().into(), columns);
    let mut names = Names::default();
    let (mut counts, mut first) = (Counts::default(), None);
    while let Some(record) = reader.next_record()? {
        match decoder.decode(Some(record.object), &mut names) {
            Ok(event) => counts.take(&event),
            Err(NotDecoded::Waiting(_)) => unreachable!("JSON needs no schema"),
            Err(NotDecoded::Bad(reason)) => {
                counts.bad += 1;
                first.get_or_insert_with(|| (record.offset + 1, reason.to_string()));
            }
        }
    }
    let Counts { good: records, bad: rejected, .. } = counts;
    let all = records + rejected;
    if let Some((number, reason)) = first
        && (records == 0 || limit.is_exceeded_at_end(all, rejected))
    {
        let file = file.path.display();
        let message = format!(
            "{rejected} of {all} records of {file} can't be used; record {number}: {reason}"
        );
        return Err(Failure::new("file_unusable", message));
    }
    if let Some(doubt) = counts.doubt(stream) {
        tracing::warn!(file = %file.path.display(), "{doubt}");
    }
    Ok(Examined { file, digest, offsets: reader.position(), records, rejected })
}

/// Refused where a file that was taken is another one now.
fn still(path: PathBuf, known: &str, hashed: &Digests) -> Result<(), Failure> {
    let file = File::find(path)?;
    if hashed.is_of(&file, known)? {
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
async fn found(folder: &Path, row: &FileRow, hashed: &Digests) -> Result<File, Failure> {
    let (path, digest, hashed) = (folder.join(&row.name), row.digest.clone(), hashed.clone());
    let looked = blocking(move || {
        still(path.clone(), &digest, &hashed)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::config::Environment;

    fn settings() -> Settings {
        let text = "[inferences]\ntopic = \"inferences\"\n";
        Settings::parse("test", text, &Environment::default()).unwrap()
    }

    fn watched(settings: &Settings, folder: &Path) -> Watched {
        let [decoder, _] = settings.decoders();
        Watched {
            stream: Stream::Inferences,
            folder: Folder::new(folder, &["*.jsonl".to_owned()]),
            columns: Columns::default(),
            decoder: decoder.unwrap(),
            taken: Taken::starting_at(0),
            count: 0,
            digests: BTreeMap::new(),
            untaken: BTreeMap::new(),
        }
    }

    /// What four looks find that have no time for two files: whether nothing is left, and all files of which it is told
    /// by then that they are not as they were taken.
    fn told_by_looks(finishes: bool) -> Vec<(bool, Vec<String>)> {
        let (temp, settings, runtime) = (TempDir::new().unwrap(), settings(), runtime().unwrap());
        let mut stream = watched(&settings, temp.path());
        for name in ["a.jsonl", "b.jsonl"] {
            fs::write(temp.path().join(name), "{}\n").unwrap();
            stream.digests.insert(name.to_owned(), "whole-0".to_owned());
        }
        let mut watcher = Watcher {
            path: temp.path().to_owned(),
            streams: vec![stream],
            clickhouse: ClickHouse::new(settings.clickhouse()),
            generation: 0,
            hashed: Digests::default(),
            limit: settings.dead_letter_limit(),
            every: Duration::ZERO,
            finishes,
            fails_fast: false,
            done: Done::new(None),
        };
        let mut look = || {
            let is_all = runtime.block_on(watcher.look()).unwrap();
            (is_all, watcher.streams[0].untaken.keys().cloned().collect())
        };
        (0..4).map(|_| look()).collect()
    }

    #[test]
    fn files_that_were_taken_before_do_not_hold_up_the_next_look() {
        let some = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let both = || some(&["a.jsonl", "b.jsonl"]);
        let nothing = (false, some(&[]));
        let expected =
            [nothing.clone(), (false, some(&["a.jsonl"])), (false, both()), (true, both())];
        assert_eq!(told_by_looks(false), expected);
        // An end waits for all of them.
        assert_eq!(told_by_looks(true), [nothing, (true, both()), (true, both()), (true, both())]);
    }

    /// Why a file of so many good and bad records is not taken, if it is not.
    fn refused(good: usize, bad: usize) -> Option<Failure> {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("a.jsonl");
        let row = "{\"request_id\": \"1\", \"model\": \"m\", \"timestamp\": 1767571200000}\n";
        fs::write(&path, row.repeat(good) + &"{}\n".repeat(bad)).unwrap();
        let settings = settings();
        let [decoder, _] = settings.decoders();
        let limit = settings.dead_letter_limit();
        let hashed = Digests::default();
        examine(path, Columns::default(), &decoder.unwrap(), limit, &hashed).err()
    }

    #[test]
    fn a_file_is_not_taken_where_too_great_a_share_of_it_is_bad() {
        let failure = refused(1, 999).unwrap();
        assert_eq!(failure.code, "file_unusable");
        let said = &failure.message;
        assert!(said.starts_with("999 of 1000 records of "), "{said}");
        assert!(said.contains("record 2: "), "{said}");
        assert!(refused(35, 5).is_some() && refused(0, 1).is_some());
        assert!(refused(90, 10).is_none() && refused(2, 1).is_none());
    }

    #[test]
    fn a_file_that_could_not_be_read_is_given_again_and_a_broken_one_is_not() {
        let temp = TempDir::new().unwrap();
        let mut watched = watched(&settings(), temp.path());
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
