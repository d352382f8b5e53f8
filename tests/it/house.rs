//! The rules of the house.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The part of a file that ships.
fn shipped(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("text");
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

#[test]
fn the_core_knows_nothing_of_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for room in ["domain", "relay", "source", "target"] {
        for file in files(&source.join(room)) {
            seen += 1;
            let text = shipped(&file);
            for forbidden in [
                "crate::rim",
                "crate::port",
                "crate::intake",
                "crate::deliver",
                "crate::dead_letters",
                "crate::probe",
                "crate::doctor",
                "crate::overdue",
                "crate::secrets",
                "crate::command",
                "tokio",
                "reqwest",
                "hyper",
                "aws_",
                "lambda_",
                "redb",
                "std::fs",
                "std::env",
                "std::net::Tcp",
                "SystemTime",
                "Timestamp::now",
                "Instant",
                "getrandom",
                "println!",
            ] {
                assert!(!text.contains(forbidden), "{} mentions {forbidden}", file.display());
            }
        }
    }
    assert!(seen > 15, "the rooms were looked into");
}

#[test]
fn the_engine_knows_ports_and_no_implementation() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in [
        "intake.rs",
        "intake/open.rs",
        "deliver.rs",
        "deliver/breaker.rs",
        "dead_letters.rs",
        "probe.rs",
        "doctor.rs",
        "overdue.rs",
        "secrets.rs",
        "port.rs",
    ] {
        let text = shipped(&source.join(file));
        for forbidden in [
            "crate::rim",
            "crate::command",
            "reqwest",
            "aws_",
            "lambda_",
            "redb",
            "std::fs",
            "std::env",
            "Timestamp::now",
        ] {
            assert!(!text.contains(forbidden), "{file} mentions {forbidden}");
        }
    }
}

#[test]
fn adapters_do_not_know_each_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, shared) in [
        (
            "source",
            [
                "mod",
                "alarm",
                "alert",
                "auth",
                "aws",
                "cloud_event",
                "fields",
                "git",
                "github_hook",
                "json",
                "jwt",
                "notification",
                "oci",
                "severity",
                "sns",
            ]
            .as_slice(),
        ),
        (
            "target",
            [
                "mod",
                "aws",
                "chat",
                "code_host",
                "gitea",
                "github",
                "gitlab",
                "markup",
                "message",
                "pause",
                "poke",
                "template",
                "text",
            ]
            .as_slice(),
        ),
    ] {
        // A folder belongs to the file of the same name beside it.
        let adapter = |file: &Path| {
            let within = file.strip_prefix(source.join(room)).expect("it is in there").with_extension("");
            within.iter().next().expect("a name").to_string_lossy().into_owned()
        };
        let files = files(&source.join(room));
        let names: BTreeSet<String> =
            files.iter().map(|file| adapter(file)).filter(|name| !shared.contains(&name.as_str())).collect();
        for file in &files {
            let (name, text) = (&adapter(file), shipped(file));
            if !names.contains(name) {
                continue;
            }
            for other in names.iter().filter(|other| *other != name) {
                let mentions = [format!("super::{other}::"), format!("crate::{room}::{other}::")];
                assert!(!mentions.iter().any(|mention| text.contains(mention)), "{room}/{name} uses {other}");
            }
        }
    }
}
