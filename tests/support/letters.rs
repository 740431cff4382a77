//! What stands in a dead-letter topic.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::services::Kafka;
use super::wait_until;

const DEADLINE: Duration = Duration::from_secs(180);

/// Topic, partition and offset of the record that could not be used.
pub type Place = (String, usize, i64);

/// One letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

impl Letter {
    /// The header `tidegauge.NAME`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&format!("tidegauge.{name}")).map(String::as_str)
    }

    fn place(&self) -> Place {
        let number = |name: &str| self.header(name).expect(name).parse::<i64>().expect("a number");
        let partition = usize::try_from(number("partition")).expect("a partition");
        (self.header("topic").expect("a topic").to_owned(), partition, number("offset"))
    }
}

/// How many letters the topic's only partition holds.
pub fn count(kafka: &Kafka, topic: &str) -> i64 {
    let consumer: BaseConsumer = kafka.client_config().create().expect("the settings are right");
    consumer.fetch_watermarks(topic, 0, DEADLINE).expect("the broker answers").1
}

/// All letters by the record that each is about. Of several about one record, which only a crash makes, the last.
pub fn read(kafka: &Kafka, topic: &str) -> BTreeMap<Place, Letter> {
    let mut config = kafka.client_config();
    config.set("group.id", "reader");
    let consumer: BaseConsumer = config.create().expect("the settings are right");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&from).expect("it can be assigned");
    let (_, end) = consumer.fetch_watermarks(topic, 0, DEADLINE).expect("the broker answers");
    let mut letters = BTreeMap::new();
    let mut next = 0;
    wait_until("all dead letters to be read", DEADLINE, || {
        while next < end
            && let Some(message) = consumer.poll(Duration::from_millis(200))
        {
            let message = message.expect("a message");
            let headers = message.headers().expect("headers");
            let text = |value: Option<&[u8]>| {
                String::from_utf8_lossy(value.expect("a value")).into_owned()
            };
            let letter = Letter {
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                headers: headers.iter().map(|it| (it.key.to_owned(), text(it.value))).collect(),
            };
            letters.insert(letter.place(), letter);
            next = message.offset() + 1;
        }
        next >= end
    });
    letters
}
