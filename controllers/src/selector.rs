//! Label selectors (API reference: `LabelSelector`, Service `spec.selector`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

/// Whether the labels satisfy every requirement. An empty selector matches everything; an unknown operator, nothing.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let get = |key: &str| labels.and_then(|l| l.get(key));
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
            match requirement.operator.as_str() {
                "In" => get(&requirement.key).is_some_and(listed),
                "NotIn" => !get(&requirement.key).is_some_and(listed),
                "Exists" => get(&requirement.key).is_some(),
                "DoesNotExist" => get(&requirement.key).is_none(),
                _ => false,
            }
        })
}

pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether the labels contain every pair of a map selector.
pub fn contains(labels: Option<&Labels>, pairs: &Labels) -> bool {
    pairs.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// A selector as Kubernetes writes it into messages.
pub fn written(selector: &LabelSelector) -> String {
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|requirement| {
        let values = requirement.values.as_deref().unwrap_or_default().join(" ");
        let (key, operator) = (&requirement.key, &requirement.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, labels: &str) -> bool {
        let labels: Labels = serde_saphyr::from_str(labels).unwrap();
        matches(&serde_saphyr::from_str(selector).unwrap(), Some(&labels))
    }

    #[test]
    fn requirements_are_all_needed() {
        let selector = "{matchLabels: {a: x}, matchExpressions: [{key: b, operator: NotIn, values: [y]}]}";
        assert!(check(selector, "{a: x}"));
        assert!(check(selector, "{a: x, b: z}"));
        assert!(!check(selector, "{a: x, b: y}"));
        assert!(!check(selector, "{b: z}"));
        assert!(check("{}", "{b: z}"));
        assert!(check("{matchExpressions: [{key: b, operator: Exists}]}", "{b: z}"));
        assert!(!check("{matchExpressions: [{key: b, operator: DoesNotExist}]}", "{b: z}"));
        assert!(!check("{matchExpressions: [{key: b, operator: In, values: [y]}]}", "{b: z}"));
        assert!(!check("{matchExpressions: [{key: b, operator: Gt, values: ['1']}]}", "{b: '2'}"));
    }
}
