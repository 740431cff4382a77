//! Bytes → [`Event`]. Nothing behind this module checks a range again.
#![deny(clippy::indexing_slicing)]
#![warn(missing_docs)]

mod scalar;
pub mod fields;
mod registry_client;
pub mod registry;
pub mod checks;
mod found;
mod json_shape;
mod json;
mod plan;
mod avro;

use crate::engine::event::{Event, Inference, Label, RequestId, Segment, Stream, Target};
use crate::engine::names::{ModelId, NameId, Names, SegmentId, VersionId};
use apache_avro::Schema;
use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use fields::{Field, FieldPaths, Tree};
use found::{Found, Scratch};
use json_shape::Shapes;
use plan::Plan;
use registry::{Lookup, Schemas, WriterSchema};
use scalar::Scalar;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::engine::event::SchemaId;
pub use checks::DecodeError;

/// A zero byte and four bytes of schema id.
const WIRE_HEADER_BYTES: usize = 5;
/// More scratch than this, which only a huge record needs, is given back.
const ARENA_BYTES_KEPT: usize = 1 << 20;

/// Why a payload gave no event.
#[derive(Clone, Debug, PartialEq)]
pub enum NotDecoded {
    /// The record is bad for ever: a dead letter.
    Bad(DecodeError),
    /// Its schema is not known yet: the registry has to be asked, and the partition waits. Never a dead letter.
    Waiting(SchemaId),
}

impl From<DecodeError> for NotDecoded {
    fn from(error: DecodeError) -> Self {
        Self::Bad(error)
    }
}

/// How the payloads of one topic are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object in UTF-8.
    Json,
    /// Avro in the registry's wire format: a zero byte, the schema id as four bytes, the greatest first, the datum.
    AvroRegistry,
    /// A plain Avro datum of the schema with this text.
    AvroFile(String),
}

/// What a [`Decoder`] of one topic has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderSettings {
    /// The topic.
    pub stream: Stream,
    /// How its payloads are written.
    pub format: Format,
    /// Where its fields live.
    pub fields: FieldPaths,
    /// The segment dimensions that are looked for; an event names them by their index here.
    pub segments: Vec<String>,
}

/// Why no decoder can be made of the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// The schema file's text is no Avro schema.
    #[error("the Avro schema file of {stream} can't be used ({reason}): fix the file")]
    BadSchemaFile {
        /// The topic.
        stream: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// More segment dimensions than an event can number.
    #[error("{count} segment dimensions are too many: configure at most 65536")]
    TooManySegments {
        /// How many.
        count: usize,
    },
    /// The paths are those of the other topic.
    #[error("the field paths of {stream} are those of the other topic: build them for this one")]
    OtherStream {
        /// The topic.
        stream: &'static str,
    },
}

impl DecoderError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSchemaFile { .. } => "bad_schema_file",
            Self::TooManySegments { .. } => "too_many_segments",
            Self::OtherStream { .. } => "fields_of_other_topic",
        }
    }
}

/// Decodes the payloads of one topic. One for each worker and topic, so plans and scratch need no lock.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    common: Common,
    /// What an event borrows; emptied for the next one.
    arena: Bump,
}

/// What is needed whatever the format is.
#[derive(Debug)]
struct Common {
    stream: Stream,
    tree: Tree,
    segments: Vec<String>,
    scratch: Scratch,
    id_bytes: Vec<u8>,
}

#[derive(Debug)]
enum Framing {
    Json(Shapes),
    AvroRegistry { schemas: Arc<Schemas>, plans: Plans },
    AvroFile(Plan),
}

/// Compiled plans by schema id; the one used last is tried first.
#[derive(Debug, Default)]
struct Plans {
    by_id: BTreeMap<SchemaId, usize>,
    compiled: Vec<Plan>,
    last: Option<(SchemaId, usize)>,
}

impl Decoder {
    /// A decoder for one topic. Only [`Format::AvroRegistry`] asks `schemas`.
    pub fn new(settings: &DecoderSettings, schemas: Arc<Schemas>) -> Result<Self, DecoderError> {
        let stream = settings.stream;
        if settings.fields.stream() != stream {
            return Err(DecoderError::OtherStream { stream: stream.name() });
        }
        let count = settings.segments.len();
        if count > usize::from(u16::MAX) + 1 {
            return Err(DecoderError::TooManySegments { count });
        }
        let tree = Tree::new(&settings.fields, &settings.segments);
        let bad_file = |reason| DecoderError::BadSchemaFile { stream: stream.name(), reason };
        let framing = match &settings.format {
            Format::Json => Framing::Json(Shapes::default()),
            Format::AvroRegistry => Framing::AvroRegistry { schemas, plans: Plans::default() },
            Format::AvroFile(text) => {
                let schema = WriterSchema::parse(text, &[]).map_err(bad_file)?;
                if !matches!(schema.schema, Schema::Record(_) | Schema::Union(_)) {
                    return Err(bad_file("it is no record".to_owned()));
                }
                Framing::AvroFile(Plan::new(&schema, &tree).map_err(bad_file)?)
            }
        };
        let (segments, id_bytes) = (settings.segments.clone(), Vec::new());
        let common = Common { stream, tree, segments, scratch: Scratch::default(), id_bytes };
        Ok(Self { framing, common, arena: Bump::new() })
    }

    /// The schema that a payload names, where it is the registry that knows it.
    #[inline]
    pub fn schema(&self, payload: Option<&[u8]>) -> Option<SchemaId> {
        match self.framing {
            Framing::AvroRegistry { .. } => payload.and_then(|payload| schema_id(payload).ok()),
            Framing::Json(_) | Framing::AvroFile(_) => None,
        }
    }

    /// The event in a payload. It borrows the payload and the decoder's scratch until the next call.
    pub fn decode<'a>(
        &'a mut self,
        payload: Option<&'a [u8]>,
        names: &mut Names,
    ) -> Result<Event<'a>, NotDecoded> {
        self.batch(self.schema(payload)).decode(payload, names)
    }

    /// Begins to decode several payloads that [name](Self::schema) this schema, or none: their events are there together.
    /// (To decode a few records and then to fold them needs less of the processor's cache for code than one after the
    /// other.)
    pub fn batch(&mut self, schema: Option<SchemaId>) -> Batch<'_> {
        if self.arena.allocated_bytes() > ARENA_BYTES_KEPT {
            self.arena = Bump::new();
        }
        self.arena.reset();
        let Self { framing, common, arena } = self;
        let way = match framing {
            Framing::Json(shapes) => Way::Json(shapes),
            Framing::AvroFile(plan) => Way::Avro(Ok(plan)),
            Framing::AvroRegistry { schemas, plans } => Way::Sought { schemas, plans },
        };
        let slots = arena.alloc_slice_fill_copy(common.tree.slot_count(), Scalar::Absent);
        Batch { way, schema, common, arena, slots }
    }
}

/// Payloads of one schema, whose events are there together.
#[derive(Debug)]
pub struct Batch<'a> {
    way: Way<'a>,
    schema: Option<SchemaId>,
    common: &'a mut Common,
    arena: &'a Bump,
    /// Of the record that is read.
    slots: &'a mut [Scalar<'a>],
}

/// How the payloads of a batch are read.
#[derive(Debug)]
enum Way<'a> {
    Json(&'a mut Shapes),
    Avro(Result<&'a Plan, NotDecoded>),
    /// The plan is looked for when the first payload is read: who reads none asks the registry for nothing.
    Sought {
        schemas: &'a Schemas,
        plans: &'a mut Plans,
    },
}

impl Way<'_> {
    #[inline]
    fn seek(&mut self, schema: Option<SchemaId>, tree: &Tree) {
        if matches!(self, Self::Sought { .. })
            && let Self::Sought { schemas, plans } =
                std::mem::replace(self, Self::Avro(Err(DecodeError::WireFormat.into())))
            && let Some(id) = schema
        {
            *self = Self::Avro(plans.find(id, schemas, tree));
        }
    }
}

impl<'a> Batch<'a> {
    /// The event in a payload of the batch's schema.
    pub fn decode(
        &mut self,
        payload: Option<&'a [u8]>,
        names: &mut Names,
    ) -> Result<Event<'a>, NotDecoded> {
        let payload = payload.ok_or(DecodeError::Tombstone)?;
        if payload.is_empty() {
            return Err(DecodeError::EmptyPayload.into());
        }
        let Self { way, schema, common, arena, slots } = self;
        let Common { stream, tree, segments, scratch, id_bytes } = &mut **common;
        let mut found = Found::new(arena, names, scratch, slots);
        way.seek(*schema, tree);
        match way {
            Way::Sought { .. } => unreachable!("it was found above"),
            Way::Json(shapes) => json::read(payload, tree, shapes, &mut found)?,
            Way::Avro(plan) => {
                let plan = plan.as_ref().map_err(Clone::clone)?;
                let start = match *schema {
                    Some(id) => {
                        assert_eq!(schema_id(payload), Ok(id), "a batch is of one schema");
                        WIRE_HEADER_BYTES
                    }
                    None => 0,
                };
                avro::read(payload, start, plan, tree, &mut found)?;
            }
        }
        Ok(match stream {
            Stream::Inferences => {
                Event::Inference(inference(&mut found, tree, segments, id_bytes)?)
            }
            Stream::Labels => Event::Label(label(&mut found, tree, id_bytes)?),
        })
    }
}

fn schema_id(payload: &[u8]) -> Result<SchemaId, DecodeError> {
    match payload {
        [0, a, b, c, d, ..] => Ok(SchemaId(u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => Err(DecodeError::WireFormat),
    }
}

impl Plans {
    fn find(&mut self, id: SchemaId, schemas: &Schemas, tree: &Tree) -> Result<&Plan, NotDecoded> {
        let index = match self.last {
            Some((last, index)) if last == id => index,
            _ => self.index(id, schemas, tree)?,
        };
        self.last = Some((id, index));
        Ok(self.compiled.get(index).expect("plans are only ever added"))
    }

    #[cold]
    fn index(&mut self, id: SchemaId, schemas: &Schemas, tree: &Tree) -> Result<usize, NotDecoded> {
        if let Some(&index) = self.by_id.get(&id) {
            return Ok(index);
        }
        let bad = |reason: &str| DecodeError::BadSchema { id: id.0, reason: reason.to_owned() };
        let schema = match schemas.lookup(id) {
            Lookup::Known(schema) => schema,
            Lookup::Unknown => return Err(DecodeError::UnknownSchema { id: id.0 }.into()),
            Lookup::Bad(reason) => return Err(bad(&reason).into()),
            Lookup::Waiting => return Err(NotDecoded::Waiting(id)),
        };
        let plan = Plan::new(&schema, tree).map_err(|reason| bad(&reason))?;
        let index = self.compiled.len();
        self.compiled.push(plan);
        self.by_id.insert(id, index);
        Ok(index)
    }
}

fn request_id(
    found: &Found<'_, '_>,
    tree: &Tree,
    bytes: &mut Vec<u8>,
) -> Result<RequestId, DecodeError> {
    let slots = tree.slots(Field::RequestId);
    if let [slot] = slots
        && let Scalar::Text(text) = found.slot(*slot)
    {
        return checks::text_id(text);
    }
    checks::request_id(slots.iter().map(|&slot| found.slot(slot)), bytes)
}

/// Interns the name in a field, if it is given.
fn name(
    found: &mut Found<'_, '_>,
    tree: &Tree,
    field: Field,
) -> Result<Option<NameId>, DecodeError> {
    let text = match found.first(tree.slots(field)) {
        Scalar::Text(text) if !text.as_bytes().is_empty() => Some(text),
        value => checks::name(field, value, found.arena)?,
    };
    let Some(text) = text else { return Ok(None) };
    found.intern(field.name(), text).map(Some)
}

fn inference<'a>(
    found: &mut Found<'a, '_>,
    tree: &Tree,
    dimensions: &[String],
    id_bytes: &mut Vec<u8>,
) -> Result<Inference<'a>, DecodeError> {
    let id = request_id(found, tree, id_bytes)?;
    let model = name(found, tree, Field::Model)?
        .ok_or(DecodeError::MissingField { field: Field::Model.name() })?;
    let version = name(found, tree, Field::Version)?.unwrap_or(Names::EMPTY);
    let value = |found: &Found<'a, '_>, field| found.first(tree.slots(field));
    let time = checks::time(value(found, Field::Timestamp))?;
    let prediction = value(found, Field::Prediction);
    let prediction = checks::target(Field::Prediction, prediction, |text| {
        found.intern(Field::Prediction.name(), text)
    })?;
    let score = match value(found, Field::Score) {
        Scalar::Absent | Scalar::Null => None,
        score => Some(checks::score(|| Field::Score.name().into(), score)?),
    };
    let latency_us = checks::latency_us(value(found, Field::LatencyMs))?;
    let failed = checks::failed(value(found, Field::Error))?;
    let segments = segments(found, tree, dimensions)?;
    if let Some(error) = found.bad.take() {
        return Err(error);
    }
    Ok(Inference {
        id,
        model: ModelId(model),
        version: VersionId(version),
        time,
        prediction,
        latency_us,
        failed,
        score,
        scores: std::mem::replace(&mut found.scores, BumpVec::new_in(found.arena))
            .into_bump_slice(),
        features: std::mem::replace(&mut found.features, BumpVec::new_in(found.arena))
            .into_bump_slice(),
        segments,
    })
}

fn segments<'a>(
    found: &mut Found<'a, '_>,
    tree: &Tree,
    dimensions: &[String],
) -> Result<&'a [Segment], DecodeError> {
    let mut segments = BumpVec::with_capacity_in(dimensions.len(), found.arena);
    for (index, (dimension, slots)) in (0..).zip(dimensions.iter().zip(tree.dimensions())) {
        let value = checks::segment(dimension, found.first(slots), found.arena)?;
        let Some(value) = value else { continue };
        let id = SegmentId(found.intern_segment(index, dimension, value)?);
        segments.push(Segment { dimension: index, id });
    }
    Ok(segments.into_bump_slice())
}

fn label(
    found: &mut Found<'_, '_>,
    tree: &Tree,
    id_bytes: &mut Vec<u8>,
) -> Result<Label, DecodeError> {
    let id = request_id(found, tree, id_bytes)?;
    let model = name(found, tree, Field::Model)?.map(ModelId);
    let time = checks::time(found.first(tree.slots(Field::Timestamp)))?;
    let value = found.first(tree.slots(Field::Label));
    let value =
        checks::target(Field::Label, value, |text| found.intern(Field::Label.name(), text))?;
    if value == Target::Absent {
        return Err(DecodeError::MissingField { field: Field::Label.name() });
    }
    let weight = checks::weight(found.first(tree.slots(Field::Weight)))?;
    Ok(Label { id, model, time, value, weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA};
    use crate::traffic::{Shape, Shares, Traffic, TrafficSettings};

    /// Payloads of a topic, among them bad ones.
    fn payloads(encoding: Encoding, stream: Stream) -> Vec<Option<Vec<u8>>> {
        let settings = TrafficSettings {
            seed: 5,
            start_ms: 0,
            inferences_per_s: 10.0,
            window_ms: 60_000,
            lateness_ms: 600_000,
            label_wait_ms: 3_600_000,
            falls_after_ms: i64::MAX / 2,
            shares: Shares { broken: 0.2, ..Shares::USUAL },
            shape: Shape::USUAL,
        };
        let mut traffic = Traffic::new(settings, encoding);
        let all = std::iter::from_fn(|| traffic.produce(traffic.inferences() < 300));
        all.filter(|record| record.stream == stream).map(|record| record.payload).collect()
    }

    #[test]
    fn payloads_of_a_batch_say_what_each_says_by_itself() {
        let topics = [(Stream::Inferences, INFERENCE_SCHEMA), (Stream::Labels, LABEL_SCHEMA)];
        for (stream, schema) in topics {
            let avro = (Encoding::Avro { ids: None }, Format::AvroFile(schema.to_owned()));
            for (encoding, format) in [(Encoding::Json, Format::Json), avro] {
                let fields = FieldPaths::new(stream);
                let segments = vec!["region".to_owned()];
                let settings = DecoderSettings { stream, format, fields, segments };
                let new = || Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
                let (mut one, mut several) = (new(), new());
                let (mut names, mut same_names) = (Names::default(), Names::default());
                let payloads = payloads(encoding, stream);
                for some in payloads.chunks(7) {
                    let mut batch = several.batch(None);
                    let events = some
                        .iter()
                        .map(Option::as_deref)
                        .map(|payload| (payload, batch.decode(payload, &mut names)));
                    for (payload, event) in events.collect::<Vec<_>>() {
                        assert_eq!(one.decode(payload, &mut same_names), event);
                    }
                }
                assert!(payloads.len() > 250, "enough of them");
            }
        }
    }
}
