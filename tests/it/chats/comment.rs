use sluice::target::Response;

use super::*;

const HOSTS: [&str; 3] = ["github-comment", "gitlab-comment", "gitea-comment"];

/// What follows the look for our comment, when it was answered so.
fn after(host: &str, asked: &Outbound, answer: &Response) -> Option<Outbound> {
    let entry = chat(host);
    entry.target.follow_up(&of(&entry, "failed"), asked, answer, &secrets(&entry), now()).expect("rendered")
}

fn text(request: &Outbound) -> String {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    body["body"].as_str().expect("a text").to_owned()
}

#[test]
fn the_first_comment_is_written_and_further_ones_change_it_in_place() {
    for (host, list, one) in [
        (
            "github-comment",
            "https://api.github.com/repos/acme/app/issues/12/comments",
            "PATCH https://api.github.com/repos/acme/app/issues/comments/7",
        ),
        (
            "gitlab-comment",
            "https://gitlab.example.com/api/v4/projects/42/merge_requests/12/notes",
            "PUT https://gitlab.example.com/api/v4/projects/42/merge_requests/12/notes/7",
        ),
        (
            "gitea-comment",
            "https://code.example.com/gitea/api/v1/repos/acme/app/issues/12/comments",
            "PATCH https://code.example.com/gitea/api/v1/repos/acme/app/issues/comments/7",
        ),
    ] {
        let [look, first] = <[Outbound; 2]>::try_from(requests(&chat(host), "failed")).expect("two");
        assert_eq!(look.method, "GET");
        assert!(look.url.starts_with(list) && look.long_answer && look.body.is_empty(), "{}", look.url);
        assert_eq!((first.method.as_str(), first.url.as_str()), ("POST", list));
        let theirs = serde_json::json!({ "id": 8, "body": format!("> {}", text(&first)) });
        let before = serde_json::json!({ "id": 6, "body": text(&first) });
        let ours = serde_json::json!({ "id": 7, "body": text(&first) });
        let answer = serde_json::json!([before, ours, theirs]).to_string();
        let changed = after(host, &look, &response(200, &[], &answer)).expect("it is changed");
        assert_eq!(format!("{} {}", changed.method, changed.url), one);
        assert_eq!(text(&changed), text(&first));
        // What writes it stands for itself, and so does an answer that is none.
        assert!(after(host, &changed, &response(200, &[], "{}")).is_none());
        assert!(after(host, &look, &response(403, &[], "[]")).is_none());
        // What is gone by now, or of somebody else, such as the bot whose token we had before, is left as it is.
        for status in [403, 404] {
            let anew = after(host, &changed, &response(status, &[], "{}")).expect("written anew");
            assert_eq!(
                (anew.method.as_str(), anew.url.as_str(), text(&anew)),
                ("POST", list, text(&first)),
                "{status}"
            );
            assert!(after(host, &anew, &response(status, &[], "{}")).is_none(), "{status}");
        }
    }
}

#[test]
fn a_limit_of_requests_is_not_taken_for_somebody_elses_comment() {
    let look = requests(&chat("github-comment"), "failed").remove(0);
    let ours = text(&requests(&chat("github-comment"), "failed")[1]);
    let answer = serde_json::json!([{ "id": 7, "body": ours }]).to_string();
    let changed = after("github-comment", &look, &response(200, &[], &answer)).expect("it is changed");
    assert!(after("github-comment", &changed, &response(403, &[("retry-after", "60")], "{}")).is_none());
}

#[test]
fn what_is_told_of_one_thing_has_one_comment_and_another_thing_another() {
    let marker = |occasion| text(&requests(&chat("github-comment"), occasion)[1]).lines().next().map(str::to_owned);
    assert_eq!(marker("failed"), marker("recovered"));
    assert_ne!(marker("failed"), marker("firing"));
}

#[test]
fn comments_are_looked_through_page_by_page_and_not_without_end() {
    let next = ("link", "<https://elsewhere.example/?page=2>; rel=\"next\", <https://x>; rel=\"last\"");
    for host in ["github-comment", "gitlab-comment"] {
        let mut request = requests(&chat(host), "failed").remove(0);
        let mut pages = 1;
        while let Some(further) = after(host, &request, &response(200, &[next], "[]")) {
            if further.method != "GET" {
                assert_eq!(further.method, "POST");
                break;
            }
            pages += 1;
            assert!(further.url.ends_with(&format!("&page={pages}")) && !further.url.contains("elsewhere"));
            request = further;
        }
        assert_eq!(pages, 5);
    }
    let look = requests(&chat("gitea-comment"), "failed").remove(0);
    assert_eq!(after("gitea-comment", &look, &response(200, &[next], "[]")).expect("written").method, "POST");
}

/// The parts of a comment that are Markdown, without code spans and fenced blocks, by the rules of CommonMark.
fn markup(comment: &str) -> String {
    let mut markup = String::new();
    let mut fence: Option<usize> = None;
    for line in comment.lines() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        match fence {
            Some(open) if ticks >= open && line.trim_start_matches('`').trim().is_empty() => fence = None,
            Some(_) => {}
            None if ticks >= 3 && !line.trim_start_matches('`').contains('`') => fence = Some(ticks),
            None => {
                let mut rest = line;
                while let Some(start) = rest.find('`') {
                    markup.push_str(&rest[..start]);
                    let open = rest[start..].len() - rest[start..].trim_start_matches('`').len();
                    let inside = &rest[start + open..];
                    let mut at = 0;
                    // A span is closed by a run of exactly as many backticks.
                    rest = loop {
                        let Some(found) = inside[at..].find('`').map(|found| at + found) else {
                            panic!("open: {line}")
                        };
                        let run = inside[found..].len() - inside[found..].trim_start_matches('`').len();
                        at = found + run;
                        if run == open {
                            break &inside[at..];
                        }
                    };
                }
                markup.push_str(rest);
                markup.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "a block stays open");
    markup
}

#[test]
fn every_text_of_others_stands_in_code_so_that_nobody_is_mentioned_and_nothing_is_closed() {
    for host in HOSTS {
        for (occasion, _) in occasions() {
            for request in requests(&chat(host), occasion).iter().filter(|request| !request.body.is_empty()) {
                let comment = text(request);
                assert!(comment.encode_utf16().count() <= 65_536 || host == "gitlab-comment", "{occasion}");
                assert!(comment.starts_with("<!-- sluice:"), "{occasion}");
                let rest = markup(&comment);
                let (_, rest) = rest.split_once("-->").expect("a marker");
                for line in rest.lines() {
                    let pages = line.split("](<").skip(1).map(|page| page.split_once(">)").expect("closed").0);
                    let bare = pages.fold(line.to_owned(), |line, page| {
                        assert!(page.starts_with("http"), "{page}");
                        line.replacen(page, "", 1)
                    });
                    // What is left is ours: stars, dashes, brackets of links, what is left out.
                    let ours = |c: char| c.is_ascii_digit() || "*-: []()<>·… andmoreAllofit".contains(c);
                    assert!(bare.chars().all(ours), "{host} {occasion}: {bare}");
                    assert!(!bare.starts_with('/'), "{bare}");
                }
            }
        }
    }
}

#[test]
fn what_names_no_pull_request_is_not_told() {
    let entry = chat("github-comment");
    let plain = occasions();
    for (occasion, delivery) in &plain {
        assert!(entry.target.wants(&delivery.event, None).is_err(), "{occasion}");
    }
    for label in ["", "x", "-1", "1/../2"] {
        let mut event = of(&entry, "failed").event;
        let Detail::Alert(group) = &mut event.detail else { panic!("alerts") };
        group.alerts[0].labels.insert("change_request".into(), label.into());
        assert!(entry.target.wants(&event, None).is_err_and(|why| why.contains("change_request")), "{label}");
    }
}

#[test]
fn an_unknown_pull_request_costs_its_own_event_and_a_bad_token_waits() {
    for host in HOSTS {
        let entry = chat(host);
        assert!(matches!(outcome(&entry, 404, &[], ""), Outcome::Rejected { .. }), "{host}");
        assert!(entry.target.doubts_secret(&response(404, &[], "")), "{host}");
        for status in [401, 403] {
            let held = outcome(&entry, status, &[], "no");
            assert!(matches!(held, Outcome::Retry { blame: Blame::Setup, .. }), "{host} {status}: {held:?}");
        }
        assert_eq!(outcome(&entry, 201, &[], "{}"), Outcome::Delivered);
        assert_eq!(outcome(&entry, 200, &[], "{}"), Outcome::Delivered);
    }
}
