//! Readers that give up: what says itself how long it is may be longer than memory.

mod members;

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Read};

pub use members::{Failure, MAX_NAME_BYTES, members};

/// Reads no more than what is left, which whoever shares the meter may set anew meanwhile.
pub struct Metered<'m, R> {
    inner: R,
    meter: &'m Meter,
}

/// What a [`Metered`] may still read, and whether there was more. Several that share it share what is left.
#[derive(Debug)]
pub struct Meter {
    left: Cell<u64>,
    ended: Cell<bool>,
    /// Said of what is longer.
    too_long: Cow<'static, str>,
}

impl Meter {
    pub fn new(allowed_bytes: u64, too_long: impl Into<Cow<'static, str>>) -> Meter {
        Meter { left: Cell::new(allowed_bytes), ended: Cell::new(false), too_long: too_long.into() }
    }

    pub fn allow(&self, bytes: u64) {
        self.left.set(bytes);
    }

    pub fn left_bytes(&self) -> u64 {
        self.left.get()
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
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, &*self.meter.too_long);
        self.meter.left.set(left.ok_or_else(too_long)?);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_until_more_is_allowed() {
        let meter = Meter::new(0, "it is too long");
        let mut reader = meter.read(io::repeat(1).take(150));
        meter.allow(100);
        reader.read_exact(&mut [0; 100]).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_err().to_string(), "it is too long");
        meter.allow(100);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.len() == 49 && meter.has_ended());
        assert_eq!(meter.left_bytes(), 51);
        let mut another = meter.read(io::repeat(1).take(52));
        assert!(another.read_to_end(&mut rest).is_err(), "what is left is left for all of them");
    }
}
