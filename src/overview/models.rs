//! The page of all models.

use maud::{Markup, html};

use super::address::View;
use super::page::{Choices, age, filters, nothing, page};
use crate::calendar::instant;
use crate::report::{count, number, share, sparkline};
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
    let body = html! {
        (filters("/", view, choices))
        @if models.is_empty() {
            (nothing(view, "/", choices.jobs))
        } @else {
            (table(view, &models, now_ms))
            @if models.len() >= MOST_MODELS {
                p.notice { "Only the first " (MOST_MODELS) " by name are shown: choose by model." }
            }
        }
    };
    page("Models", &[], about, &body)
}

/// The greater, the earlier it is shown: open alerts, then drift, then warnings, then errors.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "an order for people")]
fn trouble(of: &ModelSummary) -> (u64, u64, u64, f64) {
    let drift = of.drift.unwrap_or(DriftCount { drifting: 0, warnings: 0, compared: 0 });
    let errors = of.errors as f64 / of.inferences.max(1) as f64;
    (of.open_alerts.unwrap_or(0), drift.drifting, drift.warnings, errors)
}

fn table(view: &View, models: &[ModelSummary], now_ms: i64) -> Markup {
    let alerts = models.iter().any(|of| of.open_alerts.is_some());
    html! {
        div.wide tabindex="0" role="region" aria-label="Models" {
            table {
                caption { (count_of(models.len())) "; those with alerts, drift or errors first" }
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
                tbody { @for of in models { (row(view, of, alerts, now_ms)) } }
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

fn row(view: &View, of: &ModelSummary, alerts: bool, now_ms: i64) -> Markup {
    let address = view.of_model(&of.model, &of.version).address("/model");
    let name = if of.model.is_empty() { "(no name)" } else { &of.model };
    html! {
        tr {
            th.name scope="row" {
                a href=(address) { (name) }
                @if !of.version.is_empty() { small { " version " (of.version) } }
            }
            @if alerts { td { (open_alerts(of.open_alerts)) } }
            td { (drift(of.drift)) }
            (quality(of))
            td { (share(of.labelled, of.inferences)) }
            td { (share(of.errors, of.inferences)) }
            td { (count(of.inferences)) }
            td { (sparkline(&said("Inferences", &of.traffic), &of.traffic, true)) }
            td {
                @if let Some(at) = of.latest_ms {
                    time datetime=(instant(at)) title=(instant(at)) { (age(now_ms - at)) }
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

fn quality(of: &ModelSummary) -> Markup {
    let Some(Quality { name, value, interval, n, points }) = &of.quality else {
        return html! { td { span.none { "– (" (without_quality(of)) ")" } } td {} };
    };
    html! {
        td {
            (name) " " (number(*value))
            small {
                @if let Some([lower, upper]) = *interval { (number(lower)) " to " (number(upper)) ", " }
                "n = " (count(*n))
            }
        }
        td { (sparkline(&said(name, points), points, false)) }
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

/// A sparkline in words.
fn said(name: &str, points: &[(i64, f64)]) -> String {
    let values = || points.iter().map(|&(_, value)| value);
    let Some(newest) = values().next_back() else { return format!("{name}: no window") };
    let least = values().fold(f64::INFINITY, f64::min);
    let greatest = values().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "{name} in {} windows: {} to {}, newest {}",
        points.len(),
        number(least),
        number(greatest),
        number(newest)
    )
}
