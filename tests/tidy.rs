//! The source tree as test input: levels, bans, lengths, unsafe files. Each rule is tried on planted offenders too.

#![expect(clippy::unwrap_used, reason = "a test that can't read its input has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The level of each part, as the crate's map has it.
const LEVELS: &[(&str, u8)] = &[
    ("main", 9),
    ("commands", 8),
    ("config", 7),
    ("http", 6),
    ("overview", 6),
    ("pipeline", 5),
    ("alerting", 5),
    ("sink", 4),
    ("report", 3),
    ("evaluate", 2),
    ("alerts", 2),
    ("decode", 2),
    ("source", 2),
    ("traffic", 2),
    ("embedded", 2),
    ("dashboards", 2),
    ("telemetry", 1),
    ("failpoint", 1),
    ("profile", 1),
    ("engine", 0),
];

/// Files that may hold `unsafe`, each with its reason.
const UNSAFE: &[(&str, &str)] = &[
    ("src/source/batch.rs", "batched consume has no safe wrapper in the crate"),
    ("src/engine/prefetch.rs", "the processor's hint takes a pointer"),
    ("src/source/steady.rs", "librdkafka's timed waits go by a clock that can be set"),
    ("src/source/topics.rs", "topic ids have no safe wrapper in the crate"),
    ("src/embedded/broker.rs", "the mock cluster's group delay has no safe wrapper in the crate"),
    ("src/bin/tidegauge-clickhouse.rs", "calls into libchdb.so and opens a pseudo-terminal"),
];

/// Words that the engine must not hold: clocks, I/O, randomness, logging, async.
const ENGINE_BANS: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "tokio",
    "tracing",
    "async fn",
    "rand::",
    "println!",
    "HashMap::new()",
];

const MOST_LINES_IN_A_FILE: usize = 650;
const MOST_LINES_IN_A_FUNCTION: usize = 70;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The part of the tree that it belongs to: the first folder below src, or the file's own name.
    fn part(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// Lines of code before the unit tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().enumerate();
        lines
            .map(|(i, line)| (i + 1, line.trim_start()))
            .filter(|(_, line)| !line.starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path: relative });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 30, "the tree was not found");
    found
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

/// Imports of parts that are not below the importing one.
fn level_offences(source: &Source) -> Vec<String> {
    let levels: BTreeMap<_, _> = LEVELS.iter().copied().collect();
    if matches!(source.part(), "lib" | "bin") {
        return Vec::new();
    }
    let Some(own) = levels.get(source.part()) else {
        return vec![format!("{}: has no level: add it to the map", source.path)];
    };
    let mut offences = Vec::new();
    for (line, code) in source.code() {
        for prefix in ["crate::", "tidegauge::"] {
            for (at, _) in code.match_indices(prefix) {
                let rest = &code[at + prefix.len()..];
                let part: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(level) = levels.get(part.as_str()) else { continue };
                if part != source.part() && level >= own {
                    offences.push(format!(
                        "{}:{line}: level {own} imports {part}, level {level}",
                        source.path
                    ));
                }
            }
        }
    }
    offences
}

#[test]
fn a_file_imports_only_lower_levels() {
    let offences: Vec<String> = sources().iter().flat_map(level_offences).collect();
    assert_none(&offences);
    let planted = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    assert_eq!(level_offences(&planted("src/decode/json.rs", "use crate::sink::Sink;")).len(), 1);
    assert_eq!(level_offences(&planted("src/decode/json.rs", "use crate::source::x;")).len(), 1);
    assert_eq!(level_offences(&planted("src/decode/json.rs", "use crate::engine::x;")).len(), 0);
    assert_eq!(level_offences(&planted("src/novel.rs", "")).len(), 1);
}

/// In a folder's `mod.rs` the modules stand in import order: a file uses `super::x` of earlier ones only.
fn order_offences(folder: &str, list: &str, files: &[Source]) -> Vec<String> {
    let modules: Vec<&str> = list
        .lines()
        .filter_map(|l| l.trim().trim_start_matches("pub ").strip_prefix("mod "))
        .map(|l| l.trim_end_matches(';'))
        .collect();
    let mut offences = Vec::new();
    for file in files.iter().filter(|f| f.path.starts_with(folder)) {
        let name = file.path[folder.len()..].trim_end_matches(".rs");
        let Some(own) = modules.iter().position(|m| *m == name) else { continue };
        for (line, code) in file.code() {
            for (at, _) in code.match_indices("super::") {
                let rest = &code[at + 7..];
                let used: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if modules.iter().position(|m| *m == used).is_some_and(|i| i >= own) {
                    offences.push(format!("{}:{line}: uses {used}, which stands later", file.path));
                }
            }
        }
    }
    offences
}

#[test]
fn modules_stand_in_import_order() {
    let files = sources();
    let mut offences = Vec::new();
    for file in files.iter().filter(|f| f.path.ends_with("/mod.rs")) {
        let folder = file.path.trim_end_matches("mod.rs");
        offences.extend(order_offences(folder, &file.text, &files));
    }
    assert_none(&offences);
    let planted = [Source { path: "src/x/a.rs".into(), text: "use super::b::B;".into() }];
    assert_eq!(order_offences("src/x/", "pub mod a;\npub mod b;", &planted).len(), 1);
    assert_eq!(order_offences("src/x/", "pub mod b;\npub mod a;", &planted).len(), 0);
}

fn engine_offences(source: &Source) -> Vec<String> {
    let in_engine = source.path.starts_with("src/engine/");
    let mut offences = Vec::new();
    for (line, code) in source.code().filter(|_| in_engine) {
        for ban in ENGINE_BANS {
            if code.contains(ban) {
                offences.push(format!("{}:{line}: `{ban}` in the engine", source.path));
            }
        }
    }
    offences
}

#[test]
fn the_engine_is_pure() {
    let offences: Vec<String> = sources().iter().flat_map(engine_offences).collect();
    assert_none(&offences);
    for ban in ENGINE_BANS {
        let planted = Source { path: "src/engine/x.rs".into(), text: format!("let _ = {ban};") };
        assert!(!engine_offences(&planted).is_empty(), "{ban}");
    }
}

fn unsafe_offences(source: &Source) -> Vec<String> {
    if UNSAFE.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let lines = source.code();
    lines
        .filter(|(_, code)| code.contains("unsafe ") || code.contains("unsafe_code"))
        .map(|(line, _)| format!("{}:{line}: unsafe outside the listed files", source.path))
        .collect()
}

#[test]
fn unsafe_stands_in_the_listed_files_only() {
    let files = sources();
    let offences: Vec<String> = files.iter().flat_map(unsafe_offences).collect();
    assert_none(&offences);
    for (path, reason) in UNSAFE {
        let file = files.iter().find(|f| f.path == *path);
        let file = file.unwrap_or_else(|| panic!("{path} is listed but not there ({reason})"));
        assert!(file.text.contains("unsafe "), "{path} needs no exception any more");
    }
    let planted = Source { path: "src/x.rs".into(), text: "unsafe { x() }".into() };
    assert_eq!(unsafe_offences(&planted).len(), 1);
}

/// Functions longer than a screen, and files longer than a sitting.
fn length_offences(source: &Source) -> Vec<String> {
    let mut offences = Vec::new();
    let length = source.code().count();
    if length > MOST_LINES_IN_A_FILE {
        offences.push(format!("{}: {length} lines: split it by noun", source.path));
    }
    let mut start: Option<(usize, usize)> = None;
    for (i, line) in source.text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        let is_function = ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn "]
            .iter()
            .any(|f| code.starts_with(f));
        if is_function && start.is_none() && !code.ends_with(';') {
            start = Some((i, indent));
        }
        let Some((first, at)) = start else { continue };
        if indent == at && code.ends_with(';') {
            start = None; // a signature without a body
        } else if indent == at && code.starts_with('}') {
            if i - first > MOST_LINES_IN_A_FUNCTION {
                let place = format!("{}:{}", source.path, first + 1);
                offences.push(format!("{place}: a function of {} lines", i - first + 1));
            }
            start = None;
        }
    }
    offences
}

#[test]
fn functions_fit_a_screen_and_files_a_sitting() {
    let offences: Vec<String> = sources().iter().flat_map(length_offences).collect();
    assert_none(&offences);
    let long = format!("fn long() {{\n{}}}\n", "    work();\n".repeat(80));
    assert_eq!(length_offences(&Source { path: "src/x.rs".into(), text: long }).len(), 1);
}

/// What is built for use has no failpoints; what cargo builds for these tests, the program included, has them.
#[test]
fn failpoints_are_in_test_builds_only() {
    // The package's features are one set for all its targets.
    const { assert!(cfg!(feature = "failpoints")) };
    let features = |edges: &str| {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--depth", "0", "--format", "{p} {f}"])
            .args(["--edges", edges])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(tree.status.success(), "{tree:?}");
        String::from_utf8(tree.stdout).unwrap().lines().next().unwrap().to_owned()
    };
    let (tested, used) = (features("all"), features("no-dev"));
    assert!(tested.starts_with("tidegauge ") && tested.contains("failpoints"), "{tested}");
    assert!(used.starts_with("tidegauge ") && !used.contains("failpoints"), "{used}");
}

#[test]
fn nothing_is_left_undone() {
    for source in sources() {
        for mark in ["todo!(", "unimplemented!(", "TODO", "FIXME", "(to be written)"] {
            assert!(!source.text.contains(mark), "{} has {mark}", source.path);
        }
    }
}
