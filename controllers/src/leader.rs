//! Leader election: of several control planes on one datastore, one runs the controllers.
//!
//! Whoever holds the Lease leads, and renews it. Who sees it unchanged for as long as it is good for takes it over; clocks
//! are never compared (`k8s.io/client-go/tools/leaderelection`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-controller-manager";
/// How long a Lease that is not renewed is good for.
const LEASE_SECONDS: i32 = 15;
/// A leader that could not renew for this long stops before anybody else can begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Does `work` whenever this process leads, until `shutdown`. `work` is told by its token to stop.
///
/// # Errors
/// Those of `work`.
pub async fn lead<F, W>(
    client: kube::Client,
    identity: &str,
    shutdown: CancellationToken,
    mut work: F,
) -> crate::Result<()>
where
    F: FnMut(CancellationToken) -> W,
    W: Future<Output = crate::Result<()>>,
{
    let mut election = Election { leases: Api::namespaced(client, NAMESPACE), identity, seen: None };
    while let Some(()) = shutdown.run_until_cancelled(election.win()).await {
        tracing::info!(identity, "leading");
        let stop = shutdown.child_token();
        let result = {
            let work = work(stop.clone());
            tokio::pin!(work);
            tokio::select! {
                result = &mut work => result,
                () = election.lose() => {
                    tracing::warn!(identity, "no longer leading");
                    stop.cancel();
                    work.await
                }
            }
        };
        result?;
    }
    election.release().await;
    Ok(())
}

struct Election<'a> {
    leases: Api<Lease>,
    identity: &'a str,
    /// The Lease's version when it was last seen to change, and when that was.
    seen: Option<(String, Instant)>,
}

impl Election<'_> {
    /// Returns when this process holds the Lease.
    async fn win(&mut self) {
        while !self.try_hold().await.unwrap_or(false) {
            sleep(RETRY).await;
        }
    }

    /// Renews the Lease; returns when it is lost, or may be.
    async fn lose(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            sleep(RETRY).await;
            match self.try_hold().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "the lease of the controllers cannot be renewed"),
            }
        }
    }

    /// Takes or renews the Lease where that is allowed; says whether it is ours.
    async fn try_hold(&mut self) -> kube::Result<bool> {
        let options = PostParams::default();
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
            let spec = LeaseSpec { acquire_time: Some(now.clone()), ..self.spec(now) };
            return taken(self.leases.create(&options, &Lease { metadata, spec: Some(spec) }).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => Instant::now(),
        };
        self.seen = Some((version, since));
        let good_for = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or(0));
        let is_ours = holder == self.identity;
        if !is_ours && !holder.is_empty() && since.elapsed() < good_for {
            return Ok(false);
        }
        let mut fresh = self.spec(now.clone());
        fresh.acquire_time = if is_ours { spec.acquire_time } else { Some(now) };
        fresh.lease_transitions = Some(spec.lease_transitions.unwrap_or_default() + i32::from(!is_ours));
        lease.spec = Some(fresh);
        taken(self.leases.replace(NAME, &options, &lease).await)
    }

    fn spec(&self, now: MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.into()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }
    }

    /// Lets go of the Lease, so that nobody has to wait.
    async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await else { return };
        match &mut lease.spec {
            Some(spec) if spec.holder_identity.as_deref() == Some(self.identity) => {
                spec.holder_identity = Some(String::new());
            }
            _ => return,
        }
        // Somebody else may have been faster, or the server be gone: then the Lease runs out by itself.
        let _ = self.leases.replace(NAME, &PostParams::default(), &lease).await;
    }
}

/// Of those who write at once, one succeeds.
fn taken(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
