# Who may do what. Every role has one policy, computed from the relay file: what a function's own sources or targets name,
# and nothing else. A resource of "*" is only where AWS knows no other, in a statement of its own.

locals {
  intakes = ["alert-intake", "git-webhook", "registry-push"]

  # What each role finds secret references in.
  readings = merge(
    { for function in local.intakes : function => { for name, source in local.sources : name => source if local.source_function[name] == function } },
    { for name, consumer in local.consumers : name => consumer.targets },
    # A probe connects as a delivery does, and needs no token.
    { probe = [for target in values(local.consumers["deliver"].targets) :
      [for key in ["ca", "client_certificate", "proxy"] : lookup(target, key, null)] if target.type == "flux"
    ] },
  )
  # Sources whose senders say that all is well by heartbeats only.
  heartbeat_sources = [for name, source in local.sources : name if source.type == "flux"]
  # A reference is a whole text, with a quotation mark before it that is not one inside of a text.
  references = { for role, entries in local.readings :
    role => distinct(regexall("[^\\\\]\"(ssm|secretsmanager):([^\"#]+)", jsonencode(entries)))
  }
  local_references = distinct(flatten(regexall("[^\\\\]\"((?:env|file):[^\"]+)\"", jsonencode([local.sources, local.targets]))))

  # A version may follow a parameter's name. A secret's ARN ends in six characters that its name does not say.
  parameter_arns = { for role, references in local.references :
    role => distinct([for reference in references : "${local.arns.ssm}:parameter${split(":", reference[1])[0]}" if reference[0] == "ssm"])
  }
  secret_arns = { for role, references in local.references :
    role => distinct([for reference in references :
      startswith(reference[1], "arn:") ? reference[1] : "${local.arns.secretsmanager}:secret:${reference[1]}-??????" if reference[0] == "secretsmanager"
    ])
  }

  # Targets that are AWS's own, by role: what they name is what may be called.
  topic_arns = { for role, consumer in local.consumers :
    role => distinct([for target in values(consumer.targets) : target.topic_arn if contains(["sns", "amazonq"], target.type)])
  }
  bus_arns = { for role, consumer in local.consumers :
    role => distinct([for target in values(consumer.targets) :
      startswith(target.bus, "arn:") ? target.bus : "${local.arns.events}:event-bus/${target.bus}" if target.type == "eventbridge"
    ])
  }
  # The address in `Sluice <sluice@example.com>`, or the whole.
  mail_addresses = { for role, consumer in local.consumers :
    role => distinct([for target in values(consumer.targets) : try(regex("<([^>]+)>", target.from)[0], target.from) if target.type == "email"])
  }
  audiences = { for role, consumer in local.consumers :
    role => distinct([for target in values(consumer.targets) : lookup(target, "audience", "notification-controller") if try(target.receiver.type, null) == "generic-oidc"])
  }

  # Every role: whether it is a function's; whose deliveries it works on; what else it does.
  roles = merge(
    { for function in local.intakes : function => {
      function = true
      vpc      = false
      agent    = null
      consumer = null
      relay    = "relay"
      enqueues = length(local.readings[function]) > 0
      is_async = contains([for invoker in values(local.invokers) : invoker.function], function)
    } },
    { for name, consumer in local.consumers : name => {
      function = contains(keys(local.functions), name)
      vpc      = try(var.agents[consumer.agent].vpc, null) != null
      agent    = consumer.agent
      consumer = name
      relay    = consumer.agent == null ? "relay" : name
      enqueues = false
      is_async = false
    } },
    { probe = {
      function = true
      vpc      = false
      agent    = null
      consumer = null
      relay    = "relay"
      enqueues = false
      is_async = true
    } },
  )

  statements = { for role, of in local.roles : role => { for sid, statement in {
    WriteLog = of.function ? {
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${local.arns.logs}:log-group:/aws/lambda/${var.name}-${role}:*"]
    } : null
    # Also while the file is in the environment or has fewer parts: rights change before functions do, and what still runs
    # may start anew with the file that it had.
    ReadRelayFile = of.function ? {
      Action   = ["ssm:GetParameters"]
      Resource = ["${local.arns.ssm}:parameter/${var.name}/${of.relay}/*"]
    } : null
    ReadParameters = length(local.parameter_arns[role]) > 0 ? {
      Action   = ["ssm:GetParameters"]
      Resource = local.parameter_arns[role]
    } : null
    ReadSecrets = length(local.secret_arns[role]) > 0 ? {
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = local.secret_arns[role]
    } : null
    DecryptSecrets = length(local.references[role]) > 0 && length(var.secret_kms_key_arns) > 0 ? {
      Action    = ["kms:Decrypt"]
      Resource  = var.secret_kms_key_arns
      Condition = { StringEquals = { "kms:ViaService" = [for service in ["secretsmanager", "ssm"] : "${service}.${local.region}.amazonaws.com"] } }
    } : null
    Enqueue = of.enqueues ? {
      Action   = ["sqs:SendMessage"]
      Resource = [for name in keys(local.consumers) : "${local.arns.sqs}:${local.queue_names[name].deliveries}"]
    } : null
    # What Lambda does in the function's name: it takes the messages that the function gets.
    TakeDeliveries = of.consumer != null && of.function ? {
      Action   = ["sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      Resource = ["${local.arns.sqs}:${local.queue_names[of.consumer].deliveries}"]
    } : null
    # What is delivered is deleted, what has to wait is hidden, and what is set aside is sent anew.
    WorkOnDeliveries = of.consumer != null ? {
      Action = concat(
        ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage"],
        of.function ? [] : ["sqs:ReceiveMessage"],
        ["sqs:SendMessage"],
      )
      Resource = ["${local.arns.sqs}:${local.queue_names[of.consumer].deliveries}"]
    } : null
    GiveUp = of.consumer != null ? {
      Action   = ["sqs:SendMessage"]
      Resource = ["${local.arns.sqs}:${local.queue_names[of.consumer].dead_letters}"]
    } : null
    KeepState = try(length(local.consumers[of.consumer].targets), 0) > 0 ? {
      Action    = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
      Resource  = ["${local.arns.dynamodb}:table/${var.name}"]
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [for target in keys(local.consumers[of.consumer].targets) : "target#${target}"] } }
    } : null
    # What Flux says is wrong is noted, so that the next heartbeat can end it.
    NoteOpenAlerts = role == "alert-intake" && length(local.heartbeat_sources) > 0 ? {
      Action    = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
      Resource  = ["${local.arns.dynamodb}:table/${var.name}"]
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [for source in local.heartbeat_sources : "source#${source}"] } }
    } : null
    # What `deliver` and agents have noted of deliveries that failed says which of them are overdue.
    SeeOverdueDeliveries = role == "probe" && length(local.targets) > 0 ? {
      Action    = ["dynamodb:Query"]
      Resource  = ["${local.arns.dynamodb}:table/${var.name}"]
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [for target in keys(local.targets) : "target#${target}"] } }
    } : null
    # Queues and table that have a key of yours: AWS uses it in the caller's name.
    UseKey = var.kms_key_arn != null && (of.enqueues || of.is_async || of.consumer != null) ? {
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [var.kms_key_arn]
      Condition = { StringEquals = { "kms:ViaService" = concat(of.consumer == null && role != "probe" && (role != "alert-intake" || length(local.heartbeat_sources) == 0) ? [] : ["dynamodb.${local.region}.amazonaws.com"], ["sqs.${local.region}.amazonaws.com"]) } }
    } : null
    # What Lambda does in the function's name, when an invocation without HTTP has failed for good.
    ReportFailedInvocations = of.is_async ? {
      Action   = ["sqs:SendMessage"]
      Resource = ["${local.arns.sqs}:${local.intake_failed_name}"]
    } : null
    PublishToTopics = try(length(local.topic_arns[role]), 0) > 0 ? {
      Action   = ["sns:Publish"]
      Resource = local.topic_arns[role]
    } : null
    PutEvents = try(length(local.bus_arns[role]), 0) > 0 ? {
      Action   = ["events:PutEvents"]
      Resource = local.bus_arns[role]
    } : null
    # The limit is the sender's address. SES also asks for a right to the identity that it has verified, which may be the
    # address or a domain above it, to a configuration set that this has, and in its sandbox to the recipients' identities.
    SendMail = try(length(local.mail_addresses[role]), 0) > 0 ? {
      Action    = ["ses:SendEmail"]
      Resource  = ["${local.arns.ses}:configuration-set/*", "${local.arns.ses}:identity/*"]
      Condition = { StringEquals = { "ses:FromAddress" = local.mail_addresses[role] } }
    } : null
    # STS has no resources here: what the token is for, and how it is signed, are the limits that there are.
    ProveIdentity = try(length(local.audiences[role]), 0) > 0 ? {
      Action   = ["sts:GetWebIdentityToken"]
      Resource = ["*"]
      Condition = {
        "ForAllValues:StringEquals" = { "sts:IdentityTokenAudience" = local.audiences[role] }
        StringEquals                = { "sts:SigningAlgorithm" = "RS256" }
        NumericLessThanEquals       = { "sts:DurationSeconds" = 900 }
      }
    } : null
    # What Lambda does in the function's name. Network interfaces have no ARN before they are made, and the calls that
    # look at them have none at all.
    JoinNetwork = of.vpc ? {
      Action = [
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
      ]
      Resource = ["*"]
    } : null
  } : sid => merge({ Sid = sid, Effect = "Allow" }, statement) if statement != null } }

  policies = { for role, statements in local.statements : role => jsonencode({ Version = "2012-10-17", Statement = values(statements) }) }

  # Who may take on a role: Lambda, or the pods of an agent's service account. Which roles there are must not depend on
  # the OIDC provider, which may be made together with them.
  trusts = { for role, of in local.roles : role => of.function ? jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = ["sts:AssumeRole"] }]
  }) : local.pod_trusts[of.agent] }
  pod_trusts = { for name, agent in var.agents : name => agent.oidc_provider_arn == null ? jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = { StringEquals = {
        "aws:RequestTag/kubernetes-namespace"       = agent.service_account.namespace
        "aws:RequestTag/kubernetes-service-account" = agent.service_account.name
      } }
    }]
    }) : jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = agent.oidc_provider_arn }
      Action    = ["sts:AssumeRoleWithWebIdentity"]
      Condition = { StringEquals = {
        "${split("oidc-provider/", agent.oidc_provider_arn)[1]}:aud" = "sts.amazonaws.com"
        "${split("oidc-provider/", agent.oidc_provider_arn)[1]}:sub" = "system:serviceaccount:${agent.service_account.namespace}:${agent.service_account.name}"
      } }
    }]
  }) }

  # Roles are of the whole account and not of a region. What is too long for AWS ends in what tells it from others.
  full_role_names = { for role in keys(local.roles) : role => "${var.name}-${role}-${local.region}" }
  role_names = { for role, name in local.full_role_names :
    role => length(name) <= 64 ? name : "${substr(name, 0, 55)}-${substr(sha256(name), 0, 8)}"
  }
}

resource "aws_iam_role" "this" {
  for_each = local.trusts

  name                 = local.role_names[each.key]
  description          = "Sluice: ${each.key}"
  assume_role_policy   = each.value
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "this" {
  for_each = local.trusts

  name   = "sluice"
  role   = aws_iam_role.this[each.key].name
  policy = local.policies[each.key]

  lifecycle {
    precondition {
      condition     = length(local.policies[each.key]) <= 10240
      error_message = "The rights of ${each.key} do not fit into one policy (10,240 characters). Keep several secrets in one secret of Secrets Manager (secretsmanager:NAME#KEY), or deploy Sluice twice under two names."
    }
  }
}
