//! The page of all models.

use maud::{Markup, html};

use super::address::View;
use super::lines::Frame;
use super::page::{Choices, age, filters, nothing, page};
use crate::calendar::{instant, time};
use crate::report::{count, number, share};
use crate::sink::summary::{DriftCount, MOST_MODELS, ModelSummary, Quality};

/// The page, the models in trouble first.
pub(super) fn render(
    view: &View,
    choices: Choices<'_>,
    mut models: Vec<ModelSummary>,
    about: &str,
    now_ms: i64,
) -> String {
    models.sort_by(|a, b| {
        trouble(b)
            .partial_cmp(&trouble(a))
            .expect("no NaN")
            .then_with(|| (&a.model, &a.version).cmp(&(&b.model, &b.version)))
    });
    let frame = Frame::new(view, choices.window_ms, now_ms, &models);
    let body = html! {
        (filters("/", view, choices))
        @if models.iter().all(ModelSummary::is_silent) { (nothing(view, "/", choices.jobs)) }
        @if !models.is_empty() {
            (table(view, &models, now_ms, &frame))
            @if models.len() >= MOST_MODELS {
                p.notice { "Only the first " (MOST_MODELS) " by name are shown: choose by model." }
            }
        }
    };
    page("Models", &[], about, &body)
}

/// The greater, the earlier it is shown: open alerts, then drift, then warnings, then errors, then silence.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "an order for people")]
fn trouble(of: &ModelSummary) -> (u64, u64, u64, f64, bool) {
    let drift = of.drift.unwrap_or(DriftCount { drifting: 0, warnings: 0, compared: 0 });
    let errors = of.errors as f64 / of.inferences.max(1) as f64;
    (of.open_alerts.unwrap_or(0), drift.drifting, drift.warnings, errors, of.is_silent())
}

fn table(view: &View, models: &[ModelSummary], now_ms: i64, frame: &Frame) -> Markup {
    let alerts = models.iter().any(|of| of.open_alerts.is_some());
    let silent = models.iter().filter(|of| of.is_silent()).count();
    html! {
        div.wide tabindex="0" role="region" aria-label="Models" {
            table {
                caption {
                    (count_of(models.len())) @if silent > 0 { ", " (silent) " of them silent in this range" }
                    "; those with alerts, drift or errors first. Lines are over the whole range; those of inferences leave \
                     out the window that has not ended."
                }
                thead {
                    tr {
                        th scope="col" { "Model" }
                        @if alerts { th scope="col" { "Open alerts" } }
                        th scope="col" { "Drift" }
                        th scope="col" { "Quality" }
                        th scope="col" { "Over time" }
                        th scope="col" { "Labelled" }
                        th scope="col" { "Errors" }
                        th scope="col" { "Inferences" }
                        th scope="col" { "Over time" }
                        th scope="col" { "Last data" }
                    }
                }
                tbody { @for of in models { (row(view, of, alerts, now_ms, frame)) } }
            }
        }
    }
}

fn count_of(models: usize) -> String {
    if models == 1 {
        "1 model and version".to_owned()
    } else {
        format!("{models} models and versions")
    }
}

fn row(view: &View, of: &ModelSummary, alerts: bool, now_ms: i64, frame: &Frame) -> Markup {
    let address = view.of_model(&of.model, &of.version).address("/model");
    let name = if of.model.is_empty() { "(no name)" } else { &of.model };
    html! {
        tr class=[of.is_silent().then_some("silent")] {
            th.name scope="row" {
                a href=(address) { (name) }
                @if !of.version.is_empty() { small { " version " (of.version) } }
            }
            @if alerts { td { (open_alerts(of.open_alerts)) } }
            td { (drift(of.drift)) }
            (quality(of, frame))
            td { (share(of.labelled, of.inferences)) }
            td { (share(of.errors, of.inferences)) }
            td { (count(of.inferences)) }
            td { (frame.traffic(&of.traffic)) }
            td {
                @if let Some(at) = of.latest_ms {
                    time datetime=(instant(at)) title=(instant(at)) { (age(now_ms - at)) }
                    @if of.is_silent() { small { "last data " (time(at)) } }
                } @else { "–" }
            }
        }
    }
}

fn open_alerts(open: Option<u64>) -> Markup {
    match open {
        Some(0) => html! { span.none { "none" } },
        Some(open) => html! { span.tag.bad { (open) " open" } },
        None => html! { "–" },
    }
}

fn drift(drift: Option<DriftCount>) -> Markup {
    let Some(DriftCount { drifting, warnings, compared }) = drift else {
        return html! { span.none { "–" } };
    };
    let class = match (drifting, warnings) {
        (0, 0) => "tag good",
        (0, _) => "tag warn",
        _ => "tag bad",
    };
    html! {
        span class=(class) { (drifting) " of " (compared) " drift" }
        @if warnings > 0 { small { (warnings) " to watch" } }
    }
}

fn quality(of: &ModelSummary, frame: &Frame) -> Markup {
    let Some(Quality { name, value, interval, n, start_ms, points }) = &of.quality else {
        return html! { td { span.none { "– (" (without_quality(of)) ")" } } td {} };
    };
    html! {
        td {
            (name) " " (number(*value))
            small {
                @if let Some([lower, upper]) = *interval { (number(lower)) " to " (number(upper)) ", " }
                "n = " (count(*n))
            }
            small { "window of " (time(*start_ms)) }
        }
        td { (frame.quality(name, points)) }
    }
}

/// Why there is no figure.
fn without_quality(of: &ModelSummary) -> &'static str {
    match (of.inferences, of.labelled) {
        (0, _) => "no inferences",
        (_, 0) => "no labels",
        // Of decisions that are missing, or are of another kind than the labels.
        _ => "no usable labels",
    }
}
