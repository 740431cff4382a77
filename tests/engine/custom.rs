//! Custom metrics against a naive evaluation of the tree that their text was written from.

use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::config::{Environment, Settings};
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::metrics::accumulator::{Undefined, Value};
use tidegauge::engine::metrics::custom::{self, CustomMetric};

/// What an expression is, before it is a text.
#[derive(Clone, Debug)]
enum Tree {
    Number(&'static str),
    Name(&'static str),
    Minus(Box<Tree>),
    Join(char, Box<Tree>, Box<Tree>),
}

const NUMBERS: [&str; 6] = ["0", "1", "2.5", "1000", "1e300", "1e-300"];
const NAMES: [&str; 6] =
    ["inferences", "labels.labelled", "tp", "fp", "latency_sum_ms", "error_square_sum"];

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        proptest::sample::select(&NUMBERS[..]).prop_map(Tree::Number),
        proptest::sample::select(&NAMES[..]).prop_map(Tree::Name),
        proptest::sample::select(&NAMES[..4]).prop_map(Tree::Name),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        let sign = proptest::sample::select(vec!['+', '-', '*', '/']);
        prop_oneof![
            1 => inner.clone().prop_map(|of| Tree::Minus(Box::new(of))),
            6 => (sign, inner.clone(), inner)
                .prop_map(|(sign, left, right)| Tree::Join(sign, Box::new(left), Box::new(right))),
        ]
    })
}

fn strength(tree: &Tree) -> u8 {
    match tree {
        Tree::Join('+' | '-', ..) => 1,
        Tree::Join(..) => 2,
        Tree::Minus(_) => 3,
        Tree::Number(_) | Tree::Name(_) => 4,
    }
}

/// With parentheses only where the usual rules need them.
fn written(tree: &Tree, space: &str) -> String {
    let within = |part: &Tree, least: u8| {
        let text = written(part, space);
        if strength(part) < least { format!("({space}{text}{space})") } else { text }
    };
    match tree {
        Tree::Number(text) | Tree::Name(text) => (*text).to_owned(),
        Tree::Minus(of) => format!("-{}", within(of, 4)),
        Tree::Join(sign, left, right) => {
            let own = strength(tree);
            format!("{}{space}{sign}{space}{}", within(left, own), within(right, own + 1))
        }
    }
}

/// What the key's rows say: numbers, or reasons.
type Inputs = [Result<f64, &'static str>; 6];

/// The reasons in the order in which they are given.
const REASONS: [&str; 4] = ["not_applicable", "no_values", "zero_denominator", "overflow"];

fn naive(tree: &Tree, inputs: &Inputs) -> Result<f64, &'static str> {
    match tree {
        Tree::Number(text) => Ok(text.parse().unwrap()),
        Tree::Name(name) => inputs[NAMES.iter().position(|known| known == name).unwrap()],
        Tree::Minus(of) => Ok(-naive(of, inputs)?),
        Tree::Join(sign, left, right) => {
            let (left, right) = (naive(left, inputs), naive(right, inputs));
            let reasons: Vec<_> = [left, right].into_iter().filter_map(Result::err).collect();
            if !reasons.is_empty() {
                return Err(REASONS.into_iter().find(|known| reasons.contains(known)).unwrap());
            }
            let (left, right) = (left.unwrap(), right.unwrap());
            let value = match sign {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ if right == 0.0 => return Err("zero_denominator"),
                _ => left / right,
            };
            if value.is_finite() { Ok(value) } else { Err("overflow") }
        }
    }
}

fn compiled(text: &str) -> Vec<Arc<CustomMetric>> {
    let text = format!(
        "[inferences]\ntopic = \"i\"\n[[metrics]]\nname = \"own\"\nexpression = \"\"\"{text}\"\"\"\n"
    );
    let settings = Settings::parse("t.toml", &text, &Environment::default());
    settings.unwrap_or_else(|error| panic!("{text}: {error}")).shard.custom
}

/// A key's rows of `serving`, `labels` and `quality_binary` with these counts, all other columns 0.
fn rows(counts: [u32; 4], latency_ms: Option<f64>) -> Vec<(MetricTable, Vec<Value>)> {
    let latency = latency_ms.ok_or(Undefined::NoValues);
    let known = [
        ("inferences", Value::Count(counts[0].into())),
        ("labelled", Value::Count(counts[1].into())),
        ("tp", Value::Count(counts[2].into())),
        ("fp", Value::Count(counts[3].into())),
        ("latency_sum_ms", Value::Figure(latency)),
    ];
    [MetricTable::Serving, MetricTable::Labels, MetricTable::QualityBinary]
        .map(|table| {
            let value = |name: &str| {
                let found = known.iter().find(|(known, _)| *known == name);
                found.map_or(Value::Count(0), |(_, value)| value.clone())
            };
            (table, table.columns().iter().map(|column| value(column.name)).collect())
        })
        .into()
}

proptest! {
    #[test]
    fn every_text_gives_what_its_tree_gives(
        tree in tree(),
        counts in [0..4_u32, 0..4_u32, 0..1000_u32, 0..4_u32],
        latency_ms in prop::option::of(0.0..1e9),
        space in proptest::sample::select(vec!["", " ", "\n\t"]),
    ) {
        // An expression without any name is refused.
        let tree = Tree::Join('+', Box::new(tree), Box::new(Tree::Name("fp")));
        let text = written(&tree, space);
        let [inferences, labelled, tp, fp] = counts;
        let number = |count: u32| Ok(f64::from(count));
        let latency = latency_ms.ok_or("no_values");
        let inputs = [
            number(inferences), number(labelled), number(tp), number(fp), latency,
            Err("not_applicable"),
        ];
        let rows = custom::rows(&compiled(&text), &rows(counts, latency_ms), None);
        prop_assert_eq!(rows.len(), 1);
        let expected = naive(&tree, &inputs);
        let Value::Figure(found) = rows[0][1] else { panic!("{rows:?}") };
        prop_assert_eq!(found.map_err(Undefined::code), expected, "{}", text);
        prop_assert!(found.is_ok_and(f64::is_finite) || found.is_err());
        prop_assert_eq!(&rows[0][2], &Value::Text(expected.err().unwrap_or("").into()));
        prop_assert_eq!(&rows[0][4], &Value::Count(inferences.into()));
        prop_assert_eq!(&rows[0][5], &Value::Count(labelled.into()));
    }
}

#[test]
fn models_and_segments_have_the_metrics_that_are_about_them() {
    let text = "[inferences]\ntopic = \"i\"\n\
                [[metrics]]\nname = \"z\"\nexpression = \"tp\"\nmodels = [\"fraud-*\", \"churn\"]\n\
                [[metrics]]\nname = \"a\"\nexpression = \"fp\"\nsegments = [\"all\", \"region=*\"]\n";
    let settings = Settings::parse("t.toml", text, &Environment::default()).unwrap().shard;
    let names = |model: &str, segment: &str| {
        let found = settings.custom_of(model, segment);
        found.iter().map(|metric| metric.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("fraud-cards", "all"), ["a", "z"]);
    assert_eq!(names("fraud-cards", "channel=web"), ["z"]);
    assert_eq!(names("price", "region=eu"), ["a"]);
    assert!(names("price", "channel=web").is_empty());
}
