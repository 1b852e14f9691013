//! How a pod's names are looked up: `dnsPolicy`, `dnsConfig` and `hostAliases`.

use k8s_openapi::api::core::v1 as core;

use crate::engine::Names;

/// What the manifest says about names. Servers of its own a pod cannot have: [`super::support`] refuses them.
pub fn of(spec: &core::PodSpec) -> Names {
    let mut hosts = Vec::new();
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.iter().flatten().cloned();
        hosts.extend(alias.ip.parse().into_iter().flat_map(|ip| names.clone().map(move |name| (name, ip))));
    }
    let config = spec.dns_config.as_ref();
    let searches = config.and_then(|config| config.searches.clone()).unwrap_or_default();
    let options = config.and_then(|config| config.options.as_deref()).unwrap_or_default();
    let ndots = options.iter().find(|option| option.name.as_deref() == Some("ndots"));
    let ndots = ndots.and_then(|option| option.value.as_ref()?.parse().ok());
    Names {
        hosts,
        searches: searches.iter().map(|domain| domain.trim_matches('.').to_owned()).collect(),
        ndots: ndots.unwrap_or(Names::DEFAULT_NDOTS),
        outside_only: spec.dns_policy.as_deref() == Some("Default"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_says_how_names_are_looked_up() {
        let read = |spec| of(&serde_json::from_value(spec).unwrap());
        assert!(read(json!({ "containers": [], "dnsPolicy": "ClusterFirst" })).are_the_clusters());
        let names = read(json!({ "containers": [], "dnsPolicy": "Default",
            "hostAliases": [{ "ip": "10.1.2.3", "hostnames": ["a", "b"] }],
            "dnsConfig": { "searches": ["corp.example."], "options": [{ "name": "ndots", "value": "2" }] } }));
        let ip = "10.1.2.3".parse().unwrap();
        assert_eq!(
            names,
            Names {
                hosts: vec![("a".to_owned(), ip), ("b".to_owned(), ip)],
                searches: vec!["corp.example".to_owned()],
                ndots: 2,
                outside_only: true,
            }
        );
    }
}
