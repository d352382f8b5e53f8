# Alerts and nothing else: what Flux, Alertmanager and CloudWatch say goes to chats.
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
    "/sluice/flux"         = 1
    "/sluice/alertmanager" = 1
  }
}

module "sluice" {
  source = "../.."

  relay_file = "${path.module}/relay.yaml"
  zips       = { folder = "${path.module}/../../../target/lambda" }
}

output "source_urls" {
  description = "What to enter in the Provider and in Alertmanager's configuration."
  value       = module.sluice.source_urls
}
