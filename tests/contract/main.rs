//! What other programs see of Tidegauge: formats, tables, codes, texts. In memory, in seconds.

mod acknowledgement;
mod cli;
mod codes;
mod config;
mod decode;
mod decode_avro;
mod decode_json;
mod memory;
mod pipeline;
mod registry;
mod source;
mod tables;
mod traffic;
