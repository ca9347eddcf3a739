//! What an open manifest does after a disk that failed, and after one that was full.

use super::*;
use crate::storage::vfs::FaultyVfs;
use crate::testing::arm_mutant;

/// Fails a sync of a manifest, appends to it again, and says whether its file was left alone.
fn is_left_alone_after_a_failed_sync() -> bool {
    let disk = FaultyVfs::new(1);
    let dir = Path::new("/srv/db");
    disk.create_dir(dir).unwrap();
    let mut manifest = Manifest::create(Arc::new(disk.clone()), dir, State::default()).unwrap();
    let edit = |no| Edit { logs_added: vec![no], ..Edit::default() };
    manifest.append(edit(10)).unwrap();
    disk.fail_syncs(1);
    assert!(matches!(manifest.append(edit(11)), Err(Error::Io { action: "sync", .. })));
    let calls = disk.counts().calls;
    // The sync of this one would "succeed", over what the kernel has dropped.
    let refused = matches!(manifest.append(edit(12)), Err(Error::ReadOnly { .. }));
    refused && disk.counts().calls == calls && manifest.state.logs.len() == 1
}

#[test]
fn after_a_failed_sync_nothing_is_appended() {
    assert!(is_left_alone_after_a_failed_sync());
    let _armed = arm_mutant("storage-manifest-after-failed-sync");
    assert!(!is_left_alone_after_a_failed_sync());
}

#[test]
fn after_a_full_disk_it_goes_on() {
    let disk = FaultyVfs::new(1);
    let dir = Path::new("/srv/db");
    disk.create_dir(dir).unwrap();
    let mut manifest = Manifest::create(Arc::new(disk.clone()), dir, State::default()).unwrap();
    disk.set_capacity(Some(disk.bytes()));
    let edit = || Edit { logs_added: vec![10], ..Edit::default() };
    assert!(manifest.append(edit()).is_err_and(|error| error.is_full()));
    disk.set_capacity(None);
    manifest.append(edit()).unwrap();
}
