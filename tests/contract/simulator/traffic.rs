//! A case: settings and logs, made from a seed. Times are whole seconds, few of them, so that limits are met exactly;
//! windows are small, so that many seal.

use std::sync::Arc;

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{DecoderSettings, Format};
use tidegauge::engine::ShardSettings;
use tidegauge::engine::event::{Offset, PartitionId, Stream};
use tidegauge::engine::time::{EventTime, Millis, RecordTime};
use tidegauge::engine::window::Window;
use tidegauge::pipeline::{DeadLetterLimit, PipelineSettings};
use tidegauge::source::Record;

use super::random::Random;
use super::{JOB, Schedule, compared};
use crate::log::json_payload;
use crate::memory::Log;
use crate::oracle::{Body, Given, Held, Inference, Label, ModelRule, Partition, Settings, Task};
use crate::shard;

const UNIT: i64 = 1000;
const START: i64 = 1_700_000_000;

/// What a run is about, whatever happens in it.
pub(crate) struct Case {
    pub settings: Settings,
    /// As the oracle reads them.
    pub logs: Vec<Partition>,
    /// The same as bytes.
    pub records: Log,
    /// Which windows have rows.
    pub rows_within: Window,
    /// Whether models have references, and there are custom metrics.
    pub compares: bool,
}

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = settings(&mut random);
        let partitions = 2 + random.below(3);
        // Whether both clocks pass everything at the end.
        let is_sealed = !random.one_in(3);
        let mut case = Self {
            settings,
            logs: Vec::new(),
            records: Log::new(),
            rows_within: Window::ALL,
            compares: seed % 3 == 1,
        };
        for number in 0..partitions {
            let skew = random.range(-3, 4);
            let mut log = PartitionLog { number, random: &mut random, out: Vec::new() };
            log.requests();
            if is_sealed {
                log.end();
            }
            let mut messages = log.out;
            messages.sort_by_key(|message| message.0);
            if !case.settings.has_labels {
                messages.retain(|message| message.1 == Stream::Inferences);
            }
            case.add(number, skew, messages, &mut random);
        }
        case
    }

    /// The same, where only windows that lie wholly between these seconds have rows.
    pub(crate) fn within(self, [start, end]: [i64; 2]) -> Self {
        let at = |second: i64| EventTime((START + second) * UNIT);
        Self { rows_within: Window { start: at(start), end: at(end) }, ..self }
    }

    pub(crate) fn partitions(&self) -> i32 {
        i32::try_from(self.logs.len()).unwrap()
    }

    fn add(&mut self, number: u64, skew: i64, messages: Vec<Message>, random: &mut Random) {
        let partition = PartitionId(i32::try_from(number).unwrap());
        let mut logs = Partition::default();
        let mut next = [0, 0];
        for (at, stream, body) in messages {
            let wrong = match random.below(300) {
                0..=4 => random.range(-9, 10),
                5 => 5_000 * random.range(-1, 2),
                _ => 0,
            };
            let late = if stream == Stream::Labels { skew } else { 0 };
            let stamp = (START + at + late + wrong) * UNIT;
            let offset = next[stream.index()] + i64::from(random.one_in(10));
            next[stream.index()] = offset + 1;
            let payload = match &body {
                Body::Dead if random.one_in(3) => None,
                Body::Dead => Some(b"{broken".to_vec()),
                good => Some(json_payload(good)),
            };
            let payload = payload.map(|bytes| &*Box::leak(bytes.into_boxed_slice()));
            let record = Record {
                stream,
                partition,
                offset: Offset(offset),
                time: RecordTime(stamp),
                key: None,
                payload,
            };
            self.records.entry((stream, partition)).or_default().push(record);
            let record = crate::oracle::Record { offset, stamp, body };
            match stream {
                Stream::Inferences => logs.inferences.push(record),
                Stream::Labels => logs.labels.push(record),
            }
        }
        self.logs.push(logs);
    }

    /// What its shards go by.
    pub(crate) fn shard(&self) -> ShardSettings {
        let mut shard = shard::settings(&self.settings);
        if self.compares {
            compared::add_to(&mut shard);
        }
        shard
    }

    /// How the payloads of a topic are written.
    pub(crate) fn decoder(stream: Stream, shard: &ShardSettings) -> DecoderSettings {
        DecoderSettings {
            stream,
            format: Format::Json,
            fields: FieldPaths::new(stream),
            segments: shard.dimensions.clone(),
        }
    }

    /// The program's settings for this case.
    pub(crate) fn pipeline(&self, schedule: &Schedule) -> PipelineSettings {
        let shard = Arc::new(self.shard());
        let labels = self.settings.has_labels.then(|| Self::decoder(Stream::Labels, &shard));
        PipelineSettings {
            decoders: [Some(Self::decoder(Stream::Inferences, &shard)), labels],
            schemas: Arc::new(Schemas::none()),
            job: JOB.to_owned(),
            partitions: self.partitions(),
            grains: self.settings.grains.iter().map(|&grain| Millis(grain)).collect(),
            rows_within: self.rows_within,
            flush_interval: schedule.flush_interval,
            state_budget_bytes: 1 << 30,
            drain_budget: schedule.drain_budget,
            dead_letter_limit: DeadLetterLimit::default(),
            shard,
        }
    }
}

fn settings(random: &mut Random) -> Settings {
    let lateness = *random.pick(&[0, 2, 4]);
    let region = vec!["region".to_owned()];
    let binary = ModelRule {
        pattern: "a*".to_owned(),
        task: Some(Task::Binary),
        dimensions: region.clone(),
        value: Some([10.0, -4.0, -20.0, 0.5]),
        thresholds: vec![0.3, 0.5],
        distinct: true,
        ..ModelRule::default()
    };
    let route = ModelRule {
        pattern: "route".to_owned(),
        task: Some(Task::Multiclass),
        dimensions: region,
        ..ModelRule::default()
    };
    let rest = ModelRule { threshold: 0.45, ..ModelRule::default() };
    let caps = *random.pick(&[[100, 100, 100], [100, 100, 100], [2, 1, 2]]);
    Settings {
        window: *random.pick(&[5, 10]) * UNIT,
        lateness: lateness * UNIT,
        label_wait: (lateness + *random.pick(&[0, 4, 10])) * UNIT,
        max_future: *random.pick(&[0, 2, 5]) * UNIT,
        max_gap: *random.pick(&[3, 600_000]) * UNIT,
        clock_stamps: *random.pick(&[1, 2, 3]),
        caps,
        most_features: *random.pick(&[100, 3]),
        class_caps: *random.pick(&[[256, 32], [2, 1]]),
        models: vec![binary, route, rest],
        grains: vec![20 * UNIT, 60 * UNIT],
        has_labels: !random.one_in(12),
        event_progress: random.one_in(8),
        generation: u16::try_from(random.below(3)).unwrap(),
    }
}

type Message = (i64, Stream, Body);

struct PartitionLog<'a> {
    number: u64,
    random: &'a mut Random,
    out: Vec<Message>,
}

impl PartitionLog<'_> {
    fn requests(&mut self) {
        // Idle ones, sparse ones that seal windows that they have no row of, and busy ones.
        let (requests, gap) = match self.random.below(12) {
            0 => (0, 1),
            1..=3 => (2 + self.random.below(5), 40),
            _ => (8 + self.random.below(22), 5),
        };
        let mut now = self.random.range(0, 10);
        for request in 0..requests {
            now += match self.random.below(20) {
                0 => self.random.range(5, 25),
                _ => self.random.range(0, gap),
            };
            self.request(now, &format!("{}-{request}", self.number));
        }
    }

    /// Records that nothing is made of but progress, slowly at first.
    fn end(&mut self) {
        let mut now = 100;
        for _ in 0..5 {
            now += self.random.range(0, 40);
            for stream in Stream::BOTH {
                let count = self.random.range(1, 3);
                for _ in 0..count {
                    self.out.push((now, stream, Body::Dead));
                }
            }
        }
        for stream in Stream::BOTH {
            for _ in 0..3 {
                let id = format!("{}-end", self.number);
                let time = (START + 300) * UNIT;
                let inference = Inference {
                    id: id.clone(),
                    model: "a".to_owned(),
                    time,
                    ..Inference::default()
                };
                let value = Given::Number(1.0);
                let label = Label { id, model: None, time, value, weight: 1.0 };
                self.out.push((
                    300,
                    stream,
                    match stream {
                        Stream::Inferences => Body::Inference(inference),
                        Stream::Labels => Body::Label(label),
                    },
                ));
            }
        }
    }

    fn request(&mut self, time: i64, id: &str) {
        let models: &[&str] = match self.random.below(6) {
            0 => &["a", "b"],
            1 => &["b", "a2", "c"],
            2 => &["b"],
            _ => &["a"],
        };
        for model in models {
            self.inference(time, id, model);
        }
        // Shadows of other tasks.
        for (model, every) in [("route", 5), ("amount", 7)] {
            if self.random.one_in(every) {
                self.inference(time, id, model);
            }
        }
        if !self.random.one_in(6) {
            self.labels(time, id);
        }
        if self.random.one_in(15) {
            self.out.push((time, *self.random.pick(&Stream::BOTH), Body::Dead));
        }
    }

    /// In the order of their names, as JSON has them; more names than a state keeps.
    fn features(&mut self) -> Vec<(String, Held)> {
        let mut features = Vec::new();
        for name in ["age", "city", "new", "odd"] {
            if self.random.one_in(3) {
                continue;
            }
            let value = match name {
                _ if self.random.one_in(12) => Held::Null,
                "age" => Held::Number(*self.random.pick(&[-1.5, 0.0, 33.0, 61.25])),
                "city" => Held::Text((*self.random.pick(&["Bern", "Rom", ""])).to_owned()),
                _ => Held::Boolean(self.random.one_in(2)),
            };
            features.push((name.to_owned(), value));
        }
        features
    }

    fn inference(&mut self, time: i64, id: &str, model: &str) {
        let mut said = Inference {
            id: id.to_owned(),
            model: model.to_owned(),
            version: (*self.random.pick(&["", "v1", "v1", "v2"])).to_owned(),
            time: (START + time) * UNIT,
            prediction: self.random.one_in(4).then_some(Given::Number(1.0)),
            score: (!self.random.one_in(8)).then(|| *self.random.pick(&[0.1, 0.3, 0.5, 0.62, 0.9])),
            scores: Vec::new(),
            latency_ms: self.random.one_in(2).then(|| *self.random.pick(&[1.5, 12.0, 250.25])),
            failed: self.random.one_in(20),
            segments: if self.random.one_in(4) {
                vec![]
            } else {
                let value = *self.random.pick(&["eu", "us", "apac"]);
                vec![("region".to_owned(), value.to_owned())]
            },
            features: self.features(),
        };
        match model {
            "route" => self.choose_class(&mut said),
            "amount" => {
                let amount = *self.random.pick(&[-0.5, 0.0, 0.25, 1.0, 7.5]);
                said.prediction = Some(Given::Number(amount));
                said.score = None;
            }
            _ => {}
        }
        let mut at = time + self.random.range(0, 3);
        if self.random.one_in(20) {
            at += self.random.range(-4, 12);
        }
        if self.random.one_in(5) {
            // Some come after the window's horizon, and are late.
            let again = at + self.random.range(0, 30);
            let mut repeated = said.clone();
            if self.random.one_in(2) {
                // The same identity with another time, perhaps of another window.
                repeated.time = (START + again - self.random.range(-1, 4)) * UNIT;
            }
            self.out.push((again, Stream::Inferences, Body::Inference(repeated)));
        }
        self.out.push((at, Stream::Inferences, Body::Inference(said)));
    }

    /// By scores, and at times by itself; two of the three classes are those that most labels say.
    fn choose_class(&mut self, said: &mut Inference) {
        for class in ["0", "1", "2"] {
            let score = *self.random.pick(&[0.0, 0.1, 0.3, 0.6]);
            said.scores.push((class.to_owned(), score));
        }
        let class = *self.random.pick(&[0.0, 1.0, 2.0]);
        said.prediction = self.random.one_in(4).then_some(Given::Number(class));
        said.score = None;
    }

    fn labels(&mut self, time: i64, id: &str) {
        let id = if self.random.one_in(15) { "unknown" } else { id };
        let mut at = time + self.random.range(-2, 14);
        let labels = 1 + self.random.below(3) / 2 + self.random.below(6) / 5;
        for _ in 0..labels {
            let truth = self.random.one_in(2);
            let said = Label {
                id: id.to_owned(),
                model: self
                    .random
                    .one_in(6)
                    .then(|| (*self.random.pick(&["a", "b", "absent"])).to_owned()),
                time: (START + at + self.random.range(-2, 3)) * UNIT,
                value: if self.random.one_in(9) {
                    Given::Boolean(truth)
                } else {
                    Given::Number(f64::from(u8::from(truth)))
                },
                weight: 1.0,
            };
            self.out.push((at, Stream::Labels, Body::Label(said)));
            at += self.random.range(0, 6);
        }
    }
}
