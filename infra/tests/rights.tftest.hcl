# Who may do what: every statement of every policy, as computed from tests/relay.yaml.
mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  relay_file = "tests/relay.yaml"
  zips       = { objects = { for name in ["alert-intake", "deliver", "git-webhook", "probe", "registry-push"] : name => { bucket = "zips", key = name } } }
  agents = {
    eks = {}
    vpc = { vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] } }
  }
}

run "git_webhook_reads_the_secrets_of_git_sources_and_nothing_else" {
  command = plan
  assert {
    condition = jsonencode(local.statements["git-webhook"]) == jsonencode({
      WriteLog = {
        Sid      = "WriteLog", Effect = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:aws:logs:eu-central-1:111122223333:log-group:/aws/lambda/sluice-git-webhook:*"]
      }
      ReadRelayFile = {
        Sid      = "ReadRelayFile", Effect = "Allow"
        Action   = ["ssm:GetParameters"]
        Resource = ["arn:aws:ssm:eu-central-1:111122223333:parameter/sluice/relay/*"]
      }
      ReadParameters = {
        Sid    = "ReadParameters", Effect = "Allow"
        Action = ["ssm:GetParameters"]
        Resource = [
          "arn:aws:ssm:eu-central-1:111122223333:parameter/git/github",
          "arn:aws:ssm:eu-central-1:111122223333:parameter/git/github-old",
          "arn:aws:ssm:eu-central-1:111122223333:parameter/git/pushes",
        ]
      }
      ReadSecrets = {
        Sid      = "ReadSecrets", Effect = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = ["arn:aws:secretsmanager:eu-central-1:111122223333:secret:git/gitlab-??????"]
      }
      Enqueue = {
        Sid    = "Enqueue", Effect = "Allow"
        Action = ["sqs:SendMessage"]
        Resource = [
          "arn:aws:sqs:eu-central-1:111122223333:sluice-agent-eks.fifo",
          "arn:aws:sqs:eu-central-1:111122223333:sluice-agent-vpc.fifo",
          "arn:aws:sqs:eu-central-1:111122223333:sluice-deliveries.fifo",
        ]
      }
    })
    error_message = jsonencode(local.statements["git-webhook"])
  }
}

run "registry_push_reads_the_secrets_of_registries_and_its_failed_invocations_are_kept" {
  command = plan
  assert {
    condition     = sort(keys(local.statements["registry-push"])) == tolist(["Enqueue", "ReadParameters", "ReadRelayFile", "ReadSecrets", "ReportFailedInvocations", "WriteLog"])
    error_message = jsonencode(keys(local.statements["registry-push"]))
  }
  assert {
    condition = jsonencode(local.statements["registry-push"].ReadParameters.Resource) == jsonencode([
      "arn:aws:ssm:eu-central-1:111122223333:parameter/registries/ecr",
      "arn:aws:ssm:eu-central-1:111122223333:parameter/registries/ghcr",
    ])
    error_message = jsonencode(local.statements["registry-push"].ReadParameters)
  }
  assert {
    condition     = jsonencode(local.statements["registry-push"].ReadSecrets.Resource) == jsonencode(["arn:aws:secretsmanager:eu-west-1:444455556666:secret:hub-AbCdEf"])
    error_message = "A full ARN stays as it is: ${jsonencode(local.statements["registry-push"].ReadSecrets)}"
  }
  assert {
    condition = jsonencode(local.statements["registry-push"].ReportFailedInvocations) == jsonencode({
      Sid      = "ReportFailedInvocations", Effect = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-intake-failed"]
    })
    error_message = jsonencode(local.statements["registry-push"].ReportFailedInvocations)
  }
}

run "alert_intake_reads_the_secrets_of_alert_sources_and_notes_what_is_open_of_flux_alone" {
  command = plan
  assert {
    condition     = sort(keys(local.statements["alert-intake"])) == tolist(["Enqueue", "NoteOpenAlerts", "ReadParameters", "ReadRelayFile", "WriteLog"])
    error_message = jsonencode(keys(local.statements["alert-intake"]))
  }
  assert {
    condition     = jsonencode(local.statements["alert-intake"].ReadParameters.Resource) == jsonencode([for name in ["flux", "monitoring"] : "arn:aws:ssm:eu-central-1:111122223333:parameter/alerts/${name}"])
    error_message = jsonencode(local.statements["alert-intake"].ReadParameters)
  }
  assert {
    condition = jsonencode(local.statements["alert-intake"].NoteOpenAlerts) == jsonencode({
      Sid       = "NoteOpenAlerts", Effect = "Allow"
      Action    = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
      Resource  = ["arn:aws:dynamodb:eu-central-1:111122223333:table/sluice"]
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["source#flux"] } }
    })
    error_message = jsonencode(local.statements["alert-intake"].NoteOpenAlerts)
  }
}

run "deliver_reads_the_secrets_of_its_targets_and_touches_their_state_alone" {
  command = plan
  assert {
    condition = jsonencode({ for sid, statement in local.statements["deliver"] : sid => statement if !contains(["WriteLog", "ReadRelayFile"], sid) }) == jsonencode({
      ReadParameters = {
        Sid      = "ReadParameters", Effect = "Allow"
        Action   = ["ssm:GetParameters"]
        Resource = ["arn:aws:ssm:eu-central-1:111122223333:parameter/clusters/prod/receiver"]
      }
      ReadSecrets = {
        Sid      = "ReadSecrets", Effect = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = ["arn:aws:secretsmanager:eu-central-1:111122223333:secret:clusters/prod/ca-??????"]
      }
      TakeDeliveries = {
        Sid      = "TakeDeliveries", Effect = "Allow"
        Action   = ["sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-deliveries.fifo"]
      }
      WorkOnDeliveries = {
        Sid      = "WorkOnDeliveries", Effect = "Allow"
        Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-deliveries.fifo"]
      }
      GiveUp = {
        Sid      = "GiveUp", Effect = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-dead-letters.fifo"]
      }
      KeepState = {
        Sid      = "KeepState", Effect = "Allow"
        Action   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
        Resource = ["arn:aws:dynamodb:eu-central-1:111122223333:table/sluice"]
        Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [
          "target#bus", "target#mail", "target#oidc", "target#oidc-for-us", "target#other-bus", "target#prod", "target#q", "target#topic",
        ] } }
      }
      PublishToTopics = {
        Sid    = "PublishToTopics", Effect = "Allow"
        Action = ["sns:Publish"]
        Resource = [
          "arn:aws:sns:eu-central-1:111122223333:q",
          "arn:aws:sns:eu-central-1:111122223333:told",
        ]
      }
      PutEvents = {
        Sid    = "PutEvents", Effect = "Allow"
        Action = ["events:PutEvents"]
        Resource = [
          "arn:aws:events:eu-central-1:111122223333:event-bus/told",
          "arn:aws:events:eu-west-1:444455556666:event-bus/told",
        ]
      }
      SendMail = {
        Sid    = "SendMail", Effect = "Allow"
        Action = ["ses:SendEmail"]
        Resource = [
          "arn:aws:ses:eu-central-1:111122223333:configuration-set/*",
          "arn:aws:ses:eu-central-1:111122223333:identity/*",
        ]
        Condition = { StringEquals = { "ses:FromAddress" = ["sluice@mail.example.com"] } }
      }
      ProveIdentity = {
        Sid      = "ProveIdentity", Effect = "Allow"
        Action   = ["sts:GetWebIdentityToken"]
        Resource = ["*"]
        Condition = {
          "ForAllValues:StringEquals" = { "sts:IdentityTokenAudience" = ["notification-controller", "sluice"] }
          StringEquals                = { "sts:SigningAlgorithm" = "RS256" }
          NumericLessThanEquals       = { "sts:DurationSeconds" = 900 }
        }
      }
    })
    error_message = jsonencode(local.statements["deliver"])
  }
}

run "probe_reads_what_it_connects_with_and_no_tokens" {
  command = plan
  assert {
    condition     = sort(keys(local.statements["probe"])) == tolist(["ReadRelayFile", "ReadSecrets", "ReportFailedInvocations", "SeeOverdueDeliveries", "WriteLog"])
    error_message = jsonencode(keys(local.statements["probe"]))
  }
  assert {
    condition = jsonencode(local.statements["probe"].SeeOverdueDeliveries) == jsonencode({
      Sid       = "SeeOverdueDeliveries", Effect = "Allow"
      Action    = ["dynamodb:Query"]
      Resource  = ["arn:aws:dynamodb:eu-central-1:111122223333:table/sluice"]
      Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = [for target in keys(local.targets) : "target#${target}"] } }
    })
    error_message = jsonencode(local.statements["probe"].SeeOverdueDeliveries)
  }
  assert {
    condition     = jsonencode(local.statements["probe"].ReadSecrets.Resource) == jsonencode(["arn:aws:secretsmanager:eu-central-1:111122223333:secret:clusters/prod/ca-??????"])
    error_message = jsonencode(local.statements["probe"].ReadSecrets)
  }
}

run "an_agent_in_a_cluster_has_its_own_queues_targets_and_relay_file" {
  command = plan
  assert {
    condition = jsonencode(local.statements["agent-eks"]) == jsonencode({
      ReadParameters = {
        Sid      = "ReadParameters", Effect = "Allow"
        Action   = ["ssm:GetParameters"]
        Resource = ["arn:aws:ssm:eu-central-1:111122223333:parameter/clusters/eks/receiver"]
      }
      WorkOnDeliveries = {
        Sid      = "WorkOnDeliveries", Effect = "Allow"
        Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-agent-eks.fifo"]
      }
      GiveUp = {
        Sid      = "GiveUp", Effect = "Allow"
        Action   = ["sqs:SendMessage"]
        Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-agent-eks-dead-letters.fifo"]
      }
      KeepState = {
        Sid       = "KeepState", Effect = "Allow"
        Action    = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
        Resource  = ["arn:aws:dynamodb:eu-central-1:111122223333:table/sluice"]
        Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["target#inside"] } }
      }
    })
    error_message = jsonencode(local.statements["agent-eks"])
  }
}

run "an_agent_in_a_vpc_is_a_function_that_may_join_the_network" {
  command = plan
  assert {
    condition     = sort(keys(local.statements["agent-vpc"])) == tolist(["GiveUp", "JoinNetwork", "KeepState", "ReadRelayFile", "ReadSecrets", "TakeDeliveries", "WorkOnDeliveries", "WriteLog"])
    error_message = jsonencode(keys(local.statements["agent-vpc"]))
  }
  assert {
    condition     = jsonencode(local.statements["agent-vpc"].ReadRelayFile.Resource) == jsonencode(["arn:aws:ssm:eu-central-1:111122223333:parameter/sluice/agent-vpc/*"])
    error_message = jsonencode(local.statements["agent-vpc"].ReadRelayFile)
  }
  assert {
    condition = jsonencode(local.statements["agent-vpc"].JoinNetwork) == jsonencode({
      Sid      = "JoinNetwork", Effect = "Allow"
      Action   = ["ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses"]
      Resource = ["*"]
    })
    error_message = jsonencode(local.statements["agent-vpc"].JoinNetwork)
  }
  assert {
    condition     = jsonencode(local.statements["agent-vpc"].ReadSecrets.Resource) == jsonencode(["arn:aws:secretsmanager:eu-central-1:111122223333:secret:clusters/vpc/bearer-??????"])
    error_message = jsonencode(local.statements["agent-vpc"].ReadSecrets)
  }
}

run "nothing_is_allowed_on_everything_but_what_aws_forces" {
  command = plan
  assert {
    condition     = toset(flatten([for role, statements in local.statements : [for sid, statement in statements : sid if contains(statement.Resource, "*")]])) == toset(["JoinNetwork", "ProveIdentity"])
    error_message = "Another statement has the resource *."
  }
  assert {
    condition     = alltrue(flatten([for statements in values(local.statements) : [for statement in values(statements) : [for action in statement.Action : !strcontains(action, "*")]]]))
    error_message = "An action has a wildcard."
  }
  assert {
    condition     = alltrue([for role, policy in aws_iam_role_policy.this : policy.policy == jsonencode({ Version = "2012-10-17", Statement = values(local.statements[role]) })])
    error_message = "A role's policy is not made of its statements."
  }
}

run "keys_of_yours_are_used_by_way_of_the_services_that_need_them" {
  command = plan
  variables {
    kms_key_arn         = "arn:aws:kms:eu-central-1:111122223333:key/queues"
    secret_kms_key_arns = ["arn:aws:kms:eu-central-1:111122223333:key/secrets"]
  }
  assert {
    condition = jsonencode({ for sid in ["DecryptSecrets", "UseKey"] : sid => local.statements["deliver"][sid] }) == jsonencode({
      DecryptSecrets = {
        Sid       = "DecryptSecrets", Effect = "Allow"
        Action    = ["kms:Decrypt"]
        Resource  = ["arn:aws:kms:eu-central-1:111122223333:key/secrets"]
        Condition = { StringEquals = { "kms:ViaService" = ["secretsmanager.eu-central-1.amazonaws.com", "ssm.eu-central-1.amazonaws.com"] } }
      }
      UseKey = {
        Sid       = "UseKey", Effect = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = ["arn:aws:kms:eu-central-1:111122223333:key/queues"]
        Condition = { StringEquals = { "kms:ViaService" = ["dynamodb.eu-central-1.amazonaws.com", "sqs.eu-central-1.amazonaws.com"] } }
      }
    })
    error_message = jsonencode(local.statements["deliver"])
  }
  assert {
    condition     = alltrue([for role in ["alert-intake", "probe"] : jsonencode(local.statements[role].UseKey.Condition) == jsonencode(local.statements["deliver"].UseKey.Condition)])
    error_message = jsonencode([for role in ["alert-intake", "probe"] : local.statements[role].UseKey])
  }
  assert {
    condition     = jsonencode(local.statements["git-webhook"].UseKey.Condition) == jsonencode({ StringEquals = { "kms:ViaService" = ["sqs.eu-central-1.amazonaws.com"] } })
    error_message = jsonencode(local.statements["git-webhook"].UseKey)
  }
  assert {
    condition     = toset([for role, statements in local.statements : role if contains(keys(statements), "DecryptSecrets")]) == toset(keys(local.statements))
    error_message = "Everyone in this relay file reads secrets."
  }
  assert {
    condition     = sort(keys(local.scheduler_statements)) == tolist(["Invoke", "ReportFailedInvocations", "UseKey"])
    error_message = jsonencode(keys(local.scheduler_statements))
  }
  assert {
    condition = alltrue([for queue in concat(values(aws_sqs_queue.deliveries), values(aws_sqs_queue.dead_letters), [aws_sqs_queue.intake_failed]) :
      queue.kms_master_key_id == var.kms_key_arn
    ])
    error_message = "A queue does not have the key."
  }
}

run "the_schedule_may_start_the_probe_and_nothing_else" {
  command = plan
  assert {
    condition = jsonencode(jsondecode(aws_iam_role_policy.scheduler.policy).Statement) == jsonencode([
      { Sid = "Invoke", Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = ["arn:aws:lambda:eu-central-1:111122223333:function:sluice-probe"] },
      { Sid = "ReportFailedInvocations", Effect = "Allow", Action = ["sqs:SendMessage"], Resource = ["arn:aws:sqs:eu-central-1:111122223333:sluice-intake-failed"] },
    ])
    error_message = aws_iam_role_policy.scheduler.policy
  }
}

run "an_agents_role_is_for_its_service_account" {
  command = plan
  variables {
    agents = {
      vpc = {}
      eks = {
        oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1"
        service_account   = { namespace = "relay" }
      }
    }
  }
  assert {
    condition = jsondecode(aws_iam_role.this["agent-vpc"].assume_role_policy).Statement[0] == {
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = { StringEquals = {
        "aws:RequestTag/kubernetes-namespace"       = "sluice"
        "aws:RequestTag/kubernetes-service-account" = "sluice-agent"
      } }
    }
    error_message = aws_iam_role.this["agent-vpc"].assume_role_policy
  }
  assert {
    condition = jsondecode(aws_iam_role.this["agent-eks"].assume_role_policy).Statement[0] == {
      Effect    = "Allow"
      Principal = { Federated = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/1" }
      Action    = ["sts:AssumeRoleWithWebIdentity"]
      Condition = { StringEquals = {
        "oidc.eks.eu-central-1.amazonaws.com/id/1:aud" = "sts.amazonaws.com"
        "oidc.eks.eu-central-1.amazonaws.com/id/1:sub" = "system:serviceaccount:relay:sluice-agent"
      } }
    }
    error_message = aws_iam_role.this["agent-eks"].assume_role_policy
  }
  assert {
    condition     = jsondecode(aws_iam_role.this["deliver"].assume_role_policy).Statement[0].Principal == { Service = "lambda.amazonaws.com" }
    error_message = aws_iam_role.this["deliver"].assume_role_policy
  }
}

run "the_oidc_provider_of_a_cluster_may_be_made_together_with_the_agents_role" {
  command = plan
  module {
    source = "./tests/new-cluster"
  }
}

run "one_relay_file" {
  command = plan
  variables {
    name = "one"
  }
}

run "another_relay_file_gives_rights_that_have_nothing_in_common" {
  command = plan
  variables {
    name       = "two"
    relay_file = "tests/other.yaml"
    agents     = {}
  }
  assert {
    condition = length(setintersection(
      flatten([for statements in values(run.one_relay_file.policies) : [for statement in statements : [for resource in statement.Resource : resource if resource != "*"]]]),
      flatten([for statements in values(local.statements) : [for statement in values(statements) : statement.Resource]]),
    )) == 0
    error_message = "Two deployments may do something with the same resource."
  }
  assert {
    condition     = length(flatten([for statements in values(run.one_relay_file.policies) : [for statement in statements : statement.Resource]])) > 30
    error_message = "There is nothing to compare with."
  }
}

run "whoever_has_no_source_may_queue_nothing" {
  command = plan
  variables {
    relay_file = "tests/other.yaml"
    agents     = {}
  }
  assert {
    condition     = sort(keys(local.statements["alert-intake"])) == tolist(["ReadRelayFile", "WriteLog"])
    error_message = jsonencode(keys(local.statements["alert-intake"]))
  }
}
