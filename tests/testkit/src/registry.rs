//! A real OCI registry (Debian's docker-registry) on a port of its own, and pushing to it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::http::{Answer, send};
use crate::process::Process;
use crate::wait::eventually;

/// Media types of the CNCF wasm OCI artifact.
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What others wrote before that.
const OLDER_CONFIG: &str = "application/vnd.wasm.config.v1+json";
const OLDER_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// And of container images.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Who may use a registry that asks for a password, as its file has it and as clients say it.
const USER: &str = "user";
const PASSWORD: &str = "secret";
const HTPASSWD: &str = "user:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
const AUTHORIZATION: &str = "Basic dXNlcjpzZWNyZXQ=";

/// A running registry with what another has.
pub struct OverTls {
    pub address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// A running registry with nothing in it.
pub struct Registry {
    address: SocketAddr,
    is_closed: bool,
    _process: Process,
    folder: TempDir,
}

impl Registry {
    /// Starts one for everybody, and waits until it answers.
    pub fn start() -> Self {
        Self::start_as(false)
    }

    /// Starts one for [`user_and_password`](Self::user_and_password) alone.
    pub fn start_closed() -> Self {
        Self::start_as(true)
    }

    fn start_as(is_closed: bool) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let address = free_address();
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage").display().to_string();
        let passwords = folder.path().join("htpasswd");
        std::fs::write(&passwords, HTPASSWD).unwrap_or_else(|error| panic!("{error}"));
        let mut text = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": storage } },
            "http": { "addr": address.to_string() },
        });
        if is_closed {
            text["auth"] = json!({ "htpasswd": { "realm": "test", "path": passwords } });
        }
        std::fs::write(&config, text.to_string()).unwrap_or_else(|error| panic!("{error}"));
        let arguments = ["serve".to_owned(), config.display().to_string()];
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let process = Process::start("docker-registry", &arguments, &stdout, &stderr)
            .unwrap_or_else(|error| panic!("cannot start docker-registry: {error}; tests/run installs it"));
        eventually("the registry answers", || {
            send(address, "GET", "/v2/", &[], b"")
                .map_err(|error| format!("{error}: {}", std::fs::read_to_string(&stderr).unwrap_or_default()))
        });
        Self { address, is_closed, _process: process, folder }
    }

    /// Serves what this one has over TLS, too, by a certificate and a key in PEM, for as long as it is held.
    pub fn over_tls(&self, certificate: &str, key: &str) -> OverTls {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap_or_else(|error| panic!("{error}"));
            file
        };
        let tls = json!({ "certificate": write("certificate.pem", certificate), "key": write("key.pem", key) });
        let text = json!({
            "version": 0.1,
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": self.folder.path().join("storage") } },
            "http": { "addr": address.to_string(), "tls": tls },
        });
        let arguments = ["serve".to_owned(), write("config.yml", &text.to_string()).display().to_string()];
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let process = Process::start("docker-registry", &arguments, &stdout, &stderr)
            .unwrap_or_else(|error| panic!("cannot start docker-registry: {error}; tests/run installs it"));
        eventually("the registry listens", || {
            let connected = TcpStream::connect(address).map_err(|error| error.to_string());
            connected.map_err(|error| format!("{error}: {}", std::fs::read_to_string(&stderr).unwrap_or_default()))
        });
        OverTls { address, _process: process, _folder: folder }
    }

    pub fn user_and_password(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes a component as tools did before there was the artifact of [`push`](Self::push), and answers its reference.
    pub fn push_older(&self, name: &str, tag: &str, component: &[u8]) -> String {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(name, OLDER_CONFIG, b"{}"),
            "layers": [self.blob(name, OLDER_LAYER, component)],
        });
        self.manifest(name, tag, &manifest);
        format!("{}/{name}:{tag}", self.address)
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
        self.manifest(name, tag, &manifest);
        format!("{}/{name}:{tag}", self.address)
    }

    /// Pushes a container image for `linux/amd64` and `wasi/wasm`, of which only the second has the component, as the file
    /// that its config starts. `config` is what the image says of its process. Answers its reference.
    pub fn push_image(&self, name: &str, tag: &str, component: &[u8], config: &Value) -> String {
        let words = [&config["Entrypoint"][0], &config["Cmd"][0]];
        let file = words.iter().find_map(|word| word.as_str()).unwrap_or_default().trim_start_matches('/');
        let manifests = [("linux", "amd64", "README", b"another" as &[u8]), ("wasi", "wasm", file, component)];
        let manifests = manifests.map(|(os, architecture, file, content)| {
            let config = json!({ "os": os, "architecture": architecture, "config": config });
            let manifest = self.image(name, &[archive(&[(file, content)])], &config);
            let text = manifest.to_string();
            let digest = digest(text.as_bytes());
            self.manifest(name, &digest, &manifest);
            let platform = json!({ "os": os, "architecture": architecture });
            json!({ "mediaType": MANIFEST, "digest": digest, "size": text.len(), "platform": platform })
        });
        self.manifest(name, tag, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }));
        format!("{}/{name}:{tag}", self.address)
    }

    /// Pushes an image of these archives, the lowest first, which starts nothing. Answers its reference.
    pub fn push_layers(&self, name: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        self.push_image_of(name, tag, layers, &Value::Null)
    }

    /// Pushes a container image for `wasi/wasm` of these archives, the lowest first, by whose digests its config knows them.
    /// `config` is what it says of its process. Answers its reference.
    pub fn push_image_of(&self, name: &str, tag: &str, layers: &[Vec<u8>], config: &Value) -> String {
        self.push_image_for(name, tag, ("wasi", "wasm"), layers, config, &json!({}))
    }

    /// Likewise for any system and architecture, with annotations.
    pub fn push_image_for(
        &self,
        name: &str,
        tag: &str,
        (os, architecture): (&str, &str),
        layers: &[Vec<u8>],
        config: &Value,
        annotations: &Value,
    ) -> String {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = json!({ "os": os, "architecture": architecture, "config": config, "rootfs": rootfs });
        let mut manifest = self.image(name, layers, &config);
        manifest["annotations"] = annotations.clone();
        self.manifest(name, tag, &manifest);
        format!("{}/{name}:{tag}", self.address)
    }

    /// The manifest of a container image whose parts are pushed.
    fn image(&self, name: &str, layers: &[Vec<u8>], config: &Value) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(name, IMAGE_CONFIG, config.to_string().as_bytes()),
            "layers": layers.iter().map(|layer| self.blob(name, IMAGE_LAYER, layer)).collect::<Vec<_>>(),
        })
    }

    fn manifest(&self, name: &str, tag: &str, manifest: &Value) {
        let media_type = manifest["mediaType"].as_str().unwrap_or_default();
        let path = format!("/v2/{name}/manifests/{tag}");
        self.expect(201, "PUT", &path, &[("content-type", media_type)], manifest.to_string().as_bytes());
    }

    /// The digest of the manifest that a tag stands for.
    pub fn digest(&self, name: &str, tag: &str) -> String {
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = self.expect(200, "GET", &path, &[("accept", MANIFEST)], b"");
        let digest = answer.headers.into_iter().find(|(name, _)| name == "docker-content-digest");
        digest.unwrap_or_else(|| panic!("{path} has no digest")).1
    }

    /// The file that keeps what has this digest.
    pub fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Uploads a blob and answers its descriptor.
    fn blob(&self, name: &str, media_type: &str, content: &[u8]) -> Value {
        let digest = digest(content);
        let begun = self.expect(202, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        let location = begun.headers.into_iter().find(|(name, _)| name == "location");
        let location = location.map(|(_, value)| value).unwrap_or_default();
        let path = location.split_once(&self.address.to_string()).map_or(location.as_str(), |(_, path)| path);
        self.expect(201, "PUT", &format!("{path}&digest={digest}"), &[], content);
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Sends a request that must be answered with `status`.
    fn expect(&self, status: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let authorization = self.is_closed.then_some(("authorization", AUTHORIZATION));
        let headers: Vec<_> = headers.iter().copied().chain(authorization).collect();
        let answer = send(self.address, method, path, &headers, body).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        answer
    }
}

/// The port is free when it is chosen; a collision in between fails the start, which is then said.
fn free_address() -> SocketAddr {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.unwrap_or_else(|error| panic!("{error}"))
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar archive with these files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (file, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        let added = archive.append_data(&mut header, file, *content);
        added.unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    archive.into_inner().unwrap_or_else(|error| panic!("{error}"))
}
