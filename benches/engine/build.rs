//! Finds the system's RocksDB when the feature `rocksdb` asks for it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "rocksdb")]
    if let Err(error) = pkg_config::Config::new().atleast_version("7.8").probe("rocksdb") {
        println!(
            "cargo:error=the feature `rocksdb` needs the library RocksDB 7.8 or later with its \
             headers (Debian: apt-get install librocksdb-dev pkg-config); without the feature the \
             benchmark compares with fjall alone. {}",
            error.to_string().replace('\n', " ")
        );
    }
}
