//! What a node's own parts tell the agent's loop, in the order in which it was told: results of jobs, and what the engine
//! says.
//!
//! They come by two queues, and of two that have something either may be looked at first. But a launch tells what it has
//! found out about a component (that it answers for itself, say) before the engine starts it: a start that overtook that
//! would be of a container without probes. So whatever the jobs have said by then goes before an event of the engine.

use tokio::sync::mpsc::Receiver;

use super::Event;
use crate::engine::EngineEvent;

pub(super) struct Inbox {
    results: Receiver<Event>,
    engine: Receiver<EngineEvent>,
    /// Has come, and lets what was told before it go first.
    held: Option<EngineEvent>,
}

impl Inbox {
    pub fn new(results: Receiver<Event>, engine: Receiver<EngineEvent>) -> Inbox {
        Inbox { results, engine, held: None }
    }

    /// The next event; `None` when there can be none. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        if self.held.is_none() {
            tokio::select! {
                Some(result) = self.results.recv() => return Some(result),
                Some(event) = self.engine.recv() => self.held = Some(event),
                else => return None,
            }
        }
        self.results.try_recv().ok().or_else(|| self.held.take().map(Event::Engine))
    }

    /// The next event of the engine, whatever jobs say.
    pub async fn engine(&mut self) -> Option<EngineEvent> {
        match self.held.take() {
            Some(event) => Some(event),
            None => self.engine.recv().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::ContainerId;
    use crate::pod::state;

    #[tokio::test]
    async fn what_a_launch_found_out_comes_before_its_start() {
        let (tell, results) = mpsc::channel(4);
        let (engine, events) = mpsc::channel(4);
        let mut inbox = Inbox::new(results, events);
        let (container, attempt) = ("c".to_owned(), 0);
        let id = ContainerId { pod_uid: "u".to_owned(), container: container.clone(), attempt };
        // Which queue is looked at first is a matter of luck.
        for _ in 0..100 {
            let event = state::Event::Answers { container: container.clone(), attempt };
            tell.send(Event::Pod { uid: "u".to_owned(), event }).await.unwrap();
            engine.send(EngineEvent::Started { id: id.clone() }).await.unwrap();
            assert!(matches!(inbox.next().await, Some(Event::Pod { .. })));
            assert!(matches!(inbox.next().await, Some(Event::Engine(EngineEvent::Started { .. }))));
        }
        engine.send(EngineEvent::Started { id }).await.unwrap();
        assert!(inbox.engine().await.is_some());
        drop((tell, engine));
        assert!(inbox.next().await.is_none() && inbox.engine().await.is_none());
    }
}
