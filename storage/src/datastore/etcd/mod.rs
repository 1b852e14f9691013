//! The store of a cluster with several API servers: an etcd that somebody else runs.
//!
//! etcd's guarantees are the trait's, so every call here is one call there; what differs is said where it is evened out:
//! leases stand in for deadlines, and old versions' progress is believed a little later ([`watch`]).

mod client;
mod proto;
mod watch;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use self::client::Client;
pub use self::client::Tls;
use super::{
    Datastore, KeyRange, KeyValue, ListRequest, ListResponse, Result, Revision, Txn, TxnOutcome, WatchItem, Write,
    check_txn,
};

/// Keys that one answer of etcd holds.
const KEYS_PER_PAGE: usize = 250;
/// A lease is shared by all keys of the same lifetime that are put within this time of each other.
const LEASE_SHARED_FOR: Duration = Duration::from_secs(1);
/// The lowest key there can be; etcd takes no empty one. As the end of a range it means "no end".
const LOWEST_KEY: Bytes = Bytes::from_static(b"\0");

/// A client of an etcd cluster.
pub struct Etcd {
    client: Client,
    /// By lifetime in seconds.
    leases: Mutex<HashMap<u64, (i64, Instant)>>,
    exact_progress: bool,
}

impl Etcd {
    /// Connects to etcd at `urls`: `http://…`, `https://…` or `etcd://host:port`, several separated by commas.
    /// Errors: `Invalid` for an address that is none, `Unavailable`.
    pub async fn connect(urls: &str, tls: Option<&Tls>) -> Result<Self> {
        let client = Client::connect(urls, tls).await?;
        let version = client.version().await?;
        let exact_progress = has_exact_progress(&version);
        if !exact_progress {
            tracing::warn!(version, "this etcd is old; 3.5.8 or newer is better");
        }
        Ok(Self { client, leases: Mutex::default(), exact_progress })
    }

    async fn lease(&self, ttl_seconds: u64) -> Result<i64> {
        let now = Instant::now();
        {
            let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
            leases.retain(|_, (_, granted)| now.duration_since(*granted) < LEASE_SHARED_FOR);
            if let Some((lease, _)) = leases.get(&ttl_seconds) {
                return Ok(*lease);
            }
        }
        let lease = self.client.lease(ttl_seconds + LEASE_SHARED_FOR.as_secs()).await?;
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(ttl_seconds, (lease, now));
        Ok(lease)
    }

    async fn write_op(&self, write: Write) -> Result<proto::RequestOp> {
        let request = match write {
            Write::Put { key, value, ttl_seconds } => {
                let lease = match ttl_seconds {
                    Some(ttl) => self.lease(ttl).await?,
                    None => 0,
                };
                proto::Request::Put(proto::PutRequest { key, value, lease, prev_kv: true })
            }
            Write::Delete { key } => proto::Request::DeleteRange(proto::DeleteRangeRequest { key, prev_kv: true }),
        };
        Ok(proto::RequestOp { request: Some(request) })
    }
}

/// Older versions announce progress that may overtake events on their way (etcd issue 15220).
fn has_exact_progress(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[async_trait]
impl Datastore for Etcd {
    async fn revision(&self) -> Result<Revision> {
        let request = proto::RangeRequest { key: LOWEST_KEY, count_only: true, ..Default::default() };
        Ok(revision(self.client.range(request).await?.header))
    }

    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)> {
        let request = proto::RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        let mut response = self.client.range(request).await?;
        Ok((response.kvs.pop().map(key_value), revision(response.header)))
    }

    async fn list(&self, request: ListRequest) -> Result<ListResponse> {
        let end = range_end(&request.range);
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut start = range_start(&request.range, &request.start_key.unwrap_or_default());
        let mut at = request.revision.unwrap_or(0);
        let mut items: Vec<KeyValue> = Vec::new();
        loop {
            let wanted = KEYS_PER_PAGE.min(limit - items.len());
            let page = self.client.range(proto::RangeRequest {
                key: start,
                range_end: end.clone(),
                limit: wanted as i64,
                revision: at as i64,
                count_only: false,
            });
            let page = page.await?;
            if at == 0 {
                at = revision(page.header);
            }
            let remaining = usize::try_from(page.count).unwrap_or(0).saturating_sub(page.kvs.len());
            items.extend(page.kvs.into_iter().map(key_value));
            match items.last() {
                Some(last) if remaining > 0 && items.len() < limit => start = [&last.key[..], b"\0"].concat().into(),
                _ => return Ok(ListResponse { items, revision: at, remaining }),
            }
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        check_txn(&txn)?;
        let compare = |c: &super::Compare| proto::Compare {
            result: 0,
            target: proto::COMPARE_MOD,
            key: c.key.clone(),
            mod_revision: Some(c.mod_revision as i64),
        };
        let read = |c: &super::Compare| {
            let range = proto::RangeRequest { key: c.key.clone(), ..Default::default() };
            proto::RequestOp { request: Some(proto::Request::Range(range)) }
        };
        let mut request = proto::TxnRequest {
            compare: txn.compares.iter().map(compare).collect(),
            success: Vec::with_capacity(txn.writes.len()),
            failure: txn.compares.iter().map(read).collect(),
        };
        for write in txn.writes {
            request.success.push(self.write_op(write).await?);
        }
        let response = self.client.txn(request).await?;
        let revision = revision(response.header);
        let values = response.responses.into_iter().map(|op| {
            let found = match op.response? {
                proto::Response::Range(mut range) => range.kvs.pop(),
                proto::Response::Put(put) => put.prev_kv,
                proto::Response::DeleteRange(mut delete) => delete.prev_kvs.pop(),
            };
            found.map(key_value)
        });
        Ok(match response.succeeded {
            true => TxnOutcome::Committed { revision, previous: values.collect() },
            false => TxnOutcome::Conflict { revision, current: values.collect() },
        })
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<BoxStream<'static, Result<WatchItem>>> {
        watch::open(&self.client, range, from, self.exact_progress).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.client.compact(revision).await
    }
}

fn revision(header: Option<proto::ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision as Revision)
}

/// A value of its own: one that is kept must not keep the whole message that it came in.
fn key_value(kv: proto::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(&kv.key),
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: kv.create_revision as Revision,
        mod_revision: kv.mod_revision as Revision,
    }
}

fn range_start(range: &KeyRange, start: &Bytes) -> Bytes {
    let start = start.max(&range.start);
    if start.is_empty() { LOWEST_KEY } else { start.clone() }
}

fn range_end(range: &KeyRange) -> Bytes {
    if range.end.is_empty() { LOWEST_KEY } else { range.end.clone() }
}

#[cfg(test)]
mod tests;
