//! The certificates of ClusterTrustBundles, for projected volumes
//! (<https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#cluster-trust-bundles>).

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::Selector;

use super::setup::sentence;

/// How long a volume shows what was found before it is looked for again.
pub(super) const RENEW_AFTER: Duration = Duration::from_secs(60);

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// All certificates that a projection selects, each once, as PEM; empty when there are none and it is optional.
///
/// # Errors
/// With the reason when there are none, or they cannot be had.
pub(super) async fn anchors(client: &Client, projection: &ClusterTrustBundleProjection) -> Result<String, String> {
    let optional = projection.optional.unwrap_or(false);
    let api: Api<ClusterTrustBundle> = Api::all(client.clone());
    let (bundles, what) = match (&projection.name, &projection.signer_name) {
        (Some(name), _) => {
            let found = api.get_opt(name).await.map_err(sentence)?;
            (found.into_iter().collect(), format!("clustertrustbundle \"{name}\" not found"))
        }
        (None, Some(signer)) => {
            // Without a selector nothing is selected; an empty one selects everything.
            let Some(labels) = projection.label_selector.clone() else { return none(signer, optional) };
            let selector = selector(labels)?;
            let fields = format!("spec.signerName={signer}");
            let found = api.list(&ListParams::default().fields(&fields).labels_from(&selector)).await;
            (found.map_err(sentence)?.items, no_bundle(signer))
        }
        (None, None) => return Err("either name or signerName must be given".to_owned()),
    };
    if bundles.is_empty() && !optional {
        return Err(what);
    }
    Ok(certificates(bundles.iter().map(|bundle| bundle.spec.trust_bundle.as_str())))
}

fn selector(labels: LabelSelector) -> Result<Selector, String> {
    labels.try_into().map_err(|error: kube::core::ParseExpressionError| error.to_string())
}

fn none(signer: &str, optional: bool) -> Result<String, String> {
    if optional { Ok(String::new()) } else { Err(no_bundle(signer)) }
}

fn no_bundle(signer: &str) -> String {
    format!("combination of signerName={signer} and labelSelector matched zero ClusterTrustBundles")
}

/// The certificates of several bundles, each once, without what stands between them.
fn certificates<'a>(bundles: impl Iterator<Item = &'a str>) -> String {
    let mut found = BTreeSet::new();
    for bundle in bundles {
        for part in bundle.split(BEGIN).skip(1) {
            if let Some((body, _)) = part.split_once(END) {
                found.insert(body.trim());
            }
        }
    }
    found.into_iter().map(|body| format!("{BEGIN}\n{body}\n{END}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_shown_once_without_comments() {
        let pem = |body: &str| format!("{BEGIN}\n{body}\n{END}\n");
        let bundles = [format!("# one\n{}{}", pem("B"), pem("A")), pem("A"), "none".to_owned()];
        assert_eq!(certificates(bundles.iter().map(String::as_str)), format!("{}{}", pem("A"), pem("B")));
    }
}
