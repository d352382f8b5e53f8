//! `sluice serve`: the relay as one process, with an embedded durable queue.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Method, header};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::inspect::Inspector;
use super::{ActionError, Common, default_data};
use crate::deliver::Deliverer;
use crate::domain::secret::Secret;
use crate::intake::{Incoming, Intake};
use crate::port::Queue;
use crate::relay::Relay;
use crate::rim::aws;
use crate::rim::aws::signing::SigningSender;
use crate::rim::chance;
use crate::rim::clock::SystemClock;
use crate::rim::config;
use crate::rim::consumer::{Consumer, Pulse};
use crate::rim::local::dead_letters;
use crate::rim::local::receiver::ExampleReceiver;
use crate::rim::local::server;
use crate::rim::local::store::Store;
use crate::rim::metrics::NoMetrics;
use crate::rim::subscriptions::SnsSubscriptions;
use crate::secrets::{CACHE, SecretStore};

/// Where to listen and where to keep things.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder for queue and state.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: String,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    let data = options.data.unwrap_or_else(default_data);
    fs::create_dir_all(&data).with_context(|| format!("the data folder {} cannot be made", data.display()))?;
    let listener = server::listen(&options.listen).await.map_err(anyhow::Error::from)?;
    let address = listener.local_addr().context("the address that is listened on")?;
    let backend = common.backend();
    let example = match common.config {
        Some(_) => None,
        None => Some(Example::prepare(&data).await?),
    };
    let relay = match &example {
        Some(example) => {
            let common = Common { config: Some(example.file.display().to_string()), json: common.json };
            common.relay(backend.as_ref()).await?
        }
        None => common.relay(backend.as_ref()).await?,
    };
    let clock = Arc::new(SystemClock);
    let store = Store::open(&data, clock.clone()).context("the data folder cannot be used")?;
    let relay = Arc::new(relay);
    let secrets = Arc::new(SecretStore::new(backend, clock.clone(), CACHE));
    let (deliveries, dead_letters) = (store.deliveries(), store.dead_letters());
    let inspector = Arc::new(Inspector::new(deliveries.clone(), dead_letters.clone()));
    let queue: Arc<dyn Queue> = Arc::new(deliveries);
    let (stop, stopping) = watch::channel(false);
    let intake = Arc::new(Intake {
        relay: relay.clone(),
        secrets: secrets.clone(),
        queue: queue.clone(),
        agents: BTreeMap::new(),
        state: Some(Arc::new(store.state())),
        clock: clock.clone(),
        meter: Arc::new(NoMetrics),
        subscriptions: Arc::new(SnsSubscriptions::new(aws::from_environment().endpoint("SNS"))),
        function: None,
    });
    let deliverer = Arc::new(Deliverer {
        relay: relay.clone(),
        secrets,
        queue: queue.clone(),
        dead_letters: Arc::new(dead_letters),
        state: Arc::new(store.state()),
        sender: Arc::new(SigningSender::new(aws::from_default_chain())),
        clock,
        meter: Arc::new(NoMetrics),
        chance: chance::number,
        memory: Default::default(),
    });
    println!(
        "sluice serves on http://{address} (open it to see what goes on), and keeps its queue in {}",
        data.display()
    );
    if let Some(example) = example {
        example.introduce(address, &relay);
        tokio::spawn(example.receive(stopping.clone()));
    }
    let front_door = tokio::spawn(server::serve(
        listener,
        move |request, peer| request_to(intake.clone(), inspector.clone(), request, peer),
        stopping.clone(),
    ));
    let letters = match dead_letters::answer(&data, &store, stopping.clone()) {
        Ok(answer) => Some(tokio::spawn(answer)),
        Err(error) => {
            tracing::warn!(%error, "while this runs, `sluice dead-letters` cannot be used on {}", data.display());
            None
        }
    };
    let (pulse, _) = watch::channel(Pulse::begin());
    let consumer = tokio::spawn(Consumer { queue, deliverer, may_give_up: true, pulse }.run(stopping));
    interrupted().await.context("signals")?;
    tracing::info!("stopping: no new requests, what is under way ends");
    let _ = stop.send(true);
    front_door.await.context("the front door")?;
    consumer.await.context("the consumer")?;
    if let Some(letters) = letters {
        letters.await.context("the dead letters")?;
    }
    Ok(())
}

/// Returns when the process is asked to stop.
pub(super) async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Whether a request is for this machine by a name that nobody else can give it. A page of somebody else's, open in a
/// browser here, may have a name that leads to this machine, and would read along (DNS rebinding).
fn is_named_locally(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

async fn request_to(
    intake: Arc<Intake>,
    inspector: Arc<Inspector>,
    request: server::WholeRequest,
    peer: SocketAddr,
) -> server::WholeResponse {
    let (head, body) = request.into_parts();
    let is_local = peer.ip().is_loopback() && is_named_locally(&head.headers);
    if head.uri.path() == "/" && head.method == Method::GET && is_local {
        return inspector.page().await;
    }
    let Ok(request_id) = chance::hex(16) else { return server::plain(503, "no randomness\n") };
    let incoming = Incoming {
        request_id,
        method: head.method,
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
        address: Some(peer.ip()),
    };
    let answer = intake.answer(incoming).await;
    inspector.saw(&answer, intake.clock.now());
    server::answer(&answer)
}

/// The example: a relay file with throw-away secrets, and a receiver that checks what it gets.
struct Example {
    file: PathBuf,
    listener: TcpListener,
    receiver: ExampleReceiver,
}

impl Example {
    /// Makes the example in `data`, unless it is there from an earlier time.
    async fn prepare(data: &Path) -> Result<Self, ActionError> {
        let file = data.join("relay.yaml");
        let made = file.exists();
        let address = if made { example_receiver(&file)? } else { "127.0.0.1:0".into() };
        let listener = TcpListener::bind(&address).await.with_context(|| {
            format!(
                "the example's receiver cannot listen on {address}; free it, or delete {} to start anew",
                file.display()
            )
        })?;
        if !made {
            for name in ["github.secret", "receiver.token"] {
                let secret = chance::hex(20).map_err(|error| anyhow::anyhow!("no randomness for secrets: {error}"))?;
                let path = data.join(name);
                let mut options = fs::OpenOptions::new();
                let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
                let mut opened = opened.with_context(|| path.display().to_string())?;
                opened.write_all(secret.as_bytes()).with_context(|| path.display().to_string())?;
            }
            let folder = fs::canonicalize(data).context("the data folder")?;
            let address = listener.local_addr().context("the receiver's address")?;
            let text = include_str!("example.yaml")
                .replace("{data}", &folder.display().to_string())
                .replace("{receiver}", &address.to_string());
            fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
        let token = fs::read(data.join("receiver.token")).context("the receiver's token")?;
        let receiver =
            ExampleReceiver { token: Secret::new(token), name: "apps".into(), namespace: "flux-system".into() };
        Ok(Self { file, listener, receiver })
    }

    fn introduce(&self, address: SocketAddr, relay: &Relay) {
        let config = self.file.display();
        let program = std::env::args().next().unwrap_or_else(|| "sluice".into());
        let sources: Vec<_> = relay.sources.keys().map(|name| name.as_str()).collect();
        println!(
            "
This is the example: no relay file was given. It is {config}, with throw-away secrets, and
a receiver comes with it that checks path, headers and signature as Flux does. Sources: {}.

Try next, from a second shell in this folder:
  # a push, signed as GitHub signs it, from the samples in events/
  {program} send github github/push --config {config} --url http://{address}
  # authentic, but of no use: 200
  {program} send github github/ping --config {config} --url http://{address}
  # not signed: 401
  curl -i -X POST -d '{{}}' http://{address}/github
  # is the relay file sound? where does the Receiver listen?
  {program} check --config {config}
  {program} path --config {config}
",
            sources.join(", "),
        );
    }

    async fn receive(self, stop: watch::Receiver<bool>) {
        let receiver = Arc::new(self.receiver);
        let handle = move |request: http::Request<Bytes>, _: SocketAddr| {
            let receiver = receiver.clone();
            async move {
                let (response, verdict) = receiver.answer(&request);
                println!("receiver: {verdict}");
                response
            }
        };
        server::serve(self.listener, handle, stop).await;
    }
}

/// The address of the example's receiver in a relay file that was made before.
fn example_receiver(file: &Path) -> Result<String, ActionError> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let document = config::document(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let url = document.value.pointer("/targets/cluster/url").and_then(|url| url.as_str());
    let address = url.and_then(|url| url.strip_prefix("http://")).map(|rest| rest.trim_end_matches('/').to_owned());
    let why = || {
        let path = file.display();
        ActionError::Failed(anyhow::anyhow!(
            "{path} has lost the example's target `cluster`; to run it as it is, give --config {path}"
        ))
    };
    address.ok_or_else(why)
}
