locals {
  # Every value of one dimension of a function's metric.
  searches = {
    "Requests by source"            = { function = "*", dimension = "source", metric = "Requests", statistic = "Sum" }
    "Requests refused by source"    = { function = "*", dimension = "source", metric = "RequestsRefused", statistic = "Sum" }
    "Deliveries by target"          = { function = "*", dimension = "target", metric = "Deliveries", statistic = "Sum" }
    "Failed attempts by target"     = { function = "*", dimension = "target", metric = "AttemptsFailed", statistic = "Sum" }
    "From queue to target, p90, ms" = { function = "*", dimension = "target", metric = "DeliveryTime", statistic = "p90" }
    "Dead letters by target"        = { function = "*", dimension = "target", metric = "DeadLetters", statistic = "Sum" }
    "Probe failures by target"      = { function = "probe", dimension = "target", metric = "ProbeFailures", statistic = "Sum" }
    "Overdue deliveries by target"  = { function = "probe", dimension = "target", metric = "OverdueDeliveries", statistic = "Maximum" }
  }
  queue_rows = concat(flatten([for names in values(local.queue_names) : [names.deliveries, names.dead_letters]]), [local.intake_failed_name])
  widgets = concat(
    [for title, of in local.searches : {
      title = title
      metrics = [for function in(of.function == "*" ? keys(local.functions) : [of.function]) : [{
        expression = "SEARCH('{${local.namespace},function,${of.dimension}} MetricName=\"${of.metric}\" function=\"${var.name}-${function}\"', '${of.statistic}', 300)"
      }]]
    }],
    [
      { title = "Messages waiting", metrics = [for queue in local.queue_rows : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue, { stat = "Maximum" }]] },
      { title = "Age of the oldest message, s", metrics = [for queue in local.queue_rows : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue, { stat = "Maximum" }]] },
      { title = "Function errors", metrics = [for function in keys(local.functions) : ["AWS/Lambda", "Errors", "FunctionName", "${var.name}-${function}", { stat = "Sum" }]] },
      { title = "Function time, p90, ms", metrics = [for function in keys(local.functions) : ["AWS/Lambda", "Duration", "FunctionName", "${var.name}-${function}", { stat = "p90" }]] },
      { title = "Front door", metrics = [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", aws_apigatewayv2_api.this.id, { stat = "Sum" }]] },
    ],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  # Dashboards are of the whole account and not of a region.
  dashboard_name = "${var.name}-${local.region}"
  dashboard_body = jsonencode({
    widgets = [for index, widget in local.widgets : {
      type   = "metric"
      x      = 8 * (index % 3)
      y      = 6 * floor(index / 3)
      width  = 8
      height = 6
      properties = {
        title   = widget.title
        region  = local.region
        view    = "timeSeries"
        period  = 300
        metrics = widget.metrics
      }
    }]
  })
}
