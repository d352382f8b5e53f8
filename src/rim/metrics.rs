//! Metrics in CloudWatch's embedded metric format: log lines out of which CloudWatch makes metrics, so that no call
//! is needed. Source: «Specification: Embedded metric format», Amazon CloudWatch User Guide (read 2026-08).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::port::{Meter, Of, Unit};

/// The namespace of all of Sluice's metrics.
pub const NAMESPACE: &str = "Sluice";
/// A value of a metric may be a list of at most this many numbers.
const MOST_VALUES: usize = 100;

type Values = BTreeMap<(&'static str, Unit), Vec<f64>>;

/// Gathers metrics and writes them as log lines when flushed.
#[derive(Debug, Default)]
pub struct EmbeddedMetrics {
    gathered: Mutex<BTreeMap<(&'static str, String), Values>>,
}

impl Meter for EmbeddedMetrics {
    fn record(&self, name: &'static str, of: Of<'_>, value: f64, unit: Unit) {
        let dimension = match of {
            Of::Source(source) => ("source", source.to_owned()),
            Of::Target(target) => ("target", target.to_owned()),
        };
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.entry(dimension).or_default().entry((name, unit)).or_default().push(value);
    }
}

impl EmbeddedMetrics {
    /// The log lines for what was gathered since the last call, for `function` at `now`.
    pub fn lines(&self, function: &str, now: Timestamp) -> Vec<Value> {
        let gathered = std::mem::take(&mut *self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
        gathered.into_iter().map(|(dimension, values)| line(function, now, &dimension, values)).collect()
    }

    /// Writes what was gathered to standard output.
    pub fn flush(&self, function: &str, now: Timestamp) {
        let mut out = std::io::stdout().lock();
        for line in self.lines(function, now) {
            // A log that cannot be written is nothing that we could report anywhere.
            let _ = writeln!(out, "{line}");
        }
    }
}

fn line(function: &str, now: Timestamp, (dimension, name): &(&'static str, String), values: Values) -> Value {
    let mut members = Map::new();
    let mut metrics = Vec::new();
    for ((metric, unit), mut numbers) in values {
        let unit = match unit {
            Unit::Count => {
                numbers = vec![numbers.iter().sum()];
                "Count"
            }
            Unit::Milliseconds => "Milliseconds",
        };
        numbers.truncate(MOST_VALUES);
        metrics.push(json!({ "Name": metric, "Unit": unit }));
        let value = match numbers[..] {
            [one] => json!(one),
            _ => json!(numbers),
        };
        members.insert(metric.into(), value);
    }
    members.insert("function".into(), function.into());
    members.insert((*dimension).into(), name.as_str().into());
    members.insert(
        "_aws".into(),
        json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["function"], ["function", dimension]],
                "Metrics": metrics,
            }],
        }),
    );
    Value::Object(members)
}

/// Forgets what it is told.
#[derive(Debug, Clone, Copy)]
pub struct NoMetrics;

impl Meter for NoMetrics {
    fn record(&self, _: &'static str, _: Of<'_>, _: f64, _: Unit) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gathered_becomes_one_line_per_source_or_target() {
        let metrics = EmbeddedMetrics::default();
        metrics.record("Requests", Of::Source("github"), 1.0, Unit::Count);
        metrics.record("Requests", Of::Source("github"), 1.0, Unit::Count);
        metrics.record("DeliveryTime", Of::Target("prod"), 12.5, Unit::Milliseconds);
        let lines = metrics.lines("deliver", Timestamp::from_millisecond(7).expect("time"));
        assert_eq!(
            lines,
            [
                json!({
                    "_aws": { "Timestamp": 7, "CloudWatchMetrics": [{
                        "Namespace": "Sluice",
                        "Dimensions": [["function"], ["function", "source"]],
                        "Metrics": [{ "Name": "Requests", "Unit": "Count" }],
                    }] },
                    "function": "deliver", "source": "github", "Requests": 2.0,
                }),
                json!({
                    "_aws": { "Timestamp": 7, "CloudWatchMetrics": [{
                        "Namespace": "Sluice",
                        "Dimensions": [["function"], ["function", "target"]],
                        "Metrics": [{ "Name": "DeliveryTime", "Unit": "Milliseconds" }],
                    }] },
                    "function": "deliver", "target": "prod", "DeliveryTime": 12.5,
                }),
            ]
        );
        assert!(metrics.lines("deliver", Timestamp::UNIX_EPOCH).is_empty());
    }
}
