//! Runs a component's `wasi:cli/run` to its exit code.

use std::sync::Arc;

use wasmtime_wasi::p2::bindings::CommandPre;

use super::container::Container;
use super::guest::Guest;
use super::outcome::Outcome;
use super::store::{NoSlot, State, new_store};

/// A process that is about to run. Awaiting the second half runs it.
///
/// # Errors
/// [`NoSlot`]: nothing is started.
pub fn start(
    pre: CommandPre<State>,
    container: Arc<Container>,
) -> Result<impl Future<Output = Outcome> + Send + 'static, NoSlot> {
    let mut store = new_store(pre.engine(), &container)?;
    let guest = Guest::new(container.clone(), async move {
        let command = pre.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    });
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
