//! What each fuzz target checks of any bytes. `tests/contract/fuzz.rs` feeds the same functions on stable.

pub mod avro;
pub mod config;
pub mod framing;
pub mod json;
pub mod rows;

use std::sync::Arc;
use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{DecodeError, Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, Stream, Target};
use tidegauge::engine::names::Names;

/// The canonical schema of a topic.
pub fn canonical(stream: Stream) -> &'static str {
    match stream {
        Stream::Inferences => include_str!("../../../schemas/inference.avsc"),
        Stream::Labels => include_str!("../../../schemas/label.avsc"),
    }
}

/// Fields at the top level, and two segment dimensions.
pub fn settings(stream: Stream, format: Format) -> DecoderSettings {
    let segments = vec!["region".to_owned(), "channel".to_owned()];
    DecoderSettings { stream, format, fields: FieldPaths::new(stream), segments }
}

/// A decoder with such settings.
pub fn decoder(stream: Stream, format: Format, schemas: Arc<Schemas>) -> Decoder {
    Decoder::new(&settings(stream, format), schemas).expect("the schema is valid")
}

/// What came of a payload: all that the event says, or the error.
pub fn decoded(decoder: &mut Decoder, payload: &[u8]) -> Result<String, NotDecoded> {
    let mut names = Names::default();
    let first = decoder.decode(Some(payload), &mut names).map(|event| event_text(&event, &names));
    if let Err(NotDecoded::Bad(error)) = &first {
        assert!(DecodeError::CODES.contains(&error.code()), "{error}");
        assert!(error.to_string().len() < 500, "{error}");
    }
    // What a decoder keeps from the record before must not show.
    let again = decoder.decode(Some(payload), &mut names).map(|event| event_text(&event, &names));
    assert!(alike(&first, &again), "not the same the second time: {first:?}, {again:?}");
    first
}

/// Whether two payloads came to the same; errors may hold a number that is none, which equals nothing.
pub fn alike(a: &Result<String, NotDecoded>, b: &Result<String, NotDecoded>) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// Everything an event says, with names as text.
pub fn event_text(event: &Event<'_>, names: &Names) -> String {
    let target = |target: &Target| match target {
        Target::Class(id) => format!("class {}", names.text(id.0)),
        other => format!("{other:?}"),
    };
    match event {
        Event::Label(x) => {
            let model = x.model.map(|id| Arc::clone(names.text(id.0)));
            format!("{:?} {model:?} {:?} {} {}", x.id, x.time, target(&x.value), x.weight)
        }
        Event::Inference(x) => {
            let mut features: Vec<_> = x
                .features
                .iter()
                .map(|f| format!("{}={:?}", names.text(f.name.0), f.value))
                .collect();
            let mut scores: Vec<_> =
                x.scores.iter().map(|(id, p)| format!("{}={p}", names.text(id.0))).collect();
            features.sort();
            scores.sort();
            let segments: Vec<_> =
                x.segments.iter().map(|s| (s.dimension, Arc::clone(names.text(s.id.0)))).collect();
            format!(
                "{:?} {} {} {:?} {} {:?} {} {:?} {scores:?} {features:?} {segments:?}",
                x.id,
                names.text(x.model.0),
                names.text(x.version.0),
                x.time,
                target(&x.prediction),
                x.latency_us,
                x.failed,
                x.score
            )
        }
    }
}

/// Takes the first byte, which chooses a variant.
pub fn choice(bytes: &[u8]) -> Option<(usize, &[u8])> {
    bytes.split_first().map(|(&first, rest)| (usize::from(first), rest))
}
