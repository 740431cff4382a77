//! Configured field paths → a small tree that the JSON and the Avro decoder walk alike.

use super::scalar::Text;
use crate::engine::event::Stream;

/// The most path parts that one path may have, so that no record makes a decoder recurse deeper.
const PATH_PARTS_MAX: usize = 16;

/// One logical field of an inference or a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// What joins an inference with its labels; may have parts.
    RequestId,
    /// The model.
    Model,
    /// The model's version.
    Version,
    /// When the inference or the label was made.
    Timestamp,
    /// The predicted class or number.
    Prediction,
    /// Probability of the positive class.
    Score,
    /// Probability by class.
    Scores,
    /// Feature values by name.
    Features,
    /// Segment values by dimension.
    Segments,
    /// How long the inference took.
    LatencyMs,
    /// What went wrong in the inference.
    Error,
    /// The true class or number.
    Label,
    /// The label's weight.
    Weight,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 13] = [
        Self::RequestId,
        Self::Model,
        Self::Version,
        Self::Timestamp,
        Self::Prediction,
        Self::Score,
        Self::Scores,
        Self::Features,
        Self::Segments,
        Self::LatencyMs,
        Self::Error,
        Self::Label,
        Self::Weight,
    ];

    /// The name in configuration, messages and, by default, in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestId => "request_id",
            Self::Model => "model",
            Self::Version => "version",
            Self::Timestamp => "timestamp",
            Self::Prediction => "prediction",
            Self::Score => "score",
            Self::Scores => "scores",
            Self::Features => "features",
            Self::Segments => "segments",
            Self::LatencyMs => "latency_ms",
            Self::Error => "error",
            Self::Label => "label",
            Self::Weight => "weight",
        }
    }

    /// The fields of one topic's records.
    pub fn of(stream: Stream) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |field| match field {
            Self::RequestId | Self::Timestamp | Self::Model => true,
            Self::Label | Self::Weight => stream == Stream::Labels,
            Self::Version
            | Self::Prediction
            | Self::Score
            | Self::Scores
            | Self::Features
            | Self::Segments
            | Self::LatencyMs
            | Self::Error => stream == Stream::Inferences,
        })
    }
}

/// Why field paths can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No field of that name in the records of this topic.
    #[error("`{name}` is no field of {stream}: use one of {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The topic.
        stream: &'static str,
        /// What there is.
        known: String,
    },
    /// A list without a path.
    #[error("field `{field}` names no path: give at least one, or leave the field out")]
    NoPath {
        /// The field.
        field: &'static str,
    },
    /// A path with an empty part or too many.
    #[error("path `{path}` of field `{field}`: give 1 to {PATH_PARTS_MAX} names joined by dots")]
    BadPath {
        /// The field.
        field: &'static str,
        /// The path.
        path: String,
    },
}

impl FieldError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_field",
            Self::NoPath { .. } => "field_without_path",
            Self::BadPath { .. } => "bad_field_path",
        }
    }
}

/// Where the fields of one topic's records live: for each field one or more dotted paths. A field that is not set
/// lives at the top level under its own name.
///
/// The paths of `request_id` are the parts of the ID. Of several paths of `features`, `scores` or `segments` the
/// entries are put together; of those of any other field the first that holds a value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPaths {
    stream: Stream,
    paths: Vec<(Field, Vec<String>)>,
}

impl FieldPaths {
    /// Every field at the top level under its own name.
    pub fn new(stream: Stream) -> Self {
        let paths = Field::of(stream).map(|f| (f, vec![f.name().to_owned()])).collect();
        Self { stream, paths }
    }

    /// Says where the field of that name lives.
    pub fn set(&mut self, name: &str, paths: Vec<String>) -> Result<(), FieldError> {
        let stream = self.stream;
        let Some((field, place)) = self.paths.iter_mut().find(|(f, _)| f.name() == name) else {
            let known = Field::of(stream).map(Field::name).collect::<Vec<_>>().join(", ");
            return Err(FieldError::Unknown {
                name: name.to_owned(),
                stream: stream.name(),
                known,
            });
        };
        let field = field.name();
        if paths.is_empty() {
            return Err(FieldError::NoPath { field });
        }
        for path in &paths {
            if path.split('.').any(str::is_empty) || path.split('.').count() > PATH_PARTS_MAX {
                return Err(FieldError::BadPath { field, path: path.clone() });
            }
        }
        *place = paths;
        Ok(())
    }

    /// The topic whose records these paths are for.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// The paths of one field; none where the topic's records have no such field.
    pub fn of(&self, field: Field) -> &[String] {
        self.paths.iter().find(|(f, _)| *f == field).map_or(&[], |(_, paths)| paths)
    }
}

/// Index of a node of a [`Tree`]. The root is [`Tree::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeIndex(u32);

/// Index of a place for one scalar that a record is searched for.
pub(super) type SlotIndex = usize;

/// One name on the way to what is wanted. A value may be wanted for several things at once.
#[derive(Debug, Default)]
pub(super) struct Node {
    children: Vec<(Box<str>, NodeIndex)>,
    /// The slots that a scalar here fills.
    pub(super) slots: Vec<SlotIndex>,
    /// Every entry here is a feature.
    pub(super) features: bool,
    /// Every entry here is a class and its score.
    pub(super) scores: bool,
    /// The field whose entries live here, so that anything but a map or null is wrong.
    pub(super) map_of: Option<Field>,
}

impl Node {
    /// Whether every entry here is wanted, as a feature or a score.
    #[inline]
    pub(super) fn is_of_entries(&self) -> bool {
        self.features || self.scores
    }

    /// The slot of a scalar here, where that is all that is wanted.
    pub(super) fn only_slot(&self) -> Option<SlotIndex> {
        match *self.slots {
            [slot] if self.map_of.is_none() => Some(slot),
            _ => None,
        }
    }

    /// All entries that are named in a path.
    pub(super) fn children(&self) -> &[(Box<str>, NodeIndex)] {
        &self.children
    }

    /// The node of an entry with that name.
    #[inline]
    pub(super) fn child(&self, name: Text<'_>) -> Option<NodeIndex> {
        self.children
            .iter()
            .find(|(known, _)| known.as_bytes() == name.as_bytes())
            .map(|(_, node)| *node)
    }
}

/// Everything that is wanted of a record, by path.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    slots: usize,
    /// For each field the slots of its paths, in their order.
    fields: [Vec<SlotIndex>; Field::ALL.len()],
    /// For each segment dimension the slots where it may be found.
    dimensions: Vec<Vec<SlotIndex>>,
}

impl Tree {
    /// The record itself.
    pub(super) const ROOT: NodeIndex = NodeIndex(0);

    /// The tree of these paths and segment dimensions.
    pub(super) fn new(paths: &FieldPaths, dimensions: &[String]) -> Self {
        let mut tree = Self {
            nodes: vec![Node::default()],
            slots: 0,
            fields: Default::default(),
            dimensions: vec![Vec::new(); dimensions.len()],
        };
        for (field, paths) in &paths.paths {
            for path in paths {
                let node = tree.reach(path);
                match field {
                    Field::Features | Field::Scores => tree.add_map(node, *field),
                    Field::Segments => tree.add_dimensions(node, dimensions),
                    _ => {
                        let slot = tree.add_slot(node);
                        if let Some(slots) = tree.fields.get_mut(position(*field)) {
                            slots.push(slot);
                        }
                    }
                }
            }
        }
        tree
    }

    /// The node behind an index of this tree.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "indexes are made by this tree only")]
    #[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
    pub(super) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0 as usize]
    }

    /// How many slots there are.
    pub(super) fn slot_count(&self) -> usize {
        self.slots
    }

    /// The slots of one field's paths.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "one list for each field")]
    pub(super) fn slots(&self, field: Field) -> &[SlotIndex] {
        &self.fields[position(field)]
    }

    /// The slots of each segment dimension.
    pub(super) fn dimensions(&self) -> &[Vec<SlotIndex>] {
        &self.dimensions
    }

    fn add_map(&mut self, node: NodeIndex, field: Field) {
        let node = self.node_mut(node);
        node.features |= field == Field::Features;
        node.scores |= field == Field::Scores;
        node.map_of.get_or_insert(field);
    }

    fn add_dimensions(&mut self, node: NodeIndex, dimensions: &[String]) {
        self.node_mut(node).map_of.get_or_insert(Field::Segments);
        for (i, dimension) in dimensions.iter().enumerate() {
            let child = self.child(node, dimension);
            let slot = self.add_slot(child);
            if let Some(slots) = self.dimensions.get_mut(i) {
                slots.push(slot);
            }
        }
    }

    fn add_slot(&mut self, node: NodeIndex) -> SlotIndex {
        let slot = self.slots;
        self.slots += 1;
        self.node_mut(node).slots.push(slot);
        slot
    }

    fn reach(&mut self, path: &str) -> NodeIndex {
        path.split('.').fold(Self::ROOT, |node, name| self.child(node, name))
    }

    fn child(&mut self, node: NodeIndex, name: &str) -> NodeIndex {
        if let Some(child) = self.node(node).child(name.into()) {
            return child;
        }
        let count = u32::try_from(self.nodes.len()).expect("a configuration has few paths");
        let child = NodeIndex(count);
        self.nodes.push(Node::default());
        self.node_mut(node).children.push((name.into(), child));
        child
    }

    #[expect(clippy::indexing_slicing, reason = "indexes are made by this tree only")]
    #[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
    fn node_mut(&mut self, index: NodeIndex) -> &mut Node {
        &mut self.nodes[index.0 as usize]
    }
}

#[expect(clippy::as_conversions, reason = "the variants of a plain enum are numbered from 0")]
fn position(field: Field) -> usize {
    field as usize
}
