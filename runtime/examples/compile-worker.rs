//! The compile worker as a program of its own, for tests of the engine; `k8w compile-worker` is the real one.

fn main() -> std::process::ExitCode {
    k8w_runtime::wasm::compile::worker_main()
}
