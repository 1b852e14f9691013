//! PodSecurity: namespaces say which Pod Security Standard their pods must keep, and which they are only warned about.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use k8w_kinds::object::{get, list, map, text};
use k8w_kinds::pod_security::{self, Level, LevelVersion, Pod, Policy};
use serde_json::Value;

use super::{forbidden, is_kind};
use crate::plugins::{Admission, AdmissionRequest, Operation};
use crate::status::Status;

/// How many pods of a namespace are looked at when it asks for more than before.
const MAX_CHECKED_PODS: usize = 3000;

/// Subresources that do not change what a pod may do.
const IGNORED_SUBRESOURCES: &[&str] =
    &["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// What the plugin is told at start (`pod-security.admission.config.k8s.io` PodSecurityConfiguration).
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What counts for namespaces without labels.
    pub defaults: Policy,
    /// Namespaces, users and runtime classes that no standard is applied to.
    pub exempt_namespaces: Vec<String>,
    pub exempt_users: Vec<String>,
    pub exempt_runtime_classes: Vec<String>,
}

pub struct PodSecurity {
    settings: Settings,
}

impl PodSecurity {
    pub fn new(settings: Settings) -> Self {
        PodSecurity { settings }
    }

    fn policy(&self, namespace: &Value) -> Policy {
        Policy::of(map(namespace, &["metadata", "labels"]), self.settings.defaults).0
    }

    fn is_exempt_namespace(&self, namespace: &str) -> bool {
        self.settings.exempt_namespaces.iter().any(|exempt| exempt == namespace)
    }

    fn is_exempt_class(&self, pod: &Value) -> bool {
        let class = text(pod, &["spec", "runtimeClassName"]);
        self.settings.exempt_runtime_classes.iter().any(|exempt| exempt == class)
    }

    /// What a namespace asks for must be readable; who asks for more hears which pods fall short.
    fn namespace(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if !request.subresource.is_empty() {
            return Ok(());
        }
        let labels = |namespace| map(namespace, &["metadata", "labels"]);
        let (new, errors) = Policy::of(labels(request.object), self.settings.defaults);
        let old = request.old.map(|old| Policy::of(labels(old), self.settings.defaults));
        if !errors.is_empty() && old.as_ref().is_none_or(|(_, before)| *before != errors) {
            let resource = request.resource;
            return Err(Status::invalid(&resource.group, &resource.kind, request.name, &errors));
        }
        let exempt = self.is_exempt_namespace(request.name);
        let Some((old, _)) = old else {
            if exempt {
                self.warn_exempt(request, new);
            }
            return Ok(());
        };
        let (after, before) = (new.enforce, old.enforce);
        let relaxed = after.version == before.version && after.level <= before.level;
        if after == before || after.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if exempt {
            self.warn_exempt(request, new);
        } else {
            self.warn_of_pods(request, after);
        }
        Ok(())
    }

    fn warn_exempt(&self, request: &AdmissionRequest<'_>, policy: Policy) {
        if policy.is_privileged() || policy == self.settings.defaults {
            return;
        }
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
        let label = |name: String| {
            let name = format!("pod-security.kubernetes.io/{name}");
            get(request.object, &["metadata", "labels", &name]).is_some()
        };
        let asked = modes.into_iter().filter(|(mode, level)| {
            level.level != Level::Privileged && (label((*mode).to_owned()) || label(format!("{mode}-version")))
        });
        let asked: Vec<String> = asked.map(|(mode, level)| format!("{mode}={level}")).collect();
        request.warnings.add(format!(
            "namespace {:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            request.name,
            asked.join(", ")
        ));
    }

    /// Warns of the pods that are there and would not be let in any more.
    fn warn_of_pods(&self, request: &AdmissionRequest<'_>, enforce: LevelVersion) {
        let (records, _) = request.view.kind("", "pods").list(Some(request.name));
        let pods = records.iter().map(|record| record.value()).filter(|pod| !self.is_exempt_class(pod)).collect();
        let pods = one_of_each_controller_first(pods);
        // Pods by what is wrong with them: the first name, and how many.
        let mut faults: BTreeMap<String, (&str, usize)> = BTreeMap::new();
        for pod in pods.iter().take(MAX_CHECKED_PODS) {
            let violations = pod_security::evaluate(enforce, &Pod::new(pod));
            if !violations.is_empty() {
                let name = text(pod, &["metadata", "name"]);
                let entry = faults.entry(pod_security::reasons(&violations)).or_insert((name, 0));
                *entry = (entry.0.min(name), entry.1 + 1);
            }
        }
        if pods.len() > MAX_CHECKED_PODS {
            request.warnings.add(format!(
                "new PodSecurity enforce level only checked against the first {MAX_CHECKED_PODS} of {} existing pods",
                pods.len()
            ));
        }
        if !faults.is_empty() {
            let namespace = request.name;
            request.warnings.add(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
            ));
        }
        let mut lines: Vec<String> = faults
            .iter()
            .map(|(reasons, (name, count))| match count {
                1 => format!("{name}: {reasons}"),
                2 => format!("{name} (and 1 other pod): {reasons}"),
                more => format!("{name} (and {} other pods): {reasons}", more - 1),
            })
            .collect();
        lines.sort();
        lines.into_iter().for_each(|line| request.warnings.add(line));
    }

    /// `enforces` says whether it is a pod itself: workloads are warned about and let in.
    fn pod(&self, request: &AdmissionRequest<'_>, pod: &Value, enforces: bool) -> Result<(), Status> {
        let exempt_user = self.settings.exempt_users.contains(&request.user.name);
        if self.is_exempt_namespace(request.namespace) || exempt_user || self.is_exempt_class(pod) {
            return Ok(());
        }
        let Some(namespace) = request.view.get("", "namespaces", "", request.namespace) else { return Ok(()) };
        let policy = self.policy(&namespace.value());
        if policy.is_privileged() {
            return Ok(());
        }
        let pod = Pod::new(pod);
        if enforces {
            let violations = pod_security::evaluate(policy.enforce, &pod);
            if !violations.is_empty() {
                let details = pod_security::details(&violations);
                return Err(forbidden(request, format!("violates PodSecurity \"{}\": {details}", policy.enforce)));
            }
        }
        let violations = pod_security::evaluate(policy.warn, &pod);
        if !violations.is_empty() {
            let details = pod_security::details(&violations);
            request.warnings.add(format!("would violate PodSecurity \"{}\": {details}", policy.warn));
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        if is_kind(request, "", "namespaces") {
            return self.namespace(request);
        }
        if is_kind(request, "", "pods") {
            let same = request.old.is_some_and(|old| !runs_something_else(request.object, old));
            let ignored = same || IGNORED_SUBRESOURCES.contains(&request.subresource);
            return if ignored { Ok(()) } else { self.pod(request, request.object, true) };
        }
        match template(&request.resource.group, &request.resource.plural) {
            Some(path) if request.subresource.is_empty() => match get(request.object, path) {
                Some(template) => self.pod(request, template, false),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Where a workload has its template for pods.
fn template(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    match (group, plural) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Whether an update gives a pod another container or another image; nothing else that counts can change.
fn runs_something_else(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, containers: &str| -> Vec<(String, String)> {
        let containers = list(pod, &["spec", containers]).iter();
        containers.map(|c| (text(c, &["name"]).to_owned(), text(c, &["image"]).to_owned())).collect()
    };
    ["containers", "initContainers", "ephemeralContainers"].iter().any(|name| images(new, name) != images(old, name))
}

/// Pods of one controller are alike: the first of each comes before the rest.
fn one_of_each_controller_first(pods: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let (mut first, rest): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(|pod| {
        let mut owners = list(pod, &["metadata", "ownerReferences"]).iter();
        let controller = owners.find(|owner| owner["controller"] == true);
        controller.is_none_or(|owner| seen.insert(text(owner, &["uid"]).to_owned()))
    });
    first.extend(rest);
    first
}
