//! The services themselves: each starts, answers, survives a kill with its data, and leaves
//! nothing running.

use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegauge::embedded::clickhouse::{Chart, EmbeddedOptions};

use crate::support::services::{ClickHouse, Kafka, Registry};
use crate::support::{http, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

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
    kafka.stop();
    assert!(http::get(&format!("http://{address}/")).is_err());
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
    let charts = vec![Chart { title: "a < b".to_owned(), query: "SELECT 1 < 2".to_owned() }];
    let mut clickhouse = ClickHouse::start_with(EmbeddedOptions { charts, ..Default::default() });
    assert_eq!(clickhouse.query("SELECT timezone()"), "UTC\n");
    assert_eq!(
        clickhouse.query("SELECT title, query FROM system.dashboards"),
        "a < b\tSELECT 1 < 2\n"
    );
    for page in ["/ping", "/play", "/dashboard"] {
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
