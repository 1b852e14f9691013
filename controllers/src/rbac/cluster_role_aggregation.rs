//! Gives ClusterRoles with an aggregation rule the rules of the ClusterRoles that it selects
//! (`k8s.io/kubernetes/pkg/controller/clusterroleaggregation`).

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{PatchKind, Plan, Step, Target};
use crate::resource::{CLUSTER_ROLES, Key};
use crate::selector;
use crate::world::{Delta, Object, World};

/// As whom the rules are applied.
const MANAGER: &str = "clusterrole-aggregation-controller";

pub struct ClusterRoleAggregation;

impl Controller for ClusterRoleAggregation {
    fn name(&self) -> &'static str {
        MANAGER
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        if matches!(delta.object, Object::ClusterRole(_)) {
            let aggregated = world.cluster_roles.iter().filter(|role| role.aggregation_rule.is_some());
            aggregated.for_each(|role| wake.now(Key::of(&role.metadata)));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(role) = world.cluster_roles.by_key(key) else { return plan };
        if role.aggregation_rule.is_none() {
            return plan;
        }
        let rules = aggregate(role, world);
        if role.rules.as_deref().unwrap_or_default() != rules {
            plan.step(Step::Patch {
                target: Target::new(&CLUSTER_ROLES, &role.metadata),
                subresource: "",
                kind: PatchKind::Apply { manager: MANAGER },
                patch: json!({
                    "apiVersion": CLUSTER_ROLES.api_version(), "kind": CLUSTER_ROLES.kind,
                    "metadata": { "name": &*key.name }, "rules": rules,
                }),
                then: None,
            });
        }
        plan
    }
}

/// The rules of all other roles that one of the selectors matches, by selector and name, each once.
fn aggregate(role: &ClusterRole, world: &World) -> Vec<PolicyRule> {
    let selectors = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let is_meant = |other: &&Arc<ClusterRole>| {
            other.metadata.name != role.metadata.name && selector::matches(selector, other.metadata.labels.as_ref())
        };
        let mut selected: Vec<_> = world.cluster_roles.iter().filter(is_meant).collect();
        selected.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        for rule in selected.into_iter().flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, objects, text};
    use crate::world::Change;

    const SUM: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sum, labels: {to: sum}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: sum}}, {matchLabels: {too: sum}}]}
rules: [{verbs: [get], resources: [nodes], apiGroups: ['']}]
";

    fn part(name: &str, label: &str, verb: &str) -> String {
        format!(
            "
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}, labels: {{{label}: sum}}}}
rules: [{{verbs: [{verb}], resources: [pods], apiGroups: ['']}}]
"
        )
    }

    fn check(world: &str, expected: Expect) {
        let mut bench = Bench::new(ClusterRoleAggregation, world);
        expected.assert_eq(&text(&bench.reconcile("", "sum", "2024-01-01T00:00:00Z")));
    }

    #[test]
    fn a_role_is_the_sum_of_its_parts() {
        let parts =
            [part("z", "to", "list"), part("a", "to", "get"), part("b", "too", "get"), part("c", "other", "watch")];
        check(
            &format!("{SUM}{}", parts.concat()),
            expect![[r#"
                patch clusterroles sum : {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"sum"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}]}
            "#]],
        );
    }

    #[test]
    fn a_role_without_parts_allows_nothing() {
        check(
            SUM,
            expect![[r#"
                patch clusterroles sum : {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"sum"},"rules":[]}
            "#]],
        );
    }

    #[test]
    fn what_is_right_stays() {
        check(&format!("{SUM}{}", part("a", "to", "get").replace("pods", "nodes")), expect![[""]]);
    }

    #[test]
    fn a_part_wakes_the_role() {
        let mut bench = Bench::new(ClusterRoleAggregation, SUM);
        let part = objects(part("a", "to", "get").trim().trim_start_matches("---")).remove(0);
        assert!(bench.wakes(Change::Watched(part)));
    }
}
