//! How servers are called, as their pod's annotations say: instances that serve several requests, bursts of traps, requests at a
//! time; and what is not understood of them.

use std::io::Write;
use std::net::TcpStream;

use k8w_testkit::{eventually, get};

use crate::{HELLO, Sandbox, hello_pod, sandbox};

/// A pod that has these annotations, in YAML's flow style.
fn annotated(name: &str, image: &str, annotations: &str, spec: &str) -> String {
    let pod = hello_pod(name, &format!("terminationGracePeriodSeconds: 1, {spec}"), "").replace(HELLO, image);
    pod.replace("labels:", &format!("annotations: {{{annotations}}}, labels:"))
}

/// Applies such a pod of the guest that does what a test asks for; gives its host at the ingress, `None` where nobody has built
/// that guest.
fn served(t: &Sandbox, name: &str, annotations: &str) -> Option<String> {
    let image = t.probe_image()?;
    t.kubectl.apply(&annotated(name, image, annotations, ""));
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    t.kubectl.ok(&["expose", "pod", name, "--port=80", "--target-port=8080"]);
    let host = format!("{name}.{}.test", t.namespace);
    t.kubectl.ok(&["create", "ingress", name, "--class=k8w", &format!("--rule={host}/*={name}:80")]);
    eventually("the ingress answers", || match get(t.cluster.ingress_http(), &host, "/env")?.status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    Some(host)
}

/// How many requests its instance has served, as one tells that is asked.
fn count(t: &Sandbox, host: &str) -> u32 {
    get(t.cluster.ingress_http(), host, "/count").unwrap().body.parse().unwrap()
}

#[test]
fn an_instance_serves_as_many_requests_as_its_pod_says() {
    let t = sandbox();
    let Some(once) = served(&t, "once", "") else { return };
    let reuse = "k8w.dev/instance-reuse: '3'";
    let Some(thrice) = served(&t, "thrice", reuse) else { return };
    for _ in 0..6 {
        assert_eq!(count(&t, &once), 1);
    }
    // An instance that nobody asks for a second is thrown away: on a slow machine it may take a few more.
    let mut seen = Vec::new();
    eventually("an instance has served three", || {
        seen.push(count(&t, &thrice));
        if seen.ends_with(&[1, 2, 3]) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    seen.extend((0..6).map(|_| count(&t, &thrice)));
    assert!(seen.iter().all(|count| *count <= 3), "{seen:?}");
}

#[test]
fn requests_at_a_time_are_as_many_as_the_pod_says() {
    let t = sandbox();
    let Some(host) = served(&t, "single", "k8w.dev/concurrency: '1'") else { return };
    // One at a time never finds another, though an instance has some steps left after its answer.
    for _ in 0..50 {
        assert_eq!(count(&t, &host), 1);
    }
    // One that never ends, as its client does not go on; again if it was refused itself.
    let hold = || {
        let mut held = TcpStream::connect(t.cluster.ingress_http()).unwrap();
        write!(held, "POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n12345").unwrap();
        held
    };
    let mut held = hold();
    eventually("the next is refused", || {
        let answer = get(t.cluster.ingress_http(), &host, "/count")?;
        if answer.status == 503 && answer.body == "too many requests at once\n" {
            return Ok(());
        }
        held = hold();
        Err(format!("{answer:?}"))
    });
    drop(held);
    eventually("it has room again", || match get(t.cluster.ingress_http(), &host, "/count")?.status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn a_burst_is_as_many_traps_as_the_pod_says() {
    let t = sandbox();
    let image = t.server_image("burst", "unreachable");
    t.kubectl.apply(&annotated("burst", &image, "k8w.dev/trap-burst: 3/1h", "restartPolicy: Never"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/burst", "--timeout=60s"]);
    let path = format!("/api/v1/namespaces/{}/pods/burst:8080/proxy/", t.namespace);
    let field = |path: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[0].{path}}}");
        t.kubectl.ok(&["get", "pod", "burst", "-o", &path])
    };
    for _ in 0..2 {
        t.kubectl.fails(&["get", "--raw", &path]);
    }
    assert!(!field("state.running").is_empty(), "two are not three");
    t.kubectl.fails(&["get", "--raw", &path]);
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/burst", "--timeout=60s"]);
    let why = field("state.terminated.message");
    assert!(why.starts_with("3 requests trapped within 3600s, the last with: "), "{why}");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let t = sandbox();
    let image = t.hello_image();
    let known = "there are k8w.dev/instance-reuse, k8w.dev/trap-burst, k8w.dev/concurrency";
    let cases = [
        (
            "reuse",
            "k8w.dev/instance-reuse: '0'",
            "annotation k8w.dev/instance-reuse: \"0\" is not a number of requests from 1 to 1000000".to_owned(),
        ),
        (
            "burst",
            "k8w.dev/trap-burst: '20'",
            "annotation k8w.dev/trap-burst: \"20\" is not a number of traps from 1 to 1000 and a time from 1s to 1h, such as \
             20/10s"
                .to_owned(),
        ),
        (
            "concurrency",
            "k8w.dev/concurrency: '1001'",
            "annotation k8w.dev/concurrency: \"1001\" is not a number of requests from 1 to 1000".to_owned(),
        ),
        (
            "unknown",
            "k8w.dev/reuse: '2'",
            format!("wasm pods do not support the annotation k8w.dev/reuse: {known}"),
        ),
    ];
    for (name, annotations, _) in &cases {
        t.kubectl.apply(&annotated(name, image, annotations, ""));
    }
    for (name, _, why) in &cases {
        let waiting = "{.status.containerStatuses[0].state.waiting";
        let shown = format!("jsonpath={{.status.phase}} {waiting}.reason}} {waiting}.message}}");
        eventually(name, || match t.kubectl.ok(&["get", "pod", name, "-o", &shown]) {
            shown if shown == format!("Pending CreateContainerConfigError {why}") => Ok(()),
            shown => Err(shown),
        });
    }
    // It starts as soon as it is understood.
    t.kubectl.ok(&["annotate", "pod", "reuse", "--overwrite", "k8w.dev/instance-reuse=2"]);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/reuse", "--timeout=90s"]);
}
