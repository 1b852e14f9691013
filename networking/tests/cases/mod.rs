//! What the network is asked, generated from the fields of the API, and what it should answer. Pods ask it directly in the tests of
//! this crate, and by the functions of guests in those of the runtime, which include this folder, too.

#[allow(dead_code, reason = "each of the crates reads what it needs")]
pub mod policies;
pub mod services;

use std::net::IpAddr;

/// How one end talks to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Tcp,
    /// A component's server, which is called in process.
    Http,
    Udp,
}

impl Way {
    pub fn protocol(self) -> &'static str {
        if self == Self::Udp { "UDP" } else { "TCP" }
    }
}

/// The word of what a pod's server has said to a client, as whom it knows it by TCP and UDP; others say nothing of their client.
pub fn without_client(text: &str, client: IpAddr) -> String {
    let Some((word, known)) = text.split_once(" to ") else { return text.to_owned() };
    assert_eq!(known, client.to_string(), "{word} knows its client");
    word.to_owned()
}
