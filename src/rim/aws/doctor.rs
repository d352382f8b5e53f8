//! What the doctor asks of AWS: who we are there, and how queues and the table are set up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{KeySchemaElement, TimeToLiveStatus};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::SdkConfig;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::secrets::fetch_error;
use crate::doctor::{Caller, Deployed, QueueFacts, TableFacts};
use crate::port::FetchError;

/// Asks AWS by the SDK.
#[derive(Debug, Clone)]
pub struct AwsDeployed {
    sts: aws_sdk_sts::Client,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

impl AwsDeployed {
    /// Makes the clients; nothing is sent yet.
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            sts: aws_sdk_sts::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            dynamodb: aws_sdk_dynamodb::Client::new(config),
        }
    }
}

#[async_trait]
impl Deployed for AwsDeployed {
    async fn caller(&self) -> Caller {
        let date = Date::default();
        let answer = self.sts.get_caller_identity().customize().interceptor(date.clone()).send().await;
        let arn = answer.map_err(|error| fetch_error(&error)).map(|answer| answer.arn.unwrap_or_default());
        Caller { arn, time: date.time() }
    }

    async fn queue(&self, url: &str) -> Result<QueueFacts, FetchError> {
        use QueueAttributeName as Name;
        // Not by their names: a standard queue refuses to be asked for what only FIFO queues have.
        let call = self.sqs.get_queue_attributes().queue_url(url).attribute_names(Name::All);
        let answer = call.send().await.map_err(|error| fetch_error(&error))?;
        let attributes = answer.attributes.unwrap_or_default();
        let number = |name: Name| {
            let number = attributes.get(&name).and_then(|text| text.parse::<u64>().ok());
            number.ok_or_else(|| FetchError::Unusable("AWS does not say how it is set up".into()))
        };
        Ok(QueueFacts {
            is_fifo: attributes.get(&Name::FifoQueue).is_some_and(|fifo| fifo == "true"),
            limit: usize::try_from(number(Name::MaximumMessageSize)?).unwrap_or(usize::MAX),
            retention: Duration::from_secs(number(Name::MessageRetentionPeriod)?),
            waiting: number(Name::ApproximateNumberOfMessages)?,
            hidden: number(Name::ApproximateNumberOfMessagesNotVisible)?,
        })
    }

    async fn table(&self, name: &str) -> Result<TableFacts, FetchError> {
        let table = self.dynamodb.describe_table().table_name(name).send().await;
        let table = table.map_err(|error| fetch_error(&error))?.table;
        let (schema, types) = table.map(|table| (table.key_schema, table.attribute_definitions)).unwrap_or_default();
        let types = types.unwrap_or_default();
        let key = |key: KeySchemaElement| {
            let of = types.iter().find(|of| of.attribute_name == key.attribute_name);
            let of = of.map_or("?", |of| of.attribute_type.as_str());
            format!("{} {} {of}", key.attribute_name, key.key_type.as_str())
        };
        let keys = schema.unwrap_or_default().into_iter().map(key).collect();
        let expiry = self.dynamodb.describe_time_to_live().table_name(name).send().await;
        let expiry = expiry.map_err(|error| fetch_error(&error))?.time_to_live_description;
        let is_on =
            |status: &TimeToLiveStatus| matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling);
        let expiry = expiry.filter(|expiry| expiry.time_to_live_status.as_ref().is_some_and(is_on));
        Ok(TableFacts { keys, expires: expiry.and_then(|expiry| expiry.attribute_name) })
    }
}

/// Notes the `Date` of an answer, also of one that refuses.
#[derive(Debug, Clone, Default)]
struct Date(Arc<Mutex<Option<String>>>);

impl Date {
    fn time(&self) -> Option<Timestamp> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rfc2822::DateTimeParser::new().parse_timestamp(noted.as_ref()?).ok()
    }
}

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
