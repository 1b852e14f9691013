//! Resident memory of a cluster in which nothing was applied.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::{self, Resident};

/// What a start leaves to do is done by then, and what it freed went back to the kernel.
const SETTLE: Duration = Duration::from_secs(10);

pub async fn measure() -> Result<()> {
    let cluster = cluster::start(&[]);
    tokio::time::sleep(SETTLE).await;
    let Resident { total_kib, anonymous_kib } = Resident::of(cluster.process_id())?;
    println!(
        "memory: idle {:.1} MB resident, of it {:.1} MB anonymous",
        total_kib as f64 * 1.024e-3,
        anonymous_kib as f64 * 1.024e-3
    );
    Ok(())
}
