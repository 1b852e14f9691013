//! NetworkPolicy: which connections pods may have.

use serde_json::{Value, json};

use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list};
use crate::rules;

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
        let root = Field::root(policy);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        rules::label_selector(&spec.get("podSelector"), &mut errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec.get(direction).items() {
                for port in rule.get("ports").items() {
                    self::port(&port, &mut errors);
                }
                for peer in rule.get(peers).items() {
                    self::peer(&peer, &mut errors);
                }
            }
        }
        let types = spec.get("policyTypes");
        if types.len() > 2 {
            errors.push(types.invalid("may not specify more than two policyTypes"));
        }
        for type_ in types.items() {
            rules::maybe_one_of(&type_, &["Egress", "Ingress"], &mut errors);
        }
        errors
    }
}

fn port(port: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
    let (first, last) = (port.get("port"), port.get("endPort"));
    if first.is_set() {
        rules::port_or_name(&first, errors);
    }
    let Some(end) = last.int() else { return };
    match (first.is_set(), first.int()) {
        (false, _) => errors.push(last.invalid("may not be specified when `port` is not specified")),
        (true, None) => errors.push(last.invalid("may not be specified when `port` is non-numeric")),
        (true, Some(start)) if end < start => errors.push(last.invalid("must be greater than or equal to `port`")),
        _ => rules::port(&last, errors),
    }
}

fn peer(peer: &Field, errors: &mut Vec<FieldError>) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    rules::label_selector(&pods, errors);
    rules::label_selector(&namespaces, errors);
    if !pods.is_set() && !namespaces.is_set() && !block.is_set() {
        errors.push(peer.required("must specify a peer"));
    }
    if !block.is_set() {
        return;
    }
    if pods.is_set() || namespaces.is_set() {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
    let range = block.get("cidr");
    let Some(range) = self::range(&range, errors) else { return };
    for except in block.get("except").items() {
        if let Some(inner) = self::range(&except, errors)
            && (!range.contains(&inner) || range == inner)
        {
            errors.push(except.invalid(format!("must be a strict subset of `{}`", block.get("cidr").text())));
        }
    }
}

fn range(field: &Field, errors: &mut Vec<FieldError>) -> Option<ipnet::IpNet> {
    let range = field.text().parse().ok();
    if field.is_empty() {
        errors.push(field.required(""));
    } else if range.is_none() {
        errors.push(field.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
    }
    range
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

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
                spec.ingress[0].ports[1].endPort: Invalid value: 4: must be greater than or equal to `port`
                spec.ingress[0].from[0]: Required value: must specify a peer
                spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer
                spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: "11.0.0.0/8": must be a strict subset of `10.0.0.0/8`
            "#]],
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
