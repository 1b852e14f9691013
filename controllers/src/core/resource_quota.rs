//! Counts anew what a namespace uses of its ResourceQuotas: what went away, and what was there before the quota.
//!
//! What is made is counted by the API server in the same transaction; this controller gives back. Its watches do not show
//! the objects as of one moment, so that it may miss what was made just now: less than before is only written once nothing
//! has been added for a while.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8w_kinds::quota::{self, Amounts};
use serde_json::{Value, json};

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step};
use crate::resource::{Key, RESOURCE_QUOTAS};
use crate::world::{Delta, Object, World};

/// How long nothing must be added to a quota before less is written.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct ResourceQuotas {
    /// Quotas of which less is used than they say: since when, and in which version of them that was seen.
    shrinking: HashMap<Key, (Timestamp, Option<String>)>,
}

impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        "resourcequota"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        if let Object::ResourceQuota(quota) = &delta.object {
            wake.now(Key::of(&quota.metadata));
        }
        let namespace = delta.object.meta().namespace.as_deref().unwrap_or_default();
        world.resource_quotas.in_namespace(namespace).for_each(|quota| wake.now(Key::of(&quota.metadata)));
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(quota) = world.resource_quotas.by_key(key) else {
            self.shrinking.remove(key);
            return plan;
        };
        let mut object = plan::to_value(&**quota);
        let used = used(&object, &key.namespace, world, turn.now);
        let before = amounts(quota);
        let status = json!({"hard": object["spec"]["hard"], "used": quota::to_list(&used)});
        if before.as_ref() == Some(&used) && object["status"]["hard"] == status["hard"] {
            self.shrinking.remove(key);
            return plan;
        }
        let less = |(name, amount): (&String, _)| used.get(name).is_some_and(|now| now < amount);
        if before.as_ref().is_some_and(|before| before.iter().any(less)) && !self.is_settled(key, quota, turn.now) {
            plan.requeue(SETTLE);
            return plan;
        }
        object["status"] = status;
        let resource = RESOURCE_QUOTAS.clone();
        plan.step(Step::Update { resource, key: key.clone(), subresource: "status", object, then: None });
        plan
    }
}

impl ResourceQuotas {
    /// Whether the quota has not changed for a while.
    fn is_settled(&mut self, key: &Key, quota: &ResourceQuota, now: Timestamp) -> bool {
        let version = &quota.metadata.resource_version;
        let seen = self.shrinking.entry(key.clone()).or_insert_with(|| (now, version.clone()));
        if seen.1 != *version {
            *seen = (now, version.clone());
        }
        now.duration_since(seen.0).unsigned_abs() >= SETTLE
    }
}

/// What the quota's status says is used; `None` before it says anything.
fn amounts(quota: &ResourceQuota) -> Option<Amounts> {
    let used = quota.status.as_ref()?.used.as_ref()?;
    Some(used.iter().filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect())
}

/// What the namespace uses of what the quota limits.
fn used(quota: &Value, namespace: &str, world: &World, now: Timestamp) -> Amounts {
    let found = world.in_namespace(namespace);
    let mut objects: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for resource in world.resources.iter().filter(|resource| resource.namespaced) {
        objects.entry((&resource.group, &resource.plural)).or_default();
    }
    for object in &found {
        let resource = object.resource();
        // Other kinds are only counted.
        let value = match object {
            Object::Pod(pod) => plan::to_value(&**pod),
            Object::Service(service) => plan::to_value(&**service),
            Object::PersistentVolumeClaim(claim) => plan::to_value(&**claim),
            _ => Value::Null,
        };
        objects.entry((&resource.group, &resource.plural)).or_default().push(value);
    }
    let of = |((group, plural), objects): (&(&str, &str), &Vec<Value>)| {
        quota::used(quota, &*quota::evaluator(group, plural), objects, now)
    };
    objects.iter().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    const QUOTA: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {namespace: ns, name: q}
spec: {hard: {pods: 5, requests.cpu: 2, services.nodeports: 1, count/podtemplates: 3}}
";
    const OBJECTS: &str = "
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: a}
spec: {containers: [{name: c, resources: {requests: {cpu: 500m}}}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: ended}
spec: {containers: [{name: c, resources: {requests: {cpu: 1}}}]}
status: {phase: Succeeded}
---
apiVersion: v1
kind: Pod
metadata: {namespace: other, name: b}
spec: {containers: []}
---
apiVersion: v1
kind: Service
metadata: {namespace: ns, name: s}
spec: {type: NodePort, ports: [{port: 1}]}
";

    fn quota(used: &str) -> String {
        let hard = "{pods: '5', requests.cpu: '2', services.nodeports: '1', count/podtemplates: '3'}";
        format!(
            "{}status: {{hard: {hard}, used: {used}}}",
            QUOTA.replace("{pods: 5, requests.cpu: 2, services.nodeports: 1, count/podtemplates: 3}", hard)
        )
    }

    fn check(bench: &mut Bench<ResourceQuotas>, now: &str, expected: Expect) {
        expected.assert_eq(&text(&bench.reconcile("ns", "q", now)));
    }

    #[test]
    fn a_new_quota_counts_what_is_there() {
        let mut bench = Bench::new(ResourceQuotas::default(), &format!("{QUOTA}{OBJECTS}"));
        check(
            &mut bench,
            "2024-01-01T00:00:00Z",
            expect![[r#"
                update resourcequotas ns/q status: {"hard":{"count/podtemplates":"3","pods":"5","requests.cpu":"2","services.nodeports":"1"},"used":{"pods":"1","requests.cpu":"500m","services.nodeports":"1"}}
            "#]],
        );
    }

    #[test]
    fn less_is_written_when_nothing_was_added_for_a_while() {
        let world = format!("{}{OBJECTS}", quota("{pods: '2', requests.cpu: 500m, services.nodeports: '1'}"));
        let mut bench = Bench::new(ResourceQuotas::default(), &world);
        check(
            &mut bench,
            "2024-01-01T00:00:00Z",
            expect![[r#"
            look again in 200ms
        "#]],
        );
        check(
            &mut bench,
            "2024-01-01T00:00:00.1Z",
            expect![[r#"
            look again in 200ms
        "#]],
        );
        check(
            &mut bench,
            "2024-01-01T00:00:00.2Z",
            expect![[r#"
            update resourcequotas ns/q status: {"hard":{"count/podtemplates":"3","pods":"5","requests.cpu":"2","services.nodeports":"1"},"used":{"pods":"1","requests.cpu":"500m","services.nodeports":"1"}}
        "#]],
        );
    }

    #[test]
    fn pods_that_have_ended_use_nothing_but_their_place_in_a_count_of_objects() {
        let hard = "{pods: '5', requests.cpu: '2', limits.cpu: '9', count/pods: '7'}";
        let quota = QUOTA.replace("{pods: 5, requests.cpu: 2, services.nodeports: 1, count/podtemplates: 3}", hard);
        let pod = |name: &str, phase: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: {name}}}\n\
                 spec: {{containers: [{{name: c, resources: {{requests: {{cpu: 500m}}, limits: {{cpu: 1}}}}}}]}}\n\
                 status: {{phase: {phase}}}\n"
            )
        };
        let pods = [pod("a", "Running"), pod("b", "Pending"), pod("c", "Failed"), pod("d", "Succeeded")].concat();
        check(
            &mut Bench::new(ResourceQuotas::default(), &(quota + &pods)),
            "2024-01-01T00:00:00Z",
            expect![[r#"
                update resourcequotas ns/q status: {"hard":{"count/pods":"7","limits.cpu":"9","pods":"5","requests.cpu":"2"},"used":{"count/pods":"4","limits.cpu":"2","pods":"2","requests.cpu":"1"}}
            "#]],
        );
    }

    #[test]
    fn a_quota_that_is_raised_says_so_though_nothing_else_changed() {
        let raised = quota("{pods: '1', requests.cpu: 500m, services.nodeports: '1'}").replacen(
            "requests.cpu: '2'",
            "requests.cpu: '8'",
            1,
        );
        check(
            &mut Bench::new(ResourceQuotas::default(), &(raised + OBJECTS)),
            "2024-01-01T00:00:00Z",
            expect![[r#"
                update resourcequotas ns/q status: {"hard":{"count/podtemplates":"3","pods":"5","requests.cpu":"8","services.nodeports":"1"},"used":{"pods":"1","requests.cpu":"500m","services.nodeports":"1"}}
            "#]],
        );
    }

    #[test]
    fn what_is_right_stays() {
        let world = format!("{}{OBJECTS}", quota("{pods: '1', requests.cpu: 500m, services.nodeports: '1'}"));
        check(&mut Bench::new(ResourceQuotas::default(), &world), "2024-01-01T00:00:00Z", expect![[""]]);
    }
}
