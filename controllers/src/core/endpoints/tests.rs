use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::EndpointsOfServices;
use crate::testing::{Bench, PODS, objects, text};
use crate::world::Change;

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: ns, name: web, labels: {{team: a}}}}\nspec: {spec}\n"
    )
}

fn check(yaml: &str, expect: Expect) {
    let mut bench = Bench::new(EndpointsOfServices::default(), yaml);
    expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:00:00Z")));
}

/// Conformance: "Endpoints, creation/deletion".
#[test]
fn ready_and_other_addresses_share_the_ports() {
    check(
        &(service("{selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}") + PODS),
        expect![[r#"
        create endpoints in ns: {"apiVersion":"v1","kind":"Endpoints","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller","team":"a"},"name":"web","namespace":"ns"},"subsets":[{"addresses":[{"hostname":"h","ip":"10.64.0.1","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}}],"notReadyAddresses":[{"ip":"10.64.0.2","nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}}],"ports":[{"port":8080,"protocol":"TCP"}]}]}
    "#]],
    );
}

#[test]
fn a_named_port_makes_a_subset_for_each_number() {
    check(
        &(service("{selector: {app: web}, ports: [{name: web, port: 80, targetPort: http}]}") + PODS),
        expect![[r#"
        create endpoints in ns: {"apiVersion":"v1","kind":"Endpoints","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller","team":"a"},"name":"web","namespace":"ns"},"subsets":[{"addresses":[{"hostname":"h","ip":"10.64.0.1","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}}],"ports":[{"name":"web","port":8080,"protocol":"TCP"}]},{"notReadyAddresses":[{"ip":"10.64.0.2","nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}}],"ports":[{"name":"web","port":9090,"protocol":"TCP"}]}]}
    "#]],
    );
}

#[test]
fn a_headless_service_may_publish_what_is_not_ready() {
    let spec = "{clusterIP: None, publishNotReadyAddresses: true, selector: {app: web}}";
    check(
        &(service(spec) + PODS),
        expect![[r#"
        create endpoints in ns: {"apiVersion":"v1","kind":"Endpoints","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:05Z"},"labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller","service.kubernetes.io/headless":"","team":"a"},"name":"web","namespace":"ns"},"subsets":[{"addresses":[{"hostname":"h","ip":"10.64.0.1","nodeName":"one","targetRef":{"kind":"Pod","name":"ready","namespace":"ns","uid":"ready-uid"}},{"ip":"10.64.0.2","nodeName":"one","targetRef":{"kind":"Pod","name":"starting","namespace":"ns","uid":"starting-uid"}},{"ip":"10.64.0.3","nodeName":"one","targetRef":{"kind":"Pod","name":"leaving","namespace":"ns","uid":"leaving-uid"}}]}]}
    "#]],
    );
}

/// Conformance: "Endpoints, "empty" Service".
#[test]
fn without_pods_there_are_no_subsets_and_without_selector_no_endpoints() {
    check(
        &service("{selector: {app: web}, ports: [{port: 80}]}"),
        expect![[r#"
        create endpoints in ns: {"apiVersion":"v1","kind":"Endpoints","metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2024-01-01T00:00:00Z"},"labels":{"endpoints.kubernetes.io/managed-by":"endpoint-controller","team":"a"},"name":"web","namespace":"ns"}}
    "#]],
    );
    check(&service("{ports: [{port: 80}]}"), expect![[""]]);
}

#[test]
fn what_is_right_is_left_and_what_lost_its_service_goes_if_it_was_ours() {
    let ours = "
---
apiVersion: v1
kind: Endpoints
metadata: {namespace: ns, name: web, labels: {endpoints.kubernetes.io/managed-by: endpoint-controller, team: a}}
";
    check(&(service("{selector: {app: web}, ports: [{port: 80}]}") + ours), expect![[""]]);
    check(
        ours,
        expect![[r#"
        delete endpoints ns/web at 1
    "#]],
    );
    check("{apiVersion: v1, kind: Endpoints, metadata: {namespace: ns, name: web}}", expect![[""]]);
}

#[test]
fn over_a_thousand_addresses_are_cut_and_said_to_be() {
    let mut yaml = service("{selector: {app: web}, ports: [{port: 80}]}");
    for n in 0..1_001 {
        let ip = format!("10.64.{}.{}", n / 250, n % 250);
        writeln!(yaml, "---\n{{apiVersion: v1, kind: Pod, metadata: {{namespace: ns, name: p{n}, labels: {{app: web}}}}, spec: {{containers: []}}, status: {{phase: Running, podIPs: [{{ip: {ip}}}]}}}}").unwrap();
    }
    let mut bench = Bench::new(EndpointsOfServices::default(), &yaml);
    let plan = text(&bench.reconcile("ns", "web", "2024-01-01T00:00:00Z"));
    assert_eq!(plan.matches("\"ip\":").count(), super::subsets::MAX_CAPACITY);
    assert!(plan.contains(r#""endpoints.kubernetes.io/over-capacity":"truncated""#));
}

#[test]
fn endpoints_made_by_hand_go_with_their_service_and_not_before() {
    let by_hand = "---\n{apiVersion: v1, kind: Endpoints, metadata: {namespace: ns, name: web}}\n";
    let mut bench = Bench::new(EndpointsOfServices::default(), &(service("{ports: [{port: 80}]}") + by_hand));
    let plan = |bench: &mut Bench<_>| text(&bench.reconcile("ns", "web", "2024-01-01T00:00:00Z"));
    assert_eq!(plan(&mut bench), "");
    let gone = objects(&service("{ports: [{port: 80}]}")).remove(0);
    assert!(bench.wakes(Change::WatchedGone(gone)));
    assert_eq!(plan(&mut bench), "delete endpoints ns/web at 2\n");
    assert!(bench.wakes(Change::WatchedGone(objects(by_hand.trim_start_matches("---")).remove(0))));
    assert_eq!(plan(&mut bench), "");
    let again = by_hand.trim_start_matches("---").replace("name: web", "name: web, uid: again, resourceVersion: '9'");
    assert!(bench.wakes(Change::Watched(objects(&again).remove(0))));
    assert_eq!(plan(&mut bench), "", "these never had a Service");
}

/// Endpoints `web` with these labels and annotations, which have the address of the pod `ready`.
fn endpoints(labels: &str, annotations: &str) -> String {
    let target = "targetRef: {kind: Pod, namespace: ns, name: ready, uid: ready-uid}";
    let address = format!("{{ip: 10.64.0.1, nodeName: one, hostname: h, {target}}}");
    format!(
        "---
apiVersion: v1
kind: Endpoints
metadata: {{namespace: ns, name: web, labels: {labels}, annotations: {annotations}}}
subsets: [{{addresses: [{address}], ports: [{{port: 8080, protocol: TCP}}]}}]
"
    )
}

#[test]
fn endpoints_follow_their_service_in_labels_and_addresses() {
    let ready = PODS.split_inclusive("---").nth(1).unwrap().trim_end_matches("---");
    let plan = |spec: &str, endpoints: &str| {
        let yaml = format!("{}---{ready}{endpoints}", service(spec));
        text(&Bench::new(EndpointsOfServices::default(), &yaml).reconcile("ns", "web", "2024-01-01T00:00:00Z"))
    };
    let ours = "endpoints.kubernetes.io/managed-by: endpoint-controller";
    let (cluster, headless) = ("ports: [{port: 8080}]", "clusterIP: None, ports: [{port: 8080}]");
    let [cluster, headless] = [cluster, headless].map(|spec| format!("{{selector: {{app: web}}, {spec}}}"));
    let right = format!("{{team: a, {ours}}}");
    assert_eq!(plan(&cluster, &endpoints(&right, "{}")), "");
    assert_eq!(plan(&cluster, &endpoints(&right, "{other: kept}")), "");
    let is_headless = format!("{{team: a, service.kubernetes.io/headless: '', {ours}}}");
    assert_eq!(plan(&headless, &endpoints(&is_headless, "{}")), "");
    for (spec, labels, annotations) in [
        (&headless, &right, "{}"),
        (&cluster, &is_headless, "{}"),
        (&cluster, &format!("{{team: b, {ours}}}"), "{}"),
        (&cluster, &"{team: a}".to_owned(), "{}"),
        (&cluster, &right, "{endpoints.kubernetes.io/over-capacity: truncated}"),
        (&cluster.replace("8080", "8081"), &right, "{}"),
        (&cluster.replace("app: web", "app: none"), &right, "{}"),
    ] {
        let plan = plan(spec, &endpoints(labels, annotations));
        assert!(plan.starts_with("update endpoints ns/web") && !plan.contains("truncated"), "{spec} {labels}: {plan}");
    }
    assert_eq!(plan("{type: ExternalName, externalName: a.b, selector: {app: web}}", &endpoints(&right, "{}")), "");
}
