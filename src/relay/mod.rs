//! The relay file: who tells us, whom we tell, and what goes where.

mod doubts;
pub mod extent;
pub mod format;
pub mod mute;
pub mod schema;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::alert::Status;
use crate::domain::egress;
use crate::domain::event::{Event, Subject};
use crate::domain::matcher::When;
use crate::domain::name::Name;
use crate::domain::notice::Notice;
use crate::domain::secret::{Resolved, SecretRef};
use crate::keys;
use crate::source::auth::{self, AuthError, Authentic};
use crate::source::{self, Claim, Found, Function, Request, Source};
use crate::target::{self, Target};
use extent::{Extent, Whole};
use mute::{Mute, Window};

use format::{At, Fields, Keys, Network, OneOrMany, Problem, Problems, Read, Span, kind_of, suggestion};

/// How long SQS keeps a message at most. Source: «Amazon SQS message quotas» (Developer Guide, read 2026-11).
const KEPT_BY_SQS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A relay file that was read and found to be sound.
#[derive(Debug)]
pub struct Relay {
    /// Who tells us.
    pub sources: BTreeMap<Name, SourceEntry>,
    /// Whom we tell.
    pub targets: BTreeMap<Name, TargetEntry>,
    /// What goes where.
    pub routes: Vec<Route>,
    /// Times of the week, by name, for routes to be mute in.
    pub windows: BTreeMap<Name, Window>,
    /// Where targets may be.
    pub egress: egress::Rules,
}

/// What becomes of an event.
#[derive(Debug)]
pub struct Routed<'r, 'e> {
    /// Whom it is told to, each target once and in the order of the file's routes; of alerts that were told together,
    /// with those that the target's routes take.
    pub told: Vec<(&'r Name, &'r TargetEntry, Cow<'e, Event>)>,
    /// Whether a route that would take something of it is mute.
    pub muted: bool,
}

keys! {
    /// What every source may have.
    pub struct SourceKeys {
        /// For how long after a new value was stored the value before it is still accepted; 0 is never.
        grace: Span = Span::hours(24),
        /// The cluster that this source speaks for; events carry it.
        cluster: Option<String>,
        /// Labels that its events get.
        labels: Option<BTreeMap<String, String>>,
        /// Networks that requests may come from, by the address that the front door saw. Left out: any.
        allow_cidrs: Option<OneOrMany<Network>>,
        /// Whether answers name the targets.
        expose_targets: bool = true,
        /// Whether the sender proves itself by the URL token, `POST /{source}/{token}`, and by nothing else.
        url_token: bool = false,
    }
}

/// One named entry under `sources`.
#[derive(Debug)]
pub struct SourceEntry {
    /// What every source may have.
    pub keys: SourceKeys,
    /// Its row in the list of source types.
    pub of: &'static source::SourceType,
    /// The type's own part.
    pub source: Box<dyn Source>,
    secrets: Vec<SecretRef>,
}

impl SourceEntry {
    /// The secrets that it checks by.
    pub fn secrets(&self) -> &[SecretRef] {
        &self.secrets
    }

    /// The secret from which the URL token is made, where the sender proves itself by that.
    pub fn url_secret(&self) -> Option<&SecretRef> {
        match self.keys.url_token {
            true => self.secrets.first(),
            false => self.source.url_secret(),
        }
    }

    /// The function that takes its requests.
    pub fn function(&self) -> Function {
        self.source.function().unwrap_or(self.of.function)
    }

    /// The kinds of event that it may tell of.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let own = match self.function() {
            Function::GitWebhook => "git",
            Function::RegistryPush => "image_push",
            Function::AlertIntake => "alert",
        };
        std::iter::once(own).chain(self.source.other_kinds().iter().copied())
    }

    /// The events without HTTP that are for this source. One with a URL token takes nothing that has none.
    pub fn claim(&self) -> Option<Claim<'_>> {
        if self.url_secret().is_some() { None } else { self.source.claim() }
    }

    /// What was found in a request as an event of the source `name`, and what tells it from all others: each event of
    /// a request, of which it is the one at `index`, is one of its own.
    pub fn event(&self, name: &Name, found: Found, request_id: &str, index: usize) -> (String, Event) {
        let identity = found.identity.unwrap_or_else(|| match index {
            0 => request_id.to_owned(),
            index => format!("{request_id} {index}"),
        });
        let event = Event {
            detail: found.detail,
            id: Event::id_of(name, &identity),
            source: name.clone(),
            cluster: self.keys.cluster.clone(),
            labels: self.keys.labels.clone().unwrap_or_default(),
            time: found.time,
        };
        (identity, event)
    }

    /// Checks that the request comes from somebody who knows the secret.
    pub fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        match self.keys.url_token {
            true => auth::url_token(request, &self.secrets, secrets),
            false => self.source.authenticate(request, secrets, now),
        }
    }
}

crate::words! {
    /// What becomes of a delivery that was sent and not answered, so that nobody knows whether it arrived.
    pub enum Unanswered {
        /// It is sent again, and may arrive twice.
        Repeat = "repeat",
        /// It becomes a dead letter, and may be lost.
        GiveUp = "give_up",
    }
}

keys! {
    /// How long and how often a delivery is tried.
    pub struct RetryKeys {
        /// For how long a delivery is tried before it becomes a dead letter.
        max_age: Span = Span::hours(24),
        /// What becomes of a delivery that was sent and not answered: repeat, which may tell it twice, or give_up, which
        /// makes it a dead letter. A target that knows a delivery again gets it again in any case.
        unanswered: Unanswered = Unanswered::Repeat,
    }
}

keys! {
    /// What every target may have.
    pub struct TargetKeys {
        /// The cluster that this target is in.
        cluster: Option<String>,
        /// The agent that delivers to it, from inside its network.
        agent: Option<Name>,
        /// How long a delivery is tried.
        retry: Option<RetryKeys>,
        /// The target that is told when this one takes no deliveries any more and has to be mended, when it does again,
        /// and of deliveries that were given up.
        fallback: Option<Name>,
        /// How long one attempt may take.
        timeout: Span = Span::seconds(30),
        /// Whether plain http, or NATS without TLS, is meant even to a public address.
        plaintext: bool = false,
        /// Certificates (PEM) of the authorities to trust, instead of the machine's own.
        ca: Option<SecretRef>,
        /// Certificate and private key (PEM) to show, for mutual TLS.
        client_certificate: Option<SecretRef>,
        /// URL of an HTTP proxy to go through (http://user:password@host:port).
        proxy: Option<SecretRef>,
    }
}

impl TargetKeys {
    /// For how long a delivery is tried before it becomes a dead letter.
    pub fn max_age(&self) -> Duration {
        self.retry.as_ref().map_or(Span::hours(24), |retry| retry.max_age).0
    }

    /// What becomes of a delivery that was sent and not answered.
    pub fn unanswered(&self) -> Unanswered {
        self.retry.as_ref().map_or(Unanswered::Repeat, |retry| retry.unanswered)
    }
}

/// One named entry under `targets`.
#[derive(Debug)]
pub struct TargetEntry {
    /// What every target may have.
    pub keys: TargetKeys,
    /// Its row in the list of target types.
    pub of: &'static target::TargetType,
    /// The type's own part.
    pub target: Box<dyn Target>,
    secrets: Vec<SecretRef>,
}

impl TargetEntry {
    /// The secrets that it needs.
    pub fn secrets(&self) -> &[SecretRef] {
        &self.secrets
    }
}

keys! {
    /// One route.
    pub struct Route {
        /// The sources whose events it takes. Left out: every source.
        from: Option<OneOrMany<Name>>,
        /// Which of their events. Left out: all.
        when: When = When::default(),
        /// The targets that get them.
        to: OneOrMany<Name>,
        /// When it tells nothing but what is over.
        mute: Option<Mute>,
    }
}

keys! {
    /// Where targets may be.
    pub struct EgressKeys {
        /// Networks otherwise refused that targets may be in.
        allow: Option<Vec<Network>>,
    }
}

impl Relay {
    /// Reads a relay file out of parsed YAML or JSON. Every problem is noted; with an error among them there is
    /// no relay file.
    pub fn read(value: &Value, problems: &mut Problems) -> Option<Self> {
        Self::read_of::<Whole>(value, problems)
    }

    /// The same with no more of its sources and targets than `E` has.
    fn read_of<E: Extent>(value: &Value, problems: &mut Problems) -> Option<Self> {
        let root = At::root();
        let mut fields = Fields::of(value, &root, problems)?;
        let sources = fields.take::<Entries<Of<E, SourceEntry>>>("sources", None).map(Entries::of_all);
        let targets = fields.take::<Entries<Of<E, TargetEntry>>>("targets", None).map(Entries::of_all);
        let routes = fields.take("routes", Some(Vec::<Route>::new()));
        let windows = fields.take("windows", Some(BTreeMap::<String, Window>::new()));
        let egress = fields.take::<Option<EgressKeys>>("egress", None);
        fields.finish();
        // Names are checked against what the file says, not against what of it was valid: one problem, once.
        let named = |key: &str| -> BTreeSet<&str> {
            value.get(key).and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
        };
        let (source_names, target_names, window_names) = (named("sources"), named("targets"), named("windows"));
        for (i, route) in routes.iter().flatten().enumerate() {
            let at = root.child("routes").child(i);
            let from = route.from.iter().flat_map(|from| &from.0);
            known(from, &source_names, "source", &at.child("from"), problems);
            known(route.to.0.iter(), &target_names, "target", &at.child("to"), problems);
            let during = route.mute.iter().filter_map(|mute| mute.during.as_ref()).flat_map(|during| &during.0);
            known(during, &window_names, "window", &at.child("mute").child("during"), problems);
        }
        if let Some(routes) = &routes {
            let routed = routes.iter().flat_map(|route| &route.to.0);
            let entries = targets.iter().flat_map(BTreeMap::values);
            let told = entries.filter_map(|entry| entry.keys.fallback.as_ref());
            let used: BTreeSet<_> = routed.chain(told).map(Name::as_str).collect();
            for name in target_names.difference(&used) {
                problems.warning(&root.child("targets").child(name), "no route leads to this target");
            }
        }
        for (i, route) in routes.iter().flatten().enumerate() {
            let targets = route.to.0.iter().filter_map(|name| targets.as_ref()?.get_key_value(name));
            for (name, target) in targets {
                if let Some(why) = in_vain(route, target) {
                    let message = format!("nothing of what this route lets pass is of use to `{name}`: {why}");
                    problems.warning(&root.child("routes").child(i).child("to"), message);
                }
            }
        }
        for (name, entry) in targets.iter().flatten() {
            let Some(fallback) = &entry.keys.fallback else { continue };
            let at = root.child("targets").child(name).child("fallback");
            known([fallback].into_iter(), &target_names, "target", &at, problems);
            if let Some(why) = targets.as_ref().and_then(|targets| unfit_fallback(targets, name, fallback)) {
                problems.error(&at, why);
            }
        }
        for (name, entry) in targets.iter().flatten() {
            if entry.keys.unanswered() == Unanswered::GiveUp && entry.target.is_idempotent() {
                let at = root.child("targets").child(name).child("retry").child("unanswered");
                problems.warning(&at, "this target knows a delivery again, which is repeated whatever stands here");
            }
            if entry.keys.max_age() >= KEPT_BY_SQS {
                let at = root.child("targets").child(name).child("retry").child("max_age");
                problems.warning(&at, "SQS forgets what is older than 14 days, before it would become a dead letter");
            }
        }
        // What is wrong is told first: half of a file says little of what is meant.
        if let (false, Some(sources), Some(routes)) = (problems.has_errors(), &sources, &routes) {
            doubts::note(value, sources, routes, problems);
        }
        for (name, message) in sources.iter().flat_map(contested) {
            problems.warning(&root.child("sources").child(name), message);
        }
        let windows = windows.map(|windows| {
            let named = windows.into_iter().filter_map(|(name, window)| {
                let at = root.child("windows").child(&name);
                Some((Name::parse(&name).map_err(|why| problems.error(&at, why)).ok()?, window))
            });
            named.collect()
        });
        if problems.has_errors() {
            return None;
        }
        let allow = egress?.and_then(|egress| egress.allow).unwrap_or_default();
        Some(Self {
            sources: sources?,
            targets: targets?,
            routes: routes?,
            windows: windows?,
            egress: egress::Rules { allow: allow.into_iter().map(|network| network.0).collect() },
        })
    }

    /// Reads a relay file that has to be sound; the error lists every problem, one a line.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        Self::from_value_of::<Whole>(value)
    }

    /// The same with no more of its sources and targets than `E` has.
    pub fn from_value_of<E: Extent>(value: &Value) -> Result<Self, String> {
        let mut problems = Problems::default();
        Self::read_of::<E>(value, &mut problems).ok_or_else(|| {
            let errors = problems.0.iter().filter(|problem| problem.level == format::Level::Error);
            errors.map(Problem::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    /// Whether a target is delivered to by this agent.
    pub fn has_agent(&self, agent: &Name) -> bool {
        self.targets.values().any(|entry| entry.keys.agent.as_ref() == Some(agent))
    }

    /// How much is in it, in a few words for people.
    pub fn counts(&self) -> String {
        let (sources, targets, routes) = (self.sources.len(), self.targets.len(), self.routes.len());
        format!("sources: {sources}, targets: {targets}, routes: {routes}")
    }

    /// Whom `event` is told to, at the time `now`.
    pub fn route<'e>(&self, event: &'e Event, now: Timestamp) -> Routed<'_, 'e> {
        let subjects = event.subjects();
        let mut taken: Vec<(&Name, Vec<bool>)> = Vec::new();
        let mut muted = false;
        for route in self.routes.iter().filter(|route| route.comes_from(&event.source)) {
            let mute = route.mute.as_ref().is_some_and(|mute| mute.holds(&self.windows, now));
            let mut takes = |subject: &Subject<'_>| {
                let over = subject.alert().is_some_and(|alert| alert.status == Status::Resolved);
                let matches = route.when.matches(*subject);
                muted |= matches && mute && !over;
                matches && (!mute || over)
            };
            let takes: Vec<bool> = subjects.iter().map(&mut takes).collect();
            if !takes.contains(&true) {
                continue;
            }
            for name in &route.to.0 {
                match taken.iter_mut().find(|(target, _)| *target == name) {
                    Some((_, all)) => all.iter_mut().zip(&takes).for_each(|(all, takes)| *all |= takes),
                    None => taken.push((name, takes.clone())),
                }
            }
        }
        let entry = |(name, taken): (_, Vec<bool>)| {
            let (name, entry) = self.targets.get_key_value(name)?;
            Some((name, entry, event.only(&taken)))
        };
        Routed { told: taken.into_iter().filter_map(entry).collect(), muted }
    }
}

impl Route {
    fn comes_from(&self, source: &Name) -> bool {
        self.from.as_ref().is_none_or(|from| from.0.contains(source))
    }
}

/// Why `target` has no use for any event that `route` lets pass, if that is so.
fn in_vain(route: &Route, target: &TargetEntry) -> Option<String> {
    let refusals: Option<Vec<_>> = route.when.kinds().map(|kind| target.target.refuses(kind)).collect();
    refusals?.into_iter().next()
}

/// Why `fallback` cannot be told of `name`, if it cannot.
fn unfit_fallback(targets: &BTreeMap<Name, TargetEntry>, name: &Name, fallback: &Name) -> Option<String> {
    let (entry, other) = (targets.get(name)?, targets.get(fallback)?);
    let mut way = vec![name];
    let mut next = Some(fallback);
    while let Some(one) = next {
        if one == name {
            let way: Vec<_> = way.into_iter().map(Name::as_str).collect();
            return Some(format!("a target cannot be told of itself: {} → {name}", way.join(" → ")));
        }
        if way.contains(&one) {
            break; // The circle is others'.
        }
        way.push(one);
        next = targets.get(one)?.keys.fallback.as_ref();
    }
    if entry.keys.agent != other.keys.agent {
        return Some(format!(
            "whoever delivers to `{name}` does not deliver to `{fallback}`: both need the same `agent`"
        ));
    }
    let notice = Notice::broken(name, "", Timestamp::UNIX_EPOCH).event;
    if let Err(why) = other.target.wants(&notice, None) {
        return Some(format!("`{fallback}` cannot be told of anything: {why}"));
    }
    let needs = other.target.needs_original(&notice);
    needs.then(|| format!("`{fallback}` passes on what senders sent, and notices have no sender"))
}

/// Sources that could take the same event without HTTP: it goes to the first by name of those that name its origin, else
/// of those that take any.
fn contested(sources: &BTreeMap<Name, SourceEntry>) -> Vec<(&Name, String)> {
    let mut claims: Vec<_> =
        sources.iter().filter_map(|(name, entry)| Some((name, entry.function(), entry.claim()?))).collect();
    claims.sort_by_key(|(_, _, claim)| claim.sources.is_none());
    let mut found = Vec::new();
    for (i, (second, function, claim)) in claims.iter().enumerate() {
        let first = claims[..i].iter().find(|(_, other, first)| other == function && first.overlaps(claim));
        if let Some((first, _, of)) = first {
            let why = match of.sources.is_some() == claim.sources.is_some() {
                true => "as it is the first by name",
                false => "as its type is for some of them",
            };
            let message = format!(
                "events without HTTP could be for this source as well as for `{first}`, which gets them, {why}; \
                 `accounts`, `regions` or `topics` keep them apart"
            );
            found.push((*second, message));
        }
    }
    found
}

fn known<'a>(
    names: impl Iterator<Item = &'a Name>,
    known: &BTreeSet<&str>,
    what: &str,
    at: &At,
    problems: &mut Problems,
) {
    for name in names.filter(|name| !known.contains(name.as_str())) {
        let hint = suggestion(name.as_str(), known.iter().copied()).map(|hint| format!("; {hint}")).unwrap_or_default();
        problems.error(at, format!("there is no {what} named `{name}`{hint}"));
    }
}

/// Named entries, each of a type.
struct Entries<T>(BTreeMap<Name, T>);

/// An entry of a type: how one of `sources` or `targets` is read.
trait Entry: Sized {
    /// The names of all types.
    fn types() -> Vec<&'static str>;
    /// Reads the entry's keys, the type aside.
    fn of_type(word: &str, fields: &mut Fields<'_, '_>) -> Option<Self>;
    /// The schema of the map of all entries.
    fn schema() -> Value;
}

/// An entry with no more of its type than `E` has.
struct Of<E, T> {
    entry: T,
    extent: PhantomData<E>,
}

impl<E, T> Of<E, T> {
    fn new(entry: T) -> Self {
        Self { entry, extent: PhantomData }
    }
}

impl<E, T> Entries<Of<E, T>> {
    fn of_all(self) -> BTreeMap<Name, T> {
        self.0.into_iter().map(|(name, of)| (name, of.entry)).collect()
    }
}

impl<T: Entry> Read for Entries<T> {
    fn absent() -> Option<Self> {
        Some(Self(BTreeMap::new()))
    }

    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        let Value::Object(object) = value else {
            problems.error(at, format!("expected named entries, found {}", kind_of(value)));
            return None;
        };
        let mut entries = BTreeMap::new();
        for (key, value) in object {
            let at = at.child(key);
            let name = Name::parse(key).map_err(|why| problems.error(&at, why)).ok();
            let Some(mut fields) = Fields::of(value, &at, problems) else { continue };
            let Some(word) = fields.take::<String>("type", None) else { continue };
            if !T::types().contains(&word.as_str()) {
                let hint =
                    suggestion(&word, T::types()).unwrap_or_else(|| format!("known types: {}", T::types().join(", ")));
                fields.problems().error(&at.child("type"), format!("unknown type; {hint}"));
                continue;
            }
            let entry = T::of_type(&word, &mut fields);
            fields.finish();
            if let (Some(name), Some(entry)) = (name, entry) {
                entries.insert(name, entry);
            }
        }
        (entries.len() == object.len()).then_some(Self(entries))
    }

    fn schema() -> Value {
        T::schema()
    }
}

fn entries_schema(variants: Vec<Value>) -> Value {
    json!({ "type": "object", "propertyNames": Name::schema(), "additionalProperties": { "oneOf": variants } })
}

impl<E: Extent> Entry for Of<E, SourceEntry> {
    fn types() -> Vec<&'static str> {
        E::sources().iter().map(|of| of.name).collect()
    }

    fn of_type(word: &str, fields: &mut Fields<'_, '_>) -> Option<Self> {
        let of = E::sources().iter().find(|of| of.name == word)?;
        let source = (of.read)(fields);
        let keys = SourceKeys::take(fields);
        let (source, keys) = (source?, keys?);
        let at = fields.at();
        source.check(&at, fields.problems());
        let mut secrets = Vec::new();
        source.secrets(&mut |reference| secrets.push(reference.clone()));
        // What is public is known to everybody: no token is made from a key set.
        if keys.url_token && (secrets.is_empty() || !secrets.iter().all(SecretRef::is_secret)) {
            let at = fields.at().child("url_token");
            fields.problems().error(&at, "a URL token is made from a secret, and this source has none");
            return None;
        }
        Some(Self::new(SourceEntry { keys, of, source, secrets }))
    }

    fn schema() -> Value {
        let schema = |of: &source::SourceType| {
            let mut keys = of.keys();
            SourceKeys::describe(&mut keys);
            schema::typed(of.name, &keys)
        };
        entries_schema(E::sources().iter().map(schema).collect())
    }
}

impl<E: Extent> Entry for Of<E, TargetEntry> {
    fn types() -> Vec<&'static str> {
        E::targets().iter().map(|of| of.name).collect()
    }

    fn of_type(word: &str, fields: &mut Fields<'_, '_>) -> Option<Self> {
        let of = E::targets().iter().find(|of| of.name == word)?;
        let target = (of.read)(fields);
        let keys = TargetKeys::take(fields);
        let (target, keys) = (target?, keys?);
        if keys.proxy.is_some() && !target.by_http() {
            let at = fields.at().child("proxy");
            fields.problems().error(&at, "no HTTP proxy leads to this type of target");
        }
        let mut secrets = Vec::new();
        target.secrets(&mut |reference| secrets.push(reference.clone()));
        Keys::secrets(&keys, &mut |reference| secrets.push(reference.clone()));
        Some(Self::new(TargetEntry { keys, of, target, secrets }))
    }

    fn schema() -> Value {
        let schema = |of: &target::TargetType| {
            let mut keys = of.keys();
            TargetKeys::describe(&mut keys);
            schema::typed(of.name, &keys)
        };
        entries_schema(E::targets().iter().map(schema).collect())
    }
}
