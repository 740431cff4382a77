//! A writer's Avro schema → a plan: which bytes to skip and which go where. Built once for each schema.

use super::checks::DEPTH_MAX;
use super::fields::{NodeIndex, SlotIndex, Tree};
use super::found::{FeatureNames, KnownName, KnownTexts};
use super::registry::WriterSchema;
use super::scalar::Unit;
use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use std::collections::BTreeMap;

/// More steps than this no schema of an event has.
const STEPS_MAX: usize = 100_000;

/// Index of a step of a [`Plan`].
pub(super) type StepIndex = usize;

/// What one kind of value looks like in the bytes.
#[derive(Debug)]
pub(super) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Instant32(Unit),
    Instant64(Unit),
    Float,
    Double,
    Bytes,
    Text,
    Enum(Vec<Box<str>>),
    Fixed(usize),
    /// 16 bytes that stand for the usual text of a UUID.
    Uuid,
    /// The same with a length before it.
    UuidBytes,
    /// A number × 10^-scale, big-endian two's complement; the size where it is fixed.
    Decimal {
        size: Option<usize>,
        scale: usize,
    },
    Record {
        fields: Vec<RecordField>,
        /// The names of all fields, where each of them is a feature and no score.
        features: Option<FeatureNames>,
    },
    Array(StepIndex),
    Map {
        /// Values under a name that the tree knows.
        known: Vec<(Box<str>, StepIndex)>,
        /// All others.
        other: StepIndex,
    },
    Union(Vec<StepIndex>),
}

impl Shape {
    fn is_scalar(&self) -> bool {
        !matches!(self, Self::Record { .. } | Self::Array(_) | Self::Map { .. } | Self::Union(_))
    }
}

/// What is wanted of a value beside its being an entry of a map.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Nowhere,
    /// A scalar for one slot, and nothing else that stands at the node.
    Slot(SlotIndex, NodeIndex),
    /// What stands at the node of the tree.
    Node(NodeIndex),
}

impl Wanted {
    fn of(node: Option<NodeIndex>, shape: &Shape, tree: &Tree) -> Self {
        let Some(node) = node else { return Self::Nowhere };
        let slot = if shape.is_scalar() { tree.node(node).only_slot() } else { None };
        slot.map_or(Self::Node(node), |slot| Self::Slot(slot, node))
    }

    #[inline]
    pub(super) fn node(self) -> Option<NodeIndex> {
        match self {
            Self::Nowhere => None,
            Self::Slot(_, node) | Self::Node(node) => Some(node),
        }
    }
}

/// One field of a record.
#[derive(Debug)]
pub(super) struct RecordField {
    pub(super) name: KnownName,
    pub(super) step: StepIndex,
    pub(super) way: Way,
    /// How many features that are always doubles stand in a row from here on.
    pub(super) doubles: usize,
}

/// How to read a field. It has a tag of its own, because a tag within the leaf takes longer to look at.
#[derive(Debug)]
#[repr(u8)]
pub(super) enum Way {
    /// As its step says.
    Step,
    /// A scalar for one slot.
    Slot(Leaf, SlotIndex),
    /// A scalar that is a feature under the field's name.
    Feature(Leaf),
}

impl Way {
    fn is_double_feature(&self) -> bool {
        matches!(self, Self::Feature(Leaf { kind: LeafKind::Double, null_or_value: None, .. }))
    }
}

/// A scalar, or null in its place, that is wanted for one thing: it is read without a look at the tree.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) kind: LeafKind,
    /// The scalar's own step.
    pub(super) step: StepIndex,
    /// The byte that says null, and the one that says that the scalar follows, where the field may be null.
    pub(super) null_or_value: Option<[u8; 2]>,
    /// What it was before, where it is a text and a feature.
    pub(super) texts: KnownTexts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    Boolean,
    Int,
    Long,
    /// A time in milliseconds, as most are.
    Millis,
    Float,
    Double,
    Text,
    /// Its step says what it is.
    Other,
}

impl LeafKind {
    fn of(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Boolean => Some(Self::Boolean),
            Shape::Int => Some(Self::Int),
            Shape::Long => Some(Self::Long),
            Shape::Instant64(Unit::Millis) => Some(Self::Millis),
            Shape::Float => Some(Self::Float),
            Shape::Double => Some(Self::Double),
            Shape::Text => Some(Self::Text),
            shape => shape.is_scalar().then_some(Self::Other),
        }
    }
}

/// How to read one value.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) shape: Shape,
    pub(super) wanted: Wanted,
    /// It takes no bytes at all.
    pub(super) is_empty: bool,
}

/// How to read one event of one writer's schema.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    pub(super) root: StepIndex,
}

impl Plan {
    /// Compiles a schema for what is wanted.
    pub(super) fn new(schema: &WriterSchema, tree: &Tree) -> Result<Self, String> {
        let mut names = BTreeMap::new();
        for schema in schema.references.iter().chain([&schema.schema]) {
            collect(schema, &mut names);
        }
        let mut compiler = Compiler { tree, names, done: BTreeMap::new(), steps: Vec::new() };
        let root = compiler.step(&schema.schema, Some(Tree::ROOT), 0)?;
        Ok(Self { steps: compiler.steps, root })
    }

    /// The step behind an index of this plan.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "indexes are made by the compiler only")]
    pub(super) fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index]
    }
}

/// Notes every named type under its full name. The parser has made all names full ones.
fn collect<'s>(schema: &'s Schema, found: &mut BTreeMap<String, &'s Schema>) {
    let mut note = |name: &Name| found.insert(name.fullname(None), schema).is_some();
    match schema {
        Schema::Record(record) => {
            let is_known = note(&record.name);
            for field in record.fields.iter().filter(|_| !is_known) {
                collect(&field.schema, found);
            }
        }
        Schema::Enum(x) => {
            note(&x.name);
        }
        Schema::Fixed(x) | Schema::Duration(x) | Schema::Uuid(UuidSchema::Fixed(x)) => {
            note(&x.name);
        }
        Schema::Decimal(x) => {
            if let InnerDecimalSchema::Fixed(x) = &x.inner {
                note(&x.name);
            }
        }
        Schema::Array(x) => collect(&x.items, found),
        Schema::Map(x) => collect(&x.types, found),
        Schema::Union(x) => x.variants().iter().for_each(|x| collect(x, found)),
        _ => {}
    }
}

struct Compiler<'s, 't> {
    tree: &'t Tree,
    names: BTreeMap<String, &'s Schema>,
    /// Records by full name and by what is wanted of them: this is how a plan may refer to itself.
    done: BTreeMap<(String, Option<NodeIndex>), StepIndex>,
    steps: Vec<Step>,
}

impl<'s> Compiler<'s, '_> {
    fn step(
        &mut self,
        schema: &'s Schema,
        wanted: Option<NodeIndex>,
        depth: usize,
    ) -> Result<StepIndex, String> {
        if depth > 4 * DEPTH_MAX || self.steps.len() > STEPS_MAX {
            return Err("the schema is nested too deep or is too large".to_owned());
        }
        let shape = match schema {
            Schema::Ref { name } => {
                let full = name.fullname(None);
                let Some(&schema) = self.names.get(&full) else {
                    return Err(format!("it names the type {full}, which is not defined"));
                };
                return self.step(schema, wanted, depth + 1);
            }
            Schema::Record(record) => return self.record(record, wanted, depth),
            Schema::Array(x) => {
                // No path leads into an array.
                Shape::Array(self.step(&x.items, None, depth + 1)?)
            }
            Schema::Map(x) => self.map(&x.types, wanted, depth)?,
            Schema::Union(x) => {
                let variants = x.variants().iter();
                let steps: Result<_, _> =
                    variants.map(|x| self.step(x, wanted, depth + 1)).collect();
                Shape::Union(steps?)
            }
            scalar => scalar_shape(scalar),
        };
        let is_empty = matches!(shape, Shape::Null | Shape::Fixed(0));
        let wanted = Wanted::of(wanted, &shape, self.tree);
        Ok(self.add(Step { shape, wanted, is_empty }))
    }

    fn record(
        &mut self,
        record: &'s RecordSchema,
        wanted: Option<NodeIndex>,
        depth: usize,
    ) -> Result<StepIndex, String> {
        let key = (record.name.fullname(None), wanted);
        if let Some(&step) = self.done.get(&key) {
            return Ok(step);
        }
        let of_record = wanted.map_or(Wanted::Nowhere, Wanted::Node);
        let index = self.add(Step { shape: Shape::Null, wanted: of_record, is_empty: false });
        self.done.insert(key, index);
        let mut fields = Vec::with_capacity(record.fields.len());
        let mut is_empty = true;
        for field in &record.fields {
            let child =
                wanted.and_then(|node| self.tree.node(node).child(field.name.as_str().into()));
            let step = self.step(&field.schema, child, depth + 1)?;
            is_empty &= self.steps.get(step).is_some_and(|step| step.is_empty);
            let name = KnownName::of(&field.name);
            let way = self.way(step, wanted).unwrap_or(Way::Step);
            fields.push(RecordField { name, step, way, doubles: 0 });
        }
        let mut doubles = 0;
        for field in fields.iter_mut().rev() {
            doubles = if field.way.is_double_feature() { doubles + 1 } else { 0 };
            field.doubles = doubles;
        }
        let around = wanted.map(|node| self.tree.node(node));
        let features = around
            .filter(|node| node.features && !node.scores)
            .and_then(|_| FeatureNames::new(record.fields.iter().map(|field| &*field.name)));
        if let Some(step) = self.steps.get_mut(index) {
            let shape = Shape::Record { fields, features };
            *step = Step { shape, wanted: of_record, is_empty };
        }
        Ok(index)
    }

    /// How to read a field of the record at this node, if it is no more than one scalar for one thing.
    fn way(&self, step: StepIndex, of_record: Option<NodeIndex>) -> Option<Way> {
        // Within a record at no node, a field may be a record that is still being compiled, and looks like null.
        let around = self.tree.node(of_record?);
        let (step, null_or_value) = match &self.steps.get(step)?.shape {
            Shape::Union(variants) => {
                let [first, second] = *variants.as_slice() else { return None };
                // The index of a variant is written as twice its number.
                match (&self.steps.get(first)?.shape, &self.steps.get(second)?.shape) {
                    (Shape::Null, _) => (second, Some([0, 2])),
                    (_, Shape::Null) => (first, Some([2, 0])),
                    _ => return None,
                }
            }
            _ => (step, None),
        };
        let Step { shape, wanted, .. } = self.steps.get(step)?;
        let texts = KnownTexts::default();
        let leaf = Leaf { kind: LeafKind::of(shape)?, step, null_or_value, texts };
        match *wanted {
            Wanted::Slot(slot, _) if !around.is_of_entries() => Some(Way::Slot(leaf, slot)),
            Wanted::Nowhere if around.features && !around.scores => Some(Way::Feature(leaf)),
            _ => None,
        }
    }

    fn map(
        &mut self,
        values: &'s Schema,
        wanted: Option<NodeIndex>,
        depth: usize,
    ) -> Result<Shape, String> {
        let other = self.step(values, None, depth + 1)?;
        let children = wanted.map_or(&[][..], |node| self.tree.node(node).children());
        let known: Result<_, String> = children
            .iter()
            .map(|(name, child)| Ok((name.clone(), self.step(values, Some(*child), depth + 1)?)))
            .collect();
        Ok(Shape::Map { known: known?, other })
    }

    fn add(&mut self, step: Step) -> StepIndex {
        self.steps.push(step);
        self.steps.len() - 1
    }
}

fn scalar_shape(schema: &Schema) -> Shape {
    match schema {
        Schema::Boolean => Shape::Boolean,
        Schema::Int | Schema::TimeMillis => Shape::Int,
        Schema::Long | Schema::TimeMicros => Shape::Long,
        Schema::Date => Shape::Instant32(Unit::Days),
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Shape::Instant64(Unit::Millis),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Shape::Instant64(Unit::Micros),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Shape::Instant64(Unit::Nanos),
        Schema::Float => Shape::Float,
        Schema::Double => Shape::Double,
        Schema::Bytes | Schema::BigDecimal => Shape::Bytes,
        Schema::String | Schema::Uuid(UuidSchema::String) => Shape::Text,
        Schema::Uuid(UuidSchema::Fixed(_)) => Shape::Uuid,
        Schema::Uuid(UuidSchema::Bytes) => Shape::UuidBytes,
        Schema::Enum(x) => Shape::Enum(x.symbols.iter().map(|s| s.as_str().into()).collect()),
        Schema::Fixed(x) | Schema::Duration(x) => Shape::Fixed(x.size),
        Schema::Decimal(x) => {
            let size = match &x.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(x) => Some(x.size),
            };
            Shape::Decimal { size, scale: x.scale }
        }
        Schema::Null
        | Schema::Array(_)
        | Schema::Map(_)
        | Schema::Union(_)
        | Schema::Record(_)
        | Schema::Ref { .. } => Shape::Null,
    }
}
