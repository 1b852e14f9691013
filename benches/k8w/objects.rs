//! Memory with 10,000 and with 100,000 ConfigMaps.

use anyhow::Result;
use tokio::task::JoinSet;

use crate::cluster::Resident;
use crate::load::{CLIENTS, Load, create};

const SIZES: [usize; 2] = [10_000, 100_000];

pub async fn measure() -> Result<()> {
    let load = Load::start().await?;
    let resident = || Resident::of(load.cluster.process_id());
    let (empty, mut made) = (resident()?, 0);
    for size in SIZES {
        let mut tasks: JoinSet<Result<()>> = JoinSet::new();
        for client in 0..CLIENTS {
            let mut connection = load.connect().await?;
            tasks.spawn(async move {
                for number in (made + client..size).step_by(CLIENTS) {
                    create(&mut connection, &format!("cm-{number:08}")).await?;
                }
                Ok(())
            });
        }
        for ended in tasks.join_all().await {
            ended?;
        }
        made = size;
        let now = resident()?;
        println!(
            "objects: {size:>7} ConfigMaps, {:.1} MB resident, {:.2} KiB each",
            now.total_kib as f64 * 1.024e-3,
            now.total_kib.saturating_sub(empty.total_kib) as f64 / size as f64,
        );
    }
    Ok(())
}
