//! The client of NFS against a real server (nfs-ganesha), in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::collections::HashSet;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use k8w_storage::volume::mounted;
use k8w_storage::volume::nfs::{SUBCOMMAND, Source, mount, serve};
use k8w_testkit::{NfsServer, eventually, kernel_has_nfs, run_in_namespaces};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than the server of these volumes is waited for, and shorter than for ever.
const BOUND: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // A volume's own process is this very program.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SUBCOMMAND) {
        return serve(arguments);
    }
    run_in_namespaces(&[
        ("a_servers_files_are_files", a_servers_files_are_files),
        ("a_volume_outlives_its_server_and_its_process", a_volume_outlives_its_server_and_its_process),
        ("a_silent_server_costs_errors", a_silent_server_costs_errors),
    ])
}

/// Options with which the tests are made: by every version, where the kernel mounts.
fn ways() -> &'static [&'static [&'static str]] {
    if kernel_has_nfs() { &[&["nfsvers=3"], &["nfsvers=4.0"], &["nfsvers=4.1"], &["nfsvers=4.2"]] } else { &[&[]] }
}

/// Options by which a volume sees at once what another one of the same node did.
fn fresh() -> &'static str {
    if kernel_has_nfs() { "actimeo=0,lookupcache=none" } else { "actimeo=0" }
}

struct Mounts(TempDir);

impl Mounts {
    fn source(server: &NfsServer, options: &[&str]) -> Source {
        Source {
            server: "127.0.0.1".to_owned(),
            path: server.export().display().to_string(),
            read_only: options.contains(&"ro"),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    fn mount(&self, name: &str, server: &NfsServer, options: &[&str]) -> PathBuf {
        let dir = self.0.path().join(name);
        mount(&dir, &Self::source(server, options)).unwrap_or_else(|error| panic!("{error}"));
        dir
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = mounted::remove_beneath(self.0.path());
    }
}

fn a_servers_files_are_files() {
    let Some(server) = NfsServer::start() else { return };
    for way in ways() {
        files(&server, way);
    }
}

/// What must hold of a folder that is mounted at two places.
type Check = fn(&Path, &Path);

fn files(server: &NfsServer, way: &[&str]) {
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let with = |options: &[&'static str]| [way, options].concat();
    // Without the kernel the usual age of attributes is no hindrance to these.
    let usual: &[&str] = if kernel_has_nfs() { &[fresh()] } else { &[] };
    let a = mounts.mount("a", server, &with(usual));
    let b = mounts.mount("b", server, &with(&["rsize=8192,wsize=4096", fresh()]));
    assert_eq!(mounts.mount("a", server, &with(usual)), a, "what is there stays");
    // What its own client is good for is the kernel's matter.
    let of_kernel: &[Check] = &[bytes, names, links, removed_while_open, attributes];
    let of_client = [&[places, many_names, side_by_side], of_kernel].concat();
    for check in if kernel_has_nfs() { of_kernel } else { &of_client } {
        check(&a, &b);
        check(&b, &a);
    }
    // By a later version the server keeps what is open somewhere.
    if ["", "nfsvers=3"].contains(&way.concat().as_str()) {
        removed_elsewhere(&a, &b);
        removed_elsewhere(&b, &a);
    }
    only_to_read(&mounts, server, way, &a);
    refusals(&mounts, server, way);
    assert_eq!(fs::read_dir(server.export()).unwrap().count(), 0, "what was made has been removed");

    mounted::remove_beneath(mounts.0.path()).unwrap();
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(mounts.0.path().to_str().unwrap()));
}

/// Bytes by their place, also beyond the end, and where a file ends.
fn bytes(a: &Path, b: &Path) {
    let (here, there) = (a.join("bytes"), b.join("bytes"));
    let long: Vec<u8> = (0..3_000_001_u32).map(|place| (place % 251) as u8).collect();
    fs::write(&here, &long).unwrap();
    assert!(fs::read(&there).unwrap() == long);
    let file = OpenOptions::new().read(true).write(true).open(&here).unwrap();
    file.set_len(10).unwrap();
    file.write_at(b"!", 40 << 20).unwrap();
    file.sync_all().unwrap();
    let found = fs::metadata(&here).unwrap();
    assert_eq!(found.len(), (40 << 20) + 1);
    assert!(found.blocks() * 512 < 1 << 20, "a file with a hole takes {} blocks", found.blocks());
    let mut hole = [1; 20];
    file.read_exact_at(&mut hole, 5).unwrap();
    assert_eq!((&hole[..5], &hole[5..]), (&long[5..10], &[0; 15][..]));
    file.set_len(3).unwrap();
    assert_eq!(fs::read(&here).unwrap(), &long[..3]);
    fs::remove_file(&here).unwrap();
}

/// Writing at the end, and where a file is.
fn places(a: &Path, _: &Path) {
    let path = a.join("log");
    for line in ["one\n", "two\n"] {
        OpenOptions::new().create(true).append(true).open(&path).unwrap().write_all(line.as_bytes()).unwrap();
    }
    let mut file = File::open(&path).unwrap();
    let mut text = String::new();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two\n");
    fs::remove_file(&path).unwrap();
}

/// Directories, names that are taken or not there, and renames.
fn names(a: &Path, b: &Path) {
    fs::create_dir_all(a.join("d/e")).unwrap();
    fs::write(a.join("d/e/f"), "f").unwrap();
    fs::write(a.join("d/g"), "g").unwrap();
    assert_eq!(
        OpenOptions::new().write(true).create_new(true).open(a.join("d/g")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(fs::create_dir(a.join("d/e")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::remove_dir(a.join("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    assert_eq!(fs::read(a.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::write(a.join("x".repeat(300)), "").unwrap_err().kind(), ErrorKind::InvalidFilename);
    fs::rename(a.join("d/g"), a.join("d/e/f")).unwrap();
    assert_eq!(fs::read_to_string(b.join("d/e/f")).unwrap(), "g");
    fs::rename(a.join("d/e"), a.join("h")).unwrap();
    assert_eq!(fs::read_to_string(a.join("h/f")).unwrap(), "g");
    fs::remove_dir_all(a.join("d")).unwrap();
    fs::remove_dir_all(a.join("h")).unwrap();
}

fn links(a: &Path, _: &Path) {
    let mut file = File::create(a.join("file")).unwrap();
    file.write_all(b"text").unwrap();
    // nfs-ganesha may forget a link that it makes while it still commits.
    file.sync_all().unwrap();
    fs::hard_link(a.join("file"), a.join("hard")).unwrap();
    symlink("file", a.join("soft")).unwrap();
    assert_eq!(fs::read_link(a.join("soft")).unwrap(), Path::new("file"));
    assert_eq!(fs::read_to_string(a.join("soft")).unwrap(), "text");
    let (file, hard) = (fs::metadata(a.join("file")).unwrap(), fs::metadata(a.join("hard")).unwrap());
    assert_eq!((file.ino(), file.nlink()), (hard.ino(), 2));
    fs::remove_file(a.join("file")).unwrap();
    assert_eq!(fs::read_to_string(a.join("hard")).unwrap(), "text");
    assert_eq!(fs::read(a.join("soft")).unwrap_err().kind(), ErrorKind::NotFound);
    for name in ["hard", "soft"] {
        fs::remove_file(a.join(name)).unwrap();
    }
}

/// More names than one answer of the server has room for.
fn many_names(a: &Path, b: &Path) {
    const MANY: usize = 1500;
    let dir = a.join("many");
    fs::create_dir(&dir).unwrap();
    let names: HashSet<String> = (0..MANY).map(|number| format!("{number}-{}", "n".repeat(100))).collect();
    for name in &names {
        File::create(dir.join(name)).unwrap();
    }
    let listed: Vec<_> = fs::read_dir(b.join("many")).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(listed.iter().all(|entry| entry.file_type().unwrap().is_file()));
    let listed: Vec<String> = listed.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(listed.len(), MANY);
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), names);
    fs::remove_dir_all(&dir).unwrap();
}

/// As long as it is open.
fn removed_while_open(a: &Path, _: &Path) {
    let names = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    for name in ["open", "over"] {
        fs::write(a.join(name), name).unwrap();
    }
    let (open, over) = (File::open(a.join("open")).unwrap(), File::open(a.join("over")).unwrap());
    fs::rename(a.join("open"), a.join("over")).unwrap();
    fs::remove_file(a.join("over")).unwrap();
    let mut bytes = [0; 4];
    for (file, text) in [(&open, b"open"), (&over, b"over")] {
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, text);
    }
    assert!(!a.join("over").exists());
    drop((open, over));
    eventually("what was hidden is removed", || match names(a) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    for _ in 0..20 {
        fs::create_dir(a.join("dir")).unwrap();
        let open = File::create(a.join("dir/file")).unwrap();
        fs::remove_file(a.join("dir/file")).unwrap();
        drop(open);
        fs::remove_dir(a.join("dir")).unwrap();
    }
}

/// Elsewhere it is gone at once.
fn removed_elsewhere(a: &Path, b: &Path) {
    let mut bytes = [0; 4];
    fs::write(a.join("stale"), "text").unwrap();
    let open = File::open(a.join("stale")).unwrap();
    fs::remove_file(b.join("stale")).unwrap();
    assert_eq!(open.read_at(&mut bytes, 0).unwrap_err().kind(), ErrorKind::StaleNetworkFileHandle);
}

fn attributes(a: &Path, _: &Path) {
    let path = a.join("file");
    fs::write(&path, "text").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let modified = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.modified().unwrap(), found.len()), (0o640, modified, 4));
    fs::remove_file(&path).unwrap();
    let space = nix::sys::statvfs::statvfs(a).unwrap();
    assert!(space.blocks() > 0 && space.blocks_available() > 0);
}

/// Many at a time, more than are let in at once.
fn side_by_side(a: &Path, b: &Path) {
    std::thread::scope(|scope| {
        for number in 0..100_u8 {
            scope.spawn(move || {
                let name = format!("side-{number}");
                fs::write(a.join(&name), vec![number; 100_000]).unwrap();
                assert_eq!(fs::read(b.join(&name)).unwrap(), vec![number; 100_000]);
                fs::remove_file(a.join(&name)).unwrap();
            });
        }
    });
}

fn only_to_read(mounts: &Mounts, server: &NfsServer, way: &[&str], writable: &Path) {
    let dir = mounts.mount("ro", server, &[way, &["ro"]].concat());
    fs::write(writable.join("file"), "text").unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    for refused in
        [fs::write(dir.join("file"), "other"), fs::remove_file(dir.join("file")), fs::create_dir(dir.join("dir"))]
    {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    fs::remove_file(writable.join("file")).unwrap();
}

fn refusals(mounts: &Mounts, server: &NfsServer, way: &[&str]) {
    let dir = mounts.0.path().join("refused");
    let refusal = |source: Source| mount(&dir, &source).unwrap_err().to_string();
    let source = Mounts::source(server, way);
    let why = match way {
        [] => "mount refused by the server: access denied",
        ["nfsvers=3"] => "the kernel: Permission denied (os error 13)",
        _ => "the kernel: No such file or directory (os error 2)",
    };
    let other = Source { path: "/none".to_owned(), ..source.clone() };
    assert_eq!(refusal(other), format!("mounting 127.0.0.1:/none: {why}"));
    let device = source.device();
    let with = |option: &str| Source { options: vec![way.join(","), option.to_owned()], ..source.clone() };
    let (option, why) = match way {
        [] => ("nfsvers=4.1", "mount option \"nfsvers=4.1\" is not supported without the kernel's NFS"),
        ["nfsvers=3"] => ("mountport=9", "MOUNT: no connection to the server: Connection refused (os error 111)"),
        _ => ("port=9", "NFS version 4: no connection to the server: Connection refused (os error 111)"),
    };
    assert_eq!(refusal(with(option)), format!("mounting {device}: {why}"));
    // This server takes callers from reserved ports alone. The kernel has a connection to it already.
    if !kernel_has_nfs() {
        assert!(mount(&dir, &with("noresvport")).is_err());
    }
    assert!(!mounted::is_at(&dir).unwrap());
}

/// What the server did not have on disk yet is written again, and connections are made anew. A process that is gone is told
/// of, and another one takes its place.
fn a_volume_outlives_its_server_and_its_process() {
    let Some(mut server) = NfsServer::start() else { return };
    for way in ways() {
        outlives(&mut server, way);
    }
}

fn outlives(server: &mut NfsServer, way: &[&str]) {
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let a = mounts.mount("a", server, way);
    let mut file = File::create(a.join("kept")).unwrap();
    file.write_all(&[7; 300_000]).unwrap();
    if kernel_has_nfs() {
        // What becomes the next server closes this file as well, which waits for what it has.
        file.sync_all().unwrap();
    }
    server.kill();
    server.restart();
    file.sync_all().unwrap_or_else(|error| panic!("{way:?}: {error}"));
    assert_eq!(fs::read(server.export().join("kept")).unwrap(), [7; 300_000]);

    file.write_all(b"more").unwrap();
    mounted::remove_beneath(mounts.0.path()).unwrap();
    assert!(!a.join("kept").exists());
    if kernel_has_nfs() {
        // It has the volume until nobody has a file of it open.
        file.write_all(b"late").unwrap();
        file.sync_all().unwrap_or_else(|error| panic!("{way:?}: {error}"));
        assert_eq!(fs::metadata(server.export().join("kept")).unwrap().len(), 300_008);
        return;
    }
    eventually("what was written is on the server's disk when its volume is gone", || match processes(&a) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(fs::metadata(server.export().join("kept")).unwrap().len(), 300_004);
    assert!(file.write_all(b"late").is_err());
    drop(file);

    mounts.mount("a", server, way);
    let [process] = processes(&a)[..] else { panic!("a volume has one process") };
    kill(Pid::from_raw(process), Signal::SIGTERM).unwrap();
    assert!(a.join("kept").exists(), "who stops a node may tell all of its processes");
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    eventually("it is gone", || match fs::metadata(&a) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    mounts.mount("a", server, way);
    assert!(a.join("kept").exists());
}

/// The processes of the volume at a directory.
fn processes(dir: &Path) -> Vec<i32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_its = |id: &i32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0).skip(1);
        words.next() == Some(SUBCOMMAND.as_bytes()) && words.next() == Some(dir.as_os_str().as_encoded_bytes())
    };
    ids.filter(is_its).collect()
}

/// Not threads; and the volume can be taken away. Of a later version the kernel would wait for as long as the server's machine
/// keeps the connection.
fn a_silent_server_costs_errors() {
    let Some(mut server) = NfsServer::start() else { return };
    let mounts = Mounts(tempfile::tempdir().unwrap());
    let dir = mounts.mount("impatient", &server, &["timeo=5,retrans=1", fresh()]);
    fs::write(dir.join("file"), "text").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(dir.join("file")).unwrap();
    file.sync_all().unwrap();
    server.freeze();
    let begun = Instant::now();
    let late = mounts.0.path().join("late");
    for way in ways() {
        let source = Mounts::source(&server, &[*way, &["timeo=5,retrans=1"]].concat());
        let refused = mount(&late, &source).unwrap_err().to_string();
        assert!(refused.ends_with("the server does not answer"), "{way:?}: {refused}");
    }
    let why = |error: std::io::Error| error.raw_os_error().unwrap();
    let listed = || fs::read_dir(&dir).and_then(|mut entries| entries.next().transpose()).map_err(why);
    if kernel_has_nfs() {
        assert_eq!(fs::metadata(dir.join("file")).map(drop).map_err(why), Err(libc::EIO));
        assert_eq!(listed().map(drop), Err(libc::ESTALE), "the kernel calls a root so that it cannot ask for");
        // It keeps what is written until somebody asks.
        let written = file.write_at(b"x", 0).and_then(|_| file.sync_all());
        assert_eq!(written.map_err(why), Err(libc::EIO));
        mounted::remove_beneath(&dir).unwrap();
        server.kill();
    } else {
        assert_eq!(fs::metadata(dir.join("file")).map(drop).map_err(why), Err(libc::ETIMEDOUT));
        assert_eq!(file.write_at(b"x", 0).map_err(why), Err(libc::ETIMEDOUT));
        server.kill();
        assert_eq!(file.sync_all().map_err(why), Ok(()), "nothing was written");
        assert_eq!(listed().map(drop), Err(libc::ETIMEDOUT));
        mounted::remove_beneath(&dir).unwrap();
        assert!(file.write_at(b"x", 0).is_err(), "who waits for a volume that is taken away waits no longer");
    }
    drop(file);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    eventually("its process ends", || match processes(&dir) {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
