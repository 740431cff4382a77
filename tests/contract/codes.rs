//! Every code that an error can have is in the table of codes and remedies, and the table is in the README.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidegauge::commands::codes;

/// Texts of `code()` functions in the source tree, without those of figures that are NULL.
fn codes_in_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for (at, _) in text.match_indices("fn code(") {
                    if !text[..at].trim_end().ends_with("pub") || is_of_figures(&text[..at]) {
                        continue;
                    }
                    let body = &text[at..at + text[at..].find("\n    }\n").unwrap()];
                    found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
                }
            }
        }
    }
    found
}

fn is_of_figures(before: &str) -> bool {
    before.rfind("impl ").is_some_and(|at| before[at..].starts_with("impl Undefined"))
}

#[test]
fn every_code_has_a_remedy() {
    let found = codes_in_source();
    assert!(found.len() > 50, "{found:?}");
    let missing: Vec<_> = found.iter().filter(|code| codes::find(code).is_none()).collect();
    assert!(missing.is_empty(), "add to commands/codes.rs: {missing:?}");
}

#[test]
fn codes_are_listed_once() {
    let once: BTreeSet<_> = codes::CODES.iter().map(|code| code.code).collect();
    assert_eq!(once.len(), codes::CODES.len());
    assert!(codes::CODES.iter().all(|code| !code.remedy.is_empty() && !code.remedy.contains('|')));
}

#[test]
fn the_readme_has_the_table() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let table = codes::table();
    assert!(readme.contains(&table), "the README's table of codes should be:\n{table}");
}
