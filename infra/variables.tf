variable "name" {
  description = "What every resource's name begins with. Two deployments in one account and region differ in it; those in different regions need not."
  type        = string
  default     = "sluice"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "The name begins with a letter and has at most 24 small letters, digits and hyphens."
  }
}

variable "relay_file" {
  description = "The relay file: its path, or its text (YAML or JSON). `sluice check` finds what is wrong with it before a deployment does."
  type        = string
  nullable    = false

  validation {
    condition     = can(keys(yamldecode(can(keys(yamldecode(var.relay_file))) ? var.relay_file : file(var.relay_file))))
    error_message = "The relay file is neither YAML with sources, targets and routes, nor the path of such a file."
  }
}

variable "zips" {
  description = "The functions' zips: `folder` holds NAME/bootstrap.zip as scripts/zips makes them; or `objects` says for each function which object in S3 it is."
  type = object({
    folder = optional(string)
    objects = optional(map(object({
      bucket  = string
      key     = string
      version = optional(string)
    })))
  })
  nullable = false

  validation {
    condition     = (var.zips.folder == null) != (var.zips.objects == null)
    error_message = "The zips are in a `folder` or are `objects` in S3: one of both."
  }
  validation {
    condition     = var.zips.objects == null ? true : toset(keys(var.zips.objects)) == toset(["alert-intake", "deliver", "git-webhook", "probe", "registry-push"])
    error_message = "The zips' objects are those of alert-intake, deliver, git-webhook, probe and registry-push."
  }
}

variable "architecture" {
  description = "What the zips are built for: arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "memory" {
  description = "Memory of each function in MB. The processor's share grows with it."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory >= 128 && var.memory <= 10240 && floor(var.memory) == var.memory
    error_message = "The memory is 128 to 10240 MB."
  }
}

variable "concurrency" {
  description = "How much runs at once: `deliver` batches of deliveries (each agent in a VPC has as many of its own; a new account has 10 for everything), and what is `reserved` for each function by its name. Nothing is reserved if nothing is said: the API's throttle already bounds a flood, and a new account has nothing to reserve from."
  type = object({
    deliver  = optional(number, 5)
    reserved = optional(map(number), {})
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.concurrency.deliver >= 2 && var.concurrency.deliver <= 1000
    error_message = "Between 2 and 1000 batches of deliveries can run at once."
  }
  validation {
    condition     = length(setsubtract(keys(var.concurrency.reserved), ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"])) == 0
    error_message = "Concurrency is reserved for alert-intake, deliver, git-webhook, probe or registry-push."
  }
  validation {
    condition     = alltrue([for reserved in values(var.concurrency.reserved) : reserved >= 0])
    error_message = "The reserved concurrency is a number from 0, which switches a function off."
  }
}

variable "agents" {
  description = "Networks of their own, by the name that targets have as `agent`. With `vpc`, a second `deliver` runs inside that VPC; without it there are the queues and the role for `sluice agent`, whose pod is known by its `service_account`: through EKS Pod Identity, or through the cluster's IAM OIDC provider where that is given."
  type = map(object({
    vpc = optional(object({
      subnet_ids         = list(string)
      security_group_ids = list(string)
    }))
    service_account = optional(object({
      namespace = optional(string, "sluice")
      name      = optional(string, "sluice-agent")
    }), {})
    oidc_provider_arn = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.agents) : can(regex("^[a-z0-9][a-z0-9-]{0,30}$", name)) && !endswith(name, "-dead-letters")])
    error_message = "An agent's name has at most 31 small letters, digits and hyphens, begins with no hyphen, and does not end like a dead-letter queue's."
  }
  validation {
    condition     = alltrue([for agent in values(var.agents) : agent.vpc == null ? true : length(agent.vpc.subnet_ids) > 0 && length(agent.vpc.security_group_ids) > 0])
    error_message = "An agent's VPC is given by at least one subnet and one security group."
  }
  validation {
    condition     = alltrue([for agent in values(var.agents) : agent.oidc_provider_arn == null ? true : can(regex("^arn:[^:]+:iam::[0-9]{12}:oidc-provider/.+$", agent.oidc_provider_arn))])
    error_message = "An agent's oidc_provider_arn is the ARN of an IAM OIDC provider."
  }
}

variable "logs" {
  description = "How long logs are kept, in days (0 is for ever), and from which level the functions write: TRACE, DEBUG, INFO, WARN, ERROR or FATAL."
  type = object({
    retention_days = optional(number, 365)
    level          = optional(string, "INFO")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.logs.retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days, or for ever (0)."
  }
  validation {
    condition     = contains(["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"], var.logs.level)
    error_message = "The log level is TRACE, DEBUG, INFO, WARN, ERROR or FATAL."
  }
}

variable "kms_key_arn" {
  description = "A KMS key for the queues, the table, the logs and the alarms' topic, in place of AWS's own. Its policy has to let in CloudWatch Logs, and, for what they put into queue and topic, EventBridge, EventBridge Scheduler, SNS and CloudWatch."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "The KMS key is given by the ARN of the key, not of an alias."
  }
}

variable "secret_kms_key_arns" {
  description = "The KMS keys with which the secrets that the relay file names are encrypted, where those are not AWS's own."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.secret_kms_key_arns : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/.+$", arn))])
    error_message = "The secrets' KMS keys are given by the ARNs of keys, not of aliases."
  }
}

variable "throttle" {
  description = "How many requests the front door lets in: `rate` a second, and `burst` at once. More is answered 429, without starting a function."
  type = object({
    rate  = optional(number, 200)
    burst = optional(number, 500)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.throttle.rate > 0 && var.throttle.burst > 0
    error_message = "The throttle's rate and burst are above 0: with 0, nothing gets in."
  }
}

variable "domain" {
  description = "A domain name of your own for the front door, and its certificate in ACM. The output `domain` says what the name has to point to."
  type = object({
    name            = string
    certificate_arn = string
  })
  default = null

  validation {
    condition     = var.domain == null ? true : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain.name))
    error_message = "The domain's name is a host name in small letters, such as hooks.example.com."
  }
}

variable "alarms" {
  description = "Who hears of alarms: an SNS topic that is there already, or an e-mail address for which one is made; with neither, alarms only show. And from when: the minutes that a delivery may wait, those that one that fails may take to arrive, the number that may wait, and the percentage of a source's requests that may be refused."
  type = object({
    topic_arn       = optional(string)
    email           = optional(string)
    oldest_minutes  = optional(number, 60)
    overdue_minutes = optional(number, 15)
    waiting         = optional(number, 50000)
    refused_percent = optional(number, 50)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarms.topic_arn == null || var.alarms.email == null
    error_message = "Alarms go to a topic_arn or to an email: one of both."
  }
  validation {
    condition     = var.alarms.topic_arn == null ? true : can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[^:]+$", var.alarms.topic_arn))
    error_message = "The alarms' topic_arn is the ARN of an SNS topic."
  }
  validation {
    condition     = var.alarms.email == null ? true : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", var.alarms.email))
    error_message = "The alarms' email is an e-mail address."
  }
  validation {
    condition     = var.alarms.oldest_minutes > 0 && var.alarms.waiting > 0
    error_message = "The alarms' oldest_minutes and waiting are above 0."
  }
  validation {
    condition     = var.alarms.overdue_minutes > 0 && floor(var.alarms.overdue_minutes) == var.alarms.overdue_minutes
    error_message = "The alarms' overdue_minutes is a whole number above 0."
  }
  validation {
    condition     = var.alarms.refused_percent > 0 && var.alarms.refused_percent <= 100
    error_message = "The alarms' refused_percent is above 0 and at most 100."
  }
}

variable "probe_schedule" {
  description = "How often `probe` asks whether the receivers are there and deliveries arrive in time: an expression of EventBridge Scheduler."
  type        = string
  default     = "rate(5 minutes)"
  nullable    = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.probe_schedule))
    error_message = "The probe's schedule is rate(...) or cron(...), as EventBridge Scheduler has it."
  }
}

variable "event_accounts" {
  description = "Other AWS accounts that may forward their events, such as pushes to their ECR registries and alarms, to this account's default event bus. The sub-module `forward` is for their side, and for other regions of this account, which need no entry here."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.event_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "An AWS account is given by its 12 digits."
  }
}

variable "aws_events" {
  description = "The `detail-type`s of EventBridge's events that sources of type `aws` take, such as \"GuardDuty Finding\" or \"AWS Health Event\". Without any, these sources have only their SNS topics."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "The permissions boundary of every role."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[^:]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "The permissions boundary is given by the ARN of a policy."
  }
}

variable "tags" {
  description = "Tags of every resource that can have some."
  type        = map(string)
  default     = {}
  nullable    = false
}
