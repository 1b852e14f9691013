//! A pod goes only where its runtime class's handler is: a wasm pod to nodes that run wasm.

use k8s_openapi::api::core::v1::Node;

use super::{Begin, Filter, Refusal};
use crate::nodes::runs_wasm;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::Snapshot;

/// The handler that runs WebAssembly. A node that doesn't report its handlers can't be taken to have it.
const WASM_HANDLER: &str = "wasmtime";

pub struct RuntimeHandler;

impl Filter for RuntimeHandler {
    fn name(&self) -> &'static str {
        "RuntimeHandler"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        if class(&cycle.pod.info).is_none() {
            return Begin::Pass;
        }
        let handler = handler(&cycle.pod.info, cycle.snapshot);
        Begin::check(move |node| match handler {
            None => Err(Refusal::for_good("node(s) didn't know the Pod's runtime class")),
            Some(handler) if has(&node.node, handler) => Ok(()),
            Some(_) => Err(Refusal::for_good("node(s) didn't have the handler of the Pod's runtime class")),
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, snapshot: &Snapshot) -> bool {
        let handler = handler(&pod.info, snapshot);
        match event {
            Event::RuntimeClass => handler.is_some(),
            event => handler.is_some_and(|handler| event.joins(|node| has(node, handler))),
        }
    }
}

/// Whether the pod's runtime class is WebAssembly's.
pub fn is_wasm(pod: &PodInfo, snapshot: &Snapshot) -> bool {
    handler(pod, snapshot) == Some(WASM_HANDLER)
}

fn class(pod: &PodInfo) -> Option<&String> {
    pod.pod.spec.as_ref()?.runtime_class_name.as_ref().filter(|name| !name.is_empty())
}

fn handler<'a>(pod: &PodInfo, snapshot: &'a Snapshot) -> Option<&'a str> {
    snapshot.runtime_handlers.get(class(pod)?).map(String::as_str)
}

fn has(node: &Node, handler: &str) -> bool {
    let handlers = node.status.as_ref().and_then(|s| s.runtime_handlers.as_ref()).filter(|h| !h.is_empty());
    match handlers {
        Some(handlers) => handlers.iter().any(|h| h.name.as_deref() == Some(handler)),
        None if handler == WASM_HANDLER => runs_wasm(node),
        None => true,
    }
}
