//! An API server on the memory store, for trying clients against it.
//!
//! `cargo run -p k8w-apiserver --example serve -- DIR` keeps its keys in DIR, writes DIR/kubeconfig, and runs until Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;

use k8w_apiserver::pki::{ClientCas, Pki, ServerNames};
use k8w_apiserver::{ApiServer, Config};
use k8w_storage::datastore::memory::Memory;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: serve DIR")?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let names = ServerNames { service_ip: "10.96.0.1".parse()?, cluster_domain: "cluster.local".into(), extra: vec![] };
    let pki = Pki::open(&dir.join("pki"), &names)?;
    let config =
        Config { advertise: listener.local_addr()?, token_key: Some(pki.token_key().clone()), ..Config::default() };
    let url = format!("https://{}", config.advertise);
    let server = ApiServer::start(config, Arc::new(Memory::new())).await?;
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, pki.admin_kubeconfig("k8w", &url))?;
    println!("export KUBECONFIG={}", kubeconfig.display());
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    server.serve(listener, pki.server_config(&ClientCas::default())?, stop).await?;
    Ok(())
}
