//! Metrics in CloudWatch's embedded metric format: log lines out of which CloudWatch makes metrics, so that no call
//! is needed. Source: «Specification: Embedded metric format», Amazon CloudWatch User Guide (read 2026-08). Lambda drops
//! lines below the function's log level before CloudWatch sees them, by «Log-level filtering», AWS Lambda Developer Guide
//! (read 2026-11).

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
/// The highest level, so that no log level drops metrics, and with them the alarms on these. No log line has it.
const LEVEL: &str = "FATAL";

type Values = BTreeMap<(&'static str, Unit), Vec<f64>>;

/// Gathers metrics and writes them as log lines when flushed.
#[derive(Debug, Default)]
pub struct EmbeddedMetrics {
    gathered: Mutex<BTreeMap<(&'static str, String), Values>>,
}

impl Meter for EmbeddedMetrics {
    fn record(&self, name: &'static str, of: Of<'_>, value: f64, unit: Unit) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.entry(dimension(of)).or_default().entry((name, unit)).or_default().push(value);
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
    // Without a time as RFC 3339 has it, a line's level counts for nothing.
    members.insert("level".into(), LEVEL.into());
    members.insert("timestamp".into(), now.to_string().into());
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

type ByDimension = BTreeMap<(&'static str, String), Total>;

/// Counts for as long as the process lives, for Prometheus to read. Source: «Exposition formats», prometheus.io
/// (text format 0.0.4, read 2026-08).
#[derive(Debug, Default)]
pub struct PrometheusMetrics {
    totals: Mutex<BTreeMap<(&'static str, Unit), ByDimension>>,
}

#[derive(Debug, Default)]
struct Total {
    sum: f64,
    count: u64,
}

impl Meter for PrometheusMetrics {
    fn record(&self, name: &'static str, of: Of<'_>, value: f64, unit: Unit) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry((name, unit)).or_default().entry(dimension(of)).or_default();
        total.sum += value;
        total.count += 1;
    }
}

impl PrometheusMetrics {
    /// All that was counted since the start.
    pub fn text(&self) -> String {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for ((name, unit), of) in totals.iter() {
            let name = snake_case(name);
            match unit {
                Unit::Count => {
                    text.push_str(&format!("# TYPE sluice_{name}_total counter\n"));
                    for ((label, value), total) in of {
                        text.push_str(&format!("sluice_{name}_total{{{label}=\"{value}\"}} {}\n", total.sum));
                    }
                }
                Unit::Milliseconds => {
                    text.push_str(&format!("# TYPE sluice_{name}_milliseconds summary\n"));
                    for ((label, value), Total { sum, count }) in of {
                        let labels = format!("{{{label}=\"{value}\"}}");
                        text.push_str(&format!("sluice_{name}_milliseconds_sum{labels} {sum}\n"));
                        text.push_str(&format!("sluice_{name}_milliseconds_count{labels} {count}\n"));
                    }
                }
            }
        }
        text
    }
}

/// `DeadLetters` as `dead_letters`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The dimension's name and value. Both are names of the relay file, which need no escaping anywhere.
fn dimension(of: Of<'_>) -> (&'static str, String) {
    match of {
        Of::Source(source) => ("source", source.to_owned()),
        Of::Target(target) => ("target", target.to_owned()),
    }
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
    fn prometheus_reads_totals_by_source_and_target() {
        let metrics = PrometheusMetrics::default();
        metrics.record("DeadLetters", Of::Target("prod"), 1.0, Unit::Count);
        metrics.record("DeadLetters", Of::Target("prod"), 1.0, Unit::Count);
        metrics.record("DeliveryTime", Of::Target("prod"), 12.5, Unit::Milliseconds);
        assert_eq!(
            metrics.text(),
            "# TYPE sluice_dead_letters_total counter\n\
             sluice_dead_letters_total{target=\"prod\"} 2\n\
             # TYPE sluice_delivery_time_milliseconds summary\n\
             sluice_delivery_time_milliseconds_sum{target=\"prod\"} 12.5\n\
             sluice_delivery_time_milliseconds_count{target=\"prod\"} 1\n"
        );
    }

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
                    "level": "FATAL", "timestamp": "1970-01-01T00:00:00.007Z",
                }),
                json!({
                    "_aws": { "Timestamp": 7, "CloudWatchMetrics": [{
                        "Namespace": "Sluice",
                        "Dimensions": [["function"], ["function", "target"]],
                        "Metrics": [{ "Name": "DeliveryTime", "Unit": "Milliseconds" }],
                    }] },
                    "function": "deliver", "target": "prod", "DeliveryTime": 12.5,
                    "level": "FATAL", "timestamp": "1970-01-01T00:00:00.007Z",
                }),
            ]
        );
        assert!(metrics.lines("deliver", Timestamp::UNIX_EPOCH).is_empty());
    }
}
