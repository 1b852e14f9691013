//! A pod goes only where its runtime class's handler is: a wasm pod to nodes that run wasm.

use super::{Check, Filter, Refusal, is_node_change};
use crate::scheduler::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::world::{Delta, Object};

/// The handler that runs WebAssembly. A node that doesn't report its handlers can't be taken to have it.
const WASM_HANDLER: &str = "wasmtime";
const WASM_LABEL: &str = "k8w.dev/runtime-wasmtime";

pub struct RuntimeHandler;

impl Filter for RuntimeHandler {
    fn begin<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Check<'a>> {
        let class = pod.pod.spec.as_ref()?.runtime_class_name.as_ref().filter(|name| !name.is_empty())?;
        let handler = snapshot.runtime_handlers.get(class).map(String::as_str);
        Some(Box::new(move |node| match handler {
            None => Err(Refusal::for_good("node(s) didn't know the Pod's runtime class")),
            Some(handler) if has(node, handler) => Ok(()),
            Some(_) => Err(Refusal::for_good("node(s) didn't have the handler of the Pod's runtime class")),
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta) || matches!(delta.object, Object::RuntimeClass(_))
    }
}

fn has(node: &NodeInfo, handler: &str) -> bool {
    let handlers = node.node.status.as_ref().and_then(|s| s.runtime_handlers.as_ref()).filter(|h| !h.is_empty());
    match handlers {
        Some(handlers) => handlers.iter().any(|h| h.name.as_deref() == Some(handler)),
        None if handler == WASM_HANDLER => {
            node.node.metadata.labels.as_ref().and_then(|l| l.get(WASM_LABEL)).is_some_and(|v| v == "true")
        }
        None => true,
    }
}
