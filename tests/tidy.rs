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
    ("calendar", 1),
    ("client", 1),
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

/// Words of what is still to be done.
const UNDONE: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME", "(to be written)"];

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

    /// Lines of code, without comments and without the items that are for unit tests only.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        // How far the item is indented that is being left out.
        let mut left_out = None;
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            let ends_an_item = code.ends_with([';', '}', ',']);
            if let Some(of) = left_out {
                let is_beside = code.starts_with("#[") || code.starts_with("//");
                if indent == of && ends_an_item && !is_beside {
                    left_out = None;
                }
                return None;
            }
            if code.starts_with("#[cfg(test)]") {
                left_out = (!ends_an_item).then_some(indent);
                return None;
            }
            (!code.starts_with("//")).then_some((i + 1, code))
        })
    }

    /// The names right behind a head such as `crate::`, those of a group in braces too, each with the head's line.
    fn named(&self, head: &str) -> Vec<(usize, String)> {
        let (numbers, lines): (Vec<usize>, Vec<&str>) = self.code().unzip();
        let text = lines.join("\n");
        let mut found = Vec::new();
        for (at, _) in text.match_indices(head) {
            let line = numbers[text[..at].matches('\n').count()];
            let names = first_names(&text[at + head.len()..]).into_iter();
            found.extend(names.map(|name| (line, name)));
        }
        found
    }
}

/// The first name of a path, or of each path in a group.
fn first_names(rest: &str) -> Vec<String> {
    let name = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut depth) = (vec![name(group)], 1);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn planted(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn code_goes_on_behind_unit_tests() {
    let text = "a\n#[cfg(test)]\nmod tests {\n    b;\n}\n// c\nd\n#[cfg(test)]\n#[e]\nfn f(\n    g: G,\n) {\n    h\n}\n\
                #[cfg(test)]\nuse i;\nj {\n    #[cfg(test)]\n    k,\n    l,\n}\n#[cfg(test)] use m;\nn";
    let source = planted("src/x.rs", text);
    let code: Vec<&str> = source.code().map(|(_, code)| code).collect();
    assert_eq!(code, ["a", "d", "j {", "l,", "}", "n"]);
    assert_eq!(source.code().last(), Some((23, "n")));
}

#[test]
fn names_of_groups_are_found() {
    let text = "use x::{a, b::{c, d},\n    e::f as g,\n};\nx::h::i();";
    let owned = planted("src/x.rs", text).named("x::");
    let names: Vec<(usize, &str)> = owned.iter().map(|(line, name)| (*line, &**name)).collect();
    assert_eq!(names, [(1, "a"), (1, "b"), (1, "e"), (1, ""), (4, "h")]);
}

fn sources() -> Vec<Source> {
    let found = sources_in("src");
    assert!(found.len() > 150, "the tree was not found");
    found
}

/// Every Rust file of a folder and the folders in it.
fn sources_in(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
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
    for (line, part) in ["crate::", "tidegauge::"].iter().flat_map(|head| source.named(head)) {
        let Some(level) = levels.get(part.as_str()) else { continue };
        if part != source.part() && level >= own {
            let place = format!("{}:{line}", source.path);
            offences.push(format!("{place}: level {own} imports {part}, level {level}"));
        }
    }
    offences
}

#[test]
fn a_file_imports_only_lower_levels() {
    let offences: Vec<String> = sources().iter().flat_map(level_offences).collect();
    assert_none(&offences);
    let of = |path: &str, text: &str| level_offences(&planted(path, text)).len();
    assert_eq!(of("src/decode/json.rs", "use crate::sink::Sink;"), 1);
    assert_eq!(of("src/decode/json.rs", "use crate::source::x;"), 1);
    assert_eq!(of("src/decode/json.rs", "use crate::engine::x;"), 0);
    assert_eq!(of("src/decode/json.rs", "use crate::{engine::{self, x}, sink};"), 1);
    assert_eq!(of("src/decode/json.rs", "use crate::{\n    sink::Sink,\n    source::x,\n};"), 2);
    let behind = "#[cfg(test)]\nmod tests {\n    use crate::sink::x;\n}\nuse crate::sink::y;";
    assert_eq!(of("src/decode/json.rs", behind), 1);
    assert_eq!(of("src/novel.rs", ""), 1);
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
        for (line, used) in file.named("super::") {
            if modules.iter().position(|m| *m == used).is_some_and(|i| i >= own) {
                offences.push(format!("{}:{line}: uses {used}, which stands later", file.path));
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
    for text in ["use super::b::B;", "use super::{C, b::B};"] {
        let user = [planted("src/x/a.rs", text)];
        assert_eq!(order_offences("src/x/", "pub mod a;\npub mod b;", &user).len(), 1);
        assert_eq!(order_offences("src/x/", "pub mod b;\npub mod a;", &user).len(), 0);
    }
}

fn engine_offences(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/engine/") {
        return Vec::new();
    }
    let of_std = source.named("std::");
    let mut offences = Vec::new();
    for ban in ENGINE_BANS {
        let lines: Vec<usize> = if let Some(module) = ban.strip_prefix("std::") {
            of_std.iter().filter(|(_, name)| name == module).map(|(line, _)| *line).collect()
        } else {
            source.code().filter(|(_, code)| code.contains(ban)).map(|(line, _)| line).collect()
        };
        let told = |line: usize| format!("{}:{line}: `{ban}` in the engine", source.path);
        offences.extend(lines.into_iter().map(told));
    }
    offences
}

#[test]
fn the_engine_is_pure() {
    let offences: Vec<String> = sources().iter().flat_map(engine_offences).collect();
    assert_none(&offences);
    let of = |text: &str| engine_offences(&planted("src/engine/x.rs", text)).len();
    for ban in ENGINE_BANS {
        assert_eq!(of(&format!("let _ = {ban};")), 1, "{ban}");
    }
    assert_eq!(of("use std::{\n    sync::Arc,\n    time::{Duration, Instant},\n};"), 1);
    assert_eq!(of("#[cfg(test)]\nuse std::time;\nuse std::{cmp, fs};"), 1);
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
    assert_eq!(unsafe_offences(&planted("src/x.rs", "unsafe { x() }")).len(), 1);
}

/// Whether a function begins here, whatever stands before its `fn`.
fn is_function(code: &str) -> bool {
    let Some((before, _)) = code.split_once("fn ") else { return false };
    let inside = before.strip_prefix("pub(").and_then(|rest| rest.split_once(')'));
    let before = inside.map_or(before, |(_, rest)| rest);
    before.split_whitespace().all(|word| {
        ["pub", "const", "async", "unsafe", "extern"].contains(&word) || word.starts_with('"')
    })
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
        if is_function(code) && start.is_none() && !code.ends_with([';', '}']) {
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
    for head in [
        "fn",
        "pub fn",
        "pub(super) fn",
        "pub(crate) async fn",
        "pub(in crate::x) const fn",
        "unsafe fn",
        "pub unsafe extern \"C\" fn",
    ] {
        let body = "    work();\n".repeat(80);
        let long = format!("fn short() {{}}\n\n{head} long() {{\n{body}}}\n");
        let offences = length_offences(&planted("src/x.rs", &long));
        assert_eq!(offences, ["src/x.rs:3: a function of 82 lines"], "{head}");
    }
    let of_lines =
        |lines| length_offences(&planted("src/x.rs", &"// why\nwork();\n".repeat(lines)));
    assert_eq!(of_lines(650).len(), 0, "comments do not count");
    assert_eq!(of_lines(651), ["src/x.rs: 651 lines: split it by noun"]);
    for no_function in ["let f = fn x;", "type F = fn (u8);", "// fn x() {", "pub(crate) fnord "] {
        assert!(!is_function(no_function), "{no_function}");
    }
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

fn undone_offences(source: &Source) -> Vec<String> {
    let marks = UNDONE.iter().filter(|mark| source.text.contains(**mark));
    marks.map(|mark| format!("{} has {mark}", source.path)).collect()
}

#[test]
fn nothing_is_left_undone() {
    let offences: Vec<String> = sources().iter().flat_map(undone_offences).collect();
    assert_none(&offences);
    for mark in UNDONE {
        let text = format!("fn x() {{\n    work(); // {mark}\n}}\n");
        assert_eq!(undone_offences(&planted("src/x.rs", &text)), [format!("src/x.rs has {mark}")]);
    }
    assert_eq!(undone_offences(&planted("src/x.rs", "fn todo() {}")).len(), 0);
}

/// Tests that nobody runs.
fn ignored_offences(source: &Source) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    lines
        .filter(|(_, line)| line.trim_start().starts_with("#[ignore"))
        .map(|(i, _)| format!("{}:{}: a test that nobody runs", source.path, i + 1))
        .collect()
}

#[test]
fn every_test_is_run() {
    let tests = sources_in("tests");
    assert!(tests.len() > 100, "the tests were not found");
    let files = sources().into_iter().chain(tests);
    let offences: Vec<String> = files.flat_map(|file| ignored_offences(&file)).collect();
    assert_none(&offences);
    for ignored in ["#[ignore]", "    #[ignore = \"slow\"]"] {
        let text = format!("#[test]\n{ignored}\nfn x() {{}}\n");
        let offences = ignored_offences(&planted("tests/x.rs", &text));
        assert_eq!(offences, ["tests/x.rs:2: a test that nobody runs"], "{ignored}");
    }
    assert_eq!(ignored_offences(&planted("tests/x.rs", "let x = \"#[ignore]\";")).len(), 0);
}
