//! The four access reviews: may I, may they, and what may I (`kubectl auth can-i`).

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8w_kinds::authorization::access_review::{self, Subject};
use k8w_kinds::object::{get, list, map, text};
use k8w_kinds::selector::{FieldSelector, FieldTerm};
use serde_json::{Value, json};

use super::Mode;
use super::rbac::rule::{ALL, Rule};
use crate::ApiServer;
use crate::call::Call;
use crate::identity::{Attributes, UserInfo};
use crate::plugins::Decision;
use crate::request_info::RequestInfo;
use crate::review::Kind;
use crate::routes::Answer;
use crate::status::Status;

const SELF_ACCESS: Kind =
    Kind::authorization("SelfSubjectAccessReview", "io.k8s.api.authorization.v1.SelfSubjectAccessReview");
const ACCESS: Kind = Kind::authorization("SubjectAccessReview", "io.k8s.api.authorization.v1.SubjectAccessReview");
const LOCAL_ACCESS: Kind =
    Kind::authorization("LocalSubjectAccessReview", "io.k8s.api.authorization.v1.LocalSubjectAccessReview");
const SELF_RULES: Kind =
    Kind::authorization("SelfSubjectRulesReview", "io.k8s.api.authorization.v1.SelfSubjectRulesReview");

/// `POST …/selfsubjectaccessreviews`.
pub fn serve_self_access(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let review = SELF_ACCESS.read(&mut call).await?;
        check(&SELF_ACCESS, Subject::Own, &review, &call)?;
        let user = call.user.clone();
        answer(&server, &call, &SELF_ACCESS, review, &user).await
    }
    .boxed()
}

/// `POST …/subjectaccessreviews`.
pub fn serve_access(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let review = ACCESS.read(&mut call).await?;
        check(&ACCESS, Subject::Anybody, &review, &call)?;
        let user = subject(&review);
        answer(&server, &call, &ACCESS, review, &user).await
    }
    .boxed()
}

/// `POST …/namespaces/{namespace}/localsubjectaccessreviews`.
pub fn serve_local_access(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let review = LOCAL_ACCESS.read(&mut call).await?;
        check(&LOCAL_ACCESS, Subject::In, &review, &call)?;
        let user = subject(&review);
        answer(&server, &call, &LOCAL_ACCESS, review, &user).await
    }
    .boxed()
}

/// `POST …/selfsubjectrulesreviews`.
pub fn serve_self_rules(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut review = SELF_RULES.read(&mut call).await?;
        let namespace = text(&review, &["spec", "namespace"]);
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        server.cache.catch_up().await?;
        let asked = |mode| server.config.authorization.contains(&mode);
        let rbac = server.plugins.rbac.as_ref().filter(|_| asked(Mode::Rbac));
        let rules = rbac.map(|rbac| rbac.rules(&call.user, namespace)).unwrap_or_default();
        let (mut urls, mut resources): (Vec<Rule>, Vec<Rule>) =
            rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
        if asked(Mode::AlwaysAllow) {
            let all = || vec![ALL.to_owned()];
            resources.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
            urls.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
        }
        review["status"] = json!({"incomplete": false, "resourceRules": resources, "nonResourceRules": urls});
        // What a node may do depends on its pods.
        if asked(Mode::Node) && super::node_name(&call.user).is_some() {
            review["status"]["incomplete"] = true.into();
            review["status"]["evaluationError"] = "node authorizer does not support user rule resolution".into();
        }
        SELF_RULES.created(&call, &review)
    }
    .boxed()
}

async fn answer(server: &ApiServer, call: &Call, kind: &Kind, mut review: Value, user: &UserInfo) -> Answer {
    let (verb, info) = question(&review);
    server.cache.catch_up().await?;
    let attributes = Attributes { user, verb, info: &info };
    review["status"] = match super::decide(&server.plugins.authorizers, &attributes) {
        Decision::Allow => json!({"allowed": true}),
        Decision::NoOpinion(reason) => with_reason(json!({"allowed": false}), reason),
        Decision::Deny(reason) => with_reason(json!({"allowed": false, "denied": true}), reason),
    };
    kind.created(call, &review)
}

fn with_reason(mut status: Value, reason: String) -> Value {
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// The verb and the rest of what a review asks about.
fn question(review: &Value) -> (&str, RequestInfo) {
    let resource = get(review, &["spec", "resourceAttributes"]);
    let path = get(review, &["spec", "nonResourceAttributes"]);
    let info = match resource {
        Some(attributes) => {
            let field = |name: &str| text(attributes, &[name]).to_owned();
            RequestInfo {
                is_resource_request: true,
                group: field("group"),
                version: field("version"),
                resource: field("resource"),
                subresource: field("subresource"),
                namespace: field("namespace"),
                name: field("name"),
                field_selector: field_selector(attributes),
                ..RequestInfo::default()
            }
        }
        None => {
            RequestInfo { path: text(path.unwrap_or(&Value::Null), &["path"]).to_owned(), ..RequestInfo::default() }
        }
    };
    (text(resource.or(path).unwrap_or(&Value::Null), &["verb"]), info)
}

/// What a review says about fields, as far as authorizers are told of it: comparisons with one value
/// (`k8s.io/kubernetes/pkg/registry/authorization/util`).
fn field_selector(attributes: &Value) -> FieldSelector {
    let raw = text(attributes, &["fieldSelector", "rawSelector"]);
    if !raw.is_empty() {
        return FieldSelector::parse(raw).unwrap_or_default();
    }
    let term = |requirement: &Value| {
        let [value] = list(requirement, &["values"]) else { return None };
        let equal = match text(requirement, &["operator"]) {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        Some(FieldTerm { field: text(requirement, &["key"]).to_owned(), value: value.as_str()?.to_owned(), equal })
    };
    FieldSelector::of(list(attributes, &["fieldSelector", "requirements"]).iter().filter_map(term).collect())
}

/// Refuses a review that nobody can answer.
fn check(kind: &Kind, subject: Subject, review: &Value, call: &Call) -> Result<(), Status> {
    let errors = access_review::validate(subject, review, &call.info.namespace);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind.group, kind.kind, "", &errors)) }
}

/// The user that a review asks about.
fn subject(review: &Value) -> UserInfo {
    let spec = &review["spec"];
    let texts = |values: &[Value]| values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let extra = map(spec, &["extra"]).into_iter().flatten();
    UserInfo {
        name: text(spec, &["user"]).to_owned(),
        uid: text(spec, &["uid"]).to_owned(),
        groups: texts(list(spec, &["groups"])),
        extra: extra.map(|(key, values)| (key.clone(), texts(list(values, &[])))).collect(),
    }
}
