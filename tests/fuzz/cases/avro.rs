//! Avro against `apache-avro`: what it reads, ours reads, and it says the same; also what it resolves to the canonical
//! schema from the writer's.

use super::{canonical, choice, decoded, decoder};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use std::io::{self, Read};
use std::sync::{Arc, LazyLock};
use tidegauge::decode::checks::DEPTH_MAX;
use tidegauge::decode::registry::{Schemas, WriterSchema};
use tidegauge::decode::{DecodeError, Decoder, Format, NotDecoded, SchemaId};
use tidegauge::engine::event::Stream;

/// A writer's schema as the other implementation has it.
pub struct Writer {
    pub stream: Stream,
    pub text: &'static str,
    pub schema: Schema,
    /// It has arrays or maps that nobody wants, which ours skips by the size that the writer gives.
    skips: bool,
}

/// Inferences with fields in another order, more and less of them, and smaller numbers.
const EVOLVED: &str = r#"{"type":"record","name":"Inference","namespace":"tidegauge","fields":[
    {"name":"trace","type":{"type":"array","items":{"type":"record","name":"Step","fields":[
        {"name":"name","type":"string"},{"name":"took","type":["null","float"]},{"name":"raw","type":"bytes"}]}}},
    {"name":"features","type":["null",{"type":"map","values":["long","null","float","string"]}]},
    {"name":"model","type":"string"},
    {"name":"host","type":{"type":"enum","name":"Host","symbols":["A","B","C"]}},
    {"name":"score","type":["float","null"]},
    {"name":"timestamp","type":"long"},
    {"name":"tags","type":{"type":"map","values":{"type":"array","items":"int"}}},
    {"name":"latency_ms","type":["null","int"]},
    {"name":"request_id","type":"string"},
    {"name":"digest","type":{"type":"fixed","name":"Digest","size":3}},
    {"name":"prediction","type":["boolean","long","null"]}]}"#;

/// Every scalar type there is, as features.
const SCALARS: &str = r#"{"type":"record","name":"I","fields":[
    {"name":"request_id","type":"string"},
    {"name":"model","type":{"type":"enum","name":"M","symbols":["a","b"]}},
    {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"features","type":{"type":"record","name":"F","fields":[
        {"name":"null","type":"null"},{"name":"boolean","type":"boolean"},{"name":"int","type":"int"},
        {"name":"long","type":"long"},{"name":"float","type":"float"},{"name":"double","type":"double"},
        {"name":"string","type":"string"},{"name":"enum","type":"M"},
        {"name":"decimal","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"fixed","type":{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9,"scale":3}},
        {"name":"date","type":{"type":"int","logicalType":"date"}},
        {"name":"time","type":{"type":"long","logicalType":"time-micros"}},
        {"name":"nanos","type":{"type":"long","logicalType":"timestamp-nanos"}},
        {"name":"local","type":{"type":"long","logicalType":"local-timestamp-millis"}}]}}]}"#;

/// No more than what every inference needs, or nothing.
const SMALLEST: &str = r#"["null",{"type":"record","name":"I","fields":[{"name":"request_id","type":"int"},
    {"name":"model","type":"string"},{"name":"timestamp","type":"int"},{"name":"segments","type":{"type":"record",
    "name":"S","fields":[{"name":"region","type":["null","string"]},{"name":"channel","type":"boolean"}]}}]}]"#;

/// Labels with other numbers and more fields.
const EVOLVED_LABEL: &str = r#"{"type":"record","name":"Label","namespace":"tidegauge","fields":[
    {"name":"weight","type":"float"},{"name":"timestamp","type":"long"},{"name":"by","type":["null","string"]},
    {"name":"label","type":["boolean","int","string"]},{"name":"request_id","type":"string"}]}"#;

/// The schemas that a datum may be of. The ID in the registry is the index here.
pub static WRITERS: LazyLock<Vec<Writer>> = LazyLock::new(|| {
    [
        (Stream::Inferences, canonical(Stream::Inferences)),
        (Stream::Labels, canonical(Stream::Labels)),
        (Stream::Inferences, EVOLVED),
        (Stream::Inferences, SCALARS),
        (Stream::Inferences, SMALLEST),
        (Stream::Labels, EVOLVED_LABEL),
    ]
    .map(|(stream, text)| {
        let schema = Schema::parse_str(text).expect("a valid schema");
        Writer { stream, text, schema, skips: text == EVOLVED }
    })
    .into()
});

/// The canonical schemas, which readers of the other implementation resolve to.
static READERS: LazyLock<[Schema; 2]> = LazyLock::new(|| {
    Stream::BOTH.map(|stream| Schema::parse_str(canonical(stream)).expect("a valid schema"))
});

/// All writers' schemas, as the registry would give them.
pub static SCHEMAS: LazyLock<Arc<Schemas>> = LazyLock::new(|| {
    let schemas = Schemas::none();
    for (id, writer) in (0..).zip(WRITERS.iter()) {
        let schema = WriterSchema::parse(writer.text, &[]).expect("a valid schema");
        schemas.remember(SchemaId(id), schema);
    }
    Arc::new(schemas)
});

/// A payload in the registry's wire format.
pub fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

/// Far more than a short payload needs, and far less than one can ask for.
const ALLOCATION_BYTES_MAX: usize = 1 << 20;

/// The first byte chooses the schema, the rest is the datum; beyond the known ones the schema's text comes first, up to
/// a zero byte.
pub fn check(bytes: &[u8]) {
    compares(bytes);
}

/// The same, and whether the case came as far as to comparing what both make of a datum.
pub fn compares(bytes: &[u8]) -> bool {
    apache_avro::util::max_allocation_bytes(ALLOCATION_BYTES_MAX);
    let Some((index, datum)) = choice(bytes) else { return false };
    let Some(writer) = WRITERS.get(index) else {
        of_any(Stream::BOTH[index % 2], datum);
        return false;
    };
    of_known(u32::try_from(index).expect("a byte"), writer, datum)
}

/// Whether it was compared.
fn of_known(id: u32, writer: &Writer, datum: &[u8]) -> bool {
    let mut ours = decoder(writer.stream, Format::AvroRegistry, Arc::clone(&SCHEMAS));
    let event = decoded(&mut ours, &framed(id, datum));
    let Some(value) = read(&writer.schema, None, datum) else {
        let is_canonical = writer.text == canonical(writer.stream);
        // Ours looks at no text that nobody wants.
        assert!(!is_canonical || event.is_err() || is_no_text(&writer.schema, datum), "{event:?}");
        return false;
    };
    let Some(again) = write(&writer.schema, value.clone()) else { return false };
    // A size of a block that lies is a fault that only ours looks at; with sizes a datum is longer than it has to be.
    let is_shortest = again.len() == datum.len();
    if is_broken(&event) {
        assert!(!is_shortest || is_too_long(&event), "only ours refuses it: {event:?}");
        return false;
    }
    if (!is_shortest && writer.skips) || has_numeric_classes(&value) {
        return false;
    }
    let of_theirs = decoded(&mut ours, &framed(id, &again));
    assert_eq!(event.as_ref().ok(), of_theirs.as_ref().ok(), "as apache-avro has it");
    let reader = &READERS[writer.stream.index()];
    let resolved = read(&writer.schema, Some(reader), datum);
    if let Some(resolved) = resolved.and_then(|resolved| write(reader, resolved)) {
        let canonical_id = u32::try_from(writer.stream.index()).expect("0 or 1");
        let resolved = decoded(&mut ours, &framed(canonical_id, &resolved));
        assert_eq!(event.ok(), resolved.ok(), "as apache-avro resolves it");
    }
    true
}

/// A schema that may be anything: neither it nor the datum makes the decoder panic, and what the other reads, ours does.
fn of_any(stream: Stream, bytes: &[u8]) {
    let at = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (text, datum) = bytes.split_at(at);
    let (Ok(text), datum) = (std::str::from_utf8(text), datum.get(1..).unwrap_or(&[])) else {
        return;
    };
    let settings = super::settings(stream, Format::AvroFile(text.to_owned()));
    let Ok(mut ours) = Decoder::new(&settings, Arc::new(Schemas::none())) else { return };
    let event = decoded(&mut ours, datum);
    let schema = Schema::parse_str(text).expect("the decoder could parse it");
    // The other implementation follows a schema that names itself without a limit.
    let announced = "it announces more items than it has bytes";
    if let Err(NotDecoded::Bad(DecodeError::BrokenAvro { reason, .. })) = &event
        && *reason != announced
        && !is_too_long(&event)
        && !has_sizes(text)
        && datum.len() < DEPTH_MAX
    {
        assert!(read(&schema, None, datum).is_none(), "only ours refuses it: {event:?}");
    }
}

/// Whether values may be skipped by a size that lies.
fn has_sizes(schema: &str) -> bool {
    schema.contains("array") || schema.contains("map")
}

fn is_broken(event: &Result<String, NotDecoded>) -> bool {
    matches!(
        event,
        Err(NotDecoded::Bad(
            DecodeError::BrokenAvro { .. }
                | DecodeError::TrailingBytes { .. }
                | DecodeError::NestedTooDeep
        ))
    )
}

/// A datum, and whether more was asked for than there is: the other implementation takes that for a null in places.
struct Bytes<'a> {
    rest: &'a [u8],
    is_short: bool,
}

impl Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.is_short |= out.len() > self.rest.len();
        self.rest.read(out)
    }
}

/// The other implementation drops what a number has beyond 64 bits.
fn is_too_long(event: &Result<String, NotDecoded>) -> bool {
    const REASON: &str = "a number has more than 64 bits";
    matches!(event, Err(NotDecoded::Bad(DecodeError::BrokenAvro { reason: REASON, .. })))
}

/// The value of a whole datum; none for anything else.
fn read(schema: &Schema, resolved: Option<&Schema>, datum: &[u8]) -> Option<Value> {
    let reader = GenericDatumReader::builder(schema).maybe_reader_schema(resolved).build();
    let mut datum = Bytes { rest: datum, is_short: false };
    let value = reader.expect("the schema is complete").read_value(&mut datum).ok()?;
    (datum.rest.is_empty() && !datum.is_short).then_some(value)
}

fn is_no_text(schema: &Schema, mut datum: &[u8]) -> bool {
    let reader = GenericDatumReader::builder(schema).build().expect("the schema is complete");
    reader.read_value(&mut datum).is_err_and(|error| error.to_string().contains("UTF-8"))
}

/// None for what the other implementation reads but can't write: a decimal without bytes.
fn write(schema: &Schema, value: Value) -> Option<Vec<u8>> {
    let writer = GenericDatumWriter::builder(schema).build().expect("the schema is complete");
    writer.write_value_to_vec(value).ok()
}

/// Whether two classes of `scores` may be one number: the other implementation keeps no order to say which counts.
fn has_numeric_classes(value: &Value) -> bool {
    match value {
        Value::Record(fields) => fields.iter().any(|(name, value)| match value {
            Value::Union(_, inner) if name == "scores" => match &**inner {
                Value::Map(scores) => scores.keys().any(|class| class.starts_with(['+', '-', '0'])),
                _ => false,
            },
            _ => false,
        }),
        Value::Union(_, inner) => has_numeric_classes(inner),
        _ => false,
    }
}
