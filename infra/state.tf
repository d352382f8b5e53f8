# State that outlives an invocation, such as how often a delivery was tried.
resource "aws_dynamodb_table" "state" {
  #checkov:skip=CKV_AWS_28:what it holds expires within days and is of use to deliveries under way only; there is nothing to restore
  #checkov:skip=CKV_AWS_119:DynamoDB encrypts with a key of its own; kms_key_arn puts one of yours in its place
  #checkov:skip=CKV2_AWS_16:it is billed by request, which needs no scaling
  name         = var.name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  range_key    = "sk"
  tags         = var.tags

  attribute {
    name = "pk"
    type = "S"
  }
  attribute {
    name = "sk"
    type = "S"
  }
  ttl {
    attribute_name = "expires"
    enabled        = true
  }
  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}
