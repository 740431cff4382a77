//! Superset's assets, as the folder that its API imports when zipped: one database, one virtual dataset for each
//! chart, charts, dashboards. IDs follow from names, so that importing again changes what is there.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::Files;
use super::chart::{Chart, Dashboard, Definitions, Kind, Unit};
use super::layout::{Tab, tabs};
use super::sql::{FILTERS, Filter, Tool, expand, jobs};

const FOLDER: &str = "superset/assets";
const DATABASE: &str = "Tidegauge";
const VERSION: &str = "1.0.0";
/// Pixels of a row are 30 in the layout; Superset counts in 8.
const HEIGHT: u32 = 4;
/// Rows of a chart: of windows of five minutes, a week of a band (four lines) for six versions. Superset itself cuts at
/// 100,000 (`SQL_MAX_ROW`), and the user of BI tools gets a million.
const ROWS: u32 = 50_000;
/// `Last 7 days` ends at midnight, so that the newest rows would be missing.
const USUAL_TIME: &str = "DATEADD(DATETIME(\"now\"), -7, day) : now";
/// The metric of the offered jobs by which the newest is the first.
const NEWEST_JOB: &str = "newest";

pub(super) fn write(definitions: &Definitions, database: &str, files: &mut Files) {
    let mut put = |path: String, value: &Value| {
        let text = serde_saphyr::to_string(value).expect("JSON values can be written as YAML");
        files.insert(format!("{FOLDER}/{path}"), text);
    };
    put(
        "metadata.yaml".to_owned(),
        &json!({ "version": VERSION, "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00" }),
    );
    put(format!("databases/{DATABASE}.yaml"), &connection(database));
    for filter in FILTERS {
        put(format!("datasets/{DATABASE}/choose_{}.yaml", filter.name), &choices(filter, database));
    }
    for chart in &definitions.charts {
        let file = chart.name.replace('-', "_");
        put(format!("datasets/{DATABASE}/{file}.yaml"), &dataset(chart, database));
        put(format!("charts/{file}.yaml"), &slice(chart));
    }
    for each in &definitions.dashboards {
        put(
            format!("dashboards/{}.yaml", each.name),
            &dashboard(each, &definitions.of(&each.name)),
        );
    }
}

/// A UUID (version 8) that follows from a name.
fn uuid(kind: &str, name: &str) -> String {
    let mut bits = xxh3_128(format!("tidegauge {kind} {name}").as_bytes());
    bits = bits & !(0xf << 76) | 8 << 76;
    bits = bits & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Without a password: `superset_config.py` puts it in from the environment.
fn connection(database: &str) -> Value {
    json!({
        "database_name": DATABASE,
        "sqlalchemy_uri": format!("clickhousedb://tidegauge_bi@clickhouse:8123/{database}"),
        "cache_timeout": null,
        "expose_in_sqllab": true,
        "allow_run_async": false,
        "allow_ctas": false,
        "allow_cvas": false,
        "allow_dml": false,
        "allow_file_upload": false,
        "extra": { "allows_virtual_table_explore": true },
        "uuid": uuid("database", DATABASE),
        "version": VERSION,
    })
}

fn column(name: &str, unit: Unit) -> Value {
    let data_type = match unit {
        Unit::Time => "DateTime64(3, 'UTC')",
        Unit::Text => "String",
        _ => "FLOAT64",
    };
    json!({
        "column_name": name, "verbose_name": null, "description": null, "expression": null,
        "is_dttm": unit == Unit::Time, "is_active": true, "type": data_type,
        "groupby": true, "filterable": true, "python_date_format": null, "extra": {},
    })
}

fn virtual_table(
    name: &str,
    about: &str,
    sql: &str,
    columns: &[Value],
    time: bool,
    schema: &str,
) -> Value {
    json!({
        "table_name": name, "description": about, "sql": sql, "schema": schema, "catalog": null,
        "main_dttm_col": if time { json!("time") } else { Value::Null },
        "default_endpoint": null, "offset": 0, "cache_timeout": null, "params": null,
        "template_params": null, "filter_select_enabled": true, "fetch_values_predicate": null,
        "extra": null, "normalize_columns": false, "always_filter_main_dttm": false,
        "metrics": [], "columns": columns,
        "uuid": uuid("dataset", name), "database_uuid": uuid("database", DATABASE), "version": VERSION,
    })
}

fn choices_name(filter: Filter) -> String {
    format!("tidegauge choose {}", filter.name)
}

/// Superset puts what it offers in an order of its own, so jobs come with what tells which is the newest. All else comes
/// with its job: what is offered is of the chosen one.
fn choices(filter: Filter, database: &str) -> Value {
    let mut columns = vec![column(filter.name, Unit::Text)];
    let is_job = filter.name == "job";
    let sql = if is_job {
        columns.push(column("last_window", Unit::Count));
        format!("SELECT job, last_window FROM ({})", jobs(database))
    } else {
        columns.push(column("job", Unit::Text));
        filter.values_by_job(database)
    };
    let (name, about) = (choices_name(filter), "What can be chosen");
    let mut table = virtual_table(&name, about, &sql, &columns, false, database);
    if is_job {
        table["metrics"] = json!([{
            "metric_name": NEWEST_JOB, "expression": "max(last_window)", "verbose_name": null, "metric_type": null,
            "description": null, "d3format": null, "warning_text": null, "extra": {},
        }]);
    }
    table
}

fn dataset_name(chart: &Chart) -> String {
    format!("tidegauge {}", chart.name)
}

fn dataset(chart: &Chart, database: &str) -> Value {
    let columns: Vec<_> =
        chart.all_columns().iter().map(|(name, unit)| column(name, *unit)).collect();
    let mut sql = expand(&chart.sql, Tool::Superset, database);
    if chart.kind == Kind::Band {
        sql = as_forecast(&sql);
    }
    let time = chart.kind.over_time();
    virtual_table(&dataset_name(chart), &chart.about, &sql, &columns, time, database)
}

/// Superset draws series with these endings as a band with a line in it, and without the line's own as points.
fn as_forecast(sql: &str) -> String {
    let limits = sql.replace("' lower'", "'__yhat_lower'").replace("' upper'", "'__yhat_upper'");
    let figure = limits.split_once("[('', ").and_then(|(_, rest)| rest.split_once(')'));
    match figure {
        Some((figure, _)) => limits.replacen("[(", &format!("[('__yhat', {figure}), ("), 1),
        None => limits,
    }
}

fn viz_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Number => "big_number_total",
        Kind::Lines | Kind::Band | Kind::Curve => "echarts_timeseries_line",
        Kind::Stacked => "echarts_area",
        Kind::Bars => "echarts_timeseries_bar",
        Kind::Heatmap => "heatmap_v2",
        Kind::Table => "table",
    }
}

/// Of single numbers and of the cells of tables.
fn number_format(unit: Unit) -> &'static str {
    match unit {
        Unit::Ratio => ".2%",
        Unit::Count => ",d",
        _ => ",.4~r",
    }
}

/// Of axes and of what stands beside the pointer: no more digits than there are.
fn axis_format(unit: Unit) -> &'static str {
    match unit {
        Unit::Ratio => ".4~p",
        Unit::Count => ",.12~r",
        Unit::Ms => "DURATION_SUB",
        _ => ",.4~r",
    }
}

/// What numbers without a sign of their own are.
fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "per second",
        Unit::S => "seconds",
        _ => "",
    }
}

/// Of rows that are one for each point already.
fn metric() -> Value {
    json!({ "expressionType": "SQL", "sqlExpression": "max(value)", "label": "value", "optionName": "value" })
}

/// What rows over time are put in order by, the newest first: where there are more than [`ROWS`], every line loses its
/// oldest points. Superset else goes by the value, and the least ones are lost.
fn newest() -> Value {
    json!({ "expressionType": "SQL", "sqlExpression": "max(time)", "label": "newest", "optionName": "newest" })
}

/// Across, and what tells lines apart.
fn axes(chart: &Chart) -> (Option<String>, Vec<String>) {
    let mut names: Vec<_> = chart.all_columns().into_iter().map(|(name, _)| name).collect();
    names.retain(|name| name != "value");
    if names.is_empty() || chart.kind == Kind::Table {
        return (None, Vec::new());
    }
    let x = names.remove(0);
    (Some(x), names)
}

fn params(chart: &Chart) -> Value {
    let mut params = json!({
        "viz_type": viz_type(chart.kind), "time_range": "No filter", "adhoc_filters": [],
        "row_limit": ROWS, "y_axis_format": axis_format(chart.unit), "extra_form_data": {},
    });
    if chart.kind.over_time() {
        params["adhoc_filters"] = json!([{
            "clause": "WHERE", "expressionType": "SIMPLE", "operator": "TEMPORAL_RANGE",
            "subject": "time", "comparator": "No filter",
        }]);
    }
    let (x, series) = axes(chart);
    match chart.kind {
        Kind::Number => {
            params["metric"] = metric();
            params["y_axis_format"] = json!(number_format(chart.unit));
            params["subtitle"] = json!(unit_name(chart.unit));
        }
        Kind::Table => {
            let names: Vec<_> = chart.columns.iter().map(|(name, _)| name.clone()).collect();
            params["query_mode"] = json!("raw");
            params["show_cell_bars"] = json!(false);
            params["all_columns"] = json!(names);
            params["column_config"] = chart
                .columns
                .iter()
                .filter(|(_, unit)| !matches!(unit, Unit::Text | Unit::Time))
                .map(|(name, unit)| {
                    (name.clone(), json!({ "d3NumberFormat": number_format(*unit) }))
                })
                .collect::<Map<_, _>>()
                .into();
        }
        Kind::Heatmap => {
            params["x_axis"] = json!(x);
            params["groupby"] = json!(series[0]);
            params["metric"] = metric();
            params["normalize_across"] = json!("heatmap");
            params["sort_x_axis"] = json!("alpha_asc");
            params["sort_y_axis"] = json!("alpha_asc");
            params["linear_color_scheme"] = json!("oranges");
            params["x_axis_time_format"] = json!("%d %b %H:%M");
            if chart.unit == Unit::Figure {
                params["y_axis_format"] = json!(",.2~f");
            }
            params["left_margin"] = json!(100);
            params["bottom_margin"] = json!(30);
        }
        Kind::Lines | Kind::Band | Kind::Stacked | Kind::Bars | Kind::Curve => {
            params["x_axis"] = json!(x);
            params["groupby"] = json!(series);
            drawn_on_axes(chart, &mut params);
        }
    }
    params
}

fn drawn_on_axes(chart: &Chart, params: &mut Value) {
    let (is_bars, is_curve) = (chart.kind == Kind::Bars, chart.kind == Kind::Curve);
    params["metrics"] = json!([metric()]);
    if chart.kind.over_time() {
        params["timeseries_limit_metric"] = newest();
        params["order_desc"] = json!(true);
    }
    params["rich_tooltip"] = json!(true);
    params["show_legend"] = json!(!is_bars);
    params["legendType"] = json!("scroll");
    params["sort_series_type"] = json!("name");
    params["sort_series_ascending"] = json!(true);
    // Bars that do not begin at 0 lie, and bands are drawn only where 0 is on the axis.
    let from_zero = is_bars || chart.kind == Kind::Band;
    params["truncateYAxis"] = json!(!from_zero);
    let min = chart.max.filter(|_| from_zero).map(|_| 0);
    params["y_axis_bounds"] = json!([min, chart.max]);
    let name = unit_name(chart.unit);
    params["y_axis_title"] = json!(name);
    params["y_axis_title_margin"] = json!(if name.is_empty() { 0 } else { 30 });
    params["y_axis_title_position"] = json!("Left");
    if is_curve {
        params["x_axis_number_format"] = json!(",.3~r");
    }
    if is_bars {
        // Names have more room beside a bar than below it.
        params["orientation"] = json!("horizontal");
        params["show_value"] = json!(true);
    }
    params["markerEnabled"] = json!(is_curve);
    params["stack"] = if chart.kind == Kind::Stacked { json!("Stack") } else { json!(null) };
    params["annotation_layers"] = thresholds(chart);
}

/// Threshold lines are formula annotations.
fn thresholds(chart: &Chart) -> Value {
    let line = |threshold: &super::chart::Threshold| {
        json!({
            "annotationType": "FORMULA", "name": format!("limit {}", threshold.at),
            "value": threshold.at.to_string(), "color": "#d62728", "style": "dashed",
            "opacity": "", "show": true, "showLabel": false, "showMarkers": false,
            "sourceType": "", "width": 1, "hideLine": false, "overrides": { "time_range": null },
        })
    };
    chart.thresholds.iter().map(line).collect()
}

/// What Superset's own page would ask, so that charts can be run without a browser.
fn query_context(chart: &Chart, params: &Value) -> Value {
    let (x, series) = axes(chart);
    let mut columns: Vec<Value> = Vec::new();
    if let Some(x) = &x {
        columns.push(json!({
            "columnType": "BASE_AXIS", "expressionType": "SQL", "label": x, "sqlExpression": x,
            "timeGrain": null,
        }));
    }
    columns.extend(series.iter().map(|name| json!(name)));
    columns.extend(chart.columns.iter().map(|(name, _)| json!(name)));
    let metrics = if chart.kind == Kind::Table { json!(null) } else { json!([metric()]) };
    let filters = if chart.kind.over_time() {
        json!([{ "col": "time", "op": "TEMPORAL_RANGE", "val": "No filter" }])
    } else {
        json!([])
    };
    let order = if chart.kind.over_time() { json!([[newest(), false]]) } else { json!([]) };
    json!({
        "datasource": { "id": 0, "type": "table" }, "force": false,
        "result_format": "json", "result_type": "full", "form_data": params,
        "queries": [{
            "columns": columns, "metrics": metrics, "filters": filters, "extras": { "having": "", "where": "" },
            "time_range": "No filter", "row_limit": ROWS, "row_offset": 0, "orderby": order,
            "applied_time_extras": {}, "annotation_layers": [], "post_processing": [],
            "url_params": {}, "custom_params": {}, "custom_form_data": {},
        }],
    })
}

fn slice(chart: &Chart) -> Value {
    let params = params(chart);
    json!({
        "slice_name": chart.title, "description": chart.about, "viz_type": viz_type(chart.kind),
        "certified_by": null, "certification_details": null, "cache_timeout": null,
        "query_context": query_context(chart, &params).to_string(),
        "params": params,
        "uuid": uuid("chart", &chart.name), "dataset_uuid": uuid("dataset", &dataset_name(chart)),
        "version": VERSION,
    })
}

fn dashboard(dashboard: &Dashboard, charts: &[&Chart]) -> Value {
    json!({
        "dashboard_title": dashboard.title, "description": dashboard.about,
        "slug": format!("tidegauge-{}", dashboard.name), "css": "", "published": true,
        "certified_by": null, "certification_details": null,
        "position": position(dashboard, charts),
        "metadata": {
            "native_filter_configuration": filters(dashboard),
            "cross_filters_enabled": true, "refresh_frequency": 60, "timed_refresh_immune_slices": [],
            "expanded_slices": {}, "color_scheme": "", "label_colors": {}, "shared_label_colors": [],
            // Above the charts, so that tables have the whole width.
            "filter_bar_orientation": "HORIZONTAL",
        },
        "uuid": uuid("dashboard", &dashboard.name), "version": VERSION,
    })
}

fn position(dashboard: &Dashboard, charts: &[&Chart]) -> Value {
    let mut position = json!({
        "DASHBOARD_VERSION_KEY": "v2",
        "HEADER_ID": { "id": "HEADER_ID", "type": "HEADER", "meta": { "text": dashboard.title } },
        "GRID_ID": { "id": "GRID_ID", "type": "GRID", "parents": ["ROOT_ID"], "children": [] },
    });
    let mut titles = Vec::new();
    for (number, tab) in tabs(charts).iter().enumerate() {
        let Some(title) = tab.title else {
            position["GRID_ID"]["children"] =
                rows(&mut position, number, tab, &["ROOT_ID", "GRID_ID"]);
            continue;
        };
        let id = format!("TAB-{number}");
        position[&id] = json!({
            "id": id, "type": "TAB", "parents": ["ROOT_ID", TABS],
            "children": rows(&mut position, number, tab, &["ROOT_ID", TABS, &id]),
            "meta": { "text": title, "defaultText": title, "placeholder": title },
        });
        titles.push(id);
    }
    let below = if titles.is_empty() { "GRID_ID" } else { TABS };
    position["ROOT_ID"] = json!({ "id": "ROOT_ID", "type": "ROOT", "children": [below] });
    if !titles.is_empty() {
        position[TABS] = json!({
            "id": TABS, "type": "TABS", "parents": ["ROOT_ID"], "children": titles, "meta": {},
        });
    }
    position
}

/// What holds the tabs of a dashboard.
const TABS: &str = "TABS-0";

/// Puts the rows of a tab, and the charts in them, below `parents`; the ids of the rows.
fn rows(position: &mut Value, number: usize, tab: &Tab<'_>, parents: &[&str]) -> Value {
    let mut ids = Vec::new();
    for row in tab.charts.chunk_by(|(_, a), (_, b)| a.row == b.row) {
        let id = format!("ROW-{number}-{}", row[0].1.row);
        let children: Vec<_> =
            row.iter().map(|(chart, _)| format!("CHART-{}", chart.name)).collect();
        for ((chart, place), child) in row.iter().zip(&children) {
            let parents: Vec<_> = parents.iter().copied().chain([&*id]).collect();
            position[child] = json!({
                "id": child, "type": "CHART", "children": [], "parents": parents,
                "meta": {
                    "width": place.width, "height": place.height * HEIGHT + 10,
                    "sliceName": chart.title, "uuid": uuid("chart", &chart.name), "chartId": 0,
                },
            });
        }
        position[&id] = json!({
            "id": id, "type": "ROW", "parents": parents,
            "children": children, "meta": { "background": "BACKGROUND_TRANSPARENT" },
        });
        ids.push(id);
    }
    json!(ids)
}

fn filters(dashboard: &Dashboard) -> Vec<Value> {
    let everywhere = json!({ "rootPath": ["ROOT_ID"], "excluded": [] });
    let time = json!({
        "id": "NATIVE_FILTER-time", "name": "Time", "filterType": "filter_time", "type": "NATIVE_FILTER",
        "targets": [{}], "scope": everywhere, "controlValues": {}, "cascadeParentIds": [], "description": "",
        "defaultDataMask": {
            "extraFormData": { "time_range": USUAL_TIME }, "filterState": { "value": USUAL_TIME },
        },
    });
    let chosen = FILTERS.iter().map(|filter| choice(*filter, dashboard, &everywhere));
    std::iter::once(time).chain(chosen).collect()
}

fn choice(filter: Filter, dashboard: &Dashboard, scope: &Value) -> Value {
    let name = filter.name;
    let data_mask = filter.default.map_or_else(
        || json!({ "extraFormData": {}, "filterState": {} }),
        |default| {
            json!({
                "extraFormData": { "filters": [{ "col": name, "op": "IN", "val": [default] }] },
                "filterState": { "value": [default], "label": default },
            })
        },
    );
    let is_one = filter.is_one(dashboard.one_model);
    let first = is_one && filter.default.is_none();
    let of_job = if name == "job" { json!([]) } else { json!(["NATIVE_FILTER-job"]) };
    let mut choice = json!({
        "id": format!("NATIVE_FILTER-{name}"), "name": filter.title, "filterType": "filter_select",
        "type": "NATIVE_FILTER", "scope": scope, "cascadeParentIds": of_job, "description": "",
        "targets": [{ "column": { "name": name }, "datasetUuid": uuid("dataset", &choices_name(filter)) }],
        "defaultDataMask": data_mask,
        // Else the first one is shown as chosen, and the charts show all.
        "requiredFirst": first,
        "controlValues": {
            "multiSelect": !is_one, "enableEmptyFilter": is_one,
            "defaultToFirstItem": first, "inverseSelection": false, "searchAllOptions": true,
        },
    });
    if name == "job" {
        choice["sortMetric"] = json!(NEWEST_JOB);
        choice["controlValues"]["sortAscending"] = json!(false);
    }
    choice
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A week of windows of five minutes, each a point of the four lines of a band.
    const BAND: u64 = 7 * 24 * 12 * 4;

    #[test]
    fn charts_over_time_have_room_for_a_week_and_lose_the_oldest_of_more() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
        let definitions = Definitions::read(&folder).expect("the definitions");
        let over_time: Vec<_> =
            definitions.charts.iter().filter(|chart| chart.kind.over_time()).collect();
        assert!(over_time.iter().any(|chart| chart.kind == Kind::Band));
        for chart in over_time {
            let name = &chart.name;
            let params = params(chart);
            let context = query_context(chart, &params);
            let query = &context["queries"][0];
            for limit in [&params["row_limit"], &query["row_limit"]] {
                let rows = limit.as_u64().expect("a limit");
                assert!((6 * BAND..=100_000).contains(&rows), "{name}: {rows}");
            }
            // As the API asks, and as the page does, by the metric that it sorts by.
            let [by, ascending] = [&query["orderby"][0][0], &query["orderby"][0][1]];
            assert_eq!((&by["sqlExpression"], ascending), (&json!("max(time)"), &json!(false)));
            // Heat maps go by their axes.
            if chart.kind != Kind::Heatmap {
                assert_eq!(&params["timeseries_limit_metric"], by, "{name}");
                assert_eq!(params["order_desc"], json!(true), "{name}");
            }
        }
    }
}
