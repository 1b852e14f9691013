//! Annotations that mean something for a pod; most have a field that replaced them.

use serde_json::Value;

use super::{container, mirror, scheduling};
use crate::field::{Field, FieldError, FieldPath};
use crate::rules;

const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// A profile of system calls for the whole pod, and for one container.
pub const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// A profile of a container's access.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

const LOCALHOST: &str = "localhost/";

/// Checks the annotations of a pod or a template with this spec.
pub fn validate(annotations: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    let mirrored = annotations.key(mirror::ANNOTATION);
    if mirrored.is_set() && spec.get("nodeName").is_empty() {
        errors.push(mirrored.invalid("must set spec.nodeName if mirror pod annotation is set"));
    }
    tolerations(annotations, errors);
    let cost = annotations.key(DELETION_COST);
    if cost.is_set() && !is_cost(cost.text()) {
        errors.push(cost.invalid("must be a 32bit integer"));
    }
    for (key, profile) in annotations.entries() {
        if key == SECCOMP || key.starts_with(SECCOMP_OF_CONTAINER) {
            seccomp(&annotations.path.child(key), profile.text(), errors);
        }
    }
    for (key, profile) in annotations.entries() {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let mut found = false;
        container::each(spec, |container| found |= container.get("name").text() == name);
        if !found {
            errors.push(FieldError::invalid(&profile.path, name, "container not found"));
        }
        let text = profile.text();
        if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with(LOCALHOST) {
            errors.push(profile.invalid(format!("invalid AppArmor profile name: {text:?}")));
        }
    }
}

fn tolerations(annotations: &Field, errors: &mut Vec<FieldError>) {
    let written = annotations.key(TOLERATIONS);
    if written.is_empty() {
        return;
    }
    match serde_json::from_str::<Value>(written.text()) {
        Ok(Value::Null) => {}
        Ok(list @ Value::Array(_)) => {
            scheduling::tolerations(&Field::new(Some(&list), annotations.path.child(TOLERATIONS)), errors);
        }
        Ok(_) => {
            let detail = "json: cannot unmarshal value into Go value of type []core.Toleration";
            errors.push(FieldError::invalid(&annotations.path, TOLERATIONS, detail));
        }
        Err(error) => errors.push(FieldError::invalid(&annotations.path, TOLERATIONS, error.to_string())),
    }
}

/// A whole number of 32 bits, without a plus sign or leading zeros.
fn is_cost(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| matches!(b, b'-' | b'1'..=b'9') || text == "0");
    first && text.parse::<i32>().is_ok()
}

fn seccomp(path: &FieldPath, profile: &str, errors: &mut Vec<FieldError>) {
    if let Some(local) = profile.strip_prefix(LOCALHOST) {
        let local = Value::from(local);
        rules::path_below(&Field::new(Some(&local), *path), errors);
    } else if !matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile"));
    }
}

/// Checks that annotations and the fields that replaced them do not say different things.
pub fn validate_match(annotations: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    let of_pod = spec.get("securityContext");
    let profile = of_pod.get("seccompProfile");
    seccomp_matches(&annotations.key(SECCOMP), &profile, errors);
    container::each(spec, |container| {
        let key = format!("{SECCOMP_OF_CONTAINER}{}", container.get("name").text());
        let context = container.get("securityContext");
        seccomp_matches(&annotations.key(&key), &context.get("seccompProfile"), errors);
    });
    if spec.get("os").get("name").text() == "windows" {
        return;
    }
    container::each(spec, |container| {
        let key = format!("{APP_ARMOR}{}", container.get("name").text());
        let context = container.get("securityContext");
        let own = context.get("appArmorProfile");
        let profile = own.value().or(of_pod.get("appArmorProfile").value());
        let profile = Field::new(profile, context.path.child("appArmorProfile"));
        matches(&annotations.key(&key), &profile, &["runtime/default"], "apparmor", errors);
    });
}

fn seccomp_matches(annotation: &Field, profile: &Field, errors: &mut Vec<FieldError>) {
    matches(annotation, profile, &["runtime/default", "docker/default"], "seccomp", errors);
}

/// `default` are the annotation's words for the runtime's own profile.
fn matches(annotation: &Field, profile: &Field, default: &[&str], system: &str, errors: &mut Vec<FieldError>) {
    let Some(text) = annotation.str().filter(|_| profile.is_set()) else { return };
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    let same_kind = match kind.text() {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => default.contains(&text),
        "Localhost" => text.starts_with(LOCALHOST),
        _ => true,
    };
    if !same_kind {
        errors.push(kind.forbidden(format!("{system} type in annotation and field must match")));
    } else if kind.text() == "Localhost" && text.strip_prefix(LOCALHOST) != local.str() {
        errors.push(local.forbidden(format!("{system} profile in annotation and field must match")));
    }
}

/// Annotations that are there for as long as the pod is, or never.
pub fn validate_update(new: &Field, old: &Field, errors: &mut Vec<FieldError>) {
    let fixed = |key: &str| match key {
        mirror::ANNOTATION => Some("mirror pod annotation"),
        _ => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, before) in old.entries() {
        let now = new.key(key);
        if let Some(what) = fixed(key).filter(|_| now.str() != before.str()) {
            errors.push(now.forbidden(format!("may not remove or update {what}")));
        }
    }
    for (key, now) in new.entries() {
        if let Some(what) = fixed(key).filter(|_| !old.key(key).is_set()) {
            errors.push(now.forbidden(format!("may not add {what}")));
        }
    }
}

/// The field that says what an AppArmor annotation says, if that is a profile.
fn field_of(annotation: &str) -> Option<Value> {
    match annotation.strip_prefix(LOCALHOST) {
        Some("") => None,
        Some(name) if name.trim() != name => None,
        Some(name) => Some(serde_json::json!({"type": "Localhost", "localhostProfile": name})),
        None => match annotation {
            "unconfined" => Some(serde_json::json!({"type": "Unconfined"})),
            "runtime/default" => Some(serde_json::json!({"type": "RuntimeDefault"})),
            _ => None,
        },
    }
}

/// Writes what AppArmor annotations say into the fields that replaced them, where those say nothing.
pub fn to_fields(pod: &mut Value) {
    use crate::object::{ensure, get, list_mut, map, text};
    if text(pod, &["spec", "os", "name"]) == "windows" {
        return;
    }
    let annotations = map(pod, &["metadata", "annotations"]).into_iter().flatten();
    let profiles: Vec<(String, Value)> = annotations
        .filter_map(|(key, value)| Some((key.strip_prefix(APP_ARMOR)?.to_owned(), field_of(value.as_str()?)?)))
        .collect();
    let of_pod = get(pod, &["spec", "securityContext", "appArmorProfile"]).cloned();
    for (name, profile) in profiles.into_iter().filter(|(_, profile)| Some(profile) != of_pod.as_ref()) {
        for list in ["initContainers", "containers"] {
            for container in list_mut(pod, &["spec", list]) {
                if text(container, &["name"]) == name
                    && let Some(context) = ensure(container, &["securityContext"])
                {
                    crate::object::set_default(context, "appArmorProfile", profile.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{made, updated, yaml};

    fn pod(annotations: &str, spec: &str) -> String {
        format!(
            "{{metadata: {{name: a, namespace: b, annotations: {{{annotations}}}}}, spec: {{containers: [{{name: c, image: i}}], {spec}}}}}"
        )
    }

    #[test]
    fn annotations_are_checked_as_their_fields_are() {
        let at = "metadata.annotations";
        for (annotations, spec, expected) in [
            ("controller.kubernetes.io/pod-deletion-cost: '-1'", "", String::new()),
            (
                "controller.kubernetes.io/pod-deletion-cost: '+1'",
                "",
                format!(
                    "{at}[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer"
                ),
            ),
            (
                "seccomp.security.alpha.kubernetes.io/pod: odd",
                "",
                format!(
                    "{at}.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"odd\": must be a valid seccomp profile"
                ),
            ),
            (
                "container.seccomp.security.alpha.kubernetes.io/c: localhost/../x",
                "",
                format!(
                    "{at}.container.seccomp.security.alpha.kubernetes.io/c: Invalid value: \"../x\": must not contain '..'"
                ),
            ),
            (
                "container.apparmor.security.beta.kubernetes.io/d: odd",
                "",
                format!(
                    "{at}[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"d\": container not found\n{at}[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"odd\": invalid AppArmor profile name: \"odd\""
                ),
            ),
            (
                "scheduler.alpha.kubernetes.io/tolerations: '[{\"operator\": \"Equal\"}]'",
                "",
                format!(
                    "{at}.scheduler.alpha.kubernetes.io/tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""
                ),
            ),
            (
                "seccomp.security.alpha.kubernetes.io/pod: unconfined",
                "securityContext: {seccompProfile: {type: RuntimeDefault}}",
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match"
                    .into(),
            ),
            (
                "container.apparmor.security.beta.kubernetes.io/c: localhost/a",
                "securityContext: {appArmorProfile: {type: Unconfined}}",
                String::new(),
            ),
        ] {
            assert_eq!(made("pods", &pod(annotations, spec)).trim_end(), expected, "{annotations}");
        }
    }

    #[test]
    fn profiles_stay_as_they_are() {
        let (with, without) = (pod("container.apparmor.security.beta.kubernetes.io/c: unconfined", ""), pod("", ""));
        let at = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden";
        assert_eq!(updated("pods", &with, &without), format!("{at}: may not remove or update AppArmor annotations\n"));
        assert_eq!(updated("pods", &without, &with), format!("{at}: may not add AppArmor annotations\n"));
    }

    #[test]
    fn app_armor_annotations_become_fields() {
        let mut made = yaml(&pod("container.apparmor.security.beta.kubernetes.io/c: localhost/p", ""));
        to_fields(&mut made);
        let profile = serde_json::json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}});
        assert_eq!(made["spec"]["containers"][0]["securityContext"], profile);
    }
}
