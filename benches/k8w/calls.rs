//! What a call costs within a node: beside wasmtime alone, beside a socket, and step by step.

use std::convert::Infallible;
use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8w_runtime::wasm::slice;
use k8w_testkit::Process;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::cluster;
use crate::compare::Client;
use crate::direct::{Direct, World};
use crate::guests;
use crate::http1::Http1;
use crate::in_turn::{Way, in_turn};
use crate::node::{Node, Running, get};
use crate::seconds;

/// Variables and directories of a guest that has some.
const VARIABLES: usize = 10;
const PREOPENS: [&str; 2] = ["config", "data"];

/// wasmtime's errors are none of the standard library's.
fn plain<T>(result: wasmtime::Result<T>) -> Result<T> {
    result.map_err(|error| anyhow!("{error:#}"))
}

fn hello() -> Result<Vec<u8>> {
    Ok(std::fs::read(cluster::hello().join("hello.wasm"))?)
}

fn variables() -> Vec<(String, String)> {
    (0..VARIABLES).map(|number| (format!("VARIABLE_{number}"), "value".to_owned())).collect()
}

/// A call between two components of a node, beside the same component called by wasmtime's own `ProxyHandler`, and beside the
/// same call through a socket.
pub async fn zero_hop() -> Result<()> {
    let node = Arc::new(Node::start()?);
    let hello = hello()?;
    let server = node.run(&hello, |_| {}).await?;
    let caller = Arc::new(node.run(&hello, |_| {}).await?);
    let service = node.expose(&server)?;
    let handler = Arc::new(plain(Direct::new(&hello, World::default(), true))?.handler());
    let socket = Arc::new(Mutex::new(behind_a_socket(node.clone(), service).await?));
    let ways = vec![
        Way::new("wasmtime's ProxyHandler", move || {
            let handler = handler.clone();
            async move { plain(handler.call().await) }
        }),
        called(&node, &caller, "zero-hop", service.to_owned()),
        Way::new("over loopback TCP", move || {
            let socket = socket.clone();
            async move { socket.lock().await.request().await }
        }),
    ];
    let micros = in_turn(ways, 1).await?;
    let [handler, zero_hop, socket] = micros[..] else { bail!("a way is missing") };
    println!(
        "zero-hop: a call of hello by its Service's name takes {zero_hop:.1} µs, wasmtime's ProxyHandler::handle {handler:.1} \
         µs ({:+.1} µs), the same over loopback TCP {socket:.1} µs",
        zero_hop - handler
    );
    Ok(())
}

/// A pod's request to a URL.
fn called(node: &Arc<Node>, from: &Arc<Running>, name: &'static str, url: String) -> Way {
    let (node, from) = (node.clone(), from.clone());
    Way::new(name, move || {
        let (node, from, url) = (node.clone(), from.clone(), url.clone());
        async move { get(&node.network, Some(&from.pod), &url).await }
    })
}

/// One connection to a server that has each request answered by the node.
async fn behind_a_socket(node: Arc<Node>, service: &'static str) -> Result<Http1> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let Ok((stream, _)) = listener.accept().await else { return };
        answer(stream, node, service).await;
    });
    Http1::open(1, address, "hello").await?.pop().context("one connection was asked for")
}

/// Has each request of a connection answered by the node, until its end.
async fn answer(stream: TcpStream, node: Arc<Node>, service: &'static str) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let node = node.clone();
        async move {
            use http_body_util::BodyExt;
            let (mut parts, body) = request.into_parts();
            parts.uri = http::Uri::from_static(service);
            let request = http::Request::from_parts(parts, body.map_err(Into::into).boxed_unsync());
            let answer = node.network.send(None, request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                let body = http_body_util::Full::from(error.to_string()).map_err(|never| match never {});
                let mut answer = http::Response::new(body.boxed_unsync());
                *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
                answer
            }))
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// First argument of the process that is a node with hello behind a port of its own, which it says on standard error.
pub const SUBCOMMAND: &str = "hello-server";
const SERVES: &str = "serves at ";

/// Serves until it is ended.
pub async fn serve() -> Result<()> {
    let node = Arc::new(Node::start()?);
    let server = node.run(&hello()?, |_| {}).await?;
    let service = node.expose(&server)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("{SERVES}{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, node.clone(), service));
    }
}

/// Calls that a guest makes, and measures itself: of hello by its Service's name, in the guest's own process, and by that of a
/// Service whose endpoint is hello in another process, over loopback TCP on a connection that is kept.
pub async fn by_guests() -> Result<()> {
    /// Of both together; the first half of each one's calls does not count.
    const TIME: Duration = Duration::from_secs(20);
    let milliseconds = seconds()?.unwrap_or(TIME).as_millis().to_string();
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| folder.path().join(name));
    let this = std::env::current_exe()?.display().to_string();
    let mut outside = Process::start(&this, &[SUBCOMMAND.to_owned()], &stdout, &stderr)?;
    let address = outside.line(SERVES).parse()?;

    let node = Node::start()?;
    let server = node.run(&hello()?, |_| {}).await?;
    node.services(&[("inside", server.address()), ("outside", address)])?;
    for (version, guest) in [("0.2", "probe"), ("0.3", "probe-p3")] {
        let caller = std::fs::read(guests::build(guest, folder.path())?)?;
        let printed = node.printed(&caller, &["calls", &milliseconds, "inside/", "outside/"]).await?;
        let micros = |target: &str| -> Result<[f64; 2]> {
            let line = k8w_testkit::line(&printed, target).with_context(|| format!("{target} is not in {printed}"))?;
            let nanos: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let [mean, p99] = nanos[..] else { bail!("no two numbers: {line}") };
            Ok([mean / 1e3, p99 / 1e3])
        };
        let ([mean, p99], [other_mean, other_p99]) = (micros("inside/")?, micros("outside/")?);
        println!(
            "guest-calls: a guest of WASI {version} calls hello by its Service's name in {mean:.1} µs (mean), {p99:.1} µs (p99); \
             in another process, over loopback TCP, in {other_mean:.1} µs (mean), {other_p99:.1} µs (p99)"
        );
    }
    Ok(())
}

/// A request to a component of which nothing is alive, from the bare instance to the node's whole way.
pub async fn cold() -> Result<()> {
    let node = Arc::new(Node::start()?);
    let hello = hello()?;
    let bare = plain(Direct::new(&hello, World::default(), true))?;
    let preopens = PREOPENS.map(|name| node.mount(name));
    let preopens = preopens.into_iter().collect::<Result<Vec<_>>>()?;
    let shown = preopens.iter().map(|preopen| (preopen.host_dir.clone(), preopen.guest_path.clone())).collect();
    let full = plain(Direct::new(&hello, World { env: variables(), preopens: shown }, true))?;
    let plain_server = node.run(&hello, |_| {}).await?;
    let full_server = node
        .run(&hello, |spec| {
            spec.env = variables();
            spec.preopens = preopens;
        })
        .await?;
    let caller = Arc::new(node.run(&hello, |_| {}).await?);

    let store = |direct: &Direct, name| {
        let direct = direct.clone();
        Way::new(name, move || {
            let direct = direct.clone();
            async move { plain(direct.store().map(drop)) }
        })
    };
    let instance = |direct: &Direct, name| {
        let direct = direct.clone();
        Way::new(name, move || {
            let direct = direct.clone();
            async move {
                let mut store = plain(direct.store())?;
                plain(direct.instantiate(&mut store).await.map(drop))
            }
        })
    };
    let call = |direct: &Direct, name| {
        let direct = direct.clone();
        Way::new(name, move || {
            let direct = direct.clone();
            async move { plain(direct.call().await) }
        })
    };
    let ways = vec![
        store(&bare, "wasmtime: a store with an empty context"),
        store(&full, "wasmtime: a store with 10 variables and two directories, opened"),
        instance(&bare, "wasmtime: store and instance"),
        call(&bare, "wasmtime: store, instance and request"),
        call(&full, "wasmtime: the same with variables and directories"),
        called(&node, &caller, "k8w: a request", plain_server.url()),
        called(&node, &caller, "k8w: a request, with variables and directories", full_server.url()),
    ];
    let names: Vec<&str> = ways.iter().map(|way| way.name).collect();
    let micros = in_turn(ways, 1).await?;
    println!("cold: µs from nothing to what is named, and back to nothing");
    for (name, micros) in names.iter().zip(&micros) {
        println!("  {name:<68} {micros:>6.1}");
    }
    let [store, full_store, instance, call, _, plain, full] = micros[..] else { bail!("a way is missing") };
    println!(
        "cold: of {full:.1} µs with variables and directories, {store:.1} are a store, {:.1} its instance, {:.1} the request and \
         its answer, {:.1} what a node adds to that; its variables and directories cost {:+.1}, where opening them again \
         would cost {:.1}",
        instance - store,
        call - instance,
        plain - call,
        full - plain,
        full_store - store,
    );
    Ok(())
}

/// What epochs and accounting cost: many calls at once, against an engine whose code has no checks and that nobody looks at.
pub async fn epochs() -> Result<()> {
    const CALLERS: usize = 8;
    let node = Arc::new(Node::start()?);
    let hello = hello()?;
    let server = node.run(&hello, |_| {}).await?;
    let caller = Arc::new(node.run(&hello, |_| {}).await?);
    let [with, without] = [true, false].map(|epochs| plain(Direct::new(&hello, World::default(), epochs)));
    let (with, without) = (with?, without?);
    let direct = |direct: &Direct, name| {
        let direct = direct.clone();
        Way::new(name, move || {
            let direct = direct.clone();
            async move { plain(direct.call().await) }
        })
    };
    let accounted = {
        let direct = with.clone();
        Way::new("with epochs and accounting", move || {
            let direct = direct.clone();
            async move { plain(accounted(async move { direct.call().await }).await) }
        })
    };
    let ways = vec![
        direct(&without, "without"),
        direct(&with, "with epochs"),
        accounted,
        called(&node, &caller, "k8w", server.url()),
    ];
    let micros = in_turn(ways, CALLERS).await?;
    let [without, with, accounted, k8w] = micros.iter().map(|micros| 1e6 / micros).collect::<Vec<_>>()[..] else {
        bail!("a way is missing")
    };
    println!(
        "epochs: hello by {CALLERS} callers in one thread: {without:.0}/s without epochs, {with:.0}/s with them ({:.2}), \
         {accounted:.0}/s with accounting too ({:.2}), {k8w:.0}/s by k8w, with all that a node adds ({:.2})",
        with / without,
        accounted / without,
        k8w / without
    );
    Ok(())
}

/// Has every poll measured as a node measures those of guests.
async fn accounted<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let mut used_nanos = 0;
    let output = poll_fn(|cx| {
        let ran = slice::run(|| work.as_mut().poll(cx));
        used_nanos += ran.nanos;
        ran.done
    })
    .await;
    black_box(used_nanos);
    output
}
