//! `wasi:logging`: messages become lines of the container's standard error.

use bindings::wasi::logging::logging as wit;
use wasmtime::component::{HasSelf, Linker};

use crate::wasm::store::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "k8w:host/logging",
        imports: {
            "wasi:logging/logging.log": async | tracing | trappable,
            default: tracing | trappable,
        },
    });
}

pub fn logging(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl wit::Host for State {
    async fn log(&mut self, level: wit::Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::Level::Trace => "TRACE",
            wit::Level::Debug => "DEBUG",
            wit::Level::Info => "INFO",
            wit::Level::Warn => "WARN",
            wit::Level::Error => "ERROR",
            wit::Level::Critical => "CRITICAL",
        };
        let line =
            if context.is_empty() { format!("{level} {message}") } else { format!("{level} {context}: {message}") };
        self.container.stdio.room().await;
        self.container.stdio.complain(&line);
        Ok(())
    }
}
