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

mod examine;
mod watcher;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::file_job::{self, Filled};
use super::guard::{Guarded, Refusal};
use super::inputs::{self, InputArgs, default_job};
use super::processor::{LAST_WORDS, Rules};
use super::{Failure, runtime, terminal};
use crate::config::Settings;
use crate::config::values::duration;
use crate::engine::Progress;
use crate::engine::event::Stream;
use crate::engine::floor::Mark;
use crate::engine::outcome::Outcomes;
use crate::engine::time::{EventTime, Millis};
use crate::pipeline::{self, DeadLetterLimit, PipelineSettings, Totals};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BoundTopic, FILES, JobBinding};
use crate::sink::rejected::Rejected;
use crate::sink::{Sink as _, SinkError};
use crate::source::feed::{Feed, FeedProgress, PARTITION};
use crate::telemetry::Telemetry;
use watcher::Watcher;

/// How a folder is watched.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// Take each file that lands in this folder, once; --inferences and --labels are patterns within it
    #[arg(long, value_name = "DIR", conflicts_with = "topics")]
    pub(super) watch: Option<PathBuf>,
    /// How often to look for files
    #[arg(long, value_name = "SPAN", default_value = "5s", requires = "watch", value_parser = span)]
    every: Millis,
    /// Take what is there, seal all windows and end; the job takes no file after that, and the same command only tells
    /// its summary again. Where a file can't be used, nothing is sealed and it ends with exit code 1
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
    let reading = patterns.reading(&settings);
    let InputArgs { inferences, labels, .. } = patterns;
    let what = format!("{} {inferences:?} {labels:?}{reading}", folder.display());
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

/// What a job begins with.
struct Begun {
    watcher: Watcher,
    /// What it has counted so far.
    totals: Totals,
    /// It was finished before, and at most what its rules left is to be done.
    only_tells: bool,
    /// Its windows are sealed, perhaps by a process that died before it had finished the job.
    is_sealed: bool,
    /// What is wrong with files that come too late for that, where there are any.
    late: Option<Failure>,
}

/// Binds the job's name and looks through what the job has taken. Servers and hashes can take long.
async fn begin(
    clickhouse: &ClickHouse,
    settings: &mut Settings,
    binding: &JobBinding,
    telemetry: &Telemetry,
    (folder, patterns, args): (&Path, &InputArgs, &WatchArgs),
) -> Result<Begun, Failure> {
    file_job::bind(clickhouse, settings, binding, telemetry).await?;
    let mark = newest_mark(clickhouse).await?;
    let (was_finished, totals) = (is_finished(mark.as_ref()), totals_of(mark.as_ref()));
    let mut watcher = Watcher::new(settings, folder, patterns, args, clickhouse.clone(), mark)?;
    // A process that dies after its last mark, and is started again, has nothing left to do.
    let only_tells = was_finished && args.finish && !watcher.finds_more().await?;
    let is_sealed = is_sealed(clickhouse).await?;
    let mut late = None;
    if !only_tells {
        // A start that died while it finished has perhaps sealed already: then only finishing it is left.
        if was_finished || (is_sealed && !args.finish) {
            return Err(finished(clickhouse));
        }
        watcher.restore().await?;
        if is_sealed {
            late = match watcher.finds_more().await {
                Ok(finds_more) => finds_more.then(|| finished(clickhouse)),
                Err(failure) => Some(failure),
            };
        }
    }
    Ok(Begun { watcher, totals, only_tells, is_sealed, late })
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
    let what = (folder, patterns, args);
    let opening = begin(&clickhouse, &mut settings, &binding, &telemetry, what);
    let Begun { mut watcher, totals, only_tells, is_sealed, late } = tokio::select! {
        begun = Box::pin(opening) => begun?,
        () = signals.next() => return Err(interrupted()),
    };
    let refusal = Refusal::default();
    let generation = settings.shard.generation;
    let alerting = file_job::alerting(&settings, named.alerts, 1, &clickhouse, &telemetry)?;
    let sink = Guarded::of_files(clickhouse.clone(), binding, generation, refusal.clone());
    let (sink, rules) = Rules::beside(sink, alerting, &telemetry);
    if only_tells {
        tracing::info!("the job was finished before: only what its rules left can be done");
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
    let telling = tell(Arc::clone(&watcher.read), progress.clone());
    let (mut failure, mut was_stopped) = (None, false);
    let stopping = Notify::new();
    let watching = async {
        tokio::select! {
            () = signals.next() => was_stopped = true,
            failed = watcher.run(is_sealed) => failure = Some(failed),
            () = telling => unreachable!("it tells until the end"),
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
    let late = late.filter(|_| filled.is_complete);
    Ok((filled.with_failure(late), progress.bytes()))
}

/// Says in the log how far it is, until dropped: how many records were read before their file was taken, or not, and how
/// many of files that are.
async fn tell(before: Arc<AtomicU64>, progress: FeedProgress) {
    let look = || [before.load(Ordering::Relaxed), progress.records()];
    let say = |[checked, records]: [u64; 2]| tracing::info!(checked, records, "reading");
    file_job::tell_moves(look, say).await;
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

/// What the job's name is bound to: these patterns, and how cells are read. Where the folder is mounted may change;
/// that its files are those that were taken is seen from their digests.
fn binding(settings: &Settings, patterns: &InputArgs) -> JobBinding {
    let reading = patterns.reading(settings);
    let topic = |patterns: &[String]| BoundTopic {
        name: format!("watched {}{reading}", patterns.join(" ")),
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

/// Whether nothing may be added to the job's windows any more, by whichever process.
async fn is_sealed(clickhouse: &ClickHouse) -> Result<bool, SinkError> {
    let mut clickhouse = clickhouse.clone();
    let seals = clickhouse.seals().await?;
    Ok(seals.iter().any(|&(_, until)| until >= EventTime::LATEST))
}

fn finished(clickhouse: &ClickHouse) -> Failure {
    let job = clickhouse.job();
    let message = format!(
        "job '{job}' was finished (--finish), so its windows are sealed, and it takes no more files"
    );
    Failure::new("job_finished", message)
}
