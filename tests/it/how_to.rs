//! The pages that say how a type is added are kept true: every type there is was added that way.

use std::collections::BTreeMap;
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

/// The names of all files below `path`, from the root of the repository on.
fn below(path: &str, found: &mut Vec<String>) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if whole.is_file() {
        found.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(&whole).expect("folder") {
        let name = entry.expect("entry").file_name();
        below(&format!("{path}/{}", name.to_string_lossy()), found);
    }
}

/// Tests that are tables over many types.
const ROWS: &[&str] = &["tests/it/target_types.rs", "tests/it/sources/any_shape.rs"];

/// A table of the files among `places` that are of each of `types` (name and module) or have a line for it: where it is
/// listed, is an entry's type, is a module, or has a row. Types for which they are the same share one.
fn table(types: &[(&str, String)], places: &[&str]) -> String {
    let mut files = Vec::new();
    places.iter().for_each(|place| below(place, &mut files));
    let read = |file: String| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect("text");
        (text.split_whitespace().collect::<String>(), file)
    };
    let texts: Vec<_> = files.into_iter().map(read).collect();
    let mut rows: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for (name, module) in types {
        let own = format!("/{module}.rs");
        let words = [format!(">(\"{name}\","), format!("type:{name},"), format!("mod{module};")];
        let has = |text: &str, file: &str| {
            let is_row = ROWS.contains(&file) && text.contains(&format!("\"{name}\""));
            is_row || file.ends_with(&own) || words.iter().any(|word| text.contains(word))
        };
        let files = texts.iter().filter(|(text, file)| has(text, file));
        let mut files: Vec<_> = files.map(|(_, file)| file.replace(&own, "/TYPE.rs")).collect();
        files.sort();
        rows.entry(files).or_default().push(name);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(files, types)| (files.len(), std::cmp::Reverse(types.len())));
    let quoted = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let mut table = String::from("| types | files | which |\n|---|---|---|\n");
    for (files, types) in rows {
        let names: Vec<_> = files.iter().map(String::as_str).collect();
        table.push_str(&format!("| {} | {} | {} |\n", quoted(&types), files.len(), quoted(&names)));
    }
    table
}

/// The module that the list at `path` says `name` is in.
fn module(path: &str, name: &str) -> String {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("list");
    let list: String = list.split_whitespace().collect();
    let before = list.split(&format!("(\"{name}\",")).next().expect("in the list");
    let module = before.rsplit("new::<").next().and_then(|rest| rest.split("::").next());
    module.expect("module").to_owned()
}

#[test]
fn what_each_type_took() {
    let targets: Vec<_> = target::TYPES.iter().map(|of| (of.name, module("src/target/mod.rs", of.name))).collect();
    let sources: Vec<_> = source::TYPES.iter().map(|of| (of.name, module("src/source/mod.rs", of.name))).collect();
    let places = [
        "src/target",
        "tests/it/targets.rs",
        "tests/it/target_types.rs",
        "tests/it/chats.rs",
        "tests/it/chats",
        "tests/support/chats.yaml",
    ];
    let files = table(&targets, &places);
    crate::golden::check_part("docs/adding-a-target.md", "targets' files: made by tests/it/how_to.rs", &files);
    let files = table(&sources, &["src/source", "tests/it/sources.rs", "tests/it/sources"]);
    crate::golden::check_part("docs/adding-a-source.md", "sources' files: made by tests/it/how_to.rs", &files);
}
