//! Takes all it can get, without end.

use std::hint::black_box;
use std::io::Write;

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::http::types::{Fields, OutgoingRequest};
use wasip2::sockets::network::IpAddressFamily;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// An endless loop.
pub fn spin() {
    let mut n = 0u64;
    loop {
        n = black_box(n + 1);
    }
}

/// All the memory that there is, every page of it in use.
pub fn bomb() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// So many sockets at a time.
pub fn open(count: usize) {
    loop {
        let sockets: Vec<_> = (0..count).map(|_| create_tcp_socket(IpAddressFamily::Ipv4)).collect();
        black_box(sockets);
    }
}

/// So many megabytes of log at a time.
pub fn write(megabytes: usize) {
    let line = [b'x'; 999];
    let mut out = wasip2::cli::stdout::get_stdout();
    loop {
        for _ in 0..megabytes * 1_000 {
            // A log that is not taken is no reason to stop.
            let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
        }
    }
}

/// So many megabytes of headers at a time.
pub fn headers(megabytes: usize) {
    let value = vec![b'x'; 1 << 20];
    loop {
        let fields = Fields::new();
        for _ in 0..megabytes {
            let _ = fields.append("x", &value);
        }
    }
}

/// Makes twenty megabytes of headers, in pieces that each are what one may be; keeps them if it is to.
pub fn keep_headers(way: &str, keeps: bool) {
    let (name, value) = ("x".to_owned(), vec![b'x'; 100 << 10]);
    let one = || Fields::from_list(&[(name.clone(), value.clone())]).expect("headers that may be");
    let first = one();
    let (mut headers, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        match way {
            "from-list" => headers.push(one()),
            "append" => {
                headers.push(Fields::new());
                headers.last().expect("one").append(&name, &value).expect("a header that may be");
            }
            "set" => {
                headers.push(Fields::new());
                headers.last().expect("one").set(&name, &[value.clone()]).expect("a header that may be");
            }
            "clone" => headers.push(first.clone()),
            "request" => requests.push(OutgoingRequest::new(one())),
            _ => {
                requests.push(OutgoingRequest::new(Fields::new()));
                let authority = "x".repeat(value.len());
                requests.last().expect("one").set_authority(Some(&authority)).expect("an authority");
            }
        }
        if !keeps {
            headers.clear();
            requests.clear();
        }
    }
    black_box((headers, requests));
}

/// How many megabytes of headers can be had.
pub fn count_fields() -> usize {
    let (fields, value) = (Fields::new(), vec![b'x'; 1 << 20]);
    (0..1_000).take_while(|_| fields.append("x", &value).is_ok()).count()
}

/// The mount at `/data`.
fn data() -> Descriptor {
    get_directories().into_iter().find(|(_, path)| path == "/data").expect("/data is mounted").0
}

fn make(dir: &Descriptor, number: usize) -> Result<Descriptor, ErrorCode> {
    dir.open_at(PathFlags::empty(), &format!("file-{number}"), OpenFlags::CREATE, DescriptorFlags::READ)
}

/// As many files as may be open, and what refused the next.
fn all_files(dir: &Descriptor) -> (Vec<Descriptor>, ErrorCode) {
    let mut open = Vec::new();
    loop {
        match make(dir, open.len()) {
            Ok(file) => open.push(file),
            Err(code) => return (open, code),
        }
    }
}

/// Keeps as many files open as it may, and says when it has them.
pub fn hold_files() {
    let _open = all_files(&data());
    crate::net::println("holds all files");
    wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2).block();
}

/// How many files can be open, and what counts as one.
pub fn count_files() -> String {
    let dir = data();
    let (mut open, code) = all_files(&dir);
    let count = open.len();
    let another = || make(&dir, count).map_or_else(|code| code.name(), |_| "opened");
    let file = open.remove(0);
    let stream = file.read_via_stream(0);
    drop(file);
    let beside_stream = another();
    drop(stream);
    let listing = dir.read_directory();
    let beside_listing = another();
    drop(listing);
    let code = code.name();
    format!("{count} files, then {code}; beside a stream {beside_stream}, beside a listing {beside_listing}, then {}", another())
}

/// The names in `/data`.
pub fn list() -> String {
    let listing = data().read_directory().expect("a directory");
    let next = || listing.read_directory_entry().expect("an entry");
    let mut entries: Vec<_> =
        std::iter::from_fn(next).map(|entry| format!("{} {:?}", entry.name, entry.type_)).collect();
    entries.sort();
    entries.join("\n")
}

/// Resources of the host without end.
pub fn handles() {
    let mut kept = Vec::new();
    loop {
        kept.push(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2));
    }
}
