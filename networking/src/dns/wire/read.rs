//! Reading what clients ask, and what other servers answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    CLASS_IN, Code, Data, HEADER_BYTES, IS_RESPONSE, Kind, MAX_NAME_BYTES, Question, RECURSION_DESIRED, Record,
    TRUNCATED,
};

const OP_CODE: u16 = 0xf << 11;

/// A message that is answered without being a question that can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub id: u16,
    /// The flags that an answer repeats.
    pub(super) flags: u16,
    pub code: Code,
}

impl Question {
    /// Reads a message; `None` for one that is not to be answered at all: it is an answer itself, or too short.
    pub fn read(bytes: &[u8]) -> Option<Result<Self, Refused>> {
        let mut reader = Reader { bytes, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        if flags & IS_RESPONSE != 0 {
            return None;
        }
        let refuse = |code| Some(Err(Refused { id, flags: flags & (OP_CODE | RECURSION_DESIRED), code }));
        if flags & OP_CODE != 0 {
            return refuse(Code::NotImp);
        }
        let [1, answers, authorities, additionals] = counts else { return refuse(Code::FormErr) };
        let Some((name, kind, class)) = reader.question() else { return refuse(Code::FormErr) };
        let asked = &bytes[HEADER_BYTES..reader.at];
        let mut payload_bytes = None;
        for _ in 0..u32::from(answers) + u32::from(authorities) + u32::from(additionals) {
            let Some(record) = reader.record() else { return refuse(Code::FormErr) };
            if record.kind == Kind::OPT {
                if record.ttl & 0x00ff_0000 != 0 {
                    return refuse(Code::BadVers);
                }
                payload_bytes = Some(record.class);
            }
        }
        if class != CLASS_IN {
            return refuse(Code::Refused);
        }
        let recursion = flags & RECURSION_DESIRED != 0;
        Some(Ok(Self { id, recursion, name, kind, payload_bytes, bytes: asked.to_vec() }))
    }
}

/// The addresses and aliases that another server answered with; `None` for what is no answer.
pub fn records(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut reader = Reader { bytes, at: 0 };
    let (_, flags) = (reader.u16()?, reader.u16()?);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    let _ = (reader.u16()?, reader.u16()?);
    if flags & IS_RESPONSE == 0 {
        return None;
    }
    for _ in 0..questions {
        reader.question()?;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        let Raw { name, kind, class, ttl, start, data } = reader.record()?;
        if class != CLASS_IN {
            continue;
        }
        let data = match kind {
            Kind::A => Data::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?))),
            Kind::AAAA => Data::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?))),
            Kind::CNAME => Data::Alias(Reader { bytes, at: start }.name()?),
            _ => continue,
        };
        records.push(Record { name, ttl, data });
    }
    Some(records)
}

/// How another server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A [`Code`], or another number.
    pub code: u16,
    /// The message holds a part of the answer only.
    pub truncated: bool,
}

impl Outcome {
    /// Reads what answers this question, as [`question`](super::question) wrote it; `None` for what does not.
    pub fn read(answer: &[u8], question: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes: question, at: HEADER_BYTES };
        reader.question()?;
        let (asked, told) = (question.get(HEADER_BYTES..reader.at)?, answer.get(HEADER_BYTES..reader.at)?);
        let mut head = Reader { bytes: answer, at: 0 };
        let (id, flags) = (head.u16()?, head.u16()?);
        let is_ours = question.starts_with(&id.to_be_bytes()) && flags & IS_RESPONSE != 0;
        let is_ours = is_ours && asked.eq_ignore_ascii_case(told);
        is_ours.then_some(Self { code: flags & 0xf, truncated: flags & TRUNCATED != 0 })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A record of any kind.
struct Raw<'a> {
    name: String,
    kind: Kind,
    class: u16,
    ttl: u32,
    /// Where its data begins in the message.
    start: usize,
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn question(&mut self) -> Option<(String, Kind, u16)> {
        Some((self.name()?, Kind(self.u16()?), self.u16()?))
    }

    fn record(&mut self) -> Option<Raw<'a>> {
        let (name, kind, class) = self.question()?;
        let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = usize::from(self.u16()?);
        let start = self.at;
        Some(Raw { name, kind, class, ttl, start, data: self.take(length)? })
    }

    /// A name, which may go on at an earlier place of the message (RFC 1035 §4.1.4). Each such place lies before the one that
    /// names it, so that they come to an end.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut end, mut earliest) = (self.at, None, self.at);
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    let label = self.bytes.get(at + 1..at + 1 + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    let is_shown = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
                    name.extend(label.iter().map(|byte| if is_shown(*byte) { char::from(*byte) } else { '?' }));
                    at += 1 + length;
                }
                3 => {
                    let low = usize::from(*self.bytes.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    at = (length & 0x3f) << 8 | low;
                    if at >= earliest || at < HEADER_BYTES {
                        return None;
                    }
                    earliest = at;
                }
                _ => return None,
            }
            // A length byte in front, and the root's behind.
            if name.len() + 2 > MAX_NAME_BYTES {
                return None;
            }
        }
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }
}
