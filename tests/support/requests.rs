//! Seeded requests of a fraud team, with the faults that real topics have: duplicates, late and missing and corrected
//! labels, labels before their inference, broken records, wrong timestamps, shadow models; some of these sort into
//! classes or say a number.

use super::log::{Message, json_payload};
use super::oracle::{Body, Given, Held, Inference, Label, ModelRule, Settings, Task};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
/// 2026-01-05 00:00 UTC.
const FIRST_MS: i64 = 1_767_571_200_000;

/// Of how many requests one has the fault.
const DUPLICATE_EVERY: u64 = 33;
const LATE_EVERY: u64 = 50;
const UNLABELLED_EVERY: u64 = 12;
const LATE_LABEL_EVERY: u64 = 40;
const CORRECTED_EVERY: u64 = 30;
const REPEATED_LABEL_EVERY: u64 = 40;
const EARLY_LABEL_EVERY: u64 = 60;
const BROKEN_EVERY: u64 = 200;
/// Of how many requests one is also for the model that sorts, and for the one that says a number.
const ROUTE_EVERY: u64 = 11;
const AMOUNT_EVERY: u64 = 13;
/// The classes of the model that sorts. Labels say the first two, and now and then `true` or `false`.
const ROUTES: [&str; 3] = ["0", "1", "2"];
/// Rare: a clock forgives seven of them in its topic partition.
const WRONG_STAMP_EVERY: u64 = 20_000;
/// Producers' clocks differ by up to two minutes.
const SKEWED_STAMP_EVERY: u64 = 20;

/// The job's settings for these requests: the defaults of the program.
pub fn settings() -> Settings {
    let region = vec!["region".to_owned()];
    let fraud = ModelRule {
        pattern: "fraud-*".to_owned(),
        task: Some(Task::Binary),
        dimensions: region.clone(),
        value: Some([10.0, -4.0, -20.0, 0.5]),
        thresholds: vec![0.25, 0.9],
        ..ModelRule::default()
    };
    let route = ModelRule {
        pattern: "route".to_owned(),
        task: Some(Task::Multiclass),
        dimensions: region.clone(),
        ..ModelRule::default()
    };
    // That `amount` predicts numbers is seen from its records.
    let rest =
        ModelRule { threshold: 0.25, dimensions: region, weighted: true, ..ModelRule::default() };
    Settings {
        window: 5 * MINUTE_MS,
        lateness: 10 * MINUTE_MS,
        label_wait: 60 * MINUTE_MS,
        max_future: 5 * MINUTE_MS,
        max_gap: 7 * 24 * 60 * MINUTE_MS,
        clock_stamps: 8,
        caps: [256, 64, 256],
        most_features: 256,
        class_caps: [256, 32],
        models: vec![fraud, route, rest],
        grains: vec![60 * MINUTE_MS, 24 * 60 * MINUTE_MS],
        has_labels: true,
        event_progress: false,
        generation: 0,
    }
}

/// `splitmix64`.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Milliseconds below `end`.
    pub fn ms(&mut self, end: i64) -> i64 {
        let end = u64::try_from(end).expect("a span");
        i64::try_from(self.below(end)).expect("below an i64")
    }

    /// A place in a list of this length.
    pub fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).expect("a length");
        usize::try_from(self.below(length)).expect("below a length")
    }

    /// True once in so many times.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// In 0..=1, in steps that JSON and Avro carry exactly.
    pub fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1 << 20)).expect("20 bits"))
            / f64::from((1_u32 << 20) - 1)
    }
}

/// About `inferences` inferences and their labels, in log order, over `hours` of event time.
pub fn make(seed: u64, inferences: usize, partitions: usize, hours: i64) -> Vec<Message> {
    let mut random = Random(seed);
    let mut messages: Vec<(i64, Message)> = Vec::new();
    let mut made = 0;
    let mut request = 0_u64;
    while made < inferences {
        let at = FIRST_MS + random.ms(hours * 60 * MINUTE_MS);
        let mut one =
            Request { number: request, partition: 0, at, random: &mut random, out: &mut messages };
        one.partition = usize::try_from(one.random.below(1 << 20)).expect("20 bits") % partitions;
        made += one.make();
        request += 1;
    }
    messages.sort_by_key(|(log_time, _)| *log_time);
    messages.into_iter().map(|(_, message)| message).collect()
}

struct Request<'a> {
    number: u64,
    partition: usize,
    at: i64,
    random: &'a mut Random,
    out: &'a mut Vec<(i64, Message)>,
}

impl Request<'_> {
    /// Adds all records of the request; gives the number of inferences.
    fn make(&mut self) -> usize {
        let id = format!("request-{}", self.number);
        let before = self.out.len();
        let score = self.random.share();
        let fraud = self.inference(
            &id,
            "fraud-cards",
            ["2", "3"][usize::from(self.number.is_multiple_of(4))],
            score,
        );
        self.send_inference(fraud);
        if self.number.is_multiple_of(5) {
            let score = self.random.share();
            let shadow = self.inference(&id, "fraud-shadow", "", score);
            self.send_inference(shadow);
        }
        if self.number.is_multiple_of(7) {
            let mut churn = self.inference(&id, "churn", "", 0.0);
            churn.score = None;
            churn.prediction = Some(Given::Boolean(self.random.one_in(3)));
            self.send_inference(churn);
        }
        self.other_tasks(&id, score);
        let inferences = self.out.len() - before;
        self.labels(&id, score);
        inferences
    }

    /// Inferences of models of other tasks, which the request's label is for as well. By chance of their own, so that
    /// they move nothing else of a seed.
    fn other_tasks(&mut self, id: &str, score: f64) {
        let mut own = Random(self.number ^ u64::try_from(self.at).expect("after 1970"));
        let (number, partition, at) = (self.number, self.partition, self.at);
        let mut request = Request { number, partition, at, random: &mut own, out: self.out };
        if number.is_multiple_of(ROUTE_EVERY) {
            let route = request.route(id, score);
            request.send_inference(route);
        }
        if number.is_multiple_of(AMOUNT_EVERY) {
            let amount = request.amount(id, score);
            request.send_inference(amount);
        }
    }

    /// Three scores, of which the second goes with the truth, and at times a class beside them.
    fn route(&mut self, id: &str, score: f64) -> Inference {
        let route = self.inference(id, "route", "", score);
        let shares = [1.01 - score, 0.01 + score, 0.01 + self.random.share() / 2.0];
        let sum: f64 = shares.iter().sum();
        let scores = ROUTES.iter().zip(shares);
        let class = f64::from(u8::try_from(self.random.below(3)).expect("small"));
        Inference {
            score: None,
            scores: scores.map(|(class, share)| ((*class).to_owned(), share / sum)).collect(),
            prediction: self.random.one_in(4).then_some(Given::Number(class)),
            features: Vec::new(),
            ..route
        }
    }

    /// A number about as great as the label, now and then below zero.
    fn amount(&mut self, id: &str, score: f64) -> Inference {
        let amount = self.inference(id, "amount", "", score);
        let said = score * 1.5 - 0.5 * self.random.share();
        Inference {
            score: None,
            prediction: Some(Given::Number(said)),
            features: Vec::new(),
            ..amount
        }
    }

    fn inference(&mut self, id: &str, model: &str, version: &str, score: f64) -> Inference {
        let latency = i32::try_from(self.random.below(400_000)).expect("small");
        let region =
            ["eu", "us", "apac"].get(usize::try_from(self.random.below(4)).expect("small"));
        Inference {
            id: id.to_owned(),
            model: model.to_owned(),
            version: version.to_owned(),
            time: self.at,
            prediction: self
                .random
                .one_in(3)
                .then(|| Given::Number(f64::from(u8::from(score > 0.6)))),
            score: (!self.random.one_in(20)).then_some(score),
            scores: Vec::new(),
            latency_ms: (!self.random.one_in(10)).then(|| f64::from(latency) / 1000.0),
            failed: self.random.one_in(50),
            segments: region
                .map(|region| ("region".to_owned(), (*region).to_owned()))
                .into_iter()
                .collect(),
            features: self.features(),
        }
    }

    /// An amount with a heavy tail, a country, and whether the device is new; now and then none or of another kind.
    fn features(&mut self) -> Vec<(String, Held)> {
        let amount = match self.random.below(40) {
            0 => Held::Null,
            1 => Held::Text("unknown".to_owned()),
            _ => Held::Number((self.random.share() - 0.25).powi(5) * 1e6),
        };
        let country = ["AT", "BR", "CH", "DE", "FR", "JP", "US"][self.random.index(7)];
        let mut features = vec![
            ("amount".to_owned(), amount),
            ("country".to_owned(), Held::Text(country.to_owned())),
        ];
        if !self.random.one_in(5) {
            features.push(("new_device".to_owned(), Held::Boolean(self.random.one_in(9))));
        }
        features
    }

    fn send_inference(&mut self, inference: Inference) {
        let mut delay = self.random.ms(90 * SECOND_MS);
        if self.random.one_in(LATE_EVERY) {
            delay += 9 * MINUTE_MS + self.random.ms(40 * MINUTE_MS);
        }
        if self.random.one_in(DUPLICATE_EVERY) {
            let again = inference.time + delay + self.random.ms(5 * MINUTE_MS);
            self.send(0, again, Body::Inference(inference.clone()));
        }
        let log_time = inference.time + delay;
        self.send(0, log_time, Body::Inference(inference));
    }

    fn labels(&mut self, id: &str, score: f64) {
        if self.random.one_in(UNLABELLED_EVERY) {
            return;
        }
        let mut delay = self.random.ms(50 * MINUTE_MS);
        if self.random.one_in(LATE_LABEL_EVERY) {
            delay += 60 * MINUTE_MS;
        }
        if self.random.one_in(EARLY_LABEL_EVERY) {
            delay = -self.random.ms(12 * MINUTE_MS);
        }
        let truth = self.random.share() < score;
        let id = if self.random.one_in(150) { format!("{id}-unknown") } else { id.to_owned() };
        let number = usize::try_from(self.number).expect("few requests");
        let label = |random: &mut Random, time: i64, truth: bool| Label {
            id: id.clone(),
            model: random.one_in(20).then(|| "fraud-cards".to_owned()),
            time,
            value: if random.one_in(10) {
                Given::Boolean(truth)
            } else {
                Given::Number(f64::from(u8::from(truth)))
            },
            // So that a correction may move it too.
            weight: [1.0, 0.5, 3.0][(number + usize::from(truth)) % 3],
        };
        let time = self.at + delay;
        let first = label(self.random, time, truth);
        self.send(1, time, Body::Label(first));
        if self.random.one_in(CORRECTED_EVERY) {
            let time = time + self.random.ms(30 * MINUTE_MS);
            let second = label(self.random, time, !truth);
            self.send(1, time, Body::Label(second));
        }
        if self.random.one_in(REPEATED_LABEL_EVERY) {
            // Stamped before the first one, sent after it: it never wins.
            let again = label(self.random, time - SECOND_MS, truth);
            let log_time = time + self.random.ms(10 * MINUTE_MS);
            self.send(1, log_time, Body::Label(again));
        }
    }

    fn send(&mut self, topic: usize, log_time: i64, body: Body) {
        let payload = Some(json_payload(&body));
        let stamp = if self.random.one_in(WRONG_STAMP_EVERY) {
            log_time + self.random.ms(48 * 60 * MINUTE_MS) - 24 * 60 * MINUTE_MS
        } else if self.random.one_in(SKEWED_STAMP_EVERY) {
            log_time + self.random.ms(4 * MINUTE_MS) - 2 * MINUTE_MS
        } else {
            log_time
        };
        let key = format!("request-{}", self.number);
        if self.random.one_in(BROKEN_EVERY) {
            let payload = broken(self.random, payload.as_deref().expect("just made"));
            let body = Body::Dead;
            let message = Message {
                topic,
                partition: self.partition,
                stamp,
                body,
                key: key.clone(),
                payload,
            };
            self.out.push((log_time, message));
        }
        let message = Message { topic, partition: self.partition, stamp, body, key, payload };
        self.out.push((log_time, message));
    }
}

/// A payload that cannot be used.
fn broken(random: &mut Random, good: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(good).expect("JSON");
    let without_id = text.replacen("\"request_id\":", "\"requestid\":", 1);
    let empty_id = text.replacen("\"request_id\":\"", "\"request_id\":\"\",\"was\":\"", 1);
    let wrong_time = text.replacen("\"timestamp\":", "\"timestamp\":\"yesterday\",\"was\":", 1);
    match random.below(7) {
        0 => None,
        1 => Some(good[..good.len() / 2].to_vec()),
        2 => Some(without_id.into_bytes()),
        3 => Some(empty_id.into_bytes()),
        4 => Some(wrong_time.into_bytes()),
        5 => Some(b"\xff\xfe\x00 not a record".to_vec()),
        _ => Some(Vec::new()),
    }
}
