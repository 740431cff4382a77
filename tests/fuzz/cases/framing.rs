//! The registry's wire format: a zero byte, the schema's ID, the datum.

use super::avro::{SCHEMAS, WRITERS};
use super::{alike, choice, decoded, decoder};
use std::sync::{Arc, LazyLock};
use tidegauge::decode::registry::{RegistrySettings, Schemas};
use tidegauge::decode::{DecodeError, Format, NotDecoded, SchemaId};
use tidegauge::engine::event::Stream;

/// A registry that was never asked: every ID waits.
static SILENT: LazyLock<Arc<Schemas>> = LazyLock::new(|| {
    let settings = RegistrySettings::new("http://127.0.0.1:9");
    Arc::new(Schemas::new(settings).expect("a good URL"))
});

/// The first byte says which topic, the rest is the payload.
pub fn check(bytes: &[u8]) {
    compares(bytes);
}

/// The same, and whether it came as far as to comparing a datum with the framing and without it.
pub fn compares(bytes: &[u8]) -> bool {
    let Some((stream, payload)) = choice(bytes) else { return false };
    let stream = Stream::BOTH[stream % 2];
    let id = match payload {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    };
    let mut known = decoder(stream, Format::AvroRegistry, Arc::clone(&SCHEMAS));
    assert_eq!(known.schema(Some(payload)), id.map(SchemaId));
    let event = decoded(&mut known, payload);
    let mut silent = decoder(stream, Format::AvroRegistry, Arc::clone(&SILENT));
    let waiting = decoded(&mut silent, payload);
    let Some(id) = id else {
        let error = NotDecoded::Bad(if payload.is_empty() {
            DecodeError::EmptyPayload
        } else {
            DecodeError::WireFormat
        });
        assert_eq!((&event, &waiting), (&Err(error), &event));
        return false;
    };
    // An outage of the registry is never the record's fault.
    assert_eq!(waiting, Err(NotDecoded::Waiting(SchemaId(id))));
    let Some(writer) = usize::try_from(id).ok().and_then(|id| WRITERS.get(id)) else {
        assert_eq!(event, Err(NotDecoded::Bad(DecodeError::UnknownSchema { id })));
        return false;
    };
    let datum = &payload[5..];
    if datum.is_empty() {
        return false;
    }
    let format = Format::AvroFile(writer.text.to_owned());
    let plain = decoded(&mut decoder(stream, format, Arc::clone(&SCHEMAS)), datum);
    let (event, plain) = (without_place(event), without_place(plain));
    assert!(alike(&event, &plain), "without the framing {plain:?}, with it {event:?}");
    true
}

/// The place of a fault is counted from the payload's start, with the framing.
fn without_place(event: Result<String, NotDecoded>) -> Result<String, NotDecoded> {
    event.map_err(|error| match error {
        NotDecoded::Bad(DecodeError::BrokenAvro { reason, .. }) => {
            NotDecoded::Bad(DecodeError::BrokenAvro { reason, at: 0 })
        }
        other => other,
    })
}
