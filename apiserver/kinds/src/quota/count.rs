//! Every resource's objects, by number: `count/<plural>.<group>`, and the older names that some have.

use jiff::Timestamp;
use serde_json::Value;

use super::{Amounts, Evaluator, count_name};
use crate::quantity::Quantity;

/// Resources of the core group that quotas also know by their plural alone.
const ALIASES: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

pub struct Count {
    names: Vec<String>,
}

impl Count {
    pub fn of(group: &str, plural: &str) -> Count {
        let mut names = vec![count_name(group, plural)];
        if group.is_empty() && ALIASES.contains(&plural) {
            names.push(plural.to_owned());
        }
        Count { names }
    }
}

impl Evaluator for Count {
    fn tracks(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    fn usage(&self, _: &Value, _: Timestamp) -> Amounts {
        self.names.iter().map(|name| (name.clone(), Quantity::from_int(1))).collect()
    }
}
