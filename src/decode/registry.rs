//! Writer schemas by id, shared by all decoders. Hits are kept for ever, misses briefly; an outage is "wait".

use super::SchemaId;
use apache_avro::Schema;
use std::sync::Arc;
use std::time::Duration;

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
    /// How long an id that the registry does not know is not asked for again.
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
    #[error("no HTTPS client can be made ({reason}): install the system's CA certificates")]
    Client {
        /// What is wrong.
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

/// What the cache knows of an id.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The schema.
    Known(Arc<WriterSchema>),
    /// The registry has no such id.
    Unknown,
    /// The registry has it, but it can't be used.
    Bad(Arc<str>),
    /// The registry has to be asked, or does not answer: ask again after [`Schemas::wait`].
    Waiting,
}

/// An id that decoders wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingFor {
    /// The id.
    pub id: SchemaId,
    /// Why it is not there yet, with the remedy.
    pub reason: String,
    /// Whether it will not come without the operator: wrong credentials.
    pub needs_operator: bool,
}

/// The cache of writer schemas, shared by all workers, filled by [`Schemas::serve`].
#[derive(Debug)]
pub struct Schemas {}

impl Schemas {
    /// A cache without a registry, for topics that need none: every id is unknown.
    pub fn none() -> Self {
        Self {}
    }

    /// A cache in front of a registry.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        let _ = settings;
        Ok(Self {})
    }

    /// What is known of an id; one that is not known is asked for by [`Schemas::serve`].
    pub fn lookup(&self, id: SchemaId) -> Lookup {
        let _ = id;
        Lookup::Unknown
    }

    /// The ids that decoders wait for and why, for `/readyz`.
    pub fn waiting(&self) -> Vec<WaitingFor> {
        Vec::new()
    }

    /// Blocks a worker until the cache has changed or `timeout` has passed; returns at once where nothing is
    /// waited for. Whether it changed.
    pub fn wait(&self, timeout: Duration) -> bool {
        let _ = timeout;
        false
    }

    /// Asks the registry for the ids that are waited for, until dropped.
    pub async fn serve(self: Arc<Self>) {
        std::future::pending().await
    }
}
