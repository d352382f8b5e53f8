//! The cluster side: the kustomize bases build, and what they build is as safe as they say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sluice::relay::Relay;
use sluice::rim::yaml;

fn base(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/cluster").join(name)
}

fn agent() -> PathBuf {
    base("agent")
}

/// What kustomize makes of a folder; `None` where there is no kubectl.
fn build(folder: &Path) -> Option<Vec<Value>> {
    let output = match Command::new("kubectl").arg("kustomize").arg(folder).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Not by `eprintln!`, whose output nobody sees of a test that passes.
            let said = "\nSKIPPED: there is no kubectl; the kustomize bases were NOT checked\n\n";
            std::io::stderr().write_all(said.as_bytes()).expect("standard error");
            return None;
        }
        Err(error) => panic!("kubectl: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let document = |text: &str| yaml::parse(text).unwrap_or_else(|why| panic!("{why}: {text}")).value;
    Some(text.split("\n---\n").map(document).collect())
}

fn of<'a>(built: &'a [Value], kind: &str) -> Vec<&'a Value> {
    built.iter().filter(|one| one["kind"] == kind).collect()
}

fn only<'a>(built: &'a [Value], kind: &str) -> &'a Value {
    match of(built, kind)[..] {
        [one] => one,
        ref others => panic!("{} of {kind}", others.len()),
    }
}

fn config_map<'a>(built: &'a [Value], name: &str) -> &'a Value {
    let named = |one: &&&Value| one["metadata"]["name"].as_str().is_some_and(|one| one.starts_with(name));
    of(built, "ConfigMap").iter().find(named).copied().unwrap_or_else(|| panic!("no {name}"))
}

/// Writes the overlay in a base's README beside a copy of the base, which is there called `../base`.
fn overlay(of: &Path) -> (tempfile::TempDir, PathBuf) {
    let readme = fs::read_to_string(of.join("README.md")).expect("README");
    let overlay = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an overlay");
    let folder = tempfile::tempdir().expect("folder");
    let (base, own) = (folder.path().join("base"), folder.path().join("overlay"));
    for folder in [&base, &own] {
        fs::create_dir(folder).expect("folder");
    }
    for file in fs::read_dir(of).expect("folder") {
        let file = file.expect("file");
        fs::copy(file.path(), base.join(file.file_name())).expect("copied");
    }
    fs::write(own.join("kustomization.yaml"), overlay).expect("written");
    (folder, own)
}

/// The relay file of an example, as it is written.
fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/examples").join(name).join("relay.yaml");
    yaml::parse(&fs::read_to_string(path).expect("relay file")).unwrap_or_else(|why| panic!("{why}")).value
}

/// The parameter that becomes the key `token` of this Secret.
fn parameter_of<'a>(built: &'a [Value], secret: &str) -> &'a str {
    let external = of(built, "ExternalSecret").into_iter().find(|one| one["spec"]["target"]["name"] == secret);
    let external = &external.unwrap_or_else(|| panic!("nothing makes the Secret {secret}"))["spec"];
    let [data] = &external["data"].as_array().expect("data")[..] else { panic!("more than one key in {secret}") };
    assert_eq!(data["secretKey"], "token");
    data["remoteRef"]["key"].as_str().expect("key")
}

fn relay_of(built: &[Value]) -> Relay {
    let text = config_map(built, "sluice-agent-relay")["data"]["relay.yaml"].as_str().expect("text");
    let value = yaml::parse(text).unwrap_or_else(|why| panic!("{why}")).value;
    Relay::from_value(&value).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn the_agent_runs_alone_unprivileged_and_watched() {
    let Some(built) = build(&agent()) else { return };
    let deployment = only(&built, "Deployment");
    let (spec, pod) = (&deployment["spec"], &deployment["spec"]["template"]["spec"]);
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&json!(1), &json!("Recreate")));
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["serviceAccountName"], only(&built, "ServiceAccount")["metadata"]["name"]);
    assert_eq!(pod["automountServiceAccountToken"], false);
    let [agent] = &pod["containers"].as_array().expect("containers")[..] else { panic!("more than one container") };
    assert_eq!(agent["args"], json!(["agent", "--name", "$(SLUICE_AGENT)"]));
    let own = &agent["securityContext"];
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }));
    assert!(agent["resources"]["requests"]["cpu"].is_string() && agent["resources"]["requests"]["memory"].is_string());
    assert_eq!(agent["ports"], json!([{ "name": "metrics", "containerPort": 8081 }]));
    // Where only the queue is out of reach, a new process would do no better.
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/healthz")] {
        assert_eq!(agent[probe]["httpGet"], json!({ "path": path, "port": "metrics" }));
    }
    assert!(agent["image"].as_str().expect("image").contains(".invalid/"), "the placeholder can never be pulled");
}

#[test]
fn the_image_is_built_of_what_is_there_and_is_started_as_the_pod_starts_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = fs::read_to_string(agent().join("Dockerfile")).expect("Dockerfile");
    let given = |word: &str| -> Vec<&str> { file.lines().filter_map(|line| line.strip_prefix(word)).collect() };
    let [builder, image] = given("FROM ")[..] else { panic!("{file}") };
    assert_eq!(builder, concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), "-bookworm AS build"));
    assert!(image.contains("debian12"), "bookworm, whose C library it is linked with: {image}");
    let sources: Vec<_> = given("COPY ").into_iter().filter(|line| !line.starts_with("--from")).collect();
    for path in sources.iter().flat_map(|line| line.rsplit_once(' ').expect("from and to").0.split(' ')) {
        assert!(root.join(path).exists(), "{path}");
    }
    assert_eq!(given("ENTRYPOINT "), ["[\"/usr/local/bin/sluice\"]"]);

    let Some(built) = build(&agent()) else { return };
    let pod = &only(&built, "Deployment")["spec"]["template"]["spec"];
    let own = &pod["securityContext"];
    assert_eq!(given("USER "), [format!("{}:{}", own["runAsUser"], own["runAsGroup"])]);
    assert!(pod["containers"][0]["command"].is_null(), "else the entry point counts for nothing");
}

#[test]
fn the_agent_is_configured_by_generated_maps_whose_names_follow_their_content() {
    let Some(built) = build(&agent()) else { return };
    let pod = &only(&built, "Deployment")["spec"]["template"]["spec"];
    let (relay, environment) =
        (config_map(&built, "sluice-agent-relay"), config_map(&built, "sluice-agent-environment"));
    assert_ne!(relay["metadata"]["name"], "sluice-agent-relay", "the name has a hash");
    assert_eq!(pod["volumes"][0]["configMap"]["name"], relay["metadata"]["name"]);
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/sluice");
    assert_eq!(pod["containers"][0]["envFrom"][0]["configMapRef"]["name"], environment["metadata"]["name"]);
    let names: Vec<_> = environment["data"].as_object().expect("data").keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "AWS_REGION",
            "SLUICE_AGENT",
            "SLUICE_CONFIG",
            "SLUICE_DEAD_LETTER_URL",
            "SLUICE_QUEUE_URL",
            "SLUICE_STATE_TABLE"
        ]
    );
    assert_eq!(environment["data"]["SLUICE_CONFIG"], "file:/etc/sluice/relay.yaml");
    let relay = relay_of(&built);
    assert!(relay.sources.is_empty() && !relay.targets.is_empty(), "an agent has targets and nothing else");
    for entry in relay.targets.values() {
        let agent = entry.keys.agent.as_ref().map(|name| name.as_str());
        assert_eq!(agent, environment["data"]["SLUICE_AGENT"].as_str(), "else it would not start");
    }
}

#[test]
fn nobody_gets_in_but_to_the_metrics_of_the_agents_pods() {
    let Some(built) = build(&agent()) else { return };
    let policy = &only(&built, "NetworkPolicy")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["ingress"], json!([{ "ports": [{ "port": "metrics", "protocol": "TCP" }] }]));
    assert_eq!(policy["egress"], json!([{}]));
    // An empty selector would be every pod of the namespace.
    let labels = &policy["podSelector"]["matchLabels"];
    assert_eq!(labels, &only(&built, "Deployment")["spec"]["selector"]["matchLabels"]);
    assert_eq!(labels["app.kubernetes.io/name"], "sluice-agent");
    for absent in ["Service", "Ingress", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"] {
        assert!(of(&built, absent).is_empty(), "{absent}");
    }
}

#[test]
fn the_overlay_in_the_readme_sets_all_that_is_a_users() {
    let (_folder, own) = overlay(&agent());
    let relay = "targets:\n  mine: { type: http, url: \"https://mine.example.com/\" }\n";
    fs::write(own.join("agent.yaml"), relay).expect("written");
    let Some(built) = build(&own) else { return };
    let deployment = only(&built, "Deployment");
    assert_eq!(deployment["metadata"]["namespace"], "sluice");
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("image");
    assert_eq!(image, "111122223333.dkr.ecr.eu-central-1.amazonaws.com/sluice:0.1.0");
    let names: Vec<_> = relay_of(&built).targets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["mine"]);
    let environment = &config_map(&built, "sluice-agent-environment")["data"];
    assert_eq!(environment["SLUICE_AGENT"], "prod");
    assert_eq!(environment["SLUICE_CONFIG"], "file:/etc/sluice/relay.yaml", "what the overlay leaves out stays");
    let base = build(&agent()).expect("kubectl is there");
    let base = config_map(&base, "sluice-agent-environment")["data"].as_object().expect("data");
    for (name, value) in base.iter().filter(|(_, value)| value.as_str().is_some_and(|value| value.contains("example")))
    {
        assert_ne!(&environment[name], value, "the overlay leaves the example's {name}");
    }
}

#[test]
fn flux_has_the_receivers_of_the_example_with_the_tokens_that_its_relay_file_names() {
    let Some(built) = build(&base("flux")) else { return };
    let relay = example("flux");
    let receivers = of(&built, "Receiver");
    let targets = relay["targets"].as_object().expect("targets").values().filter(|target| target["type"] == "flux");
    let targets: Vec<_> = targets.collect();
    assert_eq!(receivers.len(), targets.len());
    for target in targets {
        let (own, named) = (&target["receiver"], |one: &&&Value| one["metadata"]["name"] == target["receiver"]["name"]);
        let receiver = receivers.iter().find(named).unwrap_or_else(|| panic!("no Receiver {own}"));
        assert_eq!(receiver["metadata"]["namespace"], own["namespace"]);
        assert_eq!((&receiver["spec"]["type"], &receiver["spec"]["events"]), (&own["type"], &own["events"]));
        let secret = receiver["spec"]["secretRef"]["name"].as_str().expect("secret");
        assert_eq!(target["token"], format!("ssm:{}", parameter_of(&built, secret)));
    }
    let tokens = of(&built, "ExternalSecret").into_iter().find(|one| one["metadata"]["name"] == "sluice-receiver");
    assert_eq!(
        tokens.expect("the Receivers' tokens")["spec"]["target"]["template"]["metadata"]["labels"],
        json!({ "reconcile.fluxcd.io/watch": "Enabled" }),
        "or the paths follow a new token only after ten minutes"
    );
}

#[test]
fn what_flux_says_is_signed_with_the_secret_by_which_the_example_checks_it() {
    let Some(built) = build(&base("flux")) else { return };
    let provider = only(&built, "Provider");
    assert_eq!(provider["spec"]["type"], "generic-hmac");
    let secret = provider["spec"]["secretRef"]["name"].as_str().expect("secret");
    let source = &example("flux")["sources"]["flux"];
    assert_eq!(
        (&source["type"], &source["secret"]),
        (&json!("flux"), &format!("ssm:{}", parameter_of(&built, secret)).into())
    );
    let address = provider["spec"]["address"].as_str().expect("address");
    assert!(address.ends_with(".invalid/flux"), "a placeholder, with the source's name as path: {address}");
    let alerts = of(&built, "Alert");
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert_eq!(alert["spec"]["providerRef"]["name"], provider["metadata"]["name"]);
        assert_eq!(alert["metadata"]["namespace"], provider["metadata"]["namespace"], "Flux looks nowhere else");
        assert_eq!(alert["spec"]["eventSeverity"], "info", "with `error`, nobody hears that it is over");
    }
}

#[test]
fn the_way_in_leads_to_the_receivers_and_not_to_the_controllers_own_intake() {
    let Some(built) = build(&base("flux")) else { return };
    let [rule] = &only(&built, "HTTPRoute")["spec"]["rules"].as_array().expect("rules")[..] else { panic!("one rule") };
    assert_eq!(rule["backendRefs"], json!([{ "name": "webhook-receiver", "port": 80 }]));
    assert_eq!(rule["matches"], json!([{ "path": { "type": "PathPrefix", "value": "/hook/" } }]));
}

#[test]
fn alertmanager_proves_itself_with_the_secret_by_which_the_example_checks_it() {
    let Some(built) = build(&base("alertmanager")) else { return };
    let spec = &only(&built, "AlertmanagerConfig")["spec"];
    let [receiver] = &spec["receivers"].as_array().expect("receivers")[..] else { panic!("one receiver") };
    assert_eq!(receiver["name"], spec["route"]["receiver"]);
    let [webhook] = &receiver["webhookConfigs"].as_array().expect("webhooks")[..] else { panic!("one webhook") };
    assert_eq!(webhook["sendResolved"], true);
    let authorization = &webhook["httpConfig"]["authorization"];
    assert_eq!((&authorization["type"], &authorization["credentials"]["key"]), (&json!("Bearer"), &json!("token")));
    let secret = authorization["credentials"]["name"].as_str().expect("secret");
    let source = &example("alerts-only")["sources"]["alertmanager"];
    assert_eq!(source["secret"], format!("ssm:{}", parameter_of(&built, secret)));
    assert!(source.get("header").is_none(), "then it would not be a bearer token");
}

#[test]
fn the_overlays_of_flux_and_alertmanager_leave_no_placeholder() {
    for name in ["flux", "alertmanager"] {
        let (_folder, own) = overlay(&base(name));
        let (Some(before), Some(after)) = (build(&base(name)), build(&own)) else { return };
        let text = |built: &[Value]| Value::from(built.to_vec()).to_string();
        assert!(text(&before).contains(".invalid"));
        for placeholder in [".invalid", "aws-parameter-store", "\"name\":\"public\""] {
            assert!(!text(&after).contains(placeholder), "{name}: {placeholder}");
        }
        assert_eq!(before.len(), after.len());
    }
}
