use expect_test::{Expect, expect};
use serde_json::Value;

use crate::kind::Strategy;
use crate::testing::{check_default, check_row, kind, updated, yaml};

/// What a new Service with this spec is told.
fn created(spec: &str) -> String {
    let kind = kind("services");
    let mut service = yaml(&format!("{{metadata: {{name: a, namespace: b}}, spec: {spec}}}"));
    kind.schema().default(&mut service);
    kind.strategy.default(&mut service);
    kind.strategy.prepare_for_create(&mut service);
    kind.strategy.validate(&service).iter().map(|error| format!("{error}\n")).collect()
}

fn check_all(rows: &[&str], of: impl Fn(&str) -> String, expected: Expect) {
    let lines: String = rows.iter().map(|row| format!("{row}\n{}", of(row))).collect();
    expected.assert_eq(&lines);
}

#[test]
fn defaults() {
    check_default(
        "services",
        "{spec: {selector: {a: b}, ports: [{port: 80}]}}",
        expect![[r#"
            metadata: {}
            spec:
              internalTrafficPolicy: Cluster
              ports:
              - port: 80
                protocol: TCP
                targetPort: 80
              selector:
                a: b
              sessionAffinity: None
              type: ClusterIP
            status:
              loadBalancer: {}
        "#]],
    );
    check_default(
        "services",
        "{spec: {type: LoadBalancer, clusterIP: None, sessionAffinity: ClientIP}, \
         status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: a}]}}}",
        expect![[r#"
            metadata: {}
            spec:
              allocateLoadBalancerNodePorts: true
              clusterIP: None
              externalTrafficPolicy: Cluster
              internalTrafficPolicy: Cluster
              sessionAffinity: ClientIP
              sessionAffinityConfig:
                clientIP:
                  timeoutSeconds: 10800
              type: LoadBalancer
            status:
              loadBalancer:
                ingress:
                - ip: 192.0.2.1
                  ipMode: VIP
                - hostname: a
        "#]],
    );
    check_default(
        "services",
        "{spec: {type: ExternalName, externalName: a.b}}",
        expect![[r#"
            metadata: {}
            spec:
              externalName: a.b
              sessionAffinity: None
              type: ExternalName
            status:
              loadBalancer: {}
        "#]],
    );
}

/// Families and policy of a new Service, and what is said of them.
#[test]
fn families_of_a_new_service() {
    let of = |spec: &str| {
        let kind = kind("services");
        let mut service =
            yaml(&format!("{{metadata: {{name: a, namespace: b}}, spec: {{ports: [{{port: 80}}], {spec}}}}}"));
        kind.strategy.default(&mut service);
        kind.strategy.prepare_for_create(&mut service);
        let errors: String = kind.strategy.validate(&service).iter().map(|error| format!("  {error}\n")).collect();
        let spec = &service["spec"];
        match errors.is_empty() {
            true => format!("  {} {} {}\n", spec["ipFamilyPolicy"], spec["ipFamilies"], spec["clusterIPs"]),
            false => errors,
        }
    };
    check_all(
        &[
            "clusterIP: ''",
            "clusterIP: 10.96.0.9",
            "clusterIP: None, selector: {a: b}",
            "clusterIP: None",
            "clusterIP: None, ipFamilies: [IPv6]",
            "clusterIP: None, ipFamilies: [IPv6], ipFamilyPolicy: SingleStack",
            "ipFamilyPolicy: PreferDualStack",
            "ipFamilies: [IPv6]",
            "clusterIP: None, selector: {a: b}, ipFamilies: [IPv6]",
            "ipFamilies: [IPv4, IPv6]",
            "ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack",
            "ipFamilyPolicy: RequireDualStack",
            "clusterIP: None, selector: {a: b}, ipFamilyPolicy: RequireDualStack",
            "ipFamilyPolicy: Both",
            "ipFamilies: [IPv4, IPv4, IPv5]",
            "clusterIP: 'fd00::9'",
            "clusterIP: 'fd00::9', ipFamilies: [IPv4]",
            "clusterIP: nonsense",
            "clusterIP: 010.96.0.9",
            "clusterIPs: [10.96.0.9]",
            "clusterIP: 10.96.0.8, clusterIPs: [10.96.0.9]",
            "clusterIP: None, clusterIPs: [None, 10.96.0.9]",
            "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 10.96.0.8, 10.96.0.7]",
            "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00::9']",
        ],
        of,
        expect![[r#""#]],
    );
}

#[test]
fn rules() {
    check_all(
        &[
            "{ports: [{port: 0, nodePort: 30000}, {name: A, port: 80, protocol: X, targetPort: A_}, {name: b, port: 81}, {name: b, port: 81}]}",
            "{ports: [{port: 80, appProtocol: ''}], selector: {'a b': c}, sessionAffinity: Odd}",
            "{ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}",
            "{ports: [{port: 80}], externalIPs: [127.0.0.1, 010.0.0.1, x, 192.0.2.1]}",
            "{type: ExternalName}",
            "{type: ExternalName, externalName: A.}",
            "{type: ExternalName, externalName: a.b., clusterIP: 10.96.0.9, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}",
            "{type: ExternalName, externalName: a.b, ports: [{port: 80, nodePort: 30080}]}",
            "{type: Odd}",
            "{type: NodePort, clusterIP: None, ports: [{port: 80}]}",
            "{type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}, {name: c, port: 80, protocol: UDP, nodePort: 30080}]}",
            "{type: LoadBalancer, loadBalancerIP: anything, loadBalancerClass: 'a b', ports: [{port: 80}]}",
            "{type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8', 10.0.0.1/8, x], ports: [{port: 80}]}",
            "{type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8], loadBalancerClass: a/b, allocateLoadBalancerNodePorts: true, ports: [{port: 80}]}",
            "{externalTrafficPolicy: Local, healthCheckNodePort: 30080, ports: [{port: 80}]}",
            "{externalTrafficPolicy: Odd, internalTrafficPolicy: Odd, externalIPs: [192.0.2.1], ports: [{port: 80}]}",
            "{trafficDistribution: Odd, ports: [{port: 80}]}",
            "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30080, ports: [{port: 80, nodePort: 30080}]}",
        ],
        created,
        expect![[r#""#]],
    );
}

#[test]
fn annotations() {
    let of = |more: &str| {
        let service = yaml(&format!("{{metadata: {{name: a, annotations: {{{more}}}}}}}"));
        let mut service = service;
        service["spec"] = yaml(
            "{type: ClusterIP, sessionAffinity: None, internalTrafficPolicy: Cluster, ports: [{port: 80, targetPort: 80, protocol: TCP}]}",
        );
        kind("services").strategy.validate(&service).iter().map(|error| format!("{error}\n")).collect::<String>()
    };
    check_all(
        &[
            "service.kubernetes.io/topology-aware-hints: auto, service.kubernetes.io/topology-mode: other",
            "service.beta.kubernetes.io/load-balancer-source-ranges: '10.0.0.0/8, x'",
        ],
        of,
        expect![[r#""#]],
    );
}

const ADDRESS: &str = "clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, internalTrafficPolicy: Cluster";

fn service(spec: &str) -> String {
    format!("{{metadata: {{name: a, namespace: b, resourceVersion: '1'}}, spec: {{{spec}}}}}")
}

/// The changed spec of an update, or what is wrong with it.
fn changed(old: &str, new: &str) -> String {
    let kind = kind("services");
    let (old, mut after) = (service(old), yaml(&service(new)));
    let errors = updated("services", &old, &service(new));
    if !errors.is_empty() {
        return errors;
    }
    let mut old = yaml(&old);
    for service in [&mut old, &mut after] {
        kind.schema().default(service);
        kind.strategy.default(service);
    }
    kind.strategy.prepare_for_update(&mut after, &old);
    let spec = after["spec"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "sessionAffinity" | "internalTrafficPolicy" | "selector"));
    format!(
        "{}\n",
        Value::from(spec.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>())
    )
}

#[test]
fn updates_keep_what_was_claimed() {
    let old = format!(
        "type: NodePort, {ADDRESS}, ports: [{{name: http, port: 80, nodePort: 30080}}, {{name: dns, port: 53, nodePort: 30053}}]"
    );
    check_all(
        &[
            "type: NodePort, ports: [{name: http, port: 8080}, {name: dns, port: 53}]",
            "type: NodePort, ports: [{name: new, port: 80, nodePort: 30053}, {name: dns, port: 53}]",
            "type: ClusterIP, ports: [{port: 80}]",
            "type: ClusterIP, ports: [{port: 80, nodePort: 30080}]",
            "type: ClusterIP, ports: [{port: 80, nodePort: 30081}]",
            "type: ClusterIP, clusterIP: 10.96.0.8, ports: [{port: 80}]",
            "type: ClusterIP, clusterIP: 10.96.0.8, clusterIPs: [10.96.0.9], ports: [{port: 80}]",
            "type: ClusterIP, clusterIP: None, ports: [{port: 80}]",
            "type: ClusterIP, ipFamilies: [IPv6], ports: [{port: 80}]",
            "type: ClusterIP, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]",
            "type: ExternalName, externalName: a.b",
            "type: ExternalName, externalName: a.b, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack",
            "type: ExternalName, externalName: a.b, clusterIP: 10.96.0.8",
        ],
        |new| changed(&old, new),
        expect![[r#""#]],
    );
}

#[test]
fn updates_of_balancers() {
    let old = format!(
        "type: LoadBalancer, {ADDRESS}, allocateLoadBalancerNodePorts: true, loadBalancerClass: a/b, externalTrafficPolicy: Local, \
         healthCheckNodePort: 30001, ports: [{{port: 80, nodePort: 30080}}]"
    );
    check_all(
        &[
            "type: LoadBalancer, loadBalancerClass: a/b, externalTrafficPolicy: Local, ports: [{port: 80}]",
            "type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]",
            "type: LoadBalancer, loadBalancerClass: a/b, externalTrafficPolicy: Local, healthCheckNodePort: 30002, ports: [{port: 80}]",
            "type: LoadBalancer, loadBalancerClass: a/b, healthCheckNodePort: 30001, ports: [{port: 80}]",
            "type: ClusterIP, loadBalancerClass: a/b, externalTrafficPolicy: Local, healthCheckNodePort: 30001, \
             allocateLoadBalancerNodePorts: true, ports: [{port: 80, nodePort: 30080}]",
            "type: ClusterIP, loadBalancerClass: a/c, ports: [{port: 80}]",
        ],
        |new| changed(&old, new),
        expect![[r#""#]],
    );
}

#[test]
fn updates_of_services_without_addresses() {
    let old = "clusterIP: None, clusterIPs: [None], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack";
    check_all(
        &[
            "clusterIP: None",
            "clusterIP: None, ipFamilies: [IPv4]",
            "clusterIP: None, ipFamilies: [IPv4, IPv6], ipFamilyPolicy: SingleStack",
            "clusterIP: None, ipFamilies: [IPv6, IPv4]",
            "clusterIP: 10.96.0.9, ports: [{port: 80}]",
        ],
        |new| changed(old, new),
        expect![[r#""#]],
    );
    let name = "type: ExternalName, externalName: a.b";
    check_all(
        &["ports: [{port: 80}]", "clusterIP: 10.96.0.9, ports: [{port: 80}]"],
        |new| changed(name, new),
        expect![[r#""#]],
    );
}

#[test]
fn what_is_stored_may_stay() {
    let old = format!("{ADDRESS}, externalIPs: [010.0.0.1], ports: [{{port: 80}}]");
    check_all(
        &["externalIPs: [010.0.0.1], ports: [{port: 81}]", "externalIPs: [010.0.0.2], ports: [{port: 80}]"],
        |new| changed(&old, new),
        expect![[r#""#]],
    );
}

#[test]
fn statuses() {
    let of = |points: &str| {
        let status = |points: &str| {
            yaml(&format!("{{spec: {{type: LoadBalancer}}, status: {{loadBalancer: {{ingress: [{points}]}}}}}}"))
        };
        let (new, old) = (status(points), status("{ip: 010.0.0.1, ipMode: VIP}"));
        kind("services")
            .strategy
            .validate_status_update(&new, &old)
            .iter()
            .map(|e| format!("{e}\n"))
            .collect::<String>()
    };
    check_all(
        &[
            "{ip: 192.0.2.1, ipMode: Proxy}, {ip: 010.0.0.1, ipMode: VIP}",
            "{ip: 010.0.0.2, ipMode: VIP}, {ip: 192.0.2.1}, {hostname: a.b, ipMode: VIP}, {ip: 192.0.2.2, ipMode: Odd}",
            "{hostname: A}, {hostname: 192.0.2.1}",
        ],
        of,
        expect![[r#""#]],
    );
    let cluster_ip = yaml("{spec: {type: ClusterIP}, status: {loadBalancer: {ingress: [{hostname: a}]}}}");
    let errors = kind("services").strategy.validate_status_update(&cluster_ip, &Value::Null);
    expect!["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
        .assert_eq(&errors[0].to_string());
}

#[test]
fn a_service_that_is_no_balancer_any_more_has_no_address_of_one() {
    let strategy = &kind("services").strategy;
    let mut new = yaml("{spec: {type: ClusterIP}}");
    strategy.prepare_for_update(
        &mut new,
        &yaml("{spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}"),
    );
    assert_eq!(new["status"], yaml("{loadBalancer: {}}"));
}

#[test]
fn rows() {
    check_row(
        "services",
        "{metadata: {name: a}, spec: {type: NodePort, clusterIP: 10.96.0.9, selector: {a: b}, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]}}",
        expect![
            "Name=a | Type=NodePort | Cluster-IP=10.96.0.9 | External-IP=<none> | Port(s)=80:30080/TCP,53/UDP | Age=<unknown> | Selector=a=b"
        ],
    );
    check_row(
        "services",
        "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: None}}",
        expect![
            "Name=a | Type=LoadBalancer | Cluster-IP=None | External-IP=<pending> | Port(s)=<none> | Age=<unknown> | Selector=<none>"
        ],
    );
}
