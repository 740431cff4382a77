//! Names with something about each, at most so many: those that come first in a fixed order are kept, whatever the order
//! in which they were seen.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::accumulator::Value;
use crate::engine::names::OTHER;

/// Which names are kept. All parts that are merged with each other go by the same cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    names: usize,
}

/// How many classes one state keeps; the rest counts as `(other)`. All states of one job go by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassCaps {
    /// Classes that have counts of their own, predicted and true together; 1 to
    /// [`MOST_CLASSES`](super::confusion::MOST_CLASSES).
    pub counted: usize,
    /// Classes whose scores are kept; at most [`MOST_SCORED_CLASSES`](super::one_vs_rest::MOST_SCORED_CLASSES).
    pub scored: usize,
}

impl ClassCaps {
    /// Where nothing else is configured.
    pub const DEFAULT: Self = Self { counted: 256, scored: 32 };
}

/// The cap on classes that a state goes by, `DEFAULT` where none was set. It is no part of what the state holds, so
/// states are equal whatever it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassCap<const DEFAULT: usize>(Option<usize>);

impl<const DEFAULT: usize> ClassCap<DEFAULT> {
    /// Goes by this cap from now on, which must be the first one or the same as before.
    pub(super) fn set(&mut self, classes: usize) {
        debug_assert!(self.0.is_none_or(|own| own == classes), "a job has one cap");
        self.0 = Some(classes);
    }

    /// That of a state that is merged with this one.
    pub(super) fn merge(&mut self, other: Self) {
        if let Some(classes) = other.0 {
            self.set(classes);
        }
    }

    pub(super) fn cap(self) -> Cap {
        Cap::of(self.classes())
    }

    pub(super) fn classes(self) -> usize {
        self.0.unwrap_or(DEFAULT)
    }
}

impl<const DEFAULT: usize> PartialEq for ClassCap<DEFAULT> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A name and what it is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    hash: u64,
    name: Arc<str>,
}

impl Ranked {
    fn key(&self) -> (u64, &str) {
        (self.hash, &self.name)
    }
}

/// A name with its hash, for several look-ups.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    hash: u64,
    name: &'a str,
}

impl Hashed<'_> {
    /// XXH3-64, seed 0.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether it is the name of what is not kept.
    pub fn is_other(&self) -> bool {
        self.name == OTHER
    }
}

impl<'a> From<&'a str> for Hashed<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        Self { hash: xxh3_64(name.as_bytes()), name }
    }
}

impl Cap {
    /// So many names: those that come first by XXH3-64 (seed 0), ties by bytes.
    pub const fn of(names: usize) -> Self {
        Self { names }
    }

    /// How many names are kept.
    pub fn names(&self) -> usize {
        self.names
    }
}

/// The names that a cap keeps, each with a `T`. A name once seen keeps its place until another that comes before it
/// needs the place, so that the kept names follow from the set of all names ever seen. Holds 8 + 16 bytes, the `T` and
/// the text for each name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// By ascending key.
    entries: Vec<(Ranked, T)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: Default> Kept<T> {
    /// What is held of a name, made where there is none yet; none when the name belongs to `(other)`. A known name costs
    /// a hash and a binary search. What a name held that falls out goes to `fallen`.
    pub fn at<'n>(
        &mut self,
        cap: &Cap,
        name: impl Into<Hashed<'n>>,
        fallen: impl FnOnce(T),
    ) -> Option<&mut T> {
        let Hashed { hash, name } = name.into();
        let key = (hash, name);
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => self.admit(cap, key, at, fallen)?,
        };
        Some(&mut self.entries[at].1)
    }

    /// What is held of a name.
    pub fn get<'n>(&self, name: impl Into<Hashed<'n>>) -> Option<&T> {
        let Hashed { hash, name } = name.into();
        let at = self.find((hash, name)).ok()?;
        Some(&self.entries[at].1)
    }

    fn get_mut(&mut self, name: Hashed<'_>) -> Option<&mut T> {
        let at = self.find((name.hash, name.name)).ok()?;
        Some(&mut self.entries[at].1)
    }

    fn find(&self, key: (u64, &str)) -> Result<usize, usize> {
        self.entries.binary_search_by(|(entry, _)| entry.key().cmp(&key))
    }

    /// Gives a new name, which would stand at `at`, a place if the cap has one for it.
    fn admit(
        &mut self,
        cap: &Cap,
        key: (u64, &str),
        at: usize,
        fallen: impl FnOnce(T),
    ) -> Option<usize> {
        if key.1 == OTHER {
            return None;
        }
        if self.entries.len() >= cap.names {
            if at == self.entries.len() {
                return None;
            }
            if let Some((_, of)) = self.entries.pop() {
                fallen(of);
            }
        }
        self.entries.insert(at, (Ranked { hash: key.0, name: key.1.into() }, T::default()));
        Some(at)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no name was seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All names, by ascending XXH3-64, ties by bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &T)> {
        self.entries.iter().map(|(entry, of)| (&entry.name, of))
    }

    /// The XXH3-64 of all names, ascending.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|(entry, _)| entry.hash)
    }

    /// The names in the order of [`iter`](Self::iter), each with what `of` makes of its place; none when the names are
    /// not in that order.
    pub fn restore(names: Vec<Arc<str>>, mut of: impl FnMut(usize) -> T) -> Option<Self> {
        let ranked = |name: Arc<str>| Ranked { hash: xxh3_64(name.as_bytes()), name };
        let names = names.into_iter().map(ranked).enumerate();
        let entries: Vec<_> = names.map(|(at, name)| (name, of(at))).collect();
        let is_written = entries.is_sorted_by(|(a, _), (b, _)| a < b)
            && entries.iter().all(|(entry, _)| &*entry.name != OTHER);
        is_written.then_some(Self { entries })
    }

    /// Memory beyond `size_of::<Self>()` and what the `T` hold elsewhere, in bytes.
    pub fn heap_bytes(&self) -> usize {
        // Beside its text a shared name has two counts.
        let text = |(entry, _): &(Ranked, T)| entry.name.len() + 16;
        self.entries.capacity() * size_of::<(Ranked, T)>()
            + self.entries.iter().map(text).sum::<usize>()
    }
}

/// How often each name occurred, `(other)` being all that the cap keeps out, and what is called so itself. Laws, under
/// one cap: the default is the identity of [`merge`](Self::merge), which commutes and associates; it is the same
/// whether names are counted here or in parts that are merged; [`remove`](Self::remove) takes back an
/// [`add`](Self::add), but the name stays, with count 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary {
    names: Kept<u64>,
    other: u64,
}

impl Dictionary {
    /// Counts one occurrence.
    #[inline]
    pub fn add<'n>(&mut self, cap: &Cap, name: impl Into<Hashed<'n>>) {
        *self.count_mut(cap, name) += 1;
    }

    /// Counts one occurrence of a name that is kept already; false, with nothing counted, if it is not.
    #[inline]
    pub fn add_known(&mut self, name: Hashed<'_>) -> bool {
        let Some(count) = self.names.get_mut(name) else { return false };
        *count += 1;
        true
    }

    /// Takes back one occurrence, which was added.
    pub fn remove(&mut self, cap: &Cap, name: &str) {
        *self.count_mut(cap, name) -= 1;
    }

    fn count_mut<'n>(&mut self, cap: &Cap, name: impl Into<Hashed<'n>>) -> &mut u64 {
        let Self { names, other } = self;
        let mut fell = 0;
        let kept = names.at(cap, name, |count| fell = count);
        *other += fell;
        kept.unwrap_or(other)
    }

    /// Counts all that `from` has counted.
    pub fn merge(&mut self, cap: &Cap, from: &Self) {
        for (name, count) in from.names.iter() {
            *self.count_mut(cap, &**name) += count;
        }
        self.other += from.other;
    }

    /// How often a name occurred; none when it belongs to `(other)` or was never seen.
    pub fn get<'n>(&self, name: impl Into<Hashed<'n>>) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Occurrences of names that the cap keeps out.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// How many names are kept.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name was seen.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.other == 0
    }

    /// All occurrences.
    pub fn total(&self) -> u64 {
        self.names.iter().map(|(_, count)| count).sum::<u64>() + self.other
    }

    /// The most frequent of the names that are kept, of several the first by its bytes. One of those that are not kept
    /// may have come up to [`other`](Self::other) times.
    pub fn top(&self) -> Option<(&Arc<str>, u64)> {
        self.iter().min_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)))
    }

    /// All kept names with their counts, also those that are 0 by now: by ascending XXH3-64, ties by bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, u64)> {
        self.names.iter().map(|(name, &count)| (name, count))
    }

    /// The XXH3-64 of all kept names, ascending.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.names.hashes()
    }

    /// Appends the state: the names, their counts by index where not 0, and the count of `(other)`.
    pub fn state(&self, out: &mut Vec<Value>) {
        out.push(Value::Names(self.iter().map(|(name, _)| Arc::clone(name)).collect()));
        let counts = (0_u64..).zip(self.iter().map(|(_, count)| count));
        out.push(Value::Cells(counts.filter(|&(_, count)| count > 0).collect()));
        out.push(Value::Count(self.other));
    }

    /// What [`state`](Self::state) gave; none when it is not in the one form in which it is written.
    pub fn from_parts(names: Vec<Arc<str>>, counts: &[(u64, u64)], other: u64) -> Option<Self> {
        let length = u64::try_from(names.len()).ok()?;
        let is_written = counts.is_sorted_by(|a, b| a.0 < b.0)
            && counts.iter().all(|&(at, count)| at < length && count > 0);
        let mut counts = counts.iter().peekable();
        let count_at = |at: usize| {
            let count = counts.next_if(|(index, _)| usize::try_from(*index) == Ok(at));
            count.map_or(0, |&(_, count)| count)
        };
        let names = Kept::restore(names, count_at)?;
        is_written.then_some(Self { names, other })
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.names.heap_bytes()
    }
}
