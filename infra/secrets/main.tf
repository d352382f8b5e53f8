# Random webhook secrets in Parameter Store. Their values are in no plan and in no state: they are made while a parameter is
# written, and nobody reads them back. A module of its own, because this needs newer versions than the rest.

terraform {
  # Write-only arguments and ephemeral values: both have them since 1.11.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "parameters" {
  description = "The parameters to make, by their full names, and a number for each: another number makes a new value. The value before it is accepted for the source's `grace`."
  type        = map(number)
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.parameters) : can(regex("^/[A-Za-z0-9/_.-]*[A-Za-z0-9_.-]$", name))])
    error_message = "A parameter is named by its full path, such as /sluice/github."
  }
  validation {
    condition     = alltrue([for number in values(var.parameters) : number >= 1 && floor(number) == number])
    error_message = "A parameter's number is 1 or a later whole number."
  }
}

variable "kms_key_arn" {
  description = "A KMS key to encrypt with, in place of AWS's own; name it in the main module's `secret_kms_key_arns`, too. A later change of it needs another number for each of `parameters`: nobody keeps the values, which could be encrypted anew."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of every parameter."
  type        = map(string)
  default     = {}
  nullable    = false
}

# Letters and digits: these survive every form, header and environment that they are pasted into.
ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = var.parameters

  password_length     = 48
  exclude_punctuation = true
}

resource "aws_ssm_parameter" "this" {
  #checkov:skip=CKV_AWS_337:kms_key_arn puts a key of yours in place of AWS's own
  for_each = var.parameters

  name             = each.key
  description      = "A secret of Sluice's"
  type             = "SecureString"
  key_id           = var.kms_key_arn
  value_wo         = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  value_wo_version = each.value
  tags             = var.tags

  lifecycle {
    # A parameter's text is written together with its value, which is there only when its number changes.
    ignore_changes = [description]
  }
}

output "references" {
  description = "What the relay file names each secret by."
  value       = { for name, parameter in aws_ssm_parameter.this : name => "ssm:${parameter.name}" }
}
