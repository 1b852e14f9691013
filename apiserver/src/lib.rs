//! How a request becomes a stored object, and a stored object a watch event.
//!
//! ```text
//! request ─> chain ─> request_info ─> authn ─> authz ─> verbs ─> object_store ─> datastore
//!                                                         │                         │
//!                                                         └──────── watch_cache <───┘
//! ```
//!
//! [`chain`] is the whole path in one function. One generic path serves every kind; what kinds differ in is in the table of
//! [`k8w_kinds::registry`]. The API server knows no node, no controller and no compiler: they come through
//! [`plugins::NodeConnector`], the API and [`plugins::Compiler`].

pub mod admission;
pub mod api_services;
pub mod apply;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod call;
pub mod chain;
pub mod codec;
mod compaction;
pub mod component_statuses;
pub mod config;
pub mod crd;
pub mod discovery;
pub mod document;
pub mod effects;
pub mod health;
pub mod identity;
pub mod in_process;
mod json;
mod kubernetes_service;
pub mod limits;
pub mod machine_code;
pub mod metrics;
pub mod node_dialer;
pub mod object_store;
pub mod openapi;
pub mod outside;
pub mod patch;
pub mod pki;
pub mod plugins;
pub mod query;
pub mod request_info;
pub mod resource_metrics;
pub mod resources;
pub mod respond;
pub mod review;
pub mod routes;
pub mod selector;
pub mod serve;
pub mod server;
pub mod status;
pub mod streams;
pub mod table;
pub mod verbs;
pub mod version;
pub mod watch_cache;

pub use body::Body;
pub use config::Config;
pub use identity::{Peer, UserInfo};
pub use server::{ApiServer, Plugins, StartError};
pub use status::Status;
