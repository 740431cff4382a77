//! The bytes of inference and label records.

use std::io::Write as _;

use super::random::Random;

/// How records are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON objects.
    Json,
    /// Avro after [`INFERENCE_SCHEMA`] and [`LABEL_SCHEMA`]; with a registry the ids of both schemas stand before it.
    Avro {
        /// Ids of the inference and the label schema; none is plain Avro.
        ids: Option<[u32; 2]>,
    },
}

/// Avro schema of the inferences that the generator writes.
pub const INFERENCE_SCHEMA: &str = r#"{"type":"record","name":"Inference","namespace":"tidegauge.traffic","fields":[
{"name":"request_id","type":"string"},{"name":"model","type":"string"},{"name":"version","type":"string","default":""},
{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
{"name":"prediction","type":["null","long"],"default":null},{"name":"score","type":["null","double"],"default":null},
{"name":"latency_ms","type":["null","double"],"default":null},{"name":"error","type":["null","string"],"default":null},
{"name":"segments","type":{"type":"map","values":"string"},"default":{}},
{"name":"features","type":{"type":"record","name":"Features","fields":[
{"name":"amount","type":"double"},{"name":"age","type":"double"},{"name":"income","type":"double"},
{"name":"balance","type":"double"},{"name":"tenure_days","type":"double"},{"name":"orders","type":"double"},
{"name":"refunds","type":"double"},{"name":"distance_km","type":"double"},{"name":"hour","type":"double"},
{"name":"device","type":"string"},{"name":"channel","type":"string"},{"name":"is_new","type":"boolean"}]}}]}"#;

/// Avro schema of the labels that the generator writes.
pub const LABEL_SCHEMA: &str = r#"{"type":"record","name":"Label","namespace":"tidegauge.traffic","fields":[
{"name":"request_id","type":"string"},{"name":"model","type":["null","string"],"default":null},
{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"label","type":"long"}]}"#;

/// Features in [`INFERENCE_SCHEMA`].
pub const FEATURES: usize = NUMBERS.len() + 3;

/// [`INFERENCE_SCHEMA`] with numbers for all features beyond [`FEATURES`].
pub fn inference_schema(features: usize) -> String {
    let field = |name| format!(r#",{{"name":"{name}","type":"double"}}"#);
    let fields = further(features).map(field).collect::<Vec<_>>().concat();
    let known = INFERENCE_SCHEMA.strip_suffix("]}}]}").expect("the features come last");
    format!("{known}{fields}]}}}}]}}")
}

/// Names of the features beyond [`FEATURES`].
fn further(features: usize) -> impl Iterator<Item = String> {
    (FEATURES..features).map(|at| format!("feature_{at}"))
}

const NUMBERS: [&str; 9] = [
    "amount",
    "age",
    "income",
    "balance",
    "tenure_days",
    "orders",
    "refunds",
    "distance_km",
    "hour",
];
const DEVICES: [&str; 4] = ["ios", "android", "web", "kiosk"];
const CHANNELS: [&str; 3] = ["direct", "partner", "phone"];

/// What is wrong with a broken inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It ends in the middle.
    Cut,
    /// No value at all.
    Tombstone,
    /// An empty request ID.
    NoId,
    /// A score above 1.
    Score,
    /// A year ahead.
    Future,
}

impl Broken {
    pub(super) const ALL: [Self; 5] =
        [Self::Cut, Self::Tombstone, Self::NoId, Self::Score, Self::Future];
}

/// One inference.
pub(super) struct InferenceRecord<'a> {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) model: &'a str,
    pub(super) version: &'a str,
    pub(super) event_ms: i64,
    pub(super) score: f64,
    pub(super) names_prediction: bool,
    pub(super) region: &'a str,
    pub(super) drifted: bool,
    pub(super) features: usize,
}

/// What a model was given, and how it went: a function of the request's number.
struct Details {
    numbers: [f64; 9],
    /// Values of the features beyond [`FEATURES`].
    further: Vec<f64>,
    device: &'static str,
    channel: &'static str,
    is_new: bool,
    latency_ms: f64,
}

impl InferenceRecord<'_> {
    /// Whether the request of this number failed.
    pub(super) fn has_error(number: u64) -> bool {
        Random::new(number ^ 0xe44).chance(super::ERROR_SHARE)
    }

    fn details(&self) -> Details {
        let mut random = Random::new(self.number);
        let shift = if self.drifted { 40.0 } else { 0.0 };
        let number =
            |random: &mut Random| ((random.bell() * 20.0 + 100.0 + shift) * 100.0).round() / 100.0;
        let mut numbers = [0.0; 9];
        numbers.fill_with(|| number(&mut random));
        let pick = |random: &mut Random, n| usize::try_from(random.within(0, n)).unwrap_or(0);
        let latency_ms = ((3.0 + 2.0 * random.bell().exp()) * 1000.0).round() / 1000.0;
        let device = DEVICES[pick(&mut random, 4)];
        let channel = CHANNELS[pick(&mut random, 3)];
        let is_new = random.chance(0.2);
        // Last, so that the others are the same however many there are.
        let further = (FEATURES..self.features).map(|_| number(&mut random)).collect();
        Details { numbers, further, device, channel, is_new, latency_ms }
    }

    /// The value of the record; none is a tombstone.
    pub(super) fn encode(mut self, encoding: &Encoding, broken: Option<Broken>) -> Option<Vec<u8>> {
        match broken {
            Some(Broken::Tombstone) => return None,
            Some(Broken::NoId) => self.id.clear(),
            Some(Broken::Score) => self.score = 1.5,
            Some(Broken::Cut | Broken::Future) | None => {}
        }
        let mut bytes = match encoding {
            Encoding::Json => self.json(),
            Encoding::Avro { ids } => self.avro(ids.map(|ids| ids[0])),
        };
        if broken == Some(Broken::Cut) {
            bytes.truncate(bytes.len() / 2);
        }
        Some(bytes)
    }

    fn prediction(&self) -> Option<u8> {
        self.names_prediction.then(|| u8::from(self.score >= 0.5))
    }

    fn json(&self) -> Vec<u8> {
        let details = self.details();
        let mut text = Vec::with_capacity(512);
        let mut put = |part: std::fmt::Arguments<'_>| {
            text.write_fmt(part).expect("a Vec takes all");
        };
        put(format_args!(
            r#"{{"request_id":"{}","model":"{}","version":"{}","timestamp":{},"score":{}"#,
            self.id, self.model, self.version, self.event_ms, self.score
        ));
        if let Some(prediction) = self.prediction() {
            put(format_args!(r#","prediction":{prediction}"#));
        }
        put(format_args!(r#","latency_ms":{}"#, details.latency_ms));
        if Self::has_error(self.number) {
            put(format_args!(r#","error":"upstream timeout""#));
        }
        put(format_args!(r#","segments":{{"region":"{}"}},"features":{{"#, self.region));
        for (name, number) in NUMBERS.iter().zip(details.numbers) {
            put(format_args!(r#""{name}":{number},"#));
        }
        put(format_args!(
            r#""device":"{}","channel":"{}","is_new":{}"#,
            details.device, details.channel, details.is_new
        ));
        for (name, number) in further(self.features).zip(details.further) {
            put(format_args!(r#","{name}":{number}"#));
        }
        put(format_args!("}}}}"));
        text
    }

    fn avro(&self, id: Option<u32>) -> Vec<u8> {
        let details = self.details();
        let mut out = Avro::framed(id);
        out.text(&self.id);
        out.text(self.model);
        out.text(self.version);
        out.long(self.event_ms);
        out.optional(self.prediction(), |out, p| out.long(i64::from(p)));
        out.optional(Some(self.score), Avro::double);
        out.optional(Some(details.latency_ms), Avro::double);
        let error = Self::has_error(self.number).then_some("upstream timeout");
        out.optional(error, Avro::text);
        // A map is blocks of entries, each with its count before it; an empty block ends it.
        out.long(1);
        out.text("region");
        out.text(self.region);
        out.long(0);
        for number in details.numbers {
            out.double(number);
        }
        out.text(details.device);
        out.text(details.channel);
        out.0.push(u8::from(details.is_new));
        for number in details.further {
            out.double(number);
        }
        out.0
    }
}

/// One label.
pub(super) struct LabelRecord<'a> {
    pub(super) id: String,
    pub(super) model: Option<&'a str>,
    pub(super) time_ms: i64,
    pub(super) label: bool,
}

impl LabelRecord<'_> {
    pub(super) fn encode(self, encoding: &Encoding, broken: bool) -> Vec<u8> {
        let mut bytes = match encoding {
            Encoding::Json => self.json(),
            Encoding::Avro { ids } => self.avro(ids.map(|ids| ids[1])),
        };
        if broken {
            bytes.truncate(bytes.len() / 2);
        }
        bytes
    }

    fn json(&self) -> Vec<u8> {
        let model = self.model.map_or(String::new(), |model| format!(r#","model":"{model}""#));
        let (id, time_ms, label) = (&self.id, self.time_ms, u8::from(self.label));
        format!(r#"{{"request_id":"{id}"{model},"timestamp":{time_ms},"label":{label}}}"#).into()
    }

    fn avro(&self, id: Option<u32>) -> Vec<u8> {
        let mut out = Avro::framed(id);
        out.text(&self.id);
        out.optional(self.model, Avro::text);
        out.long(self.time_ms);
        out.long(i64::from(self.label));
        out.0
    }
}

/// Avro's binary encoding, as far as the two schemas need it.
struct Avro(Vec<u8>);

impl Avro {
    /// With the registry's frame: a zero byte and the schema's id.
    fn framed(id: Option<u32>) -> Self {
        let mut bytes = Vec::with_capacity(256);
        if let Some(id) = id {
            bytes.push(0);
            bytes.extend(id.to_be_bytes());
        }
        Self(bytes)
    }

    #[expect(
        clippy::as_conversions,
        clippy::cast_sign_loss,
        reason = "zigzag and base 128 cut bits on purpose"
    )]
    fn long(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    fn text(&mut self, text: &str) {
        self.long(i64::try_from(text.len()).expect("short texts"));
        self.0.extend(text.as_bytes());
    }

    fn double(&mut self, value: f64) {
        self.0.extend(value.to_le_bytes());
    }

    /// A union of null and something.
    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.long(i64::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}
