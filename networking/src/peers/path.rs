//! What a stream between nodes carries, and to where, as the path of its request says it.

use std::net::SocketAddr;

/// Where all such paths begin.
pub const PATH: &str = "/podStream/";
/// What comes next for datagrams, before the client's port.
const UDP: &str = "udp/";

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// A connection.
    Bytes,
    /// Datagrams of one client, which sends from this port.
    Datagrams { from: u16 },
}

impl Carries {
    /// The path of a request for a stream to a pod's port.
    pub(super) fn path(self, to: SocketAddr) -> String {
        match self {
            Self::Bytes => format!("{PATH}{to}"),
            Self::Datagrams { from } => format!("{PATH}{UDP}{from}/{to}"),
        }
    }

    pub(super) fn parse(path: &str) -> Option<(Self, SocketAddr)> {
        let rest = path.strip_prefix(PATH)?;
        let Some(rest) = rest.strip_prefix(UDP) else { return Some((Self::Bytes, rest.parse().ok()?)) };
        let (from, to) = rest.split_once('/')?;
        Some((Self::Datagrams { from: from.parse().ok()? }, to.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_and_read() {
        for to in ["10.64.64.2:53", "[2001:db8::1]:53"] {
            let to = to.parse().unwrap();
            for carries in [Carries::Bytes, Carries::Datagrams { from: 40_000 }] {
                assert_eq!(Carries::parse(&carries.path(to)), Some((carries, to)));
            }
        }
        for wrong in
            ["/", "/podStream/", "/podStream/10.64.64.2", "/podStream/udp/10.64.64.2:53", "/podStream/udp/x/[::1]:5"]
        {
            assert_eq!(Carries::parse(wrong), None, "{wrong}");
        }
    }
}
