//! What a Service says that is allowed, and has no effect or soon none.

use crate::field::Field;

/// The annotation that `service.kubernetes.io/topology-mode` stands in for.
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

pub fn warnings(service: &Field) -> Vec<String> {
    let mut warnings = Vec::new();
    if service.get("metadata").get("annotations").entries().any(|(name, _)| name == TOPOLOGY_HINTS) {
        warnings.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let spec = service.get("spec");
    let type_ = spec.get("type").text();
    if type_ == "ClusterIP" && spec.get("clusterIP").text() == "None" {
        if !spec.get("loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !spec.get("externalIPs").is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.get("sessionAffinity").text() != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    let is_name = type_ == "ExternalName";
    if is_name && !spec.get("externalIPs").is_empty() {
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
