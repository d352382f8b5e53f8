//! The Lambda Runtime API, for tests that run real function binaries.
//!
//! A [`Function`] is one execution environment: the binary as a child process with the environment Lambda gives it and
//! nothing else, and behind `AWS_LAMBDA_RUNTIME_API` a server of ours that hands out invocations. As on Lambda one
//! invocation is handed out at a time, a deadline is a real one, and a function that overruns it is killed.
//!
//! ```ignore
//! let function = Function::start(binary, [("SLUICE_CONFIG", config)]).await?;
//! let answer = function.http(HttpEvent::post("/github").header("X-GitHub-Event", "ping").body(body)).await?;
//! assert_eq!(answer.status, 200);
//! assert!(!function.output().await.contains(SECRET));
//! ```
//!
//! What Lambda does and this does not: it does not freeze the process between invocations, does not start a second
//! environment for a second caller (who waits instead), and does not start a new one after a crash: say
//! [`Function::start_again`].
//!
//! Server and child live on a thread of their own, so a test that blocks, or that pauses tokio's clock, does not stall
//! the function. The child's output goes to files and not to pipes: what it wrote before it answered can be read as
//! soon as the answer is here.
#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "the platform has a clock of its own")]

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio::sync::{Notify, oneshot, watch};

/// What Lambda takes and gives in a synchronous invocation, each way.
pub const PAYLOAD_LIMIT: usize = 6 * 1024 * 1024;

/// The log levels that Lambda knows, in their order.
const LOG_LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

const REGION: &str = "eu-central-1";
const ACCOUNT: &str = "123456789012";

/// The program `name` as it was built for this test, or in `SLUICE_TEST_BIN_DIR`.
pub fn binary(name: &str) -> PathBuf {
    match std::env::var_os("SLUICE_TEST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder).join(name),
        None => Path::new(env!("CARGO_BIN_EXE_sluice")).with_file_name(name),
    }
}

/// How to start a function.
#[derive(Clone, Debug)]
pub struct Settings {
    binary: PathBuf,
    runner: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    name: String,
    memory: u32,
    timeout: Duration,
    init_timeout: Duration,
}

impl Settings {
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let binary = binary.into();
        let name = binary.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Settings {
            binary,
            runner: Vec::new(),
            env: Vec::new(),
            name,
            memory: 128,
            timeout: Duration::from_secs(30),
            // Lambda allows ten seconds. This is here to end a hanging test, not to judge a busy machine.
            init_timeout: Duration::from_secs(60),
        }
    }

    /// A variable besides those that Lambda sets, or in place of one of them.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn envs<K: Into<OsString>, V: Into<OsString>>(mut self, env: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// `AWS_LAMBDA_FUNCTION_NAME`, else the binary's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the function is told it has, in MB. Nothing enforces it: see [`Function::memory`].
    pub fn memory(mut self, megabytes: u32) -> Self {
        self.memory = megabytes;
        self
    }

    /// The function's time-out, which makes the deadline of every invocation. 30 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.init_timeout = timeout;
        self
    }

    /// A command in front of the binary, such as `["qemu-aarch64", "-cpu", "neoverse-n1"]`.
    pub fn runner<S: Into<OsString>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.runner = command.into_iter().map(Into::into).collect();
        self
    }

    /// Starts the function and waits until it asks for its first invocation.
    pub async fn start(self) -> Result<Function, StartError> {
        Function::launch(self).await
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0:?} could not be started: {1}")]
    Spawn(PathBuf, io::Error),
    #[error("the function ended before it asked for an invocation: {status}\n{output}")]
    Ended { status: String, init_error: Option<Value>, output: String },
    #[error("the function did not ask for an invocation within {0:?}\n{output}", output = .1)]
    TimedOut(Duration, String),
}

#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The handler failed: what the platform counts as an error and retries, and what a caller sees as
    /// `FunctionError: Unhandled`.
    #[error("the function reported {error_type}: {message}")]
    Function { error_type: String, message: String },
    #[error("the task timed out after {0:?}")]
    TimedOut(Duration),
    #[error("the function ended without an answer: {0}")]
    Ended(String),
    #[error("the function asked for the next invocation without having answered")]
    Unanswered,
    #[error("an event of {0} bytes is more than Lambda takes")]
    EventTooLarge(usize),
    #[error("an answer of {0} bytes is more than Lambda takes")]
    AnswerTooLarge(usize),
    #[error("the answer is not what API Gateway or Lambda can use: {0}")]
    Malformed(String),
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

/// A running function.
pub struct Function {
    settings: Settings,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    pid: u32,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Starting,
    /// It waits for an invocation, so all that it had to log is written.
    Idle,
    Busy,
    Ended(String),
}

struct Shared {
    state: Mutex<Invocations>,
    queued: Notify,
    kill: Notify,
    phase: watch::Sender<Phase>,
    exec: OnceLock<Instant>,
    timeout: Duration,
    arn: String,
    stdout: File,
    stderr: File,
}

#[derive(Default)]
struct Invocations {
    waiting: VecDeque<Waiting>,
    current: Option<Current>,
    first_poll: Option<Duration>,
    last_duration: Option<Duration>,
    init_error: Option<Value>,
    init_timed_out: bool,
}

struct Waiting {
    id: String,
    event: Bytes,
    handed_out: oneshot::Sender<()>,
    answer: oneshot::Sender<Result<Bytes, InvocationError>>,
}

struct Current {
    id: String,
    since: Instant,
    answer: oneshot::Sender<Result<Bytes, InvocationError>>,
}

impl Function {
    pub fn builder(binary: impl Into<PathBuf>) -> Settings {
        Settings::new(binary)
    }

    /// Starts `binary` with Lambda's own variables and `env`, and waits until it asks for its first invocation.
    pub async fn start<K, V>(
        binary: impl Into<PathBuf>,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Function, StartError>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Settings::new(binary).envs(env).start().await
    }

    /// Another execution environment of the same function: a cold start.
    pub async fn start_again(&self) -> Result<Function, StartError> {
        self.settings.clone().start().await
    }

    async fn launch(settings: Settings) -> Result<Function, StartError> {
        let failed = |error| StartError::Spawn(settings.binary.clone(), error);
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stdout, stderr) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
        let command = command(&settings, address, &stdout, &stderr).map_err(failed)?;

        let (phase, phases) = watch::channel(Phase::Starting);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            queued: Notify::new(),
            kill: Notify::new(),
            phase,
            exec: OnceLock::new(),
            timeout: settings.timeout,
            arn: format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", settings.name),
            stdout,
            stderr,
        });
        let (stop, stopped) = oneshot::channel();
        let (started, pid) = oneshot::channel();
        let init_timeout = settings.init_timeout;
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("runtime api {}", settings.name)).spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
                runtime.block_on(environment(shared, listener, command, init_timeout, started, stopped));
            })
        }
        .map_err(failed)?;

        let pid = pid.await.expect("the thread reports").map_err(failed)?;
        let function = Function { settings, shared, phase: phases, pid, stop: Some(stop), thread: Some(thread) };
        match function.until(|phase| *phase != Phase::Starting).await {
            Phase::Ended(_) if function.shared.state().init_timed_out => {
                Err(StartError::TimedOut(init_timeout, function.read_output()))
            }
            Phase::Ended(status) => {
                let init_error = function.shared.state().init_error.take();
                Err(StartError::Ended { status, init_error, output: function.read_output() })
            }
            _ => Ok(function),
        }
    }

    /// Runs one invocation to its end and reads its answer as JSON. Nothing at all is JSON's null.
    pub async fn invoke(&self, event: impl Into<Event>) -> Result<Value, InvocationError> {
        self.begin(event).answer().await
    }

    /// Runs one HTTP request through the function as API Gateway would.
    pub async fn http(&self, event: impl Into<Event>) -> Result<HttpAnswer, InvocationError> {
        HttpAnswer::try_from(self.invoke(event).await?)
    }

    /// Queues an invocation, so that the test can do something while it runs.
    pub fn begin(&self, event: impl Into<Event>) -> Invocation {
        let Event(event) = event.into();
        let (handed_out, is_handed_out) = oneshot::channel();
        let (sender, answer) = oneshot::channel();
        let id = request_id();
        if event.len() > PAYLOAD_LIMIT {
            let _ = sender.send(Err(InvocationError::EventTooLarge(event.len())));
        } else {
            let mut state = self.shared.state();
            // The phase is set under the same lock, so an invocation cannot slip in behind a child that has ended.
            let phase = self.shared.phase.borrow().clone();
            if let Phase::Ended(status) = phase {
                let _ = sender.send(Err(InvocationError::Ended(status)));
            } else {
                state.waiting.push_back(Waiting { id: id.clone(), event, handed_out, answer: sender });
                // Not idle from here on: who now waits for the function to settle waits for this invocation, too.
                self.shared.phase.send_replace(Phase::Busy);
                self.shared.queued.notify_one();
            }
        }
        Invocation { id, handed_out: Some(is_handed_out), answer }
    }

    /// Kills the process (SIGKILL), in the middle of whatever it does, and waits until it is gone.
    pub async fn kill(&self) {
        self.shared.kill.notify_one();
        self.until(|phase| matches!(phase, Phase::Ended(_))).await;
    }

    pub fn is_running(&self) -> bool {
        !matches!(&*self.phase.borrow(), Phase::Ended(_))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// From just before the process was started to its first request for an invocation.
    pub fn init_duration(&self) -> Duration {
        self.shared.state().first_poll.expect("a function that started has asked for an invocation")
    }

    /// From handing out the last answered invocation to its answer.
    pub fn last_duration(&self) -> Option<Duration> {
        self.shared.state().last_duration
    }

    /// What the process holds now and held at most. With a runner it is the runner's.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| {
            let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            let kilobytes: u64 = kilobytes.and_then(|number| number.trim().parse().ok()).ok_or_else(|| {
                // A zombie has no memory: its status lacks the lines.
                io::Error::new(io::ErrorKind::NotFound, format!("no {name} in /proc/{}/status", self.pid))
            })?;
            Ok::<_, io::Error>(kilobytes * 1024)
        };
        Ok(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Waits until the function asks for an invocation, or has ended: then all is written that it had to log.
    pub async fn settled(&self) {
        self.until(|phase| matches!(phase, Phase::Idle | Phase::Ended(_))).await;
    }

    /// All that the function wrote so far to stdout, where its log goes.
    pub async fn stdout(&self) -> String {
        self.settled().await;
        read_all(&self.shared.stdout)
    }

    /// All that the function wrote so far to stderr.
    pub async fn stderr(&self) -> String {
        self.settled().await;
        read_all(&self.shared.stderr)
    }

    /// Both, for looking for what must not be there.
    pub async fn output(&self) -> String {
        self.settled().await;
        self.read_output()
    }

    /// The log as CloudWatch would get it: one JSON object a line, without those below the function's log level.
    ///
    /// The rule is that of «Log-level filtering», AWS Lambda Developer Guide (read 2026-11): a line without a valid `level` or
    /// without a `timestamp` by RFC 3339 is INFO.
    ///
    /// # Panics
    /// If a line is something else.
    pub async fn log(&self) -> Vec<Value> {
        let stdout = self.stdout().await;
        let object = |line: &str| match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => value,
            _ => panic!("a line of the log is not a JSON object: {line}"),
        };
        let rank = |level: &str| LOG_LEVELS.iter().position(|one| one.eq_ignore_ascii_case(level));
        let set = self.settings.env.iter().rev().find(|(name, _)| name == "AWS_LAMBDA_LOG_LEVEL");
        let set = set.map_or("INFO", |(_, level)| level.to_str().expect("text"));
        let least = rank(set).expect("a log level");
        let level = |line: &Value| {
            let has_time = line["timestamp"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
            let own = line["level"].as_str().filter(|_| has_time).and_then(rank);
            own.or(rank("INFO"))
        };
        let lines = stdout.lines().filter(|line| !line.trim().is_empty()).map(object);
        lines.filter(|line| level(line) >= Some(least)).collect()
    }

    fn read_output(&self) -> String {
        read_all(&self.shared.stdout) + &read_all(&self.shared.stderr)
    }

    async fn until(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        self.phase.clone().wait_for(wanted).await.expect("the sender lives as long as the function").clone()
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("name", &self.settings.name)
            .field("pid", &self.pid)
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // Shown in the output of a test that failed. Without it the reason for a refusal is often nowhere.
            if std::thread::panicking() {
                eprintln!("--- output of {} ---\n{}", self.settings.name, self.read_output());
            } else {
                ended.expect("the runtime API's thread does not panic");
            }
        }
    }
}

/// An invocation that was begun.
#[derive(Debug)]
pub struct Invocation {
    id: String,
    handed_out: Option<oneshot::Receiver<()>>,
    answer: oneshot::Receiver<Result<Bytes, InvocationError>>,
}

impl Invocation {
    /// The request id the function was told.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the function has been given the event, or never will be.
    pub async fn handed_out(&mut self) {
        if let Some(handed_out) = self.handed_out.take() {
            let _ = handed_out.await;
        }
    }

    /// Waits for the end. The function's time-out is what bounds it.
    pub async fn answer(self) -> Result<Value, InvocationError> {
        let answer = self.answer.await.expect("every invocation is answered for")?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer)
            .map_err(|error| InvocationError::Malformed(format!("{error}: {}", String::from_utf8_lossy(&answer))))
    }
}

/// The bytes of an event.
#[derive(Clone, Debug)]
pub struct Event(pub Bytes);

impl From<Value> for Event {
    fn from(event: Value) -> Self {
        Event(event.to_string().into())
    }
}

impl From<&Value> for Event {
    fn from(event: &Value) -> Self {
        Event(event.to_string().into())
    }
}

impl From<Vec<u8>> for Event {
    fn from(event: Vec<u8>) -> Self {
        Event(event.into())
    }
}

impl From<&[u8]> for Event {
    fn from(event: &[u8]) -> Self {
        Event(Bytes::copy_from_slice(event))
    }
}

impl From<&str> for Event {
    fn from(event: &str) -> Self {
        Event(Bytes::copy_from_slice(event.as_bytes()))
    }
}

impl From<&HttpEvent> for Event {
    fn from(event: &HttpEvent) -> Self {
        event.to_value().into()
    }
}

impl From<HttpEvent> for Event {
    fn from(event: HttpEvent) -> Self {
        event.to_value().into()
    }
}

// The environment: the child and the server.

fn command(settings: &Settings, address: SocketAddr, stdout: &File, stderr: &File) -> io::Result<Command> {
    // The child runs elsewhere than the test, so a relative path has to be resolved now.
    let binary = std::path::absolute(&settings.binary)?;
    let task_root = binary.parent().unwrap_or(Path::new("/")).to_owned();
    let mut words = settings.runner.iter().cloned().chain([binary.into_os_string()]);
    let mut command = Command::new(words.next().expect("the binary is a word"));
    command.args(words).current_dir(&task_root).env_clear();
    // docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, as an OS-only runtime gets it: no HOME and no
    // AWS_EXECUTION_ENV.
    command
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", &settings.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", settings.memory.to_string())
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", settings.name))
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef")
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .env("AWS_LAMBDA_LOG_LEVEL", "INFO")
        .env("AWS_REGION", REGION)
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_SESSION_TOKEN", "test")
        .env("_HANDLER", "bootstrap")
        .env("LAMBDA_TASK_ROOT", &task_root)
        .env("LAMBDA_RUNTIME_DIR", "/var/runtime")
        .env("LANG", "en_US.UTF-8")
        .env("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin")
        .env("TZ", ":UTC")
        .envs(settings.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).kill_on_drop(true);
    Ok(command)
}

async fn environment(
    shared: Arc<Shared>,
    listener: TcpListener,
    mut command: Command,
    init_timeout: Duration,
    started: oneshot::Sender<io::Result<u32>>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the listener can be registered");
    // hyper sends head and body of an answer in one write. Without this, two writes would wait 40 ms for each other
    // (Nagle's algorithm against delayed acknowledgement) and be taken for a slow function.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket takes TCP_NODELAY"));
    let api = axum::Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        // The limit is ours to check: the function has to see Lambda's own refusal.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&shared));
    let server = tokio::spawn(async move { axum::serve(listener, api).await });

    shared.exec.set(Instant::now()).expect("the child is started once");
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(child.id().expect("the child was not waited for yet")));

    let init_over = async {
        tokio::time::sleep(init_timeout).await;
        if shared.state().first_poll.is_some() {
            std::future::pending::<()>().await;
        }
    };
    let (mut init_over, mut stopped) = (std::pin::pin!(init_over), stopped);
    let status = tokio::select! {
        status = child.wait() => status,
        () = shared.kill.notified() => end(&mut child).await,
        () = &mut init_over => {
            shared.state().init_timed_out = true;
            end(&mut child).await
        }
        _ = &mut stopped => {
            let _ = end(&mut child).await;
            return;
        }
    };
    shared.ended(status.map_or_else(|error| error.to_string(), |status| status.to_string()));
    let _ = stopped.await;
    server.abort();
}

async fn end(child: &mut tokio::process::Child) -> io::Result<std::process::ExitStatus> {
    child.start_kill()?;
    child.wait().await
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Invocations> {
        self.state.lock().expect("nobody panics holding the lock")
    }

    fn ended(&self, status: String) {
        let mut state = self.state();
        let current = state.current.take().map(|current| current.answer);
        let waiting: Vec<_> = state.waiting.drain(..).map(|waiting| waiting.answer).collect();
        self.phase.send_replace(Phase::Ended(status.clone()));
        drop(state);
        for answer in current.into_iter().chain(waiting) {
            let _ = answer.send(Err(InvocationError::Ended(status.clone())));
        }
    }

    /// Ends the invocation `id` if it is the one that runs.
    fn finish(&self, id: &str, result: Result<Bytes, InvocationError>) -> bool {
        let mut state = self.state();
        let Some(current) = state.current.take_if(|current| current.id == id) else { return false };
        state.last_duration = Some(current.since.elapsed());
        drop(state);
        let _ = current.answer.send(result);
        true
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let (id, event) = loop {
        {
            let mut state = shared.state();
            if let Some(current) = state.current.take() {
                let _ = current.answer.send(Err(InvocationError::Unanswered));
            }
            if state.first_poll.is_none() {
                state.first_poll = shared.exec.get().map(Instant::elapsed);
            }
            if let Some(Waiting { id, event, handed_out, answer }) = state.waiting.pop_front() {
                state.current = Some(Current { id: id.clone(), since: Instant::now(), answer });
                shared.phase.send_replace(Phase::Busy);
                let _ = handed_out.send(());
                break (id, event);
            }
            shared.phase.send_replace(Phase::Idle);
        }
        // A permit is kept if it was given since the lock was released, so nothing is missed here.
        shared.queued.notified().await;
    };
    tokio::spawn(overrun(Arc::clone(&shared), id.clone()));
    let deadline = SystemTime::now() + shared.timeout;
    let deadline = deadline.duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
    let trace = format!("Root=1-{};Parent=0123456789abcdef;Sampled=0", trace_root(&id));
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", shared.arn.clone()),
        ("lambda-runtime-trace-id", trace),
        ("content-type", "application/json".to_owned()),
    ];
    (headers.map(|(name, value)| (header::HeaderName::from_static(name), value)), event).into_response()
}

/// Lambda's own answer to a function that does not end in time: the environment is killed.
async fn overrun(shared: Arc<Shared>, id: String) {
    tokio::time::sleep(shared.timeout).await;
    if shared.finish(&id, Err(InvocationError::TimedOut(shared.timeout))) {
        shared.kill.notify_one();
    }
}

async fn response(State(shared): State<Arc<Shared>>, UrlPath(id): UrlPath<String>, body: Bytes) -> Response {
    let size = body.len();
    if size > PAYLOAD_LIMIT {
        shared.finish(&id, Err(InvocationError::AnswerTooLarge(size)));
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "Exceeded maximum allowed payload size",
        );
    }
    accepted(shared.finish(&id, Ok(body)))
}

async fn error(
    State(shared): State<Arc<Shared>>,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let error_type = body["errorType"].as_str().map(str::to_owned);
    let header = || headers.get("lambda-runtime-function-error-type")?.to_str().ok().map(str::to_owned);
    let error_type = error_type.or_else(header).unwrap_or_default();
    let message = body["errorMessage"].as_str().unwrap_or_default().to_owned();
    accepted(shared.finish(&id, Err(InvocationError::Function { error_type, message })))
}

async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.state().init_error = Some(serde_json::from_slice(&body).unwrap_or_default());
    accepted(true)
}

fn accepted(known: bool) -> Response {
    if known {
        (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
    } else {
        refusal(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
    }
}

fn refusal(status: StatusCode, error_type: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "errorType": error_type, "errorMessage": message }))).into_response()
}

/// Reads from the start without moving the file's position, which is also the one the child writes at.
fn read_all(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 64 * 1024];
    loop {
        match file.read_at(&mut part, bytes.len() as u64).expect("a temporary file can be read") {
            0 => return String::from_utf8_lossy(&bytes).into_owned(),
            read => bytes.extend_from_slice(&part[..read]),
        }
    }
}

/// What no two ids of one test run share: request ids end up as deduplication ids.
fn unique() -> (u64, u32, u32) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    (since_1970.as_micros() as u64, std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A UUID, as Lambda makes them.
fn request_id() -> String {
    let (time, process, count) = unique();
    let (high, low) = (count >> 16, count & 0xffff);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{process:08x}{low:04x}",
        (time >> 16) as u32,
        time & 0xffff,
        high >> 4,
        high & 0xf
    )
}

/// As API Gateway makes them: `JKJaXmPLvHcESHA=`.
fn gateway_request_id() -> String {
    let (time, process, count) = unique();
    let mut id = [0; 11];
    id[..4].copy_from_slice(&count.to_be_bytes());
    id[4..8].copy_from_slice(&process.to_be_bytes());
    id[8..].copy_from_slice(&time.to_be_bytes()[5..]);
    data_encoding::BASE64.encode(&id)
}

/// The middle of an X-Ray header, made from a UUID.
fn trace_root(id: &str) -> String {
    let digits = id.replace('-', "");
    format!("{}-{}", &digits[..8], &digits[8..])
}

// What comes in front of a function.

/// An HTTP request as API Gateway's HTTP API (payload format 2.0) or a Function URL hands it over.
#[derive(Clone, Debug)]
pub struct HttpEvent {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    base64: Option<bool>,
    source_ip: String,
    route: Option<String>,
    function_url: bool,
}

impl HttpEvent {
    /// `target` is the path, with or without a query.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        HttpEvent {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: None,
            base64: None,
            source_ip: "192.0.2.44".to_owned(),
            route: None,
            function_url: false,
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn headers<'a>(mut self, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The body as base64, whatever its content type.
    pub fn base64(mut self) -> Self {
        self.base64 = Some(true);
        self
    }

    /// The body as it is, whatever its content type. It has to be UTF-8.
    pub fn plain(mut self) -> Self {
        self.base64 = Some(false);
        self
    }

    /// `requestContext.http.sourceIp`, the only address that cannot be forged.
    pub fn source_ip(mut self, address: &str) -> Self {
        self.source_ip = address.to_owned();
        self
    }

    /// The route that took the request, if not the one its path suggests: `ANY /{source}` or `ANY /{source}/{token}`.
    pub fn route(mut self, key: &str) -> Self {
        self.route = Some(key.to_owned());
        self
    }

    /// As a Function URL sends it.
    pub fn function_url(mut self) -> Self {
        self.function_url = true;
        self
    }

    /// The event. Every call is a request of its own, with an id of its own.
    pub fn to_value(&self) -> Value {
        let domain_prefix = if self.function_url { "abcdefghijklmnopqrstuvwxyz012345" } else { "a1b2c3d4e5" };
        let domain = match self.function_url {
            true => format!("{domain_prefix}.lambda-url.{REGION}.on.aws"),
            false => format!("{domain_prefix}.execute-api.{REGION}.amazonaws.com"),
        };
        let now = jiff::Timestamp::now();
        let request_id = if self.function_url { request_id() } else { gateway_request_id() };

        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        let mut cookies: Vec<&str> = Vec::new();
        for (name, value) in &self.headers {
            let name = name.to_ascii_lowercase();
            if name == "cookie" {
                cookies.extend(value.split("; "));
                continue;
            }
            headers.entry(name).and_modify(|values| *values = format!("{values},{value}")).or_insert(value.clone());
        }
        if let Some(body) = &self.body {
            headers.entry("content-length".to_owned()).or_insert(body.len().to_string());
        }
        let trace = format!("Root=1-{}", trace_root(&self::request_id()));
        for (name, value) in [
            ("host", domain.as_str()),
            ("user-agent", "sluice-tests/1.0"),
            ("x-amzn-trace-id", &trace),
            ("x-forwarded-for", &self.source_ip),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "https"),
        ] {
            headers.entry(name.to_owned()).or_insert(value.to_owned());
        }

        let segments: Vec<&str> = self.path.split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
        let route = match (&self.route, segments.as_slice()) {
            (Some(route), _) => route.clone(),
            (None, _) if self.function_url => "$default".to_owned(),
            (None, ["healthz"]) => "$default".to_owned(),
            (None, [source]) => format!("ANY /{source}"),
            (None, [source, _]) => format!("ANY /{source}/{{token}}"),
            (None, _) => "$default".to_owned(),
        };
        let mut event = json!({
            "version": "2.0",
            "routeKey": route,
            "rawPath": self.path,
            "rawQueryString": self.query,
            "headers": headers,
            "requestContext": {
                "accountId": if self.function_url { "anonymous" } else { ACCOUNT },
                "apiId": domain_prefix,
                "domainName": domain,
                "domainPrefix": domain_prefix,
                "http": {
                    "method": self.method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": self.source_ip,
                    "userAgent": headers["user-agent"],
                },
                "requestId": request_id,
                "routeKey": route,
                "stage": "$default",
                "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": now.as_millisecond(),
            },
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if route.ends_with("/{token}") {
            event["pathParameters"] = json!({ "token": segments.last() });
        }
        if !self.query.is_empty() {
            let mut parameters: Map<String, Value> = Map::new();
            for (name, value) in form_urlencoded::parse(self.query.as_bytes()) {
                let value = match parameters.get(&*name).and_then(Value::as_str) {
                    Some(before) => format!("{before},{value}"),
                    None => value.into_owned(),
                };
                parameters.insert(name.into_owned(), value.into());
            }
            event["queryStringParameters"] = parameters.into();
        }
        if let Some(body) = &self.body {
            let content_type = headers.get("content-type").map_or("", String::as_str);
            let base64 = self.base64.unwrap_or_else(|| !is_text(content_type) || std::str::from_utf8(body).is_err());
            event["isBase64Encoded"] = base64.into();
            event["body"] = match base64 {
                true => data_encoding::BASE64.encode(body).into(),
                false => std::str::from_utf8(body).expect("a plain body is UTF-8").into(),
            };
        }
        event
    }
}

/// Whether API Gateway passes such a body as it is. A form is base64, which surprises many.
fn is_text(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || matches!(&*media_type, "application/json" | "application/xml" | "application/javascript")
        || (media_type.starts_with("application/") && (media_type.ends_with("+json") || media_type.ends_with("+xml")))
}

/// What API Gateway would send back.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    /// By lower-case name. A repeated header's values are joined by commas.
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
}

impl HttpAnswer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the body {:?}", self.body))
    }
}

impl TryFrom<Value> for HttpAnswer {
    type Error = InvocationError;

    fn try_from(answer: Value) -> Result<Self, InvocationError> {
        let malformed = |what: &str| InvocationError::Malformed(format!("{what}: {answer}"));
        let status = answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.filter(|status| (100..600).contains(status)).ok_or_else(|| malformed("no statusCode"))?;
        let mut headers = BTreeMap::new();
        for (name, value) in answer["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or_else(|| malformed("a header that is no string"))?;
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        for (name, values) in answer["multiValueHeaders"].as_object().into_iter().flatten() {
            let values = values.as_array().ok_or_else(|| malformed("multiValueHeaders without lists"))?;
            let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            headers.insert(name.to_ascii_lowercase(), values.join(","));
        }
        let body = match &answer["body"] {
            Value::Null => Bytes::new(),
            Value::String(body) if answer["isBase64Encoded"] == true => {
                data_encoding::BASE64.decode(body.as_bytes()).map_err(|_| malformed("a body that is no base64"))?.into()
            }
            Value::String(body) => body.clone().into(),
            _ => return Err(malformed("a body that is no string")),
        };
        Ok(HttpAnswer { status, headers, body })
    }
}

/// The event of an SQS trigger with these messages, which the test has received from the queue with all their
/// attributes (`MessageSystemAttributeNames: ["All"]`).
pub fn sqs_event(queue_arn: &str, messages: &[aws_sdk_sqs::types::Message]) -> Value {
    let region = queue_arn.split(':').nth(3).unwrap_or(REGION);
    let records = messages.iter().map(|message| {
        let attributes: BTreeMap<&str, &str> =
            message.attributes().into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let own = message.message_attributes().into_iter().flatten().map(|(name, value)| {
            let mut attribute = json!({
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value.data_type(),
            });
            if let Some(text) = value.string_value() {
                attribute["stringValue"] = text.into();
            }
            if let Some(blob) = value.binary_value() {
                attribute["binaryValue"] = data_encoding::BASE64.encode(blob.as_ref()).into();
            }
            (name.clone(), attribute)
        });
        json!({
            "messageId": message.message_id(),
            "receiptHandle": message.receipt_handle(),
            "body": message.body(),
            "attributes": attributes,
            "messageAttributes": own.collect::<Map<String, Value>>(),
            "md5OfBody": message.md5_of_body(),
            "eventSource": "aws:sqs",
            "eventSourceARN": queue_arn,
            "awsRegion": region,
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// `arn:aws:sqs:…` of `http://host/account/name`.
pub fn queue_arn(queue_url: &str, region: &str) -> String {
    let mut segments = queue_url.trim_end_matches('/').rsplit('/');
    let (name, account) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    format!("arn:aws:sqs:{region}:{account}:{name}")
}

/// The message ids of a partial batch response: those that the platform would leave in the queue.
///
/// # Panics
/// If the answer is no partial batch response. The platform takes such an answer for the failure of the whole batch,
/// and so an empty one or null for its success.
pub fn batch_item_failures(answer: &Value) -> Vec<String> {
    if answer.is_null() {
        return Vec::new();
    }
    let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("no batchItemFailures: {answer}"));
    let id = |failure: &Value| match failure["itemIdentifier"].as_str() {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => panic!("a batch item failure without itemIdentifier fails the whole batch: {answer}"),
    };
    failures.iter().map(id).collect()
}
