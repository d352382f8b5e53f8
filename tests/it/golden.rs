//! Golden files: what should come out, kept where people can review it.

use std::fs;
use std::path::Path;

/// Compares with the golden file at `path`; with `SLUICE_BLESS=1` in the environment, writes it instead.
pub fn check(path: &Path, actual: &str) {
    let actual = format!("{}\n", actual.trim_end());
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs from what comes out now; review it, and take it over with SLUICE_BLESS=1.\n--- now:\n{actual}",
        path.display()
    );
}
