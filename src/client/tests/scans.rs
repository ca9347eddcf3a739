//! What a fake node answers to scans.

use bytes::Bytes;
use tonic::Status;

use super::{Fake, v1};

/// Pages of a stream before it breaks off.
const STREAM_PAGES: usize = 2;

impl Fake {
    /// As many pages as there are, or the first few of them.
    pub(super) fn pages_of(
        &self,
        mut scan: v1::ScanRequest,
    ) -> Vec<Result<v1::ScanResponse, Status>> {
        let mut pages = Vec::new();
        loop {
            let page = self.page_of(&scan);
            scan.after = page.resume.clone();
            let more = page.more;
            pages.push(Ok(page));
            if !more || pages.len() == STREAM_PAGES {
                return pages;
            }
        }
    }

    pub(super) fn page_of(&self, scan: &v1::ScanRequest) -> v1::ScanResponse {
        let state = self.state.lock();
        let limit = if scan.limit == 0 { 500 } else { scan.limit as usize };
        let beyond = |key: &Bytes| match (scan.reverse, scan.after.is_empty()) {
            (true, true) => true,
            (true, false) => *key < scan.after,
            (false, _) => *key > scan.after,
        };
        let fits = |key: &Bytes| beyond(key) && key.starts_with(&scan.prefix) && !key.is_empty();
        let mut found: Vec<_> = state.data.iter().filter(|(key, _)| fits(key)).collect();
        if scan.reverse {
            found.reverse();
        }
        let mut left = found.into_iter();
        let entry = |(key, (value, _)): (&Bytes, &(Bytes, u64))| v1::scan_response::Entry {
            key: key.clone(),
            value: if scan.keys_only { Bytes::new() } else { value.clone() },
            ..Default::default()
        };
        let entries = left.by_ref().take(limit).map(entry).collect::<Vec<_>>();
        let resume = entries.last().map_or(Bytes::new(), |entry| entry.key.clone());
        let (more, receipt) = (left.next().is_some(), self.receipt(0));
        v1::ScanResponse { entries, more, resume, receipt }
    }
}
