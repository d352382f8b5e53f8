use std::time::Duration;

use super::*;

fn letter(request: &Outbound) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

fn part<'l>(letter: &'l Value, pointer: &str) -> &'l str {
    letter.pointer(&format!("/Content/Simple/{pointer}")).and_then(Value::as_str).expect(pointer)
}

#[test]
fn no_header_of_any_letter_can_be_made_by_a_text_of_others() {
    for (occasion, _) in occasions() {
        for request in requests(&chat("email"), occasion) {
            let letter = letter(&request);
            assert_eq!(letter["FromEmailAddress"], "Sluice <sluice@example.com>");
            let to = serde_json::json!(["oncall@example.com", "team+alerts@example.com"]);
            assert_eq!(letter["Destination"]["ToAddresses"], to);
            let subject = part(&letter, "Subject/Data");
            assert!(!subject.is_empty() && !subject.contains(char::is_control), "{occasion}: {subject}");
            assert!(subject.chars().count() <= 150, "{occasion}: {subject}");
            for header in letter["Content"]["Simple"]["Headers"].as_array().expect("headers") {
                let (name, value) = (header["Name"].as_str().expect("text"), header["Value"].as_str().expect("text"));
                assert!(["Auto-Submitted", "References"].contains(&name), "{occasion}: {name}");
                assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && value.len() < 200, "{value}");
            }
        }
    }
}

#[test]
fn the_html_of_the_nastiest_alert_has_no_tags_but_ours_and_loads_nothing() {
    for (occasion, _) in occasions() {
        let letter = letter(&requests(&chat("email"), occasion)[0]);
        let html = part(&letter, "Body/Html/Data");
        for tag in html.split('<').skip(1) {
            let (tag, text) = tag.split_once('>').expect("closed");
            let ours = ["!DOCTYPE html", "html", "body", "b", "i", "br", "/html", "/body", "/div", "/b", "/i", "/a"];
            let link = tag.strip_prefix("a href=\"").and_then(|rest| rest.strip_suffix('"'));
            let page = link.is_some_and(|url| url.starts_with("http") && !url.contains('"'));
            let bar = tag.starts_with("div style=\"border-left:4px solid #");
            assert!(ours.contains(&tag) || page || bar, "{occasion}: <{tag}>");
            assert!(!text.contains('>'), "{occasion}: {text}");
        }
        assert!(html.len() + part(&letter, "Body/Text/Data").len() <= 100_000, "{occasion}");
    }
}

#[test]
fn what_ends_an_alert_is_in_the_conversation_of_what_began_it() {
    let references = |occasion: &str| {
        let letter = letter(&requests(&chat("email"), occasion)[0]);
        let headers = letter["Content"]["Simple"]["Headers"].as_array().expect("headers").clone();
        headers.into_iter().find(|header| header["Name"] == "References").map(|header| header["Value"].clone())
    };
    assert_eq!(references("firing"), references("resolved"));
    let id = references("firing").expect("a conversation");
    let id = id.as_str().expect("text");
    assert!(id.starts_with('<') && id.ends_with("@example.com>"), "{id}");
    assert_eq!(references("image"), None);
}

#[test]
fn a_letter_that_ses_refuses_goes_as_plain_text_once() {
    let [rich, plain] = <[Outbound; 2]>::try_from(requests(&chat("email"), "nasty")).expect("two");
    assert!(letter(&rich)["Content"]["Simple"]["Body"]["Html"].is_object());
    assert!(letter(&plain)["Content"]["Simple"]["Body"]["Html"].is_null());
    assert_eq!(rich.aws.expect("signed").region, None);
}

#[test]
fn every_answer_is_judged_by_its_code() {
    let email = chat("email");
    let answer = |status, code: &str, text: &str| {
        let body = serde_json::json!({ "message": text }).to_string();
        let headers = [("x-amzn-errortype", code)];
        let next = email.target.tries_next(&response(status, &headers, &body));
        (outcome(&email, status, &headers, &body), next)
    };
    assert_eq!(outcome(&email, 200, &[], r#"{"MessageId":"1"}"#), Outcome::Accepted);
    let unverified =
        "Email address is not verified. The following identities failed the check in region EU-WEST-1: a@b.c";
    for (status, code, text) in [
        (400, "MessageRejected", unverified),
        (400, "MailFromDomainNotVerifiedException", ""),
        (400, "AccountSuspendedException", ""),
        (400, "SendingPausedException:http://internal.amazon.com/coral/", ""),
        (404, "NotFoundException", ""),
        (403, "AccessDeniedException", ""),
        (403, "UnrecognizedClientException", ""),
    ] {
        let (outcome, next) = answer(status, code, text);
        assert!(matches!(outcome, Outcome::Retry { blame: Blame::Setup, .. }), "{code}: {outcome:?}");
        assert!(!next, "{code}");
    }
    for (status, code) in [(429, "TooManyRequestsException"), (400, "LimitExceededException"), (400, "Throttling")] {
        let (outcome, _) = answer(status, code, "");
        assert!(
            matches!(&outcome, Outcome::Retry { blame: Blame::Target, reason } if reason.contains("pause")),
            "{code}"
        );
    }
    let pause = outcome(&email, 429, &[("retry-after", "9")], "{}");
    assert!(matches!(pause, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(9)));
    assert!(matches!(answer(500, "InternalFailure", "").0, Outcome::Retry { blame: Blame::Target, .. }));
    for code in ["BadRequestException", "MessageRejected"] {
        let (outcome, next) = answer(400, code, "it contains a virus");
        assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("virus")), "{code}: {outcome:?}");
        assert!(next, "{code}");
    }
}

#[test]
fn an_address_that_could_carry_more_than_an_address_is_a_problem() {
    let problems = |from: &str, to: Value| {
        let target = serde_json::json!({ "type": "email", "from": from, "to": to });
        let file = serde_json::json!({ "sources": {}, "routes": [], "targets": { "a": target } });
        sluice::relay::Relay::from_value(&file).err()
    };
    assert_eq!(problems("a.b+c@mail.example.com", "x@example.com".into()), None);
    for from in [
        "a@b.c\r\nBcc: d@e.f",
        "A \"B\" <a@b.c>",
        "a@b.c, d@e.f",
        "Ä <a@b.c>",
        "A <a@b.c> x",
        "a@localhost",
        "@b.c",
        "A<a@b.c>",
        "a@b@c.d",
    ] {
        let found = problems(from, "x@example.com".into()).expect(from);
        assert!(found.contains("targets.a.from") && found.contains("e-mail address"), "{from}: {found}");
    }
    let many: Vec<_> = (0..51).map(|i| format!("x{i}@example.com")).collect();
    assert!(problems("a@b.c", many.into()).is_some_and(|found| found.contains("50 recipients")));
}
