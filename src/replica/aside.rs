//! Sets the whole store aside, as it is: a copy that opens as a store, for people alone. Links where the file
//! system has them, so that it takes room only for what the store itself lets go of.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Done, Shared, disk_error, files};
use crate::message::{AsideTask, DiskAnswer, DiskError};
use crate::types::Epoch;

fn dir(shared: &Shared, epoch: Epoch) -> PathBuf {
    shared.dir.join("aside").join(epoch.0.to_string())
}

/// Makes the copy, in place of what an earlier boot has begun, or deletes it.
pub(super) fn execute(shared: &Arc<Shared>, task: AsideTask, done: Done) {
    files::run_apart(shared, "kvd-aside", done, move |shared, done| {
        let (AsideTask::Keep(epoch) | AsideTask::Drop(epoch)) = task;
        let dir = dir(shared, epoch);
        let cleared = files::clear(&*shared.vfs, &dir);
        let cleared = cleared.map_err(|error| DiskError::Io(format!("old data: {error}")));
        done(cleared.and_then(|()| match task {
            AsideTask::Drop(_) => {
                // An empty directory harms nobody: what cannot be removed stays. The one above may hold another.
                for dir in [Some(dir.as_path()), dir.parent()].into_iter().flatten() {
                    let _stays = shared.vfs.remove_dir(dir);
                }
                Ok(DiskAnswer::Persisted)
            }
            AsideTask::Keep(_) => {
                let copied = shared.engine.checkpoint(&dir);
                copied.map(|_| DiskAnswer::Persisted).map_err(|error| disk_error(&error))
            }
        }));
    });
}
