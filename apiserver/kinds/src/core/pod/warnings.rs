//! What a pod or a template says that is allowed, but likely not meant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{annotations, container, env, resources};
use crate::core::node;
use crate::field::Field;
use crate::{names, rules};

/// Annotations that nothing reads any more.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Volumes that Kubernetes has given up.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// What resources of bytes come in.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

const MATCHES_NONE: &str = "a null labelSelector results in matching no pod";

/// Warnings of a new pod.
pub fn pod(pod: &Value) -> Vec<String> {
    let root = Field::root(pod);
    let wrong = names::dns_label(root.get("metadata").get("name").text());
    let mut warnings = Vec::new();
    if !wrong.is_empty() {
        let wrong = wrong.join(" ");
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [{wrong}]"
        ));
    }
    of(&root, false, &mut warnings);
    warnings
}

/// Warnings of a template.
pub fn template(template: &Field) -> Vec<String> {
    let mut warnings = Vec::new();
    of(template, true, &mut warnings);
    warnings
}

fn of(owner: &Field, is_template: bool, warnings: &mut Vec<String>) {
    let (meta, spec) = (owner.get("metadata"), owner.get("spec"));
    let marks = meta.get("annotations");
    nodes(&spec, warnings);
    spread(&spec, warnings);
    for (key, message) in OLD_ANNOTATIONS {
        if marks.key(key).is_set() {
            warnings.push(format!("{}: {message}", marks.key(key).path));
        }
    }
    volumes(&spec.get("volumes"), warnings);
    paths(&spec.get("volumes"), warnings);
    repeated(&spec, warnings);
    fractions(&spec.get("overhead"), warnings);
    profiles(&marks, &spec, is_template, warnings);
    ports(&spec, warnings);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path));
    }
    affinity(&spec.get("affinity"), warnings);
    let config = spec.get("dnsConfig");
    warnings.extend(config.get("nameservers").items().filter_map(|server| rules::ip_warning(&server)));
    warnings.extend(spec.get("hostAliases").items().filter_map(|alias| rules::ip_warning(&alias.get("ip"))));
}

/// Selectors that name nodes by labels that are gone, or that no node can have.
fn nodes(spec: &Field, warnings: &mut Vec<String>) {
    let selector = spec.get("nodeSelector");
    for (key, label) in selector.entries() {
        warnings.extend(node::old_label(key).map(|instead| format!("{}: {instead}", label.path)));
    }
    let affinity = spec.get("affinity");
    let nodes = affinity.get("nodeAffinity");
    warnings.extend(node::selector_warnings(&nodes.get("requiredDuringSchedulingIgnoredDuringExecution")));
    for preferred in nodes.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        for expression in preferred.get("preference").get("matchExpressions").items() {
            warnings.extend(node::key_warning(&expression.get("key")));
            for value in expression.get("values").items() {
                let wrong = names::label_value(value.text()).into_iter();
                warnings.extend(wrong.map(|wrong| format!("{}: {} is invalid, {wrong}", value.path, value.text())));
            }
        }
    }
}

fn spread(spec: &Field, warnings: &mut Vec<String>) {
    for constraint in spec.get("topologySpreadConstraints").items() {
        let (key, selector) = (constraint.get("topologyKey"), constraint.get("labelSelector"));
        warnings.extend(node::key_warning(&key));
        if !selector.is_set() {
            warnings.push(format!("{}: {MATCHES_NONE}", selector.path));
        }
    }
}

fn affinity(affinity: &Field, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        let mut check = |term: &Field| {
            let selector = term.get("labelSelector");
            if !selector.is_set() {
                warnings.push(format!("{}: {MATCHES_NONE}", selector.path));
            }
        };
        pods.get("requiredDuringSchedulingIgnoredDuringExecution").items().for_each(|term| check(&term));
        let preferred = pods.get("preferredDuringSchedulingIgnoredDuringExecution");
        preferred.items().for_each(|term| check(&term.get("podAffinityTerm")));
    }
}

fn volumes(volumes: &Field, warnings: &mut Vec<String>) {
    for volume in volumes.items() {
        for (source, message) in OLD_VOLUMES {
            if volume.get(source).is_set() {
                // Kubernetes writes this one's name otherwise here.
                let shown = if source == "storageos" { "storageOS" } else { source };
                warnings.push(format!("{}: {message}", volume.path.child(shown)));
            }
        }
        let claim = volume.get("ephemeral");
        let claim = claim.get("volumeClaimTemplate");
        let resources = claim.get("spec");
        let resources = resources.get("resources");
        fraction(&resources.get("requests").key("storage"), warnings);
    }
}

/// Files of one volume of which one is where the other is to be a directory.
fn paths(volumes: &Field, warnings: &mut Vec<String>) {
    for volume in volumes.items() {
        let name = volume.get("name").text();
        let (map, secret, own, projected) =
            (volume.get("configMap"), volume.get("secret"), volume.get("downwardAPI"), volume.get("projected"));
        let about = |what: String| format!("volume {name:?} ({what}): overlapping paths");
        overlaps(&files(&map), &about(format!("ConfigMap {:?}", map.get("name").text())), warnings);
        overlaps(&files(&secret), &about(format!("Secret {:?}", secret.get("secretName").text())), warnings);
        overlaps(&files(&own), &about("DownwardAPI".to_owned()), warnings);
        let mut all: BTreeSet<&str> = BTreeSet::new();
        for source in projected.get("sources").items() {
            if source.is_empty() {
                warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            let (files, what) = projection(&source);
            if files.is_empty() {
                continue;
            }
            let about = about(format!("Projected {what}"));
            overlaps(&files, &about, warnings);
            let own: BTreeSet<&str> = files.into_iter().collect();
            let mut both: Vec<&str> = own.iter().chain(&all).copied().collect();
            both.sort_unstable();
            overlaps(&both, &about, warnings);
            all.extend(own);
        }
    }
}

fn files<'v>(source: &Field<'v, '_>) -> Vec<&'v str> {
    source.get("items").items().map(|item| item.get("path").text()).collect()
}

/// The files of a source, and what it is.
fn projection<'v>(source: &Field<'v, '_>) -> (Vec<&'v str>, String) {
    let part = |name: &'static str| source.value().and_then(|source| source.get(name));
    let part = |name| Field::new(part(name), source.path);
    let (map, secret, own) = (part("configMap"), part("secret"), part("downwardAPI"));
    let (token, bundle) = (part("serviceAccountToken"), part("clusterTrustBundle"));
    let one = |of: &Field<'v, '_>| vec![of.get("path").text()];
    if map.get("items").is_set() {
        (files(&map), format!("ConfigMap {:?}", map.get("name").text()))
    } else if secret.get("items").is_set() {
        (files(&secret), format!("Secret {:?}", secret.get("name").text()))
    } else if own.get("items").is_set() {
        (files(&own), "DownwardAPI".to_owned())
    } else if token.is_set() {
        (one(&token), "ServiceAccountToken".to_owned())
    } else if bundle.is_set() {
        let name = bundle.get("name").str().unwrap_or(bundle.get("signerName").text());
        (one(&bundle), format!("ClusterTrustBundle {name:?}"))
    } else {
        (Vec::new(), String::new())
    }
}

fn overlaps(paths: &[&str], about: &str, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        // As Kubernetes does, which also takes `ab` for a file in `a`.
        let collides = |other: &&&str| {
            !other.is_empty()
                && !path.is_empty()
                && (format!("{other}/").starts_with(path) || format!("{path}/").starts_with(**other))
        };
        if let Some(other) = seen.iter().find(collides) {
            warnings.push(format!("{about}: {path:?} with {other:?}"));
        }
        seen.insert(path);
    }
}

fn repeated(spec: &Field, warnings: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for item in spec.get(list).items() {
            let value = item.get(field);
            if !seen.insert(value.text()) {
                warnings.push(format!("{}: duplicate {field} {:?}", value.path, value.text()));
            }
        }
    }
    for secret in spec.get("imagePullSecrets").items() {
        let name = secret.get("name");
        if name.is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", name.path));
        }
    }
}

/// Amounts of bytes that are not whole.
fn fractions(amounts: &Field, warnings: &mut Vec<String>) {
    for name in BYTES {
        fraction(&amounts.key(name), warnings);
    }
}

fn fraction(amount: &Field, warnings: &mut Vec<String>) {
    if let Some(bytes) = amount.value().and_then(resources::parse).filter(|bytes| !bytes.is_whole()) {
        let bytes = bytes.to_string();
        warnings.push(format!("{}: fractional byte value {bytes:?} is invalid, must be an integer", amount.path));
    }
}

/// What is said of each container, and in annotations that fields replaced.
fn profiles(marks: &Field, spec: &Field, is_template: bool, warnings: &mut Vec<String>) {
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    const APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    let of_pod = spec.get("securityContext");
    let mark = marks.key(annotations::SECCOMP);
    if mark.is_set() && !of_pod.get("seccompProfile").is_set() {
        warnings.push(format!("{}: {SECCOMP}", mark.path));
    }
    let armored = of_pod.get("appArmorProfile").is_set();
    container::each(spec, |container| {
        let (context, name) = (container.get("securityContext"), container.get("name").text());
        let key = format!("{}{name}", annotations::SECCOMP_OF_CONTAINER);
        let mark = marks.key(&key);
        if mark.is_set() && !context.get("seccompProfile").is_set() {
            warnings.push(format!("{}: {SECCOMP}", mark.path));
        }
        let key = format!("{}{name}", annotations::APP_ARMOR);
        let mark = marks.key(&key);
        if is_template && mark.is_set() && !armored && !context.get("appArmorProfile").is_set() {
            warnings.push(format!("{}: {APP_ARMOR}", mark.path));
        }
        let resources = container.get("resources");
        for name in BYTES {
            for list in ["limits", "requests"] {
                fraction(&resources.get(list).key(name), warnings);
            }
        }
        env::warnings(container, warnings);
    });
}

/// Ports that are said twice. A port by itself does no harm; two that cannot be told apart may.
fn ports(spec: &Field, warnings: &mut Vec<String>) {
    struct Known<'v> {
        path: String,
        address: &'v str,
        host: i64,
    }
    let mut known: BTreeMap<(i64, &str), Vec<Known>> = BTreeMap::new();
    container::each(spec, |container| {
        for port in container.get("ports").items() {
            let (address, host) = (port.get("hostIP").text(), port.get("hostPort").int().unwrap_or_default());
            let (number, protocol) = (port.get("containerPort").int().unwrap_or_default(), port.get("protocol").text());
            let path = port.path;
            if !address.is_empty() && host == 0 {
                let name = port.get("name").text();
                warnings.push(format!(
                    "{path}: hostIP set without hostPort: {{Name:{name} HostPort:{host} ContainerPort:{number} \
                     Protocol:{protocol} HostIP:{address}}}"
                ));
            }
            let others = known.entry((number, protocol)).or_default();
            for other in others.iter() {
                let how = if address == other.address && host == other.host {
                    "duplicate"
                } else if host == 0 || other.host == 0 {
                    "overlapping"
                } else if host == other.host && address.is_empty() != other.address.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{path}: {how} port definition with {}", other.path));
            }
            others.push(Known { path: path.to_string(), address, host });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::yaml;

    #[test]
    fn what_is_likely_not_meant() {
        for (pod, expected) in [
            ("metadata: {name: a}, spec: {}", ""),
            (
                "metadata: {name: a.b}, spec: {}",
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            ),
            (
                "metadata: {name: a}, spec: {nodeSelector: {beta.kubernetes.io/os: linux}, topologySpreadConstraints: [{topologyKey: failure-domain.beta.kubernetes.io/zone}], affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}",
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead\nspec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead\nspec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod\nspec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
            ),
            (
                "metadata: {name: a, annotations: {scheduler.alpha.kubernetes.io/critical-pod: '', seccomp.security.alpha.kubernetes.io/pod: unconfined}}, spec: {}",
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead\nmetadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
            ),
            (
                "metadata: {name: a}, spec: {volumes: [{name: v, storageos: {}}, {name: w, configMap: {name: m, items: [{path: a}, {path: a/b}, {path: a}]}}]}",
                "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+\nvolume \"w\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\"\nvolume \"w\" (ConfigMap \"m\"): overlapping paths: \"a\" with \"a\"",
            ),
            (
                "metadata: {name: a}, spec: {volumes: [{name: v, projected: {sources: [{}, {secret: {name: s, items: [{path: x/y}]}}, {serviceAccountToken: {path: x}}]}}]}",
                "volume \"v\" (Projected) has no sources provided\nvolume \"v\" (Projected ServiceAccountToken): overlapping paths: \"x/y\" with \"x\"",
            ),
            (
                "metadata: {name: a}, spec: {hostAliases: [{ip: 10.0.0.1}, {ip: 10.0.0.1}], imagePullSecrets: [{name: s}, {name: s}, {}], terminationGracePeriodSeconds: -1}",
                "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"\nspec.imagePullSecrets[1].name: duplicate name \"s\"\nspec.imagePullSecrets[2].name: invalid empty name \"\"\nspec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ),
            (
                "metadata: {name: a}, spec: {containers: [{name: c, resources: {limits: {memory: 100m}}, env: [{name: A, value: x}, {name: A, value: \"$(A)y\"}, {name: A, value: z}], ports: [{containerPort: 1, protocol: TCP, hostIP: 10.0.0.1}, {containerPort: 1, protocol: TCP}, {containerPort: 1, protocol: TCP, hostPort: 1}, {containerPort: 1, protocol: TCP, hostPort: 1, hostIP: 10.0.0.1}]}]}",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer\nspec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply\nspec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP HostIP:10.0.0.1}\nspec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]\nspec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]\nspec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]\nspec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[0]\nspec.containers[0].ports[3]: overlapping port definition with spec.containers[0].ports[1]\nspec.containers[0].ports[3]: dangerously ambiguous port definition with spec.containers[0].ports[2]",
            ),
        ] {
            assert_eq!(self::pod(&yaml(&format!("{{{pod}}}"))).join("\n"), expected, "{pod}");
        }
        let annotated = yaml(
            "{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: unconfined}}, spec: {containers: [{name: c}]}}",
        );
        assert_eq!(
            template(&Field::root(&annotated)),
            [
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ]
        );
    }
}
