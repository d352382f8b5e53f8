# What is deployed from tests/relay.yaml: names, routes, triggers, queues, functions, alarms.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  relay_file = "tests/relay.yaml"
  zips       = { objects = { for name in ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"] : name => { bucket = "zips", key = name, version = "v1" } } }
  agents = {
    eks = {}
    vpc = { vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] } }
  }
}

run "every_name_begins_with_the_deployments" {
  command = plan
  variables {
    name = "relay"
  }
  assert {
    condition     = toset([for function in values(aws_lambda_function.this) : function.function_name]) == toset(["relay-agent-vpc", "relay-alert-intake", "relay-deliver", "relay-git-webhook", "relay-probe", "relay-registry-push"])
    error_message = jsonencode([for function in values(aws_lambda_function.this) : function.function_name])
  }
  assert {
    condition = toset(concat([for queue in concat(values(aws_sqs_queue.deliveries), values(aws_sqs_queue.dead_letters)) : queue.name], [aws_sqs_queue.intake_failed.name])) == toset([
      "relay-deliveries.fifo", "relay-dead-letters.fifo", "relay-agent-eks.fifo", "relay-agent-eks-dead-letters.fifo",
      "relay-agent-vpc.fifo", "relay-agent-vpc-dead-letters.fifo", "relay-intake-failed",
    ])
    error_message = "The queues have other names."
  }
  assert {
    condition     = toset([for role in values(aws_iam_role.this) : role.name]) == toset([for role in ["agent-eks", "agent-vpc", "alert-intake", "deliver", "git-webhook", "probe", "registry-push"] : "relay-${role}-eu-central-1"])
    error_message = jsonencode([for role in values(aws_iam_role.this) : role.name])
  }
  assert {
    condition     = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.queues), values(aws_cloudwatch_metric_alarm.functions), values(aws_cloudwatch_metric_alarm.api), values(aws_cloudwatch_metric_alarm.refused), [aws_cloudwatch_metric_alarm.probe, aws_cloudwatch_metric_alarm.overdue]) : startswith(alarm.alarm_name, "relay-")])
    error_message = "An alarm has another name."
  }
  assert {
    condition     = [aws_dynamodb_table.state.name, aws_apigatewayv2_api.this.name, aws_cloudwatch_dashboard.this.dashboard_name, aws_scheduler_schedule.probe.name, aws_iam_role.scheduler.name] == ["relay", "relay", "relay-eu-central-1", "relay-probe", "relay-schedule-eu-central-1"]
    error_message = "Table, API, dashboard, schedule or its role have another name."
  }
}

run "in_one_account_a_region_shares_no_name_with_another" {
  command = plan
  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-1" }
  }
  variables {
    name   = "n23456789012345678901234"
    agents = { for name in ["a234567890123456789012345678901", "a234567890123456789012345678902"] : name => {} }
    # No target of an agent's.
    relay_file = "tests/other.yaml"
  }
  assert {
    condition     = alltrue([for role in concat(values(aws_iam_role.this), [aws_iam_role.scheduler]) : length(role.name) <= 64]) && length(distinct(values(local.role_names))) == 7
    error_message = jsonencode(local.role_names)
  }
  assert {
    condition     = local.role_names["deliver"] == "n23456789012345678901234-deliver-ap-southeast-1" && alltrue([for role, name in local.role_names : endswith(name, "-ap-southeast-1") || startswith(role, "agent-")])
    error_message = jsonencode(local.role_names)
  }
  assert {
    condition     = aws_cloudwatch_dashboard.this.dashboard_name == "n23456789012345678901234-ap-southeast-1" && aws_iam_role.scheduler.name == "n23456789012345678901234-schedule-ap-southeast-1"
    error_message = "The dashboard or the schedule's role is called as in another region."
  }
}

run "every_source_has_its_routes_and_the_rest_is_answered_by_git_webhook" {
  command = plan
  assert {
    condition = local.routes == {
      "$default"                    = "git-webhook"
      "ANY /github"                 = "git-webhook", "ANY /github/{token}" = "git-webhook"
      "ANY /gitlab"                 = "git-webhook", "ANY /gitlab/{token}" = "git-webhook"
      "ANY /pushes"                 = "git-webhook", "ANY /pushes/{token}" = "git-webhook"
      "ANY /ghcr"                   = "registry-push", "ANY /ghcr/{token}" = "registry-push"
      "ANY /hub"                    = "registry-push", "ANY /hub/{token}" = "registry-push"
      "ANY /ecr"                    = "registry-push", "ANY /ecr/{token}" = "registry-push"
      "ANY /ecr-two"                = "registry-push", "ANY /ecr-two/{token}" = "registry-push"
      "ANY /ecr-by-api-destination" = "registry-push", "ANY /ecr-by-api-destination/{token}" = "registry-push"
      "ANY /flux"                   = "alert-intake", "ANY /flux/{token}" = "alert-intake"
      "ANY /monitoring"             = "alert-intake", "ANY /monitoring/{token}" = "alert-intake"
    }
    error_message = jsonencode(local.routes)
  }
  assert {
    condition     = toset(keys(aws_apigatewayv2_route.this)) == toset(keys(local.routes)) && alltrue([for key, route in aws_apigatewayv2_route.this : route.route_key == key])
    error_message = "The API's routes are others."
  }
  assert {
    condition     = alltrue([for integration in values(aws_apigatewayv2_integration.functions) : integration.payload_format_version == "2.0" && integration.integration_type == "AWS_PROXY"])
    error_message = "A function gets something else than payload 2.0."
  }
}

run "the_front_door_is_throttled_and_never_logs_a_path" {
  command = plan
  assert {
    condition     = one(aws_apigatewayv2_stage.this.default_route_settings).throttling_rate_limit == 200 && one(aws_apigatewayv2_stage.this.default_route_settings).throttling_burst_limit == 500
    error_message = "The throttle is another one."
  }
  assert {
    condition     = strcontains(one(aws_apigatewayv2_stage.this.access_log_settings).format, "$context.routeKey")
    error_message = "The access log does not say the route."
  }
  assert {
    condition     = length(regexall("(?i)path|uri|query", one(aws_apigatewayv2_stage.this.access_log_settings).format)) == 0
    error_message = "The access log has the path, and in it the tokens of senders that cannot sign."
  }
}

run "only_sources_that_need_one_have_a_rule" {
  command = plan
  assert {
    condition = jsonencode(local.rules) == jsonencode({
      ecr = {
        function  = "registry-push"
        principal = "events.amazonaws.com"
        arn       = "arn:aws:events:eu-central-1:111122223333:rule/sluice-ecr"
        pattern = {
          source        = ["aws.ecr"]
          "detail-type" = ["ECR Image Action"]
          detail        = { "action-type" = ["PUSH"], result = ["SUCCESS"] }
          account       = ["111122223333", "444455556666", "777788889999"]
        }
      }
    })
    error_message = jsonencode(local.rules)
  }
  assert {
    condition     = aws_cloudwatch_event_rule.this["ecr"].event_pattern == jsonencode(local.rules.ecr.pattern)
    error_message = aws_cloudwatch_event_rule.this["ecr"].event_pattern
  }
  assert {
    condition     = toset(keys(aws_cloudwatch_event_target.this)) == toset(["ecr"]) && toset(keys(aws_lambda_permission.invokers)) == toset(["rule-ecr"]) && length(aws_sns_topic_subscription.this) == 0
    error_message = "Something else invokes a function."
  }
  assert {
    condition     = aws_lambda_permission.invokers["rule-ecr"].source_arn == "arn:aws:events:eu-central-1:111122223333:rule/sluice-ecr"
    error_message = "Another rule may invoke the function."
  }
  assert {
    condition     = toset(keys(aws_lambda_function_event_invoke_config.intake)) == toset(["registry-push"])
    error_message = "The wrong functions have an on-failure destination."
  }
}

run "one_unlimited_source_makes_the_rule_unlimited" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = { a = { type = "ecr", accounts = "111122223333" }, b = { type = "ecr", regions = ["eu-west-1"] } } })
    agents     = {}
  }
  assert {
    condition     = !contains(keys(local.rules.ecr.pattern), "account") && !contains(keys(local.rules.ecr.pattern), "region")
    error_message = jsonencode(local.rules.ecr.pattern)
  }
}

run "what_a_source_takes_for_a_push_besides_one_is_in_the_rule" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = {
      a = { type = "ecr", replications = true, pull_through = false }
      b = { type = "ecr", pull_through = true, secret = "ssm:/a", header = "X-Key" }
    } })
    agents = {}
  }
  assert {
    condition     = jsonencode(local.rules.ecr.pattern) == jsonencode({ source = ["aws.ecr"], "detail-type" = ["ECR Image Action", "ECR Replication Action"] })
    error_message = jsonencode(local.rules.ecr.pattern)
  }
}

run "topics_of_this_region_are_subscribed_to_in_place_of_a_rule" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = {
      here    = { type = "ecr", topics = "arn:aws:sns:eu-central-1:111122223333:pushes" }
      away    = { type = "ecr", topics = ["arn:aws:sns:us-east-1:111122223333:pushes"] }
      commits = { type = "codecommit", topics = ["arn:aws:sns:eu-central-1:111122223333:commits"] }
    } })
    agents = {}
  }
  assert {
    condition     = toset(keys(aws_sns_topic_subscription.this)) == toset(["arn:aws:sns:eu-central-1:111122223333:commits", "arn:aws:sns:eu-central-1:111122223333:pushes"]) && length(local.rules) == 0
    error_message = jsonencode(keys(aws_sns_topic_subscription.this))
  }
  assert {
    condition     = aws_lambda_permission.invokers["topic-111122223333-pushes"].principal == "sns.amazonaws.com" && aws_lambda_permission.invokers["topic-111122223333-pushes"].source_arn == "arn:aws:sns:eu-central-1:111122223333:pushes"
    error_message = "The topic may not invoke the function."
  }
  assert {
    condition     = { for topic in values(local.topics) : topic.arn => topic.function } == { "arn:aws:sns:eu-central-1:111122223333:commits" = "git-webhook", "arn:aws:sns:eu-central-1:111122223333:pushes" = "registry-push" }
    error_message = "A topic invokes another function."
  }
  assert {
    condition = anytrue([for statement in jsondecode(aws_sqs_queue.intake_failed.policy).Statement :
      statement.Principal == { Service = "sns.amazonaws.com" } && statement.Condition == { ArnEquals = { "aws:SourceArn" = "arn:aws:sns:eu-central-1:111122223333:pushes" } } if statement.Effect == "Allow"
    ])
    error_message = aws_sqs_queue.intake_failed.policy
  }
}

run "other_accounts_may_forward_their_events_if_they_are_named" {
  command = plan
  variables {
    event_accounts = ["444455556666"]
  }
  assert {
    condition     = [for permission in values(aws_cloudwatch_event_permission.accounts) : permission.principal] == ["444455556666"]
    error_message = "The default event bus lets in others."
  }
}

run "queues_are_encrypted_keep_two_weeks_and_refuse_what_comes_without_tls" {
  command = plan
  assert {
    condition = alltrue([for queue in concat(values(aws_sqs_queue.deliveries), values(aws_sqs_queue.dead_letters), [aws_sqs_queue.intake_failed]) :
      queue.sqs_managed_sse_enabled && queue.message_retention_seconds == 1209600 &&
      jsondecode(queue.policy).Statement[0] == {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = "arn:aws:sqs:eu-central-1:111122223333:${queue.name}"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }
    ])
    error_message = "A queue is not as it should be."
  }
  assert {
    condition = alltrue([for queue in concat(values(aws_sqs_queue.deliveries), values(aws_sqs_queue.dead_letters)) :
      queue.fifo_queue && queue.deduplication_scope == "messageGroup" && queue.fifo_throughput_limit == "perMessageGroupId"
    ])
    error_message = "A FIFO queue is not in high-throughput mode."
  }
  assert {
    condition     = alltrue([for queue in values(aws_sqs_queue.deliveries) : queue.visibility_timeout_seconds == 6 * aws_lambda_function.this["deliver"].timeout])
    error_message = "Messages are hidden for another time than six times the function's."
  }
  assert {
    condition     = aws_sqs_queue.intake_failed.fifo_queue != true
    error_message = "No destination of an asynchronous invocation can be a FIFO queue."
  }
  assert {
    condition = alltrue([for name, queue in aws_sqs_queue.dead_letters :
      jsondecode(queue.redrive_allow_policy).sourceQueueArns == ["arn:aws:sqs:eu-central-1:111122223333:${aws_sqs_queue.deliveries[name].name}"]
    ])
    error_message = "Another queue's messages may end in a dead-letter queue."
  }
}

run "functions_are_small_on_graviton_and_log_in_json_to_groups_that_end" {
  command = plan
  assert {
    condition = alltrue([for name, function in aws_lambda_function.this :
      function.runtime == "provided.al2023" && function.architectures == tolist(["arm64"]) && function.memory_size == 512 &&
      one(function.logging_config).log_format == "JSON" && one(function.logging_config).application_log_level == "INFO" &&
      one(function.logging_config).log_group == "/aws/lambda/sluice-${name}"
    ])
    error_message = "A function is not as it should be."
  }
  assert {
    condition     = alltrue([for group in concat(values(aws_cloudwatch_log_group.functions), [aws_cloudwatch_log_group.api]) : group.retention_in_days == 365])
    error_message = "A log group keeps its logs for another time."
  }
  assert {
    condition     = aws_cloudwatch_log_group.api.name == "/aws/vendedlogs/apigateway/sluice"
    error_message = aws_cloudwatch_log_group.api.name
  }
  assert {
    condition     = alltrue([for name, function in aws_lambda_function.this : length(function.vpc_config) == (name == "agent-vpc" ? 1 : 0)])
    error_message = "The wrong functions are in a VPC."
  }
  assert {
    condition     = alltrue([for mapping in values(aws_lambda_event_source_mapping.deliveries) : mapping.function_response_types == toset(["ReportBatchItemFailures"]) && one(mapping.scaling_config).maximum_concurrency == 5])
    error_message = "A trigger does not report what of a batch has failed."
  }
  assert {
    condition     = toset(keys(aws_lambda_event_source_mapping.deliveries)) == toset(["deliver", "agent-vpc"])
    error_message = "The wrong functions get deliveries."
  }
}

run "what_is_asked_for_is_set" {
  command = plan
  variables {
    architecture             = "x86_64"
    memory                   = 256
    logs                     = { retention_days = 30, level = "DEBUG" }
    concurrency              = { deliver = 4, reserved = { git-webhook = 7 } }
    throttle                 = { rate = 20, burst = 50 }
    permissions_boundary_arn = "arn:aws:iam::111122223333:policy/boundary"
    domain                   = { name = "hooks.example.com", certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/1" }
    tags                     = { team = "platform" }
    probe_schedule           = "rate(1 hour)"
    alarms                   = { overdue_minutes = 40 }
  }
  assert {
    condition = alltrue([for name, function in aws_lambda_function.this :
      function.architectures == tolist(["x86_64"]) && function.memory_size == 256 && one(function.logging_config).application_log_level == "DEBUG" &&
      function.reserved_concurrent_executions == (name == "git-webhook" ? 7 : -1)
    ])
    error_message = "A function is not as asked for."
  }
  assert {
    condition     = one(aws_lambda_event_source_mapping.deliveries["deliver"].scaling_config).maximum_concurrency == 4 && one(aws_apigatewayv2_stage.this.default_route_settings).throttling_rate_limit == 20
    error_message = "Concurrency or throttle are not as asked for."
  }
  assert {
    condition     = alltrue([for role in concat(values(aws_iam_role.this), [aws_iam_role.scheduler]) : role.permissions_boundary == "arn:aws:iam::111122223333:policy/boundary"])
    error_message = "A role has no boundary."
  }
  assert {
    condition     = output.source_urls.github == "https://hooks.example.com/github" && aws_apigatewayv2_domain_name.this[0].domain_name == "hooks.example.com"
    error_message = output.source_urls.github
  }
  assert {
    condition = alltrue([for tags in concat(
      [for resource in concat(values(aws_lambda_function.this), values(aws_iam_role.this), values(aws_sqs_queue.deliveries), values(aws_sqs_queue.dead_letters), values(aws_ssm_parameter.relay)) : resource.tags],
      [aws_sqs_queue.intake_failed.tags, aws_dynamodb_table.state.tags, aws_apigatewayv2_api.this.tags, aws_cloudwatch_log_group.api.tags, aws_cloudwatch_metric_alarm.probe.tags, aws_cloudwatch_metric_alarm.overdue.tags],
    ) : tags == tomap({ team = "platform" })])
    error_message = "A resource has no tags."
  }
  assert {
    condition     = aws_scheduler_schedule.probe.schedule_expression == "rate(1 hour)"
    error_message = "The probe runs at other times."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.probe.evaluation_periods == 1
    error_message = "The alarm asks for two failures in ten minutes, in which there is one probe."
  }
  assert {
    condition     = one(aws_lambda_function.this["probe"].environment).variables.SLUICE_OVERDUE == "40m"
    error_message = "Deliveries are overdue at another time."
  }
}

run "alarms_are_told_by_a_topic_that_does_not_pass_through_sluice" {
  command = plan
  variables {
    alarms = { topic_arn = "arn:aws:sns:eu-central-1:111122223333:oncall" }
  }
  assert {
    condition = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.queues), values(aws_cloudwatch_metric_alarm.functions), values(aws_cloudwatch_metric_alarm.api), values(aws_cloudwatch_metric_alarm.refused), [aws_cloudwatch_metric_alarm.probe, aws_cloudwatch_metric_alarm.overdue]) :
      alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:111122223333:oncall"])
    ])
    error_message = "Nobody hears of an alarm."
  }
  assert {
    condition = toset(keys(local.queue_alarms)) == toset(flatten([
      "intake-failed", [for name in ["deliver", "agent-eks", "agent-vpc"] : ["${name}-dead-letters", "${name}-oldest", "${name}-waiting"]],
    ]))
    error_message = jsonencode(keys(local.queue_alarms))
  }
  assert {
    condition     = local.queue_alarms["deliver-waiting"].threshold == 49999 && local.queue_alarms["deliver-oldest"].threshold == 3600 && local.queue_alarms["deliver-dead-letters"].threshold == 0
    error_message = "An alarm has another threshold."
  }
  assert {
    condition     = toset(keys(local.function_alarms)) == toset(flatten([for name in keys(local.functions) : ["${name}-errors", "${name}-throttles"]]))
    error_message = jsonencode(keys(local.function_alarms))
  }
}

run "a_receiver_has_to_fail_twice_where_every_period_has_a_probe" {
  command = plan
  assert {
    condition     = aws_cloudwatch_metric_alarm.probe.evaluation_periods == 2 && aws_cloudwatch_metric_alarm.probe.period == 300
    error_message = "${aws_cloudwatch_metric_alarm.probe.evaluation_periods} periods"
  }
}

run "an_email_address_gets_a_topic_of_its_own" {
  command = plan
  variables {
    alarms = { email = "oncall@example.com" }
  }
  assert {
    condition     = aws_sns_topic.alarms[0].name == "sluice-alarms" && aws_sns_topic_subscription.alarms[0].endpoint == "oncall@example.com"
    error_message = "The address does not hear of alarms."
  }
}

run "a_small_relay_file_is_in_the_environment_of_the_functions" {
  assert {
    condition     = alltrue([for name, function in aws_lambda_function.this : one(function.environment).variables.SLUICE_CONFIG == base64gzip(local.relay_json[name == "agent-vpc" ? "agent-vpc" : "relay"])])
    error_message = "A function has another relay file."
  }
  assert {
    condition     = jsondecode(local.relay_json["relay"]) == yamldecode(file("tests/relay.yaml")) && length(aws_ssm_parameter.relay) == 0
    error_message = "The functions get something else than the relay file, or it is in Parameter Store, too."
  }
  assert {
    condition     = toset(keys(one(aws_lambda_function.this["registry-push"].environment).variables)) == toset(["SLUICE_AGENT_QUEUES", "SLUICE_CONFIG", "SLUICE_QUEUE_URL"])
    error_message = "An intake function's environment is another one."
  }
  assert {
    condition     = toset(keys(jsondecode(one(aws_lambda_function.this["registry-push"].environment).variables.SLUICE_AGENT_QUEUES))) == toset(["eks", "vpc"])
    error_message = "The intake functions do not know every agent's queue."
  }
  assert {
    condition     = toset(keys(one(aws_lambda_function.this["agent-vpc"].environment).variables)) == toset(["SLUICE_CONFIG", "SLUICE_DEAD_LETTER_URL", "SLUICE_QUEUE_URL", "SLUICE_STATE_TABLE"])
    error_message = "An agent's environment is another one."
  }
  assert {
    condition     = toset(keys(output.agents)) == toset(["eks"]) && jsondecode(output.agents.eks.relay_file) == { targets = { inside = local.relay.targets.inside }, egress = local.relay.egress }
    error_message = "What to put into the cluster is something else than the agent's own targets."
  }
  assert {
    condition     = toset(keys(output.agents.eks.environment)) == toset(["AWS_REGION", "SLUICE_AGENT", "SLUICE_DEAD_LETTER_URL", "SLUICE_QUEUE_URL", "SLUICE_STATE_TABLE"])
    error_message = jsonencode(keys(output.agents.eks.environment))
  }
  assert {
    condition     = output.receivers.prod == { cluster = "prod", name = "apps", namespace = "flux-system", type = "github", token = "ssm:/clusters/prod/receiver" }
    error_message = jsonencode(output.receivers)
  }
}

run "a_relay_file_for_the_environment_leaves_room_for_the_longest_names" {
  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-1" }
  }
  override_resource {
    target = aws_sqs_queue.deliveries
    values = { url = "https://sqs.ap-southeast-1.amazonaws.com/111122223333/n23456789012345678901234-agent-a234567890123456789012345678901.fifo" }
  }
  override_resource {
    target = aws_sqs_queue.dead_letters
    values = { url = "https://sqs.ap-southeast-1.amazonaws.com/111122223333/n23456789012345678901234-agent-a234567890123456789012345678901-dead-letters.fifo" }
  }
  variables {
    name       = "n23456789012345678901234"
    agents     = { for n in range(3) : "a2345678901234567890123456789-${n}" => { vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] } } }
    relay_file = jsonencode({ targets = { for n in range(56) : "t-${n}" => { type = "http", url = "https://${sha256(n)}.example" } } })
  }
  assert {
    condition     = length(local.inline_relay["relay"]) > local.inline_length - 100
    error_message = "It is not as long as what is to be tried: ${local.inline_length}, and ${jsonencode({ for name, packed in local.packed_relay : name => length(packed) })}"
  }
  # Lambda measures all of it as JSON; what is not of the longest relay file is counted from above.
  assert {
    condition     = alltrue([for function in values(aws_lambda_function.this) : length(jsonencode(one(function.environment).variables)) + local.inline_length - length(local.inline_relay["relay"]) <= 4096])
    error_message = jsonencode({ for name, function in aws_lambda_function.this : name => length(jsonencode(one(function.environment).variables)) })
  }
}

run "a_large_relay_file_is_split_and_the_parts_whose_versions_the_functions_know_are_one_text" {
  variables {
    relay_file = jsonencode({ targets = { for n in range(150) : "target-${n}" => { type = "http", url = "https://example.com/${sha256(n)}", body = "template", template = "{{ tag }} of {{{name}} \\{{" } } })
    agents     = {}
  }
  assert {
    condition     = length(aws_ssm_parameter.relay) > 2 && alltrue([for part in values(aws_ssm_parameter.relay) : length(part.value) <= 4096 && part.type == "String"])
    error_message = "${length(aws_ssm_parameter.relay)} parts"
  }
  assert {
    condition     = alltrue([for part in values(aws_ssm_parameter.relay) : !strcontains(part.value, "{{")])
    error_message = "Parameter Store refuses a part that has two opening braces."
  }
  assert {
    condition     = jsondecode(join("", [for key in sort(keys(aws_ssm_parameter.relay)) : aws_ssm_parameter.relay[key].value])) == jsondecode(var.relay_file)
    error_message = "The parts are not the relay file."
  }
  assert {
    condition     = alltrue([for function in values(aws_lambda_function.this) : one(function.environment).variables.SLUICE_CONFIG == join(",", [for key in sort(keys(aws_ssm_parameter.relay)) : "ssm:/sluice/${key}:7"])])
    error_message = one(aws_lambda_function.this["probe"].environment).variables.SLUICE_CONFIG
  }
}

run "a_relay_file_with_other_letters_fits_too" {
  command = plan
  variables {
    relay_file = jsonencode({ targets = { a = { type = "http", url = "https://example.com", template = join("", [for n in range(400) : "ß€${sha256(n)}ß€"]) } } })
    agents     = {}
  }
  assert {
    condition     = alltrue([for part in values(aws_ssm_parameter.relay) : length(base64encode(part.value)) <= 5460]) && length(aws_ssm_parameter.relay) > 1
    error_message = "A part is too large."
  }
}
