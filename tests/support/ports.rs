//! Ports of this machine for tests.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpSocket;

/// A port that refuses connections, and that nobody else gets, until this is made to listen.
pub fn closed_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    socket
}

/// A port that nobody listens on, for a process that cannot choose one itself. It is below those that systems give out
/// (Linux from 32768 on), so that no connection takes it before the process does.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() * 31 % 20_000).expect("below 20,000");
    (0..20_000)
        .map(|_| 10_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
