//! Reads the lines of a file or of stdin on a thread of its own, since both may block, and hands
//! them over in chunks through a short queue: memory is bounded whatever the file.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::exit::Failure;

/// Longest line: the largest value with every byte escaped as JSON does, and its key.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 20;
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_QUEUED: usize = 2;

/// One line, or why it is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// Without its line end; `None` when it is over [`LINE_BYTES_MAX`].
    pub(crate) bytes: Option<Vec<u8>>,
    /// What it took of the file.
    pub(crate) consumed: u64,
}

/// Lines, or that reading failed.
pub(crate) type Chunk = io::Result<Vec<Line>>;

/// Opens `path`, or stdin for `-`, and starts to read it. The second part is its size, when known.
///
/// # Errors
/// Usage: it cannot be opened.
pub(crate) fn open(path: &str) -> Result<(mpsc::Receiver<Chunk>, Option<u64>), Failure> {
    let (source, size): (Box<dyn Read + Send>, _) = if path == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let unreadable = |error| Failure::usage(format!("cannot read {path}: {error}"));
        let file = std::fs::OpenOptions::new().read(true).open(path).map_err(unreadable)?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        (Box::new(file), size)
    };
    let (sender, chunks) = mpsc::channel(CHUNKS_QUEUED);
    std::thread::Builder::new()
        .name("import-reader".to_owned())
        .spawn(move || read(source, &sender))
        .map_err(|error| Failure::internal(format!("cannot start the reader: {error}")))?;
    Ok((chunks, size))
}

fn read(source: impl Read, chunks: &mpsc::Sender<Chunk>) {
    let mut source = BufReader::with_capacity(64 << 10, source);
    let (mut chunk, mut bytes, mut number) = (Vec::new(), 0, 0);
    loop {
        number += 1;
        match next(&mut source, number, LINE_BYTES_MAX) {
            Ok(Some(line)) => {
                bytes += line.bytes.as_ref().map_or(0, Vec::len);
                chunk.push(line);
            }
            Ok(None) => {
                let _ = chunks.blocking_send(Ok(chunk));
                return;
            }
            Err(error) => {
                let _ = chunks.blocking_send(Ok(chunk));
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
        if bytes >= CHUNK_BYTES {
            bytes = 0;
            if chunks.blocking_send(Ok(core::mem::take(&mut chunk))).is_err() {
                return;
            }
        }
    }
}

/// The next line of at most `max` bytes; `None` at the end.
fn next(source: &mut impl BufRead, number: u64, max: usize) -> io::Result<Option<Line>> {
    let (mut line, mut consumed, mut fits) = (Vec::new(), 0_u64, true);
    loop {
        let buffer = source.fill_buf()?;
        if buffer.is_empty() {
            if consumed == 0 {
                return Ok(None);
            }
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (part, used) = match end {
            Some(end) => (buffer.get(..end).unwrap_or_default(), end + 1),
            None => (buffer, buffer.len()),
        };
        fits &= line.len() + part.len() <= max;
        if fits {
            line.extend_from_slice(part);
        } else {
            line = Vec::new();
        }
        source.consume(used);
        consumed += u64::try_from(used).unwrap_or(u64::MAX);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(Line { number, bytes: fits.then_some(line), consumed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], buffer: usize, max: usize) -> Vec<Option<String>> {
        let mut source = BufReader::with_capacity(buffer, text);
        let mut lines = Vec::new();
        while let Some(line) = next(&mut source, 0, max).unwrap() {
            lines.push(line.bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
        }
        lines
    }

    #[test]
    fn lines_end_with_any_line_end_or_the_file() {
        for buffer in [1, 2, 3, 64] {
            let lines = all(b"a\nbb\r\n\nlast", buffer, 99);
            let expected = ["a", "bb", "", "last"].map(|line| Some(line.to_owned()));
            assert_eq!(lines, expected, "buffer of {buffer}");
        }
        assert!(all(b"", 8, 99).is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_the_next_one_read() {
        for buffer in [1, 2, 64] {
            let lines = all(b"abcdef\nabc\n", buffer, 3);
            assert_eq!(lines, [None, Some("abc".to_owned())], "buffer of {buffer}");
        }
    }
}
