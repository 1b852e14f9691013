//! Rules of containers: regular, init and ephemeral ones.

use std::collections::BTreeSet;

use super::volume::Volumes;
use super::{env, mount, probe, resources, restart, security};
use crate::field::{Field, FieldError};
use crate::object::same;
use crate::{names, rules};

/// What containers refer to in their pod.
pub struct Context<'a> {
    pub volumes: &'a Volumes,
    /// Names of the pod's resource claims.
    pub claims: &'a BTreeSet<&'a str>,
    /// What the pod has to end, in seconds.
    pub grace: Option<i64>,
    /// Whether the pod's users are the node's.
    pub host_users: bool,
    /// The pod's `restartPolicy`.
    pub restart_policy: &'a str,
}

/// Calls `visit` with the containers of every sort, in Kubernetes' order.
pub fn each<'v>(spec: &Field<'v, '_>, mut visit: impl FnMut(&Field<'v, '_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(list).items().for_each(|container| visit(&container));
    }
}

/// Checks the three lists of containers and that names differ across them.
pub fn validate_all(spec: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let containers = spec.get("containers");
    if containers.is_empty() {
        errors.push(containers.required(""));
    }
    let mut names = BTreeSet::new();
    for container in containers.items() {
        common(&container, context, errors);
        unique(&container, &mut names, errors);
        probe::container(&container, context.grace, errors);
        restart::validate(&container, errors);
    }
    let mut taken = BTreeSet::new();
    for container in containers.items() {
        host_ports(&container, &container, &mut taken, errors);
    }
    let init = spec.get("initContainers");
    for container in init.items() {
        common(&container, context, errors);
        restart::validate(&container, errors);
        unique(&container, &mut names, errors);
        // They run one after the other; Kubernetes finds all of their collisions at the first.
        let first = Field::new(container.value(), init.path.index(0));
        host_ports(&first, &container, &mut BTreeSet::new(), errors);
        self::init(&container, context, errors);
    }
    for container in spec.get("ephemeralContainers").items() {
        common(&container, context, errors);
        no_space(&container.get("image"), errors);
        unique(&container, &mut names, errors);
        ephemeral(&container, spec, errors);
    }
}

/// Checks what only holds for the containers of real pods.
pub fn validate_of_pod(spec: &Field, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).items() {
            no_space(&container.get("image"), errors);
        }
    }
}

fn no_space(image: &Field, errors: &mut Vec<FieldError>) {
    if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn unique<'v>(container: &Field<'v, '_>, names: &mut BTreeSet<&'v str>, errors: &mut Vec<FieldError>) {
    let name = container.get("name");
    if !name.is_empty() && !names.insert(name.text()) {
        errors.push(name.duplicate());
    }
}

fn common(container: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    rules::name(&container.get("name"), names::dns_label, errors);
    rules::required(&container.get("image"), errors);
    rules::one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], errors);
    ports(&container.get("ports"), errors);
    env::validate(container, errors);
    mount::validate(container, context.volumes, errors);
    rules::one_of(&container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], errors);
    let resources = container.get("resources");
    resources::validate(&resources, errors);
    claims(&resources.get("claims"), context.claims, errors);
    restart::resize(&container.get("resizePolicy"), context.restart_policy, errors);
    security::container(&container.get("securityContext"), context.host_users, errors);
}

/// A container uses claims of its pod, each once or different requests of it.
pub fn claims(claims: &Field, known: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let (mut whole, mut parts) = (BTreeSet::new(), BTreeSet::new());
    for claim in claims.items() {
        let (name, request) = (claim.get("name").text(), claim.get("request"));
        if name.is_empty() {
            errors.push(claim.required(""));
            continue;
        }
        let duplicate = |shown: String| FieldError::duplicate(&claim.path, shown);
        if whole.contains(name) {
            errors.push(duplicate(name.to_owned()));
        } else if request.is_empty() {
            let part_of_it = parts.iter().filter(|(part_of, _)| *part_of == name);
            errors.extend(part_of_it.map(|_| duplicate(name.to_owned())));
            whole.insert(name);
        } else {
            rules::form(&request, names::dns_label, errors);
            if !parts.insert((name, request.text())) {
                errors.push(duplicate(format!("{name}/{}", request.text())));
            }
        }
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().copied().collect();
            let list = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{list}");
            errors.push(FieldError { detail, ..FieldError::not_found(&claim.path, name) });
        }
    }
}

fn ports(ports: &Field, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let (name, number, host) = (port.get("name"), port.get("containerPort"), port.get("hostPort"));
        if !name.is_empty() {
            let wrong = names::port_name(name.text());
            if wrong.is_empty() && !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
            errors.extend(wrong.into_iter().map(|wrong| name.invalid(wrong)));
        }
        if number.int().unwrap_or_default() == 0 {
            errors.push(number.required(""));
        } else {
            rules::port(&number, errors);
        }
        match host.int().unwrap_or_default() {
            0 => {}
            _ => rules::port(&host, errors),
        }
        rules::one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
    }
}

/// A port of the node can be taken once for an address and protocol; what collides is found at `shown`.
fn host_ports(shown: &Field, container: &Field, taken: &mut BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let ports = shown.get("ports");
    for (index, port) in container.get("ports").items().enumerate() {
        let number = port.get("hostPort").int().unwrap_or_default();
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !taken.insert(key.clone()) {
            errors.push(FieldError::duplicate(&ports.path.index(index).child("hostPort"), key));
        }
    }
}

/// Ports of a container in the node's own network are the node's. Those of a pod say so by then.
pub fn node_ports(containers: &Field, of_pod: bool, errors: &mut Vec<FieldError>) {
    for container in containers.items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            let (shown, number) = (host.int().unwrap_or_default(), port.get("containerPort").int().unwrap_or_default());
            if (of_pod || shown != 0) && shown != number {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&host.path, shown, detail));
            }
        }
    }
}

fn init(container: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    if container.get("restartPolicy").text() == "Always" {
        probe::container(container, context.grace, errors);
        return;
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.get(name);
        if field.is_set() {
            errors.push(field.forbidden("may not be set for init containers without restartPolicy=Always"));
        }
    }
    for policy in container.get("resizePolicy").items() {
        let policy = policy.get("restartPolicy");
        if policy.text() == "RestartContainer" {
            errors.push(policy.invalid("must not be set to 'RestartContainer' for non-sidecar initContainers"));
        }
    }
}

fn ephemeral(container: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    /// What belongs to containers that a pod is made of.
    const OF_OTHERS: [&str; 9] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let target = container.get("targetContainerName");
    let is_target = |list: &str| spec.get(list).items().any(|other| other.get("name").text() == target.text());
    if !target.is_empty() && !is_target("containers") && !is_target("initContainers") {
        errors.push(target.not_found());
    }
    for name in OF_OTHERS {
        let field = container.get(name);
        if !same(field.value(), None) {
            errors.push(field.forbidden(FORBIDDEN));
        }
    }
    for mount in container.get("volumeMounts").items() {
        for path in ["subPath", "subPathExpr"] {
            let path = mount.get(path);
            if !path.is_empty() {
                errors.push(path.forbidden(FORBIDDEN));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::{check_containers, check_specs};
    use crate::testing::made;

    #[test]
    fn names_ports_and_claims() {
        check_specs(&[
            (
                "containers: [{name: c, image: i}], initContainers: [{name: c, image: i}]",
                "spec.initContainers[0].name: Duplicate value: \"c\"",
            ),
            (
                "initContainers: [{name: a, image: i, ports: [{containerPort: 1, hostPort: 1}]}, {name: b, image: i, ports: [{containerPort: 1, hostPort: 1}]}]",
                "",
            ),
            (
                "initContainers: [{name: a, image: i}, {name: b, image: i, ports: [{containerPort: 1, hostPort: 1}, {containerPort: 2, hostPort: 1}]}]",
                "spec.initContainers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
            ),
            (
                "containers: [{name: c, image: i, ports: [{containerPort: 1, hostPort: 2}]}], hostNetwork: true",
                "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
            ),
            (
                "initContainers: [{name: a, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}, {name: b, image: i, restartPolicy: Always, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]",
                "spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must not be set to 'RestartContainer' for non-sidecar initContainers",
            ),
            (
                "containers: [{name: c, image: i, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}], restartPolicy: Never",
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            ),
            (
                "containers: [{name: c, image: i, resources: {claims: [{name: a, request: r}, {name: a, request: r}, {name: a}, {name: a}, {name: b, request: R}]}}], resourceClaims: [{name: a, resourceClaimName: x}, {name: b, resourceClaimTemplateName: X}]",
                "spec.resourceClaims[1].resourceClaimTemplateName: Invalid value: \"X\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\nspec.containers[0].resources.claims[1]: Duplicate value: \"a/r\"\nspec.containers[0].resources.claims[2]: Duplicate value: \"a\"\nspec.containers[0].resources.claims[3]: Duplicate value: \"a\"\nspec.containers[0].resources.claims[4].request: Invalid value: \"R\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                "resources: {claims: [], requests: {cpu: 1}}",
                "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
            ),
            (
                "overhead: {cpu: 1, foo: 1}",
                "spec.overhead.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified\nspec.overhead.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            ),
        ]);
        check_containers(&[
            (
                "livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}}",
                "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ),
            (
                "restartPolicy: ''",
                "spec.containers[0].restartPolicy: Unsupported value: \"\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ),
        ]);
    }

    #[test]
    fn only_templates_may_have_space_around_an_image() {
        let template = "{metadata: {name: a, namespace: b}, template: {spec: {containers: [{name: c, image: ' i'}]}}}";
        assert_eq!(made("podtemplates", template), "");
        let pod = "{metadata: {name: a, namespace: b}, spec: {containers: [{name: c, image: ' i'}]}}";
        let expected =
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace\n";
        assert_eq!(made("pods", pod), expected);
    }

    #[test]
    fn what_a_pod_is_called_and_looks_up() {
        check_specs(&[
            ("hostnameOverride: a.b, imagePullSecrets: [{}], schedulerName: 'any thing'", ""),
            (
                "hostnameOverride: A, setHostnameAsFQDN: true, hostNetwork: true",
                "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true\nspec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true\nspec.hostnameOverride: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            ("dnsConfig: {searches: [., a_b.example., _x.y]}", ""),
            (
                "dnsConfig: {searches: ['', A.], nameservers: [010.0.0.1]}",
                "spec.dnsConfig.nameservers[0]: Invalid value: \"010.0.0.1\": must not have leading 0s\nspec.dnsConfig.searches[0]: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')\nspec.dnsConfig.searches[1]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                "preemptionPolicy: '', runtimeClassName: ''",
                "spec.runtimeClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\nspec.preemptionPolicy: Required value",
            ),
        ]);
    }
}
