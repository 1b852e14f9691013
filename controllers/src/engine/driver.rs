//! Runs the engine on tokio: informers feed it, its plans are executed concurrently, timers wake it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::discovery::{self, Discovery};
use super::informer::Informer;
use super::tasks::{TaskKind, Tasks};
use super::{Engine, Next, Work};
use crate::core::events::Recorder;
use crate::execute::{Api, Executed, KubeApi, execute};
use crate::time;
use crate::world::{Change, Object, watches};

/// Changes that wait for the engine; informers wait when it is full.
const MAX_WAITING_CHANGES: usize = 4096;
/// Changes taken in at a time, and keys reconciled at a time, before the other gets its turn.
const MAX_CHANGES_PER_TURN: usize = 256;
const MAX_KEYS_PER_TURN: usize = 64;
/// Everything is looked at again at this pace, in case an event failed to say what it changed.
const RESYNC: Duration = Duration::from_secs(30 * 60);

/// Runs the engine against the API behind `client` until `shutdown`.
pub async fn drive(
    engine: Engine,
    client: kube::Client,
    identity: &str,
    shutdown: CancellationToken,
) -> crate::Result<()> {
    let mut tasks = Tasks::new(shutdown);
    let (changes, inbox) = mpsc::channel(MAX_WAITING_CHANGES);
    let api: Arc<dyn Api> = Arc::new(KubeApi::new(client.clone()));
    let (recorder, recording) = Recorder::new(api.clone(), identity);
    let bell = Arc::new(Notify::new());

    for (resource, part) in watches() {
        let resource = Arc::new(resource.clone());
        let informer = Informer { client: client.clone(), resource, bare: false, part, changes: changes.clone() };
        tasks.spawn(TaskKind::Informer, informer.run());
    }
    discovery::spawn(&mut tasks, Discovery { client, changes, bell: bell.clone() });
    tasks.spawn(TaskKind::Recorder, recording);
    tasks.spawn(TaskKind::Engine, run(engine, inbox, api, recorder, bell));
    tasks.finish().await
}

async fn run(
    mut engine: Engine,
    mut inbox: mpsc::Receiver<Change>,
    api: Arc<dyn Api>,
    recorder: Recorder,
    bell: Arc<Notify>,
) {
    let mut plans: JoinSet<(Work, Executed)> = JoinSet::new();
    let mut changes = Vec::with_capacity(MAX_CHANGES_PER_TURN);
    let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + RESYNC, RESYNC);
    loop {
        let mut idle = false;
        for _ in 0..MAX_KEYS_PER_TURN {
            match engine.next(Timestamp::now()) {
                Next::Execute(work, plan) => {
                    let (api, recorder) = (api.clone(), recorder.clone());
                    plans.spawn(async move { (work, execute(plan, &*api, &recorder).await) });
                }
                Next::Nothing => {}
                Next::Idle => {
                    idle = true;
                    break;
                }
            }
        }
        let idle_until = idle.then(|| engine.next_timer().unwrap_or(Timestamp::MAX));
        tokio::select! {
            biased;
            count = inbox.recv_many(&mut changes, MAX_CHANGES_PER_TURN) => {
                if count == 0 {
                    return;
                }
                let now = Timestamp::now();
                for change in changes.drain(..) {
                    if changes_resources(&change) {
                        bell.notify_one();
                    }
                    engine.observe(change, now);
                }
            }
            Some(ended) = plans.join_next() => match ended {
                Ok((work, executed)) => engine.finish(work, executed, Timestamp::now()),
                // A lost plan would keep its key running for ever; better to end the engine, which is noticed.
                Err(_) => return,
            },
            _ = resync.tick() => engine.observe(Change::Resync, Timestamp::now()),
            () = pause(idle_until) => {}
        }
    }
}

/// Until `at`; `None` only lets other tasks run.
async fn pause(at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep(time::until(at, Timestamp::now()).min(RESYNC)).await,
        None => tokio::task::yield_now().await,
    }
}

fn changes_resources(change: &Change) -> bool {
    match change {
        Change::Watched(Object::Bare(object)) | Change::WatchedGone(Object::Bare(object)) => {
            matches!(&*object.resource.plural, "customresourcedefinitions" | "apiservices")
        }
        _ => false,
    }
}
