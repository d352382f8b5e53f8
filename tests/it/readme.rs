//! What the README says of types comes from the lists of types.

use std::fs;
use std::path::Path;

use sluice::relay::format::KeyDescription;
use sluice::{source, target};

/// Compares a part of the README with what it should be; with `SLUICE_BLESS=1`, writes it instead.
fn check(part: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).expect("README");
    let start = format!("<!-- {part}: made by tests/it/readme.rs -->\n");
    let (before, rest) = text.split_once(&start).expect("the part begins");
    let (now, after) = rest.split_once("<!-- end -->").expect("the part ends");
    if std::env::var_os("SLUICE_BLESS").is_some() {
        fs::write(&path, format!("{before}{start}{expected}<!-- end -->{after}")).expect("README");
    } else {
        assert!(now == expected, "the README's {part} are not up to date: SLUICE_BLESS=1\n{expected}");
    }
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
    let types: std::collections::BTreeMap<_, _> = source::TYPES.iter().map(|of| (of.name, function(of))).collect();
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
    check("sources", &sources);
    check("targets", &targets);
}
