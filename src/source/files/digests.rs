//! Digests of files that are looked at again and again: a file is hashed again only when somebody has written to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FileError;
use super::folder::{Stamp, stamp};
use super::list::{File, FileList, is_of_ends};

/// The digests that this process has found, with size and time of change of each file then. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Digests(Arc<Mutex<BTreeMap<PathBuf, (Stamp, String)>>>);

impl Digests {
    /// The digest of all bytes of a file.
    pub fn of(&self, file: &File) -> Result<String, FileError> {
        // Where the file system keeps no time of change, nothing shows that a file is the same.
        let is_telling = |it: &Stamp| it.bytes == file.bytes && it.modified.is_some();
        let now = || stamp(&file.path).filter(is_telling);
        let before = now();
        let known = self.found().get(&file.path).cloned();
        if let Some((_, digest)) = known.filter(|(then, _)| before == Some(*then)) {
            return Ok(digest);
        }
        let digest = FileList::from(file.clone()).digest(|_| ())?;
        // What is written to meanwhile has perhaps another one now.
        if let Some(stamp) = before.filter(|_| before == now()) {
            self.found().insert(file.path.clone(), (stamp, digest.clone()));
        }
        Ok(digest)
    }

    /// Whether the file is the one of this digest. By a digest that an earlier version gave, a change between both ends
    /// of the file is not seen.
    pub fn is_of(&self, file: &File, digest: &str) -> Result<bool, FileError> {
        let found = if is_of_ends(digest) {
            FileList::from(file.clone()).digest_of_ends()?
        } else {
            self.of(file)?
        };
        Ok(found == digest)
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (Stamp, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
