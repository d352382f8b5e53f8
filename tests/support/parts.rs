//! Real parts for tests: child processes on ports of their own, `sluice serve` among them, and a client to look into them.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use serde_json::Value;

#[path = "ports.rs"]
mod ports;
pub use ports::*;

/// How long a test waits for what it says will come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for a real part to start: two servers in Python at once take most of a minute on a busy machine.
const START: Duration = Duration::from_secs(180);

/// A child process that ends when this is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command`, whose output nobody reads.
    ///
    /// # Panics
    /// If it cannot be started, with `hint`.
    pub fn start(command: &mut Command, hint: &str) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something answers at `url`.
pub async fn ready(url: &str) {
    let address = url.trim_start_matches("http://").split('/').next().expect("address").to_owned();
    let connected = async {
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(START, connected).await.unwrap_or_else(|_| panic!("{url} does not answer"));
}

/// `sluice`, as cargo has built it or as `SLUICE_TEST_BIN_DIR` has it, with this relay file and these variables.
pub fn sluice(relay: &Value, variables: &[(&str, &str)]) -> Command {
    let binary: PathBuf = match std::env::var_os("SLUICE_TEST_BIN_DIR") {
        Some(bins) => PathBuf::from(bins).join("sluice"),
        None => env!("CARGO_BIN_EXE_sluice").into(),
    };
    let mut command = Command::new(binary);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("SLUICE_CONFIG", relay.to_string());
    command.envs(variables.iter().copied());
    command
}

/// Starts `sluice serve`, its data in `folder`, and returns where it listens.
pub async fn serve(relay: &Value, variables: &[(&str, &str)], folder: &Path) -> (Process, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = sluice(relay, variables);
    command.args(["serve", "--listen", &address, "--data"]).arg(folder.join("data"));
    let process = Process::start(&mut command, "cargo builds it");
    let url = format!("http://{address}");
    ready(&url).await;
    (process, url)
}

/// One request, with this `Authorization` if it is not empty, and its answer: the status, and the body where that is
/// JSON.
pub async fn http(method: &str, url: &str, authorization: &str, body: &Value) -> (u16, Value) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = reqwest::Client::new().request(method, url).timeout(PATIENCE);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Waits until `look` finds something.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} did not come"))
}
