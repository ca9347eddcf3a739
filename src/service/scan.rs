//! A scan as a stream of pages. Each page is an operation of its own, with its own deadline; the next one
//! is begun when one is handed over, so that at most one page waits for a client that reads slowly.

use core::pin::Pin;
use core::task::{Context, Poll};

use tokio_stream::Stream;
use tonic::Status;

use crate::message::{ClientBody, ClientRequest, ClientResult, OpError, Reply, ScanPart};
use crate::runtime::{Handle, ScanStream};
use crate::wire::client::{Call, mismatched, scan_from_wire, scan_to_wire};
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;

type Reading = Pin<Box<dyn Future<Output = ClientResult> + Send>>;

/// The pages of one scan. Dropping it ends what is being done for it, here and at the other nodes.
pub(super) struct Pages {
    handle: Handle,
    stream: ScanStream,
    call: Call,
    /// What the next page is asked for with.
    next: pb::ScanRequest,
    first: bool,
    reading: Option<Reading>,
    /// What was there as soon as it was asked for.
    early: Option<ClientResult>,
}

impl Pages {
    /// Begins to read the first page.
    pub(super) fn begin(
        handle: &Handle,
        call: Call,
        request: pb::ScanRequest,
    ) -> Result<Pages, OpError> {
        let stream = handle.begin_scan()?;
        let handle = handle.clone();
        let (reading, early) = (None, None);
        let mut pages = Pages { handle, stream, call, next: request, first: true, reading, early };
        pages.ask()?;
        Ok(pages)
    }

    fn ask(&mut self) -> Result<(), OpError> {
        // Each page has a time of its own; what the transport allows is for the whole stream.
        let Call { default_timeout, principal, .. } = self.call.clone();
        let now = self.handle.now();
        let call = Call { now, transport_timeout: None, default_timeout, principal };
        let ClientRequest { deadline, trace, principal, body } =
            scan_from_wire(&call, self.next.clone())?;
        let ClientBody::Scan(mut scan) = body else { return Err(mismatched()) };
        scan.part = Some(ScanPart { scan: self.stream.scan(), first: self.first });
        self.first = false;
        let body = ClientBody::Scan(scan);
        let (handle, request) =
            (self.handle.clone(), ClientRequest { deadline, trace, principal, body });
        self.reading = Some(Box::pin(async move { handle.submit(request).await }));
        Ok(())
    }
}

impl Stream for Pages {
    type Item = Result<pb::ScanResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let result = match (self.early.take(), &mut self.reading) {
            (Some(result), _) => result,
            (None, None) => return Poll::Ready(None),
            (None, Some(reading)) => match reading.as_mut().poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => return Poll::Pending,
            },
        };
        self.reading = None;
        let page = match result {
            Ok(Reply::Scan(reply)) => scan_to_wire(reply),
            Ok(_) => return Poll::Ready(Some(Err(status_of(&mismatched())))),
            Err(error) => return Poll::Ready(Some(Err(status_of(&error)))),
        };
        if page.more {
            self.next.after = page.resume.clone();
            if let Err(error) = self.ask() {
                return Poll::Ready(Some(Err(status_of(&error))));
            }
            // Hands it to the node: what is not polled is not begun.
            if let Some(reading) = &mut self.reading
                && let Poll::Ready(result) = reading.as_mut().poll(cx)
            {
                (self.reading, self.early) = (None, Some(result));
            }
        }
        Poll::Ready(Some(Ok(page)))
    }
}
