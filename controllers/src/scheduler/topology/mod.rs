//! Where pods are with respect to each other, as counts that are kept along: what pod affinity, its opposite and topology
//! spread ask for each pod, without looking at every pod.
//!
//! A landscape says which domain (a zone, a host) each node is in. [`Tallies`] count the pods that an incoming pod
//! speaks of; [`Holdings`] count the placed pods that speak of others. Both are caches of the snapshot.

mod holding;
mod landscape;
mod tally;
mod term;

pub use holding::{Hold, Holdings};
pub use landscape::{Terrain, Tolerations};
pub use tally::{Count, Tallies};
pub use term::{Namespaces, PodTerms, Term, Who, anchor};
