//! RocksDB, by the C API of the system's library. The only place of the benchmark with `unsafe`:
//! every call into C stands in this file, every declaration in [`sys`].
#![allow(unsafe_code, reason = "a C library has no other door")]

mod options;
mod sys;

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::ptr;

use super::{Settings, Store};
use options::Opened;

pub(super) struct RocksDb {
    db: *mut sys::Db,
    family: *mut sys::Family,
    write: *mut sys::WriteOptions,
    read: *mut sys::ReadOptions,
    flush: *mut sys::FlushOptions,
}

// SAFETY: RocksDB's handles may be used by several threads at once; options are only read after
// they were made, and nothing here is freed before the store is dropped.
unsafe impl Send for RocksDb {}
// SAFETY: as above.
unsafe impl Sync for RocksDb {}

/// Turns the error that a call left, if any, into ours, and frees it.
fn checked(error: *mut c_char) -> anyhow::Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null error is a string that ends in 0, allocated by the library for the caller.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: it is freed once, and not used after.
    unsafe { sys::rocksdb_free(error.cast()) };
    anyhow::bail!("RocksDB: {text}")
}

impl RocksDb {
    pub(super) fn open(dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        let Opened { db, family, write, read, flush } = options::open(dir, settings)?;
        Ok(Self { db, family, write, read, flush })
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: all five came from the library, nothing uses them after this, and the family is
        // destroyed before its database, as the library asks.
        unsafe {
            sys::rocksdb_column_family_handle_destroy(self.family);
            sys::rocksdb_close(self.db);
            sys::rocksdb_writeoptions_destroy(self.write);
            sys::rocksdb_readoptions_destroy(self.read);
            sys::rocksdb_flushoptions_destroy(self.flush);
        }
    }
}

impl Store for RocksDb {
    fn put(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let mut error = ptr::null_mut();
        // SAFETY: pointers and lengths are those of two living slices; the library copies them.
        unsafe {
            let (key, key_bytes) = (key.as_ptr().cast(), key.len());
            let (value, value_bytes) = (value.as_ptr().cast(), value.len());
            sys::rocksdb_put(self.db, self.write, key, key_bytes, value, value_bytes, &mut error);
        }
        checked(error)
    }

    fn delete(&self, key: &[u8]) -> anyhow::Result<()> {
        let mut error = ptr::null_mut();
        // SAFETY: pointer and length are those of a living slice; the library copies it.
        unsafe {
            sys::rocksdb_delete(self.db, self.write, key.as_ptr().cast(), key.len(), &mut error);
        }
        checked(error)
    }

    fn put_batch(&self, pairs: &[([u8; 16], Vec<u8>)]) -> anyhow::Result<()> {
        let mut error = ptr::null_mut();
        // SAFETY: the batch lives from its creation to its end below and copies what is put in.
        unsafe {
            let batch = sys::rocksdb_writebatch_create();
            for (key, value) in pairs {
                let (key, key_bytes) = (key.as_ptr().cast(), key.len());
                let (value, value_bytes) = (value.as_ptr().cast(), value.len());
                sys::rocksdb_writebatch_put(batch, key, key_bytes, value, value_bytes);
            }
            sys::rocksdb_write(self.db, self.write, batch, &mut error);
            sys::rocksdb_writebatch_destroy(batch);
        }
        checked(error)
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        let mut error = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the key lives; the slice that comes back, if any, is destroyed here once. Its
        // value is not looked at beyond its length, as with the other engines.
        let found = unsafe {
            let (key, bytes) = (key.as_ptr().cast(), key.len());
            let slice = sys::rocksdb_get_pinned(self.db, self.read, key, bytes, &mut error);
            if !slice.is_null() {
                sys::rocksdb_pinnableslice_value(slice, &mut length);
                sys::rocksdb_pinnableslice_destroy(slice);
            }
            !slice.is_null()
        };
        checked(error)?;
        Ok(found.then_some(length))
    }

    fn multi_get(&self, keys: &[[u8; 16]]) -> anyhow::Result<usize> {
        let pointers: Vec<*const c_char> = keys.iter().map(|key| key.as_ptr().cast()).collect();
        let lengths: Vec<usize> = keys.iter().map(|key| key.len()).collect();
        let mut slices = vec![ptr::null_mut(); keys.len()];
        let mut errors: Vec<*mut c_char> = vec![ptr::null_mut(); keys.len()];
        // SAFETY: all four arrays have as many elements as there are keys and outlive the call.
        unsafe {
            sys::rocksdb_batched_multi_get_cf(
                self.db,
                self.read,
                self.family,
                keys.len(),
                pointers.as_ptr(),
                lengths.as_ptr(),
                slices.as_mut_ptr(),
                errors.as_mut_ptr(),
                false,
            );
        }
        let mut found = 0;
        for slice in slices.into_iter().filter(|slice| !slice.is_null()) {
            found += 1;
            // SAFETY: each slice that came back is destroyed once.
            unsafe { sys::rocksdb_pinnableslice_destroy(slice) };
        }
        errors.into_iter().try_for_each(checked)?;
        Ok(found)
    }

    fn scan(&self, start: &[u8], limit: usize) -> anyhow::Result<(usize, usize)> {
        let (mut pairs, mut bytes, mut length) = (0, 0, 0);
        let mut error = ptr::null_mut();
        // SAFETY: the iterator lives from its creation to its end below; keys and values are only
        // asked for while it is valid.
        unsafe {
            let iterator = sys::rocksdb_create_iterator(self.db, self.read);
            sys::rocksdb_iter_seek(iterator, start.as_ptr().cast(), start.len());
            while pairs < limit && sys::rocksdb_iter_valid(iterator) != 0 {
                std::hint::black_box(sys::rocksdb_iter_key(iterator, &mut length));
                std::hint::black_box(sys::rocksdb_iter_value(iterator, &mut length));
                pairs += 1;
                bytes += length;
                sys::rocksdb_iter_next(iterator);
            }
            sys::rocksdb_iter_get_error(iterator, &mut error);
            sys::rocksdb_iter_destroy(iterator);
        }
        checked(error)?;
        Ok((pairs, bytes))
    }

    fn flush(&self) -> anyhow::Result<()> {
        let mut error = ptr::null_mut();
        // SAFETY: both handles live.
        unsafe { sys::rocksdb_flush(self.db, self.flush, &mut error) };
        checked(error)
    }

    fn table_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        let name = c"rocksdb.total-sst-files-size";
        // SAFETY: the name ends in 0, and the number is written to a living place.
        let status = unsafe { sys::rocksdb_property_int(self.db, name.as_ptr(), &mut bytes) };
        anyhow::ensure!(status == 0, "RocksDB does not know the size of its tables");
        Ok(bytes)
    }
}
