//! Why no node would do, in kube-scheduler's words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::filter::{Reasons, Refusal};

/// A node that won't do.
#[derive(Debug)]
pub struct Refused {
    pub slot: usize,
    /// The filter's place in the table.
    pub filter: usize,
    pub refusal: Refusal,
}

#[derive(Debug, Default)]
pub struct Unschedulable {
    nodes: usize,
    /// One bit for each filter of the table that refused a node.
    filters: u64,
    refused: Vec<Refused>,
    /// What keeps the pod from all nodes alike.
    nowhere: Option<String>,
    /// Nodes that were not looked at, and what for.
    left_out: Option<(usize, &'static str)>,
}

impl Unschedulable {
    pub fn of(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    pub fn refuse(&mut self, refused: Refused) {
        self.filters |= 1 << refused.filter;
        self.refused.push(refused);
    }

    pub fn nowhere(&mut self, filter: usize, message: String) {
        self.filters |= 1 << filter;
        self.nowhere = Some(message);
    }

    /// Nodes were not looked at because of a filter.
    pub fn leave_out(&mut self, nodes: usize, filter: &'static str) {
        self.left_out = Some((nodes, filter));
    }

    /// One bit for each filter that refused; none set when there was no node at all.
    pub fn filters(&self) -> u64 {
        self.filters
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Nodes that fewer pods would make feasible.
    pub fn resolvable(&self) -> impl Iterator<Item = usize> {
        self.refused.iter().filter(|refused| refused.refusal.is_resolvable).map(|refused| refused.slot)
    }

    /// Whether no leaving pod could make this node do.
    pub fn is_final(&self, slot: usize) -> bool {
        !self.resolvable().any(|resolvable| resolvable == slot)
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons = Histogram::default();
        if let Some(message) = &self.nowhere {
            return write!(f, "0/{} nodes are available: {message}.", self.nodes);
        }
        self.refused.iter().for_each(|refused| reasons.add(&refused.refusal.reasons));
        if let Some((nodes, filter)) = self.left_out {
            reasons.add_many(nodes, format!("node(s) didn't satisfy plugin(s) [{filter}]").into());
        }
        write!(f, "{}", reasons.text(self.nodes))
    }
}

/// How many nodes gave each reason.
#[derive(Default)]
pub struct Histogram<'a>(BTreeMap<Cow<'a, str>, usize>);

impl<'a> Histogram<'a> {
    pub fn add(&mut self, reasons: &'a Reasons) {
        match reasons {
            Reasons::One(reason) => self.add_many(1, Cow::Borrowed(reason)),
            Reasons::Many(reasons) => reasons.iter().for_each(|reason| self.add_many(1, Cow::Borrowed(reason))),
        }
    }

    pub fn add_many(&mut self, nodes: usize, reason: Cow<'a, str>) {
        if nodes > 0 {
            *self.0.entry(reason).or_default() += nodes;
        }
    }

    /// `0/3 nodes are available: 1 this, 2 that.`
    pub fn text(&self, nodes: usize) -> String {
        let mut counted: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        counted.sort();
        format!("0/{nodes} nodes are available: {}.", counted.join(", "))
    }
}
