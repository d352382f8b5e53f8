//! `sluice doctor`: is everything reachable, permitted and current? Nothing is changed, and nobody is told anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::check::Checked;
use super::{ActionError, Common, store};
use crate::doctor::{Answer, Deployment, Doctor, Level};
use crate::domain::name::Name;
use crate::domain::secret::SecretRef;
use crate::port::State;
use crate::probe::Probe;
use crate::relay::Relay;
use crate::rim::aws;
use crate::rim::aws::signing::SigningSender;
use crate::rim::clock::SystemClock;
use crate::rim::metrics::NoMetrics;
use crate::rim::sender::HttpSender;

/// What of AWS is asked, besides secrets; what is left out is not. The names are those of the functions' environment.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The agent in whose network this runs: its targets are asked, and the queues are its own.
    #[arg(long, value_parser = Name::parse, value_name = "NAME")]
    agent: Option<Name>,
    /// The delivery queue.
    #[arg(long, env = "SLUICE_QUEUE_URL", value_name = "URL")]
    queue_url: Option<String>,
    /// The dead-letter queue; after a comma, further queues that dead letters are in.
    #[arg(long, env = "SLUICE_DEAD_LETTER_URL", value_delimiter = ',', value_name = "URL")]
    dead_letter_url: Vec<String>,
    /// The agents' queues, as a JSON object of names and URLs.
    #[arg(long, env = "SLUICE_AGENT_QUEUES", default_value = "", hide_default_value = true, value_name = "JSON")]
    agent_queues: String,
    /// The DynamoDB table.
    #[arg(long, env = "SLUICE_STATE_TABLE", value_name = "NAME")]
    state_table: Option<String>,
    /// The largest message that functions put on delivery queues, in bytes.
    #[arg(long, env = "SLUICE_QUEUE_LIMIT", default_value_t = aws::sqs::DEFAULT_LIMIT, value_name = "BYTES")]
    queue_limit: usize,
}

pub(super) async fn run(common: &Common, mut options: Options) -> Result<(), ActionError> {
    // A variable that is set to nothing is as good as none.
    options.queue_url.take_if(|url| url.is_empty());
    options.state_table.take_if(|name| name.is_empty());
    options.dead_letter_url.retain(|url| !url.is_empty());
    let agents = aws::sqs::agent_queues(&options.agent_queues).map_err(ActionError::Usage)?;
    let backend = common.backend();
    let mut checked = Checked::read(common, backend.as_ref()).await?;
    let Some(relay) = checked.relay.take() else { return checked.tell(common) };
    if let Some(agent) = options.agent.as_ref().filter(|agent| !relay.has_agent(agent)) {
        return Err(ActionError::Usage(format!("no target of the relay file has `agent: {agent}`")));
    }
    let (level, warnings) = match checked.problems.0.len() {
        0 => (Level::Fine, String::new()),
        count => (Level::Warning, format!("; warnings: {count}, which `sluice check` tells")),
    };
    let file = Answer { level, about: "relay file", name: String::new(), message: relay.counts() + &warnings };
    let sdk = match options.asks_aws(&relay, &agents) {
        true => Some(aws::from_default_chain().await),
        false => None,
    };
    let clock = Arc::new(SystemClock);
    let deployment = sdk.clone().map(|sdk| Deployment {
        aws: Arc::new(sdk.deployed()),
        table: options.state_table.map(|name| {
            let state: Arc<dyn State> = Arc::new(sdk.state(&name, clock.clone()));
            (name, state)
        }),
        queue: options.queue_url,
        dead_letters: options.dead_letter_url,
        agents,
        queue_limit: options.queue_limit,
    });
    let sdk = async move {
        match sdk {
            Some(sdk) => sdk,
            // Targets may be in AWS all the same.
            None => aws::from_default_chain().await,
        }
    };
    let doctor = Doctor {
        probe: Probe {
            relay: Arc::new(relay),
            agent: options.agent,
            secrets: Arc::new(store(backend)),
            sender: Arc::new(HttpSender::new()),
            meter: Arc::new(NoMetrics),
        },
        dialer: Arc::new(SigningSender::new(sdk)),
        clock,
        deployment,
    };
    // What is logged meanwhile would say the same twice.
    let mut answers = doctor.run().with_subscriber(NoSubscriber::default()).await;
    answers.insert(0, file);
    tell(common, &answers)
}

impl Options {
    fn asks_aws(&self, relay: &Relay, agents: &BTreeMap<Name, String>) -> bool {
        let is_named = self.queue_url.is_some()
            || !self.dead_letter_url.is_empty()
            || !agents.is_empty()
            || self.state_table.is_some();
        let in_aws =
            |reference: &SecretRef| matches!(reference, SecretRef::Ssm { .. } | SecretRef::SecretsManager { .. });
        let sources = relay.sources.values().flat_map(|entry| entry.secrets());
        is_named || sources.chain(relay.targets.values().flat_map(|entry| entry.secrets())).any(in_aws)
    }
}

fn tell(common: &Common, answers: &[Answer]) -> Result<(), ActionError> {
    let count = |level| answers.iter().filter(|answer| answer.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let line = |Answer { level, about, name, message }: &Answer| {
        let what = if name.is_empty() { (*about).to_owned() } else { format!("{about} {name}") };
        // What others say has nothing for a terminal to obey.
        format!("{:<9}  {what}: {message}", level.word()).replace(char::is_control, " ")
    };
    let mut lines: Vec<_> = answers.iter().map(line).collect();
    lines.push(format!("problems: {problems}, warnings: {warnings}"));
    let json = json!({ "answers": answers, "problems": problems, "warnings": warnings });
    common.print(&json, &lines.join("\n"));
    if problems > 0 { Err(ActionError::Problems) } else { Ok(()) }
}
