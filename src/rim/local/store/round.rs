//! The database's tables, and one transaction with all that can be done in it.

use std::time::Duration;

use jiff::Timestamp;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::index::{Hidden, Index};
use super::queue::{GroupCount, Peeked};
use super::writer::Unclaimed;
use crate::port::{Message, Received};

/// How long a deduplication id is remembered, as on SQS.
const DEDUPLICATION: Duration = Duration::from_secs(300);

/// Nanoseconds since 1970: how times are stored, exactly.
pub(super) type Nanos = i128;
/// A queue's name, a group and the message's number, which is higher than that of any message sent before it.
type MessageKey = (&'static str, &'static str, u64);
/// When it was sent, how often it was handed out, until when it is hidden, and whether it is hidden because it was
/// handed out (or else held).
type MessageRow = (Nanos, u32, Nanos, bool);

pub(super) const MESSAGES: TableDefinition<MessageKey, MessageRow> = TableDefinition::new("messages");
/// Apart from the rows, so that handing out a message does not write its body again.
const BODIES: TableDefinition<MessageKey, &str> = TableDefinition::new("bodies");
/// Expiry and value by partition and sort key. The deduplication ids of a queue are records too.
const RECORDS: TableDefinition<(&str, &str), (Nanos, &[u8])> = TableDefinition::new("records");
/// The keys of [`RECORDS`] by expiry.
const EXPIRIES: TableDefinition<(Nanos, &str, &str), ()> = TableDefinition::new("expiries");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");

/// One transaction, and what can be done in it. What is done to the index needs no undoing: when the transaction
/// fails, the index is read again.
pub(super) struct Round<'a> {
    messages: Table<'a, MessageKey, MessageRow>,
    bodies: Table<'a, MessageKey, &'static str>,
    pub(super) records: Table<'a, (&'static str, &'static str), (Nanos, &'static [u8])>,
    pub(super) expiries: Table<'a, (Nanos, &'static str, &'static str), ()>,
    counters: Table<'a, &'static str, u64>,
    pub(super) index: &'a mut Index,
    pub(super) unclaimed: &'a mut Vec<Unclaimed>,
    pub(super) now: Nanos,
    again: bool,
    /// Whether there is anything to commit.
    written: bool,
    /// Records that were made.
    recorded: usize,
}

impl<'a> Round<'a> {
    pub(super) fn begin(
        transaction: &'a WriteTransaction,
        index: &'a mut Index,
        unclaimed: &'a mut Vec<Unclaimed>,
        now: Nanos,
        again: bool,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            messages: transaction.open_table(MESSAGES)?,
            bodies: transaction.open_table(BODIES)?,
            records: transaction.open_table(RECORDS)?,
            expiries: transaction.open_table(EXPIRIES)?,
            counters: transaction.open_table(COUNTERS)?,
            index,
            unclaimed,
            now,
            again,
            written: false,
            recorded: 0,
        })
    }

    /// Whether the transaction has to be committed. Forgets some expired records if so: more than were made, so
    /// that they do not pile up, and few, so that no round takes long.
    pub(super) fn finish(mut self) -> Result<bool, redb::Error> {
        if self.written {
            let (now, many) = (self.now, 2 * self.recorded + 16);
            let mut expired = Vec::new();
            for entry in self.expiries.range(..=(now, "", ""))?.take(many) {
                let (key, _) = entry?;
                let (at, pk, sk) = key.value();
                expired.push((at, pk.to_owned(), sk.to_owned()));
            }
            for (at, pk, sk) in expired {
                self.expiries.remove((at, &*pk, &*sk))?;
                self.records.remove((&*pk, &*sk))?;
            }
        }
        Ok(self.written)
    }

    pub(super) fn send(&mut self, queue: &str, messages: &[Message]) -> Result<(), redb::Error> {
        let seen = format!("deduplication#{queue}");
        for message in messages {
            if self.get(&seen, &message.deduplication_id)?.is_some() {
                continue;
            }
            self.put(&seen, &message.deduplication_id, after(self.now, DEDUPLICATION), &[])?;
            let number = self.counters.get("messages")?.map_or(0, |last| last.value()) + 1;
            self.counters.insert("messages", number)?;
            let group = &*message.group;
            self.messages.insert((queue, group, number), (self.now, 0, 0, false))?;
            self.bodies.insert((queue, group, number), &*message.body)?;
            self.index.queue(queue).change(group, self.now, |group| group.messages += 1);
        }
        Ok(())
    }

    /// Messages of the group whose turn it is, or none and when to ask again.
    pub(super) fn receive(
        &mut self,
        queue: &'static str,
        max: usize,
        visibility: Duration,
    ) -> Result<HandedOut, redb::Error> {
        let group = match self.index.queue(queue).next(self.now) {
            Ok(group) => group,
            Err(next) => return Ok((Vec::new(), next)),
        };
        let until = after(self.now, visibility);
        let rows = self.rows(queue, &group, max)?;
        if rows.is_empty() {
            return Err(redb::Error::Corrupted(format!("group {group} is empty")));
        }
        let mut received = Vec::new();
        for (number, (sent, receives, ..)) in rows {
            let receives = receives.saturating_add(1);
            self.messages.insert((queue, &*group, number), (sent, receives, until, true))?;
            self.unclaimed.push(Unclaimed { queue, group: group.clone(), number, receives });
            received.push(Received {
                message_id: format!("{group}/{number}"),
                receipt: format!("{number}.{receives}"),
                group: group.clone(),
                receives,
                body: self.body(queue, &group, number)?,
            });
            self.index.queue(queue).change(&group, self.now, |group| {
                group.hidden.insert(number, Hidden { until, in_flight: true });
            });
        }
        self.written = true;
        Ok((received, None))
    }

    /// The first messages of a group.
    fn rows(&self, queue: &str, group: &str, max: usize) -> Result<Vec<(u64, MessageRow)>, redb::Error> {
        let mut rows = Vec::new();
        for entry in self.messages.range((queue, group, 0)..=(queue, group, u64::MAX))?.take(max) {
            let (key, row) = entry?;
            rows.push((key.value().2, row.value()));
        }
        Ok(rows)
    }

    fn body(&self, queue: &str, group: &str, number: u64) -> Result<String, redb::Error> {
        match self.bodies.get((queue, group, number))? {
            Some(body) => Ok(body.value().to_owned()),
            None => Err(redb::Error::Corrupted(format!("message {group}/{number} has no body"))),
        }
    }

    /// The number of a message that is in the queue and was not handed out again since.
    pub(super) fn current(&self, queue: &str, message: &Received) -> Result<Option<u64>, redb::Error> {
        let receipt = message.receipt.split_once('.');
        let Some((Ok(number), Ok(receives))) = receipt.map(|(n, r)| (n.parse::<u64>(), r.parse::<u32>())) else {
            return Ok(None);
        };
        let row = self.messages.get((queue, &*message.group, number))?;
        Ok(row.is_some_and(|row| row.value().1 == receives).then_some(number))
    }

    pub(super) fn remove(&mut self, queue: &str, group: &str, number: u64) -> Result<bool, redb::Error> {
        if self.messages.remove((queue, group, number))?.is_none() {
            return Ok(false);
        }
        self.bodies.remove((queue, group, number))?;
        self.index.queue(queue).change(group, self.now, |group| {
            group.messages = group.messages.saturating_sub(1);
            group.hidden.remove(&number);
        });
        self.written = true;
        Ok(true)
    }

    /// Hides a message that was handed out until then, or makes it visible.
    pub(super) fn hide(
        &mut self,
        queue: &str,
        group: &str,
        number: u64,
        until: Option<Nanos>,
    ) -> Result<(), redb::Error> {
        let Some((sent, receives, ..)) = self.messages.get((queue, group, number))?.map(|row| row.value()) else {
            return Ok(());
        };
        self.messages.insert((queue, group, number), (sent, receives, until.unwrap_or_default(), false))?;
        self.index.queue(queue).change(group, self.now, |group| {
            group.hidden.remove(&number);
            if let Some(until) = until {
                group.hidden.insert(number, Hidden { until, in_flight: false });
            }
        });
        self.written = true;
        Ok(())
    }

    /// Makes messages that reached nobody visible, as if they had not been handed out.
    pub(super) fn take_back(&mut self, messages: &[Unclaimed]) -> Result<(), redb::Error> {
        for Unclaimed { queue, group, number, receives } in messages {
            let row = self.messages.get((*queue, &**group, *number))?.map(|row| row.value());
            if let Some((sent, counted, _, true)) = row.filter(|row| row.1 == *receives) {
                self.messages.insert((*queue, &**group, *number), (sent, counted.saturating_sub(1), 0, false))?;
                self.index.queue(queue).change(group, self.now, |group| {
                    group.hidden.remove(number);
                });
                self.written = true;
            }
        }
        Ok(())
    }

    pub(super) fn peek(
        &self,
        queue: &str,
        max: usize,
        after: Option<&(String, u64)>,
    ) -> Result<Vec<Peeked>, redb::Error> {
        let first = after.map_or((queue, "", 0), |(group, number)| (queue, &**group, number.saturating_add(1)));
        let mut peeked = Vec::new();
        for entry in self.messages.range(first..)?.take(max) {
            let (key, row) = entry?;
            let (name, group, number) = key.value();
            if name != queue {
                break;
            }
            let (sent, receives, until, in_flight) = row.value();
            let hidden = until > self.now;
            peeked.push(Peeked {
                message_id: format!("{group}/{number}"),
                group: group.to_owned(),
                body: self.body(queue, group, number)?,
                sent: timestamp(sent)?,
                receives,
                in_flight: hidden && in_flight,
                held_until: if hidden && !in_flight { Some(timestamp(until)?) } else { None },
            });
        }
        Ok(peeked)
    }

    pub(super) fn groups(&mut self, queue: &str) -> Result<Vec<GroupCount>, redb::Error> {
        let now = self.now;
        let mut counts = Vec::new();
        for (name, group) in &self.index.queue(queue).all {
            let hidden = || group.hidden.values().filter(|hidden| hidden.until > now);
            let in_flight = hidden().filter(|hidden| hidden.in_flight).count();
            let held_until = hidden().filter(|hidden| !hidden.in_flight).map(|hidden| hidden.until).max();
            counts.push(GroupCount {
                group: name.clone(),
                waiting: group.messages.saturating_sub(in_flight),
                in_flight,
                held_until: held_until.map(timestamp).transpose()?,
            });
        }
        Ok(counts)
    }

    pub(super) fn get(&self, pk: &str, sk: &str) -> Result<Option<(Nanos, Vec<u8>)>, redb::Error> {
        let record = self.records.get((pk, sk))?;
        let record = record.map(|record| (record.value().0, record.value().1.to_owned()));
        Ok(record.filter(|(expires, _)| *expires > self.now))
    }

    pub(super) fn put(&mut self, pk: &str, sk: &str, expires: Nanos, value: &[u8]) -> Result<(), redb::Error> {
        self.forget(pk, sk)?;
        self.records.insert((pk, sk), (expires, value))?;
        self.expiries.insert((expires, pk, sk), ())?;
        self.recorded += 1;
        self.written = true;
        Ok(())
    }

    pub(super) fn create(&mut self, pk: &str, sk: &str, expires: Nanos, value: &[u8]) -> Result<bool, redb::Error> {
        match self.get(pk, sk)? {
            // A commit that failed may have reached the disk all the same.
            Some(found) => Ok(self.again && found.0 == expires && found.1 == value),
            None => self.put(pk, sk, expires, value).map(|()| true),
        }
    }

    pub(super) fn forget(&mut self, pk: &str, sk: &str) -> Result<(), redb::Error> {
        let expires = self.records.remove((pk, sk))?.map(|record| record.value().0);
        if let Some(expires) = expires {
            self.expiries.remove((expires, pk, sk))?;
            self.written = true;
        }
        Ok(())
    }

    pub(super) fn list(&self, pk: &str) -> Result<Vec<(String, Nanos, Vec<u8>)>, redb::Error> {
        let mut found = Vec::new();
        for entry in self.records.range((pk, "")..)? {
            let (key, record) = entry?;
            let ((its, sk), (expires, value)) = (key.value(), record.value());
            if its != pk {
                break;
            }
            if expires > self.now {
                found.push((sk.to_owned(), expires, value.to_owned()));
            }
        }
        Ok(found)
    }
}

pub(super) fn after(now: Nanos, wait: Duration) -> Nanos {
    now.saturating_add(Nanos::try_from(wait.as_nanos()).unwrap_or(Nanos::MAX))
}

pub(super) fn timestamp(nanos: Nanos) -> Result<Timestamp, redb::Error> {
    Timestamp::from_nanosecond(nanos).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

/// Messages, or when there may be some.
pub(super) type HandedOut = (Vec<Received>, Option<Nanos>);
