use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

fn form(request: &Outbound) -> BTreeMap<String, String> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

#[test]
fn every_message_keeps_to_what_sns_takes_by_other_code_than_ours() {
    for name in ["sns", "sns-fifo"] {
        let entry = chat(name);
        for (occasion, _) in occasions() {
            for request in requests(&entry, occasion) {
                let form = form(&request);
                let subject = &form["Subject"];
                assert!((1..100).contains(&subject.len()), "{occasion}: {subject}");
                assert!(subject.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{occasion}: {subject}");
                assert!(!subject.starts_with(' '), "{occasion}");
                let attributes: usize = (1..=4)
                    .flat_map(|i| ["Name", "Value.DataType", "Value.StringValue"].map(|part| (i, part)))
                    .map(|(i, part)| form[&format!("MessageAttributes.entry.{i}.{part}")].len())
                    .sum();
                assert!(!form["Message"].is_empty() && form["Message"].len() + attributes <= 262_144, "{occasion}");
            }
        }
    }
}

#[test]
fn filter_policies_find_kind_severity_source_and_status() {
    let form = form(&requests(&chat("sns"), "firing")[0]);
    let attribute = |i: usize| {
        let part = |part: &str| form[&format!("MessageAttributes.entry.{i}.{part}")].clone();
        (part("Name"), part("Value.StringValue"))
    };
    let expected = [("kind", "alert"), ("severity", "critical"), ("source", "alertmanager"), ("status", "firing")];
    assert_eq!([1, 2, 3, 4].map(attribute), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_fifo_topic_tells_firing_and_resolved_apart_and_in_one_group() {
    let fifo = chat("sns-fifo");
    let [firing, plain] = <[Outbound; 2]>::try_from(requests(&fifo, "firing")).expect("two");
    let (firing, plain, resolved) = (form(&firing), form(&plain), form(&requests(&fifo, "resolved")[0]));
    assert_eq!(firing["MessageGroupId"], resolved["MessageGroupId"]);
    assert_ne!(firing["MessageDeduplicationId"], resolved["MessageDeduplicationId"]);
    assert_eq!(firing["MessageDeduplicationId"], plain["MessageDeduplicationId"]);
    assert_eq!(form(&requests(&fifo, "image")[0])["MessageGroupId"], "ghcr");
    assert!(!form(&requests(&chat("sns"), "firing")[0]).contains_key("MessageGroupId"));
}

#[test]
fn requests_go_to_the_topics_region_and_carry_no_credential_yet() {
    for (name, region) in [("sns", "eu-west-1"), ("sns-fifo", "cn-north-1")] {
        let request = requests(&chat(name), "firing").remove(0);
        assert_eq!(request.aws.expect("signed").region.as_deref(), Some(region));
        assert_eq!((request.url.as_str(), request.headers.len()), ("/", 1));
    }
}

fn error(code: &str, text: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{text}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

#[test]
fn every_answer_is_judged_by_its_code() {
    let sns = chat("sns");
    let answer = |status, code: &str| outcome(&sns, status, &[], &error(code, "what was wrong"));
    assert_eq!(
        outcome(&sns, 200, &[], "<PublishResponse><MessageId>1</MessageId></PublishResponse>"),
        Outcome::Accepted
    );
    for (status, code) in [
        (403, "AuthorizationError"),
        (403, "InvalidClientTokenId"),
        (403, "ExpiredToken"),
        (404, "NotFound"),
        (400, "KMSAccessDenied"),
        (400, "KMSDisabled"),
        (400, "EndpointDisabled"),
        (400, "MissingAuthenticationToken"),
        (500, "InternalError"),
    ] {
        assert!(matches!(answer(status, code), Outcome::Retry { reason, .. } if reason.contains(code)), "{code}");
        assert!(!sns.target.tries_next(&response(status, &[], &error(code, ""))), "{code}");
    }
    for (status, code) in [(400, "Throttling"), (400, "ThrottlingException"), (400, "KMSThrottling"), (503, "")] {
        assert!(matches!(answer(status, code), Outcome::Retry { reason, .. } if reason.contains("pause")), "{code}");
    }
    let pause = outcome(&sns, 400, &[("retry-after", "7")], &error("Throttling", "Rate exceeded"));
    assert!(matches!(pause, Outcome::RetryAfter { wait, .. } if wait == Duration::from_secs(7)));
    for code in ["InvalidParameter", "ParameterValueInvalid", "ValidationException"] {
        assert!(
            matches!(answer(400, code), Outcome::Rejected { reason } if reason.contains("what was wrong")),
            "{code}"
        );
        assert!(sns.target.tries_next(&response(400, &[], &error(code, ""))), "{code}");
    }
}

#[test]
fn what_aws_says_of_a_signature_is_not_repeated_as_it_holds_the_session_token() {
    let said = error("SignatureDoesNotMatch", "The Canonical String should have been x-amz-security-token:hunter2");
    let outcome = outcome(&chat("sns"), 403, &[], &said);
    assert!(matches!(outcome, Outcome::Retry { reason, .. } if reason == "403: SignatureDoesNotMatch"));
}
