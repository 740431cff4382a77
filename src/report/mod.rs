//! Metric rows to a report for people: HTML, Markdown or JSON. Pure.
//!
//! A report is a list of models, each with sections, each with blocks. What a section shows is one function in
//! `sections`; how a block looks is one function for each form. So a new section needs no look at the forms.
#![warn(missing_docs)]

pub mod rows;
mod text;
mod spread;
mod classes;
mod sections;
mod feature;
mod svg;
mod html;
mod markdown;

use serde::Serialize;
use serde_json::Number;

pub use rows::{References, Row, odd_labels};
pub use spread::{CategoryShare, Quantiles, Shares, Spread};
pub use text::{count, left_out};

pub(crate) use feature::{Verdict, of_feature, verdicts};
pub(crate) use html::{STYLE, section};
pub(crate) use sections::headlines;
pub(crate) use svg::{Sparkline, sparkline};
pub(crate) use text::{FEATURE, is_kind, number, precise, share, shown_name};

/// A whole report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What it is about.
    pub title: String,
    /// Where the rows come from, in words.
    pub source: String,
    /// The grain of its charts.
    pub grain: String,
    /// The summaries of all models, where there are several.
    pub overview: Option<Grid>,
    /// One for each model and version, by name.
    pub models: Vec<ModelReport>,
    /// How the figures are made.
    pub methods: Vec<String>,
}

/// What is known of one model and version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelReport {
    /// The model.
    pub model: String,
    /// Its version, often empty.
    pub version: String,
    /// The most important first.
    pub sections: Vec<Section>,
}

impl ModelReport {
    /// The model and its version.
    pub fn name(&self) -> String {
        if self.version.is_empty() {
            self.model.clone()
        } else {
            format!("{}, version {}", self.model, self.version)
        }
    }
}

/// One heading and what stands below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What stands below it.
    pub blocks: Vec<Block>,
}

/// One thing to show.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Figures that stand beside each other.
    Facts(Vec<Fact>),
    /// A table.
    Table(Grid),
    /// A figure over time.
    Chart(Chart),
    /// What scores promise against what labels say.
    Reliability(Vec<Bin>),
    /// How numbers lie, beside those of the reference.
    Spread(Spread),
    /// Shares of categories, beside those of the reference.
    Shares(Shares),
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value, or why there is none.
    pub value: String,
    /// Its interval or what it was computed from; may be empty.
    pub note: String,
    /// The same for programs.
    #[serde(flatten)]
    pub figure: Figure,
}

/// The numbers behind a text; none where there is no such number.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// The figure or count.
    pub number: Option<Number>,
    /// Lower limit of its 95 % interval.
    pub lower: Option<f64>,
    /// Upper limit of its 95 % interval.
    pub upper: Option<f64>,
    /// Records that it was computed from.
    pub n: Option<u64>,
}

/// A table of texts; the first column names the row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// The headings.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// The numbers behind the texts, each at the place of its text; none where that is no figure.
    pub figures: Vec<Vec<Option<Figure>>>,
}

/// One place of a table: its text, and the numbers behind it where it is a figure.
type Cell = (String, Option<Figure>);

impl Grid {
    fn new(header: Vec<String>, cells: Vec<Vec<Cell>>) -> Self {
        let split =
            |row: Vec<Cell>| -> (Vec<String>, Vec<Option<Figure>>) { row.into_iter().unzip() };
        let (rows, figures) = cells.into_iter().map(split).unzip();
        Self { header, rows, figures }
    }
}

/// Figures over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Start of the first window and end of the last, in milliseconds since 1970-01-01 UTC.
    pub span_ms: [i64; 2],
    /// One for each window, by time.
    pub points: Vec<Point>,
}

/// One window of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Start of the window.
    pub start_ms: i64,
    /// End of the window.
    pub end_ms: i64,
    /// The figure; none where it is undefined.
    pub value: Option<f64>,
    /// Its 95 % interval, where it has one.
    pub interval: Option<[f64; 2]>,
    /// Records that it was computed from.
    pub n: u64,
}

/// One bin of a reliability diagram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Mean score.
    pub score: f64,
    /// Share of positive labels.
    pub rate: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Labelled scores in the bin.
    pub n: u64,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One file that asks for nothing from outside.
    Html,
    /// For a pull request or a ticket.
    Markdown,
    /// For programs.
    Json,
}

impl Report {
    /// Makes the report of metric rows, in any order; of a key and window one row. References that are not known are
    /// not drawn.
    pub fn new(title: String, source: String, rows: &[Row], references: &References) -> Self {
        let grain = rows::chart_grain(rows);
        let models = rows::models(rows).into_iter().map(|((model, version), of_model)| {
            let of = rows::ModelRows::new(of_model, &grain, references);
            let (model, version) = (model.to_owned(), version.to_owned());
            ModelReport { model, version, sections: sections::all(&of) }
        });
        let models: Vec<ModelReport> = models.collect();
        let overview = (models.len() > 1).then(|| sections::overview(&models));
        let made_by = concat!("Made by Tidegauge ", env!("CARGO_PKG_VERSION"), ".");
        let methods = sections::METHODS.iter().chain([&made_by]).map(|&text| text.to_owned());
        let methods = methods.collect();
        Self { title, source, grain, overview, models, methods }
    }

    /// Adds a paragraph to the summary of each model.
    #[must_use]
    pub fn with_remark(mut self, text: &str) -> Self {
        let summaries = self.models.iter_mut().filter_map(|model| model.sections.first_mut());
        summaries.for_each(|summary| summary.blocks.push(Block::Text(text.to_owned())));
        self
    }

    /// The report as text.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Html => html::render(self),
            Form::Markdown => markdown::render(self),
            Form::Json => {
                serde_json::to_string_pretty(self).expect("texts and finite numbers only") + "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests;
