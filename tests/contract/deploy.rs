//! What `deploy/` says agrees with the program: ports, paths, options, times to stop, and where passwords come from. So
//! does the README in what it says of both, and its links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rdkafka::consumer::BaseConsumer;
use serde_json::{Value, json};
use tidegauge::commands::codes::{self, Effect};
use tidegauge::config::options::OPTIONS;
use tidegauge::config::{Environment, Settings};
use tidegauge::engine::ModelSettings;
use tidegauge::sink::tables::{self, Databases, Engine};
use tidegauge::source::kafka::client_config;
use tidegauge::telemetry::{OUTCOME_NAMES, Telemetry};

/// A path of the repository.
fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A text of the repository.
fn repository(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn deploy(path: &str) -> PathBuf {
    place("deploy").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path))
        .unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// The configuration of `deploy/` under these variables.
fn settings<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
    let environment: Environment = variables.into_iter().collect();
    Settings::parse("deploy/tidegauge.toml", &read("tidegauge.toml"), &environment).unwrap()
}

/// How long the program may take to stop: `drain_budget`, and 5 s to tell of alerts.
fn stop_s() -> u64 {
    settings([("", "")]).drain_budget.as_secs() + 5
}

/// Where containers listen: the program's own port, on all addresses.
const LISTEN: &str = "0.0.0.0:9464";
/// Where the program is, and what it is called with, wherever it runs.
const PROGRAM: &str = "/usr/local/bin/tidegauge";
const CONFIGURATION: &str = "/etc/tidegauge/tidegauge.toml";
/// What systemd and cron add to its environment.
const ENVIRONMENT: &str = "/etc/tidegauge/environment";

/// The image of this version.
fn own_image() -> String {
    format!("tidegauge:{}", env!("CARGO_PKG_VERSION"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

fn is_secret(name: &str) -> bool {
    ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| name.contains(word))
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(text).collect()
}

/// Holds that the program has these options: with them it goes on to read the configuration, which is not there.
fn assert_runs(arguments: &[&str]) {
    let given = arguments.windows(2).any(|pair| pair == ["-c", CONFIGURATION]);
    assert!(given, "{arguments:?} names no configuration");
    let elsewhere = arguments.iter().map(|&word| word.replace(CONFIGURATION, "nowhere/t.toml"));
    let ran = Command::new(env!("CARGO_BIN_EXE_tidegauge")).args(elsewhere).output().unwrap();
    assert_reads_configuration(&ran);
}

/// The same of a line for a shell, as the shell reads it.
fn assert_script_runs(script: &str) {
    assert!(script.contains(&format!("exec {PROGRAM} backfill ")), "{script}");
    assert!(script.contains(&format!(" -c {CONFIGURATION} ")), "{script}");
    let program = format!("'{}'", env!("CARGO_BIN_EXE_tidegauge"));
    let script = script.replace(PROGRAM, &program).replace(CONFIGURATION, "nowhere/t.toml");
    let ran = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    assert_reads_configuration(&ran);
}

fn assert_reads_configuration(ran: &Output) {
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.starts_with("error[config_missing]"), "{said}");
}

#[test]
fn compose_has_its_profiles_and_no_secret() {
    let compose = documents("compose.yaml").remove(0);
    let services = compose["services"].as_object().unwrap();
    let mut profiles = BTreeSet::new();
    for (name, service) in services {
        profiles.extend(service["profiles"].as_array().unwrap().iter().map(text));
        let image = text(&service["image"]);
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: no tag")).1;
        assert!(
            tag != "latest" && tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
            "{name}"
        );
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(text(port).starts_with("127.0.0.1:"), "{name}: {port} is open to everybody");
        }
        for volume in service["volumes"].as_array().into_iter().flatten().map(text) {
            let from = volume.split(':').next().unwrap();
            match from.strip_prefix("./") {
                Some(path) => assert!(deploy(path).exists() && volume.ends_with(":ro"), "{volume}"),
                None => assert!(
                    compose["volumes"].get(from).is_some(),
                    "{name}: {from} is not declared"
                ),
            }
        }
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let from_outside = text(value).starts_with("${") && text(value).contains(":?");
            let named = variable.starts_with("TIDEGAUGE__") && text(value).starts_with("env:");
            assert!(!is_secret(variable) || from_outside || named, "{name}: {variable}");
        }
        if let Some(context) = service["build"]["context"].as_str() {
            let file = deploy(context).join(text(&service["build"]["dockerfile"]));
            assert!(file.exists(), "{name}: {}", file.display());
            assert!(context != ".." || image == own_image(), "{name}: {image}");
        }
        for needed in service["depends_on"].as_object().into_iter().flat_map(|map| map.keys()) {
            let needed = &services[needed];
            assert_eq!(needed["profiles"], service["profiles"], "{name}");
        }
        // The program's own image has nothing that could ask.
        if image != own_image() && name != "topics" {
            assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        }
    }
    let expected = ["core", "grafana", "metabase", "overview", "superset"];
    assert_eq!(profiles, BTreeSet::from(expected));
    // Every variable that compose asks for is in the example, and nothing else.
    let asked: BTreeSet<String> = read("compose.yaml")
        .match_indices("${")
        .filter_map(|(at, _)| Some(read("compose.yaml")[at + 2..].split_once(":?")?.0.to_owned()))
        .collect();
    let example = read("env.example");
    let listed: BTreeSet<String> =
        example.lines().filter_map(|line| Some(line.strip_suffix('=')?.to_owned())).collect();
    assert_eq!(asked, listed);
}

#[test]
fn compose_runs_the_program_with_options_that_it_has() {
    let compose = documents("compose.yaml").remove(0);
    for name in ["tidegauge", "init", "overview"] {
        let service = &compose["services"][name];
        let environment = service["environment"].as_object().unwrap();
        let settings = settings(environment.iter().map(|(k, v)| (k.as_str(), text(v))));
        assert_eq!(settings.clickhouse.url, "http://clickhouse:8123");
        assert!(text(&service["volumes"][0]).contains(&format!(":{CONFIGURATION}:")));
        // Every command reads all secrets of the configuration; without others there is no file.
        let secrets = json!([{ "path": "./tidegauge.env", "required": false }]);
        assert_eq!(service["env_file"], secrets, "{name}");
        // What the image runs by itself is held below.
        if name != "tidegauge" {
            assert_runs(&words(&service["command"]));
        }
    }
    let overview = &compose["services"]["overview"];
    let port = text(overview["command"].as_array().unwrap().last().unwrap()).rsplit_once(':');
    assert!(text(&overview["ports"][0]).ends_with(&format!(":{}", port.unwrap().1)));
    let program = &compose["services"]["tidegauge"];
    assert!(seconds(text(&program["stop_grace_period"])) > stop_s());
    assert_eq!(program["ports"][0], "127.0.0.1:9464:9464");
    // The topics that are created are those of the configuration.
    let create = text(&compose["services"]["topics"]["command"][0]).to_owned();
    let configured: toml::Table = read("tidegauge.toml").parse().unwrap();
    for section in ["inferences", "labels", "dead_letters"] {
        assert!(create.contains(configured[section]["topic"].as_str().unwrap()), "{section}");
    }
}

#[test]
fn kafka_keeps_its_log_in_the_volume() {
    let compose = documents("compose.yaml").remove(0);
    let kafka = &compose["services"]["kafka"];
    let (_, place) = text(&kafka["volumes"][0]).split_once(':').unwrap();
    assert_eq!(kafka["environment"]["KAFKA_LOG_DIRS"], place);
}

#[test]
fn records_reach_kafka_from_containers_and_from_this_machine() {
    let compose = documents("compose.yaml").remove(0);
    let kafka = &compose["services"]["kafka"];
    let list = |name: &str| -> BTreeMap<&str, &str> {
        let pairs = text(&kafka["environment"][name]).split(',');
        pairs.map(|pair| pair.split_once(':').unwrap()).collect()
    };
    let listeners = list("KAFKA_LISTENERS");
    let mut advertised = list("KAFKA_ADVERTISED_LISTENERS");
    let protocols = list("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP");
    assert!(listeners.keys().eq(protocols.keys()), "{protocols:?}");
    // Nobody but the broker itself speaks to its controller.
    let controller = text(&kafka["environment"]["KAFKA_CONTROLLER_LISTENER_NAMES"]);
    let clients = listeners.iter().filter(|(name, _)| **name != controller);
    for (name, at) in clients {
        let port = at.rsplit_once(':').unwrap().1;
        let to = advertised.remove(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(to.rsplit_once(':').unwrap().1, port, "{name}");
        let brokers = to.strip_prefix("//").unwrap();
        if brokers == format!("localhost:{port}") {
            assert_eq!(kafka["ports"], json!([format!("127.0.0.1:{port}:{port}")]));
            assert!(repository("README.md").contains(&format!("use `{brokers}`")), "{brokers}");
        } else {
            let program = &compose["services"]["tidegauge"]["environment"];
            assert_eq!(program["TIDEGAUGE__KAFKA__BROKERS"], brokers);
        }
    }
    assert!(advertised.is_empty(), "{advertised:?}");
}

/// What the README has compose run in place of `run`; with one option more it shows schemas and sends nothing.
#[test]
fn the_readme_sends_traffic_to_the_kafka_of_compose() {
    let readme = repository("README.md").replace(" \\\n     ", "");
    let begin = "docker compose -f deploy/compose.yaml --profile core run --rm tidegauge ";
    let line = readme.lines().find_map(|line| line.trim_start().strip_prefix(begin)).unwrap();
    let arguments: Vec<_> = line.split_whitespace().collect();
    assert_eq!(arguments[..3], ["simulate", "--brokers", "kafka:9092"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegauge"));
    let ran = command.args(arguments).arg("--print-schemas").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_container_is_small_and_not_root() {
    let file = read("Dockerfile");
    let lines: Vec<_> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert!(lines[..last].iter().any(|line| line.starts_with("FROM rust:")), "built elsewhere");
    let end = &lines[last..];
    let value = |instruction: &str| {
        end.iter()
            .find_map(|line| line.strip_prefix(instruction))
            .unwrap_or_else(|| panic!("{instruction}"))
    };
    assert!(value("FROM ").contains("slim"));
    assert!(value("USER ").split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)));
    assert_eq!(value("EXPOSE "), "9464");
    assert_eq!(value("STOPSIGNAL "), "SIGTERM");
    let listen =
        value("ENV ").split(' ').find_map(|v| v.strip_prefix("TIDEGAUGE__HTTP__LISTEN=")).unwrap();
    assert_eq!(listen, LISTEN);
    assert_eq!(settings([("TIDEGAUGE__HTTP__LISTEN", listen)]).listen.to_string(), LISTEN);
    assert_eq!(value("ENTRYPOINT "), format!("[\"{PROGRAM}\"]"));
    let command: Vec<String> = serde_json::from_str(value("CMD ")).unwrap();
    assert_eq!(command, ["run", "-c", CONFIGURATION]);
    assert!(file.contains(&format!(" -t {} .", own_image())));
    assert!(!file.to_uppercase().contains("PASSWORD"));
    // Without this file the build would be given everything that was ever built here.
    let ignored = read("Dockerfile.dockerignore");
    assert!(ignored.starts_with("*\n"));
    // `dashboards --link` reads the charts below the working folder, which is the root: nothing says otherwise.
    assert!(ignored.lines().any(|line| line == "!deploy/dashboards"));
    assert!(end.contains(&"COPY deploy/dashboards /deploy/dashboards"));
    assert!(!end.iter().any(|line| line.starts_with("WORKDIR ")));
}

#[test]
fn kubernetes_asks_what_the_program_answers_and_waits_for_its_end() {
    let all = documents("kubernetes/tidegauge.yaml");
    let kinds: Vec<_> = all.iter().map(|document| text(&document["kind"])).collect();
    assert_eq!(kinds, ["Deployment", "Service", "PodDisruptionBudget"]);
    let deployment = &all[0]["spec"];
    let pod = &deployment["template"]["spec"];
    let labels = &deployment["template"]["metadata"]["labels"];
    for selector in [
        &deployment["selector"]["matchLabels"],
        &all[1]["spec"]["selector"],
        &all[2]["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > stop_s());
    let container = &pod["containers"][0];
    for (probe, path) in
        [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz"), ("startupProbe", "/healthz")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }
    let port = container["ports"][0]["containerPort"].as_u64().unwrap();
    assert_eq!(port, u64::from(settings([("", "")]).listen.port()));
    assert_eq!(all[1]["spec"]["ports"][0]["port"], port);
    assert_eq!(settings(variables(container)).listen.to_string(), LISTEN);
    assert_pod(pod);
    assert_runs(&words(&container["args"]));
}

#[test]
fn kubernetes_makes_the_tables_once() {
    let job = documents("kubernetes/init.yaml").remove(0);
    assert_eq!(job["kind"], "Job");
    let template = &job["spec"]["template"];
    assert_pod(&template["spec"]);
    let arguments = words(&template["spec"]["containers"][0]["args"]);
    assert_eq!(arguments[0], "init");
    assert_runs(&arguments);
    // It is no instance: neither the service nor the budget of disruptions counts it.
    let instances = documents("kubernetes/tidegauge.yaml").remove(0);
    assert_ne!(template["metadata"]["labels"], instances["spec"]["selector"]["matchLabels"]);
    // The instances' file says that it comes first, and before it what all of them need.
    let waits = format!("job/{}", text(&job["metadata"]["name"]));
    let steps: [&str; 7] = [
        &format!("docker push registry.example.org/{}", own_image()),
        "kubectl create secret generic tidegauge --from-literal=clickhouse-password=",
        "kubectl create secret generic tidegauge-env --from-literal=",
        "kubectl create configmap tidegauge --from-file=tidegauge.toml --from-file=",
        "kubectl apply -f init.yaml",
        &waits,
        "kubectl apply -f tidegauge.yaml",
    ];
    assert_in_order(&comments("kubernetes/tidegauge.yaml"), &steps);
}

/// What a file says before it begins.
fn comments(path: &str) -> String {
    let text = read(path);
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Holds that these stand in the text, each behind the one before.
fn assert_in_order(text: &str, steps: &[&str]) {
    let mut rest = text;
    for step in steps {
        let found = rest.split_once(step);
        rest = found.unwrap_or_else(|| panic!("{step} is not in its place:\n{text}")).1;
    }
}

/// What a container's environment says.
fn variables(container: &Value) -> Vec<(&str, &str)> {
    let mut variables = Vec::new();
    for variable in container["env"].as_array().unwrap() {
        let name = text(&variable["name"]);
        if let Some(value) = variable["value"].as_str() {
            assert!(!is_secret(name) || value.starts_with("env:"), "{name}");
            variables.push((name, value));
        } else {
            assert!(variable["valueFrom"]["secretKeyRef"]["key"].is_string(), "{name}");
            variables.push((name, "of the secret"));
        }
    }
    variables
}

/// Holds what is the same in every pod: image, configuration, user of ClickHouse, and that it is held in bounds.
fn assert_pod(pod: &Value) {
    let container = &pod["containers"][0];
    assert_eq!(container["image"], own_image());
    let settings = settings(variables(container));
    assert_eq!(settings.clickhouse.user, "tidegauge");
    assert_eq!(settings.clickhouse().password, "of the secret");
    // All other secrets of the configuration: each command reads them. What is set above goes before these.
    let secrets = json!([{ "secretRef": { "name": "tidegauge-env", "optional": true } }]);
    assert_eq!(container["envFrom"], secrets);
    let set = container["env"].as_array().unwrap();
    let password = set.iter().find(|set| set["name"] == "CLICKHOUSE_PASSWORD").unwrap();
    let of_secret = json!({ "name": "tidegauge", "key": "clickhouse-password" });
    assert_eq!(password["valueFrom"]["secretKeyRef"], of_secret);
    let (mount, volume) = (&container["volumeMounts"][0], &pod["volumes"][0]);
    let mounted = Path::new(text(&mount["mountPath"])).join("tidegauge.toml");
    assert_eq!(mounted, Path::new(CONFIGURATION));
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    assert_eq!(volume["configMap"]["name"], "tidegauge");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    // Without a limit each instance takes as many cores as the node has.
    for limit in ["cpu", "memory"] {
        assert!(container["resources"]["limits"][limit].is_string(), "{limit}");
    }
}

/// The sections of a unit, and what they set; a line that goes on behind a backslash is one.
fn unit(path: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (mut sections, mut set) = (Vec::new(), Vec::new());
    let text = read(path).replace("\\\n", "");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            sections.push(line.to_owned());
            continue;
        }
        let pair = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line} sets nothing"));
        assert!(!is_secret(line), "{path}: {line}");
        set.push((pair.0.to_owned(), pair.1.to_owned()));
    }
    (sections, set)
}

fn value<'a>(set: &'a [(String, String)], key: &str) -> &'a str {
    &set.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("{key} is not set")).1
}

#[test]
fn systemd_stops_and_restarts_as_the_program_means_it() {
    let (sections, set) = unit("systemd/tidegauge.service");
    assert_eq!(sections, ["[Unit]", "[Service]", "[Install]"]);
    assert!(seconds(value(&set, "TimeoutStopSec")) > stop_s());
    assert_eq!(value(&set, "KillSignal"), "SIGTERM");
    // Exit codes of wrong usage and of refusals.
    assert_eq!(value(&set, "RestartPreventExitStatus"), "2 3");
    assert_eq!(value(&set, "SuccessExitStatus"), "130", "as a stop ends while it connects");
    let arguments = value(&set, "ExecStart").strip_prefix(PROGRAM).unwrap();
    let arguments: Vec<_> = arguments.split_whitespace().collect();
    assert_eq!(arguments, ["run", "-c", CONFIGURATION]);
    assert_runs(&arguments);
    assert_eq!(value(&set, "DynamicUser"), "yes");
    // Its example has what the configuration needs beside the file.
    assert_eq!(value(&set, "EnvironmentFile"), format!("-{ENVIRONMENT}"));
    let example = read("systemd/environment.example");
    let lines = example.lines().filter(|line| !line.starts_with('#'));
    let example = settings(lines.map(|line| line.split_once('=').unwrap()));
    assert_eq!(example.clickhouse.user, "tidegauge");
    assert_eq!(example.clickhouse().password, "", "it is to be filled in");
}

#[test]
fn the_unit_says_how_it_comes_to_run() {
    let said = comments("systemd/tidegauge.service");
    // All may read the configuration, as the service's own user has to, and nobody else the passwords.
    let steps: [&str; 6] = [
        &format!("install -D -m 0755 target/release/tidegauge {PROGRAM}"),
        &format!("install -D -m 0644 fraud.toml {CONFIGURATION}"),
        &format!("install -m 0600 deploy/systemd/environment.example {ENVIRONMENT}"),
        &format!("init -c {CONFIGURATION}"),
        "install -m 0644 deploy/systemd/tidegauge.service /etc/systemd/system/tidegauge.service",
        "systemctl daemon-reload && systemctl enable --now tidegauge",
    ];
    assert_in_order(&said, &steps);
    let line = said.lines().find(|line| line.contains(" init -c ")).unwrap();
    let example = format!("'{}'", deploy("systemd/environment.example").display());
    let program = format!("; '{}' init", env!("CARGO_BIN_EXE_tidegauge"));
    let script = line.replace(ENVIRONMENT, &example).replace("; tidegauge init", &program);
    let script = script.replace(CONFIGURATION, "nowhere/t.toml");
    assert_reads_configuration(&Command::new("/bin/sh").args(["-c", &script]).output().unwrap());
}

#[test]
fn batches_run_beside_the_instances_and_with_options_that_the_program_has() {
    let job = documents("batch/cronjob.yaml").remove(0);
    assert_eq!(job["kind"], "CronJob");
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_pod(pod);
    let container = &pod["containers"][0];
    assert_eq!(words(&container["command"]), ["/bin/sh", "-c"]);
    assert_script_runs(text(&container["args"][0]));

    let (sections, set) = unit("batch/tidegauge-backfill.service");
    assert_eq!(sections, ["[Unit]", "[Service]"]);
    let (_, instances) = unit("systemd/tidegauge.service");
    for key in ["DynamicUser", "EnvironmentFile", "Environment", "ProtectSystem"] {
        assert_eq!(value(&set, key), value(&instances, key), "{key}");
    }
    let script = value(&set, "ExecStart").strip_prefix("/bin/sh -c '").unwrap();
    let script = script.strip_suffix('\'').unwrap();
    assert_script_runs(&script.replace("$$", "$").replace("%%", "%"));
    let (sections, set) = unit("batch/tidegauge-backfill.timer");
    assert_eq!(sections, ["[Unit]", "[Timer]", "[Install]"]);
    assert!(value(&set, "OnCalendar").ends_with(" UTC"));

    let crontab = read("batch/crontab");
    let mut lines = crontab.lines().filter(|line| !line.starts_with('#'));
    let (script, log) = lines.next().unwrap().split_once(" >> ").unwrap();
    assert!(log.starts_with("/var/log/") && lines.next().is_none());
    let (_, script) = script.split_once("* * *  ").unwrap();
    assert!(script.contains(&format!(". {ENVIRONMENT};")), "{script}");
    let example = format!("'{}'", deploy("systemd/environment.example").display());
    assert_script_runs(&script.replace(ENVIRONMENT, &example).replace("\\%", "%"));
}

/// A day whose files are late is not lost.
#[test]
fn batches_try_again_where_files_are_late_and_not_where_that_is_no_use() {
    let effect = |code: &str| codes::find(code).unwrap().effect;
    assert_eq!(effect("file_missing"), Effect::Exit(1));
    assert_eq!([effect("usage"), effect("job_finished")], [Effect::Exit(2), Effect::Exit(3)]);
    let job = documents("batch/cronjob.yaml").remove(0);
    let job = &job["spec"]["jobTemplate"]["spec"];
    let rules = &job["podFailurePolicy"]["rules"];
    let codes = json!({"operator": "In", "values": [2, 3]});
    assert_eq!(rules, &json!([{"action": "FailJob", "onExitCodes": codes}]));
    assert!(job["backoffLimit"].as_u64() >= Some(20), "shorter than files are late");
    let (_, set) = unit("batch/tidegauge-backfill.service");
    assert_eq!(value(&set, "Restart"), "on-failure");
    assert_eq!(value(&set, "RestartPreventExitStatus"), "2 3");
}

/// An option as a comment of the configuration shows it.
fn shown(key: &str) -> String {
    let all = read("tidegauge.toml");
    let at = all.find(&format!("# {key} = {{ ")).unwrap_or_else(|| panic!("{key} is not shown"));
    let mut shown = String::new();
    for line in all[at..].lines() {
        shown += line.trim_start_matches(['#', ' ']);
        shown.push('\n');
        if line.ends_with('}') {
            break;
        }
    }
    shown
}

/// The configuration of `deploy/` with what its comments show of these options, and a variable.
fn with_shown(keys: &[&str], variable: (&str, &str)) -> Settings {
    let mut all = read("tidegauge.toml");
    for key in keys {
        let plain = format!("\n{key} = {{}}\n");
        assert!(all.contains(&plain), "{key} is not by itself");
        all = all.replacen(&plain, &format!("\n{}", shown(key)), 1);
    }
    let environment: Environment = [variable].into_iter().collect();
    Settings::parse("deploy/tidegauge.toml", &all, &environment).unwrap()
}

#[test]
fn what_comments_show_for_several_replicas_is_taken() {
    let replicated = ("TIDEGAUGE__CLICKHOUSE__ENGINE", "replicated");
    let clickhouse = with_shown(&["insert_settings", "read_settings"], replicated).clickhouse;
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let quorum = [("insert_quorum", "auto"), ("insert_quorum_parallel", "0")].map(pair);
    assert_eq!(clickhouse.insert_settings, quorum);
    assert_eq!(clickhouse.read_settings, [("select_sequential_consistency", "1")].map(pair));
}

/// What librdkafka says of these properties.
fn client(properties: &[(String, String)]) -> Result<(), String> {
    let mut config = client_config("localhost:1", properties);
    let made: Result<BaseConsumer, _> = config.set("group.id", "job").create();
    made.map(drop).map_err(|error| error.to_string())
}

#[test]
fn the_password_of_kafka_that_comments_show_needs_its_mechanism() {
    let password = ("KAFKA_PASSWORD", "hunter2");
    let properties = with_shown(&["properties"], password).exposed_properties();
    assert!(properties.contains(&("sasl.password".to_owned(), "hunter2".to_owned())));
    assert_eq!(client(&properties), Ok(()));
    // Neither is built in, which the README says.
    let without = properties.iter().filter(|(name, _)| name != "sasl.mechanism").cloned();
    let said = client(&without.collect::<Vec<_>>()).unwrap_err();
    assert!(said.contains("GSSAPI"), "{said}");
    let oidc = [("sasl.oauthbearer.method".to_owned(), "oidc".to_owned())];
    let said = client(&oidc).unwrap_err();
    assert!(said.contains("sasl.oauthbearer.method"), "{said}");
}

#[test]
fn a_copy_of_the_configuration_reads_models_as_if_it_said_nothing_of_them() {
    let copied = settings([("", "")]).shard.model("fraud-1");
    assert_ne!(copied.pattern, ModelSettings::default().pattern, "it has a section");
    assert_eq!(ModelSettings { pattern: "*".to_owned(), ..copied }, ModelSettings::default());
}

#[test]
fn users_of_a_cluster_may_do_what_init_does_there() {
    let engine = Engine::Replicated {
        cluster: Some("main".to_owned()),
        path: "/tables/{table}".to_owned(),
        replica: "{replica}".to_owned(),
    };
    let sql = tables::print(&Databases::of("tidegauge"), &engine);
    assert!(sql.contains(" ON CLUSTER "));
    let engines = sql.lines().filter_map(|line| line.strip_prefix("ENGINE = ")?.split('(').next());
    let engines: BTreeSet<&str> = engines.collect();
    assert_eq!(engines, BTreeSet::from(["ReplicatedMergeTree", "ReplicatedReplacingMergeTree"]));
    for file in ["clickhouse/users.sql", "clickhouse/users.d/tidegauge.xml"] {
        let users = read(file);
        assert!(users.contains("GRANT CLUSTER ON *.*"), "{file}");
        for engine in &engines {
            assert!(users.contains(&format!("GRANT TABLE ENGINE ON {engine}")), "{file}: {engine}");
        }
    }
}

#[test]
fn the_configuration_says_what_has_no_default() {
    let all = read("tidegauge.toml");
    let documented = toml::Value::Table(all.parse().unwrap());
    let (said, _) = all.split_once("\n# Each option can be set").unwrap();
    let said: BTreeSet<&str> = said.split([' ', ',', '\n']).collect();
    for option in OPTIONS {
        let parts: Vec<_> = option.key.split('.').collect();
        let key = parts[parts.len() - 1];
        if ["metrics", "alerts", "notify"].contains(&parts[0]) && parts.len() > 1 {
            // Two have a default that depends on what the rule is about.
            let depends = ["min_n", "min_coverage"].contains(&key);
            assert_eq!(said.contains(key), depends || !option.default.is_empty(), "{}", option.key);
            continue;
        }
        // What is written there and has no default is empty, or one of the three that the first lines name.
        let value = parts.iter().try_fold(&documented, |value, part| {
            value.get(if *part == "*" { "fraud-*" } else { *part })
        });
        let is_empty = value.and_then(toml::Value::as_str).is_none_or(str::is_empty);
        let named = ["inferences.topic", "labels.topic", "schema_registry.url"];
        let is_example = option.default.is_empty() && !is_empty;
        assert_eq!(is_example, named.contains(&option.key), "{}", option.key);
    }
}

/// Every meter by the name that Prometheus has for it.
fn meters() -> BTreeSet<String> {
    let source = repository("src/telemetry.rs");
    let fields = source.split("struct Meters {").nth(1).unwrap().split("\n}").next().unwrap();
    let named = source.match_indices(": meter!(").map(|(at, _)| {
        let field = source[..at].rsplit(' ').next().unwrap();
        let name = source[at..].split('"').nth(1).unwrap();
        let is_field = |line: &&str| line.trim_start().starts_with(&format!("{field}: "));
        let declared = fields.lines().find(is_field).unwrap_or_else(|| panic!("{field}"));
        // A counter's name ends so in the text.
        let end = if declared.contains("Counter") { "_total" } else { "" };
        format!("tidegauge_{name}{end}")
    });
    named.collect()
}

/// The meters that a text names.
fn named_meters(text: &str) -> BTreeSet<&str> {
    let named = text.match_indices("tidegauge_").map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    named.collect()
}

#[test]
fn rules_of_prometheus_name_meters_that_there_are_and_those_of_the_readme() {
    let meters = meters();
    assert!(meters.len() > 25 && meters.contains("tidegauge_labels_orphaned_total"), "{meters:?}");
    let rules = documents("prometheus/tidegauge.rules.yaml").remove(0);
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for rule in rules {
        assert!(names.insert(text(&rule["alert"])), "each has a name of its own: {rule}");
        assert!(rule["labels"]["severity"].is_string(), "{rule}");
        assert!(rule["annotations"]["summary"].is_string(), "{rule}");
        let expression = text(&rule["expr"]);
        let asked = named_meters(expression);
        assert!(!asked.is_empty(), "{expression}");
        assert!(asked.iter().all(|&name| meters.contains(name)), "{expression}");
        for outcome in expression.split("outcome=\"").skip(1) {
            let outcome = outcome.split('"').next();
            assert!(OUTCOME_NAMES.iter().any(|(_, name)| Some(*name) == outcome), "{expression}");
        }
    }
    let readme = repository("README.md");
    let table = readme.lines().filter(|line| line.starts_with("| `tidegauge_"));
    let told: BTreeSet<&str> = table.flat_map(named_meters).collect();
    let watched = rules.iter().flat_map(|rule| named_meters(text(&rule["expr"])));
    assert_eq!(told, watched.collect::<BTreeSet<_>>());
}

#[test]
fn rules_of_prometheus_see_that_nobody_is_told() {
    let rules = documents("prometheus/tidegauge.rules.yaml").remove(0);
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["alert"] == "TidegaugeNotTold").unwrap();
    let meter = "tidegauge_notifications_total{result=\"failed\"}";
    let expression = text(&rule["expr"]);
    assert!(expression.contains(meter) && expression.contains("target"), "{rule}");
    let telemetry = Telemetry::new();
    telemetry.notification("on-call", false);
    let told = telemetry.encode();
    let mut lines = told.lines();
    let failed = lines.find(|line| line.starts_with("tidegauge_notifications_total{")).unwrap();
    for label in ["result=\"failed\"", "target=\"on-call\""] {
        assert!(failed.contains(label), "{failed}");
    }
    assert!(repository("README.md").contains(&format!("| `{meter}` |")));
}

#[test]
fn the_readme_has_every_view() {
    let readme = repository("README.md");
    let views = repository("schemas/clickhouse/views.sql");
    let begin = "CREATE OR REPLACE VIEW `tidegauge_bi`.";
    let views: Vec<_> = views.lines().filter_map(|line| line.strip_prefix(begin)).collect();
    assert!(views.len() > 20, "{views:?}");
    for view in views {
        assert!(readme.contains(&format!("\n| {view} |")), "{view} is not in the table of views");
    }
}

/// Where links to a heading of a page lead.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let headings = page.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    for page in ["README.md", "benches/README.md", "tests/service/faults/README.md"] {
        let (text, folder) = (repository(page), Path::new(page).parent().unwrap());
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let mut count = 0;
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { PathBuf::from(page) } else { folder.join(file) };
            let to = place(to.to_str().unwrap());
            assert!(to.exists(), "{page}: {link}");
            if !anchor.is_empty() {
                let headings = anchors(&fs::read_to_string(to).unwrap());
                assert!(headings.contains(anchor), "{page}: {link}");
            }
            count += 1;
        }
        assert!(count > 0, "{page} has no link");
    }
}
