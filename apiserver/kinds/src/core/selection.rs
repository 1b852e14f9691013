//! Selectors of labels and of nodes, compiled once so that they are quick to ask, to compare and to look up.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorTerm, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// Stands for the labels of an object that has none.
pub static NO_LABELS: Labels = BTreeMap::new();

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Above(i64),
    Below(i64),
    /// An operator or a bound that nothing satisfies.
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Self {
        let sorted = || {
            let mut values = values.cloned().unwrap_or_default();
            values.sort();
            values
        };
        let bound = || values.and_then(|values| values.first()?.parse().ok());
        let test = match operator {
            "In" => Test::In(sorted()),
            "NotIn" => Test::NotIn(sorted()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => bound().map_or(Test::Never, Test::Above),
            "Lt" => bound().map_or(Test::Never, Test::Below),
            _ => Test::Never,
        };
        Self { key: key.into(), test }
    }

    fn holds(&self, actual: Option<&str>) -> bool {
        let listed = |values: &[String]| actual.is_some_and(|actual| values.iter().any(|value| value == actual));
        let number = || actual.and_then(|actual| actual.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => listed(values),
            Test::NotIn(values) => !listed(values),
            Test::Exists => actual.is_some(),
            Test::DoesNotExist => actual.is_none(),
            Test::Above(bound) => number().is_some_and(|number| number > *bound),
            Test::Below(bound) => number().is_some_and(|number| number < *bound),
            Test::Never => false,
        }
    }
}

/// Requirements on labels, all of which must hold. The default has none and selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// An absent selector selects nothing, an empty one everything.
    pub fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self(vec![Requirement { key: String::new(), test: Test::Never }]);
        };
        let mut compiled = Self::pairs(selector.match_labels.as_ref().unwrap_or(&NO_LABELS));
        let expressions = selector.match_expressions.iter().flatten();
        compiled.0.extend(expressions.map(|e| Requirement::new(&e.key, &e.operator, e.values.as_ref())));
        compiled.tidy()
    }

    /// Selects what has every one of these labels.
    pub fn pairs(pairs: &Labels) -> Self {
        let exact =
            |(key, value): (&String, &String)| Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) };
        Self(pairs.iter().map(exact).collect())
    }

    /// Both must select.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.tidy()
    }

    /// Selects only what has the same values as `labels` under these keys (`matchLabelKeys`); `differing`, only what has
    /// other ones (`mismatchLabelKeys`). Keys that `labels` lack ask for nothing.
    pub fn like(mut self, labels: &Labels, keys: Option<&Vec<String>>, differing: bool) -> Self {
        for key in keys.into_iter().flatten() {
            if let Some(value) = labels.get(key) {
                let values = vec![value.clone()];
                let test = if differing { Test::NotIn(values) } else { Test::In(values) };
                self.0.push(Requirement { key: key.clone(), test });
            }
        }
        self.tidy()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }

    /// A label that everything selected has.
    pub fn anchor(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|requirement| match &requirement.test {
            Test::In(values) if values.len() == 1 => Some((requirement.key.as_str(), values[0].as_str())),
            _ => None,
        })
    }

    /// The same requirements in the same order, however they were written.
    fn tidy(mut self) -> Self {
        self.0.sort();
        self.0.dedup();
        self
    }
}

/// One term of a node selector: its requirements on labels and fields must all hold; without any it selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl NodeTerm {
    pub fn of(term: &NodeSelectorTerm) -> Self {
        let compile = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>| {
            list.iter().flatten().map(|r| Requirement::new(&r.key, &r.operator, r.values.as_ref())).collect()
        };
        Self { labels: compile(&term.match_expressions), fields: compile(&term.match_fields) }
    }

    pub fn selects(&self, name: &str, labels: &Labels) -> bool {
        let field = |key: &str| (key == "metadata.name").then_some(name);
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.holds(field(&r.key)))
    }

    /// The only nodes that can match, by name; `None` when the term doesn't name nodes.
    fn names(&self) -> Option<Vec<&String>> {
        let mut listed = self.fields.iter().filter_map(|r| match &r.test {
            Test::In(values) if r.key == "metadata.name" => Some(values),
            _ => None,
        });
        let first = listed.next()?;
        let rest: Vec<_> = listed.collect();
        Some(first.iter().filter(|name| rest.iter().all(|values| values.contains(name))).collect())
    }
}

/// Alternatives, one of which must select the node; none at all selects nothing.
pub fn node_terms(selector: &NodeSelector) -> Vec<NodeTerm> {
    selector.node_selector_terms.iter().map(NodeTerm::of).collect()
}

/// Which nodes a pod's node selector and required node affinity allow. The default allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelection {
    pairs: Selector,
    terms: Option<Vec<NodeTerm>>,
}

impl NodeSelection {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            pairs: spec.node_selector.as_ref().map(Selector::pairs).unwrap_or_default(),
            terms: required.map(node_terms),
        }
    }

    pub fn allows_all(&self) -> bool {
        self.pairs.is_empty() && self.terms.is_none()
    }

    pub fn allows(&self, name: &str, labels: &Labels) -> bool {
        self.pairs.selects(labels)
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.selects(name, labels)))
    }

    /// The only nodes that can be allowed, by name; `None` when they are not told by name.
    pub fn names(&self) -> Option<Vec<&String>> {
        let terms = self.terms.as_ref().filter(|terms| !terms.is_empty())?;
        let mut names = Vec::new();
        for term in terms {
            names.extend(term.names()?);
        }
        names.sort();
        names.dedup();
        Some(names)
    }
}

/// Whether the node has what the pod's node selector and required node affinity ask for.
pub fn matches_required(pod: &Pod, node: &Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    pod.spec.as_ref().is_none_or(|spec| NodeSelection::of(spec).allows(name, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_terms_are_alternatives_and_requirements_are_not() {
        let labels: Labels = serde_saphyr::from_str("{zone: a, cores: '8'}").unwrap();
        let check = |terms: &str| {
            let yaml = format!(
                "{{containers: [], affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
                 {{nodeSelectorTerms: [{terms}]}}}}}}}}"
            );
            NodeSelection::of(&serde_saphyr::from_str(&yaml).unwrap()).allows("n1", &labels)
        };
        let zone = |value: &str| format!("{{key: zone, operator: In, values: [{value}]}}");
        assert!(check(&format!("{{matchExpressions: [{}]}}", zone("a"))));
        assert!(!check(&format!("{{matchExpressions: [{}, {}]}}", zone("a"), zone("b"))));
        assert!(check(&format!("{{matchExpressions: [{}]}}, {{matchExpressions: [{}]}}", zone("b"), zone("a"))));
        assert!(check("{matchExpressions: [{key: cores, operator: Gt, values: ['7']}]}"));
        assert!(!check("{matchExpressions: [{key: cores, operator: Lt, values: ['8']}]}"));
        assert!(check("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"));
        assert!(!check("{}"), "an empty term matches nothing");
        assert!(!check(""), "and so does no term");
    }

    #[test]
    fn nodes_can_be_named() {
        let names = |terms: &str| {
            let yaml = format!(
                "{{containers: [], affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
                 {{nodeSelectorTerms: [{terms}]}}}}}}}}"
            );
            let selection = NodeSelection::of(&serde_saphyr::from_str(&yaml).unwrap());
            selection.names().map(|names| names.into_iter().cloned().collect::<Vec<_>>())
        };
        let name = |values: &str| format!("{{key: metadata.name, operator: In, values: [{values}]}}");
        assert_eq!(names(&format!("{{matchFields: [{}]}}", name("a, b"))).unwrap(), ["a", "b"]);
        assert_eq!(names(&format!("{{matchFields: [{}, {}]}}", name("a"), name("b"))).unwrap(), [""; 0]);
        let or_zone = "{matchExpressions: [{key: zone, operator: Exists}]}";
        assert_eq!(names(&format!("{{matchFields: [{}]}}, {or_zone}", name("a"))), None);
    }

    #[test]
    fn selectors_are_equal_however_they_are_written() {
        let of = |yaml: &str| Selector::of(Some(&serde_saphyr::from_str(yaml).unwrap()));
        let written = of("{matchLabels: {a: x}, matchExpressions: [{key: b, operator: In, values: [z, y]}]}");
        let differently =
            "{matchExpressions: [{key: b, operator: In, values: [y, z]}, {key: a, operator: In, values: [x]}]}";
        assert_eq!(written, of(differently));
        assert_eq!(written.anchor(), Some(("a", "x")));
        let labels: Labels = serde_saphyr::from_str("{a: x, b: y}").unwrap();
        assert!(written.selects(&labels) && !Selector::of(None).selects(&labels) && of("{}").selects(&labels));
        let like = of("{}").like(&labels, Some(&vec!["b".into(), "absent".into()]), false);
        assert!(like.selects(&labels) && !like.selects(&NO_LABELS));
        assert!(!of("{}").like(&labels, Some(&vec!["b".into()]), true).selects(&labels));
    }
}
