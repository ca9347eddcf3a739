//! The part of RocksDB's C API that is used, declared as in `rocksdb/c.h` of version 7.8.
use std::ffi::{c_char, c_int, c_uchar, c_void};

macro_rules! opaque {
    ($($name:ident),*) => {
        $(
            #[repr(C)]
            pub(super) struct $name {
                _opaque: [u8; 0],
            }
        )*
    };
}

opaque!(Db, Family, Options, TableOptions, Cache, Filter, WriteOptions, ReadOptions, FlushOptions);
opaque!(WriteBatch, Iterator, PinnableSlice);

unsafe extern "C" {
    pub(super) fn rocksdb_free(what: *mut c_void);
    pub(super) fn rocksdb_open_column_families(
        options: *const Options,
        name: *const c_char,
        families: c_int,
        family_names: *const *const c_char,
        family_options: *const *const Options,
        handles: *mut *mut Family,
        error: *mut *mut c_char,
    ) -> *mut Db;
    pub(super) fn rocksdb_column_family_handle_destroy(family: *mut Family);
    pub(super) fn rocksdb_close(db: *mut Db);

    pub(super) fn rocksdb_block_based_options_create() -> *mut TableOptions;
    pub(super) fn rocksdb_block_based_options_set_block_size(
        table: *mut TableOptions,
        bytes: usize,
    );
    pub(super) fn rocksdb_block_based_options_set_block_cache(
        table: *mut TableOptions,
        cache: *mut Cache,
    );
    pub(super) fn rocksdb_block_based_options_set_filter_policy(
        table: *mut TableOptions,
        filter: *mut Filter,
    );
    pub(super) fn rocksdb_cache_create_lru(bytes: usize) -> *mut Cache;
    pub(super) fn rocksdb_filterpolicy_create_bloom(bits_per_key: f64) -> *mut Filter;
    pub(super) fn rocksdb_options_create() -> *mut Options;
    pub(super) fn rocksdb_options_set_create_if_missing(options: *mut Options, yes: c_uchar);
    pub(super) fn rocksdb_options_set_write_buffer_size(options: *mut Options, bytes: usize);
    pub(super) fn rocksdb_options_set_max_background_jobs(options: *mut Options, jobs: c_int);
    pub(super) fn rocksdb_options_set_compression(options: *mut Options, compression: c_int);
    pub(super) fn rocksdb_options_set_enable_blob_files(options: *mut Options, yes: c_uchar);
    pub(super) fn rocksdb_options_set_min_blob_size(options: *mut Options, bytes: u64);
    pub(super) fn rocksdb_options_set_enable_blob_gc(options: *mut Options, yes: c_uchar);
    pub(super) fn rocksdb_options_set_block_based_table_factory(
        options: *mut Options,
        table: *mut TableOptions,
    );

    pub(super) fn rocksdb_writeoptions_create() -> *mut WriteOptions;
    pub(super) fn rocksdb_writeoptions_destroy(options: *mut WriteOptions);
    pub(super) fn rocksdb_writeoptions_set_sync(options: *mut WriteOptions, sync: c_uchar);
    pub(super) fn rocksdb_readoptions_create() -> *mut ReadOptions;
    pub(super) fn rocksdb_readoptions_destroy(options: *mut ReadOptions);
    pub(super) fn rocksdb_flushoptions_create() -> *mut FlushOptions;
    pub(super) fn rocksdb_flushoptions_destroy(options: *mut FlushOptions);

    pub(super) fn rocksdb_put(
        db: *mut Db,
        options: *const WriteOptions,
        key: *const c_char,
        key_bytes: usize,
        value: *const c_char,
        value_bytes: usize,
        error: *mut *mut c_char,
    );
    pub(super) fn rocksdb_delete(
        db: *mut Db,
        options: *const WriteOptions,
        key: *const c_char,
        key_bytes: usize,
        error: *mut *mut c_char,
    );
    pub(super) fn rocksdb_writebatch_create() -> *mut WriteBatch;
    pub(super) fn rocksdb_writebatch_destroy(batch: *mut WriteBatch);
    pub(super) fn rocksdb_writebatch_put(
        batch: *mut WriteBatch,
        key: *const c_char,
        key_bytes: usize,
        value: *const c_char,
        value_bytes: usize,
    );
    pub(super) fn rocksdb_write(
        db: *mut Db,
        options: *const WriteOptions,
        batch: *mut WriteBatch,
        error: *mut *mut c_char,
    );

    pub(super) fn rocksdb_get_pinned(
        db: *mut Db,
        options: *const ReadOptions,
        key: *const c_char,
        key_bytes: usize,
        error: *mut *mut c_char,
    ) -> *mut PinnableSlice;
    pub(super) fn rocksdb_pinnableslice_destroy(slice: *mut PinnableSlice);
    pub(super) fn rocksdb_pinnableslice_value(
        slice: *const PinnableSlice,
        bytes: *mut usize,
    ) -> *const c_char;
    pub(super) fn rocksdb_batched_multi_get_cf(
        db: *mut Db,
        options: *const ReadOptions,
        family: *mut Family,
        keys: usize,
        list: *const *const c_char,
        sizes: *const usize,
        values: *mut *mut PinnableSlice,
        errors: *mut *mut c_char,
        sorted_input: bool,
    );

    pub(super) fn rocksdb_create_iterator(
        db: *mut Db,
        options: *const ReadOptions,
    ) -> *mut Iterator;
    pub(super) fn rocksdb_iter_destroy(iterator: *mut Iterator);
    pub(super) fn rocksdb_iter_seek(iterator: *mut Iterator, key: *const c_char, bytes: usize);
    pub(super) fn rocksdb_iter_valid(iterator: *const Iterator) -> c_uchar;
    pub(super) fn rocksdb_iter_next(iterator: *mut Iterator);
    pub(super) fn rocksdb_iter_key(iterator: *const Iterator, bytes: *mut usize) -> *const c_char;
    pub(super) fn rocksdb_iter_value(iterator: *const Iterator, bytes: *mut usize)
    -> *const c_char;
    pub(super) fn rocksdb_iter_get_error(iterator: *const Iterator, error: *mut *mut c_char);

    pub(super) fn rocksdb_flush(db: *mut Db, options: *const FlushOptions, error: *mut *mut c_char);
    pub(super) fn rocksdb_property_int(db: *mut Db, name: *const c_char, value: *mut u64) -> c_int;
}
