//! Whose turn it is to compile.

use std::sync::Arc;
use std::time::Duration;

use crate::wasm::config::CompileLimits;
use crate::wasm::turns::Turns;

/// The workers of a machine: those that begin, and those of them that take long and begin again here.
pub struct Lanes {
    workers: Arc<Turns>,
    slow_workers: Arc<Turns>,
    quick: Duration,
}

impl Lanes {
    pub fn new(limits: &CompileLimits) -> Lanes {
        Lanes {
            workers: Turns::new(limits.concurrent.max(1)),
            slow_workers: Turns::new(limits.concurrent_slow.max(1)),
            quick: limits.quick,
        }
    }

    /// Does `work` when it is the turn of `owner`. Most components are compiled within moments. One that is not, while others
    /// wait, begins anew where it holds up none but its like.
    pub async fn run<W: Future>(&self, owner: &str, work: impl Fn() -> W) -> W::Output {
        {
            let _worker = self.workers.take(owner).await;
            let holds_up_others = async {
                tokio::time::sleep(self.quick).await;
                self.workers.wanted().await;
            };
            tokio::select! {
                done = work() => return done,
                () = holds_up_others => {}
            }
        }
        let _worker = self.slow_workers.take(owner).await;
        work().await
    }
}
