use expect_test::{Expect, expect};
use serde_json::Value;

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
                - ip: "192.0.2.1"
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
        expect![[r#"
            clusterIP: ''
              "SingleStack" ["IPv4"] null
            clusterIP: 10.96.0.9
              "SingleStack" ["IPv4"] ["10.96.0.9"]
            clusterIP: None, selector: {a: b}
              "SingleStack" ["IPv4"] ["None"]
            clusterIP: None
              "RequireDualStack" ["IPv4","IPv6"] ["None"]
            clusterIP: None, ipFamilies: [IPv6]
              "RequireDualStack" ["IPv6","IPv4"] ["None"]
            clusterIP: None, ipFamilies: [IPv6], ipFamilyPolicy: SingleStack
              "SingleStack" ["IPv6"] ["None"]
            ipFamilyPolicy: PreferDualStack
              "PreferDualStack" ["IPv4"] null
            ipFamilies: [IPv6]
              spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
            clusterIP: None, selector: {a: b}, ipFamilies: [IPv6]
              spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
            ipFamilies: [IPv4, IPv6]
              spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
            ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack
              spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster
            ipFamilyPolicy: RequireDualStack
              spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            clusterIP: None, selector: {a: b}, ipFamilyPolicy: RequireDualStack
              spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
            ipFamilyPolicy: Both
              spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"
            ipFamilies: [IPv4, IPv4, IPv5]
              spec.ipFamilies[1]: Duplicate value: "IPv4"
              spec.ipFamilies[2]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"
            clusterIP: 'fd00::9'
              spec.clusterIPs[0]: Invalid value: ["fd00::9"]: IPv6 is not configured on this cluster
            clusterIP: 'fd00::9', ipFamilies: [IPv4]
              spec.clusterIPs[0]: Invalid value: "fd00::9": expected an IPv4 value as indicated by `ipFamilies[0]`
            clusterIP: nonsense
              spec.clusterIPs[0]: Invalid value: "nonsense": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            clusterIP: 010.96.0.9
              spec.clusterIPs[0]: Invalid value: "010.96.0.9": must not have leading 0s
            clusterIPs: [10.96.0.9]
              spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified
            clusterIP: 10.96.0.8, clusterIPs: [10.96.0.9]
              spec.clusterIPs: Invalid value: ["10.96.0.9"]: first value must match `clusterIP`
            clusterIP: None, clusterIPs: [None, 10.96.0.9]
              spec.clusterIPs: Invalid value: ["None","10.96.0.9"]: 'None' must be the first and only value
            clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 10.96.0.8, 10.96.0.7]
              spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8","10.96.0.7"]: may only hold up to 2 values
              spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8","10.96.0.7"]: may specify no more than one IP for each IP family
            clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00::9']
              spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified
              spec.clusterIPs[1]: Invalid value: ["10.96.0.9","fd00::9"]: IPv6 is not configured on this cluster
        "#]],
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
        expect![[r#"
            {ports: [{port: 0, nodePort: 30000}, {name: A, port: 80, protocol: X, targetPort: A_}, {name: b, port: 81}, {name: b, port: 81}]}
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            spec.ports[1].targetPort: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.ports[1].targetPort: Invalid value: "A_": must contain at least one letter (a-z)
            spec.ports[3].name: Duplicate value: "b"
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[3]: Duplicate value: {"AppProtocol":null,"Name":"","NodePort":0,"Port":81,"Protocol":"TCP","TargetPort":0}
            {ports: [{port: 80, appProtocol: ''}], selector: {'a b': c}, sessionAffinity: Odd}
            spec.ports[0].appProtocol: Invalid value: "": name part must be non-empty
            spec.ports[0].appProtocol: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.selector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            spec.sessionAffinity: Unsupported value: "Odd": supported values: "ClientIP", "None"
            {ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}
            spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400
            {ports: [{port: 80}], externalIPs: [127.0.0.1, 010.0.0.1, x, 192.0.2.1]}
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            spec.externalIPs[1]: Invalid value: "010.0.0.1": must not have leading 0s
            spec.externalIPs[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            {type: ExternalName}
            spec.externalName: Required value
            {type: ExternalName, externalName: A.}
            spec.externalName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            {type: ExternalName, externalName: a.b., clusterIP: 10.96.0.9, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}
            spec.clusterIPs: Forbidden: may not be set for ExternalName services
            spec.ipFamilies: Forbidden: may not be set for ExternalName services
            spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services
            {type: ExternalName, externalName: a.b, ports: [{port: 80, nodePort: 30080}]}
            {type: Odd}
            spec.ports: Required value
            spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
            {type: NodePort, clusterIP: None, ports: [{port: 80}]}
            spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services
            {type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}, {name: c, port: 80, protocol: UDP, nodePort: 30080}]}
            spec.ports[1].nodePort: Duplicate value: 30080
            {type: LoadBalancer, loadBalancerIP: anything, loadBalancerClass: 'a b', ports: [{port: 80}]}
            spec.loadBalancerClass: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            {type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8', 10.0.0.1/8, x], ports: [{port: 80}]}
            spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
            spec.LoadBalancerSourceRanges[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            {type: NodePort, loadBalancerSourceRanges: [10.0.0.0/8], loadBalancerClass: a/b, allocateLoadBalancerNodePorts: true, ports: [{port: 80}]}
            spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
            spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
            {externalTrafficPolicy: Local, healthCheckNodePort: 30080, ports: [{port: 80}]}
            spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services
            spec.healthCheckNodePort: Invalid value: 30080: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'
            {externalTrafficPolicy: Odd, internalTrafficPolicy: Odd, externalIPs: [192.0.2.1], ports: [{port: 80}]}
            spec.externalTrafficPolicy: Unsupported value: "Odd": supported values: "Cluster", "Local"
            spec.internalTrafficPolicy: Unsupported value: "Odd": supported values: "Cluster", "Local"
            {trafficDistribution: Odd, ports: [{port: 80}]}
            spec.trafficDistribution: Unsupported value: "Odd": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"
            {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30080, ports: [{port: 80, nodePort: 30080}]}
            spec.healthCheckNodePort: Invalid value: 30080: failed to allocate requested HealthCheck NodePort 30080: provided port is already allocated
        "#]],
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
        expect![[r#"
            service.kubernetes.io/topology-aware-hints: auto, service.kubernetes.io/topology-mode: other
            metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "other": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified
            service.beta.kubernetes.io/load-balancer-source-ranges: '10.0.0.0/8, x'
            metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer'
            metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
        "#]],
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
        expect![[r#"
            type: NodePort, ports: [{name: http, port: 8080}, {name: dns, port: 53}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":"http","nodePort":30080,"port":8080,"protocol":"TCP","targetPort":8080},{"name":"dns","nodePort":30053,"port":53,"protocol":"TCP","targetPort":53}],"type":"NodePort"}
            type: NodePort, ports: [{name: new, port: 80, nodePort: 30053}, {name: dns, port: 53}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"name":"new","nodePort":30053,"port":80,"protocol":"TCP","targetPort":80},{"name":"dns","port":53,"protocol":"TCP","targetPort":53}],"type":"NodePort"}
            type: ClusterIP, ports: [{port: 80}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
            type: ClusterIP, ports: [{port: 80, nodePort: 30080}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
            type: ClusterIP, ports: [{port: 80, nodePort: 30081}]
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            type: ClusterIP, clusterIP: 10.96.0.8, ports: [{port: 80}]
            spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set
            type: ClusterIP, clusterIP: 10.96.0.8, clusterIPs: [10.96.0.9], ports: [{port: 80}]
            spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set
            type: ClusterIP, clusterIP: None, ports: [{port: 80}]
            spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set
            type: ClusterIP, ipFamilies: [IPv6], ports: [{port: 80}]
            spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`
            type: ClusterIP, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"PreferDualStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
            type: ExternalName, externalName: a.b
            {"externalName":"a.b","type":"ExternalName"}
            type: ExternalName, externalName: a.b, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack
            {"externalName":"a.b","type":"ExternalName"}
            type: ExternalName, externalName: a.b, clusterIP: 10.96.0.8
            {"clusterIP":"10.96.0.8","externalName":"a.b","type":"ExternalName"}
        "#]],
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
        expect![[r#"
            type: LoadBalancer, loadBalancerClass: a/b, externalTrafficPolicy: Local, ports: [{port: 80}]
            {"allocateLoadBalancerNodePorts":true,"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalTrafficPolicy":"Local","healthCheckNodePort":30001,"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","loadBalancerClass":"a/b","ports":[{"nodePort":30080,"port":80,"protocol":"TCP","targetPort":80}],"type":"LoadBalancer"}
            type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]
            spec.loadBalancerClass: Invalid value: null: may not change once set
            type: LoadBalancer, loadBalancerClass: a/b, externalTrafficPolicy: Local, healthCheckNodePort: 30002, ports: [{port: 80}]
            spec.healthCheckNodePort: Forbidden: field is immutable
            type: LoadBalancer, loadBalancerClass: a/b, healthCheckNodePort: 30001, ports: [{port: 80}]
            {"allocateLoadBalancerNodePorts":true,"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","loadBalancerClass":"a/b","ports":[{"nodePort":30080,"port":80,"protocol":"TCP","targetPort":80}],"type":"LoadBalancer"}
            type: ClusterIP, loadBalancerClass: a/b, externalTrafficPolicy: Local, healthCheckNodePort: 30001, allocateLoadBalancerNodePorts: true, ports: [{port: 80, nodePort: 30080}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
            type: ClusterIP, loadBalancerClass: a/c, ports: [{port: 80}]
            spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'
        "#]],
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
        expect![[r#"
            clusterIP: None
            {"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack","type":"ClusterIP"}
            clusterIP: None, ipFamilies: [IPv4]
            spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family
            clusterIP: None, ipFamilies: [IPv4, IPv6], ipFamilyPolicy: SingleStack
            {"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","type":"ClusterIP"}
            clusterIP: None, ipFamilies: [IPv6, IPv4]
            {"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv6","IPv4"],"ipFamilyPolicy":"RequireDualStack","type":"ClusterIP"}
            clusterIP: 10.96.0.9, ports: [{port: 80}]
            spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        "#]],
    );
    let name = "type: ExternalName, externalName: a.b";
    check_all(
        &["ports: [{port: 80}]", "clusterIP: 10.96.0.9, ports: [{port: 80}]"],
        |new| changed(name, new),
        expect![[r#"
            ports: [{port: 80}]
            {"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
            clusterIP: 10.96.0.9, ports: [{port: 80}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"type":"ClusterIP"}
        "#]],
    );
}

#[test]
fn what_is_stored_may_stay() {
    let old = format!("{ADDRESS}, externalIPs: [010.0.0.1], ports: [{{port: 80}}]");
    check_all(
        &["externalIPs: [010.0.0.1], ports: [{port: 81}]", "externalIPs: [010.0.0.2], ports: [{port: 80}]"],
        |new| changed(&old, new),
        expect![[r#"
            externalIPs: [010.0.0.1], ports: [{port: 81}]
            {"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"externalIPs":["010.0.0.1"],"externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":81,"protocol":"TCP","targetPort":81}],"type":"ClusterIP"}
            externalIPs: [010.0.0.2], ports: [{port: 80}]
            spec.externalIPs[0]: Invalid value: "010.0.0.2": must not have leading 0s
        "#]],
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
        expect![[r#"
            {ip: 192.0.2.1, ipMode: Proxy}, {ip: 010.0.0.1, ipMode: VIP}
            {ip: 010.0.0.2, ipMode: VIP}, {ip: 192.0.2.1}, {hostname: a.b, ipMode: VIP}, {ip: 192.0.2.2, ipMode: Odd}
            status.loadBalancer.ingress[0].ip: Invalid value: "010.0.0.2": must not have leading 0s
            status.loadBalancer.ingress[1].ipMode: Required value: must be specified when `ip` is set
            status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set
            status.loadBalancer.ingress[3].ipMode: Unsupported value: "Odd": supported values: "Proxy", "VIP"
            {hostname: A}, {hostname: 192.0.2.1}
            status.loadBalancer.ingress[0].hostname: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            status.loadBalancer.ingress[1].hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address
        "#]],
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
