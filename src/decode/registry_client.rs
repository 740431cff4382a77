//! What one question to the schema registry gives: an answer for ever, or trouble that passes.

use super::SchemaId;
use crate::client::{http_client, with_sources};
use apache_avro::Schema;
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

const MEDIA_TYPES: &str =
    "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json";
/// The registry's own code for an id that it does not know. A 404 without it is a wrong URL, not an unknown id.
const SCHEMA_NOT_FOUND: i64 = 40_403;
/// Its codes for a subject, a version and an id that it does not know.
const NOT_FOUND_CODES: [i64; 3] = [40_401, 40_402, SCHEMA_NOT_FOUND];
const ANSWER_BYTES_MAX: usize = 16 << 20;
const REFERENCES_MAX: usize = 1000;

/// Where the schema registry is and how patient to be with it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Base URL, its path included.
    pub url: String,
    /// User of basic authentication.
    pub user: Option<String>,
    /// Password of basic authentication.
    pub password: Option<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long an id that the registry does not know is asked for before it counts as unknown: a node that is behind
    /// the others does not know the newest ones.
    pub behind_for: Duration,
    /// How long an id that counts as unknown is not asked for again.
    pub miss_for: Duration,
    /// The first pause after a failed request; it doubles from there.
    pub pause_min: Duration,
    /// The longest pause between two requests.
    pub pause_max: Duration,
}

impl RegistrySettings {
    /// The defaults, without authentication.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            request_timeout: Duration::from_secs(10),
            behind_for: Duration::from_secs(5),
            miss_for: Duration::from_secs(10),
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password, and the URL, which may hold one, reach no log.
        f.debug_struct("RegistrySettings").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why the registry can't even be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not an http or https URL.
    #[error("`schema_registry.url` is no http or https URL ({reason}): give the base URL")]
    BadUrl {
        /// What is wrong.
        reason: String,
    },
    /// No client can be made.
    #[error("{reason}")]
    Client {
        /// What is wrong, with the remedy.
        reason: String,
    },
}

impl RegistryError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "bad_registry_url",
            Self::Client { .. } => "registry_client",
        }
    }
}

/// A writer schema with the named types that it refers to.
#[derive(Debug)]
pub struct WriterSchema {
    /// The schema.
    pub schema: Schema,
    /// Schemas that hold the named types of its references.
    pub references: Vec<Schema>,
}

impl WriterSchema {
    /// Parses a schema's text with the texts of the schemas that it refers to.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let parsed = if references.is_empty() {
            Schema::parse_str(text).map(|schema| (schema, Vec::new()))
        } else {
            Schema::parse_str_with_list(text, references)
        };
        let (schema, references) = parsed.map_err(|error| error.to_string())?;
        Ok(Self { schema, references })
    }
}

/// What the registry says of an id.
#[derive(Debug)]
pub(super) enum Answer {
    Known(WriterSchema),
    Missing(Missing),
    /// It can't be used, and asking again won't change that.
    Bad(String),
}

/// What the registry does not have. One of its nodes may only be behind the others.
#[derive(Debug)]
pub(super) enum Missing {
    Id,
    /// Something that the schema refers to: what it is.
    Reference(String),
}

/// Why there is no answer yet, with the remedy.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) needs_operator: bool,
}

impl Trouble {
    fn passing(what: &str) -> Self {
        let reason = format!(
            "the schema registry gives no answer ({what}): check that it runs, and `schema_registry.url`"
        );
        Self { reason, needs_operator: false }
    }

    /// Until it is clear that no node of the registry has it.
    pub(super) fn behind(missing: &Missing) -> Self {
        let what = match missing {
            Missing::Id => "does not know the id".to_owned(),
            Missing::Reference(what) => format!("lacks a part: {what}"),
        };
        let reason = format!("the schema registry {what}: it is asked again, a node may be behind");
        Self { reason, needs_operator: false }
    }

    fn lasting(what: &str, remedy: &str) -> Self {
        Self { reason: format!("the schema registry {what}: {remedy}"), needs_operator: true }
    }
}

/// The registry behind its base URL.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) settings: RegistrySettings,
    base: Url,
    client: Client,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error_code: i64,
}

impl Registry {
    pub(super) fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let bad = |reason: String| RegistryError::BadUrl { reason };
        let base = Url::parse(&settings.url).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad("no host, or another scheme".to_owned()));
        }
        let within = settings.request_timeout;
        let client = http_client(base.as_str(), |builder| builder.timeout(within));
        let client = client.map_err(|reason| RegistryError::Client { reason })?;
        Ok(Self { settings, base, client })
    }

    /// Asks for one id and for all that its schema refers to.
    pub(super) async fn fetch(&self, id: SchemaId) -> Result<Answer, Trouble> {
        let body = match self.get(&["schemas", "ids", &id.0.to_string()]).await? {
            Body::Found(body) => body,
            Body::NotFound(SCHEMA_NOT_FOUND) => return Ok(Answer::Missing(Missing::Id)),
            Body::NotFound(_) => return Err(wrong_url()),
        };
        let root = schema_answer(&body)?;
        if let Some(other) = root.schema_type.as_deref().filter(|&kind| kind != "AVRO") {
            return Ok(Answer::Bad(format!("its type is {other}, not AVRO")));
        }
        let mut texts: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = root.references.unwrap_or_default();
        while let Some(reference) = open.pop() {
            if !seen.insert(reference.clone()) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Ok(Answer::Bad(format!("it has more than {REFERENCES_MAX} references")));
            }
            let Reference { subject, version } = &reference;
            let path = ["subjects", subject, "versions", &version.to_string()];
            let Body::Found(body) = self.get(&path).await? else {
                let what = format!(
                    "it refers to version {version} of subject {subject}, which is not there"
                );
                return Ok(Answer::Missing(Missing::Reference(what)));
            };
            let answer = schema_answer(&body)?;
            open.extend(answer.references.unwrap_or_default());
            if !texts.contains(&answer.schema) {
                texts.push(answer.schema);
            }
        }
        Ok(WriterSchema::parse(&root.schema, &texts).map_or_else(Answer::Bad, Answer::Known))
    }

    async fn get(&self, path: &[&str]) -> Result<Body, Trouble> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.client.get(url).header(ACCEPT, MEDIA_TYPES);
        if let Some(user) = &self.settings.user {
            request = request.basic_auth(user, self.settings.password.as_ref());
        }
        let mut response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Trouble::passing("an answer of more than 16 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => Ok(Body::Found(body)),
            StatusCode::NOT_FOUND => match serde_json::from_slice::<ErrorAnswer>(&body) {
                Ok(error) if NOT_FOUND_CODES.contains(&error.error_code) => {
                    Ok(Body::NotFound(error.error_code))
                }
                _ => Err(wrong_url()),
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::lasting(
                &format!("refuses the credentials (status {})", status.as_u16()),
                "set `schema_registry.user` and `schema_registry.password`",
            )),
            other => Err(Trouble::passing(&format!("status {}", other.as_u16()))),
        }
    }
}

enum Body {
    Found(Vec<u8>),
    NotFound(i64),
}

fn schema_answer(body: &[u8]) -> Result<SchemaAnswer, Trouble> {
    serde_json::from_slice(body)
        .map_err(|_| Trouble::passing("status 200 with something else than a schema"))
}

fn wrong_url() -> Trouble {
    Trouble::lasting(
        "answers 404 as if it were none",
        "give its base URL with the path, such as /apis/ccompat/v7, in `schema_registry.url`",
    )
}

#[cold]
fn unanswered(error: reqwest::Error) -> Trouble {
    // The URL may hold a password.
    Trouble::passing(&with_sources(&error.without_url()))
}
