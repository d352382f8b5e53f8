//! The embedded durable queue and state of `sluice serve`: one [redb](https://docs.rs/redb) database in one
//! directory, owned by one thread.
//!
//! Whatever is asked for is a job for that thread. It takes the jobs that are waiting, does them in one
//! transaction, commits it with an fsync and only then answers: while one commit is on its way to the disk the next
//! jobs gather, so that many senders share one fsync and nothing is acknowledged that is not durable. No blocking
//! work is done on the async thread, and no lock is held anywhere.
//!
//! What is in the database is the truth. The index in memory, a few words per group, says which group is next;
//! it is read from the database at the start and after any failure. redb refuses a database that had an I/O error
//! until it is opened anew, so a failure of any kind has one remedy: drop the database, open it, read the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::port::{Clock, Key, Message, Outbox, Queue, Received, Record, State, Unavailable};

/// The database's name in its directory.
const FILE: &str = "sluice.redb";
/// Pages of the database that are kept in memory. redb's own default, 1 GiB, is far from what a relay should take.
const CACHE: usize = 16 << 20;
/// The largest message that the delivery queue takes, in bytes: as SQS.
pub const LIMIT: usize = 1024 * 1024;
/// How long a message that was handed out stays hidden when nobody deletes or holds it.
const VISIBILITY: Duration = Duration::from_secs(300);
/// How long a deduplication id is remembered, as on SQS.
const DEDUPLICATION: Duration = Duration::from_secs(300);
/// How long whoever sends is kept waiting for the disk.
const SENDERS_PATIENCE: Duration = Duration::from_secs(10);
/// The pause before what a disk has refused to note of messages that are handed out is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest hold, as on SQS.
const LONGEST_HOLD: Duration = Duration::from_secs(12 * 3600);
/// How many jobs share a transaction at most, which bounds what one failure makes us do again.
const GATHERED: usize = 64;
/// How long the jobs of a failed transaction are tried one by one. On a disk that stays full each takes an opening
/// of the database; those left by then fail with the others.
const ONE_BY_ONE: Duration = Duration::from_secs(2);

/// Nanoseconds since 1970: how times are stored, exactly.
type Nanos = i128;
/// A queue's name, a group and the message's number, which is higher than that of any message sent before it.
type MessageKey = (&'static str, &'static str, u64);
/// When it was sent, how often it was handed out, until when it is hidden, and whether it is hidden because it was
/// handed out (or else held).
type MessageRow = (Nanos, u32, Nanos, bool);

const MESSAGES: TableDefinition<MessageKey, MessageRow> = TableDefinition::new("messages");
/// Apart from the rows, so that handing out a message does not write its body again.
const BODIES: TableDefinition<MessageKey, &str> = TableDefinition::new("bodies");
/// Expiry and value by partition and sort key. The deduplication ids of a queue are records too.
const RECORDS: TableDefinition<(&str, &str), (Nanos, &[u8])> = TableDefinition::new("records");
/// The keys of [`RECORDS`] by expiry.
const EXPIRIES: TableDefinition<(Nanos, &str, &str), ()> = TableDefinition::new("expiries");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open; there can be one at a time.
    #[error("{} is in use by another process; is `sluice serve` running already?", .0.display())]
    InUse(PathBuf),
    /// The directory cannot be made or used.
    #[error("{}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be read or written.
    #[error("{}", .path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What the database said.
        source: redb::Error,
    },
}

/// A directory with queues and state in it. Clones are the same store, which is closed, after the work that was
/// asked for, when the last of them and of its queues and states is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    committed: Arc<Notify>,
    clock: Arc<dyn Clock>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the store in `dir`, making both if they are not there, and releases what a dead process held in
    /// flight. Blocks: for long only if that process was killed with a great many messages waiting.
    ///
    /// # Errors
    /// When another process has it open, and when the disk does not do its part.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let path = dir.join(FILE);
        let file = path.clone();
        let opener = move || Database::builder().set_cache_size(CACHE).create(&file);
        let store = Self::start(Box::new(opener), clock).map_err(|error| match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse(dir.to_owned()),
            source => OpenError::Database { path, source },
        })?;
        // The database syncs its file, but a new file's name is durable only once its directory is synced.
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
        Ok(store)
    }

    fn start(opener: Opener, clock: Arc<dyn Clock>) -> Result<Self, redb::Error> {
        let mut writer = Writer {
            opener,
            database: None,
            index: Index::default(),
            unclaimed: Vec::new(),
            clock: clock.clone(),
            committed: Arc::default(),
        };
        let database = writer.open()?;
        writer.release(&database)?;
        writer.database = Some(database);
        let committed = writer.committed.clone();
        let (jobs, queued) = mpsc::channel();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(&queued))?;
        Ok(Self(Arc::new(Inner { jobs: Some(jobs), thread: Some(thread), committed, clock })))
    }

    /// The queue of this name, for bodies of up to `limit` bytes.
    pub fn queue(&self, name: &'static str, limit: usize) -> EmbeddedQueue {
        EmbeddedQueue { store: self.clone(), name, limit, visibility: VISIBILITY }
    }

    /// The delivery queue.
    pub fn deliveries(&self) -> EmbeddedQueue {
        self.queue("deliveries", LIMIT)
    }

    /// The dead-letter queue. A dead letter is a delivery with its reason, and has to fit whatever fitted before.
    pub fn dead_letters(&self) -> EmbeddedQueue {
        self.queue("dead-letters", 2 * LIMIT)
    }

    /// The state.
    pub fn state(&self) -> EmbeddedState {
        EmbeddedState(self.clone())
    }

    fn submit(&self, job: Box<dyn Job>) {
        if let Some(jobs) = &self.0.jobs {
            // Without the thread the job is dropped, and who waits for its answer learns of it by that.
            let _ = jobs.send(job);
        }
    }

    /// Has `work` done and committed. It may be done again after a failure, and only the last time counts.
    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnMut(&mut Round<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let deliver = move |result| drop(reply.send(result));
        self.submit(Box::new(Task { work, done: None, deliver }));
        answered(what, answer.await)
    }
}

fn answered<T>(what: &'static str, answer: Result<Result<T, String>, RecvError>) -> Result<T, Unavailable> {
    let result = answer.unwrap_or_else(|_| Err("the store's thread has ended".to_owned()));
    result.map_err(|message| Unavailable { what, message })
}

/// Whether a job's transaction was committed, or the error to tell.
type Outcome = Result<(), String>;

/// Something for the writer thread to do.
trait Job: Send {
    fn work(&mut self, round: &mut Round<'_>) -> Result<(), redb::Error>;
    fn finish(self: Box<Self>, outcome: Outcome);
}

struct Task<T, W, D> {
    work: W,
    done: Option<T>,
    deliver: D,
}

impl<T, W, D> Job for Task<T, W, D>
where
    T: Send,
    W: FnMut(&mut Round<'_>) -> Result<T, redb::Error> + Send,
    D: FnOnce(Result<T, String>) + Send,
{
    fn work(&mut self, round: &mut Round<'_>) -> Result<(), redb::Error> {
        self.done = Some((self.work)(round)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Outcome) {
        let Self { done, deliver, .. } = *self;
        deliver(outcome.and_then(|()| done.ok_or_else(|| "not done".to_owned())));
    }
}

type Opener = Box<dyn FnMut() -> Result<Database, DatabaseError> + Send>;

/// The state of the writer thread.
struct Writer {
    opener: Opener,
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    index: Index,
    unclaimed: Vec<Unclaimed>,
    clock: Arc<dyn Clock>,
    committed: Arc<Notify>,
}

/// A message that was handed out, perhaps, and reached nobody: a commit that is said to have failed may be on the
/// disk all the same. It is kept here until a round takes it back for certain.
#[derive(Clone)]
struct Unclaimed {
    queue: &'static str,
    group: String,
    number: u64,
    receives: u32,
}

impl Writer {
    fn run(mut self, jobs: &mpsc::Receiver<Box<dyn Job>>) {
        while let Ok(first) = jobs.recv() {
            let mut gathered = vec![first];
            gathered.extend(jobs.try_iter().take(GATHERED - 1));
            match self.round(&mut gathered, false) {
                Ok(()) => gathered.into_iter().for_each(|job| job.finish(Ok(()))),
                Err(error) if gathered.len() == 1 => {
                    gathered.into_iter().for_each(|job| job.finish(Err(error.clone())));
                }
                Err(error) => self.one_by_one(gathered, error),
            }
        }
    }

    /// One job must not fail because of another that it happened to share a transaction with.
    fn one_by_one(&mut self, gathered: Vec<Box<dyn Job>>, mut error: String) {
        let start = std::time::Instant::now();
        for mut job in gathered {
            if start.elapsed() > ONE_BY_ONE {
                job.finish(Err(error.clone()));
                continue;
            }
            let outcome = self.round(std::slice::from_mut(&mut job), true);
            if let Err(latest) = &outcome {
                error.clone_from(latest);
            }
            job.finish(outcome);
        }
    }

    /// Does `jobs` in one transaction: all of them or none. `again` says that they were tried before, and that it is
    /// not known whether the disk has them.
    fn round(&mut self, jobs: &mut [Box<dyn Job>], again: bool) -> Outcome {
        self.attempt(jobs, again).map_err(|error| {
            tracing::error!(%error, "the store failed and is opened again");
            // At once, so that no other process comes between; if it cannot be now, the next round tries.
            self.database = self.open().ok();
            error.to_string()
        })
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>], again: bool) -> Result<(), redb::Error> {
        // Taken out, so that any error below drops it.
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open()?,
        };
        let transaction = database.begin_write()?;
        let now = self.clock.now().as_nanosecond();
        let mut round = Round::begin(&transaction, &mut self.index, &mut self.unclaimed, now, again)?;
        let unclaimed = round.unclaimed.clone();
        round.take_back(&unclaimed)?;
        for job in jobs {
            job.work(&mut round)?;
        }
        if round.finish()? {
            transaction.commit()?;
            self.committed.notify_waiters();
        } else {
            transaction.abort()?;
        }
        self.unclaimed.clear();
        self.database = Some(database);
        Ok(())
    }

    /// Opens the database and reads the index from it.
    fn open(&mut self) -> Result<Database, redb::Error> {
        let database = (self.opener)()?;
        let now = self.clock.now().as_nanosecond();
        // A hold that is longer than any can be comes from a clock that was wrong.
        let latest = after(now, LONGEST_HOLD);
        self.index = Index::default();
        let messages = match database.begin_read()?.open_table(MESSAGES) {
            Ok(messages) => messages,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(database),
            Err(error) => return Err(error.into()),
        };
        for entry in messages.iter()? {
            let (key, row) = entry?;
            let ((queue, group, number), (_, _, until, in_flight)) = (key.value(), row.value());
            self.index.queue(queue).change(group, now, |group| {
                group.messages += 1;
                if until > now {
                    group.hidden.insert(number, Hidden { until: until.min(latest), in_flight });
                }
            });
        }
        Ok(database)
    }

    /// Makes what is in flight visible: at the start nobody is left who could be working on it.
    fn release(&mut self, database: &Database) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        let now = self.clock.now().as_nanosecond();
        let mut round = Round::begin(&transaction, &mut self.index, &mut self.unclaimed, now, false)?;
        for (queue, group, number) in round.index.in_flight() {
            round.hide(&queue, &group, number, None)?;
        }
        round.finish()?;
        Ok(transaction.commit()?)
    }
}

/// Which messages are where: what can be known of the queues without reading the database.
#[derive(Default)]
struct Index {
    queues: HashMap<String, Groups>,
}

/// The groups of one queue that have messages.
#[derive(Default)]
struct Groups {
    all: BTreeMap<String, Group>,
    /// Those that can be handed out, the longest waiting first.
    ready: BTreeSet<(u64, String)>,
    /// Those that cannot, by when they will.
    hidden: BTreeSet<(Nanos, String)>,
    turns: u64,
}

#[derive(Default)]
struct Group {
    messages: usize,
    /// The messages, of those last handed out, that the rest has to wait for: ten at most.
    hidden: BTreeMap<u64, Hidden>,
    place: Option<Place>,
}

struct Hidden {
    until: Nanos,
    in_flight: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Ready(u64),
    Hidden(Nanos),
}

impl Index {
    fn queue(&mut self, name: &str) -> &mut Groups {
        self.queues.entry(name.to_owned()).or_default()
    }

    fn in_flight(&self) -> Vec<(String, String, u64)> {
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
    fn change(&mut self, name: &str, now: Nanos, change: impl FnOnce(&mut Group)) {
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
    fn next(&mut self, now: Nanos) -> Result<String, Option<Nanos>> {
        while let Some((_, name)) = self.hidden.first().filter(|(until, _)| *until <= now).cloned() {
            self.change(&name, now, |_| {});
        }
        match self.ready.first() {
            Some((_, name)) => Ok(name.clone()),
            None => Err(self.hidden.first().map(|(until, _)| *until)),
        }
    }
}

/// One transaction, and what can be done in it. What is done to the index needs no undoing: when the transaction
/// fails, the index is read again.
struct Round<'a> {
    messages: Table<'a, MessageKey, MessageRow>,
    bodies: Table<'a, MessageKey, &'static str>,
    records: Table<'a, (&'static str, &'static str), (Nanos, &'static [u8])>,
    expiries: Table<'a, (Nanos, &'static str, &'static str), ()>,
    counters: Table<'a, &'static str, u64>,
    index: &'a mut Index,
    unclaimed: &'a mut Vec<Unclaimed>,
    now: Nanos,
    again: bool,
    /// Whether there is anything to commit.
    written: bool,
    /// Records that were made.
    recorded: usize,
}

impl<'a> Round<'a> {
    fn begin(
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
    fn finish(mut self) -> Result<bool, redb::Error> {
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

    fn send(&mut self, queue: &str, messages: &[Message]) -> Result<(), redb::Error> {
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
    fn receive(&mut self, queue: &'static str, max: usize, visibility: Duration) -> Result<HandedOut, redb::Error> {
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
    fn current(&self, queue: &str, message: &Received) -> Result<Option<u64>, redb::Error> {
        let receipt = message.receipt.split_once('.');
        let Some((Ok(number), Ok(receives))) = receipt.map(|(n, r)| (n.parse::<u64>(), r.parse::<u32>())) else {
            return Ok(None);
        };
        let row = self.messages.get((queue, &*message.group, number))?;
        Ok(row.is_some_and(|row| row.value().1 == receives).then_some(number))
    }

    fn remove(&mut self, queue: &str, group: &str, number: u64) -> Result<bool, redb::Error> {
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
    fn hide(&mut self, queue: &str, group: &str, number: u64, until: Option<Nanos>) -> Result<(), redb::Error> {
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
    fn take_back(&mut self, messages: &[Unclaimed]) -> Result<(), redb::Error> {
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

    fn peek(&self, queue: &str, max: usize, after: Option<&(String, u64)>) -> Result<Vec<Peeked>, redb::Error> {
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

    fn groups(&mut self, queue: &str) -> Result<Vec<GroupCount>, redb::Error> {
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

    fn get(&self, pk: &str, sk: &str) -> Result<Option<(Nanos, Vec<u8>)>, redb::Error> {
        let record = self.records.get((pk, sk))?;
        let record = record.map(|record| (record.value().0, record.value().1.to_owned()));
        Ok(record.filter(|(expires, _)| *expires > self.now))
    }

    fn put(&mut self, pk: &str, sk: &str, expires: Nanos, value: &[u8]) -> Result<(), redb::Error> {
        self.forget(pk, sk)?;
        self.records.insert((pk, sk), (expires, value))?;
        self.expiries.insert((expires, pk, sk), ())?;
        self.recorded += 1;
        self.written = true;
        Ok(())
    }

    fn create(&mut self, pk: &str, sk: &str, expires: Nanos, value: &[u8]) -> Result<bool, redb::Error> {
        match self.get(pk, sk)? {
            // A commit that failed may have reached the disk all the same.
            Some(found) => Ok(self.again && found.0 == expires && found.1 == value),
            None => self.put(pk, sk, expires, value).map(|()| true),
        }
    }

    fn forget(&mut self, pk: &str, sk: &str) -> Result<(), redb::Error> {
        let expires = self.records.remove((pk, sk))?.map(|record| record.value().0);
        if let Some(expires) = expires {
            self.expiries.remove((expires, pk, sk))?;
            self.written = true;
        }
        Ok(())
    }

    fn list(&self, pk: &str) -> Result<Vec<(String, Nanos, Vec<u8>)>, redb::Error> {
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

fn after(now: Nanos, wait: Duration) -> Nanos {
    now.saturating_add(Nanos::try_from(wait.as_nanos()).unwrap_or(Nanos::MAX))
}

fn timestamp(nanos: Nanos) -> Result<Timestamp, redb::Error> {
    Timestamp::from_nanosecond(nanos).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

/// Messages, or when there may be some.
type HandedOut = (Vec<Received>, Option<Nanos>);

/// Messages on their way to a receiver, whose future may be dropped at any time: what it does not take goes back.
struct Parcel {
    handed_out: HandedOut,
    queue: &'static str,
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let (messages, queue) = (std::mem::take(&mut self.handed_out.0), self.queue);
        if let Some(jobs) = self.jobs.take().filter(|_| !messages.is_empty()) {
            let unclaimed: Vec<Unclaimed> = messages
                .into_iter()
                .filter_map(|message| {
                    let (_, number) = parsed(&message.message_id)?;
                    Some(Unclaimed { queue, group: message.group, number, receives: message.receives })
                })
                .collect();
            let work = move |round: &mut Round<'_>| {
                // Kept for the next round, should this one fail.
                round.unclaimed.extend_from_slice(&unclaimed);
                round.take_back(&unclaimed)
            };
            let _ = jobs.send(Box::new(Task { work, done: None, deliver: drop }));
        }
    }
}

/// A durable FIFO queue in a [`Store`]. What [`receive`](Queue::receive) returns at one time is of one group: the
/// one that waits longest of those that can be handed out.
#[derive(Clone)]
pub struct EmbeddedQueue {
    store: Store,
    name: &'static str,
    limit: usize,
    visibility: Duration,
}

/// A message as it is on the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// As in [`Received`]: the group, a slash and a number.
    pub message_id: String,
    /// Its group.
    pub group: String,
    /// Its body.
    pub body: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// How many times it was handed out.
    pub receives: u32,
    /// Whether it is handed out now.
    pub in_flight: bool,
    /// Until when it is held, if it is.
    pub held_until: Option<Timestamp>,
}

/// How many messages a group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCount {
    /// The group.
    pub group: String,
    /// How many are not handed out.
    pub waiting: usize,
    /// How many are handed out.
    pub in_flight: usize,
    /// Until when the group is held, if it is.
    pub held_until: Option<Timestamp>,
}

impl EmbeddedQueue {
    /// Has `work` done on messages that are handed out. Until it is, they and their group wait, also when a disk that
    /// was full has room again: so it is tried for as long as they stay hidden.
    async fn insist(
        &self,
        work: impl FnMut(&mut Round<'_>) -> Result<(), redb::Error> + Clone + Send + 'static,
    ) -> Result<(), Unavailable> {
        let end = Instant::now() + self.visibility;
        loop {
            let done = self.store.run("queue", work.clone()).await;
            if done.is_ok() || Instant::now() + PAUSE > end {
                return done;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The same queue, with this time after which messages come back when nobody deletes or holds them; it is 300 s
    /// else.
    pub fn with_visibility(self, visibility: Duration) -> Self {
        Self { visibility, ..self }
    }

    /// Up to `max` messages by group and order in it, without handing them out; `after` is the message id of the
    /// last one seen, whether it is still there or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn peek(&self, max: usize, after: Option<&str>) -> Result<Vec<Peeked>, Unavailable> {
        let name = self.name;
        let after = after.and_then(parsed);
        self.store.run("queue", move |round| round.peek(name, max, after.as_ref())).await
    }

    /// Removes a message, also one that is handed out; `false` if there is none with this message id.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove(&self, message_id: &str) -> Result<bool, Unavailable> {
        let name = self.name;
        let Some((group, number)) = parsed(message_id) else { return Ok(false) };
        self.store.run("queue", move |round| round.remove(name, &group, number)).await
    }

    /// What is waiting, by group.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn groups(&self) -> Result<Vec<GroupCount>, Unavailable> {
        let name = self.name;
        self.store.run("queue", move |round| round.groups(name)).await
    }

    async fn hand_out(&self, max: usize) -> Result<HandedOut, Unavailable> {
        let (queue, visibility, jobs) = (self.name, self.visibility, self.store.0.jobs.clone());
        let (reply, answer) = oneshot::channel();
        let work = move |round: &mut Round<'_>| round.receive(queue, max, visibility);
        let deliver = move |result: Result<HandedOut, String>| {
            drop(reply.send(result.map(|handed_out| Parcel { handed_out, queue, jobs })));
        };
        self.store.submit(Box::new(Task { work, done: None, deliver }));
        let mut parcel = answered("queue", answer.await)?;
        Ok(std::mem::take(&mut parcel.handed_out))
    }
}

/// The group and number of a message id.
fn parsed(message_id: &str) -> Option<(String, u64)> {
    let (group, number) = message_id.rsplit_once('/')?;
    Some((group.to_owned(), number.parse().ok()?))
}

#[async_trait]
impl Outbox for EmbeddedQueue {
    fn limit(&self) -> usize {
        self.limit
    }

    async fn send(&self, messages: &[Message]) -> Result<(), Unavailable> {
        if let Some(message) = messages.iter().find(|message| message.body.len() > self.limit) {
            let message = format!("a body of {} bytes is over the limit of {}", message.body.len(), self.limit);
            return Err(Unavailable { what: "queue", message });
        }
        let (name, messages) = (self.name, messages.to_vec());
        let sent = self.store.run("queue", move |round| round.send(name, &messages));
        tokio::time::timeout(SENDERS_PATIENCE, sent).await.unwrap_or_else(|_| {
            // It may be stored yet, and is not stored twice when it is sent again.
            let message = format!("the disk has not taken it within {SENDERS_PATIENCE:?}");
            Err(Unavailable { what: "queue", message })
        })
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, Unavailable> {
        let deadline = Instant::now() + wait.min(LONGEST_HOLD);
        loop {
            // Made before asking, so that a commit between the answer and the waiting is not missed.
            let committed = self.store.0.committed.notified();
            let (messages, next) = self.hand_out(max.clamp(1, 10)).await?;
            if !messages.is_empty() || Instant::now() >= deadline {
                return Ok(messages);
            }
            let next = next.map(|next| next.saturating_sub(self.store.0.clock.now().as_nanosecond()));
            let next = next.map(|next| Duration::from_nanos(u64::try_from(next).unwrap_or_default()));
            let wake = next.and_then(|next| Instant::now().checked_add(next)).map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = committed => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn delete(&self, message: &Received) -> Result<(), Unavailable> {
        let (name, message) = (self.name, message.clone());
        let work = move |round: &mut Round<'_>| match round.current(name, &message)? {
            Some(number) => round.remove(name, &message.group, number).map(drop),
            None => {
                // If it timed out and was handed out again, whoever has it now keeps the group's order.
                tracing::warn!(queue = name, message = message.message_id, "gone or handed out again: not deleted");
                Ok(())
            }
        };
        self.insist(work).await
    }

    async fn hold(&self, messages: &[Received], wait: Duration) -> Result<(), Unavailable> {
        let (name, messages) = (self.name, messages.to_vec());
        let work = move |round: &mut Round<'_>| {
            let until = (!wait.is_zero()).then(|| after(round.now, wait.min(LONGEST_HOLD)));
            for message in &messages {
                if let Some(number) = round.current(name, message)? {
                    round.hide(name, &message.group, number, until)?;
                }
            }
            Ok(())
        };
        self.insist(work).await
    }
}

/// State in a [`Store`].
#[derive(Clone)]
pub struct EmbeddedState(Store);

#[async_trait]
impl State for EmbeddedState {
    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let Key { pk, sk } = key.clone();
        self.0.run("state", move |round| round.get(&pk, &sk)?.map(|(at, value)| record(at, &value)).transpose()).await
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), Unavailable> {
        let (Key { pk, sk }, expires) = (key.clone(), record.expires.as_nanosecond());
        let value = record.value.to_string();
        self.0.run("state", move |round| round.put(&pk, &sk, expires, value.as_bytes())).await
    }

    async fn create(&self, key: &Key, record: Record) -> Result<bool, Unavailable> {
        let (Key { pk, sk }, expires) = (key.clone(), record.expires.as_nanosecond());
        let value = record.value.to_string();
        self.0.run("state", move |round| round.create(&pk, &sk, expires, value.as_bytes())).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Unavailable> {
        let Key { pk, sk } = key.clone();
        self.0.run("state", move |round| round.forget(&pk, &sk)).await
    }

    async fn list(&self, pk: &str) -> Result<Vec<(Key, Record)>, Unavailable> {
        let pk = pk.to_owned();
        let work = move |round: &mut Round<'_>| {
            let found = round.list(&pk)?.into_iter();
            found.map(|(sk, at, value)| Ok((Key { pk: pk.clone(), sk }, record(at, &value)?))).collect()
        };
        self.0.run("state", work).await
    }
}

fn record(expires: Nanos, value: &[u8]) -> Result<Record, redb::Error> {
    let value = serde_json::from_slice(value).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    Ok(Record { value, expires: timestamp(expires)? })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    const NOW: Duration = Duration::ZERO;
    /// Never waited for in full: what is awaited comes earlier, or the test has failed.
    const LONG: Duration = Duration::from_secs(60);

    struct FakeClock(Mutex<Timestamp>);

    impl Clock for FakeClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().expect("clock")
        }
    }

    impl FakeClock {
        fn pass(&self, seconds: u64) {
            *self.0.lock().expect("clock") += Duration::from_secs(seconds);
        }
    }

    struct RealClock;

    impl Clock for RealClock {
        fn now(&self) -> Timestamp {
            Timestamp::now()
        }
    }

    /// A store with one queue on a directory of its own.
    struct Bench {
        dir: TempDir,
        clock: Arc<FakeClock>,
        store: Store,
        queue: EmbeddedQueue,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(FakeClock(Mutex::new("2026-01-01T00:00:00Z".parse().expect("time"))));
            Self::on(TempDir::new().expect("directory"), clock)
        }

        fn on(dir: TempDir, clock: Arc<FakeClock>) -> Self {
            let store = Store::open(dir.path(), clock.clone()).expect("store");
            let queue = store.queue("deliveries", 1000);
            Self { dir, clock, store, queue }
        }

        /// What another process would find if this one were killed now: nothing of this one is shut down.
        fn killed(&self) -> Self {
            let dir = TempDir::new().expect("directory");
            std::fs::copy(self.dir.path().join(FILE), dir.path().join(FILE)).expect("copy");
            Self::on(dir, self.clock.clone())
        }

        async fn send(&self, messages: &[&str]) {
            let messages: Vec<Message> = messages.iter().map(|name| message(name)).collect();
            self.queue.send(&messages).await.expect("sent");
        }

        async fn receive(&self, max: usize) -> Vec<Received> {
            self.queue.receive(max, NOW).await.expect("received")
        }

        async fn receives(&self, max: usize) -> Vec<String> {
            bodies(&self.receive(max).await)
        }

        /// Everything that is stored, in flight or not.
        async fn stored(&self) -> Vec<String> {
            let peeked = self.queue.peek(usize::MAX, None).await.expect("peeked");
            peeked.into_iter().map(|message| message.body).collect()
        }
    }

    /// `a1` is message 1 of group a.
    fn message(name: &str) -> Message {
        Message { group: name[..1].to_owned(), deduplication_id: name.to_owned(), body: name.to_owned() }
    }

    fn bodies(messages: &[Received]) -> Vec<String> {
        messages.iter().map(|message| message.body.clone()).collect()
    }

    #[tokio::test]
    async fn a_group_is_handed_out_in_order_and_one_batch_at_a_time() {
        let bench = Bench::new();
        bench.send(&["a1", "a2", "a3"]).await;
        let first = bench.receive(2).await;
        assert_eq!(bodies(&first), ["a1", "a2"]);
        assert!(bench.receives(10).await.is_empty(), "the group is in flight");
        bench.queue.delete(&first[0]).await.expect("deleted");
        assert!(bench.receives(10).await.is_empty(), "one of the batch still is");
        bench.queue.delete(&first[1]).await.expect("deleted");
        assert_eq!(bench.receives(10).await, ["a3"]);
    }

    #[tokio::test]
    async fn groups_take_turns_and_a_batch_is_of_one_group() {
        let bench = Bench::new();
        bench.send(&["a1", "b1", "a2", "c1", "b2"]).await;
        let first = bench.receive(1).await;
        assert_eq!(bodies(&first), ["a1"]);
        bench.queue.delete(&first[0]).await.expect("deleted");
        assert_eq!(bench.receives(10).await, ["b1", "b2"]);
        assert_eq!(bench.receives(10).await, ["c1"]);
        assert_eq!(bench.receives(10).await, ["a2"]);
    }

    #[tokio::test]
    async fn a_held_message_holds_its_group_and_no_other() {
        let bench = Bench::new();
        bench.send(&["a1", "a2", "b1"]).await;
        let held = bench.receive(1).await;
        bench.queue.hold(&held, Duration::from_secs(10)).await.expect("held");
        assert_eq!(bench.receives(10).await, ["b1"]);
        let groups = bench.queue.groups().await.expect("groups");
        let until = Some(bench.clock.now() + Duration::from_secs(10));
        assert_eq!(groups[0], GroupCount { group: "a".to_owned(), waiting: 2, in_flight: 0, held_until: until });
        assert_eq!(groups[1], GroupCount { group: "b".to_owned(), waiting: 0, in_flight: 1, held_until: None });
        bench.clock.pass(9);
        assert!(bench.receives(10).await.is_empty());
        bench.clock.pass(1);
        let again = bench.receive(10).await;
        assert_eq!(bodies(&again), ["a1", "a2"]);
        assert_eq!([again[0].receives, again[1].receives], [2, 1]);
        bench.queue.hold(&again, NOW).await.expect("handed back");
        assert_eq!(bench.receives(10).await, ["a1", "a2"]);
    }

    #[tokio::test]
    async fn what_nobody_finishes_comes_back_and_the_old_receipt_is_void() {
        let bench = Bench::new();
        bench.send(&["a1"]).await;
        let queue = bench.queue.clone().with_visibility(Duration::from_secs(30));
        let lost = queue.receive(1, NOW).await.expect("received");
        bench.clock.pass(29);
        assert!(bench.receives(1).await.is_empty());
        bench.clock.pass(1);
        let again = bench.receive(1).await;
        assert_eq!(again[0].receives, 2);
        bench.queue.delete(&lost[0]).await.expect("ignored");
        bench.queue.hold(&lost, NOW).await.expect("ignored");
        assert!(bench.receives(1).await.is_empty(), "it is in flight elsewhere");
        bench.queue.delete(&again[0]).await.expect("deleted");
        assert!(bench.stored().await.is_empty());
    }

    #[tokio::test]
    async fn a_second_message_with_the_same_id_is_forgotten_for_five_minutes() {
        let bench = Bench::new();
        bench.send(&["a1", "a1"]).await;
        let first = bench.receive(10).await;
        assert_eq!(bodies(&first), ["a1"]);
        bench.queue.delete(&first[0]).await.expect("deleted");
        bench.send(&["a1"]).await;
        assert!(bench.stored().await.is_empty(), "also after it was deleted");
        let bench = bench.killed();
        bench.clock.pass(299);
        bench.send(&["a1"]).await;
        assert!(bench.stored().await.is_empty(), "also in the next process");
        bench.store.queue("dead-letters", 1000).send(&[message("a1")]).await.expect("sent");
        assert_eq!(bench.store.queue("dead-letters", 1000).peek(9, None).await.expect("peeked").len(), 1, "per queue");
        bench.clock.pass(1);
        bench.send(&["a1"]).await;
        assert_eq!(bench.stored().await, ["a1"]);
    }

    #[tokio::test]
    async fn deduplication_ids_and_expired_records_do_not_pile_up() {
        let bench = Bench::new();
        for minute in 0..20 {
            let names: Vec<String> = (0..30).map(|number| format!("a{minute}-{number}")).collect();
            bench.send(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
            bench.clock.pass(60);
        }
        let records = bench.store.run("state", |round| {
            let records = round.records.iter()?.count();
            Ok((records, round.expiries.iter()?.count()))
        });
        let (records, expiries) = records.await.expect("counted");
        assert!(records <= 6 * 30, "{records}");
        assert_eq!(records, expiries);
    }

    #[tokio::test]
    async fn a_killed_process_loses_nothing_and_holds_nothing() {
        let bench = Bench::new();
        bench.send(&["a1", "a2", "b1", "c1"]).await;
        let in_flight = bench.receive(1).await;
        let held = bench.receive(1).await;
        bench.queue.hold(&held, Duration::from_secs(10)).await.expect("held");
        let deleted = bench.receive(1).await;
        bench.queue.delete(&deleted[0]).await.expect("deleted");
        assert_eq!([bodies(&in_flight), bodies(&held), bodies(&deleted)], [["a1"], ["b1"], ["c1"]]);

        let next = bench.killed();
        let released = next.receive(10).await;
        assert_eq!(bodies(&released), ["a1", "a2"], "what was in flight is there at once, in its place");
        assert_eq!([released[0].receives, released[1].receives], [2, 1], "and the killed attempt is counted");
        assert!(next.receives(10).await.is_empty(), "what was held still is");
        next.clock.pass(10);
        assert_eq!(next.receives(10).await, ["b1"]);
    }

    #[tokio::test]
    async fn a_store_that_was_closed_opens_again() {
        let Bench { dir, clock, store, queue } = Bench::new();
        queue.send(&[message("a1")]).await.expect("sent");
        drop((store, queue));
        let bench = Bench::on(dir, clock);
        let received = bench.receive(1).await;
        assert_eq!(bodies(&received), ["a1"]);
        let next = bench.killed();
        next.send(&["a2"]).await;
        next.queue.delete(&next.receive(1).await[0]).await.expect("deleted");
        let last = next.receive(1).await;
        assert_ne!(last[0].message_id, received[0].message_id, "numbers are not used twice");
    }

    #[tokio::test]
    async fn a_store_is_open_once() {
        let bench = Bench::new();
        let second = Store::open(bench.dir.path(), bench.clock.clone());
        let error = second.err().expect("refused");
        assert!(matches!(error, OpenError::InUse(_)), "{error}");
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_all_that_was_to_go_with_it() {
        let bench = Bench::new();
        let large = Message { body: "x".repeat(1001), ..message("a2") };
        let error = bench.queue.send(&[message("a1"), large]).await.expect_err("refused");
        assert_eq!(error.to_string(), "queue: a body of 1001 bytes is over the limit of 1000");
        assert!(bench.stored().await.is_empty());
        bench.queue.send(&[Message { body: "x".repeat(1000), ..message("a3") }]).await.expect("just fits");
    }

    #[tokio::test]
    async fn a_receiver_that_waits_gets_what_is_sent_and_what_is_no_longer_held() {
        let dir = TempDir::new().expect("directory");
        let store = Store::open(dir.path(), Arc::new(RealClock)).expect("store");
        let queue = store.queue("deliveries", 1000);
        let sent = [message("a1")];
        let (received, sent) = tokio::join!(biased; queue.receive(1, LONG), queue.send(&sent));
        sent.expect("sent");
        let received = received.expect("received");
        assert_eq!(bodies(&received), ["a1"]);
        let hold = Duration::from_millis(20);
        let (again, held) = tokio::join!(biased; queue.receive(1, LONG), queue.hold(&received, hold));
        held.expect("held");
        assert_eq!(again.expect("received")[0].receives, 2);
        assert!(queue.receive(1, Duration::from_millis(5)).await.expect("in time").is_empty());
    }

    #[tokio::test]
    async fn a_receiver_that_goes_away_takes_nothing_with_it() {
        let bench = Bench::new();
        bench.send(&["a1"]).await;
        for answered in [false, true, false, true] {
            let mut receive = bench.queue.receive(1, LONG);
            assert!(polled_once(&mut receive).await.is_none(), "asked");
            if answered {
                bench.queue.groups().await.expect("answered after what was asked before");
            }
            drop(receive);
        }
        assert_eq!(bench.queue.receive(1, LONG).await.expect("received")[0].receives, 1);
    }

    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn many_senders_keep_their_order() {
        let bench = Bench::new();
        let senders: Vec<_> = (0..26u8)
            .map(|sender| {
                let queue = bench.queue.clone();
                tokio::spawn(async move {
                    for number in 0..10 {
                        let name = format!("{}{number}", char::from(b'a' + sender));
                        queue.send(&[message(&name)]).await.expect("sent");
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.expect("done");
        }
        let mut seen = 0;
        let next = bench.killed();
        loop {
            let batch = next.receives(10).await;
            let Some(first) = batch.first() else { break };
            assert_eq!(batch, (0..10).map(|number| format!("{}{number}", &first[..1])).collect::<Vec<_>>());
            seen += batch.len();
        }
        assert_eq!(seen, 260);
    }

    #[tokio::test]
    async fn messages_can_be_looked_at_and_removed_without_being_handed_out() {
        let bench = Bench::new();
        bench.send(&["b1", "a1", "a2"]).await;
        let first = bench.queue.peek(2, None).await.expect("peeked");
        assert_eq!([&*first[0].body, &*first[1].body], ["a1", "a2"]);
        assert_eq!((first[0].receives, first[0].in_flight, first[0].sent), (0, false, bench.clock.now()));
        let rest = bench.queue.peek(2, Some(&first[1].message_id)).await.expect("peeked");
        assert_eq!((rest.len(), &*rest[0].body), (1, "b1"));

        let received = bench.receive(1).await;
        assert_eq!(bodies(&received), ["b1"]);
        assert!(bench.queue.peek(1, Some(&first[1].message_id)).await.expect("peeked")[0].in_flight);
        assert!(bench.queue.remove(&received[0].message_id).await.expect("removed"));
        assert!(bench.queue.remove(&first[0].message_id).await.expect("removed"));
        assert!(!bench.queue.remove(&first[0].message_id).await.expect("gone"));
        assert!(!bench.queue.remove("nonsense").await.expect("never was"));
        bench.queue.delete(&received[0]).await.expect("a message that is gone is as good as deleted");
        assert_eq!(bench.stored().await, ["a2"]);
    }

    #[tokio::test]
    async fn state_is_kept_until_it_expires() {
        let bench = Bench::new();
        let state = bench.store.state();
        let key = |pk: &str, sk: &str| Key { pk: pk.to_owned(), sk: sk.to_owned() };
        let record = |value, seconds| Record { value, expires: bench.clock.now() + Duration::from_secs(seconds) };
        let (breaker, attempts) = (key("target#a", "breaker"), key("target#a", "attempts"));

        assert_eq!(state.get(&breaker).await.expect("read"), None);
        assert!(state.create(&breaker, record(json!({"open": true}), 10)).await.expect("made"));
        assert!(!state.create(&breaker, record(json!(1), 10)).await.expect("there is one"));
        assert_eq!(state.get(&breaker).await.expect("read"), Some(record(json!({"open": true}), 10)));
        state.put(&breaker, record(json!(2), 20)).await.expect("put");
        state.put(&attempts, record(json!(3), 5)).await.expect("put");
        state.put(&key("target#ab", "breaker"), record(json!(4), 60)).await.expect("put");
        let all = [(attempts.clone(), record(json!(3), 5)), (breaker.clone(), record(json!(2), 20))];
        assert_eq!(state.list("target#a").await.expect("listed"), all);

        bench.clock.pass(5);
        assert_eq!(state.get(&attempts).await.expect("read"), None, "expired");
        assert_eq!(state.list("target#a").await.expect("listed"), all[1..]);
        assert!(state.create(&attempts, record(json!(5), 60)).await.expect("the other one has expired"));

        let next = bench.killed();
        let state = next.store.state();
        bench.clock.pass(10);
        assert_eq!(state.get(&breaker).await.expect("read").map(|record| record.value), Some(json!(2)));
        state.delete(&breaker).await.expect("deleted");
        state.delete(&breaker).await.expect("deleting nothing is fine");
        assert_eq!(state.get(&breaker).await.expect("read"), None);
        assert_eq!(state.get(&attempts).await.expect("read").map(|record| record.value), Some(json!(5)));
    }

    /// Keeps the writer thread busy until what it returns is dropped, so that what is asked for meanwhile shares a
    /// transaction.
    fn busy(store: &Store) -> mpsc::Sender<()> {
        let (free, wait) = mpsc::channel::<()>();
        let work = move |_: &mut Round<'_>| {
            let _ = wait.recv();
            Ok(())
        };
        store.submit(Box::new(Task { work, done: None, deliver: drop }));
        free
    }

    #[tokio::test]
    async fn a_job_that_fails_does_not_take_along_those_in_its_transaction() {
        let bench = Bench::new();
        bench.send(&["b1"]).await;
        let free = busy(&bench.store);
        let bad = bench.store.run("queue", |round| {
            round.send("deliveries", &[message("x1")])?;
            Err::<(), _>(redb::Error::Corrupted("on purpose".to_owned()))
        });
        let good = [message("a1")];
        let (sent, failed, received, ()) =
            tokio::join!(biased; bench.queue.send(&good), bad, bench.queue.receive(1, NOW), async { drop(free) });
        sent.expect("sent");
        assert!(failed.expect_err("failed").to_string().contains("on purpose"));
        let received = received.expect("received");
        assert_eq!((&*received[0].body, received[0].receives), ("a1", 1));
        assert_eq!(bench.killed().stored().await, ["a1", "b1"]);
        assert_eq!(bench.receives(9).await, ["b1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_not_kept_waiting_for_a_disk_that_hangs() {
        let bench = Bench::new();
        let free = busy(&bench.store);
        let late = bench.queue.send(&[message("a1")]).await.expect_err("the disk hangs");
        assert_eq!(late.what, "queue");
        tokio::time::resume();
        drop(free);
        bench.queue.send(&[message("a1"), message("a2")]).await.expect("the disk is back");
        assert_eq!(bench.stored().await, ["a1", "a2"], "what it took in the end is not stored twice");
    }

    /// A disk that takes so many writes and no more.
    #[derive(Debug)]
    struct FullDisk(FileBackend, Arc<AtomicI64>);

    impl FullDisk {
        fn room(&self) -> std::io::Result<()> {
            let left = self.1.fetch_sub(1, Ordering::SeqCst);
            if left > 0 { Ok(()) } else { Err(std::io::ErrorKind::StorageFull.into()) }
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.room().and_then(|()| self.0.set_len(len))
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.room().and_then(|()| self.0.sync_data())
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.room().and_then(|()| self.0.write(offset, data))
        }
    }

    /// Lets the disk fail at every possible point of a send and of a receive, one after the other.
    #[tokio::test]
    async fn after_a_full_disk_the_store_works_again_and_has_all_that_was_acknowledged() {
        let dir = TempDir::new().expect("directory");
        let (path, room) = (dir.path().join(FILE), Arc::new(AtomicI64::new(i64::MAX)));
        let disk = room.clone();
        let opener = move || {
            let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            Database::builder().create_with_backend(FullDisk(FileBackend::new(file)?, disk.clone()))
        };
        let clock = Arc::new(FakeClock(Mutex::new(Timestamp::UNIX_EPOCH)));
        let store = Store::start(Box::new(opener), clock.clone()).expect("store");
        let queue = store.queue("deliveries", 100_000);
        let bench = Bench { dir, clock, store, queue };
        let mut acknowledged = Vec::new();
        let (mut refused, mut point) = (0, 0);
        loop {
            let name = format!("a{point:03}");
            let large = Message { body: format!("{name}{}", "x".repeat(50_000)), ..message(&name) };
            room.store(point, Ordering::SeqCst);
            let sent = bench.queue.send(std::slice::from_ref(&large)).await;
            let received = bench.queue.receive(10, NOW).await;
            let whole = room.swap(i64::MAX, Ordering::SeqCst) > 0;
            match sent {
                Ok(()) => acknowledged.push(large.body.clone()),
                Err(error) => {
                    assert_eq!(error.what, "queue");
                    refused += 1;
                    bench.queue.send(std::slice::from_ref(&large)).await.expect("there is room again");
                    acknowledged.push(large.body.clone());
                }
            }
            if let Ok(received) = received {
                bench.queue.hold(&received, NOW).await.expect("handed back");
            }
            assert!(bench.stored().await == acknowledged, "at point {point}");
            let received = bench.receive(1).await;
            assert!(bodies(&received) == acknowledged[..1], "nothing is left in flight at point {point}");
            bench.queue.hold(&received, NOW).await.expect("handed back");
            if whole {
                break;
            }
            point += 1;
        }
        assert!(refused > 1, "{refused} of {point}");
        assert!(bench.killed().stored().await == acknowledged);
    }
}
