//! The API server as a value: its settings, its store, and the tables that plug into the request path.

use crate::authn::service_account::Tokens;
use crate::authz::rbac::Rbac;
use crate::bootstrap::{self, BootstrapError};
use crate::component_statuses::{self, Part};
use crate::config::Config;
use crate::crd::{self, CustomKinds};
use crate::effects::Turns;
use crate::identity::UserInfo;
use crate::in_process::InProcess;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::plugins::{Admission, Authenticator, Authorizer, Compiler, NodeConnector};
use crate::resources::{Def, Resources};
use crate::status::Status;
use crate::watch_cache::WatchCache;
use crate::{admission, authn, authz, compaction};
use arc_swap::{ArcSwap, ArcSwapOption};
use k8w_kinds::registry;
use k8w_storage::datastore::{self, Datastore};
use std::sync::Arc;
use tokio_util::sync::DropGuard;

/// Why an API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the datastore cannot be read")]
    Datastore(#[from] datastore::Error),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("there is no admission plugin {name:?} to disable: there are {}", .known.join(", "))]
    UnknownAdmissionPlugin { name: String, known: Vec<&'static str> },
    #[error("the watch cache does not follow the datastore: {0}")]
    Behind(Status),
}

/// The ordered tables that a request passes.
#[derive(Default)]
pub struct Plugins {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub admission: Vec<Arc<dyn Admission>>,
    /// What the rules review reads.
    pub rbac: Option<Arc<Rbac>>,
    /// What issues and reviews tokens.
    pub tokens: Option<Arc<Tokens>>,
}

impl Plugins {
    /// Everything that a cluster runs with, but for the admission plugins that the configuration disables.
    ///
    /// # Errors
    /// A plugin to be disabled that there is not.
    pub fn standard(config: &Config, cache: &Arc<WatchCache>) -> Result<Self, StartError> {
        let rbac = Arc::new(Rbac::new(cache));
        let authorizers = authz::all(&config.authorization, cache, &rbac);
        let tokens = config.token_key.clone().map(|key| Tokens::new(key, cache.clone(), authn::issuer(config)));
        let tokens = tokens.map(Arc::new);
        let mut admission = admission::all(config, cache, &rbac, &authorizers);
        for name in &config.disabled_admission {
            if let Some(found) = admission.iter().position(|plugin| plugin.name() == name) {
                admission.remove(found);
            } else if !admission::NEVER_RUN.contains(&name.as_str()) {
                let known = admission.iter().map(|plugin| plugin.name()).collect();
                return Err(StartError::UnknownAdmissionPlugin { name: name.clone(), known });
            }
        }
        Ok(Plugins {
            authenticators: authn::all(config, cache, tokens.as_ref()),
            admission,
            authorizers,
            rbac: Some(rbac),
            tokens,
        })
    }
}

/// A running API server. It serves whoever calls [`ApiServer::handle`]; sockets are somebody else's.
pub struct ApiServer {
    pub config: Config,
    pub datastore: Arc<dyn Datastore>,
    pub cache: Arc<WatchCache>,
    /// What is served right now. Custom kinds in it may lag; see [`ApiServer::current_resources`].
    pub resources: ArcSwap<Resources>,
    pub custom: CustomKinds,
    pub plugins: Plugins,
    pub limits: Limits,
    pub metrics: Metrics,
    pub quota_turns: Turns,
    node_connector: ArcSwapOption<Box<dyn NodeConnector>>,
    compiler: ArcSwapOption<Box<dyn Compiler>>,
    parts: ArcSwap<Vec<Part>>,
}

impl ApiServer {
    /// Starts with the standard plugins; when this returns, reads are served from memory and the objects that every
    /// cluster has are there.
    pub async fn start(config: Config, datastore: Arc<dyn Datastore>) -> Result<Arc<Self>, StartError> {
        let cache = WatchCache::start(datastore.clone()).await?;
        let plugins = Plugins::standard(&config, &cache)?;
        let server = Self::assemble(config, datastore, cache, plugins);
        bootstrap::reconcile(&server).await?;
        // Authorization reads what was just written.
        server.cache.catch_up().await.map_err(StartError::Behind)?;
        Ok(server)
    }

    /// Starts with plugins of the caller's choice.
    pub async fn start_with(
        config: Config,
        datastore: Arc<dyn Datastore>,
        plugins: Plugins,
    ) -> Result<Arc<Self>, StartError> {
        let cache = WatchCache::start(datastore.clone()).await?;
        Ok(Self::assemble(config, datastore, cache, plugins))
    }

    fn assemble(config: Config, datastore: Arc<dyn Datastore>, cache: Arc<WatchCache>, plugins: Plugins) -> Arc<Self> {
        compaction::start(&datastore);
        let resources = Resources::new(registry::all().iter().map(Def::BuiltIn), &cache);
        let server = Arc::new(ApiServer {
            config,
            datastore,
            custom: CustomKinds::new(&cache),
            cache,
            resources: ArcSwap::from_pointee(resources),
            plugins,
            limits: Limits::default(),
            metrics: Metrics::default(),
            quota_turns: Turns::default(),
            node_connector: ArcSwapOption::empty(),
            compiler: ArcSwapOption::empty(),
            parts: ArcSwap::default(),
        });
        crd::start(&server);
        authn::service_account::tracking::start(&server);
        server
    }

    /// Says which other parts of the control plane run in this process, until the guard is dropped.
    pub fn runs_beside(&self, names: &[&'static str]) -> DropGuard {
        let (parts, guard) = component_statuses::parts(names);
        self.parts.store(Arc::new(parts));
        guard
    }

    pub fn parts(&self) -> Arc<Vec<Part>> {
        self.parts.load_full()
    }

    /// Says how nodes are reached. Until then, logs and exec answer 503.
    pub fn connect_nodes(&self, connector: Box<dyn NodeConnector>) {
        self.node_connector.store(Some(Arc::new(connector)));
    }

    pub fn node_connector(&self) -> Option<Arc<Box<dyn NodeConnector>>> {
        self.node_connector.load_full()
    }

    /// Says who makes machine code for nodes. Until then, they are answered 503.
    pub fn connect_compiler(&self, compiler: Box<dyn Compiler>) {
        self.compiler.store(Some(Arc::new(compiler)));
    }

    pub fn compiler(&self) -> Option<Arc<Box<dyn Compiler>>> {
        self.compiler.load_full()
    }

    /// A client in this process that acts as `user`: no socket, no TLS, no authentication. What it writes without naming a
    /// field manager is `agent`'s.
    pub fn in_process(self: &Arc<Self>, user: UserInfo, agent: &'static str) -> InProcess {
        InProcess::new(self.clone(), user, agent)
    }
}
