//! A real homeserver (Synapse) gets what `sluice serve` tells it, and its room is read back.
//!
//! Needs `SLUICE_TEST_SYNAPSE`, a Python that has matrix-synapse: scripts/test sees to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/parts.rs"]
mod parts;

use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use parts::{Process, free_port, http, ready, serve, wait_for};
use serde_json::{Value, json};
use sluice::domain::name::Name;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::relay::Relay;
use sluice::target::Response;

const SECRET: &str = "s3cret";

/// A running homeserver with a room that Alice made and the bot is in.
struct Homeserver {
    url: String,
    /// Her `Authorization`.
    alice: String,
    /// Its access token.
    bot: String,
    room: String,
    folder: tempfile::TempDir,
    _process: Process,
}

impl Homeserver {
    /// Starts one, or says that there is none: a test that is skipped in silence is believed to pass.
    async fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("SLUICE_TEST_SYNAPSE") else {
            let _ =
                writeln!(std::io::stderr(), "skipped, as SLUICE_TEST_SYNAPSE is not set: messages in a Matrix room");
            return None;
        };
        let folder = tempfile::tempdir().expect("folder");
        let port = free_port();
        let place = folder.path().display();
        let logging = json!({ "version": 1, "root": { "level": "ERROR", "handlers": [] } });
        std::fs::write(folder.path().join("log.yaml"), logging.to_string()).expect("configuration");
        let generous = json!({ "per_second": 1000, "burst_count": 1000 });
        let config = json!({
            "server_name": "localhost",
            "listeners": [{
                "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false,
                "resources": [{ "names": ["client"] }],
            }],
            "database": { "name": "sqlite3", "args": { "database": format!("{place}/homeserver.db") } },
            "signing_key_path": format!("{place}/signing.key"),
            "media_store_path": format!("{place}/media"),
            "log_config": format!("{place}/log.yaml"),
            "pid_file": format!("{place}/pid"),
            "macaroon_secret_key": "m",
            "report_stats": false,
            "trusted_key_servers": [],
            "enable_registration": true,
            "enable_registration_without_verification": true,
            "bcrypt_rounds": 4,
            "rc_message": generous,
            "rc_registration": generous,
        });
        let file = folder.path().join("homeserver.yaml");
        std::fs::write(&file, config.to_string()).expect("configuration");
        let homeserver = || {
            let mut command = Command::new(&python);
            command.args(["-m", "synapse.app.homeserver", "-c"]).arg(&file).current_dir(folder.path());
            command
        };
        let made = homeserver().arg("--generate-keys").output().expect("SLUICE_TEST_SYNAPSE is a Python");
        assert!(made.status.success(), "matrix-synapse is missing: {}", String::from_utf8_lossy(&made.stderr));
        let process = Process::start(&mut homeserver(), "SLUICE_TEST_SYNAPSE is a Python");
        let url = format!("http://127.0.0.1:{port}");
        ready(&url).await;

        let [alice, bot] = [register(&url, "alice").await, register(&url, "relay").await];
        let bearer = |token: &str| format!("Bearer {token}");
        let wanted = json!({ "name": "Alerts", "invite": ["@relay:localhost"] });
        let (_, made) = http("POST", &format!("{url}/_matrix/client/v3/createRoom"), &bearer(&alice), &wanted).await;
        let room = made["room_id"].as_str().expect("a room").to_owned();
        let join = format!("{url}/_matrix/client/v3/join/{room}");
        assert_eq!(http("POST", &join, &bearer(&bot), &json!({})).await.0, 200);
        Some(Self { url, alice: bearer(&alice), bot, room, folder, _process: process })
    }

    /// The contents of the messages in the room, the oldest first.
    async fn messages(&self) -> Vec<Value> {
        let url = format!("{}/_matrix/client/v3/rooms/{}/messages?dir=f&limit=100", self.url, self.room);
        let (_, said) = http("GET", &url, &self.alice, &Value::Null).await;
        let events = said["chunk"].as_array().expect("events").iter();
        events.filter(|event| event["type"] == "m.room.message").map(|event| event["content"].clone()).collect()
    }

    fn place(&self, room: &str, transaction: &str) -> String {
        format!("{}/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}", self.url)
    }
}

/// A new user's access token.
async fn register(url: &str, name: &str) -> String {
    let wanted = json!({ "username": name, "password": "pw-of-a-test", "auth": { "type": "m.login.dummy" } });
    let (_, made) = http("POST", &format!("{url}/_matrix/client/v3/register"), "", &wanted).await;
    made["access_token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// Stands before the homeserver at `url`, and loses its answer to the first message. Returns where it listens, and the
/// paths of the messages that came.
async fn forgetful_proxy(url: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let seen = passed.clone();
    let pass_on = move |request: Request| {
        let (url, seen) = (url.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
            let body = serde_json::from_slice(&body).expect("JSON");
            let authorization = head.headers["authorization"].to_str().expect("text");
            // Noted before the homeserver is asked: what stands in the room has been noted, then.
            let first = {
                let mut seen = seen.lock().expect("lock");
                seen.push(head.uri.path().to_owned());
                seen.len() == 1
            };
            let (status, answer) =
                http(head.method.as_str(), &format!("{url}{}", head.uri), authorization, &body).await;
            if first {
                std::future::pending::<()>().await;
            }
            (StatusCode::from_u16(status).expect("a status"), axum::Json(answer)).into_response()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass_on)).await });
    (format!("http://{address}"), passed)
}

fn sample(name: &str) -> Value {
    let file = format!("{}/events/alertmanager/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).expect("sample")).expect("JSON")
}

#[tokio::test]
async fn what_fires_and_ends_stands_in_the_room_once_even_if_an_answer_is_lost() {
    let Some(homeserver) = Homeserver::start().await else { return };
    let (proxy, passed) = forgetful_proxy(homeserver.url.clone()).await;
    let relay = json!({
        "sources": { "alertmanager": { "type": "alertmanager", "secret": "env:SECRET" } },
        "targets": { "room": {
            "type": "matrix", "url": proxy, "token": "env:BOT", "room": homeserver.room,
            "mention": "@alice:localhost", "timeout": "5s",
        } },
        "routes": [{ "to": ["room"] }],
        "egress": { "allow": ["127.0.0.0/8"] },
    });
    let variables = [("SECRET", SECRET), ("BOT", homeserver.bot.as_str())];
    let (_sluice, url) = serve(&relay, &variables, homeserver.folder.path()).await;
    for name in ["firing", "resolved"] {
        let posted = http("POST", &format!("{url}/alertmanager"), &format!("Bearer {SECRET}"), &sample(name)).await;
        assert_eq!(posted.0, 202, "{name}");
    }
    let messages = wait_for("a message of what is over", || async {
        Some(homeserver.messages().await).filter(|all| all.iter().any(|one| one["msgtype"] == "m.notice"))
    })
    .await;

    let paths = passed.lock().expect("lock").clone();
    let mut messages_sent = paths.clone();
    messages_sent.dedup();
    assert!(
        paths[0] == paths[1] && messages_sent.len() == 2,
        "what was not answered is sent again as the same: {paths:?}"
    );
    let [firing, over] = messages.as_slice() else { panic!("{messages:#?}") };
    let text = |message: &Value, field: &str| message[field].as_str().expect("text").to_owned();
    assert_eq!((&firing["msgtype"], &over["msgtype"]), (&"m.text".into(), &"m.notice".into()));
    assert_eq!(
        (&firing["m.mentions"], &over["m.mentions"]),
        (&json!({ "user_ids": ["@alice:localhost"] }), &json!({}))
    );
    let (firing_body, over_body) = (text(firing, "body"), text(over, "body"));
    assert!(firing_body.starts_with("@alice:localhost 🔥 Critical: "), "{firing_body}");
    assert!(over_body.starts_with("✅ Resolved: "), "{over_body}");
    for message in [firing, over] {
        let html = text(message, "formatted_body");
        assert!(html.contains("<b>") && html.contains("HighErrorRate"), "{html}");
    }
    println!("in the room:\n\n{firing_body}\n\n{over_body}\n");

    // Alice is notified of what is pressing, and of nothing else.
    let sync = format!("{}/_matrix/client/v3/sync", homeserver.url);
    let (_, seen) = http("GET", &sync, &homeserver.alice, &Value::Null).await;
    let unread = &seen["rooms"]["join"][&homeserver.room]["unread_notifications"];
    assert_eq!(unread, &json!({ "highlight_count": 1, "notification_count": 1 }));
}

#[tokio::test]
async fn what_a_homeserver_answers_is_understood() {
    let Some(homeserver) = Homeserver::start().await else { return };
    let relay = json!({
        "targets": { "room": { "type": "matrix", "url": homeserver.url, "token": "env:BOT", "room": homeserver.room } },
    });
    let relay = Relay::from_value(&relay).expect("a sound relay file");
    let target = &relay.targets[&Name::parse("room").expect("a name")].target;
    let message = |length: usize| json!({ "msgtype": "m.text", "body": "x".repeat(length) });
    let (ours, room) = (homeserver.bot.as_str(), homeserver.room.as_str());
    let longest = 60_000 - message(0).to_string().len();
    for (token, room, body, expected) in [
        (ours, room, message(longest), Ok(())),
        (ours, room, message(70_000), Err(None)),
        ("wrong", room, message(1), Err(Some(Blame::Setup))),
        (ours, "!nowhere:localhost", message(1), Err(Some(Blame::Setup))),
        (ours, "#alias:localhost", message(1), Err(Some(Blame::Setup))),
    ] {
        let place = homeserver.place(&room.replace('#', "%23"), &format!("t{}", body.to_string().len()));
        let (status, answer) = http("PUT", &place, &format!("Bearer {token}"), &body).await;
        let answer = Response { status, headers: Default::default(), body: answer.to_string().into() };
        let outcome = target.classify(&answer, jiff::Timestamp::now());
        let seen = match outcome {
            Outcome::Delivered => Ok(()),
            Outcome::Retry { blame, .. } => Err(Some(blame)),
            Outcome::Rejected { .. } => Err(None),
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(seen, expected, "{status}: {}", String::from_utf8_lossy(&answer.body));
    }
}
