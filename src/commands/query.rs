//! `tidegauge query`: metric rows for people and notebooks, from ClickHouse or from files alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use serde_json::Value as Json;

use super::computed::{Computed, FileArgs, grain_named, of_no_files, tell};
use super::inputs::listed;
use super::select::SelectArgs;
use super::{ConfigFile, Failure, output, parquet, runtime, terminal};
use crate::calendar::instant;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::Kind;
use crate::evaluate::WHOLE;
use crate::report::{Row, precise};
use crate::sink::clickhouse::{ClickHouse, Jobs};

/// The columns that stand before the figures.
const KEYS: [&str; 6] = ["window_start", "window_end", "grain", "model", "version", "segment"];
/// The columns that stand behind them.
const REST: [&str; 2] = ["undefined", "sealed"];
/// Of all these a table shows, before the figures, unless columns are named.
const SHORT_KEYS: [&str; 5] = ["window_start", "model", "version", "segment", "sealed"];
/// Figures that a table shows, unless columns are named.
const SHORT_FIGURES: usize = 8;

/// Print metric rows from ClickHouse, or of files, as a table, CSV, JSON Lines or Parquet
///
/// One row for each window of a grain, model, version and segment: the newest rows of the configured job, oldest
/// first. A figure that is undefined is empty (null in JSON and Parquet); column `undefined` says why. Where `sealed` is
/// true (1 in Parquet), nothing can change the row any more.
///
/// With --inferences the rows are those of files, read as `report` reads them: no service, and no configuration unless
/// -c names one or a tidegauge.toml lies in the working folder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge query quality_binary --model 'fraud-*' --since 1d
  tidegauge query quality_binary --since 7d --grain 1d \\
      --columns window_start,n,auroc,auroc_lower,auroc_upper
  tidegauge query labels --segment '*' --format csv > labels.csv
  tidegauge query drift --since 30d --limit 1000000 -o drift.parquet
  tidegauge query serving --since 2026-11-01 --until 2026-12-01 \\
      --format jsonl | jq .error_rate
  tidegauge query quality_binary --inferences a.parquet --labels b.csv
  tidegauge query drift --inferences june.parquet --reference may.parquet \\
      --grain 1d -o drift.csv

In a notebook:
  import io, subprocess
  import pandas as pd
  rows = subprocess.run(
      ['tidegauge', 'query', 'serving', '--format', 'jsonl'],
      capture_output=True, text=True, check=True).stdout
  frame = pd.read_json(io.StringIO(rows), lines=True)

CSV has names as records have them: a spreadsheet takes a cell that begins with =, +, - or @ for a formula, so have it \
import these columns as text.

What every column means: `tidegauge init --print`, or the comments of the views in ClickHouse.")]
pub struct Args {
    /// The table
    #[arg(value_parser = PossibleValuesParser::new(MetricTable::ALL.map(MetricTable::name)))]
    table: String,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Only this segment, like region=eu; `*` stands for any text
    #[arg(long, value_name = "GLOB", default_value = "all")]
    segment: String,
    /// Only windows of this length, like 5m, 1h or 1d; by default the base windows, and of files `all`, the whole time
    #[arg(long, value_name = "GRAIN")]
    grain: Option<String>,
    /// Which columns, in this order; by default all (in a table those of most use)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Where to; the end of its name says the format. By default standard output
    #[arg(short, long, value_name = "FILE", value_parser = terminal::file)]
    output: Option<PathBuf>,
    /// The format, where the name does not say it; by default a table
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The most rows, the newest ones; standard error says where there may be more
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Jsonl,
    Parquet,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let table = MetricTable::named(&args.table).expect("the parser knows the names");
    let format = format(args)?;
    let columns = columns(table, args, format)?;
    output::check(args.output.as_deref())?;
    let rows =
        if args.files.inferences.is_empty() { stored(args, table)? } else { computed(args)? };
    if let Some(said) = cut(rows.len(), args.limit) {
        terminal::note(&said);
    }
    let all = |cell: fn(&Row, &str) -> Json| -> Vec<Vec<Json>> {
        rows.iter().map(|row| columns.iter().map(|name| cell(row, name)).collect()).collect()
    };
    let bytes = match format {
        Format::Table => in_table(&columns, &all(cell)).into_bytes(),
        Format::Csv => in_csv(&columns, &all(cell))?.into_bytes(),
        Format::Jsonl => in_lines(&columns, &all(cell)).into_bytes(),
        Format::Parquet => {
            let kinds = columns.iter().map(|name| (name.clone(), kind(table, name)));
            parquet::file(&kinds.collect::<Vec<_>>(), &all(raw))?
        }
    };
    output::write(args.output.as_deref(), &bytes)?;
    Ok(ExitCode::SUCCESS)
}

/// The newest rows of the job, oldest first.
fn stored(args: &Args, table: MetricTable) -> Result<Vec<Row>, Failure> {
    let mut settings = args.config.load().map_err(of_no_files)?;
    if let Some(job) = &args.select.job {
        settings.job.clone_from(job);
    }
    let base = || crate::evaluate::grain_name(settings.shard.window);
    let grain = args.grain.as_deref().map_or_else(base, grain_named);
    let filter = args.select.filter(&args.segment, Some(grain.clone()), args.limit)?;
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let runtime = runtime()?;
    let rows = runtime.block_on(clickhouse.metric_rows(table, &filter))?;
    if rows.is_empty() {
        let jobs = runtime.block_on(clickhouse.jobs())?;
        let hint = instead(&jobs, "--model, --version, --segment, --since, --until and --grain");
        let (job, table) = (&settings.job, &args.table);
        terminal::note(&format!("no rows of job {job} and grain {grain} in {table}{hint}\n"));
    }
    Ok(rows)
}

/// The newest rows of files, oldest first.
fn computed(args: &Args) -> Result<Vec<Row>, Failure> {
    args.files.check_output(args.output.as_deref())?;
    let grain = args.grain.as_deref().map_or_else(|| WHOLE.to_owned(), grain_named);
    let computed =
        Computed::of(&args.files, &args.config, &args.select, &args.segment, Some(&grain))?;
    let Computed { mut rows, remarks, .. } = computed;
    tell(&rows, &remarks);
    rows.retain(|row| row.grain == grain);
    let others: BTreeSet<String> = rows.iter().map(|row| row.table.clone()).collect();
    rows.retain(|row| row.table == args.table);
    if rows.is_empty() {
        let others = listed(others.iter().map(String::as_str), others.len());
        terminal::note(&format!(
            "the files have no rows in {}: they have some in {others}\n",
            args.table
        ));
    }
    // As those that are stored; rows of one key are in order.
    let order =
        |row: &Row| (row.start_ms, row.model.clone(), row.version.clone(), row.segment.clone());
    rows.sort_by_cached_key(order);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    Ok(rows.split_off(rows.len().saturating_sub(limit)))
}

/// What is said where the limit may have left rows out.
fn cut(rows: usize, limit: u32) -> Option<String> {
    usize::try_from(limit).is_ok_and(|limit| rows >= limit).then(|| {
        format!("only the newest {limit} rows: there may be more, which a greater --limit shows\n")
    })
}

/// What is behind `no rows of job …`: where there are some, and which options choose others.
pub(super) fn instead(jobs: &Jobs, options: &str) -> String {
    let named = jobs.named();
    match (jobs.has_own, named.is_empty()) {
        (true, true) => format!(": look at {options}"),
        (true, false) => {
            format!(": look at {options}; other jobs with rows: {named}: choose one with --job")
        }
        (false, false) => format!("; jobs with rows: {named}: choose one with --job"),
        (false, true) => {
            "; no job has rows: `tidegauge run` and `tidegauge backfill` write them".to_owned()
        }
    }
}

fn format(args: &Args) -> Result<Format, Failure> {
    let extension = args.output.as_deref().and_then(Path::extension);
    let usage = |message: &str| Failure::new("usage", message.to_owned());
    match (args.format, extension.and_then(|extension| extension.to_str())) {
        (Some(Format::Parquet), _) if args.output.is_none() => {
            Err(usage("Parquet is for a file: name it with `--output FILE`"))
        }
        (Some(format), _) => Ok(format),
        (None, Some("parquet" | "pq")) => Ok(Format::Parquet),
        (None, Some("csv")) => Ok(Format::Csv),
        (None, Some("jsonl" | "ndjson")) => Ok(Format::Jsonl),
        (None, Some("txt")) => Ok(Format::Table),
        (None, _) if args.output.is_none() => Ok(Format::Table),
        (None, _) => Err(usage(
            "the output's name ends in none of .parquet, .csv, .jsonl, .txt: say --format",
        )),
    }
}

/// The columns that are shown.
fn columns(table: MetricTable, args: &Args, format: Format) -> Result<Vec<String>, Failure> {
    let figures = || table.columns().iter().map(|column| column.name);
    let all = || KEYS.into_iter().chain(figures()).chain(REST);
    if let Some(unknown) = args.columns.iter().find(|name| all().all(|known| known != *name)) {
        let known: Vec<&str> = all().collect();
        let message =
            format!("{} has no column `{unknown}`: it has {}", args.table, known.join(", "));
        return Err(Failure::new("usage", message));
    }
    if !args.columns.is_empty() {
        return Ok(args.columns.clone());
    }
    let names: Vec<&str> = match format {
        Format::Table => {
            let short = figures().filter(|name| !table.is_limit(name)).take(SHORT_FIGURES);
            let short: Vec<&str> = SHORT_KEYS.into_iter().chain(short).collect();
            let headlines = figures().filter(|name| ["accuracy", "auroc"].contains(name));
            let more: Vec<&str> = headlines.filter(|name| !short.contains(name)).collect();
            [short, more].concat()
        }
        Format::Csv | Format::Jsonl | Format::Parquet => all().collect(),
    };
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// What a column holds.
fn kind(table: MetricTable, column: &str) -> Kind {
    match column {
        "window_start" | "window_end" => Kind::Time,
        "sealed" => Kind::Count,
        name => table.columns().iter().find(|c| c.name == name).map_or(Kind::Text, |c| c.kind),
    }
}

/// A cell as people read it: times are instants.
fn cell(row: &Row, column: &str) -> Json {
    match column {
        "window_start" | "window_end" | "latest_event_time" => {
            raw(row, column).as_i64().map_or(Json::Null, |time| instant(time).into())
        }
        "sealed" => row.values.get(column).cloned().unwrap_or_default(),
        other => raw(row, other),
    }
}

/// A cell as it is stored: times are milliseconds since 1970-01-01 UTC, what is true is 1.
fn raw(row: &Row, column: &str) -> Json {
    match column {
        "window_start" => row.start_ms.into(),
        "window_end" => row.end_ms.into(),
        "grain" => row.grain.clone().into(),
        "model" => row.model.clone().into(),
        "version" => row.version.clone().into(),
        "segment" => row.segment.clone().into(),
        "undefined" => row.undefined.clone().into(),
        "sealed" => row.values.get(column).and_then(Json::as_bool).map(u8::from).into(),
        figure => row.values.get(figure).cloned().unwrap_or_default(),
    }
}

/// A cell without quotes; nothing for null.
fn plain(cell: &Json) -> String {
    match cell {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn in_table(columns: &[String], cells: &[Vec<Json>]) -> String {
    let short = |cell: &Json| match cell {
        Json::Number(number) if number.is_f64() => precise(number.as_f64().unwrap_or_default()),
        // Names come from records.
        other => terminal::one_line(&plain(other)),
    };
    let lines: Vec<Vec<String>> = cells.iter().map(|row| row.iter().map(short).collect()).collect();
    let width = |i: usize| {
        let cells = lines.iter().map(|line| line[i].chars().count());
        cells.chain([columns[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let is_number = |i: usize| cells.iter().any(|row| row[i].is_number());
    let mut text = String::new();
    for line in std::iter::once(columns).chain(lines.iter().map(Vec::as_slice)) {
        let padded = line.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
            if is_number(i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let padded: Vec<String> = padded.collect();
        writeln!(text, "{}", padded.join("  ").trim_end()).expect("a String takes all");
    }
    text
}

fn in_csv(columns: &[String], cells: &[Vec<Json>]) -> Result<String, Failure> {
    let failed = |error: csv::Error| Failure::new("runtime", format!("can't write CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns).map_err(failed)?;
    for row in cells {
        writer.write_record(row.iter().map(plain)).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    Ok(String::from_utf8(bytes).expect("all cells are text"))
}

fn in_lines(columns: &[String], cells: &[Vec<Json>]) -> String {
    let mut text = String::new();
    for row in cells {
        let entries = columns.iter().zip(row);
        let entries = entries.map(|(name, cell)| format!("{}:{cell}", Json::from(name.as_str())));
        let entries: Vec<String> = entries.collect();
        writeln!(text, "{{{}}}", entries.join(",")).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Query {
        #[command(flatten)]
        args: Args,
    }

    fn row(sealed: bool) -> Row {
        let values = json!({"inferences": 7, "error_rate": null, "sealed": sealed});
        Row {
            table: "serving".to_owned(),
            model: "m".to_owned(),
            version: String::new(),
            segment: "all".to_owned(),
            grain: "1h".to_owned(),
            start_ms: 0,
            end_ms: 3_600_000,
            undefined: "error_rate=no_inferences".to_owned(),
            values: values.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn every_form_says_whether_a_row_is_sealed() {
        let Query { args } = Query::parse_from(["query", "serving"]);
        let of = |form| columns(MetricTable::Serving, &args, form).unwrap();
        assert_eq!(of(Format::Table)[..5], SHORT_KEYS);
        for form in [Format::Csv, Format::Jsonl, Format::Parquet] {
            assert!(of(form).ends_with(&REST.map(str::to_owned)), "{form:?}");
        }
        let names = ["window_start", "inferences", "sealed"].map(str::to_owned);
        let shown = |cell: fn(&Row, &str) -> Json| -> Vec<Vec<Json>> {
            let of = |row: &Row| names.iter().map(|name| cell(row, name)).collect::<Vec<_>>();
            [row(true), row(false)].iter().map(of).collect()
        };
        let lines = in_lines(&names, &shown(cell));
        let first = r#"{"window_start":"1970-01-01T00:00:00.000Z","inferences":7,"sealed":true}"#;
        assert_eq!(lines.lines().next(), Some(first));
        let table = in_table(&names, &shown(cell));
        assert!(table.lines().last().is_some_and(|line| line.ends_with("7  false")), "{table}");
        assert_eq!(kind(MetricTable::Serving, "sealed"), Kind::Count);
        let raw = shown(raw);
        assert_eq!([&raw[0][2], &raw[1][2]], [&json!(1), &json!(0)]);
    }

    #[test]
    fn a_table_shows_small_figures_and_lets_no_name_steer_the_terminal() {
        let names = ["model", "value"].map(str::to_owned);
        let rows = [
            vec![json!("fraud\u{1b}[2J\u{7f}\nnext"), json!(3e-6)],
            vec![json!("é"), json!(0.5)],
            vec![json!("b"), json!(0.0)],
        ];
        let expected = "model                value\n\
                        fraud [2J  next  3.0000e-6\n\
                        é                  0.50000\n\
                        b                  0.00000\n";
        assert_eq!(in_table(&names, &rows), expected);
    }

    #[test]
    fn a_table_shows_figures_without_their_limits_and_bins_with_their_edges() {
        let shown = |table: &str| {
            let Query { args } = Query::parse_from(["query", table]);
            columns(MetricTable::named(table).unwrap(), &args, Format::Table).unwrap()
        };
        let bins = shown("calibration_bins");
        assert_eq!(bins[5..8], ["bin", "bin_lower", "bin_upper"]);
        assert!(bins.iter().all(|name| name != "positive_rate_lower"), "{bins:?}");
        let quality = shown("quality_binary");
        assert!(quality.iter().all(|name| !name.ends_with("_lower")), "{quality:?}");
    }

    #[test]
    fn rows_that_a_limit_may_have_left_out_are_told() {
        assert_eq!(cut(999, 1000), None);
        let said = cut(1000, 1000).unwrap();
        assert!(said.contains("only the newest 1000 rows") && said.contains("--limit"), "{said}");
        let limit = |given| Query::try_parse_from(["query", "serving", "--limit", given]);
        assert_eq!(limit("1").map(|Query { args }| args.limit).ok(), Some(1));
        assert!(limit("0").is_err_and(|error| error.to_string().contains("1..")), "no row at all");
    }

    #[test]
    fn where_a_job_has_no_rows_those_that_have_some_are_named() {
        let others = vec![("fraud.files-67e0".to_owned(), 1_767_916_800_000)];
        let jobs = Jobs { others, ..Jobs::default() };
        let expected =
            "; jobs with rows: fraud.files-67e0 (newest window 2026-01-09): choose one with --job";
        assert_eq!(instead(&jobs, "--since"), expected);
        let of = |has_own| instead(&Jobs { has_own, ..Jobs::default() }, "--since");
        assert_eq!(of(true), ": look at --since");
        assert!(of(false).starts_with("; no job has rows"));
        let both = instead(&Jobs { has_own: true, ..jobs }, "--since");
        assert!(both.starts_with(": look at --since; other jobs with rows: fraud."), "{both}");
    }
}
