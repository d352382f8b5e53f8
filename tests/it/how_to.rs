//! The pages that say how a type is added are kept true: every type there is was added that way.

use std::fs;
use std::path::Path;

use sluice::{source, target};

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).expect("page")
}

/// The files that a page names: lines indented as code, without blanks in them.
fn files(page: &str) -> Vec<&str> {
    let code = page.lines().filter(|line| line.starts_with("       ")).map(str::trim);
    code.filter(|line| !line.is_empty() && !line.contains(' ') && !line.contains('=')).collect()
}

#[test]
fn every_source_type_has_the_files_that_the_page_names() {
    let page = page("adding-a-source.md");
    let files = files(&page);
    assert!(files.len() >= 9, "the page names its files: {files:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("src/source/mod.rs")).expect("list");
    for of in source::TYPES {
        for file in &files {
            let name = file.replace("TYPE", if file.starts_with("src") { "MODULE" } else { of.name });
            if file.contains("CASE") {
                let folder = root.join("events").join(of.name);
                let ending = Path::new(file).extension().expect("ending").to_string_lossy().into_owned();
                // A body's ending says what it is: not all are JSON.
                let fits = |path: &Path| match ending.as_str() {
                    "json" => sluice::rim::local::samples::is_body(path),
                    ending => path.extension().is_some_and(|one| one == ending),
                };
                let mut entries = fs::read_dir(&folder).expect("folder").map(|entry| entry.expect("entry").path());
                assert!(entries.any(|path| fits(&path)), "{} has no {file}", of.name);
            } else if name.contains("MODULE") {
                // Types that differ by little share a file: the list says which.
                let at = list.find(&format!("\"{}\"", of.name)).expect("in the list");
                let entry = list[..at].rsplit("new::<").next().expect("an entry");
                let module = entry.split("::").next().expect("module");
                assert!(root.join(name.replace("MODULE", module)).is_file(), "{}: {name}", of.name);
            } else {
                assert!(root.join(&name).is_file(), "{name} is there");
            }
        }
    }
}

#[test]
fn what_the_page_says_of_code_is_there() {
    let page = page("adding-a-source.md");
    let source: String = ["mod.rs", "auth.rs"]
        .iter()
        .map(|file| {
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source").join(file)).expect("file")
        })
        .collect();
    for name in ["authenticate", "parse", "sign", "Missing", "Mismatch", "Malformed", "ignored", "Authentic"] {
        assert!(page.contains(name) && source.contains(name), "{name}");
    }
}

#[test]
fn every_target_type_has_the_files_that_the_page_names() {
    let page = page("adding-a-target.md");
    let files = files(&page);
    assert!(files.len() >= 8, "the page names its files: {files:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("src/target/mod.rs")).expect("list");
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(folder)).expect("folder");
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    };
    // Services that people read have golden files of their own kind: which of the two a type has says what it is.
    const CHATS: &str = "tests/golden/chat/";
    let chats = names(CHATS);
    for of in target::TYPES {
        for file in &files {
            if let Some((folder, pattern)) = file.split_once("TYPE").filter(|_| file.starts_with("tests/golden")) {
                if (folder == CHATS) != chats.iter().any(|name| name.starts_with(&format!("{}-", of.name))) {
                    continue;
                }
                // A type with several forms of request has a golden file for each: TYPE-FORM-SAMPLE.
                let fits = |name: &String| name.starts_with(of.name) && name.ends_with(pattern);
                assert!(names(folder).iter().any(fits), "{} has no {file}", of.name);
            } else if file.starts_with("src/") && file.contains("TYPE") {
                // Types that differ by little share a file: the list says which.
                let list: String = list.split_whitespace().collect();
                let before = list.split(&format!("(\"{}\",", of.name)).next().expect("in the list");
                let module = before.rsplit("new::<").next().and_then(|rest| rest.split("::").next()).expect("module");
                let file = root.join(file.replace("TYPE", module));
                let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is there", file.display()));
                assert!(text.starts_with("//! "), "{} says what the receiving side checks", file.display());
            } else if !file.contains("TYPE") {
                assert!(root.join(file).is_file(), "{file} is there");
            }
        }
    }
}

#[test]
fn what_the_page_on_targets_says_of_code_is_there() {
    let page = page("adding-a-target.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("src/target/mod.rs")).expect("file");
    for name in [
        "class",
        "InCluster",
        "Feed",
        "wants",
        "needs_original",
        "render",
        "credential",
        "NoSecret",
        "Unfit",
        "classify",
        "classify_by_status",
        "follow_up",
        "long_answer",
        "doubts_secret",
        "not told: …",
    ] {
        assert!(page.contains(name) && source.contains(name), "{name}");
    }
    let tests = fs::read_to_string(root.join("tests/it/targets.rs")).expect("file");
    assert!(page.contains("TARGETS") && tests.contains("const TARGETS"));
}
