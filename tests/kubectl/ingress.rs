//! What the ingress serves beside HTTP/1.1 by rules (TLS, a default backend, and gRPC), and what it believes of its clients.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8w_testkit::{Kubectl, TestCluster, eventually, get, line, send};
use rustls::pki_types::CertificateDer;

use crate::{guest, hello_pod, own_cluster, sandbox, tls};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a certificate for a host, and puts it into the secret of that name.
fn certify(kubectl: &Kubectl, secret: &str, host: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (format!("--cert={}", cert.display()), format!("--key={}", key.display()));
    let create = ["create", "secret", "tls", secret, &cert, &key, "--dry-run=client", "-o", "yaml"];
    kubectl.apply(&kubectl.ok(&create));
    made.cert.der().clone()
}

/// What a host answers over TLS, to who trusts this one certificate.
fn get_over_tls(address: SocketAddr, host: &str, trusted: &CertificateDer<'static>) -> Result<String, String> {
    tls::exchange(address, host, trusted, "GET /here", "")
}

fn https(cluster: &TestCluster) -> SocketAddr {
    line(&cluster.stderr(), "Ingress for HTTPS: ").unwrap().parse().unwrap()
}

#[test]
fn hosts_have_certificates_that_change_and_strangers_have_the_default_backend() {
    let (cluster, kubectl, _) = own_cluster(&[]);
    kubectl.apply(&hello_pod("hello", "", "env: [{name: POD_NAME, value: rules}]"));
    kubectl.apply(&hello_pod("default", "", "env: [{name: POD_NAME, value: default}]"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "pod/default", "--timeout=60s"]);
    for pod in ["hello", "default"] {
        kubectl.ok(&["expose", "pod", pod, "--port=80", "--target-port=8080"]);
    }
    let first = certify(&kubectl, "one", "one.test");
    let other = certify(&kubectl, "two", "two.test");
    let rules = ["--rule=one.test/*=hello:80,tls=one", "--rule=two.test/*=hello:80,tls=two"];
    kubectl.ok(&[&["create", "ingress", "hosts"][..], &rules].concat());
    let serves = |host: &str, certificate: &CertificateDer<'static>| {
        eventually(&format!("{host} is served"), || match get_over_tls(https(&cluster), host, certificate)? {
            answer if answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hello from rules") => Ok(()),
            answer => Err(answer),
        });
    };
    serves("one.test", &first);
    serves("two.test", &other);
    assert!(get_over_tls(https(&cluster), "one.test", &other).is_err(), "each host has its own");

    let second = certify(&kubectl, "one", "one.test");
    serves("one.test", &second);
    let refused = get_over_tls(https(&cluster), "one.test", &first).unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    serves("two.test", &other);

    let stranger = || get(cluster.ingress_http(), "three.test", "/there");
    assert_eq!(stranger().unwrap().status, 404);
    kubectl.ok(&["create", "ingress", "default", "--default-backend=default:80"]);
    eventually("strangers have the default backend", || match stranger()? {
        answer if answer.body == "Hello from default: you asked for /there\n" => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(get(cluster.ingress_http(), "one.test", "/").unwrap().body, "Hello from rules: you asked for /\n");

    // A section without hosts is for those that have no certificate of their own; a Secret that cannot be used is named.
    kubectl.ok(&["patch", "ingress", "default", "--type=merge", "-p", r#"{"spec": {"tls": [{"secretName": "any"}]}}"#]);
    eventually("an event names the secret", || {
        let events = kubectl.ok(&["events", "--for=ingress/default"]);
        let is_named = events.contains("there is no secret t/any of type kubernetes.io/tls");
        if is_named { Ok(()) } else { Err(events) }
    });
    let any = certify(&kubectl, "any", "three.test");
    eventually("strangers are served over TLS", || match get_over_tls(https(&cluster), "three.test", &any)? {
        answer if answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hello from default") => Ok(()),
        answer => Err(answer),
    });
    serves("two.test", &other);
    kubectl.ok(&["delete", "secret", "any"]);
    eventually("its certificate is gone", || match get_over_tls(https(&cluster), "three.test", &any) {
        Err(error) if error.contains("invalid peer certificate") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    serves("two.test", &other);
}

/// A component that speaks gRPC, behind a Service that says so.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_reaches_a_component_with_its_trailers_and_a_silent_one_is_not_waited_for() {
    let Some(probe) = guest("probe.wasm") else { return };
    let (cluster, kubectl, _) = own_cluster(&["--ingress-timeout-seconds", "5"]);
    cluster.load_image(&probe, "localhost/hello:latest");
    kubectl.apply(&hello_pod("grpc", "", "readinessProbe: {grpc: {port: 8080}, periodSeconds: 1}"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/grpc", "--timeout=60s"]);
    kubectl.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: grpc}
spec: {selector: {app: grpc}, ports: [{port: 80, targetPort: 8080, appProtocol: kubernetes.io/h2c}]}
",
    );
    kubectl.ok(&["create", "ingress", "grpc", "--rule=grpc.test/*=grpc:80"]);
    eventually("the ingress leads to it", || match get(cluster.ingress_http(), "grpc.test", "/count")? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    for (service, status) in [("up", 1), ("down", 2)] {
        let stream = tokio::net::TcpStream::connect(cluster.ingress_http()).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let length = u8::try_from(service.len()).unwrap();
        let message = [&[0, 0, 0, 0, length + 2, 10, length][..], service.as_bytes()].concat();
        let request = hyper::Request::post("http://grpc.test/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(message)));
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request.unwrap())).await.unwrap().unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        let answer = answer.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), "{service}");
        connection.abort();
    }
    let silent = get(cluster.ingress_http(), "grpc.test", "/spin").unwrap();
    assert_eq!((silent.status, silent.body.as_str()), (504, "the backend did not answer within 5 seconds\n"));
}

/// Headers about the client and the way that it came, as a component sees them.
fn about_the_client(shown: &str) -> Vec<String> {
    let is_about = |line: &&str| ["forwarded", "x-"].iter().any(|begin| line.starts_with(begin));
    let mut about: Vec<String> = shown.lines().filter(is_about).map(str::to_owned).collect();
    about.sort();
    about
}

#[test]
fn what_a_client_says_about_its_way_is_not_passed_on() {
    let t = sandbox();
    if !t.probe_pod("headers", "", "") {
        return;
    }
    let host = t.expose("pod", "headers");
    let claims = [
        ("x-forwarded-for", "192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.2, 192.0.2.3"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "elsewhere.test"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-server", "elsewhere"),
        ("x-real-ip", "192.0.2.4"),
        ("forwarded", "for=192.0.2.5;proto=gopher"),
        // What the ingress says itself is not for the client to take away.
        ("connection", "x-forwarded-for, x-real-ip"),
        ("x-own", "kept"),
    ];
    let expected = |host: &str, port: u16, protocol: &str| {
        [
            "x-forwarded-for: 127.0.0.1".to_owned(),
            format!("x-forwarded-host: {host}"),
            format!("x-forwarded-port: {port}"),
            format!("x-forwarded-proto: {protocol}"),
            "x-own: kept".to_owned(),
            "x-real-ip: 127.0.0.1".to_owned(),
        ]
    };
    let http = t.cluster.ingress_http();
    let answer = send(http, "GET", "/headers", &[&claims[..], &[("host", &host)]].concat(), b"").unwrap();
    assert_eq!(about_the_client(&answer.body), expected(&host, http.port(), "http"));

    let trusted = certify(&t.kubectl, "headers", &host);
    let patch = format!(r#"{{"spec": {{"tls": [{{"hosts": ["{host}"], "secretName": "headers"}}]}}}}"#);
    t.kubectl.ok(&["patch", "ingress", "headers", "--type=merge", "-p", &patch]);
    let https = https(&t.cluster);
    let lines: String = claims.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer =
        eventually("the host has its certificate", || tls::exchange(https, &host, &trusted, "GET /headers", &lines));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(about_the_client(body), expected(&host, https.port(), "https"));
}

/// 64 KiB are what a node takes of it, whoever serves the host.
#[test]
fn a_request_with_too_large_a_head_is_refused_and_one_beneath_that_is_not() {
    let t = sandbox();
    if !t.probe_pod("heads", "", "") {
        return;
    }
    let host = t.expose("pod", "heads");
    let status = |path: &str, value: &str| {
        let headers = [("host", host.as_str()), ("x-large", value)];
        send(t.cluster.ingress_http(), "GET", path, &headers, b"").unwrap().status
    };
    let (small, large) = ("x".repeat(60 << 10), "x".repeat(70 << 10));
    for (path, value, expected) in [
        ("/count".to_owned(), small.as_str(), 200),
        ("/count".to_owned(), &large, 431),
        (format!("/log?{large}"), "", 431),
        ("/count".to_owned(), "", 200),
    ] {
        assert_eq!(status(&path, value), expected, "{} bytes of path, {} of header", path.len(), value.len());
    }
    let log = t.kubectl.ok(&["logs", "heads"]);
    assert!(!log.contains("xxx"), "the component was asked with a head of {} bytes", log.len());
}
