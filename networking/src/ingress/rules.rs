//! Hosts and paths of all Ingresses as one table: look-ups allocate nothing and cost the same for one rule and thousands.
//!
//! The rules are those of the Kubernetes documentation (Concepts, Ingress: "Path types", "Multiple matches", "Hostname
//! wildcards"): an exact host comes before a wildcard, and both before rules without a host, which apply to every host; of
//! the paths an exact one comes before prefixes, and of these the longest first. What nothing matches goes to a default
//! backend. `ImplementationSpecific` means `Prefix` here. Where two Ingresses say the same, the older one counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressClass};

use super::class;
use crate::service::{Protocol, ServiceName, ServicePort};

/// What a rule leads to.
#[derive(Clone, Debug)]
pub enum Backend {
    Service(Arc<ServicePort>),
    /// Nothing that can be reached; the text says why.
    Broken(Arc<str>),
}

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {
    hosts: HashMap<Box<str>, Paths>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, Paths>,
    any_host: Paths,
    default: Option<Backend>,
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Backend>,
    /// Without the slash at their end; "/" is empty.
    prefixes: HashMap<Box<str>, Backend>,
    longest_prefix: usize,
}

/// Finds a Service's ports, or says of it why there are none.
pub type FindService<'a> = dyn Fn(&ServiceName) -> Result<&'a [Arc<ServicePort>], &'static str> + 'a;

impl Rules {
    /// The Ingresses that are ours, the oldest first.
    pub fn ours<'a>(ingresses: &'a [Arc<Ingress>], classes: &[Arc<IngressClass>]) -> Vec<&'a Ingress> {
        let ours = ingresses.iter().map(Arc::as_ref).filter(|ingress| class::is_ours(ingress, classes));
        let mut ours: Vec<&Ingress> = ours.collect();
        ours.sort_by_cached_key(|ingress| {
            let metadata = &ingress.metadata;
            (metadata.creation_timestamp.as_ref().map(|time| time.0), metadata.namespace.clone(), metadata.name.clone())
        });
        ours
    }

    /// The rules of Ingresses; of two that say the same, the first counts.
    pub fn build(ingresses: &[&Ingress], find: &FindService<'_>) -> Self {
        let mut rules = Self::default();
        for ingress in ingresses {
            let Some(spec) = &ingress.spec else { continue };
            let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
            if let (None, Some(backend)) = (&rules.default, &spec.default_backend) {
                rules.default = Some(resolve(namespace, backend, find));
            }
            for rule in spec.rules.iter().flatten() {
                let paths = rules.paths_of(rule.host.as_deref().unwrap_or_default());
                for path in rule.http.iter().flat_map(|http| &http.paths) {
                    let backend = resolve(namespace, &path.backend, find);
                    paths.insert(&path.path_type, path.path.as_deref().unwrap_or("/"), backend);
                }
            }
        }
        rules
    }

    fn paths_of(&mut self, host: &str) -> &mut Paths {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            _ if host.is_empty() => &mut self.any_host,
            Some(suffix) => self.wildcards.entry(suffix.into()).or_default(),
            None => self.hosts.entry(host.into()).or_default(),
        }
    }

    /// The backend of a request. `host` is in lower case and has no port, `path` is as it was sent.
    pub fn find(&self, host: &str, path: &str) -> Option<&Backend> {
        let exact = self.hosts.get(host);
        // A wildcard stands for exactly one label.
        let wildcard = host.split_once('.').and_then(|(_, suffix)| self.wildcards.get(suffix));
        let found = [exact, wildcard, Some(&self.any_host)].into_iter().flatten().find_map(|paths| paths.find(path));
        found.or(self.default.as_ref())
    }
}

impl Paths {
    fn insert(&mut self, path_type: &str, path: &str, backend: Backend) {
        let (paths, path) = match path_type {
            "Exact" => (&mut self.exact, path),
            _ => {
                let path = path.strip_suffix('/').unwrap_or(path);
                self.longest_prefix = self.longest_prefix.max(path.len());
                (&mut self.prefixes, path)
            }
        };
        if let Entry::Vacant(vacant) = paths.entry(path.into()) {
            vacant.insert(backend);
        }
    }

    fn find(&self, path: &str) -> Option<&Backend> {
        self.exact.get(path).or_else(|| {
            // Every prefix that ends where an element of the path ends, the longest first.
            let ends = path.rmatch_indices('/').map(|(at, _)| at);
            std::iter::once(path.len())
                .chain(ends)
                .filter(|end| *end <= self.longest_prefix)
                .find_map(|end| self.prefixes.get(&path[..end]))
        })
    }
}

fn resolve(namespace: &str, backend: &IngressBackend, find: &FindService<'_>) -> Backend {
    let broken = |why: String| Backend::Broken(why.into());
    let Some(service) = &backend.service else {
        return broken("the Ingress names a resource as its backend; only Services are supported".into());
    };
    let name = ServiceName { namespace: namespace.to_owned(), name: service.name.clone() };
    let ports = match find(&name) {
        Ok(ports) => ports,
        Err(why) => return broken(format!("service {name} {why}")),
    };
    let wanted = service.port.as_ref();
    let number = wanted.and_then(|port| port.number);
    let port_name = wanted.and_then(|port| port.name.as_deref());
    let matches = |port: &&Arc<ServicePort>| {
        port.protocol == Protocol::Tcp
            && match (number, port_name) {
                (Some(number), _) => i32::from(port.port) == number,
                (None, Some(wanted)) => port.name == wanted,
                (None, None) => false,
            }
    };
    match ports.iter().find(matches) {
        Some(port) => Backend::Service(port.clone()),
        None => {
            let wanted = number.map(|n| n.to_string()).or(port_name.map(str::to_owned)).unwrap_or_default();
            broken(format!("service {name} has no TCP port {wanted}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::service::AppProtocol;

    fn objects<K: serde::de::DeserializeOwned>(yaml: &str) -> Vec<Arc<K>> {
        serde_saphyr::from_str::<Vec<K>>(yaml).unwrap().into_iter().map(Arc::new).collect()
    }

    fn port(namespace: &str, service: &str, port: u16, name: &str) -> Arc<ServicePort> {
        Arc::new(ServicePort {
            service: ServiceName { namespace: namespace.into(), name: service.into() },
            name: name.into(),
            port,
            node_port: None,
            protocol: Protocol::Tcp,
            affinity: None,
            internal_local: false,
            external_local: false,
            app_protocol: AppProtocol::default(),
            cluster: Vec::new(),
            local: Vec::new(),
            sources: Vec::new(),
        })
    }

    const CLASSES: &str = "
- {metadata: {name: k8w, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}, spec: {controller: k8w.dev/ingress}}
- {metadata: {name: mine}, spec: {controller: k8w.dev/ingress}}
- {metadata: {name: nginx}, spec: {controller: k8s.io/ingress-nginx}}
";

    /// Builds the rules of a list of Ingresses; every Service exists, with ports 80 (`http`) and 8080 (`admin`).
    fn rules(ingresses: &str) -> Rules {
        let services: HashMap<ServiceName, Vec<Arc<ServicePort>>> = ["a", "b", "c", "d"]
            .map(|service| {
                let ports = vec![port("default", service, 80, "http"), port("default", service, 8080, "admin")];
                (ports[0].service.clone(), ports)
            })
            .into();
        let find = |name: &ServiceName| services.get(name).map(Vec::as_slice).ok_or("does not exist");
        Rules::build(&Rules::ours(&objects(ingresses), &objects(CLASSES)), &find)
    }

    fn answers(rules: &Rules, requests: &[(&str, &str)]) -> String {
        let mut answers = String::new();
        for (host, path) in requests {
            let answer = match rules.find(host, path) {
                Some(Backend::Service(port)) => format!("{}:{}", port.service.name, port.port),
                Some(Backend::Broken(why)) => why.to_string(),
                None => "none".into(),
            };
            writeln!(answers, "{host}{path} -> {answer}").unwrap();
        }
        answers
    }

    /// One Ingress with one path; whether a request matches it.
    fn path_matches(path_type: &str, path: &str, request: &str) -> bool {
        let backend = "{service: {name: a, port: {number: 80}}}";
        let ingress = format!(
            "[{{metadata: {{namespace: default, name: i}}, spec: {{rules: [{{http: {{paths: [
                {{pathType: {path_type}, path: {path:?}, backend: {backend}}}]}}}}]}}}}]"
        );
        rules(&ingress).find("any", request).is_some()
    }

    /// The table of examples in the documentation.
    #[test]
    fn paths_match_as_documented() {
        for (path_type, path, request, expected) in [
            ("Prefix", "/", "/anything", true),
            ("Prefix", "/", "/", true),
            ("Exact", "/foo", "/foo", true),
            ("Exact", "/foo", "/bar", false),
            ("Exact", "/foo", "/foo/", false),
            ("Exact", "/foo/", "/foo", false),
            ("Prefix", "/foo", "/foo", true),
            ("Prefix", "/foo", "/foo/", true),
            ("Prefix", "/foo/", "/foo", true),
            ("Prefix", "/foo/", "/foo/", true),
            ("Prefix", "/aaa/bb", "/aaa/bbb", false),
            ("Prefix", "/aaa/bbb", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb/", "/aaa/bbb", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", true),
            ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", false),
            ("Prefix", "/foo", "/FOO", false),
            ("ImplementationSpecific", "/foo", "/foo/bar", true),
        ] {
            assert_eq!(path_matches(path_type, path, request), expected, "{path_type} {path} with {request}");
        }
    }

    #[test]
    fn the_most_specific_host_and_path_win() {
        let rules = rules(
            "
- metadata: {namespace: default, name: i}
  spec:
    defaultBackend: {service: {name: d, port: {name: admin}}}
    rules:
    - host: foo.example
      http:
        paths:
        - {pathType: Prefix, path: /aaa, backend: {service: {name: a, port: {number: 80}}}}
        - {pathType: Prefix, path: /aaa/bbb, backend: {service: {name: b, port: {number: 80}}}}
        - {pathType: Exact, path: /aaa/bbb, backend: {service: {name: c, port: {number: 80}}}}
    - host: '*.example'
      http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: b, port: {number: 8080}}}}]}
    - http: {paths: [{pathType: Prefix, path: /shared, backend: {service: {name: c, port: {number: 8080}}}}]}
",
        );
        let requests = [
            ("foo.example", "/aaa/x"),
            ("foo.example", "/aaa/bbb"),
            ("foo.example", "/aaa/bbb/x"),
            ("foo.example", "/other"),
            ("bar.example", "/x"),
            ("baz.bar.example", "/x"),
            ("example", "/x"),
            ("other", "/shared/x"),
            ("other", "/"),
            ("other", "*"),
        ];
        expect![[r#"
            foo.example/aaa/x -> a:80
            foo.example/aaa/bbb -> c:80
            foo.example/aaa/bbb/x -> b:80
            foo.example/other -> b:8080
            bar.example/x -> b:8080
            baz.bar.example/x -> d:8080
            example/x -> d:8080
            other/shared/x -> c:8080
            other/ -> d:8080
            other* -> d:8080
        "#]]
        .assert_eq(&answers(&rules, &requests));
    }

    #[test]
    fn only_our_ingresses_count_and_the_oldest_first() {
        let ingress = |name: &str, metadata: &str, class: &str, service: &str| {
            format!(
                "
- metadata: {{namespace: default, name: {name}{metadata}}}
  spec: {{{class} rules: [{{host: '{name}', http: {{paths: [{{pathType: Prefix, path: /, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}, {{host: same, http: {{paths: [{{pathType: Prefix, path: /, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}"
            )
        };
        let ingresses = [
            ingress("default-class", ", creationTimestamp: '2026-01-02T00:00:00Z'", "", "a"),
            ingress("our-class", ", creationTimestamp: '2026-01-01T00:00:00Z'", "ingressClassName: mine,", "b"),
            ingress("their-class", ", creationTimestamp: '2025-01-01T00:00:00Z'", "ingressClassName: nginx,", "c"),
            ingress("unknown-class", "", "ingressClassName: unknown,", "c"),
            ingress(
                "old-way",
                ", creationTimestamp: '2026-01-03T00:00:00Z', annotations: {kubernetes.io/ingress.class: nginx}",
                "",
                "c",
            ),
        ]
        .concat();
        let hosts = ["default-class", "our-class", "their-class", "unknown-class", "old-way", "same"];
        expect![[r#"
            default-class/ -> a:80
            our-class/ -> b:80
            their-class/ -> none
            unknown-class/ -> none
            old-way/ -> none
            same/ -> b:80
        "#]]
        .assert_eq(&answers(&rules(&ingresses), &hosts.map(|host| (host, "/"))));
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let rules = rules(
            "
- metadata: {namespace: default, name: i}
  spec:
    rules:
    - http:
        paths:
        - {pathType: Prefix, path: /missing, backend: {service: {name: missing, port: {number: 80}}}}
        - {pathType: Prefix, path: /port, backend: {service: {name: a, port: {number: 81}}}}
        - {pathType: Prefix, path: /name, backend: {service: {name: a, port: {name: https}}}}
        - {pathType: Prefix, path: /resource, backend: {resource: {kind: Bucket, name: b}}}
",
        );
        let requests = ["/missing", "/port", "/name", "/resource", "/"].map(|path| ("h", path));
        expect![[r#"
            h/missing -> service default/missing does not exist
            h/port -> service default/a has no TCP port 81
            h/name -> service default/a has no TCP port https
            h/resource -> the Ingress names a resource as its backend; only Services are supported
            h/ -> none
        "#]]
        .assert_eq(&answers(&rules, &requests));
    }

    proptest! {
        /// A prefix matches exactly when its elements are the request's first elements.
        #[test]
        fn prefixes_match_element_by_element(prefix in "/([ab]{1,2}/?){0,3}", request in "/([ab]{1,2}/?){0,4}") {
            let elements = |path: &str| path.split('/').filter(|e| !e.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let expected = elements(&request).starts_with(&elements(&prefix));
            prop_assert_eq!(path_matches("Prefix", &prefix, &request), expected);
        }
    }
}
