//! Names as small numbers: models, versions, segments, classes, features. One table for each worker.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The name that takes what a cap leaves out.
pub const OTHER: &str = "(other)";

/// The number of a name in one [`Names`] table. Numbers differ between tables: rows carry the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub u32);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub NameId);
    };
}
id!(
    /// A model.
    ModelId
);
id!(
    /// A model's version.
    VersionId
);
id!(
    /// A segment, `dimension=value`.
    SegmentId
);
id!(
    /// A class.
    ClassId
);
id!(
    /// A feature's name.
    FeatureId
);

/// Interned names. `NameId(0)` is the empty name.
#[derive(Debug)]
pub struct Names {
    texts: Vec<Arc<str>>,
    table: HashTable<u32>,
    hasher: FixedState,
    text_bytes: usize,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self {
            texts: Vec::new(),
            table: HashTable::new(),
            hasher: FixedState::default(),
            text_bytes: 0,
        };
        names.intern("");
        names
    }
}

impl Names {
    /// The empty name, which every table holds.
    pub const EMPTY: NameId = NameId(0);

    /// The number of a name; a new one is added.
    pub fn intern(&mut self, text: &str) -> NameId {
        if let Some(id) = self.find(text.as_bytes()) {
            return id;
        }
        let hash = self.hasher.hash_one(text.as_bytes());
        let i =
            u32::try_from(self.texts.len()).expect("the byte budget ends long before 2^32 names");
        self.texts.push(Arc::from(text));
        self.text_bytes += text.len();
        let Self { texts, table, hasher, .. } = self;
        table.insert_unique(hash, i, |&i| hasher.hash_one(texts[index(i)].as_bytes()));
        NameId(i)
    }

    /// The number of the name with these bytes, if this table holds it.
    #[inline]
    pub fn find(&self, text: &[u8]) -> Option<NameId> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |&i| self.texts[index(i)].as_bytes() == text).map(|&i| NameId(i))
    }

    /// The name of a number that this table gave out.
    pub fn text(&self, id: NameId) -> &Arc<str> {
        &self.texts[index(id.0)]
    }

    /// The name of a number, if this table gave it out.
    #[inline]
    pub fn get(&self, id: NameId) -> Option<&str> {
        self.texts.get(index(id.0)).map(|text| &**text)
    }

    /// Whether this very text is the name of that number here, so that the number is that of this table.
    #[inline]
    pub fn holds(&self, id: NameId, text: &Arc<str>) -> bool {
        self.texts.get(index(id.0)).is_some_and(|known| Arc::ptr_eq(known, text))
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Never true: the empty name is always there.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        // Each name: its text, the Arc's two counts, the fat pointer, and its share of the table.
        self.text_bytes + self.texts.len() * (16 + 16 + 8)
    }
}

#[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
pub(super) fn index(i: u32) -> usize {
    i as usize
}
