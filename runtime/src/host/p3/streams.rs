//! Streams of `wasi:io`'s kind as byte streams of the component model: what standard streams and connections are made of
//! serves both versions of WASI.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::component::{
    Destination, FutureReader, Lift, Lower, Source, StreamConsumer, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

/// Bytes that are read ahead of a guest that does not say how much it takes.
const CHUNK_BYTES: usize = 64 << 10;

/// The outcome that WIT promises beside a stream.
type Outcome<E> = FutureReader<Result<(), E>>;

/// What a stream's end means to a guest: an I/O error, or (`None`) that nobody takes what it writes.
type Code<E> = fn(Option<&io::Error>) -> E;

/// What can be read as a stream, and how it ended.
///
/// # Errors
/// When the instance has too many streams.
pub fn read<E>(
    mut store: impl AsContextMut,
    input: impl InputStream + Unpin,
    code: Code<E>,
) -> wasmtime::Result<(StreamReader<u8>, Outcome<E>)>
where
    E: Lower + Lift + Send + Sync + 'static,
{
    let (end, ended) = End::new(code);
    let stream = StreamReader::new(&mut store, Reading { input: Turn::Stream(input), end })?;
    Ok((stream, outcome(store, ended)?))
}

/// Writes a guest's stream to its end, and says how that went.
///
/// # Errors
/// When the instance has too many streams.
pub fn write<E>(
    mut store: impl AsContextMut,
    stream: StreamReader<u8>,
    output: impl OutputStream + Unpin,
    code: Code<E>,
) -> wasmtime::Result<Outcome<E>>
where
    E: Lower + Lift + Send + Sync + 'static,
{
    let (end, ended) = End::new(code);
    stream.pipe(&mut store, Writing { output: Turn::Stream(output), end })?;
    outcome(store, ended)
}

/// An outcome that is known already: what was asked for cannot be had.
///
/// # Errors
/// When the instance has too many futures.
pub fn refused<E>(store: impl AsContextMut, why: E) -> wasmtime::Result<Outcome<E>>
where
    E: Lower + Lift + Send + Sync + 'static,
{
    FutureReader::new(store, async { wasmtime::error::Ok(Err(why)) })
}

/// An outcome that is told when it is known; well, if nobody says anything.
///
/// # Errors
/// When the instance has too many futures.
pub fn outcome<E>(store: impl AsContextMut, ended: oneshot::Receiver<E>) -> wasmtime::Result<Outcome<E>>
where
    E: Lower + Lift + Send + Sync + 'static,
{
    FutureReader::new(store, async { wasmtime::error::Ok(ended.await.map_or(Ok(()), Err)) })
}

/// Tells how a stream ended; dropped without a word, it ended well.
struct End<E> {
    failed: Option<oneshot::Sender<E>>,
    code: Code<E>,
}

impl<E> End<E> {
    fn new(code: Code<E>) -> (End<E>, oneshot::Receiver<E>) {
        let (failed, ended) = oneshot::channel();
        (End { failed: Some(failed), code }, ended)
    }

    fn fail(&mut self, why: Option<&io::Error>) {
        if let Some(failed) = self.failed.take() {
            // A guest that does not want to know has dropped the other end.
            let _ = failed.send((self.code)(why));
        }
    }

    /// What the error of a read or write means to the stream.
    fn of(&mut self, error: StreamError, closed_is_an_end: bool) -> wasmtime::Result<StreamResult> {
        match error {
            StreamError::Closed if closed_is_an_end => {}
            StreamError::Closed => self.fail(None),
            StreamError::LastOperationFailed(error) => {
                let other = io::Error::other("the stream failed");
                self.fail(Some(error.downcast_ref().unwrap_or(&other)));
            }
            StreamError::Trap(error) => return Err(error),
        }
        Ok(StreamResult::Dropped)
    }
}

/// A stream, or the wait until it is ready, which owns it meanwhile.
enum Turn<S> {
    Stream(S),
    Waiting(BoxFuture<'static, S>),
    /// Between the two.
    Taken,
}

impl<S: Pollable> Turn<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&mut S> {
        if let Turn::Waiting(waiting) = self {
            *self = Turn::Stream(ready!(waiting.as_mut().poll(cx)));
        }
        match self {
            Turn::Stream(stream) => Poll::Ready(stream),
            Turn::Waiting(_) | Turn::Taken => Poll::Pending,
        }
    }

    fn wait(&mut self) {
        *self = match std::mem::replace(self, Turn::Taken) {
            Turn::Stream(mut stream) => Turn::Waiting(Box::pin(async move {
                stream.ready().await;
                stream
            })),
            waiting => waiting,
        };
    }
}

/// What a wait means to a guest that has to have an answer now.
fn pending(finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending }
}

struct Reading<S, E> {
    input: Turn<S>,
    end: End<E>,
}

impl<D, S: InputStream + Unpin, E: Send + 'static> StreamProducer<D> for Reading<S, E> {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut into: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Reading { input, end } = &mut *self;
        let room = into.remaining(store).unwrap_or(CHUNK_BYTES);
        loop {
            let Poll::Ready(stream) = input.poll(cx) else { return pending(finish) };
            if room == 0 {
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            match stream.read(room.min(CHUNK_BYTES)) {
                Ok(bytes) if bytes.is_empty() => input.wait(),
                Ok(bytes) => {
                    into.set_buffer(bytes);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Err(error) => return Poll::Ready(end.of(error, true)),
            }
        }
    }
}

struct Writing<S, E> {
    output: Turn<S>,
    end: End<E>,
}

impl<D, S: OutputStream + Unpin, E: Send + 'static> StreamConsumer<D> for Writing<S, E> {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Writing { output, end } = &mut *self;
        let mut source = source.as_direct(store);
        loop {
            let Poll::Ready(stream) = output.poll(cx) else { return pending(finish) };
            let written = stream.check_write().and_then(|permitted| {
                let bytes = source.remaining();
                let length = bytes.len().min(permitted);
                if length > 0 {
                    stream.write(Bytes::copy_from_slice(&bytes[..length]))?;
                }
                Ok((permitted, length))
            });
            match written {
                Ok((0, _)) => output.wait(),
                Ok((_, length)) => {
                    source.mark_read(length);
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Err(error) => return Poll::Ready(end.of(error, false)),
            }
        }
    }
}
