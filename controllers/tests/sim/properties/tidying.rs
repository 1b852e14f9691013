//! Reconcilers that keep what others rely on: endpoints, counts, volumes, and what is nobody's any more.

use std::collections::BTreeSet;
use std::time::Duration;

use k8w_controllers::config::IngressAddress;
use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{
    CERTIFICATE_SIGNING_REQUESTS, CLUSTER_ROLES, CONFIG_MAPS, ENDPOINT_SLICES, ENDPOINTS, INGRESS_CLASSES, INGRESSES,
    JOBS, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, REPLICA_SETS, RESOURCE_QUOTAS,
    SECRETS, SERVICES, STORAGE_CLASSES,
};
use serde_json::{Value, json};

use super::{ROW, Row};
use crate::cluster::{local_claim, local_class, namespace};
use crate::server::{Server, WIDGETS};

pub const ROWS: &[Row] = &[
    Row {
        name: "EndpointSlices and Endpoints",
        of: &["endpointslice", "endpoint"],
        prepare: |server| {
            set(server, "default", 3);
            service(server, "web", json!({ "selector": { "app": "web" } }));
        },
        changes: &[
            |server| scale(server, 5),
            |server| scale(server, 1),
            |server| {
                server.edit(&SERVICES, "default", "web", |service| service["spec"]["selector"] = json!({ "app": "no" }))
            },
            |server| {
                server
                    .edit(&SERVICES, "default", "web", |service| service["spec"]["selector"] = json!({ "app": "web" }))
            },
        ],
        arrived: |server| {
            let selects = server.get(&SERVICES, "default", "web").unwrap()["spec"]["selector"]["app"] == "web";
            let pods: BTreeSet<&str> = server.list(&PODS).filter(|_| selects).map(name).collect();
            let slices =
                server.list(&ENDPOINT_SLICES).flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            assert_eq!(
                slices.map(|endpoint| endpoint["targetRef"]["name"].as_str().unwrap()).collect::<BTreeSet<_>>(),
                pods
            );
            let subsets = &server.get(&ENDPOINTS, "default", "web").unwrap()["subsets"];
            let addresses =
                subsets.as_array().into_iter().flatten().flat_map(|subset| subset["addresses"].as_array().unwrap());
            assert_eq!(
                addresses.map(|address| address["targetRef"]["name"].as_str().unwrap()).collect::<BTreeSet<_>>(),
                pods
            );
        },
        ..ROW
    },
    Row {
        name: "mirrored Endpoints",
        of: &["endpointslicemirroring"],
        prepare: |server| {
            service(server, "by-hand", json!({}));
            let subsets = json!([{ "addresses": [{ "ip": "192.0.2.1" }], "ports": [{ "port": 80 }] }]);
            let endpoints = json!({ "metadata": { "name": "by-hand" }, "subsets": subsets });
            server.create(&ENDPOINTS, "default", endpoints).unwrap();
        },
        changes: &[
            |server| point_to(server, &["192.0.2.2", "192.0.2.3"]),
            |server| point_to(server, &["192.0.2.1"]),
            |server| {
                let slice = server.list(&ENDPOINT_SLICES).next().map(|slice| name(slice).to_owned());
                if let Some(slice) = slice {
                    server.delete(&ENDPOINT_SLICES, "default", &slice, Propagation::Background);
                }
            },
        ],
        arrived: |server| {
            let addresses = &server.get(&ENDPOINTS, "default", "by-hand").unwrap()["subsets"][0]["addresses"];
            let wanted: Vec<&Value> = addresses.as_array().unwrap().iter().map(|address| &address["ip"]).collect();
            let slices = server.list(&ENDPOINT_SLICES).flat_map(|slice| slice["endpoints"].as_array().unwrap());
            assert_eq!(slices.map(|endpoint| &endpoint["addresses"][0]).collect::<Vec<_>>(), wanted);
        },
        ..ROW
    },
    Row {
        name: "Namespace",
        of: &["namespace"],
        prepare: |server| {
            server.create(&NAMESPACES, "", namespace("doomed")).unwrap();
            set(server, "doomed", 2);
            set(server, "default", 2);
        },
        changes: &[|server| delete(server, "doomed"), |server| _ = server.create(&NAMESPACES, "", namespace("doomed"))],
        promise: |server| {
            let is_there = |namespace: &Value| server.get(&NAMESPACES, "", namespace.as_str().unwrap()).is_some();
            assert!(
                server.list(&PODS).all(|pod| is_there(&pod["metadata"]["namespace"])),
                "a pod outlived its namespace"
            );
        },
        arrived: |server| {
            assert!(server.list(&NAMESPACES).all(|namespace| namespace["metadata"]["deletionTimestamp"].is_null()));
            let neighbours = server.list(&PODS).filter(|pod| pod["metadata"]["namespace"] == "default").count();
            assert_eq!(neighbours, 2, "the neighbour keeps its pods");
        },
        ..ROW
    },
    Row {
        name: "garbage collection",
        of: &["garbage-collector-controller"],
        prepare: |server| set(server, "default", 3),
        changes: &[
            |server| remove(server, Propagation::Background),
            |server| remove(server, Propagation::Foreground),
            |server| remove(server, Propagation::Orphan),
        ],
        arrived: |server| {
            let uids: Vec<&Value> = server.list(&REPLICA_SETS).map(|set| &set["metadata"]["uid"]).collect();
            let references =
                server.list(&PODS).flat_map(|pod| pod["metadata"]["ownerReferences"].as_array().into_iter().flatten());
            references.for_each(|owner| assert!(uids.contains(&&owner["uid"]), "{owner} is gone"));
        },
        ..ROW
    },
    Row {
        name: "owners of a custom kind",
        of: &["garbage-collector-controller"],
        prepare: own,
        changes: &[
            own,
            |server| disown(server, Propagation::Background),
            |server| disown(server, Propagation::Foreground),
            |server| disown(server, Propagation::Orphan),
        ],
        promise: |server| {
            for owner in server.list(&WIDGETS).filter(|owner| owner["metadata"]["deletionTimestamp"].is_null()) {
                let owned = owned_by(owner["metadata"]["uid"].as_str().unwrap());
                assert!(server.get(&CONFIG_MAPS, "default", &owned).is_some(), "{owned} is gone before its owner");
            }
        },
        arrived: |server| {
            let uids: Vec<&Value> = server.list(&WIDGETS).map(|owner| &owner["metadata"]["uid"]).collect();
            let references = server
                .list(&CONFIG_MAPS)
                .flat_map(|map| map["metadata"]["ownerReferences"].as_array().into_iter().flatten());
            references.for_each(|owner| assert!(uids.contains(&&owner["uid"]), "{owner} is gone"));
            let leaving = server.list(&WIDGETS).filter(|owner| !owner["metadata"]["deletionTimestamp"].is_null());
            assert_eq!(leaving.count(), 0, "who is deleted goes");
        },
        ..ROW
    },
    Row {
        name: "ResourceQuota",
        of: &["resourcequota"],
        prepare: |server| {
            set(server, "default", 3);
            let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "10" } } });
            server.create(&RESOURCE_QUOTAS, "default", quota).unwrap();
        },
        changes: &[
            |server| scale(server, 6),
            |server| scale(server, 1),
            |server| server.edit(&RESOURCE_QUOTAS, "default", "q", |quota| quota["spec"]["hard"]["pods"] = json!("20")),
        ],
        arrived: |server| {
            let quota = server.get(&RESOURCE_QUOTAS, "default", "q").unwrap();
            assert_eq!(quota["status"]["used"]["pods"], server.list(&PODS).count().to_string(), "{quota}");
            assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
        },
        ..ROW
    },
    Row {
        name: "ClusterRole aggregation",
        of: &["clusterrole-aggregation-controller"],
        prepare: |server| {
            let rule = json!({ "clusterRoleSelectors": [{ "matchLabels": { "to": "sum" } }] });
            server
                .create(&CLUSTER_ROLES, "", json!({ "metadata": { "name": "sum" }, "aggregationRule": rule }))
                .unwrap();
        },
        changes: &[
            |server| part(server, "a"),
            |server| part(server, "b"),
            |server| server.edit(&CLUSTER_ROLES, "", "a", |role| role["metadata"]["labels"] = json!({})),
        ],
        arrived: |server| {
            let parts = server.list(&CLUSTER_ROLES).filter(|role| role["metadata"]["labels"]["to"] == "sum");
            let rules = |role: &Value| role["rules"].as_array().cloned().unwrap_or_default();
            let wanted: Vec<Value> = parts.flat_map(rules).collect();
            assert_eq!(rules(server.get(&CLUSTER_ROLES, "", "sum").unwrap()), wanted);
        },
        ..ROW
    },
    Row {
        name: "load balancers",
        of: &["service-lb-controller"],
        prepare: |server| {
            for (name, address) in [("n1", "192.0.2.1"), ("n2", "192.0.2.2")] {
                let addresses = json!([{ "type": "InternalIP", "address": address }]);
                server.edit(&NODES, "", name, |node| node["status"]["addresses"] = addresses);
            }
            service(server, "web", json!({ "type": "LoadBalancer", "selector": { "app": "web" } }));
        },
        changes: &[
            |server| {
                server.edit(&NODES, "", "n1", |node| {
                    node["metadata"]["labels"]["node.kubernetes.io/exclude-from-external-load-balancers"] = json!("");
                })
            },
            |server| server.edit(&SERVICES, "default", "web", |service| service["spec"]["type"] = json!("ClusterIP")),
            |server| {
                server.edit(&SERVICES, "default", "web", |service| service["spec"]["type"] = json!("LoadBalancer"))
            },
        ],
        arrived: |server| {
            let service = server.get(&SERVICES, "default", "web").unwrap();
            let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
            let serving = server.list(&NODES).filter(|node| node["metadata"]["labels"][excluded].is_null()).count();
            let wanted = if service["spec"]["type"] == "LoadBalancer" { serving } else { 0 };
            let addresses = service["status"]["loadBalancer"]["ingress"].as_array().map_or(0, Vec::len);
            assert_eq!(addresses, wanted, "{service}");
        },
        ..ROW
    },
    Row {
        name: "Ingress status",
        of: &["ingress-status"],
        prepare: |server| {
            let class = json!({ "metadata": { "name": "ours" }, "spec": { "controller": "k8w.dev/ingress" } });
            server.create(&INGRESS_CLASSES, "", class).unwrap();
            let ingress = json!({ "metadata": { "name": "web" }, "spec": { "ingressClassName": "ours" } });
            server.create(&INGRESSES, "default", ingress).unwrap();
        },
        changes: &[|server| server.edit(&INGRESSES, "default", "web", |ingress| ingress["status"] = json!({}))],
        arrived: |server| {
            let status = &server.get(&INGRESSES, "default", "web").unwrap()["status"];
            assert_eq!(status["loadBalancer"]["ingress"], json!([{ "hostname": "localhost" }]));
        },
        config: |config| config.ingress_addresses = vec![IngressAddress::Hostname("localhost".into())],
        ..ROW
    },
    Row {
        name: "claims and volumes",
        of: &["persistentvolumeclaim-binder"],
        prepare: |server| {
            volume(server, "large", "4Gi");
            volume(server, "small", "1Gi");
            claim(server, "a", "2Gi");
        },
        changes: &[
            |server| claim(server, "b", "1Gi"),
            |server| claim(server, "c", "3Gi"),
            |server| volume(server, "larger", "8Gi"),
            |server| server.delete_if_there(&PERSISTENT_VOLUME_CLAIMS, "default", "a", Propagation::Background),
        ],
        promise: |server| {
            for claim in server.list(&PERSISTENT_VOLUME_CLAIMS).filter(|claim| claim["status"]["phase"] == "Bound") {
                let volume =
                    server.get(&PERSISTENT_VOLUMES, "", claim["spec"]["volumeName"].as_str().unwrap()).unwrap();
                assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"], "two claims have one volume");
            }
        },
        arrived: |server| {
            let bound = |object: &&Value| object["status"]["phase"] == "Bound";
            let claims = server.list(&PERSISTENT_VOLUME_CLAIMS).filter(bound).count();
            assert_eq!(server.list(&PERSISTENT_VOLUMES).filter(bound).count(), claims);
            let released = server.list(&PERSISTENT_VOLUMES).filter(|volume| volume["status"]["phase"] == "Released");
            released.for_each(|volume| assert!(!volume["spec"]["claimRef"].is_null(), "what is kept is nobody else's"));
        },
        ..ROW
    },
    Row {
        name: "claims that grow",
        of: &["persistentvolume-expander", "persistentvolumeclaim-binder", "local-path-provisioner"],
        prepare: |server| {
            let mut class = local_class("Immediate");
            class["allowVolumeExpansion"] = true.into();
            server.create(&STORAGE_CLASSES, "", class).unwrap();
            let claim = json!({ "metadata": { "name": "a" }, "spec": local_claim() });
            server.create(&PERSISTENT_VOLUME_CLAIMS, "default", claim).unwrap();
        },
        changes: &[|server| ask_for(server, "2Gi"), |server| ask_for(server, "3Gi"), |server| ask_for(server, "5Gi")],
        promise: |server| {
            let claim = server.get(&PERSISTENT_VOLUME_CLAIMS, "default", "a").unwrap();
            let volume = server.get(&PERSISTENT_VOLUMES, "", claim["spec"]["volumeName"].as_str().unwrap()).unwrap();
            let of = |amounts: &Value| gibibytes(&amounts["storage"]);
            assert!(of(&claim["status"]["capacity"]) <= of(&volume["spec"]["capacity"]), "the claim says too much");
        },
        arrived: |server| {
            let claim = server.get(&PERSISTENT_VOLUME_CLAIMS, "default", "a").unwrap();
            assert_eq!(claim["status"]["capacity"], claim["spec"]["resources"]["requests"]);
            assert!(claim["status"]["conditions"].is_null(), "{}", claim["status"]);
        },
        ..ROW
    },
    Row {
        name: "ephemeral volumes",
        of: &["ephemeral-volume"],
        prepare: |server| {
            server.create(&STORAGE_CLASSES, "", local_class("WaitForFirstConsumer")).unwrap();
            set(server, "default", 2);
            server.edit(&REPLICA_SETS, "default", "web", |set| {
                let template = json!({ "volumeClaimTemplate": { "spec": local_claim() } });
                set["spec"]["template"]["spec"]["volumes"] = json!([{ "name": "scratch", "ephemeral": template }]);
            });
        },
        changes: &[|server| scale(server, 4), |server| scale(server, 1)],
        arrived: |server| {
            let pods: BTreeSet<String> = server.list(&PODS).map(|pod| format!("{}-scratch", name(pod))).collect();
            let claims: BTreeSet<String> =
                server.list(&PERSISTENT_VOLUME_CLAIMS).map(|claim| name(claim).to_owned()).collect();
            assert_eq!(claims, pods, "each pod has its claim, and claims go with their pods");
            let volumes: Vec<&Value> = server.list(&PERSISTENT_VOLUMES).collect();
            assert_eq!(volumes.len(), pods.len(), "{volumes:?}");
        },
        ..ROW
    },
    Row {
        name: "what is over",
        of: &["csrcleaner", "token-cleaner", "ttl-after-finished-controller", "podgc"],
        prepare: |server| {
            server.create(&NAMESPACES, "", namespace("kube-system")).unwrap();
            let request =
                json!({ "metadata": { "name": "r" }, "spec": { "request": "", "signerName": "example.com/s" } });
            server.create(&CERTIFICATE_SIGNING_REQUESTS, "", request).unwrap();
            // 2023-12-31T00:00:00Z
            let expired = json!({ "token-id": "YWJjZGVm", "expiration": "MjAyMy0xMi0zMVQwMDowMDowMFo=" });
            let token = json!({
                "metadata": { "name": "bootstrap-token-abcdef" }, "type": "bootstrap.kubernetes.io/token", "data": expired,
            });
            server.create(&SECRETS, "kube-system", token).unwrap();
            let ended = json!([{ "type": "Complete", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z" }]);
            let job = json!({
                "metadata": { "name": "j" }, "spec": { "ttlSecondsAfterFinished": 3600, "template": {} },
                "status": { "conditions": ended },
            });
            server.create(&JOBS, "default", job).unwrap();
            let lost = json!({ "metadata": { "name": "lost" }, "spec": { "nodeName": "gone", "containers": [] } });
            server.create(&PODS, "default", lost).unwrap();
        },
        arrived: |server| {
            let left =
                [&CERTIFICATE_SIGNING_REQUESTS, &SECRETS, &JOBS, &PODS].map(|resource| server.list(resource).count());
            assert_eq!(left, [0; 4]);
        },
        world: |cluster| cluster.patience = Duration::from_secs(2 * 24 * 3600),
        ..ROW
    },
    Row {
        name: "announced ends that do not come",
        of: &["stale-pod-disruption"],
        prepare: |server| {
            let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [], "nodeName": "n1" } });
            server.create(&PODS, "default", pod).unwrap();
        },
        changes: &[|server| {
            let now = server.now.to_string();
            server.edit(&PODS, "default", "p", |pod| {
                let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
                conditions.retain(|condition| condition["type"] != "DisruptionTarget");
                let told =
                    json!({ "type": "DisruptionTarget", "status": "True", "reason": "r", "lastTransitionTime": now });
                conditions.push(told);
            });
        }],
        arrived: |server| {
            let pod = server.get(&PODS, "default", "p").unwrap();
            let conditions = pod["status"]["conditions"].as_array().unwrap();
            let told = conditions.iter().filter(|condition| condition["type"] == "DisruptionTarget");
            told.for_each(|condition| assert_eq!(condition["status"], "False"));
        },
        world: |cluster| cluster.patience = Duration::from_secs(600),
        ..ROW
    },
];

/// What a [`WIDGETS`] object of this uid owns.
fn owned_by(uid: &str) -> String {
    format!("of-{uid}")
}

/// Makes an object of a custom kind that owns one which is watched by its metadata alone.
fn own(server: &mut Server) {
    let owner = server.create(&WIDGETS, "default", json!({ "metadata": { "generateName": "w-" } })).unwrap();
    let metadata = &owner["metadata"];
    let reference = json!({
        "apiVersion": WIDGETS.api_version(), "kind": WIDGETS.kind, "name": metadata["name"], "uid": metadata["uid"],
        "blockOwnerDeletion": true,
    });
    let name = owned_by(metadata["uid"].as_str().unwrap());
    let owned = json!({ "metadata": { "name": name, "ownerReferences": [reference] } });
    server.create(&CONFIG_MAPS, "default", owned).unwrap();
}

fn disown(server: &mut Server, how: Propagation) {
    let owner = server.list(&WIDGETS).next().map(|owner| name(owner).to_owned());
    if let Some(owner) = owner {
        server.delete(&WIDGETS, "default", &owner, how);
    }
}

/// The claim asks for so much, unless it has asked for more.
fn ask_for(server: &mut Server, size: &str) {
    server.edit(&PERSISTENT_VOLUME_CLAIMS, "default", "a", |claim| {
        let requests = &mut claim["spec"]["resources"]["requests"]["storage"];
        if gibibytes(requests) < gibibytes(&json!(size)) {
            *requests = json!(size);
        }
    });
}

fn gibibytes(quantity: &Value) -> u32 {
    quantity.as_str().unwrap().strip_suffix("Gi").unwrap().parse().unwrap()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn set(server: &mut Server, namespace: &str, replicas: usize) {
    let template = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": "one" }] },
    });
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": template });
    server.create(&REPLICA_SETS, namespace, json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap();
}

fn scale(server: &mut Server, replicas: usize) {
    server.edit(&REPLICA_SETS, "default", "web", |set| set["spec"]["replicas"] = json!(replicas));
}

fn service(server: &mut Server, name: &str, more: Value) {
    let mut spec = more;
    spec["ports"] = json!([{ "port": 80, "protocol": "TCP" }]);
    server.create(&SERVICES, "default", json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
}

fn point_to(server: &mut Server, addresses: &[&str]) {
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    server.edit(&ENDPOINTS, "default", "by-hand", |endpoints| endpoints["subsets"][0]["addresses"] = json!(addresses));
}

fn delete(server: &mut Server, namespace: &str) {
    server.delete_if_there(&NAMESPACES, "", namespace, Propagation::Background);
}

fn remove(server: &mut Server, how: Propagation) {
    server.delete_if_there(&REPLICA_SETS, "default", "web", how);
}

fn part(server: &mut Server, name: &str) {
    let rules = json!([{ "verbs": ["get"], "apiGroups": [""], "resources": [name] }]);
    let role = json!({ "metadata": { "name": name, "labels": { "to": "sum" } }, "rules": rules });
    // It may be there from before.
    let _ = server.create(&CLUSTER_ROLES, "", role);
}

fn volume(server: &mut Server, name: &str, size: &str) {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size }, "hostPath": { "path": "/x" },
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
    });
    let _ = server.create(&PERSISTENT_VOLUMES, "", json!({ "metadata": { "name": name }, "spec": spec }));
}

fn claim(server: &mut Server, name: &str, size: &str) {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": { "requests": { "storage": size } },
    });
    let _ = server.create(&PERSISTENT_VOLUME_CLAIMS, "default", json!({ "metadata": { "name": name }, "spec": spec }));
}
