//! The relay as a whole, with fakes at its ports that check what they are given; sources and targets against the
//! samples in `events/`; and the rules of the house.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod deliver;
mod fakes;
mod golden;
mod house;
mod intake;
mod readme;
#[path = "../support/receiver.rs"]
mod receiver;
mod relay;
mod rotation;
mod sources;
mod targets;
