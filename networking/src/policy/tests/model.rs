//! What the API reference says of NetworkPolicies, word by word, about objects as they are written. The tests of what pods call
//! (`networking/tests`) include this file, too.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::PodIdentity;

/// Each with its label `team`.
pub const NAMESPACES: [(&str, &str); 2] = [("a", "red"), ("b", "blue")];

/// One end of a connection.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Actor {
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    pub uid: String,
    pub ip: IpAddr,
    pub labels: Option<Value>,
    #[serde(default)]
    pub ports: Vec<Value>,
}

impl Actor {
    pub fn identity(&self) -> PodIdentity {
        PodIdentity {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ip: self.ip,
            service_account: "default".into(),
        }
    }
}

/// The objects of the namespaces.
pub fn namespaces() -> Vec<Value> {
    let namespace = |(name, team): (&str, &str)| json!({"metadata": {"name": name, "labels": {"team": team, "kubernetes.io/metadata.name": name}}});
    NAMESPACES.map(namespace).to_vec()
}

impl Actor {
    /// The object of a pod that the tables know.
    pub fn object(&self) -> Option<Value> {
        let labels = self.labels.as_ref().filter(|_| !self.uid.is_empty())?;
        Some(json!({
            "metadata": {"namespace": self.namespace, "uid": self.uid, "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": self.ports}]},
            "status": {"podIP": self.ip},
        }))
    }
}

/// A policy of a namespace.
pub fn policy(namespace: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": namespace}, "spec": spec})
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let exact = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    exact
        && list(selector, "matchExpressions").iter().all(|expression| {
            let value = &labels[expression["key"].as_str().unwrap()];
            match expression["operator"].as_str().unwrap() {
                "In" => list(expression, "values").contains(value),
                "NotIn" => !list(expression, "values").contains(value),
                "Exists" => !value.is_null(),
                _ => value.is_null(),
            }
        })
}

fn within(range: &Value, ip: IpAddr) -> bool {
    range.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&ip)
}

fn is_peer(peer: &Value, own_namespace: &str, other: &Actor) -> bool {
    if !peer["ipBlock"].is_null() {
        let block = &peer["ipBlock"];
        return within(&block["cidr"], other.ip) && !list(block, "except").iter().any(|e| within(e, other.ip));
    }
    let team = NAMESPACES.iter().find(|(name, _)| *name == other.namespace).map(|(_, team)| *team);
    let namespace = json!({"kubernetes.io/metadata.name": other.namespace, "team": team});
    let in_namespace = match &peer["namespaceSelector"] {
        Value::Null => other.namespace == own_namespace,
        selector => selects(selector, &namespace),
    };
    let is_pod = !other.namespace.is_empty()
        && other.labels.as_ref().is_some_and(|labels| selects(&peer["podSelector"], labels));
    // Of a pod that was never seen the labels are not known: it is meant only where no label is asked for.
    let asks_nothing = peer["podSelector"] == Value::Null || peer["podSelector"] == json!({});
    let is_new_pod = other.labels.is_none() && !other.namespace.is_empty() && asks_nothing;
    in_namespace && (is_pod || is_new_pod)
}

fn is_port(allowed: &Value, to: &Actor, port: u16, protocol: &str) -> bool {
    let of = |value: &Value| value["protocol"].as_str().unwrap_or("TCP").to_owned();
    let matches = match &allowed["port"] {
        Value::Null => true,
        Value::String(name) => to.ports.iter().any(|named| {
            named["name"] == **name && named["containerPort"] == port && of(named) == protocol && to.labels.is_some()
        }),
        first => {
            let end = if allowed["endPort"].is_null() { first } else { &allowed["endPort"] };
            (first.as_u64().unwrap()..=end.as_u64().unwrap()).contains(&port.into())
        }
    };
    matches && of(allowed) == protocol
}

fn one_way(
    policies: &[Value],
    way: [&str; 3],
    subject: &Actor,
    peer: &Actor,
    to: &Actor,
    port: u16,
    protocol: &str,
) -> bool {
    let [kind, rules, peers] = way;
    let is_about = |spec: &Value| match list(spec, "policyTypes") {
        [] => kind == "Ingress" || !list(spec, "egress").is_empty(),
        types => types.contains(&json!(kind)),
    };
    let mut about = policies
        .iter()
        .filter(|policy| {
            !subject.uid.is_empty()
                && policy["metadata"]["namespace"] == *subject.namespace
                && is_about(&policy["spec"])
                && subject.labels.as_ref().is_none_or(|labels| selects(&policy["spec"]["podSelector"], labels))
        })
        .peekable();
    let rule_allows = |rule: &Value| {
        let (who, what) = (list(rule, peers), list(rule, "ports"));
        (who.is_empty() || who.iter().any(|allowed| is_peer(allowed, &subject.namespace, peer)))
            && (what.is_empty() || what.iter().any(|allowed| is_port(allowed, to, port, protocol)))
    };
    about.peek().is_none()
        || (subject.labels.is_some() && about.any(|policy| list(&policy["spec"], rules).iter().any(rule_allows)))
}

pub fn allows(policies: &[Value], from: &Actor, to: &Actor, port: u16, protocol: &str) -> bool {
    from.name == to.name
        || (one_way(policies, ["Egress", "egress", "to"], from, to, to, port, protocol)
            && one_way(policies, ["Ingress", "ingress", "from"], to, from, to, port, protocol))
}
