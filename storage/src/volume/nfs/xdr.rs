//! Numbers and bytes as XDR (RFC 4506) has them: big-endian, everything padded to four bytes.

use bytes::{Buf, BufMut, Bytes};

/// A message does not say what it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer makes no sense")]
pub struct Malformed;

/// Writes a message.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn u32(mut self, value: u32) -> Writer {
        self.0.put_u32(value);
        self
    }

    pub fn u64(mut self, value: u64) -> Writer {
        self.0.put_u64(value);
        self
    }

    /// Bytes whose number both sides know, a multiple of four.
    pub fn fixed(mut self, bytes: &[u8]) -> Writer {
        self.0.put_slice(bytes);
        self
    }

    /// Bytes behind their number. What k8w sends is far below 4 GiB.
    pub fn opaque(mut self, bytes: &[u8]) -> Writer {
        self.0.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.put_slice(bytes);
        self.0.put_bytes(0, padding(bytes.len()));
        self
    }

    /// `true` before a value, or `false` alone.
    pub fn option<T>(self, value: Option<T>, write: impl FnOnce(Writer, T) -> Writer) -> Writer {
        match value {
            Some(value) => write(self.u32(1), value),
            None => self.u32(0),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a message from its beginning on; never past its end, and without copies.
pub struct Reader(Bytes);

impl Reader {
    pub fn new(message: Bytes) -> Reader {
        Reader(message)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        self.0.try_copy_to_slice(&mut array).map_err(|_| Malformed)?;
        Ok(array)
    }

    /// At most `max_bytes` bytes behind their number.
    pub fn opaque(&mut self, max_bytes: usize) -> Result<Bytes, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if length > max_bytes || self.0.len() < length + padding(length) {
            return Err(Malformed);
        }
        let bytes = self.0.split_to(length);
        self.0.advance(padding(length));
        Ok(bytes)
    }

    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let written = Writer::default().u32(7).opaque(b"abcde").option(Some(9), Writer::u64).option(None, Writer::u64);
        let written = written.fixed(&[1, 2, 3, 4]).finish();
        assert_eq!(written.len(), 4 + 4 + 8 + 4 + 8 + 4 + 4);
        let mut reader = Reader::new(written.into());
        assert_eq!(reader.u32(), Ok(7));
        assert_eq!(reader.opaque(5).unwrap(), "abcde");
        assert_eq!(reader.option(Reader::u64), Ok(Some(9)));
        assert_eq!(reader.option(Reader::u64), Ok(None));
        assert_eq!(reader.array(), Ok([1, 2, 3, 4]));
        assert_eq!(reader.u32(), Err(Malformed));
    }

    #[test]
    fn lengths_are_not_believed() {
        for message in
            [&[0, 0, 0, 5, 1, 2, 3, 4, 5][..], &[255; 8], &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 0]]
        {
            assert_eq!(Reader::new(Bytes::copy_from_slice(message)).opaque(8), Err(Malformed));
        }
    }
}
