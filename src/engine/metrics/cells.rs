//! Sparse counts over numbered cells.

use std::borrow::Cow;

use super::pages::{Count, Pages, pages_of};

/// How many entries are kept as they came before they become pages.
const MOST: usize = 4096;
/// Fewer ones than this are sorted when they are added up.
const FEW: usize = 128;
/// When ones are this many, and not yet twice as many, it is seen in how many pages they stand.
const SOME: usize = 256;
/// So few become pages: these take hardly more for what comes, and ones would.
const FEW_PAGES: u32 = 32;
/// Bits of a word.
const WORD: usize = 64;
/// How many entries a list has room for at least, once it is added up.
const LEAST: usize = 32;
/// An entry of a list is one u64: the index above, the count below.
const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// The greatest count that is written down as an entry, and what all of a list that is added up may come to. What comes
/// to it until it is added up again, and what another one merges into it, leaves the sum of all below 2^48.
const MOST_COUNT: u64 = 1 << 33;
const MOST_IN_ALL: u64 = 1 << 45;

/// Sparse counts by cell. Equal when all counts are equal, however they are held.
///
/// Nearly all windows hold so few values of so many cells that to write each down behind the last one takes less memory,
/// and waits for less of it, than a count for each cell. They are added up when they are read, or when they are many.
#[derive(Clone, Debug)]
pub struct Cells(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Cells that have one value each time they stand here, as they came.
    Ones(Vec<u16>),
    /// Cells and counts as they came, none of 0, at most as many as there is room for.
    List(Vec<u64>),
    /// Many cells of small counts.
    Small(Box<Pages<u16>>),
    /// Many cells.
    Large(Box<Pages<u64>>),
}

impl Default for Cells {
    fn default() -> Self {
        Self(Form::Ones(Vec::new()))
    }
}

impl Cells {
    /// Adds one to a cell.
    #[inline]
    pub fn add(&mut self, index: u16) {
        let is_added = match &mut self.0 {
            Form::Ones(ones) if ones.len() < ones.capacity() => {
                ones.push(index);
                true
            }
            Form::Ones(_) | Form::List(_) => false,
            Form::Small(pages) => pages.add_one(index),
            Form::Large(pages) => pages.add_one(index),
        };
        if !is_added {
            self.add_to_others(index, 1);
        }
    }

    /// Adds one to each of these cells, as often as it is among them.
    #[inline]
    pub fn add_all(&mut self, indices: impl ExactSizeIterator<Item = u16>) {
        match &mut self.0 {
            Form::Ones(ones) if ones.capacity() - ones.len() >= indices.len() => {
                ones.extend(indices);
            }
            Form::Ones(_) | Form::List(_) | Form::Small(_) | Form::Large(_) => {
                indices.for_each(|index| self.add(index));
            }
        }
    }

    /// Adds `by` to a cell.
    #[inline]
    pub fn add_count(&mut self, index: u16, by: u64) {
        match by {
            0 => {}
            1 => self.add(index),
            _ => self.add_to_others(index, by),
        }
    }

    /// Adds where it is no matter of one more behind the others.
    fn add_to_others(&mut self, index: u16, by: u64) {
        self.grow_or_turn(by);
        if let Form::Ones(ones) = &mut self.0 {
            return ones.push(index);
        }
        if let Form::List(list) = &mut self.0 {
            if list.len() < list.capacity() && by <= MOST_COUNT {
                return list.push(entry(index, by));
            }
            self.make_room(by);
        }
        if let Form::List(list) = &mut self.0 {
            return list.push(entry(index, by));
        }
        if let Form::Small(pages) = &mut self.0 {
            if pages.put(index, by) {
                return;
            }
            self.widen();
        }
        if let Form::Large(pages) = &mut self.0 {
            assert!(pages.put(index, by), "fewer than 2^64 values");
        }
    }

    /// Takes one from a cell that has at least one.
    pub fn remove(&mut self, index: u16) {
        self.remove_count(index, 1);
    }

    /// Takes `by` from a cell that has at least as much.
    pub fn remove_count(&mut self, index: u16, by: u64) {
        if by == 0 {
            return;
        }
        if let Form::Ones(ones) = &mut self.0 {
            if by == 1 {
                let at = place_of(ones, index).expect(TAKEN_BACK);
                ones.swap_remove(at);
                return;
            }
            self.turn_into_list();
        }
        let is_taken = self.take(index, by) || {
            // What several entries have together is enough.
            self.make_room(1);
            self.take(index, by)
        };
        assert!(is_taken, "{TAKEN_BACK}");
    }

    /// Takes from a cell; false, with nothing done, if no single count is as great.
    fn take(&mut self, index: u16, by: u64) -> bool {
        match &mut self.0 {
            Form::Ones(_) => false,
            Form::List(list) => take(list, index, by),
            Form::Small(pages) => pages.take(index, by),
            Form::Large(pages) => pages.take(index, by),
        }
    }

    /// Makes room for one more, or gives ones that are too many, or get another count, a form that suits them.
    fn grow_or_turn(&mut self, by: u64) {
        let Form::Ones(ones) = &mut self.0 else { return };
        let len = ones.len();
        if by != 1 || len >= MOST {
            self.turn_into_list();
        } else if (SOME..2 * SOME).contains(&len) && pages_of(ones) <= FEW_PAGES {
            self.turn_into_pages();
        } else {
            ones.reserve_exact(len.max(4).min(MOST - len));
        }
    }

    /// Ones as a list, or as pages if it is too long.
    #[cold]
    fn turn_into_list(&mut self) {
        if let Form::Ones(ones) = &mut self.0 {
            self.0 = Form::List(counted(ones));
            self.make_room(1);
        }
    }

    /// Adds up what the list holds, and makes as much room again; or turns it into pages, if it is too long or one of
    /// its counts, or the one to come, too great.
    #[cold]
    fn make_room(&mut self, by: u64) {
        let Form::List(list) = &mut self.0 else { return };
        add_up(list);
        let room = (2 * list.len()).max(LEAST);
        if room > MOST || by > MOST_COUNT || sum(list) > MOST_IN_ALL {
            return self.turn_into_pages();
        }
        list.shrink_to(room);
        list.reserve_exact(room - list.len());
    }

    /// What came as pages.
    #[cold]
    fn turn_into_pages(&mut self) {
        let old = std::mem::replace(self, Self(Form::Small(Box::default())));
        for (index, count) in old.iter() {
            self.add_count(index, count);
        }
    }

    /// Small counts as large ones.
    #[cold]
    fn widen(&mut self) {
        if let Form::Small(pages) = &mut self.0 {
            self.0 = Form::Large(Box::new(std::mem::take(&mut **pages).into()));
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        match &other.0 {
            Form::Ones(theirs) => self.merge_ones(theirs),
            Form::List(theirs) => self.merge_list(theirs),
            Form::Small(theirs) => self.merge_small(theirs),
            Form::Large(theirs) => self.merge_pages(theirs),
        }
    }

    fn merge_ones(&mut self, theirs: &[u16]) {
        match &mut self.0 {
            Form::Ones(ours) if ours.len() + theirs.len() <= SOME => ours.extend_from_slice(theirs),
            Form::Ones(_) | Form::List(_) | Form::Small(_) | Form::Large(_) => {
                for &index in theirs {
                    self.add(index);
                }
            }
        }
    }

    /// What is stored is a list, and what is read of it soon: so the sum is added up.
    fn merge_list(&mut self, theirs: &[u64]) {
        if let Form::Ones(_) = self.0 {
            self.turn_into_list();
        }
        if let Form::List(ours) = &mut self.0 {
            ours.extend_from_slice(theirs);
            return self.make_room(1);
        }
        for &entry in theirs {
            self.add_count(index_of(entry), entry & COUNT_MASK);
        }
    }

    /// Adds small counts where they stay small, else as large ones.
    fn merge_small(&mut self, theirs: &Pages<u16>) {
        if matches!(self.0, Form::Ones(_) | Form::List(_)) {
            self.turn_into_pages();
        }
        match &mut self.0 {
            Form::Small(ours) if ours.have_room_for(theirs) => ours.merge(theirs),
            Form::Ones(_) | Form::List(_) | Form::Small(_) | Form::Large(_) => {
                self.merge_pages(theirs);
            }
        }
    }

    /// Page by page, since a merge reads every cell of every part of a key.
    fn merge_pages<N: Count>(&mut self, theirs: &Pages<N>)
    where
        u64: From<N>,
    {
        if matches!(self.0, Form::Ones(_) | Form::List(_)) {
            self.turn_into_pages();
        }
        self.widen();
        let Form::Large(ours) = &mut self.0 else { unreachable!("they were made above") };
        ours.merge(theirs);
    }

    /// Cells with a count other than 0, by ascending index.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> + '_ {
        let (list, small, large) = match &self.0 {
            Form::Ones(ones) => (Cow::Owned(counted(ones)), None, None),
            Form::List(list) => (added_up(list), None, None),
            Form::Small(pages) => (Cow::default(), Some(pages), None),
            Form::Large(pages) => (Cow::default(), None, Some(pages)),
        };
        let (borrowed, owned): (&[u64], _) = match list {
            Cow::Borrowed(list) => (list, Vec::new()),
            Cow::Owned(list) => (&[], list),
        };
        let list = borrowed.iter().copied().chain(owned);
        let from_list = list.map(|entry| (index_of(entry), entry & COUNT_MASK));
        let from_small = small.into_iter().flat_map(|pages| pages.cells());
        let from_large = large.into_iter().flat_map(|pages| pages.cells());
        from_list.chain(from_small).chain(from_large)
    }

    /// All counts together.
    pub fn total(&self) -> u64 {
        match &self.0 {
            Form::Ones(ones) => u64::try_from(ones.len()).expect("usize is at most 64 bits"),
            Form::List(list) => sum(list),
            Form::Small(_) | Form::Large(_) => self.iter().map(|(_, count)| count).sum(),
        }
    }

    /// Whether all counts are 0.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Form::Ones(ones) => ones.is_empty(),
            Form::List(list) => list.is_empty(),
            Form::Small(_) | Form::Large(_) => self.iter().next().is_none(),
        }
    }

    /// The cell that holds the k-th smallest of n values, k = max(1, ceil(percent / 100 * n)); none without values.
    /// This is `numpy.quantile(method="inverted_cdf")`.
    pub fn quantile(&self, percent: u64) -> Option<u16> {
        let rank = (u128::from(percent) * u128::from(self.total())).div_ceil(100).max(1);
        let mut below = 0_u128;
        self.iter().find_map(|(index, count)| {
            below += u128::from(count);
            (below >= rank).then_some(index)
        })
    }

    /// The cells with a count other than 0, by ascending index.
    pub fn to_pairs(&self) -> Vec<(u64, u64)> {
        let pair = |&entry: &u64| (u64::from(index_of(entry)), entry & COUNT_MASK);
        match &self.0 {
            Form::Ones(ones) => counted(ones).iter().map(pair).collect(),
            Form::List(list) => added_up(list).iter().map(pair).collect(),
            Form::Small(pages) => pages.to_pairs(),
            Form::Large(pages) => pages.to_pairs(),
        }
    }

    /// Reads what [`to_pairs`](Self::to_pairs) wrote for a lattice of `cells` cells; none for other pairs.
    pub fn from_pairs(pairs: &[(u64, u64)], cells: u16) -> Option<Self> {
        let is_written = pairs.iter().all(|&(index, count)| index < u64::from(cells) && count > 0)
            && pairs.is_sorted_by(|a, b| a.0 < b.0);
        if !is_written {
            return None;
        }
        let all = pairs.iter().try_fold(0_u64, |sum, &(_, count)| sum.checked_add(count));
        let number = |index: u64| u16::try_from(index).ok();
        if pairs.len() <= MOST / 2 && all.is_some_and(|all| all <= MOST_IN_ALL) {
            let list = pairs.iter().map(|&(index, count)| Some(entry(number(index)?, count)));
            return list.collect::<Option<_>>().map(|list| Self(Form::List(list)));
        }
        let mut read = Self(Form::Small(Box::default()));
        for &(index, count) in pairs {
            read.add_count(number(index)?, count);
        }
        Some(read)
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Ones(ones) => ones.capacity() * size_of::<u16>(),
            Form::List(list) => list.capacity() * size_of::<u64>(),
            Form::Small(pages) => pages.bytes(),
            Form::Large(pages) => pages.bytes(),
        }
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Cells {}

const TAKEN_BACK: &str = "what is taken back was added";

fn entry(index: u16, count: u64) -> u64 {
    u64::from(index) << COUNT_BITS | count
}

fn index_of(entry: u64) -> u16 {
    u16::try_from(entry >> COUNT_BITS).expect("16 bits are left")
}

/// The entries of a list: by ascending index, how often it stands among `ones`.
fn counted(ones: &[u16]) -> Vec<u64> {
    if ones.len() < FEW {
        let mut sorted = ones.to_vec();
        sorted.sort_unstable();
        let count = |same: &[u16]| u64::try_from(same.len()).expect("they are few");
        return sorted.chunk_by(|a, b| a == b).map(|same| entry(same[0], count(same))).collect();
    }
    // A count for each cell, for a moment, and a bit that says where to look: less work than to sort them.
    let cells = usize::from(ones.iter().copied().max().unwrap_or(0)) + 1;
    let (mut counts, mut bits) = (vec![0_u16; cells], vec![0_u64; cells.div_ceil(WORD)]);
    for index in ones.iter().map(|&index| usize::from(index)) {
        counts[index] += 1;
        bits[index / WORD] |= 1 << (index % WORD);
    }
    let mut list = Vec::with_capacity(ones.len());
    for (word, mut left) in bits.into_iter().enumerate() {
        while left != 0 {
            let index = word * WORD + usize::try_from(left.trailing_zeros()).expect("below 64");
            left &= left - 1;
            let cell = u16::try_from(index).expect("it was one");
            list.push(entry(cell, counts[index].into()));
        }
    }
    list
}

/// All counts of a list.
fn sum(list: &[u64]) -> u64 {
    list.iter().map(|entry| entry & COUNT_MASK).sum()
}

/// Sorts a list and joins what is of one index.
fn add_up(list: &mut Vec<u64>) {
    if !is_added_up(list) {
        #[expect(clippy::stable_sort_primitive, reason = "much of it is sorted: it sees that")]
        list.sort();
        join_same(list);
    }
}

fn added_up(list: &[u64]) -> Cow<'_, [u64]> {
    if is_added_up(list) {
        return Cow::Borrowed(list);
    }
    let mut list = list.to_vec();
    add_up(&mut list);
    Cow::Owned(list)
}

fn is_added_up(list: &[u64]) -> bool {
    list.is_sorted_by(|&a, &b| index_of(a) < index_of(b))
}

fn join_same(sorted: &mut Vec<u64>) {
    sorted.dedup_by(|next, kept| {
        let is_same = index_of(*next) == index_of(*kept);
        if is_same {
            *kept += *next & COUNT_MASK;
        }
        is_same
    });
}

/// Takes from an entry of this index. False, with nothing done, if none has as much.
fn take(list: &mut Vec<u64>, index: u16, by: u64) -> bool {
    let has_as_much = |known: &u64| index_of(*known) == index && known & COUNT_MASK >= by;
    let Some(at) = list.iter().position(has_as_much) else { return false };
    list[at] -= by;
    if list[at] & COUNT_MASK == 0 {
        list.swap_remove(at);
    }
    true
}

/// A place of the index, the last ones first.
fn place_of(ones: &[u16], index: u16) -> Option<usize> {
    /// Compared at once.
    const WIDTH: usize = 64;
    let number = ones.chunks(WIDTH).rposition(|chunk| chunk.contains(&index))?;
    let first = number * WIDTH;
    ones[first..].iter().position(|&one| one == index).map(|at| first + at)
}
