//! The words of the design as types. Nothing here knows of I/O: time, randomness and secrets come in as arguments.

pub mod alert;
pub mod delivery;
pub mod egress;
pub mod event;
pub mod matcher;
pub mod name;
pub mod notice;
pub mod outcome;
pub mod percent;
pub mod secret;
pub mod signature;
pub mod versions;
