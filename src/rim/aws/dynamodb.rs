//! State in one DynamoDB table.
//!
//! An item has `pk` and `sk` (strings, the table's key), `value` (JSON as a string) and `expires` (a number, epoch
//! seconds, the table's TTL attribute). DynamoDB deletes what has expired when it finds the time, which may be days
//! later, so it is not trusted with that: every answer is held against the clock here.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::unavailable;
use crate::port::{Clock, Key, Record, State, Unavailable};

/// A DynamoDB table.
#[derive(Clone)]
pub struct DynamoState {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
}

/// An item as the SDK has it.
type Item = HashMap<String, AttributeValue>;

impl DynamoState {
    /// The table of this name. Nothing is sent yet.
    pub fn new(client: Client, table: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { client, table: table.into(), clock }
    }

    /// What an item holds, unless it has expired.
    fn read(&self, mut item: Item) -> Result<Option<(Key, Record)>, Unavailable> {
        let malformed = || Unavailable { what: "state", message: "the table holds an item that is not ours".into() };
        let mut text = |name| match item.remove(name) {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => Ok(text),
            _ => Err(malformed()),
        };
        let key = Key { pk: text("pk")?, sk: text("sk")? };
        let seconds = text("expires")?.parse().map_err(|_| malformed())?;
        let expires = Timestamp::from_second(seconds).map_err(|_| malformed())?;
        if expires <= self.clock.now() {
            return Ok(None);
        }
        let value = serde_json::from_str(&text("value")?).map_err(|_| malformed())?;
        Ok(Some((key, Record { value, expires })))
    }
}

/// Times of expiry have whole seconds: they are rounded up.
#[async_trait]
impl State for DynamoState {
    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let call = self.client.get_item().table_name(&self.table).set_key(Some(key_item(key))).consistent_read(true);
        let answer = call.send().await.map_err(|error| unavailable("state", &error))?;
        let found = answer.item.map(|item| self.read(item)).transpose()?.flatten();
        Ok(found.map(|(_, record)| record))
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), Unavailable> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item(key, &record)));
        call.send().await.map_err(|error| unavailable("state", &error))?;
        Ok(())
    }

    async fn create(&self, key: &Key, record: Record) -> Result<bool, Unavailable> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item(key, &record)))
            .condition_expression("attribute_not_exists(pk) OR #expires <= :now")
            .expression_attribute_names("#expires", "expires")
            .expression_attribute_values(":now", AttributeValue::N(self.clock.now().as_second().to_string()));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(error) => Err(unavailable("state", &error)),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), Unavailable> {
        let call = self.client.delete_item().table_name(&self.table).set_key(Some(key_item(key)));
        call.send().await.map_err(|error| unavailable("state", &error))?;
        Ok(())
    }

    async fn list(&self, pk: &str) -> Result<Vec<(Key, Record)>, Unavailable> {
        let items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.into()))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send()
            .collect::<Result<Vec<_>, _>>()
            .await
            .map_err(|error| unavailable("state", &error))?;
        items.into_iter().filter_map(|item| self.read(item).transpose()).collect()
    }
}

fn key_item(key: &Key) -> Item {
    Item::from([
        ("pk".to_owned(), AttributeValue::S(key.pk.clone())),
        ("sk".to_owned(), AttributeValue::S(key.sk.clone())),
    ])
}

fn item(key: &Key, record: &Record) -> Item {
    let expires = record.expires.as_second() + i64::from(record.expires.subsec_nanosecond() > 0);
    let mut item = key_item(key);
    item.insert("value".into(), AttributeValue::S(record.value.to_string()));
    item.insert("expires".into(), AttributeValue::N(expires.to_string()));
    item
}
