//! The command line: one file for each subcommand. Settings in, parts wired, exit code out.

pub mod codes;
pub mod terminal;
pub mod alerts;
pub mod check;
pub mod dashboards;
pub mod demo;
pub mod init;
mod guard;
mod processor;
mod inputs;
mod ranges;
mod file_job;
mod topic_job;
mod done;
mod watch;
mod select;
mod parquet;
mod output;
pub mod backfill;
pub mod profile;
mod folded;
mod computed;
pub mod query;
pub mod rebuild;
pub mod report;
pub mod run;
pub mod serve;
pub mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Settings};
pub use codes::Failure;

const EXAMPLES: &str = "\
Examples:
  tidegauge demo                         see it work: needs no service
  tidegauge init -c fraud.toml           create or renew tables and BI views
  tidegauge check -c fraud.toml          look at all before the first start
  tidegauge run -c fraud.toml            measure, in any number of instances
  tidegauge run -c fraud.toml --until-end
                                         measure what the topics hold now
  tidegauge backfill -c fraud.toml --inferences 'history/*.parquet' \\
      --labels labels.csv                the same rows from files
  tidegauge backfill -c fraud.toml --topics --from 2026-01-01 --to 2026-02-01
                                         the same rows from the topics
  tidegauge profile -c fraud.toml --name fraud-2026-01 \\
      --inferences 'january/*.parquet'   what drift is measured against
  tidegauge report --inferences a.parquet --labels b.csv -o report.html
                                         one page about files, no service
  tidegauge query quality_binary --since 1d
                                         metric rows, as a table or a file
  tidegauge rebuild -c fraud.toml        metric rows anew, from the states
  tidegauge alerts test -c fraud.toml    a test notification to every target
  tidegauge serve -c fraud.toml          web pages about all models, live
  tidegauge simulate --create-topics     traffic to try things on
  tidegauge dashboards                   write the files of BI tools anew

Every option of the file can be set from the environment: TIDEGAUGE__CLICKHOUSE__URL sets clickhouse.url.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused, 130 interrupted.";

/// Measures machine-learning models from their inference and label topics.
///
/// Tidegauge reads inferences and labels from two Kafka topics, joins them by request ID inside event-time windows,
/// computes the metrics of each model, and keeps the rows in ClickHouse right while labels arrive.
#[derive(Debug, Parser)]
#[command(name = "tidegauge", version, after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Alerts(alerts::Args),
    Check(check::Args),
    Dashboards(dashboards::Args),
    Demo(demo::Args),
    Init(init::Args),
    Run(run::Args),
    Backfill(Box<backfill::Args>),
    Profile(Box<profile::Args>),
    Query(Box<query::Args>),
    Rebuild(Box<rebuild::Args>),
    Report(Box<report::Args>),
    Serve(serve::Args),
    Simulate(Box<simulate::Args>),
}

/// Which configuration to use.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "tidegauge.toml")]
    pub config: String,
}

impl ConfigFile {
    /// Reads and checks it.
    pub fn load(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(&self.config, &Environment::read())?)
    }
}

/// Parses the arguments, runs one command and prints what went wrong, with its code and remedy.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Alerts(args) => alerts::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Backfill(args) => backfill::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    };
    match done.and_then(|exit| terminal::check_written().map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit)
        }
    }
}

/// The runtime of the edges: writer, endpoints, registry. Nothing of the data path runs on it.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Only the first call of a process installs it; whoever comes later finds the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("runtime", format!("can't start threads: {error}")))
}
