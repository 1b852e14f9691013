//! Why somebody could not be reached, in the words of Go's `net` and `net/http`, by which users of a kubelet know it.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use k8w_networking::{Refused, SendError};

/// Why an address could not be dialled.
pub(super) fn dial(address: impl Display, error: &io::Error) -> String {
    let why = dialling(error).map_or_else(|| error.to_string(), str::to_owned);
    format!("dial tcp {address}: {why}")
}

/// Why a name is no address.
pub(super) fn lookup(host: &str) -> String {
    format!("dial tcp: lookup {host}: no such host")
}

/// Why a request to `host`, which is a name or an address with its port, got no answer.
pub(super) fn request(host: &str, error: &SendError) -> String {
    match error {
        SendError::NoSuchName(name) => lookup(name),
        SendError::Refused(Refused::NothingListens(address)) => dial(address, &ErrorKind::ConnectionRefused.into()),
        SendError::Refused(_) => dial(host, &ErrorKind::ConnectionRefused.into()),
        SendError::Failed { endpoint, source } => broken(*endpoint, &**source),
        other => with_causes(other),
    }
}

/// What a failed call of the kernel's is called that came before there was a connection.
fn dialling(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused",
        ErrorKind::HostUnreachable => "connect: no route to host",
        ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        ErrorKind::AddrNotAvailable => "connect: cannot assign requested address",
        ErrorKind::PermissionDenied => "connect: permission denied",
        ErrorKind::TimedOut if error.raw_os_error().is_some() => "connect: connection timed out",
        ErrorKind::TimedOut => "i/o timeout",
        _ => return None,
    })
}

/// What became of a connection, or of the way to one.
fn broken(endpoint: SocketAddr, error: &(dyn Error + 'static)) -> String {
    let chain = || std::iter::successors(Some(error), |&error| error.source());
    if let Some(error) = chain().find_map(|error| error.downcast_ref::<io::Error>()) {
        return match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                format!("read tcp {endpoint}: read: connection reset by peer")
            }
            ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ if dialling(error).is_some() => dial(endpoint, error),
            _ => error.to_string(),
        };
    }
    match chain().find_map(|error| error.downcast_ref::<hyper::Error>()) {
        Some(error) if error.is_parse() => {
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response".to_owned()
        }
        Some(error) if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => "EOF".to_owned(),
        _ => with_causes(error),
    }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kept_from_dialling_is_said_as_go_says_it() {
        let of = |code: i32| dial("10.1.2.3:80", &io::Error::from_raw_os_error(code));
        for (code, why) in [
            (nix::libc::ECONNREFUSED, "connect: connection refused"),
            (nix::libc::EHOSTUNREACH, "connect: no route to host"),
            (nix::libc::ENETUNREACH, "connect: network is unreachable"),
            (nix::libc::ETIMEDOUT, "connect: connection timed out"),
        ] {
            assert_eq!(of(code), format!("dial tcp 10.1.2.3:80: {why}"));
        }
        assert_eq!(dial("[::1]:80", &ErrorKind::TimedOut.into()), "dial tcp [::1]:80: i/o timeout");
    }

    #[test]
    fn a_connection_that_breaks_is_told_from_one_that_was_not_made() {
        let endpoint: SocketAddr = "10.1.2.3:80".parse().unwrap();
        let failed = |kind: ErrorKind| {
            let error = SendError::Failed { endpoint, source: io::Error::from(kind).into() };
            request("db:80", &error)
        };
        assert_eq!(failed(ErrorKind::ConnectionReset), "read tcp 10.1.2.3:80: read: connection reset by peer");
        assert_eq!(failed(ErrorKind::UnexpectedEof), "EOF");
        assert_eq!(failed(ErrorKind::HostUnreachable), "dial tcp 10.1.2.3:80: connect: no route to host");
        let refused = SendError::Refused(Refused::NoEndpoints { service: "ns/db".to_owned() });
        assert_eq!(request("db:80", &refused), "dial tcp db:80: connect: connection refused");
        assert_eq!(request("db:80", &SendError::NoSuchName("db".to_owned())), "dial tcp: lookup db: no such host");
    }
}
