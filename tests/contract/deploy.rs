//! What `deploy/` says agrees with the program: ports, paths, options, times to stop, and where passwords come from.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegauge::config::{Environment, Settings};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
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

fn drain_budget_s() -> u64 {
    settings([("", "")]).drain_budget.as_secs()
}

/// Where containers listen: the program's own port, on all addresses.
const LISTEN: &str = "0.0.0.0:9464";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

fn is_secret(name: &str) -> bool {
    name.contains("PASSWORD") || name.contains("SECRET")
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
        }
        for needed in service["depends_on"].as_object().into_iter().flat_map(|map| map.keys()) {
            let needed = &services[needed];
            assert_eq!(needed["profiles"], service["profiles"], "{name}");
        }
        if name != "init" && name != "topics" && name != "tidegauge" {
            assert!(service["healthcheck"]["test"].is_array(), "{name} has no health check");
        }
    }
    assert_eq!(profiles, BTreeSet::from(["core", "grafana", "metabase", "superset"]));
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
    for name in ["tidegauge", "init"] {
        let service = &compose["services"][name];
        let environment = service["environment"].as_object().unwrap();
        let settings = settings(environment.iter().map(|(k, v)| (k.as_str(), text(v))));
        assert_eq!(settings.clickhouse.url, "http://clickhouse:8123");
        assert!(
            service["volumes"][0].as_str().unwrap().contains(":/etc/tidegauge/tidegauge.toml:")
        );
    }
    let program = &compose["services"]["tidegauge"];
    assert!(seconds(text(&program["stop_grace_period"])) > drain_budget_s());
    assert_eq!(program["ports"][0], "127.0.0.1:9464:9464");
    // The topics that are created are those of the configuration.
    let create = text(&compose["services"]["topics"]["command"][0]).to_owned();
    let configured: toml::Table = read("tidegauge.toml").parse().unwrap();
    for section in ["inferences", "labels", "dead_letters"] {
        assert!(create.contains(configured[section]["topic"].as_str().unwrap()), "{section}");
    }
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
    let command: Vec<String> = serde_json::from_str(value("CMD ")).unwrap();
    assert_eq!(command, ["run", "-c", "/etc/tidegauge/tidegauge.toml"]);
    assert!(!file.to_uppercase().contains("PASSWORD"));
    // Without this file the build would be given everything that was ever built here.
    assert!(read("Dockerfile.dockerignore").starts_with("*\n"));
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
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > drain_budget_s());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
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
    assert_eq!(settings(variables).listen.to_string(), LISTEN);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(container["resources"]["limits"]["memory"].is_string());
}

#[test]
fn systemd_stops_and_restarts_as_the_program_means_it() {
    let unit = read("systemd/tidegauge.service");
    let sections: Vec<_> = unit.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(sections, ["[Unit]", "[Service]", "[Install]"]);
    let plain = unit.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    assert!(plain.clone().all(|line| line.contains('=')), "each line sets something");
    let value = |key: &str| {
        plain.clone().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap()
    };
    assert!(seconds(value("TimeoutStopSec")) > drain_budget_s());
    assert_eq!(value("KillSignal"), "SIGTERM");
    // Exit codes of wrong usage and of refusals.
    assert_eq!(value("RestartPreventExitStatus"), "2 3");
    assert_eq!(value("ExecStart"), "/usr/local/bin/tidegauge run -c /etc/tidegauge/tidegauge.toml");
    assert_eq!(value("DynamicUser"), "yes");
    assert!(value("EnvironmentFile").starts_with('-') && !plain.clone().any(is_secret));
}
