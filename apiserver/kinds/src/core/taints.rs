//! Taints and tolerations (API concepts: Taints and Tolerations).

use k8s_openapi::api::core::v1::{Taint, Toleration};

pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

pub fn tolerated(tolerations: Option<&Vec<Toleration>>, taint: &Taint) -> bool {
    tolerations.into_iter().flatten().any(|toleration| tolerates(toleration, taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_value_and_effect_must_agree() {
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: NO_SCHEDULE.into(), time_added: None };
        let check = |yaml: &str| tolerates(&serde_saphyr::from_str(yaml).unwrap(), &taint);
        assert!(check("{key: k, value: v}"));
        assert!(check("{key: k, operator: Exists}"));
        assert!(check("{operator: Exists}"));
        assert!(check("{key: k, operator: Equal, value: v, effect: NoSchedule}"));
        assert!(!check("{key: k, operator: Exists, effect: NoExecute}"));
        assert!(!check("{key: k, value: w}"));
        assert!(!check("{key: j, operator: Exists}"));
        assert!(!check("{value: v}"), "an empty key needs Exists");
    }
}
