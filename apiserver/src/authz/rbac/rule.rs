//! One policy rule of a role: what it allows, what it covers, and how it is written in messages.
//!
//! The semantics are those of `k8s.io/kubernetes/pkg/apis/rbac/v1/evaluation_helpers.go` and
//! `k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go`.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::request_info::RequestInfo;

/// Stands for everything in any list of a rule.
pub const ALL: &str = "*";

/// `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether the rule allows `verb` on what `info` names. Scope (namespace or cluster) is the binding's business.
    pub fn allows(&self, verb: &str, info: &RequestInfo) -> bool {
        if !info.is_resource_request {
            return has(&self.verbs, verb) && self.non_resource_urls.iter().any(|url| url_covers(url, &info.path));
        }
        has(&self.verbs, verb)
            && has(&self.api_groups, &info.group)
            && self.resources.iter().any(|resource| resource_matches(resource, &info.resource, &info.subresource))
            && (self.resource_names.is_empty() || self.resource_names.contains(&info.name))
    }

    /// Whether everything that `other` allows is allowed by this rule alone.
    fn covers(&self, other: &Rule) -> bool {
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|n| self.resource_names.contains(n)));
        other.verbs.iter().all(|verb| has(&self.verbs, verb))
            && other.api_groups.iter().all(|group| has(&self.api_groups, group))
            && other.resources.iter().all(|resource| self.covers_resource(resource))
            && other.non_resource_urls.iter().all(|url| self.non_resource_urls.iter().any(|own| url_covers(own, url)))
            && names
    }

    fn covers_resource(&self, resource: &str) -> bool {
        let every_parent = resource.split_once('/').map(|(_, subresource)| subresource);
        has(&self.resources, resource)
            || every_parent.is_some_and(|sub| self.resources.iter().any(|own| own.strip_prefix("*/") == Some(sub)))
    }

    /// The rule as rules with one verb, one group, one resource and one name (or one URL) each.
    fn singles(&self) -> Vec<Rule> {
        let names: Vec<Vec<String>> = match self.resource_names.as_slice() {
            [] => vec![vec![]],
            names => names.iter().map(|name| vec![name.clone()]).collect(),
        };
        let mut singles = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    singles.extend(names.iter().map(|names| Rule {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        resource_names: names.clone(),
                        non_resource_urls: vec![],
                    }));
                }
            }
            singles.extend(self.non_resource_urls.iter().map(|url| Rule {
                verbs: verbs.clone(),
                non_resource_urls: vec![url.clone()],
                ..Rule::default()
            }));
        }
        singles
    }

    /// Whether the two differ in their verbs only.
    fn same_target(&self, other: &Rule) -> bool {
        self.api_groups == other.api_groups
            && self.resources == other.resources
            && self.resource_names == other.resource_names
            && self.non_resource_urls == other.non_resource_urls
    }
}

/// What of `wanted` nobody may do who has the rules `held`: single permissions, compacted by verb.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    for single in wanted.iter().flat_map(Rule::singles) {
        if held.iter().any(|rule| rule.covers(&single)) {
            continue;
        }
        match missing.iter_mut().find(|rule| rule.same_target(&single)) {
            Some(rule) if rule.covers(&single) => {}
            Some(rule) => rule.verbs.extend(single.verbs),
            None => missing.push(single),
        }
    }
    missing
}

/// As Kubernetes writes a rule in messages: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`.
impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts: Vec<String> = lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted_list(list)))
            .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

/// `pods`, `pods/log`, `*/scale` or `*` against a resource and its subresource.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((parent, sub)) => !subresource.is_empty() && sub == subresource && (parent == ALL || parent == resource),
    }
}

/// `/healthz`, `/healthz/*` or `*` against a path (or against another rule's URL).
fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || rule.strip_suffix(ALL).is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).unwrap()
    }

    fn request(verb: &'static str, group: &str, resource: &str, name: &str) -> RequestInfo {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        RequestInfo {
            verb,
            is_resource_request: true,
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn what_rules_allow() {
        let pods = r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}"#;
        let named = r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["a"]}"#;
        let scale = r#"{"verbs":["*"],"apiGroups":["apps"],"resources":["*/scale"]}"#;
        let all = r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#;
        for (text, verb, group, resource, name, allowed) in [
            (pods, "get", "", "pods", "a", true),
            (pods, "list", "", "pods", "", false),
            (pods, "get", "apps", "pods", "a", false),
            (pods, "get", "", "pods/log", "a", false),
            (named, "get", "", "pods", "a", true),
            (named, "get", "", "pods", "b", false),
            (named, "get", "", "pods", "", false),
            (scale, "update", "apps", "deployments/scale", "a", true),
            (scale, "update", "apps", "deployments", "a", false),
            (scale, "update", "apps", "deployments/status", "a", false),
            (all, "delete", "x.example", "things/status", "a", true),
        ] {
            let info = request(verb, group, resource, name);
            assert_eq!(rule(text).allows(info.verb, &info), allowed, "{text} {verb} {group}/{resource} {name}");
        }
    }

    #[test]
    fn resource_rules_do_not_allow_paths_nor_paths_resources() {
        let all = rule(r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#);
        let health = rule(r#"{"verbs":["get"],"nonResourceURLs":["/healthz","/livez/*"]}"#);
        let path = |path: &str| RequestInfo { verb: "get", path: path.into(), ..RequestInfo::default() };
        assert!(!all.allows("get", &path("/healthz")));
        assert!(health.allows("get", &path("/healthz")));
        assert!(!health.allows("get", &path("/healthz/etcd")));
        assert!(health.allows("get", &path("/livez/etcd")));
        assert!(!health.allows("get", &request("get", "", "pods", "a")));
    }

    #[test]
    fn what_is_not_covered_is_named() {
        let held = [
            rule(r#"{"verbs":["get","list"],"apiGroups":["apps"],"resources":["deployments","*/scale"]}"#),
            rule(r#"{"verbs":["get"],"nonResourceURLs":["/api/*"]}"#),
        ];
        let missing = |text: &str| {
            let texts: Vec<String> = uncovered(&held, &[rule(text)]).iter().map(Rule::to_string).collect();
            texts.join("\n")
        };
        assert_eq!(missing(r#"{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"]}"#), "");
        assert_eq!(missing(r#"{"verbs":["get"],"apiGroups":["apps"],"resources":["statefulsets/scale"]}"#), "");
        assert_eq!(
            missing(r#"{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["a"]}"#),
            ""
        );
        assert_eq!(missing(r#"{"verbs":["get"],"nonResourceURLs":["/api/v1","/api/x/*"]}"#), "");
        assert_eq!(
            missing(r#"{"verbs":["get","create","delete"],"apiGroups":["apps"],"resources":["deployments","pods"]}"#),
            "{APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"create\" \"delete\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"deployments\"], Verbs:[\"create\" \"delete\"]}"
        );
        assert_eq!(
            missing(r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#),
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"
        );
        assert_eq!(
            missing(r#"{"verbs":["get"],"nonResourceURLs":["*"]}"#),
            "{NonResourceURLs:[\"*\"], Verbs:[\"get\"]}"
        );
    }
}
