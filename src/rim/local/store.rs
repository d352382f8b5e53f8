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

mod index;
mod queue;
mod round;
mod state;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::Database;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, oneshot};

use self::round::Round;
use self::writer::{Job, Jobs, Opener, Task, Writer};
use crate::port::{Clock, Unavailable};

pub use self::queue::{EmbeddedQueue, GroupCount, Peeked};
pub use self::state::EmbeddedState;

/// The database's name in its directory.
const FILE: &str = "sluice.redb";
/// Pages of the database that are kept in memory. redb's own default, 1 GiB, is far from what a relay should take.
const CACHE: usize = 16 << 20;
/// The largest message that the delivery queue takes, in bytes: as SQS.
pub const LIMIT: usize = 1024 * 1024;

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
    jobs: Option<Jobs>,
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
        let committed = Arc::<Notify>::default();
        let (jobs, thread) = Writer::start(opener, clock.clone(), committed.clone())?;
        Ok(Self(Arc::new(Inner { jobs: Some(jobs), thread: Some(thread), committed, clock })))
    }

    /// The queue of this name, for bodies of up to `limit` bytes.
    pub fn queue(&self, name: &'static str, limit: usize) -> EmbeddedQueue {
        EmbeddedQueue::new(self.clone(), name, limit)
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
        EmbeddedState::new(self.clone())
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
        self.submit(Box::new(Task::new(work, deliver)));
        answered(what, answer.await)
    }
}

fn answered<T>(what: &'static str, answer: Result<Result<T, String>, RecvError>) -> Result<T, Unavailable> {
    let result = answer.unwrap_or_else(|_| Err("the store's thread has ended".to_owned()));
    result.map_err(|message| Unavailable { what, message })
}

#[cfg(test)]
mod tests;
