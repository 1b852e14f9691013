//! Acting as somebody else: the `Impersonate-*` headers, each allowed or not by the verb `impersonate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::{AUTHENTICATED, authenticated};
use crate::identity::UserInfo;
use crate::query;
use crate::request_info::RequestInfo;
use crate::status::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";

/// The user that the request acts as: `user` itself, unless headers say otherwise.
///
/// `authorize` decides whether the real user may impersonate what a [`RequestInfo`] names.
///
/// # Errors
/// 403 when any part may not be impersonated, 400 when there are impersonation headers but no user.
pub fn impersonate(
    user: Arc<UserInfo>,
    headers: &HeaderMap,
    authorize: impl Fn(&UserInfo, &RequestInfo) -> Result<(), Status>,
) -> Result<Arc<UserInfo>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(user);
    }
    let wanted = requested(headers)?;
    for permission in permissions(&wanted) {
        authorize(&user, &permission)?;
    }
    Ok(Arc::new(complete(wanted)))
}

fn requested(headers: &HeaderMap) -> Result<UserInfo, Status> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = extra_key(name) {
            extra.insert(key, texts(name.as_str()));
        }
    }
    let name = texts(USER).into_iter().next().unwrap_or_default();
    let uid = texts(UID).into_iter().next().unwrap_or_default();
    let wanted = UserInfo { name, uid, groups: texts(GROUP), extra };
    if wanted.name.is_empty() && wanted != UserInfo::default() {
        return Err(Status::bad_request(format!("requested {wanted:?} without impersonating a user")));
    }
    Ok(wanted)
}

/// Header names are case-insensitive, so keys are in lower case; they may be percent-encoded.
fn extra_key(name: &HeaderName) -> Option<String> {
    name.as_str().strip_prefix(EXTRA).filter(|key| !key.is_empty()).map(|key| query::decode(key, false).into_owned())
}

/// What the real user must be allowed to do, all of it.
fn permissions(wanted: &UserInfo) -> Vec<RequestInfo> {
    let permission = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| RequestInfo {
        verb: "impersonate",
        is_resource_request: true,
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..RequestInfo::default()
    };
    let mut all = vec![match service_account(&wanted.name) {
        Some((namespace, name)) => permission("", "serviceaccounts", "", namespace, name),
        None => permission("", "users", "", "", &wanted.name),
    }];
    all.extend(wanted.groups.iter().map(|group| permission("", "groups", "", "", group)));
    if !wanted.uid.is_empty() {
        all.push(permission(AUTHENTICATION_GROUP, "uids", "", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        all.extend(values.iter().map(|value| permission(AUTHENTICATION_GROUP, "userextras", key, "", value)));
    }
    all
}

/// Namespace and name in `system:serviceaccount:<namespace>:<name>`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':').filter(|(ns, name)| !ns.is_empty() && !name.is_empty())
}

/// Adds the groups that the user would have had if it had come itself.
fn complete(mut user: UserInfo) -> UserInfo {
    let anonymous = UserInfo::anonymous();
    if user.name == anonymous.name {
        user.groups
            .extend(anonymous.groups.into_iter().filter(|group| !user.groups.contains(group)).collect::<Vec<_>>());
        return user;
    }
    if let Some((namespace, _)) = service_account(&user.name)
        && user.groups.is_empty()
    {
        user.groups = super::service_account_groups(namespace);
    }
    if user.groups.iter().any(|group| group == AUTHENTICATED) { user } else { authenticated(user) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn line(info: &RequestInfo) -> String {
        format!("{}/{} {}/{} {}", info.group, info.resource, info.namespace, info.name, info.subresource)
    }

    /// Who comes out, and what was asked of the authorizer.
    fn run(pairs: &[(&'static str, &str)]) -> (Result<Arc<UserInfo>, Status>, Vec<String>) {
        let asked = std::cell::RefCell::new(Vec::new());
        let real = Arc::new(UserInfo { name: "admin".into(), ..UserInfo::default() });
        let result = impersonate(real, &headers(pairs), |_, info| {
            asked.borrow_mut().push(line(info));
            Ok(())
        });
        (result, asked.into_inner())
    }

    #[test]
    fn without_headers_nothing_changes() {
        let (user, asked) = run(&[("accept", "*/*")]);
        assert_eq!(user.unwrap().name, "admin");
        assert!(asked.is_empty());
    }

    #[test]
    fn every_part_is_asked_for() {
        let (user, asked) = run(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "42"),
            ("impersonate-extra-scopes%2fx", "view"),
        ]);
        let user = user.unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "42"));
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra["scopes/x"], ["view"]);
        assert_eq!(
            asked,
            [
                "/users /jane ",
                "/groups /dev ",
                "/groups /ops ",
                "authentication.k8s.io/uids /42 ",
                "authentication.k8s.io/userextras /view scopes/x"
            ]
        );
    }

    #[test]
    fn a_service_account_gets_its_groups() {
        let (user, asked) = run(&[("impersonate-user", "system:serviceaccount:a:robot")]);
        assert_eq!(
            user.unwrap().groups,
            ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
        );
        assert_eq!(asked, ["/serviceaccounts a/robot "]);
    }

    #[test]
    fn a_group_alone_is_refused() {
        assert_eq!(run(&[("impersonate-group", "system:masters")]).0.unwrap_err().code, 400);
    }

    #[test]
    fn what_may_not_be_impersonated_ends_the_request() {
        let refuse = |_: &UserInfo, info: &RequestInfo| match info.resource.as_str() {
            "groups" => Err(Status::forbidden("", "groups", &info.name, "no")),
            _ => Ok(()),
        };
        let headers = headers(&[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]);
        assert_eq!(impersonate(Arc::default(), &headers, refuse).unwrap_err().code, 403);
    }
}
