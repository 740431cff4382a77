//! The configuration: what is accepted, and what a person is told who got it wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tidegauge::config::options::OPTIONS;
use tidegauge::config::{ConfigError, Environment, Settings};
use tidegauge::engine::Positive;
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::method::{Limits, Method, Options as DriftOptions};
use tidegauge::engine::metrics::reference::{FeatureKind, Profile};
use tidegauge::engine::time::Millis;
use tidegauge::pipeline::DeadLetterLimit;
use tidegauge::profile::builder::{Options, Record};
use tidegauge::profile::{ProfileBuilder, write};
use tidegauge::sink::clickhouse;

/// What every configuration of a job has.
pub(crate) const SMALLEST: &str = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n";

pub(crate) fn parse(text: &str) -> Result<Settings, ConfigError> {
    parse_with(text, &[])
}

pub(crate) fn parse_with(
    text: &str,
    environment: &[(&str, &str)],
) -> Result<Settings, ConfigError> {
    let environment: Environment = environment.iter().copied().collect();
    Settings::parse("t.toml", text, &environment)
}

/// The code and the message of what must be refused.
pub(crate) fn refused(text: &str) -> (&'static str, String) {
    let error = parse(text).expect_err(text);
    (error.code(), error.to_string())
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/tidegauge.toml");
    fs::read_to_string(path).unwrap()
}

#[test]
fn two_topics_are_enough() {
    let settings = parse(SMALLEST).unwrap();
    assert_eq!(settings.shard.window, Millis(300_000));
    assert_eq!(settings.shard.limits.lateness, Millis(600_000));
    assert_eq!(settings.shard.limits.label_wait, Millis(3_600_000));
    assert_eq!(settings.shard.limits.max_future, Millis(300_000));
    assert_eq!(settings.shard.limits.max_gap, Millis(7 * 86_400_000));
    assert_eq!(settings.shard.clock_stamps, 8);
    assert_eq!(settings.grains, [Millis(3_600_000), Millis(86_400_000)]);
    assert!(settings.workers >= 1);
    assert!(settings.shard.has_labels);
    assert!(!parse("[inferences]\ntopic = \"i\"\n").unwrap().shard.has_labels);
}

#[test]
fn the_pipeline_and_the_topic_of_dead_letters_go_by_the_options() {
    let options = "job = \"j\"\nclickhouse.flush_interval = \"2s\"\n\
                   dead_letters = { topic = \"d\", limit = 0.25, limit_after = 7 }\n";
    let settings = parse(&format!("{options}{SMALLEST}")).unwrap();
    let pipeline = settings.pipeline(3).unwrap();
    assert_eq!((&*pipeline.job, pipeline.partitions), ("j", 3));
    assert_eq!(pipeline.flush_interval, Duration::from_secs(2));
    assert_eq!(pipeline.dead_letter_limit, DeadLetterLimit { share: 0.25, at_least: 7 });
    assert!(pipeline.decoders.iter().all(Option::is_some));
    let letters = settings.kafka_of_letters();
    assert_eq!((&*letters.group, &*letters.inferences, letters.labels), ("j", "d", None));
}

#[test]
fn the_example_names_every_option_and_its_default() {
    let text = example();
    // What is commented out is an option without a default: it must parse as well.
    let whole: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let set: &[_] = &[
        ("CLICKHOUSE_PASSWORD", "a"),
        ("REGISTRY_PASSWORD", "b"),
        ("ALERT_URL", "https://alerts.example/"),
        ("ALERT_SECRET", "c"),
        ("SMTP_URL", "smtps://mail.example/"),
    ];
    parse_with(&whole, set).unwrap();
    let without = parse_with(&text, &[]).unwrap();
    let document: toml::Table = toml::from_str(&whole).unwrap();
    let documented: toml::Table = toml::from_str(&text).unwrap();
    for option in OPTIONS {
        let at = |table: &toml::Table| {
            let mut value = toml::Value::Table(table.clone());
            for key in option.key.split('.') {
                value = match &value {
                    // Of a list the sections together have all keys.
                    toml::Value::Array(list) if key == "*" => {
                        let sections = list.iter().rev().filter_map(toml::Value::as_table);
                        toml::Value::Table(sections.flat_map(Clone::clone).collect())
                    }
                    _ => value.get(if key == "*" { "fraud-*" } else { key })?.clone(),
                };
            }
            Some(value)
        };
        assert!(at(&document).is_some(), "{} is not in deploy/tidegauge.toml", option.key);
        if !option.default.is_empty() {
            // There is no metric, rule or target by default.
            let of_list =
                ["metrics.", "alerts.", "notify."].iter().any(|list| option.key.starts_with(list));
            let shown = if of_list { &document } else { &documented };
            let shown = at(shown).unwrap_or_else(|| panic!("{} has a default", option.key));
            let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
            let squeezed = |text: &str| text.replace(' ', "");
            assert_eq!(squeezed(&shown), squeezed(option.default), "{}", option.key);
        }
    }
    assert_eq!(without.clickhouse.password, None);
}

/// Of a thousand records with a feature that has so many values.
fn profile_of(values: u32) -> Profile {
    let mut builder = ProfileBuilder::new(Options::new("r")).unwrap();
    for n in 0..1000_u32 {
        let features = [("amount", FeatureValue::Number(f64::from(n % values)))];
        builder
            .add(&Record {
                id: RequestId::of(&n.to_le_bytes()),
                features: &features,
                score: None,
                scores: &[],
                prediction: FeatureValue::Missing,
                label: FeatureValue::Missing,
                positive: None,
            })
            .unwrap();
    }
    builder.finish().unwrap().profile
}

#[test]
fn a_reference_is_read_from_its_file_and_decides_what_rows_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    let with = |path: &std::path::Path| {
        format!("{SMALLEST}[models.m]\nreference = \"{}\"\n", path.display())
    };
    let (code, message) = refused(&with(&path));
    assert_eq!(code, "config_invalid_value");
    assert!(message.contains("tidegauge profile"), "{message}");
    // The profile's own code, whose remedy is about profiles.
    for (text, expected) in [("{}", "profile_format_unknown"), ("{", "profile_not_json")] {
        std::fs::write(&path, text).unwrap();
        let (code, message) = refused(&with(&path));
        assert_eq!(code, expected);
        assert!(
            message.starts_with("t.toml:6: `models.m.reference` names the profile "),
            "{message}"
        );
    }

    let profile = profile_of(90);
    std::fs::write(&path, write(&profile)).unwrap();
    let settings = parse(&with(&path)).unwrap();
    assert_eq!(settings.shard.model("m").reference.as_deref(), Some(&profile));
    assert_eq!(settings.shard.model("n").reference, None);
    let without = parse(&format!("{SMALLEST}[models.m]\nreference = \"\"\n")).unwrap();
    let nothing = parse(&format!("{SMALLEST}[models.m]\nthreshold = 0.5\n")).unwrap();
    assert_eq!(without.digest(), nothing.digest());
    assert_ne!(settings.digest(), nothing.digest());
    // The same name, and other values.
    std::fs::write(&path, write(&profile_of(80))).unwrap();
    let other = parse(&with(&path)).unwrap();
    assert!(![&settings, &nothing].iter().any(|known| known.digest() == other.digest()));
}

#[test]
fn unknown_keys_name_the_closest_one_and_the_line() {
    let (code, message) = refused(&format!("{SMALLEST}[kafka]\nbrokrs = \"x\"\n"));
    assert_eq!(code, "config_unknown_key");
    assert_eq!(message, "t.toml:6: unknown key `kafka.brokrs`; did you mean `kafka.brokers`?");
    let (code, message) = refused(&format!("{SMALLEST}[models.\"a.b*\"]\ntreshold = 0.5\n"));
    assert_eq!(code, "config_unknown_key");
    let said = "unknown key `models.\"a.b*\".treshold`; did you mean `models.\"a.b*\".threshold`?";
    assert!(message.ends_with(said), "{message}");
    let (code, message) = refused(&format!("{SMALLEST}[models.fraud-*]\nthreshold = 0.5\n"));
    assert_eq!(code, "config_syntax");
    assert!(message.starts_with("t.toml:5: not TOML: "), "{message}");
    assert!(message.ends_with("put quotes around it, like [models.\"fraud-*\"]"), "{message}");
}

#[test]
fn wrong_types_name_key_line_and_what_is_expected() {
    let (code, message) = refused(&format!("{SMALLEST}[windows]\nsize = 300\n"));
    assert_eq!(code, "config_wrong_type");
    assert!(message.starts_with("t.toml:6: `windows.size` must be a duration, like"), "{message}");
    assert!(message.ends_with("not 300"), "{message}");
    let (code, message) = refused(&format!("kafka = 5\n{SMALLEST}"));
    assert_eq!(code, "config_wrong_type");
    assert!(message.contains("t.toml:1: `kafka` must be a section"), "{message}");
    let (code, message) = refused(&format!("alerts = {{}}\n{SMALLEST}"));
    assert_eq!(code, "config_wrong_type");
    assert!(message.contains("t.toml:1: `alerts` must be a list of sections"), "{message}");
    let (_, message) = refused(&format!("{SMALLEST}[clickhouse]\npassword = 424242\n"));
    assert!(!message.contains("424242"), "{message}");
}

#[test]
fn values_that_can_not_be_say_what_could() {
    for (line, part) in [
        ("[windows]\nsize = \"7m\"", "divide a day"),
        ("[windows]\nsize = \"0s\"", "must be 1ms"),
        ("[windows]\nsize = \"five\"", "a duration"),
        ("[windows]\nsize = \"50d\"", "1ms to 49d"),
        ("[windows]\nsize = \"1h\"\ngrains = [\"90m\"]", "windows.size (1h)"),
        ("[windows]\ngrains = [\"1h\", \"7h\"]", "divide a day"),
        ("[windows]\nprogress = \"wall\"", "\"log\" or \"event\""),
        ("[windows]\nclock_stamps = 0", "1 to 64"),
        ("[http]\nlisten = \"9464\"", "127.0.0.1:9464"),
        ("[clickhouse]\nurl = \"localhost:8123\"", "http://"),
        ("[clickhouse]\ndatabase = \"a-b\"", "a to z"),
        ("[clickhouse]\ndatabase = \"Metrics\"", "a to z"),
        ("[clickhouse]\ndatabase = \"1a\"", "begin with a letter"),
        ("[state]\nbudget = \"4 gigs\"", "4GiB"),
        ("[models.m]\nthreshold = 2", "0 to 1"),
        ("[models.m]\ntask = \"ranking\"", "\"multiclass\""),
        ("[models.m]\nvalue = { tp = 1 }", "`fp`"),
        ("[models.m]\nvalue = { tp = 1, fp = 1, fn = 1, tn = 1, x = 1 }", "`x`"),
        ("[models.m]\nvalue = { tp = 1, fp = 1, fn = -2e12, tn = 1 }", "1e12"),
        ("[models.m]\nvalue = { tp = nan, fp = 1, fn = 1, tn = 1 }", "`tp`"),
        ("[models.m.drift]\nalpha = 1.5", "0 to 1"),
        ("[models.m.drift]\nalpha = 0", "above 0"),
        ("[models.m.drift]\nprimary = \"ks\"", "\"psi\" or \"js\""),
        ("[models.m.drift]\nmin_n = 0", "1 to "),
        (
            "[models.m.drift]\nmethods = { psy = { drift_at = 1 } }",
            "`psy`; the methods are psi, js",
        ),
        ("[models.m.drift]\nmethods = { psi = { drift = 1 } }", "`drift`; its keys are warn_at"),
        ("[models.m.drift]\nmethods = { psi = { drift_at = \"1\" } }", "no number"),
        ("[models.m.drift]\nmethods = { psi = { drift_at = 0.05 } }", "set both"),
        ("[models.m.drift]\nmethods = { psi = { warn_at = 0 } }", "above 0"),
        ("[models.m.drift]\nmethods = { psi = { drift_at = inf } }", "above 0"),
        ("[models.m.drift]\nmethods = { ks = { alpha = 2 } }", "at most 1"),
        ("[models.m.drift]\nmethods = { missing_rate = { warn_at = 0.1 } }", "only its drift_at"),
        ("[models.m.features]\na = { kind = \"number\" }", "\"numeric\""),
        ("[models.m.features]\na = { range = [1] }", "two numbers"),
        ("[models.m.features]\na = { range = [3, 1] }", "the lesser"),
        ("[models.m.features]\na = { edges = [] }", "[10, 100, 1000]"),
        ("[models.m.features]\na = { edges = [2, 1] }", "rising"),
        ("[models.m.features]\na = { edges = [1, nan] }", "finite"),
        ("[models.m.features]\na = { kind = \"boolean\", edges = [1] }", "only numbers"),
        ("[models.m.features]\na = { bins = 3 }", "`bins`; its keys are kind"),
        ("[dead_letters]\nlimit = 1.5", "0 to 1"),
    ] {
        let (code, message) = refused(&format!("{SMALLEST}{line}\n"));
        assert_eq!(code, "config_invalid_value", "{line}");
        assert!(message.starts_with("t.toml:") && message.contains(part), "{message}");
    }
    let fields = "[inferences]\ntopic = \"i\"\nfields = { id = \"x\" }\n";
    assert!(refused(fields).1.contains("`id` is no field of inferences"));
}

#[test]
fn a_number_of_bytes_in_an_unknown_unit_is_not_called_too_small() {
    let of = |budget: &str| refused(&format!("{SMALLEST}[state]\nbudget = \"{budget}\"\n")).1;
    for unknown in ["8G", "8g", "8 GiBs", "much"] {
        let message = of(unknown);
        let said = format!("is \"{unknown}\"; it must be a whole number and B, kB, MB, GB, KiB");
        assert!(message.contains(&said) && !message.contains("at least"), "{message}");
    }
    let message = of("8MiB");
    let said = "t.toml:6: `state.budget` is \"8MiB\"; it must be at least 16MiB, like \"4GiB\"";
    assert_eq!(message, said);
}

#[test]
fn what_every_insert_is_sent_with_can_not_be_set() {
    let with = |setting: &str| {
        let given = format!("{{ insert_quorum = 2, {setting} = 1 }}");
        format!("{SMALLEST}[clickhouse]\ninsert_settings = {given}\n")
    };
    for setting in [
        "async_insert",
        "insert_deduplicate",
        "input_format_skip_unknown_fields",
        "insert_deduplication_token",
    ] {
        let (code, message) = refused(&with(setting));
        assert_eq!(code, "config_invalid_value", "{message}");
        let said = format!("t.toml:6: `clickhouse.insert_settings.{setting}` can't be set: ");
        assert!(message.starts_with(&said) && message.ends_with("; leave it out"), "{message}");
    }
    parse(&with("wait_end_of_query")).expect("it is 1 anyway");
    let settings = parse(&with("insert_quorum_parallel")).unwrap();
    let given = [("insert_quorum", "2"), ("insert_quorum_parallel", "1")];
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(settings.clickhouse.insert_settings, given);
    let variable = "TIDEGAUGE__CLICKHOUSE__INSERT_SETTINGS__ASYNC_INSERT";
    let message = parse_with(SMALLEST, &[(variable, "1")]).unwrap_err().to_string();
    assert!(message.starts_with(&format!("environment variable {variable}: ")), "{message}");
}

#[test]
fn drift_is_judged_as_the_models_section_says() {
    let text = "[models.m.drift]\nalpha = 0.01\nprimary = \"js\"\nmin_n = 500\n\
                methods = { js = { warn_at = 0.05, drift_at = 1 }, ks = { alpha = 0.2 }, missing_rate = { drift_at = 0.5 } }\n";
    let settings = parse(&format!("{SMALLEST}{text}")).unwrap();
    let drift = settings.shard.model("m").drift;
    assert_eq!((drift.primary, drift.min_n), (Method::Js, 500));
    let limits = |method| {
        let Limits { warn_at, drift_at, alpha } = drift.limits(method);
        (warn_at, drift_at, alpha)
    };
    assert_eq!(limits(Method::Js), (Some(0.05), 1.0, 0.01));
    assert_eq!(limits(Method::Ks), (Some(0.1), 0.2, 0.2));
    assert_eq!(limits(Method::Psi), (Some(0.1), 0.25, 0.01));
    // Rates have no p-value.
    assert_eq!(limits(Method::MissingRate), (None, 0.5, 0.05));
    assert_eq!(settings.shard.model("n").drift, DriftOptions::default());
    // The same in variables, and what is said is what is by default.
    let variables = [
        ("TIDEGAUGE__MODELS__m__DRIFT__ALPHA", "0.05"),
        ("TIDEGAUGE__MODELS__m__DRIFT__PRIMARY", "psi"),
        ("TIDEGAUGE__MODELS__m__DRIFT__METHODS", "{ psi = { drift_at = 0.25 } }"),
    ];
    let said = parse_with(&format!("{SMALLEST}[models.m]\n"), &variables).unwrap();
    assert_eq!(said.shard.model("m").drift, DriftOptions::default());
    let plain = parse(&format!("{SMALLEST}[models.m]\nthreshold = 0.5\n")).unwrap();
    assert_eq!(said.digest(), plain.digest());
    assert_ne!(settings.digest(), plain.digest());
}

#[test]
fn features_are_declared_by_model() {
    let text = "[models.\"a*\".features]\nage = { range = [0, 120] }\nplan = { kind = \"categorical\" }\n\
                [models.\"*\"]\nfeatures = { age = { edges = [18, 65.5] } }\n";
    let settings = parse(&format!("{SMALLEST}{text}")).unwrap();
    let kinds = |model: &str| {
        let declared = settings.declared(model).into_iter();
        declared.map(|(name, it)| (name, it.kind, it.range, it.edges)).collect::<Vec<_>>()
    };
    let (numeric, named) = (Some(FeatureKind::Numeric), Some(FeatureKind::Categorical));
    let age = "age".to_owned();
    assert_eq!(
        kinds("a1"),
        [
            (age.clone(), numeric, Some((0.0, 120.0)), vec![]),
            ("plan".to_owned(), named, None, vec![])
        ]
    );
    assert_eq!(kinds("b"), [(age, numeric, None, vec![18.0, 65.5])]);
    let (code, message) = refused(&format!("{SMALLEST}[models.m]\nfeatures = {{ age = 3 }}\n"));
    assert_eq!(code, "config_wrong_type");
    assert!(message.contains("a table of features, like"), "{message}");
}

#[test]
fn the_longest_window_is_49_days_and_grains_may_be_longer() {
    let windows = "[windows]\nsize = \"49d\"\ngrains = [\"98d\"]\n";
    let settings = parse(&format!("{SMALLEST}{windows}")).unwrap();
    assert_eq!(settings.shard.window, Millis(49 * 86_400_000));
    assert_eq!(settings.grains, [Millis(98 * 86_400_000)]);
}

/// What replicated tables need in `[clickhouse]`.
const QUORUM: &str = "insert_settings = { insert_quorum = \"auto\", insert_quorum_parallel = 0 }\n\
                      read_settings = { select_sequential_consistency = 1 }";

#[test]
fn replicated_tables_are_refused_without_a_quorum_that_reads_wait_for() {
    let with = |more: &str| format!("{SMALLEST}[clickhouse]\nengine = \"replicated\"\n{more}\n");
    let (insert, read) = QUORUM.split_once('\n').unwrap();
    let halved = insert.replace(", insert_quorum_parallel = 0", "");
    for (more, lacking, lines) in [
        (
            "",
            "clickhouse.insert_settings.insert_quorum and \
             clickhouse.insert_settings.insert_quorum_parallel and \
             clickhouse.read_settings.select_sequential_consistency",
            format!("`{insert}` and `{read}`"),
        ),
        (insert, "clickhouse.read_settings.select_sequential_consistency", format!("`{read}`")),
        (
            &*format!("{halved}\n{read}"),
            "clickhouse.insert_settings.insert_quorum_parallel",
            format!("`{insert}`"),
        ),
    ] {
        let (code, message) = refused(&with(more));
        assert_eq!(code, "config_conflict", "{message}");
        let said = format!(
            "t.toml:6: `clickhouse.engine` is \"replicated\", which needs {lacking}: write {lines} into [clickhouse]"
        );
        assert!(message.starts_with(&said), "{message}");
    }
    // Another value is meant, and one server has no replicas.
    let other = QUORUM.replace("\"auto\"", "0").replace("consistency = 1", "consistency = 0");
    let meant = parse(&with(&other)).unwrap().clickhouse;
    assert!(meant.insert_settings.contains(&("insert_quorum".to_owned(), "0".to_owned())));
    parse(&with("").replace("replicated", "plain")).unwrap();
    let variable = |name: &str| format!("TIDEGAUGE__CLICKHOUSE__INSERT_SETTINGS__{name}");
    let variables = ["INSERT_QUORUM", "INSERT_QUORUM_PARALLEL"].map(variable);
    let set = [(&*variables[0], "2"), (&*variables[1], "0")];
    parse_with(&with(read), &set).unwrap();
}

#[test]
fn tables_are_replicated_as_the_options_say() {
    let with = |more: &str| parse(&format!("{SMALLEST}[clickhouse]\n{more}\n"));
    let sql = |settings: &Settings| {
        let database = &settings.clickhouse;
        assert_eq!(settings.clickhouse().engine, database.engine);
        clickhouse::print(&database.database, &database.engine)
    };
    let replicated = format!("engine = \"replicated\"\n{QUORUM}");
    let own = "cluster = \"main\"\nkeeper_path = \"/kept/{table}\"\nreplica = \"r-{host}\"";
    let all = with(&format!("{replicated}\n{own}")).unwrap();
    let plain = with("engine = \"plain\"").unwrap();
    let written = sql(&all);
    for part in [
        "CREATE DATABASE IF NOT EXISTS `tidegauge` ON CLUSTER `main`",
        "CREATE TABLE IF NOT EXISTS `tidegauge`.`serving` ON CLUSTER `main`",
        "ENGINE = ReplicatedReplacingMergeTree('/kept/{table}', 'r-{host}', row_version)",
        "ENGINE = ReplicatedMergeTree('/kept/{table}', 'r-{host}')",
    ] {
        assert!(written.contains(part), "{part} is not in {written}");
    }
    let sink = all.clickhouse();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let quorum = [pair("insert_quorum", "auto"), pair("insert_quorum_parallel", "0")];
    assert_eq!(sink.insert_settings, quorum);
    assert_eq!(sink.read_settings, [pair("select_sequential_consistency", "1")]);
    assert_eq!(all.digest(), plain.digest(), "rows are the same whatever holds them");

    let short = sql(&with(&replicated).unwrap());
    let place = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'";
    let default = format!("ENGINE = ReplicatedReplacingMergeTree({place}, row_version)");
    assert!(short.contains(&default) && !short.contains("ON CLUSTER"), "{short}");
    // A database that is replicated itself gives path and replica.
    let given = sql(&with(&format!("{replicated}\nkeeper_path = \"\"")).unwrap());
    assert!(given.contains("ENGINE = ReplicatedReplacingMergeTree(row_version)"), "{given}");
    let lone = sql(&plain);
    assert!(!lone.contains("Replicated") && !lone.contains("ON CLUSTER"), "{lone}");
    let error = with("engine = \"sharded\"").unwrap_err();
    assert_eq!(error.code(), "config_invalid_value");
    assert!(error.to_string().contains("\"plain\" or \"replicated\""), "{error}");
}

#[test]
fn a_misplaced_secret_is_not_shown() {
    for (text, part) in [
        ("[clickhouse]\nurl = \"http://u:hunter2@ch:8123\"", "clickhouse.password"),
        ("[clickhouse]\nurl = \"http://ch:8123/?password=hunter2\"", "clickhouse.password"),
        ("[clickhouse]\nurl = \"u:hunter2@ch:8123\"", "clickhouse.password"),
        ("[schema_registry]\nurl = \"http://u:hunter2@r:8081\"", "schema_registry.password"),
        ("[kafka]\nproperties = { a = [\"hunter2\"] }", "other values"),
        ("[kafka]\nproperties = \"hunter2\"", "string (not shown)"),
        ("[kafka]\nproperties = { \"sasl.password\" = \"env:NO\" }", "\"sasl.password\""),
    ] {
        let (_, message) = refused(&format!("{SMALLEST}{text}\n"));
        assert!(!message.contains("hunter2") && message.contains(part), "{message}");
    }
}

/// A second target tells of alerts in this topic.
fn alerts_in(topic: &str) -> String {
    format!(
        "{SMALLEST}[[notify]]\nname = \"hook\"\nurl = \"http://a/\"\n\
         [[notify]]\nname = \"chat\"\ntype = \"kafka\"\ntopic = \"{topic}\"\n"
    )
}

#[test]
fn alerts_have_a_topic_that_the_job_does_not_use() {
    assert_eq!(parse(&alerts_in("tidegauge.alerts")).unwrap().targets.len(), 2);
    let (_, message) = refused(&alerts_in("i"));
    assert!(message.starts_with("t.toml:11: `notify.topic` of \"chat\" "), "{message}");
    // Without labels their topic is any other one.
    let without = alerts_in("l").replace("[labels]\ntopic = \"l\"\n", "");
    assert_eq!(parse(&without).unwrap().targets.len(), 2);
}

#[test]
fn settings_are_checked_against_each_other() {
    for (text, part) in [
        (format!("{SMALLEST}[windows]\nlateness = \"2h\"\n"), "windows.lateness"),
        (SMALLEST.replace("\"l\"", "\"i\""), "inferences.topic"),
        (format!("{SMALLEST}[dead_letters]\ntopic = \"l\"\n"), "labels.topic"),
        (format!("{SMALLEST}format = \"avro\"\n"), "schema_registry.url"),
        (
            format!(
                "drain_budget = \"20s\"\n{SMALLEST}[kafka]\nproperties = {{ \"max.poll.interval.ms\" = \"20000\" }}"
            ),
            "max.poll.interval.ms (20000)",
        ),
        (format!("drain_budget = \"5m\"\n{SMALLEST}"), "max.poll.interval.ms"),
        (alerts_in("i"), "of \"chat\" is also inferences.topic"),
        (alerts_in("l"), "of \"chat\" is also labels.topic"),
        (alerts_in("tidegauge.dead"), "of \"chat\" is also dead_letters.topic"),
    ] {
        let (code, message) = refused(&text);
        assert_eq!(code, "config_conflict", "{text}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn what_is_missing_is_said_with_what_to_write() {
    let (code, message) = refused("job = \"x\"\n");
    assert_eq!((code, message.contains("[inferences]")), ("config_required", true));
    let (code, message) = refused(&format!("{SMALLEST}[schema_registry]\nuser = \"u\"\n"));
    assert_eq!((code, message.contains("8081")), ("config_required", true));
    let error = Settings::load("nowhere/t.toml", &Environment::default()).unwrap_err();
    assert_eq!(error.code(), "config_missing");
    assert!(error.to_string().contains("nowhere/t.toml: No such file"), "{error}");
    let (code, message) = refused("job = \n");
    assert_eq!((code, message.starts_with("t.toml:1: not TOML")), ("config_syntax", true));
}

#[test]
fn a_list_of_eleven_sections_may_come_from_the_environment() {
    let variable = |at: usize, key: &str, value: &str| {
        (format!("TIDEGAUGE__ALERTS__{at}__{key}"), value.to_owned())
    };
    let rule = |at: usize| {
        let name = variable(at, "NAME", &format!("rule {at}"));
        [name, variable(at, "METRIC", "serving.inferences"), variable(at, "BELOW", "1")]
    };
    let settings = Settings::parse("t.toml", SMALLEST, &(0..11).flat_map(rule).collect()).unwrap();
    let names: Vec<String> = settings.rules.iter().map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, (0..11).map(|at| format!("rule {at}")).collect::<Vec<_>>());
    // A gap is still refused.
    let gap = (0..10).chain([11]).flat_map(rule).collect();
    let error = Settings::parse("t.toml", SMALLEST, &gap).unwrap_err();
    assert!(error.to_string().contains("number 11 of a list that has 10"), "{error}");
}

#[test]
fn the_environment_lies_over_the_file() {
    let set = [
        ("TIDEGAUGE__CLICKHOUSE__URL", "https://ch:8443/"),
        ("TIDEGAUGE__WINDOWS__GRAINS", "1h, 7d"),
        ("TIDEGAUGE__WORKERS", "3"),
        ("TIDEGAUGE__KAFKA__PROPERTIES__SASL_PASSWORD", "env:PASSWORD"),
        ("TIDEGAUGE__MODELS__Fraud-*__POSITIVE", "[\"yes\", \"y\"]"),
        ("TIDEGAUGE__INFERENCES__FIELDS__REQUEST_ID", "[\"meta.rid\", \"index\"]"),
        ("PASSWORD", "hunter2"),
    ];
    let settings = parse_with(SMALLEST, &set).unwrap();
    assert_eq!(settings.clickhouse.url, "https://ch:8443");
    assert_eq!(settings.grains, [Millis(3_600_000), Millis(7 * 86_400_000)]);
    assert_eq!(settings.workers, 3);
    assert_eq!(settings.exposed_properties(), [("sasl.password".to_owned(), "hunter2".to_owned())]);
    assert!(!format!("{settings:?}").contains("hunter2"));
    let model = &settings.shard.models[0];
    assert_eq!(model.pattern, "Fraud-*");
    let class = |name: &str| Positive::Class(name.to_owned());
    assert_eq!(model.positive, [class("yes"), class("y")]);
    let error = parse_with(SMALLEST, &[("TIDEGAUGE__KAFKA__BROKER", "x")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable TIDEGAUGE__KAFKA__BROKER: unknown key `kafka.broker`; did you mean `kafka.brokers`?"
    );
    let error = parse_with(SMALLEST, &[("TIDEGAUGE__LABELS", "{ topic = 1 }")]).unwrap_err();
    assert!(error.to_string().contains("TIDEGAUGE__LABELS__KEY"), "{error}");
    let error = parse_with(SMALLEST, &[("TIDEGAUGE__WORKERS", "two")]).unwrap_err();
    assert_eq!(error.code(), "config_wrong_type");
}

#[test]
fn a_variable_with_one_underscore_where_two_belong_is_refused() {
    for (name, right) in [
        ("TIDEGAUGE_CLICKHOUSE_URL", "TIDEGAUGE__CLICKHOUSE__URL"),
        ("TIDEGAUGE_CLICKHOUSE__URL", "TIDEGAUGE__CLICKHOUSE__URL"),
        ("TIDEGAUGE_DEAD_LETTERS_LIMIT_AFTER", "TIDEGAUGE__DEAD_LETTERS__LIMIT_AFTER"),
        ("TIDEGAUGE_logs_level", "TIDEGAUGE__LOGS__LEVEL"),
        ("TIDEGAUGE_JOB", "TIDEGAUGE__JOB"),
    ] {
        let error = parse_with(SMALLEST, &[(name, "1")]).expect_err(name);
        assert_eq!(error.code(), "config_unknown_key", "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("environment variable {name} sets ")), "{message}");
        assert!(message.ends_with(&format!("; rename it {right}")), "{message}");
    }
    // Names of the program itself and of the files in deploy/, and those that Kubernetes gives services.
    for other in [
        "TIDEGAUGE_TOKEN",
        "TIDEGAUGE_FAILPOINTS",
        "TIDEGAUGE_PASSWORD",
        "TIDEGAUGE_PORT",
        "TIDEGAUGE_SERVICE_HOST",
        "TIDEGAUGE_SERVICE_PORT_HTTP",
        "TIDEGAUGE_PORT_9464_TCP_ADDR",
        "TIDEGAUGE_CLICKHOUSE_PORT",
        "TIDEGAUGE",
    ] {
        parse_with(SMALLEST, &[(other, "tcp://10.0.0.1:9464")]).expect(other);
    }
    // Nor where it is a secret of that name.
    let (name, option) = ("TIDEGAUGE_CLICKHOUSE_PASSWORD", "TIDEGAUGE__CLICKHOUSE__PASSWORD");
    let secret = format!("env:{name}");
    let named = format!("{SMALLEST}[clickhouse]\npassword = \"{secret}\"\n");
    parse_with(&named, &[(name, "hunter2")]).expect("the file names it");
    parse_with(SMALLEST, &[(name, "hunter2"), (option, &secret)]).expect("a variable names it");
    parse_with(SMALLEST, &[(name, "hunter2")]).expect_err("nobody names it");
}

#[test]
fn secrets_come_from_elsewhere_and_say_where_they_are_missing() {
    let with = |secret: &str| format!("{SMALLEST}[clickhouse]\npassword = \"{secret}\"\n");
    let settings = parse_with(&with("env:P"), &[("P", "hunter2")]).unwrap();
    assert_eq!(settings.clickhouse().password, "hunter2");
    assert_eq!(refused(&with("env:P")).0, "config_secret");
    let (code, message) = refused(&with("file:nowhere/p"));
    assert_eq!((code, message.contains("file:nowhere/p")), ("config_secret", true));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p"), "hunter3\n").unwrap();
    let file = folder.path().join("t.toml");
    fs::write(&file, with("file:p")).unwrap();
    let settings = Settings::load(file.to_str().unwrap(), &Environment::default()).unwrap();
    assert_eq!(settings.clickhouse().password, "hunter3");
}

#[test]
fn caps_on_classes_have_bounds() {
    let caps = |text: &str| parse(&format!("{SMALLEST}[caps]\n{text}\n")).map(|it| it.shard.caps);
    let plain = parse(SMALLEST).unwrap().shard.caps;
    assert_eq!((plain.max_classes, plain.auroc_classes), (256, 32));
    assert_eq!(plain.classes(), ClassCaps::DEFAULT);
    let given = caps("max_classes = 10000\nauroc_classes = 0").unwrap();
    assert_eq!((given.max_classes, given.auroc_classes), (10_000, 0));
    let set = [("TIDEGAUGE__CAPS__MAX_CLASSES", "7"), ("TIDEGAUGE__CAPS__AUROC_CLASSES", "1000")];
    let given = parse_with(SMALLEST, &set).unwrap().shard.caps;
    assert_eq!((given.max_classes, given.auroc_classes), (7, 1000));
    for (text, said) in [
        ("max_classes = 0", "`caps.max_classes` is 0; it must be 1 to 10000"),
        ("max_classes = 10001", "`caps.max_classes` is 10001; it must be 1 to 10000"),
        ("auroc_classes = -1", "`caps.auroc_classes` is -1; it must be 0 to 1000"),
        ("auroc_classes = 1001", "`caps.auroc_classes` is 1001; it must be 0 to 1000"),
        ("max_clases = 3", "did you mean `caps.max_classes`?"),
        ("max_classes = \"many\"", "a whole number"),
    ] {
        let message = caps(text).unwrap_err().to_string();
        assert!(message.contains(said), "{text}: {message}");
    }
}

#[test]
fn the_first_model_that_fits_counts_so_their_order_is_that_of_the_file() {
    let text = format!(
        "{SMALLEST}[models.\"z-*\"]\nsegments = [\"b\", \"a\"]\n[models.\"*\"]\nsegments = [\"a\"]\n"
    );
    let settings = parse(&text).unwrap();
    let patterns: Vec<_> = settings.shard.models.iter().map(|m| m.pattern.as_str()).collect();
    assert_eq!(patterns, ["z-*", "*"]);
    assert_eq!(settings.shard.dimensions, ["b", "a"]);
    assert_eq!(settings.shard.models[0].dimensions, [0, 1]);
    assert_eq!(settings.shard.models[1].dimensions, [1]);
}

/// The first section that fits counts, so one behind a glob that fits its name would be read and do nothing.
#[test]
fn a_models_section_that_an_earlier_one_covers_is_refused() {
    for (sections, place, later, earlier) in [
        ("[models.\"*\"]\n[models.fraud]\n", 6, "fraud", "\"*\""),
        ("[models.\"fr*\"]\nthreshold = 0.4\n[models.fraud]\n", 7, "fraud", "\"fr*\""),
        ("[models.\"fr*\"]\n[models.\"fraud-*\"]\n", 6, "\"fraud-*\"", "\"fr*\""),
        ("[models.\"*-eu\"]\n[models.a]\n[models.\"a-*-eu\"]\n", 7, "\"a-*-eu\"", "\"*-eu\""),
    ] {
        let (code, message) = refused(&format!("{SMALLEST}{sections}"));
        assert_eq!(code, "config_conflict", "{sections}");
        let expected = format!(
            "t.toml:{place}: `models.{later}` changes nothing: `models.{earlier}` (t.toml:5) stands"
        );
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains(&format!("put `[models.{later}]` into the file")), "{message}");
    }
    for sections in [
        "[models.fraud]\n[models.\"*\"]\n",
        "[models.\"a*\"]\n[models.\"*a\"]\n[models.b]\n",
        "[models.\"fraud-*\"]\n[models.fraud]\n[models.\"fr*\"]\n",
        "[models.\"a*\"]\n[models.\"*a*\"]\n",
    ] {
        parse(&format!("{SMALLEST}{sections}")).expect(sections);
    }
    // What only the environment names comes behind all of the file.
    let set = [("TIDEGAUGE__MODELS__fraud__THRESHOLD", "0.3")];
    let error = parse_with(&format!("{SMALLEST}[models.\"*\"]\n"), &set).unwrap_err();
    assert_eq!(error.code(), "config_conflict");
    let message = error.to_string();
    let variable = "environment variable TIDEGAUGE__MODELS__fraud__THRESHOLD: `models.fraud` ";
    assert!(message.starts_with(variable) && message.contains("(t.toml:5)"), "{message}");
    let named = format!("{SMALLEST}[models.fraud]\n[models.\"*\"]\n");
    let threshold = parse_with(&named, &set).map(|it| it.shard.model("fraud").threshold);
    assert_eq!(threshold, Ok(0.3));
}

#[test]
fn the_digest_changes_with_what_changes_rows_and_with_nothing_else() {
    let base = parse(SMALLEST).unwrap().digest();
    assert_eq!(base.len(), 32);
    for same in [
        "workers = 7\n",
        "kafka.brokers = \"x:1\"\n",
        "clickhouse.flush_interval = \"1s\"\nclickhouse.password = \"p\"\n",
        "state.budget = \"8GiB\"\n",
        "logs.level = \"debug\"\n",
        "windows.size = \"300s\"\n",
        "caps.max_classes = 256\n",
        "caps.auroc_classes = 32\n",
        "caps = { models = 256, max_classes = 256, auroc_classes = 32 }\n",
    ] {
        assert_eq!(parse(&format!("{same}{SMALLEST}")).unwrap().digest(), base, "{same}");
    }
    for other in [
        "windows.size = \"10m\"\n",
        "windows.lateness = \"9m\"\n",
        "windows.label_wait = \"2h\"\n",
        "windows.max_future = \"1m\"\n",
        "windows.max_gap = \"8d\"\n",
        "windows.grains = [\"1h\"]\n",
        "windows.progress = \"event\"\n",
        "windows.clock_stamps = 1\n",
        "caps.models = 3\n",
        "caps.versions = 3\n",
        "caps.segments = 3\n",
        "caps.features = 3\n",
        "caps.max_classes = 3\n",
        "caps.max_classes = 2560\n",
        "caps.auroc_classes = 3\n",
        "caps.auroc_classes = 0\n",
    ] {
        assert_ne!(parse(&format!("{other}{SMALLEST}")).unwrap().digest(), base, "{other}");
    }
    // A job that has rows goes on with a later version only if its digest is the same.
    assert_eq!(base, "640e2b25e7c5a48139ef5f1737215dd8");
    let fields = SMALLEST.replace("\"i\"\n", "\"i\"\nfields = { score = \"p\" }\n");
    assert_ne!(parse(&fields).unwrap().digest(), base);
}

/// Beside a section that says nothing, since the section alone makes another digest.
#[test]
fn the_digest_changes_with_each_option_of_a_model() {
    let of = |line: &str| parse(&format!("{SMALLEST}[models.m]\n{line}\n")).unwrap().digest();
    let plain = of("");
    let kind = "features = { amount = { kind = \"numeric\" } }";
    for same in ["threshold = 0.5", "drift.alpha = 0.05", kind] {
        assert_eq!(of(same), plain, "{same}");
    }
    let mut known = BTreeSet::from([plain]);
    for other in [
        "task = \"binary\"",
        "task = \"regression\"",
        "positive = \"yes\"",
        "positive = [1, \"yes\"]",
        "threshold = 0.4",
        "thresholds = [0.4]",
        "thresholds = [0.4, 0.6]",
        "weights = \"use\"",
        "segments = [\"a\"]",
        "value = { tp = 5, fp = -1, fn = -20, tn = 0 }",
        "value = { tp = 5, fp = -1, fn = -20, tn = 1 }",
        "distinct = [\"account\"]",
        "drift.alpha = 0.01",
        "drift.primary = \"js\"",
        "drift.min_n = 500",
        "drift.methods = { psi = { drift_at = 0.3 } }",
        "drift.methods = { psi = { warn_at = 0.05 } }",
        "drift.methods = { ks = { alpha = 0.01 } }",
    ] {
        assert!(known.insert(of(other)), "{other}");
    }
}
