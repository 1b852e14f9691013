//! The variables by which a container finds Services without DNS
//! (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).

use k8s_openapi::api::core::v1 as core;

/// Variables of the Services a pod of `namespace` sees: those of its namespace when `links`, and always the API
/// server's. Headless and external Services have none.
pub fn service_variables<'a>(
    services: impl IntoIterator<Item = &'a core::Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let (Some(name), Some(own)) = (&service.metadata.name, &service.metadata.namespace) else { continue };
        let master = own == "default" && name == "kubernetes";
        if master || (links && own == namespace) {
            variables.extend(variables_of(name, service));
        }
    }
    variables
}

fn variables_of(name: &str, service: &core::Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (Some(ip), Some(first)) = (spec.cluster_ip.as_deref(), ports.first()) else { return Vec::new() };
    if ip.is_empty() || ip == "None" {
        return Vec::new();
    }
    let prefix = upper(name);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.push((prefix.clone(), url));
        variables.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        variables.push((format!("{prefix}_PORT"), port.port.to_string()));
        variables.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    variables
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_every_port() {
        let services: Vec<core::Service> = serde_json::from_value(json!([
            { "metadata": { "name": "web-app", "namespace": "ns" }, "spec": { "clusterIP": "10.96.0.7",
              "ports": [{ "name": "http", "port": 80 }, { "port": 53, "protocol": "UDP" }] } },
            { "metadata": { "name": "headless", "namespace": "ns" }, "spec": { "clusterIP": "None", "ports": [{ "port": 80 }] } },
            { "metadata": { "name": "other", "namespace": "elsewhere" }, "spec": { "clusterIP": "10.96.0.8", "ports": [{ "port": 80 }] } },
            { "metadata": { "name": "kubernetes", "namespace": "default" }, "spec": { "clusterIP": "10.96.0.1", "ports": [{ "name": "https", "port": 443 }] } }
        ]))
        .unwrap();
        let show = |links| {
            let variables = service_variables(&services, "ns", links);
            let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.join("\n")
        };
        expect![[r#"
            WEB_APP_SERVICE_HOST=10.96.0.7
            WEB_APP_SERVICE_PORT=80
            WEB_APP_SERVICE_PORT_HTTP=80
            WEB_APP_PORT=tcp://10.96.0.7:80
            WEB_APP_PORT_80_TCP=tcp://10.96.0.7:80
            WEB_APP_PORT_80_TCP_PROTO=tcp
            WEB_APP_PORT_80_TCP_PORT=80
            WEB_APP_PORT_80_TCP_ADDR=10.96.0.7
            WEB_APP_PORT_53_UDP=udp://10.96.0.7:53
            WEB_APP_PORT_53_UDP_PROTO=udp
            WEB_APP_PORT_53_UDP_PORT=53
            WEB_APP_PORT_53_UDP_ADDR=10.96.0.7
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1"#]]
        .assert_eq(&show(true));
        assert!(show(false).starts_with("KUBERNETES_SERVICE_HOST"));
    }
}
