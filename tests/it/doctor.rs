//! The doctor: what it asks, what it makes of the answers, and that it tells nobody anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sluice::deliver::breaker;
use sluice::doctor::{Answer, Caller, Deployed, Deployment, Doctor, Level, QueueFacts, TableFacts};
use sluice::domain::name::Name;
use sluice::port::{Clock as _, Connection, Dialer, Dialled, FetchError, Key, Record, SendError, State as _};
use sluice::probe::Probe;
use sluice::rim::tokens::TokenSender;
use sluice::target::Outbound;
use tokio::time::Instant;

use crate::fakes::{FakeClock, FakeMeter, FakeSecrets, FakeSender, FakeState, relay, store};

/// Connects to everything, unless a test says otherwise, and notes to what.
#[derive(Default)]
struct FakeDialer {
    dialled: Mutex<Vec<(String, Connection)>>,
    answer: Mutex<Option<Result<Dialled, SendError>>>,
}

#[async_trait]
impl Dialer for FakeDialer {
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        _: Duration,
        _: Duration,
    ) -> Result<Dialled, SendError> {
        self.dialled.lock().expect("lock").push((request.url.clone(), connection.clone()));
        let answer = self.answer.lock().expect("lock").clone();
        answer.unwrap_or(Ok(Dialled { encrypted: true, ends: None }))
    }
}

/// An AWS in which everything is as it should be, unless a test says otherwise.
struct FakeAws {
    caller: Caller,
    queues: BTreeMap<&'static str, Result<QueueFacts, FetchError>>,
    table: Result<TableFacts, FetchError>,
}

impl Default for FakeAws {
    fn default() -> Self {
        let time = Some(FakeClock::default().now());
        let keys = vec!["pk HASH S".into(), "sk RANGE S".into()];
        Self {
            caller: Caller { arn: Ok("arn:aws:iam::111122223333:user/ann".into()), time },
            queues: BTreeMap::new(),
            table: Ok(TableFacts { keys, expires: Some("expires".into()) }),
        }
    }
}

#[async_trait]
impl Deployed for FakeAws {
    async fn caller(&self) -> Caller {
        self.caller.clone()
    }

    async fn queue(&self, url: &str) -> Result<QueueFacts, FetchError> {
        self.queues.get(url).cloned().unwrap_or(Err(FetchError::NotFound))
    }

    async fn table(&self, _: &str) -> Result<TableFacts, FetchError> {
        self.table.clone()
    }
}

struct World {
    doctor: Doctor,
    secrets: Arc<FakeSecrets>,
    dialer: Arc<FakeDialer>,
    sender: Arc<FakeSender>,
}

fn world(text: &str) -> World {
    let secrets = Arc::new(FakeSecrets::default());
    let clock = Arc::new(FakeClock::default());
    let (dialer, sender) = (Arc::new(FakeDialer::default()), Arc::new(FakeSender::default()));
    let probe = Probe {
        relay: relay(text),
        agent: None,
        secrets: store(&secrets, &clock),
        sender: sender.clone(),
        meter: Arc::new(FakeMeter::default()),
    };
    World { doctor: Doctor { probe, dialer: dialer.clone(), clock, deployment: None }, secrets, dialer, sender }
}

impl World {
    async fn answers(&self) -> Vec<Answer> {
        let answers = self.doctor.run().await;
        let all = format!("{answers:?}");
        assert!(!all.contains("hunter2"), "{all}");
        answers
    }

    /// The level and the message of what is said about one thing.
    async fn says(&self, about: &str, name: &str) -> (Level, String) {
        let answers = self.answers().await;
        let mut found = answers.iter().filter(|answer| answer.about == about && answer.name == name);
        match (found.next(), found.next()) {
            (Some(one), None) => (one.level, one.message.clone()),
            _ => panic!("not one answer about {about} {name}: {answers:?}"),
        }
    }

    fn dialled(&self) -> Vec<String> {
        self.dialer.dialled.lock().expect("lock").iter().map(|(url, _)| url.clone()).collect()
    }
}

const SOURCES: &str = "sources: { hub: { type: dockerhub, secret: \"ssm:/hub\" } }";

#[tokio::test]
async fn what_keeps_a_secret_from_being_read_is_told_apart_and_says_what_to_do() {
    let table = [
        (FetchError::NotFound, "not found; make it"),
        (FetchError::Denied("AccessDeniedException: no".into()), "access denied: AccessDeniedException: no; allow it"),
        (
            FetchError::Unavailable("ThrottlingException: Rate exceeded".into()),
            "ThrottlingException: Rate exceeded; try again",
        ),
        (FetchError::Unusable("`a` is not a key of the stored JSON".into()), "`a` is not a key of the stored JSON"),
    ];
    for (error, said) in table {
        let world = world(SOURCES);
        world.secrets.fail(Some(error));
        let (level, message) = world.says("secret", "ssm:/hub").await;
        assert_eq!(level, Level::Problem);
        assert!(message.contains(said) && message.ends_with("(for sources.hub)"), "{message}");
    }
}

#[tokio::test]
async fn an_empty_secret_is_a_problem_and_a_newline_at_its_end_a_warning() {
    let world = world(SOURCES);
    world.secrets.set("ssm:/hub", &[""]);
    assert_eq!(world.says("secret", "ssm:/hub").await.0, Level::Problem);
    let world = self::world(SOURCES);
    world.secrets.set("ssm:/hub", &["hunter2\n"]);
    let (level, message) = world.says("secret", "ssm:/hub").await;
    assert_eq!(level, Level::Warning);
    assert!(message.contains("white space"), "{message}");
}

#[tokio::test]
async fn a_secret_that_was_rotated_says_when_and_until_when_the_value_before_it_is_accepted() {
    let world = world(
        "sources:\n  hub: { type: dockerhub, secret: \"ssm:/hub\", grace: 12h }\n  quay: { type: quay, secret: \"ssm:/hub\", grace: 0 }",
    );
    world.secrets.set("ssm:/hub", &["hunter2-new", "hunter2-old"]);
    let (level, message) = world.says("secret", "ssm:/hub").await;
    assert_eq!(level, Level::Fine);
    assert!(message.contains("made 2026-08-20T12:00:00Z"), "{message}");
    assert!(message.contains("source `hub` accepts the value before it until 2026-08-21T00:00:00Z"), "{message}");
    assert!(!message.contains("`quay` accepts") && message.ends_with("(for sources.hub, sources.quay)"), "{message}");
}

#[tokio::test]
async fn a_secret_that_no_sender_could_sign_by_is_a_problem_of_its_source() {
    let text = "sources: { hooks: { type: standard-webhooks, emits: alert, secret: \"ssm:/hooks\" } }";
    let good = world(text);
    good.secrets.set("ssm:/hooks", &["whsec_aHVudGVyMmh1bnRlcjJodW50ZXIy"]);
    assert!(good.answers().await.iter().all(|answer| answer.about != "source"));
    let bad = world(text);
    bad.secrets.set("ssm:/hooks", &["hunter2, which is not base64"]);
    let (level, message) = bad.says("source", "hooks").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("whsec_<base64>"), "{message}");
}

const SLACK: &str = "targets: { oncall: { type: slack, webhook: \"ssm:/slack\" } }";

#[tokio::test]
async fn a_target_is_connected_to_where_its_deliveries_would_go_and_nothing_is_sent() {
    let world = world(&format!("{SLACK}\nroutes: [ {{ to: oncall }} ]"));
    world.secrets.set("ssm:/slack", &["https://hooks.example.com/services/hunter2"]);
    let (level, message) = world.says("target", "oncall").await;
    assert_eq!((level, message.as_str()), (Level::Fine, "it can be connected to, by TLS"));
    assert_eq!(world.dialled(), ["https://hooks.example.com/services/hunter2"]);
    assert!(world.sender.sent().is_empty());
}

#[tokio::test]
async fn a_webhook_that_is_no_url_and_a_key_that_cannot_sign_are_problems_that_need_no_connection() {
    let slack = world(SLACK);
    slack.secrets.set("ssm:/slack", &["hunter2"]);
    let (level, message) = slack.says("target", "oncall").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("is not the URL of a webhook"), "{message}");
    assert!(slack.dialled().is_empty());

    let text = "targets:\n  checks: { type: github-status, repository: acme/app, app_id: 1, installation_id: 2, private_key: \"ssm:/key\" }";
    let mut github = world(text);
    github.doctor.dialer = Arc::new(TokenSender::new());
    github.secrets.set("ssm:/key", &["hunter2"]);
    let (level, message) = github.says("target", "checks").await;
    assert_eq!(
        (level, message.as_str()),
        (Level::Problem, "the private key is not PEM; correct what the target's key refers to")
    );
}

#[tokio::test]
async fn a_target_whose_secret_is_not_there_is_not_asked() {
    let (level, message) = world(SLACK).says("target", "oncall").await;
    assert_eq!(level, Level::NotAsked);
    assert!(message.contains("ssm:/slack"), "{message}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_the_end_of_a_certificate_is_a_warning() {
    let world = world(SLACK);
    world.secrets.set("ssm:/slack", &["https://hooks.example.com/services/hunter2"]);
    let end: Timestamp = "2026-08-25T00:00:00Z".parse().expect("time");
    let table = [
        (Err(SendError::Connect("refused".into())), Level::Problem, "security groups"),
        (Err(SendError::Tls("expired".into())), Level::Problem, "is the certificate current"),
        (Err(SendError::Egress("egress: 169.254.169.254 is".into())), Level::Problem, "egress: 169"),
        (Ok(Dialled { encrypted: true, ends: Some(end) }), Level::Warning, "its certificate ends 2026-08-25T00:00:00Z"),
        (Ok(Dialled { encrypted: false, ends: None }), Level::Fine, "without TLS"),
    ];
    for (answer, expected, said) in table {
        *world.dialer.answer.lock().expect("lock") = Some(answer);
        let (level, message) = world.says("target", "oncall").await;
        assert_eq!(level, expected, "{message}");
        assert!(message.contains(said), "{message}");
    }
}

#[tokio::test]
async fn receivers_are_asked_for_by_the_probe_and_what_only_an_agent_reaches_is_not_asked() {
    let flux = |more: &str| {
        format!(
            "{{ type: flux, url: \"https://flux.example.com\", token: \"ssm:/token\"{more}, \
             receiver: {{ type: generic, name: apps, namespace: flux-system }} }}"
        )
    };
    let text = format!("targets:\n  here: {}\n  there: {}", flux(""), flux(", agent: inside"));
    let mut world = world(&text);
    world.secrets.set("ssm:/token", &["hunter2-token"]);
    world.sender.answer(404, "");
    world.sender.answer(404, "404 page not found\n");
    let answers = world.answers().await;
    let of = |name: &str| answers.iter().find(|answer| answer.about == "target" && answer.name == name).expect(name);
    assert_eq!((of("here").level, of("here").message.as_str()), (Level::Fine, "the controller is there"));
    assert_eq!(of("there").level, Level::NotAsked);
    assert!(world.sender.sent().iter().all(|request| request.method == "GET"));

    world.sender.answer(202, "");
    let (level, message) = world.says("target", "here").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("webhook-receiver"), "{message}");
    assert!(world.dialled().is_empty());

    world.doctor.probe.agent = Some(Name::parse("inside").expect("name"));
    world.sender.answer(404, "");
    world.sender.answer(404, "404 page not found\n");
    assert_eq!(world.says("target", "there").await.0, Level::Fine);
    assert_eq!(world.sender.sent().len(), 5, "the other one was not asked again");
}

#[tokio::test]
async fn every_type_of_target_that_is_asked_is_asked_where_it_is() {
    let yaml = include_str!("../support/chats.yaml").lines().map(|line| format!("  {line}\n")).collect::<String>();
    let world = world(&format!("targets:\n{yaml}"));
    for entry in world.doctor.probe.relay.targets.values() {
        for reference in entry.secrets() {
            let value = match reference.to_string().as_str() {
                "env:U" => crate::any_target::URL,
                "env:D" => crate::any_target::DSN,
                _ => crate::any_target::TOKEN,
            };
            world.secrets.set(&reference.to_string(), &[value]);
        }
    }
    let answers = world.answers().await;
    let asked: Vec<_> = answers.iter().filter(|answer| answer.about == "target").collect();
    assert!(asked.len() > 20, "{asked:?}");
    for answer in &asked {
        assert_eq!(answer.level, Level::Fine, "{answer:?}");
    }
    assert_eq!(world.dialled().len(), asked.len());
}

#[derive(Default)]
struct Silence {
    at_once: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl Dialer for Silence {
    async fn dial(&self, _: &Outbound, _: &Connection, timeout: Duration, _: Duration) -> Result<Dialled, SendError> {
        self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(timeout).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Err(SendError::Connect(format!("none within {timeout:?}")))
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_targets_are_silent_it_ends_within_a_minute() {
    let targets: String =
        (0..400).map(|i| format!("  t{i}: {{ type: http, url: \"https://t{i}.example.com\" }}\n")).collect();
    let mut world = world(&format!("targets:\n{targets}"));
    let silence = Arc::new(Silence::default());
    world.doctor.dialer = silence.clone();
    let began = Instant::now();
    let answers = world.answers().await;
    assert_eq!(answers.iter().filter(|answer| answer.level == Level::Problem).count(), 400);
    assert!(began.elapsed() <= Duration::from_secs(61), "{:?}", began.elapsed());
    assert!(silence.most.load(Ordering::SeqCst) <= 16);
}

#[tokio::test]
async fn where_nothing_of_aws_is_named_it_is_not_asked_and_that_is_said() {
    let (level, message) = world(SOURCES).says("aws", "").await;
    assert_eq!(level, Level::NotAsked);
    assert!(message.contains("SLUICE_QUEUE_URL"), "{message}");
}

fn facts() -> QueueFacts {
    QueueFacts { is_fifo: true, limit: 262_144, retention: Duration::from_secs(14 * 86_400), waiting: 0, hidden: 0 }
}

/// A world with a deployment in which there is what `aws` says.
fn deployed(text: &str, aws: FakeAws) -> (World, Arc<FakeState>) {
    let mut world = world(text);
    let state = Arc::new(FakeState::default());
    world.doctor.deployment = Some(Deployment {
        aws: Arc::new(aws),
        queue: Some("https://sqs.test/1/deliveries.fifo".into()),
        dead_letters: vec!["https://sqs.test/1/dead.fifo".into(), "https://sqs.test/1/failed".into()],
        agents: BTreeMap::new(),
        queue_limit: 262_144,
        table: Some(("state".into(), state.clone())),
    });
    (world, state)
}

fn queues(deliveries: QueueFacts, dead: QueueFacts, failed: QueueFacts) -> FakeAws {
    let queues = BTreeMap::from([
        ("https://sqs.test/1/deliveries.fifo", Ok(deliveries)),
        ("https://sqs.test/1/dead.fifo", Ok(dead)),
        ("https://sqs.test/1/failed", Ok(failed)),
    ]);
    FakeAws { queues, ..FakeAws::default() }
}

#[tokio::test]
async fn a_deployment_in_which_all_is_well_has_no_problem_and_no_warning() {
    let standard = QueueFacts { is_fifo: false, limit: 1024, ..facts() };
    let (world, _) = deployed(SLACK, queues(QueueFacts { waiting: 3, hidden: 2, ..facts() }, facts(), standard));
    world.secrets.set("ssm:/slack", &["https://hooks.example.com/services/hunter2"]);
    let answers = world.answers().await;
    assert!(answers.iter().all(|answer| answer.level == Level::Fine), "{answers:?}");
    assert_eq!(
        answers.iter().map(|answer| answer.about).collect::<Vec<_>>(),
        ["aws", "queue", "dead-letter queue", "dead-letter queue", "state", "secret", "target"]
    );
    assert!(answers[0].message.contains("arn:aws:iam::111122223333:user/ann"));
    assert_eq!(answers[1].message, "waiting: 3, worked on or held: 2");
}

#[tokio::test]
async fn queues_that_are_not_there_or_not_set_up_as_needed_are_problems() {
    let text = format!("{SLACK}\nroutes: []").replace("webhook", "retry: { max_age: 4d }, webhook");
    let table = [
        (QueueFacts { is_fifo: false, ..facts() }, "is not a FIFO queue"),
        (QueueFacts { limit: 1024, ..facts() }, "takes 1024 bytes"),
        (QueueFacts { retention: Duration::from_secs(4 * 86_400), ..facts() }, "forgets deliveries after 345600 s"),
    ];
    for (wrong, said) in table {
        let (world, _) = deployed(&text, queues(wrong, facts(), facts()));
        let (level, message) = world.says("queue", "deliveries.fifo").await;
        assert_eq!(level, Level::Problem);
        assert!(message.contains(said), "{message}");
    }
    let (world, _) = deployed(&text, FakeAws::default());
    let (level, message) = world.says("queue", "deliveries.fifo").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("not found"), "{message}");
}

#[tokio::test]
async fn dead_letters_that_wait_are_a_warning_with_the_command_that_shows_them() {
    let waiting = QueueFacts { waiting: 7, ..facts() };
    let (world, _) = deployed(SLACK, queues(facts(), waiting.clone(), QueueFacts { is_fifo: false, ..waiting }));
    for (name, url) in [("dead.fifo", "https://sqs.test/1/dead.fifo"), ("failed", "https://sqs.test/1/failed")] {
        let (level, message) = world.says("dead-letter queue", name).await;
        assert_eq!(level, Level::Warning);
        assert!(message.contains(&format!("sluice dead-letters list --queue {url}")), "{message}");
    }
    let (world, _) = deployed(SLACK, queues(facts(), QueueFacts { is_fifo: false, ..facts() }, facts()));
    assert_eq!(world.says("dead-letter queue", "dead.fifo").await.0, Level::Problem);
}

#[tokio::test]
async fn an_agent_for_which_no_queue_is_named_is_a_problem() {
    let text = "targets: { inside: { type: http, url: \"https://x.example.com\", agent: prod } }";
    let (mut world, _) = deployed(text, queues(facts(), facts(), facts()));
    let (level, message) = world.says("agent", "prod").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("SLUICE_AGENT_QUEUES"), "{message}");
    let agents = BTreeMap::from([(Name::parse("prod").expect("name"), "https://sqs.test/1/deliveries.fifo".into())]);
    world.doctor.deployment.as_mut().expect("there is one").agents = agents;
    assert!(world.answers().await.iter().all(|answer| answer.about != "agent"));
}

#[tokio::test]
async fn a_table_with_other_keys_or_without_expiry_is_a_problem() {
    let keys = || vec!["pk HASH S".to_owned(), "sk RANGE S".to_owned()];
    let table = [
        (TableFacts { keys: vec!["id HASH S".into()], expires: Some("expires".into()) }, "has the keys id HASH S, not"),
        (TableFacts { keys: keys(), expires: None }, "switch on TTL"),
        (TableFacts { keys: keys(), expires: Some("ttl".into()) }, "by `ttl`, not by `expires`"),
    ];
    for (facts, said) in table {
        let (world, _) = deployed(SLACK, FakeAws { table: Ok(facts), ..FakeAws::default() });
        let (level, message) = world.says("state", "state").await;
        assert_eq!(level, Level::Problem);
        assert!(message.contains(said), "{message}");
    }
    let denied = FetchError::Denied("AccessDeniedException: dynamodb:DescribeTable".into());
    let (world, state) = deployed(SLACK, FakeAws { table: Err(denied), ..FakeAws::default() });
    state.set_down(true);
    assert!(world.says("state", "state").await.1.contains("dynamodb:DescribeTable"));
    assert_eq!(world.answers().await.iter().filter(|answer| answer.about == "state").count(), 1, "once is enough");
}

#[tokio::test]
async fn an_open_breaker_is_a_problem_with_its_reason() {
    let (world, state) = deployed(SLACK, FakeAws::default());
    let now = FakeClock::default().now();
    let value = json!({ "since": now, "reason": "401: invalid_token", "failures": 3, "next": now, "told": true });
    let key = Key { pk: "target#oncall".into(), sk: "breaker".into() };
    let expires = now + SignedDuration::from_hours(1);
    state.put(&key, Record { value, expires }).await.expect("state");
    let name = Name::parse("oncall").expect("name");
    assert!(breaker::open(state.as_ref(), &name).await.expect("state").is_some(), "it is read as `deliver` reads it");
    let (level, message) = world.says("breaker", "oncall").await;
    assert_eq!(level, Level::Problem);
    assert!(message.contains("open since 2026-08-20T12:00:00Z") && message.contains("401: invalid_token"), "{message}");
    state.set_down(true);
    let answers = world.answers().await;
    let unseen = answers.iter().find(|answer| answer.about == "state" && answer.level == Level::Problem);
    assert!(unseen.is_some_and(|answer| answer.message.contains("it is down")), "{answers:?}");
}

#[tokio::test]
async fn overdue_deliveries_are_a_warning_of_their_target() {
    let (world, state) = deployed(SLACK, FakeAws::default());
    let now = FakeClock::default().now();
    for (id, minutes) in [("1", 16), ("2", 40), ("3", 2)] {
        let value =
            json!({ "count": 4, "receives": 4, "alone": false, "queued": now - SignedDuration::from_mins(minutes) });
        let key = Key { pk: "target#oncall".into(), sk: format!("delivery#{id}#0") };
        state.put(&key, Record { value, expires: now + SignedDuration::from_hours(48) }).await.expect("state");
    }
    let (level, message) = world.says("deliveries", "oncall").await;
    assert_eq!(level, Level::Warning);
    assert!(
        message.contains("at least 2 failed") && message.contains("the oldest of 2026-08-20T11:20:00Z"),
        "{message}"
    );
}

#[tokio::test]
async fn a_clock_that_is_off_explains_why_aws_refuses_whoever_asks() {
    let now = FakeClock::default().now();
    let refused = || Err(FetchError::Denied("SignatureDoesNotMatch: Signature expired".into()));
    let table = [
        (Ok("arn".to_owned()), Some(now - SignedDuration::from_secs(299)), Level::Fine, "agrees"),
        (refused(), Some(now - SignedDuration::from_secs(301)), Level::Problem, "301 s apart"),
        (refused(), Some(now + SignedDuration::from_secs(3600)), Level::Problem, "3600 s apart"),
        (refused(), Some(now), Level::Problem, "SignatureDoesNotMatch"),
        (Err(FetchError::Unavailable("no providers".into())), None, Level::Problem, "are there credentials"),
    ];
    for (arn, time, expected, said) in table {
        let (world, _) = deployed(SLACK, FakeAws { caller: Caller { arn, time }, ..FakeAws::default() });
        let (level, message) = world.says("aws", "").await;
        assert_eq!(level, expected, "{message}");
        assert!(message.contains(said), "{message}");
    }
}
