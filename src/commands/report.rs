//! `tidegauge report`: one page, from stored rows or from files alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use super::file_job::{Judge, repeated};
use super::inputs::{
    CellArgs, Counts, InputArgs, Inputs, listed, of_files, unmatched, without_labels,
};
use super::query::instead;
use super::select::SelectArgs;
use super::{ConfigFile, Failure, output, profile, runtime, terminal};
use crate::calendar::instant;
use crate::config::{Environment, Settings};
use crate::engine::event::{Arrival, Event, Offset, Positions, Stream, Target};
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::reference::Profile;
use crate::engine::names::Names;
use crate::engine::outcome::Outcome;
use crate::engine::state::ALL;
use crate::engine::time::{EventTime, Millis, RecordTime};
use crate::engine::window::Window;
use crate::engine::{ModelSettings, Progress, Shard, ShardSettings};
use crate::evaluate::{self, WHOLE};
use crate::pipeline::{ManyNames, PipelineError};
use crate::report::{Form, References, Report, Row, count, left_out, odd_labels};
use crate::sink::Sink as _;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::JobBinding;
use crate::sink::rows::{self, RowFilter};
use crate::sink::summary::Grain;
use crate::source::feed::PARTITION;
use crate::source::files::FileList;

/// Names that are listed where there may be many.
const NAMES_SHOWN: usize = 5;
/// Rows of one table that a report reads at most.
const MOST_ROWS: u32 = 200_000;
/// Stored states that a report merges at most: a few hundred megabytes.
const MOST_STATES: usize = 50_000;
/// States in one answer.
const STATES_AT_ONCE: usize = 2_000;
/// Records of files between two looks at the memory.
const WEIGH_EVERY: u64 = 1024;
/// The configuration that is used where it lies in the working folder and no other is named.
const DEFAULT_CONFIG: &str = "tidegauge.toml";
/// The configuration of files that come without one: no label is too late, and hours, days and weeks fit most of them.
const FILES_ONLY: &str = "\
job = \"report\"
[inferences]
topic = \"inferences\"
[labels]
topic = \"labels\"
[windows]
size = \"1h\"
grains = [\"1d\", \"7d\"]
lateness = \"1d\"
label_wait = \"3650d\"
";

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
    /// Files of inferences, in place of stored rows: paths and patterns, .jsonl, .csv, .tsv or .parquet
    #[arg(long, value_name = "FILES", num_args = 1.., conflicts_with = "job")]
    inferences: Vec<String>,
    /// Files of their labels
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "inferences")]
    labels: Vec<String>,
    /// What to compare with: files of past inferences of one model, or a profile that `tidegauge profile` wrote (.json)
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "inferences")]
    reference: Vec<String>,
    /// Labels of the reference's inferences: with them quality is estimated without labels too
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "reference")]
    reference_labels: Vec<String>,
    /// The model of the reference's files, where they hold several
    #[arg(long, value_name = "MODEL", requires = "reference")]
    reference_model: Option<String>,
    #[command(flatten)]
    cells: CellArgs,
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
    let found = if args.inferences.is_empty() { stored(args)? } else { computed(args)? };
    let Found { source, rows, references, remarks } = found;
    let of_whole = rows.iter().filter(|row| row.grain == WHOLE && row.segment == ALL);
    // The page has it where the model's figures are.
    for odd in odd_labels(of_whole) {
        terminal::note(&format!("{odd}\n"));
    }
    let mut report = Report::new(args.title.clone(), source, &rows, &references);
    for remark in &remarks {
        terminal::note(&format!("{remark}\n"));
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
    let source = source(&settings.job, &full);
    let references = settings.shard.references().collect();
    Ok(Found { source, rows, references, remarks: remark.into_iter().collect() })
}

/// Whoever has no configuration may have meant files.
fn of_no_files(mut failure: Failure) -> Failure {
    if failure.code == "config_missing" {
        failure.message += "; or name files, which need none: `--inferences FILES`";
    }
    failure
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

/// Where the rows come from, and which tables have more of them than are read.
fn source(job: &str, full: &[String]) -> String {
    let more = left_out(full, MOST_ROWS);
    let parted = if more.is_empty() { "" } else { "; " };
    format!("Rows of job {job}{parted}{more}")
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

/// The rows of files: the engine in memory, no service.
fn computed(args: &Args) -> Result<Found, Failure> {
    let files = InputArgs {
        inferences: args.inferences.clone(),
        labels: args.labels.clone(),
        cells: args.cells.clone(),
    };
    let (settings, configuration) = settings(args)?;
    let inputs = Inputs::find(compared(args, settings)?, &files)?;
    let (shard_settings, grains) = (&inputs.settings.shard, &inputs.settings.grains);
    let mut folded = Folded::of(&inputs)?;
    folded.check(&inputs.settings)?;
    folded.shard.finish();
    let filter = args.select.filter("", None, 0)?;
    let mut states = folded.shard.freeze(&folded.names).states;
    let models: BTreeSet<_> = states.iter().map(|row| Arc::clone(&row.key.model)).collect();
    states.retain(|row| filter.admits(&row.key));
    let rows = evaluate::complete(shard_settings, grains, &states);
    let rows = rows.expect("states that were just made can be read");
    if rows.is_empty() {
        // A page that is there already is worth more than one that says nothing.
        let accounts = accounts(folded.read);
        let models = listed(models.iter().map(|name| &**name), NAMES_SHOWN);
        let options = "--model, --version, --since and --until";
        let message = format!("no rows: {accounts}, of models {models}: look at {options}");
        return Err(Failure::new("report_empty", message));
    }
    let whole_windows = widened(&filter, shard_settings.window).unwrap_or_default();
    let said = folded.said(&inputs);
    let rows: Vec<Row> = rows.iter().map(Row::from).collect();
    let mut remarks = folded.remarks(shard_settings.limits.label_wait);
    remarks.extend(folded.labels.odd(&rows, shard_settings, &folded.names));
    Ok(Found {
        source: format!("Files with {said}; {configuration}{whole_windows}; {}", named(args)),
        rows,
        references: shard_settings.references().collect(),
        remarks,
    })
}

/// Which files the page is made of, as they were named.
fn named(args: &Args) -> String {
    let of = |(what, files): (&str, &[String])| {
        let names = listed(files.iter().map(String::as_str), NAMES_SHOWN);
        (!files.is_empty()).then(|| format!("{what} {names}"))
    };
    let given = [
        ("inferences of", &args.inferences[..]),
        ("labels of", &args.labels),
        ("compared with", &args.reference),
        ("whose labels are of", &args.reference_labels),
    ];
    given.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

/// All records of files, folded into one shard.
struct Folded {
    shard: Shard,
    names: Names,
    /// By stream.
    read: [Counts; 2],
    duplicates: u64,
    /// Labels.
    matched: u64,
    labels: LabelValues,
}

/// The first different values of labels.
#[derive(Default)]
struct LabelValues(Vec<Target>);

impl LabelValues {
    /// More are no classes, or not of a binary model.
    const MOST: usize = 5;

    fn add(&mut self, value: Target) {
        if self.0.len() < Self::MOST && value != Target::Absent && !self.0.contains(&value) {
            self.0.push(value);
        }
    }

    /// What is odd about those of binary models: some are 1 and others not 0, as where classes are counted from 1.
    fn odd(&self, rows: &[Row], settings: &ShardSettings, names: &Names) -> Option<String> {
        const OF_TWO: [Target; 5] = [
            Target::Number(1.0),
            Target::Boolean(true),
            Target::Number(0.0),
            Target::Number(-1.0),
            Target::Boolean(false),
        ];
        let is = |table: MetricTable| rows.iter().any(|row| row.table == table.name());
        let of_others = is(MetricTable::QualityMulticlass) || is(MetricTable::QualityRegression);
        let by_default = ModelSettings::default().positive;
        let is_told = settings.models.iter().any(|model| model.positive != by_default);
        let is_odd = OF_TWO[..2].iter().any(|positive| self.0.contains(positive))
            && self.0.iter().any(|value| !OF_TWO.contains(value));
        if !is_odd || is_told || of_others || !is(MetricTable::QualityBinary) {
            return None;
        }
        let values: BTreeSet<_> = self.0.iter().map(|value| value.text(names)).collect();
        let values = listed(values.iter().map(|text| &**text), Self::MOST);
        let more = if self.0.len() == Self::MOST { " and maybe others" } else { "" };
        Some(format!(
            "labels are {values}{more}: 1 and true count as positive, and all others as negative; if that is wrong, name \
             the positive ones in the configuration, [models.\"*\"] positive = [\"2\"]"
        ))
    }
}

impl Folded {
    /// Reads the files. Refused where the records take more memory than the budget.
    fn of(inputs: &Inputs) -> Result<Self, Failure> {
        let settings = Arc::new(inputs.settings.shard.clone());
        let start = Mark::start(PARTITION, Positions::default(), settings.clock_stamps);
        let mut shard = Shard::new(settings, &start);
        let (mut names, mut read) = (Names::default(), [Counts::default(); 2]);
        let (mut duplicates, mut matched, mut records) = (0_u64, 0_u64, 0_u64);
        let mut labels = LabelValues::default();
        for feed in &inputs.feeds {
            let stream = feed.stream;
            read[stream.index()] = inputs.decode(feed, &mut names, |offset, event, names| {
                let at = Arrival { stream, offset: Offset(offset), time: RecordTime(0) };
                if let Event::Label(label) = event {
                    labels.add(label.value);
                }
                match shard.observe(at, event, names) {
                    Outcome::Duplicate => duplicates += 1,
                    // All inferences come before the first label.
                    Outcome::Matched => matched += 1,
                    _ => {}
                }
                records += 1;
                if records.is_multiple_of(WEIGH_EVERY) {
                    weigh(&shard, names, inputs.settings.state_budget_bytes, records)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { shard, names, read, duplicates, matched, labels })
    }

    /// Refuses files without one inference that can be used, and those that `backfill` would refuse.
    fn check(&self, settings: &Settings) -> Result<(), Failure> {
        let [inferences, _] = self.read;
        if inferences.good == 0 {
            let message = format!("no inference can be used: {}", accounts(self.read));
            return Err(Failure::new("report_empty", message));
        }
        let judge = Judge::of_files(settings);
        let mut streams = Stream::BOTH.into_iter().zip(self.read);
        streams.try_for_each(|(stream, counts)| judge.judge(stream, counts))
    }

    /// How many records of each kind the files have.
    fn said(&self, inputs: &Inputs) -> String {
        let mut said = Vec::new();
        for stream in inputs.feeds.iter().map(|feed| feed.stream) {
            let Counts { good, bad, unlabelled, .. } = self.read[stream.index()];
            said.push(format!("{} {}", count(good), stream.name()));
            // Of labels none is: a later one corrects.
            if stream == Stream::Inferences && self.duplicates > 0 {
                said.push(format!("{} of them duplicates", count(self.duplicates)));
            }
            if bad > 0 {
                said.push(format!("{} {} that can't be used", count(bad), stream.name()));
            }
            if unlabelled > 0 {
                said.push(format!("{} rows without a label", count(unlabelled)));
            }
        }
        said.join(", ")
    }

    /// What is odd about the records; `wait` is `windows.label_wait`.
    fn remarks(&self, wait: Millis) -> Vec<String> {
        let [inferences, labels] = self.read;
        let streams = Stream::BOTH.into_iter().zip(self.read);
        let doubts = streams.filter_map(|(stream, counts)| counts.doubt(stream));
        let repeated = repeated(inferences.good, self.duplicates);
        let unmatched = unmatched(labels.good, self.matched, wait);
        repeated.into_iter().chain(unmatched).chain(doubts).collect()
    }
}

/// Refuses what takes more than the budget: all that is read stays in memory until the end.
fn weigh(shard: &Shard, names: &Names, budget: usize, records: u64) -> Result<(), Failure> {
    let of_names = ManyNames { count: names.len(), bytes: names.bytes() };
    let bytes = shard.standing().bytes + of_names.bytes;
    if bytes <= budget {
        return Ok(());
    }
    if of_names.bytes > bytes / 2 {
        return Err(PipelineError::Names { names: of_names, budget }.into());
    }
    let enough = bytes.saturating_mul(2);
    let message = format!(
        "the first {records} records of the files take {bytes} bytes, more than the budget of {budget} bytes: set \
         state.budget (TIDEGAUGE__STATE__BUDGET) to {enough} bytes or more, or take fewer files"
    );
    Err(Failure::new("state_budget_exceeded", message))
}

/// How many records of each kind were read, and how many of them can't be used.
fn accounts(read: [Counts; 2]) -> String {
    let of = |(stream, Counts { good, bad, .. }): (Stream, Counts)| {
        format!("{} {} read, of which {bad} can't be used", good + bad, stream.name())
    };
    Stream::BOTH.into_iter().zip(read).map(of).collect::<Vec<_>>().join("; ")
}

/// Which windows are counted, where they hold more than the time that was asked for.
fn widened(filter: &RowFilter, size: Millis) -> Option<String> {
    let start = filter.since_ms.map(|ms| Window::of(EventTime(ms), size).start.0);
    let end = filter.until_ms.map(|ms| Window::of(EventTime(ms.saturating_sub(1)), size).end.0);
    if (start, end) == (filter.since_ms, filter.until_ms) {
        return None;
    }
    let from = start.map_or_else(String::new, |ms| format!(" from {}", instant(ms)));
    let to = end.map_or_else(String::new, |ms| format!(" to {}", instant(ms)));
    Some(format!("; counted are whole windows of {}{from}{to}", evaluate::grain_name(size)))
}

/// Settings by which all models are compared with the reference of the command line, where there is one.
fn compared(args: &Args, mut settings: Settings) -> Result<Settings, Failure> {
    if args.reference.is_empty() {
        return Ok(settings);
    }
    let profile = Arc::new(reference(args, &settings)?);
    // Models that no pattern fits go by the defaults.
    settings.shard.models.push(ModelSettings::default());
    for model in &mut settings.shard.models {
        model.reference = Some(Arc::clone(&profile));
    }
    Ok(settings)
}

/// The reference of the command line: a profile that was written before, or one of the files' inferences.
fn reference(args: &Args, settings: &Settings) -> Result<Profile, Failure> {
    let found = FileList::find(&args.reference)?;
    if let [file] = found.files()
        && is_document(&file.path)?
    {
        check_alone(args, &file.path)?;
        return document_at(&file.path);
    }
    let (inferences, labels) = (args.reference.clone(), args.reference_labels.clone());
    let wanted = profile::Wanted::new("reference", args.reference_model.clone());
    let files = InputArgs { inferences, labels, cells: args.cells.clone() };
    Ok(profile::of_files(&wanted, settings.clone(), &files)?.built.profile)
}

/// Refuses options that say which records a profile is made of beside one that is made.
fn check_alone(args: &Args, document: &Path) -> Result<(), Failure> {
    let given = [
        ("--reference-labels", !args.reference_labels.is_empty()),
        ("--reference-model", args.reference_model.is_some()),
    ];
    let option = given.into_iter().find(|(_, is_given)| *is_given);
    let Some((option, _)) = option else { return Ok(()) };
    let message = format!(
        "{} is a profile, which is of one model and has what its labels said: leave {option} out, or name the files of \
         inferences with --reference",
        document.display()
    );
    Err(Failure::new("usage", message))
}

/// Whether a file with this name holds a profile, and not records, one on each line. One that is no JSON is taken for a
/// profile, which then says what is wrong.
fn is_document(path: &Path) -> Result<bool, Failure> {
    if !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) {
        return Ok(false);
    }
    let file = BufReader::new(File::open(path).map_err(|error| unreadable(path, &error))?);
    // The first of them says it: there may be many more records than fit into memory.
    let first = serde_json::Deserializer::from_reader(file).into_iter::<serde_json::Value>().next();
    Ok(match first {
        Some(Ok(value)) => crate::profile::is_profile(&value),
        Some(Err(_)) | None => true,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("file_unreadable", format!("can't read {}: {error}", path.display()))
}

/// A profile that was written before.
fn document_at(path: &Path) -> Result<Profile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    crate::profile::read(&text)
        .map_err(|error| Failure::new(error.code(), format!("{}: {error}", path.display())))
}

/// The configuration, and which one it is; files need none.
fn settings(args: &Args) -> Result<(Settings, String), Failure> {
    let file = &args.config.config;
    if file == DEFAULT_CONFIG && !Path::new(file).exists() {
        let settings = Settings::parse("the defaults", FILES_ONLY, &Environment::read())?;
        return Ok((settings, "no configuration".to_owned()));
    }
    let settings = args.config.load().map_err(|mut failure| {
        if file == DEFAULT_CONFIG {
            // Nobody need have asked for it.
            failure.message +=
                "; it is used since it lies in the working folder: name another one with -c, or start elsewhere";
        }
        failure
    })?;
    Ok((settings, format!("configuration: {file}")))
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_report_of_files_says_which_windows_it_counts() {
        let of = |since_ms, until_ms| {
            let filter = RowFilter { since_ms, until_ms, ..RowFilter::default() };
            widened(&filter, Millis(3_600_000))
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(7_200_000), Some(10_800_000)), None, "whole windows");
        let from = "; counted are whole windows of 1h from 1970-01-01T02:00:00.000Z";
        assert_eq!(of(Some(7_200_001), None).as_deref(), Some(from));
        let both = format!("{from} to 1970-01-01T03:00:00.000Z");
        assert_eq!(of(Some(7_200_000), Some(7_200_001)), Some(both));
    }

    /// What comes of files of 3000 inferences, so far apart, each of which predicts a class of its own, where memory is
    /// limited to so many bytes.
    fn folded(step_ms: i64, class: &str, budget: usize) -> Result<Folded, Failure> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        let rows = (0..3000).map(|number| {
            let time = 1_767_571_200_000 + number * step_ms;
            format!("r-{number},fraud,{time},{class}{number}\n")
        });
        let text = format!("request_id,model,timestamp,prediction\n{}", rows.collect::<String>());
        std::fs::write(&path, text).unwrap();
        let mut settings = Settings::parse("t", FILES_ONLY, &Environment::default()).unwrap();
        settings.state_budget_bytes = budget;
        let inferences = vec![path.to_str().unwrap().to_owned()];
        let (labels, cells) = (Vec::new(), CellArgs::default());
        Folded::of(&Inputs::find(settings, &InputArgs { inferences, labels, cells })?)
    }

    #[test]
    fn a_report_of_files_that_are_larger_than_the_budget_is_refused() {
        let hour_ms = 3_600_000;
        assert_eq!(folded(hour_ms, "", 1 << 30).unwrap().read[0].good, 3000);
        let long = "c".repeat(1000);
        // Windows fill the memory, or names do.
        for (step_ms, class, said) in
            [(hour_ms, "", "the first 1024 records"), (1, &*long, "names take")]
        {
            let failure = folded(step_ms, class, 10_000).err().expect("it is refused");
            assert_eq!((failure.code, failure.exit), ("state_budget_exceeded", 1));
            assert!(failure.message.contains(said), "{failure:?}");
            assert!(failure.message.contains("budget of 10000 bytes"), "{failure:?}");
        }
    }

    #[test]
    fn a_report_says_of_which_tables_it_has_not_all_rows() {
        let source = source("a", &["serving", "labels"].map(str::to_owned));
        let report = Report::new(String::new(), source, &[], &References::default());
        let said =
            "Rows of job a; of serving, labels only the newest 200\u{202f}000 rows were read";
        for form in [Form::Html, Form::Markdown, Form::Json] {
            assert!(report.render(form).contains(said), "{form:?}");
        }
        assert_eq!(super::source("a", &[]), "Rows of job a");
    }
}
