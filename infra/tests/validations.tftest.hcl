# Every validation of a variable, and every precondition: the sentence comes at plan time.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  relay_file = "tests/relay.yaml"
  zips       = { objects = { for name in ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"] : name => { bucket = "zips", key = name, version = "1" } } }
  agents = {
    eks = {}
    vpc = { vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] } }
  }
}

run "a_name_that_does_not_fit_into_all_names_is_refused" {
  command = plan
  variables {
    name = "Sluice_of_the_platform_team"
  }
  expect_failures = [var.name]
}

run "a_relay_file_that_is_neither_yaml_nor_a_path_is_refused" {
  command = plan
  variables {
    relay_file = "nowhere.yaml"
  }
  expect_failures = [var.relay_file]
}

run "a_relay_file_that_is_a_list_is_refused" {
  command = plan
  variables {
    relay_file = "- github"
  }
  expect_failures = [var.relay_file]
}

run "zips_in_two_places_are_refused" {
  command = plan
  variables {
    zips = { folder = "target/lambda", objects = {} }
  }
  expect_failures = [var.zips]
}

run "zips_in_no_place_are_refused" {
  command = plan
  variables {
    zips = {}
  }
  expect_failures = [var.zips]
}

run "zips_of_some_functions_only_are_refused" {
  command = plan
  variables {
    zips = { objects = { deliver = { bucket = "zips", key = "deliver.zip" } } }
  }
  expect_failures = [var.zips]
}

run "another_architecture_is_refused" {
  command = plan
  variables {
    architecture = "riscv64"
  }
  expect_failures = [var.architecture]
}

run "too_little_memory_is_refused" {
  command = plan
  variables {
    memory = 64
  }
  expect_failures = [var.memory]
}

run "half_a_megabyte_is_refused" {
  command = plan
  variables {
    memory = 256.5
  }
  expect_failures = [var.memory]
}

run "one_batch_at_a_time_is_refused" {
  command = plan
  variables {
    concurrency = { deliver = 1 }
  }
  expect_failures = [var.concurrency]
}

run "concurrency_for_what_is_no_function_is_refused" {
  command = plan
  variables {
    concurrency = { reserved = { webhook = 5 } }
  }
  expect_failures = [var.concurrency]
}

run "a_negative_concurrency_is_refused" {
  command = plan
  variables {
    concurrency = { reserved = { probe = -1 } }
  }
  expect_failures = [var.concurrency]
}

run "an_agent_whose_name_is_no_name_is_refused" {
  command = plan
  variables {
    agents = { eks = {}, vpc = {}, "Prod_EU" = {} }
  }
  expect_failures = [var.agents]
}

run "an_agent_named_like_a_dead_letter_queue_is_refused" {
  command = plan
  variables {
    agents = { eks = {}, vpc = {}, "eks-dead-letters" = {} }
  }
  expect_failures = [var.agents]
}

run "a_vpc_without_subnets_is_refused" {
  command = plan
  variables {
    agents = { eks = {}, vpc = { vpc = { subnet_ids = [], security_group_ids = ["sg-1"] } } }
  }
  expect_failures = [var.agents]
}

run "an_oidc_provider_that_is_no_arn_is_refused" {
  command = plan
  variables {
    agents = { vpc = {}, eks = { oidc_provider_arn = "oidc.eks.eu-central-1.amazonaws.com/id/1" } }
  }
  expect_failures = [var.agents]
}

run "a_retention_that_cloudwatch_does_not_have_is_refused" {
  command = plan
  variables {
    logs = { retention_days = 42 }
  }
  expect_failures = [var.logs]
}

run "a_log_level_that_lambda_does_not_have_is_refused" {
  command = plan
  variables {
    logs = { level = "VERBOSE" }
  }
  expect_failures = [var.logs]
}

run "an_alias_of_a_key_is_refused" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:alias/sluice"
  }
  expect_failures = [var.kms_key_arn]
}

run "an_alias_of_a_secrets_key_is_refused" {
  command = plan
  variables {
    secret_kms_key_arns = ["alias/secrets"]
  }
  expect_failures = [var.secret_kms_key_arns]
}

run "a_throttle_that_lets_nothing_in_is_refused" {
  command = plan
  variables {
    throttle = { rate = 0 }
  }
  expect_failures = [var.throttle]
}

run "a_domain_that_is_a_url_is_refused" {
  command = plan
  variables {
    domain = { name = "https://hooks.example.com", certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/1" }
  }
  expect_failures = [var.domain]
}

run "two_ways_for_alarms_are_refused" {
  command = plan
  variables {
    alarms = { topic_arn = "arn:aws:sns:eu-central-1:111122223333:oncall", email = "oncall@example.com" }
  }
  expect_failures = [var.alarms]
}

run "a_topic_that_is_no_arn_is_refused" {
  command = plan
  variables {
    alarms = { topic_arn = "oncall" }
  }
  expect_failures = [var.alarms]
}

run "an_email_that_is_none_is_refused" {
  command = plan
  variables {
    alarms = { email = "oncall" }
  }
  expect_failures = [var.alarms]
}

run "an_alarm_that_is_always_on_is_refused" {
  command = plan
  variables {
    alarms = { oldest_minutes = 0 }
  }
  expect_failures = [var.alarms]
}

run "an_overdue_time_that_is_no_whole_number_is_refused" {
  command = plan
  variables {
    alarms = { overdue_minutes = 7.5 }
  }
  expect_failures = [var.alarms]
}

run "more_than_all_refused_requests_are_refused" {
  command = plan
  variables {
    alarms = { refused_percent = 101 }
  }
  expect_failures = [var.alarms]
}

run "a_schedule_that_is_none_is_refused" {
  command = plan
  variables {
    probe_schedule = "5 minutes"
  }
  expect_failures = [var.probe_schedule]
}

run "an_account_with_hyphens_is_refused" {
  command = plan
  variables {
    event_accounts = ["1111-2222-3333"]
  }
  expect_failures = [var.event_accounts]
}

run "a_boundary_that_is_no_policy_is_refused" {
  command = plan
  variables {
    permissions_boundary_arn = "boundary"
  }
  expect_failures = [var.permissions_boundary_arn]
}

run "names_with_dots_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { "git.hub" = { type = "github", secret = "ssm:/a" } } })
  }
  expect_failures = [terraform_data.relay]
}

run "the_name_healthz_is_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { healthz = { type = "github", secret = "ssm:/a" } } })
  }
  expect_failures = [terraform_data.relay]
}

run "sources_of_an_unknown_type_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { hub = { type = "carrier-pigeon" } } })
  }
  expect_failures = [terraform_data.relay]
}

run "targets_of_an_unknown_agent_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ targets = { prod = { type = "http", agent = "nobody", url = "https://example.com" } } })
  }
  expect_failures = [terraform_data.relay]
}

run "secrets_in_variables_of_the_environment_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { github = { type = "github", secret = "env:SECRET" } } })
  }
  expect_failures = [terraform_data.relay]
}

run "parts_of_the_relay_file_that_are_too_large_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { github = { type = "github", secret = "ssm:/a", labels = { for n in range(150) : sha256(n) => join("", [for m in range(20) : "\U0001F468\u200D\U0001F469\u200D\U0001F467"]) } } } })
  }
  expect_failures = [aws_ssm_parameter.relay]
}

run "alarms_that_go_through_sluice_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { alarms = { type = "ecr", topics = "arn:aws:sns:eu-central-1:111122223333:oncall" } } })
    alarms     = { topic_arn = "arn:aws:sns:eu-central-1:111122223333:oncall" }
  }
  expect_failures = [terraform_data.relay]
}

run "rights_that_do_not_fit_into_a_policy_are_refused" {
  command = plan
  variables {
    relay_file = jsonencode({ targets = { for n in range(150) : "target-${n}" => { type = "http", url = "https://example.com", auth = { bearer = "secretsmanager:clusters/number-${n}/bearer" } } } })
  }
  expect_failures = [aws_iam_role_policy.this["deliver"]]
}
