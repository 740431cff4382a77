//! What decoding one event costs.

fn main() {}
