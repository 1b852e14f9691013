//! Method, path and query -> verb, resource, namespace, name and subresource.
//!
//! The rules are those of `k8s.io/apiserver` `pkg/endpoints/request/requestinfo.go`, which authorization and audit rely on:
//!
//! ```text
//! /api/{version}/[namespaces/{namespace}/]{resource}[/{name}[/{subresource}[/…]]]
//! /apis/{group}/{version}/…
//! ```

use crate::query::{Query, decode};
use http::Method;
use k8w_kinds::names;
use k8w_kinds::selector::FieldSelector;
use std::borrow::Cow;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection` for resources, else the
    /// method in lower case.
    pub verb: &'static str,
    pub is_resource_request: bool,
    /// The path, as sent.
    pub path: String,
    /// `api` or `apis`; empty for other paths.
    pub api_prefix: &'static str,
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped resources and for requests over all namespaces.
    pub namespace: String,
    /// Whether the path lies inside the namespace. That of a Namespace itself does not, though it has one to be authorized
    /// in.
    pub is_in_namespace: bool,
    /// The plural name.
    pub resource: String,
    pub subresource: String,
    /// Empty for requests on collections, unless a field selector picks one `metadata.name`.
    pub name: String,
    /// Which objects of a collection it is about, as far as the request says so in a way that can be read.
    pub field_selector: FieldSelector,
    /// What follows the group and version (and the namespace), split at slashes.
    pub parts: Vec<String>,
}

impl RequestInfo {
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = RequestInfo { verb: method_verb(method), path: path.to_string(), ..RequestInfo::default() };
        let mut segments = path.trim_matches('/').split('/').map(|segment| decode(segment, false));
        info.api_prefix = match segments.next().as_deref() {
            Some("api") => "api",
            Some("apis") => "apis",
            _ => return info,
        };
        let group = if info.api_prefix == "apis" { segments.next() } else { Some(Cow::default()) };
        let version = segments.next();
        let parts: Vec<String> = segments.map(Cow::into_owned).collect();
        let (Some(group), Some(version), [_, ..]) = (group, version, &parts[..]) else { return info };
        (info.group, info.version, info.parts) = (group.into_owned(), version.into_owned(), parts);
        info.is_resource_request = true;
        info.read_verb(method);
        info.read_scope();
        info.read_collection_verb(query);
        info
    }

    /// Whether the path goes on where nothing can be: beneath a subresource, unless that has paths of its own.
    pub fn leads_beyond(&self) -> bool {
        self.parts.len() > 3 && self.subresource != "proxy"
    }

    /// Whether the path names one object, rather than a collection.
    pub fn names_object(&self) -> bool {
        self.parts.len() > 1
    }

    /// The verb that the method stands for; `/watch/` is the old spelling of `?watch=true`.
    fn read_verb(&mut self, method: &Method) {
        let old_watch = self.parts.first().is_some_and(|first| first == "watch") && self.parts.len() > 1;
        self.verb = match method.as_str() {
            "GET" | "HEAD" if old_watch => "watch",
            _ if old_watch => self.verb,
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        if old_watch {
            self.parts.remove(0);
        }
    }

    /// Namespace, resource, name and subresource. A namespace is itself a resource: `namespaces/x` and its
    /// subresources `status` and `finalize` are about it, everything else below it lies in it.
    fn read_scope(&mut self) {
        if self.parts.first().is_some_and(|first| first == "namespaces") && self.parts.len() > 1 {
            self.namespace.clone_from(&self.parts[1]);
            if self.parts.len() > 2 && !matches!(self.parts[2].as_str(), "status" | "finalize") {
                self.parts.drain(..2);
                self.is_in_namespace = true;
            }
        }
        let mut parts = self.parts.iter().cloned();
        self.resource = parts.next().unwrap_or_default();
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
    }

    /// `get` and `delete` without a name are about the collection.
    fn read_collection_verb(&mut self, query: &Query) {
        if !self.name.is_empty() && self.verb != "watch" {
            return;
        }
        match self.verb {
            "get" if query.flag("watch") => self.verb = "watch",
            "get" => self.verb = "list",
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
        if !matches!(self.verb, "list" | "watch" | "deletecollection") {
            return;
        }
        let Some(selector) = query.get("fieldSelector") else { return };
        self.field_selector = FieldSelector::parse(selector).unwrap_or_default();
        let name = self.field_selector.required_value("metadata.name");
        if let Some(name) = name.filter(|name| self.name.is_empty() && names::path_segment(name).is_empty()) {
            self.name = name.to_owned();
        }
    }
}

fn method_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(method: &str, target: &str) -> RequestInfo {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::new(&Method::from_bytes(method.as_bytes()).unwrap(), path, &Query::parse(query))
    }

    /// verb group/version namespace resource name subresource
    fn line(method: &str, target: &str) -> String {
        let i = info(method, target);
        format!(
            "{} {}/{} {:?} {} {:?} {:?}",
            i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
        )
    }

    #[test]
    fn paths_of_resources() {
        let cases = [
            ("GET", "/api/v1/namespaces", r#"list /v1 "" namespaces "" """#),
            ("GET", "/api/v1/namespaces/other", r#"get /v1 "other" namespaces "other" """#),
            ("PUT", "/api/v1/namespaces/other/status", r#"update /v1 "other" namespaces "other" "status""#),
            ("PUT", "/api/v1/namespaces/other/finalize", r#"update /v1 "other" namespaces "other" "finalize""#),
            ("GET", "/api/v1/namespaces/other/pods", r#"list /v1 "other" pods "" """#),
            ("GET", "/api/v1/namespaces/other/pods/foo", r#"get /v1 "other" pods "foo" """#),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", r#"get /v1 "other" pods "foo" """#),
            ("GET", "/api/v1/pods", r#"list /v1 "" pods "" """#),
            ("POST", "/api/v1/pods", r#"create /v1 "" pods "" """#),
            ("GET", "/api/v1/namespaces/other/pods/foo/log", r#"get /v1 "other" pods "foo" "log""#),
            ("GET", "/api/v1/watch/pods", r#"watch /v1 "" pods "" """#),
            ("GET", "/api/v1/watch/namespaces/other/pods", r#"watch /v1 "other" pods "" """#),
            ("GET", "/api/v1/pods?watch=true", r#"watch /v1 "" pods "" """#),
            ("GET", "/api/v1/pods?watch=false", r#"list /v1 "" pods "" """#),
            ("POST", "/api/v1/watch/namespaces/other/pods", r#"post /v1 "other" pods "" """#),
            ("GET", "/api/v1/namespaces/other//pods", r#"get /v1 "other"  "pods" """#),
            ("GET", "/api/v1/namespaces/other/pods/", r#"list /v1 "other" pods "" """#),
            ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn", r#"list /v1 "" nodes "n" """#),
            ("DELETE", "/api/v1/namespaces/other/pods", r#"deletecollection /v1 "other" pods "" """#),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", r#"delete /v1 "other" pods "foo" """#),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", r#"patch apps/v1 "a" deployments "d" "scale""#),
            ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab", {
                r#"get rbac.authorization.k8s.io/v1 "" clusterroles "a:b" """#
            }),
        ];
        for (method, target, expected) in cases {
            assert_eq!(line(method, target), expected, "{method} {target}");
            assert!(info(method, target).is_resource_request);
        }
    }

    #[test]
    fn a_namespaces_own_path_does_not_lie_inside_it() {
        let is_inside = |path: &str| info("GET", path).is_in_namespace;
        assert!(!is_inside("/api/v1/namespaces/a"));
        assert!(!is_inside("/api/v1/namespaces/a/status"));
        assert!(is_inside("/api/v1/namespaces/a/namespaces/a"));
        assert!(is_inside("/api/v1/namespaces/a/pods"));
    }

    #[test]
    fn paths_that_name_no_resource() {
        for target in ["/", "/version", "/healthz/ping", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1"] {
            let info = info("GET", target);
            assert!(!info.is_resource_request, "{target}");
            assert_eq!((info.verb, info.path.as_str()), ("get", target));
        }
    }

    proptest! {
        #[test]
        fn any_path_has_an_answer(path in ".*", query in ".*") {
            RequestInfo::new(&Method::GET, &path, &Query::parse(&query));
        }

        #[test]
        fn a_named_object_is_found_again(namespace in "[a-z0-9]{1,9}", name in "[a-z0-9.:-]{1,9}", sub in "[a-z]{0,6}") {
            let info = info("GET", &format!("/api/v1/namespaces/{namespace}/pods/{name}/{sub}"));
            prop_assert_eq!(info.namespace, namespace);
            prop_assert_eq!(info.name, name);
            prop_assert_eq!(info.subresource, sub);
        }
    }
}
