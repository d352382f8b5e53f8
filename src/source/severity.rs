//! What senders call how bad something is.

use crate::domain::alert::Severity;

/// The severity that a common word stands for, in whatever case; `None` for a word that says nothing of the kind.
pub fn of_word(word: &str) -> Option<Severity> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "critical" | "crit" | "page" | "emergency" | "fatal" | "disaster" | "p0" | "p1" | "sev0" | "sev1" => {
            Severity::Critical
        }
        "error" | "err" | "high" | "major" | "p2" | "sev2" => Severity::Error,
        "warning" | "warn" | "medium" | "moderate" | "minor" | "average" | "p3" | "sev3" => Severity::Warning,
        "info" | "information" | "informational" | "notice" | "low" | "none" | "ok" | "debug" | "p4" | "p5" => {
            Severity::Info
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_whatever_case_and_unknown_ones_say_nothing() {
        for (word, expected) in [
            ("CRITICAL", Some(Severity::Critical)),
            ("page", Some(Severity::Critical)),
            ("High", Some(Severity::Error)),
            (" medium ", Some(Severity::Warning)),
            ("INFORMATIONAL", Some(Severity::Info)),
            ("none", Some(Severity::Info)),
            ("", None),
            ("purple", None),
        ] {
            assert_eq!(of_word(word), expected, "{word}");
        }
    }
}
