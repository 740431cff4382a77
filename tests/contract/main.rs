//! What other programs see of Tidegauge: formats, tables, codes, texts. In memory, in seconds.

mod decode;
mod decode_avro;
mod decode_json;
mod registry;
mod source;
