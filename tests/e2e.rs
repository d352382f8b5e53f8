//! End to end, with nothing faked but the cloud: the function binaries under a Lambda runtime emulator, an emulated
//! AWS behind the real SDK, and a Receiver that checks what it gets as Flux does.
//!
//! The binaries are those that cargo has built for this test, or those in `SLUICE_TEST_BIN_DIR`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/cloud.rs"]
mod cloud;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/lambda.rs"]
mod lambda;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use cloud::{Agent, Cloud, REGION, SECRET, TOKEN, google, mac, moto};
use faults::{Fault, Faults};
use lambda::{HttpAnswer, HttpEvent, batch_item_failures, queue_arn, sqs_event};
use receiver::{FluxReceivers, Receiver, webhook_path};
use serde_json::{Value, json};
use sluice::domain::delivery::DeadLetter;
use sluice::domain::outcome::GivenUp;

/// How long a test waits for what it says will come.
const PATIENCE: Duration = Duration::from_secs(60);

fn sample(name: &str) -> (Vec<(String, String)>, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events/github");
    let headers = std::fs::read_to_string(folder.join(format!("{name}.headers"))).expect("headers");
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (headers, std::fs::read(folder.join(format!("{name}.json"))).expect("body"))
}

/// A push as Docker Hub tells it: unsigned, to a URL that only who knows the secret can know.
fn hub(tag: &str, secret: &str) -> HttpEvent {
    let push = json!({
        "push_data": { "tag": tag, "pushed_at": 1_787_220_131, "pusher": "acme" },
        "repository": { "repo_name": "acme/app", "namespace": "acme", "name": "app" },
    });
    let event = HttpEvent::post(&format!("/hub/{}", mac(secret, b"sluice:hub")));
    event.header("Content-Type", "application/json").body(push.to_string())
}

/// A delivery as GitHub makes it.
fn github(name: &str, delivery_id: &str, secret: &str) -> HttpEvent {
    let (headers, body) = sample(name);
    let signature = format!("sha256={}", mac(secret, &body));
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    HttpEvent::post("/github")
        .headers(headers.filter(|(name, _)| !name.eq_ignore_ascii_case("x-github-delivery")))
        .header("X-GitHub-Delivery", delivery_id)
        .header("X-Hub-Signature-256", &signature)
        .body(body)
}

fn delivery_of(answer: &HttpAnswer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["deliveries"][0]["id"].as_str().expect("delivery").to_owned()
}

#[tokio::test]
async fn a_github_push_comes_out_at_a_flux_receiver_with_the_path_headers_and_signature_it_checks() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let answer = intake.http(github("push", "d-1", SECRET)).await.expect("answer");
    let id = delivery_of(&answer);
    assert_eq!(
        answer.json(),
        json!({ "id": "d-1", "source": "github", "event": "push refs/heads/main", "deliveries": [{ "id": id, "target": "prod" }] })
    );
    assert!(cloud.trigger(&deliver).await.is_empty());
    cloud.receivers.assert_nothing_rejected();
    let accepted = cloud.receivers.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].body, sample("push").1, "the sender's own body, unchanged");
    assert_eq!(
        (accepted[0].header("x-github-event"), accepted[0].header("x-github-delivery")),
        (Some("push"), Some("d-1"))
    );
    assert_eq!(cloud.left().await, 0);
    assert!(cloud.state().await.is_empty(), "what passes at once costs no write");

    // Redelivered by hand within five minutes: one delivery.
    assert_eq!(delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer")), id);
    assert_eq!(cloud.left().await, 0);

    for function in [&intake, &deliver] {
        let output = function.output().await;
        assert!(output.contains("\"level\":\"INFO\""), "logs are JSON: {output}");
        assert!(output.contains("CloudWatchMetrics"), "metrics are in the log: {output}");
        for secret in ["hunter2", accepted[0].target.as_str()] {
            assert!(!output.contains(secret), "{secret} in the log: {output}");
        }
    }
}

#[tokio::test]
async fn registry_pushes_come_in_by_url_token_and_by_eventbridge_and_out_at_the_same_receiver() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("registry-push").await, cloud.function("deliver").await);
    delivery_of(&intake.http(hub("1.2.3", SECRET)).await.expect("answer"));
    assert_eq!(intake.http(hub("1.2.3", "another secret")).await.expect("answer").status, 404);
    assert_eq!(intake.http(github("push", "d-1", SECRET)).await.expect("answer").status, 404, "another function's");

    let image = |region: &str, tag: &str| {
        json!({
            "version": "0", "id": format!("e-{tag}"), "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": "123456789012", "time": "2026-08-20T10:00:00Z", "region": region, "resources": [],
            "detail": {
                "action-type": "PUSH", "result": "SUCCESS", "repository-name": "acme/app", "image-tag": tag,
                "image-digest": format!("sha256:{}", "a".repeat(64)),
            },
        })
    };
    intake.invoke(image(REGION, "2.0.0")).await.expect("taken");
    intake.invoke(image("us-east-1", "3.0.0")).await.expect("nobody's, and no failure");
    assert!(cloud.trigger(&deliver).await.is_empty());
    let told: Vec<_> = cloud.receivers.accepted().iter().map(|one| one.json()).collect();
    let told: Vec<_> = told.iter().map(|event| (event["repository"].as_str(), event["tag"].as_str())).collect();
    let ecr = format!("123456789012.dkr.ecr.{REGION}.amazonaws.com/acme/app");
    assert_eq!(told, [(Some("docker.io/acme/app"), Some("1.2.3")), (Some(ecr.as_str()), Some("2.0.0"))]);

    // Where HTTP would say 503, the invocation fails, so that EventBridge tries again.
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto().url());
    let cut_off = cloud.function_with("registry-push", &[("SLUICE_QUEUE_URL", &nowhere)]).await;
    assert!(cut_off.invoke(image(REGION, "4.0.0")).await.is_err());
    assert!(!intake.output().await.contains(&mac(SECRET, b"sluice:hub")), "a URL token is in the log");
}

#[tokio::test]
async fn senders_are_answered_as_the_contract_says() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("git-webhook").await;
    let (_, body) = sample("push");
    for (status, event) in [
        (200, HttpEvent::get("/healthz")),
        (200, github("ping", "d-1", SECRET)),
        (200, github("push-tag", "d-2", SECRET)),
        (202, github("push", "d-3", SECRET).base64()),
        (202, github("push", "d-4", SECRET).function_url()),
        (401, github("push", "d-5", "another secret")),
        (401, HttpEvent::post("/github").header("X-GitHub-Event", "push").body(body)),
        (404, HttpEvent::post("/nobody").body("{}")),
        (404, HttpEvent::post("/github/token").body("{}")),
        (405, HttpEvent::get("/github")),
        (413, HttpEvent::post("/github").body(vec![b' '; 3 * 1024 * 1024 + 1])),
    ] {
        let answer = intake.http(event).await.expect("answer");
        assert_eq!(answer.status, status, "{}", answer.text());
        let kind = if status < 300 { "application/json" } else { "application/problem+json" };
        assert_eq!(answer.headers["content-type"], kind);
        if status >= 300 {
            assert_eq!(answer.json()["status"], status);
        }
    }
    assert_eq!(cloud.left().await, 2);
}

#[tokio::test]
async fn secrets_that_change_in_the_middle_of_traffic_refuse_nobody_and_lose_and_double_nothing() {
    const PUSHES: usize = 20;
    let (new, new_token) = ("hunter2-rotated-secret", "hunter2-rotated-token");
    let cloud = Cloud::deploy().await;
    let (git, registry) = (cloud.function("git-webhook").await, cloud.function("registry-push").await);
    let deliver = cloud.function("deliver").await;
    let sending = async {
        // Two pushes a turn.
        for number in 0..PUSHES {
            match number {
                4 => cloud.store_secret("github", new).await,
                // When all so far has arrived, the cluster's token changes; its path follows a while later, and our
                // store learns of it last. Each time one more request is refused before it goes on.
                8 => {
                    cloud.receivers.wait_for_accepted(16).await;
                    cloud.receivers.change_secret("apps", new_token);
                }
                12 => {
                    cloud.receivers.wait_for_requests(17).await;
                    cloud.receivers.reconcile("apps");
                }
                16 => {
                    cloud.receivers.wait_for_requests(18).await;
                    cloud.store_token(new_token).await;
                }
                _ => {}
            }
            // Of the senders, some have the new secret at once and some much later.
            let secret = if number < 4 || (number < 16 && number % 2 == 0) { SECRET } else { new };
            delivery_of(&git.http(github("push", &format!("d-{number}"), secret)).await.expect("answer"));
            delivery_of(&registry.http(hub(&format!("t-{number}"), secret)).await.expect("answer"));
        }
    };
    let delivering = async {
        while cloud.receivers.accepted().len() < 2 * PUSHES {
            if let Some(event) = cloud.batch().await {
                deliver.invoke(event).await.expect("worked on");
            }
        }
    };
    let all = async { tokio::join!(sending, delivering) };
    tokio::time::timeout(PATIENCE, all).await.expect("everything arrives");

    let accepted = cloud.receivers.accepted();
    let id = |one: &receiver::Received| match one.json()["tag"].as_str() {
        Some(tag) => tag.to_owned(),
        None => one.header("x-github-delivery").expect("id").to_owned(),
    };
    let arrived: BTreeSet<_> = accepted.iter().map(id).collect();
    let sent = (0..PUSHES).flat_map(|number| [format!("d-{number}"), format!("t-{number}")]);
    assert_eq!((accepted.len(), arrived), (2 * PUSHES, sent.collect()), "each once");
    let path = |token: &str| webhook_path(token.as_bytes(), "apps", "flux-system");
    assert_eq!((&accepted[0].target, &accepted[2 * PUSHES - 1].target), (&path(TOKEN), &path(new_token)));
    let refused: BTreeSet<_> = cloud.receivers.rejected().iter().map(|one| one.status).collect();
    assert!(refused.contains(&400) && refused.contains(&404), "the token was missing for a while: {refused:?}");
    assert_eq!((cloud.left().await, cloud.in_queue(&cloud.dead_letters).await), (0, 0));
    assert_eq!(git.http(github("push", "d-x", "hunter2-wrong")).await.expect("answer").status, 401);
}

#[tokio::test]
async fn what_a_receiver_does_not_take_now_it_gets_later_and_in_order() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.answer_next(1, 503);
    assert_eq!(cloud.trigger(&deliver).await.len(), 3, "the two behind it wait, too");
    assert_eq!(cloud.state().await.len(), 1);
    cloud.drain(&deliver).await;
    assert_eq!(cloud.receivers.accepted().len(), 3);
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    assert!(cloud.state().await.is_empty(), "what is over is forgotten");
}

#[tokio::test]
async fn what_is_refused_for_good_is_a_dead_letter_with_its_reason() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let id = delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    cloud.receivers.answer_next(1, 413);
    assert!(cloud.trigger(&deliver).await.is_empty());
    let letters = cloud.receive(&cloud.dead_letters).await;
    let letter = DeadLetter::decode(letters[0].body().expect("body")).expect("dead letter");
    assert_eq!(letter.delivery.expect("delivery").id, id);
    assert!(letter.reason.starts_with("413"), "{}", letter.reason);
    assert_eq!(cloud.left().await, 0);
}

#[tokio::test]
async fn a_function_killed_in_mid_batch_loses_nothing() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("git-webhook").await;
    let deliver = cloud.settings("deliver").timeout(Duration::from_secs(10)).start().await;
    let deliver = deliver.unwrap_or_else(|error| panic!("{error}"));
    for id in ["d-1", "d-2"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    // The queue's own setting is the module's.
    let hidden = cloud.sqs.set_queue_attributes().queue_url(&cloud.queue);
    hidden.attributes(QueueAttributeName::VisibilityTimeout, "720").send().await.expect("set");
    cloud.receivers.delay(Duration::from_secs(60));
    let messages = cloud.receive(&cloud.queue).await;
    let begun = deliver.begin(sqs_event(&queue_arn(&cloud.queue, REGION), &messages));
    cloud.receivers.wait_for_requests(1).await;
    deliver.kill().await;
    assert!(begun.answer().await.is_err());
    cloud.receivers.delay(Duration::ZERO);
    cloud.receivers.forget();
    // The batch is handed out again ten seconds after the time that the function had.
    let deliver = deliver.start_again().await.unwrap_or_else(|error| panic!("{error}"));
    tokio::time::timeout(PATIENCE, cloud.drain(&deliver)).await.expect("it comes back");
    assert_eq!(cloud.receivers.accepted().len(), 2);
    assert_eq!(cloud.arrived(), ["d-1", "d-2"]);
}

#[tokio::test]
async fn what_a_well_target_gets_is_off_the_queue_while_a_slow_one_of_the_same_batch_has_not_answered() {
    let cloud = Cloud::deploy().await;
    let slow = FluxReceivers::with(Receiver::new("github", "apps", "flux-system", TOKEN));
    slow.delay(Duration::from_secs(60));
    let mut relay = cloud.relay_file();
    relay["targets"]["a-slow-one"] = relay["targets"]["prod"].clone();
    relay["targets"]["a-slow-one"]["url"] = slow.url().into();
    relay["routes"][0]["to"] = json!(["a-slow-one", "prod"]);
    let variables = [("SLUICE_CONFIG", &*relay.to_string())];
    let intake = cloud.function_with("git-webhook", &variables).await;
    let deliver = cloud.function_with("deliver", &variables).await;
    delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    let begun = deliver.begin(cloud.batch().await.expect("both deliveries"));
    let arrived = async {
        slow.wait_for_requests(1).await;
        cloud.receivers.wait_for_accepted(1).await;
        while cloud.left().await > 1 {}
    };
    tokio::select! { biased; _ = begun.answer() => panic!("the invocation has ended"), () = arrived => {} }
}

#[tokio::test]
async fn there_is_no_2xx_before_the_queue_has_everything_and_what_is_sent_again_meanwhile_is_queued_once() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    let mut relay = cloud.relay_file();
    relay["targets"]["second"] = relay["targets"]["prod"].clone();
    relay["routes"][0]["to"] = json!(["prod", "second"]);
    let variables = [("SLUICE_CONFIG", &*relay.to_string()), ("AWS_ENDPOINT_URL", &faults.url)];
    let intake = cloud.function_with("git-webhook", &variables).await;
    let mut queued = 0;
    for (i, fault) in [Fault::Throttled, Fault::Down, Fault::Partial, Fault::Unanswered].into_iter().enumerate() {
        let event = || github("push", &format!("d-{i}"), SECRET);
        faults.at("AmazonSQS.SendMessageBatch", fault);
        let answer = intake.http(event()).await.expect("answer");
        match fault {
            // What was not taken of a call is sent at once in another one.
            Fault::Partial => assert_eq!(answer.status, 202, "{}", answer.text()),
            _ => {
                assert_eq!(answer.status, 503, "{fault:?}: {}", answer.text());
                assert_eq!(answer.headers["retry-after"], "5");
            }
        }
        faults.over();
        assert_eq!(intake.http(event()).await.expect("answer").status, 202, "{fault:?}");
        queued += 2;
        assert_eq!(cloud.left().await, queued, "{fault:?}");
    }
}

#[tokio::test]
async fn a_function_that_starts_while_its_relay_file_cannot_be_had_answers_503_or_fails_and_goes_on_when_it_can() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    let variables = [("AWS_ENDPOINT_URL", &*faults.url)];
    faults.at("AmazonSSM.GetParameters", Fault::Throttled);
    let start = |name| cloud.function_with(name, &variables);
    let (intake, deliver) = tokio::join!(start("git-webhook"), start("deliver"));
    let answer = intake.http(github("push", "d-1", SECRET)).await.expect("an answer, not a dead function");
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"), "{}", answer.text());
    faults.over();
    assert_eq!(intake.http(github("push", "d-1", SECRET)).await.expect("answer").status, 202);

    faults.at("AmazonSSM.GetParameters", Fault::Throttled);
    let batch = cloud.batch().await.expect("a message is waiting");
    let failed = deliver.invoke(batch).await.expect_err("nothing was worked on");
    assert!(failed.to_string().contains("cannot be had at the moment"), "{failed}");
    faults.over();
    // Well before the queue would hand it out by itself.
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(batch) = cloud.batch().await {
                return batch;
            }
        }
    });
    let kept = deliver.invoke(again.await.expect("it comes back soon")).await.expect("worked on");
    assert!(batch_item_failures(&kept).is_empty());
    assert_eq!(cloud.arrived(), ["d-1"]);
}

#[tokio::test]
async fn a_function_waits_out_a_moment_in_which_its_relay_file_cannot_be_had() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    faults.at("AmazonSSM.GetParameters", Fault::Throttled);
    let soon_over = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        faults.over();
    };
    let variables = [("AWS_ENDPOINT_URL", &*faults.url)];
    let (intake, ()) = tokio::join!(cloud.function_with("git-webhook", &variables), soon_over);
    assert_eq!(intake.http(github("push", "d-1", SECRET)).await.expect("answer").status, 202);
    assert!(!intake.output().await.contains("every invocation tries again"));
}

#[tokio::test]
async fn messages_that_are_handed_out_again_while_they_are_being_sent_arrive_in_order_and_leave_the_queue() {
    let cloud = Cloud::deploy().await;
    let (intake, first) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let second = cloud.function("deliver").await;
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.delay(Duration::from_millis(300));
    let messages = cloud.receive(&cloud.queue).await;
    let begun = first.begin(sqs_event(&queue_arn(&cloud.queue, REGION), &messages));
    cloud.receivers.wait_for_requests(1).await;
    // Its time is over while it is on its way, and another environment gets it, too.
    cloud.expire(&messages).await;
    let event = cloud.batch().await.expect("handed out again");
    second.invoke(event).await.expect("worked on");
    begun.answer().await.expect("worked on");
    cloud.drain(&second).await;
    let accepted = cloud.receivers.accepted().len();
    assert!((4..=6).contains(&accepted), "{accepted}");
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    cloud.receivers.assert_nothing_rejected();
}

#[tokio::test]
async fn records_of_a_batch_that_are_out_of_order_arrive_in_the_order_in_which_they_were_queued() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let ids = ["d-1", "d-2", "d-3", "d-4"];
    for id in ids {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    let mut messages = cloud.receive(&cloud.queue).await;
    messages.reverse();
    cloud.receivers.answer_next(1, 503);
    let event = sqs_event(&queue_arn(&cloud.queue, REGION), &messages);
    let kept = batch_item_failures(&deliver.invoke(event).await.expect("worked on"));
    assert_eq!(kept.len(), 4, "all others wait behind the first, wherever it stood");
    cloud.drain(&deliver).await;
    assert_eq!(cloud.arrived(), ids);
}

#[tokio::test]
async fn what_cannot_be_deleted_held_or_counted_now_is_not_lost() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    let intake = cloud.function("git-webhook").await;
    let deliver = cloud.function_with("deliver", &[("AWS_ENDPOINT_URL", &faults.url)]).await;
    let operations = ["AmazonSQS.DeleteMessage", "AmazonSQS.ChangeMessageVisibility", "DynamoDB"];
    let mut sent = Vec::new();
    for (i, operation) in operations.into_iter().enumerate() {
        let ids = [format!("d-{i}-1"), format!("d-{i}-2")];
        for id in &ids {
            delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
        }
        sent.extend(ids);
        faults.at(operation, Fault::Throttled);
        cloud.receivers.answer_next(usize::from(i > 0), 503);
        let messages = cloud.receive(&cloud.queue).await;
        let event = sqs_event(&queue_arn(&cloud.queue, REGION), &messages);
        let kept = batch_item_failures(&deliver.invoke(event).await.expect("worked on"));
        // What was delivered is the platform's to delete, and what is behind it waits for that; what was not stays.
        assert_eq!(kept.len(), if i > 0 { 2 } else { 1 }, "{operation}");
        faults.over();
        cloud.expire(&messages).await;
        cloud.drain(&deliver).await;
        assert_eq!(cloud.arrived(), sent, "{operation}");
    }
    assert_eq!(cloud.in_queue(&cloud.dead_letters).await, 0);
}

#[tokio::test]
async fn while_the_secret_store_is_down_deliveries_wait_and_while_it_is_slow_they_arrive() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    let intake = cloud.function("git-webhook").await;
    for id in ["d-1", "d-2"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    for fault in [Fault::Down, Fault::Throttled] {
        faults.at("secretsmanager", fault);
        let deliver = cloud.function_with("deliver", &[("AWS_ENDPOINT_URL", &faults.url)]).await;
        assert_eq!(cloud.trigger(&deliver).await.len(), 2, "{fault:?}");
    }
    assert!(cloud.receivers.requests().is_empty());
    faults.at("secretsmanager", Fault::Slow(Duration::from_secs(1)));
    let deliver = cloud.function_with("deliver", &[("AWS_ENDPOINT_URL", &faults.url)]).await;
    cloud.drain(&deliver).await;
    assert_eq!(cloud.arrived(), ["d-1", "d-2"]);
    assert_eq!(cloud.in_queue(&cloud.dead_letters).await, 0);
}

#[tokio::test]
async fn while_the_secret_store_is_down_senders_are_told_to_come_again_and_while_it_is_slow_they_are_let_in() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto().url()).await;
    // The relay file is at hand: only secrets are missing.
    let relay = cloud.relay_file().to_string();
    let variables = [("SLUICE_CONFIG", &*relay), ("AWS_ENDPOINT_URL", &*faults.url)];
    for fault in [Fault::Down, Fault::Throttled] {
        faults.at("AmazonSSM", fault);
        let intake = cloud.function_with("git-webhook", &variables).await;
        let answer = intake.http(github("push", "d-1", SECRET)).await.expect("answer");
        assert_eq!(answer.status, 503, "{fault:?}: {}", answer.text());
        assert!(answer.headers.contains_key("retry-after"), "{fault:?}");
    }
    assert_eq!(cloud.left().await, 0);
    faults.at("AmazonSSM", Fault::Slow(Duration::from_secs(1)));
    let intake = cloud.function_with("git-webhook", &variables).await;
    delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
}

#[tokio::test]
async fn a_poison_message_is_a_dead_letter_and_those_behind_it_pass_in_order() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let poison = cloud.sqs.send_message().queue_url(&cloud.queue).message_group_id("prod");
    poison.message_deduplication_id("poison").message_body("\u{7f}{{{").send().await.expect("sent");
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    assert!(cloud.trigger(&deliver).await.is_empty());
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    let letters = cloud.receive(&cloud.dead_letters).await;
    let letter = DeadLetter::decode(letters[0].body().expect("body")).expect("dead letter");
    assert_eq!((letters.len(), letter.class), (1, GivenUp::Undeliverable));
    assert_eq!(cloud.left().await, 0);
}

#[tokio::test]
async fn without_its_queue_the_function_answers_503_and_never_2xx() {
    let cloud = Cloud::deploy().await;
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto().url());
    let intake = cloud.function_with("git-webhook", &[("SLUICE_QUEUE_URL", &nowhere)]).await;
    let answer = intake.http(github("push", "d-1", SECRET)).await.expect("answer");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "5");
}

#[tokio::test]
async fn a_relay_file_with_problems_ends_the_start_and_the_log_names_them() {
    let cloud = Cloud::deploy().await;
    let wrong = r#"{"sources":{"github":{"type":"githib"}}}"#;
    let started = cloud.settings("git-webhook").env("SLUICE_CONFIG", wrong).start().await;
    let Err(error) = started else { panic!("it started") };
    assert!(error.to_string().contains("did you mean `github`?"), "{error}");
}

#[tokio::test]
async fn no_log_level_drops_a_metric() {
    let cloud = Cloud::deploy().await;
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"] {
        let intake = cloud.function_with("git-webhook", &[("AWS_LAMBDA_LOG_LEVEL", level)]).await;
        assert_eq!(intake.http(github("push", "d-1", "another secret")).await.expect("answer").status, 401);
        let log = intake.log().await;
        let [metrics] = &log.iter().filter(|line| line["_aws"].is_object()).collect::<Vec<_>>()[..] else {
            panic!("{level}: {log:?}")
        };
        assert_eq!((&metrics["Requests"], &metrics["RequestsRefused"]), (&json!(1.0), &json!(1.0)), "{level}");
    }
}

#[tokio::test]
async fn an_ecr_push_invokes_the_function_and_comes_out_at_the_receiver() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("registry-push").await, cloud.function("deliver").await);
    let event: Value = serde_json::from_str(include_str!("../events/ecr/image-push.json")).expect("JSON");
    let answers = intake.invoke(event.clone()).await.expect("taken");
    assert_eq!((&answers[0]["source"], answers[0]["deliveries"].as_array().map(Vec::len)), (&json!("ecr"), Some(1)));
    // EventBridge delivers at least once.
    intake.invoke(event.clone()).await.expect("taken");
    assert!(cloud.trigger(&deliver).await.is_empty());
    assert_eq!(cloud.receivers.accepted().len(), 1);
    assert_eq!(cloud.left().await, 0);

    // Of no use, and nobody's: both succeed, as trying again would not help.
    let deleted: Value = serde_json::from_str(include_str!("../events/ecr/image-delete.json")).expect("JSON");
    assert_eq!(intake.invoke(deleted).await.expect("taken")[0]["ignored"], "not a push to the registry");
    let stranger = json!({ "detail-type": "Object Created", "source": "aws.s3", "detail": {} });
    assert_eq!(intake.invoke(stranger).await.expect("taken")[0]["event"], "aws.s3 Object Created");
    assert!(intake.output().await.contains("no source claims this event"));
    assert!(intake.invoke(json!({ "no": "event" })).await.is_err());

    // Not stored, so not taken.
    cloud.sqs.delete_queue().queue_url(&cloud.queue).send().await.expect("deleted");
    let error = intake.invoke(event).await.expect_err("the queue is gone").to_string();
    assert!(error.contains("503"), "{error}");
}

#[tokio::test]
async fn a_token_that_google_signed_is_checked_by_the_keys_that_it_publishes() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("registry-push").await;
    delivery_of(&intake.http(google("a@b.example").1).await.expect("answer"));
    assert_eq!(intake.http(google("other@b.example").1).await.expect("answer").status, 401);
    let output = intake.output().await;
    assert!(!output.contains("eyJ"), "a token in the log: {output}");
}

#[tokio::test]
async fn an_agent_delivers_inside_its_network_and_stops_without_losing_or_repeating_anything() {
    let cloud = Cloud::deploy().await;
    let mut relay = cloud.relay_file();
    relay["targets"]["prod"]["agent"] = "inside".into();
    let queues = json!({ "inside": cloud.queue }).to_string();
    // The delivery queue itself is not there: what is the agent's does not touch it.
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto().url());
    let settings = cloud.settings("git-webhook").env("SLUICE_CONFIG", relay.to_string());
    let without = settings.clone().start().await;
    assert!(without.is_err_and(|error| error.to_string().contains("SLUICE_AGENT_QUEUES has no queue")));
    let settings = settings.env("SLUICE_QUEUE_URL", nowhere).env("SLUICE_AGENT_QUEUES", queues);
    let intake = settings.start().await.unwrap_or_else(|error| panic!("{error}"));

    relay["sources"] = json!({});
    relay["routes"] = json!([]);
    let agent = Agent::start(&cloud, &relay, &[]);
    delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    cloud.receivers.wait_for_accepted(1).await;
    assert_eq!(agent.get("/healthz").await.0, 200);
    // The Receiver has it a moment before its answer is counted.
    let counted =
        async { while !agent.get("/metrics").await.1.contains("sluice_deliveries_total{target=\"prod\"} 1") {} };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("it is counted");
    assert_eq!(agent.get("/github").await.0, 404, "there is no way in");

    // Asked to stop in the middle of a delivery, with more behind it.
    cloud.receivers.delay(Duration::from_millis(500));
    for id in ["d-2", "d-3", "d-4"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.wait_for_requests(2).await;
    assert!(agent.stop().await, "a clean end");
    cloud.receivers.delay(Duration::ZERO);
    let _agent = Agent::start(&cloud, &relay, &[]);
    let accepted = cloud.receivers.wait_for_accepted(4).await;
    let order: Vec<_> = accepted.iter().map(|one| one.header("x-github-delivery").expect("id")).collect();
    assert_eq!(order, ["d-1", "d-2", "d-3", "d-4"], "each once, and in order");
}
