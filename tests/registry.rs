//! A real registry (CNCF Distribution, Debian's docker-registry) tells `sluice serve` of what skopeo pushes to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/parts.rs"]
mod parts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use parts::{PATIENCE, Process, free_port, ready, serve};
use serde_json::{Value, json};
use tokio::sync::Notify;

const SECRET: &str = "s3cret";

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}); scripts/test installs it (Debian packages docker-registry, skopeo)")
    });
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// What arrived at the target, in its order.
#[derive(Default)]
struct Sink {
    events: Mutex<Vec<Value>>,
    arrived: Notify,
}

impl Sink {
    /// Waits until there are `count` events, and takes them.
    async fn take(&self, count: usize) -> Vec<Value> {
        let enough = async {
            loop {
                let arrived = self.arrived.notified();
                if self.events.lock().expect("lock").len() >= count {
                    return;
                }
                arrived.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        let events = std::mem::take(&mut *self.events.lock().expect("lock"));
        assert!(waited.is_ok() && events.len() == count, "{count} events were expected: {events:#?}");
        events
    }
}

struct World {
    registry: String,
    sink: Arc<Sink>,
    layouts: PathBuf,
    digests: BTreeMap<String, String>,
    _processes: [Process; 2],
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let sink = Arc::new(Sink::default());
        let seen = sink.clone();
        let app = Router::new().route(
            "/events",
            post(move |body: String| async move {
                seen.events.lock().expect("lock").push(serde_json::from_str(&body).expect("JSON"));
                seen.arrived.notify_waiters();
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let target = format!("http://{}/events", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });

        let registry = free_port();
        let relay = json!({
            "sources": { "registry": { "type": "distribution", "secret": "env:REGISTRY_SECRET" } },
            "targets": { "sink": { "type": "http", "url": target } },
            "routes": [{ "to": ["sink"] }],
            "egress": { "allow": ["127.0.0.0/8"] },
        });
        let (sluice, url) = serve(&relay, &[("REGISTRY_SECRET", SECRET)], folder.path()).await;

        let config = folder.path().join("registry.yml");
        let text = format!(
            "version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {}/registry}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{registry}}}
notifications:
  events: {{includereferences: true}}
  endpoints:
    - name: sluice
      url: {url}/registry
      headers: {{Authorization: [\"Bearer {SECRET}\"]}}
      timeout: 1s
      threshold: 3
      backoff: 1s
",
            folder.path().display()
        );
        std::fs::write(&config, text).expect("configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let registry_process = Process::start(&mut command, "scripts/test installs docker-registry");
        ready(&format!("http://127.0.0.1:{registry}")).await;

        let layouts = folder.path().join("layouts");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/oci.py");
        let made = run("python3", &[script.to_str().expect("text"), layouts.to_str().expect("text")]);
        let digests = made.lines().filter_map(|line| line.split_once(' '));
        let digests = digests.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect();
        Self {
            registry: format!("127.0.0.1:{registry}"),
            sink,
            layouts,
            digests,
            _processes: [registry_process, sluice],
            _folder: folder,
        }
    }

    fn push(&self, layout: &str, to: &str) {
        let from = format!("oci:{}/{layout}", self.layouts.display());
        let to = format!("docker://{}/{to}", self.registry);
        run("skopeo", &["copy", "-q", "--all", "--dest-tls-verify=false", &from, &to]);
    }
}

/// What matters of an event.
fn brief(event: &Value) -> Value {
    json!({ "tags": event["tags"], "digest": event["digest"], "media_type": event["media_type"] })
}

#[tokio::test]
async fn what_is_pushed_to_a_real_registry_arrives_normalised_and_its_queue_never_blocks() {
    let world = World::start().await;
    let index = "application/vnd.oci.image.index.v1+json";
    let manifest = "application/vnd.oci.image.manifest.v1+json";

    // An image: its layers and configuration are told, too, and are nobody's business.
    world.push("single:1", "acme/Single/app:1.0.0".to_lowercase().as_str());
    let events = world.sink.take(1).await;
    assert_eq!(events[0]["kind"], "image_push");
    assert_eq!(events[0]["repository"], format!("{}/acme/single/app", world.registry), "the port stays");
    assert_eq!(events[0]["tag"], "1.0.0");
    assert_eq!(
        brief(&events[0]),
        json!({ "tags": ["1.0.0"], "digest": world.digests["single"], "media_type": manifest })
    );

    // Two architectures: both manifests by digest alone, then the index with the tag.
    world.push("multi:1", "acme/multi:2.0.0");
    let events = world.sink.take(3).await;
    assert!(events[..2].iter().all(|event| event["tags"] == json!([]) && event.get("tag").is_none()));
    assert_eq!(brief(&events[2]), json!({ "tags": ["2.0.0"], "digest": world.digests["multi"], "media_type": index }));

    // Another tag for what is there already.
    let image = |tag: &str| format!("docker://{}/acme/single/app:{tag}", world.registry);
    let (from, to) = (image("1.0.0"), image("stable"));
    run("skopeo", &["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    let events = world.sink.take(1).await;
    assert_eq!((&events[0]["tag"], &events[0]["digest"]), (&json!("stable"), &json!(world.digests["single"])));

    // A Helm chart, which only its configuration tells from an image.
    world.push("chart:0.1.0", "acme/charts/demo:0.1.0");
    let events = world.sink.take(1).await;
    assert_eq!(events[0]["tag"], "0.1.0");
    assert_eq!(events[0]["media_type"], "application/vnd.cncf.helm.config.v1+json");

    // A delete is no push, and what comes after it is not held up by it.
    run("skopeo", &["delete", "--tls-verify=false", &image("stable")]);
    world.push("single:1", "acme/after:3.0.0");
    let events = world.sink.take(1).await;
    assert_eq!(events[0]["repository"], format!("{}/acme/after", world.registry));
}
