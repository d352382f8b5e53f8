//! The thread that owns the database, and what it is given to do.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};
use tokio::sync::Notify;

use super::index::{Hidden, Index};
use super::queue::LONGEST_HOLD;
use super::round::{MESSAGES, Round, after};
use crate::port::Clock;

/// How many jobs share a transaction at most, which bounds what one failure makes us do again.
const GATHERED: usize = 64;
/// How long the jobs of a failed transaction are tried one by one. On a disk that stays full each takes an opening
/// of the database; those left by then fail with the others.
const ONE_BY_ONE: Duration = Duration::from_secs(2);

/// Whether a job's transaction was committed, or the error to tell.
pub(super) type Committed = Result<(), String>;

/// How the writer thread is given something to do.
pub(super) type Jobs = mpsc::Sender<Box<dyn Job>>;

/// Something for the writer thread to do.
pub(super) trait Job: Send {
    fn work(&mut self, round: &mut Round<'_>) -> Result<(), redb::Error>;
    fn finish(self: Box<Self>, outcome: Committed);
}

/// Work whose result is delivered to whoever asked for it.
pub(super) struct Task<T, W, D> {
    work: W,
    done: Option<T>,
    deliver: D,
}

impl<T, W, D> Task<T, W, D>
where
    W: FnMut(&mut Round<'_>) -> Result<T, redb::Error>,
    D: FnOnce(Result<T, String>),
{
    pub(super) fn new(work: W, deliver: D) -> Self {
        Self { work, done: None, deliver }
    }
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

    fn finish(self: Box<Self>, outcome: Committed) {
        let Self { done, deliver, .. } = *self;
        deliver(outcome.and_then(|()| done.ok_or_else(|| "not done".to_owned())));
    }
}

pub(super) type Opener = Box<dyn FnMut() -> Result<Database, DatabaseError> + Send>;

/// The state of the writer thread.
pub(super) struct Writer {
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
pub(super) struct Unclaimed {
    pub(super) queue: &'static str,
    pub(super) group: String,
    pub(super) number: u64,
    pub(super) receives: u32,
}

impl Writer {
    /// Opens the database, makes visible what a dead process had in flight, and waits for jobs on a thread of its own,
    /// until the sender of jobs and its clones are dropped. `committed` is told of every commit.
    pub(super) fn start(
        opener: Opener,
        clock: Arc<dyn Clock>,
        committed: Arc<Notify>,
    ) -> Result<(Jobs, JoinHandle<()>), redb::Error> {
        let (index, unclaimed) = (Index::default(), Vec::new());
        let mut writer = Self { opener, database: None, index, unclaimed, clock, committed };
        let database = writer.open()?;
        writer.release(&database)?;
        writer.database = Some(database);
        let (jobs, queued) = mpsc::channel();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(&queued))?;
        Ok((jobs, thread))
    }

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
    fn round(&mut self, jobs: &mut [Box<dyn Job>], again: bool) -> Committed {
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
