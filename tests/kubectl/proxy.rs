//! `proxy`: the API server at a port or a socket of this machine.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use k8w_testkit::{Process, eventually, get, line};

use crate::{Sandbox, sandbox};

/// `kubectl proxy` with these arguments, once it has said where it serves.
fn proxy(t: &Sandbox, folder: &Path, arguments: &[&str]) -> (Process, String) {
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let command = t.kubectl.command(&[&["proxy", "--disable-filter"], arguments].concat());
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let all: Vec<String> = command.get_args().map(text).collect();
    let process = Process::start(&text(command.get_program()), &all, &stdout, &stderr).unwrap();
    let served = eventually("kubectl proxy serves", || {
        let printed = std::fs::read_to_string(&stdout).unwrap();
        line(&printed, "Starting to serve on ").map(|address| address.trim().to_owned()).ok_or(printed)
    });
    (process, served)
}

/// Conformance: "Kubectl, proxy port zero".
#[test]
fn a_free_port_is_chosen() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let (_process, address) = proxy(&t, folder.path(), &["--port=0"]);
    let address: SocketAddr = address.parse().unwrap();
    let answer = get(address, "localhost", "/api/").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"versions\":"), "{}", answer.body);
    assert_eq!(get(address, "localhost", "/apis/apps/v1").unwrap().status, 200);
    assert_eq!(get(address, "localhost", "/nowhere").unwrap().status, 404);
}

/// Conformance: "Kubectl, proxy socket".
#[test]
fn a_socket_is_served() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let (_process, _) = proxy(&t, folder.path(), &[&format!("--unix-socket={}", socket.display())]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /api/ HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\"versions\":"), "{answer}");
}
