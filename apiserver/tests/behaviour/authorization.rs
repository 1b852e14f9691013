//! Every verb on every kind is refused to who may not, and open to who may: the cases come from the table of kinds, so
//! that a new kind is covered by being there.

use k8w_apiserver::Body;
use k8w_apiserver::UserInfo;
use k8w_apiserver::query::Query;
use k8w_apiserver::request_info::RequestInfo;
use k8w_kinds::{KindDef, registry};
use serde_json::json;

use crate::cluster::{As, Cluster};

/// One verb on one resource or subresource.
struct Case {
    kind: &'static KindDef,
    subresource: &'static str,
    verb: &'static str,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in registry::all() {
        cases.extend(kind.verbs.iter().map(|verb| Case { kind, subresource: "", verb }));
        for sub in &kind.subresources {
            cases.extend(sub.verbs.iter().map(|verb| Case { kind, subresource: sub.name, verb }));
        }
    }
    cases
}

impl Case {
    fn resource(&self) -> String {
        match self.subresource {
            "" => self.kind.plural.to_string(),
            subresource => format!("{}/{subresource}", self.kind.plural),
        }
    }

    fn method(&self) -> &'static str {
        match self.verb {
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            _ => "GET",
        }
    }

    /// Writes are dry runs: the cases must not change each other's world.
    fn path(&self) -> String {
        let kind = self.kind;
        let mut path = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        path.push_str(&format!("/{}", kind.version));
        if kind.namespaced {
            path.push_str("/namespaces/default");
        }
        path.push_str(&format!("/{}", kind.plural));
        let collection = matches!(self.verb, "list" | "watch" | "deletecollection") || self.verb == "create";
        if !collection || !self.subresource.is_empty() {
            path.push_str("/none");
        }
        if !self.subresource.is_empty() {
            path.push_str(&format!("/{}", self.subresource));
        }
        match self.verb {
            "watch" => format!("{path}?watch=true"),
            "get" | "list" => path,
            _ => format!("{path}?dryRun=All"),
        }
    }

    /// Code and message of the answer to `who`.
    async fn run(&self, cluster: &Cluster, who: As<'_>) -> (u16, String) {
        let content_type = if self.verb == "patch" { "application/merge-patch+json" } else { "application/json" };
        let (headers, body) = match self.method() {
            "POST" | "PUT" | "PATCH" => (vec![("content-type", content_type)], Body::from("{}")),
            _ => (vec![], Body::Empty),
        };
        let reply = cluster.send(who, self.method(), &self.path(), &headers, body).await;
        (reply.code, if reply.code < 400 { String::new() } else { reply.error().2 })
    }

    /// What the refusal says.
    fn refusal(&self, user: &str) -> String {
        format!("User {user:?} cannot {} resource {:?} in API group {:?}", self.verb, self.resource(), self.kind.group)
    }

    fn user(&self) -> String {
        let kind = self.kind;
        format!("{}-{}-{}-{}", self.verb, self.resource().replace('/', "-"), kind.group, kind.version)
    }

    fn info(&self) -> RequestInfo {
        let path = self.path();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        RequestInfo::new(&self.method().parse().unwrap(), path, &Query::parse(query))
    }
}

#[tokio::test]
async fn without_credentials_everything_is_refused() {
    let cluster = Cluster::new().await;
    for case in cases() {
        let (code, message) = case.run(&cluster, As::Nobody).await;
        assert_eq!(code, 403, "{} {}: {message}", case.method(), case.path());
        assert!(message.contains(&case.refusal("system:anonymous")), "{message}");
    }
    let (code, reason, message) = cluster.get(As::Nobody, "/").await.error();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(message, "forbidden: User \"system:anonymous\" cannot get path \"/\"");
    assert_eq!(cluster.get(As::Token("nonsense"), "/api").await.error().0, 401);
}

#[tokio::test]
async fn without_permission_everything_is_refused() {
    let cluster = Cluster::new().await;
    for case in cases() {
        let (code, message) = case.run(&cluster, As::User("nobody", &[])).await;
        assert_eq!(code, 403, "{} {}: {message}", case.method(), case.path());
        assert!(message.contains(&case.refusal("nobody")), "{message}");
    }
}

#[tokio::test]
async fn a_permission_opens_what_it_names_and_nothing_else() {
    let cluster = Cluster::new().await;
    let cases = cases();
    for case in &cases {
        let rule = json!({"verbs": [case.verb], "apiGroups": [case.kind.group], "resources": [case.resource()]});
        cluster.grant(&case.user(), json!([rule])).await;
    }
    let infos: Vec<RequestInfo> = cases.iter().map(Case::info).collect();
    let resources: Vec<String> = cases.iter().map(Case::resource).collect();
    for (this, case) in cases.iter().enumerate() {
        let name = case.user();
        let (code, message) = case.run(&cluster, As::User(&name, &[])).await;
        assert!(code != 401 && !message.contains(&case.refusal(&name)), "{} {}: {message}", case.method(), case.path());
        let user = UserInfo { name, ..UserInfo::default() };
        for (other, info) in infos.iter().enumerate() {
            let allowed = cluster.server.authorize(&user, info.verb, info).is_ok();
            // A permission is for all versions of a resource.
            let same = |other: &Case| (other.resource(), &other.kind.group) == (case.resource(), &case.kind.group);
            let expected = other == this || same(&cases[other]) && cases[other].verb == case.verb;
            assert_eq!(allowed, expected, "{} {} {}", user.name, info.verb, resources[other]);
        }
    }
}

/// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>: some kinds are made by
/// a `PUT` to where nothing is.
#[tokio::test]
async fn a_replacement_that_creates_needs_the_verb_create() {
    let cluster = Cluster::new().await;
    let rule =
        |verbs: &[&str]| json!([{"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}]);
    cluster.grant("updater", rule(&["update"])).await;
    cluster.grant("maker", rule(&["update", "create"])).await;
    let put = async |user: &str| {
        let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a";
        let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": user}}).to_string();
        let headers = [("content-type", "application/json")];
        cluster.send(As::User(user, &[]), "PUT", path, &headers, Body::from(lease)).await
    };
    let (code, _, message) = put("updater").await.error();
    assert_eq!(code, 403);
    assert!(message.contains("User \"updater\" cannot create resource \"leases\""), "{message}");
    assert_eq!(put("maker").await.code, 201);
}
