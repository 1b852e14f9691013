//! The ServiceCIDR `kubernetes`: the range that the cluster was first started with (kube-apiserver's
//! `kubernetes-service-cidr-controller`).
//!
//! It is made when it is missing and then left alone: a range cannot change while Services have addresses of it. A server
//! that is started with another one says so in an event.

use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8w_kinds::object;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{BootstrapError, Keep, Warning, write_all};
use crate::ApiServer;
use crate::config::Config;
use crate::kubernetes_service::NAME;
use crate::object_store::{self, Change, Patched, Rules, timestamp};

const GROUP: &str = "networking.k8s.io";
const COMPONENT: &str = "kubernetes-service-cidr-controller";
/// How often the range is looked for, as in Kubernetes.
const INTERVAL_MS: u64 = 10_000;

/// Makes the range again when somebody deleted it, for as long as it is polled.
pub(crate) async fn keep(server: &Arc<ApiServer>) {
    loop {
        sleep(Duration::from_millis(INTERVAL_MS)).await;
        if let Err(error) = reconcile(server).await {
            tracing::warn!(%error, "the ServiceCIDR kubernetes is missing");
        }
    }
}

/// Makes the range if there is none, and says in its status that it can be used, or in an event that it is another.
pub(super) async fn reconcile(server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    let live = || server.cache.get(GROUP, "servicecidrs", "", NAME).map(|record| record.value());
    if live().is_none() {
        write_all(server, std::iter::once((desired(&server.config), Keep::Present))).await?;
        server.cache.catch_up().await.map_err(failed)?;
    }
    match live() {
        Some(live) if object::get(&live, &["metadata", "deletionTimestamp"]).is_some() => Ok(()),
        Some(live) if live["spec"]["cidrs"] != desired(&server.config)["spec"]["cidrs"] => {
            write_all(server, std::iter::once((inconsistent(&live, &server.config), Keep::Present))).await
        }
        Some(live) if object::list(&live, &["status", "conditions"]).iter().all(|c| c["type"] != "Ready") => {
            mark_ready(server).await
        }
        _ => Ok(()),
    }
}

/// The range that the cluster's own Services are in, and that nodes are told: the live one's, whatever the flag says.
pub(super) fn of_cluster(server: &ApiServer) -> Ipv4Net {
    let live = server.cache.get(GROUP, "servicecidrs", "", NAME).map(|record| record.value()).unwrap_or_default();
    let mut cidrs = object::list(&live, &["spec", "cidrs"]).iter();
    cidrs.find_map(|cidr| cidr.as_str()?.parse().ok()).unwrap_or(server.config.service_cidr)
}

fn desired(config: &Config) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": NAME},
        "spec": {"cidrs": [config.service_cidr.to_string()]},
    })
}

/// Says that Services can have the addresses of the range.
async fn mark_ready(server: &Arc<ApiServer>) -> Result<(), BootstrapError> {
    let resources = server.resources.load_full();
    let Some(ranges) = resources.get(GROUP, "v1", "servicecidrs") else { return Ok(()) };
    let mut write = object_store::Write::own(server, ranges, "", NAME);
    write.subresource = "status";
    let condition = json!({"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": timestamp(write.now),
        "message": "Kubernetes default Service CIDR is ready"});
    let ready = |old: &Value| {
        let mut object = old.clone();
        let conditions = object::list(old, &["status", "conditions"]);
        if conditions.iter().all(|condition| condition["type"] != "Ready")
            && let Some(status) = object::ensure(&mut object, &["status"])
        {
            status.insert("conditions".to_owned(), conditions.iter().cloned().chain([condition.clone()]).collect());
        }
        Ok(Patched { object, tracked: false, once: false })
    };
    object_store::update(&mut write, Change::Patch(&ready), Rules::Status).await.map(|_| ()).map_err(failed)
}

fn inconsistent(live: &Value, config: &Config) -> Value {
    let cidrs: Vec<&str> = object::list(live, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
    let warning = Warning {
        component: COMPONENT,
        suffix: "inconsistent-service-cidr".to_owned(),
        reason: "KubernetesDefaultServiceCIDRInconsistent",
        message: format!(
            "The default ServiceCIDR [{}] does not match the controller flag configurations [{}]",
            cidrs.join(" "),
            config.service_cidr
        ),
    };
    warning.about(live, config.outside.now())
}

fn failed(error: impl ToString) -> BootstrapError {
    BootstrapError { kind: "ServiceCIDR".into(), name: NAME.into(), reason: error.to_string() }
}
