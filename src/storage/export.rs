//! The list of what an export holds, as it lies beside the files: `docs/format/export.md`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::batch::Seqno;
use super::coding::{Reader, length_u32, placed_checksum, put_length, put_string, put_varint};
use super::error::Error;
use super::key_range::KeyRange;
use super::sstable::TableMeta;
use super::vfs::{Vfs, read_all};

/// The name of the list.
pub(crate) const LIST: &str = "EXPORT";
const FORMAT: u32 = 2;
/// Longest list that is read.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// How much of a file is hashed at once.
const HASH_BYTES: usize = 1 << 20;

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The last batch that it shows.
    pub seqno: Seqno,
    /// What was asked for.
    pub range: KeyRange,
    /// The tables, in key order; their keys do not meet.
    pub files: Vec<TableFile>,
    /// The blob files that the tables refer to.
    pub blobs: Vec<BlobPart>,
}

/// A blob file outside of a store: where long values of the tables beside it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPart {
    /// The name of the file in its directory.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// The xxh3-64 of the file.
    pub checksum: u64,
}

/// A table outside of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// The name of the file in its directory.
    pub name: String,
    /// The first key in it.
    pub smallest: Bytes,
    /// The last key in it.
    pub largest: Bytes,
    /// Number of pairs.
    pub entries: u64,
    /// Length of the file.
    pub bytes: u64,
    /// The xxh3-64 of the file. For whoever sends it: a store that takes it in checks every block
    /// against checksums inside the file.
    pub checksum: u64,
    /// The names of the blob files that it refers to, in the same directory.
    pub blobs: Vec<String>,
}

impl Export {
    /// Reads the list in `dir`.
    ///
    /// # Errors
    /// `Missing` when there is none, as an export that was cut short leaves it; `Corrupt`,
    /// `Version`, or what the file system says.
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Self, Error> {
        let path = Self::list_path(dir);
        let file = vfs.open_to_read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { file: path.clone() },
            _ => Error::io("open", &path, error),
        })?;
        let content =
            read_all(&*file, LIST_BYTES_MAX).map_err(|error| Error::io("read", &path, error))?;
        let mut reader = Reader::new(&content);
        let bad = || Error::corrupt(&path, 0, "list cannot be decoded");
        let length = reader.u32().and_then(|length| usize::try_from(length).ok());
        let sum = reader.u64().ok_or_else(bad)?;
        let body = length.and_then(|length| reader.bytes(length)).ok_or_else(bad)?;
        if placed_checksum(body, 0, 0) != sum || !reader.is_empty() {
            return Err(Error::corrupt(&path, 0, "list checksum does not match"));
        }
        let mut reader = Reader::new(body);
        match reader.u32().ok_or_else(bad)? {
            FORMAT => Self::decode(&mut reader).ok_or_else(bad),
            found => Err(Error::Version { file: path, found, known: FORMAT }),
        }
    }

    /// The paths of all files, given where the export is: tables, then blob files.
    pub fn paths(&self, dir: &Path) -> Vec<PathBuf> {
        let tables = self.files.iter().map(|file| &file.name);
        tables.chain(self.blobs.iter().map(|blob| &blob.name)).map(|name| dir.join(name)).collect()
    }

    /// What of the list cannot be so in an export that was written to its end.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        let mut pairs = self.files.iter().zip(self.files.iter().skip(1));
        if self.files.iter().any(|file| !self.range.holds(&file.smallest, &file.largest)) {
            return Some("a table is listed with keys outside of the range");
        }
        if pairs.any(|(low, high)| low.largest >= high.smallest) {
            return Some("tables are listed whose keys meet, or not in key order");
        }
        None
    }

    pub(crate) fn list_path(dir: &Path) -> PathBuf {
        dir.join(LIST)
    }

    /// Writes the list, durably.
    pub(crate) fn write(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
        let path = Self::list_path(dir);
        let body = self.encode();
        let mut content = length_u32(body.len()).to_le_bytes().to_vec();
        content.extend_from_slice(&placed_checksum(&body, 0, 0).to_le_bytes());
        content.extend_from_slice(&body);
        let file = vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
        file.write_at(0, &content).map_err(|error| Error::io("write to", &path, error))?;
        file.sync_data().map_err(|error| Error::io("sync", &path, error))?;
        vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = FORMAT.to_le_bytes().to_vec();
        put_varint(&mut out, self.seqno.0);
        self.range.encode(&mut out);
        put_length(&mut out, self.files.len());
        for file in &self.files {
            put_string(&mut out, file.name.as_bytes());
            put_string(&mut out, &file.smallest);
            put_string(&mut out, &file.largest);
            put_varint(&mut out, file.entries);
            put_varint(&mut out, file.bytes);
            out.extend_from_slice(&file.checksum.to_le_bytes());
            put_length(&mut out, file.blobs.len());
            file.blobs.iter().for_each(|name| put_string(&mut out, name.as_bytes()));
        }
        put_length(&mut out, self.blobs.len());
        for blob in &self.blobs {
            put_string(&mut out, blob.name.as_bytes());
            put_varint(&mut out, blob.bytes);
            out.extend_from_slice(&blob.checksum.to_le_bytes());
        }
        out
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let seqno = Seqno(reader.varint()?);
        let range = KeyRange::decode(reader)?;
        let count = reader.length()?;
        let mut files = Vec::new();
        for _ in 0..count {
            files.push(TableFile {
                name: name(reader)?,
                smallest: Bytes::copy_from_slice(reader.string()?),
                largest: Bytes::copy_from_slice(reader.string()?),
                entries: reader.varint()?,
                bytes: reader.varint()?,
                checksum: reader.u64()?,
                blobs: names(reader)?,
            });
        }
        let count = reader.length()?;
        let mut blobs = Vec::new();
        for _ in 0..count {
            let (name, bytes) = (name(reader)?, reader.varint()?);
            blobs.push(BlobPart { name, bytes, checksum: reader.u64()? });
        }
        reader.is_empty().then_some(Self { seqno, range, files, blobs })
    }
}

fn names(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..reader.length()? {
        names.push(name(reader)?);
    }
    Some(names)
}

/// The name of a file. A list may come from elsewhere: it names files beside it and nothing else.
fn name(reader: &mut Reader<'_>) -> Option<String> {
    let name = String::from_utf8(reader.string()?.to_vec()).ok()?;
    let is_elsewhere = name.contains(['/', '\\']) || name.starts_with('.') || name.is_empty();
    (!is_elsewhere).then_some(name)
}

impl TableFile {
    /// The paths of the table and of the blob files that it refers to, given where they are.
    pub fn paths(&self, dir: &Path) -> Vec<PathBuf> {
        std::iter::once(&self.name).chain(&self.blobs).map(|name| dir.join(name)).collect()
    }

    /// A table that is on disk, of this length and checksum.
    pub(crate) fn of(path: &Path, meta: &TableMeta, (bytes, checksum): (u64, u64)) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            name,
            smallest: meta.smallest.clone(),
            largest: meta.largest.clone(),
            entries: meta.entries,
            bytes,
            checksum,
            blobs: Vec::new(),
        }
    }
}

/// Length and checksum of a file.
///
/// # Errors
/// What the file system says.
pub(crate) fn measure(vfs: &dyn Vfs, path: &Path) -> Result<(u64, u64), Error> {
    let file = vfs.open_to_read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { file: path.to_path_buf() },
        _ => Error::io("open", path, error),
    })?;
    let (mut hash, mut offset) = (Xxh3::new(), 0);
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        let read = file.read_at(offset, &mut buffer);
        let read = read.map_err(|error| Error::io("read", path, error))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        offset += read as u64;
    }
    Ok((offset, hash.digest()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_list_reads_back_and_a_cut_one_does_not(
            keys in vec((vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9)), 0..5),
            end in any::<Option<u8>>(), seqno in any::<u64>(),
        ) {
            let file = |(smallest, largest): (Vec<u8>, Vec<u8>)| TableFile {
                name: format!("{}.sst", smallest.len()),
                smallest: smallest.into(),
                largest: largest.into(),
                entries: seqno / 2,
                bytes: seqno,
                checksum: !seqno,
                blobs: (0..seqno % 3).map(|number| format!("{number}.blob")).collect(),
            };
            let range = KeyRange::new(Bytes::new(), end.map(|end| Bytes::from(vec![end])));
            let files = keys.into_iter().map(file).collect();
            let blob = |number: u64| BlobPart {
                name: format!("{number}.blob"),
                bytes: seqno / 3,
                checksum: seqno,
            };
            let blobs = (0..seqno % 3).map(blob).collect();
            let export = Export { seqno: Seqno(seqno), range, files, blobs };
            let body = export.encode().split_off(4);
            for cut in 0..body.len() {
                prop_assert_eq!(Export::decode(&mut Reader::new(&body[..cut])), None);
            }
            prop_assert_eq!(Export::decode(&mut Reader::new(&body)), Some(export));
        }

        #[test]
        fn foreign_bytes_never_panic(body in vec(any::<u8>(), 0..200), small in any::<bool>()) {
            let body: Vec<u8> = body.iter().map(|byte| if small { byte % 5 } else { *byte }).collect();
            if let Some(export) = Export::decode(&mut Reader::new(&body)) {
                let _told = export.broken();
                let files = export.files.len() + export.blobs.len();
                prop_assert_eq!(export.paths(Path::new("x")).len(), files);
            }
        }
    }
}
