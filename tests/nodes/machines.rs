//! A control plane and nodes that join it, each a process of the real binary with files and an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use k8w_testkit::{Kubectl, Outcome, Process, node_port_range, output, run};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

/// A cluster without a node, to which machines can be added.
pub struct Cluster {
    pub kubectl: Kubectl,
    pub folder: TempDir,
    pub process: Process,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::at(0)
    }

    /// One whose API server has this port.
    pub fn at(port: u16) -> Cluster {
        let folder = TempDir::new().unwrap();
        let process = serve(folder.path(), port);
        let kubeconfig = folder.path().join("server/kubeconfig");
        Cluster { kubectl: Kubectl::new(&kubeconfig, &folder.path().join("cache")), folder, process }
    }

    /// Starts the control plane again, which was stopped, with what it had.
    pub fn resume(&mut self, port: u16) {
        self.process = serve(self.folder.path(), port);
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("server/kubeconfig")
    }

    pub fn token(&self) -> [String; 6] {
        token(&self.kubeconfig())
    }

    /// As [`node`], in a folder of its name.
    pub fn node(&self, name: &str, last: u8, join: &[&str]) -> Machine {
        node(self.folder.path(), name, loopback(last), join)
    }

    /// What a node says that cannot start, with its files in `folder`.
    pub fn refused(&self, folder: &str, name: &str, join: &[&str]) -> String {
        let arguments = arguments(&self.folder.path().join(folder), name, loopback(9), join);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let Outcome { success, stderr, .. } = run(BINARY, &arguments);
        assert!(!success, "{stderr}");
        stderr.lines().last().unwrap_or_default().to_owned()
    }

    /// What `kubectl get` says of one path.
    pub fn jsonpath(&self, what: &[&str], path: &str) -> String {
        self.kubectl.ok(&[&["get"], what, &["-o", &format!("jsonpath={path}")]].concat())
    }
}

/// A control plane whose files are in `folder`.
fn serve(folder: &Path, port: u16) -> Process {
    let (port, range) = (port.to_string(), node_port_range());
    let data = folder.join("server").display().to_string();
    let arguments = ["server", "--port", &port, "--node-port-range", &range, "--data-dir", &data];
    start(folder, "server", &arguments.map(str::to_owned), "Use it with:")
}

/// What `k8w token create` says after `k8w node`: the server, the token and the CA's hash, each behind its option.
pub fn token(kubeconfig: &Path) -> [String; 6] {
    let printed = output(BINARY, &["token", "create", "--kubeconfig", &kubeconfig.display().to_string()]);
    let words: Vec<String> = printed.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..2], ["k8w", "node"], "{printed}");
    words[2..].to_vec().try_into().unwrap()
}

/// 127.0.0.`last`.
pub fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// Starts a node at an address, whose files are in `folder` under its name, and waits until it is ready.
pub fn node(folder: &Path, name: &str, ip: Ipv4Addr, join: &[&str]) -> Machine {
    let data = folder.join(name);
    let mut process = start(folder, name, &arguments(&data, name, ip, join), "Ingress for HTTPS: ");
    let ingress = process.line("Ingress for HTTP: ");
    Machine { ingress: ingress.parse().unwrap(), data, process }
}

fn arguments(data: &Path, name: &str, ip: Ipv4Addr, join: &[&str]) -> Vec<String> {
    let (data, ip) = (data.display().to_string(), ip.to_string());
    let fixed = [
        "node",
        "--kernel-network",
        "off",
        "--node-name",
        name,
        "--data-dir",
        &data,
        "--node-ip",
        &ip,
        "--kubelet-port",
        "0",
    ];
    let ingress = ["--ingress-http-port", "0", "--ingress-https-port", "0"];
    [&fixed[..], &ingress, join].concat().into_iter().map(str::to_owned).collect()
}

/// A node that ends with the test.
pub struct Machine {
    pub ingress: SocketAddr,
    pub data: PathBuf,
    pub process: Process,
}

impl Machine {
    /// `k8w image load` of one of the examples.
    pub fn load(&self, example: &str, name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        let load = ["image", "load", &file.display().to_string(), "--tag", name, "--data-dir"];
        output(BINARY, &[&load[..], &[&self.data.display().to_string()]].concat());
    }

    /// The certificate that it is known by.
    pub fn certificate(&self) -> String {
        std::fs::read_to_string(self.data.join("pki/kubelet-client-current.pem")).unwrap()
    }
}

fn start(folder: &Path, name: &str, arguments: &[String], ready: &str) -> Process {
    let (stdout, stderr) = (folder.join(format!("{name}.stdout")), folder.join(format!("{name}.stderr")));
    let mut process = Process::start(BINARY, arguments, &stdout, &stderr).unwrap();
    process.line(ready);
    process
}
