//! State in the store.

use async_trait::async_trait;

use super::Store;
use super::round::{Nanos, Round, timestamp};
use crate::port::{Key, Record, State, Unavailable};

/// State in a [`Store`].
#[derive(Clone)]
pub struct EmbeddedState(Store);

impl EmbeddedState {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }
}

#[async_trait]
impl State for EmbeddedState {
    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let Key { pk, sk } = key.clone();
        self.0.run("state", move |round| round.get(&pk, &sk)?.map(|(at, value)| record(at, &value)).transpose()).await
    }

    async fn put(&self, key: &Key, record: Record) -> Result<(), Unavailable> {
        let (Key { pk, sk }, expires) = (key.clone(), record.expires.as_nanosecond());
        let value = record.value.to_string();
        self.0.run("state", move |round| round.put(&pk, &sk, expires, value.as_bytes())).await
    }

    async fn create(&self, key: &Key, record: Record) -> Result<bool, Unavailable> {
        let (Key { pk, sk }, expires) = (key.clone(), record.expires.as_nanosecond());
        let value = record.value.to_string();
        self.0.run("state", move |round| round.create(&pk, &sk, expires, value.as_bytes())).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Unavailable> {
        let Key { pk, sk } = key.clone();
        self.0.run("state", move |round| round.forget(&pk, &sk)).await
    }

    async fn list(&self, pk: &str) -> Result<Vec<(Key, Record)>, Unavailable> {
        let pk = pk.to_owned();
        let work = move |round: &mut Round<'_>| {
            let found = round.list(&pk)?.into_iter();
            found.map(|(sk, at, value)| Ok((Key { pk: pk.clone(), sk }, record(at, &value)?))).collect()
        };
        self.0.run("state", work).await
    }
}

fn record(expires: Nanos, value: &[u8]) -> Result<Record, redb::Error> {
    let value = serde_json::from_slice(value).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    Ok(Record { value, expires: timestamp(expires)? })
}
