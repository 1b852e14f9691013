use expect_test::{Expect, expect};

use super::EndpointSlices;
use crate::testing::{Bench, PODS, text};

fn check(service: &str, pods: &str, expect: Expect) {
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web, labels: {{team: a}}}}\nspec: {service}\n"
    );
    let mut bench = Bench::new(EndpointSlices, &(service + pods));
    expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:00:00Z")));
}

/// Conformance: "EndpointSlice, creation/deletion"; "EndpointSlice, single IP, multiple ports".
#[test]
fn a_number_makes_one_slice_of_all_pods() {
    check(
        "{selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}",
        PODS,
        expect![[r#"
        create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.64.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true},"nodeName":"one","targetRef":{"kind":"Pod","name":"leaving","namespace":"ns","uid":"leaving-uid"}},{"addresses":["10.64.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"hostname":"h","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}},{"addresses":["10.64.0.2"],"conditions":{"ready":false,"serving":false,"terminating":false},"nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}}],"kind":"EndpointSlice","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web-uid"}]},"ports":[{"name":"","port":8080,"protocol":"TCP"}]}
    "#]],
    );
}

/// Conformance: "EndpointSlice, multiple IPs, multiple ports".
#[test]
fn a_named_port_makes_a_slice_for_each_number() {
    check(
        "{selector: {app: web}, ports: [{name: web, port: 80, targetPort: http}]}",
        PODS,
        expect![[r#"
        create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.64.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true},"nodeName":"one","targetRef":{"kind":"Pod","name":"leaving","namespace":"ns","uid":"leaving-uid"}},{"addresses":["10.64.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"hostname":"h","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}}],"kind":"EndpointSlice","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web-uid"}]},"ports":[{"name":"web","port":8080,"protocol":"TCP"}]}
        create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.64.0.2"],"conditions":{"ready":false,"serving":false,"terminating":false},"nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}}],"kind":"EndpointSlice","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web-uid"}]},"ports":[{"name":"web","port":9090,"protocol":"TCP"}]}
    "#]],
    );
}

#[test]
fn a_headless_service_may_publish_what_is_not_ready() {
    let service = "{clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}}";
    check(
        service,
        PODS,
        expect![[r#"
        create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["10.64.0.3"],"conditions":{"ready":true,"serving":true,"terminating":true},"nodeName":"one","targetRef":{"kind":"Pod","name":"leaving","namespace":"ns","uid":"leaving-uid"}},{"addresses":["10.64.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"hostname":"h","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}},{"addresses":["10.64.0.2"],"conditions":{"ready":true,"serving":false,"terminating":false},"nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}}],"kind":"EndpointSlice","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","service.kubernetes.io/headless":"","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web-uid"}]},"ports":[]}
    "#]],
    );
}

/// Conformance: "EndpointSlice, "empty" Service".
#[test]
fn a_service_without_pods_says_so_and_one_without_selector_is_left_alone() {
    check(
        "{selector: {app: web}, ports: [{port: 80}]}",
        "",
        expect![[r#"
        create endpointslices in ns: {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[],"kind":"EndpointSlice","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:00Z"},"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"web-uid"}]},"ports":[]}
    "#]],
    );
    check("{ports: [{port: 80}]}", PODS, expect![]);
    check("{type: ExternalName, externalName: example.com, selector: {app: web}}", PODS, expect![]);
}

/// The hints of each endpoint, by address, and what is said about them.
fn hints(service: &str, nodes: &str) -> String {
    let placed = |name: &str, address: u8, node: &str| {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: {name}, labels: {{app: web}}}}
spec: {{nodeName: {node}, containers: []}}
status: {{phase: Running, podIPs: [{{ip: 10.64.0.{address}}}], conditions: [{{type: Ready, status: 'True'}}]}}
"
        )
    };
    let pods = [placed("p1", 1, "a1"), placed("p2", 2, "a1"), placed("p3", 3, "a2"), placed("p4", 4, "b1")].concat();
    let service = format!("---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web{service}\n");
    let plan = Bench::new(EndpointSlices, &(service + &pods + nodes)).reconcile("ns", "web", "2024-01-01T00:00:00Z");
    let mut lines: Vec<String> = plan.notes.iter().map(|note| format!("{}: {}", note.reason, note.message)).collect();
    let Some(crate::plan::Step::Create { object, .. }) = plan.steps.first() else { panic!("{}", text(&plan)) };
    for endpoint in object["endpoints"].as_array().unwrap() {
        lines.push(format!("{} {}", endpoint["addresses"][0], endpoint["hints"]));
    }
    lines.join("\n")
}

#[test]
fn endpoints_are_hinted_at_as_the_service_prefers() {
    let node = |name: &str, zone: &str, cpu: u8| {
        format!(
            "---
apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{{zone}}}}}
status: {{allocatable: {{cpu: {cpu}}}, conditions: [{{type: Ready, status: 'True'}}]}}
"
        )
    };
    let zone = |zone: &str| format!("topology.kubernetes.io/zone: {zone}");
    let nodes = [node("a1", &zone("a"), 2), node("a2", &zone("a"), 2), node("b1", &zone("b"), 4)].concat();
    let spec = |more: &str| format!("}}\nspec: {{selector: {{app: web}}, ports: [{{port: 80}}]{more}}}");
    expect![[r#"
        "10.64.0.1" null
        "10.64.0.2" null
        "10.64.0.3" null
        "10.64.0.4" null"#]]
    .assert_eq(&hints(&spec(""), &nodes));
    expect![[r#"
        "10.64.0.1" {"forZones":[{"name":"a"}]}
        "10.64.0.2" {"forZones":[{"name":"a"}]}
        "10.64.0.3" {"forZones":[{"name":"a"}]}
        "10.64.0.4" {"forZones":[{"name":"b"}]}"#]]
    .assert_eq(&hints(&spec(", trafficDistribution: PreferSameZone"), &nodes));
    expect![[r#"
        "10.64.0.1" {"forNodes":[{"name":"a1"}],"forZones":[{"name":"a"}]}
        "10.64.0.2" {"forNodes":[{"name":"a1"}],"forZones":[{"name":"a"}]}
        "10.64.0.3" {"forNodes":[{"name":"a2"}],"forZones":[{"name":"a"}]}
        "10.64.0.4" {"forNodes":[{"name":"b1"}]}"#]]
    .assert_eq(&hints(&spec(", trafficDistribution: PreferSameNode"), &nodes.replace(&zone("b"), "")));
    let auto = format!(", annotations: {{service.kubernetes.io/topology-mode: Auto}}{}", spec(""));
    expect![[r#"
        TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4
        "10.64.0.1" {"forZones":[{"name":"b"}]}
        "10.64.0.2" {"forZones":[{"name":"a"}]}
        "10.64.0.3" {"forZones":[{"name":"a"}]}
        "10.64.0.4" {"forZones":[{"name":"b"}]}"#]]
    .assert_eq(&hints(&auto, &nodes));
    expect![[r#"
        TopologyAwareHintsDisabled: Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4
        "10.64.0.1" null
        "10.64.0.2" null
        "10.64.0.3" null
        "10.64.0.4" null"#]]
    .assert_eq(&hints(&auto, &nodes.replace(&zone("b"), "")));
}

/// A slice of the Service `web`, which belongs to the object of this uid and has no endpoints.
fn slice(name: &str, owner: &str, labels: &str) -> String {
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  namespace: ns
  name: {name}
  labels: {{kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io, {labels}}}
  ownerReferences: [{{apiVersion: v1, kind: Service, name: web, uid: {owner}, controller: true}}]
addressType: IPv4
ports: []
endpoints: []
"
    )
}

/// The verbs of the plan, and the names of what is not new.
fn steps(service: &str, more: &str) -> Vec<String> {
    let service = format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web, {service}\n");
    let plan = text(&Bench::new(EndpointSlices, &(service + more)).reconcile("ns", "web", "2024-01-01T00:00:00Z"));
    let words = |line: &str| {
        line.split([' ', ':']).filter(|word| *word != "endpointslices").take(2).collect::<Vec<_>>().join(" ")
    };
    plan.lines().map(words).collect()
}

const EMPTY: &str = "labels: {team: a}}\nspec: {selector: {app: web}, ports: [{port: 80}]}";

#[test]
fn slices_of_an_earlier_service_of_the_name_are_replaced() {
    assert_eq!(steps(EMPTY, &slice("s", "web-uid", "team: a")), Vec::<String>::new());
    assert_eq!(steps(EMPTY, &slice("s", "earlier", "team: a")), ["create in", "delete ns/s"]);
    let others = slice("s", "earlier", "team: a").replace("endpointslice-controller.k8s.io", "example.com");
    assert_eq!(steps(EMPTY, &others), ["create in"], "others' slices are theirs");
    let leaving =
        slice("s", "web-uid", "team: a").replace("name: s\n", "name: s\n  deletionTimestamp: 2024-01-01T00:00:00Z\n");
    assert_eq!(steps(EMPTY, &leaving), ["create in"]);
    let going = EMPTY.replace("labels:", "deletionTimestamp: 2024-01-01T00:00:00Z, labels:");
    assert_eq!(
        steps(&going, &slice("s", "web-uid", "team: a")),
        Vec::<String>::new(),
        "a Service that goes takes them along"
    );
}

#[test]
fn slices_have_their_services_labels_but_for_those_that_say_whose_they_are() {
    assert_eq!(steps(EMPTY, &slice("s", "web-uid", "team: b")), ["update ns/s"]);
    assert_eq!(steps(EMPTY, &slice("s", "web-uid", "team: a, more: b")), ["update ns/s"]);
    let labels = |service: &str| {
        let yaml = format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web, {service}\n");
        let plan = Bench::new(EndpointSlices, &yaml).reconcile("ns", "web", "2024-01-01T00:00:00Z");
        let Some(crate::plan::Step::Create { object, .. }) = plan.steps.first() else { panic!("{}", text(&plan)) };
        object["metadata"]["labels"].to_string()
    };
    let evil = EMPTY.replace(
        "team: a",
        "kubernetes.io/service-name: other, endpointslice.kubernetes.io/managed-by: me, service.kubernetes.io/headless: x",
    );
    expect![[r#"{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web"}"#]]
        .assert_eq(&labels(&evil));
    expect![[r#"{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","service.kubernetes.io/headless":"","team":"a"}"#]]
        .assert_eq(&labels(&EMPTY.replace("spec: {", "spec: {clusterIP: None, ")));
}

#[test]
fn a_slice_is_of_one_family_and_has_the_pods_address_of_it() {
    let pods = "---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: both, labels: {app: web}}
spec: {containers: []}
status: {phase: Running, podIP: 10.64.0.1, podIPs: [{ip: 10.64.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: four, labels: {app: web}}
spec: {containers: []}
status: {phase: Running, podIP: 10.64.0.2, podIPs: [{ip: 10.64.0.2}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: none, labels: {app: web}}
spec: {containers: []}
status: {phase: Running}
";
    let addresses = |families: &str| {
        let spec =
            format!("{{selector: {{app: web}}, ports: [{{port: 80, appProtocol: http}}], ipFamilies: [{families}]}}");
        let yaml =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web}}\nspec: {spec}\n{pods}");
        let plan = Bench::new(EndpointSlices, &yaml).reconcile("ns", "web", "2024-01-01T00:00:00Z");
        let made = plan.steps.iter().map(|step| match step {
            crate::plan::Step::Create { object, .. } => {
                let endpoints = object["endpoints"].as_array().unwrap();
                let mut addresses: Vec<&str> = endpoints.iter().map(|e| e["addresses"][0].as_str().unwrap()).collect();
                addresses.sort_unstable();
                assert_eq!(object["ports"][0]["appProtocol"], "http");
                format!("{}: {}", object["addressType"].as_str().unwrap(), addresses.join(" "))
            }
            _ => panic!("{}", text(&plan)),
        });
        made.collect::<Vec<_>>()
    };
    assert_eq!(addresses("IPv4"), ["IPv4: 10.64.0.1 10.64.0.2"]);
    assert_eq!(addresses("IPv6"), ["IPv6: fd00::1"]);
    assert_eq!(addresses("IPv6, IPv4"), ["IPv6: fd00::1", "IPv4: 10.64.0.1 10.64.0.2"]);
    assert_eq!(addresses(""), ["IPv4: 10.64.0.1 10.64.0.2"]);
    assert_eq!(
        steps(
            "labels: {team: a}}\nspec: {selector: {app: web}, ports: [{port: 80}], ipFamilies: [IPv6]}",
            &slice("s", "web-uid", "")
        ),
        ["create in", "delete ns/s"],
        "a family that the Service has no longer"
    );
}

#[test]
fn an_endpoint_is_ready_serving_or_terminating() {
    // Whether it publishes what is not ready; whether the pod is ready and is being deleted.
    let cases = [
        (false, true, false, "true true false"),
        (false, false, false, "false false false"),
        (true, true, false, "true true false"),
        (true, false, false, "true false false"),
        (false, true, true, "false true true"),
        (false, false, true, "false false true"),
        (true, false, true, "true false true"),
    ];
    for (publishes, ready, leaving, expected) in cases {
        let leaving = if leaving { ", deletionTimestamp: 2024-01-01T00:00:00Z" } else { "" };
        let ready = if ready { "conditions: [{type: Ready, status: 'True'}]" } else { "" };
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web}}\n\
             spec: {{selector: {{app: web}}, ports: [{{port: 80}}], publishNotReadyAddresses: {publishes}}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p, labels: {{app: web}}{leaving}}}\n\
             spec: {{containers: []}}\nstatus: {{phase: Running, podIPs: [{{ip: 10.64.0.1}}], {ready}}}\n"
        );
        let plan = Bench::new(EndpointSlices, &yaml).reconcile("ns", "web", "2024-01-01T00:00:00Z");
        let Some(crate::plan::Step::Create { object, .. }) = plan.steps.first() else { panic!("{}", text(&plan)) };
        let conditions = &object["endpoints"][0]["conditions"];
        let found = ["ready", "serving", "terminating"].map(|name| conditions[name].to_string()).join(" ");
        assert_eq!(found, expected, "publishes: {publishes}; {ready}{leaving}");
    }
}
