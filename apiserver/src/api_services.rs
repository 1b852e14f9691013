//! An APIService for every group and version that this server serves itself, as Kubernetes registers them.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8w_kinds::apiregistration::api_service::GROUP;
use k8w_kinds::object::text;
use k8w_kinds::registry;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::bootstrap::{self, Keep};
use crate::object_store;
use crate::status::Status;

/// Says who looks after an APIService, and how long.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Made when the server starts.
const ON_START: &str = "onstart";
/// Comes and goes with the custom kinds of its group and version.
const ALWAYS: &str = "true";

/// How much clients should prefer a built-in group (`pkg/controlplane/apiserver` `DefaultGenericAPIServicePriorities`).
const GROUP_PRIORITIES: [(&str, u16); 20] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];
const OTHER_GROUP_PRIORITY: u16 = 15_000;
const CUSTOM_GROUP_PRIORITY: u16 = 1_000;
const CUSTOM_VERSION_PRIORITY: u16 = 100;

fn api_service(group: &str, version: &str, managed: &str, priorities: (u16, u16)) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {AUTOMANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": priorities.0,
            "versionPriority": priorities.1},
    })
}

/// Those of the built-in kinds. The group of the APIServices themselves has none.
pub fn built_in() -> Vec<Value> {
    let versions: BTreeSet<(&str, &str)> = registry::all()
        .iter()
        .map(|kind| (&*kind.group, &*kind.version))
        .filter(|(group, _)| *group != GROUP)
        .collect();
    let service = |(group, version): (&str, &str)| {
        let priority = GROUP_PRIORITIES.iter().find(|(known, _)| *known == group);
        let priority = priority.map_or(OTHER_GROUP_PRIORITY, |(_, priority)| *priority);
        let version_priority = match (group, version) {
            ("", _) => 1,
            (_, "v2") => 30,
            _ => 15,
        };
        api_service(group, version, ON_START, (priority, version_priority))
    };
    versions.into_iter().map(service).collect()
}

/// Registers the groups and versions of the custom kinds, and removes those that are no longer served.
///
/// # Errors
/// What cannot be written.
pub async fn reconcile_custom(server: &Arc<ApiServer>) -> Result<(), Status> {
    let resources = server.resources.load_full();
    let Some(services) = resources.get(GROUP, "v1", "apiservices") else { return Ok(()) };
    let custom = resources.all().iter().filter(|resource| resource.is_custom());
    let versions: BTreeSet<(&str, &str)> = custom.map(|resource| (&*resource.group, &*resource.version)).collect();
    let priorities = (CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY);
    let wanted: Vec<Value> =
        versions.iter().map(|(group, version)| api_service(group, version, ALWAYS, priorities)).collect();
    let missing = wanted.iter().filter(|service| services.objects.get("", name(service)).is_none());
    let missing: Vec<_> = missing.map(|service| (service.clone(), Keep::Present)).collect();
    bootstrap::write_all(server, missing.into_iter()).await.map_err(Status::internal)?;
    for record in services.objects.list(None).0 {
        let managed = record.labels().get(AUTOMANAGED).is_some_and(|managed| managed == ALWAYS);
        if managed && wanted.iter().all(|service| name(service) != record.name()) {
            object_store::delete_own(server, services, "", record.name()).await?;
        }
    }
    Ok(())
}

fn name(service: &Value) -> &str {
    text(service, &["metadata", "name"])
}
