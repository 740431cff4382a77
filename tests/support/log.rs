//! Records of the oracle as payloads, in JSON and Avro, and their way into a topic. Its own encoding, so that the
//! program's traffic generator and decoder are not tested with themselves.

use std::time::Duration;

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Map, Value as Json, json};

use super::oracle::{Body, Given, Held, Inference, Label, Partition, Record};

const FLUSH_DEADLINE: Duration = Duration::from_secs(300);

/// A record that is to be produced: bytes for a good one are made from it, a dead one brings its own.
pub struct Message {
    /// 0 inferences, 1 labels.
    pub topic: usize,
    pub partition: usize,
    pub stamp: i64,
    pub body: Body,
    pub key: String,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// Avro schemas of both topics, with the fields that tests use.
pub const AVRO_SCHEMAS: [&str; 2] = [
    r#"{"type":"record","name":"Inference","fields":[
        {"name":"request_id","type":"string"},
        {"name":"model","type":"string"},
        {"name":"version","type":["null","string"],"default":null},
        {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"prediction","type":["null","double","boolean","string"],"default":null},
        {"name":"score","type":["null","double"],"default":null},
        {"name":"scores","type":{"type":"map","values":"double"},"default":{}},
        {"name":"latency_ms","type":["null","double"],"default":null},
        {"name":"error","type":["null","string"],"default":null},
        {"name":"segments","type":{"type":"map","values":"string"},"default":{}},
        {"name":"features","type":{"type":"map","values":["null","double","boolean","string"]},"default":{}}]}"#,
    r#"{"type":"record","name":"Label","fields":[
        {"name":"request_id","type":"string"},
        {"name":"model","type":["null","string"],"default":null},
        {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"label","type":["double","boolean","string"]},
        {"name":"weight","type":["null","double"],"default":null}]}"#,
];

fn given_as_json(given: &Given) -> Json {
    match given {
        Given::Number(number) => json!(number),
        Given::Boolean(boolean) => json!(boolean),
        Given::Text(text) => json!(text),
    }
}

fn held_as_json(held: &Held) -> Json {
    match held {
        Held::Null => Json::Null,
        Held::NotFinite => panic!("JSON has no NaN"),
        Held::Number(number) => json!(number),
        Held::Text(text) => json!(text),
        Held::Boolean(value) => json!(value),
    }
}

/// The JSON text of a good record.
pub fn json_payload(body: &Body) -> Vec<u8> {
    let mut object = Map::new();
    match body {
        Body::Inference(said) => {
            object.insert("request_id".to_owned(), json!(said.id));
            object.insert("model".to_owned(), json!(said.model));
            if !said.version.is_empty() {
                object.insert("version".to_owned(), json!(said.version));
            }
            object.insert("timestamp".to_owned(), json!(said.time));
            if let Some(prediction) = &said.prediction {
                object.insert("prediction".to_owned(), given_as_json(prediction));
            }
            if let Some(score) = said.score {
                object.insert("score".to_owned(), json!(score));
            }
            if !said.scores.is_empty() {
                let scores = said.scores.iter().map(|(class, score)| (class.clone(), json!(score)));
                object.insert("scores".to_owned(), Json::Object(scores.collect()));
            }
            if let Some(latency_ms) = said.latency_ms {
                object.insert("latency_ms".to_owned(), json!(latency_ms));
            }
            if said.failed {
                object.insert("error".to_owned(), json!("timeout"));
            }
            let segments: Map<_, _> =
                said.segments.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            object.insert("segments".to_owned(), Json::Object(segments));
            let features: Map<_, _> = said
                .features
                .iter()
                .map(|(name, value)| (name.clone(), held_as_json(value)))
                .collect();
            object.insert("features".to_owned(), Json::Object(features));
        }
        Body::Label(said) => {
            object.insert("request_id".to_owned(), json!(said.id));
            if let Some(model) = &said.model {
                object.insert("model".to_owned(), json!(model));
            }
            object.insert("timestamp".to_owned(), json!(said.time));
            object.insert("label".to_owned(), given_as_json(&said.value));
            object.insert("weight".to_owned(), json!(said.weight));
        }
        Body::Dead => panic!("a dead record brings its own bytes"),
    }
    serde_json::to_vec(&object).expect("plain values")
}

/// The Confluent wire format of a good record: a zero byte, the schema's id, the datum.
pub struct AvroWire {
    schemas: [apache_avro::Schema; 2],
    ids: [u32; 2],
}

impl AvroWire {
    /// With the ids under which [`AVRO_SCHEMAS`] are registered.
    pub fn new(ids: [u32; 2]) -> Self {
        let schemas =
            AVRO_SCHEMAS.map(|text| apache_avro::Schema::parse_str(text).expect("a schema"));
        Self { schemas, ids }
    }

    pub fn payload(&self, body: &Body) -> Vec<u8> {
        let (topic, datum) = match body {
            Body::Inference(said) => (0, avro_inference(said)),
            Body::Label(said) => (1, avro_label(said)),
            Body::Dead => panic!("a dead record brings its own bytes"),
        };
        let mut bytes = vec![0];
        bytes.extend(self.ids[topic].to_be_bytes());
        let writer = GenericDatumWriter::builder(&self.schemas[topic]).build();
        let writer = writer.expect("the schema stands alone");
        bytes.extend(writer.write_value_to_vec(datum).expect("it fits the schema"));
        bytes
    }
}

fn union(index: u32, value: Avro) -> Avro {
    Avro::Union(index, Box::new(value))
}

fn optional(value: Option<Avro>) -> Avro {
    value.map_or_else(|| union(0, Avro::Null), |value| union(1, value))
}

/// A class or number in a union whose branch `first` is the double.
fn avro_given(first: u32, given: &Given) -> Avro {
    match given {
        Given::Number(number) => union(first, Avro::Double(*number)),
        Given::Boolean(boolean) => union(first + 1, Avro::Boolean(*boolean)),
        Given::Text(text) => union(first + 2, Avro::String(text.clone())),
    }
}

fn record(fields: Vec<(&str, Avro)>) -> Avro {
    Avro::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn avro_held(held: &Held) -> Avro {
    match held {
        Held::Null => union(0, Avro::Null),
        Held::NotFinite => union(1, Avro::Double(f64::NAN)),
        Held::Number(number) => union(1, Avro::Double(*number)),
        Held::Boolean(value) => union(2, Avro::Boolean(*value)),
        Held::Text(text) => union(3, Avro::String(text.clone())),
    }
}

fn avro_inference(said: &Inference) -> Avro {
    let version = Some(said.version.clone()).filter(|version| !version.is_empty());
    let prediction =
        said.prediction.as_ref().map_or_else(|| union(0, Avro::Null), |it| avro_given(1, it));
    let scores = said.scores.iter().map(|(class, score)| (class.clone(), Avro::Double(*score)));
    let segments =
        said.segments.iter().map(|(name, value)| (name.clone(), Avro::String(value.clone())));
    let features = said.features.iter().map(|(name, value)| (name.clone(), avro_held(value)));
    record(vec![
        ("request_id", Avro::String(said.id.clone())),
        ("model", Avro::String(said.model.clone())),
        ("version", optional(version.map(Avro::String))),
        ("timestamp", Avro::TimestampMillis(said.time)),
        ("prediction", prediction),
        ("score", optional(said.score.map(Avro::Double))),
        ("scores", Avro::Map(scores.collect())),
        ("latency_ms", optional(said.latency_ms.map(Avro::Double))),
        ("error", optional(said.failed.then(|| Avro::String("timeout".to_owned())))),
        ("segments", Avro::Map(segments.collect())),
        ("features", Avro::Map(features.collect())),
    ])
}

fn avro_label(said: &Label) -> Avro {
    record(vec![
        ("request_id", Avro::String(said.id.clone())),
        ("model", optional(said.model.clone().map(Avro::String))),
        ("timestamp", Avro::TimestampMillis(said.time)),
        ("label", avro_given(0, &said.value)),
        ("weight", optional(Some(Avro::Double(said.weight)))),
    ])
}

/// Produces to topics that nobody else writes to, and keeps the logs that arise.
pub struct Producer {
    client: BaseProducer,
    topics: [String; 2],
    pub logs: Vec<Partition>,
}

impl Producer {
    /// To empty topics.
    pub fn new(mut config: ClientConfig, topics: [&str; 2], partitions: usize) -> Self {
        config.set("enable.idempotence", "true").set("linger.ms", "100");
        let producer = config.create().expect("the settings are right");
        let logs = vec![Partition::default(); partitions];
        Self { client: producer, topics: topics.map(str::to_owned), logs }
    }

    /// Hands one record over; its offset is the number of those before it, since order is kept.
    pub fn send(&mut self, message: Message) {
        let Message { topic, partition, stamp, body, key, payload } = message;
        let number = i32::try_from(partition).expect("few partitions");
        loop {
            let mut record = BaseRecord::<_, [u8]>::to(&self.topics[topic])
                .partition(number)
                .key(&*key)
                .timestamp(stamp);
            if let Some(payload) = &payload {
                record = record.payload(payload);
            }
            match self.client.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.client.poll(Duration::from_millis(100));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        let logs = &mut self.logs[partition];
        let log = if topic == 0 { &mut logs.inferences } else { &mut logs.labels };
        let offset = i64::try_from(log.len()).expect("few records");
        log.push(Record { offset, stamp, body });
        self.client.poll(Duration::ZERO);
    }

    /// Waits until the broker has all of them.
    pub fn deliver(&self) {
        self.client.flush(FLUSH_DEADLINE).expect("the broker takes them");
    }

    /// The same, and it has numbered them as expected. (A broker that was killed may have taken some twice.)
    pub fn flush(&self) {
        self.deliver();
        for (number, logs) in self.logs.iter().enumerate() {
            for (topic, log) in [&logs.inferences, &logs.labels].into_iter().enumerate() {
                let number = i32::try_from(number).expect("few partitions");
                let client = self.client.client();
                let ends = client.fetch_watermarks(&self.topics[topic], number, FLUSH_DEADLINE);
                let (_, end) = ends.expect("the broker answers");
                assert_eq!(end, i64::try_from(log.len()).expect("few records"), "one offset each");
            }
        }
    }
}
