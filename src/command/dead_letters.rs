//! `sluice dead-letters`: what was given up is listed, shown, sent again or deleted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::{Common, Trouble, default_data};
use crate::dead_letters::{Choice, Class, DeadLetterQueue, Letter, Stored};
use crate::port::Clock as _;
use crate::relay::format::Span;
use crate::rim::aws;
use crate::rim::clock::SystemClock;
use crate::rim::local::dead_letters::LocalDeadLetters;

/// For how long letters are hidden from others while they are looked at, should we not come to put them back.
const LOOK: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List dead letters, the oldest first.
    List(Which),
    /// Print dead letters in full, as JSON.
    Show(Which),
    /// Send dead letters again: deliveries to their target, failed invocations to their function.
    Redrive {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        care: Care,
        /// The queue for deliveries. Left out: the one whose dead-letter queue it is.
        #[arg(long, value_name = "URL")]
        to: Option<String>,
        /// The function to invoke for what does not tell: notifications that SNS could not hand over.
        #[arg(long, value_name = "NAME")]
        function: Option<String>,
        /// How many are sent in a second, at most.
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        rate: u32,
        /// What the delivery queue takes, in bytes.
        #[arg(long, env = "SLUICE_QUEUE_LIMIT", default_value_t = aws::sqs::DEFAULT_LIMIT, value_name = "BYTES")]
        queue_limit: usize,
    },
    /// Delete dead letters.
    Discard {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        care: Care,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// Those with these ids.
    ids: Vec<String>,
    /// Those of this target; of failed invocations, of this function.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Those of this class: rejected, expired, unanswered, crashed, undeliverable or invocation.
    #[arg(long, value_parser = class, value_name = "CLASS")]
    class: Vec<Class>,
    /// Those whose reason has this text in it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that were given up at least this long ago (90s, 5m, 24h, 7d).
    #[arg(long, value_parser = Span::parse, value_name = "TIME")]
    older_than: Option<Span>,
    /// Those that were given up less than this long ago.
    #[arg(long, value_parser = Span::parse, value_name = "TIME")]
    newer_than: Option<Span>,
    /// The SQS queue of dead letters or of failed invocations; several are separated by commas.
    #[arg(long, env = "SLUICE_DEAD_LETTER_URL", value_delimiter = ',', value_name = "URL")]
    queue: Vec<String>,
    /// Instead of a queue: the folder of `sluice serve`, running or not.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many letters of a queue are looked at, at most.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    most: u32,
}

/// What keeps from doing too much.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Care {
    /// All of them: has to be said where nothing else chooses.
    #[arg(long)]
    all: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

fn class(word: &str) -> Result<Class, String> {
    Class::from_word(word).ok_or_else(|| {
        let words: Vec<_> = Class::ALL.iter().map(|class| class.word()).collect();
        format!("one of {}", words.join(", "))
    })
}

/// The queues that are looked into.
type Queues = Vec<Box<dyn DeadLetterQueue>>;

/// A letter and where it lies: its queue's place among those that are looked into.
struct Found {
    queue: usize,
    stored: Stored,
    letter: Letter,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), Trouble> {
    match options.action {
        Action::List(which) => {
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let found = which.find(&queues, LOOK).await?;
            release(&queues, found.iter()).await;
            list(common, &queues, &found);
            which.all_found(&found)
        }
        Action::Show(which) => {
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let found = which.find(&queues, LOOK).await?;
            release(&queues, found.iter()).await;
            let details: Vec<_> = found.iter().map(|found| found.letter.details(&found.stored)).collect();
            println!("{:#}", json!({ "letters": details }));
            which.all_found(&found)
        }
        Action::Redrive { which, care, to, function, rate, queue_limit } => {
            which.check(care)?;
            let queues = which.queues(to, queue_limit).await?;
            let found = which.find(&queues, LOOK + Duration::from_secs(u64::from(which.most / rate))).await?;
            let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut report = Report::new(common, "redriven", care.dry_run);
            for found in &found {
                pace.tick().await;
                let queue = queues[found.queue].as_ref();
                report.add(found, redrive(queue, found, function.as_deref(), care.dry_run).await);
            }
            release(&queues, report.stays.iter().copied()).await;
            report.end(which.all_found(&found))
        }
        Action::Discard { which, care } => {
            which.check(care)?;
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let found = which.find(&queues, LOOK).await?;
            let mut report = Report::new(common, "discarded", care.dry_run);
            for found in &found {
                let queue = &queues[found.queue];
                let done = if care.dry_run { Ok(()) } else { queue.discard(&found.stored).await };
                report.add(found, done.map_err(|error| error.to_string()));
            }
            release(&queues, report.stays.iter().copied()).await;
            report.end(which.all_found(&found))
        }
    }
}

impl Which {
    fn choice(&self) -> Choice {
        Choice {
            ids: self.ids.clone(),
            of: self.target.clone(),
            classes: self.class.clone(),
            reason: self.reason.clone(),
            older_than: self.older_than.map(|span| span.0),
            newer_than: self.newer_than.map(|span| span.0),
        }
    }

    /// Nobody sends or deletes everything by leaving something out.
    fn check(&self, care: Care) -> Result<(), Trouble> {
        match (self.choice().is_everything(), care.all) {
            (true, false) => {
                Err(Trouble::Usage("say which dead letters: ids, a filter such as --target, or --all".into()))
            }
            (false, true) => Err(Trouble::Usage("--all means all: it goes with no id and no filter".into())),
            _ => Ok(()),
        }
    }

    async fn queues(&self, to: Option<String>, limit: usize) -> Result<Queues, Trouble> {
        let local = match &self.data {
            Some(dir) => Some(dir.clone()),
            None => self.queue.is_empty().then(default_data),
        };
        let Some(dir) = local else {
            let sdk = aws::from_default_chain().await;
            let queue = |url: &String| Box::new(sdk.dead_letters(url, to.clone(), limit)) as Box<dyn DeadLetterQueue>;
            return Ok(self.queue.iter().map(queue).collect());
        };
        if !dir.is_dir() {
            return Err(Trouble::Usage(format!(
                "give --queue URL (or set SLUICE_DEAD_LETTER_URL), or --data DIR, the folder of `sluice serve`; {} is none",
                dir.display()
            )));
        }
        let letters = LocalDeadLetters::open(&dir, Arc::new(SystemClock)).await.context("the data folder")?;
        Ok(vec![Box::new(letters)])
    }

    /// The letters that are meant, the oldest first. All others are put back.
    async fn find(&self, queues: &Queues, hidden: Duration) -> Result<Vec<Found>, Trouble> {
        let (choice, now) = (self.choice(), SystemClock.now());
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for (index, queue) in queues.iter().enumerate() {
            let taken = queue.take(most, hidden).await.with_context(|| queue.name().to_owned())?;
            if taken.len() == most {
                eprintln!("sluice: {} may hold more than the {most} letters that were looked at: --most", queue.name());
            }
            let read = taken.into_iter().map(|stored| Found { queue: index, letter: Letter::read(&stored), stored });
            let (meant, others): (Vec<_>, Vec<_>) = read.partition(|found| choice.takes(&found.letter, now));
            release(queues, others.iter()).await;
            found.extend(meant);
        }
        found.sort_by_key(|found| found.letter.given_up);
        Ok(found)
    }

    /// Every id that was asked for has to be there.
    fn all_found(&self, found: &[Found]) -> Result<(), Trouble> {
        let missing = self.ids.iter().filter(|id| found.iter().all(|found| found.letter.id != **id));
        let missing: Vec<_> = missing.map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("sluice: no such dead letter: {}", missing.join(", "));
        Err(Trouble::Found)
    }
}

/// What was done with each letter.
struct Report<'a> {
    common: &'a Common,
    what: &'static str,
    dry_run: bool,
    rows: Vec<Value>,
    failed: usize,
    /// The letters that stay where they are.
    stays: Vec<&'a Found>,
}

impl<'a> Report<'a> {
    fn new(common: &'a Common, what: &'static str, dry_run: bool) -> Self {
        Self { common, what, dry_run, rows: Vec::new(), failed: 0, stays: Vec::new() }
    }

    fn add(&mut self, found: &'a Found, done: Result<(), String>) {
        let (what, letter) = (self.what, &found.letter);
        let mut row = letter.summary();
        row[what] = (done.is_ok() && !self.dry_run).into();
        let said = match &done {
            Ok(()) if self.dry_run => format!("would be {what}"),
            Ok(()) => what.to_owned(),
            Err(error) => {
                row["error"] = error.as_str().into();
                format!("not {what}: {error}")
            }
        };
        // At once: many letters take their time.
        if !self.common.json {
            println!("{}  {}  {said}", letter.id, letter.of);
        }
        self.rows.push(row);
        self.failed += usize::from(done.is_err());
        if self.dry_run || done.is_err() {
            self.stays.push(found);
        }
    }

    fn end(self, all_found: Result<(), Trouble>) -> Result<(), Trouble> {
        let Self { common, what, dry_run, rows, failed, .. } = self;
        let word = if dry_run { "would be " } else { "" };
        let text = format!("{word}{what}: {}; failed: {failed}", rows.len() - failed);
        common.print(&json!({ "dry_run": dry_run, "letters": rows }), &text);
        if failed > 0 { Err(Trouble::Found) } else { all_found }
    }
}

/// Sends a letter again, and deletes it once it is in other hands.
async fn redrive(
    queue: &dyn DeadLetterQueue,
    found: &Found,
    function: Option<&str>,
    dry_run: bool,
) -> Result<(), String> {
    let again = found.letter.again(SystemClock.now(), queue.limit(), function)?;
    if dry_run {
        return Ok(());
    }
    queue.send_again(again).await.map_err(|error| error.to_string())?;
    queue.discard(&found.stored).await.map_err(|error| {
        format!("it was sent, but could not be deleted and is still there; discard it, or it is sent twice: {error}")
    })
}

async fn release(queues: &Queues, letters: impl Iterator<Item = &Found> + Clone) {
    for (index, queue) in queues.iter().enumerate() {
        let letters: Vec<_> = letters.clone().filter(|found| found.queue == index).map(|found| &found.stored).collect();
        queue.release(&letters).await;
    }
}

fn list(common: &Common, queues: &Queues, found: &[Found]) {
    let row = |found: &Found| {
        let mut row = found.letter.summary();
        row["queue"] = queues[found.queue].name().into();
        row
    };
    let line = |Found { letter, .. }: &Found| {
        let Letter { id, of, class, reason, given_up, attempts, .. } = letter;
        format!("{given_up:.0}  {id}  {of}  {class} after {attempts}: {reason}")
    };
    let mut lines: Vec<_> = found.iter().map(line).collect();
    lines.push(format!("dead letters: {}", found.len()));
    let rows: Vec<Value> = found.iter().map(row).collect();
    common.print(&json!({ "letters": rows }), &lines.join("\n"));
}
