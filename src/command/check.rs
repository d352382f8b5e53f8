//! `sluice check`: every problem of a relay file at once, each with its place.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Common, Trouble, store};
use crate::domain::secret::SecretRef;
use crate::relay::format::{Level, Problem, Problems};
use crate::relay::{Relay, schema};
use crate::rim::config::{self, ConfigError};

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

pub(super) async fn run(common: &Common, options: Options) -> Result<(), Trouble> {
    if options.schema {
        println!("{:#}", schema::json_schema());
        return Ok(());
    }
    let backend = common.backend();
    let place = common.place()?;
    let text = config::text(&place, backend.as_ref()).await?;
    let file = place.strip_prefix("file:").unwrap_or("relay file");
    let document = match config::document(&text) {
        Ok(document) => document,
        Err(ConfigError::Syntax(why)) => {
            common.print(
                &json!({ "problems": [{ "level": "error", "place": "", "message": why }] }),
                &format!("{file}: not YAML: {why}"),
            );
            return Err(Trouble::Found);
        }
        Err(error) => return Err(error.into()),
    };
    let mut problems = Problems::default();
    let relay = Relay::read(&document.value, &mut problems);
    if let Some(relay) = &relay {
        let store = store(backend);
        for (reference, users) in secrets(relay) {
            if !reference.is_local() && !options.secrets {
                continue;
            }
            let found = store.find(std::slice::from_ref(&reference), None).await;
            let value = found.resolved.current(&reference);
            let finding = match (value, found.missing.first()) {
                (_, Some((_, error))) => Some((Level::Error, format!("the secret {reference}: {error}"))),
                (Some(value), _) if value.is_empty() => {
                    Some((Level::Error, format!("the secret {reference} is empty, which refuses everybody")))
                }
                (Some(value), _) if reference.is_secret() && value.ends_in_white_space() => Some((
                    Level::Warning,
                    format!(
                        "the secret {reference} ends in white space (a newline of echo?). It is used byte for byte: \
                         the other side must have it, too, or it has to go"
                    ),
                )),
                _ => None,
            };
            if let Some((level, message)) = finding {
                problems.0.extend(users.into_iter().map(|pointer| Problem {
                    level,
                    pointer,
                    message: message.clone(),
                }));
            }
        }
    }
    problems.0.sort_by(|a, b| (document.place(&a.pointer), &a.message).cmp(&(document.place(&b.pointer), &b.message)));
    let rows: Vec<_> = problems
        .0
        .iter()
        .map(|problem| {
            let (line, column) = document.place(&problem.pointer).unwrap_or((1, 1));
            let level = if problem.level == Level::Error { "error" } else { "warning" };
            let text = format!("{file}:{line}:{column}: {level}: {problem}");
            let row = json!({
                "level": level, "place": problem.place(), "line": line, "column": column, "message": problem.message,
            });
            (row, text)
        })
        .collect();
    let json = json!({ "problems": rows.iter().map(|(row, _)| row).collect::<Vec<_>>() });
    let text = match (&relay, rows.is_empty()) {
        (Some(relay), true) => format!(
            "{file}: fine (sources: {}, targets: {}, routes: {})",
            relay.sources.len(),
            relay.targets.len(),
            relay.routes.len()
        ),
        _ => rows.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n"),
    };
    common.print(&json, &text);
    if problems.has_errors() { Err(Trouble::Found) } else { Ok(()) }
}

/// Every secret with the places that name it.
fn secrets(relay: &Relay) -> BTreeMap<SecretRef, Vec<String>> {
    let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let sources = relay.sources.iter().map(|(name, entry)| (format!("/sources/{name}"), entry.secrets()));
    let targets = relay.targets.iter().map(|(name, entry)| (format!("/targets/{name}"), entry.secrets()));
    for (pointer, references) in sources.chain(targets) {
        for reference in references {
            users.entry(reference.clone()).or_default().push(pointer.clone());
        }
    }
    users
}
