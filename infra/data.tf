data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  # Both versions of the provider have it as id; its name has another name in each.
  region = data.aws_region.current.id

  # What the ARNs of our resources begin with. They are made of names and not of the resources, so that a plan shows
  # policies in full, and that what refers to each other is no cycle.
  arns = { for service in ["dynamodb", "events", "lambda", "logs", "scheduler", "secretsmanager", "ses", "sqs", "ssm"] :
    service => "arn:${local.partition}:${service}:${local.region}:${local.account}"
  }
}
