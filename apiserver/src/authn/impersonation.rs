//! Acting as somebody else: the `Impersonate-*` headers.
//!
//! Either by the verb `impersonate` on every part of the user, or within bounds (KEP-5284): by a verb that says as what sort
//! of user, `impersonate:<mode>`, together with one that says what may be done as such, `impersonate-on:<mode>:<verb>`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use k8w_kinds::credentials::{NODE_PREFIX, NODES};
use k8w_kinds::names;

use super::user_headers::UserHeaders;
use super::{AUTHENTICATED, service_account_groups};
use crate::chain::forbidden;
use crate::identity::UserInfo;
use crate::pki::MASTERS_GROUP;
use crate::request_info::RequestInfo;
use crate::status::Status;

const HEADERS: UserHeaders = UserHeaders {
    user: "impersonate-user",
    uid: "impersonate-uid",
    group: "impersonate-group",
    extra: "impersonate-extra-",
};

const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
/// What a bound token says of the node that its pod is on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many groups or extra values on, who may impersonate all of them is asked about once.
const MANY_CHECKS: usize = 4;

/// The user that the request acts as: `user` itself, unless headers say otherwise.
///
/// `authorize` decides whether the real user may do what a verb and a [`RequestInfo`] say; `request` is what is asked for.
///
/// # Errors
/// 403 when no mode allows it, in the words of the first that could, 400 when there are impersonation headers but no user.
pub fn impersonate(
    user: Arc<UserInfo>,
    headers: &HeaderMap,
    request: &RequestInfo,
    authorize: impl Fn(&UserInfo, &str, &RequestInfo) -> Result<(), Status>,
) -> Result<Arc<UserInfo>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(user);
    }
    let wanted = requested(headers)?;
    let mut refusal = None;
    for mode in Mode::ALL.into_iter().filter(|mode| mode.suits(&wanted, &user)) {
        match mode.check(&user, &wanted, request, &authorize) {
            Ok(()) => return Ok(Arc::new(mode.complete(wanted))),
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    Err(refusal.unwrap_or_else(Status::unauthorized))
}

/// As what a user may be impersonated, in the order in which it is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The node that the pod of the service account is on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Neither a node nor a service account.
    UserInfo,
    /// Whoever it is, whatever for.
    Legacy,
}

impl Mode {
    const ALL: [Mode; 5] =
        [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

    fn name(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "associated-node",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::ServiceAccount => "serviceaccount",
            Mode::UserInfo => "user-info",
            Mode::Legacy => "",
        }
    }

    /// Whether the wanted user is of the mode's sort.
    fn suits(self, wanted: &UserInfo, user: &UserInfo) -> bool {
        let name_alone = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), service_account(&wanted.name));
        match self {
            Mode::AssociatedNode => {
                let own = user.extra.get(NODE_NAME).map(Vec::as_slice);
                let is_own = matches!((own, node), (Some([own]), Some(node)) if own == node);
                name_alone && is_own && service_account(&user.name).is_some()
            }
            Mode::ArbitraryNode => name_alone && node.is_some(),
            Mode::ServiceAccount => name_alone && account.is_some(),
            Mode::UserInfo => node.is_none() && account.is_none(),
            Mode::Legacy => true,
        }
    }

    fn check(
        self,
        user: &UserInfo,
        wanted: &UserInfo,
        request: &RequestInfo,
        authorize: &impl Fn(&UserInfo, &str, &RequestInfo) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let parts = Parts { group: if self == Mode::Legacy { "" } else { AUTHENTICATION_GROUP } };
        if self == Mode::Legacy {
            let all = parts.of(self, wanted);
            return all.iter().try_for_each(|part| authorize(user, "impersonate", part));
        }
        authorize(user, &format!("impersonate-on:{}:{}", self.name(), request.verb), request)?;
        let verb = format!("impersonate:{}", self.name());
        authorize(user, &verb, &parts.user(self, &wanted.name))?;
        parts.uid(&wanted.uid).iter().try_for_each(|uid| authorize(user, &verb, uid))?;
        let refuse = |part: RequestInfo, why: &str| Err(forbidden(user, &verb, &part, why));
        if wanted.groups.iter().any(String::is_empty) {
            return refuse(parts.group(""), "impersonating the empty string group is not allowed");
        }
        if wanted.groups.iter().any(|group| group == MASTERS_GROUP) {
            return refuse(parts.group(MASTERS_GROUP), "impersonating the system:masters group is not allowed");
        }
        let every_group = wanted.groups.len() >= MANY_CHECKS && authorize(user, &verb, &parts.group("*")).is_ok();
        if !every_group {
            wanted.groups.iter().try_for_each(|group| authorize(user, &verb, &parts.group(group)))?;
        }
        if let Some(why) = wanted.extra.iter().find_map(|(key, values)| wrong_extra(key, values)) {
            return refuse(parts.extra("", ""), &why);
        }
        let extra_values: usize = wanted.extra.values().map(Vec::len).sum();
        if extra_values >= MANY_CHECKS && authorize(user, &verb, &parts.extra("*", "*")).is_ok() {
            return Ok(());
        }
        parts.extras(&wanted.extra).iter().try_for_each(|extra| authorize(user, &verb, extra))
    }

    /// Adds the groups that the user would have had if it had come itself.
    fn complete(self, mut wanted: UserInfo) -> UserInfo {
        if wanted.groups.is_empty() {
            if let Some((namespace, _)) = service_account(&wanted.name) {
                wanted.groups = service_account_groups(namespace);
            } else if matches!(self, Mode::AssociatedNode | Mode::ArbitraryNode) {
                wanted.groups = vec![NODES.to_owned()];
            }
        }
        let anonymous = UserInfo::anonymous();
        let has = |group: &str| wanted.groups.iter().any(|own| own == group);
        let is_unauthenticated = anonymous.groups.iter().any(|group| has(group));
        let missing = if wanted.name == anonymous.name { anonymous.groups } else { vec![AUTHENTICATED.to_owned()] };
        if !is_unauthenticated && !missing.iter().any(|group| has(group)) {
            wanted.groups.extend(missing);
        }
        wanted
    }
}

/// What of an extra value cannot be impersonated within bounds.
fn wrong_extra(key: &str, values: &[String]) -> Option<String> {
    let path = key.split_once('/').filter(|(domain, path)| {
        names::dns_subdomain(domain).is_empty() && !path.is_empty() && names::path_segment(path).is_empty()
    });
    if path.is_none() {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a \
             domain-prefixed path (such as \"acme.io/foo\")"
        ));
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

fn requested(headers: &HeaderMap) -> Result<UserInfo, Status> {
    let wanted = HEADERS.read(headers);
    if wanted.name.is_empty() && wanted != UserInfo::default() {
        return Err(Status::bad_request(format!("requested {wanted:?} without impersonating a user name")));
    }
    Ok(wanted)
}

/// The parts of a user as objects that a verb is about.
struct Parts {
    /// The API group of users and groups; that of the others is always the same.
    group: &'static str,
}

impl Parts {
    fn part(&self, group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> RequestInfo {
        RequestInfo {
            is_resource_request: true,
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..RequestInfo::default()
        }
    }

    fn user(&self, mode: Mode, user: &str) -> RequestInfo {
        match (mode, service_account(user), node(user)) {
            // A service account may be on any node.
            (Mode::AssociatedNode, ..) => self.part(self.group, "nodes", "", "", "*"),
            (Mode::ArbitraryNode, _, Some(node)) => self.part(self.group, "nodes", "", "", node),
            (_, Some((namespace, name)), _) => self.part(self.group, "serviceaccounts", "", namespace, name),
            _ => self.part(self.group, "users", "", "", user),
        }
    }

    fn group(&self, group: &str) -> RequestInfo {
        self.part(self.group, "groups", "", "", group)
    }

    fn uid(&self, uid: &str) -> Option<RequestInfo> {
        (!uid.is_empty()).then(|| self.part(AUTHENTICATION_GROUP, "uids", "", "", uid))
    }

    fn extra(&self, key: &str, value: &str) -> RequestInfo {
        self.part(AUTHENTICATION_GROUP, "userextras", key, "", value)
    }

    fn extras(&self, extra: &BTreeMap<String, Vec<String>>) -> Vec<RequestInfo> {
        extra.iter().flat_map(|(key, values)| values.iter().map(|value| self.extra(key, value))).collect()
    }

    /// All of them.
    fn of(&self, mode: Mode, wanted: &UserInfo) -> Vec<RequestInfo> {
        let mut all = vec![self.user(mode, &wanted.name)];
        all.extend(wanted.groups.iter().map(|group| self.group(group)));
        all.extend(self.uid(&wanted.uid));
        all.extend(self.extras(&wanted.extra));
        all
    }
}

/// Namespace and name in `system:serviceaccount:<namespace>:<name>`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':').filter(|(ns, name)| !ns.is_empty() && !name.is_empty())
}

/// The node in `system:node:<name>`.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix(NODE_PREFIX).filter(|name| names::dns_subdomain(name).is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn line(info: &RequestInfo) -> String {
        format!("{}/{} {}/{} {}", info.group, info.resource, info.namespace, info.name, info.subresource)
    }

    fn no() -> Status {
        Status::forbidden("", "users", "", "no")
    }

    /// Who comes out for somebody who may do what the verb `impersonate` allows, and what was asked of the authorizer.
    fn run(pairs: &[(&'static str, &str)]) -> (Result<Arc<UserInfo>, Status>, Vec<String>) {
        let admin = UserInfo { name: "admin".into(), ..UserInfo::default() };
        let (user, mut asked) = run_as(admin, pairs, |verb| if verb == "impersonate" { Ok(()) } else { Err(no()) });
        asked.retain(|question| question.starts_with("impersonate "));
        (user, asked)
    }

    fn run_as(
        real: UserInfo,
        pairs: &[(&'static str, &str)],
        allowed: impl Fn(&str) -> Result<(), Status>,
    ) -> (Result<Arc<UserInfo>, Status>, Vec<String>) {
        let asked = std::cell::RefCell::new(Vec::new());
        let real = Arc::new(real);
        let request = RequestInfo { verb: "list", resource: "pods".into(), ..RequestInfo::default() };
        let result = impersonate(real, &headers(pairs), &request, |_, verb, info| {
            asked.borrow_mut().push(format!("{verb} {}", line(info)));
            allowed(verb)
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
                "impersonate /users /jane ",
                "impersonate /groups /dev ",
                "impersonate /groups /ops ",
                "impersonate authentication.k8s.io/uids /42 ",
                "impersonate authentication.k8s.io/userextras /view scopes/x"
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
        assert_eq!(asked, ["impersonate /serviceaccounts a/robot "]);
    }

    #[test]
    fn a_group_alone_is_refused() {
        assert_eq!(run(&[("impersonate-group", "system:masters")]).0.unwrap_err().code, 400);
    }

    #[test]
    fn what_may_not_be_impersonated_ends_the_request() {
        let refuse = |_: &UserInfo, verb: &str, info: &RequestInfo| {
            if verb != "impersonate" || info.resource == "groups" { Err(no()) } else { Ok(()) }
        };
        let headers = headers(&[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]);
        assert_eq!(impersonate(Arc::default(), &headers, &RequestInfo::default(), refuse).unwrap_err().code, 403);
    }

    #[test]
    fn within_bounds_the_request_counts_too() {
        let robot = UserInfo {
            name: "system:serviceaccount:a:robot".into(),
            extra: BTreeMap::from([(NODE_NAME.to_owned(), vec!["n1".to_owned()])]),
            ..UserInfo::default()
        };
        let within = |verb: &str| if verb == "impersonate" { Err(no()) } else { Ok(()) };
        let on = |user: &str| run_as(robot.clone(), &[("impersonate-user", user)], within);
        let (node, asked) = on("system:node:n1");
        assert_eq!(node.unwrap().groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(
            asked,
            [
                "impersonate-on:associated-node:list /pods / ",
                "impersonate:associated-node authentication.k8s.io/nodes /* "
            ]
        );
        assert_eq!(on("system:node:n2").1[1], "impersonate:arbitrary-node authentication.k8s.io/nodes /n2 ");
        let account = on("system:serviceaccount:b:other").1;
        assert_eq!(account[1], "impersonate:serviceaccount authentication.k8s.io/serviceaccounts b/other ");
        assert_eq!(on("jane").1[1], "impersonate:user-info authentication.k8s.io/users /jane ");
    }

    #[test]
    fn within_bounds_nobody_becomes_master() {
        let within = |verb: &str| if verb == "impersonate" { Err(no()) } else { Ok(()) };
        let run = |more: (&'static str, &str)| {
            run_as(UserInfo::default(), &[("impersonate-user", "jane"), more], within).0.map(|user| user.groups.clone())
        };
        let refusal = run(("impersonate-group", "system:masters")).unwrap_err();
        assert!(refusal.message.contains("impersonating the system:masters group is not allowed"), "{refusal}");
        let refusal = run(("impersonate-extra-scopes", "view")).unwrap_err();
        assert!(refusal.message.contains("must be a domain-prefixed path"), "{refusal}");
        assert_eq!(run(("impersonate-extra-acme.io%2fscopes", "view")).unwrap(), ["system:authenticated"]);
    }

    #[test]
    fn whoever_has_not_proved_anything_stays_so() {
        let (user, _) = run(&[("impersonate-user", "jane"), ("impersonate-group", "system:unauthenticated")]);
        assert_eq!(user.unwrap().groups, ["system:unauthenticated"]);
        let (user, _) = run(&[("impersonate-user", "system:anonymous")]);
        assert_eq!(user.unwrap().groups, ["system:unauthenticated"]);
    }
}
