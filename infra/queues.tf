# The delivery queue, each agent's own, their dead-letter queues, and where invocations without HTTP end up that failed.

locals {
  # A batch has as long as Lambda gives it; Lambda advises six times that for a message to stay hidden. That is for batches
  # that it cannot hand over at once: `deliver` begins by hiding its batch for as long as it has, and ten seconds.
  deliver_timeout = 120

  queue_names = { for name, consumer in local.consumers : name => {
    deliveries   = consumer.agent == null ? "${var.name}-deliveries.fifo" : "${var.name}-${name}.fifo"
    dead_letters = consumer.agent == null ? "${var.name}-dead-letters.fifo" : "${var.name}-${name}-dead-letters.fifo"
  } }
  intake_failed_name = "${var.name}-intake-failed"

  # SQS has a key of its own where there is none of yours.
  sqs_managed = var.kms_key_arn == null ? true : null
}

resource "aws_sqs_queue" "deliveries" {
  for_each = local.consumers

  name                       = local.queue_names[each.key].deliveries
  fifo_queue                 = true
  deduplication_scope        = "messageGroup"
  fifo_throughput_limit      = "perMessageGroupId"
  visibility_timeout_seconds = 6 * local.deliver_timeout
  message_retention_seconds  = 1209600
  sqs_managed_sse_enabled    = local.sqs_managed
  kms_master_key_id          = var.kms_key_arn
  # Giving up is `deliver`'s to decide. This is the last net.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[each.key].arn
    maxReceiveCount     = 1000
  })
  policy = jsonencode({ Version = "2012-10-17", Statement = [local.tls_only["${local.arns.sqs}:${local.queue_names[each.key].deliveries}"]] })
  tags   = var.tags
}

resource "aws_sqs_queue" "dead_letters" {
  for_each = local.consumers

  name                      = local.queue_names[each.key].dead_letters
  fifo_queue                = true
  deduplication_scope       = "messageGroup"
  fifo_throughput_limit     = "perMessageGroupId"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = local.sqs_managed
  kms_master_key_id         = var.kms_key_arn
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = ["${local.arns.sqs}:${local.queue_names[each.key].deliveries}"]
  })
  policy = jsonencode({ Version = "2012-10-17", Statement = [local.tls_only["${local.arns.sqs}:${local.queue_names[each.key].dead_letters}"]] })
  tags   = var.tags
}

resource "aws_sqs_queue" "intake_failed" {
  name                      = local.intake_failed_name
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = local.sqs_managed
  kms_master_key_id         = var.kms_key_arn
  policy = jsonencode({ Version = "2012-10-17", Statement = concat(
    [local.tls_only["${local.arns.sqs}:${local.intake_failed_name}"]],
    # What could not even be handed to a function. Lambda and the scheduler come as roles of their own.
    [for name, invoker in local.invokers : {
      Sid       = "Undelivered"
      Effect    = "Allow"
      Principal = { Service = invoker.principal }
      Action    = "sqs:SendMessage"
      Resource  = "${local.arns.sqs}:${local.intake_failed_name}"
      Condition = { ArnEquals = { "aws:SourceArn" = invoker.arn } }
    }],
  ) })
  tags = var.tags
}

locals {
  # A queue's policy names the queue.
  tls_only = { for name in concat(flatten([for names in values(local.queue_names) : values(names)]), [local.intake_failed_name]) :
    "${local.arns.sqs}:${name}" => {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = "${local.arns.sqs}:${name}"
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }
  }
}
