//! What `make fuzz` looks for with coverage and for minutes, in seconds on stable: every file of the corpus, which holds
//! each finding too, and seeded mutations of them, through the same functions.

use crate::cases;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of one run, for each target.
const MUTATIONS: u64 = 3_000;
const LONGEST: usize = 4_096;

/// `(file name, bytes)` of all that is kept for one target.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 5, "{target} has a corpus of {} files", files.len());
    files
}

/// Runs one case; if it fails, its bytes are printed beside what failed.
fn run(target: &str, from: &str, bytes: &[u8], check: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(bytes))) {
        eprintln!("fuzz target {target}, {from}: b\"{}\"", bytes.escape_ascii());
        eprintln!("keep it: write these bytes to tests/fuzz/corpus/{target}/found-NAME");
        std::panic::resume_unwind(panic);
    }
}

fn all_files_and_mutations(target: &str, check: fn(&[u8]), more: Vec<Vec<u8>>) {
    let mut files = corpus(target);
    files.extend(more.into_iter().map(|bytes| ("an example".to_owned(), bytes)));
    for (name, bytes) in &files {
        run(target, name, bytes, check);
    }
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let (name, bytes) = &files[random.below(files.len())];
        let (_, other) = &files[random.below(files.len())];
        let mutated = random.mutate(bytes, other);
        run(target, &format!("mutation {seed} of {name}"), &mutated, check);
    }
}

/// Of the files as they are at least one in so many comes to what its target is about, and is not refused before.
fn must_reach(target: &str, reaches: fn(&[u8]) -> bool, one_in: usize) {
    let files = corpus(target);
    let count = files.iter().filter(|(_, bytes)| reaches(bytes)).count();
    assert!(count * one_in >= files.len(), "{target}: {count} of {} files", files.len());
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[],:.-+eE019 \n";
        if self.below(2) == 0 {
            TELLING[self.below(TELLING.len())]
        } else {
            self.next().to_le_bytes()[0]
        }
    }

    /// A piece of a text.
    fn piece<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let start = self.below(of.len() + 1);
        let length = self.below((of.len() - start).min(32) + 1);
        &of[start..start + length]
    }

    /// One to five changes: a byte, a bit, a piece of its own or of the other text put in or taken out, an end cut off.
    fn mutate(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = bytes[..bytes.len().min(LONGEST)].to_vec();
        for _ in 0..=self.below(5) {
            let at = self.below(out.len() + 1);
            match self.below(8) {
                0 | 1 if at < out.len() => out[at] = self.byte(),
                2 if at < out.len() => out[at] ^= 1 << self.below(8),
                3 => out.insert(at, self.byte()),
                4 => {
                    let end = (at + self.below(16)).min(out.len());
                    drop(out.drain(at..end));
                }
                5 => {
                    let piece = self.piece(other).to_vec();
                    drop(out.splice(at..at, piece));
                }
                6 => {
                    let piece = self.piece(&out).to_vec();
                    drop(out.splice(at..at, piece));
                }
                _ if self.below(4) == 0 => out.truncate(at),
                _ => out.push(self.byte()),
            }
        }
        out
    }
}

#[test]
fn json_is_read_as_serde_json_reads_it() {
    all_files_and_mutations("json", cases::json::check, Vec::new());
}

#[test]
fn avro_is_read_as_apache_avro_reads_it() {
    all_files_and_mutations("avro", cases::avro::check, Vec::new());
    must_reach("avro", cases::avro::compares, 4);
}

#[test]
fn the_wire_format_is_taken_off() {
    all_files_and_mutations("framing", cases::framing::check, Vec::new());
    must_reach("framing", cases::framing::compares, 2);
}

#[test]
fn rows_are_read_as_they_were_written() {
    let examples = cases::rows::examples();
    for (example, rows) in &examples {
        assert_eq!(cases::rows::read(example).as_ref(), Some(rows));
    }
    let examples = examples.into_iter().map(|(example, _)| example).collect();
    all_files_and_mutations("rows", cases::rows::check, examples);
}

#[test]
fn a_configuration_is_settings_or_an_error_with_its_place() {
    all_files_and_mutations("config", cases::config::check, Vec::new());
    must_reach("config", cases::config::is_used, 4);
}

#[test]
fn a_case_that_fails_is_told() {
    let failed =
        catch_unwind(|| run("json", "a planted fault", b"x", |bytes| assert!(bytes.is_empty())));
    assert!(failed.is_err());
}
