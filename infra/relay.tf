# The relay file: what is read out of it, and how it reaches the functions.

locals {
  relay   = yamldecode(can(keys(yamldecode(var.relay_file))) ? var.relay_file : file(var.relay_file))
  sources = try({ for name, source in local.relay.sources : name => source }, {})
  targets = try({ for name, target in local.relay.targets : name => target }, {})

  # Generated from the list in the code. Where a source says what it `emits`, that decides instead.
  source_types    = jsondecode(file("${path.module}/source-types.json"))
  function_of     = { image_push = "registry-push", git = "git-webhook", alert = "alert-intake" }
  source_function = { for name, source in local.sources : name => try(local.function_of[source.emits], local.source_types[source.type], null) }

  # What each role delivers to. An agent has its own targets, and `deliver` what is left.
  target_agent = { for name, target in local.targets : name => try(target.agent, null) }
  consumers = merge(
    { deliver = { agent = null, targets = { for name, target in local.targets : name => target if local.target_agent[name] == null } } },
    { for agent in keys(var.agents) : "agent-${agent}" => {
      agent   = agent
      targets = { for name, target in local.targets : name => target if local.target_agent[name] == agent }
    } },
  )

  # An agent's relay file has its own targets and nothing else; the functions have the whole.
  relay_files = merge(
    { relay = local.relay },
    { for name, consumer in local.consumers : name => merge(
      { targets = consumer.targets },
      try({ egress = local.relay.egress }, {}),
    ) if consumer.agent != null },
  )
  # Parameter Store refuses a value with two opening braces, which templates have: it takes them for a reference of its own.
  relay_json = { for name, relay in local.relay_files : name => replace(jsonencode(relay), "{{", "\\u007b\\u007b") }

  # A cold start that reads nothing needs no share of what Parameter Store answers: what fits is in the environment. Lambda
  # allows 4 KB for all of it, of which names and the function's own queues and table take 500 bytes at most, and each
  # agent's queue 180.
  inline_length = 3596 - 180 * length(var.agents)
  packed_relay  = { for name in toset([for function in values(local.functions) : function.relay]) : name => base64gzip(local.relay_json[name]) }
  inline_relay  = { for name, packed in local.packed_relay : name => packed if length(packed) <= local.inline_length }

  # A standard parameter has at most 4 KB, is free, and unlike an advanced one never has to be made anew, which would
  # begin its versions from 1. Characters are counted here and bytes there: only where they are the same, a part may
  # be nearly full.
  part_length = { for name in setsubtract(keys(local.packed_relay), keys(local.inline_relay)) :
    name => length(base64encode(local.relay_json[name])) == 4 * ceil(length(local.relay_json[name]) / 3) ? 4000 : 1000
  }
  relay_parts = merge([for name, part_length in local.part_length : {
    for index, start in range(0, length(local.relay_json[name]), part_length) :
    format("%s/%03d", name, index) => substr(local.relay_json[name], start, part_length)
  }]...)
  relay_places = merge(local.inline_relay, { for name in keys(local.part_length) :
    name => join(",", [for part in sort(keys(local.relay_parts)) :
      "ssm:${aws_ssm_parameter.relay[part].name}:${aws_ssm_parameter.relay[part].version}" if dirname(part) == name
    ])
  })
}

resource "aws_ssm_parameter" "relay" {
  #checkov:skip=CKV2_AWS_34:the relay file names secrets and holds none; whoever deploys has it anyway
  for_each = local.relay_parts

  name        = "/${var.name}/${each.key}"
  description = "A part of the relay file of ${var.name}: several are one text"
  type        = "String"
  # Of a change of insecure_value the provider does not plan that it makes a new version: functions would keep the old one.
  value = each.value
  tags  = var.tags

  lifecycle {
    # Functions that start while a relay file gets shorter still find all its parts.
    create_before_destroy = true

    precondition {
      condition     = length(base64encode(each.value)) <= 5460
      error_message = "A part of the relay file has more than 4 KB, because of characters of many bytes; leave those out."
    }
  }
}

# Nothing but conditions: no function is made of a relay file that does not meet them.
resource "terraform_data" "relay" {
  lifecycle {
    precondition {
      condition     = alltrue([for name in concat(keys(local.sources), keys(local.targets)) : can(regex("^[a-z0-9][a-z0-9-]{0,62}$", name)) && name != "healthz"])
      error_message = "The names of sources and targets have at most 63 small letters, digits and hyphens, begin with no hyphen, and are not healthz."
    }
    precondition {
      condition     = alltrue([for name, function in local.source_function : function != null])
      error_message = "The relay file has sources of a type that this version does not know: ${join(", ", [for name, function in local.source_function : name if function == null])}."
    }
    precondition {
      condition     = alltrue([for agent in values(local.target_agent) : agent == null ? true : contains(keys(var.agents), agent)])
      error_message = "The relay file's targets name agents that `agents` does not have: ${join(", ", setsubtract([for agent in values(local.target_agent) : agent if agent != null], keys(var.agents)))}."
    }
    precondition {
      condition     = length(local.local_references) == 0
      error_message = "In the cloud there are no variables or files with secrets: use ssm: or secretsmanager: in place of ${join(", ", local.local_references)}."
    }
    precondition {
      condition     = var.alarms.topic_arn == null ? true : !contains(flatten(values(local.source_topics)), var.alarms.topic_arn)
      error_message = "Alarms about Sluice must not go through Sluice: the alarms' topic is one that a source takes messages from."
    }
  }
}
