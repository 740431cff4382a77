//! What happens to each record of one partition: arrival, lateness, duplicates, matches, corrections, caps, accounts.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{
    Account, Body, Folded, Given, Inference, Label, ModelRule, OTHER, Partition, Record, Settings,
    Task, Walk, figures, rule_of,
};

/// A record with its arrival.
struct Arrived<'a> {
    record: &'a Record,
    arrival: i64,
}

/// Walks one topic partition: arrival of each record, and the clock at its end.
fn arrivals<'a>(settings: &Settings, log: &'a [Record]) -> (Vec<Arrived<'a>>, Option<i64>) {
    let mut greatest = BinaryHeap::new(); // of negated stamps: the top is the smallest of the k greatest
    let mut clock = None;
    let mut all = Vec::new();
    for record in log {
        let own = match &record.body {
            Body::Inference(inference) => Some(inference.time),
            Body::Label(label) => Some(label.time),
            Body::Dead => None,
        };
        let stamp = if settings.event_progress { own } else { Some(record.stamp) };
        if let Some(stamp) = stamp {
            greatest.push(-stamp);
            if greatest.len() > settings.clock_stamps {
                greatest.pop();
            }
            if greatest.len() == settings.clock_stamps {
                clock = greatest.peek().map(|negated| -negated);
            }
        }
        let stamp = stamp.unwrap_or(record.stamp);
        let arrival = clock.map_or(stamp, |now| now.max(stamp.min(now + settings.max_gap)));
        all.push(Arrived { record, arrival });
    }
    (all, clock)
}

/// Start of the tumbling window that holds a time.
pub(super) fn window_of(time: i64, size: i64) -> i64 {
    time.div_euclid(size) * size
}

/// Everything that happens in one partition.
pub(super) fn join(
    settings: &Settings,
    number: usize,
    logs: &Partition,
    folded: &mut Vec<Folded>,
) -> Account {
    let (inferences, inference_clock) = arrivals(settings, &logs.inferences);
    let (labels, label_clock) = arrivals(settings, &logs.labels);
    let mut account = Account { clocks: [inference_clock, label_clock], ..Account::default() };
    for (topic, log) in [&logs.inferences, &logs.labels].into_iter().enumerate() {
        account.positions[topic] = log.last().map_or(0, |record| record.offset + 1);
    }
    let needed = if settings.has_labels { vec![0, 1] } else { vec![0] };
    let slowest = needed.iter().map(|&topic| account.clocks[topic]).min().flatten();
    let reach = settings.label_wait + 2 * settings.lateness;
    // The greatest multiple E of the window with E + reach < clock.
    account.seal_mark = slowest.map(|clock| window_of(clock - 1 - reach, settings.window));

    let accepted = accept(settings, &inferences, &mut account);
    let walks = match_labels(settings, &accepted, &labels, inference_clock, &mut account);
    let keys = capped_keys(settings, &accepted);
    for ((one, walk), keys) in accepted.iter().zip(walks).zip(keys) {
        let Body::Inference(inference) = &one.record.body else { continue };
        let window = window_of(inference.time, settings.window);
        let sealed = account.seal_mark.is_some_and(|mark| window + settings.window <= mark);
        folded.push(fold(settings, number, one, inference, walk, window, sealed, keys));
    }
    account.tally = capped_tally(&account.tally, settings.caps[0]);
    account
}

/// Of each topic the accounts of the models whose names come first by XXH3-64 and of the nameless; the others' sum.
fn capped_tally(
    tally: &BTreeMap<(usize, String), [i64; 4]>,
    cap: usize,
) -> BTreeMap<(usize, String), [i64; 4]> {
    let mut shown: BTreeSet<(usize, &str)> = BTreeSet::new();
    for topic in 0..2 {
        let of_topic = tally.keys().filter(|(other, name)| *other == topic && !name.is_empty());
        let mut names: Vec<&str> = of_topic.map(|(_, name)| name.as_str()).collect();
        names.sort_by_key(|name| (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), *name));
        shown.extend(names.into_iter().take(cap).map(|name| (topic, name)));
    }
    let mut capped: BTreeMap<(usize, String), [i64; 4]> = BTreeMap::new();
    for ((topic, name), counts) in tally {
        let is_shown = name.is_empty() || shown.contains(&(*topic, name.as_str()));
        let name = if is_shown { name } else { OTHER };
        let sum = capped.entry((*topic, name.to_owned())).or_default();
        (0..4).for_each(|at| sum[at] += counts[at]);
    }
    capped
}

/// Late, in the future, duplicate or accepted.
fn accept<'a, 'b>(
    settings: &Settings,
    inferences: &'b [Arrived<'a>],
    account: &mut Account,
) -> Vec<&'b Arrived<'a>> {
    let mut horizons: BTreeMap<[&str; 3], Vec<i64>> = BTreeMap::new();
    let mut accepted = Vec::new();
    for one in inferences {
        let Body::Inference(inference) = &one.record.body else {
            account.tally.entry((0, String::new())).or_default()[3] += 1;
            continue;
        };
        let counts = account.tally.entry((0, inference.model.clone())).or_default();
        if one.arrival - inference.time > settings.lateness {
            counts[2] += 1;
            continue;
        }
        if inference.time > one.arrival + settings.max_future {
            counts[3] += 1;
            continue;
        }
        let identity = [&*inference.id, &*inference.model, &*inference.version];
        let earlier = horizons.entry(identity).or_default();
        if earlier.iter().any(|&horizon| one.arrival <= horizon) {
            counts[1] += 1;
        } else {
            counts[0] += 1;
            accepted.push(one);
        }
        let end = window_of(inference.time, settings.window) + settings.window;
        earlier.push(end + settings.label_wait + 2 * settings.lateness);
    }
    accepted
}

/// The walk of each accepted inference, and the outcome of each label.
fn match_labels(
    settings: &Settings,
    accepted: &[&Arrived<'_>],
    labels: &[Arrived<'_>],
    inference_clock: Option<i64>,
    account: &mut Account,
) -> Vec<Walk> {
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, one) in accepted.iter().enumerate() {
        if let Body::Inference(inference) = &one.record.body {
            by_id.entry(&inference.id).or_default().push(at);
        }
    }
    let mut walks = vec![Walk::default(); accepted.len()];
    let mut winners: Vec<Option<&Arrived<'_>>> = vec![None; accepted.len()];
    for one in labels {
        let Body::Label(label) = &one.record.body else {
            account.tally.entry((1, String::new())).or_default()[3] += 1;
            continue;
        };
        let mut first_model = None; // accepted is in offset order
        for &at in by_id.get(&*label.id).map_or(&[][..], |all| all) {
            let Body::Inference(inference) = &accepted[at].record.body else { continue };
            let delay = one.arrival - inference.time;
            let fits = label.model.as_ref().is_none_or(|model| *model == inference.model);
            if fits && -settings.lateness <= delay && delay <= settings.label_wait {
                first_model.get_or_insert(&inference.model);
                let rule = rule_of(settings, &inference.model);
                step(&mut walks[at], &mut winners[at], one, label, delay, &rule);
            }
        }
        let is_over = inference_clock.is_some_and(|now| now > one.arrival + 2 * settings.lateness);
        let model = label.model.as_ref().or(first_model).cloned().unwrap_or_default();
        let outcome = if first_model.is_some() { 0 } else { 1 + usize::from(is_over) };
        account.tally.entry((1, model)).or_default()[outcome] += 1;
    }
    walks
}

/// One more matching label.
fn step<'a>(
    walk: &mut Walk,
    winner: &mut Option<&'a Arrived<'a>>,
    one: &'a Arrived<'a>,
    label: &'a Label,
    delay: i64,
    rule: &ModelRule,
) {
    walk.matched += 1;
    walk.labels.push(one.record.offset);
    let said = |label: &Label| (label.value.normal(), (label.weight * 1_048_576.0).round());
    if let Some(Arrived { record: Record { offset, body: Body::Label(best), .. }, .. }) = *winner {
        let wins = (label.time, one.record.offset) > (best.time, *offset);
        let differs = said(label) != said(best);
        if wins && differs {
            walk.corrections += 1;
        } else {
            walk.duplicates += 1;
            walk.conflicts += u64::from(differs);
        }
        if !wins {
            return;
        }
    } else {
        walk.delay = Some(u64::try_from(delay.max(0)).unwrap());
    }
    *winner = Some(one);
    walk.weight = (label.weight * 1_048_576.0).round() / 1_048_576.0;
    walk.positive = Some(is_positive(rule, &label.value));
    walk.number = number_of(&label.value);
    walk.class = Some(label.value.class());
    walk.winners.push(label.value.class());
}

fn number_of(value: &Given) -> Option<f64> {
    match value.normal() {
        Given::Number(number) => Some(number),
        Given::Text(text) => text.parse().ok().filter(|number: &f64| number.abs() <= 1e150),
        Given::Boolean(_) => None,
    }
}

fn is_positive(rule: &ModelRule, value: &Given) -> bool {
    rule.positive.iter().any(|positive| positive.normal() == value.normal())
}

/// The capped model, version and segments of each accepted inference, in offset order.
fn capped_keys(settings: &Settings, accepted: &[&Arrived<'_>]) -> Vec<Vec<[String; 3]>> {
    /// The name, or `(other)` once the set is full.
    fn held(set: &mut BTreeSet<String>, cap: usize, name: &str) -> String {
        if set.contains(name) || set.len() < cap {
            set.insert(name.to_owned());
            name.to_owned()
        } else {
            OTHER.to_owned()
        }
    }
    let mut models: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    let mut versions: BTreeMap<(i64, String), BTreeSet<String>> = BTreeMap::new();
    let mut segments: BTreeMap<(i64, String, String, String), BTreeSet<String>> = BTreeMap::new();
    let mut all = Vec::new();
    for one in accepted {
        let Body::Inference(inference) = &one.record.body else { continue };
        let window = window_of(inference.time, settings.window);
        let model = held(models.entry(window).or_default(), settings.caps[0], &inference.model);
        let version = if model == OTHER {
            String::new()
        } else {
            let known = versions.entry((window, model.clone())).or_default();
            held(known, settings.caps[1], &inference.version)
        };
        let mut keys = vec![[model.clone(), version.clone(), "all".to_owned()]];
        for dimension in rule_of(settings, &inference.model).dimensions {
            for (_, value) in inference.segments.iter().filter(|(name, _)| *name == dimension) {
                let group = (window, model.clone(), version.clone(), dimension.clone());
                let value = held(segments.entry(group).or_default(), settings.caps[2], value);
                keys.push([model.clone(), version.clone(), format!("{dimension}={value}")]);
            }
        }
        all.push(keys);
    }
    all
}

#[expect(clippy::too_many_arguments, reason = "one record and all that is known about it")]
fn fold(
    settings: &Settings,
    partition: usize,
    one: &Arrived<'_>,
    inference: &Inference,
    walk: Walk,
    window: i64,
    sealed: bool,
    keys: Vec<[String; 3]>,
) -> Folded {
    let rule = rule_of(settings, &inference.model);
    let shape = match inference.prediction.as_ref().map(Given::normal) {
        _ if !inference.scores.is_empty() => Some(Task::Multiclass),
        _ if inference.score.is_some() => Some(Task::Binary),
        Some(Given::Boolean(_)) => Some(Task::Binary),
        Some(Given::Text(_)) => Some(Task::Multiclass),
        Some(Given::Number(_)) => Some(Task::Regression),
        None => None,
    };
    let binary = rule.task.or(shape) == Some(Task::Binary);
    let regression = rule.task.or(shape) == Some(Task::Regression);
    let multiclass = rule.task.or(shape) == Some(Task::Multiclass);
    // Of equal scores the later class is before the earlier.
    let greatest =
        inference.scores.iter().max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let class = inference.prediction.as_ref().map(Given::class);
    let class = class.or(greatest.map(|(class, _)| class.clone()));
    let own = inference.prediction.as_ref().map(|value| is_positive(&rule, value));
    let own = own.filter(|_| binary);
    let by_score = inference.score.filter(|_| binary).map(|score| score >= rule.threshold);
    let decided = |positive| decided(&rule, positive);
    let by_scores = match rule.task.or(shape) {
        Some(Task::Binary) => by_score.map(decided),
        Some(Task::Multiclass) => greatest.map(|(class, _)| Given::Text(class.clone())),
        Some(Task::Regression) | None => None,
    };
    Folded {
        window,
        partition,
        offset: one.record.offset,
        sealed,
        time: inference.time,
        freshness: u64::try_from((one.arrival - inference.time).max(0)).unwrap(),
        latency_us: inference.latency_ms.map(figures::whole_us),
        failed: inference.failed,
        binary,
        score: inference.score.filter(|_| binary),
        decision: own.or(by_score),
        off_threshold: own.is_some() && by_score.is_some() && own != by_score,
        regression,
        number: inference.prediction.as_ref().and_then(number_of).filter(|_| regression),
        multiclass,
        class: class.filter(|_| multiclass),
        scores: inference.scores.clone(),
        said: inference.prediction.as_ref().map(Given::normal).or(by_scores),
        walk,
        keys,
        features: inference.features.clone(),
    }
}

/// What a decision counts as among predictions: the first positive class, or its opposite.
fn decided(rule: &ModelRule, positive: bool) -> Given {
    match (rule.positive[0].normal(), positive) {
        (class, true) => class,
        (Given::Number(number), false) => Given::Number(if number == 0.0 { 1.0 } else { 0.0 }),
        (Given::Boolean(truth), false) => Given::Boolean(!truth),
        (Given::Text(_), false) => Given::Text("(negative)".to_owned()),
    }
}
