//! How far a rolling update may stray from the number of replicas asked for.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::share::{Round, share};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub replicas: i32,
    pub max_surge: i32,
    pub max_unavailable: i32,
}

impl Bounds {
    pub fn of(spec: &DeploymentSpec) -> Self {
        let replicas = replicas(spec);
        if !is_rolling(spec) {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
        let quarter = IntOrString::String("25%".into());
        let max_surge = share(rolling.max_surge.as_ref().unwrap_or(&quarter), replicas, Round::Up);
        let mut max_unavailable = share(rolling.max_unavailable.as_ref().unwrap_or(&quarter), replicas, Round::Down);
        if max_surge == 0 && max_unavailable == 0 {
            // Validation refuses two zeros, but percentages may round to them; the update must be able to move.
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
    }

    pub fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }

    pub fn max_total(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }
}

pub fn replicas(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

pub fn is_rolling(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("Recreate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let check = |replicas: i32, rolling: &str| {
            let yaml = format!(
                "{{replicas: {replicas}, selector: {{}}, template: {{}}, strategy: {{rollingUpdate: {rolling}}}}}"
            );
            let bounds = Bounds::of(&serde_saphyr::from_str(&yaml).unwrap());
            (bounds.max_surge, bounds.max_unavailable)
        };
        assert_eq!(check(10, "{}"), (3, 2));
        assert_eq!(check(10, "{maxSurge: 1, maxUnavailable: 0}"), (1, 0));
        assert_eq!(check(3, "{maxSurge: 0, maxUnavailable: '10%'}"), (0, 1));
        assert_eq!(check(2, "{maxSurge: '100%', maxUnavailable: 5}"), (2, 2));
        assert_eq!(check(0, "{maxSurge: 1, maxUnavailable: 1}"), (1, 0));
        assert_eq!(check(0, "{maxSurge: '0%', maxUnavailable: '0%'}"), (0, 0));
        assert_eq!(check(10, "{maxSurge: '39%', maxUnavailable: '39%'}"), (4, 3));
        assert_eq!(check(10, "{maxSurge: 1, maxUnavailable: 10}"), (1, 10));
        assert_eq!(check(10, "{maxSurge: 1, maxUnavailable: 15}"), (1, 10));
        assert_eq!(check(10, "{maxSurge: 1, maxUnavailable: '50%'}"), (1, 5));
        assert_eq!(check(10, "{maxSurge: 1, maxUnavailable: '150%'}"), (1, 10));
    }
}
