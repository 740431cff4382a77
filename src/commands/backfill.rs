//! `tidegauge backfill`: the same rows from files, or from a range of the topics.

use std::path::PathBuf;
use std::process::ExitCode;

use super::file_job::{self, Filled};
use super::guard::{Guarded, Refusal};
use super::inputs::{Counts, InputArgs, Inputs};
use super::ranges::{self, TopicArgs};
use super::watch::{self, WatchArgs};
use super::{ConfigFile, Failure, runtime, terminal, topic_job};
use crate::config;
use crate::engine::event::Stream;
use crate::engine::names::Names;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::rejected::Rejected;
use crate::source::feed::{Feed, FeedProgress};
use crate::source::range::Bound;
use crate::telemetry::{Telemetry, set_up_log};

/// What is said at the end.
const END: &str = "all rows are written and sealed";

/// Measure files or a range of the topics: the same rows in ClickHouse as `run` writes
///
/// Reads files of inferences and, optionally, of labels, joins them by request ID and writes the rows that streaming
/// gives for the same records. Files hold all that there is: nothing is late, and all windows are sealed at the end.
/// The rows stand under a job name of their own, so it is safe while `run` is live. Started again with the same files
/// it goes on, and ends with the same rows.
///
/// With --topics it reads a bounded range of the configured topics: inferences from --from to --to, labels from
/// `windows.lateness` before a time in --from (else their first one) to --labels-to. Lateness is judged and windows are
/// sealed as in the stream that gave these records: a window whose end both ranges have not passed by
/// `windows.label_wait` and twice `windows.lateness` stays unsealed. No group is joined and no offset committed. Without
/// ends it goes to the ends that the topics have then: started again, it reads on.
///
/// A row of a file is what a record of the topic is. Flat columns are fields; dotted columns are entries of maps:
/// features.amount, segments.region, scores.cat. `inferences.fields` and `labels.fields` of the configuration say
/// where a field lies otherwise. Times are milliseconds since 1970-01-01 UTC, RFC 3339 text, or a time type of Parquet.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge backfill -c fraud.toml --inferences 'history/*.parquet' --labels labels.csv
  tidegauge backfill -c fraud.toml --inferences a.jsonl --labels b.jsonl --dry-run
  tidegauge backfill -c fraud.toml --inferences day.parquet --job fraud-nightly-2026-11-27 --json
  tidegauge backfill -c fraud.toml --watch /mnt/scored --inferences 'scored-*.parquet' --labels 'labels-*.csv'
  tidegauge backfill -c fraud.toml --topics --from 2026-01-01 --to 2026-02-01 --labels-to 2026-03-01
  tidegauge backfill -c fraud.toml --topics --from offset:1000 --to offset:50000 --job fraud-again

With --watch a file counts as whole when two looks, --every apart, find it with the same size and time of change. Whoever
pauses for longer writes it under a name that begins with . or _ or ends in .tmp or .part, and renames it then. Each file
is read through first: one that is broken gives nothing, is told with its reason, and is tried again when it changes. A
line of JSON says which files are done. What was taken is remembered in ClickHouse (table `files`), under the job's name.
Files stay where they are: a start reads those again that are not sealed, which are all, unless `windows.progress` is
\"event\": then windows seal as event time passes, and records can be late. SIGTERM ends it cleanly.

From cron, a systemd timer or a Kubernetes CronJob: the exit code says whether all rows are written, --json what was
done. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused, 130 interrupted (start it again).")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    topic: TopicArgs,
    /// The first labels that are no longer read; by default they are read to the end of their topic
    #[arg(long, value_name = "WHERE", conflicts_with_all = ranges::FILES, conflicts_with = "without_labels", value_parser = ranges::bound)]
    labels_to: Option<Bound>,
    /// Owner of the rows; by default the configured job with a digest of what is read and the settings
    #[arg(long, value_name = "NAME", value_parser = config::job_name)]
    job: Option<String>,
    /// Add records that can't be used, each with its place and reason, to this file (JSON Lines)
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Evaluate the rules of the configuration (`alerts`) over the rows, and tell its targets (`notify`)
    #[arg(long, conflicts_with = "dry_run")]
    alerts: bool,
    /// Only read and check the records
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    if let Some(folder) = &args.watch.watch {
        set_up_log(settings.logs.format, &settings.logs.level)?;
        let named = watch::Named {
            job: args.job.clone(),
            rejected: args.rejected.clone(),
            alerts: args.alerts,
        };
        return watch::run(settings, folder, &args.inputs, &args.watch, &named);
    }
    // Lines of a log would break the bar.
    let has_bar = terminal::is_error_terminal();
    let level = if has_bar { "warn" } else { &settings.logs.level };
    set_up_log(settings.logs.format, level)?;
    if args.topic.topics {
        let asked = topic_job::Asked {
            topic: &args.topic,
            labels_to: args.labels_to,
            job: args.job.as_deref(),
            rejected: args.rejected.as_deref(),
            alerts: args.alerts,
            as_json: args.json,
        };
        return asked.run(settings, args.dry_run, has_bar);
    }
    let mut inputs = Inputs::find(settings, &args.inputs)?;
    if args.dry_run {
        return dry_run(&inputs, args.json);
    }
    inputs.settings.job = args.job.clone().unwrap_or_else(|| inputs.default_job());
    let (job, bytes) = (inputs.settings.job.clone(), inputs.bytes());
    tracing::info!(%job, bytes, "starting");
    let runtime = runtime()?;
    let label_wait = inputs.settings.shard.limits.label_wait;
    let filled = runtime.block_on(fill(inputs, args, has_bar));
    runtime.shutdown_background();
    let filled = filled.map_err(|failure| file_job::failed(&job, failure))?;
    terminal::print(&file_job::summary(&job, Some(bytes), &filled, END, args.json));
    file_job::note_orphans(&filled, label_wait);
    for (stream, accounts) in Stream::BOTH.into_iter().zip(filled.totals.accounts) {
        check_some(stream, count(accounts.records()), count(accounts.dead))
            .map_err(|failure| file_job::failed(&job, failure))?;
    }
    Ok(if filled.is_complete { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

async fn fill(inputs: Inputs, args: &Args, has_bar: bool) -> Result<Filled, Failure> {
    let Inputs { mut settings, feeds, .. } = inputs.clone();
    let telemetry = Telemetry::new();
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let binding = inputs.binding();
    file_job::bind(&clickhouse, &mut settings, &binding, &telemetry).await?;
    let progress = FeedProgress::default();
    let letters = Rejected::new(progress.clone(), args.rejected.as_deref())?;
    let refusal = Refusal::default();
    let alerting = file_job::alerting(&settings, args.alerts, 1, &clickhouse, &telemetry)?;
    let sink = Guarded::of_files(clickhouse, binding, settings.shard.generation, refusal.clone());
    let pipeline_settings = settings.pipeline(1)?;
    let source = Feed::new(feeds, progress.clone());
    let shown = file_job::show(inputs.bytes(), "{total_bytes}", has_bar, || {
        (progress.bytes(), progress.records())
    });
    let sources = vec![source];
    let told = (telemetry, alerting);
    file_job::run(pipeline_settings, sources, (sink, &refusal), letters, told, shown).await
}

fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Refused where there are records of a stream and none can be used.
fn check_some(stream: Stream, all: u64, bad: u64) -> Result<(), Failure> {
    if all == 0 || bad < all {
        return Ok(());
    }
    let message = format!("none of {all} records of {} can be used", stream.name());
    Err(Failure::new("file_unusable", message))
}

/// Reads and decodes all files, and writes nothing. Fails where filling the tables would.
fn dry_run(inputs: &Inputs, as_json: bool) -> Result<ExitCode, Failure> {
    let limit = inputs.settings.dead_letter_limit();
    let mut refused = Ok(());
    let mut streams = serde_json::Map::new();
    for feed in &inputs.feeds {
        let Counts { good, bad } = inputs.decode(feed, &mut Names::default(), |_, _, _| ())?;
        let (name, files) = (feed.stream.name(), feed.files.files().len());
        let about = serde_json::json!({"files": files, "records": good, "rejected": bad});
        if !as_json {
            let text = format!("{name}: {files} files, {good} records, {bad} can't be used\n");
            terminal::print(&text);
        }
        if refused.is_ok() && limit.is_exceeded(good + bad, bad) {
            let message = format!("{bad} of {} records of {name} can't be used", good + bad);
            refused = Err(Failure::new("file_unusable", message));
        }
        refused = refused.and_then(|()| check_some(feed.stream, good + bad, bad));
        streams.insert(name.to_owned(), about);
    }
    if as_json {
        terminal::print(&format!("{}\n", serde_json::Value::Object(streams)));
    }
    refused.map(|()| ExitCode::SUCCESS)
}
