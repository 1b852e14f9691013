//! Service: a stable name and address for a set of pods.
//!
//! The cluster IP and node ports are claimed by the API server in the create's own transaction; what is here decides
//! what needs them and what stays from one version of a Service to the next.

mod columns;
mod families;
#[cfg(test)]
mod tests;
mod update;
mod validate;
mod warnings;

use serde_json::{Map, Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::names;
use crate::object::{self, get, list, text};

/// How long a client sticks to an endpoint where `sessionAffinity` is `ClientIP`.
const AFFINITY_SECONDS: i64 = 10_800;

pub fn definition() -> KindDef {
    let verbs = &["create", "delete", "get", "patch", "update"];
    let proxy = Subresource::other("proxy", ("", "v1", "ServiceProxyOptions"), verbs);
    KindDef::builtin("", "v1", "Service", "services", "io.k8s.api.core.v1.Service")
        .short_names(&["svc"])
        .categories(&["all"])
        .subresources(vec![proxy, Subresource::status()])
        .columns(columns::columns())
        .selectable(vec![SelectableField::at("spec.clusterIP"), SelectableField::at("spec.type")])
        .answers_deleted()
        .strategy(Service)
}

/// Whether a Service of this shape has a cluster IP (which may be `None`).
pub fn needs_cluster_ip(service: &Value) -> bool {
    text(service, &["spec", "type"]) != "ExternalName"
}

/// Whether a Service is found by its pods' own addresses.
pub fn is_headless(service: &Value) -> bool {
    matches!(list(service, &["spec", "clusterIPs"]), [only] if only == "None")
}

/// Whether a field of the spec is as it was.
fn same(new: &Value, old: &Value, field: &str) -> bool {
    object::same(get(new, &["spec", field]), get(old, &["spec", field]))
}

/// Where load balancers ask, if [`needs_health_port`].
pub const HEALTH_PORT: &[&str] = &["spec", "healthCheckNodePort"];

/// Whether load balancers ask each node about the endpoints that a Service of this shape has there.
pub fn needs_health_port(service: &Value) -> bool {
    text(service, &["spec", "type"]) == "LoadBalancer" && text(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// Whether traffic can come from outside the cluster.
fn is_externally_accessible(service: &Value) -> bool {
    match text(service, &["spec", "type"]) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !list(service, &["spec", "externalIPs"]).is_empty(),
        _ => false,
    }
}

struct Service;

impl Strategy for Service {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn default(&self, service: &mut Value) {
        kind::default_condition_times(service);
        if let Some(spec) = object::ensure(service, &["spec"]) {
            fixed_defaults(spec);
        }
        let outside = is_externally_accessible(service);
        if let Some(spec) = object::ensure(service, &["spec"]) {
            traffic_defaults(spec, outside);
        }
        if text(service, &["spec", "type"]) == "LoadBalancer" {
            for point in object::list_mut(service, &["status", "loadBalancer", "ingress"]) {
                if !text(point, &["ip"]).is_empty()
                    && let Some(point) = point.as_object_mut()
                {
                    object::set_default(point, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_for_create(&self, service: &mut Value) {
        kind::prepare_for_create(self.shape(), service);
        if let Some(object) = service.as_object_mut() {
            object.insert("status".to_owned(), json!({"loadBalancer": {}}));
        }
        // A client that only knows `clusterIP` means the list of addresses, too.
        let first = text(service, &["spec", "clusterIP"]).to_owned();
        if !first.is_empty()
            && list(service, &["spec", "clusterIPs"]).is_empty()
            && let Some(spec) = object::ensure(service, &["spec"])
        {
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        families::settle(service, None);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        update::keep_claims(new, old);
        families::settle(new, Some(old));
        update::drop_what_the_type_lost(new, old);
    }

    fn validate(&self, service: &Value) -> Vec<FieldError> {
        checked(families::validate(service, None), || validate::validate(service, None))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        checked(families::validate(new, Some(old)), || {
            let mut errors = update::validate(new, old);
            errors.extend(validate::validate(new, Some(old)));
            errors
        })
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::validate_status(new, old)
    }

    fn warnings(&self, service: &Value) -> Vec<String> {
        warnings::warnings(&Field::root(service))
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// A Service whose addresses contradict each other gets none, and nothing else is said of it.
fn checked(addresses: Vec<FieldError>, others: impl FnOnce() -> Vec<FieldError>) -> Vec<FieldError> {
    if addresses.is_empty() { others() } else { addresses }
}

fn fixed_defaults(spec: &mut Map<String, Value>) {
    object::set_default_text(spec, "type", "ClusterIP");
    object::set_default_text(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => _ = spec.remove("sessionAffinityConfig"),
        Some("ClientIP") => {
            let set = spec.get("sessionAffinityConfig").and_then(|c| get(c, &["clientIP", "timeoutSeconds"])).is_some();
            if !set {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    let Some(Value::Array(ports)) = spec.get_mut("ports") else { return };
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        object::set_default_text(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number.as_i64() == Some(0),
        };
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

fn traffic_defaults(spec: &mut Map<String, Value>, outside: bool) {
    let type_ = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if outside {
        object::set_default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(&*type_, "ClusterIP" | "NodePort" | "LoadBalancer") {
        object::set_default_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if type_ == "LoadBalancer" {
        object::set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
}
