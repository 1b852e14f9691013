//! NetworkPolicy: which connections pods may have.

use serde_json::{Value, json};

use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list};
use crate::{addresses, rules};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.networking.v1.NetworkPolicy";
    KindDef::builtin("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", schema)
        .short_names(&["netpol"])
        .columns(vec![
            Column::name(),
            Column::text("Pod-Selector", |policy, _| template::selector(get(policy, &["spec", "podSelector"])).into())
                .describe("Selects the pods to which this NetworkPolicy object applies."),
            Column::age(),
        ])
        .strategy(NetworkPolicy)
}

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, policy: &mut Value) {
        for direction in ["ingress", "egress"] {
            for rule in object::list_mut(policy, &["spec", direction]) {
                for port in object::list_mut(rule, &["ports"]).iter_mut().filter_map(Value::as_object_mut) {
                    object::set_default_text(port, "protocol", "TCP");
                }
            }
        }
        let types = list(policy, &["spec", "policyTypes"]).is_empty();
        let sends = !list(policy, &["spec", "egress"]).is_empty();
        if let (true, Some(spec)) = (types, object::ensure(policy, &["spec"])) {
            let types = if sends { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".to_owned(), types);
        }
    }

    fn validate(&self, policy: &Value) -> Vec<FieldError> {
        validate(policy, &[])
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut before = Vec::new();
        each_block(&Field::root(old), &mut |block| {
            before.push(block.get("cidr").text());
            before.extend(block.get("except").items().map(|range| range.text()));
        });
        validate(new, &before)
    }

    fn warnings(&self, policy: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        each_block(&Field::root(policy), &mut |block| {
            warnings.extend(addresses::range_warnings(&block.get("cidr")));
            block.get("except").items().for_each(|range| warnings.extend(addresses::range_warnings(&range)));
        });
        warnings
    }
}

/// The directions of a policy, and what their rules call the other end.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn each_block<'v>(policy: &Field<'v, '_>, visit: &mut dyn FnMut(&Field<'v, '_>)) {
    let spec = policy.get("spec");
    for (direction, peers) in DIRECTIONS {
        for rule in spec.get(direction).items() {
            for peer in rule.get(peers).items() {
                let block = peer.get("ipBlock");
                if block.is_set() {
                    visit(&block);
                }
            }
        }
    }
}

/// Rules of new and of changed policies; `before` are ranges that need not be spelled well.
fn validate(policy: &Value, before: &[&str]) -> Vec<FieldError> {
    let root = Field::root(policy);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    rules::label_selector(&spec.get("podSelector"), &mut errors);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.get(direction).items() {
            for port in rule.get("ports").items() {
                self::port(&port, &mut errors);
            }
            for peer in rule.get(peers).items() {
                self::peer(&peer, before, &mut errors);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for type_ in types.items() {
        if !matches!(type_.text(), "Ingress" | "Egress") {
            errors.push(type_.not_supported(&["Ingress", "Egress"]));
        }
    }
    errors
}

fn port(port: &Field, errors: &mut Vec<FieldError>) {
    let protocol = port.get("protocol");
    if protocol.is_set() && !matches!(protocol.text(), "TCP" | "UDP" | "SCTP") {
        errors.push(protocol.not_supported(&["TCP", "UDP", "SCTP"]));
    }
    let (first, last) = (port.get("port"), port.get("endPort"));
    let end = last.int();
    match first.value() {
        None if end.is_some() => errors.push(last.invalid("may not be specified when `port` is not specified")),
        None => {}
        Some(Value::Number(number)) => {
            rules::port(&first, errors);
            let Some(end) = end else { return };
            if number.as_i64().is_some_and(|start| end < start) {
                // Kubernetes shows the first port here.
                let detail = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&last.path, Value::Number(number.clone()), detail));
            }
            rules::port(&last, errors);
        }
        Some(_) => {
            if end.is_some() {
                errors.push(last.invalid("may not be specified when `port` is non-numeric"));
            }
            rules::port_or_name(&first, errors);
        }
    }
}

fn peer(peer: &Field, before: &[&str], errors: &mut Vec<FieldError>) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    rules::label_selector(&pods, errors);
    rules::label_selector(&namespaces, errors);
    if block.is_set() {
        self::block(&block, before, errors);
    }
    match (pods.is_set() || namespaces.is_set(), block.is_set()) {
        (false, false) => errors.push(peer.required("must specify a peer")),
        (true, true) => errors.push(peer.forbidden("may not specify both ipBlock and another peer")),
        _ => {}
    }
}

fn block(block: &Field, before: &[&str], errors: &mut Vec<FieldError>) {
    let range = block.get("cidr");
    if !rules::required(&range, errors) {
        return;
    }
    let Some(whole) = addresses::range(&range, before, errors) else { return };
    for except in block.get("except").items() {
        if let Some(part) = addresses::range(&except, before, errors)
            && (!whole.contains(&part) || whole == part)
        {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update, yaml};

    #[test]
    fn rules() {
        check(
            "networkpolicies",
            r#"
            metadata: {name: a, namespace: b}
            spec:
              ingress:
              - {ports: [{endPort: 3}, {port: 5, endPort: 4}], from: [{}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}, podSelector: {}}]}
            "#,
            expect![[r#"
                spec.ingress[0].ports[0].endPort: Invalid value: 3: may not be specified when `port` is not specified
                spec.ingress[0].ports[1].endPort: Invalid value: 5: must be greater than or equal to `port`
                spec.ingress[0].from[0]: Required value: must specify a peer
                spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/8": must be a strict subset of `cidr`
                spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
            "#]],
        );
        check(
            "networkpolicies",
            "{metadata: {name: a, namespace: b}, spec: {policyTypes: [Odd], egress: [{ports: [{protocol: ICMP, port: http, endPort: 5}, {port: 0, endPort: 70000}]}]}}",
            expect![[r#"
                spec.egress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"
                spec.egress[0].ports[0].endPort: Invalid value: 5: may not be specified when `port` is non-numeric
                spec.egress[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.egress[0].ports[1].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive
                spec.policyTypes[0]: Unsupported value: "Odd": supported values: "Ingress", "Egress"
            "#]],
        );
    }

    #[test]
    fn ranges_are_spelled_well() {
        let with = |block: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b, resourceVersion: '1'}}, spec: {{egress: [{{to: [{{ipBlock: {{{block}}}}}]}}]}}}}"
            )
        };
        let loose = with("cidr: 10.0.0.1/8, except: [010.1.0.0/16]");
        check(
            "networkpolicies",
            &loose,
            expect![[r#"
                spec.egress[0].to[0].ipBlock.cidr: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
                spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "010.1.0.0/16": must not have leading 0s in IP or prefix length
            "#]],
        );
        check_update("networkpolicies", &loose, &loose, expect![""]);
        check(
            "networkpolicies",
            &with("except: [x]"),
            expect![[r#"
                spec.egress[0].to[0].ipBlock.cidr: Required value
            "#]],
        );
        assert_eq!(
            NetworkPolicy.warnings(&yaml(&with("cidr: '2001:DB8::/64'"))),
            [
                r#"spec.egress[0].to[0].ipBlock.cidr: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#
            ]
        );
    }

    #[test]
    fn defaults() {
        check_default(
            "networkpolicies",
            "{spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}}",
            expect![[r#"
                metadata: {}
                spec:
                  egress:
                  - ports:
                    - port: 53
                      protocol: TCP
                  podSelector: {}
                  policyTypes:
                  - Ingress
                  - Egress
            "#]],
        );
        check_row(
            "networkpolicies",
            "{metadata: {name: a}, spec: {podSelector: {matchLabels: {a: b}}}}",
            expect!["Name=a | Pod-Selector=a=b | Age=<unknown>"],
        );
    }
}
