use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use redb::backends::FileBackend;
use redb::{Database, ReadableTable as _, StorageBackend};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::port::{Key, Message, Outbox as _, Queue as _, Received, Record, State as _};

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
    store.submit(Box::new(Task::new(work, drop)));
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
