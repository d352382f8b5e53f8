//! The `sluice` command: what an operator and a developer do by hand, and the relay in one process.
//!
//! Exit status: 0 fine, 1 found problems, 2 wrong usage.

mod agent;
mod check;
mod dead_letters;
mod doctor;
mod inspect;
mod path;
mod render;
mod send;
mod serve;
mod url;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use crate::port::SecretBackend;
use crate::relay::Relay;
use crate::rim::clock::SystemClock;
use crate::rim::config::{self, ConfigError};
use crate::rim::local::secrets::AllSecrets;
use crate::rim::published::Published;
use crate::rim::{aws, logging};
use crate::secrets::{CACHE, SecretStore};

/// Relays webhooks and alerts to GitOps clusters, chats and incident services.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
struct Command {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    action: Action,
}

/// What every action takes.
#[derive(Debug, Args)]
struct Common {
    /// The relay file: a path, or any form of SLUICE_CONFIG (file:path, ssm:/name, the JSON itself).
    #[arg(long, global = true, env = config::VARIABLE, hide_env_values = true, value_name = "PATH")]
    config: Option<String>,
    /// Print JSON instead of text for people.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the whole relay as one process; without a relay file, run an example.
    Serve(serve::Options),
    /// Deliver inside a network that nothing outside can reach.
    Agent(agent::Options),
    /// List, show, send again or delete what was given up.
    DeadLetters(dead_letters::Options),
    /// Validate a relay file, with every problem at once.
    Check(check::Options),
    /// Ask whether everything is reachable, permitted and current; nothing is changed, nobody is told anything.
    Doctor(doctor::Options),
    /// Print each source's webhook URL, URL token included.
    Url(url::Options),
    /// Print the path of Flux Receivers.
    Path(path::Options),
    /// Show what an event would look like at each target; nothing is sent.
    Render(render::Options),
    /// Sign a sample event as its sender would, and send it.
    Send(send::Options),
}

/// Why an action did not come to a good end.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    /// It found problems, and has printed them.
    #[error("problems were found")]
    Problems,
    /// It could not do its work.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// It was asked for something that makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl From<ConfigError> for ActionError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Unset => Self::Usage("no relay file: give --config PATH, or set SLUICE_CONFIG".into()),
            error => Self::Failed(error.into()),
        }
    }
}

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    let Command { common, action } = Command::parse();
    logging::init_command(common.json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sluice: the asynchronous runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match action {
            Action::Serve(options) => serve::run(&common, options).await,
            Action::Agent(options) => agent::run(&common, options).await,
            Action::DeadLetters(options) => dead_letters::run(&common, options).await,
            Action::Check(options) => check::run(&common, options).await,
            Action::Doctor(options) => doctor::run(&common, options).await,
            Action::Url(options) => url::run(&common, options).await,
            Action::Path(options) => path::run(&common, options).await,
            Action::Render(options) => render::run(&common, options).await,
            Action::Send(options) => send::run(&common, options).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(ActionError::Problems) => ExitCode::from(1),
        Err(error) => {
            eprintln!("sluice: {error}");
            ExitCode::from(if matches!(error, ActionError::Usage(_)) { 2 } else { 1 })
        }
    }
}

impl Common {
    /// All forms of secret; AWS by the default chain of credentials, asked for only when needed.
    fn backend(&self) -> Arc<dyn SecretBackend> {
        Arc::new(AllSecrets::new(Arc::new(aws::LazySecrets::default())).with_published(Published::new()))
    }

    /// The form of `SLUICE_CONFIG` that `--config` means.
    fn place(&self) -> Result<String, ConfigError> {
        let given = self.config.as_deref().filter(|given| !given.is_empty()).ok_or(ConfigError::Unset)?;
        let is_form = ["file:", "ssm:", "{", "H4sI"].iter().any(|start| given.trim_start().starts_with(start));
        Ok(if is_form { given.to_owned() } else { format!("file:{given}") })
    }

    /// The relay file, which has to be sound.
    async fn relay(&self, backend: &dyn SecretBackend) -> Result<Relay, ConfigError> {
        let text = config::text(&self.place()?, backend).await?;
        Relay::from_value(&config::document(&text)?.value).map_err(ConfigError::Unsound)
    }

    /// Prints `value` as JSON, or else `text`.
    fn print(&self, value: &Value, text: &str) {
        if self.json {
            println!("{value:#}");
        } else {
            println!("{text}");
        }
    }
}

/// A store over `backend`.
fn store(backend: Arc<dyn SecretBackend>) -> SecretStore {
    SecretStore::new(backend, Arc::new(SystemClock), CACHE)
}

/// The folder in which `serve` keeps everything, unless it is told another.
fn default_data() -> PathBuf {
    PathBuf::from(".sluice")
}
