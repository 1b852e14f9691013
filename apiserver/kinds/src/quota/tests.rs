use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn quota(hard: Value, used: Value, spec: Value) -> Value {
    let mut quota = json!({"metadata": {"name": "q"}, "spec": spec, "status": {"hard": hard, "used": used}});
    quota["spec"]["hard"] = hard;
    quota
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// The quota's new `used`, or why not; `-` when the write is none of its business.
fn charged(quota: &Value, resource: &str, new: &Value, old: Option<&Value>) -> String {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (plural, subresource) = plural.split_once('/').unwrap_or((plural, ""));
    match charge(quota, &*evaluator(group, plural), &Charge { new, old, subresource, now: NOW }) {
        Ok(Some(used)) => Value::from(to_list(&used)).to_string(),
        Ok(None) => "-".into(),
        Err(why) => why,
    }
}

#[test]
fn a_write_is_added_to_what_is_used() {
    let pods =
        quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "300m"}), json!({}));
    assert_eq!(charged(&pods, "pods", &pod("500m"), None), r#"{"pods":"2","requests.cpu":"800m"}"#);
    assert_eq!(charged(&pods, "secrets", &json!({}), None), "-");
    assert_eq!(charged(&pods, "pods/status", &pod("1"), Some(&pod("1"))), "-");
    assert_eq!(charged(&pods, "pods/resize", &pod("2"), Some(&pod("1900m"))), r#"{"pods":"1","requests.cpu":"400m"}"#);
    assert_eq!(charged(&pods, "pods/resize", &pod("1"), Some(&pod("2"))), "-");
}

#[test]
fn too_much_is_refused_in_these_words() {
    let pods = quota(json!({"pods": "1", "cpu": "1"}), json!({"pods": "1", "cpu": "800m"}), json!({}));
    assert_eq!(
        charged(&pods, "pods", &pod("500m"), None),
        "exceeded quota: q, requested: cpu=500m,pods=1, used: cpu=800m,pods=1, limited: cpu=1,pods=1"
    );
    assert_eq!(
        charged(&pods, "pods", &json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}), None),
        "failed quota: q: must specify cpu for: a,b"
    );
    let unknown = quota(json!({"pods": "1"}), json!({}), json!({}));
    assert_eq!(charged(&unknown, "pods", &pod("1"), None), "status unknown for quota: q, resources: pods");
}

#[test]
fn limits_ephemeral_storage_and_extended_resources() {
    let amounts = json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi", "example.com/gpu": "1", "hugepages-2Mi": "4Mi"});
    let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": amounts, "limits": amounts}}]}});
    let usage = evaluator("", "pods").usage(&pod, NOW);
    expect_test::expect![[r#"{"count/pods":"1","cpu":"1","ephemeral-storage":"2Gi","hugepages-2Mi":"4Mi","limits.cpu":"1","limits.ephemeral-storage":"2Gi","limits.memory":"1Gi","memory":"1Gi","pods":"1","requests.cpu":"1","requests.ephemeral-storage":"2Gi","requests.example.com/gpu":"1","requests.hugepages-2Mi":"4Mi","requests.memory":"1Gi"}"#]]
    .assert_eq(&Value::from(to_list(&usage)).to_string());
    for name in usage.keys() {
        assert!(evaluator("", "pods").tracks(name), "{name}");
    }
}

#[test]
fn pods_that_ended_are_only_counted() {
    let mut ended = pod("1");
    ended["status"] = json!({"phase": "Succeeded"});
    assert_eq!(evaluator("", "pods").usage(&ended, NOW).into_keys().collect::<Vec<_>>(), ["count/pods"]);
    let mut stuck = pod("1");
    stuck["metadata"] = json!({"deletionTimestamp": "1969-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30});
    assert_eq!(evaluator("", "pods").usage(&stuck, NOW).len(), 1);
    stuck["metadata"]["deletionGracePeriodSeconds"] = 90.into();
    assert!(evaluator("", "pods").usage(&stuck, NOW).len() > 1);
}

#[test]
fn scopes_of_pods() {
    let affinity = |term: Value| json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let plain = pod("1");
    let mut special =
        json!({"spec": {"containers": [{"name": "c"}], "activeDeadlineSeconds": 5, "priorityClassName": "high"}});
    special["spec"]["affinity"] = affinity(json!({"namespaces": ["a"]}));
    let exists = |name: &str| json!({"scopes": [name]});
    let select = |operator: &str, values: Value| {
        let expression = json!({"scopeName": "PriorityClass", "operator": operator, "values": values});
        json!({"scopeSelector": {"matchExpressions": [expression]}})
    };
    for (scope, of_plain, of_special) in [
        (exists("Terminating"), false, true),
        (exists("NotTerminating"), true, false),
        (exists("BestEffort"), false, true),
        (exists("NotBestEffort"), true, false),
        (exists("PriorityClass"), false, true),
        (exists("CrossNamespacePodAffinity"), false, true),
        (exists("VolumeAttributesClass"), false, false),
        (select("In", json!(["high", "low"])), false, true),
        (select("NotIn", json!(["high"])), true, false),
        (select("Exists", json!([])), false, true),
        (select("DoesNotExist", json!([])), true, false),
    ] {
        let quota = quota(json!({"pods": "5"}), json!({"pods": "0"}), scope.clone());
        assert_eq!(charged(&quota, "pods", &plain, None) != "-", of_plain, "{scope}");
        assert_eq!(charged(&quota, "pods", &special, None) != "-", of_special, "{scope}");
        assert_eq!(charged(&quota, "configmaps", &json!({}), None), "-", "{scope}");
    }
}

#[test]
fn services_count_ports_and_load_balancers() {
    let zero = json!({"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"});
    let hard = json!({"services": "1", "services.nodeports": "1", "services.loadbalancers": "1"});
    let quota = quota(hard, zero, json!({}));
    let service = |kind: &str, extra: Value| {
        let mut service = json!({"spec": {"type": kind, "ports": [{"port": 1}]}});
        service["spec"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        service
    };
    let cluster = service("ClusterIP", json!({}));
    let node = service("NodePort", json!({}));
    let balancer = service("LoadBalancer", json!({}));
    let without = service("LoadBalancer", json!({"allocateLoadBalancerNodePorts": false}));
    let all = |services, ports, balancers| {
        format!(r#"{{"services":"{services}","services.loadbalancers":"{balancers}","services.nodeports":"{ports}"}}"#)
    };
    assert_eq!(charged(&quota, "services", &cluster, None), all(1, 0, 0));
    assert_eq!(charged(&quota, "services", &node, None), all(1, 1, 0));
    assert_eq!(charged(&quota, "services", &balancer, None), all(1, 1, 1));
    assert_eq!(charged(&quota, "services", &without, None), all(1, 0, 1));
    assert_eq!(charged(&quota, "services", &balancer, Some(&node)), all(0, 0, 1));
    assert_eq!(charged(&quota, "services", &cluster, Some(&node)), "-");
}

#[test]
fn claims_count_storage_by_class() {
    let claim = |size: &str, class: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}});
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let hard = json!({gold: "3Gi", "requests.storage": "9Gi", "persistentvolumeclaims": "5"});
    let zero = json!({gold: "0", "requests.storage": "0", "persistentvolumeclaims": "0"});
    let quota = quota(hard, zero, json!({}));
    assert_eq!(
        charged(&quota, "persistentvolumeclaims", &claim("1Gi", "gold"), None),
        format!(r#"{{"{gold}":"1Gi","persistentvolumeclaims":"1","requests.storage":"1Gi"}}"#)
    );
    assert_eq!(
        charged(&quota, "persistentvolumeclaims", &claim("4Gi", "gold"), None),
        format!("exceeded quota: q, requested: {gold}=4Gi, used: {gold}=0, limited: {gold}=3Gi")
    );
    assert_eq!(
        charged(&quota, "persistentvolumeclaims", &claim("5Gi", "tin"), Some(&claim("4Gi", "tin"))),
        format!(r#"{{"{gold}":"0","persistentvolumeclaims":"0","requests.storage":"1Gi"}}"#)
    );
}

#[test]
fn claims_are_scoped_by_their_attributes_classes() {
    let expression = json!({"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]});
    let spec = json!({"scopeSelector": {"matchExpressions": [expression]}});
    let quota = quota(json!({"persistentvolumeclaims": "1"}), json!({"persistentvolumeclaims": "0"}), spec);
    let claim = |field: &str, class: &str| json!({"spec": {}, "status": {field: class}});
    let name = "currentVolumeAttributesClassName";
    assert_ne!(charged(&quota, "persistentvolumeclaims", &claim(name, "fast"), None), "-");
    assert_eq!(charged(&quota, "persistentvolumeclaims", &claim(name, "slow"), None), "-");
    assert_eq!(charged(&quota, "persistentvolumeclaims", &json!({}), None), "-");
}

#[test]
fn any_resource_is_counted() {
    let hard = json!({"count/things.example.com": "1", "count/secrets": "4", "secrets": "5"});
    let used = json!({"count/things.example.com": "1", "count/secrets": "1", "secrets": "1"});
    let quota = quota(hard, used, json!({}));
    assert_eq!(
        charged(&quota, "things.example.com", &json!({}), None),
        "exceeded quota: q, requested: count/things.example.com=1, used: count/things.example.com=1, limited: \
         count/things.example.com=1"
    );
    assert_eq!(
        charged(&quota, "secrets", &json!({}), None),
        r#"{"count/secrets":"2","count/things.example.com":"1","secrets":"2"}"#
    );
}

#[test]
fn used_is_counted_anew() {
    let quota =
        quota(json!({"pods": "5", "cpu": "9", "secrets": "1"}), json!({}), json!({"scopes": ["NotBestEffort"]}));
    let idle = json!({"spec": {"containers": [{"name": "c"}]}});
    let pods = [pod("1"), pod("500m"), idle];
    let count = |plural: &str, objects: &[Value]| {
        used(&quota, &*evaluator("", plural), objects, NOW).map(|used| Value::from(to_list(&used)).to_string())
    };
    assert_eq!(count("pods", &pods).unwrap(), r#"{"cpu":"1500m","pods":"2"}"#);
    assert_eq!(count("secrets", &[json!({})]).unwrap(), r#"{"secrets":"0"}"#);
    assert_eq!(count("services", &[]), None);
}
