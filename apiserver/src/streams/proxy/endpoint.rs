//! Where a proxied request goes: a port of a pod on a node, or an address.

use std::net::{IpAddr, SocketAddr};

use k8w_kinds::object::{list, text};
use serde_json::Value;

use super::node_of;
use crate::ApiServer;
use crate::status::Status;

/// `[scheme:]name[:port]`, as the last part of a proxy's path names what is meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Name<'n> {
    pub scheme: &'n str,
    pub name: &'n str,
    /// A number, or for Services also a port's name; empty for the default.
    pub port: &'n str,
}

impl<'n> Name<'n> {
    /// `None` for what cannot be a name.
    pub fn parse(text: &'n str) -> Option<Name<'n>> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme @ ("" | "http" | "https"), name, port] => (scheme, name, port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Name { scheme, name, port })
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Pod {
        node: String,
        namespace: String,
        pod: String,
        port: u16,
    },
    /// Something that is no pod.
    Address(SocketAddr),
}

impl Endpoint {
    /// What the `Host` header says where the client's own says nothing.
    pub fn host(&self) -> String {
        match self {
            Endpoint::Pod { pod, port, .. } => format!("{pod}:{port}"),
            Endpoint::Address(address) => address.to_string(),
        }
    }

    /// A pod's port: the one that is named, or the first that its containers name.
    ///
    /// # Errors
    /// 400 for what is no port, and for a pod that is not on a node.
    pub fn of_pod(pod: &Value, port: &str) -> Result<Endpoint, Status> {
        let containers = list(pod, &["spec", "containers"]);
        let mut declared = containers.iter().filter_map(|container| list(container, &["ports"]).first());
        let port = match port {
            "" => declared.next().and_then(|port| port["containerPort"].as_u64()).unwrap_or(80).try_into().ok(),
            port => port.parse().ok(),
        };
        let port = port.filter(|port| *port > 0);
        let (namespace, name) = (text(pod, &["metadata", "namespace"]), text(pod, &["metadata", "name"]));
        let port = port.ok_or_else(|| Status::bad_request(format!("invalid pod request {name:?}")))?;
        let node = node_of(pod, &["spec", "nodeName"]).ok_or_else(|| Status::bad_request("address not allowed"))?;
        Ok(Endpoint::Pod { node: node.to_owned(), namespace: namespace.to_owned(), pod: name.to_owned(), port })
    }

    /// One of a Service's endpoints that are ready.
    ///
    /// # Errors
    /// 404 without the Service, 503 without such a port or endpoint. `asked` is the name as it was sent.
    pub fn of_service(server: &ApiServer, namespace: &str, name: &Name<'_>, asked: &str) -> Result<Endpoint, Status> {
        let service = server.cache.get("", "services", namespace, name.name);
        let service = service.ok_or_else(|| Status::not_found("", "services", name.name))?.value();
        let port = port_name(&service, name)?;
        let slices = server.cache.kind("discovery.k8s.io", "endpointslices").list(Some(namespace)).0;
        let own = slices.iter().filter(|slice| slice.labels().get(SERVICE_NAME).is_some_and(|of| of == name.name));
        let mut ready: Vec<Endpoint> = own.flat_map(|slice| endpoints(&slice.value(), &port)).collect();
        if ready.is_empty() {
            return Err(Status::unavailable(format!("no endpoints available for service {asked:?}")));
        }
        Ok(ready.swap_remove(rand::random_range(0..ready.len())))
    }
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The name of the port that is asked for by number or name.
fn port_name(service: &Value, name: &Name<'_>) -> Result<String, Status> {
    let Ok(number) = name.port.parse::<u64>() else { return Ok(name.port.to_owned()) };
    let found = list(service, &["spec", "ports"]).iter().find(|port| port["port"].as_u64() == Some(number));
    let found = found.map(|port| text(port, &["name"]).to_owned());
    found.ok_or_else(|| Status::unavailable(format!("no service port {number} found for service {:?}", name.name)))
}

/// The ready endpoints of a slice that has the port.
fn endpoints(slice: &Value, port: &str) -> Vec<Endpoint> {
    let ports = list(slice, &["ports"]);
    let port = ports.iter().find(|found| text(found, &["name"]) == port).and_then(|port| port["port"].as_u64());
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let ready = list(slice, &["endpoints"]).iter().filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.filter_map(|endpoint| of_endpoint(endpoint, port, text(slice, &["metadata", "namespace"]))).collect()
}

fn of_endpoint(endpoint: &Value, port: u16, namespace: &str) -> Option<Endpoint> {
    if let ("Pod", Some(node)) = (text(endpoint, &["targetRef", "kind"]), node_of(endpoint, &["nodeName"])) {
        let pod = text(endpoint, &["targetRef", "name"]).to_owned();
        return Some(Endpoint::Pod { node: node.to_owned(), namespace: namespace.to_owned(), pod, port });
    }
    let address: IpAddr = list(endpoint, &["addresses"]).first()?.as_str()?.parse().ok()?;
    // As for pods, the server's own loopback and link are nobody's to reach.
    let foreign = match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_multicast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_multicast() && !v6.is_unspecified(),
    };
    foreign.then_some(Endpoint::Address(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        let name = |text| Name::parse(text).map(|name| (name.scheme, name.name, name.port));
        assert_eq!(name("web"), Some(("", "web", "")));
        assert_eq!(name("web:8080"), Some(("", "web", "8080")));
        assert_eq!(name("https:web:tls"), Some(("https", "web", "tls")));
        assert_eq!(name("http:web:"), Some(("http", "web", "")));
        for wrong in ["", ":80", "ftp:web:1", "a:b:c:d"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ready_endpoints_of_the_port_are_taken() {
        let slice = json!({"metadata": {"namespace": "n"}, "ports": [{"name": "http", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n1",
             "targetRef": {"kind": "Pod", "name": "p"}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["192.0.2.1"], "conditions": {}},
            {"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
        let pod = Endpoint::Pod { node: "n1".into(), namespace: "n".into(), pod: "p".into(), port: 8080 };
        let foreign = Endpoint::Address(([192, 0, 2, 1], 8080).into());
        assert_eq!(endpoints(&slice, "http"), [pod, foreign]);
        assert_eq!(endpoints(&slice, ""), []);
    }
}
