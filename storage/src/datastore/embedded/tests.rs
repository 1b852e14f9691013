//! What only a store on disk has to prove: that it comes back, whatever happened to the process before.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::datastore::journal::Journal;
use crate::datastore::mvcc::{Record, Version};
use crate::datastore::{Compare, Write, suite};

async fn open_new() -> Option<(Arc<dyn Datastore>, TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    Some((Arc::new(Embedded::open(folder.path()).unwrap()), folder))
}

suite::run!(open_new);

fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    let write = Write::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), ttl_seconds: None };
    Txn { compares: vec![], writes: vec![write] }
}

fn all() -> ListRequest {
    ListRequest { range: KeyRange::prefix(""), start_key: None, limit: 0, revision: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    for i in 0..50 {
        store.txn(put(&format!("k{}", i % 20), format!("{i}"))).await.unwrap();
    }
    let delete = Txn { compares: vec![], writes: vec![Write::Delete { key: "k3".into() }] };
    store.txn(delete).await.unwrap();
    store.compact(30).await.unwrap();
    let at = |revision| ListRequest { revision: Some(revision), ..all() };
    let (newest, older) = (store.list(all()).await.unwrap(), store.list(at(35)).await.unwrap());
    drop(store);

    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.revision().await.unwrap(), 51);
    assert_eq!(store.list(all()).await.unwrap().items, newest.items);
    assert_eq!(store.list(at(35)).await.unwrap().items, older.items);
    assert!(matches!(store.list(at(29)).await, Err(Error::Compacted { .. })));
    let mut watch = store.watch(KeyRange::prefix("k3"), 45).await.unwrap();
    let Some(Ok(WatchItem::Events { revision: 51, events })) = watch.next().await else {
        panic!("the deletion is lost")
    };
    assert_eq!(events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_do_not_go_back_when_compaction_left_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    store.txn(put("a", "")).await.unwrap();
    store.txn(Txn { compares: vec![], writes: vec![Write::Delete { key: "a".into() }] }).await.unwrap();
    store.compact(2).await.unwrap();
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    assert_eq!(store.revision().await.unwrap(), 2);
    assert_eq!(store.txn(put("a", "")).await.unwrap().revision(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_go_on_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let write = Write::Put { key: "a".into(), value: "".into(), ttl_seconds: Some(1) };
    store.txn(Txn { compares: vec![], writes: vec![write] }).await.unwrap();
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    let mut watch = store.watch(KeyRange::prefix(""), 1).await.unwrap();
    let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
    assert!(matches!(item, Some(Ok(WatchItem::Events { revision: 2, .. }))), "{item:?}");
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    // The lock belongs to the open file, so a second open in this process is as foreign as another process.
    assert!(matches!(Embedded::open(folder.path()), Err(Error::InUse { .. })));
    drop(store);
    Embedded::open(folder.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(Embedded::open(folder.path()).unwrap());
    std::fs::write(folder.path().join(FORMAT_FILE), "2\n").unwrap();
    let refused = Embedded::open(folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::NewerFormat { found: 2, supported: FORMAT, .. }), "{refused:?}");
    std::fs::write(folder.path().join(FORMAT_FILE), "1\n").unwrap();
    Embedded::open(folder.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(Error::Unavailable(source)) = Embedded::open(&file.join("store")) else { panic!("opened inside a file") };
    assert!(source.to_string().contains("file/store"), "{source}");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The file that writes are appended to, and how much of it is in use: behind that are zeros.
fn write_ahead_log(folder: &Path) -> (PathBuf, u64) {
    let log = folder.join(HISTORY_FOLDER).join("log-0");
    let used = log::read(&log, 0, |_| {}).unwrap().end;
    (log, used)
}

/// Cuts the log at every byte of its last transaction, in both ways in which a file can end: short, and with zeros.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_write_is_dropped_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let store = Embedded::open(&live).unwrap();
    store.txn(put("a", "acknowledged")).await.unwrap();
    let (log, whole) = write_ahead_log(&live);
    store.txn(put("b", "torn")).await.unwrap();
    let (_, end) = write_ahead_log(&live);
    assert!(end > whole);
    let name = log.strip_prefix(&live).unwrap();
    let torn = folder.path().join("torn");
    for (cut, zeros) in (whole..end).flat_map(|cut| [(cut, false), (cut, true)]) {
        copy_folder(&live, &torn);
        let file = File::options().write(true).open(torn.join(name)).unwrap();
        match zeros {
            true => file.write_all_at(&vec![0; (end - cut) as usize], cut).unwrap(),
            false => file.set_len(cut).unwrap(),
        }
        let store = Embedded::open(&torn).unwrap();
        let found = store.list(all()).await.unwrap();
        assert_eq!((found.items.len(), found.revision), (1, 1), "cut at {cut} of {whole}..{end}, zeros: {zeros}");
        assert_eq!(found.items[0].value, "acknowledged");
        // And it takes writes, which come back too.
        if cut % 16 == 0 {
            assert_eq!(store.txn(put("c", "after")).await.unwrap().revision(), 2);
            drop(store);
            assert_eq!(Embedded::open(&torn).unwrap().list(all()).await.unwrap().items.len(), 2);
        } else {
            drop(store);
        }
        std::fs::remove_dir_all(&torn).unwrap();
    }
}

/// Every file beneath a folder, with its content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => all.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

/// A store whose log has this many frames; returns where each of them ends.
async fn with_frames(folder: &Path, frames: usize) -> Vec<u64> {
    let store = Embedded::open(folder).unwrap();
    let mut ends = Vec::new();
    for i in 0..frames {
        store.txn(put(&format!("k{i}"), "value")).await.unwrap();
        ends.push(write_ahead_log(folder).1);
    }
    ends
}

/// What opening a store gives: how many keys, or why not. A store that is refused must not have been touched.
async fn opened(folder: &Path) -> std::result::Result<usize, String> {
    let before = contents(folder);
    match Embedded::open(folder) {
        Ok(store) => Ok(store.list(all()).await.unwrap().items.len()),
        Err(error) => {
            assert!(contents(folder) == before, "refused, but changed: {error:?}");
            let Error::Unavailable(source) = error else { panic!("{error:?}") };
            Err(source.to_string())
        }
    }
}

/// Every byte of a small log is damaged, one at a time, in several ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_before_whole_writes_is_refused_and_nothing_is_changed() {
    const FRAMES: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let ends = with_frames(folder.path(), FRAMES).await;
    let (log, end) = write_ahead_log(folder.path());
    // With some of the space that is laid out ahead.
    let whole = std::fs::read(&log).unwrap()[..end as usize + 64].to_vec();
    for at in 0..end as usize {
        for damage in [whole[at] ^ 0x01, whole[at] ^ 0x80, !whole[at], 0] {
            let mut damaged = whole.clone();
            damaged[at] = damage;
            std::fs::write(&log, &damaged).unwrap();
            let frame = ends.iter().filter(|end| **end <= at as u64).count();
            let begin = frame.checked_sub(1).map_or(0, |before| ends[before]);
            let found = opened(folder.path()).await;
            if damaged == whole {
                assert_eq!(found, Ok(FRAMES));
            } else if frame == FRAMES - 1 {
                // No different from a write that was cut short.
                assert_eq!(found, Ok(FRAMES - 1), "byte {at} set to {damage}");
            } else {
                let refused = found.unwrap_err();
                let place = format!("log-0 is damaged at byte {begin}, and later writes stand behind that;");
                assert!(refused.contains(&place), "byte {at} set to {damage}: {refused}");
            }
        }
    }
    // A whole block that was lost.
    let mut damaged = whole.clone();
    damaged[..ends[1] as usize].fill(0);
    std::fs::write(&log, &damaged).unwrap();
    assert!(opened(folder.path()).await.unwrap_err().contains("log-0 is damaged at byte 0"));
    // What the message proposes works.
    std::fs::write(&log, &whole[..ends[0] as usize]).unwrap();
    assert_eq!(opened(folder.path()).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_early_has_what_is_before() {
    let folder = tempfile::tempdir().unwrap();
    let ends = with_frames(folder.path(), 3).await;
    let (log, end) = write_ahead_log(folder.path());
    let whole = std::fs::read(&log).unwrap();
    for cut in 0..=end {
        let left = ends.iter().filter(|end| **end <= cut).count();
        std::fs::write(&log, &whole[..cut as usize]).unwrap();
        assert_eq!(opened(folder.path()).await, Ok(left), "cut at {cut}");
    }
}

/// A flush of more than a frame holds is written frame by frame, each on disk before the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_large_writes_makes_several_frames() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let large = |i: usize| store.txn(put(&format!("k{i}"), vec![i as u8; 600 * 1024]));
    join_all((0..8).map(large)).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    drop(store);
    assert_eq!(opened(folder.path()).await, Ok(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_missing_or_cut_between_others_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path(), tempfile::tempfile().unwrap()).unwrap().0;
    let record = |revision| {
        let version = Version {
            mod_revision: revision,
            position: 0,
            create_revision: revision,
            value: None,
            expires_at_ms: None,
        };
        Record { key: "k".into(), version }
    };
    for revision in 1..=3 {
        history.append(&[record(revision)]).unwrap();
        history.begin_log().unwrap();
    }
    drop(history);
    let open = || History::open(folder.path(), tempfile::tempfile().unwrap()).map(|_| ()).map_err(|e| e.to_string());
    open().unwrap();
    let middle = folder.path().join("log-1");
    std::fs::write(&middle, "").unwrap();
    assert!(open().unwrap_err().contains("log-2 goes on with revision 3 after revision 1"), "{:?}", open());
    std::fs::remove_file(&middle).unwrap();
    assert!(open().unwrap_err().contains("log-1 is missing"), "{:?}", open());
}

const CHILD_FOLDER: &str = "K8W_STORAGE_TEST_FOLDER";

/// Not a test by itself: what [`acknowledged_writes_survive_kill_9`] starts as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let store = Embedded::open(Path::new(&folder)).unwrap();
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0u64.. {
                let revision = store.txn(put(&format!("w{writer}"), format!("{i}"))).await.unwrap().revision();
                // One write call, so that lines are whole even when the process dies.
                io::stdout().write_all(format!("acknowledged {writer} {i} {revision}\n").as_bytes()).unwrap();
                if i % 50 == 49 {
                    let _ = store.compact(revision.saturating_sub(20)).await;
                }
            }
        })
    });
    join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut newest = 0;
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["datastore::embedded::tests::child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = [None; 8];
        let mut take = |line: io::Result<String>| {
            let line = line.unwrap();
            let Some((_, numbers)) = line.split_once("acknowledged ") else { return 0 };
            let numbers: Vec<u64> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
            acknowledged[numbers[0] as usize] = Some((numbers[1], numbers[2]));
            newest = newest.max(numbers[2]);
            1
        };
        let mut count = 0;
        while count < 150 * round {
            count += take(lines.next().expect("the child has ended by itself"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| count += take(line));

        let store = Embedded::open(folder.path()).unwrap();
        assert!(store.revision().await.unwrap() >= newest);
        for (writer, last) in acknowledged.iter().enumerate() {
            let Some((value, revision)) = last else { continue };
            let found =
                store.get(format!("w{writer}").as_bytes()).await.unwrap().0.expect("an acknowledged key is gone");
            let found_value: u64 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
            // What was in flight may have happened as well, but nothing more than that.
            assert!(found_value == *value || found_value == value + 1, "writer {writer}: {found_value} after {value}");
            assert!(found.mod_revision >= *revision);
        }
    }
}

/// Writers go on while snapshots are made; neither loses anything, and the files stay in proportion to what they hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_gives_the_disk_back() {
    const VALUE_BYTES: usize = 128 * 1024;
    const WRITES: usize = 600;
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for i in 0..2 * WRITES {
                store.txn(put(&format!("small{i}"), "")).await.unwrap();
            }
        }
    });
    for i in 0..WRITES {
        let revision = store.txn(put(&format!("k{}", i % 4), vec![i as u8; VALUE_BYTES])).await.unwrap().revision();
        if i % 20 == 19 {
            store.compact(revision).await.unwrap();
        }
    }
    writer.await.unwrap();
    let on_disk = || {
        let files = std::fs::read_dir(folder.path().join(HISTORY_FOLDER)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let (written, left) = ((WRITES * VALUE_BYTES) as u64, on_disk());
    assert!(left < written / 2, "{left} of {written} bytes are still on disk");
    let before = store.list(all()).await.unwrap();
    assert_eq!(before.items.len(), 4 + 2 * WRITES);
    drop(store);
    let store = Embedded::open(folder.path()).unwrap();
    let after = store.list(all()).await.unwrap();
    assert_eq!((after.items, after.revision), (before.items, before.revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_is_no_torn_write_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join(HISTORY_FOLDER);
    let store = Embedded::open(folder.path()).unwrap();
    store.txn(put("a", "1")).await.unwrap();
    drop(store);
    // The log before the newest one.
    std::fs::rename(history.join("log-0"), history.join("log-1")).unwrap();
    std::fs::write(history.join("log-0"), "damaged").unwrap();
    let Err(Error::Unavailable(source)) = Embedded::open(folder.path()) else {
        panic!("opened in spite of the damage")
    };
    assert!(source.to_string().contains("log-0 is damaged at byte 0"), "{source}");
    // A snapshot that ends early.
    std::fs::write(history.join("snapshot-1"), "").unwrap();
    let Err(Error::Unavailable(source)) = Embedded::open(folder.path()) else {
        panic!("opened in spite of the damage")
    };
    assert!(source.to_string().contains("snapshot-1 is damaged"), "{source}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_writer_and_a_crowd_both_see_their_conflicts_durably() {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(folder.path()).unwrap();
    let claim = |value: usize| {
        let compares = vec![Compare { key: "one".into(), mod_revision: 0 }];
        Txn { compares, ..put("one", value.to_string()) }
    };
    let outcomes = join_all((0..32).map(|i| store.txn(claim(i)))).await;
    let won = outcomes.iter().filter(|o| matches!(o, Ok(TxnOutcome::Committed { .. }))).count();
    assert_eq!(won, 1);
    let revision = store.revision().await.unwrap();
    for outcome in outcomes {
        if let TxnOutcome::Conflict { current, .. } = outcome.unwrap() {
            assert_eq!(current[0].as_ref().unwrap().mod_revision, revision);
        }
    }
}
