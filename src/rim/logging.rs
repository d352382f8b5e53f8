//! Logs: one JSON object per line in Lambda, lines for people elsewhere. No secret can get in: none can be printed,
//! and what the libraries below us say of their requests stays out at every level.

use std::env;
use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

/// The level that `AWS_LAMBDA_LOG_LEVEL` names, else `info`; for everything that is not ours at most `warn`.
fn filter() -> Targets {
    let level = match env::var("AWS_LAMBDA_LOG_LEVEL").unwrap_or_default().to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("sluice", level)
}

fn init(layer: impl Layer<Registry> + Send + Sync) {
    tracing_subscriber::registry().with(layer.with_filter(filter())).init();
}

/// Starts logging in a function: JSON unless the platform asks for text.
pub fn init_function() {
    let json = env::var("AWS_LAMBDA_LOG_FORMAT").map_or(true, |format| !format.eq_ignore_ascii_case("text"));
    if json {
        // Without the module, which would be a second `target` beside the relay's own.
        init(fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false));
    } else {
        init(fmt::layer().without_time().with_ansi(false));
    }
}

/// Starts logging in the command, on standard error.
pub fn init_command(json: bool) {
    let layer = fmt::layer().with_writer(std::io::stderr);
    if json {
        init(layer.json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false));
    } else {
        init(layer.with_target(false).with_ansi(std::io::stderr().is_terminal()));
    }
}
