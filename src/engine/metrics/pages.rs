//! Counts of many cells, in pages that are there where a count is.

use std::ops::AddAssign;

const PAGE_BITS: u32 = 4;
const PAGE_CELLS: usize = 1 << PAGE_BITS;

/// Counts by cell, all of one width.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages<N> {
    /// For each page of cells one more than its place in `counts`; 0 for a page without counts.
    places: Vec<u16>,
    counts: Vec<[N; PAGE_CELLS]>,
}

/// A count of one width.
pub(super) trait Count: Copy + Default + AddAssign + Into<u64> + TryFrom<u64> {
    /// None where it is too much.
    #[inline]
    fn plus(self, by: u64) -> Option<Self> {
        self.into().checked_add(by).and_then(|sum| Self::try_from(sum).ok())
    }

    /// None where it is too little.
    #[inline]
    fn minus(self, by: u64) -> Option<Self> {
        self.into().checked_sub(by).and_then(|rest| Self::try_from(rest).ok())
    }
}

impl Count for u16 {}
impl Count for u64 {}

/// How many pages these cells stand in.
pub(super) fn pages_of(cells: &[u16]) -> u32 {
    const WORD: u16 = 64;
    let mut bits = [0_u64; 1 << (16 - PAGE_BITS - 6)];
    for page in cells.iter().map(|cell| cell >> PAGE_BITS) {
        bits[usize::from(page / WORD)] |= 1 << (page % WORD);
    }
    bits.iter().map(|word| word.count_ones()).sum()
}

impl<N: Count> Pages<N> {
    #[inline]
    fn count_mut(&mut self, index: u16) -> Option<&mut N> {
        let place =
            usize::from(*self.places.get(usize::from(index >> PAGE_BITS))?).checked_sub(1)?;
        Some(&mut self.counts[place][usize::from(index) % PAGE_CELLS])
    }

    /// Adds one to a cell; false, with nothing done, if its page is not there or its count can't hold that.
    #[inline]
    pub(super) fn add_one(&mut self, index: u16) -> bool {
        let Some(count) = self.count_mut(index) else { return false };
        count.plus(1).map(|sum| *count = sum).is_some()
    }

    /// Adds to a cell, whose page is made where it is not there; false, with nothing added, if its count can't hold that.
    pub(super) fn put(&mut self, index: u16, by: u64) -> bool {
        let page = self.make_page(usize::from(index >> PAGE_BITS));
        let count = &mut page[usize::from(index) % PAGE_CELLS];
        count.plus(by).map(|sum| *count = sum).is_some()
    }

    /// Takes from a cell; false, with nothing done, if it has less.
    pub(super) fn take(&mut self, index: u16, by: u64) -> bool {
        let Some(count) = self.count_mut(index) else { return false };
        count.minus(by).map(|rest| *count = rest).is_some()
    }

    /// The pages with counts, by ascending number.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[N; PAGE_CELLS])> {
        let places = self.places.iter().enumerate().filter(|&(_, &place)| place > 0);
        places.map(|(page, &place)| (page, &self.counts[usize::from(place) - 1]))
    }

    /// Cells with a count other than 0, by ascending index.
    pub(super) fn cells(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> + '_ {
        let all = self.iter().flat_map(|(page, counts)| {
            let first = page << PAGE_BITS;
            counts.iter().enumerate().map(move |(i, &count)| {
                (u16::try_from(first + i).expect("cells are numbered by u16"), count.into())
            })
        });
        all.filter(|&(_, count)| count > 0)
    }

    /// The same as pairs.
    pub(super) fn to_pairs(&self) -> Vec<(u64, u64)> {
        let counts = self.counts.as_flattened().iter();
        let mut pairs = Vec::with_capacity(counts.filter(|&&count| count.into() > 0).count());
        // Inner iteration: a chain that is asked for one item after the other costs several times as much.
        self.cells().for_each(|(index, count)| pairs.push((u64::from(index), count)));
        pairs
    }

    /// Adds counts that fit.
    pub(super) fn merge<M: Count>(&mut self, theirs: &Pages<M>)
    where
        N: From<M>,
    {
        for (page, counts) in theirs.iter() {
            for (ours, theirs) in self.make_page(page).iter_mut().zip(counts) {
                *ours += N::from(*theirs);
            }
        }
    }

    fn make_page(&mut self, page: usize) -> &mut [N; PAGE_CELLS] {
        if page >= self.places.len() {
            self.places.reserve_exact(page + 1 - self.places.len());
            self.places.resize(page + 1, 0);
        }
        if self.places[page] == 0 {
            if self.counts.len() == self.counts.capacity() {
                // A quarter more at a time: pages stay, so doubling would leave much unused.
                self.counts.reserve_exact(self.counts.len() / 4 + 4);
            }
            self.counts.push([N::default(); PAGE_CELLS]);
            self.places[page] = u16::try_from(self.counts.len()).expect("at most 4096 pages");
        }
        &mut self.counts[usize::from(self.places[page]) - 1]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.places.capacity() * size_of::<u16>()
            + self.counts.capacity() * size_of::<[N; PAGE_CELLS]>()
    }
}

impl Pages<u16> {
    /// Whether no count grows too large if those of `theirs` are added.
    pub(super) fn have_room_for(&self, theirs: &Self) -> bool {
        theirs.iter().all(|(page, counts)| {
            let place = self.places.get(page).and_then(|&place| usize::from(place).checked_sub(1));
            place.is_none_or(|place| {
                let both = self.counts[place].iter().zip(counts);
                // All of a page at once: one comparison after the other costs several times as much.
                !both.fold(false, |over, (ours, theirs)| over | ours.overflowing_add(*theirs).1)
            })
        })
    }
}

impl From<Pages<u16>> for Pages<u64> {
    fn from(small: Pages<u16>) -> Self {
        let counts = small.counts.iter().map(|page| page.map(u64::from)).collect();
        Self { places: small.places, counts }
    }
}
