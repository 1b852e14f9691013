//! Whether a Job's `successPolicy` is content with the indexes that have succeeded (KEP-3998).

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::indexes::Indexes;

/// The position of the first rule that is met.
pub fn met(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<usize> {
    if succeeded.is_empty() {
        return None;
    }
    policy?.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(listed) => {
            let listed = Indexes::parse(listed, completions);
            let both = listed.overlap(succeeded);
            !listed.is_empty() && (both == listed.len() || rule.succeeded_count.is_some_and(|count| both >= count))
        }
        None => rule.succeeded_count.is_some_and(|count| succeeded.len() >= count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_asks_for_indexes_or_a_count_of_them() {
        let check = |rules: &str, succeeded: &str| {
            let policy: SuccessPolicy = serde_saphyr::from_str(&format!("{{rules: [{rules}]}}")).unwrap();
            met(Some(&policy), 10, &Indexes::parse(succeeded, 10))
        };
        assert_eq!(check("{succeededIndexes: '0,2-3'}", "0,2"), None);
        assert_eq!(check("{succeededIndexes: '0,2-3'}", "0-3"), Some(0));
        assert_eq!(check("{succeededIndexes: '0,2-3', succeededCount: 2}", "0,2"), Some(0));
        assert_eq!(check("{succeededCount: 3}, {succeededCount: 2}", "5,7"), Some(1));
        assert_eq!(check("{succeededCount: 0}", ""), None);
    }
}
