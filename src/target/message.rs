//! What people are told of an event: the same for every service, before it is fitted to one.
//!
//! A message is shortened as a model and drawn afterwards, so that no markup is ever cut: [`fit`] tries one budget after
//! the other, from the most generous to the tightest, until what is drawn is within the service's limits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, Unit};
use crate::domain::alert::{Alert, Alerts, Link, Severity, Status};
use crate::domain::event::{Detail, Event, GitEvent, ImagePush};
use crate::domain::signature;

/// The word that stands in every message of a service whose users can demand one (a robot's keyword).
pub const NAME: &str = "Sluice";

/// A message for people. All texts in it are plain, cleaned, and without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What incident services know it by: the same for what fires and what ends it, 32 hex digits. `None` for what has
    /// no end, such as a push.
    pub key: Option<String>,
    /// The status of the whole.
    pub status: Status,
    /// The severity of the whole.
    pub severity: Severity,
    /// Whether it is good news that ends what was told under the same key.
    pub recovers: bool,
    /// What it is about, on one line.
    pub title: String,
    /// The sender's page about the whole.
    pub url: Option<String>,
    /// Facts that hold for all items.
    pub facts: Vec<Fact>,
    /// What there is to tell; one for each alert.
    pub items: Vec<Item>,
    /// How many more there are, that are not among the items.
    pub left_out: u64,
    /// The name of the source that it came by.
    pub source: String,
    /// What kind of event it tells: `image_push`, `git` or `alert`.
    pub kind: &'static str,
    /// When it happened.
    pub time: Option<Timestamp>,
}

/// What a message means to an incident service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something is wrong, or still is.
    Trigger,
    /// It is over.
    Resolve,
}

/// One thing that a message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its status.
    pub status: Status,
    /// Its severity.
    pub severity: Severity,
    /// What it is about, on one line. Empty where the message's title says it all.
    pub title: String,
    /// What there is to say; may have many lines, may be empty.
    pub text: String,
    /// How many characters of it follow; none in a message that is drawn, where the text itself says it.
    missing: usize,
    /// What is known about it.
    pub facts: Vec<Fact>,
    /// Pages about it, all of them http or https.
    pub links: Vec<Link>,
}

/// A name and a value, each on one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Fact {
    fn new(name: &str, value: &str) -> Self {
        Self { name: text::line(name), value: text::line(value) }
    }
}

/// How a message feels, for what services show as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something important does not work.
    Critical,
    /// Something does not work.
    Error,
    /// Somebody should look some time.
    Warning,
    /// For the record.
    Neutral,
    /// It is over, or went well.
    Good,
}

impl Tone {
    fn of(status: Status, severity: Severity, recovers: bool) -> Self {
        match severity {
            _ if status == Status::Resolved || recovers => Self::Good,
            Severity::Critical => Self::Critical,
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Neutral,
        }
    }

    /// The colour as 0xRRGGBB.
    pub fn rgb(self) -> u32 {
        match self {
            Self::Critical => 0x00b7_1c1c,
            Self::Error => 0x00e5_3935,
            Self::Warning => 0x00fb_8c00,
            Self::Neutral => 0x0019_76d2,
            Self::Good => 0x0043_a047,
        }
    }

    /// A sign for services without colours.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Critical => "🔥",
            Self::Error => "🔴",
            Self::Warning => "🟠",
            Self::Neutral => "🔵",
            Self::Good => "✅",
        }
    }
}

/// The word that stands before a title; none for what has nothing to add to it.
fn word(status: Status, severity: Severity) -> Option<&'static str> {
    match (status, severity) {
        (Status::Resolved, _) => Some("Resolved"),
        (_, Severity::Critical) => Some("Critical"),
        (_, Severity::Error) => Some("Error"),
        (_, Severity::Warning) => Some("Warning"),
        (_, Severity::Info) => None,
    }
}

fn words(status: Status, severity: Severity, title: &str) -> String {
    match word(status, severity) {
        Some(word) => format!("{word}: {title}"),
        None => title.to_owned(),
    }
}

impl Item {
    /// How it feels.
    pub fn tone(&self) -> Tone {
        Tone::of(self.status, self.severity, false)
    }

    /// Sign, word and title on one line.
    pub fn headline(&self) -> String {
        format!("{} {}", self.tone().sign(), words(self.status, self.severity, &self.title))
    }

    /// The item as plain text, one thing a line.
    pub fn plain(&self) -> String {
        let mut lines = Vec::new();
        lines.extend((!self.title.is_empty()).then(|| self.headline()));
        lines.extend((!self.text.is_empty()).then(|| self.text.clone()));
        lines.extend(self.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)));
        lines.extend(self.links.iter().map(|link| format!("{}: {}", link.title, link.url)));
        lines.join("\n")
    }
}

impl Message {
    /// What people are told of `event`.
    pub fn of(event: &Event) -> Self {
        match &event.detail {
            Detail::Alert(group) => Self::of_alerts(event, group),
            Detail::Git(git) => Self::of_git(event, git),
            Detail::ImagePush(push) => Self::of_push(event, push),
        }
    }

    /// How it feels.
    pub fn tone(&self) -> Tone {
        Tone::of(self.status, self.severity, self.recovers)
    }

    /// Sign, word and title on one line.
    pub fn headline(&self) -> String {
        format!("{} {}", self.tone().sign(), self.words())
    }

    /// Word and title on one line, for where a sign cannot stand.
    pub fn words(&self) -> String {
        words(self.status, self.severity, &self.title)
    }

    /// Whether people may be pinged: for what is neither over nor only for the record.
    pub fn is_pressing(&self) -> bool {
        self.status != Status::Resolved && !self.recovers && self.severity > Severity::Info
    }

    /// What it means to an incident service; the error completes «not told: …».
    ///
    /// # Errors
    /// For news that neither begins nor ends anything.
    pub fn step(&self) -> Result<Step, String> {
        match (&self.key, self.status, self.severity) {
            (None, ..) => Err("it has no end, and this type of target is told of what begins and ends".into()),
            (Some(_), Status::Resolved, _) => Ok(Step::Resolve),
            (Some(_), ..) if self.recovers => Ok(Step::Resolve),
            (Some(_), Status::Event, Severity::Info) => Err("it is no trouble, and ends none".into()),
            (Some(_), ..) => Ok(Step::Trigger),
        }
    }

    /// What it is about, for a service that takes no empty title.
    pub fn subject(&self) -> &str {
        if self.title.is_empty() { &self.source } else { &self.title }
    }

    /// The facts that hold for the whole: those of a single item, too.
    pub fn all_facts(&self) -> impl Iterator<Item = &Fact> {
        let alone = match self.items.as_slice() {
            [alone] => alone.facts.as_slice(),
            _ => &[],
        };
        alone.iter().chain(&self.facts)
    }

    /// The message as plain text without its headline; empty where that says it all.
    pub fn plain_rest(&self) -> String {
        self.plain().split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }

    /// Attributes by which subscribers of a topic filter messages (SNS).
    pub fn attributes(&self) -> Value {
        json!({ "kind": self.kind, "severity": self.severity, "source": self.source, "status": self.status })
    }

    /// The message with every text of others in it changed by `change`; its URLs stay as they are.
    pub fn with_texts(&self, change: impl Fn(&str) -> String) -> Self {
        let facts = |facts: &[Fact]| {
            let facts = facts.iter();
            facts.map(|fact| Fact { name: change(&fact.name), value: change(&fact.value) }).collect::<Vec<_>>()
        };
        let link = |link: &Link| Link { title: change(&link.title), url: link.url.clone() };
        let item = |item: &Item| Item {
            title: change(&item.title),
            text: change(&item.text),
            facts: facts(&item.facts),
            links: item.links.iter().map(link).collect(),
            ..*item
        };
        Self {
            title: change(&self.title),
            facts: facts(&self.facts),
            items: self.items.iter().map(item).collect(),
            ..self.clone()
        }
    }

    /// What there is to say below the headline, as plain text; where that is nothing, the small print, since some
    /// services take no empty text.
    pub fn plain_text(&self) -> String {
        let rest = self.plain_rest();
        if rest.is_empty() { self.origin() } else { rest }
    }

    /// The facts that hold for the whole, by name; the values of one name stand below each other.
    pub fn facts_by_name(&self) -> BTreeMap<String, String> {
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for fact in self.all_facts() {
            let there = named.entry(fact.name.clone()).or_default();
            *there = if there.is_empty() { fact.value.clone() } else { format!("{there}\n{}", fact.value) };
        }
        named
    }

    /// Names and values for services that have tags: what it is by our words, and those facts whose value is one word.
    pub fn tags(&self) -> Vec<(&str, &str)> {
        let ours = [("severity", self.severity.word()), ("status", self.status.word()), ("source", &self.source)];
        let is_word = |fact: &&Fact| !fact.value.contains(char::is_whitespace);
        let facts = self.all_facts().filter(is_word).map(|fact| (fact.name.as_str(), fact.value.as_str()));
        let mut tags = ours.to_vec();
        tags.extend(facts.filter(|(name, _)| ours.iter().all(|(ours, _)| ours != name)));
        tags
    }

    /// The pages about it, each once, that of the whole first.
    pub fn pages(&self) -> Vec<Link> {
        let mut pages: Vec<Link> = Vec::new();
        let whole = self.url.iter().map(|url| Link { title: "All of it".into(), url: url.clone() });
        for page in whole.chain(self.items.iter().flat_map(|item| item.links.clone())) {
            if pages.iter().all(|there| there.url != page.url) {
                pages.push(page);
            }
        }
        pages
    }

    /// How many are left out, as a sentence; `None` if there are none.
    pub fn rest(&self) -> Option<String> {
        match self.left_out {
            0 => None,
            1 => Some("… and 1 more".to_owned()),
            more => Some(format!("… and {more} more")),
        }
    }

    /// When it was, and by which source it came: the small print.
    pub fn origin(&self) -> String {
        match self.time {
            Some(time) => format!("{} · {}", self.source, moment(time)),
            None => self.source.clone(),
        }
    }

    /// The same with [`NAME`] before it.
    pub fn signed(&self) -> String {
        format!("{NAME} · {}", self.origin())
    }

    fn bare(event: &Event, title: String, items: Vec<Item>) -> Self {
        let cluster = event.cluster.iter().map(|cluster| Fact::new("Cluster", cluster));
        let labels = event.labels.iter().map(|(name, value)| Fact::new(name, value));
        Self {
            key: None,
            status: Status::Event,
            severity: Severity::Info,
            recovers: false,
            title,
            url: None,
            facts: cluster.chain(labels).collect(),
            items,
            left_out: 0,
            source: event.source.to_string(),
            kind: event.kind(),
            time: event.time,
        }
    }

    fn of_alerts(event: &Event, group: &Alerts) -> Self {
        // The worst of what goes on comes first: whatever is left out at the end is of less interest.
        let mut alerts: Vec<&Alert> = group.alerts.iter().collect();
        alerts.sort_by_key(|alert| (alert.status == Status::Resolved, Reverse(alert.severity)));
        let common = shared(&alerts);
        // What no service has room for need not be made fit to be seen.
        let (told, untold) = alerts.split_at(alerts.len().min(BUDGETS[0].items));
        let mut items: Vec<Item> = told.iter().map(|alert| item(alert, &common)).collect();
        let title = match &group.title {
            Some(title) => text::line(title),
            None => items.first().map(|item| item.title.clone()).unwrap_or_default(),
        };
        let mut message = Self::bare(event, title, Vec::new());
        if let [alone] = items.as_mut_slice() {
            // A group of one has one title. What the group's says besides is in the labels.
            if group.title.is_none() || group.left_out == 0 {
                message.title = std::mem::take(&mut alone.title);
            }
        } else {
            message.title = format!("{} ({})", message.title, counts(group));
        }
        message.facts.extend(facts(common));
        dedup(&mut message.facts);
        for item in &mut items {
            item.facts.retain(|fact| !message.facts.contains(fact));
        }
        let recovers = !group.alerts.is_empty() && group.alerts.iter().all(|alert| alert.recovers);
        Self {
            key: Some(key(event, &group.group)),
            status: group.status(),
            severity: group.severity(),
            recovers,
            // What is left out can be looked up: on the page about the whole, else on one about a part.
            url: group.url.as_deref().and_then(text::page).or_else(|| {
                let several = items.len() > 1 || group.left_out > 0;
                let mut pages = items.iter().flat_map(|item| &item.links);
                several.then(|| pages.next().map(|link| link.url.clone())).flatten()
            }),
            left_out: group.left_out + untold.len() as u64,
            items,
            ..message
        }
    }

    fn of_git(event: &Event, git: &GitEvent) -> Self {
        let place = git.branch.as_ref().or(git.tag.as_ref()).or(git.reference.as_ref());
        let path = git.repository.as_deref().map(|full| full.split_once('/').map_or(full, |(_, path)| path));
        let ended = git.status.as_deref().or(git.action.as_deref()).or(git.deleted.then_some("deleted"));
        let mut title = path.map(|path| format!("{path}: {}", git.event)).unwrap_or_else(|| git.event.clone());
        for word in [git.name.as_deref(), ended].into_iter().flatten() {
            title = format!("{title} {word}");
        }
        if let Some(place) = place {
            title = format!("{title} on {place}");
        }
        let facts =
            [("Repository", &git.repository), ("Ref", &git.reference), ("Commit", &git.commit), ("By", &git.actor)];
        let facts = facts.iter().filter_map(|(name, value)| Some(Fact::new(name, value.as_deref()?)));
        let links = git.url.as_deref().and_then(text::page).map(|url| Link { title: "Open".into(), url });
        let (severity, recovers) = match git.status.as_deref() {
            Some("failure" | "failed" | "error" | "timed_out" | "startup_failure" | "FAILED" | "ERROR") => {
                (Severity::Error, false)
            }
            Some("success" | "successful" | "SUCCESSFUL" | "succeeded") => (Severity::Info, true),
            _ => (Severity::Info, false),
        };
        let (text, missing) = told(git.message.as_deref());
        let item = Item {
            status: if severity == Severity::Error { Status::Firing } else { Status::Event },
            severity,
            title: String::new(),
            text,
            missing,
            facts: facts.collect(),
            links: links.into_iter().collect(),
        };
        // What ends well or badly is the same thing from run to run: this workflow, in this place.
        let has_end = recovers || severity == Severity::Error;
        let run = [&git.event, git.name.as_ref().unwrap_or(&git.event)].map(String::as_str);
        let place = [git.repository.as_deref(), place.map(String::as_str)].map(Option::unwrap_or_default);
        Self {
            key: has_end.then(|| key(event, &[run, place].concat().join("\n"))),
            status: item.status,
            severity,
            recovers,
            ..Self::bare(event, text::line(&title), vec![item])
        }
    }

    fn of_push(event: &Event, push: &ImagePush) -> Self {
        let name = match (&push.tag, &push.digest) {
            (Some(tag), _) => format!("{}:{tag}", push.repository),
            (None, Some(digest)) => format!("{}@{digest}", push.repository),
            (None, None) => push.repository.clone(),
        };
        let tags = (push.tags.len() > 1).then(|| push.tags.join(", "));
        let facts = [("Tags", &tags), ("Digest", &push.digest), ("By", &push.actor)];
        let facts = facts.iter().filter_map(|(name, value)| Some(Fact::new(name, value.as_deref()?)));
        let item = Item {
            status: Status::Event,
            severity: Severity::Info,
            title: String::new(),
            text: String::new(),
            missing: 0,
            facts: facts.collect(),
            links: Vec::new(),
        };
        Self::bare(event, text::line(&format!("Pushed {name}")), vec![item])
    }
}

/// What is told of a text, and how much of it is not.
fn told(text: Option<&str>) -> (String, usize) {
    text.map(|text| text::beginning(text, BUDGETS[0].text)).unwrap_or_default()
}

/// What incident services know the group `group` of the event's source by.
fn key(event: &Event, group: &str) -> String {
    signature::digest(&["incident", event.source.as_str(), group])[..32].to_owned()
}

/// How many of a group are in which state.
fn counts(group: &Alerts) -> String {
    let count = |status| group.alerts.iter().filter(|alert| alert.status == status).count();
    let parts = [("firing", Status::Firing), ("resolved", Status::Resolved), ("events", Status::Event)];
    let parts = parts.iter().map(|(word, status)| (count(*status), word)).filter(|(count, _)| *count > 0);
    let mut parts: Vec<_> = parts.map(|(count, word)| format!("{count} {word}")).collect();
    if group.left_out > 0 {
        parts.push(format!("{} more", group.left_out));
    }
    parts.join(", ")
}

/// A fact as the sender wrote it.
type Known = (String, String);

/// What is known of an alert besides its texts.
fn known(alert: &Alert) -> Vec<Known> {
    let mut known = Vec::new();
    let mut add = |name: &str, value: &str| known.push((name.to_owned(), value.to_owned()));
    if let Some(cluster) = &alert.cluster {
        add("Cluster", cluster);
    }
    if let Some(object) = &alert.object {
        let name = match &object.namespace {
            Some(namespace) => format!("{namespace}/{}", object.name),
            None => object.name.clone(),
        };
        add(object.kind.as_deref().unwrap_or("Object"), &name);
    }
    if let Some(reason) = &alert.reason {
        add("Reason", reason);
    }
    for (name, value) in &alert.labels {
        add(name, value);
    }
    if let Some(started) = alert.started {
        add("Since", &moment(started));
    }
    if let Some(ended) = alert.ended {
        let after = alert.started.map(|started| format!(" (after {})", span(started, ended))).unwrap_or_default();
        add("Until", &format!("{}{after}", moment(ended)));
    }
    known
}

/// What all of several alerts share.
fn shared(alerts: &[&Alert]) -> Vec<Known> {
    let [first, second, others @ ..] = alerts else { return Vec::new() };
    let mut common = known(first);
    for other in [second].into_iter().chain(others) {
        let other: BTreeSet<_> = known(other).into_iter().collect();
        common.retain(|fact| other.contains(fact));
    }
    common
}

/// Facts as they are shown, without those that then say nothing.
fn facts(known: impl IntoIterator<Item = Known>) -> Vec<Fact> {
    let facts = known.into_iter().map(|(name, value)| Fact::new(&name, &value));
    facts.filter(|fact| !fact.value.is_empty()).take(BUDGETS[0].facts).collect()
}

/// `alert` without what is known of all.
fn item(alert: &Alert, common: &[Known]) -> Item {
    let links = alert
        .links
        .iter()
        .filter_map(|link| Some(Link { title: text::line(&link.title), url: text::page(&link.url)? }));
    let title = text::line(&alert.title);
    let (text, missing) = told(alert.text.as_deref());
    Item {
        status: alert.status,
        severity: alert.severity,
        text: if text == title { String::new() } else { text },
        missing,
        title,
        facts: facts(known(alert).into_iter().filter(|fact| !common.contains(fact))),
        links: links.collect(),
    }
}

/// Drops facts that are there already.
fn dedup(facts: &mut Vec<Fact>) {
    let mut seen = BTreeSet::new();
    facts.retain(|fact| seen.insert(fact.clone()));
}

/// A point in time for people: to the second, in UTC.
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time for people, in its two largest units.
fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (length, unit) in parts {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            words.push(format!("{count} {unit}"));
        }
    }
    words.truncate(2);
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

/// How much of a message is told: numbers of things, and lengths in characters.
#[derive(Debug, Clone, Copy)]
struct Budget {
    items: usize,
    text: usize,
    facts: usize,
    value: usize,
    links: usize,
    title: usize,
}

/// From the most generous to the tightest.
const BUDGETS: &[Budget] = &[
    Budget { items: 20, text: 3000, facts: 30, value: 500, links: 6, title: 250 },
    Budget { items: 20, text: 1500, facts: 20, value: 250, links: 6, title: 250 },
    Budget { items: 20, text: 800, facts: 12, value: 200, links: 3, title: 200 },
    Budget { items: 15, text: 500, facts: 8, value: 150, links: 2, title: 150 },
    Budget { items: 10, text: 300, facts: 6, value: 120, links: 1, title: 150 },
    Budget { items: 10, text: 150, facts: 3, value: 80, links: 1, title: 120 },
    Budget { items: 8, text: 80, facts: 0, value: 0, links: 1, title: 100 },
    // Alerts of a group often have one title: a little of the text tells them apart, which a link does not.
    Budget { items: 5, text: 80, facts: 0, value: 0, links: 0, title: 80 },
    Budget { items: 3, text: 0, facts: 0, value: 0, links: 0, title: 60 },
    Budget { items: 1, text: 0, facts: 0, value: 0, links: 0, title: 60 },
    Budget { items: 0, text: 0, facts: 0, value: 0, links: 0, title: 40 },
];

/// The longest address that the tightest of [`BUDGETS`] has room for, in bytes.
const LONG_URL: usize = 500;

/// How many of [`BUDGETS`] are too generous for a plain, short form.
const PLAIN: usize = 4;

impl Message {
    fn within(&self, budget: Budget) -> Self {
        let characters = |part: &str| Unit::Characters.of(part);
        let limit = |text: &str, limit| text::cut(text, limit, Unit::Characters).into_owned();
        let facts = |facts: &[Fact]| -> Vec<Fact> {
            let facts = facts.iter().take(budget.facts);
            facts.map(|fact| Fact { name: limit(&fact.name, 60), value: limit(&fact.value, budget.value) }).collect()
        };
        let item = |item: &Item| Item {
            title: limit(&item.title, budget.title),
            text: text::cut_before(&item.text, budget.text, item.missing, characters).into_owned(),
            missing: 0,
            facts: facts(&item.facts),
            links: item.links.iter().take(budget.links).cloned().collect(),
            ..*item
        };
        let items: Vec<Item> = self.items.iter().take(budget.items).map(item).collect();
        let dropped = self.items.len() - items.len();
        // A message of one thing whose item does not fit is still told by its title: nothing is left out to count.
        let dropped = if self.items.len() == 1 { 0 } else { dropped };
        Self {
            key: self.key.clone(),
            title: limit(&self.title, budget.title),
            // An address cannot be cut. One that is longer than all else goes last.
            url: self.url.clone().filter(|url| budget.items > 0 || url.len() <= LONG_URL),
            facts: facts(&self.facts),
            items,
            left_out: self.left_out + dropped as u64,
            source: limit(&self.source, 63),
            ..*self
        }
    }

    /// The message as plain text, one thing a line; where there are several items, a blank line between them.
    pub fn plain(&self) -> String {
        let mut lines: Vec<_> = self.facts.iter().map(|fact| format!("{}: {}", fact.name, fact.value)).collect();
        lines.extend(self.rest());
        lines.extend(self.url.clone());
        let mut parts: Vec<_> = self.items.iter().map(Item::plain).collect();
        parts.push(lines.join("\n"));
        parts.retain(|part| !part.is_empty());
        let below = parts.join(if self.items.len() > 1 { "\n\n" } else { "\n" });
        format!("{}\n{below}", self.headline()).trim_end().to_owned()
    }
}

/// What `draw` makes of as much of `message` as `fits`.
pub fn fit<B>(message: &Message, draw: impl Fn(&Message) -> B, fits: impl Fn(&B) -> bool) -> B {
    fit_within(BUDGETS, message, draw, fits)
}

/// [`fit`] for a plain, short form.
pub fn fit_plain<B>(message: &Message, draw: impl Fn(&Message) -> B, fits: impl Fn(&B) -> bool) -> B {
    fit_within(&BUDGETS[PLAIN..], message, draw, fits)
}

fn fit_within<B>(budgets: &[Budget], message: &Message, draw: impl Fn(&Message) -> B, fits: impl Fn(&B) -> bool) -> B {
    let mut drawn = draw(&message.within(budgets[0]));
    for budget in &budgets[1..] {
        if fits(&drawn) {
            break;
        }
        drawn = draw(&message.within(*budget));
    }
    drawn
}
