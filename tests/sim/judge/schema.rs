//! What is promised about tables: one that was created is served by every node, one that was dropped
//! by none; a change that is asked for again is made once. Each name is given to one table only, so
//! whatever is said of a name is said of that table.

use std::collections::BTreeMap;

/// What is known of one name. Moments are counted by [`Schema`].
#[derive(Debug, Default)]
struct Life {
    created: Option<u64>,
    drop_asked: bool,
    dropped: Option<u64>,
}

/// The tables of a run.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    lives: BTreeMap<String, Life>,
    moment: u64,
}

impl Schema {
    /// A moment later than all before.
    pub(crate) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Its creation was acknowledged.
    pub(crate) fn created(&mut self, name: &str) {
        let now = self.moment();
        self.lives.entry(name.to_owned()).or_default().created = Some(now);
    }

    /// Somebody has asked for it to be dropped.
    pub(crate) fn drop_asked(&mut self, name: &str) {
        self.lives.entry(name.to_owned()).or_default().drop_asked = true;
    }

    /// Its end was acknowledged.
    pub(crate) fn dropped(&mut self, name: &str) {
        let now = self.moment();
        self.lives.entry(name.to_owned()).or_default().dropped = Some(now);
    }

    /// A request that was begun at `since` was told that there is no such table.
    pub(crate) fn denied(&self, name: &str, since: u64) -> Result<(), String> {
        let Some(life) = self.lives.get(name) else { return Ok(()) };
        if life.created.is_some_and(|created| created < since) && !life.drop_asked {
            return Err(format!("{name} was created, and a node says that there is none"));
        }
        Ok(())
    }

    /// A request that was begun at `since` was served.
    pub(crate) fn served(&self, name: &str, since: u64) -> Result<(), String> {
        let dropped = self.lives.get(name).and_then(|life| life.dropped);
        if dropped.is_some_and(|dropped| dropped < since) {
            return Err(format!("{name} was dropped, and a node serves it"));
        }
        Ok(())
    }
}
