//! A reader that gives up: a record that says itself how long it is may be longer than memory.

use std::cell::Cell;
use std::io::{self, Read};

/// Reads no more than what is left, which whoever shares the meter may set anew meanwhile.
pub struct Metered<'m, R> {
    inner: R,
    meter: &'m Meter,
}

/// What a [`Metered`] may still read, and whether there was more.
#[derive(Debug, Default)]
pub struct Meter {
    left: Cell<u64>,
    ended: Cell<bool>,
}

impl Meter {
    pub fn allow(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// Whether the reader has come to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub fn read<R: Read>(&self, inner: R) -> Metered<'_, R> {
        Metered { inner, meter: self }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.ended.set(read == 0 && !buffer.is_empty());
        let left = self.meter.left.get().checked_sub(read as u64);
        self.meter.left.set(left.ok_or_else(too_long)?);
        Ok(read)
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a record is longer than is allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_until_more_is_allowed() {
        let meter = Meter::default();
        let mut reader = meter.read(io::repeat(1).take(150));
        meter.allow(100);
        reader.read_exact(&mut [0; 100]).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        meter.allow(100);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.len() == 49 && meter.has_ended());
    }
}
