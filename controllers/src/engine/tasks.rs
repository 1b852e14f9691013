//! Named tasks: nothing runs that cannot be named, awaited and stopped.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    Engine,
    Informer,
    Discovery,
    Recorder,
}

impl TaskKind {
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Engine => "engine",
            TaskKind::Informer => "informer",
            TaskKind::Discovery => "discovery",
            TaskKind::Recorder => "event recorder",
        }
    }
}

/// Tasks that all run until `shutdown`; any that ends before is an error of the whole.
pub struct Tasks {
    set: JoinSet<TaskKind>,
    shutdown: CancellationToken,
}

impl Tasks {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), shutdown }
    }

    /// Runs `task` until it ends or the shutdown comes, at whichever await it is in by then.
    pub fn spawn(&mut self, kind: TaskKind, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.set.spawn(async move {
            shutdown.run_until_cancelled_owned(task).await;
            kind
        });
    }

    /// Waits for the shutdown and for every task to end.
    pub async fn finish(mut self) -> crate::Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.set.join_next().await {
            if !self.shutdown.is_cancelled() {
                let task = ended.map_or("that panicked", TaskKind::name);
                result = Err(crate::Error::TaskEnded { task });
                self.shutdown.cancel();
            }
        }
        result
    }
}
