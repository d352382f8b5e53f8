# One relay for several clusters: staging can be reached from outside, production only from inside its VPC.
terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "region" {
  description = "The region to deploy to."
  type        = string
  default     = "eu-central-1"
}

provider "aws" {
  region = var.region
}

module "secrets" {
  source = "../../secrets"

  parameters = {
    "/sluice/github"             = 1
    "/sluice/hub"                = 1
    "/clusters/staging/receiver" = 1
    "/clusters/prod/receiver"    = 1
  }
}

module "sluice" {
  source = "../.."

  relay_file = "${path.module}/relay.yaml"
  zips       = { folder = "${path.module}/../../../target/lambda" }
  agents = {
    prod = { vpc = {
      subnet_ids         = [aws_subnet.prod.id]
      security_group_ids = [aws_security_group.deliver.id]
    } }
  }
}

# It stands for the VPC that you have: what a function in it needs of AWS is reached without a way to the internet.
resource "aws_vpc" "prod" {
  #checkov:skip=CKV2_AWS_11:it stands for a VPC that is there already
  cidr_block           = "10.20.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
}

resource "aws_default_security_group" "prod" {
  vpc_id = aws_vpc.prod.id
}

resource "aws_subnet" "prod" {
  vpc_id     = aws_vpc.prod.id
  cidr_block = "10.20.1.0/24"
}

resource "aws_security_group" "deliver" {
  name        = "sluice-deliver"
  description = "Sluice: deliveries to what is in the VPC"
  vpc_id      = aws_vpc.prod.id
}

resource "aws_vpc_security_group_egress_rule" "deliver" {
  security_group_id = aws_security_group.deliver.id
  description       = "To the cluster and to the endpoints of AWS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_security_group" "endpoints" {
  name        = "sluice-endpoints"
  description = "Sluice: endpoints of AWS"
  vpc_id      = aws_vpc.prod.id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  security_group_id            = aws_security_group.endpoints.id
  description                  = "From deliver"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = aws_security_group.deliver.id
}

# The relay file and secrets, and the queue. Lambda itself needs none of them.
resource "aws_vpc_endpoint" "interfaces" {
  for_each = toset(["sqs", "ssm"])

  vpc_id              = aws_vpc.prod.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = [aws_subnet.prod.id]
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
}

# State.
resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id            = aws_vpc.prod.id
  service_name      = "com.amazonaws.${var.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_vpc.prod.main_route_table_id]
}

output "source_urls" {
  description = "What to enter as the webhooks' URLs; Docker Hub's has a token behind it, which `sluice url` prints."
  value       = module.sluice.source_urls
}

output "receivers" {
  description = "The Receivers to have in the clusters."
  value       = module.sluice.receivers
}
