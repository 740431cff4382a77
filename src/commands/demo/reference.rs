//! What the demo's windows are compared with: the same traffic on a day when all was well.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commands::Failure;
use crate::config::Settings;
use crate::decode::Decoder;
use crate::engine::event::{Event, FeatureValue, Inference, RequestId, Stream, Target};
use crate::engine::metrics::reference::Profile;
use crate::engine::names::Names;
use crate::profile::ProfileBuilder;
use crate::profile::builder::{Options, Record};
use crate::profile::target::{Predictions, value_of};
use crate::traffic::encode::Encoding;
use crate::traffic::{FALLING, HEALTHY, Produced, SLOW, Shares, Traffic, TrafficSettings};

/// Inferences of all models; three models share them.
const INFERENCES: u64 = 9_000;
/// Another day's traffic.
const OTHER_DAY: u64 = 0x5eed;

/// Gives each model of the settings the profile of its own traffic, nothing wrong with it and every inference labelled.
pub(super) fn add(settings: &mut Settings, traffic: &TrafficSettings) -> Result<(), Failure> {
    let day = TrafficSettings {
        seed: traffic.seed ^ OTHER_DAY,
        falls_after_ms: i64::MAX / 2,
        shares: Shares::NONE,
        ..traffic.clone()
    };
    let records = records(&mut Traffic::new(day, Encoding::Json));
    for model in [HEALTHY, FALLING, SLOW] {
        let profile = Arc::new(profile(settings, model, &records)?);
        for of_model in settings.shard.models.iter_mut().filter(|it| it.pattern == model) {
            of_model.reference = Some(Arc::clone(&profile));
        }
    }
    Ok(())
}

fn records(traffic: &mut Traffic) -> Vec<Produced> {
    let next = || {
        let more = traffic.inferences() < INFERENCES;
        traffic.due_ms(more)?;
        traffic.produce(more)
    };
    std::iter::from_fn(next).collect()
}

/// The profile of one model's records.
fn profile(settings: &Settings, model: &str, records: &[Produced]) -> Result<Profile, Failure> {
    let mut names = Names::default();
    let labels = labels(settings, records, &mut names)?;
    let mut builder = ProfileBuilder::new(Options::new(&format!("{model}-demo")))?;
    let predictions = Predictions::of(&settings.shard.model(model));
    let mut decoder = decoder(settings, Stream::Inferences)?;
    let payloads = records.iter().filter(|record| record.stream == Stream::Inferences);
    for payload in payloads.filter_map(|record| record.payload.as_deref()) {
        let Event::Inference(inference) = decoded(&mut decoder, payload, &mut names) else {
            unreachable!("the decoder is one of inferences")
        };
        if **names.text(inference.model.0) == *model {
            let label = labels.get(&inference.id).copied();
            let prediction = predictions.value(&inference, &names);
            add_to(&mut builder, &inference, prediction, label, &names)?;
        }
    }
    Ok(builder.finish()?.profile)
}

/// The label of each request.
fn labels(
    settings: &Settings,
    records: &[Produced],
    names: &mut Names,
) -> Result<BTreeMap<RequestId, Target>, Failure> {
    let mut labels = BTreeMap::new();
    let mut decoder = decoder(settings, Stream::Labels)?;
    let payloads = records.iter().filter(|record| record.stream == Stream::Labels);
    for payload in payloads.filter_map(|record| record.payload.as_deref()) {
        if let Event::Label(label) = decoded(&mut decoder, payload, names) {
            labels.insert(label.id, label.value);
        }
    }
    Ok(labels)
}

fn add_to(
    builder: &mut ProfileBuilder,
    inference: &Inference<'_>,
    prediction: FeatureValue<'_>,
    label: Option<Target>,
    names: &Names,
) -> Result<(), Failure> {
    let features: Vec<_> = inference
        .features
        .iter()
        .map(|feature| (&**names.text(feature.name.0), feature.value))
        .collect();
    builder.add(&Record {
        id: inference.id,
        features: &features,
        score: inference.score,
        scores: &[],
        prediction,
        label: value_of(label.unwrap_or(Target::Absent), None, names),
        positive: label.map(|label| label == Target::Number(1.0)),
    })?;
    Ok(())
}

fn decoder(settings: &Settings, stream: Stream) -> Result<Decoder, Failure> {
    let of = settings.decoders()[stream.index()].clone().expect("the demo reads both topics");
    Ok(Decoder::new(&of, settings.schemas()?)?)
}

fn decoded<'a>(decoder: &'a mut Decoder, payload: &'a [u8], names: &mut Names) -> Event<'a> {
    let event = decoder.decode(Some(payload), names);
    event.expect("JSON needs no schema, and nothing is wrong with this traffic")
}
