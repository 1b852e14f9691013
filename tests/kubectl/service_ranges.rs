//! ServiceCIDRs: Services get addresses of an added range, and it stays for as long as one has any of it.

use k8w_testkit::eventually;

use crate::own_cluster;

/// A cluster of its own: elsewhere, other tests' Services would get addresses of the range.
#[test]
fn a_range_that_is_deleted_stays_while_a_service_has_an_address_of_it() {
    let (_cluster, kubectl, _) = own_cluster(&[]);
    let range = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [172.30.9.0/24]}
";
    kubectl.apply(range);
    kubectl.ok(&["wait", "--for=condition=Ready", "servicecidr/more", "--timeout=30s"]);
    let finalizers = ["get", "servicecidr", "more", "-o", "jsonpath={.metadata.finalizers}"];
    eventually("the range is held", || match kubectl.ok(&finalizers) {
        held if held == r#"["networking.k8s.io/service-cidr-finalizer"]"# => Ok(()),
        other => Err(other),
    });
    let create = |name: &str, address: &str| {
        kubectl.run(&["create", "service", "clusterip", name, "--tcp=80", &format!("--clusterip={address}")])
    };
    let created = create("inside", "172.30.9.7");
    assert!(created.success, "{}", created.stderr);
    let parent = "jsonpath={.spec.parentRef.resource} {.spec.parentRef.namespace}/{.spec.parentRef.name}";
    assert_eq!(kubectl.ok(&["get", "ipaddress", "172.30.9.7", "-o", parent]), "services t/inside");

    kubectl.ok(&["delete", "servicecidr", "more", "--wait=false"]);
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} \
                     {.status.conditions[?(@.type==\"Ready\")].reason}: {.status.conditions[?(@.type==\"Ready\")].message}";
    let used = "False Terminating: There are still IPAddresses referencing the ServiceCIDR, please remove them or create a \
                new ServiceCIDR";
    eventually("it says that it is in use", || match kubectl.ok(&["get", "servicecidr", "more", "-o", condition]) {
        said if said == used => Ok(()),
        said => Err(said),
    });
    let refused = create("late", "172.30.9.8");
    assert!(!refused.success && refused.stderr.contains("172.30.9.8"), "nothing more is taken from it: {refused:?}");
    assert_eq!(kubectl.ok(&["get", "service", "inside", "-o", "jsonpath={.spec.clusterIP}"]), "172.30.9.7");

    kubectl.ok(&["delete", "service", "inside"]);
    kubectl.ok(&["wait", "--for=delete", "ipaddress/172.30.9.7", "servicecidr/more", "--timeout=60s"]);
    let refused = create("gone", "172.30.9.7");
    assert!(!refused.success, "{}", refused.stdout);
}
