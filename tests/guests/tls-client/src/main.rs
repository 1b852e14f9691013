//! A program that brings TLS of its own: it asks the Kubernetes API for the pods of its namespace, as its service account, over
//! `wasi:sockets`, and prints the answer. The argument names the host that is asked.
//!
//! Everything else it has from WASI preview 1: the libraries want a clock, random numbers and files as std has them.

mod socket;

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket::Socket;

/// Where Kubernetes puts a pod's token.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

unsafe extern "C" {
    /// libc's constructors. Where nothing names them, the linker has them run by whatever is exported, `cabi_realloc` included;
    /// they call the host, which nobody may who is asked for memory.
    fn __wasm_call_ctors();
}

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: nothing of libc was used before.
    unsafe { __wasm_call_ctors() };
    let host = std::env::args().nth(1).ok_or("which host is to be asked?")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(format!("{ACCOUNT}/ca.crt"))? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls_rustcrypto::provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(versions.with_root_certificates(roots).with_no_client_auth());
    let connection = ClientConnection::new(config, ServerName::try_from(host.clone())?)?;
    let mut stream = StreamOwned::new(connection, Socket::connect(&host)?);

    let (token, namespace) = (read("token")?, read("namespace")?);
    write!(
        stream,
        "GET /api/v1/namespaces/{namespace}/pods HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         accept: application/json\r\nconnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{answer}");
    Ok(())
}

/// A file of the service account.
fn read(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(format!("{ACCOUNT}/{name}"))?.trim().to_owned())
}
