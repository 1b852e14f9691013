//! Messages of DNS, as far as cluster DNS speaks it: hickory's, and our rules of which questions are answered, and what an
//! answer of another server is (RFC 1035, RFC 6891). Pure: bytes in, bytes out, and nothing panics on them.

pub use hickory_proto::{op, rr};

use hickory_proto::ProtoError;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use op::{Edns, EmitAndCount, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts};
use rr::{DNSClass, Name, RData, Record, RecordType};

/// Largest message (RFC 1035 §4.2.2).
pub const MAX_MESSAGE_BYTES: u16 = u16::MAX;
/// The largest datagram that is asked for and sent, so that none is cut on its way (DNS flag day 2020).
pub const MAX_DATAGRAM_BYTES: u16 = 1_232;
/// Bytes of the record that speaks of EDNS, at the end of a message.
const EDNS_BYTES: u16 = 11;

/// A complete name, written without the dot at its end; `None` for what is none.
pub fn name(text: &str) -> Option<Name> {
    let mut labels = text.split('.').map(str::as_bytes);
    labels.try_fold(Name::root(), Name::append_label).ok()
}

/// A question to another server.
pub fn question(id: u16, name: Name, kind: RecordType) -> Message {
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, kind)).set_edns(edns());
    question
}

/// Reads a message with one question. What cannot be looked up comes with its refusal; `None` is for what is not to be answered
/// at all: it is an answer itself, or too short.
pub fn read(bytes: &[u8]) -> Option<Result<Message, Message>> {
    let header = Header::read(&mut BinDecoder::new(bytes)).ok()?;
    if header.message_type == MessageType::Response {
        return None;
    }
    Some(checked(bytes, &header).map_err(|code| {
        let mut refusal = reply_to(&header);
        refusal.metadata.response_code = code;
        refusal.edns = (code == ResponseCode::BADVERS).then(edns);
        refusal
    }))
}

fn checked(bytes: &[u8], header: &Header) -> Result<Message, ResponseCode> {
    if header.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    // Before room is made for as many as it says.
    if header.counts.queries != 1 {
        return Err(ResponseCode::FormErr);
    }
    let question = Message::from_vec(bytes).map_err(|_| ResponseCode::FormErr)?;
    if question.version() > 0 {
        return Err(ResponseCode::BADVERS);
    }
    if question.queries.iter().any(|query| query.query_class != DNSClass::IN) {
        return Err(ResponseCode::Refused);
    }
    Ok(question)
}

/// An answer to a question, without records yet.
pub fn reply(question: &Message) -> Message {
    let mut reply = reply_to(&question.metadata);
    (reply.metadata.authoritative, reply.metadata.recursion_available) = (true, true);
    reply.queries.clone_from(&question.queries);
    reply.edns = question.edns.is_some().then(edns);
    reply
}

fn reply_to(asked: &Metadata) -> Message {
    let mut reply = Message::response(asked.id, asked.op_code);
    reply.metadata.recursion_desired = asked.recursion_desired;
    reply
}

fn edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM_BYTES);
    edns
}

/// What another server answers to a question: addresses and aliases are all of its records that are kept. `None` for what does
/// not answer it.
pub fn answer(bytes: &[u8], question: &Message) -> Option<Message> {
    let mut decoder = BinDecoder::new(bytes);
    let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
    let mut answer = Message::new(metadata.id, metadata.message_type, metadata.op_code);
    answer.metadata = metadata;
    answer.queries = Message::read_queries(&mut decoder, counts.queries.into()).ok()?;
    if (answer.id, answer.message_type) != (question.id, MessageType::Response) || answer.queries != question.queries {
        return None;
    }
    match Message::read_records(&mut decoder, counts.answers.into(), false, OpCode::Query) {
        Ok((records, _, _)) => answer.answers = records,
        // It may be cut anywhere.
        Err(_) if answer.truncation => {}
        Err(_) => return None,
    }
    answer.answers.retain(|record| {
        record.dns_class == DNSClass::IN && matches!(record.data, RData::A(_) | RData::AAAA(_) | RData::CNAME(_))
    });
    Some(answer)
}

/// The bytes of a message, at most `max_bytes`: records that do not fit are left out, and it says so. `None` when not even the
/// question fits.
pub fn write(message: &Message, max_bytes: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(max_bytes.saturating_sub(if message.edns.is_some() { EDNS_BYTES } else { 0 }));
    emit_message_parts(
        &message.metadata,
        &mut message.queries.iter(),
        &mut message.answers.iter(),
        &mut message.authorities.iter(),
        &mut Additionals { records: &message.additionals, max_bytes },
        message.edns.as_ref(),
        None,
        &mut encoder,
    )
    .ok()?;
    encoder.trim();
    Some(bytes)
}

/// The last records before the one that speaks of EDNS, whose place is kept free until then.
struct Additionals<'a> {
    records: &'a [Record],
    max_bytes: u16,
}

impl EmitAndCount for Additionals<'_> {
    fn emit(&mut self, encoder: &mut BinEncoder<'_>) -> Result<usize, ProtoError> {
        let written = encoder.emit_all(self.records.iter());
        encoder.set_max_size(self.max_bytes);
        written
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rr::rdata::{CNAME, PTR, SRV};

    use super::*;

    fn names() -> impl Strategy<Value = Name> {
        "[a-zA-Z0-9_-]{1,20}(\\.[a-z0-9-]{1,20}){0,5}".prop_map(|text| name(&text).unwrap())
    }

    fn records() -> impl Strategy<Value = Record> {
        let data = prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| RData::from(std::net::IpAddr::from(octets))),
            any::<[u8; 16]>().prop_map(|octets| RData::from(std::net::IpAddr::from(octets))),
            names().prop_map(|target| RData::CNAME(CNAME(target))),
        ];
        (names(), any::<u32>(), data).prop_map(|(name, ttl, data)| Record::from_rdata(name, ttl, data))
    }

    /// Records with all that hickory leaves out where it compares them: their time, and the case of names.
    fn shown(records: &[Record]) -> Vec<String> {
        records.iter().map(ToString::to_string).collect()
    }

    fn asked(text: &str, kind: RecordType) -> Message {
        question(7, name(text).unwrap(), kind)
    }

    /// What `read` makes of bytes: the code of a refusal.
    fn code(bytes: &[u8]) -> Option<ResponseCode> {
        read(bytes).map(|read| read.map_or_else(|refusal| refusal.response_code, |_| ResponseCode::NoError))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(name in names(), answers in prop::collection::vec(records(), 0..20)) {
            let asked = question(7, name, RecordType::A);
            let question = read(&asked.to_vec().unwrap()).unwrap().unwrap();
            prop_assert_eq!(&question, &asked);
            prop_assert_eq!(question.max_payload(), MAX_DATAGRAM_BYTES);
            let mut reply = reply(&question);
            reply.answers = answers;
            let whole = write(&reply, MAX_MESSAGE_BYTES).unwrap();
            prop_assert_eq!(shown(&answer(&whole, &asked).unwrap().answers), shown(&reply.answers));
            // What does not fit is left out record by record, and said to be missing.
            let length = u16::try_from(whole.len()).unwrap();
            for room in [512, (length - 1).max(512), length.max(512)] {
                let part = write(&reply, room).unwrap();
                prop_assert!(part.len() <= room.into());
                let part = Message::from_vec(&part).unwrap();
                prop_assert!(shown(&reply.answers).starts_with(&shown(&part.answers)));
                prop_assert_eq!(part.truncation, part.answers.len() < reply.answers.len());
                prop_assert_eq!(part.edns, Some(edns()));
            }
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            // As the answer to a question that it repeats itself.
            if let Ok(mut question) = Message::from_vec(&bytes) {
                question.metadata.message_type = MessageType::Query;
                let _ = answer(&bytes, &question);
            }
        }

        #[test]
        fn names_are_repeated_as_they_were_asked(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..4)) {
            let name = labels.iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat());
            let asked: Vec<u8> = name.chain([0, 0, 255, 0, 1]).collect();
            let message = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &asked[..]].concat();
            prop_assume!(asked.len() <= 255 + 4);
            let reply = write(&reply(&read(&message).unwrap().unwrap()), 512).unwrap();
            prop_assert_eq!(&reply[12..], asked);
        }
    }

    #[test]
    fn what_is_no_question_is_refused_in_the_protocols_words() {
        let whole = asked("web.default.svc.cluster.local", RecordType::A).to_vec().unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            code(&bytes)
        };
        assert_eq!(with(0, 9), Some(ResponseCode::NoError));
        assert_eq!(with(2, 0x80), None, "an answer");
        assert_eq!(with(2, 0x28), Some(ResponseCode::NotImp), "an update");
        assert_eq!(with(2, 0x78), Some(ResponseCode::NotImp), "an operation that nobody knows");
        assert_eq!(with(5, 0), Some(ResponseCode::FormErr), "no question");
        assert_eq!(with(5, 2), Some(ResponseCode::FormErr), "two questions, of which one is there");
        assert_eq!(with(4, 0xff), Some(ResponseCode::FormErr), "more questions than there is room for");
        assert_eq!(with(7, 1), Some(ResponseCode::FormErr), "the record of EDNS among the answers");
        assert_eq!(with(11, 2), Some(ResponseCode::FormErr), "a record that is not there");
        assert_eq!(with(12, 0x41), Some(ResponseCode::FormErr), "a label of no kind");
        assert_eq!(with(12, 0xc0), Some(ResponseCode::FormErr), "a name that goes on in itself");
        assert_eq!(with(whole.len() - 12, 3), Some(ResponseCode::Refused), "Chaosnet");
        assert_eq!(with(whole.len() - 5, 1), Some(ResponseCode::BADVERS), "EDNS of a later version");
        assert_eq!(code(&whole[..20]), Some(ResponseCode::FormErr));
        assert_eq!(code(&whole[..5]), None);
        assert_eq!(code(&[&whole[..], &[1, 2, 3]].concat()), Some(ResponseCode::NoError), "something after its end");
        // Records of a kind that nobody knows do not matter, and several that speak of EDNS are one too many (RFC 6891 §6.1.1).
        let with = |record: &[u8]| {
            let mut bytes = [&whole[..], record].concat();
            bytes[11] = 2;
            code(&bytes)
        };
        assert_eq!(with(&[0, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 7]), Some(ResponseCode::NoError));
        assert_eq!(with(&whole[whole.len() - usize::from(EDNS_BYTES)..]), Some(ResponseCode::FormErr));
    }

    #[test]
    fn a_refusal_is_a_header_and_says_which_versions_there_are() {
        let mut question = asked("web", RecordType::A).to_vec().unwrap();
        let refusal = |bytes: &[u8]| read(bytes).unwrap().unwrap_err().to_vec().unwrap();
        let version_at = question.len() - 5;
        question[version_at] = 1;
        assert_eq!(refusal(&question), [0, 7, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
        question[2] = 0x29;
        assert_eq!(refusal(&question), [0, 7, 0xa9, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn names_that_were_written_are_referred_to_except_by_ports() {
        let asked = asked("Web.default.svc.cluster.local", RecordType::A);
        let name = asked.queries[0].name.clone();
        let length = |data: RData| {
            let mut reply = reply(&asked);
            let empty = write(&reply, MAX_MESSAGE_BYTES).unwrap().len();
            reply.add_answer(Record::from_rdata(name.clone(), 5, data));
            write(&reply, MAX_MESSAGE_BYTES).unwrap().len() - empty
        };
        let (target, whole) = (name.prepend_label(&b"a"[..]).unwrap(), name.len() + 1 + 2);
        assert_eq!(length(RData::PTR(PTR(target.clone()))), 12 + 2 + 2);
        assert_eq!(length(RData::SRV(SRV::new(0, 1, 2, target))), 12 + 6 + whole);
    }

    #[test]
    fn only_what_answers_the_question_is_an_answer() {
        let asked = asked("web.example", RecordType::A);
        let mut reply = reply(&asked);
        let address = RData::from(std::net::IpAddr::from([192, 0, 2, 1]));
        let mut elsewhere = Record::from_rdata(name("Web.example").unwrap(), 5, address);
        reply.add_answer(elsewhere.clone());
        elsewhere.dns_class = DNSClass::CH;
        reply.add_answer(elsewhere);
        let bytes = reply.to_vec().unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            answer(&bytes, &asked).map(|answer| answer.answers.len())
        };
        assert_eq!(with(1, 7), Some(1), "those of the internet");
        assert_eq!(with(13, b'W'), Some(1), "the case of names does not matter");
        assert_eq!(with(13, b'v'), None, "another name");
        assert_eq!(with(26, 28), None, "another kind");
        assert_eq!(with(1, 8), None, "another number");
        assert_eq!(with(2, 0), None, "a question");
        assert_eq!(with(5, 0), None);
        assert_eq!(answer(&bytes[..bytes.len() - 20], &asked), None, "cut, and it does not say so");
        let mut cut = bytes[..bytes.len() - 20].to_vec();
        cut[2] |= 2;
        assert!(answer(&cut, &asked).unwrap().truncation);
    }

    #[test]
    fn names_are_of_labels() {
        let long = |count: usize| vec!["a"; count].join(".");
        let (label, too_long) = ("a".repeat(63), "a".repeat(64));
        for text in ["a", "_sql._tcp.db", "-a.b_", "a\\b", "ä", &label, &long(127)] {
            assert!(name(text).is_some_and(|name| name.is_fqdn()), "{text}");
        }
        for text in ["", ".", "a.", ".a", "a..b", &too_long, &long(128)] {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
