//! Runs a component's `wasi:cli/run` to its exit code.

use std::sync::Arc;

use super::components::CommandPre;
use super::container::Container;
use super::guest::Guest;
use super::outcome::Outcome;
use super::slots::{Need, NoSlot};
use super::store::{State, new_store};

/// A process that is about to run. Awaiting the second half runs it.
///
/// # Errors
/// [`NoSlot`]: nothing is started.
pub fn start(
    pre: CommandPre,
    need: Need,
    container: Arc<Container>,
) -> Result<impl Future<Output = Outcome> + Send + 'static, NoSlot> {
    let store = new_store(pre.engine(), &container, need)?;
    let guest = Guest::new(container.clone(), run(pre, store)).process();
    Ok(async move {
        let outcome = match guest.await {
            Ok(result) => Outcome::exited(i32::from(result.is_err())),
            Err(error) => Outcome::of(&error),
        };
        if !outcome.message.is_empty() {
            container.stdio.complain(&outcome.message);
        }
        outcome
    })
}

async fn run(pre: CommandPre, mut store: wasmtime::Store<State>) -> wasmtime::Result<Result<(), ()>> {
    match pre {
        CommandPre::P2(pre) => {
            let command = pre.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
        CommandPre::P3(pre, indices) => {
            let instance = pre.instantiate_async(&mut store).await?;
            let command = indices.load(&mut store, &instance)?;
            let run = async |accessor: &wasmtime::component::Accessor<State>| {
                let result = command.wasi_cli_run().call_run(accessor).await?;
                // Its tasks may have something left to do, such as to write what it printed.
                std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                Ok(result)
            };
            store.run_concurrent(run).await?
        }
    }
}
