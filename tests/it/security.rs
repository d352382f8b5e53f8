//! What SECURITY.md says of tests is so.

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

/// What stands in SECURITY.md as the name of a test: in backticks, and of several words.
fn named() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).expect("SECURITY.md");
    let code = text.split('`').skip(1).step_by(2);
    let is_name =
        |word: &&str| word.matches('_').count() >= 3 && !word.contains(|c: char| c != '_' && !c.is_alphanumeric());
    code.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there: BTreeSet<_> = ["src", "tests"]
        .into_iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .flat_map(|file| tests(&file))
        .collect();
    let named = named();
    assert!(named.len() > 40, "the page names tests");
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_of_an_attack_is_named_on_the_page_on_security() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let named = named();
    for file in ["it/intake/attacks.rs", "it/front_door.rs", "it/sns.rs", "secrets.rs"] {
        let unnamed: Vec<_> = tests(&folder.join(file)).into_iter().filter(|test| !named.contains(test)).collect();
        assert!(unnamed.is_empty(), "{file}: {unnamed:?}");
    }
}
