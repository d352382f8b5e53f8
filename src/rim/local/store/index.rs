//! Which group of a queue is next, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::round::Nanos;

/// Which messages are where: what can be known of the queues without reading the database.
#[derive(Default)]
pub(super) struct Index {
    queues: HashMap<String, Groups>,
}

/// The groups of one queue that have messages.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) all: BTreeMap<String, Group>,
    /// Those that can be handed out, the longest waiting first.
    ready: BTreeSet<(u64, String)>,
    /// Those that cannot, by when they will.
    hidden: BTreeSet<(Nanos, String)>,
    turns: u64,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) messages: usize,
    /// The messages, of those last handed out, that the rest has to wait for: ten at most.
    pub(super) hidden: BTreeMap<u64, Hidden>,
    place: Option<Place>,
}

pub(super) struct Hidden {
    pub(super) until: Nanos,
    pub(super) in_flight: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Ready(u64),
    Hidden(Nanos),
}

impl Index {
    pub(super) fn queue(&mut self, name: &str) -> &mut Groups {
        self.queues.entry(name.to_owned()).or_default()
    }

    pub(super) fn in_flight(&self) -> Vec<(String, String, u64)> {
        let mut found = Vec::new();
        for (queue, groups) in &self.queues {
            for (name, group) in &groups.all {
                let in_flight = group.hidden.iter().filter(|(_, hidden)| hidden.in_flight);
                found.extend(in_flight.map(|(number, _)| (queue.clone(), name.clone(), *number)));
            }
        }
        found
    }
}

impl Groups {
    /// Changes a group and puts it where it then belongs.
    pub(super) fn change(&mut self, name: &str, now: Nanos, change: impl FnOnce(&mut Group)) {
        let (name, mut group) = self.all.remove_entry(name).unwrap_or_else(|| (name.to_owned(), Group::default()));
        let before = group.place;
        match before {
            Some(Place::Ready(turn)) => self.ready.remove(&(turn, name.clone())),
            Some(Place::Hidden(until)) => self.hidden.remove(&(until, name.clone())),
            None => false,
        };
        change(&mut group);
        if group.messages == 0 {
            return;
        }
        group.hidden.retain(|_, hidden| hidden.until > now);
        let place = match (group.hidden.values().map(|hidden| hidden.until).max(), before) {
            (Some(until), _) => Place::Hidden(until),
            (None, Some(Place::Ready(turn))) => Place::Ready(turn),
            (None, _) => {
                self.turns += 1;
                Place::Ready(self.turns)
            }
        };
        match place {
            Place::Ready(turn) => self.ready.insert((turn, name.clone())),
            Place::Hidden(until) => self.hidden.insert((until, name.clone())),
        };
        group.place = Some(place);
        self.all.insert(name, group);
    }

    /// The group whose turn it is, or else when the next one will be ready.
    pub(super) fn next(&mut self, now: Nanos) -> Result<String, Option<Nanos>> {
        while let Some((_, name)) = self.hidden.first().filter(|(until, _)| *until <= now).cloned() {
            self.change(&name, now, |_| {});
        }
        match self.ready.first() {
            Some((_, name)) => Ok(name.clone()),
            None => Err(self.hidden.first().map(|(until, _)| *until)),
        }
    }
}
