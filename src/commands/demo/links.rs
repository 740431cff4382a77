//! Where to look: links to ClickHouse's own pages with charts and a query ready.

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

/// ClickHouse's `/dashboard` with the charts in the link's fragment: other ways of naming charts are ignored by it.
pub fn dashboard(clickhouse: &str) -> String {
    let queries: Vec<_> = CHARTS
        .iter()
        .map(|(title, query)| serde_json::json!({ "title": title, "query": query }))
        .collect();
    let state = serde_json::json!({
        "host": clickhouse, "user": "default", "queries": queries, "params": {},
    });
    format!("{clickhouse}/dashboard#{}", base64(state.to_string().as_bytes()))
}

/// ClickHouse's `/play` with a query ready.
pub fn play(clickhouse: &str) -> String {
    format!("{clickhouse}/play?user=default&run=1#{}", base64(PLAY_QUERY.as_bytes()))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for i in 0..4 {
            let at = usize::try_from((bits >> (18 - 6 * i)) & 63).expect("six bits");
            text.push(if i <= chunk.len() { char::from(DIGITS[at]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standards_examples() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn charts_are_plain_ascii_because_the_page_decodes_bytes() {
        assert!(dashboard("http://localhost").is_ascii());
        assert!(CHARTS.iter().all(|(title, query)| title.is_ascii() && query.is_ascii()));
    }
}
