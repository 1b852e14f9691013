//! Nobody gives away more than they have: roles may be written with rules that their writer holds, and bound by who holds
//! their rules, unless the verbs `escalate` and `bind` say otherwise.
//!
//! "Privilege escalation prevention and bootstrapping" in the Kubernetes documentation.

use std::sync::Arc;

use async_trait::async_trait;
use k8w_kinds::object;
use serde_json::Value;

use super::{forbidden, is_kind, may};
use crate::authz::is_master;
use crate::authz::rbac::index::{role_ref, rules_of};
use crate::authz::rbac::rule::{ALL, Rule, quoted_list, uncovered};
use crate::authz::rbac::{GROUP, Rbac};
use crate::plugins::{Admission, AdmissionRequest, Authorizer, GroupResource, Operation};
use crate::request_info::RequestInfo;
use crate::status::Status;

pub struct RbacEscalation {
    rbac: Arc<Rbac>,
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl RbacEscalation {
    pub fn new(rbac: Arc<Rbac>, authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        RbacEscalation { rbac, authorizers }
    }

    fn may(&self, request: &AdmissionRequest<'_>, verb: &str, plural: &str, name: &str) -> bool {
        let info = RequestInfo {
            is_resource_request: true,
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: plural.to_owned(),
            namespace: request.namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        may(&self.authorizers, request, verb, &info)
    }

    fn check_rules(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Result<(), Status> {
        let missing = uncovered(&self.rbac.rules(request.user, request.namespace), wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<String> = missing.iter().map(Rule::to_string).collect();
        rules.sort();
        let user = request.user;
        Err(forbidden(
            request,
            format!(
                "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                user.name,
                quoted_list(&user.groups),
                rules.join("\n")
            ),
        ))
    }

    fn role(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if self.may(request, "escalate", &request.resource.plural, request.name) {
            return Ok(());
        }
        self.check_rules(request, &rules_of(request.object))?;
        // Whoever aggregates decides over rules that do not exist yet.
        let aggregates = |role: &Value| object::get(role, &["aggregationRule"]).is_some();
        if aggregates(request.object) || request.old.is_some_and(aggregates) {
            let everything = vec![ALL.to_owned()];
            let resources = Rule {
                verbs: everything.clone(),
                api_groups: everything.clone(),
                resources: everything.clone(),
                ..Rule::default()
            };
            let urls = Rule { verbs: everything.clone(), non_resource_urls: everything, ..Rule::default() };
            self.check_rules(request, &[resources, urls])?;
        }
        Ok(())
    }

    fn binding(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let reference = role_ref(request.object);
        let plural = if reference.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may(request, "bind", plural, &reference.name) {
            return Ok(());
        }
        match self.rbac.role(&reference.key(request.namespace)) {
            Some(rules) => self.check_rules(request, &rules),
            None => Err(Status::not_found(GROUP, plural, &reference.name)),
        }
    }
}

#[async_trait]
impl Admission for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, "roles"), (GROUP, "clusterroles"), (GROUP, "rolebindings"), (GROUP, "clusterrolebindings")])
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if !written || is_master(request.user) || request.old.is_some_and(|old| only_collects(request.object, old)) {
            return Ok(());
        }
        if is_kind(request, GROUP, "roles") || is_kind(request, GROUP, "clusterroles") {
            self.role(request)
        } else {
            self.binding(request)
        }
    }
}

/// Whether nothing changes but what the garbage collector writes. Any other change is the writer's to answer for, labels
/// too: by these a role's rules get into roles that aggregate them.
fn only_collects(new: &Value, old: &Value) -> bool {
    const OWN: [&str; 4] = ["finalizers", "managedFields", "ownerReferences", "resourceVersion"];
    let rest = |object: &Value| {
        let mut object = object.clone();
        OWN.iter().for_each(|field| object::remove(&mut object["metadata"], field));
        object
    };
    object::same(Some(&rest(new)), Some(&rest(old)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;
    use crate::identity::UserInfo;

    fn object(kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    }

    fn rules(verbs: &[&str], group: &str, resource: &str) -> Value {
        json!({"rules": [{"verbs": verbs, "apiGroups": [group], "resources": [resource]}]})
    }

    fn bound_to(user: &str, kind: &str, role: &str) -> Value {
        json!({"roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}, "subjects": [{"kind": "User", "name": user}]})
    }

    /// jane may do with pods in `a` what `verbs` says, and everything with roles and bindings but escalate.
    async fn world(verbs: &[&str]) -> (World, RbacEscalation) {
        let world = World::new([
            object("Role", "a", "own", rules(verbs, "", "pods")),
            object("RoleBinding", "a", "own", bound_to("jane", "Role", "own")),
            object("ClusterRole", "", "reader", rules(&["get"], "", "pods")),
            object("ClusterRole", "", "binder", rules(&["bind", "escalate"], GROUP, "clusterroles")),
            object("ClusterRoleBinding", "", "binder", bound_to("joe", "ClusterRole", "binder")),
        ])
        .await;
        let rbac = Arc::new(Rbac::new(&world.cache));
        let plugin = RbacEscalation::new(rbac.clone(), vec![rbac]);
        let jane = UserInfo { name: "jane".into(), groups: vec!["dev".into()], ..UserInfo::default() };
        (world.acting_as(jane), plugin)
    }

    #[tokio::test]
    async fn a_role_needs_its_rules() {
        let (world, plugin) = world(&["get", "list"]).await;
        assert!(world.create(&plugin, object("Role", "a", "r", rules(&["get"], "", "pods"))).await.is_ok());
        let refused = world.create(&plugin, object("Role", "a", "r", rules(&["get", "delete"], "", "pods"))).await;
        assert_eq!(
            refused.unwrap_err().message,
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"dev\"]) is attempting to grant RBAC \
             permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
        );
        assert!(world.create(&plugin, object("ClusterRole", "", "r", rules(&["get"], "", "pods"))).await.is_err());
        let old = object("Role", "a", "r", rules(&["delete"], "", "pods"));
        let mut collected = old.clone();
        collected["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        assert!(world.update(&plugin, old.clone(), collected).await.is_ok());
    }

    /// A label can put a role's rules into another role.
    #[tokio::test]
    async fn a_label_of_a_role_needs_its_rules_too() {
        let (world, plugin) = world(&["get", "list"]).await;
        let labelled = |mut role: Value| {
            role["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-admin": "true"});
            role
        };
        let strong = object("ClusterRole", "", "r", rules(&["delete"], "", "pods"));
        assert!(world.update(&plugin, strong.clone(), labelled(strong)).await.is_err());
        let weak = object("Role", "a", "r", rules(&["get"], "", "pods"));
        assert!(world.update(&plugin, weak.clone(), labelled(weak)).await.is_ok());
        let bound = object("ClusterRoleBinding", "", "b", bound_to("jim", "ClusterRole", "binder"));
        assert!(world.update(&plugin, bound.clone(), labelled(bound)).await.is_err());
        // Nor can an aggregation be taken away to keep what it gathered.
        let mut gathers = object("ClusterRole", "", "g", json!({}));
        gathers["aggregationRule"] = json!({"clusterRoleSelectors": []});
        assert!(world.update(&plugin, gathers, object("ClusterRole", "", "g", json!({}))).await.is_err());
    }

    #[tokio::test]
    async fn a_binding_needs_the_roles_rules_or_the_verb() {
        let binding = || object("RoleBinding", "a", "b", bound_to("jim", "ClusterRole", "reader"));
        let (world, plugin) = world(&["get"]).await;
        assert!(world.create(&plugin, binding()).await.is_ok());
        let (world, plugin) = self::world(&["list"]).await;
        assert!(world.create(&plugin, binding()).await.is_err());
        let joe = UserInfo { name: "joe".into(), ..UserInfo::default() };
        let world = world.acting_as(joe);
        assert!(world.create(&plugin, binding()).await.is_ok());
        assert!(world.create(&plugin, object("ClusterRole", "", "r", rules(&["*"], "*", "*"))).await.is_ok());
        let missing = object("RoleBinding", "a", "b", bound_to("jim", "Role", "none"));
        assert_eq!(world.create(&plugin, missing).await.unwrap_err().code, 404);
    }
}
