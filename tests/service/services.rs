//! The services themselves: each starts, answers, survives a kill with its data, and leaves
//! nothing running.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tempfile::TempDir;
use tidegauge::embedded::clickhouse::{
    ClickHouseError, EmbeddedClickHouse, EmbeddedOptions, find_library,
};

use crate::support::services::{ClickHouse, Kafka, Registry};
use crate::support::{http, wait_until};

const DEADLINE: Duration = Duration::from_secs(240);

#[test]
fn kafka_keeps_records_over_a_kill() {
    let mut kafka = Kafka::start();
    kafka.create_topic("orders", 4, &[("retention.ms", "-1")]);
    let producer: BaseProducer = kafka.client_config().create().unwrap();
    let record = BaseRecord::<(), _>::to("orders").partition(3).payload("one").timestamp(1_234);
    producer.send(record).unwrap();
    producer.flush(DEADLINE).unwrap();
    let address = kafka.bootstrap();
    kafka.kill();
    kafka.start_again();
    assert_eq!(kafka.bootstrap(), address);
    let consumer: BaseConsumer = kafka.client_config().set("group.id", "reader").create().unwrap();
    let mut from = rdkafka::TopicPartitionList::new();
    from.add_partition_offset("orders", 3, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    wait_until("the record", DEADLINE, || {
        consumer.poll(Duration::from_millis(100)).is_some_and(|message| {
            message.is_ok_and(|it| {
                it.payload() == Some(b"one") && it.timestamp().to_millis() == Some(1_234)
            })
        })
    });
    // Leaving its group without a broker would take the client most of a minute.
    drop(consumer);
    kafka.stop();
    wait_until("connections to be refused", DEADLINE, || {
        TcpStream::connect(&address).is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused)
    });
}

#[test]
fn registry_gives_back_what_was_registered() {
    let mut registry = Registry::start();
    let schema = r#"{"type":"record","name":"a","fields":[{"name":"x","type":"long"}]}"#;
    let id = registry.register("orders-value", schema);
    assert_eq!(registry.register("orders-value", schema), id);
    registry.kill();
    registry.start_again();
    let found = registry.send("GET", &format!("/schemas/ids/{id}"), "");
    assert_eq!(found.status, 200, "{found:?}");
    let found: serde_json::Value = serde_json::from_str(&found.body).unwrap();
    assert_eq!(found["schema"], schema);
    let other = r#"{"schema":"{\"type\":\"record\",\"name\":\"a\",\"fields\":[{\"name\":\"x\",\"type\":\"string\"}]}"}"#;
    let refused = registry.send("POST", "/subjects/orders-value/versions", other);
    assert_eq!(refused.status, 409, "{refused:?}");
}

#[test]
fn clickhouse_keeps_rows_over_a_kill_and_leaves_nothing_running() {
    let mut clickhouse = ClickHouse::start();
    assert_eq!(clickhouse.query("SELECT timezone()"), "UTC\n");
    for page in ["/ping", "/play", "/dashboard", "/js/uplot.js", "/js/lz-string.js"] {
        let answer = http::get(&format!("{}{page}", clickhouse.url())).unwrap();
        assert_eq!(answer.status, 200, "{page}");
    }
    clickhouse.query("CREATE DATABASE kept");
    clickhouse.query("CREATE TABLE kept.t (x UInt8) ENGINE = MergeTree ORDER BY x");
    clickhouse.query("INSERT INTO kept.t VALUES (7)");
    clickhouse.kill();
    clickhouse.start_again();
    assert_eq!(clickhouse.query("SELECT x FROM kept.t"), "7\n");
    let process = format!("/proc/{}", clickhouse.pid());
    assert!(Path::new(&process).exists());
    clickhouse.stop();
    assert!(!Path::new(&process).exists());
    clickhouse.start_again();
    assert_eq!(clickhouse.query("SELECT x FROM kept.t"), "7\n");
    let process = format!("/proc/{}", clickhouse.pid());
    drop(clickhouse);
    assert!(!Path::new(&process).exists());
}

#[test]
fn two_clickhouses_at_once_do_not_meet() {
    let (first, second) = (ClickHouse::start(), ClickHouse::start());
    assert_ne!(first.url(), second.url());
    first.query("CREATE DATABASE only_here");
    let query = "SELECT count() FROM system.databases WHERE name = 'only_here'";
    assert_eq!((first.query(query), second.query(query)), ("1\n".to_owned(), "0\n".to_owned()));
}

#[test]
fn taken_port_is_refused() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let options = EmbeddedOptions {
        data_dir: tempfile::tempdir().unwrap().path().to_owned(),
        http_port: Some(port),
        launcher: Some(env!("CARGO_BIN_EXE_tidegauge-clickhouse").into()),
        ..Default::default()
    };
    let refused = EmbeddedClickHouse::start(&options).unwrap_err();
    assert!(matches!(refused, ClickHouseError::PortTaken(taken) if taken == port), "{refused}");
}

/// The launcher's only other duty: a test or demo that was killed leaves no database behind. Many at once, since an end
/// while the machine is busy used to crash one time in seven.
#[test]
fn clickhouse_ends_with_the_pipe_of_its_parent() {
    let library = find_library(None).unwrap();
    let start = |folder: &TempDir| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegauge-clickhouse"))
            .arg(&library)
            .args(["--path", "store", "--interactive", "--query", "SELECT 1"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdin.take());
        child
    };
    let folders: [TempDir; 8] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    for mut child in folders.each_ref().map(start) {
        let mut status = None;
        wait_until("the end of ClickHouse", DEADLINE, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }
}

/// How an ordinary `clickhouse` binary is run: it sees a terminal, and an `exit` typed at the end.
#[test]
fn a_program_of_its_own_gets_a_terminal() {
    let launched = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegauge-clickhouse"));
        command.arg("--exec").args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(Stdio::null()).status().unwrap().success()
    };
    assert!(launched(&["sh", "-c", "test -t 0 && test ! -t 1"]));
    assert!(launched(&["sh", "-c", "read line && test \"$line\" = exit"]));
    assert!(!launched(&["sh", "-c", "exit 3"]));
}
