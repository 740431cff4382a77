//! The traffic of [`requests`](super::requests) with what topics have on their worst days: clocks that are wrong,
//! partitions that are silent or hot, topics that are hours apart, names without end.

use std::collections::BTreeMap;

use super::log::{Message, json_payload};
use super::oracle::{Body, Given, Inference, Label};
use super::requests::{self, Random};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// Of how many records one says a wrong time of its own.
const WRONG_TIME_EVERY: u64 = 25;
/// Of how many records one has a wrong Kafka timestamp.
const WRONG_STAMP_EVERY: u64 = 400;
/// Below the number that a clock forgives, since the common traffic has some too.
const FORGIVEN_STAMPS: u32 = 5;
/// Kafka timestamps of each producer are off by so much.
const SKEWS_MS: [i64; 6] =
    [0, -90 * SECOND_MS, 40 * SECOND_MS, 4 * MINUTE_MS, -6 * MINUTE_MS, 8 * MINUTE_MS];
/// How far one topic is ahead of the other, of all of the time.
const AHEAD_SHARE: f64 = 0.2;
/// Where in the log names flood in, as shares of it.
const FLOODS: [f64; 2] = [0.1, 0.4];
/// Distinct names of each kind in each flood and partition; more than the caps of any kind.
const FLOOD_MODELS: usize = 300;
const FLOOD_VERSIONS: usize = 90;
const FLOOD_SEGMENTS: usize = 300;

/// Records that say times in seconds or microseconds, before 1970, or of the future; producers whose clocks are off by
/// minutes, one of them by an hour in the end.
pub fn wrong_times(seed: u64, inferences: usize, partitions: usize, hours: i64) -> Vec<Message> {
    let mut messages = requests::make(seed, inferences, partitions, hours);
    let mut random = Random(seed ^ 0xd4);
    let mut wrong: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    let late = messages.len() / 4 * 3;
    for (number, message) in messages.iter_mut().enumerate() {
        let producer = random.index(SKEWS_MS.len());
        message.stamp += SKEWS_MS[producer];
        if number >= late && producer == 1 && message.partition == 0 {
            // More of them than a clock forgives: it leaps, and what others send is late.
            message.stamp += HOUR_MS;
        }
        if random.one_in(WRONG_STAMP_EVERY) {
            let count = wrong.entry((message.topic, message.partition)).or_default();
            *count += 1;
            message.stamp = match random.below(4) {
                _ if *count > FORGIVEN_STAMPS => message.stamp / 1000,
                0 => message.stamp * 1000,
                1 => message.stamp + YEAR_MS,
                2 => message.stamp + 2 * HOUR_MS,
                // A client takes 0 for none.
                _ => 1,
            };
        }
        if random.one_in(WRONG_TIME_EVERY) {
            say_wrong_time(&mut random, message);
        }
    }
    messages
}

/// Makes a good record say another time; a dead one stays as it is.
fn say_wrong_time(random: &mut Random, message: &mut Message) {
    let (Body::Inference(Inference { time, .. }) | Body::Label(Label { time, .. })) =
        &mut message.body
    else {
        return;
    };
    let (is_usable, wrong) = match random.below(9) {
        0 => (true, *time / 1000),
        1 => (true, -*time),
        2 => (true, -1),
        // From here on it may be from the future, which the oracle judges.
        3 => (true, *time + 4 * MINUTE_MS + random.ms(2 * MINUTE_MS)),
        4 => (true, *time + random.ms(48 * HOUR_MS)),
        5 => (true, *time + 50 * YEAR_MS),
        // Out of the years that a record may name.
        6 => (false, *time * 1000),
        7 => (false, *time * 1_000_000),
        _ => (false, -2 * *time),
    };
    *time = wrong;
    message.payload = Some(json_payload(&message.body));
    if !is_usable {
        message.body = Body::Dead;
    }
}

/// One partition without a record, one that falls silent for a third of the time, the rest on one hot partition; a time
/// in which all are silent; labels hours behind their inferences, then hours ahead of them.
pub fn uneven_partitions(
    seed: u64,
    inferences: usize,
    partitions: usize,
    hours: i64,
) -> Vec<Message> {
    let all = requests::make(seed, inferences, partitions, hours);
    let total = share_of(all.len());
    let silent = partitions - 1;
    let mut placed: Vec<(f64, Message)> = Vec::with_capacity(all.len());
    let mut furthest = [0.0_f64; 2];
    for (number, mut message) in all.into_iter().enumerate() {
        let at = share_of(number) / total;
        // Of the partitions that are neither silent nor at times, all but a tenth goes to the hot one.
        let is_pausing = partitions > 2 && message.partition == silent - 1;
        if message.partition == silent {
            message.partition = 0;
        } else if is_pausing && (0.35..0.65).contains(&at) || (0.8..0.83).contains(&at) {
            continue;
        }
        let is_behind = if at < 0.5 { message.topic == 1 } else { message.topic == 0 };
        let sent = at + if is_behind { AHEAD_SHARE } else { 0.0 };
        // Each topic keeps its order.
        furthest[message.topic] = furthest[message.topic].max(sent);
        placed.push((furthest[message.topic], message));
    }
    placed.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    placed.into_iter().map(|(_, message)| message).collect()
}

/// Twice a flood of models, of one model's versions, and of values of a segment dimension, each beyond its cap.
pub fn flooding_names(seed: u64, inferences: usize, partitions: usize, hours: i64) -> Vec<Message> {
    let mut common = requests::make(seed, inferences, partitions, hours);
    let mut random = Random(seed ^ 0xd6);
    // From the end, so that places before it stay right.
    for (flood, share) in FLOODS.into_iter().enumerate().rev() {
        let at = place(common.len(), share);
        let stamp = common[at].stamp;
        let mut names = Vec::new();
        for partition in 0..partitions {
            let before = names.len();
            flood_of(&mut random, &format!("{flood}-{partition}"), partition, stamp, &mut names);
            shuffle(&mut random, &mut names[before..]);
        }
        common.splice(at..at, names);
    }
    common
}

fn flood_of(random: &mut Random, name: &str, partition: usize, stamp: i64, out: &mut Vec<Message>) {
    let all = FLOOD_MODELS + FLOOD_VERSIONS + FLOOD_SEGMENTS;
    for number in 0..all {
        let id = format!("flood-{name}-{number}");
        let (mut model, mut version, mut region) = ("fraud-cards".to_owned(), "2", "eu".to_owned());
        let several;
        if number < FLOOD_MODELS {
            // Long names and others' scripts too.
            model = format!("mødel-{name}-{number}{}", "x".repeat(number % 50 * 10));
        } else if number < FLOOD_MODELS + FLOOD_VERSIONS {
            several = format!("v{name}-{number}");
            version = &several;
        } else {
            region = format!("地区-{number}");
        }
        let inference = Inference {
            id: id.clone(),
            model,
            version: version.to_owned(),
            time: stamp,
            score: Some(random.share()),
            latency_ms: Some(1.5),
            segments: vec![("region".to_owned(), region)],
            ..Inference::default()
        };
        let mut send = |topic: usize, body: Body| {
            let (key, payload) = (id.clone(), Some(json_payload(&body)));
            out.push(Message { topic, partition, stamp, body, key, payload });
        };
        send(0, Body::Inference(inference));
        if number % 3 == 0 {
            let value = Given::Number(f64::from(u8::from(number % 2 == 0)));
            let label = Label { id: id.clone(), model: None, time: stamp, value, weight: 1.0 };
            send(1, Body::Label(label));
        }
    }
}

fn shuffle(random: &mut Random, messages: &mut [Message]) {
    for last in (1..messages.len()).rev() {
        messages.swap(last, random.index(last + 1));
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a place in the log")]
fn share_of(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in the log"
)]
fn place(total: usize, share: f64) -> usize {
    (total as f64 * share) as usize
}
