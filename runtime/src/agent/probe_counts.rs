//! What probes have found, and how long that took, for `/metrics/probes`: of each container, over its restarts, while its pod is
//! here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::probes::kind_name;
use super::shared::PodTable;
use crate::pod::containers;
use crate::pod::state::ProbeKind;

/// Upper bounds in seconds, those of the kubelet.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counts of a node.
#[derive(Debug, Default)]
pub struct ProbeCounts(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    results: Family<ResultLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
}

impl Default for Counts {
    fn default() -> Counts {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        Counts { results: Family::default(), durations: Family::new_with_constructor(histogram) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    probe_type: &'static str,
    result: &'static str,
    container: String,
    pod: String,
    namespace: String,
    pod_uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    probe_type: &'static str,
    container: String,
    pod: String,
    namespace: String,
}

fn labels(pod: &Pod, container: &str, kind: ProbeKind, healthy: bool) -> (ResultLabels, DurationLabels) {
    let (probe_type, container) = (kind_name(kind), container.to_owned());
    let (pod_uid, pod, namespace) =
        (pod.uid().unwrap_or_default(), pod.name_any(), pod.namespace().unwrap_or_default());
    let result = if healthy { "successful" } else { "failed" };
    let duration =
        DurationLabels { probe_type, container: container.clone(), pod: pod.clone(), namespace: namespace.clone() };
    (ResultLabels { probe_type, result, container, pod, namespace, pod_uid }, duration)
}

impl ProbeCounts {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a probe found, unless its pod has gone meanwhile.
    pub(super) fn count(
        &self,
        pods: &PodTable,
        pod: &Pod,
        container: &str,
        kind: ProbeKind,
        healthy: bool,
        took: Duration,
    ) {
        let counts = self.lock();
        let (result, duration) = labels(pod, container, kind, healthy);
        if pods.get(&result.namespace, &result.pod).is_some_and(|here| here.uid() == pod.uid()) {
            counts.results.get_or_create(&result).inc();
            counts.durations.get_or_create(&duration).observe(took.as_secs_f64());
        }
    }

    /// Forgets a pod that is gone.
    pub(super) fn forget(&self, pod: &Pod) {
        let counts = self.lock();
        for (container, kind) in pod.spec.iter().flat_map(containers::all).flat_map(|container| {
            [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness].map(|kind| (container.name.clone(), kind))
        }) {
            for healthy in [true, false] {
                let (result, duration) = labels(pod, &container, kind, healthy);
                counts.results.remove(&result);
                counts.durations.remove(&duration);
            }
        }
    }

    /// Shows them under the kubelet's names.
    pub fn register(&self, registry: &mut Registry) {
        let counts = self.lock();
        let help = "Probes of a container so far, by what they found";
        // A counter gets `_total` at the end of its name.
        registry.register("prober_probe", help, counts.results.clone());
        let help = "How long probes took to be answered, in seconds";
        registry.register("prober_probe_duration_seconds", help, counts.durations.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;

    fn shown(counts: &ProbeCounts) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        counts.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_probes_found_is_counted_while_their_pod_is_here() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "a", "name": "web", "uid": "u"},
            "spec": {"containers": [{"name": "main"}]},
        }))
        .unwrap();
        let (pods, counts) = (PodTable::default(), ProbeCounts::default());
        let count = |kind, healthy| counts.count(&pods, &pod, "main", kind, healthy, Duration::from_millis(20));
        count(ProbeKind::Readiness, true);
        assert!(!shown(&counts).contains("main"), "nothing is counted of a pod that is not here");
        pods.insert(Arc::new(pod.clone()));
        for (kind, healthy) in
            [(ProbeKind::Readiness, true), (ProbeKind::Readiness, true), (ProbeKind::Liveness, false)]
        {
            count(kind, healthy);
        }
        let text = shown(&counts);
        let of = r#"container="main",pod="web",namespace="a""#;
        for line in [
            format!(r#"prober_probe_total{{probe_type="Readiness",result="successful",{of},pod_uid="u"}} 2"#),
            format!(r#"prober_probe_total{{probe_type="Liveness",result="failed",{of},pod_uid="u"}} 1"#),
            format!(r#"prober_probe_duration_seconds_count{{probe_type="Readiness",{of}}} 2"#),
            format!(r#"prober_probe_duration_seconds_bucket{{le="0.025",probe_type="Liveness",{of}}} 1"#),
        ] {
            assert!(text.lines().any(|shown| shown == line), "no {line} in {text}");
        }
        pods.remove(&pod);
        counts.forget(&pod);
        assert!(!shown(&counts).contains("main"));
    }
}
