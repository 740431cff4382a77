//! `tidegauge report`: one page, from stored rows or from files alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use super::computed::{Computed, FileArgs, of_no_files, tell};
use super::inputs::{of_files, without_labels};
use super::query::instead;
use super::select::SelectArgs;
use super::{ConfigFile, Failure, output, runtime, terminal};
use crate::calendar::time;
use crate::config::Settings;
use crate::engine::Progress;
use crate::engine::metrics::MetricTable;
use crate::engine::state::ALL;
use crate::evaluate;
use crate::pipeline::PipelineError;
use crate::report::{Form, References, Report, Row, left_out};
use crate::sink::Sink as _;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::JobBinding;
use crate::sink::rows::{self, RowFilter};
use crate::sink::summary::Grain;

/// Rows of one table that a report reads at most.
const MOST_ROWS: u32 = 200_000;
/// Stored states that a report merges at most: a few hundred megabytes.
const MOST_STATES: usize = 50_000;
/// States in one answer.
const STATES_AT_ONCE: usize = 2_000;

/// Write one page about the models: summary, quality with intervals over time, calibration, label coverage, segments
///
/// From files alone, without any service or configuration, or from the rows that are stored in ClickHouse. The HTML is
/// one file that asks for nothing from outside, follows light and dark, and prints well.
///
/// Files are read and judged like those of `backfill`, and all together must fit into `state.budget` too. One file may
/// be both: name it twice if its rows have a label. Where -c names none, a tidegauge.toml in the working folder is the
/// configuration; the report says which one it goes by. Without one every label counts, however late, and windows are
/// hours, days and weeks.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge report --inferences a.parquet --labels b.csv -o report.html
  tidegauge report --inferences scored.csv --labels scored.csv -o report.md
  tidegauge report --inferences june.parquet --reference may.parquet \\
      -o drift.html
  tidegauge report -c fraud.toml --model 'fraud-*' --since 30d -o fraud.html
  tidegauge report -c fraud.toml --since 7d --format json \\
      | jq .models[0].sections[0]")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Where to; the end of its name says the form. By default HTML to standard output
    #[arg(short, long, value_name = "FILE", value_parser = terminal::file)]
    output: Option<PathBuf>,
    /// The form, where the name does not say it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The heading
    #[arg(long, default_value = "Model report")]
    title: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Html,
    Markdown,
    Json,
}

/// What a report is made of.
struct Found {
    source: String,
    rows: Vec<Row>,
    references: References,
    /// What is odd about the rows.
    remarks: Vec<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let form = form(args)?;
    output::check(args.output.as_deref())?;
    let found = if args.files.inferences.is_empty() { stored(args)? } else { computed(args)? };
    let Found { source, rows, references, remarks } = found;
    tell(&rows, &remarks);
    let mut report = Report::new(args.title.clone(), source, &rows, &references);
    for remark in &remarks {
        report = report.with_remark(remark);
    }
    output::write(args.output.as_deref(), report.render(form).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn form(args: &Args) -> Result<Form, Failure> {
    let extension = args.output.as_deref().and_then(Path::extension);
    match (args.format, extension.and_then(|extension| extension.to_str())) {
        (Some(Format::Html), _) | (None, Some("html" | "htm")) => Ok(Form::Html),
        (Some(Format::Markdown), _) | (None, Some("md" | "markdown")) => Ok(Form::Markdown),
        (Some(Format::Json), _) | (None, Some("json")) => Ok(Form::Json),
        (None, None) if args.output.is_none() => Ok(Form::Html),
        (None, _) => Err(Failure::new(
            "usage",
            "the output's name ends in none of .html, .md, .json: say --format".to_owned(),
        )),
    }
}

/// The stored rows that the options ask for, as far as the report shows them.
fn stored(args: &Args) -> Result<Found, Failure> {
    let mut settings = args.config.load().map_err(of_no_files)?;
    if let Some(job) = &args.select.job {
        settings.job.clone_from(job);
    }
    let filter = args.select.filter("", None, MOST_ROWS)?;
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let (rows, full, remark, jobs) = runtime()?.block_on(async {
        let grains = clickhouse.grains(&filter).await?;
        let grain = Grain::of_charts(&grains).map(|grain| grain.name.clone());
        let (mut rows, mut full) = (Vec::new(), Vec::new());
        for table in MetricTable::ALL {
            let Some(of_table) =
                of_table(table, RowFilter { grain: grain.clone(), ..filter.clone() })
            else {
                continue;
            };
            let found = clickhouse.metric_rows(table, &of_table).await?;
            if found.len() >= usize::try_from(of_table.limit).unwrap_or(usize::MAX) {
                full.push(table.name().to_owned());
            }
            rows.extend(found);
        }
        let (of_whole, remark) = whole(clickhouse.clone(), &settings, &filter).await?;
        rows.extend(of_whole);
        let jobs = if rows.is_empty() { Some(clickhouse.jobs().await?) } else { None };
        Ok::<_, Failure>((rows, full, remark, jobs))
    })?;
    if let Some(jobs) = jobs {
        let hint = instead(&jobs, "--model, --version, --since and --until");
        terminal::note(&format!("no rows of job {}{hint}\n", settings.job));
    }
    let source = source(&settings.job, &full, terminal::now_ms());
    let references = settings.shard.references().collect();
    Ok(Found { source, rows, references, remarks: remark.into_iter().collect() })
}

/// Of the filter's rows those of one table that the report shows; none where no section shows the table.
fn of_table(table: MetricTable, mut filter: RowFilter) -> Option<RowFilter> {
    match table {
        MetricTable::QualityThreshold | MetricTable::QualityClasses | MetricTable::Confusion => {
            return None;
        }
        // The section of segments is made of these.
        MetricTable::Serving
        | MetricTable::Labels
        | MetricTable::QualityBinary
        | MetricTable::QualityMulticlass
        | MetricTable::QualityRegression => return Some(filter),
        MetricTable::Drift => filter.exact.push(rows::of_main_method()),
        _ => {}
    }
    ALL.clone_into(&mut filter.segment);
    Some(filter)
}

/// Where the rows come from, when they were read, and which tables have more of them than are read.
fn source(job: &str, full: &[String], now_ms: i64) -> String {
    let more = left_out(full, MOST_ROWS);
    let parted = if more.is_empty() { "" } else { "; " };
    format!("Rows of job {job}, read {} UTC{parted}{more}", time(now_ms - now_ms % 1000))
}

/// The rows of the whole time, made of stored states; none where there are too many of them, and then the newest window
/// says how things stand. None either where the job ran with other settings, by which a state means something else, and
/// then what is said of that.
async fn whole(
    mut clickhouse: ClickHouse,
    settings: &Settings,
    filter: &RowFilter,
) -> Result<(Vec<Row>, Option<String>), Failure> {
    // One more than can be merged says that there are too many.
    let limit = u32::try_from(MOST_STATES + 1).expect("it is small");
    let mut versions = clickhouse.filtered_versions(&RowFilter { limit, ..filter.clone() }).await?;
    if versions.is_empty() {
        return Ok((Vec::new(), None));
    }
    let is_ours = clickhouse.bound().await?.is_some_and(|bound| is_of(&bound, settings));
    if !is_ours {
        return Ok((Vec::new(), Some(misread(&settings.job))));
    }
    // States of different generations are never merged.
    let newest = versions.iter().map(|state| state.version.generation()).max();
    versions.retain(|state| Some(state.version.generation()) == newest);
    if versions.len() > MOST_STATES {
        return Ok((Vec::new(), None));
    }
    let keys: Vec<_> = versions.into_iter().map(|state| (state.key, state.partition)).collect();
    let mut states = Vec::with_capacity(keys.len());
    for some in keys.chunks(STATES_AT_ONCE) {
        states.extend(clickhouse.states(some).await?);
    }
    let rows = evaluate::whole(&settings.shard, &states).map_err(PipelineError::from)?;
    Ok((rows.iter().map(Row::from).collect(), None))
}

/// Whether a job that is bound like this was started with these settings, by `run` or by `backfill`: each changes what
/// files, a range without labels, or a broker's own timestamps ask for.
fn is_of(bound: &JobBinding, settings: &Settings) -> bool {
    let (settings, has_labels) = (settings.clone(), bound.labels.is_some());
    let plain = match (bound.is_of_files(), has_labels) {
        (true, _) => of_files(settings, has_labels),
        (false, true) => settings,
        (false, false) => without_labels(settings),
    };
    let mut changed = plain.clone();
    if bound.is_of_files() {
        changed.shard.progress = Progress::End;
    } else {
        changed.shard.clock_stamps = 1;
    }
    [plain, changed].iter().any(|settings| settings.digest() == bound.configuration)
}

/// What is said where the job did not run with the settings that are given.
fn misread(job: &str) -> String {
    format!(
        "job {job} did not run with this configuration, which would misread its stored states: figures of the whole \
         time are left out. Give the configuration that the job ran with (-c)."
    )
}

/// The rows of files.
fn computed(args: &Args) -> Result<Found, Failure> {
    args.files.check_output(args.output.as_deref())?;
    let computed = Computed::of(&args.files, &args.config, &args.select, "", None)?;
    let Computed { source, rows, references, remarks, .. } = computed;
    Ok(Found { source, rows, references, remarks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::computed::FILES_ONLY;
    use crate::config::Environment;
    use crate::sink::job::{BoundTopic, FILES};

    #[test]
    fn a_job_is_known_by_its_settings_however_it_was_started() {
        let parse = |text: &str| Settings::parse("t", text, &Environment::default()).unwrap();
        let settings = parse(FILES_ONLY);
        let bound = |cluster: &str, has_labels: bool, by: &Settings| JobBinding {
            cluster: cluster.to_owned(),
            inferences: BoundTopic::default(),
            labels: has_labels.then(BoundTopic::default),
            partitions: 1,
            configuration: by.digest(),
            window: by.shard.window,
        };
        let is_known = |cluster: &str, has_labels: bool, by: &Settings| {
            is_of(&bound(cluster, has_labels, by), &settings)
        };
        let stamped = parse(&format!("{FILES_ONLY}clock_stamps = 1\n"));
        let without = parse(&FILES_ONLY.replace("[labels]\ntopic = \"labels\"\n", ""));
        for (has_labels, by) in [(true, &settings), (true, &stamped), (false, &without)] {
            assert!(is_known("c1", has_labels, by));
        }
        assert!(!is_known("c1", true, &without), "settings without labels");
        let weighted = parse(&format!("{FILES_ONLY}[models.\"*\"]\nweights = \"use\"\n"));
        assert!(!is_known("c1", true, &weighted));
        for has_labels in [true, false] {
            let filled = |settings: &Settings| {
                let mut settings = of_files(settings.clone(), has_labels);
                settings.shard.progress = Progress::End;
                settings
            };
            assert!(is_known(FILES, has_labels, &filled(&settings)));
            assert!(!is_known(FILES, has_labels, &filled(&weighted)));
            assert!(!is_known("c1", has_labels, &filled(&settings)), "no topic ends");
        }
        let by_event = parse(&format!("{FILES_ONLY}progress = \"event\"\n"));
        let watched = bound(FILES, true, &of_files(by_event.clone(), true));
        assert!(is_of(&watched, &by_event) && !is_of(&watched, &settings));
    }

    #[test]
    fn of_each_table_only_what_is_shown_is_read() {
        let given = RowFilter { grain: Some("1h".to_owned()), ..RowFilter::default() };
        let of = |table| of_table(table, given.clone());
        assert_eq!(of(MetricTable::Confusion), None);
        assert_eq!(of(MetricTable::Labels), Some(given.clone()), "segments are shown");
        let all = RowFilter { segment: "all".to_owned(), ..given.clone() };
        assert_eq!(of(MetricTable::DataQuality), Some(all.clone()));
        let main = ("toString(is_primary > 0)", "1".to_owned());
        assert_eq!(of(MetricTable::Drift), Some(RowFilter { exact: vec![main], ..all }));
    }

    #[test]
    fn a_report_says_of_which_tables_it_has_not_all_rows() {
        let now_ms = 1_767_571_260_000;
        let source = source("a", &["serving", "labels"].map(str::to_owned), now_ms);
        let report = Report::new(String::new(), source, &[], &References::default());
        let said = "Rows of job a, read 2026-01-05 00:01 UTC; of serving, labels only the newest \
                    200\u{202f}000 rows were read";
        for form in [Form::Html, Form::Markdown, Form::Json] {
            assert!(report.render(form).contains(said), "{form:?}");
        }
        assert_eq!(super::source("a", &[], now_ms), "Rows of job a, read 2026-01-05 00:01 UTC");
    }
}
