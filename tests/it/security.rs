//! What SECURITY.md and docs/nothing-lost.md say of tests is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    let inner = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    inner.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The names of the tests in a file.
fn tests(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("text");
    let after = text.split("test]\n").skip(1).chain(text.split("test(").skip(1));
    let name = |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    after.filter_map(name).collect()
}

const SECURITY: &str = "SECURITY.md";
const NOTHING_LOST: &str = "docs/nothing-lost.md";

/// What stands in a page as the name of a test: in backticks, and of several words.
fn named(page: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("the page");
    let code = text.split('`').skip(1).step_by(2);
    let is_name =
        |word: &&str| word.matches('_').count() >= 3 && !word.contains(|c: char| c != '_' && !c.is_alphanumeric());
    code.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_pages_on_security_and_on_what_may_break_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there: BTreeSet<_> = ["src", "tests"]
        .into_iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .flat_map(|file| tests(&file))
        .collect();
    for page in [SECURITY, NOTHING_LOST] {
        let named = named(page);
        assert!(named.len() > 30, "{page} names tests");
        let missing: Vec<_> = named.difference(&there).collect();
        assert!(missing.is_empty(), "{page}: {missing:?}");
    }
}

#[test]
fn every_test_of_an_attack_or_of_chaos_is_named_on_its_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let security = ["it/intake/attacks.rs", "it/front_door.rs", "it/sns.rs", "secrets.rs"].map(|file| (file, SECURITY));
    let lost = ["chaos.rs", "it/rotation.rs"].map(|file| (file, NOTHING_LOST));
    for (file, page) in security.into_iter().chain(lost) {
        let named = named(page);
        let unnamed: Vec<_> = tests(&folder.join(file)).into_iter().filter(|test| !named.contains(test)).collect();
        assert!(unnamed.is_empty(), "{file}: {unnamed:?}");
    }
}
