//! What an image may be, and what is said of one that cannot run.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use expect_test::{Expect, expect};
use k8w_runtime::engine::{Engine, EngineError, RunsAs};
use k8w_runtime::host;

use crate::node::{Node, made_of, preview1, probe, probe_p3};

async fn refused(node: &Node, wasm: &[u8], expected: Expect) {
    expected.assert_eq(&node.prepare(wasm).await.unwrap_err().to_string());
}

#[tokio::test]
async fn exports_decide_how_a_component_runs() {
    let node = Node::new();
    assert_eq!(node.prepare(probe()).await.unwrap().runs_as, RunsAs::HttpOrCommand);
    assert_eq!(node.prepare(preview1()).await.unwrap().runs_as, RunsAs::Command);
    assert_eq!(node.prepare(probe_p3()).await.unwrap().runs_as, RunsAs::HttpOrCommand);
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
        expect!["component exports nothing that can run: it exports nothing; wasi:http/incoming-handler@0.2, wasi:http/handler@0.3 or wasi:cli/run is needed"],
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
async fn what_is_larger_than_an_instance_may_be_is_refused_by_name() {
    let node = Node::new();
    refused(&node, &made_of(200, ""), expect!["component exceeds this node's limits of an instance: The component transitively contains 201 core module instances, which exceeds the configured maximum of 128 in the pooling allocator"]).await;
    refused(&node, &made_of(50, "(memory 0) (memory 0) (memory 0) (memory 0)"), expect!["component exceeds this node's limits of an instance: The component transitively contains 200 Wasm linear memories, which exceeds the configured maximum of 32 in the pooling allocator"]).await;
    refused(
        &node,
        &made_of(33, "(table 0 funcref) (table 0 funcref) (table 0 funcref) (table 0 funcref)"),
        expect!["component exceeds this node's limits of an instance: The component transitively contains 132 tables, which exceeds the configured maximum of 128 in the pooling allocator"],
    )
    .await;
    refused(&node, &made_of(1, &"(memory 0)".repeat(5)), expect!["component exceeds this node's limits of an instance: module memory does not fit in pooling allocator requirements: defined memories count of 5 exceeds the per-instance limit of 4"]).await;
    let compiled = || std::fs::read_dir(node.dir.path().join("wasm/compiled")).unwrap().count();
    assert_eq!(compiled(), 4, "their code is kept: none is compiled again");
}

/// One that uses what the component model has for it, and one that just names an interface.
#[tokio::test]
async fn a_node_without_wasi_0_3_says_so() {
    let node = Node::with(|config| config.wasi_p3 = false);
    let off =
        || expect!["component needs WASI 0.3, which is switched off on this node (`--wasi-p3=true` switches it on)"];
    refused(&node, probe_p3(), off()).await;
    let names = r#"(component (import "wasi:random/random@0.3.0" (instance)))"#;
    refused(&node, &wat::parse_str(names).unwrap(), off()).await;
    let server = node.pod("server", probe()).await;
    node.start(server).await;
    assert_eq!(node.get("10.64.0.2:8080", "/count").await, (200, "1".to_owned()), "WASI 0.2 runs as ever");
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
    config.wasi_p3 = true;
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

/// What is offered and what is promised are the same.
#[test]
fn the_worlds_for_components_import_every_host_interface() {
    let mut resolve = wit_parser::Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/pod");
    let (package, _) = resolve.push_dir(folder).unwrap();
    let mut promised = BTreeSet::new();
    for world in ["service", "job", "service-p3", "job-p3"] {
        let world = &resolve.worlds[resolve.select_world(&[package], Some(world)).unwrap()];
        promised.extend(world.imports.keys().map(|key| resolve.name_world_key(key)));
    }
    let offered = host::all().iter().map(|interface| format!("{}@{}", interface.name, interface.version));
    assert_eq!(promised, offered.collect());
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
