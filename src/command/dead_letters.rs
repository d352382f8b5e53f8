//! `sluice dead-letters`: what was given up is listed, shown, sent again or deleted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::{ActionError, Common, default_data};
use crate::dead_letters::{Choice, Class, DeadLetterQueue, Fate, Letter, Stored, go_through, redrive};
use crate::port::Clock as _;
use crate::relay::format::Span;
use crate::rim::aws;
use crate::rim::clock::SystemClock;
use crate::rim::local::dead_letters::LocalDeadLetters;

/// For how long letters are hidden from others while they are looked at, should we not come to put them back.
const LOOK: Duration = Duration::from_secs(60);
/// The same while they are worked on: longer than ten invocations of a function that never answers.
const WORK: Duration = Duration::from_secs(15 * 60);

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

/// What was gone through.
struct Course {
    /// The ids of the letters that were meant.
    met: BTreeSet<String>,
    /// Whether no letter was left out.
    complete: bool,
    /// Whether a queue could not be read to its end.
    failed: bool,
}

pub(super) async fn run(common: &Common, options: Options) -> Result<(), ActionError> {
    match options.action {
        Action::List(which) => {
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let mut found = Vec::new();
            let course = which.go_through(&queues, LOOK, async |queue, _, letter| {
                found.push((queue.name().to_owned(), letter));
                Fate::Stays
            });
            let course = course.await;
            list(common, found, &course);
            course.end(&which)
        }
        Action::Show(which) => {
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let mut found = Vec::new();
            let course = which.go_through(&queues, LOOK, async |_, stored, letter| {
                found.push((letter.given_up, letter.details(stored)));
                Fate::Stays
            });
            let course = course.await;
            found.sort_by_key(|(given_up, _)| *given_up);
            let details: Vec<_> = found.into_iter().map(|(_, details)| details).collect();
            println!("{:#}", json!({ "complete": course.complete, "letters": details }));
            course.end(&which)
        }
        Action::Redrive { which, care, to, function, rate, queue_limit } => {
            which.check(care)?;
            let queues = which.queues(to, queue_limit).await?;
            let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut report = Report::new(common, "redriven", care.dry_run);
            let course = which.go_through(&queues, WORK, async |queue, stored, letter| {
                let (now, function) = (SystemClock.now(), function.as_deref());
                let done = if care.dry_run {
                    letter.again(now, queue.limit(), function).map(drop)
                } else {
                    pace.tick().await;
                    redrive(queue, stored, &letter, now, function).await
                };
                report.add(&letter, done)
            });
            let course = course.await;
            report.end(&which, &course)
        }
        Action::Discard { which, care } => {
            which.check(care)?;
            let queues = which.queues(None, aws::sqs::DEFAULT_LIMIT).await?;
            let mut report = Report::new(common, "discarded", care.dry_run);
            let course = which.go_through(&queues, WORK, async |queue, stored, letter| {
                let done = if care.dry_run { Ok(()) } else { queue.discard(stored).await };
                report.add(&letter, done.map_err(|error| error.to_string()))
            });
            let course = course.await;
            report.end(&which, &course)
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
    fn check(&self, care: Care) -> Result<(), ActionError> {
        match (self.choice().is_everything(), care.all) {
            (true, false) => {
                Err(ActionError::Usage("say which dead letters: ids, a filter such as --target, or --all".into()))
            }
            (false, true) => Err(ActionError::Usage("--all means all: it goes with no id and no filter".into())),
            _ => Ok(()),
        }
    }

    async fn queues(&self, to: Option<String>, limit: usize) -> Result<Queues, ActionError> {
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
            return Err(ActionError::Usage(format!(
                "give --queue URL (or set SLUICE_DEAD_LETTER_URL), or --data DIR, the folder of `sluice serve`; {} is none",
                dir.display()
            )));
        }
        let letters = LocalDeadLetters::open(&dir, Arc::new(SystemClock)).await.context("the data folder")?;
        Ok(vec![Box::new(letters)])
    }

    /// Hands the letters that are meant to `act`, page by page.
    async fn go_through(
        &self,
        queues: &Queues,
        hidden: Duration,
        mut act: impl AsyncFnMut(&dyn DeadLetterQueue, &Stored, Letter) -> Fate,
    ) -> Course {
        let (choice, now) = (self.choice(), SystemClock.now());
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let mut course = Course { met: BTreeSet::new(), complete: true, failed: false };
        for queue in queues {
            let (queue, met) = (queue.as_ref(), &mut course.met);
            let gone_through = go_through(queue, &choice, now, most, hidden, async |stored, letter| {
                met.insert(letter.id.clone());
                act(queue, stored, letter).await
            });
            match gone_through.await {
                Ok(true) => continue,
                Ok(false) => {
                    eprintln!("sluice: {} may hold more than the letters that were looked at: --most", queue.name());
                }
                Err(error) => {
                    eprintln!("sluice: {} was not read to its end: {error}", queue.name());
                    course.failed = true;
                }
            }
            course.complete = false;
        }
        course
    }
}

impl Course {
    /// Every queue has to be read, and every id that was asked for has to be there.
    fn end(&self, which: &Which) -> Result<(), ActionError> {
        let missing: Vec<_> = which.ids.iter().filter(|id| !self.met.contains(*id)).map(String::as_str).collect();
        if !missing.is_empty() {
            eprintln!("sluice: no such dead letter: {}", missing.join(", "));
        }
        if self.failed || !missing.is_empty() { Err(ActionError::Problems) } else { Ok(()) }
    }
}

/// What was done with each letter.
struct Report<'a> {
    common: &'a Common,
    what: &'static str,
    dry_run: bool,
    rows: Vec<Value>,
    failed: usize,
}

impl<'a> Report<'a> {
    fn new(common: &'a Common, what: &'static str, dry_run: bool) -> Self {
        Self { common, what, dry_run, rows: Vec::new(), failed: 0 }
    }

    fn add(&mut self, letter: &Letter, done: Result<(), String>) -> Fate {
        let what = self.what;
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
        if self.dry_run || done.is_err() { Fate::Stays } else { Fate::Gone }
    }

    fn end(self, which: &Which, course: &Course) -> Result<(), ActionError> {
        let Self { common, what, dry_run, rows, failed, .. } = self;
        let word = if dry_run { "would be " } else { "" };
        let text = format!("{word}{what}: {}; failed: {failed}", rows.len() - failed);
        common.print(&json!({ "complete": course.complete, "dry_run": dry_run, "letters": rows }), &text);
        let ended = course.end(which);
        if failed > 0 { Err(ActionError::Problems) } else { ended }
    }
}

/// Prints letters, each with its queue's name.
fn list(common: &Common, mut found: Vec<(String, Letter)>, course: &Course) {
    found.sort_by_key(|(_, letter)| letter.given_up);
    let row = |(queue, letter): &(String, Letter)| {
        let mut row = letter.summary();
        row["queue"] = queue.as_str().into();
        row
    };
    let line = |(_, letter): &(String, Letter)| {
        let Letter { id, of, class, reason, given_up, attempts, .. } = letter;
        format!("{given_up:.0}  {id}  {of}  {class} after {attempts}: {reason}")
    };
    let mut lines: Vec<_> = found.iter().map(line).collect();
    lines.push(format!("dead letters: {}", found.len()));
    let rows: Vec<Value> = found.iter().map(row).collect();
    common.print(&json!({ "complete": course.complete, "letters": rows }), &lines.join("\n"));
}
