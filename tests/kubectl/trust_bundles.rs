//! Certificates of ClusterTrustBundles in projected volumes. The kind is not served unless somebody defines it.

use k8w_testkit::{Kubectl, eventually};
use serde_json::{Value, json};

use crate::{hello_pod, own_cluster};

/// The kind, as far as nodes read it.
fn definition() -> Value {
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "properties": {"signerName": text, "trustBundle": text}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "clustertrustbundles.certificates.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/enhancements/pull/3257"}},
        "spec": {"group": "certificates.k8s.io", "scope": "Cluster",
            "names": {"plural": "clustertrustbundles", "kind": "ClusterTrustBundle"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true,
                "selectableFields": [{"jsonPath": ".spec.signerName"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}})
}

fn bundle(kubectl: &Kubectl, name: &str, signer: &str, kind: &str, certificates: &[&str]) {
    let text = format!("# {name}\n{}", certificates.concat());
    let object = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
        "metadata": {"name": name, "labels": {"kind": kind}}, "spec": {"signerName": signer, "trustBundle": text}});
    kubectl.apply(&object.to_string());
}

/// A pod with these projections at `/trust`.
fn trusts(kubectl: &Kubectl, name: &str, sources: &[&str]) {
    let sources: Vec<String> = sources.iter().map(|source| format!("{{clusterTrustBundle: {{{source}}}}}")).collect();
    let spec = format!("volumes: [{{name: trust, projected: {{sources: [{}]}}}}]", sources.join(", "));
    kubectl.apply(&hello_pod(name, &spec, "volumeMounts: [{name: trust, mountPath: /trust}]"));
}

fn failed_mount(kubectl: &Kubectl, pod: &str, why: &str) {
    let expected = format!("MountVolume.SetUp failed for volume \"trust\" : failed to fetch trust anchors: {why}");
    eventually(&format!("{pod}: {why}"), || {
        let events = kubectl.ok(&["events", "--for", &format!("pod/{pod}")]);
        if events.contains(&expected) { Ok(()) } else { Err(events) }
    });
}

#[test]
fn bundles_are_shown_by_name_and_by_their_signer() {
    let (_cluster, kubectl, _) = own_cluster(&[]);
    kubectl.apply(&definition().to_string());
    kubectl.ok(&[
        "wait",
        "--for=condition=Established",
        "crd/clustertrustbundles.certificates.k8s.io",
        "--timeout=60s",
    ]);
    let certify = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
    let certificates = ["one", "two", "three"].map(|name| certify(name).replace("\r\n", "\n"));
    let [one, two, three] = certificates.each_ref().map(String::as_str);
    bundle(&kubectl, "named", "", "", &[one]);
    bundle(&kubectl, "old", "example.com/ca", "live", &[one, two]);
    bundle(&kubectl, "new", "example.com/ca", "live", &[two]);
    bundle(&kubectl, "next", "example.com/ca", "canary", &[three]);
    bundle(&kubectl, "theirs", "example.com/other", "live", &[three]);
    let live = "signerName: example.com/ca, labelSelector: {matchLabels: {kind: live}}, path: live";
    trusts(
        &kubectl,
        "trusts",
        &[
            "name: named, path: named",
            live,
            "signerName: example.com/ca, labelSelector: {}, path: all",
            "signerName: example.com/ca, optional: true, path: unselected",
            "name: absent, optional: true, path: absent",
        ],
    );
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/trusts", "--timeout=60s"]);
    let shown = |file: &str| kubectl.ok(&["exec", "trusts", "--", "cat", &format!("/trust/{file}")]);
    let each_once = |certificates: &[&str]| {
        let mut sorted = certificates.to_vec();
        sorted.sort_unstable();
        sorted.concat()
    };
    assert_eq!(shown("named"), one);
    assert_eq!(shown("live"), each_once(&[one, two]));
    assert_eq!(shown("all"), each_once(&[one, two, three]));
    assert_eq!(shown("unselected") + &shown("absent"), "");
    let changed = json!({"spec": {"trustBundle": two}}).to_string();
    kubectl.ok(&["patch", "clustertrustbundle", "named", "--type=merge", "-p", &changed]);

    trusts(&kubectl, "misses-name", &["name: absent, path: a"]);
    failed_mount(&kubectl, "misses-name", "clustertrustbundle \"absent\" not found");
    trusts(&kubectl, "misses-signer", &["signerName: example.com/none, labelSelector: {}, path: a"]);
    let none = "combination of signerName=example.com/none and labelSelector matched zero ClusterTrustBundles";
    failed_mount(&kubectl, "misses-signer", none);
    // It is mounted once there is one.
    bundle(&kubectl, "absent", "", "", &[three]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/misses-name", "--timeout=90s"]);
    assert_eq!(kubectl.ok(&["exec", "misses-name", "--", "cat", "/trust/a"]), three);
    // One that has changed since is shown within a minute.
    eventually("the changed bundle is shown", || match (shown("named"), shown("absent")) {
        (named, absent) if named == two && absent == three => Ok(()),
        shown => Err(format!("{shown:?}")),
    });
}
