//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going away, and three namespaces stay.

use std::sync::Arc;

use async_trait::async_trait;
use k8w_kinds::{KindDef, registry};

use super::{forbidden, is_kind};
use crate::plugins::{Admission, AdmissionRequest, Operation};
use crate::status::{Cause, Status};
use crate::watch_cache::{KindCache, Record, WatchCache};

const IMMORTAL: &[&str] = &["default", "kube-public", "kube-system"];

/// Asked on every write, so it keeps at hand where namespaces are, and reads nothing but their indexed phase.
pub struct NamespaceLifecycle {
    namespaces: Arc<KindCache>,
    kind: Option<&'static KindDef>,
}

impl NamespaceLifecycle {
    pub fn new(cache: &WatchCache) -> Self {
        let kind = registry::by_resource("", "v1", "namespaces");
        NamespaceLifecycle { namespaces: cache.kind("", "namespaces"), kind }
    }

    fn is_terminating(&self, namespace: &Record) -> bool {
        self.kind.is_some_and(|kind| namespace.field(kind, "status.phase") == Some("Terminating"))
    }
}

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is_kind(request, "", "namespaces") {
            let dies = request.operation == Operation::Delete && IMMORTAL.contains(&request.name);
            return if dies { Err(forbidden(request, "this namespace may not be deleted")) } else { Ok(()) };
        }
        if request.namespace.is_empty() || request.operation == Operation::Delete {
            return Ok(());
        }
        let find = || self.namespaces.get("", request.namespace);
        let namespace = match find() {
            Some(namespace) => Some(namespace),
            // It may have been made a moment ago.
            None => request.view.catch_up().await.map(|_| find())?,
        };
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", request.namespace))?;
        if request.operation == Operation::Create && self.is_terminating(&namespace) {
            return Err(terminating(request));
        }
        Ok(())
    }
}

fn terminating(request: &AdmissionRequest<'_>) -> Status {
    let namespace = request.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = forbidden(request, why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating",
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    #[tokio::test]
    async fn objects_need_a_living_namespace() {
        let world = World::new([
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "status": {"phase": "Active"}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}, "status": {"phase": "Terminating"}}),
        ])
        .await;
        let plugin = NamespaceLifecycle::new(&world.cache);
        let pod = |namespace: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}});
        assert!(world.create(&plugin, pod("a")).await.is_ok());
        let gone = world.create(&plugin, pod("b")).await.unwrap_err();
        assert_eq!(
            gone.message,
            "pods \"p\" is forbidden: unable to create new content in namespace b because it is being terminated"
        );
        assert_eq!(gone.details.unwrap().causes[0].reason, "NamespaceTerminating");
        assert!(world.update(&plugin, pod("b"), pod("b")).await.is_ok());
        let missing = world.create(&plugin, pod("c")).await.unwrap_err();
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"c\" not found"));
    }

    #[tokio::test]
    async fn some_namespaces_stay() {
        let world = World::new([]).await;
        let plugin = NamespaceLifecycle::new(&world.cache);
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let refused = world.delete(&plugin, namespace("kube-system")).await.unwrap_err();
        assert_eq!(refused.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
        assert!(world.delete(&plugin, namespace("mine")).await.is_ok());
    }
}
