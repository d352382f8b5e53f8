# What invokes functions without HTTP: EventBridge's rules and SNS topics, for the sources that need them, and the probe's
# schedule. What fails for good goes to one queue, where `sluice dead-letters` finds it.

locals {
  # A source with a secret or a URL token gets its events over HTTPS.
  event_sources = { for name, source in local.sources : name => source
    if contains(["aws", "cloudwatch", "codecommit", "ecr"], source.type) && lookup(source, "secret", null) == null && !lookup(source, "url_token", false)
  }
  # One SNS topic or several; AWS knows them in their own region only.
  source_topics = { for name, source in local.event_sources : name => flatten([lookup(source, "topics", [])]) }
  topics = merge([for name, topics in local.source_topics : {
    for topic in topics : topic => { function = local.source_function[name], principal = "sns.amazonaws.com", arn = topic }
    if split(":", topic)[3] == local.region
  }]...)

  # What some sources take for a push to ECR besides one.
  ecr_arrivals = [for key, type in { pull_through = "ECR Pull Through Cache Action", replications = "ECR Replication Action" } :
    type if anytrue([for source in values(local.event_sources) : source.type == "ecr" && lookup(source, key, false)])
  ]

  # One rule for all sources of a type: which of them an event is for is the function's to find out. Where all of them
  # limit themselves to accounts or regions, so does the rule.
  patterns = {
    ecr = merge(
      { source = ["aws.ecr"], "detail-type" = concat(["ECR Image Action"], local.ecr_arrivals) },
      # Each type has its own words for how it went.
      { for key, detail in { detail = { "action-type" = ["PUSH"], result = ["SUCCESS"] } } : key => detail if length(local.ecr_arrivals) == 0 },
    )
    codecommit = {
      source        = ["aws.codecommit"]
      "detail-type" = ["CodeCommit Repository State Change", "CodeCommit Pull Request State Change"]
    }
    cloudwatch = {
      source        = ["aws.cloudwatch"]
      "detail-type" = ["CloudWatch Alarm State Change"]
    }
    aws = {
      "detail-type" = var.aws_events
    }
  }
  rule_sources = { for type in keys(local.patterns) :
    type => { for name, source in local.event_sources : name => source if source.type == type && length(local.source_topics[name]) == 0 }
  }
  rules = { for type, sources in local.rule_sources : type => {
    function  = local.source_types[type]
    principal = "events.amazonaws.com"
    arn       = "${local.arns.events}:rule/${var.name}-${type}"
    pattern = merge(local.patterns[type], { for key, limit in { account = "accounts", region = "regions" } :
      key => distinct([for value in flatten([for source in values(sources) : source[limit]]) : tostring(value)])
      if alltrue([for source in values(sources) : lookup(source, limit, null) != null])
    })
  } if length(sources) > 0 && !(type == "aws" && length(var.aws_events) == 0) }

  invokers = merge(
    { for type, rule in local.rules : "rule-${type}" => { function = rule.function, principal = rule.principal, arn = rule.arn } },
    { for arn, topic in local.topics : "topic-${split(":", arn)[4]}-${split(":", arn)[5]}" => topic },
  )
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  name          = "${var.name}-${each.key}"
  description   = "Sluice: events for sources of type ${each.key}"
  event_pattern = jsonencode(each.value.pattern)
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.rules

  rule      = aws_cloudwatch_event_rule.this[each.key].name
  target_id = each.value.function
  arn       = aws_lambda_function.this[each.value.function].arn

  dead_letter_config {
    arn = aws_sqs_queue.intake_failed.arn
  }
}

resource "aws_cloudwatch_event_permission" "accounts" {
  for_each = toset(var.event_accounts)

  principal    = each.value
  statement_id = "${var.name}-${each.value}"
}

resource "aws_sns_topic_subscription" "this" {
  for_each = local.topics

  topic_arn      = each.value.arn
  protocol       = "lambda"
  endpoint       = aws_lambda_function.this[each.value.function].arn
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.intake_failed.arn })
}

resource "aws_lambda_permission" "invokers" {
  for_each = local.invokers

  statement_id  = each.key
  function_name = aws_lambda_function.this[each.value.function].function_name
  action        = "lambda:InvokeFunction"
  principal     = each.value.principal
  source_arn    = each.value.arn
}

# Lambda invokes these without anybody who waits, and tries twice more by itself.
resource "aws_lambda_function_event_invoke_config" "intake" {
  for_each = toset([for invoker in values(local.invokers) : invoker.function])

  function_name          = aws_lambda_function.this[each.key].function_name
  maximum_retry_attempts = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.intake_failed.arn
    }
  }
}

# The next probe comes soon enough.
resource "aws_lambda_function_event_invoke_config" "probe" {
  function_name          = aws_lambda_function.this["probe"].function_name
  maximum_retry_attempts = 0

  destination_config {
    on_failure {
      destination = aws_sqs_queue.intake_failed.arn
    }
  }
}

locals {
  scheduler_statements = { for sid, statement in {
    Invoke = {
      Action   = ["lambda:InvokeFunction"]
      Resource = ["${local.arns.lambda}:function:${var.name}-probe"]
    }
    ReportFailedInvocations = {
      Action   = ["sqs:SendMessage"]
      Resource = ["${local.arns.sqs}:${local.intake_failed_name}"]
    }
    UseKey = var.kms_key_arn == null ? null : {
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [var.kms_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = ["sqs.${local.region}.amazonaws.com"] } }
    }
  } : sid => merge({ Sid = sid, Effect = "Allow" }, statement) if statement != null }
}

resource "aws_iam_role" "scheduler" {
  name        = "${var.name}-schedule-${local.region}"
  description = "Sluice: starts the probe"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = ["sts:AssumeRole"]
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "sluice"
  role   = aws_iam_role.scheduler.name
  policy = jsonencode({ Version = "2012-10-17", Statement = values(local.scheduler_statements) })
}

resource "aws_scheduler_schedule" "probe" {
  #checkov:skip=CKV_AWS_297:it carries nothing that is worth a key of yours
  name                = "${var.name}-probe"
  description         = "Sluice: are the receivers there?"
  schedule_expression = var.probe_schedule

  flexible_time_window {
    mode = "OFF"
  }
  target {
    arn      = aws_lambda_function.this["probe"].arn
    role_arn = aws_iam_role.scheduler.arn
    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 60
    }
    dead_letter_config {
      arn = aws_sqs_queue.intake_failed.arn
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}
