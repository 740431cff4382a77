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

/// Link to the page of the ClickHouse at `url` that opens with these charts, each a title and a query: the page keeps
/// its state, as JSON in base64, behind the `#`, and ignores other ways of naming charts.
pub fn link<T: AsRef<str>>(url: &str, user: &str, charts: &[(T, T)]) -> String {
    let queries: Vec<_> = charts
        .iter()
        .map(|(title, query)| json!({ "title": title.as_ref(), "query": query.as_ref() }))
        .collect();
    let state = json!({ "host": url, "user": user, "queries": queries, "params": {} });
    format!("{url}/dashboard#{}", base64(ascii(&state.to_string()).as_bytes()))
}

/// Link to the server's `/play` page that runs a query, which must be plain ASCII.
pub fn play_link(url: &str, user: &str, query: &str) -> String {
    format!("{url}/play?user={user}&run=1#{}", base64(query.as_bytes()))
}

/// JSON without any character that the page's `atob` would misread.
fn ascii(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => plain.push(char::from(byte)),
            _ => plain.extend(format!("\\u{unit:04x}").chars()),
        }
    }
    plain
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| usize::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let shown = digit <= group.len();
            let value = bits >> (18 - 6 * digit) & 0x3f;
            text.push(if shown { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
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
    fn links_are_what_the_pages_read() {
        // As Python's json and base64 modules write it.
        let state = "eyJob3N0IjoiaHR0cDovL2giLCJwYXJhbXMiOnt9LCJxdWVyaWVzIjpbeyJxdWVyeSI6IlNFTEVDVCAxIiwidGl0bGUiOiJc\
                     dTAwYjUgXHVkODNkXHVkZTAwIn1dLCJ1c2VyIjoidSJ9";
        let charts = [("µ 😀", "SELECT 1")];
        assert_eq!(link("http://h", "u", &charts), format!("http://h/dashboard#{state}"));
        let play = play_link("http://h", "u", "SELECT 1");
        assert_eq!(play, "http://h/play?user=u&run=1#U0VMRUNUIDE=");
    }
}
