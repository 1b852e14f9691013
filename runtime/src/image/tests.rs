//! Pulls from a registry that speaks just enough of the protocol.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use expect_test::expect;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8w_storage::blob::{BlobStore, Digest};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::garbage::{Disk, Policy};
use super::registries::{Auth, HostConfig, Mirror, Registries, RegistriesFile, Tls};
use super::{Images, LocalImages, UNNAMED_FOR, registry, store, unpack};

const COMPONENT: &[u8] = b"\0asm component";

/// An archive of one file.
fn file_at(path: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, path, content).unwrap();
    archive.into_inner().unwrap()
}

fn component_at(path: &str) -> Vec<u8> {
    file_at(path, COMPONENT)
}

/// An archive of one link.
fn link(path: &str, to: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_link(&mut header, path, to).unwrap();
    archive.into_inner().unwrap()
}

/// What a registry has, by path, with the media type.
#[derive(Clone, Default)]
struct Content {
    answers: HashMap<String, (String, Bytes)>,
    /// `Authorization` that every request must carry.
    authorization: Option<String>,
    /// What the `WWW-Authenticate` of a refusal says; otherwise that it wants a password.
    challenge: Option<String>,
    /// What is answered without an end, by path, with the status.
    endless: HashMap<String, StatusCode>,
}

type Body = BoxBody<Bytes, Infallible>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::from(bytes.into()).boxed()
}

impl Content {
    fn blob(&mut self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes).to_string();
        let answer = ("application/octet-stream".to_owned(), Bytes::copy_from_slice(bytes));
        self.answers.insert(format!("/v2/app/blobs/{digest}"), answer);
        json!({ "digest": digest, "size": bytes.len() })
    }

    fn described(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let mut descriptor = self.blob(bytes);
        descriptor["mediaType"] = json!(media_type);
        descriptor
    }

    /// Adds a manifest under a tag and under its digest, which is returned.
    fn manifest(&mut self, tag: &str, media_type: &str, manifest: &Value) -> String {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::of(&bytes).to_string();
        for name in [tag, &digest] {
            self.answers.insert(format!("/v2/app/manifests/{name}"), (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    fn artifact(&mut self, tag: &str, layers: &[&str]) -> String {
        let config = self.described("application/vnd.wasm.config.v0+json", b"{}");
        let layers: Vec<Value> = layers.iter().map(|layer| self.described(layer, COMPONENT)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        self.manifest(tag, media_type, &manifest)
    }

    /// A container image of these archives, which its config may name by what they unpack to.
    fn container_image(&mut self, tag: &str, process: &Value, layers: &[Vec<u8>], diff_ids: Option<&[String]>) {
        let mut config = json!({ "os": "wasip1", "architecture": "wasm", "config": process });
        if let Some(diff_ids) = diff_ids {
            config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        }
        let config = self.described("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<Value> = layers.iter().map(|layer| self.described(tar, layer)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        self.manifest(tag, media_type, &manifest);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(status) = self.endless.get(path) {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            let body = StreamBody::new(stream::repeat_with(move || Ok(Frame::data(chunk.clone()))));
            return Response::builder().status(status).body(BodyExt::boxed(body)).unwrap();
        }
        if path == "/token" {
            let right = "/token?scope=repository%3Aapp%3Apull&service=test" == request.uri();
            return Response::new(full(json!({ "token": if right { "t" } else { "wrong" } }).to_string()));
        }
        let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if self.authorization.is_some() && given != self.authorization.as_deref() {
            let builder = Response::builder().status(StatusCode::UNAUTHORIZED);
            let host = request.headers()["host"].to_str().unwrap();
            let challenge = self.challenge.as_deref().unwrap_or("Basic realm=\"test\"").replace("HOST", host);
            return builder.header("www-authenticate", challenge).body(full("")).unwrap();
        }
        match self.answers.get(path) {
            Some((media_type, bytes)) => {
                Response::builder().header("content-type", media_type).body(full(bytes.clone())).unwrap()
            }
            None => {
                let error = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] });
                Response::builder().status(StatusCode::NOT_FOUND).body(full(error.to_string())).unwrap()
            }
        }
    }
}

fn blob_store() -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(folder.path()).unwrap();
    (folder, blobs)
}

/// How many files a store has.
fn left(blobs: &BlobStore) -> usize {
    let root = blobs.folder().ancestors().nth(2).unwrap();
    ["blobs/sha256", "refs", "unfinished"].map(|dir| std::fs::read_dir(root.join(dir)).unwrap().count()).iter().sum()
}

/// A registry on loopback, for as long as it is held.
struct Registry {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Registry {
    async fn serve(content: Content) -> Registry {
        Registry::serve_by(content, None).await
    }

    /// With TLS, if there is a configuration for it.
    async fn serve_by(content: Content, tls: Option<rustls::ServerConfig>) -> Registry {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(content);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let content = content.clone();
                let service = service_fn(move |request| {
                    let answer = content.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let http1 = hyper::server::conn::http1::Builder::new();
                let Some(acceptor) = acceptor.clone() else {
                    tokio::spawn(http1.serve_connection(TokioIo::new(stream), service));
                    continue;
                };
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = http1.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        Registry { address, _task: AbortOnDropHandle::new(task) }
    }

    async fn pull(&self, tag: &str, auth: RegistryAuth) -> Result<registry::Pulled, String> {
        let (_folder, blobs) = blob_store();
        let pulled = registry::pull(&self.reference(tag), &auth, &Registries::default(), &blobs).await;
        assert_eq!(left(&blobs), 0, "{tag}");
        pulled.map_err(|error| self.told(error))
    }

    async fn pull_into(&self, tag: &str, blobs: &BlobStore) -> Result<registry::Pulled, String> {
        let (reference, registries) = (self.reference(tag), Registries::default());
        let pulled = registry::pull(&reference, &RegistryAuth::Anonymous, &registries, blobs).await;
        pulled.map_err(|error| self.told(error))
    }

    /// What is in a volume of an image.
    async fn unpack(&self, tag: &str, blobs: &BlobStore) -> Result<Vec<String>, String> {
        let (reference, registries, before) = (self.reference(tag), Registries::default(), left(blobs));
        let pulled = registry::pull_layers(&reference, &RegistryAuth::Anonymous, &registries, blobs).await;
        assert_eq!(left(blobs), before, "{tag}");
        let (_, layers) = pulled.map_err(|error| self.told(error))?;
        let folder = tempfile::tempdir().unwrap();
        let (dir, image) = (folder.path().join("volume"), reference.whole());
        unpack::unpack(&layers, &dir).map_err(|why| self.told(super::Error::Unpack { image, why }))?;
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }

    fn reference(&self, tag: &str) -> Reference {
        format!("{}/app:{tag}", self.address).parse().unwrap()
    }

    fn told(&self, error: impl ToString) -> String {
        error.to_string().replace(&self.address.to_string(), "registry")
    }
}

#[tokio::test]
async fn artifacts_and_their_indexes_are_pulled() {
    let mut content = Content::default();
    let digest = content.artifact("plain", &["application/wasm"]);
    content.artifact("older", &["application/vnd.wasm.content.layer.v1+wasm"]);
    let index_type = "application/vnd.oci.image.index.v1+json";
    let platform = |os: &str, architecture: &str| json!({ "os": os, "architecture": architecture });
    let entry = |digest: &str, platform: Value| json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "platform": platform });
    let nowhere = Digest::of(b"").to_string();
    let entries = json!([entry(&nowhere, platform("linux", "amd64")), entry(&digest, platform("wasip2", "wasm"))]);
    content.manifest(
        "index",
        index_type,
        &json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": entries }),
    );
    let registry = Registry::serve(content).await;
    for tag in ["plain", "older", "index"] {
        let pulled = registry.pull(tag, RegistryAuth::Anonymous).await.unwrap();
        assert_eq!(pulled.component, COMPONENT, "{tag}");
        assert_eq!(pulled.manifest_digest, Digest::of(&pulled.manifest).to_string(), "{tag}");
    }
}

#[tokio::test]
async fn a_container_image_gives_its_entrypoint() {
    let mut content = Content::default();
    // As a Dockerfile makes it: what is started lies elsewhere, and another layer has it.
    let process = json!({ "Entrypoint": ["app"], "Env": ["PATH=/bin"] });
    content.container_image(
        "compat",
        &process,
        &[component_at("opt/app.wasm"), link("bin/app", "/opt/app.wasm")],
        None,
    );
    let registry = Registry::serve(content).await;
    let pulled = registry.pull("compat", RegistryAuth::Anonymous).await.unwrap();
    assert_eq!(pulled.component, COMPONENT);
    let (_folder, blobs) = blob_store();
    let name: Reference = "registry.test/app:compat".parse().unwrap();
    let kept = store::keep(&blobs, &name, &pulled, None).unwrap();
    assert_eq!(kept.config.program(), Some("app"));
    assert_eq!(store::find(&blobs, &name).unwrap().as_ref(), Some(&kept));
    // The manifest alone says nothing of the process: it is to be pulled again.
    let configuration = Digest::of(&pulled.configuration.unwrap());
    std::fs::remove_file(blobs.path(&configuration).unwrap()).unwrap();
    assert_eq!(store::find(&blobs, &name).unwrap(), None);
    store::remove(&blobs, &name.whole()).unwrap();
    assert_eq!(blobs.refs().unwrap(), []);
}

/// As containerd does.
#[tokio::test]
async fn a_container_image_is_held_to_its_diff_ids() {
    let layers = [component_at("app.wasm"), link("app", "app.wasm")];
    let ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let mut content = Content::default();
    let process = json!({ "Entrypoint": ["/app"] });
    content.container_image("right", &process, &layers, Some(&ids));
    content.container_image("fewer", &process, &layers, Some(&ids[..1]));
    content.container_image("other", &process, &layers, Some(&[ids[0].clone(), ids[0].clone()]));
    content.container_image("none", &json!({ "Entrypoint": ["/app.wasm/x"] }), &layers, Some(&ids));
    content.container_image("script", &json!({ "Entrypoint": ["sh"] }), &[file_at("bin/sh", b"#!")], None);
    let registry = Registry::serve(content).await;
    assert_eq!(registry.pull("right", RegistryAuth::Anonymous).await.unwrap().component, COMPONENT);
    let mut all = String::new();
    let (_folder, blobs) = blob_store();
    assert_eq!(registry.unpack("right", &blobs).await.unwrap(), ["app", "app.wasm"]);
    for tag in ["fewer", "other"] {
        let error = registry.pull(tag, RegistryAuth::Anonymous).await.unwrap_err();
        let of_volume = registry.unpack(tag, &blobs).await.unwrap_err();
        assert_eq!(of_volume.replace("failed to unpack", "failed to pull"), error);
        all += &format!("{error}\n");
    }
    for tag in ["none", "script"] {
        all += &format!("{}\n", registry.pull(tag, RegistryAuth::Anonymous).await.unwrap_err());
    }
    for (number, id) in ids.iter().enumerate() {
        all = all.replace(id, &format!("layer-{number}"));
    }
    expect![[r#"
        failed to pull "registry/app:fewer": it has 2 layers, and its config names 1
        failed to pull "registry/app:other": its layer 2 of 2 (layer-1): it unpacks to layer-1, and the image's config says layer-0
        failed to pull "registry/app:none": its entrypoint "/app.wasm/x" is no file of it: /app.wasm/x is not there
        its entrypoint "sh" is /bin/sh, which is no WebAssembly: it does not begin with \0asm
    "#]]
    .assert_eq(&all);
}

#[tokio::test]
async fn refusals_are_one_sentence() {
    let mut content = Content::default();
    content.artifact("two", &["application/wasm", "application/wasm"]);
    content.artifact("broken", &["application/wasm"]);
    let key = format!("/v2/app/blobs/{}", Digest::of(COMPONENT));
    content.answers.insert(key, ("application/octet-stream".to_owned(), Bytes::from_static(b"\0asm something")));
    let registry = Registry::serve(content).await;
    expect![["a wasm artifact has exactly one application/wasm layer, and this one has 2 layers"]]
        .assert_eq(&registry.pull("two", RegistryAuth::Anonymous).await.unwrap_err());
    expect![[r#"failed to pull "registry/app:none": not found in the registry"#]]
        .assert_eq(&registry.pull("none", RegistryAuth::Anonymous).await.unwrap_err());
    expect![[r#"failed to pull "registry/app:broken": its layer 1 of 1 (sha256:d39ad56a4c032330cab88e5277b39bdad5e1adae6bb74e355543ff2d80960121) has digest sha256:a4ad01372143409ad6e08d6151795d32c7d21742bcfd1f514906d31fd868dd33, not sha256:d39ad56a4c032330cab88e5277b39bdad5e1adae6bb74e355543ff2d80960121"#]].assert_eq(&registry.pull("broken", RegistryAuth::Anonymous).await.unwrap_err());
}

/// Answers that never end, in every place where one is read.
#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let mut content = Content::default();
    content.artifact("layer", &["application/wasm"]);
    content.endless.insert("/v2/app/manifests/manifest".to_owned(), StatusCode::OK);
    content.endless.insert("/v2/app/manifests/error".to_owned(), StatusCode::BAD_GATEWAY);
    content.endless.insert(format!("/v2/app/blobs/{}", Digest::of(COMPONENT)), StatusCode::OK);
    let registry = Registry::serve(content).await;
    let mut all = String::new();
    for tag in ["manifest", "error", "layer"] {
        let error = registry.pull(tag, RegistryAuth::Anonymous).await.unwrap_err();
        all += &format!("{error}\n");
    }
    expect![[r#"
        failed to pull "registry/app:manifest": its manifest is larger than 4 MiB
        failed to pull "registry/app:error": its registry answered 502 Bad Gateway
        failed to pull "registry/app:layer": its layer 1 of 1 (sha256:d39ad56a4c032330cab88e5277b39bdad5e1adae6bb74e355543ff2d80960121) is larger than its manifest says (14 bytes)
    "#]]
    .assert_eq(&all);

    let mut content = Content { authorization: Some(String::new()), ..Content::default() };
    content.challenge = Some("Bearer realm=\"http://HOST/token\",service=\"test\"".to_owned());
    content.endless.insert("/token".to_owned(), StatusCode::OK);
    let registry = Registry::serve(content).await;
    expect![[r#"failed to pull "registry/app:any": what its token server answers is no token"#]]
        .assert_eq(&registry.pull("any", RegistryAuth::Anonymous).await.unwrap_err());
}

/// Each error says which bound was met, and by which layer. What is too much by its manifest is not asked for.
#[tokio::test]
async fn layers_of_a_container_image_are_of_kinds_and_sizes_that_are_read() {
    let mut content = Content::default();
    let config = json!({ "os": "wasip1", "architecture": "wasm", "config": { "Entrypoint": ["/app.wasm"] } });
    let config = content.described("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let sized = |size: u64| json!({ "mediaType": tar, "digest": Digest::of(b"absent").to_string(), "size": size });
    let small = content.described(tar, &file_at("file", b""));
    let zstd = content.described(&format!("{tar}+zstd"), b"x");
    let cut = content.described(tar, &component_at("app.wasm")[..520]);
    let gzip = content.described(&format!("{tar}+gzip"), b"\x1f\x8b\x08 no more");
    let forged = content.described(tar, b"forged");
    let digest = forged["digest"].as_str().unwrap();
    content.answers.get_mut(&format!("/v2/app/blobs/{digest}")).unwrap().1 = Bytes::from_static(b"FORGED");
    let endless = content.described(tar, b"endless");
    let digest = endless["digest"].as_str().unwrap();
    content.endless.insert(format!("/v2/app/blobs/{digest}"), StatusCode::OK);
    let odd = json!({ "mediaType": tar, "digest": "sha256:../../x", "size": 1 });
    let tags = [
        ("large", json!([small, sized(u64::from(u32::MAX))])),
        ("together", json!([small, sized(600 << 20), sized(600 << 20), small])),
        ("negative", json!([{ "mediaType": tar, "digest": "sha256:0", "size": -1 }])),
        ("many", json!(vec![small.clone(); 129])),
        ("zstd", json!([small, zstd])),
        ("cut", json!([small, cut])),
        ("gzip", json!([gzip, small])),
        ("forged", json!([small, forged])),
        ("endless", json!([endless])),
        ("odd", json!([odd])),
        ("fits", json!(vec![small; 128])),
    ];
    for (tag, layers) in &tags {
        content.manifest(tag, media_type, &json!({ "schemaVersion": 2, "config": config, "layers": layers }));
    }
    let registry = Registry::serve(content).await;
    let (_folder, blobs) = blob_store();
    let mut all = String::new();
    for (tag, layers) in &tags {
        let mut error = registry.pull(tag, RegistryAuth::Anonymous).await.unwrap_err();
        if *tag != "fits" {
            let of_volume = registry.unpack(tag, &blobs).await.unwrap_err();
            assert_eq!(of_volume.replace("failed to unpack", "failed to pull"), error);
        }
        for (number, layer) in layers.as_array().unwrap().iter().enumerate() {
            error = error.replace(layer["digest"].as_str().unwrap(), &format!("layer-{number}"));
        }
        all += &format!("{error}\n");
    }
    expect![[r#"
        failed to pull "registry/app:large": its layer 2 of 2 (layer-1): with it the layers have more than 1 GiB as they are sent
        failed to pull "registry/app:together": its layer 3 of 4 (layer-1): with it the layers have more than 1 GiB as they are sent
        failed to pull "registry/app:negative": its layer 1 of 1 (layer-0): with it the layers have more than 1 GiB as they are sent
        failed to pull "registry/app:many": it has 129 layers, and 128 is the most
        failed to pull "registry/app:zstd": its layer 2 of 2 (layer-1): it is compressed with zstd, which is not supported
        failed to pull "registry/app:cut": its layer 2 of 2 (layer-1): unexpected EOF during skip
        failed to pull "registry/app:gzip": its layer 1 of 2 (layer-0): invalid gzip header
        failed to pull "registry/app:forged": its layer 2 of 2 (layer-1) has digest sha256:5fb6b3047c33f7c7cc95745d0cc287bd8a2ec918c9d86cedbdde31944c9c0610, not layer-1
        failed to pull "registry/app:endless": its layer 1 of 1 (layer-0) is larger than its manifest says (7 bytes)
        failed to pull "registry/app:odd": its layer 1 of 1 (layer-0): "layer-0" is not a digest of the form sha256:<64 lower-case hexadecimal digits>
        failed to pull "registry/app:fits": its entrypoint "/app.wasm" is no file of it: /app.wasm is not there
    "#]]
    .assert_eq(&all);
}

#[tokio::test]
async fn a_layer_that_cannot_be_kept_is_not_blamed_on_the_registry() {
    let mut content = Content::default();
    let process = json!({ "Entrypoint": ["/app.wasm"] });
    content.container_image("image", &process, &[component_at("app.wasm")], None);
    let registry = Registry::serve(content).await;
    let (folder, blobs) = blob_store();
    std::fs::remove_dir(folder.path().join("unfinished")).unwrap();
    let error = registry.pull_into("image", &blobs).await.unwrap_err();
    let told = "failed to pull \"registry/app:image\": there is no place for its registry's answer: No such file";
    assert!(error.starts_with(told), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_here_is_not_asked_for_and_held_to_the_config_all_the_same() {
    let mut content = Content::default();
    let process = json!({ "Entrypoint": ["/app.wasm"] });
    let layer = component_at("app.wasm");
    let (id, other) = (Digest::of(&layer).to_string(), Digest::of(b"other").to_string());
    content.container_image("here", &process, std::slice::from_ref(&layer), Some(std::slice::from_ref(&id)));
    content.container_image("other", &process, std::slice::from_ref(&layer), Some(&[other]));
    content.answers.remove(&format!("/v2/app/blobs/{id}"));
    let registry = Registry::serve(content).await;
    let (_folder, blobs) = blob_store();
    let absent = "failed to pull \"registry/app:here\": not found in the registry";
    assert_eq!(registry.unpack("here", &blobs).await.unwrap_err(), absent);
    // Half of it, as it would be on a disk that has lost the rest.
    let digest = blobs.put(&layer[..], None).unwrap();
    std::fs::write(blobs.path(&digest).unwrap(), &layer[..512]).unwrap();
    assert_eq!(registry.unpack("here", &blobs).await.unwrap_err(), absent);
    std::fs::write(blobs.path(&digest).unwrap(), &layer).unwrap();
    assert_eq!(registry.unpack("here", &blobs).await.unwrap(), ["app.wasm"]);
    assert_eq!(registry.pull_into("here", &blobs).await.unwrap().component, COMPONENT);
    let error = registry.pull_into("other", &blobs).await.unwrap_err();
    assert!(error.contains(&format!("its layer 1 of 1 ({id}): it unpacks to {id}, and")), "{error}");
}

#[tokio::test]
async fn a_token_is_asked_for_where_the_registry_says() {
    let mut content = Content { authorization: Some("Bearer t".to_owned()), ..Content::default() };
    content.challenge = Some("Bearer realm=\"http://HOST/token\",service=\"test\"".to_owned());
    content.artifact("plain", &["application/wasm"]);
    let registry = Registry::serve(content).await;
    assert_eq!(registry.pull("plain", RegistryAuth::Anonymous).await.unwrap().component, COMPONENT);
}

#[tokio::test]
async fn credentials_are_used() {
    let authorization = Some("Basic dTpw".to_owned());
    let mut content = Content { authorization, ..Content::default() };
    content.artifact("plain", &["application/wasm"]);
    let registry = Registry::serve(content).await;
    let auth = RegistryAuth::Basic("u".to_owned(), "p".to_owned());
    assert_eq!(registry.pull("plain", auth).await.unwrap().component, COMPONENT);
    let denied = registry.pull("plain", RegistryAuth::Anonymous).await.unwrap_err();
    assert!(denied.starts_with("failed to pull \"registry/app:plain\": the registry refuses access"), "{denied}");
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_need_not_have_everything() {
    let mut content = Content { authorization: Some("Basic bm9kZTpw".to_owned()), ..Content::default() };
    content.artifact("plain", &["application/wasm"]);
    let (empty, full) = (Registry::serve(Content::default()).await, Registry::serve(content).await);
    // Nobody listens there any more.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let endpoint = [silent, empty.address, full.address].map(|address| format!("http://{address}")).to_vec();
    let node = Auth { username: "node".to_owned(), password: "p".to_owned() };
    let config = HostConfig { auth: Some(node), tls: None };
    let registries = Registries::new(
        RegistriesFile {
            mirrors: Some(BTreeMap::from([("registry.invalid".to_owned(), Some(Mirror { endpoint: Some(endpoint) }))])),
            configs: Some(BTreeMap::from([(full.address.to_string(), Some(config))])),
        },
        Vec::new(),
    );
    let registries = registries.unwrap();
    let (_folder, blobs) = blob_store();
    let of_pod = RegistryAuth::Basic("pod".to_owned(), "p".to_owned());
    let pull = async |tag: &str| {
        let reference = format!("registry.invalid/app:{tag}").parse().unwrap();
        registry::pull(&reference, &of_pod, &registries, &blobs).await
    };
    assert_eq!(pull("plain").await.unwrap().component, COMPONENT);
    let error = pull("none").await.unwrap_err().to_string();
    let [silent, empty, full] =
        [silent, empty.address, full.address].map(|address| format!("mirror http://{address}/v2/: "));
    let parts: Vec<&str> = error.split("; ").collect();
    let [first, second, third, last] = parts[..] else { panic!("not all are named: {error}") };
    assert!(first.starts_with(&format!("failed to pull \"registry.invalid/app:none\": {silent}")), "{first}");
    assert!(first.contains("Connection refused"), "{first}");
    assert!(second.starts_with(&format!("{empty}its registry answered 404")), "{second}");
    assert!(third.starts_with(&format!("{full}its registry answered 404")), "{third}");
    assert!(last.contains("registry.invalid"), "what the registry itself says: {last}");
}

#[tokio::test]
async fn a_registry_proves_itself_as_the_file_says() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certified.cert.pem()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(
        vec![certified.cert.der().clone()],
        rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into(),
    );
    let mut content = Content::default();
    content.artifact("plain", &["application/wasm"]);
    let registry = Registry::serve_by(content, Some(tls.unwrap())).await;
    let (reference, (_folder, blobs)) = (registry.reference("plain"), blob_store());
    let pull = async |tls: Tls| {
        let config = HostConfig { auth: None, tls: Some(tls) };
        let configs = Some(BTreeMap::from([(registry.address.to_string(), Some(config))]));
        let registries = Registries::new(RegistriesFile { configs, ..RegistriesFile::default() }, Vec::new()).unwrap();
        registry::pull(&reference, &RegistryAuth::Anonymous, &registries, &blobs).await
    };
    assert_eq!(pull(Tls { ca_file: Some(ca_file), ..Tls::default() }).await.unwrap().component, COMPONENT);
    assert!(pull(Tls { insecure_skip_verify: true, ..Tls::default() }).await.is_ok());
    let error = pull(Tls::default()).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_full_disk_costs_pulled_images_that_nothing_uses() {
    let root = tempfile::tempdir().unwrap();
    let blobs = Arc::new(BlobStore::open(root.path()).unwrap());
    let images = Images::new(blobs.clone(), Registries::default(), Arc::default());
    for name in ["registry.test/used:1", "registry.test/idle:1"] {
        let component = format!("\0asm{name}").into_bytes();
        let (manifest_digest, configuration) = (String::new(), None);
        let pulled = registry::Pulled { manifest: name.into(), manifest_digest, configuration, component };
        store::keep(&blobs, &name.parse().unwrap(), &pulled, None).unwrap();
    }
    let file = root.path().join("file");
    std::fs::write(&file, b"\0asm by hand").unwrap();
    let by_hand = LocalImages::new(blobs.clone()).load(&file, "localhost/by-hand").unwrap();
    let in_use = HashSet::from(["registry.test/used:1".to_owned()]);
    let start = Instant::now();
    let later = start + Policy::default().min_age;
    let collect = |available_bytes: u64, now| {
        let disk = Disk { capacity_bytes: 1_000, available_bytes };
        let collected = images.collect(&in_use, Policy::default(), disk, now).unwrap();
        (collected.removed, collected.excess_bytes, collected.kept.len())
    };
    // The components, and the manifests of those that were pulled.
    assert_eq!(collect(500, start), (vec![], 0, 5), "the disk is not full");
    let idle = "registry.test/idle:1".to_owned();
    images.mark_used(&Digest::of(format!("\0asm{idle}").as_bytes()).to_string(), start);
    assert_eq!(collect(0, start), (vec![], 200, 5), "it was in use just now");
    assert_eq!(collect(0, later), (vec![idle], 200, 5), "what has no name now may be about to get one");
    for blob in std::fs::read_dir(root.path().join("blobs/sha256")).unwrap() {
        let file = std::fs::File::options().write(true).open(blob.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - UNNAMED_FOR).unwrap();
    }
    assert_eq!(collect(0, later), (vec![], 200, 3));
    let left: Vec<String> = blobs.refs().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["localhost/by-hand:latest", "manifest of registry.test/used:1", "registry.test/used:1"]);
    assert!(blobs.path(&by_hand).is_some());
}
