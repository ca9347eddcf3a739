//! Scans: pages of keys in byte order, as a stream of one node, which reads ahead. When the stream breaks,
//! for whatever reason, another one is begun where it stood, with a timeout and retries of its own, so that a
//! scan survives the node it began on. A node that knows no streams is asked page by page.

use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Request, Status, Streaming};

use crate::message::{ErrorCode, Receipt};
use crate::types::{Quorum, Stamp, WallTime, limits};
use crate::wire::proto::v1;

use super::call::{Core, Operation, Try};
use super::data::{Common, checked_key, common_options};
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_status;
use super::{Error, convert};

/// One key of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// Its value; empty when only keys were asked for.
    pub value: Bytes,
    /// Its version.
    pub stamp: Stamp,
    /// When it expires; `None`: never.
    pub expires: Option<WallTime>,
    /// How many siblings it has; 1 in tables of other kinds than causal.
    pub siblings: u32,
    /// The value was wanted and is not here: there are several siblings, or they are too large for
    /// a page. Get the key.
    pub value_left_out: bool,
}

/// One page of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In byte order, or the reverse of it, as asked.
    pub entries: Vec<Entry>,
    /// What the page rests on.
    pub receipt: Receipt,
}

/// A scan about to begin: ask it for [`ScanRequest::entries`] or [`ScanRequest::pages`].
#[derive(Clone, Debug)]
#[must_use = "a scan begins when its stream is read"]
pub struct ScanRequest {
    common: Common,
    prefix: Bytes,
    after: Bytes,
    to: Option<Bytes>,
    limit: Option<u64>,
    page_size: u32,
    keys_only: bool,
    reverse: bool,
    /// Where the next page begins, once there was one.
    place: Option<Bytes>,
    r: Option<Quorum>,
}

impl ScanRequest {
    pub(crate) fn new(core: Arc<Core>) -> ScanRequest {
        ScanRequest {
            common: Common::new(core),
            prefix: Bytes::new(),
            after: Bytes::new(),
            to: None,
            limit: None,
            page_size: 0,
            keys_only: false,
            reverse: false,
            place: None,
            r: None,
        }
    }

    common_options!();

    /// Only keys that begin with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only keys at or above `key`.
    pub fn from(mut self, key: impl Into<Bytes>) -> Self {
        self.after = just_below(&key.into());
        self
    }

    /// Only keys strictly above `key`: for going on where another scan stopped.
    pub fn after(mut self, key: impl Into<Bytes>) -> Self {
        self.after = key.into();
        self
    }

    /// Only keys strictly below `key`: also for going on where a reverse scan stopped.
    pub fn to(mut self, key: impl Into<Bytes>) -> Self {
        self.to = Some(key.into());
        self
    }

    /// At most this many keys in all.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Keys a page, 1..=1000; 500 when left out. A page also ends at 2 MiB.
    pub fn page_size(mut self, page_size: u32) -> Self {
        self.page_size = page_size.min(limits::SCAN_PAGE_ENTRIES_MAX);
        self
    }

    /// Leaves the values out.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// From the highest key down.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Sets how many replicas must answer for each key; the table's r when left out.
    pub fn r(mut self, r: Quorum) -> Self {
        self.r = Some(r);
        self
    }

    /// The scan, key by key.
    pub fn entries(self) -> Entries {
        Entries { pages: self.pages(), page: VecDeque::new() }
    }

    /// The scan, page by page. A failed page ends it; go on with [`ScanRequest::after`], or in reverse with
    /// [`ScanRequest::to`].
    pub fn pages(self) -> Pages {
        Pages { state: State::Idle(Box::new((self, Open::Closed))) }
    }

    /// Where the page at hand begins: strictly above this, in reverse strictly below; empty: at the end.
    fn start(&self) -> Bytes {
        let first = if self.reverse { self.to.as_ref() } else { Some(&self.after) };
        self.place.as_ref().or(first).cloned().unwrap_or_default()
    }

    /// Whether a key is past what was asked for.
    fn is_past(&self, key: &Bytes) -> bool {
        if self.reverse {
            !self.after.is_empty() && *key <= self.after
        } else {
            self.to.as_ref().is_some_and(|to| *to <= *key)
        }
    }

    /// Whether a page that began at `start` can end at `resume`.
    fn goes_on(&self, start: &Bytes, resume: &Bytes) -> bool {
        if self.reverse {
            !resume.is_empty() && (start.is_empty() || resume < start)
        } else {
            resume > start
        }
    }

    /// Reads the next page and moves behind it; `None` when there is none.
    async fn next_page(&mut self, open: &mut Open) -> Result<Option<Page>, Error> {
        let start = self.start();
        // No key is below the empty one, which is also how an open end is written.
        let is_empty = self.to.as_ref().is_some_and(Bytes::is_empty);
        if self.limit == Some(0) || is_empty || !start.is_empty() && self.is_past(&start) {
            return Ok(None);
        }
        if !start.is_empty() {
            checked_key(start.clone())?;
        }
        let (response, receipt) = self.answer(open).await?;
        let mut entries = Vec::with_capacity(response.entries.len());
        let mut ended = !response.more;
        for entry in response.entries {
            if self.is_past(&entry.key) || self.limit == Some(0) {
                ended = true;
                break;
            }
            self.limit = self.limit.map(|limit| limit - 1);
            let stamp = convert::stamp(&entry.stamp)?;
            let (siblings, left_out) = (entry.sibling_count.max(1), entry.value_left_out);
            let (key, value, expires) = (entry.key, entry.value, entry.expires_ns.map(WallTime));
            let value_left_out = left_out && !self.keys_only;
            entries.push(Entry { key, value, stamp, expires, siblings, value_left_out });
        }
        if ended {
            self.limit = Some(0);
        } else if !self.goes_on(&start, &response.resume) {
            return Err(convert::malformed("a page that resumes before its start"));
        }
        self.place = Some(response.resume);
        Ok(Some(Page { entries, receipt }))
    }
}

/// What pages come from.
enum Open {
    /// Nothing yet, or what has broken.
    Closed,
    /// A stream.
    Stream(Box<Streaming<v1::ScanResponse>>),
    /// Calls: the node asked knows no streams.
    Calls,
}

impl ScanRequest {
    /// The next page, from wherever it comes.
    async fn answer(&mut self, open: &mut Open) -> Result<(v1::ScanResponse, Receipt), Error> {
        let core = self.common.core.clone();
        let timeout = self.common.timeout;
        if let Open::Stream(stream) = open {
            let page = tokio::time::timeout(timeout.unwrap_or(core.timeout), stream.message());
            if let Ok(Ok(Some(mut page))) = page.await {
                let receipt = convert::receipt(page.receipt.take())?;
                return Ok((page, receipt));
            }
            *open = Open::Closed;
            if crate::mutant!("stream-resumes-late") {
                self.place = self.place.take().map(|place| [&place[..], b"\xff"].concat().into());
            }
        }
        // What fits in a page is not worth a stream, which would read ahead.
        let fits = self.limit.is_some_and(|limit| limit <= u64::from(self.page_entries()));
        if matches!(open, Open::Closed) && !fits {
            match core.run(&Opening(self), timeout).await {
                Ok((page, receipt, stream)) => {
                    *open = Open::Stream(Box::new(stream));
                    return Ok((page, receipt));
                }
                Err(error) if error.code() == ErrorCode::NotAvailableYet.as_str() => {
                    *open = Open::Calls
                }
                Err(error) => return Err(error),
            }
        }
        core.run(&*self, timeout).await
    }

    fn page_entries(&self) -> u32 {
        if self.page_size == 0 { DEFAULT_PAGE } else { self.page_size }
    }

    /// What is asked for: the page at hand, and of a stream those behind it.
    fn to_wire(&self, this: Try) -> v1::ScanRequest {
        let left = self.limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
        let limit = match self.page_size {
            0 if left < DEFAULT_PAGE => left,
            0 => 0,
            page => page.min(left),
        };
        v1::ScanRequest {
            header: self.common.header(this.remaining),
            prefix: self.prefix.clone(),
            after: self.start(),
            limit,
            keys_only: self.keys_only,
            reverse: self.reverse,
            r: self.r.map(convert::quorum),
        }
    }
}

/// Begins a stream, and reads its first page.
struct Opening<'a>(&'a ScanRequest);

impl Operation for Opening<'_> {
    type Answer = (v1::ScanResponse, Receipt, Streaming<v1::ScanResponse>);

    fn place(&self) -> Place<'_> {
        Place::Anywhere
    }

    fn receipt((_, receipt, _): &Self::Answer) -> Option<&Receipt> {
        Some(receipt)
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Self::Answer, Error> {
        let request = Request::new(self.0.to_wire(this));
        let from_status = |status: Status| from_status(&status, false);
        let opened = endpoint.kv().scan_stream(request).await;
        let mut stream = opened.map_err(from_status)?.into_inner();
        let Some(mut page) = stream.message().await.map_err(from_status)? else {
            return Err(Error::unavailable("a stream of a scan ended before its first page"));
        };
        let receipt = convert::receipt(page.receipt.take())?;
        Ok((page, receipt, stream))
    }
}

impl Operation for ScanRequest {
    type Answer = (v1::ScanResponse, Receipt);

    fn place(&self) -> Place<'_> {
        Place::Anywhere
    }

    fn receipt((_, receipt): &Self::Answer) -> Option<&Receipt> {
        Some(receipt)
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Self::Answer, Error> {
        let mut request = Request::new(self.to_wire(this));
        request.set_timeout(this.remaining);
        let response = endpoint.kv().scan(request).await;
        let mut response = response.map_err(|status| from_status(&status, false))?.into_inner();
        let receipt = convert::receipt(response.receipt.take())?;
        Ok((response, receipt))
    }
}

/// What the server takes a page size of 0 for.
const DEFAULT_PAGE: u32 = 500;

/// The greatest key below `key`, so that "strictly above it" means "at or above `key`". Keys are
/// at most 4 KiB, so there is one: the same with its last byte one lower and then as many 0xff as
/// fit, or without its last byte when that is 0.
fn just_below(key: &[u8]) -> Bytes {
    match key.split_last() {
        None => Bytes::new(),
        Some((0, head)) => Bytes::copy_from_slice(head),
        Some((last, head)) => {
            let mut below = head.to_vec();
            below.push(last - 1);
            below.resize(limits::KEY_BYTES_MAX.max(key.len()), 0xff);
            below.into()
        }
    }
}

type NextPage =
    Pin<Box<dyn Future<Output = (Box<(ScanRequest, Open)>, Result<Option<Page>, Error>)> + Send>>;

enum State {
    Idle(Box<(ScanRequest, Open)>),
    Reading(NextPage),
    Ended,
}

/// A scan, page by page.
pub struct Pages {
    state: State,
}

impl core::fmt::Debug for Pages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Stream for Pages {
    type Item = Result<Page, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Idle(_) = self.state
            && let State::Idle(mut scan) = core::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Reading(Box::pin(async move {
                let (request, open) = &mut *scan;
                let page = request.next_page(open).await;
                (scan, page)
            }));
        }
        let State::Reading(reading) = &mut self.state else { return Poll::Ready(None) };
        let Poll::Ready((scan, page)) = reading.as_mut().poll(cx) else { return Poll::Pending };
        self.state = State::Ended;
        Poll::Ready(match page {
            Ok(Some(page)) => {
                self.state = State::Idle(scan);
                Some(Ok(page))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

/// A scan, key by key. Holds one page.
#[derive(Debug)]
pub struct Entries {
    pages: Pages,
    page: VecDeque<Entry>,
}

impl Stream for Entries {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Poll::Ready(Some(Ok(entry)));
            }
            match Pin::new(&mut self.pages).poll_next(cx) {
                Poll::Ready(Some(Ok(page))) => self.page = page.entries.into(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fits_between_a_key_and_the_one_just_below_it() {
        assert_eq!(just_below(b""), "");
        assert_eq!(just_below(b"ab\0"), "ab");
        let below = just_below(b"ab");
        assert_eq!((below.len(), &below[..3]), (limits::KEY_BYTES_MAX, &b"aa\xff"[..]));
        assert!(below.as_ref() < &b"ab"[..]);
        let longest = vec![b'x'; limits::KEY_BYTES_MAX];
        assert_eq!(just_below(&longest).len(), limits::KEY_BYTES_MAX);
    }
}
