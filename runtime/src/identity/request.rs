//! Asking the API server for a certificate: a CertificateSigningRequest, and the wait until it is answered.

use std::convert::Infallible;
use std::error::Error as _;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8w_kinds::credentials::{NODE_PREFIX, NODES};
use kube::api::{Api, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::{Certificate, Error};

/// How long somebody may take to approve a request by hand.
pub(super) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// After this the user is told what to do.
const QUICK: Duration = Duration::from_secs(10);

/// What a certificate is to be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Being a client of the API server.
    Client,
    /// Being asked, on the node's own port.
    Serving,
}

impl Purpose {
    fn signer(self) -> &'static str {
        match self {
            Purpose::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Purpose::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Purpose::Client => "client auth",
            Purpose::Serving => "server auth",
        }
    }
}

/// Makes a key and has the cluster's CA sign a certificate for it, under these names and addresses.
pub(super) async fn certificate(
    client: &Client,
    server: &http::Uri,
    node: &str,
    purpose: Purpose,
    names: &[String],
) -> Result<Certificate, Error> {
    let key = KeyPair::generate().map_err(Error::Key)?;
    let request = request(&key, node, names).map_err(Error::Key)?;
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(vec!["digital signature".to_owned(), purpose.usage().to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = api.create(&PostParams::default(), &wanted).await.map_err(|error| failed(server, "", error))?;
    let name = made.name_any();
    let answered = await_condition(api, &name, |request: Option<&CertificateSigningRequest>| {
        request.is_none_or(|request| answer(request).is_some())
    });
    let hint = async {
        tokio::time::sleep(QUICK).await;
        tracing::warn!("waiting for the certificate request {name}: `kubectl certificate approve {name}` approves it");
        std::future::pending::<Infallible>().await
    };
    let answered = tokio::select! {
        answered = tokio::time::timeout(PATIENCE, answered) => answered,
        never = hint => match never {},
    };
    let answered = answered.map_err(|_| Error::Unanswered { name: name.clone() })?;
    let answered = answered.map_err(|error| Error::Api { server: server.to_string(), message: error.to_string() })?;
    match answered.as_ref().and_then(answer) {
        Some(Answer::Certificate(bytes)) => {
            let certificate_pem = String::from_utf8_lossy(&bytes).into_owned();
            Certificate::from_pem(&format!("{certificate_pem}{}", key.serialize_pem()), "what the API server issued")
        }
        Some(Answer::Refused { what, message }) => Err(Error::Refused { name, what, message }),
        None => Err(Error::Refused { name, what: "deleted", message: "nobody answered it".to_owned() }),
    }
}

fn request(key: &KeyPair, node: &str, names: &[String]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, NODES);
    params.distinguished_name.push(DnType::CommonName, format!("{NODE_PREFIX}{node}"));
    params.serialize_request(key)?.pem()
}

enum Answer {
    Certificate(Vec<u8>),
    Refused { what: &'static str, message: String },
}

fn answer(request: &CertificateSigningRequest) -> Option<Answer> {
    let status = request.status.as_ref()?;
    let has = |type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition: &&CertificateSigningRequestCondition| condition.type_ == type_)
    };
    for (type_, what) in [("Denied", "denied"), ("Failed", "not signed")] {
        if let Some(condition) = has(type_) {
            return Some(Answer::Refused { what, message: condition.message.clone().unwrap_or_default() });
        }
    }
    let certificate = status.certificate.as_ref().filter(|bytes| !bytes.0.is_empty())?;
    Some(Answer::Certificate(certificate.0.clone()))
}

/// What a request to the API server failed of, in a sentence; `ca` says whom the server's certificate should be from.
pub(super) fn failed(server: &http::Uri, ca: &str, error: kube::Error) -> Error {
    let server = server.to_string().trim_end_matches('/').to_owned();
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            Error::Unauthorized { server, message: status.message.clone() }
        }
        kube::Error::Api(status) => Error::Api { server, message: status.message.clone() },
        other => {
            let mut causes: Vec<String> = vec![other.to_string()];
            let mut source = other.source();
            while let Some(cause) = source {
                causes.push(cause.to_string());
                source = cause.source();
            }
            let is_foreign = |cause: &String| cause.contains("UnknownIssuer") || cause.contains("BadSignature");
            if causes.iter().any(is_foreign) {
                return Error::Untrusted { server, ca: ca.to_owned() };
            }
            Error::Unreachable { server, message: causes.pop().unwrap_or_default() }
        }
    }
}
