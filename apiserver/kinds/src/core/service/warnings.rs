//! What a Service says that is allowed, and has no effect or soon none.

use super::validate::{TOPOLOGY_HINTS, TOPOLOGY_MODE};
use crate::field::Field;
use crate::rules;

pub fn warnings(service: &Field) -> Vec<String> {
    let mut warnings = Vec::new();
    if service.get("metadata").get("annotations").entries().any(|(name, _)| name == TOPOLOGY_HINTS) {
        warnings.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let spec = service.get("spec");
    let (type_, first, external) = (spec.get("type").text(), spec.get("clusterIP").text(), spec.get("externalIPs"));
    let (headless, is_name) = (type_ == "ClusterIP" && first == "None", type_ == "ExternalName");
    if !matches!(first, "" | "None") {
        warnings.extend(spec.get("clusterIPs").items().filter_map(|address| rules::ip_warning(&address)));
    }
    if headless {
        if !spec.get("loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.get("sessionAffinity").text() != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    warnings.extend(external.items().filter_map(|address| rules::ip_warning(&address)));
    if !external.is_empty() && !headless && !is_name {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    warnings.extend(rules::ip_warning(&spec.get("loadBalancerIP")));
    warnings.extend(spec.get("loadBalancerSourceRanges").items().filter_map(|range| rules::cidr_warning(&range)));
    if is_name && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_name && !spec.get("externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.get("trafficDistribution").text() == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::Value;

    use super::*;

    fn check(service: &str, expect: expect_test::Expect) {
        let service: Value = serde_saphyr::from_str(service).unwrap();
        expect.assert_eq(&warnings(&Field::root(&service)).join("\n"));
    }

    #[test]
    fn what_has_no_effect_is_named() {
        check(
            "{metadata: {name: s}, spec: {type: ClusterIP, clusterIP: 10.96.0.9, sessionAffinity: ClientIP}}",
            expect![""],
        );
        check(
            "{spec: {type: ClusterIP, clusterIP: None, sessionAffinity: ClientIP, externalIPs: [192.0.2.1], loadBalancerIP: 192.0.2.2}}",
            expect![[r#"
                spec.loadBalancerIP is ignored for headless services
                spec.externalIPs is ignored for headless services
                spec.SessionAffinity is ignored for headless services"#]],
        );
        check(
            "{spec: {type: LoadBalancer, clusterIP: 10.96.0.9, sessionAffinity: None, externalIPs: ['FD00::1'], \
             loadBalancerIP: 192.0.02.2, loadBalancerSourceRanges: [192.0.2.1/24]}}",
            expect![[r#"
                spec.externalIPs[0]: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")
                spec.externalIPs is deprecated and may no longer be implemented in some clusters
                spec.loadBalancerIP: non-standard IP address "192.0.02.2" will be considered invalid in a future Kubernetes release: use "192.0.2.2"
                spec.loadBalancerSourceRanges[0]: CIDR value "192.0.2.1/24" is ambiguous in this context (should be "192.0.2.0/24" or "192.0.2.1/32"?)"#]],
        );
        check(
            "{spec: {type: ExternalName, externalName: a.example, externalIPs: [192.0.2.1]}}",
            expect![[r#"spec.externalIPs is ignored when spec.type is "ExternalName""#]],
        );
        check(
            "{metadata: {annotations: {service.kubernetes.io/topology-aware-hints: auto}}, \
            spec: {type: NodePort, externalName: a.example, sessionAffinity: None, trafficDistribution: PreferClose}}",
            expect![[r#"
                annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead
                spec.externalName is ignored when spec.type is not "ExternalName"
                spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#]],
        );
    }
}
