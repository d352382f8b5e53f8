# An agent in a cluster that is made in the same plan: the ARN of its OIDC provider is known only afterwards.
terraform {
  required_version = ">= 1.8"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "zips" {
  description = "As the main module has it."
  type        = any
}

# Of a resource's own values, `output` is known when the resource is made.
resource "terraform_data" "oidc_provider" {
  input = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1"
}

module "sluice" {
  source = "../.."

  relay_file = "${path.module}/../relay.yaml"
  zips       = var.zips
  agents = {
    eks = { oidc_provider_arn = terraform_data.oidc_provider.output }
    vpc = { vpc = { subnet_ids = ["subnet-${terraform_data.oidc_provider.id}"], security_group_ids = ["sg-1"] } }
  }
}
