//! DNS: a question that is read is the one that its answer repeats, and records of other servers are read as they are
//! written again.

use k8w_networking::dns::wire::op::{Message, MessageType};
use k8w_networking::dns::wire::{self, MAX_MESSAGE_BYTES};

/// An input is a message.
pub fn check(input: &[u8]) {
    match wire::read(input) {
        Some(Ok(asked)) => is_repeated(input, &asked),
        Some(Err(refusal)) => is_an_answer(input, refusal.to_vec().ok()),
        None => {}
    }
    // Of any message, the question that it would answer.
    let Ok(mut asked) = Message::from_vec(input) else { return };
    asked.metadata.message_type = MessageType::Query;
    let Some(found) = wire::answer(input, &asked) else { return };
    let mut reply = wire::reply(&asked);
    reply.answers.clone_from(&found.answers);
    let Some(written) = wire::write(&reply, MAX_MESSAGE_BYTES) else { return };
    let read = wire::answer(&written, &asked).map(|answer| shown(&answer));
    assert!(read.is_some_and(|read| shown(&found).starts_with(&read)), "{found:?}");
}

/// The records of an answer, with the case of their names.
fn shown(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(ToString::to_string).collect()
}

fn is_repeated(input: &[u8], asked: &Message) {
    let Some(written) = wire::write(&wire::reply(asked), 512) else { panic!("{asked:?}") };
    let Ok(reply) = Message::from_vec(&written) else { panic!("{asked:?}") };
    assert_eq!(reply.queries.len(), 1);
    for (told, asked) in reply.queries.iter().zip(&asked.queries) {
        assert!(told == asked && told.name.eq_case(&asked.name), "{told}");
    }
    is_an_answer(input, Some(written));
}

fn is_an_answer(input: &[u8], answer: Option<Vec<u8>>) {
    let Some(answer) = answer else { panic!("{input:?}") };
    assert_eq!(answer[..2], input[..2]);
    assert!(wire::read(&answer).is_none());
}
