//! What an image may be, and what is said of one that cannot run.

use std::collections::HashSet;
use std::time::Duration;

use expect_test::{Expect, expect};
use k8w_runtime::engine::{Engine, EngineError, RunsAs};
use k8w_runtime::host;
use wasmtime::component::Component;

use crate::node::{Node, preview1, probe};

async fn refused(node: &Node, wasm: &[u8], expected: Expect) {
    expected.assert_eq(&node.prepare(wasm).await.unwrap_err().to_string());
}

#[tokio::test]
async fn exports_decide_how_a_component_runs() {
    let node = Node::new();
    assert_eq!(node.prepare(probe()).await.unwrap().runs_as, RunsAs::HttpOrCommand);
    assert_eq!(node.prepare(preview1()).await.unwrap().runs_as, RunsAs::Command);
}

#[tokio::test]
async fn what_cannot_run_is_refused_in_one_sentence() {
    let node = Node::new();
    refused(&node, b"", expect!["image is not a valid WebAssembly component or module: the file is empty"]).await;
    refused(
        &node,
        b"#!/bin/sh\n",
        expect!["image is not a valid WebAssembly component or module: the file does not start with the WebAssembly magic number"],
    )
    .await;
    refused(
        &node,
        &probe()[..probe().len() / 2],
        expect!["image is not a valid WebAssembly component or module: the module is cut short or malformed"],
    )
    .await;
    let component = k8w_runtime::wasm::adapt::componentize(probe()).unwrap();
    let cut = node.prepare(&component[..component.len() / 2]).await.unwrap_err();
    assert!(matches!(&cut, EngineError::InvalidModule(why) if why.contains("out of bounds")), "{cut}");
    refused(
        &node,
        &wat::parse_str("(module (func (export \"add\")))").unwrap(),
        expect!["image is not a valid WebAssembly component or module: the module has no `_start` function and carries no component type, so there is nothing to run"],
    )
    .await;
    refused(
        &node,
        &wat::parse_str("(component)").unwrap(),
        expect!["component exports nothing that can run: it exports nothing; wasi:http/incoming-handler@0.2 or wasi:cli/run@0.2 is needed"],
    )
    .await;
    refused(
        &node,
        &wat::parse_str("(component (import \"foo:bar/baz\" (instance)))").unwrap(),
        expect![[r#"component imports "foo:bar/baz", which this node does not provide"#]],
    )
    .await;
    refused(
        &node,
        &wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\") i32.const 1))").unwrap(),
        expect!["image is not a valid WebAssembly component or module: Invalid input WebAssembly code at offset 426: type mismatch: values remaining on stack at end of block"],
    )
    .await;
}

#[tokio::test]
async fn compiling_is_bounded() {
    let node = Node::with(|config| config.compile.memory_bytes = 16 << 20);
    refused(
        &node,
        probe(),
        expect!["compiling the component exceeded this node's limits: more than 16777216 bytes of memory"],
    )
    .await;
    let node = Node::with(|config| config.compile.input_bytes = 100);
    refused(
        &node,
        probe(),
        expect!["compiling the component exceeded this node's limits: more than 100 bytes of input"],
    )
    .await;
    let node = Node::with(|config| config.compile.time = std::time::Duration::ZERO);
    assert!(matches!(node.prepare(probe()).await, Err(EngineError::CompileLimit(_))));
    let left = std::fs::read_dir(node.dir.path().join("wasm/compiled")).unwrap().count();
    assert_eq!(left, 0, "a failed compilation leaves nothing behind");
}

#[tokio::test]
async fn an_image_is_compiled_once_and_again_when_its_file_is_spoilt() {
    let node = Node::new();
    let (first, second) = tokio::join!(node.prepare(preview1()), node.prepare(preview1()));
    assert_eq!(first.unwrap(), second.unwrap());
    let dir = node.dir.path().join("wasm/compiled");
    let files = || std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let compiled = files();
    assert_eq!(compiled.len(), 1);

    // The same directory, as a node finds it that starts again.
    let mut config = k8w_runtime::wasm::WasmConfig::new(node.dir.path().join("wasm"));
    config.pool.instances = 16;
    config.worker = "/nonexistent".into();
    let again = || {
        let (events, _) = tokio::sync::mpsc::channel(1);
        k8w_runtime::wasm::WasmEngine::new(config.clone(), node.network.clone(), events).unwrap()
    };
    let prepared = node.prepare(preview1()).await.unwrap();
    let artifact = k8w_runtime::engine::Artifact {
        path: node.dir.path().join(prepared.digest.replace(':', "-")),
        digest: prepared.digest,
    };
    again().prepare(&artifact, "default").await.expect("nothing is compiled");

    let spoilt = std::fs::read(&compiled[0]).unwrap();
    std::fs::remove_file(&compiled[0]).unwrap();
    std::fs::write(&compiled[0], &spoilt[..100]).unwrap();
    assert!(again().prepare(&artifact, "default").await.is_err(), "the worker is asked for");
}

/// A row of the table without a guest that uses it would be untested: the two guests together import every one.
#[test]
fn every_host_interface_has_a_guest() {
    let engine = wasmtime::Engine::default();
    let mut imported = Vec::new();
    for guest in [probe(), preview1()] {
        let component = k8w_runtime::wasm::adapt::componentize(guest).unwrap();
        let component = Component::new(&engine, component).unwrap();
        imported.extend(component.component_type().imports(&engine).map(|(name, _)| name.to_owned()));
    }
    for interface in host::all() {
        let prefix = format!("{}@", interface.name);
        assert!(imported.iter().any(|name| name.starts_with(&prefix)), "no guest imports {}", interface.name);
    }
}

#[tokio::test]
async fn machine_code_goes_with_its_image_but_not_under_a_container() {
    let node = Node::new();
    let compiled = || std::fs::read_dir(node.dir.path().join("wasm/compiled")).unwrap().count();
    let (stopped, running) = (node.pod("stopped", preview1()).await, node.pod("running", probe()).await);
    let digests = HashSet::from([stopped.digest.clone()]);
    let id = node.start(running).await;
    assert_eq!(compiled(), 2);
    node.engine.keep_prepared(&digests).await;
    assert_eq!(compiled(), 2, "one is an image's, the other runs");
    node.engine.stop(&id, Duration::ZERO).await;
    node.exit(&id).await;
    node.engine.keep_prepared(&digests).await;
    assert_eq!(compiled(), 1);
    assert_eq!(node.run(stopped, &["exit", "0"]).await.0, 0, "the other is still there");
}
