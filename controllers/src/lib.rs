//! What the cluster should do next: pure reconcilers and the scheduler, and the one engine that runs them.
//!
//! ```text
//! informers -> changes -> World -> Controller::observe -> queue -> Controller::reconcile -> Plan -> execute -> API
//!                           ^                                                                          |
//!                           +---------------------- what the API answered -----------------------------+
//! ```
//!
//! Reconcilers read the [`world::World`] and return a [`plan::Plan`]; they do no IO, have no clock and no dice of their
//! own. Only [`execute`](mod@execute) writes. To add a controller: a file, a `mod` line and a row in [`controllers()`].

pub mod apps;
pub mod batch;
pub mod bootstrap;
pub mod certificates;
mod claim;
pub mod config;
pub mod core;
pub mod discovery;
pub mod engine;
pub mod execute;
pub mod garbage_collector;
pub mod leader;
pub mod networking;
mod nodes;
pub mod plan;
mod pods;
pub mod policy;
mod quantity;
mod ranking;
pub mod rbac;
pub mod resource;
pub mod scheduler;
mod selector;
mod share;
#[cfg(test)]
mod testing;
mod time;
pub mod volume;
pub mod world;

pub use config::Config;
use engine::{Controller, Engine};
use tokio_util::sync::CancellationToken;

/// Why the controllers stopped before they were told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task of the engine ended by itself; the process should not go on without it.
    #[error("the controllers' task {task} ended unexpectedly")]
    TaskEnded { task: &'static str },
}

pub type Result<T> = std::result::Result<T, Error>;

/// THE table of controllers.
pub fn controllers(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(scheduler::Scheduler::new(&config.scheduler_profiles)),
        Box::new(apps::deployment::Deployments),
        Box::new(apps::replica_set::ReplicaSets),
        Box::new(apps::stateful_set::StatefulSets),
        Box::new(apps::daemon_set::DaemonSets::default()),
        Box::new(core::replication_controller::ReplicationControllers),
        Box::new(batch::job::Jobs),
        Box::new(batch::job::orphans::OrphanedPods),
        Box::new(batch::cron_job::CronJobs),
        Box::new(batch::ttl_after_finished::TtlAfterFinished),
        Box::new(policy::pod_disruption_budget::PodDisruptionBudgets),
        Box::new(policy::stale_disruption::StaleDisruptions),
        Box::new(volume::binder::ClaimBinder),
        Box::new(volume::reclaim::VolumeReclaimer),
        Box::new(volume::local_path::class::LocalPathClass),
        Box::new(volume::local_path::LocalPath),
        Box::new(volume::local_path::removal::LocalPathRemoval),
        Box::new(volume::expansion::VolumeExpansion),
        Box::new(volume::ephemeral::EphemeralVolumes),
        Box::new(volume::protection::ClaimProtection),
        Box::new(volume::protection::VolumeProtection),
        Box::new(discovery::endpoint_slice::EndpointSlices),
        Box::new(discovery::endpoint_slice_mirroring::EndpointSliceMirroring),
        Box::new(core::endpoints::EndpointsOfServices::default()),
        Box::new(core::namespace::Namespaces),
        Box::new(core::service_account::ServiceAccounts),
        Box::new(core::service_account_token::ServiceAccountTokens::new(
            &config.root_ca_pem,
            config.token_signer.clone(),
        )),
        Box::new(core::service_account_token_cleaner::ServiceAccountTokenCleaner),
        Box::new(bootstrap::token_cleaner::TokenCleaner),
        Box::new(bootstrap::signer::BootstrapSigner),
        Box::new(certificates::approver::CertificateApprover::new(&config.api_server_names)),
        Box::new(certificates::signing::CertificateSigning::new(config.certificate_signer.clone())),
        Box::new(certificates::cleaner::CertificateCleaner),
        Box::new(rbac::cluster_role_aggregation::ClusterRoleAggregation),
        Box::new(core::resource_quota::ResourceQuotas::default()),
        Box::new(core::root_ca::RootCas::new(&config.root_ca_pem)),
        Box::new(core::service_load_balancer::ServiceLoadBalancers),
        Box::new(networking::service_addresses::ServiceAddresses),
        Box::new(networking::service_cidr::ServiceCidrs),
        Box::new(core::node_ipam::NodeIpam::new(&config.pod_ranges)),
        Box::new(core::node_ipam::NodeIpam::of_wasm_pods(config.wasm_range)),
        Box::new(core::node_lifecycle::NodeLifecycle::new(config.node_monitor_grace)),
        Box::new(core::taint_eviction::TaintEviction::default()),
        Box::new(core::pod_gc::PodGc::new(config.terminated_pods_kept, config.gone_node_quarantine)),
        Box::new(garbage_collector::GarbageCollector),
        Box::new(networking::ingress::Ingresses::new(&config.ingress_controller, &config.ingress_addresses)),
    ]
}

/// Runs every controller and the scheduler until `shutdown` is cancelled.
///
/// `client` needs the rights of `system:masters` or of upstream's controller roles. Unreachable or half-served APIs are
/// waited for with backoff, not reported as errors.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) -> Result<()> {
    let seed = config.seed.unwrap_or_else(rand::random);
    let engine = Engine::new(controllers(&config), seed);
    engine::drive(engine, client, &config.identity, shutdown).await
}
