//! The page of one model, and that of one of its features.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::address::View;
use super::page::{Choices, filters, missing, nothing, page};
use crate::calendar::time;
use crate::engine::state::ALL;
use crate::report::{References, Report, Row, Verdict, of_feature, section, shown_name, verdicts};

/// What a verdict looks like.
fn class(verdict: &str) -> &'static str {
    match verdict {
        "drift" => "tag bad",
        "warn" => "tag warn",
        "ok" => "tag good",
        _ => "tag none",
    }
}

fn title(view: &View) -> String {
    match view.version.as_deref() {
        None | Some("") => view.model.clone(),
        Some(version) => format!("{}, version {version}", view.model),
    }
}

/// The segments that rows have, `all` first.
fn segments(rows: &[Row], chosen: &str) -> Vec<String> {
    let known: BTreeSet<&str> = rows.iter().map(|row| &*row.segment).chain([chosen]).collect();
    let others = known.into_iter().filter(|segment| *segment != ALL);
    std::iter::once(ALL).chain(others).map(str::to_owned).collect()
}

/// The rows of one segment as though they were all: what the report's charts read.
pub(super) fn of_segment(rows: Vec<Row>, segment: &str) -> Vec<Row> {
    if segment == ALL {
        return rows;
    }
    let of = rows.into_iter().filter(|row| row.segment == segment);
    of.map(|row| Row { segment: ALL.to_owned(), ..row }).collect()
}

/// The page of one model: the report's sections, and a way to each feature.
pub(super) fn render(
    view: &View,
    choices: Choices<'_>,
    rows: Vec<Row>,
    about: &str,
    references: &References,
) -> String {
    let segments = segments(&rows, &view.segment);
    let choices = Choices { segments: &segments, ..choices };
    let rows = of_segment(rows, &view.segment);
    let features = verdicts(&rows, &view.model, view.version.as_deref().unwrap_or_default());
    let report = Report::new(title(view), about.to_owned(), &rows, references);
    let body = html! {
        (filters("/model", view, choices))
        (missing(choices))
        @match report.models.first() {
            None => (nothing(view, "/model", choices.jobs)),
            Some(model) => {
                @if !features.is_empty() { (links(view, &features)) }
                @for one in &model.sections { (section(one)) }
                section {
                    h3 { "Method" }
                    ul { @for method in &report.methods { li { (method) } } }
                }
            }
        }
    };
    page(&title(view), &[("All models", view.of_all().address("/"))], about, &body)
}

fn links(view: &View, features: &[Verdict]) -> Markup {
    let newest = features.iter().filter_map(|of| of.window_ms).max();
    html! {
        nav aria-label="Features" {
            h3 { "Features" }
            @if let Some([start, end]) = newest {
                p { "Verdicts of " (time(start)) " to " (time(end)) " UTC, where no other window is named." }
            }
            ul.features {
                @for Verdict { kind, name, word: verdict, window_ms } in features {
                    li {
                        a class=(class(verdict)) href=(view.of_feature(kind, name).address("/feature")) {
                            (shown_name(kind, name)) @if !verdict.is_empty() { ": " (verdict) }
                            @if let Some([start, _]) = window_ms.filter(|of| newest != Some(*of)) { " (" (time(start)) ")" }
                        }
                    }
                }
            }
        }
    }
}

/// The page of one feature, or of the score.
pub(super) fn render_feature(
    view: &View,
    choices: Choices<'_>,
    rows: Vec<Row>,
    about: &str,
    references: &References,
) -> String {
    let sections = of_feature(&of_segment(rows, &view.segment), references);
    let body = html! {
        (filters("/feature", view, choices))
        (missing(choices))
        @if sections.is_empty() { (nothing(view, "/feature", choices.jobs)) }
        @for one in &sections { (section(one)) }
    };
    let of_model = view.of_no_feature();
    let name = title(view);
    let ways =
        [("All models", view.of_all().address("/")), (name.as_str(), of_model.address("/model"))];
    let feature = shown_name(view.kind(), &view.feature);
    page(&format!("{feature} of {name}"), &ways, about, &body)
}
