//! An emulated AWS for tests: moto as a child process, repaired by `moto.py` beside this file.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running moto, empty at first. It ends when this is dropped, and also when the test process ends without
/// dropping it: its standard input is a pipe from here.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// Starts one on a free port and waits until it listens.
    ///
    /// # Panics
    /// If it does not start. The Python is `SLUICE_TEST_PYTHON`, else `python3`.
    pub fn start() -> Self {
        let python = std::env::var("SLUICE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moto.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} cannot be run ({error}). {INSTALL}"));
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("its output is text");
        match line.trim().parse() {
            Ok(port) => Self { child, port },
            Err(_) => {
                let status = child.wait().expect("it was started");
                panic!("moto did not start ({python}, {status}). {INSTALL}")
            }
        }
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const INSTALL: &str = "These tests need moto: `python3 -m venv .venv && .venv/bin/pip install 'moto[server]'`, \
                       then set SLUICE_TEST_PYTHON=.venv/bin/python (as an absolute path).";
