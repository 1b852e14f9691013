//! How many requests of one sender may be on their way over connections at a time, so that nobody takes all connections with
//! requests to servers that are silent.
//!
//! Clients outside have a part of their own. The other part is shared by pods, by what the node asks of each pod, and by the
//! node itself. The more of it is taken, the less a sender may have to take another: with [`Rule`], one that has nothing under
//! way waits only while [`MAX_FIRST`] others have something. Of those who wait, whoever has least is next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::About;
use super::single::{Answered, Single};
use crate::origin::Origin;
use crate::{Body as Sent, BodyError};

/// Requests of one pod, or of the node itself. Further ones wait for the end of one.
const MAX_OF_ONE: usize = 512;
/// Probes and hooks of one pod.
const MAX_ABOUT_ONE: usize = 64;
/// Requests of all clients outside together, by the ingress and the node's ports.
const MAX_OF_OUTSIDE: usize = 2048;
/// Requests of all pods, of the node, and of its probes and hooks together.
const MAX_OF_INSIDE: usize = 4096;
/// Those of them that only senders may take who have fewer than [`FEW`]: 128 with so many leave none of these.
const MAX_FEW: usize = 1024;
/// Those of them that only senders may take who have none.
const MAX_FIRST: usize = 1024;
const FEW: usize = 8;

/// Requests on their way at most, whoever has sent them.
pub(super) const MAX_REQUESTS: usize = MAX_OF_INSIDE + MAX_OF_OUTSIDE;

const INSIDE: Rule = Rule { all: MAX_OF_INSIDE, few: MAX_FEW, first: MAX_FIRST };
const OUTSIDE: Rule = Rule { all: MAX_OF_OUTSIDE, few: 0, first: 0 };

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sender {
    Node,
    /// The node, with what this pod asks of it.
    About(IpAddr),
    Pod(IpAddr),
    Outside,
}

impl Sender {
    fn of(origin: Origin<'_>, about: Option<About>) -> Self {
        match origin {
            Origin::Node => about.map_or(Self::Node, |About(pod)| Self::About(pod)),
            Origin::Pod(pod) => Self::Pod(pod.ip),
            Origin::Ingress(_) | Origin::Host(_) | Origin::Visitor(_) | Origin::Outside(_) => Self::Outside,
        }
    }

    fn most(self) -> usize {
        match self {
            Self::Node | Self::Pod(_) => MAX_OF_ONE,
            Self::About(_) => MAX_ABOUT_ONE,
            Self::Outside => MAX_OF_OUTSIDE,
        }
    }
}

/// How a number of requests is shared.
#[derive(Clone, Copy, Debug)]
struct Rule {
    all: usize,
    /// The last of them but for `first`.
    few: usize,
    /// The last of them.
    first: usize,
}

impl Rule {
    /// How many may be taken, that of a sender who has `held` included.
    fn room(self, held: usize) -> usize {
        match held {
            0 => self.all,
            _ if held < FEW => self.all - self.first,
            _ => self.all - self.first - self.few,
        }
    }
}

/// What everybody has left who has a request on its way.
pub(super) struct Shares {
    inside: Arc<Pool>,
    outside: Arc<Pool>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { inside: Pool::new(INSIDE), outside: Pool::new(OUTSIDE) }
    }
}

impl Shares {
    /// Waits until another request may be on its way.
    pub async fn take(&self, origin: Origin<'_>, about: Option<About>) -> Arc<Share> {
        let sender = Sender::of(origin, about);
        let pool = if sender == Sender::Outside { &self.outside } else { &self.inside };
        let (share, turn) = pool.queue(sender);
        // The share keeps the other end until its turn has come.
        let _ = turn.await;
        Arc::new(share)
    }
}

/// Requests that are shared by one rule.
struct Pool {
    rule: Rule,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    tickets: u64,
    senders: HashMap<Sender, Requests>,
    /// The senders who wait for others, not for themselves: whoever has least is first, of these whoever waits longest.
    next: BTreeSet<(usize, u64, Sender)>,
}

/// Those of one sender.
#[derive(Default)]
struct Requests {
    held: usize,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Requests {
    /// The place among [`State::next`].
    fn place(&self, sender: Sender) -> Option<(usize, u64, Sender)> {
        let (&ticket, _) = self.waiting.first_key_value()?;
        (self.held < sender.most()).then_some((self.held, ticket, sender))
    }
}

impl Pool {
    fn new(rule: Rule) -> Arc<Self> {
        Arc::new(Self { rule, state: Mutex::default() })
    }

    /// Another request, which is on its way when its turn has come.
    fn queue(self: &Arc<Self>, sender: Sender) -> (Share, oneshot::Receiver<()>) {
        let (tell, turn) = oneshot::channel();
        let mut state = self.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        state.change(sender, |requests| {
            requests.waiting.insert(ticket, tell);
        });
        state.admit(self.rule);
        drop(state);
        (Share { pool: self.clone(), sender, ticket, is_back: AtomicBool::new(false) }, turn)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets all go on their way who may.
    fn admit(&mut self, rule: Rule) {
        // Where the first has no room, those behind have none: they have as much, or more.
        while let Some(&(held, _, sender)) = self.next.first().filter(|(held, ..)| self.taken < rule.room(*held)) {
            let turn = self.change(sender, |requests| {
                requests.held = held + 1;
                requests.waiting.pop_first()
            });
            self.taken += 1;
            if let Some((_, tell)) = turn {
                // Whoever has just left gives it back by its share.
                let _ = tell.send(());
            }
        }
    }

    fn give_back(&mut self, sender: Sender, ticket: u64) {
        let was_waiting = self.change(sender, |requests| {
            let was_waiting = requests.waiting.remove(&ticket).is_some();
            requests.held -= usize::from(!was_waiting);
            was_waiting
        });
        self.taken -= usize::from(!was_waiting);
    }

    /// Changes what a sender has, and with it its place; whoever has and wants nothing is forgotten.
    fn change<T>(&mut self, sender: Sender, change: impl FnOnce(&mut Requests) -> T) -> T {
        let requests = self.senders.entry(sender).or_default();
        if let Some(place) = requests.place(sender) {
            self.next.remove(&place);
        }
        let changed = change(requests);
        if let Some(place) = requests.place(sender) {
            self.next.insert(place);
        }
        if requests.held == 0 && requests.waiting.is_empty() {
            self.senders.remove(&sender);
        }
        changed
    }
}

/// One request that is on its way or is to be, until the last of these is gone: its body may be longer on its way than its
/// answer.
pub(crate) struct Share {
    pool: Arc<Pool>,
    sender: Sender,
    ticket: u64,
    is_back: AtomicBool,
}

impl Share {
    /// The request is not on its way any more, whoever still has this.
    pub fn give_back(&self) {
        if !self.is_back.swap(true, Ordering::Relaxed) {
            let mut state = self.pool.lock();
            state.give_back(self.sender, self.ticket);
            state.admit(self.pool.rule);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The body of a request that is on its way until all of it is sent, whatever was answered.
struct Leaving {
    body: Sent,
    _share: Arc<Share>,
}

/// A body that keeps a share, unless there is none to be sent.
pub(super) fn leaving(body: Sent, share: &Arc<Share>) -> Sent {
    if body.is_end_stream() { body } else { Leaving { body, _share: share.clone() }.boxed_unsync() }
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, whose request is on its way until all of it has come in.
pub(crate) struct Arriving {
    body: Incoming,
    share: Option<Arc<Share>>,
    /// Of a connection that serves no other request.
    answered: Option<Answered>,
}

impl Arriving {
    /// With the share of its request, and what its connection is if it serves no other.
    pub(super) fn of(answer: Response<Incoming>, taken: Option<(Arc<Share>, Option<Single>)>) -> Response<Arriving> {
        let (share, single) = taken.unzip();
        let changes = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let has_all = !changes && answer.body().is_end_stream();
        // A connection that changes to another protocol goes on, with the share that its user takes.
        let single = single.flatten().filter(|_| !changes);
        let answered = share.as_ref().zip(single).map(|(share, single)| single.keep(share)).filter(|_| !has_all);
        answer.map(|body| Arriving { body, share: share.filter(|_| !has_all), answered })
    }

    /// What is to be kept for as long as a connection is used that has changed to another protocol.
    pub fn take_share(&mut self) -> Option<Arc<Share>> {
        self.share.take()
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let has_ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if has_ended || (polled.is_ready() && self.body.is_end_stream()) {
            self.share = None;
            self.answered = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request that was asked for, until it is dropped.
    type Asked = (Share, oneshot::Receiver<()>);

    fn pod(last: u8) -> Sender {
        Sender::Pod([10, 64, 0, last].into())
    }

    fn about(last: u8) -> Sender {
        Sender::About([10, 64, 0, last].into())
    }

    /// As many as a sender gets, and one that waits.
    fn fill(pool: &Arc<Pool>, sender: Sender) -> Vec<Asked> {
        let mut asked = vec![pool.queue(sender)];
        while is_on_its_way(asked.last_mut().unwrap()) {
            asked.push(pool.queue(sender));
        }
        asked
    }

    fn is_on_its_way((_, turn): &mut Asked) -> bool {
        turn.try_recv().is_ok()
    }

    fn held(pool: &Pool, sender: Sender) -> usize {
        pool.lock().senders.get(&sender).map_or(0, |requests| requests.held)
    }

    #[tokio::test]
    async fn everybody_has_a_share_and_who_wants_nothing_more_is_forgotten() {
        let shares = Shares::default();
        let client = Origin::Ingress([192, 0, 2, 7].into());
        let mut taken = Vec::new();
        for _ in 0..MAX_OF_ONE {
            taken.push(shares.take(Origin::Node, None).await);
        }
        let mut waiting = Box::pin(shares.take(Origin::Node, None));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(shares.take(client, None).await);
        drop(shares.take(Origin::Node, Some(About([10, 64, 0, 2].into()))).await);
        assert!(shares.outside.lock().senders.is_empty());
        taken.pop();
        drop(waiting.await);
        let mut waiting = Box::pin(shares.take(Origin::Node, None));
        taken.push(shares.take(Origin::Node, None).await);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(taken);
        drop(waiting);
        let state = shares.inside.lock();
        assert!(state.senders.is_empty() && state.next.is_empty());
        assert_eq!(state.taken, 0);
    }

    #[test]
    fn however_many_are_greedy_others_have_something() {
        let pool = Pool::new(INSIDE);
        let mut asked: Vec<Asked> = Vec::new();
        for greedy in 1..=100 {
            asked.extend(fill(&pool, pod(greedy)));
            asked.extend(fill(&pool, about(greedy)));
        }
        let of = |last| (held(&pool, pod(last)), held(&pool, about(last)));
        // What is left after those is for whoever has few, and after 128 of these for whoever has none.
        assert_eq!([of(1), of(4), of(5), of(60), of(100)], [(512, 64), (320, 8), (8, 8), (8, 8), (1, 1)]);
        for modest in 101..=200 {
            for sender in [pod(modest), about(modest), Sender::Node] {
                let mut asked = pool.queue(sender);
                assert!(is_on_its_way(&mut asked), "{sender:?} waits");
            }
        }
    }

    #[test]
    fn whoever_has_least_is_next_and_of_one_who_asked_first() {
        let pool = Pool::new(Rule { all: 4, few: 0, first: 0 });
        let mut of_one: Vec<Asked> = (0..6).map(|_| pool.queue(pod(1))).collect();
        let [mut second, mut third] = [pool.queue(pod(2)), pool.queue(pod(2))];
        let mut turns = || [&mut of_one[4], &mut second, &mut third].map(is_on_its_way);
        assert_eq!(turns(), [false, false, false]);
        drop(of_one.remove(0));
        // The fifth has moved up.
        let mut turns = || [&mut of_one[3], &mut second, &mut third].map(is_on_its_way);
        assert_eq!(turns(), [false, true, false]);
        drop(of_one.remove(0));
        let mut turns = || [&mut of_one[2], &mut third].map(is_on_its_way);
        assert_eq!(turns(), [false, true]);
        drop(of_one.remove(0));
        let turns: Vec<_> = of_one.iter_mut().skip(1).map(is_on_its_way).collect();
        assert_eq!(turns, [true, false]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(Sender),
        /// Of those that were asked for, whether they are on their way or not.
        Drop(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let sender = prop_oneof![
            // Few who ask often, and many who ask at times.
            3 => (0..4_u8).prop_map(pod),
            1 => (0..60_u8).prop_map(about),
        ];
        prop_oneof![3 => sender.prop_map(Step::Ask), 1 => any::<prop::sample::Index>().prop_map(Step::Drop)]
    }

    proptest! {
        #[test]
        fn whatever_others_do_a_sender_waits_only_for_many(
            steps in prop::collection::vec(step(), 0..400),
            (few, first, rest) in (0..40_usize, 0..40_usize, 1..40_usize),
        ) {
            let rule = Rule { all: few + first + rest, few, first };
            let pool = Pool::new(rule);
            let mut asked: Vec<Asked> = Vec::new();
            for step in steps {
                match step {
                    Step::Ask(sender) => asked.push(pool.queue(sender)),
                    Step::Drop(which) if !asked.is_empty() => drop(asked.swap_remove(which.index(asked.len()))),
                    Step::Drop(_) => {}
                }
                let state = pool.lock();
                let held: usize = state.senders.values().map(|requests| requests.held).sum();
                let waiting: usize = state.senders.values().map(|requests| requests.waiting.len()).sum();
                prop_assert_eq!((state.taken, held + waiting), (held, asked.len()));
                prop_assert!(held <= rule.all);
                let have_few: usize = state.senders.values().map(|requests| requests.held.min(FEW)).sum();
                let have_some = state.senders.values().filter(|requests| requests.held > 0).count();
                for (sender, requests) in &state.senders {
                    prop_assert!(requests.held <= sender.most());
                    prop_assert!(requests.held + requests.waiting.len() > 0);
                    if requests.waiting.is_empty() || requests.held == sender.most() {
                        continue;
                    }
                    match requests.held {
                        0 => prop_assert!(have_some >= first.max(1), "{have_some} have anything, and one waits"),
                        1..FEW => prop_assert!(have_few >= few.max(1), "{have_few} are few, and one waits"),
                        _ => prop_assert!(held >= rest, "{held} are taken, and one waits"),
                    }
                }
            }
            drop(asked);
            let state = pool.lock();
            prop_assert!(state.taken == 0 && state.senders.is_empty() && state.next.is_empty());
        }
    }
}
