//! Changes as letters over SMTP.

use std::time::Duration;

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::response::Category;
use lettre::transport::smtp::{AsyncSmtpTransport, Error};
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use reqwest::Url;
use serde_json::Value as Json;

use super::message::{NotTaken, sentence, text};
use crate::client::with_sources;

/// As with webhooks: whoever has seen it drops the repetition. The letter's ID says the same to mail programs.
#[derive(Clone)]
struct IdempotencyKey(String);

impl Header for IdempotencyKey {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Idempotency-Key")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

/// 55x is about the letter; other answers are about the login or the dialogue, or will be others later (RFC 5321).
fn not_taken(error: &Error) -> NotTaken {
    let is_of_letter = error.status().is_some_and(|code| code.category == Category::MailSystem);
    let reason = with_sources(error);
    if error.is_permanent() && is_of_letter {
        NotTaken::Change(reason)
    } else {
        NotTaken::Target(reason)
    }
}

/// A mail server, and who writes to whom.
pub(super) struct Post {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
}

/// Who writes to whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The sender, like `Tidegauge <tidegauge@example.org>`.
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
}

impl Letter {
    /// What is wrong with these addresses or with the server's, if anything is. No text shows the server's, which may
    /// hold a password.
    pub fn check(&self, url: &str) -> Result<(), String> {
        let parsed = Url::parse(url).map_err(|error| error.to_string())?;
        let is_clear = match parsed.scheme() {
            "smtps" => false,
            "smtp" => parsed.query_pairs().all(|(key, value)| key != "tls" || value != "required"),
            _ => return Err("it begins with neither smtp:// nor smtps://".to_owned()),
        };
        let is_near = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if is_clear && !is_near && parsed.password().is_some() {
            return Err("it would send the password in clear text: write smtps://, or smtp:// with ?tls=required"
                .to_owned());
        }
        mailbox(&self.from)?;
        if self.to.is_empty() {
            return Err("it needs `to`, like [\"on-call@example.org\"]".to_owned());
        }
        self.to.iter().try_for_each(|to| mailbox(to).map(drop))
    }
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("`{text}` is no mail address: {error}"))
}

impl Post {
    /// Connects to nothing yet. One attempt takes at most `timeout`.
    pub(super) fn new(url: &str, letter: &Letter, timeout: Duration) -> Result<Self, String> {
        letter.check(url)?;
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url);
        let server = server.map_err(|error| with_sources(&error))?.timeout(Some(timeout)).build();
        let to = letter.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?;
        Ok(Self { server, from: mailbox(&letter.from)?, to, timeout })
    }

    /// Sends one, and waits until the server has taken it; what it answered.
    pub(super) async fn send(&self, change: &Json) -> Result<String, NotTaken> {
        let letter = self.letter(change);
        let letter = letter.map_err(|error| NotTaken::Change(with_sources(&error)))?;
        let sent = tokio::time::timeout(self.timeout, self.server.send(letter)).await;
        let late = |_| NotTaken::Target(format!("no answer within {:?}", self.timeout));
        let answer = sent.map_err(late)?.map_err(|error| not_taken(&error))?;
        let said: Vec<&str> = answer.message().collect();
        Ok(format!("{} {}", answer.code(), said.join(" ")).trim().to_owned())
    }

    fn letter(&self, change: &Json) -> Result<Message, lettre::error::Error> {
        let key = text(change, "idempotency_key");
        let plain: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' })
            .collect();
        let to = |builder: MessageBuilder, to: &Mailbox| builder.to(to.clone());
        let start = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<{plain}@tidegauge>")))
            .subject(sentence(change))
            .header(IdempotencyKey(key.to_owned()))
            .header(ContentType::TEXT_PLAIN);
        let body = format!("{}\n\n{change:#}\n", sentence(change));
        self.to.iter().fold(start, to).body(body)
    }
}
