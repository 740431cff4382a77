//! Questions to the demo's ClickHouse.

use serde::de::DeserializeOwned;

use crate::client::http_client;
use crate::commands::Failure;
use crate::sink::SinkError;

/// The demo's ClickHouse, over HTTP.
#[derive(Clone, Debug)]
pub(super) struct Database {
    url: String,
    client: reqwest::Client,
}

impl Database {
    pub(super) fn new(url: String) -> Result<Self, Failure> {
        let client = http_client(&url, |builder| builder).map_err(SinkError::Refused)?;
        Ok(Self { url, client })
    }

    /// The rows of a query, each a JSON object.
    pub(super) async fn rows<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, Failure> {
        let unavailable = |reason: String| Failure::from(SinkError::Unavailable(reason));
        let url = format!(
            "{}/?default_format=JSONEachRow&output_format_json_quote_64bit_integers=0&join_use_nulls=1",
            self.url
        );
        let answer = self.client.post(url).body(query.to_owned()).send().await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| unavailable(error.to_string()))?;
        if !status.is_success() {
            return Err(unavailable(format!("status {status}: {}", text.trim())));
        }
        text.lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|e| unavailable(format!("{e} in answer {line}")))
            })
            .collect()
    }
}
