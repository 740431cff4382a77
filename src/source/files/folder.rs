//! A folder that files land in: which of them are there as a whole.
//!
//! Nothing tells a reader that a writer has finished, on a local disk or in a bucket that is mounted. So a file counts
//! as whole when two looks find it with the same size and time of change; and names that writers give to what is not
//! finished are not looked at. Who renames a finished file into the folder is safe whatever his pauses are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{FileError, unreadable};

/// Ends of names that are still written to.
const UNFINISHED: [&str; 6] = [".tmp", ".temp", ".part", ".partial", ".crdownload", "~"];

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    /// None where the file system keeps none.
    pub(super) modified: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Stamp,
    /// Somebody has dealt with the file as it is.
    is_settled: bool,
}

/// A file that is there as a whole, or a folder below that can't be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its path within the folder, with `/` between the parts.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
}

/// The files of a folder that fit some patterns.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    patterns: Vec<String>,
    seen: BTreeMap<PathBuf, Seen>,
    /// The folders below that the last look could not look into.
    unread: BTreeMap<PathBuf, FileError>,
}

impl Folder {
    /// A folder of which nothing has been seen. Patterns are relative to it: `*`, `?`, `[ab]`, `**` for folders.
    pub fn new(path: &Path, patterns: &[String]) -> Self {
        let (seen, unread) = (BTreeMap::new(), BTreeMap::new());
        Self { path: path.to_owned(), patterns: patterns.to_vec(), seen, unread }
    }

    /// One look: the whole files that are not settled, by name, and how many others may still be written to. Fails
    /// where the folder itself can't be read; [`Self::unread`] tells of folders below it.
    pub fn look(&mut self) -> Result<(Vec<Landed>, usize), FileError> {
        std::fs::read_dir(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let (mut seen, mut unread) = (BTreeMap::new(), BTreeMap::new());
        let (mut landed, mut unfinished) = (Vec::new(), 0);
        for path in self.matching(&mut unread)? {
            // What is gone again was not there.
            let Some(stamp) = stamp(&path) else { continue };
            let before = self.seen.get(&path).filter(|before| before.stamp == stamp);
            match before {
                Some(Seen { is_settled: true, .. }) => {}
                Some(_) => landed.push(Landed { name: self.name(&path), path: path.clone() }),
                None => unfinished += 1,
            }
            let is_settled = before.is_some_and(|before| before.is_settled);
            seen.insert(path, Seen { stamp, is_settled });
        }
        (self.seen, self.unread) = (seen, unread);
        landed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((landed, unfinished))
    }

    /// The file has been dealt with: it is not given again, unless somebody writes to it.
    pub fn settle(&mut self, path: &Path) {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.is_settled = true;
        }
    }

    /// The folders below that the last look could not look into, and why: files may lie there that fit.
    pub fn unread(&self) -> Vec<(Landed, FileError)> {
        let of = |(path, error): (&PathBuf, &FileError)| {
            (Landed { name: self.name(path), path: path.clone() }, error.clone())
        };
        self.unread.iter().map(of).collect()
    }

    /// Whether the last look found a file of this name, or a folder that it could not look into.
    pub fn has(&self, name: &str) -> bool {
        self.seen.contains_key(&self.path.join(name))
            || self.unread.keys().any(|path| self.name(path) == name)
    }

    /// Whether the file is as the last look found it.
    pub fn is_unchanged(&self, path: &Path) -> bool {
        self.seen.get(path).is_some_and(|seen| stamp(path) == Some(seen.stamp))
    }

    /// Each once, also where several patterns fit it. What lies below and can't be looked into goes to `unread`.
    fn matching(
        &self,
        unread: &mut BTreeMap<PathBuf, FileError>,
    ) -> Result<BTreeSet<PathBuf>, FileError> {
        let mut found = BTreeSet::new();
        for pattern in &self.patterns {
            let folder = glob::Pattern::escape(&self.path.to_string_lossy());
            let paths = glob::glob(&format!("{folder}/{pattern}"));
            for path in paths.map_err(|error| unusable(pattern, &error))? {
                match path {
                    Ok(path) if is_unfinished(&self.name(&path)) => {}
                    Ok(path) => {
                        found.insert(path);
                    }
                    Err(error) => {
                        let missed = self.missed(error.path(), error.error())?;
                        unread.extend(missed.map(|missed| (error.path().to_owned(), missed)));
                    }
                }
            }
        }
        Ok(found)
    }

    /// What is missed where a path can't be looked into. Of the folder itself that is an error of the look.
    fn missed(&self, path: &Path, error: &std::io::Error) -> Result<Option<FileError>, FileError> {
        if path == self.path || !path.starts_with(&self.path) {
            return Err(unreadable(path, error));
        }
        // What is gone again was not there, and of some folders no file is looked at.
        let of_a_file = format!("{}/file", self.name(path));
        if error.kind() == std::io::ErrorKind::NotFound || is_unfinished(&of_a_file) {
            return Ok(None);
        }
        let reason = format!("it is a folder, and nothing in it is taken: {error}");
        Ok(Some(FileError::Unreadable { file: path.to_owned(), reason }))
    }

    fn name(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.path).unwrap_or(path);
        name.to_string_lossy().into_owned()
    }
}

fn unusable(pattern: &str, error: &glob::PatternError) -> FileError {
    FileError::Unreadable { file: pattern.into(), reason: error.to_string() }
}

/// None for what is no file, or gone.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => {
            Some(Stamp { bytes: about.len(), modified: about.modified().ok() })
        }
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        // It is there, and whoever reads it will say what is wrong.
        Err(_) => Some(Stamp { bytes: 0, modified: None }),
    }
}

/// Names of what is not finished, and of what tools leave beside their files: hidden ones, `_SUCCESS`, `a.csv.part`.
/// A file system has a folder of its own too, that only root may look into.
fn is_unfinished(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    UNFINISHED.iter().any(|end| lower.ends_with(end))
        || name.split('/').any(|part| part.starts_with(['.', '_']) || part == "lost+found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;

    use tempfile::TempDir;

    fn names(look: (Vec<Landed>, usize)) -> (Vec<String>, usize) {
        (look.0.into_iter().map(|landed| landed.name).collect(), look.1)
    }

    #[test]
    fn a_file_is_given_when_two_looks_find_it_the_same_and_until_it_is_settled() {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("b[1].csv");
        fs::create_dir(temp.path().join("day")).unwrap();
        let mut folder = Folder::new(temp.path(), &["*.csv".to_owned(), "**/*.csv".to_owned()]);
        let mut look = || names(folder.look().unwrap());
        let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(look(), (vec![], 0));
        fs::write(&path, "1\n").unwrap();
        assert_eq!(look(), (vec![], 1));
        fs::write(&path, "1\n2\n").unwrap();
        assert_eq!(look(), (vec![], 1), "it has grown");
        // A file that was finished elsewhere, in a folder of its own.
        fs::write(temp.path().join("x.tmp"), "3\n").unwrap();
        fs::rename(temp.path().join("x.tmp"), temp.path().join("day/a.csv")).unwrap();
        assert_eq!(look(), (some(&["b[1].csv"]), 1));
        assert_eq!(look(), (some(&["b[1].csv", "day/a.csv"]), 0));
        folder.settle(&path);
        assert_eq!(names(folder.look().unwrap()), (some(&["day/a.csv"]), 0));
        assert!(folder.is_unchanged(&path));
        fs::write(&path, "other\n").unwrap();
        assert!(!folder.is_unchanged(&path));
        assert_eq!(names(folder.look().unwrap()), (some(&["day/a.csv"]), 1));
        assert_eq!(names(folder.look().unwrap()), (some(&["b[1].csv", "day/a.csv"]), 0));
        fs::remove_file(&path).unwrap();
        assert!(folder.has("b[1].csv") && folder.has("day/a.csv"), "as the last look found it");
        assert_eq!(names(folder.look().unwrap()), (some(&["day/a.csv"]), 0));
        assert!(!folder.has("b[1].csv") && folder.has("day/a.csv"));
    }

    #[test]
    fn a_file_that_can_not_be_looked_at_is_given_all_the_same() {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("a.csv");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        std::os::unix::fs::symlink(temp.path().join("gone"), temp.path().join("b.csv")).unwrap();
        let mut folder = Folder::new(temp.path(), &["*.csv".to_owned()]);
        assert_eq!(names(folder.look().unwrap()), (vec![], 1));
        assert_eq!(names(folder.look().unwrap()), (vec!["a.csv".to_owned()], 0));
        assert!(folder.is_unchanged(&path));
    }

    #[test]
    fn what_is_not_finished_and_what_tools_leave_is_not_looked_at() {
        for name in ["a.csv.tmp", "a.csv.PART", ".a.csv", "_tmp/a.csv", "_SUCCESS", "a.csv~"] {
            assert!(is_unfinished(name), "{name}");
        }
        assert!(is_unfinished("lost+found") && is_unfinished("lost+found/a.csv"));
        assert!(!is_unfinished("day_1/a_b.csv"));
    }

    /// Makes folders below of which one can't be looked into, not even by root: its path is longer than paths may be.
    /// Gives the first of them.
    fn bury(folder: &Path) -> PathBuf {
        let chain = |name: &str| {
            let top = folder.join(name);
            let last = (0..12).fold(top.clone(), |path, _| path.join("d".repeat(200)));
            fs::create_dir_all(&last).unwrap();
            (top, last)
        };
        let ((top, last), (more, _)) = (chain("deep"), chain("more"));
        fs::rename(more, last.join("more")).unwrap();
        top
    }

    #[test]
    fn a_folder_below_that_can_not_be_looked_into_keeps_no_other_file_away() {
        let temp = TempDir::new().unwrap();
        let top = bury(temp.path());
        fs::write(temp.path().join("a.csv"), "1\n").unwrap();
        fs::write(top.join("b.csv"), "1\n").unwrap();
        let patterns = ["**/*.csv", "deep/**/*.csv"].map(str::to_owned);
        let mut folder = Folder::new(temp.path(), &patterns);
        assert_eq!(names(folder.look().unwrap()), (vec![], 2));
        let expected = ["a.csv", "deep/b.csv"].map(str::to_owned).to_vec();
        assert_eq!(names(folder.look().unwrap()), (expected, 0));
        let unread = folder.unread();
        let [(below, error)] = &unread[..] else { panic!("{unread:?}") };
        assert!(below.name.starts_with("deep/d") && folder.has(&below.name), "{below:?}");
        assert_eq!(error.code(), "file_unreadable");
        assert!(error.to_string().contains("nothing in it is taken: "), "{error}");
        fs::rename(&top, temp.path().join(".deep")).unwrap();
        assert_eq!(names(folder.look().unwrap()).1, 0);
        assert!(folder.unread().is_empty(), "hidden ones are not looked at");
        assert!(!folder.has(&below.name));
    }

    #[test]
    fn what_can_not_be_looked_into_is_missed_below_the_folder_and_an_error_elsewhere() {
        let folder = Folder::new(Path::new("/drop"), &["**/*.csv".to_owned()]);
        let missed = |path: &str, kind: ErrorKind| {
            let missed = folder.missed(Path::new(path), &kind.into());
            missed.map(|missed| missed.map(|error| error.code())).map_err(|error| error.code())
        };
        let (denied, gone) = (ErrorKind::PermissionDenied, ErrorKind::NotFound);
        assert_eq!(missed("/drop/day", denied), Ok(Some("file_unreadable")));
        assert_eq!(missed("/drop/day.tmp", denied), Ok(Some("file_unreadable")));
        assert_eq!(missed("/drop/lost+found", denied), Ok(None));
        assert_eq!(missed("/drop/day", gone), Ok(None));
        for path in ["/drop", "/", "/dropped"] {
            assert_eq!(missed(path, denied), Err("file_unreadable"));
            assert_eq!(missed(path, gone), Err("file_unreadable"));
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_not_an_empty_one() {
        let temp = TempDir::new().unwrap();
        let mut folder = Folder::new(&temp.path().join("gone"), &["*".to_owned()]);
        assert_eq!(folder.look().unwrap_err().code(), "file_unreadable");
    }
}
