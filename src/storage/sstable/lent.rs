//! An index or a filter as readers get it: from its table or, if that has not pinned it, for a while
//! out of the cache.

use core::ops::Deref;
use std::sync::Arc;

use super::footer::Footer;
use super::index::Index;

/// What a table holds itself, or what someone shares with the cache: that goes with its last holder.
#[derive(Debug)]
pub(super) enum Lent<'a, T> {
    Pinned(&'a T),
    Shared(Arc<T>),
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Pinned(held) => held,
            Self::Shared(held) => held,
        }
    }
}

/// What leads through the blocks of a table.
#[derive(Debug)]
pub(super) struct Guide<'a> {
    pub(super) footer: &'a Footer,
    pub(super) index: Lent<'a, Index>,
}
