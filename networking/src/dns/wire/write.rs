//! Writing answers, and questions to other servers.

use std::collections::HashMap;
use std::net::IpAddr;

use super::read::Refused;
use super::{
    CLASS_IN, Code, Data, HEADER_BYTES, IS_RESPONSE, Kind, MAX_LABEL_BYTES, Question, RECURSION_DESIRED, Record,
    TRUNCATED,
};

const AUTHORITATIVE: u16 = 1 << 10;
const RECURSION_AVAILABLE: u16 = 1 << 7;
/// The largest datagram that is asked for and sent, so that none is cut on its way (DNS flag day 2020).
pub const MAX_DATAGRAM_BYTES: u16 = 1_232;
/// Bytes of the record that speaks of EDNS, at the end of a message.
const EDNS_BYTES: usize = 11;
/// Places of a message beyond this cannot be referred to.
const MAX_REFERENCE: usize = 0x3fff;

/// An answer to one question.
#[derive(Clone, Debug)]
pub struct Reply {
    pub code: Code,
    /// Whether the name is the cluster's own.
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Reply {
    /// One without records.
    pub fn of(code: Code) -> Self {
        let [answers, authorities, additionals] = [const { Vec::new() }; 3];
        Self { code, authoritative: true, answers, authorities, additionals }
    }

    /// The message, of at most `max_bytes`: records that do not fit are left out, and it says so. `None` when a name is none.
    pub fn write(&self, question: &Question, max_bytes: usize) -> Option<Vec<u8>> {
        let mut flags = IS_RESPONSE | RECURSION_AVAILABLE | ((self.code as u16) & 0xf);
        flags |= if self.authoritative { AUTHORITATIVE } else { 0 };
        flags |= if question.recursion { RECURSION_DESIRED } else { 0 };
        let mut writer = Writer::new(question.id);
        writer.bytes.extend(&question.bytes);
        writer.know(HEADER_BYTES, &question.name.to_ascii_lowercase());
        let room = max_bytes.saturating_sub(if question.payload_bytes.is_some() { EDNS_BYTES } else { 0 });
        let mut counts = [1_u16, 0, 0, 0];
        'all: for (count, records) in counts[1..].iter_mut().zip([&self.answers, &self.authorities, &self.additionals])
        {
            for record in records {
                let before = writer.bytes.len();
                writer.record(record)?;
                if writer.bytes.len() > room || *count == u16::MAX {
                    writer.bytes.truncate(before);
                    flags |= TRUNCATED;
                    break 'all;
                }
                *count += 1;
            }
        }
        if question.payload_bytes.is_some() {
            writer.edns(0);
            counts[3] += 1;
        }
        Some(writer.finish(flags, counts))
    }
}

impl Refused {
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(self.id);
        let mut counts = [0; 4];
        if self.code == Code::BadVers {
            writer.edns(((self.code as u32) >> 4) << 24);
            counts[3] = 1;
        }
        writer.finish(IS_RESPONSE | self.flags | ((self.code as u16) & 0xf), counts)
    }
}

/// A question to another server. `None` when the name is none.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut writer = Writer::new(id);
    writer.name(name, false)?;
    writer.u16(kind.0);
    writer.u16(CLASS_IN);
    writer.edns(0);
    Some(writer.finish(RECURSION_DESIRED, [1, 0, 0, 1]))
}

struct Writer {
    bytes: Vec<u8>,
    /// Where names, and what ends them, have been written already.
    known: HashMap<String, u16>,
}

impl Writer {
    fn new(id: u16) -> Self {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes, known: HashMap::new() }
    }

    fn finish(mut self, flags: u16, counts: [u16; 4]) -> Vec<u8> {
        for (place, value) in self.bytes[2..HEADER_BYTES].chunks_mut(2).zip([flags].into_iter().chain(counts)) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        self.bytes
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_be_bytes());
    }

    /// Remembers a name that was written at a place, with all that it ends in.
    fn know(&mut self, mut at: usize, mut name: &str) {
        while !name.is_empty() && at <= MAX_REFERENCE {
            self.known.entry(name.to_owned()).or_insert(at as u16);
            let (label, rest) = name.split_once('.').unwrap_or((name, ""));
            at += 1 + label.len();
            name = rest;
        }
    }

    /// A name; what has been written already is referred to if `short`.
    fn name(&mut self, name: &str, short: bool) -> Option<()> {
        let (start, mut rest) = (self.bytes.len(), name);
        while !rest.is_empty() {
            if let Some(place) = self.known.get(rest).filter(|_| short) {
                let place = *place;
                self.u16(0xc000 | place);
                self.know(start, name);
                return Some(());
            }
            let (label, after) = rest.split_once('.').unwrap_or((rest, ""));
            let length =
                u8::try_from(label.len()).ok().filter(|length| (1..=MAX_LABEL_BYTES).contains(&(*length).into()))?;
            self.bytes.push(length);
            self.bytes.extend(label.as_bytes());
            rest = after;
        }
        self.bytes.push(0);
        self.know(start, name);
        Some(())
    }

    fn record(&mut self, record: &Record) -> Option<()> {
        self.name(&record.name, true)?;
        self.u16(record.data.kind().0);
        self.u16(CLASS_IN);
        self.u32(record.ttl);
        let length_at = self.bytes.len();
        self.u16(0);
        match &record.data {
            Data::Address(IpAddr::V4(address)) => self.bytes.extend(address.octets()),
            Data::Address(IpAddr::V6(address)) => self.bytes.extend(address.octets()),
            Data::Alias(target) | Data::Pointer(target) => self.name(target, true)?,
            Data::Service { weight, port, target } => {
                // All have the same priority.
                [0, *weight, *port].into_iter().for_each(|value| self.u16(value));
                // Never shortened (RFC 2782).
                self.name(target, false)?;
            }
            Data::Text(text) => {
                self.bytes.push(u8::try_from(text.len()).ok()?);
                self.bytes.extend(text.as_bytes());
            }
            Data::Authority { server, contact, negative_ttl } => {
                self.name(server, true)?;
                self.name(contact, true)?;
                // Nobody copies the domain from here, so that these four mean nothing.
                [1, 7_200, 1_800, 86_400, *negative_ttl].into_iter().for_each(|value| self.u32(value));
            }
        }
        let length = u16::try_from(self.bytes.len() - length_at - 2).ok()?;
        self.bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// The record that speaks of EDNS (RFC 6891); `extended`: what does not fit into the header.
    fn edns(&mut self, extended: u32) {
        self.bytes.push(0);
        self.u16(Kind::OPT.0);
        self.u16(MAX_DATAGRAM_BYTES);
        self.u32(extended);
        self.u16(0);
    }
}
