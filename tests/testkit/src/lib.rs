//! Drives the real binary from outside: clusters, kubectl, HTTP, and waiting for conditions.
//!
//! Every cluster has ports and folders of its own, so that tests run in parallel; it ends with its test, or with the
//! process that started it, whichever comes first.

mod cluster;
mod guests;
mod http;
mod kubectl;
mod load;
mod namespace;
mod nfs;
mod outcome;
mod process;
mod recorder;
mod registry;
mod running;
mod skip;
mod trial;
mod wait;

pub use cluster::{ClusterOptions, TestCluster, node_port_range, shared};
pub use guests::guest;
pub use http::{Answer, KeptAlive, get, get_ok, send};
pub use kubectl::Kubectl;
pub use load::Load;
pub use namespace::{HERE, Neighbour, THERE, run_in_namespaces};
pub use nfs::{NfsServer, kernel_has_nfs};
pub use outcome::{Outcome, output, run};
pub use process::{Process, line};
pub use recorder::Recorder;
pub use registry::{Registry, archive};
pub use running::Running;
pub use skip::{is_by_tests_run, skipped};
pub use trial::trial;
pub use wait::{DEFAULT_TIMEOUT, eventually};
