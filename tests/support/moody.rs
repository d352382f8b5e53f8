//! A target with moods, for tests: it answers as it should, or slowly, with failures or garbage, or not at all, and
//! remembers which events it has taken.
//!
//! Events are told apart by a [`mark`] that is somewhere in what it is sent, whatever form that has.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mood {
    /// 200.
    Well,
    /// 200, a while later.
    Slow,
    /// 500.
    Failing,
    /// 429 with a wait.
    Busy,
    /// What is no HTTP.
    Garbage,
    /// The connection is reset, when all was read.
    Reset,
    /// Nothing for longer than anybody waits.
    Silent,
}

impl Mood {
    /// All but the first.
    pub const BAD: [Self; 6] = [Self::Slow, Self::Failing, Self::Busy, Self::Garbage, Self::Reset, Self::Silent];
}

/// What tells the event of this sender and number from all others.
pub fn mark(sender: usize, number: usize) -> String {
    format!("chaos-{sender}-{number}-end")
}

fn marked(body: &str) -> Option<(usize, usize)> {
    let mut parts = body.split_once("chaos-")?.1.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[derive(Default)]
struct Seen {
    mood: Option<Mood>,
    refused: Option<String>,
    arrivals: Vec<((usize, usize), Instant)>,
    faults: std::collections::BTreeMap<Mood, usize>,
}

/// A running target.
pub struct Moody {
    address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Moody {
    /// One that is well, on a thread that lives as long as the process.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let shared = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    // Whatever breaks the connection: the other side has to cope with it.
                    tokio::spawn(connection(stream, shared.clone()));
                }
            });
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next request on.
    pub fn be(&self, mood: Mood) {
        self.seen().mood = Some(mood);
    }

    /// Answers 500 to whatever has this text in it, and to nothing else.
    pub fn refuse(&self, text: &str) {
        self.seen().refused = Some(text.to_owned());
    }

    /// What it has taken, in order, as sender and number.
    pub fn arrivals(&self) -> Vec<(usize, usize)> {
        self.timed_arrivals().into_iter().map(|(event, _)| event).collect()
    }

    /// What it has taken, in order, and when.
    pub fn timed_arrivals(&self) -> Vec<((usize, usize), Instant)> {
        self.seen().arrivals.clone()
    }

    /// How many it has taken, repetitions included.
    pub fn count(&self) -> usize {
        self.seen().arrivals.len()
    }

    /// How many different ones it has taken.
    pub fn distinct(&self) -> usize {
        self.seen().arrivals.iter().map(|(event, _)| event).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// How many requests have met this mood, which is none of being well.
    pub fn met(&self, mood: Mood) -> usize {
        self.seen().faults.get(&mood).copied().unwrap_or_default()
    }

    /// How often it answered badly, by mood.
    pub fn faults(&self) -> String {
        let mut text = String::from("answers");
        for (mood, count) in &self.seen().faults {
            let _ = write!(text, " {mood:?} {count}");
        }
        text
    }

    /// Returns when it has taken so many.
    pub fn wait_for(&self, count: usize) {
        let patience = Duration::from_secs(60);
        let waited = self.seen.1.wait_timeout_while(self.seen(), patience, |seen| seen.arrivals.len() < count);
        let (seen, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "{} of {count} have arrived", seen.arrivals.len());
    }
}

async fn connection(stream: TcpStream, shared: Arc<(Mutex<Seen>, Condvar)>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let lock = || shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mood = {
            let mut seen = lock();
            let mood = match &seen.refused {
                Some(text) if body.contains(text.as_str()) => Mood::Failing,
                _ => seen.mood.unwrap_or(Mood::Well),
            };
            if mood != Mood::Well {
                *seen.faults.entry(mood).or_default() += 1;
            }
            mood
        };
        let answer: &[u8] = match mood {
            Mood::Well => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Mood::Slow => {
                tokio::time::sleep(Duration::from_millis(300)).await;
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            }
            Mood::Failing => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            Mood::Busy => b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
            Mood::Garbage => b"\x16\x03\x01 this is no HTTP\r\n\r\n",
            Mood::Reset => {
                stream.get_ref().set_zero_linger()?;
                return Ok(());
            }
            Mood::Silent => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
        };
        if matches!(mood, Mood::Well | Mood::Slow) {
            lock().arrivals.extend(marked(&body).map(|event| (event, Instant::now())));
            shared.1.notify_all();
        }
        stream.get_mut().write_all(answer).await?;
    }
}
