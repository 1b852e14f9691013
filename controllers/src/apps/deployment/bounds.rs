//! How far a rolling update may stray from the number of replicas asked for.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

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
        let max_surge = resolve(rolling.max_surge.as_ref().unwrap_or(&quarter), replicas, true);
        let mut max_unavailable = resolve(rolling.max_unavailable.as_ref().unwrap_or(&quarter), replicas, false);
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

fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0).max(0);
            let hundredfold = percent.saturating_mul(i64::from(total.max(0)));
            let share = if round_up { hundredfold.saturating_add(99) / 100 } else { hundredfold / 100 };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
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
    }
}
