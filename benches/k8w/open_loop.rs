//! Requests that are sent when they are due, whether or not the ones before were answered: latencies as clients see them who
//! do not wait for each other.
//!
//! A thread for each connection, because timers of asynchronous runtimes are as coarse as what is measured. A request that is
//! due while its connection waits for the answer before counts from when it was due.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::http1;

/// A request is not waited for any longer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A steady stream of requests for `/`.
#[derive(Clone)]
pub struct OpenLoop {
    pub address: SocketAddr,
    pub host: String,
    pub connections: u32,
    pub per_second: f64,
}

impl OpenLoop {
    /// Sends requests for so long; returns how long each took from when it was due.
    pub async fn run(&self, time: Duration) -> Result<Vec<Duration>> {
        let between = Duration::from_secs_f64(f64::from(self.connections) / self.per_second);
        let begin = Instant::now() + Duration::from_millis(100);
        let tasks: Vec<_> = (0..self.connections)
            .map(|number| {
                let this = self.clone();
                let first = begin + between * number / self.connections;
                tokio::task::spawn_blocking(move || this.connection(first, between, begin + time))
            })
            .collect();
        let mut samples = Vec::new();
        for task in tasks {
            samples.extend(task.await.map_err(|error| anyhow!("a connection ended: {error}"))??);
        }
        Ok(samples)
    }

    fn connection(&self, first: Instant, between: Duration, end: Instant) -> Result<Vec<Duration>> {
        let address = self.address;
        let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // The default is 50 µs, which would be part of each sample.
        nix::sys::prctl::set_timerslack(1_000)?;
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", self.host).into_bytes();
        let (mut samples, mut answer, mut due) = (Vec::new(), vec![0; http1::MAX_ANSWER_BYTES], first);
        while due < end {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(&request)?;
            let mut length = 0;
            while !http1::is_complete(&answer[..length])? {
                match stream.read(&mut answer[length..])? {
                    0 => bail!("the server closed the connection, or answers more than {} bytes", answer.len()),
                    read => length += read,
                }
            }
            samples.push(due.elapsed());
            due += between;
        }
        Ok(samples)
    }
}
