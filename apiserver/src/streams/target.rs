//! Which pod, container and node a stream leads to, and whether its user may have it.

use std::fmt::Write;
use std::sync::Arc;

use k8w_kinds::object::{get, list, text};
use serde_json::Value;

use crate::ApiServer;
use crate::admission;
use crate::call::Call;
use crate::plugins::{AdmissionRequest, Operation, Warnings};
use crate::status::Status;

/// The pod that a request names.
///
/// # Errors
/// 404.
pub async fn pod(server: &ApiServer, call: &Call) -> Result<Value, Status> {
    server.cache.catch_up().await?;
    let found = server.cache.get("", "pods", &call.info.namespace, &call.info.name);
    Ok(found.ok_or_else(|| Status::not_found("", "pods", &call.info.name))?.value())
}

/// The node that a pod was bound to.
///
/// # Errors
/// 400 when it was not bound yet.
pub fn node(pod: &Value) -> Result<&str, Status> {
    match text(pod, &["spec", "nodeName"]) {
        "" => {
            let name = text(pod, &["metadata", "name"]);
            Err(Status::bad_request(format!("pod {name} does not have a host assigned")))
        }
        node => Ok(node),
    }
}

/// Opening a stream needs the verb `create` also when a WebSocket has to be opened with GET
/// (`AuthorizePodWebsocketUpgradeCreatePermission`).
///
/// # Errors
/// 403.
pub fn authorize_create(server: &ApiServer, call: &Call) -> Result<(), Status> {
    if call.info.verb == "create" { Ok(()) } else { server.authorize(&call.user, "create", &call.info) }
}

/// Lets admission have its say about a connection; `options` is the object that the query stands for.
///
/// # Errors
/// What admission objects to.
pub async fn admit(server: &Arc<ApiServer>, call: &Call, mut options: Value) -> Result<(), Status> {
    let resource = server.resources.load().get(&call.info.group, &call.info.version, &call.info.resource).cloned();
    let resource = resource.ok_or_else(Status::no_such_resource)?;
    let mut request = AdmissionRequest {
        operation: Operation::Connect,
        resource: &resource,
        subresource: &call.info.subresource,
        namespace: &call.info.namespace,
        name: &call.info.name,
        object: &mut options,
        old: None,
        user: &call.user,
        dry_run: false,
        view: &server.cache,
        kinds: &**server,
        warnings: &Warnings::default(),
    };
    admission::admit(&server.plugins.admission, &mut request).await?;
    admission::validate(&server.plugins.admission, &request).await
}

const CONTAINERS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];
/// A pod can say which container people mean when they name none.
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// The container that is meant, which must be one of the pod's.
pub fn container<'p>(pod: &'p Value, wanted: &str) -> Result<&'p str, Status> {
    let names = |field: &str| -> Vec<&'p str> {
        list(&pod["spec"], &[field]).iter().map(|container| text(container, &["name"])).collect()
    };
    let pod_name = text(pod, &["metadata", "name"]);
    if !wanted.is_empty() {
        let all = CONTAINERS.iter().flat_map(|field| names(field));
        let found = all.into_iter().find(|name| *name == wanted);
        return found.ok_or_else(|| Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")));
    }
    let containers = names("containers");
    if let [only] = containers.as_slice() {
        return Ok(only);
    }
    let default = get(pod, &["metadata", "annotations", DEFAULT_CONTAINER_ANNOTATION]).and_then(Value::as_str);
    if let Some(default) = default.and_then(|default| containers.iter().find(|name| **name == default)) {
        return Ok(default);
    }
    let mut why =
        format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", containers.join(" "));
    let init = names("initContainers");
    if !init.is_empty() {
        let _ = write!(why, " or one of the init containers: [{}]", init.join(" "));
    }
    let ephemeral = names("ephemeralContainers");
    if !ephemeral.is_empty() {
        let _ = write!(why, " or one of the ephemeral containers: [{}]", ephemeral.join(" "));
    }
    Err(Status::bad_request(why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Value {
        let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        json!({"metadata": {"name": "x"}, "spec": {"containers": named(containers), "initContainers": named(init)}})
    }

    #[test]
    fn containers_are_chosen_as_upstream_chooses_them() {
        assert_eq!(container(&pod(&["a"], &["i"]), "").unwrap(), "a");
        assert_eq!(container(&pod(&["a"], &["i"]), "i").unwrap(), "i");
        let why = |pod: &Value, wanted: &str| container(pod, wanted).unwrap_err().message;
        assert_eq!(
            why(&pod(&["a", "b"], &[]), ""),
            "a container name must be specified for pod x, choose one of: [a b]"
        );
        assert_eq!(
            why(&pod(&["a", "b"], &["i"]), ""),
            "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(why(&pod(&["a"], &[]), "z"), "container z is not valid for pod x");
        let mut annotated = pod(&["a", "b"], &[]);
        annotated["metadata"]["annotations"] = json!({DEFAULT_CONTAINER_ANNOTATION: "b"});
        assert_eq!(container(&annotated, "").unwrap(), "b");
    }
}
