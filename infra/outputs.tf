output "url" {
  description = "The front door's URL."
  value       = local.front_door
}

output "source_urls" {
  description = "Where each source's sender sends to. What senders need that cannot sign has a token behind it, which `sluice url` prints."
  value       = { for name in keys(local.sources) : name => "${local.front_door}/${name}" }
}

output "domain" {
  description = "What the domain's name has to point to: an alias in Route 53 (`target`, `zone_id`) or a CNAME."
  value = one([for domain in aws_apigatewayv2_domain_name.this : {
    name    = domain.domain_name
    target  = domain.domain_name_configuration[0].target_domain_name
    zone_id = domain.domain_name_configuration[0].hosted_zone_id
  }])
}

output "queues" {
  description = "The queues' URLs: `deliveries` and `dead_letters` of `deliver` and of each agent (agent-NAME)."
  value = { for name in keys(local.consumers) : name => {
    deliveries   = aws_sqs_queue.deliveries[name].url
    dead_letters = aws_sqs_queue.dead_letters[name].url
  } }
}

output "intake_failed_queue" {
  description = "The URL of the queue of events without HTTP that were not taken."
  value       = aws_sqs_queue.intake_failed.url
}

output "role_arns" {
  description = "The ARN of each function's role, and of each agent's (agent-NAME)."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "policies" {
  description = "What each role may do: the statements of its policy."
  value       = { for name in keys(local.trusts) : name => jsondecode(local.policies[name]).Statement }
}

output "function_names" {
  description = "The names of the functions by what they are."
  value       = { for name, function in aws_lambda_function.this : name => function.function_name }
}

output "state_table" {
  description = "The name of the table with the state."
  value       = aws_dynamodb_table.state.name
}

output "dashboard" {
  description = "The URL of the dashboard."
  value       = "https://${local.region}.console.aws.amazon.com/cloudwatch/home?region=${local.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "alarm_topic_arns" {
  description = "Where alarms go."
  value       = local.alarm_topic_arns
}

output "event_bus_arn" {
  description = "The event bus to which other accounts and regions forward their events: see the sub-module `forward`."
  value       = "${local.arns.events}:event-bus/default"
}

output "event_patterns" {
  description = "What sources take by EventBridge, for each type of source the pattern in JSON: what the sub-module `forward` is to forward."
  value       = { for type, rule in local.rules : type => jsonencode(rule.pattern) }
}

output "agents" {
  description = "What to put into an agent's cluster: its role, and the environment and relay file of `sluice agent` (infra/cluster/agent)."
  value = { for name, agent in var.agents : name => {
    role_arn = aws_iam_role.this["agent-${name}"].arn
    environment = merge(local.consumer_environment["agent-${name}"], {
      AWS_REGION   = local.region
      SLUICE_AGENT = name
    })
    relay_file = local.relay_json["agent-${name}"]
  } if agent.vpc == null }
}

output "receivers" {
  description = "The Receivers that the relay file's targets of type flux expect in their clusters, and the reference of each one's token: the ExternalSecret in infra/cluster brings that to the cluster."
  value = { for name, target in local.targets : name => {
    cluster   = lookup(target, "cluster", null)
    name      = target.receiver.name
    namespace = target.receiver.namespace
    type      = target.receiver.type
    token     = lookup(target, "token", null)
  } if target.type == "flux" }
}
