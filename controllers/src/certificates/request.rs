//! What a certificate signing request asks for, and which of it the signers of `kubernetes.io` give
//! (`k8s.io/kubernetes/pkg/apis/certificates/helpers.go`). Pure.

use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8w_kinds::credentials::{NODE_PREFIX, NODES, address};
use k8w_kinds::names;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// Whose requests are decided on and answered here.
pub const API_SERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const PEM_LABEL: &str = "CERTIFICATE REQUEST";

/// Subject and names of the certificate that is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub has_emails: bool,
    pub has_uris: bool,
}

impl Asked {
    /// Reads a request (PEM); `None` for what is none.
    pub fn parse(pem: &[u8]) -> Option<Asked> {
        let pem = Pem::iter_from_buffer(pem).next()?.ok().filter(|pem| pem.label == PEM_LABEL)?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &request.certification_request_info.subject;
        let organizations = subject.iter_organization().map(|name| name.as_str().map(str::to_owned));
        let mut asked = Asked {
            common_name: subject
                .iter_common_name()
                .last()
                .map(|name| name.as_str().map(str::to_owned))
                .transpose()
                .ok()?
                .unwrap_or_default(),
            organizations: organizations.collect::<Result<_, _>>().ok()?,
            ..Asked::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            names.general_names.iter().for_each(|name| asked.add(name));
        }
        Some(asked)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => self.addresses.extend(address(octets)),
            GeneralName::RFC822Name(_) => self.has_emails = true,
            GeneralName::URI(_) => self.has_uris = true,
            _ => {}
        }
    }

    /// The node whose certificate it is to be.
    ///
    /// # Errors
    /// When it is to be no node's: what follows the prefix is a Node's name.
    pub fn node(&self) -> Result<&str, String> {
        let name = self.common_name.strip_prefix(NODE_PREFIX);
        let name = name.ok_or("subject common name does not begin with system:node:")?;
        match names::dns_subdomain(name).into_iter().next() {
            None => Ok(name),
            Some(why) => Err(format!("subject common name does not name a node: {why}")),
        }
    }
}

/// Whether requests to the signer are answered here.
pub fn is_ours(signer: &str) -> bool {
    check(signer, &Asked::default(), &[]).is_some()
}

/// Whether a signer gives what a request to it asks for; `None` for signers that are not ours.
///
/// # Errors
/// Why it does not, in Kubernetes' words.
pub fn check(signer: &str, asked: &Asked, usages: &[String]) -> Option<Result<(), String>> {
    match signer {
        API_SERVER_CLIENT => Some(check_client(usages)),
        KUBELET_CLIENT => Some(check_kubelet_client(asked, usages)),
        KUBELET_SERVING => Some(check_kubelet_serving(asked, usages)),
        // It never had any rules.
        LEGACY_UNKNOWN => Some(Ok(())),
        _ => None,
    }
}

fn check_client(usages: &[String]) -> Result<(), String> {
    if let Some(odd) =
        usages.iter().find(|usage| !["client auth", "digital signature", "key encipherment"].contains(&usage.as_str()))
    {
        return Err(format!("invalid usage for client certificate: {odd}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn check_kubelet_client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    refuse(asked.organizations != [NODES], "subject organization is not system:nodes")?;
    refuse(!asked.dns_names.is_empty(), "DNS subjectAltNames are not allowed")?;
    refuse(asked.has_emails, "Email subjectAltNames are not allowed")?;
    refuse(!asked.addresses.is_empty(), "IP subjectAltNames are not allowed")?;
    refuse(asked.has_uris, "URI subjectAltNames are not allowed")?;
    asked.node()?;
    check_usages("client auth", usages)
}

fn check_kubelet_serving(asked: &Asked, usages: &[String]) -> Result<(), String> {
    refuse(asked.organizations != [NODES], "subject organization is not system:nodes")?;
    let has_none = asked.dns_names.is_empty() && asked.addresses.is_empty();
    refuse(has_none, "DNS or IP subjectAltName is required")?;
    refuse(asked.has_emails, "Email subjectAltNames are not allowed")?;
    refuse(asked.has_uris, "URI subjectAltNames are not allowed")?;
    check_usages("server auth", usages)?;
    asked.node().map(|_| ())
}

fn refuse(wrong: bool, why: &str) -> Result<(), String> {
    if wrong { Err(why.to_owned()) } else { Ok(()) }
}

/// Keys that are not RSA's cannot encipher others, so that this usage may be missing.
fn check_usages(auth: &str, usages: &[String]) -> Result<(), String> {
    let required = ["digital signature", "key encipherment", auth];
    let has = |usage: &str| usages.iter().any(|other| other == usage);
    let known = usages.iter().all(|usage| required.contains(&usage.as_str()));
    let mut sorted = required;
    sorted.sort_unstable();
    refuse(!known || !has("digital signature") || !has(auth), &format!("usages did not match [{}]", sorted.join(" ")))
}

/// Whether the request has a condition, such as `Approved`, `Denied` or `Failed`.
pub fn has_condition(request: &CertificateSigningRequest, type_: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
}

pub fn has_certificate(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|bytes| !bytes.0.is_empty())
}

#[cfg(test)]
pub mod samples {
    //! Requests made with `openssl req -new` for P-256 keys.

    /// `/O=system:nodes/CN=system:node:a`.
    pub const NODE_CLIENT: &str = include_str!("samples/node-client.csr");
    /// Likewise, with the name `DNS:a`.
    pub const NODE_SERVING: &str = include_str!("samples/node-serving.csr");
    /// Likewise, with the name `DNS:a` and the address `IP:192.0.2.1`.
    pub const NODE_SERVING_BY_ADDRESS: &str = include_str!("samples/node-serving-by-address.csr");
    /// `/O=dev/CN=jane`.
    pub const USER: &str = include_str!("samples/user.csr");
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn usages(text: &str) -> Vec<String> {
        text.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(Asked::parse(b"eA=="), None);
        let asked = Asked::parse(samples::NODE_SERVING_BY_ADDRESS.as_bytes()).unwrap();
        expect![[r#"
            Asked {
                common_name: "system:node:a",
                organizations: [
                    "system:nodes",
                ],
                dns_names: [
                    "a",
                ],
                addresses: [
                    192.0.2.1,
                ],
                has_emails: false,
                has_uris: false,
            }
        "#]]
        .assert_debug_eq(&asked);
        assert_eq!(asked.node(), Ok("a"));
    }

    #[test]
    fn a_node_has_the_name_of_a_node() {
        let node = |common_name: &str| {
            let asked = Asked { common_name: common_name.to_owned(), ..Asked::default() };
            asked.node().map(str::to_owned)
        };
        assert_eq!(node("system:node:n1.example"), Ok("n1.example".to_owned()));
        assert_eq!(node("jane"), Err("subject common name does not begin with system:node:".to_owned()));
        for wrong in ["", "N1", "*", "*.default.svc", "KUBERNETES", "n1.", "a/b"] {
            let why = node(&format!("system:node:{wrong}")).unwrap_err();
            assert!(why.starts_with("subject common name does not name a node: "), "{wrong}: {why}");
        }
        let nameless =
            Asked { common_name: NODE_PREFIX.to_owned(), organizations: vec![NODES.to_owned()], ..Asked::default() };
        assert!(check(KUBELET_CLIENT, &nameless, &usages("digital signature, client auth")).unwrap().is_err());
    }

    #[test]
    fn signers_say_what_they_do_not_give() {
        let client = "digital signature, client auth";
        let serving = "digital signature, key encipherment, server auth";
        let mut said = String::new();
        for (signer, request, wanted) in [
            (KUBELET_CLIENT, samples::NODE_CLIENT, client),
            (KUBELET_CLIENT, samples::NODE_CLIENT, serving),
            (KUBELET_CLIENT, samples::NODE_SERVING, client),
            (KUBELET_CLIENT, samples::USER, client),
            (KUBELET_SERVING, samples::NODE_SERVING, serving),
            (KUBELET_SERVING, samples::NODE_SERVING, "server auth"),
            (KUBELET_SERVING, samples::NODE_CLIENT, serving),
            (API_SERVER_CLIENT, samples::USER, client),
            (API_SERVER_CLIENT, samples::USER, serving),
            (API_SERVER_CLIENT, samples::USER, "digital signature"),
            (LEGACY_UNKNOWN, samples::USER, "server auth"),
            ("example.com/own", samples::USER, client),
        ] {
            let asked = Asked::parse(request.as_bytes()).unwrap();
            let answer = match check(signer, &asked, &usages(wanted)) {
                None => "not ours".to_owned(),
                Some(Ok(())) => "given".to_owned(),
                Some(Err(why)) => why,
            };
            said += &format!("{signer} {} ({wanted}): {answer}\n", asked.common_name);
        }
        expect![[r#"
            kubernetes.io/kube-apiserver-client-kubelet system:node:a (digital signature, client auth): given
            kubernetes.io/kube-apiserver-client-kubelet system:node:a (digital signature, key encipherment, server auth): usages did not match [client auth digital signature key encipherment]
            kubernetes.io/kube-apiserver-client-kubelet system:node:a (digital signature, client auth): DNS subjectAltNames are not allowed
            kubernetes.io/kube-apiserver-client-kubelet jane (digital signature, client auth): subject organization is not system:nodes
            kubernetes.io/kubelet-serving system:node:a (digital signature, key encipherment, server auth): given
            kubernetes.io/kubelet-serving system:node:a (server auth): usages did not match [digital signature key encipherment server auth]
            kubernetes.io/kubelet-serving system:node:a (digital signature, key encipherment, server auth): DNS or IP subjectAltName is required
            kubernetes.io/kube-apiserver-client jane (digital signature, client auth): given
            kubernetes.io/kube-apiserver-client jane (digital signature, key encipherment, server auth): invalid usage for client certificate: server auth
            kubernetes.io/kube-apiserver-client jane (digital signature): missing required usage for client certificate: client auth
            kubernetes.io/legacy-unknown jane (server auth): given
            example.com/own jane (digital signature, client auth): not ours
        "#]]
        .assert_eq(&said);
    }
}
