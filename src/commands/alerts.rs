//! `tidegauge alerts`: what is open, and whether people can be told.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigFile, Failure, runtime, terminal};
use crate::alerting::{Target, test_message};
use crate::alerts::{AlertRow, State};
use crate::calendar::instant;
use crate::report::precise;
use crate::sink::clickhouse::{AlertJobs, ClickHouse};

/// List open alerts, or send a test notification
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge alerts list -c fraud.toml     the open alerts of the job
  tidegauge alerts list -c fraud.toml --job fraud-nightly-2026-11-27
                                          those of another one
  tidegauge alerts test -c fraud.toml     a test notification to each target")]
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
    /// Owner of the alerts; by default the configured job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
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
    let mut settings = args.config.load()?;
    if let Some(job) = &args.job {
        settings.job.clone_from(job);
    }
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let runtime = runtime()?;
    let rows = runtime.block_on(clickhouse.alerts())?;
    let is_shown = |row: &&AlertRow| args.all || row.alert.state == State::Opened;
    let lines: Vec<_> = rows.iter().filter(is_shown).map(line).collect();
    if lines.is_empty() {
        let state = (!args.all).then_some(State::Opened);
        let others = runtime.block_on(clickhouse.jobs_with_alerts(state))?;
        terminal::note(&format!("job {} {}\n", settings.job, none(args.all, &others)));
    }
    terminal::print(&lines.concat());
    Ok(ExitCode::SUCCESS)
}

/// What is said of a job without alerts: others may have some.
fn none(all: bool, others: &AlertJobs) -> String {
    let (none, some) = if all {
        ("has had no alert yet", "jobs with alerts")
    } else {
        ("has no open alert", "jobs with open alerts")
    };
    match others.in_words() {
        named if named.is_empty() => none.to_owned(),
        named => format!("{none}; {some}: {named}: choose one with --job"),
    }
}

/// One alert; its names come from records.
fn line(row: &AlertRow) -> String {
    let (key, alert) = (&row.key, &row.alert);
    let about = [&*key.model, &key.version, &key.segment, &key.feature];
    let about: Vec<_> = about.into_iter().filter(|part| !part.is_empty()).collect();
    let number = |figure: Option<f64>| figure.map_or("-".to_owned(), precise);
    let said = format!(
        "{:<9}  {}  {}  {}  {} {} = {} (threshold {}, n {})  {}",
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
    );
    terminal::one_line(&said) + "\n"
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
        let said = terminal::one_line(said);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{Alert, AlertKey};
    use crate::engine::state::Version;
    use crate::engine::time::{EventTime, Millis};
    use crate::engine::window::Window;

    #[test]
    fn names_of_records_stay_on_their_line_and_small_figures_are_not_0() {
        let row = AlertRow {
            key: AlertKey {
                rule: "errors".into(),
                model: "fraud\u{1b}[2J\u{9b}1m".into(),
                version: "v1\nresolved  2026-01-05".into(),
                segment: "all".into(),
                feature: "".into(),
                grain: "5m".into(),
            },
            alert: Alert {
                opened: Window::of(EventTime(0), Millis(300_000)),
                state: State::Opened,
                resolved: None,
                value: Some(3e-6),
                lower: None,
                upper: None,
                threshold: Some(0.5),
                n: Some(7),
            },
            metric: "serving.error_rate".into(),
            severity: "warning".into(),
            announced: 1,
            version: Version(1),
        };
        let line = line(&row);
        let expected = "opened     1970-01-01T00:00:00.000Z  errors  fraud [2J 1m / v1 resolved  2026-01-05 / all  \
                        5m serving.error_rate = 3.0000e-6 (threshold 0.50000, n 7)  warning\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn where_a_job_has_no_alerts_those_that_have_some_are_named() {
        assert_eq!(none(false, &AlertJobs::default()), "has no open alert");
        assert_eq!(none(true, &AlertJobs::default()), "has had no alert yet");
        let named = vec![("fraud.files-67e0".to_owned(), 2), ("night".to_owned(), 1)];
        let others = AlertJobs { named, more: 3 };
        let expected = "has no open alert; jobs with open alerts: fraud.files-67e0 (2), night (1), 3 more: choose one \
                        with --job";
        assert_eq!(none(false, &others), expected);
        assert!(none(true, &others).contains("no alert yet; jobs with alerts: fraud.files-67e0"));
    }
}
