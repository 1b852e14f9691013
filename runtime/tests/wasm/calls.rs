//! A host interface that no guest here calls is untested: every one in the table is called, not only linked.
//!
//! The bindings make a span of each call of a guest, in the module of its interface. Who listens sees a span's place in the
//! code when it is first reached.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use k8w_runtime::engine::Preopen;
use k8w_runtime::host::{self, Interface};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use wit_parser::{Resolve, WorldItem};

use crate::node::{Node, channel_body, preview1, probe, probe_p3, request};

/// Modules of the interfaces that guests of this process have called.
static CALLED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Writes down what is reached, and wants to know no more of it.
struct Listener;

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.name() == "wit-bindgen import" {
            CALLED.lock().unwrap_or_else(PoisonError::into_inner).insert(metadata.target().to_owned());
        }
        Interest::never()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The row whose functions are in a module such as `wasmtime_wasi::p2::bindings::cli::wasi::cli::environment`.
fn row(module: &str) -> Option<&'static Interface> {
    let (path, interface) = module.rsplit_once("::")?;
    let (_, package) = path.rsplit_once("::")?;
    // Where bindings have two versions of a package, its module has the version.
    let package = package.trim_end_matches(|end: char| end.is_ascii_digit() || end == '_');
    let name = format!("wasi:{package}/{}", interface.replace('_', "-"));
    host::all().iter().find(|row| row.name == name && row.is_p3() == module.contains("::p3::"))
}

/// Interfaces of nothing but types have nothing that could be called.
fn without_functions() -> BTreeSet<String> {
    let mut resolve = Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/pod");
    let (package, _) = resolve.push_dir(folder).unwrap();
    let mut without = BTreeSet::new();
    for world in ["service", "job", "service-p3", "job-p3"] {
        let world = &resolve.worlds[resolve.select_world(&[package], Some(world)).unwrap()];
        for (key, item) in &world.imports {
            if let WorldItem::Interface { id, .. } = item
                && resolve.interfaces[*id].functions.is_empty()
            {
                without.insert(resolve.name_world_key(key));
            }
        }
    }
    without
}

/// Runs commands of a guest to their ends, whatever these are.
async fn run(node: &Node, guest: &[u8], name: &str, commands: &[&[&str]]) {
    for (number, args) in commands.iter().enumerate() {
        node.run(node.pod(&format!("{name}-{number}"), guest).await, args).await;
    }
}

/// Starts a server with a volume, and asks it for paths. `SELF` is where it is.
async fn serve(node: &Node, guest: &[u8], name: &str, paths: &[&str]) -> SocketAddr {
    let mut spec = node.pod(name, guest).await;
    let volume = node.dir.path().join(format!("{name}-volume"));
    std::fs::create_dir(&volume).unwrap();
    let (guest_path, read_only) = ("/data".to_owned(), false);
    spec.preopens = vec![Preopen { host_dir: volume, guest_path, read_only, sub_path: None }];
    let address = SocketAddr::new(spec.pod.ip, 8080);
    node.start(spec).await;
    for path in paths {
        let path = path.replace("SELF", &address.to_string());
        assert_eq!(node.get(&address.to_string(), &path).await.0, 200, "{path}");
    }
    address
}

#[tokio::test]
async fn every_host_interface_is_called_by_a_guest() {
    tracing::subscriber::set_global_default(Listener).unwrap();
    let node = Node::with(|config| config.guest.resources = 100);
    run(&node, preview1(), "preview1", &[&["print"]]).await;
    run(&node, probe(), "probe", &[&["about"], &["exit"], &["handles"], &["reach", "127.0.0.1", "9"]]).await;
    let proposals = ["/config?a", "/keyvalue?a", "/say?a"];
    let paths = ["/env", "/fetch?SELF/count", "/resolve?localhost", "/ask?127.0.0.1:9"];
    let server = serve(&node, probe(), "server", &[&paths[..], &proposals].concat()).await;
    let (mut sender, body) = channel_body();
    sender.try_send(Err("cut off".into())).unwrap();
    assert_eq!(node.send(request("POST", &format!("http://{server}/broken"), body)).await.status(), 200);
    run(&node, probe_p3(), "probe-p3", &[&["about"], &["exit", "0"], &["later", "a"], &["cat"], &["sockets"]]).await;
    serve(&node, probe_p3(), "server-p3", &["/env", "/fetch?SELF/count", "/resolve?localhost"]).await;

    let called = CALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_called =
        |interface: &Interface| called.iter().filter_map(|module| row(module)).any(|row| std::ptr::eq(row, interface));
    let without_functions = without_functions();
    let name = |interface: &Interface| format!("{}@{}", interface.name, interface.version);
    let missing: Vec<String> = host::all()
        .iter()
        .filter(|interface| !is_called(interface) && !without_functions.contains(&name(interface)))
        .map(name)
        .collect();
    assert!(missing.is_empty(), "no guest calls {missing:?}; called were {called:#?}");
}
