//! The downward API: fields of a pod and resources of its containers, as text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity;

/// What fields resolve against.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub pod: &'a core::Pod,
    pub host_ip: IpAddr,
    pub pod_ip: IpAddr,
    /// Stands in for a limit that a container does not have.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Why a field has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("invalid quantity \"{0}\"")]
    Quantity(String),
}

/// The value of a `fieldRef`.
///
/// # Errors
/// When the path is none of those that the API lists.
pub fn field(facts: &Facts<'_>, path: &str) -> Result<String, Error> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(Error::Field(path.to_owned())),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.to_string(),
        _ => return Err(Error::Field(path.to_owned())),
    })
}

/// The value of a `resourceFieldRef`: the quantity divided by its divisor, rounded up. `container` is the one that
/// asks, used when the reference names none.
///
/// # Errors
/// When it names an unknown resource or container.
pub fn resource(facts: &Facts<'_>, reference: &core::ResourceFieldSelector, container: &str) -> Result<String, Error> {
    let name = reference.container_name.as_deref().unwrap_or(container);
    let spec = facts.pod.spec.as_ref();
    let mut all = spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = all.find(|found| found.name == name).ok_or_else(|| Error::Container(name.to_owned()))?;
    let unsupported = || Error::Resource(reference.resource.clone());
    let (side, resource) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    let known = ["cpu", "memory", "ephemeral-storage"];
    if !(known.contains(&resource) || resource.starts_with("hugepages-")) {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let limit = || resources.and_then(|resources| resources.limits.as_ref()?.get(resource));
    let quantity = match side {
        "limits" => limit().or_else(|| facts.allocatable.get(resource)),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()?.get(resource)).or_else(limit),
        _ => return Err(unsupported()),
    };
    let Some(quantity) = quantity else { return Ok("0".to_owned()) };
    let one = Quantity("1".to_owned());
    let divisor = reference.divisor.as_ref().filter(|divisor| divisor.0 != "0").unwrap_or(&one);
    let parse = |quantity: &Quantity| quantity::amount(quantity).ok_or_else(|| Error::Quantity(quantity.0.clone()));
    Ok(parse(quantity)?.in_units_of(parse(divisor)?).to_string())
}

/// Whether a volume of the pod shows its labels or annotations, which can change while it runs.
pub fn volumes_show_metadata(pod: &core::Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let items = volumes.flat_map(|volume| {
        let own = volume.downward_api.iter().flat_map(|source| source.items.iter().flatten());
        let sources = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
        let projected = sources.filter_map(|source| source.downward_api.as_ref());
        own.chain(projected.flat_map(|source| source.items.iter().flatten()))
    });
    let mut fields = items.filter_map(|item| item.field_ref.as_ref());
    fields
        .any(|field| ["metadata.labels", "metadata.annotations"].iter().any(|path| field.field_path.starts_with(path)))
}

/// `metadata.labels['key']` -> (`metadata.labels`, `key`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` a line, sorted, quoted as Go's `%q` does for common text.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn with_facts<T>(test: impl FnOnce(&Facts<'_>) -> T) -> T {
        let pod: core::Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u", "labels": { "a": "x\"y", "b": "2" } },
            "spec": { "nodeName": "n", "containers": [
                { "name": "c", "resources": { "limits": { "memory": "64Mi" }, "requests": { "cpu": "150m" } } }
            ] }
        }))
        .unwrap();
        let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("4".to_owned()))]);
        test(&Facts {
            pod: &pod,
            host_ip: Ipv4Addr::new(10, 0, 0, 1).into(),
            pod_ip: Ipv4Addr::new(10, 64, 0, 5).into(),
            allocatable: &allocatable,
        })
    }

    #[test]
    fn fields_resolve() {
        with_facts(|facts| {
            assert_eq!(field(facts, "metadata.labels['b']").unwrap(), "2");
            assert_eq!(field(facts, "metadata.labels['none']").unwrap(), "");
            assert_eq!(field(facts, "metadata.labels").unwrap(), "a=\"x\\\"y\"\nb=\"2\"");
            assert_eq!(field(facts, "status.podIP").unwrap(), "10.64.0.5");
            assert_eq!(field(facts, "spec.foo"), Err(Error::Field("spec.foo".to_owned())));
        });
    }

    #[test]
    fn resources_divide_rounding_up_and_fall_back_to_the_node() {
        let ask = |resource: &str, divisor: Option<&str>| {
            let reference = core::ResourceFieldSelector {
                resource: resource.to_owned(),
                divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
                container_name: None,
            };
            with_facts(|facts| resource_of(facts, &reference))
        };
        assert_eq!(ask("limits.memory", Some("1Mi")).unwrap(), "64");
        assert_eq!(ask("requests.cpu", None).unwrap(), "1");
        assert_eq!(ask("requests.cpu", Some("1m")).unwrap(), "150");
        assert_eq!(ask("limits.cpu", None).unwrap(), "4");
        assert_eq!(ask("limits.gpu", None), Err(Error::Resource("limits.gpu".to_owned())));
    }

    fn resource_of(facts: &Facts<'_>, reference: &core::ResourceFieldSelector) -> Result<String, Error> {
        resource(facts, reference, "c")
    }
}
