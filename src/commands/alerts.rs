//! `tidegauge alerts`: what is open, and whether people can be told.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigFile, Failure, runtime, terminal};
use crate::alerting::{Target, test_message};
use crate::alerts::{AlertRow, State};
use crate::calendar::instant;
use crate::sink::clickhouse::ClickHouse;

/// List open alerts, or send a test notification
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge alerts list -c fraud.toml     the open alerts of the job
  tidegauge alerts test -c fraud.toml     one test notification to each [[notify]] target, and what it answers")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the open alerts of the job, the oldest first
    List(ListArgs),
    /// Send one test notification to each target and say what it answers
    Test(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Resolved and retracted ones too
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Test(config) => test(config),
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let rows = runtime()?.block_on(clickhouse.alerts())?;
    let is_shown = |row: &&AlertRow| args.all || row.alert.state == State::Opened;
    let lines: Vec<_> = rows.iter().filter(is_shown).map(line).collect();
    if lines.is_empty() {
        let said = if args.all { "has had no alert yet" } else { "has no open alert" };
        terminal::note(&format!("job {} {said}\n", settings.job));
    }
    terminal::print(&lines.concat());
    Ok(ExitCode::SUCCESS)
}

fn line(row: &AlertRow) -> String {
    let (key, alert) = (&row.key, &row.alert);
    let about = [&*key.model, &key.version, &key.segment, &key.feature];
    let about: Vec<_> = about.into_iter().filter(|part| !part.is_empty()).collect();
    let number = |figure: Option<f64>| figure.map_or("-".to_owned(), |x| format!("{x:.5}"));
    format!(
        "{:<9}  {}  {}  {}  {} {} = {} (threshold {}, n {})  {}\n",
        alert.state.name(),
        instant(alert.opened.start.0),
        key.rule,
        about.join(" / "),
        key.grain,
        row.metric,
        number(alert.value),
        number(alert.threshold),
        alert.n.map_or("-".to_owned(), |n| n.to_string()),
        row.severity,
    )
}

fn test(config: &ConfigFile) -> Result<ExitCode, Failure> {
    let settings = config.load()?;
    if settings.targets.is_empty() {
        let said = "the configuration has no `[[notify]]`, so nobody is told of alerts";
        return Err(Failure::new("usage", said.to_owned()));
    }
    let runtime = runtime()?;
    let now_ms = terminal::now_ms();
    let key = format!("test-{}-{now_ms}", settings.job);
    let message = test_message(&settings.job, &key, now_ms);
    let (mut text, mut failed) = (String::new(), Vec::new());
    for settings in &settings.targets {
        let answer = match Target::new(settings) {
            Ok(target) => runtime.block_on(target.send(&message)).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (Ok(said) | Err(said)) = &answer;
        let verdict = if answer.is_ok() { "ok" } else { "failed" };
        writeln!(text, "{verdict:<6}  {}  {said}", settings.name).expect("a String takes all");
        if answer.is_err() {
            failed.push(settings.name.as_str());
        }
    }
    terminal::print(&text);
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new("notify_failed", format!("not told: {}", failed.join(", "))))
}
