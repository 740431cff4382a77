//! Names with counts, capped so that what is kept does not depend on the order in which they came.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// At most so many names with their counts, and the count of all others. Of more names those are kept whose XXH3-64
/// (seed 0) is least, of equal ones those that come first by their bytes: a function of the set of names.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    /// By ascending name.
    names: Vec<Name>,
    other: u64,
    /// Place of the name that falls out first; found when it is needed.
    last: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    text: Arc<str>,
    hash: u64,
    count: u64,
}

impl Name {
    fn order(&self) -> (u64, &str) {
        (self.hash, &self.text)
    }
}

impl PartialEq for Dictionary {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.other == other.other
    }
}

impl Eq for Dictionary {}

impl Dictionary {
    /// Adds to a name's count. `most` is the cap, the same in every call, at least 1.
    pub fn add(&mut self, text: &str, count: u64, most: usize) {
        match self.find(text) {
            Ok(at) => self.names[at].count += count,
            Err(at) => self.add_new(at, text, count, most),
        }
    }

    /// Whether a name is kept.
    pub fn holds(&self, text: &str) -> bool {
        self.find(text).is_ok()
    }

    fn find(&self, text: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|name| (*name.text).cmp(text))
    }

    fn add_new(&mut self, at: usize, text: &str, count: u64, most: usize) {
        let hash = xxh3_64(text.as_bytes());
        if self.names.len() < most {
            self.names.insert(at, Name { text: Arc::from(text), hash, count });
            self.last = None;
            return;
        }
        let last = self.last_kept();
        if self.names[last].order() < (hash, text) {
            self.other += count;
            return;
        }
        let out = self.names.remove(last);
        self.other += out.count;
        let at = if last < at { at - 1 } else { at };
        self.names.insert(at, Name { text: Arc::from(text), hash, count });
        self.last = None;
    }

    /// The place of the name that the next one with a lower hash pushes out.
    fn last_kept(&mut self) -> usize {
        let names = &self.names;
        *self.last.get_or_insert_with(|| {
            let last = names.iter().enumerate().max_by_key(|(_, name)| name.order());
            last.map_or(0, |(at, _)| at)
        })
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self, most: usize) {
        for name in &other.names {
            self.add(&name.text, name.count, most);
        }
        self.other += other.other;
    }

    /// The names that are kept with their counts, ascending.
    pub fn sorted(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.names.iter().map(|name| (&name.text, name.count))
    }

    /// Reads what [`sorted`](Self::sorted) and [`other`](Self::other) gave; none for what they never give.
    pub fn from_sorted(named: Vec<(Arc<str>, u64)>, other: u64, most: usize) -> Option<Self> {
        let is_written = named.is_sorted_by(|a, b| a.0 < b.0)
            && named.iter().all(|(_, count)| *count > 0)
            && named.len() <= most
            && (other == 0 || named.len() == most);
        let name = |(text, count): (Arc<str>, u64)| {
            let hash = xxh3_64(text.as_bytes());
            Name { text, hash, count }
        };
        is_written.then(|| Self { names: named.into_iter().map(name).collect(), other, last: None })
    }

    /// The count of all names that are not kept.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// How many names are kept.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name came.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All counts together.
    pub fn total(&self) -> u64 {
        self.names.iter().map(|name| name.count).sum::<u64>() + self.other
    }

    /// The most frequent of the names that are kept, of several the first.
    pub fn top(&self) -> Option<(&Arc<str>, u64)> {
        // Of equal ones `max_by_key` gives the last.
        self.names.iter().rev().max_by_key(|name| name.count).map(|name| (&name.text, name.count))
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let texts: usize = self.names.iter().map(|name| name.text.len() + 16).sum();
        self.names.capacity() * size_of::<Name>() + texts
    }
}
