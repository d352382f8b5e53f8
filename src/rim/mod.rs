//! The rim: the ports' implementations, on AWS and on the local machine, and what talks to the outside.

pub mod aws;
pub mod chance;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod fetch;
pub mod lambda;
pub mod local;
pub mod logging;
pub mod metrics;
pub mod nats;
pub mod published;
pub mod sender;
pub mod subscriptions;
pub mod tokens;
pub mod yaml;
