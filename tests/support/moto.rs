//! An emulated AWS for tests: moto as a child process, repaired by `moto.py` beside this file.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
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

    /// What the emulator itself answers: `moto.py` says what can be asked.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        assert!(answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"), "{path}");
        answer.split_off(head + 4)
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
