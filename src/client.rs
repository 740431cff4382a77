//! A client of HTTP servers, and what errors say with their causes: for every part that asks a server.

use reqwest::{Client, ClientBuilder};

/// A client for the server at `url`, with what `ask` adds. Where there is none, why, with the remedy: reqwest's own
/// short way panics then.
pub(crate) fn http_client(
    url: &str,
    ask: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Result<Client, String> {
    // Fails where another part has installed a provider already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || ask(Client::builder());
    let client = builder().build().or_else(|error| {
        // A machine without CA certificates can still talk plain http.
        if url.starts_with("https:") { Err(error) } else { builder().tls_certs_only([]).build() }
    });
    client.map_err(|error| {
        let reason = with_sources(&error);
        format!("no HTTPS client can be made ({reason}): install the system's CA certificates")
    })
}

/// The message of an error with those of its causes that it does not repeat itself: "network error" alone tells nobody
/// that the port is closed.
pub(crate) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Layer {
        said: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_none_twice() {
        let layer = |said, source: Option<Layer>| Layer { said, source: source.map(Box::new) };
        let connect = layer("connect: closed", Some(layer("closed", None)));
        let error = layer("no answer", Some(layer("no answer", Some(connect))));
        assert_eq!(with_sources(&error), "no answer: connect: closed");
    }
}
