//! What an orchestrator and a scraper ask for: `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::telemetry::Telemetry;

/// Why the endpoints are not there.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be listened on.
    #[error("can't listen on {address} for /healthz, /readyz and /metrics: {reason}")]
    Bind {
        /// `http.listen`.
        address: SocketAddr,
        /// What the operating system says.
        reason: std::io::Error,
    },
}

impl HttpError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "http_bind",
        }
    }
}

/// The endpoints of one process, bound but not yet serving.
#[derive(Debug)]
pub struct Endpoints {
    listener: TcpListener,
    address: SocketAddr,
    telemetry: Telemetry,
}

impl Endpoints {
    /// Listens; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, telemetry: Telemetry) -> Result<Self, HttpError> {
        let bind = |reason| HttpError::Bind { address, reason };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address, telemetry })
    }

    /// Where they are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped.
    pub async fn serve(self) {
        let app = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .fallback(async || (StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n"))
            .with_state(self.telemetry);
        if let Err(error) = axum::serve(self.listener, app).await {
            tracing::error!(%error, "endpoints ended");
        }
    }
}

/// `{"ready":true,"reasons":[]}` with status 200, or the causes and what to do with status 503. What will be one, if
/// nothing is done, stands in `warnings`, and makes nobody take the instance for one that is not ready.
async fn readyz(State(telemetry): State<Telemetry>) -> Response {
    let reasons: Vec<_> = telemetry
        .reasons()
        .into_iter()
        .map(|(cause, reason)| serde_json::json!({ "cause": cause.name(), "reason": reason }))
        .collect();
    let is_ready = reasons.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::json!({ "ready": is_ready, "reasons": reasons });
    if let Some(warning) = telemetry.warning() {
        body["warnings"] = serde_json::json!([warning]);
    }
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(telemetry): State<Telemetry>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], telemetry.encode()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::event::{PartitionId, Stream};
    use crate::telemetry::{Cause, Growing, Largest};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_names_its_reasons() {
        let telemetry = Telemetry::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoints = Endpoints::bind(any, telemetry.clone()).await.unwrap();
        let address = endpoints.address();
        let questions = async {
            assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/readyz").await.contains(r#"{"ready":true,"reasons":[]}"#));
            let (partition, behind) = (PartitionId(3), Some(Stream::Labels));
            let largest = Largest { partition, bytes: 400, behind };
            let growing = Growing { hours_left: 2.5, bytes: 700, budget: 1000, largest };
            telemetry.growth(Some(growing));
            let answer = ask(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains(r#""warnings":["state holds 700 of 1000 bytes"#), "{answer}");
            telemetry.growth(None);
            telemetry.not_ready(Cause::ClickHouse, "down");
            let answer = ask(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains(r#"{"cause":"clickhouse","reason":"down"}"#), "{answer}");
            assert!(ask(address, "/metrics").await.contains("# EOF"));
        };
        tokio::select! {
            () = endpoints.serve() => panic!("serves for ever"),
            () = questions => {}
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = Endpoints::bind(any, Telemetry::new()).await.unwrap();
        let error = Endpoints::bind(first.address(), Telemetry::new()).await.unwrap_err();
        assert_eq!(error.code(), "http_bind");
        assert!(error.to_string().contains(&first.address().to_string()));
    }
}
