//! `serviceaccounts/token`: making tokens (TokenRequest, KEP-1205), and the documents that let others verify them
//! (KEP-1393).

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use k8w_kinds::core::service_account_token::user_name;
use k8w_kinds::object::{get, int, list, text};
use k8w_kinds::{FieldError, FieldPath};
use serde_json::{Value, json};

use super::audiences;
use super::{Claims, Identity, ObjectRef, Private, Tokens};
use crate::ApiServer;
use crate::authz::node_name;
use crate::call::Call;
use crate::request_info::RequestInfo;
use crate::respond;
use crate::review::Kind;
use crate::routes::Answer;
use crate::status::Status;
use crate::watch_cache::Record;

const TOKEN_REQUEST: Kind = Kind::authentication("TokenRequest", "io.k8s.api.authentication.v1.TokenRequest");

const DEFAULT_LIFETIME_SECONDS: i64 = 3600;
const MIN_LIFETIME_SECONDS: i64 = 600;
const MAX_LIFETIME_SECONDS: i64 = 1 << 32;
/// Who asks for this lifetime may be a program that never reads its token again: it gets one that is good for a year, and
/// says from when on it should have been renewed (kube-apiserver's `--service-account-extend-token-expiration`).
const EXTENDED_FROM_SECONDS: i64 = 3607;
const EXTENDED_TO_SECONDS: i64 = 365 * 24 * 3600;
/// Lets a node ask for tokens for an audience that the pod does not name.
const AUDIENCE_VERB: &str = "request-serviceaccounts-token-audience";

/// Below the issuer, as its discovery document says.
const KEY_SET_PATH: &str = "/openid/v1/jwks";

/// `POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token`.
pub fn serve(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut request = TOKEN_REQUEST.read(&mut call).await?;
        let tokens = server.plugins.tokens.as_ref().ok_or_else(Status::no_such_resource)?;
        let lifetime = lifetime_seconds(&request)?;
        server.cache.catch_up().await?;
        let mut private = bind(&server, &call.info.namespace, &call.info.name, &request)?;
        if let Some(node) = node_name(&call.user) {
            let checked =
                restrict_to_node(node, &private).and_then(|()| restrict_audience(&server, &call, &private, &request));
            checked.map_err(|why| Status::forbidden("", "serviceaccounts", &call.info.name, why))?;
        }
        let now = Timestamp::now();
        let mut audiences: Vec<String> =
            list(&request, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(tokens.issuer.clone());
        }
        let mut good_for = lifetime;
        if lifetime == EXTENDED_FROM_SECONDS && private.pod.is_some() && audiences == [tokens.issuer.as_str()] {
            private.warnafter = Some(now.as_second() + lifetime);
            good_for = EXTENDED_TO_SECONDS;
        }
        let token = tokens.issue(private, audiences.clone(), good_for, now)?;
        let expires = now.checked_add(SignedDuration::from_secs(lifetime)).unwrap_or(Timestamp::MAX);
        request["metadata"] = json!({"name": call.info.name, "namespace": call.info.namespace,
            "creationTimestamp": seconds(now)});
        request["spec"]["audiences"] = audiences.into();
        request["spec"]["expirationSeconds"] = lifetime.into();
        request["status"] = json!({"token": token, "expirationTimestamp": seconds(expires)});
        TOKEN_REQUEST.created(&call, &request)
    }
    .boxed()
}

/// Times in objects have whole seconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

impl Tokens {
    fn issue(&self, private: Private, aud: Vec<String>, lifetime: i64, now: Timestamp) -> Result<String, Status> {
        let claims = Claims {
            aud,
            exp: now.as_second() + lifetime,
            iat: now.as_second(),
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: user_name(&private.namespace, &private.serviceaccount.name),
            kubernetes: private,
            nbf: now.as_second(),
        };
        self.key.sign(&claims).map_err(Status::internal)
    }
}

fn lifetime_seconds(request: &Value) -> Result<i64, Status> {
    if get(request, &["spec", "expirationSeconds"]).is_none() {
        return Ok(DEFAULT_LIFETIME_SECONDS);
    }
    let seconds = int(request, &["spec", "expirationSeconds"]);
    let (spec, refuse) = (FieldPath::new("spec"), |detail: &str| (seconds, detail.to_owned()));
    let (value, detail) = match seconds {
        MIN_LIFETIME_SECONDS..=MAX_LIFETIME_SECONDS => return Ok(seconds),
        ..MIN_LIFETIME_SECONDS => refuse("may not specify a duration less than 10 minutes"),
        _ => refuse("may not specify a duration larger than 2^32 seconds"),
    };
    let error = FieldError::invalid(&spec.child("expirationSeconds"), value, detail);
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// Looks up the service account and the object that the token is to die with.
fn bind(server: &ApiServer, namespace: &str, name: &str, request: &Value) -> Result<Private, Status> {
    let find = |plural: &str, namespace: &str, name: &str| {
        server.cache.get("", plural, namespace, name).ok_or_else(|| Status::not_found("", plural, name))
    };
    let reference = |record: &Record| ObjectRef { name: record.name().to_owned(), uid: Identity::of(record).uid };
    let account = find("serviceaccounts", namespace, name)?;
    let mut private = Private {
        namespace: namespace.to_owned(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: reference(&account),
        warnafter: None,
    };
    let Some(bound) = get(request, &["spec", "boundObjectRef"]) else { return Ok(private) };
    let (kind, bound_name, uid) = (text(bound, &["kind"]), text(bound, &["name"]), text(bound, &["uid"]));
    let record = match kind {
        "Pod" => find("pods", namespace, bound_name)?,
        "Secret" => find("secrets", namespace, bound_name)?,
        "Node" => find("nodes", "", bound_name)?,
        _ => return Err(Status::bad_request(format!("cannot bind token to object of type v1, Kind={kind}"))),
    };
    let object = reference(&record);
    if !uid.is_empty() && uid != object.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict("", &format!("{}s", kind.to_lowercase()), bound_name, why));
    }
    match kind {
        "Pod" => {
            let pod = record.value();
            if text(&pod, &["spec", "serviceAccountName"]) != name {
                let why = format!(
                    "cannot bind token for serviceaccount {name:?} to pod running with different serviceaccount name."
                );
                return Err(Status::bad_request(why));
            }
            let node = text(&pod, &["spec", "nodeName"]);
            private.node = server.cache.get("", "nodes", "", node).map(|node| reference(&node));
            private.pod = Some(object);
        }
        "Secret" => private.secret = Some(object),
        _ => private.node = Some(object),
    }
    Ok(private)
}

/// A node asks for tokens of the pods that run on it (NodeRestriction).
fn restrict_to_node(node: &str, private: &Private) -> Result<(), String> {
    let why = match (&private.pod, &private.node) {
        (None, _) => "node requested token not bound to a pod",
        (Some(_), Some(own)) if own.name == node => return Ok(()),
        (Some(_), _) => "node requested token bound to a pod scheduled on a different node",
    };
    Err(why.to_owned())
}

/// A node asks for tokens for the audiences that the pod names, and for those that a role allows it
/// (`ServiceAccountNodeAudienceRestriction`).
fn restrict_audience(server: &ApiServer, call: &Call, private: &Private, request: &Value) -> Result<(), String> {
    let audience = match list(request, &["spec", "audiences"]) {
        [] => "",
        [audience] => audience.as_str().unwrap_or_default(),
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let name = private.pod.as_ref().map(|pod| pod.name.as_str()).unwrap_or_default();
    let pod = server.cache.get("", "pods", &private.namespace, name).map(|record| record.value());
    if pod.is_some_and(|pod| audiences::named_by(&pod, &server.cache).any(|named| named == audience)) {
        return Ok(());
    }
    let asked = RequestInfo {
        is_resource_request: true,
        version: "v1".to_owned(),
        resource: audience.to_owned(),
        namespace: private.namespace.clone(),
        name: call.info.name.clone(),
        ..RequestInfo::default()
    };
    let user = &call.user;
    server.authorize(user, AUDIENCE_VERB, &asked).map_err(|_| {
        let name = &user.name;
        format!("audience {audience:?} not found in pod spec volume, {name} is not authorized to request tokens for this audience")
    })
}

/// `GET /openid/v1/jwks`.
pub fn serve_key_set(server: Arc<ApiServer>, _: Call) -> BoxFuture<'static, Answer> {
    async move {
        let tokens = server.plugins.tokens.as_ref().ok_or_else(Status::no_such_resource)?;
        let mut response = respond::json(&tokens.key.key_set());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        Ok(response)
    }
    .boxed()
}

/// `GET /.well-known/openid-configuration`.
pub fn serve_configuration(server: Arc<ApiServer>, _: Call) -> BoxFuture<'static, Answer> {
    async move {
        let tokens = server.plugins.tokens.as_ref().ok_or_else(Status::no_such_resource)?;
        Ok(respond::json(&json!({
            "issuer": tokens.issuer,
            "jwks_uri": format!("https://{}{KEY_SET_PATH}", server.config.advertise),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })))
    }
    .boxed()
}
