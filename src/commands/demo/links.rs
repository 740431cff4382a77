//! Where to look: links to ClickHouse's own pages with charts and a query ready.

use crate::dashboards::{page_link, play_link};

/// Charts of the dashboard: title and query, each of time, line and value.
pub const CHARTS: &[(&str, &str)] = &[
    (
        "Accuracy: churn falls after 30 s, credit is behind because its labels come late",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, accuracy FROM tidegauge_bi.quality_binary \
         WHERE grain = '10s' AND segment = 'all' AND accuracy IS NOT NULL ORDER BY t, line",
    ),
    (
        "AUROC",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, auroc FROM tidegauge_bi.quality_binary \
         WHERE grain = '10s' AND segment = 'all' AND auroc IS NOT NULL ORDER BY t, line",
    ),
    (
        "Label coverage",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, coverage FROM tidegauge_bi.labels \
         WHERE grain = '10s' AND segment = 'all' AND coverage IS NOT NULL ORDER BY t, line",
    ),
    (
        "Inferences per second",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, inferences_per_s FROM tidegauge_bi.serving \
         WHERE grain = '10s' AND segment = 'all' ORDER BY t, line",
    ),
    (
        "Latency p99, ms",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, latency_p99_ms FROM tidegauge_bi.serving \
         WHERE grain = '10s' AND segment = 'all' AND latency_p99_ms IS NOT NULL ORDER BY t, line",
    ),
    (
        "Error rate",
        "SELECT toUnixTimestamp(window_start) AS t, concat(model, ' ', version) AS line, error_rate FROM tidegauge_bi.serving \
         WHERE grain = '10s' AND segment = 'all' AND error_rate IS NOT NULL ORDER BY t, line",
    ),
];

/// The query behind the link to `/play`.
pub const PLAY_QUERY: &str = "\
SELECT window_start, model, version, n, accuracy, auroc, auroc_lower, auroc_upper, sealed
FROM tidegauge_bi.quality_binary
WHERE grain = '10s' AND segment = 'all'
ORDER BY window_start DESC, model, version
LIMIT 50";

/// ClickHouse's `/dashboard` with the charts.
pub fn dashboard(clickhouse: &str) -> String {
    page_link(clickhouse, "default", CHARTS)
}

/// ClickHouse's `/play` with a query ready.
pub fn play(clickhouse: &str) -> String {
    play_link(clickhouse, "default", PLAY_QUERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_plain_ascii_because_the_page_decodes_bytes() {
        assert!(PLAY_QUERY.is_ascii());
    }
}
