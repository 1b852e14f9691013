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
