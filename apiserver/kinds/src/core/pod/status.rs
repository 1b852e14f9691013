//! What a pod's status may say, and how it may go on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{annotations, restart};
use crate::field::{Field, FieldError};
use crate::object::{self, ensure, get, int, list, list_mut, text};
use crate::{names, rules};

/// Keeps what was decided when the pod was made, and what a writer leaves out that knows nothing of it.
pub fn prepare(new: &mut Value, old: &Value) {
    let Some(status) = ensure(new, &["status"]) else { return };
    if let Some(class) = get(old, &["status", "qosClass"]) {
        object::set_default_text(status, "qosClass", class.as_str().unwrap_or_default());
    }
    if int(old, &["status", "observedGeneration"]) != 0 {
        keep_generation(status, int(old, &["status", "observedGeneration"]));
    }
    // The first address and the list of them say the same; one is enough.
    let first = status.get("podIPs").and_then(|ips| ips.get(0)).and_then(|ip| ip.get("ip")).cloned();
    let one = status.get("podIP").filter(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty())).cloned();
    match (first, one) {
        (Some(first), None) => _ = status.insert("podIP".to_owned(), first),
        (None, Some(one)) => _ = status.insert("podIPs".to_owned(), json!([{"ip": one}])),
        _ => {}
    }
    // Of several conditions of a type, the first one's generation stays the first one's.
    let mut before: Vec<(&str, i64)> = list(old, &["status", "conditions"])
        .iter()
        .map(|condition| (text(condition, &["type"]), int(condition, &["observedGeneration"])))
        .collect();
    for condition in list_mut(new, &["status", "conditions"]) {
        let kind = text(condition, &["type"]).to_owned();
        let Some(at) = before.iter().position(|(other, _)| *other == kind) else { continue };
        let (_, generation) = before.remove(at);
        if let (Some(condition), true) = (condition.as_object_mut(), generation != 0) {
            keep_generation(condition, generation);
        }
    }
}

fn keep_generation(of: &mut Map<String, Value>, before: i64) {
    if of.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default() == 0 {
        of.insert("observedGeneration".to_owned(), before.into());
    }
}

/// Rules of a write of the status.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new_root, old_root) = (Field::root(new), Field::root(old));
    let (meta, old_meta, spec) = (new_root.get("metadata"), old_root.get("metadata"), new_root.get("spec"));
    let (status, before) = (new_root.get("status"), old_root.get("status"));
    let marks = meta.get("annotations");
    annotations::validate_update(&marks, &old_meta.get("annotations"), &mut errors);
    annotations::validate(&marks, &spec, &mut errors);
    conditions(&status.get("conditions"), &mut errors);
    nomination(&status, &before, text(old, &["spec", "nodeName"]), &mut errors);
    generation(&status, &mut errors);
    rules::immutable(&status.get("qosClass"), &before.get("qosClass"), &mut errors);
    states(&status, &before, old, &mut errors);
    claims(&status.get("resourceClaimStatuses"), &spec.get("resourceClaims"), &mut errors);
    extended_claim(&status.get("extendedResourceClaimStatus"), &spec, &mut errors);
    addresses(&status, &before, &mut errors);
    let windows = spec.get("os").get("name").text() == "windows";
    for name in LISTS {
        users(&status.get(name), windows, &mut errors);
    }
    allocated(&status.get("containerStatuses"), Some(&spec.get("containers")), &mut errors);
    allocated(&status.get("initContainerStatuses"), Some(&spec.get("initContainers")), &mut errors);
    allocated(&status.get("ephemeralContainerStatuses"), None, &mut errors);
    errors
}

const LISTS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

fn generation(of: &Field, errors: &mut Vec<FieldError>) {
    let generation = of.get("observedGeneration");
    if generation.int().is_some_and(|number| number < 0) {
        errors.push(generation.invalid("must be a non-negative integer"));
    }
}

fn conditions(conditions: &Field, errors: &mut Vec<FieldError>) {
    for condition in conditions.items() {
        generation(&condition, errors);
        let kind = condition.get("type").text();
        let wrong = names::qualified_name(kind).into_iter();
        // Kubernetes writes the field's name with a capital letter here.
        errors.extend(wrong.map(|wrong| FieldError::invalid(&condition.path.child("Type"), kind, wrong)));
    }
}

fn nomination(status: &Field, before: &Field, node: &str, errors: &mut Vec<FieldError>) {
    let name = status.get("nominatedNodeName");
    if name.is_empty() || name.text() == before.get("nominatedNodeName").text() {
        return;
    }
    rules::form(&name, names::dns_subdomain, errors);
    if !node.is_empty() {
        errors.push(name.forbidden("may not be set on pods that are already bound to a node"));
    }
}

/// A container that has ended and is not to be started again has ended for good.
fn states(status: &Field, before: &Field, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = old.get("spec").unwrap_or(&Value::Null);
    let policy = text(spec, &["restartPolicy"]);
    let all = restart::may_restart_all(spec);
    for (name, containers) in LISTS.into_iter().zip(["containers", "initContainers", ""]) {
        if all && !containers.is_empty() {
            continue;
        }
        let (now, statuses) = (status.get(name), before.get(name));
        for (index, old) in statuses.items().enumerate() {
            let Some(ended) = old.value().and_then(|old| get(old, &["state", "terminated"])) else { continue };
            let container = old.get("name").text();
            let goes_on = now
                .items()
                .any(|new| new.get("name").text() == container && !new.get("state").get("terminated").is_set());
            let code = int(ended, &["exitCode"]);
            let known = list(spec, &[containers]).iter().find(|known| text(known, &["name"]) == container);
            if goes_on && !known.is_some_and(|known| restart::may_restart(known, policy, code)) {
                let detail = "may not be transitioned to non-terminated state";
                errors.push(FieldError::forbidden(&now.path.index(index).child("state"), detail));
            }
        }
    }
}

fn claims(statuses: &Field, claims: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for status in statuses.items() {
        let (name, claim) = (status.get("name"), status.get("resourceClaimName"));
        if !claims.items().any(|claim| claim.get("name").text() == name.text()) {
            errors.push(name.invalid("must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        if claim.is_set() {
            rules::form(&claim, names::dns_subdomain, errors);
        }
    }
}

/// The claim that was made for extended resources, and for which of them.
fn extended_claim(status: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    if !status.is_set() {
        return;
    }
    let (mappings, claim) = (status.get("requestMappings"), status.get("resourceClaimName"));
    if mappings.is_empty() {
        errors.push(mappings.required("at least one request mapping is required"));
    }
    let mut seen = BTreeSet::new();
    for mapping in mappings.items() {
        let (container, resource, request) =
            (mapping.get("containerName"), mapping.get("resourceName"), mapping.get("requestName"));
        let lists = ["containers", "initContainers"].into_iter();
        let found = lists
            .flat_map(|name| spec.value().map(|spec| list(spec, &[name])).unwrap_or_default())
            .find(|found| text(found, &["name"]) == container.text());
        match found {
            Some(found) if get(found, &["resources", "requests", resource.text()]).is_none() => {
                errors.push(resource.invalid(
                    "must match the extended resource name of an entry in spec.initContainers.resources.requests or \
                     spec.containers.resources.requests",
                ));
            }
            Some(_) => {}
            None => errors.push(
                container
                    .invalid("must match the name of an entry in spec.initContainers.name or spec.containers.name"),
            ),
        }
        let shown = Field::new(request.value(), status.path.child("requestName"));
        rules::form(&shown, names::dns_label, errors);
        if !seen.insert((container.text(), resource.text(), request.text())) {
            errors.extend([container, resource, request].map(|field| field.duplicate()));
        }
    }
    rules::name(&claim, names::dns_subdomain, errors);
}

fn addresses(status: &Field, before: &Field, errors: &mut Vec<FieldError>) {
    for (list, one) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        let (addresses, first, known) = (status.get(list), status.get(one), before.get(list));
        for (index, address) in addresses.items().enumerate() {
            let ip = address.get("ip");
            if index == 0 && ip.text() != first.text() {
                errors.push(ip.invalid(format!("must be equal to `{one}`")));
            }
            // What was taken once may stay.
            if !known.items().any(|known| known.get("ip").text() == ip.text()) {
                rules::ip(&Field::new(ip.value(), address.path), errors);
            }
        }
        let families: Vec<bool> = addresses
            .items()
            .filter_map(|address| address.get("ip").text().parse::<IpAddr>().ok())
            .map(|address| address.is_ipv4())
            .collect();
        let is_pair = matches!(families[..], [a, b] if a != b);
        if addresses.len() > 1 && !(is_pair && addresses.len() == 2) {
            errors.push(addresses.invalid("may specify no more than one IP for each IP family"));
        }
    }
}

/// Who the processes of containers turned out to be.
fn users(statuses: &Field, windows: bool, errors: &mut Vec<FieldError>) {
    for status in statuses.items() {
        let user = status.get("user");
        let linux = user.get("linux");
        if linux.is_set() && windows {
            errors.push(linux.forbidden("cannot be set for a windows pod"));
        } else if linux.is_set() {
            let groups = linux.get("supplementalGroups");
            let mut check = |id: &Field| rules::between(id, 0, i64::from(i32::MAX), errors);
            check(&linux.get("uid"));
            check(&linux.get("gid"));
            groups.items().for_each(|group| check(&group));
        }
    }
}

/// How the devices of containers are; `containers` are those that may have some.
fn allocated(statuses: &Field, containers: Option<&Field>, errors: &mut Vec<FieldError>) {
    for status in statuses.items() {
        let resources = status.get("allocatedResourcesStatus");
        let Some(containers) = containers else {
            if !resources.is_empty() {
                errors.push(resources.forbidden("must not be specified in container status"));
            }
            continue;
        };
        let container = containers.items().find(|c| c.get("name").text() == status.get("name").text());
        let container = container.and_then(|container| container.value());
        for resource in resources.items() {
            let name = resource.get("name");
            if let Some(detail) = container.and_then(|container| unknown_resource(container, name.text())) {
                errors.push(name.invalid(detail));
            }
            health(&resource.get("resources"), errors);
        }
    }
}

/// What is wrong with a resource that the container did not ask for.
fn unknown_resource(container: &Value, name: &str) -> Option<&'static str> {
    if !name.starts_with("claim:") {
        let asked = get(container, &["resources", "requests", name]).is_some();
        return (!asked).then_some("must match one of the container's resource requests");
    }
    let claimed = list(container, &["resources", "claims"]).iter().any(|claim| {
        let request = text(claim, &["request"]);
        let request = if request.is_empty() { String::new() } else { format!("/{request}") };
        format!("claim:{}{request}", text(claim, &["name"])) == name
    });
    (!claimed).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
         'claim:<claimName>' if request is empty",
    )
}

fn health(devices: &Field, errors: &mut Vec<FieldError>) {
    const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
    const MAX_MESSAGE_BYTES: usize = 1024;
    let mut seen = BTreeSet::new();
    for device in devices.items() {
        let (id, health, message) = (device.get("resourceID"), device.get("health"), device.get("message"));
        if !HEALTH.contains(&health.text()) {
            errors.push(health.not_supported(&HEALTH));
        }
        if message.is_set() && message.is_empty() {
            errors.push(message.required("must be non-empty if specified"));
        } else if message.text().len() > MAX_MESSAGE_BYTES {
            errors.push(FieldError::too_long(&message.path, MAX_MESSAGE_BYTES));
        }
        if !seen.insert(id.text()) {
            errors.push(FieldError::duplicate(&id.path, id.text()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::yaml;

    fn pod(spec: &str, status: &str) -> Value {
        yaml(&format!(
            "{{metadata: {{name: a}}, spec: {{restartPolicy: Never, containers: [{{name: c, {spec}}}]}}, status: {{qosClass: BestEffort, {status}}}}}"
        ))
    }

    fn said(spec: &str, old: &str, new: &str) -> String {
        let (old, mut new) = (pod(spec, old), pod(spec, new));
        prepare(&mut new, &old);
        validate(&new, &old).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_has_ended_stays_so_unless_it_is_started_again() {
        let ended =
            |code: i64| format!("containerStatuses: [{{name: c, state: {{terminated: {{exitCode: {code}}}}}}}]");
        let running = "containerStatuses: [{name: c, state: {running: {}}}]";
        let refused = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
        for (spec, code, expected) in [
            ("", 0, refused),
            ("restartPolicy: Always", 0, ""),
            ("restartPolicy: OnFailure", 0, refused),
            ("restartPolicy: OnFailure", 1, ""),
            (
                "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [3]}}]",
                3,
                "",
            ),
            (
                "restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [3]}}]",
                4,
                refused,
            ),
            (
                "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [3]}}]",
                4,
                "",
            ),
        ] {
            assert_eq!(said(spec, &ended(code), running), expected, "{spec} {code}");
        }
        let added = |state: &str| format!("ephemeralContainerStatuses: [{{name: e, state: {{{state}: {{}}}}}}]");
        assert_eq!(
            said("restartPolicy: Always", &added("terminated"), &added("waiting")),
            refused.replace("containerStatuses", "ephemeralContainerStatuses")
        );
        assert_eq!(said("", &ended(0), ""), "", "nothing is said of it any more");
    }

    #[test]
    fn what_a_status_may_say() {
        for (status, expected) in [
            ("conditions: [{type: Ready}, {type: a/b}], observedGeneration: 1", ""),
            (
                "conditions: [{type: 'a b', observedGeneration: -1}], observedGeneration: -1",
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer\nstatus.conditions[0].Type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\nstatus.observedGeneration: Invalid value: -1: must be a non-negative integer",
            ),
            ("podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]", ""),
            (
                "hostIP: 10.0.0.1, hostIPs: [{ip: 10.0.0.2}, {ip: x}]",
                "status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`\nstatus.hostIPs[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)\nstatus.hostIPs: Invalid value: [{\"ip\":\"10.0.0.2\"},{\"ip\":\"x\"}]: may specify no more than one IP for each IP family",
            ),
            (
                "resourceClaimStatuses: [{name: x, resourceClaimName: z}]",
                "status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`",
            ),
            (
                "containerStatuses: [{name: c, user: {linux: {uid: -1, gid: 0}}, allocatedResourcesStatus: [{name: a/b, resources: [{resourceID: x, health: Odd}]}]}]",
                "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive\nstatus.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: \"a/b\": must match one of the container's resource requests\nstatus.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: \"Odd\": supported values: \"Healthy\", \"Unhealthy\", \"Unknown\"",
            ),
            (
                "extendedResourceClaimStatus: {requestMappings: [{containerName: c, resourceName: a/b, requestName: r}], resourceClaimName: x}",
                "status.extendedResourceClaimStatus.requestMappings[0].resourceName: Invalid value: \"a/b\": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests",
            ),
        ] {
            assert_eq!(said("", "", status), expected, "{status}");
        }
        let (mut new, mut old) = (pod("", "nominatedNodeName: n1"), pod("", ""));
        assert!(validate(&new, &old).is_empty());
        for pod in [&mut new, &mut old] {
            pod["spec"]["nodeName"] = "m".into();
        }
        assert_eq!(
            validate(&new, &old)[0].to_string(),
            "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"
        );
        new["status"] = json!({"qosClass": "Guaranteed"});
        let changed = "status.qosClass: Invalid value: \"Guaranteed\": field is immutable";
        assert_eq!(validate(&new, &old)[0].to_string(), changed);
    }

    #[test]
    fn a_first_address_is_said_twice() {
        for status in ["{podIP: 10.0.0.1}", "{podIPs: [{ip: 10.0.0.1}]}"] {
            let mut new = yaml(&format!("{{status: {status}}}"));
            prepare(&mut new, &Value::Null);
            assert_eq!(new["status"], yaml("{podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}"));
        }
    }

    #[test]
    fn what_a_writer_leaves_out_stays() {
        let old = pod(
            "",
            "observedGeneration: 3, conditions: [{type: A, observedGeneration: 2}, {type: A, observedGeneration: 4}]",
        );
        let mut new =
            yaml("{spec: {}, status: {conditions: [{type: A}, {type: A, observedGeneration: 5}, {type: B}]}}");
        prepare(&mut new, &old);
        let expected = yaml(
            "{qosClass: BestEffort, observedGeneration: 3, conditions: [{type: A, observedGeneration: 2}, {type: A, observedGeneration: 5}, {type: B}]}",
        );
        assert_eq!(new["status"], expected);
    }
}
