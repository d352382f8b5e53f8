//! What somebody who knows no secret tries, and what somebody who knows one may not do with it.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use sluice::domain::delivery::DeadLetter;
use sluice::domain::event::{Detail, Original};
use sluice::domain::outcome::GivenUp;
use sluice::rim::config;
use sluice::target::RenderError;

use super::*;
use crate::targets;

/// As much of `byte`, compressed: a thousandth of it.
fn bomb(byte: u8, megabytes: usize) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    let block = vec![byte; 1 << 20];
    for _ in 0..megabytes {
        packer.write_all(&block).expect("packed");
    }
    packer.finish().expect("packed")
}

#[tokio::test]
async fn no_way_of_writing_a_path_leads_to_a_source_but_its_own() {
    let world = world();
    for path in [
        "",
        "/",
        "//",
        "github",
        "//github",
        "/github/",
        "/github//",
        "/github/..",
        "/./github",
        "/x/../github",
        "/healthz/../github",
        "/healthz/github",
        "/github/x",
        "/GitHub",
        "/%67ithub",
        "/github%2f",
        "/github%00",
        "/github\0",
        "/github;x",
        "/github#x",
        "\\github",
        "http://relay.example.com/github",
        "/g\u{456}thub",
        "/github/8e08e90a2529e22bc553aaa9715746cabfa783c3f326582866b7266714034521",
    ] {
        let answer = world.intake.answer(Incoming { path: path.into(), ..push() }).await;
        assert_eq!(answer.status, 404, "{path:?}: {}", answer.body);
        assert_eq!(answer.body, world.intake.answer(Incoming { path: "/none".into(), ..push() }).await.body);
    }
    assert!(world.queue.sent().is_empty());
    assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 0, "nothing was looked up");
}

#[tokio::test]
async fn a_url_token_is_taken_as_it_is_written_and_for_its_own_source_only() {
    let mut world = world();
    world.intake.relay = relay(
        "sources:
  hub: { type: github, secret: 'ssm:/github', url_token: true }
  hub2: { type: github, secret: 'ssm:/github', url_token: true }
targets: { log: { type: http, url: 'https://log.example.com/events' } }
routes: [{ to: [log] }]",
    );
    let (token, other) = ["hub", "hub2"].map(|name| signature::url_token(&Secret::new("current"), name)).into();
    let post = |path: String| world.intake.answer(Incoming { path, ..sample("push.json") });
    assert_eq!(post(format!("/hub/{token}")).await.status, 202);
    for path in [
        format!("/hub/{other}"),
        format!("/hub/{}", token.to_uppercase()),
        format!("/hub/{token}/"),
        format!("/hub/{token}?"),
        format!("/hub/{token}%20"),
        format!("/hub/./{token}"),
        format!("/hub//{token}"),
        format!("/hub/{}", &token[..63]),
        format!("/hub/{token}0"),
        "/hub/".into(),
        "/hub".into(),
    ] {
        let answer = post(path.clone()).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(world.queue.sent().len(), 1);
}

#[tokio::test]
async fn a_header_that_is_there_twice_proves_nothing_whichever_fits() {
    for (name, status) in [("x-hub-signature-256", 401), ("x-github-event", 400), ("x-github-delivery", 202)] {
        for first in [true, false] {
            let world = world();
            let mut twice = push();
            let right = twice.headers[name].clone();
            let wrong = "sha256=00".parse().expect("header");
            let (one, another) = if first { (right, wrong) } else { (wrong, right) };
            twice.headers.insert(name, one);
            twice.headers.append(name, another);
            let answer = world.intake.answer(twice).await;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
            assert_eq!(world.queue.sent().is_empty(), status != 202, "{name}");
        }
    }
    let world = world();
    let mut joined = push();
    let value = joined.headers["x-hub-signature-256"].to_str().expect("text").to_owned();
    for value in [format!("{value}, {value}"), format!("{value},"), value.to_uppercase(), format!("sha1={value}")] {
        joined.headers.insert("x-hub-signature-256", value.parse().expect("header"));
        let incoming = Incoming { headers: joined.headers.clone(), ..push() };
        assert_eq!(world.intake.answer(incoming).await.status, 401, "{value}");
    }
    // No header makes another method or path of a request.
    let mut other = Incoming { method: Method::GET, ..push() };
    other.headers.insert("x-http-method-override", "POST".parse().expect("header"));
    other.headers.insert("x-original-url", "/quiet".parse().expect("header"));
    assert_eq!(world.intake.answer(other).await.status, 405);
    assert!(world.queue.sent().is_empty());
}

/// Whoever reads the first of two values would see another push than who reads the last.
#[tokio::test]
async fn a_push_that_says_two_things_under_one_key_is_refused() {
    for double in [r#""ref":"refs/heads/other","#, r#""repository":{},"#, r#""after":null,"#] {
        let world = world();
        let mut incoming = sample("push.json");
        let body = String::from_utf8(incoming.body.to_vec()).expect("text");
        incoming.body = body.replacen('{', &format!("{{{double}"), 1).into();
        let answer = world.intake.answer(signed(incoming, "current")).await;
        assert_eq!(answer.status, 400, "{double}: {}", answer.body);
        assert!(world.queue.sent().is_empty(), "{double}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_not_unpacked() {
    let world = world();
    let mut incoming = sample("push.json");
    incoming.headers.insert("content-encoding", "gzip".parse().expect("header"));
    incoming.body = bomb(b' ', 64).into();
    let answer = world.intake.answer(signed(incoming, "current")).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn messages_and_relay_files_unpack_to_no_more_than_they_may_be() {
    for (megabytes, readable) in [(20, true), (25, false)] {
        let body = vec![b'a'; megabytes << 20].into();
        let original = Original { content_type: "text/plain".into(), headers: vec![], body };
        let delivery = Delivery { original: Some(original), ..targets::delivery("push.json") };
        let message = delivery.encode(262_144).expect("it packs well");
        assert_eq!(Delivery::decode(&message).is_ok(), readable, "{megabytes} MiB");
        let (class, given_up) = (GivenUp::Rejected, delivery.queued);
        let letter =
            DeadLetter { class, reason: "413".into(), given_up, attempts: 1, delivery: Some(delivery), body: None };
        let message = letter.encode(262_144).expect("it packs well");
        assert_eq!(DeadLetter::decode(&message).is_ok(), readable, "{megabytes} MiB");
    }
    let packed = Encoding::Base64.encode(&bomb(b' ', 256));
    let text = config::text(&packed, &FakeSecrets::default()).await;
    assert!(text.is_ok_and(|text| text.len() <= 8 << 20));
}

#[tokio::test]
async fn ten_thousand_levels_of_json_are_passed_on_as_they_are_or_given_up_with_a_reason() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let world = world();
    let mut incoming = sample("push.json");
    let body = String::from_utf8(incoming.body.to_vec()).expect("text");
    incoming.body = body.replacen('{', &format!("{{\"deep\":{deep},"), 1).into();
    let body = incoming.body.clone();
    assert_eq!(world.intake.answer(signed(incoming, "current")).await.status, 202);
    let queued = world.queue.sent().iter().map(|message| Delivery::decode(&message.body)).next().expect("queued");
    let original = queued.expect("a delivery").original.expect("the sender's body");
    assert_eq!(original.body, body);

    let every = targets::relay(targets::TARGETS);
    let now = targets::NOW.parse().expect("time");
    for (name, entry) in &every.targets {
        let delivery = Delivery { original: Some(original.clone()), ..targets::delivery("push.json") };
        if entry.target.wants(&delivery.event, delivery.original.as_ref()).is_ok() {
            let rendered = entry.target.render(&delivery, &targets::secrets(entry, targets::TOKEN), now);
            assert!(matches!(rendered, Ok(_) | Err(RenderError::Unfit(_))), "{name}: {rendered:?}");
        }
    }
}

#[test]
fn nothing_that_a_sender_writes_becomes_a_header_or_a_place_of_its_own() {
    let every = targets::relay(targets::TARGETS);
    let now = targets::NOW.parse().expect("time");
    let nasty = "push\r\nx-evil: 1\r\n\r\n{}/../../../?x=@evil.example#\u{202e}";
    for (name, entry) in &every.targets {
        let secrets = targets::secrets(entry, targets::TOKEN);
        for usual in [targets::delivery("push.json"), targets::image_push(&["1.2.3"])] {
            let mut delivery = usual.clone();
            match &mut delivery.event.detail {
                Detail::Git(git) => {
                    (git.event, git.action, git.repository) = (nasty.into(), Some(nasty.into()), Some(nasty.into()));
                }
                Detail::ImagePush(push) => (push.repository, push.actor) = (nasty.into(), Some(nasty.into())),
                Detail::Alert(_) => {}
            }
            delivery.id = nasty.into();
            delivery.original = delivery.original.map(|original| Original { content_type: nasty.into(), ..original });
            let places = |delivery: &Delivery| -> Option<Vec<String>> {
                let wanted = entry.target.wants(&delivery.event, delivery.original.as_ref()).is_ok();
                let requests = wanted.then(|| entry.target.render(delivery, &secrets, now).ok()).flatten()?;
                assert!(requests.iter().all(|request| !request.headers.contains_key("x-evil")), "{name}");
                Some(requests.into_iter().map(|request| request.url).collect())
            };
            if let (Some(nasty), Some(usual)) = (places(&delivery), places(&usual)) {
                assert_eq!(nasty, usual, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_message_of_standard_webhooks_that_is_sent_again_is_the_same_delivery_and_later_none() {
    let mut world = world();
    world.intake.relay = relay(
        "sources: { hooks: { type: standard-webhooks, secret: 'ssm:/hooks', emits: image_push } }
targets: { log: { type: http, url: 'https://log.example.com/events' } }
routes: [{ to: [log] }]",
    );
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    world.secrets.set("ssm:/hooks", &[secret]);
    let key = Secret::new(Encoding::Base64.decode(&secret["whsec_".len()..]).expect("base64"));
    let sent = world.clock.now().as_second().to_string();
    let push = json!({ "repository": "registry.example.com/acme/app", "tag": "1" });
    let body = json!({ "type": "image.pushed", "data": push }).to_string();
    let mac = signature::hmac(Algorithm::Sha256, &key, &[format!("msg_1.{sent}.{body}").as_bytes()]);
    let replayed = |id: &str, sent: &str| {
        let mut headers = HeaderMap::new();
        let signature = format!("v1,{}", Encoding::Base64.encode(&mac));
        for (name, value) in [("webhook-id", id), ("webhook-timestamp", sent), ("webhook-signature", &signature)] {
            headers.insert(http::HeaderName::try_from(name).expect("name"), value.parse().expect("value"));
        }
        world.intake.answer(incoming("/hooks", headers, body.clone().into()))
    };
    assert_eq!(replayed("msg_1", &sent).await.status, 202);
    assert_eq!(replayed("msg_1", &sent).await.status, 202);
    assert_eq!(world.queue.sent().len(), 1, "the same delivery");
    assert_eq!(replayed("msg_2", &sent).await.status, 401, "its id is signed");
    world.clock.pass(Duration::from_secs(301));
    assert_eq!(replayed("msg_1", &sent).await.status, 401, "it is over");
    let later = world.clock.now().as_second().to_string();
    assert_eq!(replayed("msg_1", &later).await.status, 401, "its time is signed");
    assert_eq!(world.queue.sent().len(), 1);
}
