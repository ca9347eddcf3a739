//! The settings of the comparison in RocksDB's words, and opening with them. All else is as the
//! library has it by default.

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::super::{
    APART_BYTES, BACKGROUND_THREADS, BLOCK_BYTES, CACHE_BYTES, FILTER_BITS, MEMTABLE_BYTES,
    Settings,
};
use super::{checked, sys};
use crate::data::Codec;

/// The number of a compression in the C API.
const NO_COMPRESSION: c_int = 0;
const LZ4_COMPRESSION: c_int = 4;

/// What an open database needs later.
pub(super) struct Opened {
    pub(super) db: *mut sys::Db,
    pub(super) family: *mut sys::Family,
    pub(super) write: *mut sys::WriteOptions,
    pub(super) read: *mut sys::ReadOptions,
    pub(super) flush: *mut sys::FlushOptions,
}

pub(super) fn open(dir: &Path, settings: Settings) -> anyhow::Result<Opened> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    let default = c"default";
    let names: [*const c_char; 1] = [default.as_ptr()];
    let mut families = [ptr::null_mut()];
    let mut error = ptr::null_mut();
    // SAFETY: options are made by the library and live until the process ends; strings end in 0
    // and outlive the call; the two arrays have the one element that the call is told of.
    unsafe {
        let options = options(settings);
        let options_of_families: [*const sys::Options; 1] = [options];
        let db = sys::rocksdb_open_column_families(
            options,
            path.as_ptr(),
            1,
            names.as_ptr(),
            options_of_families.as_ptr(),
            families.as_mut_ptr(),
            &mut error,
        );
        checked(error)?;
        let write = sys::rocksdb_writeoptions_create();
        sys::rocksdb_writeoptions_set_sync(write, u8::from(settings.sync));
        let read = sys::rocksdb_readoptions_create();
        let flush = sys::rocksdb_flushoptions_create();
        let [family] = families;
        Ok(Opened { db, family, write, read, flush })
    }
}

/// # Safety
/// The caller does not free what comes back while a database uses it.
unsafe fn options(settings: Settings) -> *mut sys::Options {
    // SAFETY: every object is made right here by the library; the table's options take over cache
    // and filter, the database's options copy the table's.
    unsafe {
        let table = sys::rocksdb_block_based_options_create();
        sys::rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES);
        let cache = sys::rocksdb_cache_create_lru(CACHE_BYTES);
        sys::rocksdb_block_based_options_set_block_cache(table, cache);
        let filter = sys::rocksdb_filterpolicy_create_bloom(FILTER_BITS);
        sys::rocksdb_block_based_options_set_filter_policy(table, filter);
        let options = sys::rocksdb_options_create();
        sys::rocksdb_options_set_create_if_missing(options, 1);
        sys::rocksdb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
        sys::rocksdb_options_set_max_background_jobs(options, BACKGROUND_THREADS as c_int);
        let compression = match settings.codec {
            Codec::None => NO_COMPRESSION,
            Codec::Lz4 => LZ4_COMPRESSION,
        };
        sys::rocksdb_options_set_compression(options, compression);
        sys::rocksdb_options_set_block_based_table_factory(options, table);
        if settings.apart {
            sys::rocksdb_options_set_enable_blob_files(options, 1);
            sys::rocksdb_options_set_min_blob_size(options, APART_BYTES.into());
            sys::rocksdb_options_set_enable_blob_gc(options, 1);
        }
        options
    }
}
