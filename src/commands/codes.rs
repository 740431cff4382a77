//! Every error code that a user can meet, what the process does about it, and the remedy. The README prints this
//! table; a test holds both together and finds codes that are missing.

use crate::alerting::AlertingError;
use crate::client::with_sources;
use crate::config::ConfigError;
use crate::dashboards::chart::DefinitionError;
use crate::decode::registry::RegistryError;
use crate::decode::{DecoderError, fields::FieldError};
use crate::embedded::broker::BrokerError;
use crate::embedded::clickhouse::ClickHouseError;
use crate::http::HttpError;
use crate::overview::OverviewError;
use crate::pipeline::PipelineError;
use crate::profile::DocumentError;
use crate::profile::builder::BuildError;
use crate::sink::SinkError;
use crate::sink::job::BindError;
use crate::source::SourceError;
use crate::source::files::FileError;
use crate::telemetry::LogError;
use crate::traffic::produce::TrafficError;

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The process ends with this exit code.
    Exit(u8),
    /// The process ends with this exit code when it starts; later it waits and says so on `/readyz`.
    AtStart(u8),
    /// The record goes to the dead letters; all else goes on.
    DeadLetter,
}

/// One code.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The stable name.
    pub code: &'static str,
    /// What follows.
    pub effect: Effect,
    /// What to do.
    pub remedy: &'static str,
}

const FAILED: Effect = Effect::Exit(1);
const USAGE: Effect = Effect::Exit(2);
const REFUSED: Effect = Effect::Exit(3);
const AT_START: Effect = Effect::AtStart(1);

const fn code(code: &'static str, effect: Effect, remedy: &'static str) -> Code {
    Code { code, effect, remedy }
}

/// All of them.
pub const CODES: &[Code] = &[
    code(
        "config_missing",
        USAGE,
        "name a TOML file that this user may read with `-c FILE`, or copy `deploy/tidegauge.toml`",
    ),
    code("config_syntax", USAGE, "correct the line: the file is TOML"),
    code(
        "config_unknown_key",
        USAGE,
        "use the key that the message names, or see `deploy/tidegauge.toml` for all keys",
    ),
    code("config_wrong_type", USAGE, "write the value as the message shows"),
    code("config_invalid_value", USAGE, "choose a value within what the message names"),
    code("config_required", USAGE, "add the key that the message names"),
    code("config_conflict", USAGE, "change one of the two settings that the message names"),
    code(
        "config_secret",
        USAGE,
        "set the variable, or make the file readable, that the secret names",
    ),
    code(
        "profile_not_json",
        USAGE,
        "name a profile's JSON document, as `tidegauge profile` writes it",
    ),
    code(
        "profile_format_unknown",
        USAGE,
        "build the profile again with this program, or read it with the one that wrote it",
    ),
    code(
        "profile_malformed",
        USAGE,
        "correct the part that the message names, or build the profile again",
    ),
    code(
        "profile_flawed",
        USAGE,
        "correct the part that the message names, or build the profile again",
    ),
    code(
        "profile_empty",
        USAGE,
        "build the profile of records that have features, scores, predictions or labels",
    ),
    code(
        "profile_changed",
        USAGE,
        "take the document as it was written; if the change is wanted, remove its `id` and raise `generation`",
    ),
    code(
        "profile_without_records",
        FAILED,
        "choose records that have features, scores, predictions or labels",
    ),
    code("profile_too_many_features", FAILED, "choose the features that matter"),
    code(
        "profile_declaration_invalid",
        USAGE,
        "declare finite, rising edges and a range whose first number is the lesser",
    ),
    code(
        "profile_several_models",
        USAGE,
        "name one with `--model`, or `--reference-model` for a report",
    ),
    code(
        "profile_exists",
        USAGE,
        "choose another `--name` or `--output`, or remove the file: profiles do not change",
    ),
    code("profile_not_written", FAILED, "make the folder writable, or choose another `--output`"),
    code("unknown_field", USAGE, "map only fields that the records of that topic have"),
    code("field_without_path", USAGE, "give the field at least one path, or leave it out"),
    code("bad_field_path", USAGE, "write paths as names joined by dots, like `meta.rid`"),
    code(
        "bad_schema_file",
        USAGE,
        "correct the Avro schema that `format = \"avro-file:PATH\"` names",
    ),
    code("too_many_segments", USAGE, "configure fewer segment dimensions"),
    code(
        "fields_of_other_topic",
        USAGE,
        "report it: field paths of one topic were given to the other",
    ),
    code(
        "bad_registry_url",
        USAGE,
        "correct `schema_registry.url`: it begins with http:// or https://",
    ),
    code(
        "registry_client",
        FAILED,
        "install the system's CA certificates (package ca-certificates)",
    ),
    code(
        "registry_refused",
        FAILED,
        "check the registry's address, its user and the compatibility of the schema",
    ),
    code("log_level", USAGE, "set `logs.level` to error, warn, info, debug or trace"),
    code("log_set_up_twice", FAILED, "report it: the log was set up twice"),
    code("interrupted", Effect::Exit(130), "start it again; nothing was lost"),
    code("usage", USAGE, "see `--help`"),
    code("dashboards_unread", USAGE, "name the folder with `dashboards/` in it: `--dir deploy`"),
    code("dashboards_wrong", USAGE, "correct the chart definition that the message names"),
    code("dashboards_stale", FAILED, "run `tidegauge dashboards`, which writes the files anew"),
    code("dashboards_unwritten", FAILED, "allow this user to write to the folder"),
    code("runtime", FAILED, "raise the limits of threads and memory of this process"),
    code(
        "overview_bind",
        FAILED,
        "stop the process that has the port, or choose another: `--listen`, of the demo `--overview-port`",
    ),
    code(
        "overview_open",
        USAGE,
        "set TIDEGAUGE_TOKEN to a secret of at least 16 characters, or listen on 127.0.0.1",
    ),
    code(
        "http_bind",
        FAILED,
        "stop the process that has the port, or choose another: `http.listen`, of the demo `--port`",
    ),
    // A file may come later, so a scheduler may try again.
    code(
        "file_missing",
        FAILED,
        "correct the path, and quote patterns (`'data/*.parquet'`); where files come late, run again once they are there",
    ),
    code("file_format", USAGE, "name files .jsonl, .csv, .tsv or .parquet after what they are"),
    code(
        "file_unreadable",
        FAILED,
        "make the file readable for this user, or see to its disk or mount",
    ),
    code("file_empty", FAILED, "leave the file out, or write it again"),
    code(
        "file_column_missing",
        USAGE,
        "add the column, or say in `inferences.fields` or `labels.fields` which one it is",
    ),
    code(
        "file_broken",
        FAILED,
        "correct the record that the message names, or write the file again",
    ),
    code("file_changed", FAILED, "run again once nobody writes to the file any more"),
    code(
        "file_unusable",
        FAILED,
        "correct its records, or fields in the configuration, and write the file again (where rows are written by then, \
         run it under another `--job`); or raise `dead_letters.limit`",
    ),
    code(
        "file_not_as_taken",
        REFUSED,
        "put the file back as it was, or watch under another `--job`; give what is new a name of its own",
    ),
    code("files_went_back", FAILED, "start again: it goes on from the older state"),
    code("job_finished", REFUSED, "watch under another `--job`"),
    code(
        "output_unwritable",
        FAILED,
        "make room where standard output goes, or name a file with `--output`",
    ),
    code(
        "report_empty",
        FAILED,
        "name files with inferences; correct their records as the lines before say, or name a configuration with `-c` \
         whose `inferences.fields` say where fields lie",
    ),
    code(
        "nothing_chosen",
        FAILED,
        "ask for a model, version, segment or time that the records have; segments need `--by`, or a configuration",
    ),
    code("report_unwritable", FAILED, "name a file with `--output` that can be written"),
    code("rejected_unwritable", FAILED, "name a file with `--rejected` that can be written"),
    code(
        "kafka_client",
        FAILED,
        "check `kafka.properties` against librdkafka's list of properties, and the brokers' log",
    ),
    code(
        "kafka_property",
        USAGE,
        "leave the property out of `kafka.properties`: the program sets it itself",
    ),
    code(
        "kafka_unreachable",
        FAILED,
        "start Kafka, or correct `kafka.brokers` (of simulate: `--brokers`) and the security properties",
    ),
    code("topic_missing", USAGE, "create the topic, or correct its name in the configuration"),
    code(
        "partitions_unequal",
        REFUSED,
        "give both topics the same number of partitions (in new topics, as keys move)",
    ),
    code(
        "assignment_unpaired",
        REFUSED,
        "give every instance of the job the same configuration and version",
    ),
    code(
        "instance_fenced",
        REFUSED,
        "give each instance of the job its own `group.instance.id` in `kafka.properties`, or none",
    ),
    code(
        "floor_below_log",
        REFUSED,
        "raise the topics' retention above the longest silence of a partition, and start under another job name: records are gone",
    ),
    code(
        "range_trimmed",
        FAILED,
        "begin with records that are still there: a later `--from`, or none for the first ones",
    ),
    code(
        "range_empty",
        FAILED,
        "choose `--from` and `--to` so that records lie between them; times are Kafka's timestamps",
    ),
    code(
        "retention_too_short",
        REFUSED,
        "raise the topic's setting to what the message names, or shorten `windows.label_wait`",
    ),
    code(
        "topic_recreated",
        REFUSED,
        "start under another job name: stored positions mean nothing in a new topic, nor in one whose brokers have lost \
         records that were counted",
    ),
    code(
        "job_other_topics",
        REFUSED,
        "give this job another name, or name the topics or files that it was made for",
    ),
    code(
        "partitions_changed",
        REFUSED,
        "start under another job name: keys have moved between partitions",
    ),
    code(
        "job_other_configuration",
        REFUSED,
        "put the configuration back, or start under another job name; before anything is counted it may change while no instance runs",
    ),
    code("clickhouse_unavailable", AT_START, "start ClickHouse, or correct `clickhouse.url`"),
    code(
        "clickhouse_refused",
        AT_START,
        "correct user, password and rights in ClickHouse, or free its disk; the message says which",
    ),
    code(
        "clickhouse_schema",
        Effect::AtStart(3),
        "run `tidegauge init` with the same configuration; where a table was altered or dropped, what the message says",
    ),
    code(
        "clickhouse_unreadable",
        REFUSED,
        "rows were changed by something else: restore the tables, or start under another job name",
    ),
    code(
        "dead_letters_unavailable",
        AT_START,
        "create the topic `dead_letters.topic` and allow this client to write to it",
    ),
    code(
        "state_unreadable",
        REFUSED,
        "rows were changed by something else: restore the tables, or start under another job name",
    ),
    code(
        "state_budget_exceeded",
        FAILED,
        "raise `state.budget` to what the message names or more, or see why the partition lags behind",
    ),
    code(
        "dead_letter_limit",
        FAILED,
        "correct the producer, or format and fields, or raise `dead_letters.limit`; nothing was lost",
    ),
    code("worker_failed", FAILED, "report it; a restart goes on from the last mark"),
    code(
        "clickhouse_missing",
        FAILED,
        "run `make clickhouse`, or install a `clickhouse` binary of version 26.6 or newer",
    ),
    code("clickhouse_launcher_missing", FAILED, "build both binaries: `cargo build --bins`"),
    code(
        "clickhouse_unsupported_machine",
        FAILED,
        "install a `clickhouse` binary, or use a ClickHouse server",
    ),
    code(
        "clickhouse_port_taken",
        FAILED,
        "choose another `--clickhouse-port`, or none for a free one",
    ),
    code("clickhouse_not_started", FAILED, "see the end of its log in the message"),
    code(
        "clickhouse_files",
        FAILED,
        "free space in, or allow writing to, the temporary folder (TMPDIR)",
    ),
    code(
        "embedded_broker_not_started",
        FAILED,
        "free memory and ports on 127.0.0.1; or use `run` with a real broker",
    ),
    code(
        "embedded_broker_topic",
        FAILED,
        "report it: the broker inside the process refused a topic",
    ),
    code("producer_client", FAILED, "check `--brokers` and `--property`"),
    code(
        "producer_refused",
        FAILED,
        "create the topics (`--create-topics`) and allow this client to write to them",
    ),
    code(
        "topics_not_created",
        FAILED,
        "create the topics with Kafka's own tools, or allow this client to",
    ),
    code(
        "demo_rows_differ",
        FAILED,
        "report it with the printed lines: the rows are not what was sent",
    ),
    code(
        "demo_not_drained",
        FAILED,
        "give it more time with `--for`, or a machine with less to do",
    ),
    code("tombstone", Effect::DeadLetter, "send a value: a record without one says nothing"),
    code("empty_payload", Effect::DeadLetter, "send a value: the record's is empty"),
    code(
        "broken_json",
        Effect::DeadLetter,
        "send one JSON object in UTF-8 for each record; in a file each stands on one line",
    ),
    code(
        "broken_avro",
        Effect::DeadLetter,
        "encode with the schema whose id stands in the record (or that the configuration names)",
    ),
    code(
        "wire_format",
        Effect::DeadLetter,
        "encode with the registry's serializer, or set `format` to what the topic holds",
    ),
    code(
        "unknown_schema",
        Effect::DeadLetter,
        "register the schema in the registry that `schema_registry.url` names, then send these records again; it was asked \
         for 5 s, since a node may be behind",
    ),
    code(
        "bad_schema",
        Effect::DeadLetter,
        "correct the schema in the registry: it does not fit the fields, or what it refers to is missing; then send these \
         records again",
    ),
    code(
        "trailing_bytes",
        Effect::DeadLetter,
        "send one record for each message, encoded with the schema it names",
    ),
    code(
        "missing_field",
        Effect::DeadLetter,
        "send the field that the message names, or say in `fields` where it lies",
    ),
    code(
        "empty_request_id",
        Effect::DeadLetter,
        "send a request ID: without one nothing can be joined",
    ),
    code("wrong_type", Effect::DeadLetter, "send the field in the type that the message names"),
    code(
        "timestamp_out_of_range",
        Effect::DeadLetter,
        "send milliseconds since 1970-01-01 UTC, or in JSON RFC 3339 text",
    ),
    code(
        "timestamp_in_future",
        Effect::DeadLetter,
        "correct the producer's clock, or raise `windows.max_future`; after a long pause raise `windows.max_gap`",
    ),
    code("score_out_of_range", Effect::DeadLetter, "send probabilities within 0 to 1"),
    code("latency_out_of_range", Effect::DeadLetter, "send milliseconds, 0 or more"),
    code("number_out_of_range", Effect::DeadLetter, "send finite numbers of at most 1e150 in size"),
    code("weight_out_of_range", Effect::DeadLetter, "send weights within 0 to 1048576"),
    code("nested_too_deep", Effect::DeadLetter, "send flatter records"),
    code(
        "name_too_long",
        Effect::DeadLetter,
        "send shorter names of models, versions, segments or classes",
    ),
    code(
        "too_many_values",
        Effect::DeadLetter,
        "send fewer features, scores or segments in one record",
    ),
    code("notify_client", FAILED, "install the system's CA certificates"),
    code("notify_target", FAILED, "correct the target's `[[notify]]`, or `kafka.properties`"),
    code(
        "notify_failed",
        FAILED,
        "see what the target answered; check `notify.url` or `notify.topic`, and its rights",
    ),
];

impl Effect {
    /// In a few words, for the README.
    pub fn text(self) -> String {
        match self {
            Self::Exit(exit) => format!("exit {exit}"),
            Self::AtStart(exit) => format!("exit {exit} at start, later waited out"),
            Self::DeadLetter => "dead letter".to_owned(),
        }
    }
}

/// The table as the README has it, in Markdown.
pub fn table() -> String {
    use std::fmt::Write as _;
    let mut text = "| code | effect | remedy |\n|---|---|---|\n".to_owned();
    for Code { code, effect, remedy } in CODES {
        writeln!(text, "| `{code}` | {} | {remedy} |", effect.text()).expect("a String takes all");
    }
    text
}

/// Why a command did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// The stable code.
    pub code: &'static str,
    /// The exit code.
    pub exit: u8,
    /// What, where, and why.
    pub message: String,
}

impl Failure {
    /// A failure with a code of the table.
    pub fn new(code: &'static str, message: String) -> Self {
        let exit = match find(code).map(|code| code.effect) {
            Some(Effect::Exit(exit) | Effect::AtStart(exit)) => exit,
            Some(Effect::DeadLetter) | None => 1,
        };
        Self { code, exit, message }
    }

    /// Three lines for people on standard error.
    pub fn print(&self) {
        use std::io::Write as _;
        let remedy = remedy(self.code);
        let text = format!("error[{}]: {}\n  remedy: {remedy}\n", self.code, self.message);
        // Nobody is left to tell if standard error is closed.
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

/// The entry of a code.
pub fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

/// The remedy of a code; empty for one that is not in the table.
pub(super) fn remedy(code: &str) -> &'static str {
    find(code).map_or("", |code| code.remedy)
}

macro_rules! failures {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.code(), with_sources(&error))
            }
        })*
    };
}

failures!(
    AlertingError,
    DefinitionError,
    ConfigError,
    RegistryError,
    DecoderError,
    FieldError,
    ClickHouseError,
    HttpError,
    OverviewError,
    SinkError,
    BindError,
    SourceError,
    FileError,
    LogError,
    PipelineError,
    TrafficError,
    BrokerError,
    DocumentError,
    BuildError,
);
