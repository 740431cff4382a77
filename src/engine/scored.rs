//! The scores by class of held inferences: they wait beside the fixed-size entries until labels come.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::names::ClassId;

/// Scores of the inferences of one window: 8 bytes for each score and 8 for each inference, and each list of classes
/// once. Freed whole when the window is dropped.
#[derive(Debug, Default)]
pub struct ScoreLists {
    /// Each record: the number of its list of classes, then the bits of the scores in that order.
    chunks: Vec<Vec<u64>>,
    classes: Vec<Box<[ClassId]>>,
    by_classes: HashTable<u32>,
    hasher: FixedState,
    class_bytes: usize,
}

/// Words that are allocated at once. (Blocks of 64 kB waste the least in mimalloc.)
const CHUNK: usize = 8000;

impl ScoreLists {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<u64>() + 24);
        chunks.sum::<usize>() + self.class_bytes + self.classes.len() * (16 + 8)
    }

    /// Keeps the scores of one inference; gives a reference to them, 0 where there are none.
    pub fn push(&mut self, scores: &[(ClassId, f64)]) -> u32 {
        if scores.is_empty() {
            return 0;
        }
        let list = self.list_of(scores);
        let fits = self.chunks.last().is_some_and(|chunk| chunk.len() + scores.len() < CHUNK);
        if !fits {
            // The first chunk grows with need: most windows of a quiet partition hold few inferences.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let reference = number * CHUNK + chunk.len() + 1;
        chunk.push(u64::from(list));
        chunk.extend(scores.iter().map(|(_, score)| score.to_bits()));
        u32::try_from(reference).expect("the byte budget ends long before 2^32 words")
    }

    /// The scores of a reference.
    pub fn get(&self, reference: u32) -> impl Iterator<Item = (ClassId, f64)> {
        let record = place(reference).map_or(&[][..], |(chunk, at)| &self.chunks[chunk][at..]);
        let classes = record.first().map_or(&[][..], |&list| {
            &self.classes[usize::try_from(list).expect("an index into memory")]
        });
        let scores = record.iter().skip(1).map(|bits| f64::from_bits(*bits));
        classes.iter().copied().zip(scores)
    }

    /// The number of the list of classes of these scores.
    fn list_of(&mut self, scores: &[(ClassId, f64)]) -> u32 {
        let Self { classes, by_classes, hasher, class_bytes, .. } = self;
        let same = |&list: &u32| {
            let classes = &classes[index(list)];
            classes.iter().eq(scores.iter().map(|(class, _)| class))
        };
        let hash = hasher.hash_one(ClassesOf(scores));
        if let Some(&list) = by_classes.find(hash, same) {
            return list;
        }
        let own: Box<[ClassId]> = scores.iter().map(|(class, _)| *class).collect();
        let list = u32::try_from(classes.len()).expect("the byte budget ends before 2^32 lists");
        *class_bytes += size_of_val(&*own);
        classes.push(own);
        by_classes
            .insert_unique(hash, list, |&list| hasher.hash_one(Classes(&classes[index(list)])));
        list
    }
}

/// Both hash alike.
struct ClassesOf<'a>(&'a [(ClassId, f64)]);
struct Classes<'a>(&'a [ClassId]);

impl std::hash::Hash for ClassesOf<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|(class, _)| class.hash(state));
    }
}

impl std::hash::Hash for Classes<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|class| class.hash(state));
    }
}

fn index(list: u32) -> usize {
    usize::try_from(list).expect("u32 fits usize")
}

fn place(reference: u32) -> Option<(usize, usize)> {
    let index = index(reference).checked_sub(1)?;
    Some((index / CHUNK, index % CHUNK))
}

#[cfg(test)]
mod tests {
    use super::super::names::NameId;
    use super::*;

    #[test]
    fn gives_back_what_it_was_given() {
        let mut lists = ScoreLists::default();
        let class = |n: u32| ClassId(NameId(n));
        let mut kept = Vec::new();
        for n in 0..20_000_u32 {
            // One record is longer than a chunk.
            let length = if n == 5000 { 20_000 } else { n % 7 };
            let scores: Vec<_> = (0..length)
                .map(|i| (class((i * 3 + n % 5) % 20_011), f64::from(i) / f64::from(n + 1)))
                .collect();
            kept.push((lists.push(&scores), scores));
        }
        for (reference, scores) in kept {
            assert_eq!(reference == 0, scores.is_empty());
            assert_eq!(lists.get(reference).collect::<Vec<_>>(), scores);
        }
        assert!(lists.classes.len() <= 31, "each list of classes is kept once");
        assert!(lists.bytes() > 80_000 * 8);
    }
}
