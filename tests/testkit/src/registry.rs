//! A real OCI registry (Debian's docker-registry) on a port of its own, and pushing to it.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::http::send;
use crate::process::Process;
use crate::wait::eventually;

/// Media types of the CNCF wasm OCI artifact.
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry with nothing in it.
pub struct Registry {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Registry {
    /// Starts it, and waits until it answers.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        // The port is free when it is chosen; a collision in between fails the start, which is then said.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.unwrap_or_else(|error| panic!("{error}"));
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage").display().to_string();
        let text = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": storage } },
            "http": { "addr": address.to_string() },
        });
        std::fs::write(&config, text.to_string()).unwrap_or_else(|error| panic!("{error}"));
        let arguments = ["serve".to_owned(), config.display().to_string()];
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let process = Process::start("docker-registry", &arguments, &stdout, &stderr)
            .unwrap_or_else(|error| panic!("cannot start docker-registry: {error}; tests/run installs it"));
        eventually("the registry answers", || {
            send(address, "GET", "/v2/", &[], b"")
                .map_err(|error| format!("{error}: {}", std::fs::read_to_string(&stderr).unwrap_or_default()))
        });
        Self { address, _process: process, _folder: folder }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes `layers` as one wasm artifact and answers its reference.
    pub fn push(&self, name: &str, tag: &str, layers: &[&[u8]]) -> String {
        let config = json!({ "architecture": "wasm", "os": "wasip2" }).to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(name, CONFIG, config.as_bytes()),
            "layers": layers.iter().map(|layer| self.blob(name, LAYER, layer)).collect::<Vec<_>>(),
        });
        let path = format!("/v2/{name}/manifests/{tag}");
        self.expect(201, "PUT", &path, &[("content-type", MANIFEST)], manifest.to_string().as_bytes());
        format!("{}/{name}:{tag}", self.address)
    }

    /// Uploads a blob and answers its descriptor.
    fn blob(&self, name: &str, media_type: &str, content: &[u8]) -> Value {
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let location = self.expect(202, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        let path = location.split_once(&self.address.to_string()).map_or(location.as_str(), |(_, path)| path);
        self.expect(201, "PUT", &format!("{path}&digest=sha256:{digest}"), &[], content);
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() })
    }

    /// Sends a request that must be answered with `status`, and gives the answer's location.
    fn expect(&self, status: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let answer = send(self.address, method, path, headers, body).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let location = answer.headers.into_iter().find(|(name, _)| name == "location");
        location.map(|(_, value)| value).unwrap_or_default()
    }
}
