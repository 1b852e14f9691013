//! What the embedded datastore does here: `cargo run --release -p k8w-storage --example datastore_bench [FOLDER]`.
//!
//! Prints, for the disk under FOLDER (default: a temporary folder): the cost of a bare append + `fdatasync`, transactions
//! per second of 1, 16 and 64 writers of 1 KB values with their latencies, how many shared an fsync, and how long it takes
//! to open 10,000 objects.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use k8w_storage::datastore::embedded::Embedded;
use k8w_storage::datastore::{Datastore, KeyRange, ListRequest, Txn, Write};

const VALUE_BYTES: usize = 1024;
const RUN: Duration = Duration::from_secs(3);
const OBJECTS: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or(temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    fdatasync(&folder)?;
    for writers in [1, 16, 64] {
        write(&folder.join(format!("store-{writers}")), writers).await?;
    }
    open(&folder.join("store-open")).await
}

fn fdatasync(folder: &Path) -> Result<(), Box<dyn Error>> {
    let path = folder.join("fdatasync");
    let file = File::create(&path)?;
    let block = [1; VALUE_BYTES];
    file.write_all_at(&vec![0; VALUE_BYTES * 1024], 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    for i in 0..1000 {
        let started = Instant::now();
        file.write_all_at(&block, i * VALUE_BYTES as u64)?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    std::fs::remove_file(path)?;
    println!("write of 1 KB + fdatasync: {}", latencies(took));
    Ok(())
}

async fn write(folder: &Path, writers: usize) -> Result<(), Box<dyn Error>> {
    let store = Embedded::open(folder)?;
    let started = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while started.elapsed() < RUN {
                let before = Instant::now();
                store.txn(put(writer * 1000 + took.len() % 1000)).await?;
                took.push(before.elapsed());
            }
            Ok::<_, k8w_storage::datastore::Error>(took)
        })
    });
    let mut took = Vec::new();
    for task in try_join_all(tasks).await? {
        took.extend(task?);
    }
    let per_second = took.len() as f64 / started.elapsed().as_secs_f64();
    println!("{writers} writers: {per_second:.0} transactions/s, {}", latencies(took));
    Ok(())
}

async fn open(folder: &Path) -> Result<(), Box<dyn Error>> {
    let store = Embedded::open(folder)?;
    try_join_all((0..OBJECTS).map(|i| store.txn(put(i)))).await?;
    drop(store);
    let started = Instant::now();
    let store = Embedded::open(folder)?;
    let range = KeyRange::prefix("");
    let list = store.list(ListRequest { range, start_key: None, limit: 0, revision: None }).await?;
    println!("open and list {} objects: {:?}", list.items.len(), started.elapsed());
    Ok(())
}

fn put(i: usize) -> Txn {
    let value: Vec<u8> = (0..VALUE_BYTES).map(|b| (b * 31 + i) as u8).collect();
    let write = Write::Put {
        key: Bytes::from(format!("/registry/core/configmaps/default/object-{i}")),
        value: value.into(),
        ttl_seconds: None,
    };
    Txn { compares: vec![], writes: vec![write] }
}

fn latencies(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}", at(0.5), at(0.99))
}
