//! DNS: a question that is read is the one that its answer repeats, and records of other servers are read as they are
//! written again.

use k8w_networking::dns::wire::{Code, Kind, MAX_MESSAGE_BYTES, Question, Reply, question, records};

/// An input is a message.
pub fn check(input: &[u8]) {
    match Question::read(input) {
        Some(Ok(asked)) => is_repeated(input, &asked),
        Some(Err(refused)) => is_an_answer(input, &refused.write()),
        None => {}
    }
    let Some(found) = records(input) else { return };
    let Some(message) = question(1, "any", Kind::A) else { return };
    let Some(Ok(asked)) = Question::read(&message) else { panic!("{message:?}") };
    let reply = Reply { answers: found.clone(), ..Reply::of(Code::NoError) };
    if let Some(written) = reply.write(&asked, MAX_MESSAGE_BYTES) {
        let read = records(&written);
        assert!(read.is_some_and(|read| found.starts_with(&read)), "{found:?}");
    }
}

fn is_repeated(input: &[u8], asked: &Question) {
    let Some(reply) = Reply::of(Code::NxDomain).write(asked, 512) else { panic!("{asked:?}") };
    is_an_answer(input, &reply);
    // The question comes first in both.
    let length = reply.len().min(input.len()).min(12 + asked.name.len());
    assert_eq!(reply[12..length.max(12)], input[12..length.max(12)]);
}

fn is_an_answer(input: &[u8], answer: &[u8]) {
    assert_eq!(answer[..2], input[..2]);
    assert!(Question::read(answer).is_none());
}
