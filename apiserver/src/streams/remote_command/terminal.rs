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
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_first_size_is_waited_for_but_not_for_ever() {
        let (first, start) = (FirstSize::default(), Instant::now());
        tokio::join!(first.wait(), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            first.came();
        });
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        first.wait().await;
        assert_eq!(start.elapsed(), Duration::from_millis(20) + FIRST_SIZE_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_size_that_has_come_is_not_waited_for() {
        let (first, start) = (FirstSize::default(), Instant::now());
        first.came();
        first.wait().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
