//! What the README says of types comes from the lists of types, and what infra/README.md says of inputs and outputs from
//! the module.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sluice::relay::format::KeyDescription;
use sluice::{source, target};

/// Compares a part of a README with what it should be.
fn check(readme: &str, part: &str, expected: &str) {
    crate::golden::check_part(readme, &format!("{part}: made by tests/it/readme.rs"), expected);
}

fn keys(keys: &[KeyDescription]) -> String {
    let name = |key: &KeyDescription| match key.required {
        true => format!("**`{}`**", key.name),
        false => format!("`{}`", key.name),
    };
    keys.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn function(of: &source::SourceType) -> String {
    serde_json::to_value(of.function).expect("JSON").as_str().expect("text").to_owned()
}

/// What the OpenTofu module reads to know which function a source belongs to.
#[test]
fn the_module_knows_the_function_of_every_source_type() {
    let types: BTreeMap<_, _> = source::TYPES.iter().map(|of| (of.name, function(of))).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/source-types.json");
    crate::golden::check(&path, &serde_json::to_string_pretty(&types).expect("JSON"));
}

#[test]
fn the_readme_lists_every_type_with_its_keys() {
    let mut sources =
        String::from("| type | function | authenticated by | keys (required ones bold) |\n|---|---|---|---|\n");
    for of in source::TYPES {
        sources.push_str(&format!(
            "| `{}` | `{}` | {} | {} |\n",
            of.name,
            function(of),
            of.authenticates_by,
            keys(&of.keys())
        ));
    }
    let mut targets = String::from("| type | what it is | keys (required ones bold) |\n|---|---|---|\n");
    for of in target::TYPES {
        targets.push_str(&format!("| `{}` | {} | {} |\n", of.name, of.about, keys(&of.keys())));
    }
    check("README.md", "sources", &sources);
    check("README.md", "targets", &targets);
}

/// A block of the module: its name, and its attributes as they are written, each on one line.
struct Block {
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Block {
    /// The blocks of this kind in the `.tf` files of a folder under infra/. They are formatted (scripts/test sees to it), so
    /// that a block begins and ends at the beginning of a line, and its attributes two characters later.
    fn all(folder: &str, kind: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra").join(folder);
        let files = fs::read_dir(folder).expect("folder").map(|file| file.expect("file").path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|of| of == "tf")).collect();
        files.sort();
        let text: String = files.iter().map(|path| fs::read_to_string(path).expect("text") + "\n").collect();
        let mut blocks = Vec::new();
        for rest in text.split(&format!("\n{kind} \"")).skip(1) {
            let (name, rest) = rest.split_once("\" {\n").expect("a block begins");
            let (body, _) = rest.split_once("\n}").expect("a block ends");
            let mut block = Self { name: name.to_owned(), attributes: BTreeMap::new() };
            let mut current = None;
            for line in body.lines() {
                let is_deeper = line.starts_with("   ") || matches!(line.trim(), "}" | "})" | "}))");
                if !is_deeper {
                    current =
                        line.trim().split_once(" = ").map(|(key, value)| (key.trim().to_owned(), value.to_owned()));
                } else if let Some((_, value)) = &mut current {
                    let is_list = !value.ends_with(['{', '(', '[', ',']) && !line.trim().starts_with(['}', ')', ']']);
                    value.push_str(if is_list { ", " } else { " " });
                    value.push_str(line.trim());
                }
                if let Some((key, value)) = &current {
                    block.attributes.insert(key.clone(), value.trim().to_owned());
                }
            }
            blocks.push(block);
        }
        blocks
    }

    /// The value of an attribute as code, on one line.
    fn code(&self, name: &str) -> Option<String> {
        let value = self.attributes.get(name)?;
        Some(format!("`{}`", value.split_whitespace().collect::<Vec<_>>().join(" ")))
    }

    fn description(&self) -> String {
        let written = self.attributes.get("description").unwrap_or_else(|| panic!("{} has no description", self.name));
        let text: String = serde_json::from_str(written).expect("a text");
        assert!(!text.contains('|'), "{}: a description is to fit into a table", self.name);
        text
    }
}

fn inputs(folder: &str) -> String {
    let mut table = String::from("| input | what it is | type | default |\n|---|---|---|---|\n");
    for input in Block::all(folder, "variable") {
        let of = input.code("type").unwrap_or_else(|| panic!("{} has no type", input.name));
        let default = input.code("default").unwrap_or_else(|| "none: it is required".to_owned());
        table.push_str(&format!("| `{}` | {} | {of} | {default} |\n", input.name, input.description()));
    }
    table
}

fn outputs(folder: &str) -> String {
    let mut table = String::from("| output | what it is |\n|---|---|\n");
    for output in Block::all(folder, "output") {
        table.push_str(&format!("| `{}` | {} |\n", output.name, output.description()));
    }
    table
}

#[test]
fn the_readme_of_the_module_lists_every_input_and_output() {
    check("infra/README.md", "inputs", &inputs("."));
    check("infra/README.md", "outputs", &outputs("."));
    check("infra/README.md", "forward inputs", &inputs("forward"));
    check("infra/README.md", "forward outputs", &outputs("forward"));
    check("infra/README.md", "secrets inputs", &inputs("secrets"));
    check("infra/README.md", "secrets outputs", &outputs("secrets"));
}
