//! Lease: who holds something, and until when.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("coordination.k8s.io", "v1", "Lease", "leases", "io.k8s.api.coordination.v1.Lease").strategy(Lease)
}

struct Lease;

impl Strategy for Lease {}
