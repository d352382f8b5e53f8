# The functions, and the second `deliver` of each agent in a VPC.

locals {
  queue_environment = {
    SLUICE_QUEUE_URL    = aws_sqs_queue.deliveries["deliver"].url
    SLUICE_AGENT_QUEUES = jsonencode({ for name, consumer in local.consumers : consumer.agent => aws_sqs_queue.deliveries[name].url if consumer.agent != null })
  }
  state_environment = { SLUICE_STATE_TABLE = aws_dynamodb_table.state.name }
  consumer_environment = { for name in keys(local.consumers) : name => merge(local.state_environment, {
    SLUICE_QUEUE_URL       = aws_sqs_queue.deliveries[name].url
    SLUICE_DEAD_LETTER_URL = aws_sqs_queue.dead_letters[name].url
  }) }

  # Names and time-outs alone: these are known before anything is made.
  functions = merge(
    {
      # An HTTP API waits for 30 s.
      alert-intake  = { zip = "alert-intake", relay = "relay", timeout = 29, vpc = null }
      git-webhook   = { zip = "git-webhook", relay = "relay", timeout = 29, vpc = null }
      registry-push = { zip = "registry-push", relay = "relay", timeout = 29, vpc = null }
      deliver       = { zip = "deliver", relay = "relay", timeout = local.deliver_timeout, vpc = null }
      probe         = { zip = "probe", relay = "relay", timeout = 60, vpc = null }
    },
    { for name, agent in var.agents : "agent-${name}" => {
      zip = "deliver", relay = "agent-${name}", timeout = local.deliver_timeout, vpc = agent.vpc
    } if agent.vpc != null },
  )
  environments = merge(
    { for function in local.intakes : function => local.queue_environment },
    # Without a source that has heartbeats, alert-intake asks the table nothing and has no right to.
    { alert-intake = merge(local.queue_environment, local.state_environment) },
    { for name, environment in local.consumer_environment : name => environment if contains(keys(local.functions), name) },
    { probe = merge(local.state_environment, { SLUICE_OVERDUE = "${var.alarms.overdue_minutes}m" }) },
  )
}

# Made before the functions, or Lambda makes them, and keeps what is in them for ever.
resource "aws_cloudwatch_log_group" "functions" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with a key of its own; kms_key_arn puts one of yours in its place
  #checkov:skip=CKV_AWS_338:a year unless `logs` says otherwise
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.logs.retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50:nothing in it writes traces; each delivery's way is in the logs by its id
  #checkov:skip=CKV_AWS_115:the API's throttle and the trigger's concurrency bound it; `concurrency` reserves some
  #checkov:skip=CKV_AWS_116:requests have somebody who waits for the answer; what has not goes to the on-failure destination
  #checkov:skip=CKV_AWS_117:it talks to public endpoints; agents are for what is in a VPC
  #checkov:skip=CKV_AWS_173:there is no secret in its environment
  #checkov:skip=CKV_AWS_272:the zip's hash is in the plan
  for_each = local.functions

  function_name = "${var.name}-${each.key}"
  description   = "Sluice: ${each.key}"
  role          = aws_iam_role.this[each.key].arn
  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  memory_size   = var.memory
  timeout       = each.value.timeout
  tags          = var.tags

  filename          = var.zips.folder == null ? null : "${var.zips.folder}/${each.value.zip}/bootstrap.zip"
  source_code_hash  = var.zips.folder == null ? null : filebase64sha256("${var.zips.folder}/${each.value.zip}/bootstrap.zip")
  s3_bucket         = try(var.zips.objects[each.value.zip].bucket, null)
  s3_key            = try(var.zips.objects[each.value.zip].key, null)
  s3_object_version = try(var.zips.objects[each.value.zip].version, null)

  reserved_concurrent_executions = lookup(var.concurrency.reserved, each.key, -1)

  environment {
    variables = merge(local.environments[each.key], { SLUICE_CONFIG = local.relay_places[each.value.relay] })
  }
  logging_config {
    log_format            = "JSON"
    application_log_level = var.logs.level
    system_log_level      = "INFO"
    log_group             = aws_cloudwatch_log_group.functions[each.key].name
  }
  dynamic "vpc_config" {
    for_each = each.value.vpc == null ? [] : [each.value.vpc]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  # It reads the relay file when it starts.
  depends_on = [aws_iam_role_policy.this, terraform_data.relay]
}

resource "aws_lambda_event_source_mapping" "deliveries" {
  for_each = { for name, environment in local.consumer_environment : name => environment if contains(keys(local.functions), name) }

  function_name           = aws_lambda_function.this[each.key].arn
  event_source_arn        = aws_sqs_queue.deliveries[each.key].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = var.tags

  scaling_config {
    maximum_concurrency = var.concurrency.deliver
  }
}
