//! A node of a cluster whose control plane is elsewhere.

use std::net::SocketAddr;

use anyhow::Result;
use k8w_runtime::identity::{Joined, renew};
use k8w_runtime::node::Settings;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::NETWORK;
use super::compiler::{Compile, Compiler};
use super::node::{About, Doors, NodeOptions, NodePart, open_stores};
use crate::data_dir::DataDir;

/// A running node.
pub struct JoinedNode {
    client: Client,
    ingress: (SocketAddr, SocketAddr),
    about: About,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl JoinedNode {
    /// Registers the node and starts it; `api` is where the API server really is.
    ///
    /// # Errors
    /// A port that is taken, data that cannot be read, an API server that does not take this node for what it was.
    pub async fn start(
        options: &NodeOptions,
        compile: Compile,
        joined: &Joined,
        api: SocketAddr,
        data_dir: &DataDir,
    ) -> Result<JoinedNode> {
        let doors = Doors::open(options).await?;
        let registered = options.registered(doors.kubelet_port()?, data_dir);
        let settings = Settings::of(&joined.client(), &registered, |error| joined.failed(error)).await?;
        let identity = joined.identity().await?;
        let path = data_dir.path().to_owned();
        let (blobs, foreign_tls) = tokio::task::spawn_blocking(move || open_stores(&path)).await??;
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let (client, ingress) = (joined.client(), doors.ingress()?);
        let compiler = Compiler::of_node(compile, joined, &identity)?;
        tasks.spawn(renew::run(joined.clone(), identity.clone(), shutdown.clone()));
        let part = NodePart {
            options,
            data_dir,
            doors,
            settings,
            client: client.clone(),
            network_client: joined.client_as(NETWORK),
            identity,
            blobs,
            foreign_tls,
            compiler,
            api,
            api_shown_at: None,
        };
        let (_, about) = part.start(&mut tasks, &shutdown).await?;
        Ok(JoinedNode { client, ingress, about, tasks, shutdown })
    }

    /// Acts as the node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where the ingress listens for HTTP and for HTTPS.
    pub fn ingress(&self) -> (SocketAddr, SocketAddr) {
        self.ingress
    }

    /// Stops everything and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
