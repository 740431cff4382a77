//! The registry's cache against a small HTTP server that fails in every way.
#![expect(clippy::disallowed_methods, reason = "the end of a wait is a matter of the wall clock")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegauge::decode::registry::{Lookup, RegistrySettings, Schemas};
use tidegauge::decode::{Decoder, Format, NotDecoded, SchemaId};
use tidegauge::engine::event::Stream;
use tidegauge::engine::names::Names;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

use crate::wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);
/// Of a request that is never answered. Longer than any answer takes: the number of requests counts.
const SILENCE: Duration = Duration::from_secs(4);
/// What is missing is looked up before it is forgotten, also by a thread that was held up.
const MISSES_LAST: Duration = Duration::from_secs(3);

#[derive(Clone)]
enum Reply {
    Status(u16, String),
    /// Never answers.
    Silence,
    /// Closes the connection.
    Hangup,
}

/// Replies by path, in order; the last one stays. Notes every request's head.
#[derive(Default)]
struct Script {
    replies: BTreeMap<String, VecDeque<Reply>>,
    requests: Vec<String>,
    silent: Vec<TcpStream>,
}

struct Server {
    script: Arc<Mutex<Script>>,
    url: String,
    schemas: Arc<Schemas>,
    _runtime: Runtime,
}

impl Server {
    fn new(replies: &[(&str, &[Reply])]) -> Self {
        Self::with(replies, |_| {})
    }

    fn with(replies: &[(&str, &[Reply])], change: impl FnOnce(&mut RegistrySettings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
        let replies =
            replies.iter().map(|(path, r)| ((*path).to_owned(), r.iter().cloned().collect()));
        let script =
            Arc::new(Mutex::new(Script { replies: replies.collect(), ..Script::default() }));
        let shared = Arc::clone(&script);
        // Ends with the test process; every connection is answered in turn.
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| answer(stream, &shared));
        });
        let mut settings = quick(&url);
        change(&mut settings);
        let (schemas, runtime) = serve(settings);
        Self { script, url, schemas, _runtime: runtime }
    }

    fn requests(&self) -> usize {
        self.script.lock().unwrap().requests.len()
    }

    fn known(&self, id: u32) -> bool {
        matches!(lookup_until_settled(&self.schemas, id), Lookup::Known(_))
    }
}

fn quick(url: &str) -> RegistrySettings {
    let mut settings = RegistrySettings::new(url);
    settings.request_timeout = PATIENCE;
    settings.pause_min = Duration::from_millis(5);
    settings.pause_max = Duration::from_millis(50);
    settings.behind_for = Duration::ZERO;
    settings.miss_for = MISSES_LAST;
    settings
}

fn serve(settings: RegistrySettings) -> (Arc<Schemas>, Runtime) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let schemas = Arc::new(Schemas::new(settings).unwrap());
    drop(runtime.spawn(Arc::clone(&schemas).serve()));
    (schemas, runtime)
}

fn answer(mut stream: TcpStream, script: &Mutex<Script>) {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|n| n > 0) {}
    let path = head.split(' ').nth(1).unwrap_or("").to_owned();
    let mut script = script.lock().unwrap();
    script.requests.push(head);
    let reply = match script.replies.get_mut(&path) {
        Some(replies) if replies.len() > 1 => replies.pop_front(),
        Some(replies) => replies.front().cloned(),
        None => None,
    };
    match reply {
        Some(Reply::Status(status, body)) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
            );
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
        Some(Reply::Silence) => script.silent.push(stream),
        Some(Reply::Hangup) => {}
        None => {
            let body = r#"{"error_code":404,"message":"no such path"}"#;
            let length = body.len();
            drop(write!(
                stream,
                "HTTP/1.1 404 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            ));
        }
    }
}

fn lookup_until_settled(schemas: &Schemas, id: u32) -> Lookup {
    let end = Instant::now() + PATIENCE;
    loop {
        match schemas.lookup(SchemaId(id)) {
            Lookup::Waiting => assert!(Instant::now() < end, "{:?}", schemas.waiting()),
            settled => return settled,
        }
        schemas.wait(Duration::from_millis(100));
    }
}

/// Waits until the reason that is given for waiting contains `text`.
fn wait_for_reason(schemas: &Schemas, text: &str) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        let waiting = schemas.waiting();
        if let Some(found) = waiting.iter().find(|w| w.reason.contains(text)) {
            assert!(matches!(schemas.lookup(found.id), Lookup::Waiting));
            return found.needs_operator;
        }
        assert!(Instant::now() < end, "{waiting:?}");
        schemas.wait(Duration::from_millis(10));
    }
}

fn schema(text: &str) -> Reply {
    Reply::Status(200, serde_json::json!({ "schema": text }).to_string())
}

fn not_found() -> Reply {
    Reply::Status(404, r#"{"error_code":40403,"message":"Schema 1 not found"}"#.to_owned())
}

const ID_1: &str = "/apis/ccompat/v7/schemas/ids/1";
const ID_2: &str = "/apis/ccompat/v7/schemas/ids/2";

#[test]
fn a_schema_is_asked_for_once() {
    let server = Server::with(&[(ID_1, &[schema(r#""string""#)])], |settings| {
        settings.user = Some("alice".to_owned());
        settings.password = Some("secret".to_owned());
    });
    assert!(matches!(server.schemas.lookup(SchemaId(1)), Lookup::Waiting));
    assert!(server.known(1) && server.known(1));
    assert!(server.schemas.waiting().is_empty());
    let requests = server.script.lock().unwrap().requests.clone();
    assert_eq!(requests.len(), 1);
    let head = requests[0].to_lowercase();
    assert!(head.contains("authorization: basic ywxpy2u6c2vjcmv0"), "{head}");
    assert!(head.contains("accept: application/vnd.schemaregistry.v1+json"), "{head}");
}

#[test]
fn an_outage_is_waited_out() {
    for trouble in [
        Reply::Status(500, "oops".to_owned()),
        Reply::Status(200, "<html>".to_owned()),
        Reply::Status(200, "{}".to_owned()),
        Reply::Status(429, String::new()),
        Reply::Hangup,
        Reply::Silence,
    ] {
        let is_silent = matches!(trouble, Reply::Silence);
        let replies = [trouble.clone(), trouble, schema(r#""string""#)];
        let server = Server::with(&[(ID_1, &replies)], |settings| {
            if is_silent {
                settings.request_timeout = SILENCE;
            }
        });
        assert!(server.known(1));
        assert_eq!(server.requests(), 3);
    }
}

#[test]
fn a_refused_connection_is_waited_out_with_its_reason() {
    // Bound, so that nobody else can listen there.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let (schemas, _runtime) = serve(quick(&format!("http://{address}")));
    assert!(matches!(schemas.lookup(SchemaId(3)), Lookup::Waiting));
    assert!(!wait_for_reason(&schemas, "refused"));
}

#[test]
fn wrong_credentials_and_a_wrong_path_need_the_operator() {
    let refused = Reply::Status(401, "secret".to_owned());
    let server = Server::new(&[(ID_1, &[refused])]);
    server.schemas.lookup(SchemaId(1));
    assert!(wait_for_reason(&server.schemas, "credentials"));
    // A 404 that is not the registry's own must never turn records into dead letters.
    server.schemas.lookup(SchemaId(2));
    assert!(wait_for_reason(&server.schemas, "base URL"));
}

#[test]
fn an_unknown_id_is_asked_for_again_after_a_while() {
    let server = Server::new(&[(ID_1, &[not_found(), schema(r#""string""#)])]);
    assert!(matches!(lookup_until_settled(&server.schemas, 1), Lookup::Unknown));
    assert_eq!(server.requests(), 1);
    wait_until("the miss to be forgotten", PATIENCE, || server.known(1));
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_node_that_is_behind_is_asked_until_it_knows() {
    let root = r#"{"schema":"\"string\"","references":[{"name":"x","subject":"new","version":1}]}"#;
    let behind = |settings: &mut RegistrySettings| settings.behind_for = PATIENCE;
    let server = Server::with(
        &[
            (ID_1, &[not_found(), not_found(), Reply::Status(200, root.to_owned())]),
            (
                "/apis/ccompat/v7/subjects/new/versions/1",
                &[
                    Reply::Status(404, r#"{"error_code":40401}"#.to_owned()),
                    schema(r#"{"type":"enum","name":"E","symbols":["A"]}"#),
                ],
            ),
        ],
        behind,
    );
    assert!(server.known(1));
    assert_eq!(server.requests(), 6, "two without the schema, one without what it refers to");
    server.script.lock().unwrap().replies.insert(ID_2.to_owned(), [not_found()].into());
    server.schemas.lookup(SchemaId(2));
    assert!(!wait_for_reason(&server.schemas, "may be behind"));
    // Nobody waits for an id that no registry would have given yet.
    let noise = "/apis/ccompat/v7/schemas/ids/4000000000";
    server.script.lock().unwrap().replies.insert(noise.to_owned(), [not_found()].into());
    assert!(matches!(lookup_until_settled(&server.schemas, 4_000_000_000), Lookup::Unknown));
}

#[test]
fn what_a_schema_refers_to_may_come_later() {
    let root = r#"{"schema":"\"string\"","references":[{"name":"x","subject":"new","version":1}]}"#;
    let server = Server::new(&[
        (ID_1, &[Reply::Status(200, root.to_owned())]),
        (
            "/apis/ccompat/v7/subjects/new/versions/1",
            &[
                Reply::Status(404, r#"{"error_code":40401}"#.to_owned()),
                schema(r#"{"type":"enum","name":"E","symbols":["A"]}"#),
            ],
        ),
    ]);
    let found = lookup_until_settled(&server.schemas, 1);
    assert!(matches!(&found, Lookup::Bad(why) if why.contains("new")), "{found:?}");
    wait_until("the miss to be forgotten", PATIENCE, || server.known(1));
    assert_eq!(server.requests(), 4, "both, twice");
}

#[test]
fn a_schema_that_cannot_be_used_is_bad_for_ever() {
    let protobuf = Reply::Status(200, r#"{"schema":"x","schemaType":"PROTOBUF"}"#.to_owned());
    for (reply, reason) in [(schema("{"), ""), (protobuf, "PROTOBUF")] {
        let server = Server::new(&[(ID_1, &[reply])]);
        for _ in 0..2 {
            let found = lookup_until_settled(&server.schemas, 1);
            assert!(matches!(&found, Lookup::Bad(why) if why.contains(reason)), "{found:?}");
        }
        assert_eq!(server.requests(), 1);
    }
}

#[test]
fn references_are_followed() {
    let subject = |text: &str, references: &str| {
        let schema = serde_json::to_string(text).unwrap();
        Reply::Status(
            200,
            format!(r#"{{"schema":{schema},"schemaType":"AVRO","references":{references}}}"#),
        )
    };
    let root = r#"{"type":"record","name":"I","namespace":"n","fields":[{"name":"request_id","type":"n.Id"},
        {"name":"model","type":"string"},{"name":"timestamp","type":"n.Time"}]}"#;
    let id = r#"{"type":"enum","name":"Id","namespace":"n","symbols":["A","B"]}"#;
    let time = r#"{"type":"record","name":"Time","namespace":"n","fields":[
        {"name":"id","type":"n.Id"},{"name":"at","type":"long"}]}"#;
    let to_id = r#"{"name":"n.Id","subject":"the id/x","version":3}"#;
    let server = Server::new(&[
        (
            ID_1,
            &[subject(
                root,
                &format!(r#"[{to_id},{{"name":"n.Time","subject":"time","version":1}}]"#),
            )],
        ),
        ("/apis/ccompat/v7/subjects/the%20id%2Fx/versions/3", &[subject(id, "[]")]),
        ("/apis/ccompat/v7/subjects/time/versions/1", &[subject(time, &format!("[{to_id}]"))]),
        (
            "/apis/ccompat/v7/schemas/ids/2",
            &[subject(root, r#"[{"name":"x","subject":"gone","version":1}]"#)],
        ),
        (
            "/apis/ccompat/v7/subjects/gone/versions/1",
            &[Reply::Status(404, r#"{"error_code":40401}"#.to_owned())],
        ),
    ]);
    assert!(server.known(1), "{}", server.url);
    let found = lookup_until_settled(&server.schemas, 2);
    assert!(matches!(&found, Lookup::Bad(why) if why.contains("gone")), "{found:?}");

    let mut settings = crate::decode::settings(Stream::Inferences, Format::AvroRegistry);
    settings.fields.set("timestamp", vec!["timestamp.at".to_owned()]).unwrap();
    let mut decoder = Decoder::new(&settings, Arc::clone(&server.schemas)).unwrap();
    let payload = [0, 0, 0, 0, 1, 2, 2, b'm', 0, 10];
    let mut names = Names::default();
    let event = crate::decode::inference(decoder.decode(Some(&payload), &mut names).unwrap());
    assert_eq!(event.time.0, 5);
}

#[test]
fn a_decoder_waits_for_its_schema() {
    let replies = [Reply::Silence, schema(crate::decode::LABEL)];
    let server = Server::with(&[(ID_1, &replies)], |settings| settings.request_timeout = SILENCE);
    let settings = crate::decode::settings(Stream::Labels, Format::AvroRegistry);
    let mut decoder = Decoder::new(&settings, Arc::clone(&server.schemas)).unwrap();
    let mut names = Names::default();
    let payload = [0, 0, 0, 0, 1, 2, b'r', 10, 6, 1, 0, 0];
    let first = decoder.decode(Some(&payload), &mut names);
    assert_eq!(first.unwrap_err(), NotDecoded::Waiting(SchemaId(1)));
    assert!(server.known(1));
    decoder.decode(Some(&payload), &mut names).unwrap();
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in ["", "registry:8081", "ftp://x/", "http://"] {
        assert_eq!(
            Schemas::new(RegistrySettings::new(url)).unwrap_err().code(),
            "bad_registry_url"
        );
    }
    assert!(Schemas::new(RegistrySettings::new("https://registry.example/base")).is_ok());
}
