//! What a LimitRange makes of pods and claims: defaults, and what is outside the bounds. Pure.
//!
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

use serde_json::{Map, Value};

use crate::core::pod::totals::{self, Amounts, of_list};
use crate::object::{ensure, list, list_mut, text};
use crate::quantity::Quantity;

/// Says which amounts a pod has from a LimitRange.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives the containers of a pod the default requests and limits that they do not set.
pub fn default_pod(range: &Value, pod: &mut Value) {
    let mut notes = Vec::new();
    let of_containers = || list(range, &["spec", "limits"]).iter().filter(|item| text(item, &["type"]) == "Container");
    let defaults = |name: &str| -> Map<String, Value> {
        let lists = of_containers().filter_map(|item| item.get(name)?.as_object());
        lists.flatten().map(|(resource, amount)| (resource.clone(), amount.clone())).collect()
    };
    let (requests, limits) = (defaults("defaultRequest"), defaults("default"));
    for (containers, called) in [("containers", "container"), ("initContainers", "init container")] {
        for container in list_mut(pod, &["spec", containers]) {
            let name = text(container, &["name"]).to_owned();
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && let Some(annotations) = ensure(pod, &["metadata", "annotations"])
    {
        annotations.insert(ANNOTATION.to_owned(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
    }
}

/// Sets the amounts that are missing; returns their names.
fn fill(container: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let Some(amounts) = ensure(container, &["resources", field]) else { return Vec::new() };
    let mut set = Vec::new();
    for (resource, amount) in defaults {
        if !amounts.contains_key(resource) {
            amounts.insert(resource.clone(), amount.clone());
            set.push(resource.clone());
        }
    }
    set.sort();
    set
}

/// What of a pod is outside the range's bounds.
pub fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for item in list(range, &["spec", "limits"]) {
        let bounds = Bounds::of(item);
        match bounds.kind {
            "Container" => {
                let containers = ["containers", "initContainers"].iter().flat_map(|name| list(pod, &["spec", name]));
                for container in containers {
                    let requests = of_list(container, &["resources", "requests"]);
                    bounds.check(&requests, &of_list(container, &["resources", "limits"]), &mut errors);
                }
            }
            "Pod" => bounds.check(&totals::requests(pod), &totals::limits(pod), &mut errors),
            _ => {}
        }
    }
    errors
}

/// What of a PersistentVolumeClaim is outside the range's bounds: its requests, for it has no limits.
pub fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let requests = of_list(claim, &["spec", "resources", "requests"]);
    let items = list(range, &["spec", "limits"]).iter().map(Bounds::of);
    for bounds in items.filter(|bounds| bounds.kind == "PersistentVolumeClaim") {
        for (resource, least) in &bounds.min {
            errors.extend(bounds.at_least(resource, *least, &requests, &Amounts::new()));
        }
        for (resource, most) in &bounds.max {
            let bound = bounds.bound("maximum", resource, *most);
            match requests.get(resource) {
                None => errors.push(format!("{bound}.  No request is specified")),
                Some(request) if request > most => errors.push(format!("{bound}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

/// One item of a range.
struct Bounds<'r> {
    kind: &'r str,
    min: Amounts,
    max: Amounts,
    ratio: Amounts,
}

impl<'r> Bounds<'r> {
    fn of(item: &'r Value) -> Self {
        Bounds {
            kind: text(item, &["type"]),
            min: of_list(item, &["min"]),
            max: of_list(item, &["max"]),
            ratio: of_list(item, &["maxLimitRequestRatio"]),
        }
    }

    fn check(&self, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
        errors.extend(self.min.iter().filter_map(|(name, least)| self.at_least(name, *least, requests, limits)));
        errors.extend(self.max.iter().filter_map(|(name, most)| self.at_most(name, *most, requests, limits)));
        errors.extend(self.ratio.iter().filter_map(|(name, most)| self.ratio(name, *most, requests, limits)));
    }

    fn bound(&self, which: &str, resource: &str, amount: Quantity) -> String {
        format!("{which} {resource} usage per {} is {amount}", self.kind)
    }

    fn at_least(&self, resource: &str, least: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
        let bound = self.bound("minimum", resource, least);
        match (requests.get(resource), limits.get(resource)) {
            (None, _) => Some(format!("{bound}.  No request is specified")),
            (Some(request), _) if *request < least => Some(format!("{bound}, but request is {request}")),
            (_, Some(limit)) if *limit < least => Some(format!("{bound}, but limit is {limit}")),
            _ => None,
        }
    }

    fn at_most(&self, resource: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
        let bound = self.bound("maximum", resource, most);
        match (limits.get(resource), requests.get(resource)) {
            (None, _) => Some(format!("{bound}.  No limit is specified")),
            (Some(limit), _) if *limit > most => Some(format!("{bound}, but limit is {limit}")),
            (_, Some(request)) if *request > most => Some(format!("{bound}, but request is {request}")),
            _ => None,
        }
    }

    fn ratio(&self, resource: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
        let bound = format!("{resource} max limit to request ratio per {} is {most}", self.kind);
        let given = |amounts: &Amounts| amounts.get(resource).filter(|amount| !amount.is_zero()).copied();
        let Some(request) = given(requests) else {
            return Some(format!("{bound}, but no request is specified or request is 0"));
        };
        let Some(limit) = given(limits) else {
            return Some(format!("{bound}, but no limit is specified or limit is 0"));
        };
        // Shown only; a ratio needs no more digits than a float has.
        let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
        (ratio * 1000.0 > most.milli_value() as f64).then(|| format!("{bound}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::yaml;

    fn check(range: &str, object: &str, expected: Expect) {
        let (range, object) = (yaml(&format!("spec: {{limits: [{range}]}}")), yaml(object));
        let check = if object["kind"] == "PersistentVolumeClaim" { check_claim } else { check_pod };
        expected.assert_eq(&check(&range, &object).join("\n"));
    }

    #[test]
    fn defaults_are_filled_in_and_noted() {
        let range =
            yaml("spec: {limits: [{type: Container, default: {cpu: 500m, memory: 1Gi}, defaultRequest: {cpu: 100m}}]}");
        let mut pod = yaml(
            "spec: {containers: [{name: a}, {name: b, resources: {requests: {cpu: 1m}, limits: {cpu: 1, memory: 1Mi}}}],
                    initContainers: [{name: i, resources: {limits: {cpu: 2}}}]}",
        );
        default_pod(&range, &mut pod);
        expect![[r#"
            metadata:
              annotations:
                kubernetes.io/limit-ranger: "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; memory limit for init container i"
            spec:
              containers:
              - name: a
                resources:
                  limits:
                    cpu: 500m
                    memory: 1Gi
                  requests:
                    cpu: 100m
              - name: b
                resources:
                  limits:
                    cpu: 1
                    memory: 1Mi
                  requests:
                    cpu: 1m
              initContainers:
              - name: i
                resources:
                  limits:
                    cpu: 2
                    memory: 1Gi
                  requests:
                    cpu: 100m
        "#]]
        .assert_eq(&serde_saphyr::to_string(&pod).unwrap());
    }

    #[test]
    fn containers_have_bounds() {
        let range = "{type: Container, min: {cpu: 100m, memory: 1Mi}, max: {cpu: 1}, maxLimitRequestRatio: {cpu: 2}}";
        check(
            range,
            "spec: {containers: [{name: a, resources: {requests: {cpu: 50m}, limits: {cpu: 2}}}]}",
            expect![[r#"
                minimum cpu usage per Container is 100m, but request is 50m
                minimum memory usage per Container is 1Mi.  No request is specified
                maximum cpu usage per Container is 1, but limit is 2
                cpu max limit to request ratio per Container is 2, but provided ratio is 40.000000"#]],
        );
        check(
            range,
            "spec: {containers: [{name: a, resources: {requests: {cpu: 500m, memory: 1Mi}, limits: {cpu: 1}}}]}",
            expect![""],
        );
        check(
            range,
            "spec: {containers: [], initContainers: [{name: i, resources: {requests: {cpu: 1, memory: 2Mi}}}]}",
            expect![[r#"
                maximum cpu usage per Container is 1.  No limit is specified
                cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"#]],
        );
    }

    #[test]
    fn pods_have_bounds_as_a_whole() {
        let half = "{name: a, resources: {requests: {cpu: 600m}, limits: {cpu: 600m}}}";
        check(
            "{type: Pod, max: {cpu: 1}}",
            &format!("spec: {{containers: [{half}, {half}]}}"),
            expect!["maximum cpu usage per Pod is 1, but limit is 1200m"],
        );
        check("{type: Pod, max: {cpu: 1}}", &format!("spec: {{containers: [{half}]}}"), expect![""]);
    }

    #[test]
    fn claims_have_bounds() {
        let range = "{type: PersistentVolumeClaim, min: {storage: 1Gi}, max: {storage: 2Gi}}";
        let claim = |size: &str| {
            format!("{{kind: PersistentVolumeClaim, spec: {{resources: {{requests: {{storage: {size}}}}}}}}}")
        };
        check(range, &claim("1500Mi"), expect![""]);
        check(
            range,
            &claim("3Gi"),
            expect!["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"],
        );
        check(
            range,
            &claim("1Mi"),
            expect!["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"],
        );
    }
}
