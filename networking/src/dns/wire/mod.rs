//! Messages of DNS, as far as cluster DNS speaks it: questions, and answers of few kinds (RFC 1035, RFC 2782, RFC 3596,
//! RFC 6891). Pure: bytes in, bytes out, and nothing panics on them.

mod read;
mod write;

use std::net::IpAddr;

pub use read::{Outcome, Refused, records};
pub use write::{MAX_DATAGRAM_BYTES, Reply, question};

/// Largest message (RFC 1035 §4.2.2).
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// Longest name, with the lengths of its labels (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 255;
/// Longest label of a name.
const MAX_LABEL_BYTES: usize = 63;
/// Bytes before the first question.
const HEADER_BYTES: usize = 12;
/// Fewest bytes of a record: a name that is referred to, kind, class, time and the length of its data (RFC 1035 §4.1.3).
pub const MIN_RECORD_BYTES: usize = 12;
/// Class of the internet.
const CLASS_IN: u16 = 1;
/// Flags of a message (RFC 1035 §4.1.1): QR, TC and RD.
const IS_RESPONSE: u16 = 1 << 15;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;

/// What a record is, and a question asks for (a TYPE or QTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub u16);

impl Kind {
    pub const A: Self = Self(1);
    pub const CNAME: Self = Self(5);
    pub const SOA: Self = Self(6);
    pub const PTR: Self = Self(12);
    pub const TXT: Self = Self(16);
    pub const AAAA: Self = Self(28);
    pub const SRV: Self = Self(33);
    const OPT: Self = Self(41);
}

/// How a question was answered (RCODE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    /// A version of EDNS that nobody knows yet.
    BadVers = 16,
}

/// A question, alone in its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u16,
    /// Whether other servers are to be asked, too.
    pub recursion: bool,
    /// Without a dot at its end, as it was written. What no name has, such as a dot within a label, is shown as `?`.
    pub name: String,
    pub kind: Kind,
    /// Largest datagram that may be answered with; `None` without EDNS.
    pub payload_bytes: Option<u16>,
    /// The question as it was written.
    bytes: Vec<u8>,
}

/// One record. Names are complete and have no dot at their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    Alias(String),
    Pointer(String),
    Service {
        weight: u16,
        port: u16,
        target: String,
    },
    Text(&'static str),
    /// How long it may be remembered that something does not exist, in seconds (RFC 2308), for a whole domain.
    Authority {
        server: String,
        contact: String,
        negative_ttl: u32,
    },
}

impl Data {
    fn kind(&self) -> Kind {
        match self {
            Self::Address(IpAddr::V4(_)) => Kind::A,
            Self::Address(IpAddr::V6(_)) => Kind::AAAA,
            Self::Alias(_) => Kind::CNAME,
            Self::Pointer(_) => Kind::PTR,
            Self::Service { .. } => Kind::SRV,
            Self::Text(_) => Kind::TXT,
            Self::Authority { .. } => Kind::SOA,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = String> {
        "[a-z0-9_-]{1,20}(\\.[a-z0-9-]{1,20}){0,5}"
    }

    fn records_of() -> impl Strategy<Value = Record> {
        let data = prop_oneof![
            any::<[u8; 4]>().prop_map(|address| Data::Address(address.into())),
            any::<[u8; 16]>().prop_map(|address| Data::Address(address.into())),
            names().prop_map(Data::Alias),
        ];
        (names(), any::<u32>(), data).prop_map(|(name, ttl, data)| Record { name, ttl, data })
    }

    fn asked(name: &str, kind: Kind) -> Question {
        Question::read(&question(7, name, kind).unwrap()).unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(name in names(), answers in prop::collection::vec(records_of(), 0..20)) {
            let question = asked(&name, Kind::A);
            prop_assert_eq!((&question.name, question.kind, question.recursion), (&name, Kind::A, true));
            prop_assert_eq!(question.payload_bytes, Some(MAX_DATAGRAM_BYTES));
            let reply = Reply { answers: answers.clone(), ..Reply::of(Code::NoError) };
            let whole = reply.write(&question, MAX_MESSAGE_BYTES).unwrap();
            prop_assert_eq!(records(&whole).unwrap(), answers.clone());
            // What does not fit is left out record by record, and said to be missing.
            for room in [512, whole.len() - 1, whole.len()] {
                let part = reply.write(&question, room).unwrap();
                prop_assert!(part.len() <= room.max(HEADER_BYTES + MAX_NAME_BYTES));
                let read = records(&part).unwrap();
                prop_assert!(answers.starts_with(&read));
                prop_assert_eq!(part[2] & 2 != 0, read.len() < answers.len());
            }
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Question::read(&bytes);
            let _ = records(&bytes);
        }
    }

    #[test]
    fn what_is_no_question_is_refused_in_the_protocols_words() {
        let whole = question(7, "web.default.svc.cluster.local", Kind::A).unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            Question::read(&bytes).map(|read| read.map_err(|refused| refused.code))
        };
        assert_eq!(with(2, 0x80), None, "an answer");
        assert_eq!(with(2, 0x28), Some(Err(Code::NotImp)), "an update");
        assert_eq!(with(5, 2), Some(Err(Code::FormErr)), "two questions, of which one is there");
        assert_eq!(with(12, 0x41), Some(Err(Code::FormErr)), "a label of no kind");
        assert_eq!(with(12, 0xc0), Some(Err(Code::FormErr)), "a name that goes on in itself");
        assert_eq!(with(whole.len() - 5, 1), Some(Err(Code::BadVers)), "EDNS of a later version");
        assert_eq!(Question::read(&whole[..20]).map(|read| read.is_err()), Some(true));
        assert_eq!(Question::read(&whole[..5]), None);
        let refused = Refused { id: 7, flags: 0, code: Code::BadVers }.write();
        assert_eq!(refused.len(), HEADER_BYTES + 11);
    }
}
