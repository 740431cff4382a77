//! `tidegauge init`: creates or brings forward the tables and BI views.

use std::path::Path;
use std::process::ExitCode;

use super::{ConfigFile, Failure, runtime, terminal};
use crate::sink::clickhouse::{ClickHouse, print};
use crate::sink::tables::{DEFAULT_DATABASE, Engine};

/// Create or bring forward the tables and BI views
///
/// Repeating it does nothing. Needs a ClickHouse user who may create databases, tables and views; `run` needs less.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge init -c fraud.toml           do it
  tidegauge init -c fraud.toml --print   the SQL alone, to be run by others
  tidegauge init --print > tables.sql    the same, without a configuration")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Only show the SQL
    #[arg(long)]
    print: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let is_default = args.config.config == "tidegauge.toml";
    if args.print && is_default && !Path::new(&args.config.config).exists() {
        terminal::print(&print(DEFAULT_DATABASE, &Engine::Plain));
        return Ok(ExitCode::SUCCESS);
    }
    let settings = args.config.load()?;
    if args.print {
        let database = &settings.clickhouse;
        terminal::print(&print(&database.database, &database.engine));
        return Ok(ExitCode::SUCCESS);
    }
    let migrated = runtime()?.block_on(ClickHouse::new(settings.clickhouse()).init())?;
    for line in &migrated.done {
        terminal::print(&format!("{line}\n"));
    }
    if migrated.done.is_empty() {
        terminal::print("nothing to do: all tables and views are those of this version\n");
    }
    Ok(ExitCode::SUCCESS)
}
