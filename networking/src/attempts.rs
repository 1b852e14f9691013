//! Which endpoints a client has tried in vain: one that was not reached has seen nothing of it, so that another may have it.
//!
//! Endpoints go before the tables know of it. A pod of this node that has stopped is not chosen; that one of another node has
//! is said by its node, when it is asked.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::peers::NotAllowed;

/// Endpoints that one client may try.
const MAX_ATTEMPTS: usize = 8;

/// The endpoints that were not reached.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: Vec<SocketAddr>,
}

impl Attempts {
    /// Whether an endpoint is one of them.
    pub fn contain(&self, endpoint: SocketAddr) -> bool {
        self.failed.contains(&endpoint)
    }

    /// Takes note of an endpoint that was not reached; whether another may be tried.
    pub fn go_on_after(&mut self, endpoint: SocketAddr, error: &(dyn Error + 'static)) -> bool {
        let may_go_on = is_nobody_there(error) && !self.contain(endpoint) && self.failed.len() + 1 < MAX_ATTEMPTS;
        if may_go_on {
            self.failed.push(endpoint);
        }
        may_go_on
    }
}

/// Whether an error says that nobody is there: not that somebody is, who refuses by a policy or is not who he should be, nor
/// that a time is over that a client waits for.
fn is_nobody_there(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let Some(error) = causes.find_map(|cause| cause.downcast_ref::<io::Error>()) else { return false };
    if error.get_ref().is_some_and(|inner| inner.is::<NotAllowed>()) {
        return false;
    }
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 64, 0, last], 80))
    }

    #[test]
    fn another_endpoint_is_tried_where_nobody_is_there() {
        let refused = || io::Error::from(ErrorKind::ConnectionRefused);
        for (error, may_go_on) in [
            (refused(), true),
            (io::Error::new(ErrorKind::ConnectionRefused, "nothing listens on 10.64.0.2:80"), true),
            (io::Error::new(ErrorKind::ConnectionRefused, NotAllowed("a policy".into())), false),
            (ErrorKind::TimedOut.into(), false),
            (ErrorKind::InvalidData.into(), false),
        ] {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.go_on_after(endpoint(2), &error), may_go_on, "{error:?}");
            assert_eq!(attempts.contain(endpoint(2)), may_go_on);
        }
        let wrapped = crate::SendError::Failed { endpoint: endpoint(2), source: refused().into() };
        assert!(Attempts::default().go_on_after(endpoint(2), &wrapped));
    }

    #[test]
    fn attempts_end() {
        let refused = io::Error::from(ErrorKind::ConnectionRefused);
        let mut attempts = Attempts::default();
        assert!(attempts.go_on_after(endpoint(1), &refused));
        assert!(!attempts.go_on_after(endpoint(1), &refused), "the same again");
        let tried = (2..).take_while(|last| attempts.go_on_after(endpoint(*last), &refused)).count();
        assert_eq!(tried + 2, MAX_ATTEMPTS);
    }
}
