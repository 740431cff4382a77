//! `tidegauge dashboards`: writes the files of BI tools anew from the chart definitions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, terminal};
use crate::dashboards::chart::{DefinitionError, Definitions};
use crate::dashboards::{FOLDERS, Files, generate, page_charts, page_link};
use crate::sink::tables::{DEFAULT_DATABASE, Databases};

/// Write the dashboards of Superset, Grafana, Metabase and ClickHouse's own page
///
/// Reads the chart definitions in DIR/dashboards and writes superset/assets, grafana/dashboards, metabase/cards and
/// clickhouse/dashboards beside them. These folders are replaced; repeating it changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge dashboards                      write deploy/ anew after a change
  tidegauge dashboards --database fraud     the same for views in fraud_bi
  tidegauge dashboards --check              only fail where a file differs
  tidegauge dashboards --link http://localhost:8123
                                            links to ClickHouse's own page")]
pub struct Args {
    /// The folder with dashboards/ in it
    #[arg(long, value_name = "DIR", default_value = "deploy")]
    dir: PathBuf,
    /// The database of the tables, as the configuration names it
    #[arg(long, default_value = DEFAULT_DATABASE)]
    database: String,
    /// Write nothing, and fail where a file differs
    #[arg(long, conflicts_with = "link")]
    check: bool,
    /// Print links to the /dashboard page of the ClickHouse at this address instead
    #[arg(long, value_name = "URL")]
    link: Option<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if !Databases::is_name(&args.database) {
        let said = format!("--database {:?}: names are a to z, 0 to 9 and _", args.database);
        return Err(Failure::new("usage", said));
    }
    let database = Databases::of(&args.database).views;
    let definitions = Definitions::read(&args.dir.join("dashboards"))?;
    if let Some(url) = &args.link {
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            let said = format!("--link {url:?}: write it with http:// or https:// before it");
            return Err(Failure::new("usage", said));
        }
        print_links(&definitions, url.trim_end_matches('/'), &database);
        return Ok(ExitCode::SUCCESS);
    }
    let files = generate(&definitions, &database);
    let stale = stale(&args.dir, &files)?;
    if args.check && !stale.is_empty() {
        let first: Vec<_> = stale.iter().take(5).map(String::as_str).collect();
        let said = format!("{} files differ, among them {}", stale.len(), first.join(", "));
        return Err(Failure::new("dashboards_stale", said));
    }
    if !args.check {
        write(&args.dir, &files)?;
    }
    terminal::print(&format!("{} files, {} of them changed\n", files.len(), stale.len()));
    Ok(ExitCode::SUCCESS)
}

fn print_links(definitions: &Definitions, url: &str, database: &str) {
    for dashboard in &definitions.dashboards {
        let charts = page_charts(definitions, &dashboard.name, database);
        let link = page_link(url, "tidegauge_bi", &charts);
        terminal::print(&format!("{}\n{link}\n", dashboard.title));
    }
}

/// Files that are not as they should be, or should not be there.
pub fn stale(dir: &Path, files: &Files) -> Result<Vec<String>, DefinitionError> {
    let mut stale: Vec<_> = files
        .iter()
        .filter(|(path, text)| fs::read_to_string(dir.join(path)).ok().as_ref() != Some(*text))
        .map(|(path, _)| path.clone())
        .collect();
    for folder in FOLDERS {
        stale.extend(found(&dir.join(folder))?.into_iter().filter_map(|path| {
            let name = path.strip_prefix(dir).ok()?.to_string_lossy().into_owned();
            (!files.contains_key(&name)).then_some(name)
        }));
    }
    Ok(stale)
}

/// All files of a folder and of those in it; none where it is not there.
fn found(folder: &Path) -> Result<Vec<PathBuf>, DefinitionError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let unread = |source| DefinitionError::Unread { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.is_dir() {
            files.extend(found(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn write(dir: &Path, files: &Files) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new("dashboards_unwritten", format!("can't write {}: {error}", path.display()))
    };
    for folder in FOLDERS.map(|folder| dir.join(folder)).iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).map_err(|error| failed(folder, error))?;
    }
    for (path, text) in files {
        let path = dir.join(path);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
