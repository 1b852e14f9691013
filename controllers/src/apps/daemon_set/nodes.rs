//! Which nodes a DaemonSet's pods belong on, and what binds a pod to its node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8w_kinds::core::selection::matches_required;
use k8w_kinds::core::taints::{NO_EXECUTE, NO_SCHEDULE, tolerated};

use crate::pods;

const NAME_FIELD: &str = "metadata.name";
/// What a daemon puts up with whatever its template says (API concepts: DaemonSet, "Taints and tolerations").
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
const TOLERATED_ON_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

/// Whether a pod should be made for the node, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub runs: bool,
    pub stays: bool,
}

pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
    let mut pod = Pod { spec: template, ..Pod::default() };
    let elsewhere = pods::node_name(&pod).is_some_and(|name| Some(name) != node.metadata.name.as_deref());
    if elsewhere || !matches_required(&pod, node) {
        return Fit { runs: false, stays: false };
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let repelling: Vec<&str> = taints
        .filter(|taint| !tolerated(spec.tolerations.as_ref(), taint))
        .map(|taint| taint.effect.as_str())
        .collect();
    let stays = !repelling.contains(&NO_EXECUTE);
    Fit { runs: stays && !repelling.contains(&NO_SCHEDULE), stays }
}

/// Adds the tolerations every daemon has.
pub fn tolerate(spec: &mut PodSpec) {
    let on_host = spec.host_network == Some(true);
    let wanted = TOLERATED.into_iter().chain(on_host.then_some(TOLERATED_ON_HOST_NETWORK));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// Leaves the scheduler only this node to choose.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let is_node =
        NodeSelectorRequirement { key: NAME_FIELD.into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![is_node]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a daemon is on or pinned to.
pub fn target(pod: &Pod) -> Option<&str> {
    let pinned = || {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
        let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
        let mut named = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
        named.find_map(|field| match field.values.as_deref() {
            Some([only]) => Some(only.as_str()),
            _ => None,
        })
    };
    pods::node_name(pod).or_else(pinned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a daemon of this pod spec runs on the node `one`, and whether one that is there stays.
    fn check(spec: &str, node: &str) -> (bool, bool) {
        let set = serde_saphyr::from_str(&format!(
            "spec: {{selector: {{}}, template: {{spec: {{containers: [], {spec}}}}}}}"
        ));
        let node =
            serde_saphyr::from_str(&format!("{{metadata: {{name: one, labels: {{type: production}}}}, {node}}}"));
        let fit = fit(&set.unwrap(), &node.unwrap());
        (fit.runs, fit.stays)
    }

    #[test]
    fn a_node_fits_by_its_name_its_labels_and_its_taints_whatever_room_it_has() {
        const YES: (bool, bool) = (true, true);
        const NO: (bool, bool) = (false, false);
        const STAYS: (bool, bool) = (false, true);
        let requires = |value: &str| {
            format!(
                "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: \
                 [{{matchExpressions: [{{key: type, operator: In, values: [{value}]}}]}}]}}}}}}"
            )
        };
        let tainted = |effect: &str| format!("spec: {{taints: [{{key: k, effect: {effect}}}]}}");
        let cordoned =
            "spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}";
        let offline = "spec: {taints: [{key: node.kubernetes.io/network-unavailable, effect: NoSchedule}]}";
        let cases = [
            ("", "", YES),
            ("nodeName: other", "", NO),
            ("nodeName: one", "", YES),
            ("nodeSelector: {type: test}", "", NO),
            ("nodeSelector: {type: production}", "", YES),
            (&requires("test"), "", NO),
            (&requires("production"), "", YES),
            ("", cordoned, YES),
            ("", &tainted(NO_SCHEDULE), STAYS),
            ("", &tainted(NO_EXECUTE), NO),
            ("", &tainted("PreferNoSchedule"), YES),
            ("tolerations: [{key: k, operator: Exists}]", &tainted(NO_EXECUTE), YES),
            ("tolerations: [{key: k, operator: Exists, effect: NoSchedule}]", &tainted(NO_EXECUTE), NO),
            ("", offline, STAYS),
            ("hostNetwork: true", offline, YES),
        ];
        for (spec, node, expected) in cases {
            assert_eq!(check(spec, node), expected, "{spec} on {node}");
        }
    }

    #[test]
    fn a_daemon_is_meant_for_the_node_it_has_or_the_only_one_it_may_have() {
        let target = |spec: &str| {
            target(&serde_saphyr::from_str(&format!("spec: {{containers: [], {spec}}}")).unwrap()).map(str::to_owned)
        };
        let pinned = |terms: &str| {
            format!(
                "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"
            )
        };
        let field = |operator: &str, names: &str| {
            pinned(&format!("{{matchFields: [{{key: metadata.name, operator: {operator}, values: [{names}]}}]}}"))
        };
        assert_eq!(target("nodeName: a").as_deref(), Some("a"));
        assert_eq!(target(&field("In", "a")).as_deref(), Some("a"));
        assert_eq!(target(&field("In", "a, b")), None);
        assert_eq!(target(&field("NotIn", "a")), None);
        assert_eq!(target(&pinned("{matchExpressions: [{key: metadata.name, operator: In, values: [a]}]}")), None);
        assert_eq!(target(""), None);
    }

    #[test]
    fn a_pin_takes_the_place_of_what_its_template_requires() {
        let mut spec: PodSpec = serde_saphyr::from_str(
            "{containers: [], affinity: {podAffinity: {}, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: \
             [], requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: []}]}}}}",
        )
        .unwrap();
        pin(&mut spec, "a");
        expect_test::expect![[r#"{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[],"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]}]}]}},"podAffinity":{}}"#]]
            .assert_eq(&serde_json::to_string(&spec.affinity).unwrap());
    }
}
