//! Sparse counts over fixed cells, and the lattices that say which cell a value falls in.

#![expect(clippy::missing_panics_doc, reason = "each `expect` says why it holds")]

use std::ops::AddAssign;

/// How many cells a sorted list may have before it becomes pages.
const LIST_LIMIT: usize = 48;
const PAGE_BITS: u32 = 4;
const PAGE_CELLS: usize = 1 << PAGE_BITS;
/// A list entry is one u64: the index above, the count below.
const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Sparse counts by cell. Equal when all counts are equal, however they are held.
#[derive(Clone, Debug)]
pub struct Cells(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Few cells: index and count in one u64 each, by ascending index, no count of 0.
    List(Vec<u64>),
    /// Many cells of small counts, which nearly all are: a quarter of the memory to touch.
    Small(Box<Pages<u16>>),
    /// Many cells.
    Large(Box<Pages<u64>>),
}

#[derive(Clone, Debug, Default)]
struct Pages<N> {
    /// For each page of cells one more than its place in `counts`; 0 for a page without counts.
    places: Vec<u16>,
    counts: Vec<[N; PAGE_CELLS]>,
}

/// A count of one width.
trait Count: Copy + Default + AddAssign + Into<u64> + TryFrom<u64> {
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

impl Default for Cells {
    fn default() -> Self {
        Self(Form::List(Vec::new()))
    }
}

impl Cells {
    /// Adds one to a cell.
    #[inline]
    pub fn add(&mut self, index: u16) {
        let is_added = match &mut self.0 {
            Form::List(_) => false,
            Form::Small(pages) => pages.add_one(index),
            Form::Large(pages) => pages.add_one(index),
        };
        if !is_added {
            self.add_count(index, 1);
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
        let is_taken = match &mut self.0 {
            Form::List(list) => take(list, index, by),
            Form::Small(pages) => pages.take(index, by),
            Form::Large(pages) => pages.take(index, by),
        };
        assert!(is_taken, "what is taken back was added");
    }

    /// Adds `by` to a cell.
    pub fn add_count(&mut self, index: u16, by: u64) {
        if by == 0 {
            return;
        }
        if let Form::List(list) = &mut self.0 {
            let at = list.partition_point(|&known| index_of(known) < index);
            if put(list, at, index, by) {
                return;
            }
            self.turn_into_pages();
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

    /// The list as pages.
    #[cold]
    fn turn_into_pages(&mut self) {
        let pages = Self(Form::Small(Box::default()));
        let Form::List(list) = std::mem::replace(self, pages).0 else {
            unreachable!("only a list is turned into pages")
        };
        self.add_entries(&list);
    }

    /// Small counts as large ones.
    #[cold]
    fn widen(&mut self) {
        if let Form::Small(pages) = &mut self.0 {
            let places = std::mem::take(&mut pages.places);
            let counts = pages.counts.iter().map(|page| page.map(u64::from)).collect();
            self.0 = Form::Large(Box::new(Pages { places, counts }));
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        match &other.0 {
            Form::List(theirs) => self.merge_list(theirs),
            Form::Small(theirs) => self.merge_small(theirs),
            Form::Large(theirs) => self.merge_pages(theirs),
        }
    }

    /// Both lists rise, so each entry is looked for behind the one before.
    fn merge_list(&mut self, theirs: &[u64]) {
        let mut at = 0;
        for (done, &entry) in theirs.iter().enumerate() {
            let Form::List(ours) = &mut self.0 else {
                return self.add_entries(&theirs[done..]);
            };
            let index = index_of(entry);
            let behind = ours[at..].iter().position(|&known| index_of(known) >= index);
            at = behind.map_or(ours.len(), |behind| at + behind);
            if !put(ours, at, index, entry & COUNT_MASK) {
                self.turn_into_pages();
                return self.add_entries(&theirs[done..]);
            }
        }
    }

    fn add_entries(&mut self, entries: &[u64]) {
        for &entry in entries {
            self.add_count(index_of(entry), entry & COUNT_MASK);
        }
    }

    /// Adds small counts where they stay small, else as large ones.
    fn merge_small(&mut self, theirs: &Pages<u16>) {
        if matches!(self.0, Form::List(_)) {
            self.turn_into_pages();
        }
        match &mut self.0 {
            Form::Small(ours) if ours.have_room_for(theirs) => ours.merge(theirs),
            Form::List(_) | Form::Small(_) | Form::Large(_) => self.merge_pages(theirs),
        }
    }

    /// Page by page, since a merge reads every cell of every part of a key.
    fn merge_pages<N: Count>(&mut self, theirs: &Pages<N>)
    where
        u64: From<N>,
    {
        if matches!(self.0, Form::List(_)) {
            self.turn_into_pages();
        }
        self.widen();
        let Form::Large(ours) = &mut self.0 else { unreachable!("they were made above") };
        ours.merge(theirs);
    }

    /// Cells with a count other than 0, by ascending index.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> + '_ {
        let (list, small, large): (&[u64], _, _) = match &self.0 {
            Form::List(list) => (list, None, None),
            Form::Small(pages) => (&[], Some(pages), None),
            Form::Large(pages) => (&[], None, Some(pages)),
        };
        let from_list = list.iter().map(|&entry| (index_of(entry), entry & COUNT_MASK));
        let from_small = small.into_iter().flat_map(|pages| pages.cells());
        let from_large = large.into_iter().flat_map(|pages| pages.cells());
        from_list.chain(from_small).chain(from_large)
    }

    /// How many cells have a count other than 0.
    fn len(&self) -> usize {
        match &self.0 {
            Form::List(list) => list.len(),
            Form::Small(pages) => pages.len(),
            Form::Large(pages) => pages.len(),
        }
    }

    /// All counts together.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Whether all counts are 0.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
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
        let mut pairs = Vec::with_capacity(self.len());
        // Inner iteration: a chain that is asked for one item after the other costs several times as much.
        self.iter().for_each(|(index, count)| pairs.push((u64::from(index), count)));
        pairs
    }

    /// Reads what [`to_pairs`](Self::to_pairs) wrote for a lattice of `cells` cells; none for other pairs.
    pub fn from_pairs(pairs: &[(u64, u64)], cells: u16) -> Option<Self> {
        let is_written = pairs.iter().all(|&(index, count)| index < u64::from(cells) && count > 0)
            && pairs.is_sorted_by(|a, b| a.0 < b.0);
        if !is_written {
            return None;
        }
        let mut read = Self::default();
        if pairs.len() > LIST_LIMIT {
            read.turn_into_pages();
        }
        for &(index, count) in pairs {
            read.add_count(u16::try_from(index).ok()?, count);
        }
        Some(read)
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
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

impl<N: Count> Pages<N> {
    #[inline]
    fn count_mut(&mut self, index: u16) -> Option<&mut N> {
        let place =
            usize::from(*self.places.get(usize::from(index >> PAGE_BITS))?).checked_sub(1)?;
        Some(&mut self.counts[place][usize::from(index) % PAGE_CELLS])
    }

    /// Adds one to a cell; false, with nothing done, if its page is not there or its count can't hold that.
    #[inline]
    fn add_one(&mut self, index: u16) -> bool {
        let Some(count) = self.count_mut(index) else { return false };
        count.plus(1).map(|sum| *count = sum).is_some()
    }

    /// Adds to a cell, whose page is made where it is not there; false, with nothing added, if its count can't hold that.
    fn put(&mut self, index: u16, by: u64) -> bool {
        let page = self.make_page(usize::from(index >> PAGE_BITS));
        let count = &mut page[usize::from(index) % PAGE_CELLS];
        count.plus(by).map(|sum| *count = sum).is_some()
    }

    /// Takes from a cell; false, with nothing done, if it has less.
    fn take(&mut self, index: u16, by: u64) -> bool {
        let Some(count) = self.count_mut(index) else { return false };
        count.minus(by).map(|rest| *count = rest).is_some()
    }

    /// The pages with counts, by ascending number.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[N; PAGE_CELLS])> {
        let places = self.places.iter().enumerate().filter(|&(_, &place)| place > 0);
        places.map(|(page, &place)| (page, &self.counts[usize::from(place) - 1]))
    }

    /// Cells with a count other than 0, by ascending index.
    fn cells(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> + '_ {
        let all = self.iter().flat_map(|(page, counts)| {
            let first = page << PAGE_BITS;
            counts.iter().enumerate().map(move |(i, &count)| {
                (u16::try_from(first + i).expect("cells are numbered by u16"), count.into())
            })
        });
        all.filter(|&(_, count)| count > 0)
    }

    fn len(&self) -> usize {
        self.counts.as_flattened().iter().filter(|&&count| count.into() > 0).count()
    }

    /// Adds counts that fit.
    fn merge<M: Count>(&mut self, theirs: &Pages<M>)
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

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.places.capacity() * size_of::<u16>()
            + self.counts.capacity() * size_of::<[N; PAGE_CELLS]>()
    }
}

impl Pages<u16> {
    /// Whether no count grows too large if those of `theirs` are added.
    fn have_room_for(&self, theirs: &Self) -> bool {
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

fn entry(index: u16, count: u64) -> u64 {
    u64::from(index) << COUNT_BITS | count
}

fn index_of(entry: u64) -> u16 {
    u16::try_from(entry >> COUNT_BITS).expect("16 bits are left")
}

/// Adds to the entry of this index at its place in the list, or puts one there. False if the list can't hold that.
fn put(list: &mut Vec<u64>, at: usize, index: u16, by: u64) -> bool {
    if let Some(known) = list.get_mut(at).filter(|known| index_of(**known) == index) {
        let has_room = (*known & COUNT_MASK).saturating_add(by) <= COUNT_MASK;
        if has_room {
            *known += by;
        }
        return has_room;
    }
    let has_room = list.len() < LIST_LIMIT && by <= COUNT_MASK;
    if has_room {
        list.insert(at, entry(index, by));
    }
    has_room
}

/// Takes from the entry of this index, which goes with its last value. False, with nothing done, if it has less.
fn take(list: &mut Vec<u64>, index: u16, by: u64) -> bool {
    let Ok(at) = list.binary_search_by_key(&index, |&entry| index_of(entry)) else { return false };
    let has_as_much = list[at] & COUNT_MASK >= by;
    if has_as_much {
        list[at] -= by;
        if list[at] & COUNT_MASK == 0 {
            list.remove(at);
        }
    }
    has_as_much
}

/// Durations as whole microseconds or milliseconds: the cells of an HDR histogram with two significant digits
/// (hdrhistogram 7, `new_with_bounds(1, max, 2)`), at most 1/128 wide relative to their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Larger values count as this one.
    pub max: u64,
}

/// Latency in microseconds, up to 2^32 - 1.
pub const LATENCY_US: Durations = Durations { max: 4_294_967_295 };
/// Freshness and label delay in milliseconds, up to 400 days.
pub const DELAY_MS: Durations = Durations { max: 400 * 86_400_000 };

/// Values of one power of two have 128 cells; the first 256 values have one each.
const HALF_BITS: u32 = 7;

impl Durations {
    /// The cell of a value.
    #[inline]
    pub fn cell(self, value: u64) -> u16 {
        let value = value.min(self.max);
        let octave = 56 - (value | 255).leading_zeros();
        let index = (u64::from(octave) << HALF_BITS) + (value >> octave);
        u16::try_from(index).expect("64 octaves of 128 cells")
    }

    /// The greatest value of a cell.
    pub fn highest(self, cell: u16) -> u64 {
        let cell = u64::from(cell);
        let octave = (cell >> HALF_BITS).saturating_sub(1);
        let lowest = (cell - (octave << HALF_BITS)) << octave;
        lowest + ((1 << octave) - 1)
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        self.cell(self.max) + 1
    }

    /// A quantile, represented by the greatest value of its cell, but never above the exact maximum; none without
    /// values.
    pub fn quantile(self, cells: &Cells, percent: u64, exact_max: u64) -> Option<u64> {
        cells.quantile(percent).map(|cell| self.highest(cell).min(exact_max))
    }
}

/// Sizes of real numbers, from 2^-64 up to 2^63: 2^m cells for each power of two, so at most 2^-m wide relative to
/// their value. Smaller numbers have cell 0, greater ones the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// m.
    pub bits: u32,
}

/// Absolute errors.
pub const ABS_ERROR: Sizes = Sizes { bits: 7 };

impl Sizes {
    const LEAST: f64 = 1.0 / 18_446_744_073_709_551_616.0;
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    const MANTISSA_BITS: u32 = 52;

    fn steps(self, x: f64) -> u64 {
        x.to_bits() >> (Self::MANTISSA_BITS - self.bits)
    }

    /// The cell of a number's size.
    #[inline]
    pub fn cell(self, x: f64) -> u16 {
        let size = x.abs();
        if size < Self::LEAST {
            return 0;
        }
        let cell = 1 + self.steps(size.min(Self::BEYOND.next_down())) - self.steps(Self::LEAST);
        u16::try_from(cell).expect("127 powers of two of at most 2^8 cells")
    }

    /// The upper edge of a cell; that of the last is 2^63.
    pub fn upper_edge(self, cell: u16) -> f64 {
        let steps = u64::from(cell) + self.steps(Self::LEAST);
        f64::from_bits(steps << (Self::MANTISSA_BITS - self.bits))
    }

    /// The middle of a cell, which represents the numbers in it; 0 for cell 0.
    pub fn middle(self, cell: u16) -> f64 {
        match cell.checked_sub(1) {
            None => 0.0,
            Some(before) => f64::midpoint(self.upper_edge(before), self.upper_edge(cell)),
        }
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        self.cell(Self::BEYOND) + 1
    }
}

/// Real numbers: the cells of [`Sizes`] on both sides of 0, rising with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reals {
    /// The lattice of each side.
    pub sizes: Sizes,
}

/// Features that no reference profile knows.
pub const FEATURE: Reals = Reals { sizes: Sizes { bits: 5 } };

impl Reals {
    /// The cell of 0 and of the smallest numbers of either sign.
    fn zero(self) -> u16 {
        self.sizes.cells() - 1
    }

    /// The cell of a number.
    #[inline]
    pub fn cell(self, x: f64) -> u16 {
        let size = self.sizes.cell(x);
        if x < 0.0 { self.zero() - size } else { self.zero() + size }
    }

    /// The middle of a cell, which represents the numbers in it.
    pub fn middle(self, cell: u16) -> f64 {
        let zero = self.zero();
        if cell < zero { -self.sizes.middle(zero - cell) } else { self.sizes.middle(cell - zero) }
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        2 * self.zero() + 1
    }
}

/// How many cells the score lattice has.
pub const SCORE_CELLS: u16 = 9731;

/// The cell of a score in 0..=1: 256 for each halving of the distance to 0 or 1, down to 2^-20; 0.5 is an edge.
#[inline]
pub fn score_cell(score: f64) -> u16 {
    if score < 0.5 { half_cell(score) } else { SCORE_CELLS - 1 - half_cell(1.0 - score) }
}

/// The least distance to an end that does not fall in the outermost cell.
const LEAST_DISTANCE: f64 = 1.0 / 1_048_576.0;
/// The bits of a double that do not tell cells apart.
const BELOW_A_CELL: u32 = 44;

/// The cell of a distance in 0..=0.5 to the nearer end.
#[inline]
fn half_cell(distance: f64) -> u16 {
    if distance < LEAST_DISTANCE {
        return 0;
    }
    let steps = |x: f64| x.to_bits() >> BELOW_A_CELL;
    let cell = 1 + steps(distance) - steps(LEAST_DISTANCE);
    u16::try_from(cell).expect("20 halvings of 256 cells")
}

/// The lower edge of a cell of the score lattice, which is the upper edge of the one below; that of [`SCORE_CELLS`] is
/// 1. Scores of a cell lie between its two edges, both included.
pub fn score_edge(cell: u16) -> f64 {
    let distance = |cell: u16| match cell.checked_sub(1) {
        None => 0.0,
        Some(steps) => {
            let bits = (LEAST_DISTANCE.to_bits() >> BELOW_A_CELL) + u64::from(steps);
            f64::from_bits(bits << BELOW_A_CELL)
        }
    };
    if cell <= SCORE_CELLS / 2 {
        distance(cell)
    } else {
        1.0 - distance(SCORE_CELLS.saturating_sub(cell))
    }
}
