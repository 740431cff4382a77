//! What people look at: one folder of chart definitions → the files of Superset, Grafana, Metabase and ClickHouse's own
//! page. A chart's SQL is written once, with a placeholder for each filter; each tool fills in its own way of asking.

pub mod sql;
pub mod chart;
pub mod layout;
mod clickhouse_page;
mod grafana;
mod metabase;
mod superset;

use std::collections::BTreeMap;

use chart::Definitions;
pub use clickhouse_page::{charts as page_charts, link as page_link, play_link};
pub use metabase::{query as metabase_query, query_of_one as metabase_query_of_one};

/// Where each generated file lies below the output folder, and its text.
pub type Files = BTreeMap<String, String>;

/// All files that the definitions make, for the views in this database.
pub fn generate(definitions: &Definitions, database: &str) -> Files {
    let mut files = Files::new();
    grafana::write(definitions, database, &mut files);
    superset::write(definitions, database, &mut files);
    metabase::write(definitions, database, &mut files);
    clickhouse_page::write(definitions, database, &mut files);
    files
}

/// The folders below the output folder that hold generated files only.
pub const FOLDERS: [&str; 4] =
    ["clickhouse/dashboards", "grafana/dashboards", "metabase/cards", "superset/assets"];

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values can be written");
    text.push('\n');
    text
}
