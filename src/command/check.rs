//! `sluice check`: every problem of a relay file at once, each with its place.

use serde_json::json;

use super::{ActionError, Common, store};
use crate::doctor;
use crate::port::SecretBackend;
use crate::relay::format::{Level, Problem, Problems};
use crate::relay::{Relay, schema};
use crate::rim::config::{self, ConfigError};
use crate::rim::yaml::Document;

/// How to check.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Look at the secrets that are kept in AWS, too (those in the environment and in files always are).
    #[arg(long)]
    secrets: bool,
    /// Print the JSON Schema of relay files instead.
    #[arg(long, conflicts_with = "secrets")]
    schema: bool,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    if options.schema {
        println!("{:#}", schema::json_schema());
        return Ok(());
    }
    let backend = common.backend();
    let mut checked = Checked::read(common, backend.as_ref()).await?;
    if let Some(relay) = &checked.relay {
        let store = store(backend);
        for (reference, users) in doctor::users(relay) {
            if !reference.is_local() && !options.secrets {
                continue;
            }
            let found = store.find(std::slice::from_ref(reference), None).await;
            if let Some((level, why)) = doctor::flaw(&found, reference) {
                let message = format!("the secret {reference} {why}");
                checked.problems.0.extend(users.into_iter().map(|pointer| Problem {
                    level,
                    pointer,
                    message: message.clone(),
                }));
            }
        }
    }
    checked.tell(common)
}

/// A relay file, and what is wrong with it.
pub(super) struct Checked {
    file: String,
    document: Document,
    /// What is wrong.
    pub(super) problems: Problems,
    /// What it says, where that is sound.
    pub(super) relay: Option<Relay>,
}

impl Checked {
    /// Reads the relay file; where it is not even YAML, that is printed.
    pub(super) async fn read(common: &Common, backend: &dyn SecretBackend) -> Result<Self, ActionError> {
        let place = common.place()?;
        let text = config::text(&place, backend).await?;
        let file = place.strip_prefix("file:").unwrap_or("relay file").to_owned();
        let document = match config::document(&text) {
            Ok(document) => document,
            Err(ConfigError::Syntax(why)) => {
                common.print(
                    &json!({ "problems": [{ "level": "error", "place": "", "message": why }] }),
                    &format!("{file}: not YAML: {why}"),
                );
                return Err(ActionError::Problems);
            }
            Err(error) => return Err(error.into()),
        };
        let mut problems = Problems::default();
        let relay = Relay::read(&document.value, &mut problems);
        Ok(Self { file, document, problems, relay })
    }

    /// Prints every problem with its place.
    pub(super) fn tell(self, common: &Common) -> Result<(), ActionError> {
        let Self { file, document, mut problems, relay } = self;
        problems
            .0
            .sort_by(|a, b| (document.place(&a.pointer), &a.message).cmp(&(document.place(&b.pointer), &b.message)));
        let rows: Vec<_> = problems
            .0
            .iter()
            .map(|problem| {
                let (line, column) = document.place(&problem.pointer).unwrap_or((1, 1));
                let level = if problem.level == Level::Error { "error" } else { "warning" };
                let text = format!("{file}:{line}:{column}: {level}: {problem}");
                let row = json!({
                    "level": level, "place": problem.place(), "line": line, "column": column,
                    "message": problem.message,
                });
                (row, text)
            })
            .collect();
        let json = json!({ "problems": rows.iter().map(|(row, _)| row).collect::<Vec<_>>() });
        let text = match (&relay, rows.is_empty()) {
            (Some(relay), true) => format!("{file}: fine ({})", relay.counts()),
            _ => rows.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n"),
        };
        common.print(&json, &text);
        if problems.has_errors() { Err(ActionError::Problems) } else { Ok(()) }
    }
}
