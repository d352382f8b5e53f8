# Forwards events from another region or another account to the event bus where Sluice's rules are. It is applied there, with
# a provider of that region or account.

terraform {
  required_version = ">= 1.8"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "name" {
  description = "What the rules and their role are called, beside the types of sources and the region."
  type        = string
  default     = "sluice"
  nullable    = false
}

variable "event_bus_arn" {
  description = "Where to: the main module's output `event_bus_arn`. If that is in another account, its `event_accounts` has to name this one."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:events:[^:]+:[0-9]{12}:event-bus/.+$", var.event_bus_arn))
    error_message = "The event bus is given by its ARN."
  }
}

variable "event_patterns" {
  description = "What is forwarded, for each type of source the pattern in JSON: the main module's output `event_patterns`, or a part of it. Left out: pushes to ECR."
  type        = map(string)
  default     = { ecr = "{\"source\":[\"aws.ecr\"],\"detail-type\":[\"ECR Image Action\"],\"detail\":{\"action-type\":[\"PUSH\"],\"result\":[\"SUCCESS\"]}}" }
  nullable    = false

  validation {
    condition     = alltrue([for pattern in values(var.event_patterns) : can(keys(jsondecode(pattern)))])
    error_message = "A pattern is an object in JSON."
  }
}

variable "permissions_boundary_arn" {
  description = "The permissions boundary of the role."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every resource that can have some."
  type        = map(string)
  default     = {}
  nullable    = false
}

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = var.event_patterns

  name        = "${var.name}-forward-${each.key}"
  description = "Sluice: forwards events for sources of type ${each.key}"
  event_pattern = jsonencode(merge(jsondecode(each.value), {
    # What was forwarded to here is not forwarded again.
    account = [data.aws_caller_identity.current.account_id]
    region  = [data.aws_region.current.id]
  }))
  tags = var.tags

  lifecycle {
    precondition {
      condition     = !strcontains(var.event_bus_arn, ":${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}:")
      error_message = "The event bus is in this region and account itself, where the main module's rules are: there is nothing to forward."
    }
  }
}

resource "aws_iam_role" "forward" {
  # Roles are of all regions.
  name        = "${var.name}-forward-${data.aws_region.current.id}"
  description = "Sluice: forwards events"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = ["sts:AssumeRole"]
      Condition = { ArnEquals = { "aws:SourceArn" = [for rule in values(aws_cloudwatch_event_rule.this) : rule.arn] } }
    }]
  })
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "forward" {
  name = "sluice"
  role = aws_iam_role.forward.name
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    { Sid = "PutEvents", Effect = "Allow", Action = ["events:PutEvents"], Resource = [var.event_bus_arn] },
  ] })
}

# What could not be forwarded within a day.
resource "aws_sqs_queue" "failed" {
  #checkov:skip=CKV_AWS_27:SQS encrypts with a key of its own
  name                      = "${var.name}-forward-failed"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

resource "aws_sqs_queue_policy" "failed" {
  queue_url = aws_sqs_queue.failed.url
  policy = jsonencode({ Version = "2012-10-17", Statement = [
    {
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = aws_sqs_queue.failed.arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    {
      Sid       = "Undelivered"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.failed.arn
      Condition = { ArnEquals = { "aws:SourceArn" = [for rule in values(aws_cloudwatch_event_rule.this) : rule.arn] } }
    },
  ] })
}

resource "aws_cloudwatch_event_target" "bus" {
  for_each = var.event_patterns

  rule      = aws_cloudwatch_event_rule.this[each.key].name
  target_id = "sluice"
  arn       = var.event_bus_arn
  role_arn  = aws_iam_role.forward.arn

  dead_letter_config {
    arn = aws_sqs_queue.failed.arn
  }

  depends_on = [aws_iam_role_policy.forward]
}

output "failed_queue" {
  description = "The URL of the queue of events that could not be forwarded within a day."
  value       = aws_sqs_queue.failed.url
}
