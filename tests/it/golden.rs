//! Golden files: what should come out, kept where people can review it.

use std::fs;
use std::path::Path;

/// Compares what stands in the file at `path`, below the line `<!-- PART -->` and above the next `<!-- end -->`; with
/// `SLUICE_BLESS=1` in the environment, writes it instead.
pub fn check_part(path: &str, part: &str, expected: &str) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&whole).expect("text");
    let start = format!("<!-- {part} -->\n");
    let (before, rest) = text.split_once(&start).expect("the part begins");
    let (now, after) = rest.split_once("<!-- end -->").expect("the part ends");
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&whole, format!("{before}{start}{expected}<!-- end -->{after}")).expect("written");
    } else {
        assert!(now == expected, "{path}: the {part} are not up to date: SLUICE_BLESS=1\n{expected}");
    }
}

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
