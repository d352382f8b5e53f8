# The front door: every source has its routes, and what has none is answered by `git-webhook`, so that every answer is ours.

locals {
  routes = merge(
    { "$default" = "git-webhook" },
    { for name, function in local.source_function : "ANY /${name}" => function },
    { for name, function in local.source_function : "ANY /${name}/{token}" => function },
  )
  front_door = var.domain == null ? aws_apigatewayv2_api.this.api_endpoint : "https://${var.domain.name}"
}

resource "aws_apigatewayv2_api" "this" {
  name          = var.name
  description   = "Sluice: webhooks and alerts in"
  protocol_type = "HTTP"
  tags          = var.tags
}

resource "aws_apigatewayv2_integration" "functions" {
  for_each = toset(local.intakes)

  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.this[each.key].arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "this" {
  #checkov:skip=CKV_AWS_309:senders of webhooks sign what they send, each in its own way; the functions check it
  for_each = local.routes

  api_id    = aws_apigatewayv2_api.this.id
  route_key = each.key
  target    = "integrations/${aws_apigatewayv2_integration.functions[each.value].id}"
}

resource "aws_lambda_permission" "api" {
  for_each = toset(local.intakes)

  function_name = aws_lambda_function.this[each.key].function_name
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*"
}

resource "aws_cloudwatch_log_group" "api" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with a key of its own; kms_key_arn puts one of yours in its place
  #checkov:skip=CKV_AWS_338:a year unless `logs` says otherwise
  # Log groups under vendedlogs do not each take a piece of the one resource policy that lets API Gateway write to all.
  name              = "/aws/vendedlogs/apigateway/${var.name}"
  retention_in_days = var.logs.retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags

  default_route_settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst
  }
  # The route and never the path, whose second segment is as good as a secret.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.api.arn
    format = jsonencode({
      time        = "$context.requestTime"
      requestId   = "$context.requestId"
      routeKey    = "$context.routeKey"
      method      = "$context.httpMethod"
      status      = "$context.status"
      ip          = "$context.identity.sourceIp"
      bytes       = "$context.responseLength"
      latency     = "$context.responseLatency"
      integration = "$context.integrationStatus"
    })
  }
}

resource "aws_apigatewayv2_domain_name" "this" {
  count = var.domain == null ? 0 : 1

  domain_name = var.domain.name
  tags        = var.tags

  domain_name_configuration {
    certificate_arn = var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "this" {
  count = var.domain == null ? 0 : 1

  api_id      = aws_apigatewayv2_api.this.id
  domain_name = aws_apigatewayv2_domain_name.this[0].id
  stage       = aws_apigatewayv2_stage.this.id
}
