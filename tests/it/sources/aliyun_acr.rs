use super::*;

fn aliyun() -> Folder {
    folder("aliyun-acr")
}

#[test]
fn the_host_is_the_regions_or_the_relay_files() {
    let name =
        |folder: Folder, sample: &str| folder.outcome(sample).map(|parsed| pushes(&parsed)[0].repository.clone());
    let own = || {
        let host = "acme-registry.cn-hangzhou.cr.aliyuncs.com";
        aliyun().with(&json!({ "type": "aliyun-acr", "secret": "env:FIRST", "registry_host": host }))
    };
    assert_eq!(name(aliyun(), "push.json").expect("parsed"), "registry.cn-hangzhou.aliyuncs.com/acme/gateway");
    assert_eq!(name(own(), "push.json").expect("parsed"), "acme-registry.cn-hangzhou.cr.aliyuncs.com/acme/gateway");
    assert!(name(own(), "push-without-region.json").is_ok());
    let error = name(aliyun(), "push-without-region.json").expect_err("malformed").to_string();
    assert!(error.contains("`registry_host`"), "{error}");
    assert_eq!(name(aliyun(), "push-without-full-name.json"), name(aliyun(), "push.json"));
}

#[test]
fn a_push_is_told_from_others_by_its_local_time_which_is_no_time() {
    let parsed = aliyun().outcome("push.json").expect("parsed");
    assert!(identities(&parsed)[0].is_some_and(|identity| identity.ends_with("2026-08-20 18:05:44")));
    assert_eq!(parsed.events[0].time, None);
    assert_eq!(identities(&aliyun().outcome("push-without-time.json").expect("parsed")), [None]);
}

#[test]
fn a_malformed_body_is_refused_with_the_place() {
    for (sample, place) in
        [("malformed-without-tag.json", "`push_data.tag`"), ("malformed-without-repository.json", "`repository`")]
    {
        let error = aliyun().outcome(sample).expect_err("malformed").to_string();
        assert!(error.contains(place), "{sample}: {error}");
    }
}
