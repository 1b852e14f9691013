//! `apply`, `create`, `edit`, `patch`, `label`, `annotate`, `delete`.

use k8w_testkit::{Outcome, eventually};

use crate::sandbox;

const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {tier: one}}
data: {color: blue, size: large}
";

#[test]
fn apply_creates_then_configures_then_leaves_alone() {
    let t = sandbox();
    assert_eq!(t.kubectl.apply(CONFIG), "configmap/settings created\n");
    assert_eq!(t.kubectl.apply(CONFIG), "configmap/settings unchanged\n");
    assert_eq!(t.kubectl.apply(&CONFIG.replace("blue", "red")), "configmap/settings configured\n");
    assert_eq!(t.kubectl.ok(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"]), "red");
}

#[test]
fn apply_removes_what_is_no_longer_in_the_manifest() {
    let t = sandbox();
    t.kubectl.apply(CONFIG);
    t.kubectl.apply(&CONFIG.replace(", size: large", ""));
    assert_eq!(t.kubectl.ok(&["get", "configmap", "settings", "-o", "jsonpath={.data}"]), r#"{"color":"blue"}"#);
}

#[test]
fn server_side_apply_reports_conflicts_and_can_be_forced() {
    let t = sandbox();
    let apply = |manager: &str, manifest: &str, force: bool| {
        let manager = format!("--field-manager={manager}");
        let mut arguments = vec!["apply", "--server-side", &manager, "-f", "-"];
        if force {
            arguments.push("--force-conflicts");
        }
        t.kubectl.run_with_input(&arguments, manifest)
    };
    assert!(apply("one", CONFIG, false).success);
    let conflict = apply("two", &CONFIG.replace("blue", "green"), false);
    assert!(!conflict.success);
    assert!(
        conflict.stderr.contains(r#"Apply failed with 1 conflict: conflict with "one": .data.color"#),
        "{}",
        conflict.stderr
    );
    assert!(apply("two", &CONFIG.replace("blue", "green"), true).success);
    let managers = [
        "get",
        "configmap",
        "settings",
        "-o",
        "jsonpath={.metadata.managedFields[*].manager}",
        "--show-managed-fields",
    ];
    assert_eq!(t.kubectl.ok(&managers), "one two");
    assert_eq!(t.kubectl.ok(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"]), "green");
}

#[test]
fn create_makes_what_its_generators_say() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "c", "--from-literal=a=1"]);
    t.kubectl.ok(&["create", "secret", "generic", "s", "--from-literal=password=hidden"]);
    t.kubectl.ok(&["create", "serviceaccount", "robot"]);
    t.kubectl.ok(&["create", "service", "clusterip", "web", "--tcp=80:8080"]);
    t.kubectl.ok(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    t.kubectl.ok(&["create", "rolebinding", "reads", "--role=reader", "--serviceaccount=default:robot"]);
    t.kubectl.ok(&["create", "ingress", "in", "--rule=example.test/*=web:80"]);
    assert_eq!(t.kubectl.ok(&["get", "secret", "s", "-o", "jsonpath={.data.password}"]), "aGlkZGVu");
    let address = t.kubectl.ok(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    assert!(address.starts_with("10.96."), "{address}");
}

#[test]
fn a_create_that_exists_is_refused_in_kubernetes_words() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "c"]);
    assert_eq!(
        t.kubectl.fails(&["create", "configmap", "c"]),
        "error: failed to create configmap: configmaps \"c\" already exists\n"
    );
}

/// Conformance: "Kubectl, patch to annotate".
#[test]
fn patches_of_all_three_kinds() {
    let t = sandbox();
    t.kubectl.apply(CONFIG);
    let patch =
        |kind: &str, patch: &str| t.kubectl.ok(&["patch", "configmap", "settings", "--type", kind, "-p", patch]);
    patch("merge", r#"{"data":{"color":null,"shape":"round"}}"#);
    patch("json", r#"[{"op":"replace","path":"/data/size","value":"small"}]"#);
    patch("strategic", r#"{"metadata":{"labels":{"tier":"two"}}}"#);
    assert_eq!(
        t.kubectl.ok(&["get", "configmap", "settings", "-o", "jsonpath={.data} {.metadata.labels}"]),
        r#"{"shape":"round","size":"small"} {"tier":"two"}"#
    );
}

#[test]
fn a_strategic_patch_merges_lists_by_their_keys() {
    let t = sandbox();
    t.hello(1);
    let patch = r#"{"spec":{"template":{"spec":{"containers":[{"name":"hello","env":[{"name":"A","value":"1"}]}]}}}}"#;
    t.kubectl.ok(&["patch", "deployment", "hello", "-p", patch]);
    let containers = t.kubectl.ok(&[
        "get", "deployment", "hello", "-o",
        "jsonpath={.spec.template.spec.containers[*].name} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].value}",
    ]);
    assert_eq!(containers, "hello localhost/hello:latest 1");
}

/// Conformance: "Kubectl, label update".
#[test]
fn labels_and_annotations_come_and_go() {
    let t = sandbox();
    t.kubectl.apply(CONFIG);
    t.kubectl.ok(&["label", "configmap", "settings", "env=test"]);
    assert!(t.kubectl.fails(&["label", "configmap", "settings", "env=prod"]).contains("already has a value"));
    t.kubectl.ok(&["label", "configmap", "settings", "env=prod", "--overwrite"]);
    t.kubectl.ok(&["annotate", "configmap", "settings", "note=read me"]);
    let line = [
        "get",
        "configmap",
        "-l",
        "env=prod,tier in (one,two)",
        "-o",
        "jsonpath={.items[*].metadata.annotations.note}",
    ];
    assert_eq!(t.kubectl.ok(&line), "read me");
    t.kubectl.ok(&["label", "configmap", "settings", "env-"]);
    assert_eq!(t.kubectl.ok(&["get", "configmap", "-l", "env", "-o", "name"]), "");
}

#[test]
fn edit_saves_what_the_editor_wrote() {
    let t = sandbox();
    t.kubectl.apply(CONFIG);
    let mut command = t.kubectl.command(&["edit", "configmap", "settings"]);
    Outcome::of(command.env("KUBE_EDITOR", "sed -i s/blue/violet/"), b"").ok("kubectl edit");
    assert_eq!(t.kubectl.ok(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"]), "violet");
}

#[test]
fn delete_takes_names_selectors_and_files() {
    let t = sandbox();
    t.kubectl.apply(CONFIG);
    t.kubectl.ok(&["create", "configmap", "other"]);
    t.kubectl.ok(&["delete", "configmap", "-l", "tier=one"]);
    assert_eq!(t.kubectl.ok(&["get", "configmap", "-o", "name"]), "configmap/kube-root-ca.crt\nconfigmap/other\n");
    t.kubectl.ok(&["delete", "configmap", "other"]);
    assert_eq!(
        t.kubectl.fails(&["delete", "configmap", "other"]),
        "Error from server (NotFound): configmaps \"other\" not found\n"
    );
    assert_eq!(t.kubectl.ok(&["delete", "configmap", "other", "--ignore-not-found"]), "");
}

#[test]
fn deleting_a_namespace_takes_everything_in_it() {
    let t = sandbox();
    t.hello(2);
    t.kubectl.apply(CONFIG);
    t.cluster.kubectl().ok(&["delete", "namespace", &t.namespace, "--timeout=60s"]);
    let outcome = t.cluster.kubectl().run(&["get", "pods", "-A", "-o", "jsonpath={.items[*].metadata.namespace}"]);
    assert!(!outcome.stdout.split(' ').any(|namespace| namespace == t.namespace), "{}", outcome.stdout);
}

#[test]
fn dry_run_on_the_server_changes_nothing() {
    let t = sandbox();
    let created =
        t.kubectl.ok_with_input(&["apply", "--dry-run=server", "-f", "-", "-o", "jsonpath={.metadata.uid}"], CONFIG);
    assert!(!created.is_empty());
    assert!(t.kubectl.fails(&["get", "configmap", "settings"]).contains("NotFound"));
}

#[test]
fn dependents_of_a_deleted_owner_are_collected() {
    let t = sandbox();
    t.hello(2);
    t.kubectl.ok(&["delete", "deployment", "hello"]);
    eventually("the pods and replica sets of a deleted deployment are gone", || {
        let left = t.kubectl.ok(&["get", "pods,replicasets", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn an_orphaned_replica_set_stays() {
    let t = sandbox();
    t.hello(1);
    t.kubectl.ok(&["delete", "deployment", "hello", "--cascade=orphan"]);
    let owners = || t.kubectl.ok(&["get", "replicaset", "-o", "jsonpath={.items[*].metadata.ownerReferences}"]);
    eventually("the replica set has no owner", || if owners().is_empty() { Ok(()) } else { Err(owners()) });
    assert!(t.kubectl.ok(&["get", "replicaset", "-o", "name"]).starts_with("replicaset.apps/hello-"));
}

/// Ownership moves from `kubectl apply` to `kubectl apply --server-side` and back, and nothing of the pod is lost on the
/// way.
#[test]
fn apply_moves_to_the_server_and_back() {
    let t = sandbox();
    let pod = |label: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{name: {label}}}}}\n\
             spec: {{nodeSelector: {{nobody: here}}, containers: [{{name: c, image: example.test/c}}]}}\n"
        )
    };
    let applied = |label: &str| {
        let last = t.kubectl.ok(&["apply", "view-last-applied", "pod/p", "-o", "json"]);
        assert!(last.contains(&format!("\"name\": \"{label}\"")), "{last}");
        assert_eq!(t.kubectl.ok(&["get", "pod", "p", "-o", "jsonpath={.metadata.labels.name}"]), label);
        assert_eq!(t.kubectl.ok(&["get", "pod", "p", "-o", "jsonpath={.spec.serviceAccountName}"]), "default");
    };
    let on_server = ["apply", "--server-side", "-f", "-"];
    t.kubectl.apply(&pod("one"));
    applied("one");
    let other = [&on_server[..], &["--field-manager=other"]].concat();
    assert!(t.kubectl.fails_with_input(&other, &pod("two")).contains("conflict with \"kubectl-client-side-apply\""));
    for label in ["two", "three", "four"] {
        t.kubectl.ok_with_input(&on_server, &pod(label));
        applied(label);
    }
    assert_eq!(t.kubectl.apply(&pod("five")), "pod/p configured\n");
    applied("five");
}

const PRUNED: &str = "metadata: {name: NAME, labels: {prune: mine}}\ndata: {a: b}\n";

#[test]
fn what_is_no_longer_applied_is_pruned() {
    let t = sandbox();
    let maps = |names: &[&str]| -> String {
        let one = |name: &&str| format!("---\napiVersion: v1\nkind: ConfigMap\n{}", PRUNED.replace("NAME", name));
        names.iter().map(one).collect()
    };
    let names = || t.kubectl.ok(&["get", "configmaps", "-l", "prune=mine", "-o", "jsonpath={.items[*].metadata.name}"]);
    let prune = ["apply", "-f", "-", "--prune", "-l", "prune=mine", "--prune-allowlist=core/v1/ConfigMap"];
    t.kubectl.ok_with_input(&prune, &maps(&["a", "b"]));
    assert_eq!(names(), "a b");
    let pruned = t.kubectl.ok_with_input(&prune, &maps(&["b", "c"]));
    assert!(pruned.contains("configmap/a pruned"), "{pruned}");
    assert_eq!(names(), "b c");

    // The newer way remembers what it applied in an object of its own.
    let apply_set = |manifests: &str| {
        let mut command = t.kubectl.command(&["apply", "-f", "-", "--prune", "--applyset=mine"]);
        Outcome::of(command.env("KUBECTL_APPLYSET", "true"), manifests.as_bytes()).ok("kubectl apply")
    };
    apply_set(&maps(&["d", "e"]));
    assert!(apply_set(&maps(&["e"])).contains("configmap/d pruned"));
    assert_eq!(names(), "b c e");
}

#[test]
fn kustomizations_are_applied_and_deleted() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "kustomization.yaml",
        "namePrefix: test-\nresources: [map.yaml]\nconfigMapGenerator: [{name: made, literals: [a=b]}]\n",
    );
    write("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\n");
    let path = folder.path().display().to_string();
    let created = t.kubectl.ok(&["apply", "-k", &path]);
    assert!(created.contains("configmap/test-map created") && created.contains("configmap/test-made-"), "{created}");
    assert!(t.kubectl.ok(&["get", "-k", &path, "-o", "name"]).contains("configmap/test-map"));
    t.kubectl.ok(&["delete", "-k", &path]);
    assert!(t.kubectl.fails(&["get", "-k", &path]).contains("configmaps \"test-map\" not found"));
}
