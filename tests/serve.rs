//! `sluice`, as a user runs it: the binary, on one machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/receiver.rs"]
mod receiver;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use receiver::{FluxReceivers, Receiver};
use serde_json::Value;

const TOKEN: &str = "hunter2-token";
const SECRET: &str = "hunter2-secret";

fn sluice() -> Command {
    let binary = match std::env::var_os("SLUICE_TEST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder).join("sluice"),
        None => env!("CARGO_BIN_EXE_sluice").into(),
    };
    let mut command = Command::new(binary);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("SLUICE_CONFIG").stdin(Stdio::null());
    command
}

/// A running `sluice serve`, killed when it is dropped.
struct Serve {
    child: Child,
    url: String,
    output: Option<BufReader<std::process::ChildStdout>>,
}

impl Serve {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("text");
        let url = line.split(' ').find(|word| word.starts_with("http://")).expect("it says where it listens");
        Self { child, url: url.to_owned(), output: Some(output) }
    }

    fn with(folder: &Path) -> Self {
        let mut command = sluice();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("relay.yaml"));
        command.arg("--data").arg(folder.join("data"));
        Self::start(command)
    }

    fn send(&self, folder: &Path, event: &str) -> Output {
        let mut command = sluice();
        command.args(["send", "github", event, "--url", &self.url, "--config"]).arg(folder.join("relay.yaml"));
        command.output().expect("run")
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(done.success());
    }

    fn end(mut self) -> bool {
        self.child.wait().expect("ended").success()
    }

    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
        // It may be refused before all of it is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a relay file for `receivers`.
fn folder(receivers: &FluxReceivers) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path();
    std::fs::write(path.join("secret"), SECRET).expect("secret");
    std::fs::write(path.join("token"), TOKEN).expect("token");
    let text = format!(
        "sources: {{ github: {{ type: github, secret: 'file:{0}/secret' }} }}
targets:
  cluster:
    type: flux
    url: {1}
    receiver: {{ type: github, name: apps, namespace: flux-system }}
    token: 'file:{0}/token'
routes: [{{ to: [cluster] }}]
egress: {{ allow: [127.0.0.0/8] }}
",
        path.display(),
        receivers.url()
    );
    std::fs::write(path.join("relay.yaml"), text).expect("relay file");
    folder
}

fn receivers() -> FluxReceivers {
    FluxReceivers::with(Receiver::new("github", "apps", "flux-system", TOKEN))
}

#[tokio::test]
async fn a_push_that_is_sent_by_hand_arrives_at_the_receiver() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let sent = serve.send(folder.path(), "github/push");
    assert!(sent.status.success(), "{sent:?}");
    assert!(String::from_utf8_lossy(&sent.stdout).starts_with("202\n"));
    receivers.wait_for_accepted(1).await;
    receivers.assert_nothing_rejected();
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let receivers = receivers();
    let folder = folder(&receivers);
    receivers.answer_next(1, 503);
    let serve = Serve::with(folder.path());
    for event in ["github/push", "github/push-form", "github/release-published"] {
        assert!(serve.send(folder.path(), event).status.success());
    }
    receivers.wait_for_requests(1).await;
    serve.signal("-KILL");
    drop(serve);
    let before = receivers.accepted().len();
    let _serve = Serve::with(folder.path());
    let accepted = receivers.wait_for_accepted(3).await;
    assert!(before <= 3 && accepted.len() >= 3);
    let mut ids: Vec<_> = accepted.iter().filter_map(|one| one.header("x-github-delivery")).collect();
    ids.dedup();
    let order = ["e1320fa9-c836-5398-9f3f-1e0ab00e7ad0", "72be6362-f6ac-5aaa-9bce-9eecf2d6af96"];
    assert_eq!(ids[..2], order, "in the order in which they were acknowledged");
}

#[tokio::test]
async fn a_request_under_way_ends_when_the_process_is_asked_to_stop() {
    let receivers = receivers();
    let folder = folder(&receivers);
    receivers.delay(Duration::from_millis(300));
    let serve = Serve::with(folder.path());
    assert!(serve.send(folder.path(), "github/push").status.success());
    receivers.wait_for_requests(1).await;
    serve.signal("-TERM");
    assert!(serve.end(), "a clean end");
    assert_eq!(receivers.accepted().len(), 1);
    receivers.delay(Duration::ZERO);
    receivers.forget();
    let serve = Serve::with(folder.path());
    assert!(serve.send(folder.path(), "github/release-published").status.success());
    let accepted = receivers.wait_for_accepted(1).await;
    assert_eq!(accepted[0].header("x-github-event"), Some("release"), "nothing is repeated after a clean end");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_told_why() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let _first = Serve::with(folder.path());
    let mut command = sluice();
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.path().join("relay.yaml"));
    let second = command.arg("--data").arg(folder.path().join("data")).output().expect("run");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use"), "{second:?}");
}

#[test]
fn rude_senders_get_an_answer_of_their_own() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let large =
        [b"POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n".to_vec(), vec![b' '; 4_000_000]]
            .concat();
    for (request, status) in [
        (large.as_slice(), "413"),
        (
            b"POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .as_slice(),
            "4",
        ),
        (b"POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".as_slice(), "400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".as_slice(), "404"),
        (
            b"POST http://other.example/github HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
                .as_slice(),
            "401",
        ),
        (b"nonsense\r\n\r\n".as_slice(), "400"),
    ] {
        let answer = serve.raw(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
}

#[tokio::test]
async fn what_would_pass_the_memory_for_bodies_is_told_at_once_to_come_again() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let hold = |announced: usize, sent: usize| {
        let mut stream = TcpStream::connect(serve.url.trim_start_matches("http://")).expect("connected");
        let head = format!("POST /github HTTP/1.1\r\nhost: x\r\ncontent-length: {announced}\r\n\r\n");
        stream.write_all(&[head.into_bytes(), vec![b' '; sent]].concat()).expect("sent");
        stream
    };
    let small = b"POST /github HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 64\r\n\r\n";
    let small = [small.as_slice(), &[b' '; 64]].concat();
    let until = async |status: &str| loop {
        let answer = serve.raw(&small);
        if answer.starts_with(&format!("HTTP/1.1 {status}")) {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (most, room) = (3 << 20, 32 << 20);
    // What is announced alone takes nothing of it.
    let announced: Vec<_> = (0..20).map(|_| hold(most, 0)).collect();
    assert!(serve.raw(&small).starts_with("HTTP/1.1 401"));
    let mut held: Vec<_> = (0..10).map(|_| hold(most, most - 1)).collect();
    held.push(hold(most, room - 10 * (most - 1) - 32));
    let refused = until("503").await;
    assert!(refused.contains("retry-after: 5") && refused.contains("please send again"), "{refused}");
    let health = serve.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    drop((held, announced));
    until("401").await;
    assert!(serve.send(folder.path(), "github/push").status.success());
    receivers.wait_for_accepted(1).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = sluice();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>/dev/full", "sh"]).arg(serve.get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.path().join("relay.yaml"));
    command.arg("--data").arg(folder.path().join("data"));
    let serve = Serve::start(command);
    for event in ["github/push", "github/release-published"] {
        assert!(serve.send(folder.path(), event).status.success());
    }
    receivers.wait_for_accepted(2).await;
}

#[cfg(target_os = "linux")]
#[test]
fn a_flood_of_the_largest_bodies_does_not_grow_the_process() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let size = 3 << 20;
    let head = format!("POST /github HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    let request = [head.into_bytes(), vec![b' '; size]].concat();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..100).map(|_| scope.spawn(|| serve.raw(&request))).collect();
        for sender in senders {
            let answer = sender.join().expect("answered");
            assert!(answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.child.id())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 128 * 1024, "300 MiB came in, and {peak} KiB were taken");
    assert!(serve.send(folder.path(), "github/push").status.success());
}

#[test]
fn a_sender_under_way_is_answered_before_the_process_stops_and_a_new_one_is_not_let_in() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let address = serve.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("connected");
    stream
        .write_all(b"POST /github HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n")
        .expect("sent");
    let mut begun = [0; 25];
    stream.read_exact(&mut begun).expect("it reads");
    assert!(begun.starts_with(b"HTTP/1.1 100"));
    stream.write_all(b"half.").expect("sent");
    serve.signal("-TERM");
    while TcpStream::connect(&address).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    stream.write_all(b"whole").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(serve.end());
}

#[test]
fn whoever_is_too_slow_with_the_head_of_a_request_is_cut_off_and_keeps_nobody_waiting() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    let slow = || {
        let mut stream = TcpStream::connect(serve.url.trim_start_matches("http://")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("time-out");
        stream.write_all(b"POST /github HTTP/1.1\r\nhost:").expect("sent");
        stream
    };
    let senders: Vec<_> = (0..50).map(|_| slow()).collect();
    assert!(serve.send(folder.path(), "github/push").status.success());
    for mut sender in senders {
        let mut answer = Vec::new();
        // Closed or reset: in any case it ends.
        if let Err(error) = sender.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}

#[test]
fn the_inspector_is_a_page_for_this_machine_and_holds_no_secret() {
    let receivers = receivers();
    let folder = folder(&receivers);
    let serve = Serve::with(folder.path());
    serve.send(folder.path(), "github/push");
    let asked =
        |host: &str| serve.raw(format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes());
    for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
        let page = asked(host);
        assert!(page.starts_with("HTTP/1.1 200") && page.contains("push refs/heads/main"), "{page}");
        assert!(!page.contains("hunter2") && !page.contains("/hook/"), "{page}");
    }
    for host in ["rebound.example.com", "rebound.example.com:8080", "localhost.example.com", "192.0.2.1", "", "@"] {
        let page = asked(host);
        assert!(page.starts_with("HTTP/1.1 4") && !page.contains("refs/heads/main"), "{host}: {page}");
    }
}

#[test]
fn without_a_relay_file_the_example_runs_and_verifies_what_it_gets() {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = sluice();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
    let mut serve = Serve::start(command);
    assert!(serve.send(folder.path(), "github/push").status.success());
    let output = serve.output.take().expect("output");
    let line =
        output.lines().map(|line| line.expect("text")).find(|line| line.starts_with("receiver: ")).expect("a verdict");
    assert!(line.contains("200: path and signature fit; event `push`"), "{line}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("github.secret")).expect("secret").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

fn check(text: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("relay.yaml");
    std::fs::write(&file, text).expect("file");
    let done = sluice().arg("check").arg("--config").arg(&file).args(arguments).output().expect("run");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).replace(&format!("{}", file.display()), "relay.yaml"))
}

#[test]
fn check_names_every_problem_with_line_and_column_and_the_exit_status_tells() {
    let (status, said) =
        check("sources:\n  github: { type: github, sceret: 'ssm:/a' }\nroutes: [{ to: [nobody] }]\n", &[]);
    assert_eq!(status, Some(1));
    assert_eq!(
        said,
        "relay.yaml:2:11: error: sources.github: `secret` is missing\n\
         relay.yaml:2:35: error: sources.github.sceret: unknown key `sceret`; did you mean `secret`?\n\
         relay.yaml:3:16: error: routes.0.to: there is no target named `nobody`\n"
    );
    let (status, said) = check("sources: [", &["--json"]);
    assert_eq!(status, Some(1));
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["problems"][0]["level"], "error");
    assert_eq!(sluice().arg("check").output().expect("run").status.code(), Some(2));
    assert_eq!(sluice().arg("nonsense").output().expect("run").status.code(), Some(2));
}

#[test]
fn check_points_out_a_secret_that_ends_in_a_newline() {
    let folder = tempfile::tempdir().expect("folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").expect("secret");
    let text = format!("sources: {{ github: {{ type: github, secret: 'file:{}' }} }}\n", secret.display());
    let (status, said) = check(&text, &[]);
    assert_eq!(status, Some(0), "a warning is no error");
    assert!(said.contains("ends in white space") && !said.contains("hunter2"), "{said}");
}

#[test]
fn path_agrees_with_flux_and_url_with_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "relay-demo-token-0001").expect("token");
    let path = sluice()
        .args(["path", "--name", "github-receiver", "--namespace", "flux-system", "--token-file"])
        .arg(&token)
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&path.stdout).into_owned();
    assert_eq!(said, "/hook/575b85660e3022c8ca5085d3297cbb9f0ff1dabc1509688e248fe84376d848cf\n");
    let path = sluice().args(["path", "--name", "apps", "--namespace", "flux-system", "--oidc"]).output().expect("run");
    // printf appsflux-system | sha256sum
    let public = "/hook/8e08e90a2529e22bc553aaa9715746cabfa783c3f326582866b7266714034521";
    assert_eq!(String::from_utf8_lossy(&path.stdout), format!("{public}\n"));
    let unclear = sluice().args(["path", "--name", "apps", "--namespace", "flux-system"]).output().expect("run");
    assert_eq!(unclear.status.code(), Some(2), "without a token it has to be said that there is none");
    let file = folder.path().join("relay.yaml");
    let receiver = "{ type: generic-oidc, name: apps, namespace: flux-system }";
    let text = format!("targets: {{ oidc: {{ type: flux, url: 'https://x.example/flux', receiver: {receiver} }} }}");
    std::fs::write(&file, text).expect("file");
    // Everybody can compute this one: no secret is fetched, and there is no AWS here.
    let path = sluice().args(["path", "oidc", "--config"]).arg(&file).output().expect("run");
    assert_eq!(String::from_utf8_lossy(&path.stdout), format!("oidc\t{public}\n"));
    let text = format!("sources: {{ hub: {{ type: github, secret: 'file:{}', url_token: true }} }}", token.display());
    std::fs::write(&file, text).expect("file");
    let url =
        sluice().args(["url", "--json", "--base", "https://x.example/", "--config"]).arg(&file).output().expect("run");
    let said: Value = serde_json::from_slice(&url.stdout).expect("JSON");
    // printf 'sluice:hub' | openssl dgst -sha256 -hmac relay-demo-token-0001
    assert_eq!(
        said[0]["url"],
        "https://x.example/hub/b7549e7a4d15038f2bd874f3171da469db095931bfcc20fbe9a8e822b67b7b3f"
    );
}

/// `sluice dead-letters` on the data folder: exit status and what it printed.
fn dead_letters(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = sluice();
    command.arg("dead-letters").args(arguments).arg("--json").arg("--data").arg(folder.join("data"));
    let done = command.env_remove("SLUICE_DEAD_LETTER_URL").output().expect("run");
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

/// Waits until there is one dead letter, of this generation.
async fn letter_of_generation(folder: &Path, generation: u64) -> Value {
    let found = async {
        loop {
            let (status, said) = dead_letters(folder, &["list"]);
            assert_eq!(status, Some(0), "{said}");
            let letters = said["letters"].as_array().expect("letters");
            if let [letter] = letters.as_slice()
                && letter["generation"] == generation
            {
                return letter.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    found.unwrap_or_else(|_| panic!("there is no letter of generation {generation}"))
}

#[tokio::test]
async fn a_dead_letter_can_be_sent_again_and_again_while_the_process_runs() {
    let receivers = receivers();
    let folder = folder(&receivers);
    receivers.answer_next(3, 413);
    let serve = Serve::with(folder.path());
    assert!(serve.send(folder.path(), "github/push").status.success());
    let first = letter_of_generation(folder.path(), 0).await;
    assert_eq!(
        (&first["target"], &first["class"], &first["attempts"]),
        (&"cluster".into(), &"rejected".into(), &1.into())
    );

    // Twice within a second, and the queue takes neither for what it has seen.
    let id = first["id"].as_str().expect("an id");
    assert_eq!(dead_letters(folder.path(), &["redrive", id]).0, Some(0));
    letter_of_generation(folder.path(), 1).await;
    assert_eq!(dead_letters(folder.path(), &["redrive", "--target", "cluster", "--class", "rejected"]).0, Some(0));
    let third = letter_of_generation(folder.path(), 2).await;
    assert_eq!((third["id"].as_str(), &third["attempts"]), (Some(id), &1.into()), "its attempts are counted anew");
    assert_eq!(receivers.requests().len(), 3);

    let (status, said) = dead_letters(folder.path(), &["redrive", "--all", "--dry-run"]);
    assert_eq!((status, &said["letters"][0]["redriven"]), (Some(0), &false.into()));
    let (_, shown) = dead_letters(folder.path(), &["show", id]);
    assert_eq!(shown["letters"][0]["delivery"]["event"]["ref"], "refs/heads/main");
    assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("/hook/"), "{shown}");
    assert_eq!(dead_letters(folder.path(), &["redrive", "--all"]).0, Some(0));
    receivers.wait_for_accepted(1).await;
    assert_eq!(dead_letters(folder.path(), &["list"]).1["letters"], serde_json::json!([]));
}

#[tokio::test]
async fn dead_letters_can_be_handled_while_the_process_is_stopped() {
    let receivers = receivers();
    let folder = folder(&receivers);
    receivers.answer_next(2, 413);
    let serve = Serve::with(folder.path());
    assert!(serve.send(folder.path(), "github/push").status.success());
    assert!(serve.send(folder.path(), "github/release-published").status.success());
    receivers.wait_for_requests(2).await;
    serve.signal("-TERM");
    assert!(serve.end());
    assert!(!folder.path().join("data/sluice.sock").exists());
    let (_, said) = dead_letters(folder.path(), &["list"]);
    let ids: Vec<_> = said["letters"].as_array().expect("letters").iter().map(|one| one["id"].as_str()).collect();
    let [Some(first), Some(second)] = ids[..] else { panic!("{said}") };
    assert_eq!(dead_letters(folder.path(), &["discard", first]).0, Some(0));
    assert_eq!(dead_letters(folder.path(), &["show", first]).0, Some(1), "it is gone");
    assert_eq!(dead_letters(folder.path(), &["redrive", second]).0, Some(0));
    let _serve = Serve::with(folder.path());
    let accepted = receivers.wait_for_accepted(1).await;
    assert_eq!(accepted[0].header("x-github-event"), Some("release"));
}

#[test]
fn dead_letters_wants_to_know_which_and_where() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("data")).expect("folder");
    for wrong in [&["redrive"][..], &["discard"], &["redrive", "--all", "--target", "x"], &["list", "--class", "late"]]
    {
        assert_eq!(dead_letters(folder.path(), wrong).0, Some(2), "{wrong:?}");
    }
    assert_eq!(dead_letters(&folder.path().join("nowhere"), &["list"]).0, Some(2));
}

#[test]
fn render_shows_what_each_target_would_be_sent_and_reads_no_secret() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("relay.yaml");
    let text = "sources: { alertmanager: { type: alertmanager, secret: 'env:RENDER_A' } }\n\
         targets:\n  oncall: { type: slack, webhook: 'env:RENDER_B' }\n  feed: { type: slack, webhook: 'env:RENDER_B' }\n\
         routes: [{ when: { severity: '>=error' }, to: oncall }]\n";
    std::fs::write(&file, text).expect("written");
    let render = |options: &[&str]| {
        let mut command = sluice();
        command.args(["render", "alertmanager/firing", "--config"]).arg(&file).args(options);
        let output = command.output().expect("run");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, printed) = render(&["--json"]);
    assert_eq!(code, Some(0), "{printed}");
    let shown: Value = serde_json::from_str(&printed).expect("JSON");
    let routed: Vec<_> = shown.as_array().expect("a list").iter().map(|one| (&one["target"], &one["routed"])).collect();
    assert_eq!(routed, [(&Value::from("feed"), &Value::from(false)), (&Value::from("oncall"), &Value::from(true))]);
    let request = &shown[1]["requests"][0];
    assert_eq!((&request["method"], &request["url"]), (&"POST".into(), &"https://SECRET.example/".into()));
    assert_eq!(request["body"]["text"].as_str(), request["preview"].as_str().and_then(|seen| seen.lines().next()));
    let fits = |size: &Value| size["size"].as_u64() <= size["limit"].as_u64();
    assert!(request["sizes"].as_array().is_some_and(|sizes| !sizes.is_empty() && sizes.iter().all(fits)));

    let (_, text) = render(&["--target", "oncall"]);
    assert!(text.starts_with("==> oncall (slack)\nPOST https://SECRET.example/\n"), "{text}");
    assert!(text.contains("--- what people see:") && !text.contains("==> feed"), "{text}");
    assert_eq!(render(&["--target", "nobody"]).0, Some(2));
}
