//! What keeps claims and volumes, and the claims of pods' own: tables of pods and claims.

use super::*;

const GOING: &str = ", deletionTimestamp: 2024-01-01T00:00:30Z";

/// A pod `p` on a node, with more of metadata, a volume, and a phase.
fn pod(meta: &str, spec: &str, volume: &str, phase: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p{meta}}}\n\
         spec: {{{spec} containers: [], volumes: [{{name: v, {volume}}}]}}\nstatus: {{phase: {phase}}}\n"
    )
}

const NAMED: &str = "persistentVolumeClaim: {claimName: data}";
const OWN: &str = "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}";
const PLACED: &str = "nodeName: n1,";

/// The claim of the pod's own volume, owned by the pod with this uid.
fn own_claim(owner: &str, meta: &str) -> String {
    let owners = format!("ownerReferences: [{{apiVersion: v1, kind: Pod, name: p, uid: {owner}, controller: true}}]");
    claim(&format!(", {owners}{meta}"), "", "").replace("name: data", "name: p-v")
}

#[test]
fn a_claim_goes_when_no_pod_may_have_it_mounted() {
    let going = format!("{GOING}, finalizers: [kubernetes.io/pvc-protection]");
    let shut_down = format!("{GOING}, deletionGracePeriodSeconds: 0");
    let leaving = format!("{GOING}, deletionGracePeriodSeconds: 30");
    let named = || ("data", claim(&going, "", ""));
    let own = |owner: &str| ("p-v", own_claim(owner, &going));
    let cases = [
        (named(), String::new(), true),
        (named(), pod("", PLACED, NAMED, "Running"), false),
        (named(), pod("", PLACED, NAMED, "Succeeded"), false),
        (named(), pod("", "", NAMED, "Pending"), true),
        (named(), pod("", PLACED, "emptyDir: {}", "Running"), true),
        (named(), pod("", PLACED, NAMED, "Running").replace("namespace: ns", "namespace: other"), true),
        (named(), pod(&shut_down, PLACED, NAMED, "Running"), false),
        (own("p-uid"), pod("", PLACED, OWN, "Running"), false),
        (own("p-uid"), pod(&leaving, PLACED, OWN, "Running"), false),
        (own("p-uid"), pod(&shut_down, PLACED, OWN, "Running"), true),
        (own("another"), pod("", PLACED, OWN, "Running"), true),
    ];
    for ((name, claim), pod, goes) in cases {
        let plan = Bench::new(ClaimProtection, &(claim + &pod)).reconcile("ns", name, "2024-01-01T00:01:00Z");
        assert_eq!(!plan.steps.is_empty(), goes, "{name} with {pod}");
    }
    let mut bench = Bench::new(ClaimProtection, &(own("p-uid").1 + &pod(&leaving, PLACED, OWN, "Running")));
    let ended = pod(&format!("{shut_down}, resourceVersion: '9'"), PLACED, OWN, "Failed");
    assert!(bench.wakes(Change::Watched(objects(&ended).remove(0))), "what keeps the pod may wait for the claim");
}

#[test]
fn a_pod_gets_the_claims_of_its_own_volumes() {
    let made = |pod: &str, others: &str| {
        let plan =
            Bench::new(EphemeralVolumes, &(pod.to_owned() + others)).reconcile("ns", "p", "2024-01-01T00:01:00Z");
        let notes = plan.notes.iter().map(|note| note.message.clone());
        notes.chain(plan.steps.iter().map(|_| "made".to_owned())).collect::<Vec<_>>().join(", ")
    };
    let foreign = "ephemeral volume v: PVC ns/p-v was not created for pod ns/p (pod is not owner)";
    assert_eq!(made(&pod("", "", OWN, "Pending"), ""), "made");
    assert_eq!(made(&pod("", "", NAMED, "Pending"), ""), "");
    assert_eq!(made(&pod(GOING, "", OWN, "Pending"), ""), "");
    assert_eq!(made(&pod("", "", OWN, "Pending"), &own_claim("p-uid", "")), "");
    assert_eq!(made(&pod("", "", OWN, "Pending"), &own_claim("another", "")), foreign);
    let mut bench = Bench::new(EphemeralVolumes, &(pod("", "", OWN, "Pending") + &own_claim("another", "")));
    let gone = own_claim("another", ", resourceVersion: '9'");
    assert!(bench.wakes(Change::WatchedGone(objects(&gone).remove(0))), "its name is free");
}

#[test]
fn another_node_is_chosen_when_the_one_chosen_is_gone() {
    let chose = ", annotations: {volume.kubernetes.io/storage-provisioner: k8w.io/local-path, \
                 volume.kubernetes.io/selected-node: n1}";
    let waits = claim(chose, ", storageClassName: local-path", "");
    check(
        LocalPath,
        ("ns", "data"),
        &[waits.clone(), CLASS.into()],
        expect![[r#"
            note Warning ProvisioningFailed on data: failed to get target node: node "n1" not found
            patch persistentvolumeclaims ns/data at 1 : {"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null}}}
        "#]],
    );
    let mut bench = Bench::new(LocalPath, &(waits + CLASS + NODE));
    let gone = NODE.replace("name: n1,", "name: n1, resourceVersion: '9',");
    assert!(bench.wakes(Change::WatchedGone(objects(&gone).remove(0))));
}

#[test]
fn a_directory_has_no_attributes() {
    let asked = ", annotations: {volume.kubernetes.io/storage-provisioner: k8w.io/local-path}";
    let fast = claim(asked, ", storageClassName: local-path, volumeAttributesClassName: fast", "");
    check(
        LocalPath,
        ("ns", "data"),
        &[fast, CLASS.into(), POD.into(), NODE.into()],
        expect![[r#"
            note Warning ProvisioningFailed on data: failed to provision volume with StorageClass "local-path": volume attributes class fast is not supported by k8w.io/local-path
        "#]],
    );
}

#[test]
fn a_directory_is_made_from_nothing() {
    let asked = ", annotations: {volume.kubernetes.io/storage-provisioner: k8w.io/local-path}";
    for (field, kind) in [("dataSource", "PersistentVolumeClaim"), ("dataSourceRef", "VolumeSnapshot")] {
        let source = format!(", storageClassName: local-path, {field}: {{kind: {kind}, name: other}}");
        let mut bench = Bench::new(LocalPath, &(claim(asked, &source, "") + CLASS + POD + NODE));
        let plan = bench.reconcile("ns", "data", "2024-01-01T00:01:00Z");
        let why = format!("data source {kind} \"other\" is not supported by k8w.io/local-path");
        let message = format!("failed to provision volume with StorageClass \"local-path\": {why}");
        assert_eq!((plan.steps.len(), &plan.notes[0].message), (0, &message));
    }
}

#[test]
fn a_volume_that_is_bound_stays() {
    let going = format!("{GOING}, finalizers: [kubernetes.io/pv-protection]");
    let steps = |meta: &str, phase: &str| {
        let mut bench = Bench::new(VolumeProtection, &volume("v", "1Gi", meta, "", phase));
        text(&bench.reconcile("", "v", "2024-01-01T00:01:00Z"))
    };
    for phase in ["Available", "Released", "Failed", "Pending"] {
        assert!(steps(&going, phase).contains(r#""finalizers":[]"#), "{phase}");
    }
    assert_eq!(steps(&going, "Bound"), "");
    assert_eq!(steps(GOING, "Available"), "", "it has no finalizer of ours");
    assert_eq!(steps(", finalizers: [kubernetes.io/pv-protection]", "Available"), "");
    assert!(steps("", "Bound").contains("kubernetes.io/pv-protection"));
}
