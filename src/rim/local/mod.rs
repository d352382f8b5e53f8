//! The ports on one machine: an embedded database for queue and state, secrets out of the environment and files,
//! the HTTP front door of `sluice serve`.

pub mod dead_letters;
pub mod receiver;
pub mod samples;
pub mod secrets;
pub mod server;
pub mod store;
