//! What all pages have in common: frame, filters, texts for people.

use maud::{DOCTYPE, Markup, html};

use super::address::{RANGES, View};
use crate::engine::state::ALL;
use crate::report::{self, FEATURE};

/// Beside the report's style: no outside fonts, a visible focus, tables that fit a screen.
const STYLE: &str = "
body { max-width: 90rem; font-size: 15px; } main { display: block; } header p { margin: .2rem 0; }
a:focus-visible, input:focus-visible, select:focus-visible, button:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px; } .skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: .5rem;
  background: var(--paper); padding: .4rem .8rem; z-index: 1; }
form { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: 1rem 0; padding: .7rem .9rem;
  background: var(--card); border: 1px solid var(--rule); border-radius: .4rem; }
label { display: grid; gap: .15rem; color: var(--dim); font-size: .8rem; }
label.check { display: flex; align-items: center; gap: .4rem; padding-bottom: .4rem; }
input, select, button { font: inherit; font-size: .95rem; color: var(--ink); background: var(--paper);
  border: 1px solid var(--dim); border-radius: .3rem; padding: .25rem .5rem; max-width: 13rem; }
input[type=checkbox] { width: 1rem; height: 1rem; accent-color: var(--accent); }
button { background: var(--accent); border-color: var(--accent); color: var(--paper); font-weight: 600; cursor: pointer; }
table { width: 100%; } caption { text-align: left; color: var(--dim); padding: .3rem 0; } th { color: var(--dim);
  font-weight: 600; font-size: .85rem; vertical-align: bottom; } tbody th { color: var(--ink); font-size: 1rem;
  vertical-align: middle; }
th, td { padding: .35rem .55rem; } td small, dd small { display: block; color: var(--dim); font-size: .8rem; white-space: nowrap; }
.name { overflow-wrap: anywhere; min-width: 8rem; } svg.spark { width: 7.5rem; height: 1.8rem; display: block; margin-left: auto; }
.tag { display: inline-block; border-radius: .8rem; padding: 0 .6rem; border: 1px solid var(--rule); white-space: nowrap; }
.bad { color: var(--bad); border-color: var(--bad); font-weight: 600; } .warn { color: var(--warn); border-color: var(--warn); }
.good { color: var(--good); border-color: var(--good); } .none, .silent, tbody .silent th { color: var(--dim); }
.silent .spark { opacity: .5; }
:root { --bad: #b42318; --warn: #8a5300; --good: #1a6e36; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --warn: #f5c469; --good: #7ddb98; } }
ul.features { display: flex; flex-wrap: wrap; gap: .4rem .6rem; list-style: none; padding: 0; }
ul.features a { overflow-wrap: anywhere; } .notice { border-left: 4px solid var(--accent); padding: .6rem 1rem; background: var(--card); }
";

/// The style sheet of all pages.
pub(super) fn style() -> String {
    report::STYLE.to_owned() + STYLE
}

/// A whole page. `ways` are the pages above it, by name and address.
pub(super) fn page(title: &str, ways: &[(&str, String)], about: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Tidegauge" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/style.css";
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    @if !ways.is_empty() {
                        nav aria-label="Breadcrumb" {
                            @for (name, address) in ways { a href=(address) { (name) } }
                        }
                    }
                    h1 { (title) }
                    p.source { (about) }
                }
                main id="main" { (body) }
            }
        }
    };
    page.into_string()
}

/// What can be chosen on a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices<'a> {
    /// Names of the grains that there are.
    pub(super) grains: &'a [String],
    /// The grain that is shown.
    pub(super) grain: &'a str,
    /// Length of its windows in milliseconds; 0 where there are none.
    pub(super) window_ms: i64,
    /// Segments that there are; none where they are not known.
    pub(super) segments: &'a [String],
    /// Other jobs that have rows, in words; empty where there are none, or nobody has to know.
    pub(super) jobs: &'a str,
    /// Rows that were not read, in words; empty where all were.
    pub(super) left_out: &'a str,
}

/// Of which nothing is known.
pub(super) const NO_CHOICE: Choices<'static> =
    Choices { grains: &[], grain: "", window_ms: 0, segments: &[], jobs: "", left_out: "" };

/// The filters, as a form that leads to the same page.
pub(super) fn filters(path: &str, view: &View, choices: Choices<'_>) -> Markup {
    let is_overview = path == "/";
    html! {
        form method="get" action=(path) role="search" aria-label="Filters" {
            @if is_overview {
                label { "Model (* is any text)" input type="search" name="model" value=(view.model); }
                @if let Some(version) = view.version.as_deref().filter(|version| !version.is_empty()) {
                    label { "Version" input name="version" value=(version); }
                }
            } @else {
                input type="hidden" name="model" value=(view.model);
                input type="hidden" name="version" value=(view.version.as_deref().unwrap_or_default());
                @if !view.feature.is_empty() { input type="hidden" name="feature" value=(view.feature); }
                @if view.is_feature { input type="hidden" name="kind" value=(FEATURE); }
            }
            label {
                "Range"
                select name="range" {
                    @for (name, length) in RANGES {
                        option value=(name) selected[name == view.range] {
                            @if length.is_some() { "last " (name) } @else { "whole time" }
                        }
                    }
                }
            }
            label { "Until (UTC; empty: now)" input name="until" value=(view.until) placeholder="2026-11-27"; }
            label {
                "Grain"
                select name="grain" {
                    option value="" selected[view.grain.is_empty()] {
                        "fitting" @if view.grain.is_empty() && !choices.grain.is_empty() { " (" (choices.grain) ")" }
                    }
                    @for name in choices.grains { option value=(name) selected[*name == view.grain] { (name) } }
                }
            }
            (segment(view, choices.segments))
            label.check { input type="checkbox" name="live" value="1" checked[view.live]; "Live" }
            button type="submit" { "Show" }
        }
    }
}

fn segment(view: &View, known: &[String]) -> Markup {
    html! {
        label {
            "Segment"
            @if known.is_empty() {
                input name="segment" value=(view.segment);
            } @else {
                select name="segment" {
                    @for name in known { option value=(name) selected[*name == view.segment] { (name) } }
                }
            }
        }
    }
}

/// A paragraph that says which rows are missing on the page, and what to do.
pub(super) fn missing(choices: Choices<'_>) -> Markup {
    html! {
        @if !choices.left_out.is_empty() {
            p.notice { "Not all is shown: " (choices.left_out) ". Choose a shorter range or a coarser grain." }
        }
    }
}

/// A paragraph that stands for rows that are not there, with what to do.
pub(super) fn nothing(view: &View, path: &str, jobs: &str) -> Markup {
    let wider = View {
        range: "all".to_owned(),
        until: String::new(),
        grain: String::new(),
        ..view.clone()
    };
    html! {
        div.notice {
            p { "No rows of what was chosen in this range." }
            @if wider != *view { p { a href=(wider.address(path)) { "Look at the whole time" } } }
            @if view.segment != ALL {
                p { a href=(View { segment: ALL.to_owned(), ..view.clone() }.address(path)) { "Look at all segments together" } }
            }
            @if !jobs.is_empty() {
                p { "Other jobs with rows: " (jobs) ". Start " code { "tidegauge serve --job" } " with the name of one to look at it." }
            }
            p { "Rows come when " code { "tidegauge run" } " or " code { "tidegauge backfill" } " writes them for this job." }
        }
    }
}

/// How long ago, in one unit.
pub(super) fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}
