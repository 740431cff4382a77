//! Metabase's questions and dashboards as JSON, which `deploy/metabase/setup.py` gives to its REST API.

use serde_json::{Map, Value, json};

use super::chart::{Chart, Definitions, Kind, Level, Unit};
use super::layout::{Place, tabs};
use super::sql::{FILTERS, Tool, expand, expand_of_one};
use super::{Files, pretty};

/// Metabase's page has 24 columns, and rows of about 50 pixels.
const COLUMNS: u32 = 2;

pub(super) fn write(definitions: &Definitions, database: &str, files: &mut Files) {
    for dashboard in &definitions.dashboards {
        let charts = definitions.of(&dashboard.name);
        let tabs = tabs(&charts);
        let titles: Vec<_> = tabs.iter().filter_map(|tab| tab.title).collect();
        let query = if dashboard.one_model { query_of_one } else { query };
        let cards: Vec<_> = tabs
            .iter()
            .flat_map(|tab| tab.charts.iter().map(|&(chart, place)| (tab.title, chart, place)))
            .map(|(tab, chart, place)| card(tab, chart, place, &query(chart, database)))
            .collect();
        let page = json!({
            "name": dashboard.title,
            "description": dashboard.about,
            "parameters": parameters(),
            "tabs": titles,
            "cards": cards,
        });
        files.insert(format!("metabase/cards/{}.json", dashboard.name), pretty(&page));
    }
}

fn parameters() -> Vec<Value> {
    let date = |name: &str, title: &str| json!({ "id": name, "slug": name, "name": title, "type": "date/single", "sectionId": "date" });
    let chosen = FILTERS.iter().map(|filter| {
        let mut parameter = json!({
            "id": filter.name, "slug": filter.name, "name": filter.title,
            "type": "string/=", "sectionId": "string", "isMultiSelect": false,
        });
        if let Some(default) = filter.default {
            parameter["default"] = json!([default]);
        }
        parameter
    });
    [date("from", "From"), date("to", "Until")].into_iter().chain(chosen).collect()
}

/// What a chart's card asks. Metabase shows 2,000 rows of an answer, so those over time come newest first; its charts
/// put them in order again.
pub fn query(chart: &Chart, database: &str) -> String {
    newest_first(chart, expand(&chart.sql, Tool::Metabase, database))
}

/// The same on a dashboard that opens with one model: until one is chosen, the first that is offered.
pub fn query_of_one(chart: &Chart, database: &str) -> String {
    newest_first(chart, expand_of_one(&chart.sql, Tool::Metabase, database))
}

fn newest_first(chart: &Chart, sql: String) -> String {
    if !chart.kind.over_time() {
        return sql;
    }
    let columns = chart.all_columns();
    let line = &columns[1].0;
    format!("SELECT time, {line}, value\nFROM\n(\n{sql}\n)\nORDER BY time DESC, {line}")
}

fn card(tab: Option<&str>, chart: &Chart, place: Place, query: &str) -> Value {
    let mut tags = Map::new();
    for (name, title, kind) in [("from", "From", "date"), ("to", "Until", "date")] {
        tags.insert(name.to_owned(), tag(name, title, kind, None));
    }
    for filter in FILTERS {
        tags.insert(filter.name.to_owned(), tag(filter.name, filter.title, "text", filter.default));
    }
    tags.retain(|name, _| query.contains(&format!("{{{{{name}}}}}")));
    json!({
        "name": chart.title,
        "description": chart.about,
        "tab": tab,
        "display": display(chart),
        "query": query,
        "template_tags": tags,
        "visualization_settings": settings(chart),
        "row": place.y * 2 / 3, "col": place.x * COLUMNS,
        "size_x": place.width * COLUMNS, "size_y": (place.height * 2).div_ceil(3),
    })
}

fn tag(name: &str, title: &str, kind: &str, default: Option<&str>) -> Value {
    let mut tag = json!({ "id": name, "name": name, "display-name": title, "type": kind });
    if let Some(default) = default {
        tag["default"] = json!(default);
        tag["required"] = json!(true);
    }
    tag
}

/// Metabase has no heat map, and bars of several models or of figures add up to nothing: there they are lines.
fn display(chart: &Chart) -> &'static str {
    match chart.kind {
        Kind::Number => "scalar",
        Kind::Stacked => "area",
        Kind::Lines | Kind::Band | Kind::Curve | Kind::Heatmap => "line",
        Kind::Bars => "bar",
        Kind::Table => "table",
    }
}

/// By itself Metabase calls the line a goal, and here most lie where something is wrong.
fn line_name(level: Level) -> &'static str {
    match level {
        Level::Line => "limit",
        Level::Warn => "warn",
        Level::Bad => "bad",
    }
}

fn settings(chart: &Chart) -> Value {
    let mut settings = Map::new();
    let columns = chart.all_columns();
    let formats = columns
        .iter()
        .map(|(name, unit)| (json!(["name", name]).to_string(), json!(format(*unit))));
    settings.insert("column_settings".to_owned(), Value::Object(formats.collect()));
    if matches!(chart.kind, Kind::Number | Kind::Table) {
        return Value::Object(settings);
    }
    let dimensions: Vec<_> =
        columns.iter().map(|(name, _)| name).filter(|n| *n != "value").collect();
    settings.insert("graph.dimensions".to_owned(), json!(dimensions));
    settings.insert("graph.metrics".to_owned(), json!(["value"]));
    if chart.kind == Kind::Stacked {
        settings.insert("stackable.stack_type".to_owned(), json!("stacked"));
    }
    if chart.kind == Kind::Curve {
        settings.insert("graph.x_axis.scale".to_owned(), json!("linear"));
    } else if chart.kind.over_time() {
        settings.insert("graph.x_axis.scale".to_owned(), json!("timeseries"));
    }
    if chart.kind.over_time() && chart.kind != Kind::Stacked {
        // By itself Metabase draws a line across windows without a figure. One between two of these is a dot.
        settings.insert("line.missing".to_owned(), json!("none"));
        settings.insert("line.marker_enabled".to_owned(), json!(true));
    }
    if let Some(threshold) = chart.thresholds.last() {
        settings.insert("graph.show_goal".to_owned(), json!(true));
        settings.insert("graph.goal_value".to_owned(), json!(threshold.at));
        settings.insert("graph.goal_label".to_owned(), json!(line_name(threshold.level)));
    }
    Value::Object(settings)
}

fn format(unit: Unit) -> Value {
    match unit {
        Unit::Ratio => json!({ "number_style": "percent", "decimals": 2 }),
        Unit::Count => json!({ "number_style": "decimal", "decimals": 0 }),
        Unit::PerSecond => json!({ "number_style": "decimal", "suffix": " /s" }),
        Unit::Ms => json!({ "number_style": "decimal", "suffix": " ms" }),
        Unit::S => json!({ "number_style": "decimal", "suffix": " s" }),
        Unit::Figure => json!({ "number_style": "decimal" }),
        Unit::Time => json!({ "time_enabled": "minutes" }),
        Unit::Text => json!({}),
    }
}
