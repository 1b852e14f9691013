//! Proxies that stand before `wasmtime serve` where k8w has its ingress: nginx and Traefik.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8w_testkit::Process;
use tempfile::TempDir;

use crate::cluster::TIMEOUT;

/// A proxy, and how it is started.
pub struct Front {
    pub name: &'static str,
    /// Names its executable.
    pub variable: &'static str,
    /// Writes its configuration into a folder, to listen at the first address for the second; says its arguments.
    configure: fn(&Path, SocketAddr, SocketAddr) -> std::io::Result<Vec<String>>,
}

pub const FRONTS: [Front; 2] = [
    Front { name: "nginx", variable: "K8W_BENCH_NGINX", configure: nginx },
    Front { name: "Traefik", variable: "K8W_BENCH_TRAEFIK", configure: traefik },
];

/// As many connections are kept open to the server as clients have.
fn nginx(folder: &Path, own: SocketAddr, server: SocketAddr) -> std::io::Result<Vec<String>> {
    let (config, folder) = (folder.join("nginx.conf"), folder.display());
    let text = format!(
        "daemon off;\nworker_processes auto;\npid {folder}/pid;\nerror_log stderr;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  \
         keepalive_requests 1000000000;\n  \
         upstream hello {{ server {server}; keepalive 64; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {own};\n    server_name hello.localhost;\n    location / {{\n      \
         proxy_pass http://hello;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_set_header Host $host;\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&config, text)?;
    Ok(vec!["-e".to_owned(), "stderr".to_owned(), "-c".to_owned(), config.display().to_string()])
}

fn traefik(folder: &Path, own: SocketAddr, server: SocketAddr) -> std::io::Result<Vec<String>> {
    let routes = folder.join("routes.yaml");
    let text = format!(
        "http:\n  routers:\n    hello: {{rule: 'Host(`hello.localhost`)', service: hello}}\n  services:\n    \
         hello: {{loadBalancer: {{servers: [{{url: 'http://{server}'}}]}}}}\n"
    );
    std::fs::write(&routes, text)?;
    Ok(vec![
        format!("--entryPoints.web.address={own}"),
        format!("--providers.file.filename={}", routes.display()),
        "--global.checkNewVersion=false".to_owned(),
        "--global.sendAnonymousUsage=false".to_owned(),
    ])
}

/// One that runs.
pub struct Running {
    _process: Process,
    _folder: TempDir,
    pub address: SocketAddr,
}

impl Front {
    /// Starts it before `server`; `None` where nothing names it.
    pub fn start(&self, server: SocketAddr) -> Result<Option<Running>> {
        let Ok(executable) = std::env::var(self.variable) else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| folder.path().join(name));
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let arguments = (self.configure)(folder.path(), address, server)?;
        let mut process = Process::start(&executable, &arguments, &stdout, &stderr)?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if process.ended().is_some() || started.elapsed() > TIMEOUT {
                bail!("{executable} does not listen:\n{}", std::fs::read_to_string(&stderr)?);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(Running { _process: process, _folder: folder, address }))
    }
}
