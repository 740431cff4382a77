//! ClickHouse's own `/dashboard` page: needs no software beside the server. It draws lines over time only.

use serde_json::json;

use super::chart::{Chart, Definitions};
use super::sql::{Tool, expand};
use super::{Files, pretty};

/// Title and query of each chart of a dashboard that the page can draw; columns: seconds since 1970, line, value.
pub fn charts(definitions: &Definitions, dashboard: &str, database: &str) -> Vec<(String, String)> {
    let drawn = definitions.of(dashboard).into_iter().filter(|chart| chart.kind.over_time());
    drawn.map(|chart| (chart.title.clone(), query(chart, database))).collect()
}

fn query(chart: &Chart, database: &str) -> String {
    let line = chart.all_columns()[1].0.clone();
    format!(
        "SELECT toUnixTimestamp(time) AS t, {line} AS line, value\nFROM\n(\n{}\n)\nWHERE value IS NOT NULL\nORDER BY t, line",
        expand(&chart.sql, Tool::ClickHouse, database)
    )
}

/// One file for each dashboard, as the page's mass editor takes it.
pub(super) fn write(definitions: &Definitions, database: &str, files: &mut Files) {
    for dashboard in &definitions.dashboards {
        let queries: Vec<_> = charts(definitions, &dashboard.name, database)
            .into_iter()
            .map(|(title, query)| json!({ "title": title, "query": query }))
            .collect();
        let page = json!({
            "params": {
                "seconds": "604800", "from": "", "to": "",
                "job": "", "model": "", "version": "", "segment": "all", "grain": "1h",
            },
            "queries": queries,
        });
        files.insert(format!("clickhouse/dashboards/{}.json", dashboard.name), pretty(&page));
    }
}
