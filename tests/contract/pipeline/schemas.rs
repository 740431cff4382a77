//! Schemas that are registered or deleted while their records may still be read again.

use super::audit::settle;
use super::*;
use crate::decode::write_datum;
use crate::memory::Tables;
use apache_avro::Schema;
use apache_avro::types::Value;
use tidegauge::decode::SchemaId;
use tidegauge::decode::registry::{RegistrySettings, WriterSchema};
use tidegauge::engine::dead_schemas::{DeadSchemas, Offsets};
use tidegauge::engine::outcome::Tally;
use tidegauge::pipeline::worker::{FromWorker, Known, ToWorker, Worker};

/// In the registry all the time.
const OLD: SchemaId = SchemaId(1);
/// Registered or deleted.
const NEW: SchemaId = SchemaId(2);
/// What both say.
const TEXT: &str = r#"{"type":"record","name":"I","fields":[{"name":"request_id","type":"string"},
    {"name":"model","type":"string"},{"name":"timestamp","type":"long"},{"name":"score","type":"double"}]}"#;
/// Inferences, one each 700 ms: 210 s, of which a replay needs the last minute or two.
const STEPS: i32 = 300;

/// A registry that has these.
fn registry(schemas: &[SchemaId]) -> Arc<Schemas> {
    let registry = Arc::new(Schemas::none());
    for &schema in schemas {
        register(&registry, schema);
    }
    registry
}

fn register(registry: &Schemas, schema: SchemaId) {
    registry.remember(schema, WriterSchema::parse(TEXT, &[]).unwrap());
}

/// Inferences in Avro.
fn in_avro(registry: &Arc<Schemas>) -> PipelineSettings {
    let mut settings = PipelineSettings { schemas: Arc::clone(registry), ..settings(1) };
    settings.decoders[0].as_mut().unwrap().format = Format::AvroRegistry;
    settings
}

fn inference(schema: SchemaId, id: &str, time: i64, score: f64) -> Vec<u8> {
    let fields = [
        ("request_id", Value::String(id.to_owned())),
        ("model", Value::String("m".to_owned())),
        ("timestamp", Value::Long(time)),
        ("score", Value::Double(score)),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let datum = write_datum(&Schema::parse_str(TEXT).unwrap(), Value::Record(fields));
    [&[0], &schema.0.to_be_bytes()[..], &datum[..]].concat()
}

/// Each fifth inference from step `since` on is of the new schema; all have a label.
fn log(since: i32) -> Log {
    let (mut log, mut random) = (Log::new(), Random(3));
    let mut labels = Vec::new();
    for step in 0..STEPS {
        let time = START + i64::from(step) * 700;
        let (id, is_new) = (format!("r{step}"), step >= since && step % 5 == 2);
        let score = f64::from(step % 10) / 10.0;
        let payload = inference(if is_new { NEW } else { OLD }, &id, time, score);
        add(&mut log, Stream::Inferences, 0, time, payload);
        let at = time + i64::try_from(random.below(19_000)).unwrap();
        let value = random.below(2);
        labels.push((at, format!(r#"{{"request_id":"{id}","timestamp":{at},"label":{value}}}"#)));
    }
    labels.sort();
    for (at, label) in labels {
        add(&mut log, Stream::Labels, 0, at, label);
    }
    let end = START + i64::from(STEPS) * 700 + 30_000;
    for i in 0..2 {
        let (id, none) = (format!("end{i}"), format!("none{i}"));
        add(&mut log, Stream::Inferences, 0, end, inference(OLD, &id, end, 0.5));
        let label = format!(r#"{{"request_id":"{none}","timestamp":{end},"label":1}}"#);
        add(&mut log, Stream::Labels, 0, end, label);
    }
    log
}

/// What one process writes that reads the log without a break. The new schema is registered after so many sixths.
fn unbroken(log: &Log, sixths: usize) -> Memory {
    let (memory, schemas) = (Memory::new(), registry(&[OLD]));
    let first = part(log, sixths);
    block_on(async {
        let growing = shared(&first);
        let mut running = start(in_avro(&schemas), &growing, &[&[0]], false, &memory);
        running.until("the first part is marked", || written(&memory) == ends(&first)).await;
        register(&schemas, NEW);
        *growing.lock().unwrap() = log.clone();
        running.until("all is marked", || written(&memory) == ends(log)).await;
        running.stop().await.unwrap();
    });
    memory
}

/// Reads a log to its end in a process of its own.
async fn read(registry: &Arc<Schemas>, log: &Log, memory: &Memory) {
    start(in_avro(registry), &shared(log), &[&[0]], true, memory).end().await.unwrap();
}

fn accounts(tables: &Tables) -> Vec<(Positions, Tally)> {
    tables.marks.values().map(|mark| (mark.positions, mark.tally.clone())).collect()
}

fn letters(tables: &Tables) -> Vec<(Offset, &'static str)> {
    tables.letters.iter().map(|letter| (letter.record.offset, letter.code)).collect()
}

/// Rows, accounts and dead letters.
fn assert_same(memory: &Memory, expected: &Memory) {
    let (tables, expected) = (memory.lock(), expected.lock());
    assert_eq!(tables.states, expected.states);
    assert_eq!(tables.metrics, expected.metrics);
    assert_eq!(tables.seals, expected.seals);
    assert_eq!(accounts(&tables), accounts(&expected));
    assert_eq!(letters(&tables), letters(&expected));
}

#[test]
fn a_schema_that_is_registered_later_changes_nothing_of_what_was_dead() {
    let log = log(0);
    let expected = unbroken(&log, 3);
    let dead = expected.lock().letters.len();
    assert!(dead > 20, "{dead} dead letters");
    let memory = Memory::new();
    block_on(async {
        read(&registry(&[OLD]), &part(&log, 3), &memory).await;
        // Each of them replays what is not sealed.
        for sixths in [3, 4, 6, 6] {
            read(&registry(&[OLD, NEW]), &part(&log, sixths), &memory).await;
        }
    });
    assert_same(&memory, &expected);
}

/// It may be registered by now, and would change nothing: those that good records need are not to wait for it.
#[test]
fn a_replay_asks_for_no_schema_that_was_dead() {
    let log = part(&log(0), 3);
    let (memory, expected) = (Memory::new(), Memory::new());
    // Nobody serves it, so that what is asked for is there at the end.
    let asking = RegistrySettings::new("http://127.0.0.1:9");
    let asking = Arc::new(Schemas::new(asking).unwrap());
    register(&asking, OLD);
    block_on(async {
        read(&registry(&[OLD]), &log, &expected).await;
        read(&registry(&[OLD]), &log, &memory).await;
        read(&asking, &log, &memory).await;
    });
    assert!(memory.lock().letters.len() > 20);
    assert!(asking.waiting().is_empty(), "{:?}", asking.waiting());
    assert_same(&memory, &expected);
}

#[test]
fn a_schema_that_is_deleted_later_is_waited_for_and_no_row_changes() {
    let log = log(0);
    let (memory, expected) = (Memory::new(), Memory::new());
    block_on(async {
        let both = registry(&[OLD, NEW]);
        read(&both, &log, &expected).await;
        read(&both, &part(&log, 3), &memory).await;
        let before = memory.lock().clone();
        let deleted = registry(&[OLD]);
        let mut running = start(in_avro(&deleted), &shared(&log), &[&[0]], true, &memory);
        let telemetry = running.telemetry.clone();
        let waits = || {
            telemetry.reasons().iter().any(|(cause, why)| {
                let is_it = why.contains("no schema 2") && why.ends_with("under the same id");
                *cause == Cause::SchemaRegistry && is_it
            })
        };
        running.until("it waits", waits).await;
        let tables = memory.lock().clone();
        assert_eq!((tables.marks, tables.states), (before.marks, before.states));
        register(&deleted, NEW);
        running.end().await.unwrap();
        assert!(telemetry.reasons().is_empty(), "{:?}", telemetry.reasons());
    });
    assert!(memory.lock().letters.is_empty());
    assert_same(&memory, &expected);
}

/// Of what an earlier version has counted, nobody knows what became of which schema.
#[test]
fn a_mark_of_an_earlier_version_leaves_schemas_to_the_registry() {
    let first = part(&log(0), 3);
    let memory = Memory::new();
    let noted = || {
        let schemas = memory.lock().marks[&PartitionId(0)].dead_schemas[0].clone();
        schemas.runs().map(|(schema, _)| schema).collect::<Vec<_>>()
    };
    block_on(async {
        read(&registry(&[OLD, NEW]), &first, &memory).await;
        assert!(noted().is_empty());
        let unknown = || DeadSchemas::restore([(None, Offsets { first: 0, last: i64::MAX })]);
        for mark in memory.lock().marks.values_mut() {
            mark.dead_schemas = [unknown(), unknown()];
        }
        // It does not wait; what its memory is made of is noted from now on.
        read(&registry(&[OLD]), &first, &memory).await;
        assert_eq!(noted(), [Some(NEW)]);
    });
    assert!(memory.lock().letters.is_empty());
}

#[test]
fn who_gets_a_partition_back_judges_schemas_as_its_owner_in_between_has() {
    // The new schema comes before the partition goes elsewhere, and only while it is there.
    for since in [0, STEPS * 2 / 5] {
        let log = log(since);
        let (memory, schemas) = (Memory::new(), registry(&[OLD]));
        let reread = block_on(async {
            let growing = shared(&part(&log, 2));
            let mut one = start(in_avro(&schemas), &growing, &[&[0]], false, &memory);
            let mut two = start(in_avro(&registry(&[OLD])), &growing, &[&[]], false, &memory);
            one.until("the beginning", || written(&memory) == ends(&part(&log, 2))).await;
            give_up(&mut one).await;
            *growing.lock().unwrap() = part(&log, 3);
            let assign = || Control::Assign(vec![PartitionId(0)]);
            two.controls[0].lock().unwrap().push_back(assign());
            two.until("the other owner", || written(&memory) == ends(&part(&log, 3))).await;
            give_up(&mut two).await;
            register(&schemas, NEW);
            *growing.lock().unwrap() = log.clone();
            one.controls[0].lock().unwrap().push_back(assign());
            one.until("all is marked", || written(&memory) == ends(&log)).await;
            let meters = one.telemetry.encode();
            one.stop().await.unwrap();
            two.stop().await.unwrap();
            let reread = r#"tidegauge_reread_records_total{topic="inferences"} "#;
            meters.lines().find_map(|line| line.strip_prefix(reread).map(str::to_owned)).unwrap()
        });
        assert_same(&memory, &unbroken(&log, 3));
        assert!(!memory.lock().letters.is_empty());
        assert!(since == 0 || reread == "0", "it went on from where it stood: {reread}");
    }
}

/// What a worker has frozen of its partition, before the group took it away and after it came back with that mark,
/// changed. Meanwhile the new schema was registered.
fn back(change: impl FnOnce(&mut Mark)) -> [Frozen; 2] {
    let player = Player::new(&shared(&log(0)), &[0], true);
    let control = Arc::clone(&player.control);
    let (schemas, telemetry, all) = (registry(&[OLD]), Telemetry::new(), Arc::default());
    let settings = Arc::new(in_avro(&schemas));
    let mut worker = Worker::new(0, player, settings, all, telemetry).unwrap();
    let mut read = |known: &Known| {
        settle(&mut worker, &control, known);
        for _ in 0..200 {
            worker.step(Duration::ZERO, Duration::ZERO).unwrap();
        }
        worker.receive(ToWorker::Freeze { flush: 1 }).unwrap();
        let frozen = worker.outbox().drain(..).find_map(|message| match message {
            FromWorker::Frozen { mut frozen, .. } => frozen.pop(),
            _ => None,
        });
        let frozen = frozen.expect("all is read");
        let marks = vec![frozen.mark.clone()];
        worker.receive(ToWorker::Clean { flush: 1, marks }).unwrap();
        frozen
    };
    let first = read(&Known::default());
    let mut mark = first.mark.clone();
    change(&mut mark);
    register(&schemas, NEW);
    let partitions = vec![PartitionId(0)];
    control.lock().unwrap().push_back(Control::Lose(partitions.clone()));
    control.lock().unwrap().push_back(Control::Assign(partitions));
    let second = read(&Known { marks: vec![mark], gone_back: Vec::new() });
    [first, second]
}

#[test]
fn a_shard_that_was_kept_is_rebuilt_where_another_owner_has_judged_otherwise() {
    let [first, kept] = back(|_| ());
    assert_eq!(kept.began, first.began);
    assert_eq!(
        (&kept.mark.tally, &kept.mark.positions),
        (&first.mark.tally, &first.mark.positions)
    );
    assert!(first.mark.dead_schemas[0].runs().count() > 0);
    let [first, rebuilt] = back(|mark| mark.dead_schemas[0] = DeadSchemas::default());
    assert_ne!(rebuilt.began, first.began);
    assert_eq!(rebuilt.began.positions, first.mark.positions);
    assert_eq!(rebuilt.mark.dead_schemas[0], DeadSchemas::default());
}
