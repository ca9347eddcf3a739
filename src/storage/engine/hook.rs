//! What a caller does before what is in memory becomes tables: with something of its own that follows
//! what is stored, and is to be on disk before the log that could bring it up to date is gone.

use super::Engine;
use super::core::Core;
use crate::storage::batch::{Batch, Seqno};
use crate::storage::error::Error;
use crate::storage::options::{Durability, ThreadMode};

/// What is called before each flush is made known: from the thread that flushes, or from
/// [`Engine::step`]. Nothing is flushed meanwhile. It may write files and wait for locks under which
/// batches are submitted, but for no flush and no merge.
pub type BeforeFlush = Box<dyn Fn(&Moment<'_>) + Send + Sync>;

/// The moment before a flush is made known: the log still has all that the flush covers.
pub struct Moment<'a> {
    core: &'a Core,
}

impl core::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Moment").field("visible", &self.visible()).finish_non_exhaustive()
    }
}

impl Moment<'_> {
    /// The last batch that readers see; at least that up to which the flush goes.
    pub fn visible(&self) -> Seqno {
        self.core.visible()
    }

    /// Waits until all that has been submitted by now is on disk, or has been taken back; whoever had to
    /// be told of it has been called.
    ///
    /// # Errors
    /// The log cannot be written, or the engine is being closed.
    pub fn settle(&self) -> Result<(), Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let on_done = Box::new(move |result| {
            // The receiver waits below; it cannot be gone.
            let _received = sender.send(result);
        });
        let submitted = self.core.submit(Batch::new(), Durability::Synced, on_done);
        submitted.map_err(|(error, _uncalled)| error)?;
        match self.core.options.threads {
            ThreadMode::Threaded => {
                self.core.log_wake.notify_one();
            }
            ThreadMode::Inline => while self.core.log_step() {},
        }
        receiver.recv().unwrap_or(Err(Error::Closed)).map(drop)
    }
}

impl Engine {
    /// Has `hook` called before each flush from now on, and lets flushes begin that
    /// [`Options::holds_flushes`](crate::storage::Options::holds_flushes) has held. The first one
    /// that is given stands.
    pub fn before_flush(&self, hook: BeforeFlush) {
        let _second = self.core.hook.set(hook);
        self.release_flushes();
    }

    /// Lets flushes begin, without anything to do before.
    pub fn release_flushes(&self) {
        self.core.commit.lock().holds_flushes = false;
        self.core.flush_wake.notify_one();
    }
}

impl Core {
    /// Before the manifest says that a memtable is in tables.
    pub(super) fn call_hook(&self) {
        if let Some(hook) = self.hook.get() {
            hook(&Moment { core: self });
        }
    }
}
