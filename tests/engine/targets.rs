//! Drift of predictions and labels, and of what they are made of: what the states hold against a walk over the logs,
//! whatever the interleaving, and the worked examples of `metrics.md` 14.4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::engine::ModelSettings;
use tidegauge::engine::event::Target;
use tidegauge::engine::metrics::accumulator::{Accumulator as _, FigureContext, Undefined, Value};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::drift::method::{Method, Options};
use tidegauge::engine::metrics::drift::verdict::{Judged, Kind, Measured, Verdict, judge};
use tidegauge::engine::metrics::drift::{CurrentCounts, Measure, drift};
use tidegauge::engine::metrics::expected::Expected;
use tidegauge::engine::metrics::labels::LabelsInput;
use tidegauge::engine::metrics::reference::{
    CategoricalProfile, FeatureProfile, Flaw, MOST_CATEGORIES, NumericProfile, Profile, Scale,
    Values,
};
use tidegauge::engine::metrics::regression::RegressionInput;
use tidegauge::engine::metrics::targets::TargetCells;
use tidegauge::engine::metrics::{Families, MetricTable};
use tidegauge::engine::names::{ClassId, Names};
use tidegauge::evaluate::MetricRow;

use crate::oracle::figures::cell_of;
use crate::oracle::{Folded, Given, Held, OTHER, Partition, fold};
use crate::properties::{partitions, settings};
use crate::reference::by_cell;
use crate::{drive, shard};

fn named(categories: &[(&str, u64)]) -> FeatureProfile {
    let categories = categories.iter().map(|(name, count)| (Arc::from(*name), *count)).collect();
    let values = Values::Categorical(CategoricalProfile { categories, other: 0 });
    FeatureProfile { missing: 7, type_errors: 0, values }
}

fn numbers(edges: &[f64], min: f64, max: f64, counts: &[u64]) -> FeatureProfile {
    let values = Values::Numeric(NumericProfile {
        scale: Scale::Linear,
        min,
        max,
        mean: f64::midpoint(min, max),
        sd: 1.443_375_673,
        fine_edges: edges.to_vec().into(),
        bin_edges: edges.to_vec(),
        counts: counts.to_vec(),
        has_given_edges: true,
        range: None,
    });
    FeatureProfile { missing: 0, type_errors: 0, values }
}

fn profile(prediction: Option<FeatureProfile>, label: Option<FeatureProfile>) -> Arc<Profile> {
    Arc::new(Profile {
        id: "r-0123456789ab".into(),
        name: "r".into(),
        generation: 0,
        features: BTreeMap::new(),
        score: None,
        prediction,
        label,
        calibrator: None,
        expected: Expected::default(),
        class_calibrators: Vec::new(),
    })
}

/// Of one feature, and of scores, predictions and labels.
pub(crate) fn some_profile() -> Arc<Profile> {
    let classes = || named(&[("1", 40), ("0", 30), ("yes", 20), ("true", 6), ("2.5", 4)]);
    with_inputs(&profile(Some(classes()), Some(classes())))
}

/// The rows of `drift`: kind, method, and the values of all columns by name.
type Row = BTreeMap<&'static str, Value>;

fn shown(values: &[Value]) -> Row {
    let names = MetricTable::Drift.columns().iter().map(|column| column.name);
    names.zip(values.iter().cloned()).collect()
}

fn rows(families: &Families, profile: &Profile) -> Vec<Row> {
    let context =
        FigureContext { window_ms: 60_000, reference: Some(profile), ..FigureContext::default() };
    let all = families.figures(&context).into_iter();
    all.filter(|(table, _)| *table == MetricTable::Drift).map(|(_, row)| shown(&row)).collect()
}

fn text(row: &Row, name: &str) -> String {
    match &row[name] {
        Value::Text(text) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

fn of<'a>(rows: &'a [Row], kind: &str, method: &str) -> &'a Row {
    let is = |row: &&Row| text(row, "kind") == kind && text(row, "method") == method;
    rows.iter().find(is).unwrap_or_else(|| panic!("no row of {kind} by {method}"))
}

#[track_caller]
fn is_near(row: &Row, name: &str, expected: f64, tolerance: f64) {
    match row[name] {
        Value::Figure(Ok(found)) => {
            assert!((found - expected).abs() <= tolerance, "{name}: {found}, expected {expected}");
        }
        ref other => panic!("{name} is {other:?}, expected {expected}"),
    }
}

/// The rows of 14.4, with predicted classes for the categories and true numbers for the uniform values.
fn worked_examples() -> Vec<Row> {
    let classes = named(&[("A", 500), ("B", 300), ("C", 200)]);
    let uniform = numbers(&[1.0, 2.0, 3.0, 4.0], 0.0, 5.0, &[200; 5]);
    let profile = profile(Some(classes), Some(uniform));
    let mut names = Names::default();
    let cells = TargetCells::new(&profile, &mut names).unwrap();
    let mut families = Families::default();
    for (class, count) in [("A", 60), ("B", 90), ("C", 30), ("D", 20)] {
        let class = Target::Class(ClassId(names.intern(class)));
        let input = cells.prediction(class).unwrap();
        (0..count).for_each(|_| families.targets.get_mut().add(&input));
    }
    for (number, count) in [(0.5, 20), (1.5, 30), (3.0, 40), (3.5, 50), (5.0, 60)] {
        let input = cells.label(Target::Number(number)).unwrap();
        for _ in 0..count {
            families.targets.get_mut().add(&input);
            families.labels.add(&LabelsInput::Inference { decision: None });
            families.labels.add(&LabelsInput::First { delay_ms: 1, decision: None });
        }
    }
    rows(&families, &profile)
}

/// They are scipy's figures.
#[test]
fn worked_examples_of_classes_and_numbers() {
    let rows = worked_examples();
    for (kind, method, value, p_value) in [
        ("prediction", "psi", 0.867_453_747_0, 3.897e-31),
        ("prediction", "js", 0.285_840_868_5, 2.815e-16),
        ("prediction", "chi2", 27.824_175_824_2, 9.079e-7),
        ("prediction", "g", 28.426_706_558_9, 6.718e-7),
        ("label", "psi", 0.135_402_510_1, 0.000_154_505_3),
        ("label", "hellinger", 0.129_683_426_0, 0.000_165_018_5),
        ("label", "chi2", 20.957_129_826_7, 0.000_322_927_2),
        ("label", "ks", 0.15, 0.000_974_92),
    ] {
        let row = of(&rows, kind, method);
        is_near(row, "value", value, 0.51e-10);
        is_near(row, "p_value", p_value, 0.51e-3 * p_value);
        // Labels are a family of tests of their own, and here each family has one. Class D is so rare that chi2 has to
        // agree.
        let is_sparse = kind == "prediction" && ["psi", "js"].contains(&method);
        let adjusted = if is_sparse { 9.079e-7 } else { p_value };
        is_near(row, "p_adjusted", adjusted, 0.51e-3 * adjusted);
        assert_eq!(row["n"], Value::Count(200));
        assert_eq!(row["feature"], Value::Text("".into()));
    }
    assert_eq!(text(of(&rows, "prediction", "psi"), "verdict"), "drift");
    assert_eq!(text(of(&rows, "label", "psi"), "verdict"), "warn");
    assert_eq!(text(of(&rows, "label", "psi"), "binning"), "edges");
    is_near(of(&rows, "prediction", "new_category_rate"), "value", 0.1, 1e-15);
    // Labels that are not there may still come.
    let missing = of(&rows, "label", "missing_rate");
    assert_eq!(missing["value"], Value::Figure(Err(Undefined::NotApplicable)));
    assert_eq!(text(missing, "verdict"), "insufficient_data");
}

/// Effect, limits and sizes of the same by hand. The effect of a table test is its statistic times 1/200 + 1/1000.
#[test]
fn worked_examples_say_what_their_verdicts_rest_on() {
    let rows = worked_examples();
    for (kind, method, effect, [warn_at, drift_at], bins) in [
        ("prediction", "psi", 0.867_453_747_0, [0.1, 0.25], 4),
        ("prediction", "js", 0.285_840_868_5, [0.1, 0.2], 4),
        ("prediction", "hellinger", 0.268_464_379_8, [0.1, 0.2], 4),
        ("prediction", "linf", 0.2, [0.1, 0.2], 4),
        ("prediction", "tv", 0.25, [0.1, 0.2], 4),
        // The table tests take D together with C.
        ("prediction", "chi2", 0.166_945_054_9, [0.1, 0.25], 3),
        ("prediction", "g", 0.170_560_239_4, [0.1, 0.25], 3),
        ("label", "psi", 0.135_402_510_1, [0.1, 0.25], 5),
        ("label", "js", 0.155_276_975_1, [0.1, 0.2], 5),
        ("label", "hellinger", 0.129_683_426_0, [0.1, 0.2], 5),
        ("label", "linf", 0.1, [0.1, 0.2], 5),
        ("label", "tv", 0.15, [0.1, 0.2], 5),
        ("label", "chi2", 0.125_742_779_0, [0.1, 0.25], 5),
        ("label", "g", 0.130_875_478_8, [0.1, 0.25], 5),
        ("label", "ks", 0.15, [0.1, 0.2], 5),
        ("label", "wasserstein", 0.346_410_161_5, [0.1, 0.25], 5),
    ] {
        let row = of(&rows, kind, method);
        is_near(row, "effect", effect, 0.51e-10);
        assert_eq!(row["warn_at"], Value::Figure(Ok(warn_at)), "{row:?}");
        assert_eq!(row["drift_at"], Value::Figure(Ok(drift_at)), "{row:?}");
        assert_eq!(row["alpha"], Value::Figure(Ok(0.05)), "{row:?}");
        assert_eq!(row["is_primary"], Value::Count(u64::from(method == "psi")), "{row:?}");
        let counts = ["bins", "n", "reference_n"].map(|name| row[name].clone());
        assert_eq!(counts, [bins, 200, 1000].map(Value::Count), "{row:?}");
    }
    // 7 of the reference's 1007 records predict nothing, and none of these 200, of which 20 are of a new class.
    for (method, effect, reference_n) in
        [("missing_rate", -7.0 / 1007.0, 1007), ("new_category_rate", 0.1, 1000)]
    {
        let row = of(&rows, "prediction", method);
        is_near(row, "effect", effect, 1e-15);
        assert_eq!(row["warn_at"], Value::Figure(Err(Undefined::NotApplicable)), "{row:?}");
        assert_eq!(row["drift_at"], Value::Figure(Ok(0.01)), "{row:?}");
        assert_eq!(row["alpha"], Value::Figure(Ok(0.05)), "{row:?}");
        let counts = ["is_primary", "bins", "n", "reference_n"].map(|name| row[name].clone());
        assert_eq!(counts, [0, 0, 200, reference_n].map(Value::Count), "{row:?}");
    }
}

/// Numbers, truth values and names that have one text are one class.
#[test]
fn classes_are_compared_as_texts() {
    let profile =
        profile(Some(named(&[("1", 9), ("true", 5), ("0.5", 3), ("01", 2), ("NaN", 1)])), None);
    let mut names = Names::default();
    let cells = TargetCells::new(&profile, &mut names).unwrap();
    let mut class = |name: &str| Target::Class(ClassId(names.intern(name)));
    let same = [
        [class("1"), Target::Number(1.0)],
        [class("true"), Target::Boolean(true)],
        [class("0.5"), Target::Number(0.5)],
    ];
    for [left, right] in same {
        assert_eq!(cells.prediction(left), cells.prediction(right), "{left:?}");
    }
    let mut places: Vec<_> = same.iter().map(|pair| cells.prediction(pair[0])).collect();
    places.extend(
        [class("01"), class("NaN"), class("new"), Target::Absent].map(|it| cells.prediction(it)),
    );
    for (at, place) in places.iter().enumerate() {
        assert!(!places[..at].contains(place), "{place:?}");
    }
    assert_eq!(cells.prediction(Target::Boolean(false)), cells.prediction(class("new")));
    assert_eq!(cells.label(class("1")), None);
}

/// What a profile without predictions or labels, and a state of a program that did not count them, give: no figure,
/// and the reason.
#[test]
fn what_is_not_there_has_a_reason() {
    let mut families = Families::default();
    families.regression.get_mut().add(&RegressionInput::Inference);
    families.labels.add(&LabelsInput::Inference { decision: None });
    let reasons = |rows: &[Row]| -> Vec<[String; 3]> {
        rows.iter().map(|row| ["kind", "method", "reason"].map(|name| text(row, name))).collect()
    };
    let lacking = profile(None, None);
    let texts = |row: [&str; 3]| row.map(str::to_owned);
    let found = rows(&families, &lacking);
    assert_eq!(reasons(&found), [texts(["prediction", "psi", "no_reference"])]);
    assert_eq!(found[0]["value"], Value::Figure(Err(Undefined::NoReference)));
    assert_eq!([&found[0]["n"], &found[0]["reference_n"]], [&Value::Count(1), &Value::Count(0)]);
    assert_eq!(text(&found[0], "verdict"), "insufficient_data");

    let uniform = || Some(numbers(&[1.0], 0.0, 2.0, &[500, 500]));
    let both = profile(uniform(), uniform());
    let unlabelled = rows(&families, &both);
    assert_eq!(text(of(&unlabelled, "label", "psi"), "reason"), "no_labels");

    families.labels.add(&LabelsInput::First { delay_ms: 1, decision: None });
    let found = rows(&families, &lacking);
    assert_eq!(reasons(&found)[1], texts(["label", "psi", "no_reference"]));
    // Columns that were added to a table that had rows are empty in them.
    let values = families.state();
    let [.., predictions, labels] = &values[..] else { panic!("a state has columns") };
    assert_eq!([predictions, labels], [&Value::Cells(Vec::new()), &Value::Cells(Vec::new())]);
    let restored = Families::restore(&values, ClassCaps::DEFAULT).unwrap();
    for row in rows(&restored, &both) {
        assert_eq!(text(&row, "verdict"), "insufficient_data");
        let missing_label = text(&row, "kind") == "label" && text(&row, "method") == "missing_rate";
        let reason = if missing_label { "not_applicable" } else { "no_values" };
        assert_eq!(text(&row, "reason"), reason, "{row:?}");
    }
}

#[test]
fn more_categories_than_can_be_numbered_are_refused() {
    let names: Vec<String> = (0..=MOST_CATEGORIES).map(|n| format!("c{n:06}")).collect();
    let categories: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let flaw = Err(Flaw::TooManyCategories(MOST_CATEGORIES + 1));
    assert_eq!(named(&categories).check(), flaw);
    assert_eq!(named(&categories[1..]).check(), Ok(()));
}

/// A decision stands for the prediction of a score that comes without one.
#[test]
fn the_opposite_of_a_positive_class() {
    use tidegauge::engine::Positive::{Boolean, Class, Number};
    let of = |positive| ModelSettings { positive, ..ModelSettings::default() }.decided();
    assert_eq!(ModelSettings::default().decided(), [Number(0.0), Number(1.0)]);
    assert_eq!(of(vec![Number(0.0)]), [Number(1.0), Number(0.0)]);
    assert_eq!(of(vec![Boolean(false), Number(3.0)]), [Boolean(true), Boolean(false)]);
    let yes = Class("yes".to_owned());
    assert_eq!(of(vec![yes.clone()]), [Class("(negative)".to_owned()), yes]);
}

/// Counts of predictions or labels, by looking at each.
#[derive(Default)]
struct Seen {
    names: BTreeMap<String, u64>,
    numbers: Vec<f64>,
    missing: u64,
}

impl Seen {
    fn measures(&self, reference: &FeatureProfile) -> Vec<Measure> {
        let missing = self.missing;
        let Some(numeric) = reference.numeric() else {
            let names: Vec<_> = self.names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
            return drift(reference, &CurrentCounts::Names { names: &names, other: 0, missing });
        };
        let cells = by_cell(numeric, &self.numbers);
        drift(reference, &CurrentCounts::Cells { cells: &cells, missing })
    }
}

fn predictions(members: &[&Folded]) -> Seen {
    let mut seen = Seen::default();
    for one in members {
        match &one.said {
            None => seen.missing += 1,
            Some(said) => {
                *seen.names.entry(said.class()).or_default() += 1;
                if let Given::Number(number) = said {
                    seen.numbers.push(*number);
                }
            }
        }
    }
    seen
}

/// Scores by their cell, and binary inferences without one; none where no inference is binary.
fn scores(members: &[&Folded]) -> Option<Seen> {
    let binary: Vec<_> = members.iter().filter(|one| one.binary).collect();
    let place = |score: f64| f64::from(u32::try_from(cell_of(score)).unwrap());
    let numbers: Vec<f64> = binary.iter().filter_map(|one| one.score).map(place).collect();
    let missing = u64::try_from(binary.len() - numbers.len()).unwrap();
    (!binary.is_empty()).then(|| Seen { numbers, missing, ..Seen::default() })
}

/// The numbers of feature `a` and the inferences that have no value in it, and whether values of some feature are
/// counted as others. The state of each partition and window keeps the features that came first.
fn feature(most: usize, members: &[&Folded]) -> (Seen, bool) {
    let mut in_order = members.to_vec();
    in_order.sort_by_key(|one| one.offset);
    let mut kept: BTreeMap<(usize, i64), BTreeSet<&str>> = BTreeMap::new();
    let mut seen = Seen { missing: u64::try_from(members.len()).unwrap(), ..Seen::default() };
    let mut is_capped = false;
    for one in in_order {
        let kept = kept.entry((one.partition, one.window)).or_default();
        for (name, value) in &one.features {
            if kept.len() < most {
                kept.insert(name);
            }
            let is_kept = kept.contains(name.as_str());
            is_capped |= !is_kept || name == OTHER;
            if !is_kept || name != "a" || matches!(value, Held::Null | Held::NotFinite) {
                continue;
            }
            seen.missing -= 1;
            seen.numbers.extend(value.number());
        }
    }
    (seen, is_capped)
}

/// The measures of feature `a`. Where some values are counted as others, nobody knows how many are missing, and
/// nothing is known of one without any.
fn of_feature(reference: &FeatureProfile, most: usize, members: &[&Folded]) -> Vec<Measure> {
    let (seen, is_capped) = feature(most, members);
    let has_none = seen.missing == u64::try_from(members.len()).unwrap();
    let mut measures = seen.measures(reference);
    for measure in &mut measures {
        if is_capped && (has_none || measure.method == Method::MissingRate) {
            let none = Err(Undefined::Capped);
            (measure.value, measure.effect) = (none, none);
            (measure.p_value, measure.judged_p) = (none, none);
        }
    }
    measures
}

fn labels(members: &[&Folded]) -> Seen {
    let mut seen = Seen::default();
    for walk in members.iter().map(|one| &one.walk) {
        seen.numbers.extend(walk.number);
        if let Some(class) = &walk.class {
            *seen.names.entry(class.clone()).or_default() += 1;
        }
    }
    seen
}

/// The rows of one key and window, whose states keep so many features.
fn expected(profile: &Profile, most: usize, members: &[&Folded]) -> Vec<Judged> {
    let measured =
        |kind, feature: &str, measures| Measured { kind, feature: feature.into(), measures };
    let mut all =
        vec![measured(Kind::Feature, "a", of_feature(&profile.features["a"], most, members))];
    let score = scores(members).map(|seen| seen.measures(profile.score.as_ref().unwrap()));
    all.extend(score.map(|measures| measured(Kind::Score, "", measures)));
    let prediction = predictions(members).measures(profile.prediction.as_ref().unwrap());
    let labelled = labels(members);
    let label = labelled.measures(profile.label.as_ref().unwrap()).into_iter();
    let label = label.filter(|measure| measure.method != Method::MissingRate).collect();
    all.extend([measured(Kind::Prediction, "", prediction), measured(Kind::Label, "", label)]);
    let mut judged = judge(all, &Options::default());
    if members.iter().all(|one| one.walk.matched == 0) {
        for row in judged.iter_mut().filter(|row| row.kind == Kind::Label) {
            row.measure.value = Err(Undefined::NoLabels);
            (row.verdict, row.reason) = (Verdict::InsufficientData, Some(Undefined::NoLabels));
        }
    }
    judged
}

fn compare(row: &Row, expected: &Judged) {
    let Judged { measure, limits, .. } = expected;
    assert_eq!(text(row, "feature"), *expected.feature, "{row:?}");
    assert_eq!(row["value"], Value::Figure(measure.value), "{row:?}");
    assert_eq!(row["bins"], Value::Count(measure.bins), "{row:?}");
    assert_eq!(row["n"], Value::Count(measure.n), "{row:?}");
    assert_eq!(row["reference_n"], Value::Count(measure.reference_n), "{row:?}");
    assert_eq!(text(row, "verdict"), expected.verdict.name(), "{row:?}");
    assert_eq!(text(row, "reason"), expected.reason.map_or("", Undefined::code), "{row:?}");
    let warn_at = limits.warn_at.ok_or(Undefined::NotApplicable);
    for (name, is) in
        [("warn_at", warn_at), ("drift_at", Ok(limits.drift_at)), ("alpha", Ok(limits.alpha))]
    {
        assert_eq!(row[name], Value::Figure(is), "{name} of {row:?}");
    }
    if measure.value.is_ok() {
        assert_eq!(row["effect"], Value::Figure(measure.effect), "{row:?}");
        assert_eq!(row["p_value"], Value::Figure(measure.p_value), "{row:?}");
        assert_eq!(row["p_adjusted"], Value::Figure(expected.p_adjusted), "{row:?}");
    }
}

/// The profile with a feature and scores: some of what comes lies on edges, and some beyond both ends. Cells are so few
/// that next to no number has one of them where it is counted without a reference.
fn with_inputs(profile: &Profile) -> Arc<Profile> {
    let feature = numbers(&[-2.5, 0.0, 0.5, 50.0], -60.0, 80.0, &[10, 30, 20, 30, 10]);
    let mut score = numbers(&[4250.0, 4660.0, 4865.0], 1.0, 5000.0, &[40, 30, 20, 10]);
    if let Values::Numeric(cells) = &mut score.values {
        cells.scale = Scale::Score;
    }
    assert_eq!([feature.check(), score.check()], [Ok(()), Ok(())]);
    let features = BTreeMap::from([(Arc::from("a"), Arc::new(feature))]);
    Arc::new(Profile { features, score: Some(score), ..profile.clone() })
}

/// What rows say that read no labels, and how many records they count.
fn of_inferences(rows: &[MetricRow]) -> BTreeSet<String> {
    let read_none = rows.iter().filter(|row| !row.table.row_reads_labels(&row.values));
    let said = read_none.map(|row| {
        let MetricRow { table, key, values, undefined, version, .. } = row;
        format!("{table:?} {key:?} {values:?} {undefined} {}", version.records())
    });
    said.collect()
}

fn references() -> impl Strategy<Value = Arc<Profile>> {
    let classes = || named(&[("1", 40), ("0", 30), ("yes", 20), ("true", 6), ("2.5", 4)]);
    let few = || named(&[("(negative)", 90), ("yes", 10)]);
    let real = || numbers(&[0.5, 1.0], 0.0, 2.0, &[60, 30, 10]);
    let all = [
        profile(Some(classes()), Some(classes())),
        profile(Some(few()), Some(real())),
        profile(Some(real()), Some(few())),
    ];
    prop::sample::select(all.map(|profile| with_inputs(&profile)).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_counts_each_input_prediction_and_winning_label_once(
        settings in settings(), both in partitions(), reference in references(),
    ) {
        let (mut logs, steps): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        if !settings.has_labels {
            for log in &mut logs {
                log.labels.clear();
            }
        }
        let mut engine = shard::settings(&settings);
        engine.models.push(ModelSettings::default());
        for model in &mut engine.models {
            model.reference = Some(Arc::clone(&reference));
        }
        let engine = Arc::new(engine);
        let written = drive::run_with(&engine, &logs, &steps);
        let rows = written.metric_rows(&settings, Some(&reference));
        let unlabelled: Vec<_> =
            logs.iter().map(|log| Partition { labels: Vec::new(), ..log.clone() }).collect();
        let unlabelled = drive::run_with(&engine, &unlabelled, &steps);
        let unlabelled = unlabelled.metric_rows(&settings, Some(&reference));
        prop_assert_eq!(of_inferences(&rows), of_inferences(&unlabelled));
        let mut found = BTreeMap::new();
        for row in rows {
            if row.table == MetricTable::Drift {
                let names = [&row.key.model, &row.key.version, &row.key.segment];
                let names = names.map(|name| String::from(&**name));
                let values = shown(&row.values);
                let own = [text(&values, "kind"), text(&values, "method")];
                found.insert((names, row.key.window.start.0, row.key.window.size().0, own), values);
            }
        }
        let (_, folded) = fold(&settings, &logs);
        for ((key, start, grain), members) in drive::groups(&settings, &folded) {
            for expected in expected(&reference, settings.most_features, &members) {
                let own = [expected.kind.name(), expected.measure.method.name()];
                let at = (key.clone(), start, grain, own.map(str::to_owned));
                let row = found.remove(&at);
                compare(&row.unwrap_or_else(|| panic!("no row {at:?}")), &expected);
            }
            let missing = ["label", "missing_rate"].map(str::to_owned);
            let row = found.remove(&(key, start, grain, missing)).unwrap();
            prop_assert_eq!(text(&row, "reason"), "not_applicable");
        }
        prop_assert!(found.is_empty(), "{:?}", found);
    }
}
