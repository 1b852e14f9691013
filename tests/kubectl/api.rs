//! What kubectl and scripts around it learn of the API itself: discovery, raw requests, how the control plane is.

use crate::sandbox;

/// Scripts `grep` what `get --raw` prints, so that the order of members counts.
#[test]
fn discovery_reads_as_kubernetes_writes_it() {
    let t = sandbox();
    let core = t.kubectl.ok(&["get", "--raw", "/api/v1"]);
    let services = core.split("{\"name\":").find(|resource| resource.starts_with("\"services\"")).unwrap();
    assert!(
        services.starts_with(r#""services","singularName":"service","namespaced":true,"kind":"Service","verbs":["#)
    );
    assert!(services.contains(r#"],"shortNames":["svc"],"categories":["all"],"storageVersionHash":"#), "{services}");
}

#[test]
fn raw_requests_go_where_they_are_told() {
    let t = sandbox();
    let maps = format!("/api/v1/namespaces/{}/configmaps", t.namespace);
    let map = |key: &str| {
        t.kubectl.ok(&["create", "configmap", "raw", "--dry-run=client", "-o", "json", "--from-literal", key])
    };
    t.kubectl.ok_with_input(&["create", "--raw", &maps, "-f", "-"], &map("step=one"));
    let one = format!("{maps}/raw");
    let replaced = t.kubectl.ok_with_input(&["replace", "--raw", &one, "-f", "-"], &map("step=two"));
    assert!(replaced.contains("\"uid\"") && replaced.contains("two"), "{replaced}");
    t.kubectl.ok(&["delete", "--raw", &one]);
    let gone = t.kubectl.fails(&["get", "--raw", &one]);
    assert!(gone.contains("configmaps \"raw\" not found"), "{gone}");
    // A file is sent as it is, as if it were JSON.
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: raw}\n";
    let misled = t.kubectl.fails_with_input(&["create", "--raw", "/api/v1/namespaces", "-f", "-"], yaml);
    let expected = "the object provided is unrecognized (must be of type Namespace): couldn't get version/kind; json parse \
                    error: invalid character 'a' looking for beginning of value (";
    assert!(misled.contains(expected), "{misled}");
}

#[test]
fn the_parts_of_the_control_plane_are_well() {
    let t = sandbox();
    let table = t.kubectl.ok(&["get", "componentstatuses", "--no-headers"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let well = |name| vec![name, "Healthy", "ok"];
    assert_eq!(lines, [well("controller-manager"), well("etcd-0"), well("scheduler")], "{table}");
    assert_eq!(t.kubectl.ok(&["get", "cs", "scheduler", "-o", "name"]), "componentstatus/scheduler\n");
}

#[test]
fn every_collection_can_be_listed_by_its_name() {
    let t = sandbox();
    let list = |arguments: &[&str]| {
        t.kubectl.ok(&[&["api-resources", "--verbs=list", "--namespaced", "-o", "name"], arguments].concat())
    };
    let resources = list(&[]);
    // What was cached by then is enough.
    assert_eq!(list(&["--cached"]), resources);
    for resource in resources.lines().filter(|resource| !resource.ends_with(".example.com")) {
        t.kubectl.ok(&["get", resource, "-o", "name"]);
    }
}

#[test]
fn a_subresource_is_read_and_written_by_its_name() {
    let t = sandbox();
    t.kubectl.ok(&["create", "deployment", "web", "--image=localhost/none:latest", "--replicas=0"]);
    let scale = ["--subresource=scale"];
    t.kubectl
        .ok(&[&["patch", "deployment", "web", "--type=merge", "-p", "{\"spec\":{\"replicas\":2}}"], &scale[..]]
            .concat());
    let kind =
        t.kubectl.ok(&[&["get", "deployment", "web", "-o", "jsonpath={.kind} {.spec.replicas}"], &scale[..]].concat());
    assert_eq!(kind, "Scale 2");
    let table = t.kubectl.ok(&[&["get", "deployment", "web"], &scale[..]].concat());
    assert!(table.starts_with("NAME") && table.contains("DESIRED"), "{table}");
    let none = t.kubectl.fails(&[&["get", "configmap", "kube-root-ca.crt"], &scale[..]].concat());
    assert!(none.contains("the server could not find the requested resource"), "{none}");
}
