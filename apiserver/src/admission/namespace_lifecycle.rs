//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going away, and three namespaces stay.

use async_trait::async_trait;
use k8w_kinds::object::text;

use super::{forbidden, is_kind};
use crate::plugins::{Admission, AdmissionRequest, Operation};
use crate::status::{Cause, Status};
use crate::watch_cache::Record;

const IMMORTAL: &[&str] = &["default", "kube-public", "kube-system"];

pub struct NamespaceLifecycle;

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
        let find = || request.view.get("", "namespaces", "", request.namespace);
        let namespace = match find() {
            Some(namespace) => Some(namespace),
            // It may have been made a moment ago.
            None => request.view.catch_up().await.map(|_| find())?,
        };
        let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", request.namespace))?;
        if request.operation == Operation::Create && is_terminating(&namespace) {
            return Err(terminating(request));
        }
        Ok(())
    }
}

/// Looks at the phase only where the text says that there could be something to see.
fn is_terminating(namespace: &Record) -> bool {
    const MARK: &[u8] = b"\"Terminating\"";
    namespace.json().windows(MARK.len()).any(|window| window == MARK)
        && text(&namespace.value(), &["status", "phase"]) == "Terminating"
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
        let pod = |namespace: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": namespace}});
        assert!(world.create(&NamespaceLifecycle, pod("a")).await.is_ok());
        let gone = world.create(&NamespaceLifecycle, pod("b")).await.unwrap_err();
        assert_eq!(
            gone.message,
            "pods \"p\" is forbidden: unable to create new content in namespace b because it is being terminated"
        );
        assert_eq!(gone.details.unwrap().causes[0].reason, "NamespaceTerminating");
        assert!(world.update(&NamespaceLifecycle, pod("b"), pod("b")).await.is_ok());
        let missing = world.create(&NamespaceLifecycle, pod("c")).await.unwrap_err();
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"c\" not found"));
    }

    #[tokio::test]
    async fn some_namespaces_stay() {
        let world = World::new([]).await;
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let refused = world.delete(&NamespaceLifecycle, namespace("kube-system")).await.unwrap_err();
        assert_eq!(refused.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
        assert!(world.delete(&NamespaceLifecycle, namespace("mine")).await.is_ok());
    }
}
