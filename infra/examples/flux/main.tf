# What Flux's guides describe, end to end: a push to GitHub and an image in GHCR reach the cluster's Receivers, and what Flux
# says of it reaches Slack and Discord.
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

# Made here, and known to nobody but who may read Parameter Store. The webhook URLs of Slack and Discord are theirs to
# make: README.md says how to store them.
module "secrets" {
  source = "../../secrets"

  parameters = {
    "/sluice/github"   = 1
    "/sluice/flux"     = 1
    "/sluice/receiver" = 1
  }
}

module "sluice" {
  source = "../.."

  relay_file = "${path.module}/relay.yaml"
  zips       = { folder = "${path.module}/../../../target/lambda" }
}

output "source_urls" {
  description = "What to enter as the webhooks' URLs at GitHub, and as the Provider's address in the cluster."
  value       = module.sluice.source_urls
}

output "receivers" {
  description = "The Receivers to have in the cluster."
  value       = module.sluice.receivers
}

output "dashboard" {
  description = "Where to look."
  value       = module.sluice.dashboard
}
