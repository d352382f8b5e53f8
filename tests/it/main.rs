//! The relay as a whole, with fakes at its ports that check what they are given; sources and targets against the
//! samples in `events/`; and the rules of the house.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "../support/any_reader.rs"]
mod any_reader;
#[path = "../support/any_source.rs"]
mod any_source;
#[path = "../support/any_target.rs"]
mod any_target;
mod chats;
mod dead_letters;
mod deliver;
mod doctor;
mod fakes;
mod front_door;
mod golden;
mod house;
mod how_to;
mod intake;
mod markup;
mod nats;
mod overdue;
#[path = "../support/ports.rs"]
mod ports;
mod probe;
mod random;
mod readme;
#[path = "../support/receiver.rs"]
mod receiver;
mod relay;
mod rotation;
mod security;
mod sns;
mod sources;
mod target_types;
mod targets;
mod tls;
mod tokens;
