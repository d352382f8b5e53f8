# What the sub-module in forward/ forwards from another region.
mock_provider "aws" {
  source = "./tests/mocks"
}

run "the_main_module_says_what_its_sources_take" {
  command = plan
  variables {
    relay_file = jsonencode({ sources = {
      images  = { type = "ecr", pull_through = true, accounts = ["444455556666"] }
      commits = { type = "codecommit" }
      alarms  = { type = "cloudwatch" }
      rest    = { type = "aws" }
      topic   = { type = "aws", topics = "arn:aws:sns:eu-central-1:111122223333:alerts" }
      hub     = { type = "dockerhub", secret = "ssm:/hub" }
    } })
    zips       = { objects = { for name in ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"] : name => { bucket = "zips", key = name, version = "v1" } } }
    aws_events = ["GuardDuty Finding"]
  }
  assert {
    condition     = toset(keys(output.event_patterns)) == toset(["aws", "cloudwatch", "codecommit", "ecr"])
    error_message = jsonencode(output.event_patterns)
  }
  assert {
    condition = (
      jsondecode(output.event_patterns.ecr) == { account = ["444455556666"], source = ["aws.ecr"], "detail-type" = ["ECR Image Action", "ECR Pull Through Cache Action"] } &&
      jsondecode(output.event_patterns.cloudwatch) == { source = ["aws.cloudwatch"], "detail-type" = ["CloudWatch Alarm State Change"] } &&
      jsondecode(output.event_patterns.aws) == { "detail-type" = ["GuardDuty Finding"] }
    )
    error_message = jsonencode(output.event_patterns)
  }
}

run "each_pattern_is_a_rule_for_what_happens_here_and_nowhere_else" {
  command = apply
  module {
    source = "./forward"
  }
  variables {
    name          = "relay"
    event_bus_arn = "arn:aws:events:us-east-1:111122223333:event-bus/default"
    event_patterns = {
      ecr        = jsonencode({ account = ["444455556666"], source = ["aws.ecr"], "detail-type" = ["ECR Image Action"] })
      codecommit = jsonencode({ source = ["aws.codecommit"] })
      aws        = jsonencode({ "detail-type" = ["GuardDuty Finding"] })
    }
  }
  assert {
    condition = { for type, rule in aws_cloudwatch_event_rule.this : rule.name => jsondecode(rule.event_pattern) } == {
      "relay-forward-ecr"        = { source = ["aws.ecr"], "detail-type" = ["ECR Image Action"], account = ["111122223333"], region = ["eu-central-1"] }
      "relay-forward-codecommit" = { source = ["aws.codecommit"], account = ["111122223333"], region = ["eu-central-1"] }
      "relay-forward-aws"        = { "detail-type" = ["GuardDuty Finding"], account = ["111122223333"], region = ["eu-central-1"] }
    }
    error_message = jsonencode([for rule in values(aws_cloudwatch_event_rule.this) : rule.event_pattern])
  }
  assert {
    condition     = alltrue([for type, target in aws_cloudwatch_event_target.bus : target.arn == var.event_bus_arn && target.role_arn == aws_iam_role.forward.arn && target.rule == "relay-forward-${type}"])
    error_message = "A rule leads elsewhere."
  }
  assert {
    condition     = toset(jsondecode(aws_iam_role.forward.assume_role_policy).Statement[0].Condition.ArnEquals["aws:SourceArn"]) == toset([for rule in values(aws_cloudwatch_event_rule.this) : rule.arn])
    error_message = aws_iam_role.forward.assume_role_policy
  }
  assert {
    condition = aws_sqs_queue.failed.name == "relay-forward-failed" && alltrue([for target in values(aws_cloudwatch_event_target.bus) :
      one(target.dead_letter_config).arn == aws_sqs_queue.failed.arn
    ])
    error_message = "What cannot be forwarded is lost."
  }
  assert {
    condition = [for statement in jsondecode(aws_sqs_queue_policy.failed.policy).Statement : statement if statement.Effect == "Allow"] == [{
      Sid       = "Undelivered"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.failed.arn
      Condition = { ArnEquals = { "aws:SourceArn" = [for rule in values(aws_cloudwatch_event_rule.this) : rule.arn] } }
    }]
    error_message = aws_sqs_queue_policy.failed.policy
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.forward.policy).Statement == [{ Sid = "PutEvents", Effect = "Allow", Action = ["events:PutEvents"], Resource = ["arn:aws:events:us-east-1:111122223333:event-bus/default"] }]
    error_message = aws_iam_role_policy.forward.policy
  }
}

run "pushes_to_ecr_are_forwarded_where_nothing_is_said" {
  command = plan
  module {
    source = "./forward"
  }
  variables {
    event_bus_arn = "arn:aws:events:eu-central-1:444455556666:event-bus/default"
  }
  assert {
    condition = [for rule in values(aws_cloudwatch_event_rule.this) : jsondecode(rule.event_pattern)] == [{
      source  = ["aws.ecr"], "detail-type" = ["ECR Image Action"], detail = { "action-type" = ["PUSH"], result = ["SUCCESS"] }
      account = ["111122223333"], region = ["eu-central-1"]
    }]
    error_message = jsonencode([for rule in values(aws_cloudwatch_event_rule.this) : rule.event_pattern])
  }
}

run "a_bus_is_not_forwarded_to_itself" {
  command = plan
  module {
    source = "./forward"
  }
  variables {
    event_bus_arn = "arn:aws:events:eu-central-1:111122223333:event-bus/default"
  }
  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "a_pattern_is_an_object" {
  command = plan
  module {
    source = "./forward"
  }
  variables {
    event_bus_arn  = "arn:aws:events:us-east-1:111122223333:event-bus/default"
    event_patterns = { ecr = "[\"aws.ecr\"]" }
  }
  expect_failures = [var.event_patterns]
}
