//! One target: how it is reached and what it answers.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use ring::hmac;
use serde_json::Value as Json;

use super::email::{Letter, Post};
use super::kafka::{Publisher, Topic};
use super::message::{NotTaken, alertmanager, slack};
use crate::client::with_sources;

/// So much of an answer is kept.
const ANSWER_CHARS: usize = 200;
/// So much of it is read to find them: what stands in place of an answer may have no end.
const ANSWER_BYTES: usize = 4096;
/// Of the answers that blame the request those that all changes get: a wrong login or address, and too much at once.
const OF_TARGET: [StatusCode; 7] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::GONE,
    StatusCode::TOO_MANY_REQUESTS,
];
/// The change's key: a receiver that has seen it drops the repetition.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// `sha256=` and the HMAC-SHA256 of the body in hex.
const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-tidegauge-signature");

/// How a target wants to be told.
#[derive(Clone, PartialEq, Eq)]
pub enum Medium {
    /// The change as JSON.
    Webhook,
    /// A text, as Slack's incoming webhooks take it.
    Slack,
    /// Alertmanager's API v2.
    Alertmanager,
    /// The change as JSON, in a topic.
    Kafka(Topic),
    /// A letter to people.
    Email(Letter),
}

impl Medium {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Alertmanager => "alertmanager",
            Self::Kafka(_) => "kafka",
            Self::Email(_) => "email",
        }
    }
}

/// A target of the configuration, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetSettings {
    /// Its name: notifications are remembered under it.
    pub name: String,
    /// How it is told.
    pub medium: Medium,
    /// Where it is; for Alertmanager its base address, for mail the server's, for Kafka empty. May hold a secret.
    pub url: String,
    /// Signs what is sent.
    pub secret: Option<String>,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for TargetSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the URL nor the secret reaches a log.
        let (name, medium) = (&self.name, self.medium.name());
        f.debug_struct("TargetSettings")
            .field("name", name)
            .field("medium", &medium)
            .finish_non_exhaustive()
    }
}

impl TargetSettings {
    /// What is wrong with the address of a webhook, if anything is.
    pub fn check_url(url: &str) -> Result<(), String> {
        let parsed = Url::parse(url).map_err(|error| error.to_string())?;
        match parsed.scheme() {
            "http" | "https" => Ok(()),
            _ => Err("it begins with neither http:// nor https://".to_owned()),
        }
    }
}

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum AlertingError {
    /// No client can be made.
    #[error("no HTTPS client can be made ({reason}): install the system's CA certificates")]
    Client {
        /// What is wrong.
        reason: String,
    },
    /// No producer or mailer can be made.
    #[error("target \"{target}\" can't be reached as configured: {reason}")]
    Target {
        /// Its name.
        target: String,
        /// What is wrong.
        reason: String,
    },
}

impl AlertingError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client { .. } => "notify_client",
            Self::Target { .. } => "notify_target",
        }
    }
}

/// What carries a notification.
enum Wire {
    Http(Client),
    Kafka(Box<Publisher>),
    Mail(Box<Post>),
}

/// A target with its client.
pub struct Target {
    settings: TargetSettings,
    wire: Wire,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Target {
    /// Connects to nothing yet.
    pub fn new(settings: &TargetSettings) -> Result<Self, AlertingError> {
        let wrong = |reason| AlertingError::Target { target: settings.name.clone(), reason };
        let wire = match &settings.medium {
            Medium::Webhook | Medium::Slack | Medium::Alertmanager => Wire::Http(http(settings)?),
            Medium::Kafka(topic) => {
                let publisher = Publisher::new(topic, settings.timeout).map_err(wrong)?;
                Wire::Kafka(Box::new(publisher))
            }
            Medium::Email(letter) => {
                let post = Post::new(&settings.url, letter, settings.timeout).map_err(wrong)?;
                Wire::Mail(Box::new(post))
            }
        };
        Ok(Self { settings: settings.clone(), wire })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Sends a change and waits for the answer: its status, or what went wrong.
    pub async fn send(&self, change: &Json) -> Result<String, NotTaken> {
        match &self.wire {
            Wire::Http(client) => self.post(client, change).await,
            Wire::Kafka(publisher) => publisher.send(change).await,
            Wire::Mail(post) => post.send(change).await,
        }
    }

    async fn post(&self, client: &Client, change: &Json) -> Result<String, NotTaken> {
        let settings = &self.settings;
        let (url, body) = match settings.medium {
            Medium::Slack => (settings.url.clone(), slack(change).to_string()),
            Medium::Alertmanager => {
                let url = format!("{}/api/v2/alerts", settings.url.trim_end_matches('/'));
                (url, alertmanager(change).to_string())
            }
            Medium::Webhook | Medium::Kafka(_) | Medium::Email(_) => {
                (settings.url.clone(), change.to_string())
            }
        };
        let key = change["idempotency_key"].as_str().unwrap_or_default();
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json");
        request = request.header(KEY_HEADER, key);
        if let Some(secret) = &settings.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, body.as_bytes()));
        }
        let failed = |error: reqwest::Error| NotTaken::Target(with_sources(&error.without_url()));
        let answer = request.body(body).send().await.map_err(failed)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(status.to_string());
        }
        let said = beginning(answer).await;
        let reason = format!("{status} {said}").trim().to_owned();
        let is_of_change = status.is_client_error() && !OF_TARGET.contains(&status);
        Err(if is_of_change { NotTaken::Change(reason) } else { NotTaken::Target(reason) })
    }
}

fn http(settings: &TargetSettings) -> Result<Client, AlertingError> {
    // A redirect would send the signed body somewhere else.
    let client = Client::builder().timeout(settings.timeout).redirect(Policy::none()).build();
    client.map_err(|error| AlertingError::Client { reason: with_sources(&error) })
}

/// How an answer begins; also of one that breaks off.
async fn beginning(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES {
        let Ok(Some(more)) = answer.chunk().await else { break };
        bytes.extend_from_slice(&more);
    }
    String::from_utf8_lossy(&bytes).trim().chars().take(ANSWER_CHARS).collect()
}

/// `sha256=` and the HMAC-SHA256 (RFC 2104) of a body in hex.
fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let hex: Vec<String> = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={}", hex.concat())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Read to its end it would fill the memory, and then say nothing.
    #[tokio::test]
    async fn of_an_answer_without_an_end_only_the_beginning_is_read() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        // Writes until nobody reads any more.
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it is asked");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let mut written = stream.write_all(b"HTTP/1.1 500 x\r\n\r\n");
            while written.is_ok() {
                written = stream.write_all("no room é ".as_bytes());
            }
        });
        let target = Target::new(&TargetSettings {
            name: "hook".to_owned(),
            medium: Medium::Webhook,
            url,
            secret: None,
            timeout: Duration::from_secs(20),
        });
        let sent = target.expect("a client").send(&Json::Null).await;
        let refused = sent.expect_err("it is refused").to_string();
        let said = refused.strip_prefix("500 Internal Server Error ").expect("the status");
        assert!(said.starts_with("no room é no room é "), "{said}");
        assert!(said.chars().count() <= ANSWER_CHARS, "{said}");
    }

    /// Case 2 of RFC 4231.
    #[test]
    fn the_signature_is_that_of_the_standard() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }
}
