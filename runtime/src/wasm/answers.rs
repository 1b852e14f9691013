//! Asks a component about itself: `k8w:pod/probes` (`wit/pod/pod.wit`).

use std::sync::Arc;

use wasmtime::component::InstancePre;

use super::container::Container;
use super::guest::Guest;
use super::outcome::{cut, describe};
use super::slots::Need;
use super::store::{State, new_store};
use crate::engine::{AskError, Question};

/// The interface, at any version that is compatible with ours.
pub const EXPORT: &str = "k8w:pod/probes@0.1.";

/// A component that answers for itself.
pub struct Answers {
    pub pre: InstancePre<State>,
    /// The interface's name with its version.
    pub export: String,
    pub need: Need,
}

impl Answers {
    /// Asks one question of a new instance.
    ///
    /// # Errors
    /// [`AskError`]
    pub async fn ask(&self, container: Arc<Container>, question: Question) -> Result<(), AskError> {
        let (pre, export) = (self.pre.clone(), self.export.clone());
        let store = new_store(pre.engine(), &container, self.need);
        let mut store = store.map_err(|error| AskError::Unanswered(error.to_string()))?;
        let asked = Guest::new(container, async move {
            let instance = pre.instantiate_async(&mut store).await?;
            let missing = || wasmtime::format_err!("{export} has no function {}", question.as_str());
            let interface = instance.get_export_index(&mut store, None, &export).ok_or_else(missing)?;
            let function = instance.get_export_index(&mut store, Some(&interface), question.as_str());
            let function = function.ok_or_else(missing)?;
            let function = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, function)?;
            let (answer,) = function.call_async(&mut store, ()).await?;
            Ok(answer)
        });
        match asked.await {
            Ok(answer) => answer.map_err(|why| AskError::No(cut(why))),
            Err(error) => Err(AskError::No(describe(&error))),
        }
    }
}
