//! Seeded traffic of three models with planted faults, and the truth about it. The generator reads no clock: each
//! record carries the time at which it is sent.

pub mod produce;
pub mod random;
pub mod encode;
pub mod truth;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::engine::event::Stream;
use encode::{Broken, Encoding, InferenceRecord, LabelRecord};
use random::Random;
pub use truth::{Counts, InferenceOutcomes, LabelOutcomes, Truth, TruthKey};

/// The model that stays as it is.
pub const HEALTHY: &str = "fraud";
/// The model whose quality falls.
pub const FALLING: &str = "churn";
/// The model whose labels come late.
pub const SLOW: &str = "credit";

const REGIONS: [&str; 3] = ["eu", "us", "ap"];
/// Share of requests that go to the healthy model's second version.
const CANARY_SHARE: f64 = 0.2;
/// Share of inferences that carry an error text.
const ERROR_SHARE: f64 = 0.01;
/// Share of requests whose true class is positive.
const PREVALENCE: f64 = 0.3;
/// How far a true class pulls the score from the middle: AUROC about 0.93.
const STRENGTH: f64 = 1.3;
/// The same once quality has fallen: AUROC about 0.55.
const FALLEN_STRENGTH: f64 = 0.1;
/// No label of a healthy model takes longer, so that rows fill while one looks.
const LABEL_DELAY_MS: i64 = 4_000;
/// Nor does one of the slow model take longer than this, however long labels may take.
const SLOW_LABEL_DELAY_MS: i64 = 30_000;

/// How often something goes wrong, as shares of the inferences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Inferences that arrive too long after their event.
    pub late: f64,
    /// Inferences that are sent again.
    pub duplicate: f64,
    /// Inferences without a label.
    pub missing: f64,
    /// Labels that are corrected by a second one.
    pub corrected: f64,
    /// Labels that are repeated.
    pub repeated: f64,
    /// Labels of requests that nobody made.
    pub orphan: f64,
    /// Records that can't be used.
    pub broken: f64,
}

impl Shares {
    /// What a stream looks like on a normal day.
    pub const USUAL: Self = Self {
        late: 0.01,
        duplicate: 0.02,
        missing: 0.05,
        corrected: 0.02,
        repeated: 0.01,
        orphan: 0.005,
        broken: 0.005,
    };
    /// One label for each inference, nothing wrong.
    pub const NONE: Self = Self {
        late: 0.0,
        duplicate: 0.0,
        missing: 0.0,
        corrected: 0.0,
        repeated: 0.0,
        orphan: 0.0,
        broken: 0.0,
    };
}

/// How wide the traffic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Models that take turns, at least one: [`HEALTHY`], [`FALLING`], [`SLOW`], then `model-3` and so on.
    pub models: u64,
    /// The labels of all models take half of this to nearly all of it; none is seconds, and more for one model. At
    /// least 10 s, at most the `label_wait_ms` of the traffic.
    pub label_delay_ms: Option<i64>,
    /// Features of each inference, at least [`encode::FEATURES`]; those beyond are numbers.
    pub features: usize,
}

impl Shape {
    /// Three models with 12 features, whose labels come soon.
    pub const USUAL: Self = Self { models: 3, label_delay_ms: None, features: encode::FEATURES };
}

/// What traffic to make.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficSettings {
    /// The same seed gives the same records.
    pub seed: u64,
    /// Time of the first record, milliseconds since 1970-01-01 UTC.
    pub start_ms: i64,
    /// Inferences for each second of the traffic's own time, greater than 0.
    pub inferences_per_s: f64,
    /// The job's `windows.size`, for the truth.
    pub window_ms: i64,
    /// The job's `windows.lateness`: late records miss it by seconds. At least a second.
    pub lateness_ms: i64,
    /// The job's `windows.label_wait`: labels stay well within it. At least `lateness_ms`.
    pub label_wait_ms: i64,
    /// When the quality of one model falls, after the start.
    pub falls_after_ms: i64,
    /// What goes wrong.
    pub shares: Shares,
    /// How many models and features, and when labels come.
    pub shape: Shape,
}

/// One record to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Produced {
    /// When: also its Kafka timestamp. Never less than that of the record before.
    pub at_ms: i64,
    /// Which topic.
    pub stream: Stream,
    /// The request ID.
    pub key: Vec<u8>,
    /// The bytes; none is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// What an inference was, as far as its labels need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    number: u64,
    model: u64,
    version: usize,
    region: usize,
    event_ms: i64,
    score_mille: u16,
    falls: bool,
}

/// What is sent later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Planned {
    Again(Sent),
    First { sent: Sent, label: bool },
    Corrected { sent: Sent, label: bool },
    Repeated { sent: Sent, label: bool },
    Orphan { number: u64 },
    BrokenLabel { number: u64 },
}

/// The generator.
#[derive(Debug)]
pub struct Traffic {
    settings: TrafficSettings,
    encoding: Encoding,
    random: Random,
    inferences: u64,
    planned: BinaryHeap<Reverse<(i64, u64, Planned)>>,
    sequence: u64,
    truth: Truth,
}

impl Traffic {
    /// Traffic that has not begun.
    pub fn new(settings: TrafficSettings, encoding: Encoding) -> Self {
        let random = Random::new(settings.seed);
        let (planned, truth) = (BinaryHeap::new(), Truth::default());
        Self { settings, encoding, random, inferences: 0, planned, sequence: 0, truth }
    }

    /// What was sent so far.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Inferences made so far, without those sent again.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    /// When the next record is due. Without `inferences` only what follows from earlier ones is sent; none is left
    /// at the end.
    pub fn due_ms(&self, inferences: bool) -> Option<i64> {
        let planned = self.planned.peek().map(|Reverse((at, _, _))| *at);
        let inference = inferences.then(|| self.inference_ms());
        planned.into_iter().chain(inference).min()
    }

    /// The next record.
    pub fn produce(&mut self, inferences: bool) -> Option<Produced> {
        let inference_ms = inferences.then(|| self.inference_ms());
        let planned_ms = self.planned.peek().map(|Reverse((at, _, _))| *at);
        match (planned_ms, inference_ms) {
            (Some(planned), Some(inference)) if planned > inference => {
                Some(self.inference(inference))
            }
            (None, Some(inference)) => Some(self.inference(inference)),
            (Some(_), _) => {
                let Reverse((at_ms, _, planned)) = self.planned.pop().expect("was peeked at");
                Some(self.follow_up(at_ms, planned))
            }
            (None, None) => None,
        }
    }

    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "numbers of records and times stay far below 2^53"
    )]
    fn inference_ms(&self) -> i64 {
        let elapsed_ms = self.inferences as f64 * 1000.0 / self.settings.inferences_per_s;
        self.settings.start_ms + elapsed_ms as i64
    }

    fn inference(&mut self, at_ms: i64) -> Produced {
        let number = self.inferences;
        self.inferences += 1;
        let shares = self.settings.shares;
        let model = number % self.settings.shape.models;
        let label = self.random.chance(PREVALENCE);
        let falls = at_ms >= self.settings.start_ms + self.settings.falls_after_ms;
        let strength = if falls && model == 1 { FALLEN_STRENGTH } else { STRENGTH };
        let fresh_ms = self.random.within(0, 200.min(self.settings.lateness_ms / 4));
        let mut sent = Sent {
            number,
            model,
            version: usize::from(model == 0 && self.random.chance(CANARY_SHARE)),
            region: usize::try_from(self.random.within(0, 3)).expect("less than three"),
            event_ms: at_ms - fresh_ms,
            score_mille: score_mille(&mut self.random, label, strength),
            falls: falls && model == 1,
        };
        if self.random.chance(shares.broken) {
            return self.broken_inference(at_ms, sent);
        }
        if self.random.chance(shares.late) {
            sent.event_ms = at_ms - self.settings.lateness_ms - self.random.within(1_000, 5_000);
            self.outcome(sent).late += 1;
            return self.encode_inference(at_ms, sent, None);
        }
        self.accept(sent);
        if self.random.chance(shares.duplicate) {
            let after = self.random.within(1, 2_000.min(self.settings.lateness_ms / 4));
            self.plan(at_ms + after, Planned::Again(sent));
        }
        self.plan_labels(at_ms, sent, label);
        self.encode_inference(at_ms, sent, None)
    }

    fn accept(&mut self, sent: Sent) {
        let is_error = InferenceRecord::has_error(sent.number);
        self.outcome(sent).accepted += 1;
        self.count(sent, |counts| {
            counts.inferences += 1;
            counts.errors += u64::from(is_error);
        });
    }

    fn plan_labels(&mut self, at_ms: i64, sent: Sent, label: bool) {
        let shares = self.settings.shares;
        if self.random.chance(shares.orphan) {
            self.plan(at_ms + 500, Planned::Orphan { number: sent.number });
        }
        if self.random.chance(shares.broken) {
            self.plan(at_ms + 500, Planned::BrokenLabel { number: sent.number });
        }
        if self.random.chance(shares.missing) {
            return;
        }
        let wait = self.settings.label_wait_ms;
        let (least, end) = if let Some(delay) = self.settings.shape.label_delay_ms {
            // Events are a little older than their records.
            (delay / 2, delay - 1_000)
        } else if sent.model == 2 {
            let longest = wait.min(SLOW_LABEL_DELAY_MS);
            (longest * 3 / 5, longest * 4 / 5)
        } else {
            (wait.min(LABEL_DELAY_MS) / 8, wait.min(LABEL_DELAY_MS) / 2)
        };
        let first_ms = at_ms + self.random.within(least, end);
        self.plan(first_ms, Planned::First { sent, label });
        let again_ms = first_ms + 1 + self.random.within(0, wait.min(LABEL_DELAY_MS) / 8);
        if self.random.chance(shares.corrected) {
            self.plan(again_ms, Planned::Corrected { sent, label });
        } else if self.random.chance(shares.repeated) {
            self.plan(again_ms, Planned::Repeated { sent, label });
        }
    }

    fn plan(&mut self, at_ms: i64, planned: Planned) {
        self.sequence += 1;
        self.planned.push(Reverse((at_ms, self.sequence, planned)));
    }

    fn follow_up(&mut self, at_ms: i64, planned: Planned) -> Produced {
        match planned {
            Planned::Again(sent) => {
                self.outcome(sent).duplicate += 1;
                self.encode_inference(at_ms, sent, None)
            }
            Planned::First { sent, label } => {
                self.count(sent, |counts| {
                    counts.labelled += 1;
                    *counts.cell(sent.decision(), label) += 1;
                });
                self.matched(at_ms, sent, label)
            }
            Planned::Corrected { sent, label } => {
                self.count(sent, |counts| {
                    counts.label_corrections += 1;
                    *counts.cell(sent.decision(), label) -= 1;
                    *counts.cell(sent.decision(), !label) += 1;
                });
                self.matched(at_ms, sent, !label)
            }
            Planned::Repeated { sent, label } => {
                self.count(sent, |counts| counts.label_duplicates += 1);
                self.matched(at_ms, sent, label)
            }
            Planned::Orphan { number } => {
                self.truth.labels.entry(String::new()).or_default().unmatched += 1;
                let id = request_id(self.settings.seed ^ ORPHANS, number);
                self.encode_label(at_ms, id, None, false, false)
            }
            Planned::BrokenLabel { number } => {
                self.truth.labels.entry(String::new()).or_default().dead += 1;
                self.encode_label(at_ms, request_id(self.settings.seed, number), None, false, true)
            }
        }
    }

    fn matched(&mut self, at_ms: i64, sent: Sent, label: bool) -> Produced {
        let (model, _) = model_of(sent);
        self.truth.labels.entry(model.to_string()).or_default().matched += 1;
        // Half of the labels name their model; the rest is for whoever scored the request.
        let named = sent.number.is_multiple_of(2).then_some(&*model);
        self.encode_label(at_ms, request_id(self.settings.seed, sent.number), named, label, false)
    }

    fn broken_inference(&mut self, at_ms: i64, mut sent: Sent) -> Produced {
        let broken = Broken::ALL[usize::try_from(self.random.within(0, 5)).expect("of five")];
        if broken == Broken::Future {
            // It can be read, so it counts for its model.
            sent.event_ms = at_ms + 365 * 86_400_000;
            self.outcome(sent).dead += 1;
        } else {
            self.truth.inferences.entry(String::new()).or_default().dead += 1;
        }
        self.encode_inference(at_ms, sent, Some(broken))
    }

    fn outcome(&mut self, of: Sent) -> &mut InferenceOutcomes {
        self.truth.inferences.entry(model_of(of).0.into_owned()).or_default()
    }

    /// Counts in the rows of an inference: that of all and that of its region.
    fn count(&mut self, sent: Sent, change: impl Fn(&mut Counts)) {
        let window = self.settings.window_ms;
        let (model, version) = model_of(sent);
        for segment in ["all".to_owned(), format!("region={}", REGIONS[sent.region])] {
            let key = TruthKey {
                model: model.to_string(),
                version: version.to_owned(),
                segment,
                window_start_ms: sent.event_ms.div_euclid(window) * window,
            };
            change(self.truth.rows.entry(key).or_default());
        }
    }

    fn encode_inference(&self, at_ms: i64, sent: Sent, broken: Option<Broken>) -> Produced {
        let (model, version) = model_of(sent);
        let record = InferenceRecord {
            id: request_id(self.settings.seed, sent.number),
            number: sent.number,
            model: &model,
            version,
            event_ms: sent.event_ms,
            score: f64::from(sent.score_mille) / 1000.0,
            names_prediction: sent.model == 1,
            region: REGIONS[sent.region],
            drifted: sent.falls,
            features: self.settings.shape.features,
        };
        let key = record.id.clone().into_bytes();
        let payload = record.encode(&self.encoding, broken);
        Produced { at_ms, stream: Stream::Inferences, key, payload }
    }

    fn encode_label(
        &self,
        at_ms: i64,
        id: String,
        model: Option<&str>,
        label: bool,
        broken: bool,
    ) -> Produced {
        let key = id.clone().into_bytes();
        let record = LabelRecord { id, model, time_ms: at_ms, label };
        let payload = Some(record.encode(&self.encoding, broken));
        Produced { at_ms, stream: Stream::Labels, key, payload }
    }
}

impl Sent {
    fn decision(self) -> bool {
        self.score_mille >= 500
    }
}

/// Its model's name, and the version.
fn model_of(sent: Sent) -> (Cow<'static, str>, &'static str) {
    let model = match sent.model {
        0 => Cow::Borrowed(HEALTHY),
        1 => Cow::Borrowed(FALLING),
        2 => Cow::Borrowed(SLOW),
        other => Cow::Owned(format!("model-{other}")),
    };
    (model, ["v1", "v2"][sent.version])
}

/// Keeps the IDs of orphan labels apart from those of inferences.
const ORPHANS: u64 = 0x00f0_0d5e_ed00_0000;

/// Fixed text of a request number: 24 hexadecimal digits.
fn request_id(seed: u64, number: u64) -> String {
    format!("{:016x}{number:08x}", Random::new(seed ^ number.rotate_left(32)).bits())
}

/// A score in thousandths, logistic around the true class.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 1000"
)]
fn score_mille(random: &mut Random, label: bool, strength: f64) -> u16 {
    let middle = if label { strength } else { -strength };
    let z = middle + random.bell() * 1.25;
    (1000.0 / (1.0 + (-z).exp())).round() as u16
}
