//! The definitions: `dashboards.toml` and one file for each chart in `charts/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sql;

/// One chart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// The file's name without `.toml`: `[a-z0-9-]`.
    #[serde(skip)]
    pub name: String,
    /// Stands above it.
    pub title: String,
    /// The dashboard that shows it.
    pub dashboard: String,
    /// Its tab there: all charts of a dashboard have one, or none has.
    #[serde(default)]
    pub tab: Option<String>,
    /// How it is drawn, and so which columns its SQL gives.
    pub kind: Kind,
    /// Of the column `value`.
    pub unit: Unit,
    /// In twelfths of the page.
    pub width: u32,
    /// In rows of 30 pixels.
    #[serde(default = "usual_height")]
    pub height: u32,
    /// What it says, in a sentence or two, for whoever sees it for the first time.
    pub about: String,
    /// Lines to compare with, ascending.
    #[serde(default)]
    pub thresholds: Vec<Threshold>,
    /// The greatest value that can be, where axes end; none: they end where the values do.
    #[serde(default)]
    pub max: Option<f64>,
    /// Of a table: all columns, in order, with their units.
    #[serde(default)]
    pub columns: Vec<(String, Unit)>,
    /// One SELECT with the placeholders of [`sql`].
    pub sql: String,
}

fn usual_height() -> u32 {
    8
}

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One row: `value`.
    Number,
    /// `time`, `series`, `value`.
    Lines,
    /// The same; of each series also ` lower` and ` upper`, the limits of its interval.
    Band,
    /// As lines, one above the other.
    Stacked,
    /// `category`, `value`.
    Bars,
    /// `time`, `bucket`, `value`.
    Heatmap,
    /// `x`, `series`, `value`: lines over a number.
    Curve,
    /// Any columns, named in `columns`.
    Table,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// Things for each second.
    PerSecond,
    /// 0 to 1, shown as percent.
    Ratio,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// A number without a unit.
    Figure,
    /// An instant.
    Time,
    /// No number.
    Text,
}

/// A line to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Where.
    pub at: f64,
    /// What it means to be above it.
    pub level: Level,
}

/// What it means to be above a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing: it is only drawn.
    Line,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Bad,
}

/// One dashboard.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Its key in the file: `[a-z0-9_]`.
    #[serde(skip)]
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it is for.
    pub about: String,
    /// Whether it opens with one model chosen, not with all.
    #[serde(default)]
    pub one_model: bool,
}

/// All dashboards and charts.
#[derive(Clone, Debug)]
pub struct Definitions {
    /// In the order of their names.
    pub dashboards: Vec<Dashboard>,
    /// In the order of their names.
    pub charts: Vec<Chart>,
}

/// Why the definitions can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A file or folder is not there.
    #[error("can't read {}: {source}", path.display())]
    Unread {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file says something that can't be.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What.
        what: String,
    },
}

impl DefinitionError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unread { .. } => "dashboards_unread",
            Self::Wrong { .. } => "dashboards_wrong",
        }
    }
}

impl Kind {
    /// The columns of its SQL; empty for a table, which names its own.
    pub fn columns(self) -> &'static [(&'static str, Unit)] {
        match self {
            Self::Number => &[("value", Unit::Figure)],
            Self::Lines | Self::Band | Self::Stacked => {
                &[("time", Unit::Time), ("series", Unit::Text), ("value", Unit::Figure)]
            }
            Self::Bars => &[("category", Unit::Text), ("value", Unit::Figure)],
            Self::Heatmap => {
                &[("time", Unit::Time), ("bucket", Unit::Text), ("value", Unit::Figure)]
            }
            Self::Curve => &[("x", Unit::Figure), ("series", Unit::Text), ("value", Unit::Figure)],
            Self::Table => &[],
        }
    }

    /// Whether it is drawn over time.
    pub fn over_time(self) -> bool {
        matches!(self, Self::Lines | Self::Band | Self::Stacked | Self::Heatmap)
    }
}

impl Chart {
    /// The columns of its SQL in order, with their units.
    pub fn all_columns(&self) -> Vec<(String, Unit)> {
        let fixed = self.kind.columns().iter();
        let own = |(name, unit): &(&str, Unit)| {
            let unit = if *name == "value" { self.unit } else { *unit };
            ((*name).to_owned(), unit)
        };
        fixed.map(own).chain(self.columns.iter().cloned()).collect()
    }

    fn check(&self, dashboards: &[Dashboard]) -> Result<(), String> {
        let name_is_plain =
            self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_is_plain {
            return Err("the file's name may hold a to z, 0 to 9 and - only".to_owned());
        }
        if !dashboards.iter().any(|dashboard| dashboard.name == self.dashboard) {
            let named = &self.dashboard;
            return Err(format!("dashboard {named:?} is not in dashboards.toml"));
        }
        if !(1..=12).contains(&self.width) || !(2..=30).contains(&self.height) {
            return Err("width is 1 to 12 twelfths, height 2 to 30 rows".to_owned());
        }
        if (self.kind == Kind::Table) == self.columns.is_empty() {
            return Err("a table, and nothing else, names its columns in `columns`".to_owned());
        }
        if !self.thresholds.is_sorted_by(|a, b| a.at < b.at) {
            return Err("thresholds ascend".to_owned());
        }
        sql::check(&self.sql)
    }
}

impl Definitions {
    /// Reads and checks a folder.
    pub fn read(folder: &Path) -> Result<Self, DefinitionError> {
        let path = folder.join("dashboards.toml");
        let named: BTreeMap<String, Dashboard> = parse(&path)?;
        let dashboards: Vec<_> =
            named.into_iter().map(|(name, dashboard)| Dashboard { name, ..dashboard }).collect();
        let charts_folder = folder.join("charts");
        let unread = |source| DefinitionError::Unread { path: charts_folder.clone(), source };
        let entries = fs::read_dir(&charts_folder).map_err(unread)?;
        let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(unread)?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        let mut charts = Vec::new();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let chart = Chart { name, ..parse(&path)? };
            if let Err(what) = chart.check(&dashboards) {
                return Err(DefinitionError::Wrong { path, what });
            }
            charts.push(chart);
        }
        let definitions = Self { dashboards, charts };
        for dashboard in &definitions.dashboards {
            if let Some(chart) = out_of_its_tab(&definitions.of(&dashboard.name)) {
                let path = charts_folder.join(format!("{}.toml", chart.name));
                let what = "all charts of a dashboard have a `tab` or none has, and those of one follow each other"
                    .to_owned();
                return Err(DefinitionError::Wrong { path, what });
            }
        }
        Ok(definitions)
    }

    /// The charts of one dashboard, in order.
    pub fn of(&self, dashboard: &str) -> Vec<&Chart> {
        self.charts.iter().filter(|chart| chart.dashboard == dashboard).collect()
    }
}

/// The first chart that stands apart from the others of its tab, or is the first with or without one.
fn out_of_its_tab<'a>(charts: &[&'a Chart]) -> Option<&'a Chart> {
    let mut seen: Vec<&Option<String>> = Vec::new();
    for &chart in charts {
        let is_apart = seen.contains(&&chart.tab) && seen.last() != Some(&&chart.tab);
        if is_apart || seen.last().is_some_and(|last| last.is_some() != chart.tab.is_some()) {
            return Some(chart);
        }
        seen.push(&chart.tab);
    }
    None
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, DefinitionError> {
    let text = fs::read_to_string(path)
        .map_err(|source| DefinitionError::Unread { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| DefinitionError::Wrong { path: path.to_owned(), what: error.to_string() })
}
