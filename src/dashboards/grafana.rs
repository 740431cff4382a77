//! Grafana's dashboards, for its file provisioning. They name the data source by the uid of
//! `deploy/grafana/provisioning`.

use serde_json::{Value, json};

use super::chart::{Chart, Dashboard, Definitions, Kind, Level, Unit};
use super::layout::{Place, Tab, tabs};
use super::sql::{FILTERS, Filter, GRAFANA_JOB, Tool, expand};
use super::{Files, pretty};

const TYPE: &str = "grafana-clickhouse-datasource";
/// The uid of the provisioned data source.
const UID: &str = "tidegauge";
/// Grafana's page has 24 columns.
const COLUMNS: u32 = 2;

pub(super) fn write(definitions: &Definitions, database: &str, files: &mut Files) {
    for dashboard in &definitions.dashboards {
        let panels = panels(&tabs(&definitions.of(&dashboard.name)), database);
        let variables: Vec<_> =
            FILTERS.iter().map(|filter| variable(*filter, dashboard, database)).collect();
        let page = json!({
            "uid": format!("tidegauge-{}", dashboard.name),
            "title": dashboard.title,
            "description": dashboard.about,
            "tags": ["tidegauge"],
            "timezone": "utc",
            "time": { "from": "now-7d", "to": "now" },
            "refresh": "1m",
            "schemaVersion": 39,
            "graphTooltip": 1,
            "editable": true,
            "templating": { "list": variables },
            "links": [{
                "type": "dashboards", "tags": ["tidegauge"], "title": "Tidegauge",
                "asDropdown": false, "includeVars": true, "keepTime": true,
            }],
            "panels": panels,
        });
        files.insert(format!("grafana/dashboards/{}.json", dashboard.name), pretty(&page));
    }
}

/// One tab below the other, each under a row that can be closed.
fn panels(tabs: &[Tab<'_>], database: &str) -> Vec<Value> {
    let (mut panels, mut y) = (Vec::new(), 0);
    for Tab { title, charts } in tabs {
        if let Some(title) = title {
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": 12 * COLUMNS, "h": 1 },
            }));
            y += 1;
        }
        for &(chart, place) in charts {
            let place = Place { y: y + place.y, ..place };
            panels.push(panel(panels.len() + 1, chart, place, database));
        }
        y += charts.iter().map(|(_, place)| place.y + place.height).max().unwrap_or(0);
    }
    panels
}

fn source() -> Value {
    json!({ "type": TYPE, "uid": UID })
}

fn variable(filter: Filter, dashboard: &Dashboard, database: &str) -> Value {
    let one = filter.is_one(dashboard.one_model);
    let current = match filter.default {
        Some(default) => json!({ "text": default, "value": default }),
        None if one => json!({}),
        None => json!({ "text": ["All"], "value": ["$__all"] }),
    };
    json!({
        "type": "query",
        "name": filter.name,
        "label": filter.title,
        "datasource": source(),
        "query": filter.values(database, GRAFANA_JOB),
        "refresh": 2,
        "sort": 0,
        "multi": !one,
        "includeAll": !one,
        "current": current,
    })
}

fn panel(id: usize, chart: &Chart, place: Place, database: &str) -> Value {
    let over_time = chart.kind.over_time();
    json!({
        "id": id,
        "type": panel_type(chart.kind),
        "title": chart.title,
        "description": chart.about,
        "datasource": source(),
        "gridPos": {
            "x": place.x * COLUMNS, "y": place.y, "w": place.width * COLUMNS, "h": place.height,
        },
        "targets": [{
            "refId": "A",
            "datasource": source(),
            "editorType": "sql",
            "queryType": if over_time { "timeseries" } else { "table" },
            "format": i32::from(!over_time),
            "rawSql": expand(&chart.sql, Tool::Grafana, database),
        }],
        "transformations": transformations(chart.kind),
        "fieldConfig": {
            "defaults": defaults(chart),
            "overrides": overrides(chart),
        },
        "options": options(chart.kind),
    })
}

fn panel_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Number => "stat",
        Kind::Lines | Kind::Band | Kind::Stacked => "timeseries",
        Kind::Bars => "barchart",
        Kind::Heatmap => "heatmap",
        Kind::Curve => "xychart",
        Kind::Table => "table",
    }
}

fn transformations(kind: Kind) -> Value {
    match kind {
        Kind::Lines | Kind::Band | Kind::Stacked | Kind::Heatmap => {
            json!([{ "id": "prepareTimeSeries", "options": { "format": "multi" } }])
        }
        Kind::Curve => json!([{
            "id": "partitionByValues",
            "options": { "fields": ["series"], "keepFields": false },
        }]),
        Kind::Number | Kind::Bars | Kind::Table => json!([]),
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "short",
        Unit::PerSecond => "cps",
        Unit::Ratio => "percentunit",
        Unit::Ms => "ms",
        Unit::S => "s",
        Unit::Figure => "none",
        Unit::Time => "dateTimeAsIso",
        Unit::Text => "string",
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::Line => "text",
        Level::Warn => "orange",
        Level::Bad => "red",
    }
}

fn defaults(chart: &Chart) -> Value {
    let first = if chart.kind == Kind::Number { "green" } else { "transparent" };
    let mut steps = vec![json!({ "value": null, "color": first })];
    steps.extend(
        chart.thresholds.iter().map(|t| json!({ "value": t.at, "color": colour(t.level) })),
    );
    let mut defaults = json!({
        "unit": unit(chart.unit),
        "noValue": "no data",
        "thresholds": { "mode": "absolute", "steps": steps },
    });
    if chart.kind == Kind::Number {
        defaults["color"] = json!({ "mode": "thresholds" });
        return defaults;
    }
    if let Some(max) = chart.max {
        defaults["max"] = json!(max);
    }
    defaults["color"] = json!({ "mode": "palette-classic" });
    let shown = if chart.thresholds.is_empty() { "off" } else { "line" };
    let stacked = if chart.kind == Kind::Stacked { "normal" } else { "none" };
    defaults["custom"] = match chart.kind {
        Kind::Table => json!({ "filterable": true }),
        Kind::Heatmap => json!({}),
        Kind::Curve => json!({ "show": "points+lines", "pointSize": { "fixed": 6 } }),
        _ => json!({
            "lineWidth": 2,
            "fillOpacity": if chart.kind == Kind::Stacked { 30 } else { 0 },
            "showPoints": "auto",
            "spanNulls": false,
            "stacking": { "mode": stacked, "group": "A" },
            "thresholdsStyle": { "mode": shown },
        }),
    };
    defaults
}

/// Limits of intervals are thin and dashed; columns of tables have their own units.
fn overrides(chart: &Chart) -> Value {
    if chart.kind == Kind::Band {
        return json!([{
            "matcher": { "id": "byRegexp", "options": "/ (lower|upper)$/" },
            "properties": [
                { "id": "custom.lineWidth", "value": 1 },
                { "id": "custom.lineStyle", "value": { "fill": "dash", "dash": [4, 6] } },
                { "id": "custom.showPoints", "value": "never" },
            ],
        }]);
    }
    let own = chart.columns.iter().filter(|(_, unit)| *unit != Unit::Text);
    own.map(|(name, of)| {
        json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "unit", "value": unit(*of) }],
        })
    })
    .collect()
}

fn options(kind: Kind) -> Value {
    let legend = json!({ "showLegend": true, "displayMode": "list", "placement": "bottom" });
    match kind {
        Kind::Number => json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": "value", "graphMode": "none", "textMode": "auto",
        }),
        Kind::Lines | Kind::Band | Kind::Stacked => {
            json!({ "legend": legend, "tooltip": { "mode": "multi", "sort": "desc" } })
        }
        Kind::Bars => json!({ "xField": "category", "orientation": "auto", "legend": legend }),
        Kind::Heatmap => json!({
            "calculate": false,
            "color": { "mode": "scheme", "scheme": "Blues", "steps": 64 },
            "cellGap": 1, "legend": { "show": true }, "rowsFrame": { "layout": "auto" },
        }),
        Kind::Curve => json!({
            "mapping": "auto",
            "series": [{ "x": { "matcher": { "id": "byName", "options": "x" } } }],
            "legend": legend,
        }),
        Kind::Table => json!({ "showHeader": true, "cellHeight": "sm" }),
    }
}
