//! Blocks of headers: counted pairs, in one zlib stream for all blocks of a direction, primed with SPDY's dictionary.

use std::sync::LazyLock;

use bytes::Buf;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::frame::Malformed;

/// The longest block, decompressed.
pub const MAX_BLOCK_BYTES: usize = 32 << 10;
/// The most headers of one block.
pub const MAX_HEADERS: u32 = 64;

/// Names (in lower case) and values, in the order given.
pub type Headers = Vec<(String, String)>;

/// The value of a header.
pub fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// Text that headers are likely to hold, which every block may refer to (SPDY/3, section 2.6.10.1): words with their
/// lengths before them, then text without.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards \
        pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding \
        upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public \
        set-cookie keep-alive origin";
    const CODES: &str = "100 101 201 202 205 206 300 302 303 304 305 306 307 402 405 406 407 408 409 410 411 412 413 414 \
        415 416 417 502 504 505";
    const TEXT: &str = "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
        Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb \
        Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,\
        image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivate\
        max-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut dictionary = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        dictionary.extend_from_slice(&(word.len() as u32).to_be_bytes());
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend(CODES.bytes().filter(|byte| *byte != b' '));
    dictionary.extend_from_slice(TEXT.as_bytes());
    dictionary
});

/// Reads the blocks of one direction.
pub struct Reader {
    zlib: Decompress,
    primed: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { zlib: Decompress::new(true), primed: false }
    }
}

impl Reader {
    /// Reads one block. Blocks must be read in the order they came in, and none after an error.
    ///
    /// # Errors
    /// What is not a block, or more than the bounds allow.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        parse(&self.decompress(block)?)
    }

    fn decompress(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut plain = Vec::with_capacity(MAX_BLOCK_BYTES);
        while !block.is_empty() {
            let before = self.zlib.total_in();
            let done = self.zlib.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(usize::MAX);
            block = block.get(taken..).unwrap_or_default();
            match done {
                Ok(_) if plain.len() == MAX_BLOCK_BYTES => return Err(Malformed::TooLong("header block")),
                Ok(_) if taken == 0 => return Err(Malformed::Compression),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.primed = true;
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| Malformed::Compression)?;
                }
                Err(_) => return Err(Malformed::Compression),
            }
        }
        Ok(plain)
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Malformed> {
    let count = block.try_get_u32().map_err(|_| Malformed::Headers)?;
    if count > MAX_HEADERS {
        return Err(Malformed::TooLong("list of headers"));
    }
    (0..count).map(|_| Ok((text(&mut block)?.to_ascii_lowercase(), text(&mut block)?))).collect()
}

fn text(block: &mut &[u8]) -> Result<String, Malformed> {
    let length = block.try_get_u32().map_err(|_| Malformed::Headers)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Malformed::Headers)
}

/// Writes the blocks of one direction.
pub struct Writer {
    zlib: Compress,
}

impl Default for Writer {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        // Fails only when something was compressed before.
        let _ = zlib.set_dictionary(&DICTIONARY);
        Writer { zlib }
    }
}

impl Writer {
    /// Appends a block to `out`.
    pub fn write(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut rest = plain.as_slice();
        loop {
            out.reserve(plain.len() + 64);
            let before = self.zlib.total_in();
            // Fails only after the stream's end, which is never written.
            let _ = self.zlib.compress_vec(rest, out, FlushCompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        vec![("streamtype".into(), "data".into()), ("port".into(), "8080".into()), ("requestid".into(), "0".into())]
    }

    #[test]
    fn the_dictionary_is_the_one_that_all_speakers_of_spdy_have() {
        let mut block = Vec::new();
        Writer::default().write(&headers(), &mut block);
        // zlib's header, then the Adler-32 of the dictionary.
        assert_eq!(DICTIONARY.len(), 1_423);
        assert_eq!(block[1] & 0x20, 0x20, "a dictionary is announced");
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_of_one_direction_are_one_stream() {
        let (mut writer, mut reader) = (Writer::default(), Reader::default());
        for headers in [headers(), Vec::new(), headers(), vec![("a".into(), "b".repeat(5_000))]] {
            let mut block = Vec::new();
            writer.write(&headers, &mut block);
            assert_eq!(reader.read(&block), Ok(headers));
        }
    }

    #[test]
    fn a_block_that_grows_beyond_its_bound_is_refused() {
        let mut block = Vec::new();
        Writer::default().write(&vec![("a".into(), "b".repeat(10 * MAX_BLOCK_BYTES))], &mut block);
        assert!(block.len() < MAX_BLOCK_BYTES);
        assert_eq!(Reader::default().read(&block), Err(Malformed::TooLong("header block")));
    }
}
