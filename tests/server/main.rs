//! `k8w server` as a user meets it: a control plane alone, and two of them on a real etcd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::BufRead;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use k8w_testkit::{Kubectl, Process, Running, eventually, is_by_tests_run, skipped};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

/// A control plane that ends with the test.
struct Server {
    process: Process,
    kubectl: Kubectl,
}

impl Server {
    /// Its files are in `folder/name`.
    fn start(folder: &Path, name: &str, arguments: &[&str]) -> Server {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let (data, kubeconfig) = (folder.join("data"), folder.join("kubeconfig"));
        let mut all = ["server", "--port", "0", "--data-dir"].map(String::from).to_vec();
        all.extend([data.display().to_string(), "--kubeconfig".into(), kubeconfig.display().to_string()]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let mut process = Process::start(BINARY, &all, &stdout, &stderr).unwrap();
        process.line("Use it with:");
        Server { process, kubectl: Kubectl::new(&kubeconfig, &folder.join("cache")) }
    }
}

/// An etcd of the test's own; `None` where there is none on this machine.
fn etcd(folder: &Path) -> Option<(String, Process)> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|p| p.join("etcd").exists()));
    if !found {
        let missing = "there is no etcd on this machine (Debian: apt install etcd-server)";
        assert!(!is_by_tests_run(), "{missing}");
        skipped(missing);
        return None;
    }
    // Somebody else may take a port before etcd does; then etcd ends and is started anew.
    loop {
        let (client, peer) = (free(), free());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let data = folder.join(format!("etcd-{}", client.port())).display().to_string();
        let arguments = [
            ["--data-dir", &data],
            ["--listen-client-urls", &client_url],
            ["--advertise-client-urls", &client_url],
            ["--listen-peer-urls", &peer_url],
            ["--initial-advertise-peer-urls", &peer_url],
            ["--initial-cluster", &format!("default={peer_url}")],
        ];
        let arguments = arguments.concat().into_iter().map(String::from).collect::<Vec<_>>();
        let (stdout, stderr) = (folder.join("etcd.stdout"), folder.join("etcd.stderr"));
        let mut process = Process::start("etcd", &arguments, &stdout, &stderr).unwrap();
        let up = eventually("etcd listens or ends", || match (TcpStream::connect(client), process.ended()) {
            (Ok(_), None) => Ok(true),
            (_, Some(_)) => Ok(false),
            (Err(error), None) => Err(error.to_string()),
        });
        if up {
            return Some((format!("etcd://{client}"), process));
        }
    }
}

fn replica_sets(kubectl: &Kubectl) -> usize {
    kubectl.ok(&["get", "replicasets,pods", "-o", "name"]).lines().count()
}

#[test]
fn a_control_plane_keeps_its_state_without_a_node() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), "a", &[]);
    server.kubectl.ok(&["create", "deployment", "web", "--image=localhost/web:1", "--replicas=2"]);
    // A ReplicaSet and its two pods, which wait for a node.
    eventually("the controllers act", || match replica_sets(&server.kubectl) {
        3 => Ok(()),
        other => Err(format!("{other} objects")),
    });
}

/// As Kubernetes' own tests of kubectl run their control plane: everybody may do everything, and nodes are made by hand.
#[test]
fn a_control_plane_is_told_who_decides_and_what_it_may_leave_out() {
    let folder = TempDir::new().unwrap();
    let tokens = folder.path().join("tokens.csv");
    std::fs::write(&tokens, "secret,jane,7,\n").unwrap();
    let tokens = tokens.display().to_string();
    let server = Server::start(
        folder.path(),
        "a",
        &[
            ["--token-auth-file", &tokens],
            ["--authorization-mode", "RBAC,AlwaysAllow"],
            ["--allocate-node-cidrs", "false"],
            ["--disable-admission-plugins", "ServiceAccount,DefaultTolerationSeconds,ValidatingAdmissionWebhook"],
        ]
        .concat(),
    );
    let address = server.kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let anew = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &address, "--token=secret"];
    let jane = |arguments: &[&str], input: &str| server.kubectl.ok_with_input(&[&anew, arguments].concat(), input);
    assert_eq!(jane(&["auth", "can-i", "*", "*"], ""), "yes\n");
    let node = |more: &str| format!("{{apiVersion: v1, kind: Node, metadata: {{name: by-hand{more}}}}}");
    jane(&["create", "-f", "-"], &node(""));
    // Nobody gives it a range of addresses, which a replacement would have to repeat.
    jane(&["replace", "-f", "-"], &node(", annotations: {a: b}, resourceVersion: '0'"));
    let range = jane(&["get", "node", "by-hand", "-o", "jsonpath={.metadata.annotations.a} {.spec.podCIDR}"], "");
    assert_eq!(range, "b ");
    // It keeps no volumes, so that there is no class of them either.
    assert_eq!(jane(&["get", "storageclasses", "-o", "name"], ""), "");
    // Nor does anybody add anything to a pod, so that it is replaced by the manifest that made it.
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: none}]}}";
    jane(&["create", "-f", "-"], pod);
    jane(&["replace", "-f", "-"], pod);
}

/// `kubectl delete --all` takes more than its user thinks of.
#[test]
fn what_no_cluster_can_do_without_is_made_again() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), "a", &[]);
    let essential = [
        ["service", "kubernetes", "--namespace=default"],
        ["configmap", "extension-apiserver-authentication", "--namespace=kube-system"],
    ];
    for object in &essential {
        server.kubectl.ok(&[&["delete"], &object[..]].concat());
    }
    for object in &essential {
        eventually(&format!("{object:?}"), || {
            let found = server.kubectl.run(&[&["get"], &object[..]].concat());
            if found.success { Ok(()) } else { Err(found.stderr) }
        });
    }
    let refused = server.kubectl.fails(&["delete", "priorityclass", "system-node-critical"]);
    assert!(refused.contains("this is a system priority class and cannot be deleted"), "{refused}");
}

/// Here the other authority is that of another cluster, whose administrator comes over.
#[test]
fn users_are_certified_by_another_authority_too() {
    let folder = TempDir::new().unwrap();
    let ca = |name: &str| folder.path().join(name).join("data/pki/ca.crt").display().to_string();
    let other = Server::start(folder.path(), "other", &[]);
    let server = Server::start(folder.path(), "server", &["--client-ca-file", &ca("other")]);
    let config = |kubectl: &Kubectl, path: &str| kubectl.ok(&["config", "view", "-o", &format!("jsonpath={path}")]);
    let address = config(&server.kubectl, "{.clusters[0].cluster.server}");
    let cluster = config(&other.kubectl, "{.clusters[0].name}");
    let move_to = ["--server", &address, "--certificate-authority", &ca("server")];
    other.kubectl.ok(&[&["config", "set-cluster", &cluster], &move_to[..]].concat());
    let who = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    assert_eq!(other.kubectl.ok(&who), "kubernetes-admin");
    assert_eq!(server.kubectl.ok(&who), "kubernetes-admin");
    let published = ["get", "configmap", "extension-apiserver-authentication", "-n", "kube-system", "-o", "yaml"];
    assert_eq!(server.kubectl.ok(&published).matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn two_control_planes_on_one_etcd_are_one_cluster() {
    let folder = TempDir::new().unwrap();
    let Some((datastore, _etcd)) = etcd(folder.path()) else { return };
    let pki = folder.path().join("pki").display().to_string();
    let shared = ["--datastore", &datastore, "--pki-dir", &pki];
    let mut first = Server::start(folder.path(), "first", &shared);
    let second = Server::start(folder.path(), "second", &shared);

    // Each sees the other's writes in its watches, in order.
    let columns = "jsonpath={.metadata.name}={.data.step}{\"\\n\"}";
    let watch = ["get", "configmaps", "-l", "mine", "--watch", "-o", columns];
    let mut watch = Running::start(&mut second.kubectl.command(&watch));
    let mut lines = watch.stdout().lines();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w, labels: {mine: \"1\"}}\ndata: {step: \"1\"}\n";
    first.kubectl.apply(manifest);
    assert_eq!(lines.next().unwrap().unwrap(), "w=1");
    for (server, n) in [(&second, "2"), (&first, "3"), (&second, "4")] {
        server.kubectl.ok(&["patch", "configmap", "w", "-p", &format!("{{\"data\":{{\"step\":\"{n}\"}}}}")]);
        assert_eq!(lines.next().unwrap().unwrap(), format!("w={n}"));
    }
    drop(watch);

    // Both are endpoints of the Service `kubernetes`, each with its port.
    let ports = "jsonpath={.subsets[*].ports[*].port}";
    let endpoints = |count: usize| {
        eventually("the endpoints are those who live", || {
            let ports = second.kubectl.ok(&["get", "endpoints", "kubernetes", "-o", ports]);
            if ports.split_whitespace().count() == count { Ok(()) } else { Err(ports) }
        });
    };
    endpoints(2);

    // A kind defined at one is served by the other.
    first.kubectl.apply(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
",
    );
    second.kubectl.ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s"]);
    second.kubectl.apply("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: mine}\n");
    assert_eq!(first.kubectl.ok(&["get", "widgets", "-o", "name"]), "widget.example.com/mine\n");

    // One of them runs the controllers; when it dies, the other one does, and clients go on there.
    let made = |server: &Server, deployments: usize| {
        eventually("the controllers act", || match replica_sets(&server.kubectl) {
            count if count == 4 * deployments => Ok(()),
            other => Err(format!("{other} objects")),
        });
    };
    first.kubectl.ok(&["create", "deployment", "one", "--image=localhost/web:1", "--replicas=3"]);
    made(&second, 1);
    first.process.kill();
    endpoints(1);
    second.kubectl.ok(&["create", "deployment", "two", "--image=localhost/web:1", "--replicas=3"]);
    made(&second, 2);
}
