//! The words by which senders say how bad something is.

use crate::domain::alert::Severity;

/// The severity that a sender's word stands for, in any case; `None` for a word that is none of these.
///
/// - critical: `critical`, `crit`, `page`, `emergency`, `fatal`, `disaster`, `P1`
/// - error: `error`, `err`, `high`, `major`, `P2`
/// - warning: `warning`, `warn`, `medium`, `moderate`, `average`, `minor`, `P3`
/// - info: `info`, `information`, `informational`, `notice`, `note`, `low`, `none`, `debug`, `P4`, `P5`
pub fn of(word: &str) -> Option<Severity> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "critical" | "crit" | "page" | "emergency" | "fatal" | "disaster" | "p1" => Severity::Critical,
        "error" | "err" | "high" | "major" | "p2" => Severity::Error,
        "warning" | "warn" | "medium" | "moderate" | "average" | "minor" | "p3" => Severity::Warning,
        "info" | "information" | "informational" | "notice" | "note" | "low" | "none" | "debug" | "p4" | "p5" => {
            Severity::Info
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_severities_in_any_case_and_others_for_none() {
        for (word, expected) in [
            ("critical", Some(Severity::Critical)),
            ("Page", Some(Severity::Critical)),
            ("P1", Some(Severity::Critical)),
            ("HIGH", Some(Severity::Error)),
            (" warn ", Some(Severity::Warning)),
            ("none", Some(Severity::Info)),
            ("", None),
            ("purple", None),
        ] {
            assert_eq!(of(word), expected, "{word}");
        }
    }
}
