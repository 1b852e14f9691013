//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-operations>: every kind that clients make is found
//! in discovery and can be created, read, listed, watched, patched, replaced, deleted alone and in a collection, and has
//! its status written apart.

use crate::api::{Api, deployment, names, version};
use futures::future::join_all;
use http::Request;
use k8w_apiserver::Body;
use serde_json::{Value, json};

/// One kind's walk through its operations.
struct Walk {
    /// `apis/apps/v1`, `api/v1`.
    group_version: &'static str,
    plural: &'static str,
    namespaced: bool,
    object: Value,
    /// What objects are called: the one that walks, and three more.
    names: [&'static str; 4],
    /// What a status writer says, for kinds whose status is a subresource.
    status: Option<Value>,
    /// Whether a status writer writes nothing of the metadata.
    status_alone: bool,
}

const LABEL: &str = "e2e=walk";

fn namespaced(group_version: &'static str, plural: &'static str, body: Value) -> Walk {
    let mut object = json!({"metadata": {"labels": {"e2e": "walk"}}});
    for (key, value) in body.as_object().unwrap() {
        object[key] = value.clone();
    }
    Walk {
        group_version,
        plural,
        namespaced: true,
        object,
        names: ["walk", "a", "b", "c"],
        status: None,
        status_alone: false,
    }
}

fn cluster(group_version: &'static str, plural: &'static str, body: Value) -> Walk {
    Walk { namespaced: false, ..namespaced(group_version, plural, body) }
}

impl Walk {
    fn status(mut self, status: Value) -> Walk {
        self.status = Some(status);
        self
    }

    fn status_alone(self, status: Value) -> Walk {
        Walk { status_alone: true, ..self.status(status) }
    }

    fn path(&self) -> String {
        let namespace = if self.namespaced { "namespaces/default/" } else { "" };
        format!("/{}/{namespace}{}", self.group_version, self.plural)
    }

    fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["name"] = name.into();
        object
    }

    async fn run(&self) {
        let (api, path, what, name) = (Api::new().await, self.path(), self.plural, self.names[0]);
        let one = format!("{path}/{name}");
        self.is_discovered(&api).await;
        let list = api.get(&format!("{path}?labelSelector={LABEL}")).await.ok();
        assert_eq!(names(&list), Vec::<&str>::new(), "{what}");
        let since = format!("watch=true&labelSelector={LABEL}&resourceVersion={}", version(&list));
        let mut watch = api.watch(&format!("{path}?{since}")).await;

        let created = api.post(&path, &self.named(name)).await.ok();
        assert!(created["metadata"]["uid"].is_string(), "{what}");
        assert_eq!(api.get(&one).await.ok(), created, "{what}");
        assert_eq!(names(&api.get(&format!("{path}?labelSelector={LABEL}")).await.ok()), [name], "{what}");
        let everywhere = format!("/{}/{}?labelSelector={LABEL}", self.group_version, self.plural);
        assert_eq!(names(&api.get(&everywhere).await.ok()), [name], "{what}");
        let selected = api.get(&format!("{path}?fieldSelector=metadata.name={name}")).await.ok();
        assert_eq!(names(&selected), [name], "{what}");

        let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
        let patched = api.patch("merge", &one, &patch).await.ok();
        assert_eq!(patched["metadata"]["annotations"]["patched"], "true", "{what}");
        let mut next =
            api.patch("strategic-merge", &one, &json!({"metadata": {"labels": {"patched": "too"}}})).await.ok();
        assert_eq!(next["metadata"]["uid"], created["metadata"]["uid"], "{what}");
        next["metadata"]["annotations"]["updated"] = "true".into();
        let updated = api.put(&one, &next).await.ok();
        let annotations = json!({"patched": "true", "updated": "true"});
        assert!(contains(&updated["metadata"]["annotations"], &annotations), "{what}: {updated}");
        assert!(version(&updated) > version(&patched), "{what}");
        let stale = api.put(&one, &created).await.error();
        assert_eq!((stale.0, stale.1.as_str()), (409, "Conflict"), "{what}");
        let mut changes = 3;
        if let Some(status) = &self.status {
            changes += self.write_status(&api, &one, status).await;
        }

        api.delete(&format!("{one}?propagationPolicy=Background&gracePeriodSeconds=0")).await.ok();
        assert_eq!(api.get(&one).await.error().0, 404, "{what}");
        watch.expect(&[("ADDED", name)]).await;
        for _ in 0..changes {
            watch.expect(&[("MODIFIED", name)]).await;
        }
        watch.expect(&[("DELETED", name)]).await;
        self.collections_are_deleted(&api).await;
    }

    async fn is_discovered(&self, api: &Api) {
        let document = api.get(&format!("/{}", self.group_version)).await.ok();
        let resources = document["resources"].as_array().unwrap();
        let find = |name: &str| resources.iter().find(|resource| resource["name"] == name);
        let resource = find(self.plural).unwrap_or_else(|| panic!("{} is not in discovery", self.plural));
        assert_eq!(resource["namespaced"], self.namespaced, "{}", self.plural);
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            assert!(resource["verbs"].as_array().unwrap().contains(&verb.into()), "{} cannot {verb}", self.plural);
        }
        let status = find(&format!("{}/status", self.plural));
        assert_eq!(status.is_some(), self.status.is_some(), "{}/status", self.plural);
    }

    /// Returns how often the object changed.
    async fn write_status(&self, api: &Api, one: &str, status: &Value) -> usize {
        let (what, path) = (self.plural, format!("{one}/status"));
        let before = api.get(&path).await.ok();
        let patched = api.patch("merge", &path, &json!({"status": status})).await.ok();
        assert!(contains(&patched["status"], status), "{what}: {}", patched["status"]);
        // The rest stays, whatever a status writer says of it; annotations are its to write, for most kinds.
        let mut next = patched.clone();
        next["metadata"]["annotations"]["status-writer"] = "was here".into();
        if next["spec"].is_object() {
            next["spec"] = json!({});
        }
        let updated = api.put(&path, &next).await.ok();
        assert_eq!((&updated["spec"], &updated["status"]), (&before["spec"], &patched["status"]), "{what}");
        let written = updated["metadata"]["annotations"]["status-writer"] == "was here";
        assert_eq!(written, !self.status_alone, "{what}");
        // And the status stays when the object is written.
        let mut without = updated.clone();
        without.as_object_mut().unwrap().remove("status");
        without["metadata"]["annotations"]["again"] = "true".into();
        assert_eq!(api.put(one, &without).await.ok()["status"], updated["status"], "{what}");
        if written { 3 } else { 2 }
    }

    async fn collections_are_deleted(&self, api: &Api) {
        let (path, what, [_, a, b, other]) = (self.path(), self.plural, self.names);
        for name in [a, b, other] {
            let mut object = self.named(name);
            if name == other {
                object["metadata"]["labels"] = json!({"e2e": "other"});
            }
            api.post(&path, &object).await.ok();
        }
        let selected = format!("{path}?labelSelector={LABEL}");
        let background = "propagationPolicy=Background&gracePeriodSeconds=0";
        let reply = api.send(Request::delete(format!("{selected}&{background}")).body(Body::Empty).unwrap()).await;
        reply.ok();
        assert_eq!(names(&api.get(&selected).await.ok()), Vec::<&str>::new(), "{what}");
        assert_eq!(names(&api.get(&format!("{path}?labelSelector=e2e=other")).await.ok()), [other], "{what}");
    }
}

/// Whether everything that `part` says is in `whole`.
fn contains(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(members) => members.iter().all(|(key, value)| contains(&whole[key], value)),
        other => whole == other,
    }
}

async fn all(walks: Vec<Walk>) {
    join_all(walks.iter().map(Walk::run)).await;
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "walk"}}, "spec": {"containers": [{"name": "c", "image": "c"}]}})
}

fn workload(more: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "walk"}}, "template": template()});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

fn condition(kind: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "reason": "E2E", "message": "set from a test"}]})
}

fn dated(kind: &str) -> Value {
    let mut status = condition(kind);
    status["conditions"][0]["lastTransitionTime"] = "2026-01-01T00:00:00Z".into();
    status
}

/// Conformance: "DaemonSet, list and delete a collection of DaemonSets"; "DaemonSet, status sub-resource"; "Deployment,
/// status sub-resource"; "ReplicaSet, list and delete a collection of ReplicaSets"; "ReplicaSet, status sub-resource";
/// "StatefulSet, list, patch and delete a collection of StatefulSets"; "StatefulSet, status sub-resource";
/// "ControllerRevision, resource lifecycle"; "Replication Controller, lifecycle"; "PodTemplate lifecycle"; "PodTemplate,
/// delete a collection"; "PodTemplate, replace".
#[tokio::test]
async fn workloads() {
    let apps = "apis/apps/v1";
    let replicated = json!({"spec": {"replicas": 1, "selector": {"app": "walk"}, "template": template()}});
    let replicas = |kind: &str| {
        let mut status = condition(kind);
        status["replicas"] = 1.into();
        status
    };
    let stateful = workload(json!({"serviceName": "walk", "replicas": 2}));
    all(vec![
        namespaced(apps, "daemonsets", workload(json!({}))).status(condition("StatusUpdate")),
        namespaced(apps, "deployments", workload(json!({"replicas": 1}))).status(condition("StatusUpdate")),
        namespaced(apps, "replicasets", workload(json!({"replicas": 1}))).status(replicas("StatusUpdate")),
        namespaced(apps, "statefulsets", stateful).status(replicas("StatusUpdate")),
        namespaced(apps, "controllerrevisions", json!({"data": {"spec": {"a": 1}}, "revision": 1})),
        namespaced("api/v1", "replicationcontrollers", replicated).status(replicas("StatusUpdate")),
        namespaced("api/v1", "podtemplates", json!({"template": template()})),
    ])
    .await;
}

/// Conformance: "Deployment, completes the lifecycle of a Deployment" goes on with the label that it had before.
#[tokio::test]
async fn a_status_writer_leaves_the_labels_of_a_deployment() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let mut deployment = deployment("d", 1);
    deployment["metadata"]["labels"] = json!({"test-deployment": "updated"});
    api.post(deployments, &deployment).await.ok();
    let change = json!({"metadata": {"labels": {"test-deployment": "patched-status"}}, "status": {"readyReplicas": 0}});
    let patched = api.patch("strategic-merge", &format!("{deployments}/d/status"), &change).await.ok();
    assert_eq!(patched["metadata"]["labels"], json!({"test-deployment": "updated"}));
}

/// Who writes a status may write owners beside it, but for kinds that keep them.
#[tokio::test]
async fn a_status_writer_writes_owners() {
    let api = Api::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1-2"});
    let change = json!({"metadata": {"ownerReferences": [owner]}, "status": {}});
    let pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "c"}]}});
    for (path, object, written) in [
        ("/apis/apps/v1/namespaces/default/deployments", deployment("x", 1), true),
        ("/api/v1/namespaces/default/pods", pod, false),
    ] {
        api.post(path, &object).await.ok();
        let patched = api.patch("merge", &format!("{path}/x/status"), &change).await.ok();
        let expected = if written { json!([owner]) } else { Value::Null };
        assert_eq!(patched["metadata"]["ownerReferences"], expected, "{path}");
    }
}

/// Conformance: "CronJob API Operations"; "Jobs, apply changes to status".
#[tokio::test]
async fn batch() {
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}});
    let cron = json!({"spec": {"schedule": "*/1 * * * *", "jobTemplate": {"spec": {"template": pod}}}});
    all(vec![
        namespaced("apis/batch/v1", "cronjobs", cron).status(json!({"lastScheduleTime": "2026-01-01T00:00:00Z"})),
        namespaced("apis/batch/v1", "jobs", json!({"spec": {"template": pod}}))
            .status(json!({"startTime": "2026-01-01T00:00:00Z"})),
    ])
    .await;
}

/// Conformance: "PodDisruptionBudget: list and delete collection"; "PodDisruptionBudget: create, update, patch, and delete
/// object"; "PodDisruptionBudget: update and patch status"; "Scheduler, Verify PriorityClass endpoints"; "LimitRange, list,
/// patch and delete a LimitRange by collection"; "ResourceQuota, manage lifecycle of a ResourceQuota"; "ResourceQuota,
/// apply changes to a ResourceQuota status".
#[tokio::test]
async fn policies() {
    let budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "walk"}}}});
    let healthy = json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1});
    let limits = json!({"spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "100m"}}]}});
    all(vec![
        namespaced("apis/policy/v1", "poddisruptionbudgets", budget).status(healthy),
        namespaced("api/v1", "limitranges", limits),
        namespaced("api/v1", "resourcequotas", json!({"spec": {"hard": {"cpu": "500m", "memory": "500Mi"}}}))
            .status(json!({"hard": {"cpu": "500m", "memory": "500Mi"}})),
        cluster("apis/scheduling.k8s.io/v1", "priorityclasses", json!({"value": 10})),
    ])
    .await;
}

/// Conformance: "ConfigMap lifecycle"; "ConfigMap Update"; "Secret patching"; "ServiceAccount lifecycle test";
/// "ServiceAccount, update a ServiceAccount"; "lease API should be available"; "Event, delete a collection"; "Event, manage
/// lifecycle of an Event"; "New Event resource lifecycle, testing a single event"; "New Event resource lifecycle, testing a
/// list of events".
#[tokio::test]
async fn data() {
    let about = json!({"kind": "Pod", "namespace": "default", "name": "p"});
    let event = json!({"involvedObject": about, "reason": "Test", "message": "it works", "type": "Normal",
        "source": {"component": "walk"}});
    let new_event = json!({"regarding": about, "reason": "Test", "note": "it works", "type": "Normal", "action": "Do",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "walk", "reportingInstance": "walk"});
    all(vec![
        namespaced("api/v1", "configmaps", json!({"data": {"key": "value"}})),
        namespaced("api/v1", "secrets", json!({"data": {"key": "dmFsdWU="}, "type": "Opaque"})),
        namespaced("api/v1", "serviceaccounts", json!({})),
        namespaced("apis/coordination.k8s.io/v1", "leases", json!({"spec": {"holderIdentity": "walk"}})),
        namespaced("api/v1", "events", event),
        namespaced("apis/events.k8s.io/v1", "events", new_event),
    ])
    .await;
}

/// Conformance: "EndpointSlice API"; "Endpoint resource lifecycle"; "Ingress API"; "IngressClass API"; "IPAddress API";
/// "ServiceCIDR API"; "Service, complete ServiceStatus lifecycle"; "Service, deletes a collection of services".
#[tokio::test]
async fn networking() {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": ports});
    let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": ports}]});
    let backend = json!({"service": {"name": "default-backend", "port": {"number": 80}}});
    let balancer = |address: Value| json!({"loadBalancer": {"ingress": [address]}});
    let service = json!({"resource": "services", "namespace": "default", "name": "walk"});
    let networking = "apis/networking.k8s.io/v1";
    all(vec![
        namespaced("apis/discovery.k8s.io/v1", "endpointslices", slice),
        namespaced("api/v1", "endpoints", endpoints),
        namespaced("api/v1", "services", json!({"spec": {"type": "LoadBalancer", "ports": ports}}))
            .status(balancer(json!({"ip": "203.0.113.1", "ipMode": "VIP"}))),
        namespaced(networking, "ingresses", json!({"spec": {"defaultBackend": backend}}))
            .status(balancer(json!({"ip": "203.0.113.1"}))),
        cluster(networking, "ingressclasses", json!({"spec": {"controller": "example.com/controller"}})),
        cluster(networking, "servicecidrs", json!({"spec": {"cidrs": ["10.1.0.0/24"]}})).status(dated("Ready")),
        Walk {
            names: ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
            ..cluster(networking, "ipaddresses", json!({"spec": {"parentRef": service}}))
        },
    ])
    .await;
}

/// Conformance: "Node, resource lifecycle"; "Pods, patching status"; "Pods, delete a collection"; "RuntimeClass
/// API"; "CSIInlineVolumes should support Pods with inline volumes"; "CRUD operations for deviceclasses"; "CRUD
/// operations for resourceclaims"; "CRUD operations for resourceclaimtemplates"; "CRUD operations for resoureslices".
#[tokio::test]
async fn nodes_pods_and_devices() {
    let mut with_volume = template()["spec"].clone();
    with_volume["volumes"] = json!([{"name": "inline", "csi": {"driver": "e2e.example.com"}}]);
    with_volume["containers"][0]["volumeMounts"] = json!([{"name": "inline", "mountPath": "/mnt"}]);
    let resource = "apis/resource.k8s.io/v1";
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "walk"}}]}});
    let device = json!({"request": "r", "driver": "example.com", "pool": "p", "device": "d"});
    let slice = json!({"spec": {"nodeName": "n", "driver": "example.com",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d"}]}});
    all(vec![
        cluster("api/v1", "nodes", json!({})).status(condition("StatusUpdate")),
        namespaced("api/v1", "pods", json!({"spec": with_volume})).status(json!({"message": "from a test"})),
        cluster("apis/node.k8s.io/v1", "runtimeclasses", json!({"handler": "walk"})),
        cluster(resource, "deviceclasses", json!({"spec": {}})),
        namespaced(resource, "resourceclaims", json!({"spec": claim}))
            .status_alone(json!({"allocation": {"devices": {"results": [device]}}})),
        namespaced(resource, "resourceclaimtemplates", json!({"spec": {"spec": claim}})),
        cluster(resource, "resourceslices", slice),
    ])
    .await;
}

/// Conformance: "CSIDriver, lifecycle"; "CSINode, lifecycle"; "CSIStorageCapacity API"; "StorageClass, lifecycle";
/// "VolumeAttachment, lifecycle"; "VolumeAttachment, apply changes to a volumeattachment status"; "VolumeAttributesClass,
/// lifecycle"; "PersistentVolumes(Claims), lifecycle"; "PersistentVolumes(Claims), apply changes to a pv/pvc status".
#[tokio::test]
async fn storage() {
    let storage = "apis/storage.k8s.io/v1";
    let attachment = json!({"spec": {"attacher": "example.com", "nodeName": "n",
        "source": {"persistentVolumeName": "v"}}});
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": "/tmp/walk"}}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}}}});
    all(vec![
        cluster(storage, "csidrivers", json!({"spec": {"attachRequired": true}})),
        cluster(storage, "csinodes", json!({"spec": {"drivers": [{"name": "example.com", "nodeID": "n"}]}})),
        namespaced(storage, "csistoragecapacities", json!({"storageClassName": "walk", "capacity": "1Gi"})),
        cluster(storage, "storageclasses", json!({"provisioner": "example.com"})),
        cluster(storage, "volumeattachments", attachment).status_alone(json!({"attached": true})),
        cluster(storage, "volumeattributesclasses", json!({"driverName": "example.com", "parameters": {"a": "b"}})),
        cluster("api/v1", "persistentvolumes", volume).status(json!({"phase": "Failed", "message": "from a test"})),
        namespaced("api/v1", "persistentvolumeclaims", claim).status(dated("StatusUpdate")),
    ])
    .await;
}

/// Conformance: "Priority and Fairness FlowSchema API"; "Priority and Fairness PriorityLevelConfiguration API";
/// "ValidatingAdmissionPolicy API"; "ValidatingadmissionPolicyBinding API"; "MutatingAdmissionPolicy API";
/// "MutatingAdmissionPolicyBinding API".
#[tokio::test]
async fn the_api_server_s_own() {
    let (flow, admission) = ("apis/flowcontrol.apiserver.k8s.io/v1", "apis/admissionregistration.k8s.io/v1");
    let level = json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 2,
        "limitResponse": {"type": "Reject"}}}});
    let schema = json!({"spec": {"matchingPrecedence": 10_000, "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "walk"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]}});
    let rules = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
        "operations": ["CREATE"]}]});
    let validating = json!({"spec": {"matchConstraints": rules, "validations": [{"expression": "true"}]}});
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    let mutating = json!({"spec": {"matchConstraints": rules, "mutations": [mutation], "reinvocationPolicy": "Never"}});
    let binding = json!({"spec": {"policyName": "walk", "validationActions": ["Deny"]}});
    all(vec![
        cluster(flow, "prioritylevelconfigurations", level).status_alone(dated("Test")),
        cluster(flow, "flowschemas", schema).status_alone(dated("Dangling")),
        cluster(admission, "validatingadmissionpolicies", validating).status_alone(dated("Test")),
        cluster(admission, "validatingadmissionpolicybindings", binding),
        cluster(admission, "mutatingadmissionpolicies", mutating),
        cluster(admission, "mutatingadmissionpolicybindings", json!({"spec": {"policyName": "walk"}})),
    ])
    .await;
}
