//! Sluice: a webhook and alert relay on AWS Lambda, for teams that run Kubernetes with GitOps.
//!
//! # Words
//!
//! A *source* tells us; an *event* is what happened, normalised; a *route* says which events go to which
//! *targets*; a *delivery* is one event for one target, the message on the queue; an *outcome* is what became of an
//! attempt; a *dead letter* is a delivery that was given up, with the reason.
//!
//! # The way of an event
//!
//! [`intake`] authenticates a request, parses it, finds its targets and puts one delivery for each on the queue;
//! only then does the sender get its 2xx. [`deliver`] takes deliveries off the queue, renders each for its target,
//! sends it and judges the answer: delivered, tried again later, or given up as a dead letter. [`probe`] asks now and
//! then whether the receivers are there, [`overdue`] whether deliveries arrive in time, and [`doctor`] for an operator how
//! everything is.
//!
//! # What holds always
//!
//! Nothing acknowledged is lost: delivery is at least once. Nothing unauthenticated gets in. Order per target is
//! kept. A secret cannot be printed.
//!
//! # The house
//!
//! [`domain`], [`relay`], [`source`] and [`target`] are the core: pure, and without I/O. [`intake`], [`deliver`],
//! [`dead_letters`], [`probe`], [`overdue`], [`doctor`] and [`secrets`] are the engine, written against the [`port`]s.
//! [`rim`] implements the ports, on AWS and on the local machine, and [`command`] is the `sluice` command. The core uses
//! none of the others, the engine only the core and the ports, the rim no command; a test reads the `use` lines.

pub mod command;
pub mod dead_letters;
pub mod deliver;
pub mod doctor;
pub mod domain;
pub mod intake;
pub mod overdue;
pub mod port;
pub mod probe;
pub mod relay;
pub mod rim;
pub mod secrets;
pub mod source;
pub mod target;
