//! The configuration: any text gives settings or an error that names the place, and no secret is shown.

use std::sync::Arc;
use tidegauge::config::{ConfigError, Environment, Settings};
use tidegauge::decode::Decoder;

const FILE: &str = "fuzz.toml";
const SECRET: &str = "correct-horse-battery-staple";

/// The file's text; after a zero byte variables of the environment follow, `NAME=VALUE` each, with a zero byte between.
pub fn check(bytes: &[u8]) {
    is_used(bytes);
}

/// The same, and whether settings came of it from which every decoder could be made.
pub fn is_used(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    // Such a value names a file, and not every file has an end.
    if text.contains("file:") {
        return false;
    }
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or("");
    let variables = parts.filter_map(|part| part.split_once('='));
    let environment: Environment =
        variables.chain([("FUZZ_SECRET", SECRET)]).filter(|(name, _)| !name.is_empty()).collect();
    match Settings::parse(FILE, text, &environment) {
        Err(error) => {
            refused(text, &error);
            false
        }
        Ok(settings) => {
            let shown = format!("{settings:?}");
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(settings.workers >= 1);
            assert_eq!(settings.digest().len(), 32);
            drop(settings.kafka(true));
            // A URL that is none is found out here, with a remedy of its own.
            let Ok(schemas) = settings.schemas() else { return false };
            for decoder in settings.decoders().into_iter().flatten() {
                Decoder::new(&decoder, Arc::clone(&schemas)).expect("settings were checked");
            }
            true
        }
    }
}

/// The message says where: a line that exists, a variable, or the file where nothing was said.
fn refused(text: &str, error: &ConfigError) {
    let message = error.to_string();
    assert!(!message.contains(SECRET), "{message}");
    assert!(error.code().starts_with("config_"), "{message}");
    if let Some(rest) = message.strip_prefix("fuzz.toml:") {
        let line = rest.split(':').next().unwrap_or("");
        if let Ok(line) = line.parse::<usize>() {
            assert!((1..=text.split('\n').count()).contains(&line), "{message}");
            return;
        }
    }
    let is_placed = message.starts_with(FILE) || message.starts_with("environment variable ");
    assert!(is_placed, "{message}");
}
