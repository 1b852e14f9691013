//! Takes all it can get, without end.

use std::hint::black_box;
use std::io::Write;

use wasip2::http::types::Fields;
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

/// How many megabytes of headers can be had.
pub fn count_fields() -> usize {
    let (fields, value) = (Fields::new(), vec![b'x'; 1 << 20]);
    (0..1_000).take_while(|_| fields.append("x", &value).is_ok()).count()
}

/// Resources of the host without end.
pub fn handles() {
    let mut kept = Vec::new();
    loop {
        kept.push(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX / 2));
    }
}
