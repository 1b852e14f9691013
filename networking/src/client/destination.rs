//! Where a request says that it goes, and how the pool knows a connection: both are spelled as URIs. No IO.

use std::net::{Ipv6Addr, SocketAddr};

use http::Uri;
use http::uri::{Authority, Scheme};

use super::{SendError, Tls, Trust};

/// What the URI of a pod's request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Whether it is to be reached by TLS.
    pub secure: bool,
}

impl Destination {
    /// Reads it (RFC 9110, section 4.2): what comes before an `@` is left out, and an empty port is the scheme's.
    ///
    /// # Errors
    /// [`SendError::Scheme`], [`SendError::NoHost`] and [`SendError::NoPort`].
    pub fn of(uri: &Uri) -> Result<Destination, SendError> {
        let (default_port, secure) = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => (80, false),
            Some(scheme) if *scheme == Scheme::HTTPS => (443, true),
            other => return Err(SendError::Scheme(other.map_or("(none)", Scheme::as_str).to_owned())),
        };
        let authority = uri.authority().ok_or(SendError::NoHost)?;
        let host = match authority.host().strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => Some(address).filter(|address| address.parse::<Ipv6Addr>().is_ok()),
            None => Some(authority.host()).filter(|host| !host.is_empty()),
        };
        let host = host.ok_or(SendError::NoHost)?;
        let port = port_of(authority).map_err(|text| SendError::NoPort(text.to_owned()))?;
        Ok(Destination { host: host.to_owned(), port: port.unwrap_or(default_port), secure })
    }
}

/// An authority as requests name it in `Host`, without what comes before an `@` (RFC 9110, section 7.2).
pub(crate) fn host_and_port(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// The port that an authority names, if it does. Errors: what it names instead of one.
pub(crate) fn port_of(authority: &Authority) -> Result<Option<u16>, &str> {
    let rest = host_and_port(authority).strip_prefix(authority.host()).unwrap_or_default();
    if matches!(rest, "" | ":") {
        return Ok(None);
    }
    let text = rest.strip_prefix(':').ok_or(rest)?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).map(Some).ok_or(text)
}

/// What tells the pool's connections apart: one that was made for a client that believes anybody is no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooled<'a> {
    /// Of the endpoint, which is decided on already.
    pub address: SocketAddr,
    pub tls: Option<Tls<'a>>,
}

impl<'a> Pooled<'a> {
    /// Spells it before the path of `uri`, which the pool sends alone. `None` when the name is none that a URI can hold.
    pub fn to_uri(self, uri: &Uri) -> Option<Uri> {
        let (scheme, authority) = match self.tls {
            Some(Tls { name, trust }) => (Scheme::HTTPS, format!("{}+{name}@{}", trust.as_str(), self.address)),
            None => (Scheme::HTTP, self.address.to_string()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority: Authority = authority.parse().ok()?;
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }

    /// Reads it again.
    pub fn from_uri(uri: &'a Uri) -> Option<Pooled<'a>> {
        let authority = uri.authority()?.as_str();
        let Some((tls, address)) = authority.rsplit_once('@') else {
            return Some(Pooled { address: authority.parse().ok()?, tls: None });
        };
        let (word, name) = tls.split_once('+')?;
        let trust = Trust::ALL.into_iter().find(|trust| trust.as_str() == word)?;
        Some(Pooled { address: address.parse().ok()?, tls: Some(Tls { name, trust }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<(String, u16, bool), String> {
        let read = Destination::of(&uri.parse().unwrap());
        read.map(|to| (to.host, to.port, to.secure)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_uri_says_where_its_request_goes() {
        let to = |host: &str, port, secure| Ok((host.to_owned(), port, secure));
        assert_eq!(read("http://web/"), to("web", 80, false));
        assert_eq!(read("https://web"), to("web", 443, true));
        assert_eq!(read("http://user:word@web:8080/path"), to("web", 8080, false));
        assert_eq!(read("https://[2001:db8::1]:8443/"), to("2001:db8::1", 8443, true));
        assert_eq!(read("http://[::1]"), to("::1", 80, false));
        assert_eq!(read("http://web:/"), to("web", 80, false));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for (uri, error) in [
            ("http://web:99999/", "99999 is not a port"),
            ("http://web:x/", "x is not a port"),
            ("http://web:+80/", "+80 is not a port"),
            // Found by the fuzz target `http`.
            ("http://[::1]80/", "80 is not a port"),
            ("http://:80/", "the request's URI names no host"),
            ("http://[web]/", "the request's URI names no host"),
            ("/path", "scheme (none) is not supported"),
            ("ftp://web/", "scheme ftp is not supported"),
        ] {
            assert_eq!(read(uri), Err(error.to_owned()), "{uri}");
        }
    }

    #[test]
    fn the_pool_knows_connections_by_address_and_name() {
        let uri: Uri = "https://user@web/path?query".parse().unwrap();
        let address = "[2001:db8::1]:443".parse().unwrap();
        let tls = |name, trust| Some(Tls { name, trust });
        for (tls, spelled) in [
            (None, "http://[2001:db8::1]:443/path?query"),
            (tls("web", Trust::Machine), "https://machine+web@[2001:db8::1]:443/path?query"),
            (tls("a+b", Trust::Cluster), "https://cluster+a+b@[2001:db8::1]:443/path?query"),
            (tls("2001:db8::1", Trust::Anybody), "https://anybody+2001:db8::1@[2001:db8::1]:443/path?query"),
        ] {
            let pooled = Pooled { address, tls };
            let spelt = pooled.to_uri(&uri).unwrap();
            assert_eq!(spelt, *spelled);
            assert_eq!(Pooled::from_uri(&spelt), Some(pooled));
        }
        assert_eq!(Pooled { address, tls: tls("a b", Trust::Machine) }.to_uri(&uri), None);
    }
}
