use super::*;

const HOSTS: [(&str, &str, usize); 3] =
    [("github-status", "context", 140), ("gitlab-status", "name", 255), ("gitea-status", "context", 140)];

fn body(request: &Outbound) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

#[test]
fn every_status_keeps_to_the_limits_of_its_host_by_other_code_than_ours() {
    for (host, context, limit) in HOSTS {
        for (occasion, _) in occasions() {
            for request in requests(&chat(host), occasion) {
                let body = body(&request);
                let length = |name: &str| body[name].as_str().map_or(0, |text| text.chars().count());
                assert!((1..=limit).contains(&length("description")), "{host} {occasion}: {body}");
                assert!((1..=100).contains(&length(context)), "{host} {occasion}: {body}");
                assert!(length("target_url") <= 255 || host != "gitlab-status", "{occasion}: {body}");
            }
        }
    }
}

#[test]
fn what_fires_is_a_failure_of_its_commit_and_what_ends_it_a_success_under_the_same_name() {
    for (host, context, _) in HOSTS {
        let of = |occasion| <[Outbound; 1]>::try_from(requests(&chat(host), occasion)).expect("one")[0].clone();
        let (failed, recovered) = (of("failed"), of("recovered"));
        assert!(failed.url.ends_with("/statuses/3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812"), "{}", failed.url);
        assert_eq!(failed.url, recovered.url);
        let (failed, recovered) = (body(&failed), body(&recovered));
        assert_eq!(failed["state"], if host == "gitlab-status" { "failed" } else { "failure" });
        assert_eq!(recovered["state"], "success");
        assert_eq!(recovered[context], failed[context]);
        assert_eq!(failed[context], "prod/Kustomization/flux-system/apps");
    }
}

#[test]
fn what_is_over_does_not_read_as_if_it_went_on() {
    for (host, ..) in HOSTS {
        let said =
            |occasion| body(&requests(&chat(host), occasion)[0])["description"].as_str().expect("text").to_owned();
        assert!(said("firing").starts_with("checkout-0 answers 5xx"), "{}", said("firing"));
        assert!(said("resolved").starts_with("Resolved: checkout-0 answers 5xx"), "{}", said("resolved"));
    }
}

/// One would end what the other began.
#[test]
fn alerts_without_an_object_do_not_share_a_status() {
    let context = |occasion| body(&requests(&chat("github-status"), occasion)[0])["context"].clone();
    assert_eq!(context("firing"), context("resolved"));
    let entry = chat("github-status");
    let mut other = of(&entry, "firing");
    let Detail::Alert(group) = &mut other.event.detail else { panic!("alerts") };
    group.group = "another".into();
    let other = entry.target.render(&other, &secrets(&entry), now()).expect("rendered");
    assert_ne!(body(&other[0])["context"], context("firing"));
}

fn refusal(change: impl FnOnce(&mut Event)) -> String {
    let entry = chat("github-status");
    let mut event = of(&entry, "failed").event;
    change(&mut event);
    entry.target.wants(&event, None).err().unwrap_or_default()
}

fn with_revisions(revisions: &[&str]) -> String {
    refusal(|event| {
        let Detail::Alert(group) = &mut event.detail else { panic!("alerts") };
        let alert = group.alerts[0].clone();
        group.alerts = revisions
            .iter()
            .map(|revision| Alert { labels: texts(&[("revision", revision)]), ..alert.clone() })
            .collect();
    })
}

#[test]
fn a_commit_is_found_in_every_form_of_revision_and_a_digest_is_none() {
    let hash = "3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812";
    for revision in
        [hash.to_owned(), format!("main@sha1:{hash}"), format!("feature/x@sha1:{hash}"), format!("main/{hash}")]
    {
        assert_eq!(with_revisions(&[&revision, hash]), "", "{revision}");
    }
    let digest = format!("latest@sha256:{}", "0".repeat(64));
    for revision in [digest.as_str(), "1.2.3", "", "main@sha1:3f1c2b7"] {
        assert!(with_revisions(&[revision]).contains("revision"), "{revision}");
    }
    assert!(with_revisions(&[hash, &hash.replace('3', "4")]).contains("several commits"));
    let origin = refusal(|event| {
        let Detail::Alert(group) = &mut event.detail else { panic!("alerts") };
        group.alerts[0].labels = texts(&[("revision", &digest), ("originRevision", &format!("main@sha1:{hash}"))]);
    });
    assert_eq!(origin, "");
}

#[test]
fn what_a_status_causes_and_what_is_about_another_repository_is_not_told() {
    let git = |event: &str, repository: &str| {
        let entry = chat("github-status");
        let mut of = of(&entry, "workflow").event;
        let Detail::Git(git) = &mut of.detail else { panic!("a Git event") };
        (git.event, git.repository) = (event.into(), some(repository));
        entry.target.wants(&of, None).err().unwrap_or_default()
    };
    assert_eq!(git("workflow_run", "github.com/Acme/App"), "");
    assert!(git("workflow_run", "github.com/acme/other").contains("another repository"));
    for event in ["status", "pipeline"] {
        assert!(git(event, "github.com/acme/app").contains("without end"), "{event}");
    }
}

#[test]
fn an_app_states_who_it_is_and_no_key_is_in_what_is_sent() {
    let [request] = <[Outbound; 1]>::try_from(requests(&chat("github-status-app"), "failed")).expect("one");
    let asked = request.token.expect("a token is asked for");
    assert_eq!(asked.request.url, "https://github.example.com/api/v3/app/installations/42/access_tokens");
    let time = now().as_second();
    assert_eq!(asked.claims, serde_json::json!({ "iss": "Iv23example", "iat": time - 60, "exp": time + 540 }));
    assert!(!request.headers.contains_key("authorization") && asked.request.headers.get("authorization").is_none());
}

#[test]
fn a_github_target_has_a_token_or_an_app() {
    for keys in ["", "token: 'env:T', app_id: 1", "app_id: 1, installation_id: 2", "app_id: 1, private_key: 'env:K'"] {
        let file = format!("targets: {{ a: {{ type: github-status, repository: a/b, {keys} }} }}");
        let problems = sluice::relay::Relay::from_value(&sluice::rim::yaml::parse(&file).expect("YAML").value);
        let problems = problems.expect_err(keys);
        assert!(problems.contains("either `token`, or `app_id`"), "{keys}: {problems}");
    }
}

#[test]
fn every_answer_is_judged_as_its_host_means_it() {
    let held = |host: &str, status, body| {
        matches!(outcome(&chat(host), status, &[], body), Outcome::Retry { blame: Blame::Setup, .. })
    };
    let rejected = |host: &str, status, body: &str| matches!(outcome(&chat(host), status, &[], body), Outcome::Rejected { reason } if reason.contains(body));
    for (host, ..) in HOSTS {
        assert_eq!(outcome(&chat(host), 201, &[], "{}"), Outcome::Delivered);
        for (status, said) in
            [(401, "no"), (403, "no"), (404, "404 Project Not Found"), (404, r#"{"message":"not found"}"#)]
        {
            assert!(held(host, status, said), "{host} {status} {said}");
        }
        assert!(rejected(host, 422, "No commit found for SHA"), "{host}");
        let later = outcome(&chat(host), 429, &[("retry-after", "30")], "");
        assert!(matches!(later, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 30), "{host}: {later:?}");
    }
    for headers in [&[("retry-after", "60")][..], &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")]] {
        let secondary = outcome(&chat("github-status"), 403, headers, "secondary rate limit");
        assert!(matches!(secondary, Outcome::RetryAfter { .. }), "{secondary:?}");
    }
    assert!(rejected("github-status", 422, "maximum number of statuses"));
    assert!(rejected("gitlab-status", 400, "description is too long"));
    let already = "{\"message\":\"Cannot transition status via :run from :running\"}";
    assert_eq!(outcome(&chat("gitlab-status"), 400, &[], already), Outcome::Delivered);
    let at_once = outcome(&chat("gitlab-status"), 409, &[], "Another update to this commit status is in progress");
    assert!(matches!(at_once, Outcome::Retry { blame: Blame::Target, .. }), "{at_once:?}");
}

#[test]
fn a_commit_that_is_not_there_costs_its_own_event_alone() {
    let rejected = |host: &str, said: &str| {
        let outcome = outcome(&chat(host), 404, &[], said);
        assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("no such commit")), "{outcome:?}");
    };
    rejected("gitlab-status", r#"{"message":"404 Commit Not Found"}"#);
    rejected("gitlab-status", r#"{"message":"404 References for commit Not Found"}"#);
}

/// It answers 500 for a commit that is not there, and tells administrators alone why.
#[test]
fn gitea_is_asked_for_the_commit_where_it_failed_to_set_its_status() {
    let entry = chat("gitea-status");
    let delivery = of(&entry, "failed");
    let [status] = <[Outbound; 1]>::try_from(requests(&entry, "failed")).expect("one");
    let then = |host: &str, asked: &Outbound, code: u16| {
        let entry = chat(host);
        let answer = response(code, &[], r#"{"message":"","url":"https://gitea.com/api/swagger"}"#);
        entry.target.follow_up(&delivery, asked, &answer, &secrets(&entry), now())
    };
    let look = then("gitea-status", &status, 500).expect("rendered").expect("it is looked for");
    let place = "https://gitea.com/api/v1/repos/acme/app/git/commits/3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812?";
    assert!(look.method == "GET" && look.url.starts_with(place) && look.body.is_empty(), "{}", look.url);
    assert!(look.headers["authorization"].is_sensitive());
    let found = outcome(&entry, 200, &[], r#"{"sha":"3f1c2b7a9d0e4c5b6a7f8091a2b3c4d5e6f70812"}"#);
    assert!(matches!(found, Outcome::Retry { blame: Blame::Target, .. }), "nothing was set: {found:?}");
    let gone = then("gitea-status", &look, 404).expect_err("it is not there").to_string();
    assert!(gone.contains("no such commit"), "{gone}");
    for (host, asked, code) in [
        ("gitea-status", &look, 500),
        ("gitea-status", &status, 503),
        ("gitea-status", &status, 404),
        ("github-status", &status, 500),
    ] {
        assert!(then(host, asked, code).expect("rendered").is_none(), "{host} {code}");
    }
}
