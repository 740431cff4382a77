//! What other programs see of Tidegauge: formats, tables, codes, texts. In memory, in seconds.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod decode;
mod decode_avro;
mod decode_json;
mod registry;
