//! The behaviour suite: what [`Datastore`] promises, one function per promise, run against every backend.
//!
//! To add a promise, write the function and add its name to the table at the end; `suite::run!` makes it a test of every
//! backend. A store given to a function is empty and its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;

use super::*;

type Store = Arc<dyn Datastore>;
type Watch = BoxStream<'static, Result<WatchItem>>;

/// Longest that anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, value: &str) -> Write {
    Write::Put { key: key(name), value: key(value), ttl_seconds: None }
}

fn put_for(name: &str, value: &str, ttl_seconds: u64) -> Write {
    Write::Put { key: key(name), value: key(value), ttl_seconds: Some(ttl_seconds) }
}

fn delete(name: &str) -> Write {
    Write::Delete { key: key(name) }
}

fn compare(name: &str, mod_revision: Revision) -> Compare {
    Compare { key: key(name), mod_revision }
}

async fn write(store: &Store, writes: impl Into<Vec<Write>>) -> Revision {
    match store.txn(Txn { compares: vec![], writes: writes.into() }).await.unwrap() {
        TxnOutcome::Committed { revision, .. } => revision,
        TxnOutcome::Conflict { .. } => panic!("a transaction without compares cannot conflict"),
    }
}

async fn get(store: &Store, name: &str) -> Option<KeyValue> {
    store.get(name.as_bytes()).await.unwrap().0
}

fn all(prefix: &str) -> ListRequest {
    ListRequest { range: KeyRange::prefix(key(prefix)), start_key: None, limit: 0, revision: None }
}

fn names(items: &[KeyValue]) -> Vec<String> {
    items.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

/// `name=value` of every key, in order.
async fn contents(store: &Store, request: ListRequest) -> Vec<String> {
    let show = |kv: &KeyValue| format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
    store.list(request).await.unwrap().items.iter().map(show).collect()
}

async fn next(watch: &mut Watch) -> Result<WatchItem> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch is silent").expect("the watch has ended")
}

/// The next transaction that a watch shows.
async fn next_events(watch: &mut Watch) -> (Revision, Vec<Event>) {
    loop {
        if let WatchItem::Events { revision, events } = next(watch).await.unwrap() {
            return (revision, events);
        }
    }
}

fn kv(name: &str, value: &str, create_revision: Revision, mod_revision: Revision) -> KeyValue {
    KeyValue { key: key(name), value: key(value), create_revision, mod_revision }
}

pub async fn a_key_has_its_creation_and_its_last_change(store: Store) {
    assert_eq!(get(&store, "a").await, None);
    let created = write(&store, [put("a", "1")]).await;
    assert_eq!(get(&store, "a").await, Some(kv("a", "1", created, created)));
    let changed = write(&store, [put("a", "2")]).await;
    assert_eq!(changed, created + 1);
    assert_eq!(store.get(b"a").await.unwrap(), (Some(kv("a", "2", created, changed)), changed));
    write(&store, [delete("a")]).await;
    assert_eq!(get(&store, "a").await, None);
    let again = write(&store, [put("a", "3")]).await;
    assert_eq!(get(&store, "a").await, Some(kv("a", "3", again, again)));
    assert_eq!(store.revision().await.unwrap(), again);
}

pub async fn a_transaction_writes_all_keys_at_one_revision_and_says_what_was_there(store: Store) {
    let first = write(&store, [put("b", "old")]).await;
    let txn = Txn {
        compares: vec![compare("a", 0), compare("b", first)],
        writes: vec![put("c", "new"), put("b", "new"), put("a", "new")],
    };
    let revision = first + 1;
    let previous = vec![None, Some(kv("b", "old", first, first)), None];
    assert_eq!(store.txn(txn).await.unwrap(), TxnOutcome::Committed { revision, previous });
    let items = store.list(all("")).await.unwrap().items;
    assert_eq!(
        items,
        [kv("a", "new", revision, revision), kv("b", "new", first, revision), kv("c", "new", revision, revision)]
    );
}

pub async fn a_failed_compare_writes_nothing_and_shows_what_is_there(store: Store) {
    let a = write(&store, [put("a", "1")]).await;
    let b = write(&store, [put("b", "1")]).await;
    let txn = Txn {
        compares: vec![compare("b", a), compare("missing", 0), compare("a", a)],
        writes: vec![put("a", "2"), put("c", "2")],
    };
    let current = vec![Some(kv("b", "1", b, b)), None, Some(kv("a", "1", a, a))];
    assert_eq!(store.txn(txn).await.unwrap(), TxnOutcome::Conflict { revision: b, current });
    assert_eq!(contents(&store, all("")).await, ["a=1", "b=1"]);
    // A key that must not exist and does.
    let txn = Txn { compares: vec![compare("a", 0)], writes: vec![put("a", "2")] };
    let current = vec![Some(kv("a", "1", a, a))];
    assert_eq!(store.txn(txn).await.unwrap(), TxnOutcome::Conflict { revision: b, current });
    // A key that must exist and does not.
    let txn = Txn { compares: vec![compare("missing", a)], writes: vec![] };
    assert_eq!(store.txn(txn).await.unwrap(), TxnOutcome::Conflict { revision: b, current: vec![None] });
}

pub async fn deletes_say_what_they_deleted_and_nothing_is_no_change(store: Store) {
    let created = write(&store, [put("a", "1")]).await;
    let nothing = Txn { compares: vec![], writes: vec![delete("missing")] };
    let outcome = store.txn(nothing).await.unwrap();
    assert_eq!(outcome, TxnOutcome::Committed { revision: created, previous: vec![None] });
    let outcome = store.txn(Txn::default()).await.unwrap();
    assert_eq!(outcome, TxnOutcome::Committed { revision: created, previous: vec![] });
    let compared = Txn { compares: vec![compare("a", created)], writes: vec![] };
    let outcome = store.txn(compared).await.unwrap();
    assert_eq!(outcome, TxnOutcome::Committed { revision: created, previous: vec![] });
    let outcome = store.txn(Txn { compares: vec![compare("a", created)], writes: vec![delete("a")] }).await.unwrap();
    let previous = vec![Some(kv("a", "1", created, created))];
    assert_eq!(outcome, TxnOutcome::Committed { revision: created + 1, previous });
    assert_eq!(store.revision().await.unwrap(), created + 1);
}

pub async fn transactions_out_of_bounds_are_refused(store: Store) {
    let large = Write::Put { key: key("a"), value: vec![0; MAX_TXN_BYTES].into(), ttl_seconds: None };
    let many: Vec<_> = (0..=MAX_TXN_OPERATIONS).map(|i| put(&format!("{i}"), "")).collect();
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for writes in [vec![put("a", "1"), delete("a")], vec![put("", "1")], vec![put(&long, "")], vec![large], many] {
        let refused = store.txn(Txn { compares: vec![], writes }).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert_eq!(contents(&store, all("")).await, [""; 0]);
}

pub async fn large_values_and_any_bytes_come_back_as_they_were(store: Store) {
    let value: Bytes =
        (0..1_400 * 1024u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into();
    let odd = Bytes::from_static(&[0, 255, 254, b'/', 0]);
    let writes = vec![
        Write::Put { key: odd.clone(), value: value.clone(), ttl_seconds: None },
        Write::Put { key: key("empty"), value: Bytes::new(), ttl_seconds: None },
    ];
    write(&store, writes).await;
    assert_eq!(store.get(&odd).await.unwrap().0.unwrap().value, value);
    assert_eq!(get(&store, "empty").await.unwrap().value, Bytes::new());
}

pub async fn a_list_is_ordered_and_goes_on_where_it_stopped(store: Store) {
    for name in ["p/c", "p/a", "q", "p/e", "o", "p/b", "p/d"] {
        write(&store, [put(name, "")]).await;
    }
    let list = store.list(all("p/")).await.unwrap();
    assert_eq!(names(&list.items), ["p/a", "p/b", "p/c", "p/d", "p/e"]);
    assert_eq!((list.remaining, list.revision), (0, store.revision().await.unwrap()));

    let first = store.list(ListRequest { limit: 2, ..all("p/") }).await.unwrap();
    assert_eq!((names(&first.items), first.remaining), (vec!["p/a".into(), "p/b".into()], 3));
    write(&store, [delete("p/c"), put("p/bb", "")]).await;
    // The rest, as it was when the list began.
    let rest = ListRequest { start_key: Some(key("p/b\0")), limit: 2, revision: Some(first.revision), ..all("p/") };
    let second = store.list(rest).await.unwrap();
    assert_eq!((names(&second.items), second.remaining), (vec!["p/c".into(), "p/d".into()], 1));
    assert_eq!(second.revision, first.revision);
    let rest = ListRequest { start_key: Some(key("p/d\0")), limit: 2, revision: Some(first.revision), ..all("p/") };
    let third = store.list(rest).await.unwrap();
    assert_eq!((names(&third.items), third.remaining), (vec!["p/e".into()], 0));
    // And as it is now. A start before the range is the range's start.
    assert_eq!(names(&store.list(all("p/")).await.unwrap().items), ["p/a", "p/b", "p/bb", "p/d", "p/e"]);
    let early = ListRequest { start_key: Some(key("a")), ..all("p/") };
    assert_eq!(store.list(early).await.unwrap().items.len(), 5);
    let exact = store.list(ListRequest { limit: 5, ..all("p/") }).await.unwrap();
    assert_eq!((exact.items.len(), exact.remaining), (5, 0));
}

pub async fn keys_that_are_prefixes_of_others_stay_apart(store: Store) {
    let keys: [&[u8]; 8] = [b"a", b"a/", b"a/b", b"a/b/c", b"a0", b"b", b"a/\xff", b"a/\xff\xff"];
    for key in keys {
        let write =
            Write::Put { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(key), ttl_seconds: None };
        store.txn(Txn { compares: vec![], writes: vec![write] }).await.unwrap();
    }
    let under = |prefix: &'static [u8]| ListRequest { range: KeyRange::prefix(prefix), ..all("") };
    let found = store.list(under(b"a/")).await.unwrap().items;
    let found: Vec<&[u8]> = found.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(found, [&b"a/"[..], b"a/b", b"a/b/c", b"a/\xff", b"a/\xff\xff"]);
    let found = store.list(under(b"a/\xff")).await.unwrap().items;
    assert_eq!(found.len(), 2);
    assert_eq!(store.list(under(b"")).await.unwrap().items.len(), 8);
    assert_eq!(get(&store, "a/b").await.unwrap().value, key("a/b"));
    write(&store, [delete("a/b")]).await;
    assert!(get(&store, "a/b/c").await.is_some() && get(&store, "a/").await.is_some());
}

pub async fn any_revision_since_the_last_compaction_can_be_read(store: Store) {
    let first = write(&store, [put("a", "1"), put("b", "1")]).await;
    let second = write(&store, [put("a", "2")]).await;
    let third = write(&store, [delete("b")]).await;
    let at = |revision| ListRequest { revision: Some(revision), ..all("") };
    assert_eq!(contents(&store, at(first)).await, ["a=1", "b=1"]);
    assert_eq!(contents(&store, at(second)).await, ["a=2", "b=1"]);
    assert_eq!(contents(&store, at(third)).await, ["a=2"]);
    let future = store.list(at(third + 1)).await.unwrap_err();
    assert!(matches!(future, Error::FutureRevision { .. }), "{future:?}");

    store.compact(second).await.unwrap();
    assert_eq!(contents(&store, at(second)).await, ["a=2", "b=1"]);
    assert_eq!(contents(&store, at(third)).await, ["a=2"]);
    let gone = store.list(at(first)).await.unwrap_err();
    assert!(matches!(gone, Error::Compacted { .. }), "{gone:?}");
    assert!(matches!(store.compact(first).await, Err(Error::Compacted { .. })));
    assert!(matches!(store.compact(third + 1).await, Err(Error::FutureRevision { .. })));

    store.compact(third).await.unwrap();
    assert_eq!(contents(&store, all("")).await, ["a=2"]);
    assert_eq!(get(&store, "a").await, Some(kv("a", "2", first, second)));
    assert_eq!(write(&store, [put("b", "2")]).await, third + 1);
}

pub async fn a_watch_shows_every_change_of_its_range_in_order_with_what_it_replaced(store: Store) {
    let first = write(&store, [put("p/a", "1"), put("q/a", "1")]).await;
    let mut watch = store.watch(KeyRange::prefix("p/"), first).await.unwrap();
    let second = write(&store, [put("p/b", "1"), put("q/b", "1"), put("p/a", "2")]).await;
    write(&store, [put("q/b", "2")]).await;
    let fourth = write(&store, [delete("p/a"), delete("p/missing")]).await;
    let old = kv("p/a", "1", first, first);
    let new = kv("p/a", "2", first, second);
    let expected = vec![
        Event::Put { kv: kv("p/b", "1", second, second), previous: None },
        Event::Put { kv: new.clone(), previous: Some(old) },
    ];
    assert_eq!(next_events(&mut watch).await, (second, expected));
    let expected = vec![Event::Delete { key: key("p/a"), previous: Some(new), revision: fourth }];
    assert_eq!(next_events(&mut watch).await, (fourth, expected));
}

pub async fn a_watch_begins_anywhere_in_history_and_goes_on_live(store: Store) {
    let mut revisions = vec![store.revision().await.unwrap()];
    for i in 0..5 {
        revisions.push(write(&store, [put("a", &i.to_string())]).await);
    }
    let mut watch = store.watch(KeyRange::prefix("a"), revisions[2]).await.unwrap();
    for i in 5..8 {
        revisions.push(write(&store, [put("a", &i.to_string())]).await);
    }
    for revision in &revisions[3..] {
        assert_eq!(next_events(&mut watch).await.0, *revision);
    }
    let mut watch = store.watch(KeyRange::prefix("a"), revisions[0]).await.unwrap();
    assert_eq!(next_events(&mut watch).await.0, revisions[1]);
}

pub async fn a_watch_without_changes_says_how_far_it_is(store: Store) {
    let first = write(&store, [put("p/a", "1")]).await;
    let mut watch = store.watch(KeyRange::prefix("p/"), first).await.unwrap();
    let other = write(&store, [put("q/a", "1")]).await;
    loop {
        match next(&mut watch).await.unwrap() {
            WatchItem::Progress { revision } if revision >= other => break,
            WatchItem::Progress { revision } => assert!(revision >= first),
            WatchItem::Events { events, .. } => panic!("unexpected {events:?}"),
        }
    }
}

pub async fn a_watch_from_lost_history_or_from_the_future_is_refused(store: Store) {
    async fn outcome(store: &Store, from: Revision) -> Result<WatchItem> {
        match store.watch(KeyRange::prefix(""), from).await {
            Ok(mut watch) => next(&mut watch).await,
            Err(error) => Err(error),
        }
    }
    let first = write(&store, [put("a", "1")]).await;
    let second = write(&store, [delete("a")]).await;
    let third = write(&store, [put("a", "3")]).await;
    store.compact(second).await.unwrap();
    let lost = outcome(&store, first).await.unwrap_err();
    assert!(matches!(lost, Error::Compacted { .. }), "{lost:?}");
    let events = vec![Event::Put { kv: kv("a", "3", third, third), previous: None }];
    assert_eq!(outcome(&store, second).await.unwrap(), WatchItem::Events { revision: third, events });
    let future = outcome(&store, third + 1).await.unwrap_err();
    assert!(matches!(future, Error::FutureRevision { .. }), "{future:?}");
}

pub async fn a_key_with_a_ttl_is_deleted_when_it_is_over(store: Store) {
    let first = write(&store, [put_for("a", "short", 1), put_for("b", "kept", 1), put_for("c", "long", 3600)]).await;
    let second = write(&store, [put("b", "for good")]).await;
    let mut watch = store.watch(KeyRange::prefix(""), second).await.unwrap();
    let (revision, events) = next_events(&mut watch).await;
    let previous = Some(kv("a", "short", first, first));
    assert_eq!(events, [Event::Delete { key: key("a"), previous, revision }]);
    // Whatever was due with it is deleted by now.
    write(&store, [put_for("d", "short", 1)]).await;
    next_events(&mut watch).await;
    assert!(matches!(&next_events(&mut watch).await.1[..], [Event::Delete { key, .. }] if key == "d"));
    assert_eq!(contents(&store, all("")).await, ["b=for good", "c=long"]);
}

pub async fn concurrent_writers_count_without_losing_a_step(store: Store) {
    const WRITERS: usize = 8;
    const STEPS: usize = 20;
    let start = write(&store, [put("counter", "0")]).await;
    let mut watch = store.watch(KeyRange::prefix("counter"), start).await.unwrap();
    async fn step(store: &Store, mut current: KeyValue) -> Revision {
        loop {
            let count: usize = std::str::from_utf8(&current.value).unwrap().parse().unwrap();
            let txn = Txn {
                compares: vec![compare("counter", current.mod_revision)],
                writes: vec![put("counter", &(count + 1).to_string())],
            };
            match store.txn(txn).await.unwrap() {
                TxnOutcome::Committed { revision, .. } => return revision,
                TxnOutcome::Conflict { current: now, .. } => current = now[0].clone().unwrap(),
            }
        }
    }
    let writers = (0..WRITERS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..STEPS {
                let current = get(&store, "counter").await.unwrap();
                let revision = step(&store, current).await;
                // A read that begins after the write was acknowledged sees it.
                assert!(get(&store, "counter").await.unwrap().mod_revision >= revision);
                assert!(store.revision().await.unwrap() >= revision);
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(get(&store, "counter").await.unwrap().value, key(&(WRITERS * STEPS).to_string()));
    for count in 1..=WRITERS * STEPS {
        let (_, events) = next_events(&mut watch).await;
        assert!(matches!(&events[..], [Event::Put { kv, .. }] if kv.value == count.to_string()), "{events:?}");
    }
}

pub async fn a_list_and_a_watch_from_it_follow_concurrent_writers_exactly(store: Store) {
    const WRITERS: usize = 4;
    const WRITES: usize = 25;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for i in 0..WRITES {
                    let (own, shared) = (format!("k/{writer}-{}", i % 5), format!("k/shared-{}", i % 3));
                    let first = if i % 4 == 3 { delete(&own) } else { put(&own, &i.to_string()) };
                    write(&store, [first, put(&shared, &format!("{writer}-{i}"))]).await;
                }
            })
        })
        .collect();
    let list = store.list(all("k/")).await.unwrap();
    let mut watch = store.watch(KeyRange::prefix("k/"), list.revision).await.unwrap();
    let mut replica: BTreeMap<Bytes, KeyValue> = list.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = write(&store, [put("k/end", "")]).await;
    let mut seen = list.revision;
    while seen < end {
        let (revision, events) = next_events(&mut watch).await;
        assert!(revision > seen);
        seen = revision;
        for event in events {
            let (replaced, previous) = match event {
                Event::Put { kv, previous } => (replica.insert(kv.key.clone(), kv), previous),
                Event::Delete { key, previous, .. } => (replica.remove(&key), previous),
            };
            assert_eq!(replaced, previous);
        }
    }
    assert_eq!(replica.into_values().collect::<Vec<_>>(), store.list(all("k/")).await.unwrap().items);
}

/// The table of promises. `$d` is a dollar sign for the macro that this makes.
macro_rules! promises {
    ($d:tt $($name:ident),* $(,)?) => {
        /// Makes a test of every promise; the function given opens a new store, with whatever keeps it alive beside it.
        macro_rules! run {
            ($d open:path) => {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        if let Some((store, _alive)) = $d open().await {
                            $crate::datastore::suite::$name(store).await;
                        }
                    }
                )*
            };
        }
        pub(super) use run;
    };
}

promises! { $
    a_key_has_its_creation_and_its_last_change,
    a_transaction_writes_all_keys_at_one_revision_and_says_what_was_there,
    a_failed_compare_writes_nothing_and_shows_what_is_there,
    deletes_say_what_they_deleted_and_nothing_is_no_change,
    transactions_out_of_bounds_are_refused,
    large_values_and_any_bytes_come_back_as_they_were,
    a_list_is_ordered_and_goes_on_where_it_stopped,
    keys_that_are_prefixes_of_others_stay_apart,
    any_revision_since_the_last_compaction_can_be_read,
    a_watch_shows_every_change_of_its_range_in_order_with_what_it_replaced,
    a_watch_begins_anywhere_in_history_and_goes_on_live,
    a_watch_without_changes_says_how_far_it_is,
    a_watch_from_lost_history_or_from_the_future_is_refused,
    a_key_with_a_ttl_is_deleted_when_it_is_over,
    concurrent_writers_count_without_losing_a_step,
    a_list_and_a_watch_from_it_follow_concurrent_writers_exactly,
}
