terraform {
  # OpenTofu 1.8 and later, Terraform 1.11 and later. What of this has been tried is said in README.md.
  required_version = ">= 1.8"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}
