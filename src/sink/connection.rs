//! One ClickHouse over HTTP: statements, inserts, answers, and what a failure means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clickhouse::Client;
use clickhouse::error::Error;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;

use super::ddl::{Databases, Engine, quoted};
use super::insert::{CONNECT_TIMEOUT, IDLE_TIMEOUT, Inserts, Login};
use super::rowbinary::Rows;
use super::tables::Table;
use super::{RowBatch, SinkError};
use crate::client::with_sources;
use crate::failpoint::{self, Point};

/// How to reach ClickHouse, and as which job.
#[derive(Clone)]
pub struct ClickHouseSettings {
    /// `http://host:8123` or `https://host:8443`.
    pub url: String,
    /// The database that holds the tables, `[a-z0-9_]`; the views are in `<database>_bi`.
    pub database: String,
    /// The user; `default` where the server has no other.
    pub user: String,
    /// The user's password; empty where it has none.
    pub password: String,
    /// The owner of the rows.
    pub job: String,
    /// Which engines the tables get when `init` creates them.
    pub engine: Engine,
    /// Settings that go with every insert beside the fixed ones, as `insert_quorum`.
    pub insert_settings: Vec<(String, String)>,
    /// Settings that go with every read, as `select_sequential_consistency`.
    pub read_settings: Vec<(String, String)>,
    /// Until an insert must be acknowledged or a read answered.
    pub timeout: Duration,
}

/// An insert of 64 MiB takes a second or two; what takes longer is an overloaded server.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

impl ClickHouseSettings {
    /// Plain tables, user `default`, the default time-out.
    pub fn new(url: &str, database: &str, job: &str) -> Self {
        Self {
            url: url.to_owned(),
            database: database.to_owned(),
            user: "default".to_owned(),
            password: String::new(),
            job: job.to_owned(),
            engine: Engine::Plain,
            insert_settings: Vec::new(),
            read_settings: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl std::fmt::Debug for ClickHouseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings can hold secrets too, and so can what stands before an @ in the URL.
        let host = self.url.rsplit_once('@').map_or(&*self.url, |(_, host)| host);
        f.debug_struct("ClickHouseSettings")
            .field("url", &host)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("job", &self.job)
            .field("engine", &self.engine)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// `FORMAT` of every insert and answer: the server and this program check names and types.
const FORMAT: &str = "RowBinaryWithNamesAndTypes";

/// What every insert carries, whatever the server's profile says: done when acknowledged, nothing silently dropped as
/// repeated, no column silently skipped, any number of months at once.
pub const INSERT_SETTINGS: [(&str, &str); 7] = [
    ("async_insert", "0"),
    ("wait_end_of_query", "1"),
    ("insert_deduplicate", "0"),
    ("deduplicate_blocks_in_dependent_materialized_views", "0"),
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_with_types_use_header", "1"),
    ("max_partitions_per_insert_block", "0"),
];

/// What every read carries, whatever the server's profile says: an answer is whole or a failure, and columns have the
/// types that are asked for.
const READ_SETTINGS: [(&str, &str); 13] = [
    ("result_overflow_mode", "throw"),
    ("read_overflow_mode", "throw"),
    ("read_overflow_mode_leaf", "throw"),
    ("timeout_overflow_mode", "throw"),
    ("group_by_overflow_mode", "throw"),
    ("sort_overflow_mode", "throw"),
    ("join_overflow_mode", "throw"),
    ("set_overflow_mode", "throw"),
    ("distinct_overflow_mode", "throw"),
    ("limit", "0"),
    ("offset", "0"),
    ("join_use_nulls", "0"),
    ("use_query_cache", "0"),
];

/// What brings back rows that are gone. Without the marks a start begins at the beginning of the topics.
pub(super) const REBUILD_ROWS: &str = "To have all rows made again from the topics, stop every instance, drop the tables \
                                       marks and seals too, run `tidegauge init` and start again";

/// The same of metric rows.
pub(super) const REBUILD_METRICS: &str = "`tidegauge rebuild` writes metric rows again from the states in \
                                          window_state; then start every instance again";

/// Connection pools; clones share them.
#[derive(Clone)]
pub(super) struct Connection {
    /// For statements and for inserts. Without CA certificates there is neither for `https`: then why.
    clients: Result<(Client, Inserts), String>,
    pub(super) settings: ClickHouseSettings,
    pub(super) databases: Databases,
    /// The server's ids of the tables as they were at the start, by name; empty where that is not watched.
    identities: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Connection {
    pub(super) fn new(settings: ClickHouseSettings) -> Self {
        let clients = Inserts::new(&settings.url).map(|inserts| (client(&settings), inserts));
        let databases = Databases::of(&settings.database);
        Self { clients, settings, databases, identities: Arc::default() }
    }

    fn clients(&self) -> Result<&(Client, Inserts), SinkError> {
        self.clients.as_ref().map_err(|reason| SinkError::Refused(reason.clone()))
    }

    /// A table's name with its database's.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.databases.tables), quoted(name))
    }

    /// Refuses a database name that BI tools break on.
    pub(super) fn check_name(&self) -> Result<(), SinkError> {
        if Databases::is_name(&self.databases.tables) {
            return Ok(());
        }
        Err(SinkError::Schema(format!(
            "'{}' can't be a database: use a to z, 0 to 9 and _, and begin with a letter (`clickhouse.database`)",
            self.databases.tables
        )))
    }

    /// Inserts and waits for the acknowledgement. The bytes stay with the caller, for the next attempt.
    pub(super) async fn insert(&self, batch: &RowBatch) -> Result<(), SinkError> {
        if batch.rows == 0 {
            return Ok(());
        }
        // A flush begins with the one and ends with the other.
        if matches!(batch.table, Table::WindowState | Table::Marks) {
            self.check_identities().await?;
        }
        let settings = owned(&INSERT_SETTINGS);
        let sent = self.send(batch.table.name(), &batch.body, &settings).await;
        // The server names the column only.
        sent.map_err(|error| match error {
            SinkError::Schema(reason) => {
                SinkError::Schema(format!("table {}: {reason}", self.table(batch.table.name())))
            }
            other => other,
        })
    }

    /// The same for a text in any format, with settings of its own.
    pub(super) async fn insert_values(
        &self,
        table: &str,
        columns_and_values: &str,
        parameters: &[(&str, Parameter)],
        settings: &[(&str, &str)],
    ) -> Result<(), SinkError> {
        let (client, _) = self.clients()?;
        let mut query =
            client.query(&format!("INSERT INTO {} {columns_and_values}", self.table(table)));
        let fixed = owned(settings);
        for (name, value) in fixed.iter().chain(&self.settings.insert_settings) {
            query = query.with_setting(name, value);
        }
        for (name, value) in parameters {
            query = query.param(name, value);
        }
        self.within(query.execute()).await
    }

    async fn send(
        &self,
        table: &str,
        body: &Bytes,
        settings: &[(String, String)],
    ) -> Result<(), SinkError> {
        let (_, inserts) = self.clients()?;
        let sql = format!("INSERT INTO {} FORMAT {FORMAT}", self.table(table));
        let settings = settings.iter().chain(&self.settings.insert_settings);
        let settings = settings.map(|(name, value)| (&**name, &**value));
        let (user, password) = (&*self.settings.user, &*self.settings.password);
        let login = Login { url: &self.settings.url, user, password };
        let sent = inserts.send(login, &sql, body, settings);
        let sent = self.within(failpoint::reply(Point::InsertSent, sent)).await;
        if sent.is_err() && failpoint::is_broken(Point::FailedInsertDropped) {
            return Ok(());
        }
        sent.map_err(|error| error.about(&format!("table {table}")))
    }

    /// From now on the tables are those that there are now: [`insert`](Self::insert) refuses to go on with others.
    pub(super) async fn remember_identities(&self) -> Result<(), SinkError> {
        // Replicas behind one address may have ids of their own.
        if matches!(self.settings.engine, Engine::Plain) {
            *self.identities() = self.stored_identities().await?;
        }
        Ok(())
    }

    fn identities(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stored_identities(&self) -> Result<BTreeMap<String, String>, SinkError> {
        let sql = "SELECT name, toString(uuid) AS id FROM system.tables WHERE database = {database:String}";
        let database = Parameter::Text(self.databases.tables.clone());
        let body = self.fetch(sql, &[("database", database)]).await?;
        let mut rows = Rows::new(body, "system.tables", &[("name", "String"), ("id", "String")])?;
        let mut found = BTreeMap::new();
        while !rows.is_empty() {
            found.insert(rows.text()?.to_string(), rows.text()?.to_string());
        }
        Ok(found)
    }

    /// A table that was made anew lacks rows that nobody writes again: those of sealed windows. Marks that are gone
    /// are noticed by their audit, and all is read again.
    async fn check_identities(&self) -> Result<(), SinkError> {
        if self.identities().is_empty() {
            return Ok(());
        }
        let found = self.stored_identities().await?;
        let known = self.identities();
        let is_other = |table: &Table| {
            let pair = known.get(table.name()).zip(found.get(table.name()));
            pair.is_some_and(|(then, now)| then != now)
        };
        match Table::all().find(|table| *table != Table::Marks && is_other(table)) {
            Some(table) => Err(SinkError::Schema(format!(
                "table {} was made anew under the running program, and rows of sealed windows are not written twice. \
                 If its rows are all there again, start every instance again. {}",
                self.table(table.name()),
                if matches!(table, Table::Metric(_)) { REBUILD_METRICS } else { REBUILD_ROWS },
            ))),
            None => Ok(()),
        }
    }

    /// Runs a statement without an answer.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), SinkError> {
        let (client, _) = self.clients()?;
        // The crate takes a question mark for a place to bind at.
        self.within(client.query(&sql.replace('?', "??")).execute()).await
    }

    /// Runs a query; values come as parameters only.
    pub(super) async fn fetch(
        &self,
        sql: &str,
        parameters: &[(&str, Parameter)],
    ) -> Result<Bytes, SinkError> {
        let (client, _) = self.clients()?;
        let mut query = client.query(&sql.replace('?', "??"));
        for (name, value) in self.settings.read_settings.iter().chain(&owned(&READ_SETTINGS)) {
            query = query.with_setting(name, value);
        }
        for (name, value) in parameters {
            query = query.param(name, value);
        }
        self.within(async { query.fetch_bytes(FORMAT)?.collect().await }).await
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, SinkError> {
        let timeout: Duration = self.settings.timeout;
        match tokio::time::timeout(timeout, work).await {
            Ok(done) => done.map_err(|error| self.named(classify(&error))),
            Err(_) => Err(self.named(classify(&Error::TimedOut))),
        }
    }

    /// With the address of a server that does not answer: several may be in question.
    fn named(&self, error: SinkError) -> SinkError {
        match error {
            SinkError::Unavailable(reason) => {
                // What stands before an @ may be a secret.
                let url = self.settings.url.rsplit('@').next().unwrap_or_default();
                SinkError::Unavailable(format!("{reason} (at {url})"))
            }
            other => other,
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// A client for statements. The crate's own loads the machine's CA certificates even for plain HTTP, and panics where
/// there are none, as in a slim container: so plain HTTP gets a connector without TLS, and `https` comes here after
/// [`Inserts::new`] only, which has found some in the same places.
fn client(settings: &ClickHouseSettings) -> Client {
    let client = if settings.url.starts_with("https:") {
        Client::default()
    } else {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut http = HttpClient::builder(TokioExecutor::new());
        Client::with_http_client(http.pool_idle_timeout(IDLE_TIMEOUT).build(connector))
    };
    let client = client.with_url(&settings.url).with_user(&settings.user);
    // With it a failure is in the status and not behind the first rows of an answer.
    let client = client.with_setting("wait_end_of_query", "1");
    if settings.password.is_empty() { client } else { client.with_password(&settings.password) }
}

/// A value for `{name:Type}` in a query.
#[derive(Clone, Debug)]
pub(super) enum Parameter {
    Text(String),
    Number(i64),
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

impl Serialize for Parameter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
            Self::Texts(texts) => texts.serialize(serializer),
            Self::Numbers(numbers) => numbers.serialize(serializer),
        }
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn classify(error: &Error) -> SinkError {
    match error {
        Error::BadResponse(text) => of_server(text),
        Error::TimedOut => SinkError::Unavailable(
            "no answer within the time-out (`clickhouse.timeout`); the server is overloaded or cut off".to_owned(),
        ),
        Error::Unsupported(_) | Error::InvalidParams(_) => {
            SinkError::Refused(format!("{error}. Check `clickhouse.url`"))
        }
        _ => SinkError::Unavailable(with_sources(error)),
    }
}

/// What the operating system says of a disk that takes no more.
const DISK_CAUSES: [&str; 3] =
    ["No space left on device", "Read-only file system", "Disk quota exceeded"];

/// What the server's own error code says about who can help. Unknown codes are tried again: a wrong retry costs time,
/// a wrong stop costs rows.
fn of_server(text: &str) -> SinkError {
    // The rest is advice on other products, or the statement.
    let first = text.lines().next().unwrap_or_default();
    let short: String = first.chars().take(500).collect();
    let refused = |remedy: &str| SinkError::Refused(format!("{short}. {remedy}"));
    // Under several codes: 243 where the server sees it coming, 1001 or 75 where a write fails.
    if DISK_CAUSES.iter().any(|cause| short.contains(cause)) {
        return refused("Free disk space on the server, and let it write there");
    }
    match server_code(text) {
        // Unknown user, wrong or missing password, address not allowed, authentication failed.
        Some(192..=195 | 516) => refused("Check `clickhouse.user` and `clickhouse.password`"),
        // Database access denied, access denied.
        Some(291 | 497) => {
            refused("Grant the user what `deploy/clickhouse/users.sql` grants, on both databases")
        }
        // Read-only user; settings that its profile holds fast or does not know.
        Some(164 | 452 | 115) => refused("Use a user whose profile lets it write and set settings"),
        Some(201) => refused("Raise the user's quota"),
        // Too many rows or bytes, too slow.
        Some(158 | 160 | 307 | 396) => refused("Raise the limits of the user's profile"),
        // Bad arguments, an incorrect query: what the server's own configuration does not allow.
        Some(36 | 80) => {
            refused("Check `clickhouse.engine`, `clickhouse.keeper_path` and the user's profile")
        }
        Some(243) => refused("Free disk space on the server"),
        // A syntax error, a function or feature that the server does not have.
        Some(46 | 48 | 62 | 344) => refused("Use ClickHouse 24.8 or newer"),
        // No such column, identifier, table or database; types or names other than the header's.
        Some(8 | 16 | 47 | 53 | 60 | 81 | 117) => {
            SinkError::Schema(format!("{short}. Run `tidegauge init`"))
        }
        None if text.starts_with("401") || text.starts_with("403") => refused(
            "Check `clickhouse.user`, `clickhouse.password` and what stands before the server",
        ),
        // Among them: too many parts 252, too many queries 202, time-out 159 and 209, network 210, memory 241,
        // read-only while Keeper is away 242, a body cut on its way 33.
        Some(_) | None => SinkError::Unavailable(short),
    }
}

/// `NNN` of the first `Code: NNN`.
fn server_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::FailureClass;

    #[test]
    fn the_servers_code_decides_the_class() {
        let class = |code: u32| of_server(&format!("Code: {code}. DB::Exception: x")).class();
        for code in [159, 202, 209, 210, 241, 242, 252, 33, 999, 1000] {
            assert_eq!(class(code), FailureClass::Retry, "{code}");
        }
        for code in [516, 497, 243, 164, 60, 16, 81, 117, 36, 158, 396] {
            assert_eq!(class(code), FailureClass::WaitForOperator, "{code}");
        }
        assert_eq!(of_server("Code: 60. DB::Exception: x").code(), "clickhouse_schema");
        assert_eq!(of_server("Code: 516. DB::Exception: x").code(), "clickhouse_refused");
        let disk = "std::exception. Code: 1001, type: std::__1::filesystem::filesystem_error, e.what() = filesystem \
                    error: in create_directories: Read-only file system";
        assert_eq!(of_server(disk).code(), "clickhouse_refused");
        assert_eq!(of_server("502 Bad Gateway").code(), "clickhouse_unavailable");
        assert_eq!(of_server("403 Forbidden").code(), "clickhouse_refused");
        assert_eq!(of_server("Code: , Code: 60").code(), "clickhouse_unavailable");
    }
}
