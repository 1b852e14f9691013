//! A cluster of the real binary, with ports and folders of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::kubectl::Kubectl;
use crate::outcome::output;
use crate::process::Process;
use crate::wait::eventually;

/// Node ports of one cluster: each cluster of a test process gets its own slice.
const NODE_PORTS_PER_CLUSTER: u16 = 50;

/// What differs from a plain `k8w up`.
#[derive(Default)]
pub struct ClusterOptions {
    /// Folder of components and manifests.
    pub dir: Option<PathBuf>,
    /// State to continue with, in place of a throw-away one.
    pub data_dir: Option<PathBuf>,
    /// Whether it may change the routes and rules of the network namespace that it is started in.
    pub kernel_network: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running cluster.
pub struct TestCluster {
    process: Process,
    binary: String,
    folder: TempDir,
    data_dir: PathBuf,
    ingress_http: SocketAddr,
    kubectl: Kubectl,
}

impl TestCluster {
    /// Starts `binary up` and waits until it says that it is ready.
    ///
    /// Panics with what the binary printed when it does not get there.
    pub fn start(binary: &str, options: ClusterOptions) -> Self {
        match Self::try_start(binary, options) {
            Ok(cluster) => cluster,
            Err(error) => panic!("the cluster did not start: {error:#}"),
        }
    }

    fn try_start(binary: &str, options: ClusterOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("k8w-test-").tempdir()?;
        let data_dir = options.data_dir.unwrap_or_else(|| folder.path().join("data"));
        let kubeconfig = folder.path().join("kubeconfig");
        let mut arguments: Vec<String> =
            ["up", "--port", "0", "--ingress-http-port", "0", "--ingress-https-port", "0", "--kubelet-port", "0"]
                .map(String::from)
                .to_vec();
        arguments.extend(["--node-port-range".into(), node_port_range()]);
        arguments.extend(["--data-dir".into(), data_dir.display().to_string()]);
        arguments.extend(["--kubeconfig".into(), kubeconfig.display().to_string()]);
        arguments.extend(["--kernel-network".into(), if options.kernel_network { "on" } else { "off" }.into()]);
        arguments.extend(options.arguments);
        arguments.extend(options.dir.iter().map(|dir| dir.display().to_string()));

        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let mut process = Process::start(binary, &arguments, &stdout, &stderr)?;
        let address = process.line("Ingress for HTTP: ");
        let ingress_http = address.parse().with_context(|| format!("no address: {address}"))?;
        let kubectl = Kubectl::new(&kubeconfig, &folder.path().join("kube-cache"));
        Ok(Self { process, binary: binary.into(), folder, data_dir, ingress_http, kubectl })
    }

    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Where the ingress listens for HTTP.
    pub fn ingress_http(&self) -> SocketAddr {
        self.ingress_http
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// What the binary printed on standard output so far: URLs.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default()
    }

    /// What the binary printed on standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// kubectl in a new namespace of that name, usable once its default service account is there.
    pub fn namespace(&self, name: &str) -> Kubectl {
        self.kubectl.ok(&["create", "namespace", name]);
        let kubectl = self.kubectl.in_namespace(name);
        eventually("the default service account", || {
            let outcome = kubectl.run(&["get", "serviceaccount", "default"]);
            if outcome.success { Ok(()) } else { Err(outcome.stderr) }
        });
        kubectl
    }

    /// `k8w image load` into this cluster's node.
    pub fn load_image(&self, file: &Path, name: &str) {
        let (file, data_dir) = (file.display().to_string(), self.data_dir.display().to_string());
        output(&self.binary, &["image", "load", &file, "--tag", name, "--data-dir", &data_dir]);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; panics unless the process ends cleanly.
    pub fn stop(&mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "k8w ended with {status}:\n{}", self.stderr());
    }
}

/// The cluster that the tests of this process share: started by the first that asks, stopped by the last that lets go.
pub fn shared(binary: &str) -> Arc<TestCluster> {
    static SHARED: Mutex<Weak<TestCluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return cluster;
    }
    let cluster = Arc::new(TestCluster::start(binary, ClusterOptions::default()));
    *shared = Arc::downgrade(&cluster);
    cluster
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- k8w printed:\n{}---", self.stderr());
        }
    }
}

/// Node ports, as `first-last`, that no other cluster of this process, nor soon one of another process, is given.
pub fn node_port_range() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const SLICES: u16 = 200;
    let start = (std::process::id() % u32::from(SLICES)) as u16;
    let slice = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % SLICES;
    let first = FIRST + slice * NODE_PORTS_PER_CLUSTER;
    format!("{first}-{}", first + NODE_PORTS_PER_CLUSTER - 1)
}
