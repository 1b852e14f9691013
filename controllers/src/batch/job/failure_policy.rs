//! What a Job's `podFailurePolicy` makes of a failed pod (KEP-3329, KEP-3850).

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// The action of the first rule that matches.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts against the back-off limit.
    Count,
    Ignore,
    /// Its index has failed, whatever the limit.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

pub fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Judgement {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
        let cause = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(wanted), _) => exited(pod, wanted).map(|(container, code)| {
                format!("Container {container} for pod {namespace}/{name} failed with exit code {code}")
            }),
            (None, Some(patterns)) => condition(pod, patterns)
                .map(|condition| format!("Pod {namespace}/{name} has condition {}", condition.type_)),
            (None, None) => None,
        };
        let Some(cause) = cause else { continue };
        match rule.action.as_str() {
            "Ignore" => return Judgement::Ignore,
            "Count" => return Judgement::Count,
            "FailIndex" => return Judgement::FailIndex,
            "FailJob" => return Judgement::FailJob(format!("{cause} matching FailJob rule at index {at}")),
            _ => {}
        }
    }
    Judgement::Count
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The first container that failed with a code that is asked for, and the code.
fn exited<'a>(pod: &'a Pod, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let mut statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    statuses.find_map(|container: &ContainerStatus| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let is_named = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
        let is_listed = match wanted.operator.as_str() {
            "In" => wanted.values.contains(&code),
            "NotIn" => !wanted.values.contains(&code),
            _ => false,
        };
        (is_named && code != 0 && is_listed).then_some((container.name.as_str(), code))
    })
}

fn condition<'a>(pod: &'a Pod, patterns: &[PodFailurePolicyOnPodConditionsPattern]) -> Option<&'a PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let matches = |condition: &PodCondition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    };
    conditions.find(|condition| matches(condition))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
metadata: {namespace: ns, name: p}
spec: {containers: []}
status:
  phase: Failed
  conditions: [{type: DisruptionTarget, status: 'True'}]
  containerStatuses:
    - {name: main, image: i, imageID: i, ready: false, restartCount: 0, state: {terminated: {exitCode: 42}}}
";

    fn check(rules: &str) -> Judgement {
        let policy: PodFailurePolicy = serde_saphyr::from_str(&format!("{{rules: [{rules}]}}")).unwrap();
        judge(Some(&policy), &serde_saphyr::from_str(POD).unwrap())
    }

    /// Conformance: "Verify Pod Failure policy allows to fail job early on exit code."; "Mark indexes as failed when
    /// the FailIndex action is matched in podFailurePolicy".
    #[test]
    fn the_first_rule_that_matches_decides() {
        assert_eq!(judge(None, &serde_saphyr::from_str(POD).unwrap()), Judgement::Count);
        assert_eq!(check("{action: Ignore, onExitCodes: {operator: In, values: [1]}}"), Judgement::Count);
        assert_eq!(
            check(
                "{action: Ignore, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}, \
                 {action: FailJob, onExitCodes: {operator: In, values: [42]}}"
            ),
            Judgement::Ignore
        );
        assert_eq!(check("{action: FailIndex, onExitCodes: {operator: NotIn, values: [1]}}"), Judgement::FailIndex);
        assert_eq!(
            check("{action: FailJob, onExitCodes: {containerName: other, operator: In, values: [42]}}"),
            Judgement::Count
        );
    }

    #[test]
    fn a_failed_job_says_which_pod_and_which_rule() {
        assert_eq!(
            check(
                "{action: Count, onExitCodes: {operator: In, values: [1]}}, \
                 {action: FailJob, onExitCodes: {operator: In, values: [42]}}"
            ),
            Judgement::FailJob(
                "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1".into()
            )
        );
        assert_eq!(
            check("{action: FailJob, onPodConditions: [{type: DisruptionTarget, status: 'True'}]}"),
            Judgement::FailJob("Pod ns/p has condition DisruptionTarget matching FailJob rule at index 0".into())
        );
    }
}
