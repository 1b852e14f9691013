//! A terminal's sizes, as clients write them.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;

/// How long the end of a command waits for the first size.
const FIRST_SIZE_WAIT: Duration = Duration::from_millis(500);

/// `remotecommand.TerminalSize`, in characters.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    #[serde(default, alias = "width")]
    pub width: u16,
    #[serde(default, alias = "height")]
    pub height: u16,
}

/// A terminal's first size.
///
/// kubectl says it as it begins, and complains when the command that it began has ended already, as the built-in ones have.
#[derive(Default)]
pub struct FirstSize(Notify);

impl FirstSize {
    pub fn came(&self) {
        self.0.notify_one();
    }

    /// Waits until it came, but not for long: there are clients that say none.
    pub async fn wait(&self) {
        let _ = tokio::time::timeout(FIRST_SIZE_WAIT, self.0.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn the_first_size_is_waited_for_but_not_for_ever() {
        let first = FirstSize::default();
        let mut waits = pin!(first.wait());
        assert!(poll!(&mut waits).is_pending());
        first.came();
        assert!(poll!(&mut waits).is_ready());
        first.came();
        assert!(poll!(pin!(first.wait())).is_ready(), "it has come already");
        first.wait().await;
    }
}
