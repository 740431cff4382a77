//! Cells against a plain map, lattices against the hdrhistogram crate and the values of `metrics.md`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use proptest::prelude::*;
use tidegauge::engine::metrics::cells::Cells;
use tidegauge::engine::metrics::lattice::{
    DELAY_MS, Durations, LATENCY_US, SCORE_CELLS, score_cell,
};

fn cells_of(indices: &[u16]) -> Cells {
    let mut cells = Cells::default();
    for &index in indices {
        cells.add(index);
    }
    cells
}

fn index() -> impl Strategy<Value = u16> {
    prop_oneof![0_u16..30, 0_u16..SCORE_CELLS, Just(0), Just(SCORE_CELLS - 1)]
}

fn indices() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![
        prop::collection::vec(index(), 0..20),
        prop::collection::vec(index(), 0..400),
        many().prop_map(|all| all.into_iter().map(|(index, _)| index).collect()),
    ]
}

/// So many that they become pages, or stand in few cells and don't.
fn many() -> impl Strategy<Value = Vec<(u16, u64)>> {
    let cells = prop_oneof![Just(30_u64), Just(2500), Just(u64::from(SCORE_CELLS))];
    (0_usize..10_000, 0_usize..7000, cells, 1_u64..70_000).prop_map(|(first, n, cells, most)| {
        let number = |i: usize| u64::try_from(i).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let some = (first..first + n).map(number);
        some.map(|it| (u16::try_from(it % cells).unwrap(), 1 + (it >> 16) % most)).collect()
    })
}

/// Counts on both sides of what each form of the cells can hold, in few and in many cells.
fn counts() -> impl Strategy<Value = Vec<(u16, u64)>> {
    let edges = [1, 0xffff, 1 << 16, 1 << 20, (1 << 48) - 1, 1 << 48];
    let by = prop_oneof![
        4 => Just(1_u64),
        2 => 0xff00_u64..0x1_0100,
        1 => prop::sample::select(edges.to_vec()),
    ];
    prop_oneof![
        prop::collection::vec((index(), by.clone()), 0..20),
        prop::collection::vec((0_u16..100, by), 0..400),
        many(),
    ]
}

fn counted(counts: &[(u16, u64)]) -> Cells {
    let mut cells = Cells::default();
    for &(index, by) in counts {
        if by == 1 {
            cells.add(index);
        } else {
            cells.add_count(index, by);
        }
    }
    cells
}

proptest! {
    #[test]
    fn counts_of_every_size_are_those_of_a_map(
        kept in counts(),
        taken in counts(),
        merged in counts(),
    ) {
        let mut map = BTreeMap::<u64, u64>::new();
        for &(index, by) in kept.iter().chain(&merged) {
            *map.entry(u64::from(index)).or_default() += by;
        }
        let mut cells = counted(&[taken.clone(), kept.clone()].concat());
        for &(index, by) in &taken {
            cells.remove_count(index, by);
        }
        prop_assert_eq!(&cells, &counted(&kept));
        cells.merge(&counted(&merged));
        let pairs: Vec<_> = map.into_iter().collect();
        prop_assert_eq!(cells.to_pairs(), pairs.clone());
        prop_assert_eq!(Cells::from_pairs(&pairs, SCORE_CELLS), Some(cells.clone()));
        let mut other = counted(&merged);
        other.merge(&counted(&kept));
        prop_assert_eq!(other, cells);
    }

    #[test]
    fn cells_count_as_a_map_does(kept in indices(), taken in indices(), merged in indices()) {
        let mut map = BTreeMap::<u64, u64>::new();
        for &index in kept.iter().chain(&merged) {
            *map.entry(u64::from(index)).or_default() += 1;
        }
        let mut cells = cells_of(&taken);
        for &index in &kept {
            cells.add(index);
        }
        for &index in &taken {
            cells.remove(index);
        }
        prop_assert_eq!(&cells, &cells_of(&kept));
        cells.merge(&cells_of(&merged));
        let pairs: Vec<_> = map.into_iter().collect();
        prop_assert_eq!(cells.to_pairs(), pairs.clone());
        let count = pairs.iter().map(|pair| pair.1).sum::<u64>();
        prop_assert_eq!(cells.total(), count);
        prop_assert_eq!(cells.is_empty(), count == 0);
        prop_assert_eq!(Cells::from_pairs(&pairs, SCORE_CELLS), Some(cells));
    }

    #[test]
    fn cells_added_together_are_those_added_one_by_one(
        lists in prop::collection::vec(prop::collection::vec(index(), 0..40), 0..200),
    ) {
        let mut cells = Cells::default();
        for list in &lists {
            cells.add_all(list.iter().copied());
        }
        prop_assert_eq!(cells, cells_of(&lists.concat()));
    }

    #[test]
    fn quantile_is_the_kth_smallest(mut indices in prop::collection::vec(index(), 1..300)) {
        let cells = cells_of(&indices);
        indices.sort_unstable();
        for percent in [0, 1, 50, 90, 99, 100] {
            let k = (1..=indices.len()).find(|k| k * 100 >= percent * indices.len()).unwrap();
            let percent = u64::try_from(percent).unwrap();
            prop_assert_eq!(cells.quantile(percent), Some(indices[k - 1]));
        }
    }

    #[test]
    fn durations_are_those_of_hdrhistogram(values in prop::collection::vec(duration(), 1..50)) {
        for lattice in [LATENCY_US, DELAY_MS] {
            let mut reference = Histogram::<u64>::new_with_bounds(1, lattice.max, 2).unwrap();
            let mut cells = Cells::default();
            for value in values.iter().map(|&value| value.min(lattice.max)) {
                reference.record(value).unwrap();
                cells.add(lattice.cell(value));
                prop_assert_eq!(lattice.highest(lattice.cell(value)), reference.highest_equivalent(value));
            }
            for percent in [50, 90, 99] {
                let quantile = f64::from(u32::try_from(percent).unwrap()) / 100.0;
                let expected = reference.value_at_quantile(quantile);
                prop_assert_eq!(lattice.quantile(&cells, percent, u64::MAX), Some(expected));
            }
        }
    }

    #[test]
    fn score_cells_rise_with_the_score(a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        prop_assert!(score_cell(low) <= score_cell(high));
        prop_assert!(score_cell(high) < SCORE_CELLS);
    }
}

fn duration() -> impl Strategy<Value = u64> {
    (0_u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
}

fn check_every_cell(lattice: Durations) {
    let reference = Histogram::<u64>::new_with_bounds(1, lattice.max, 2).unwrap();
    let mut next = 0;
    for cell in 0..lattice.cells() {
        assert_eq!(lattice.cell(next), cell);
        assert_eq!(reference.lowest_equivalent(next), next);
        assert_eq!(lattice.highest(cell), reference.highest_equivalent(next));
        assert_eq!(lattice.cell(lattice.highest(cell)), cell.min(lattice.cells() - 1));
        next = lattice.highest(cell) + 1;
    }
    assert!(next > lattice.max);
}

#[test]
fn every_duration_cell_is_that_of_hdrhistogram() {
    check_every_cell(LATENCY_US);
    check_every_cell(DELAY_MS);
}

#[test]
fn longer_durations_count_as_the_longest() {
    assert_eq!(DELAY_MS.cell(u64::MAX), DELAY_MS.cell(DELAY_MS.max));
    let mut cells = Cells::default();
    cells.add(DELAY_MS.cell(u64::MAX));
    let held = DELAY_MS.quantile(&cells, 50, u64::MAX).unwrap();
    assert!((DELAY_MS.max..=DELAY_MS.max + DELAY_MS.max / 128).contains(&held));
}

#[test]
fn quantile_is_never_above_the_maximum() {
    let mut cells = Cells::default();
    cells.add(LATENCY_US.cell(250_000));
    assert_eq!(LATENCY_US.quantile(&cells, 99, 250_000), Some(250_000));
    assert_eq!(LATENCY_US.quantile(&Cells::default(), 99, 0), None);
}

#[test]
fn score_cells_are_those_of_the_definition() {
    let tiny = 2.0_f64.powi(-20);
    let scores = [0.0, tiny, 0.5_f64.next_down(), 0.5, 1.0];
    assert_eq!(scores.map(score_cell), [0, 1, 4864, 4865, 9730]);
    let scores = [0.97, 0.93, 0.88, 0.81, 0.70, 0.62, 0.6201, 0.60, 0.45, 0.30, 0.10];
    let cells = [5910, 5603, 5398, 5244, 5070, 4988, 4988, 4968, 4813, 4660, 4250];
    assert_eq!(scores.map(score_cell), cells);
    assert_eq!(score_cell(tiny.next_down()), 0);
    assert_eq!(score_cell(1.0_f64.next_down()), 9730);
}

#[test]
fn scores_of_three_decimals_have_a_cell_each() {
    let scores = (0..=1000).map(|i| score_cell(f64::from(i) / 1000.0));
    assert!(scores.collect::<Vec<_>>().is_sorted_by(|a, b| a < b));
}

#[test]
fn pairs_that_are_never_written_are_refused() {
    for pairs in [&[(2, 1), (1, 1)][..], &[(1, 1), (1, 1)], &[(1, 0)], &[(10, 1)]] {
        assert_eq!(Cells::from_pairs(pairs, 10), None, "{pairs:?}");
    }
    assert_eq!(Cells::from_pairs(&[], 10), Some(Cells::default()));
}

#[test]
fn counts_beyond_48_bits_are_kept() {
    let mut cells = Cells::default();
    for _ in 0..3 {
        cells.add_count(7, u64::MAX / 4);
        cells.add_count(9, (1 << 48) - 1);
    }
    assert_eq!(cells.to_pairs(), [(7, u64::MAX / 4 * 3), (9, 3 * ((1 << 48) - 1))]);
}

#[test]
fn few_records_take_little_memory() {
    let mut cells = Cells::default();
    assert_eq!(cells.heap_bytes(), 0);
    for index in 0..10 {
        cells.add(index * 700);
    }
    assert!(cells.heap_bytes() <= 128, "{} bytes", cells.heap_bytes());
}

#[test]
fn a_count_grows_past_what_small_ones_hold() {
    let mut cells = cells_of(&(0..5000).collect::<Vec<_>>());
    let small = cells.heap_bytes();
    for _ in 0..70_000 {
        cells.add(3);
    }
    assert!(cells.heap_bytes() > 2 * small, "{} and {small} bytes", cells.heap_bytes());
    assert_eq!(cells.to_pairs()[2..5], [(2, 1), (3, 70_001), (4, 1)]);
    assert_eq!(cells.total(), 75_000);
}

#[test]
fn many_values_of_few_cells_take_little_memory() {
    let mut cells = Cells::default();
    for index in (0..100).cycle().take(1_000_000) {
        cells.add(index * 90);
    }
    assert!(cells.heap_bytes() <= 2 * 8 * 100, "{} bytes", cells.heap_bytes());
    assert_eq!(cells.quantile(50), Some(49 * 90));
    assert_eq!(cells.total(), 1_000_000);
}

#[test]
fn values_of_a_narrow_lattice_take_no_more_memory_the_more_they_are() {
    let of = |values: usize, step: u16| {
        let indices = (0..100_u16).map(|index| index * step).cycle().take(values);
        cells_of(&indices.collect::<Vec<_>>())
    };
    assert!(of(300, 1).heap_bytes() <= 512 && of(4000, 1).heap_bytes() <= 512);
    assert!(of(4000, 90).heap_bytes() <= 2 * 4096);
    let (mut merged, part) = (of(200, 1), of(200, 1));
    for _ in 0..20 {
        merged.merge(&part);
    }
    assert!(merged.heap_bytes() <= 512, "{} bytes", merged.heap_bytes());
    assert_eq!(merged, of(4200, 1));
}

#[test]
fn what_several_entries_have_together_is_taken_back() {
    let mut cells = Cells::default();
    for by in [5, 6, 7] {
        cells.add_count(3, by);
    }
    cells.remove_count(3, 17);
    assert_eq!(cells.to_pairs(), [(3, 1)]);
    let mut ones = cells_of(&[4, 4, 5]);
    ones.remove_count(4, 2);
    assert_eq!(ones.to_pairs(), [(5, 1)]);
}

#[test]
#[should_panic(expected = "what is taken back was added")]
fn no_more_is_taken_back_than_was_added() {
    cells_of(&(0..5000).collect::<Vec<_>>()).remove_count(3, 2);
}

#[test]
#[should_panic(expected = "what is taken back was added")]
fn no_more_is_taken_back_than_a_list_has() {
    counted(&[(3, 2), (3, 2)]).remove_count(3, 5);
}

#[test]
#[should_panic(expected = "what is taken back was added")]
fn nothing_is_taken_back_that_never_came() {
    cells_of(&[3, 4]).remove(5);
}
