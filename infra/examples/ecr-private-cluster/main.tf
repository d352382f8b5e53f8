# Pushes to ECR reach Flux in an EKS cluster that nobody can reach from outside: `sluice agent` runs in it, and asks a queue.
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

# Another region whose registries count, too.
provider "aws" {
  alias  = "virginia"
  region = "us-east-1"
}

module "secrets" {
  source = "../../secrets"

  parameters = { "/sluice/receiver" = 1 }
}

module "sluice" {
  source = "../.."

  relay_file = "${path.module}/relay.yaml"
  zips       = { folder = "${path.module}/../../../target/lambda" }
  agents     = { eks = {} }
}

module "virginia" {
  source    = "../../forward"
  providers = { aws = aws.virginia }

  event_bus_arn  = module.sluice.event_bus_arn
  event_patterns = module.sluice.event_patterns
}

output "agents" {
  description = "What to put into the cluster: the role of the agent's pod, its environment and its relay file."
  value       = module.sluice.agents
}
