# What people have to know of, told by a way that does not go through Sluice.

locals {
  alarm_topic_arns = var.alarms.topic_arn == null ? aws_sns_topic.alarms[*].arn : [var.alarms.topic_arn]
  # What the functions measure themselves, by their names.
  namespace = "Sluice"

  queue_alarms = merge(
    { for name, names in local.queue_names : "${name}-dead-letters" => {
      queue = names.dead_letters, metric = "ApproximateNumberOfMessagesVisible", threshold = 0
      why   = "Deliveries were given up; `sluice dead-letters list` says why."
    } },
    { intake-failed = {
      queue = local.intake_failed_name, metric = "ApproximateNumberOfMessagesVisible", threshold = 0
      why   = "Events that came without HTTP were not taken; `sluice dead-letters list` shows them."
    } },
    { for name, names in local.queue_names : "${name}-oldest" => {
      queue = names.deliveries, metric = "ApproximateAgeOfOldestMessage", threshold = 60 * var.alarms.oldest_minutes
      why   = "A delivery has waited for long: a target may be down, or nothing takes deliveries off the queue."
    } },
    { for name, names in local.queue_names : "${name}-waiting" => {
      queue = names.deliveries, metric = "ApproximateNumberOfMessagesVisible", threshold = var.alarms.waiting - 1
      why   = "Very many deliveries wait."
    } },
  )
  function_alarms = merge([for metric in ["Errors", "Throttles"] : {
    for function in keys(local.functions) : "${function}-${lower(metric)}" => { function = function, metric = metric }
  }]...)
  api_alarms = {
    api-throttled = { namespace = local.namespace, metric = local.throttled_metric, dimensions = {}, why = "The front door turned requests away with 429." }
    api-5xx       = { namespace = "AWS/ApiGateway", metric = "5xx", dimensions = { ApiId = aws_apigatewayv2_api.this.id }, why = "Senders were answered 5xx: they have to send again." }
  }
  throttled_metric = "${var.name}-requests-throttled"
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:kms_key_arn puts a key of yours on it; with AWS's own key, CloudWatch could not publish
  count = var.alarms.email == null ? 0 : 1

  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "alarms" {
  count = var.alarms.email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarms.email
}

resource "aws_cloudwatch_metric_alarm" "queues" {
  for_each = local.queue_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.why
  namespace           = "AWS/SQS"
  metric_name         = each.value.metric
  dimensions          = { QueueName = each.value.queue }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "functions" {
  for_each = local.function_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.metric} of ${var.name}-${each.value.function}; its log says more."
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = "${var.name}-${each.value.function}" }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "api" {
  for_each = local.api_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.why
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags
}

# API Gateway counts all 4xx as one. Its log tells them apart.
resource "aws_cloudwatch_log_metric_filter" "throttled" {
  name           = local.throttled_metric
  log_group_name = aws_cloudwatch_log_group.api.name
  pattern        = "{ $.status = \"429\" }"

  metric_transformation {
    name      = local.throttled_metric
    namespace = local.namespace
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "refused" {
  for_each = toset(local.intakes)

  alarm_name          = "${var.name}-${each.key}-refused"
  alarm_description   = "More than ${var.alarms.refused_percent} % of the requests to the sources of ${each.key} could not prove who sent them: a secret may have changed on one side only."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.refused_percent
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags

  metric_query {
    id          = "percent"
    label       = "refused, %"
    expression  = "100 * FILL(refused, 0) / requests"
    return_data = true
  }
  dynamic "metric_query" {
    for_each = { requests = "Requests", refused = "RequestsRefused" }
    content {
      id = metric_query.key
      metric {
        namespace   = local.namespace
        metric_name = metric_query.value
        dimensions  = { function = "${var.name}-${each.key}" }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

locals {
  # Once may be a receiver that starts anew. To ask for twice in a row, every period needs a probe of its own.
  probe_failures = can(regex("^rate\\([1-5] minutes?\\)$", var.probe_schedule)) ? 2 : 1
}

resource "aws_cloudwatch_metric_alarm" "probe" {
  alarm_name          = "${var.name}-probe-failures"
  alarm_description   = "A receiver did not answer as it should${local.probe_failures == 2 ? ", twice in a row" : ""}; the log of ${var.name}-probe says which, and what to do."
  namespace           = local.namespace
  metric_name         = "ProbeFailures"
  dimensions          = { function = "${var.name}-probe" }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = local.probe_failures
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "overdue" {
  alarm_name          = "${var.name}-overdue"
  alarm_description   = "A target has taken none of the attempts at a delivery for ${var.alarms.overdue_minutes} minutes; the log of ${var.name}-probe says which, that of the function that delivers to it why."
  namespace           = local.namespace
  metric_name         = "OverdueDeliveries"
  dimensions          = { function = "${var.name}-probe" }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags
}
