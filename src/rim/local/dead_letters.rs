//! The dead letters of `sluice serve`.
//!
//! While it runs, its process owns the database, and others have to ask it: at a socket in the data folder, which only
//! its owner can open, and no web page and no proxy can reach. A connection is one question and its answer, each one line
//! of JSON. While it does not run, the database is opened here.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::server::stopped;
use super::store::{EmbeddedQueue, OpenError, Peeked, Store};
use crate::dead_letters::{Again, DeadLetterQueue, Stored};
use crate::port::{Clock, Message, Outbox as _, Unavailable};

/// The socket's name in the data folder.
const SOCKET: &str = "sluice.sock";
/// How long a question and its answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest question: a message for the queue, with every byte escaped.
const LONGEST_QUESTION: u64 = 8 << 20;
/// How many letters an answer has at most: each may be as large as the queue takes.
const PAGE: usize = 16;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// For letters, after the one with this message id.
    Letters { after: Option<String> },
    /// To put a message on the delivery queue.
    Deliver(Message),
    /// To delete a letter.
    Discard { message_id: String },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Letters(Vec<Stored>),
    Done,
    Failed(String),
}

/// The queues that answers come from.
#[derive(Clone)]
struct Queues {
    deliveries: EmbeddedQueue,
    dead_letters: EmbeddedQueue,
}

impl Queues {
    fn of(store: &Store) -> Self {
        Self { deliveries: store.deliveries(), dead_letters: store.dead_letters() }
    }

    async fn answer(&self, question: Question) -> Answer {
        let answer = match question {
            Question::Letters { after } => {
                let found = self.dead_letters.peek(PAGE, after.as_deref()).await;
                found.map(|found| Answer::Letters(found.into_iter().map(stored).collect()))
            }
            Question::Deliver(message) => self.deliveries.send(&[message]).await.map(|()| Answer::Done),
            Question::Discard { message_id } => self.dead_letters.remove(&message_id).await.map(|_| Answer::Done),
        };
        answer.unwrap_or_else(|error| Answer::Failed(error.message))
    }
}

fn stored(peeked: Peeked) -> Stored {
    let Peeked { message_id, body, sent, .. } = peeked;
    Stored { receipt: message_id.clone(), message_id, sent, body, attributes: Default::default() }
}

/// Answers at the socket in `dir` until `stop` becomes true. Only the process that has the store open may do so: what
/// lies there from before is removed.
///
/// # Errors
/// Where there can be no socket, because the path is too long for one, for example.
pub fn answer(
    dir: &Path,
    store: &Store,
    mut stop: watch::Receiver<bool>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let queues = Queues::of(store);
    Ok(async move {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut stop) => break,
                Some(_) = connections.join_next() => continue,
            };
            // Whoever may open it is trusted not to open it without end.
            if let Ok((stream, _)) = accepted {
                let queues = queues.clone();
                connections.spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, converse(stream, &queues)).await;
                });
            }
        }
        let _ = std::fs::remove_file(&path);
    })
}

async fn converse(mut stream: UnixStream, queues: &Queues) -> io::Result<()> {
    let mut question = Vec::new();
    (&mut stream).take(LONGEST_QUESTION).read_to_end(&mut question).await?;
    let answer = match serde_json::from_slice(&question) {
        Ok(question) => queues.answer(question).await,
        Err(error) => Answer::Failed(format!("not a question: {error}")),
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}

async fn ask(path: &Path, question: &Question) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(&serde_json::to_vec(question)?).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// The dead letters in the data folder of `sluice serve`.
pub struct LocalDeadLetters {
    name: String,
    way: Way,
    limit: usize,
}

enum Way {
    /// The process at this socket has the store open.
    Running(PathBuf),
    /// It is open here.
    Here(Queues),
}

impl LocalDeadLetters {
    /// Those in `dir`, whether a `sluice serve` runs on it or not.
    ///
    /// # Errors
    /// When there is no such process, and the store cannot be opened either.
    pub async fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let socket = dir.join(SOCKET);
        let way = match UnixStream::connect(&socket).await {
            Ok(_) => Way::Running(socket),
            Err(_) => Way::Here(Queues::of(&Store::open(dir, clock)?)),
        };
        Ok(Self { name: dir.display().to_string(), way, limit: super::store::LIMIT })
    }

    async fn ask(&self, question: Question) -> Result<Answer, Unavailable> {
        let failed = |message: String| Unavailable { what: "queue", message };
        let answer = match &self.way {
            Way::Here(queues) => queues.answer(question).await,
            Way::Running(path) => {
                let answer = tokio::time::timeout(PATIENCE, ask(path, &question)).await;
                answer
                    .map_err(|_| failed("sluice serve does not answer".into()))?
                    .map_err(|error| failed(format!("sluice serve cannot be asked: {error}")))?
            }
        };
        match answer {
            Answer::Failed(message) => Err(failed(message)),
            answer => Ok(answer),
        }
    }
}

#[async_trait]
impl DeadLetterQueue for LocalDeadLetters {
    fn name(&self) -> &str {
        &self.name
    }

    /// Nothing is hidden: who looks into the store takes nothing out of it.
    async fn take(&self, most: usize, after: Option<&str>, _: Duration) -> Result<Vec<Stored>, Unavailable> {
        let question = Question::Letters { after: after.map(str::to_owned) };
        let Answer::Letters(mut found) = self.ask(question).await? else { return Ok(Vec::new()) };
        found.truncate(most);
        Ok(found)
    }

    async fn release(&self, _: &[&Stored]) {}

    fn limit(&self) -> usize {
        self.limit
    }

    async fn send_again(&self, again: Again) -> Result<(), Unavailable> {
        match again {
            Again::Deliver(message) => self.ask(Question::Deliver(message)).await.map(drop),
            Again::Invoke { .. } => Err(Unavailable { what: "function", message: "there are none here".into() }),
        }
    }

    async fn discard(&self, letter: &Stored) -> Result<(), Unavailable> {
        self.ask(Question::Discard { message_id: letter.message_id.clone() }).await.map(drop)
    }
}
