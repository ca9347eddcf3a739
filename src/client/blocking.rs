//! The client without async, for programs and scripts that have no runtime: every request of
//! [`Client`](super::Client) is made as there, and waited for here.

use std::future::IntoFuture;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_stream::{Stream, StreamExt};

use super::{ClientBuilder, Error};

/// A client and the runtime that it works in. A clone shares both, and may go to another thread.
///
/// ```no_run
/// use roundtable::client::{Client, blocking};
///
/// # fn main() -> Result<(), roundtable::client::Error> {
/// let kv = blocking::Client::new(Client::builder().endpoints(["127.0.0.1:7450"]))?;
/// kv.wait(kv.put("greeting", "hello"))?;
/// assert_eq!(kv.wait(kv.get("greeting"))?.value.as_deref(), Some(&b"hello"[..]));
/// for entry in kv.iter(kv.scan().prefix("user:").entries()) {
///     println!("{:?}", entry?.key);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    client: super::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Makes a client as the builder says, with a runtime of its own: one thread, which also keeps its
    /// connections alive between requests. It ends with the last clone.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect_lazy`]; or the thread could not be started.
    pub fn new(builder: ClientBuilder) -> Result<Client, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime
            .map_err(|error| Error::unavailable(format!("cannot start a thread: {error}")))?;
        // What is made inside of a runtime belongs to it: its connections must not be somebody else's.
        let client = {
            let _inside = runtime.enter();
            builder.connect_lazy()?
        };
        Ok(Client { client, runtime: Arc::new(runtime) })
    }

    /// Sends a request and waits for what comes of it.
    ///
    /// # Panics
    /// Inside of async code, where waiting would hold up everything else: take
    /// [`Client`](super::Client) there.
    pub fn wait<R: IntoFuture>(&self, request: R) -> R::Output {
        never_inside_a_runtime();
        self.runtime.block_on(request.into_future())
    }

    /// The elements of a stream, each of which is waited for: scans, pages, rings that are watched.
    pub fn iter<S: Stream>(&self, stream: S) -> Iter<S> {
        Iter { stream: Box::pin(stream), runtime: Arc::clone(&self.runtime) }
    }
}

impl Deref for Client {
    type Target = super::Client;

    fn deref(&self) -> &super::Client {
        &self.client
    }
}

/// A stream that is waited for, element by element.
#[derive(Debug)]
pub struct Iter<S> {
    stream: Pin<Box<S>>,
    runtime: Arc<Runtime>,
}

impl<S: Stream> Iterator for Iter<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        never_inside_a_runtime();
        self.runtime.block_on(self.stream.next())
    }
}

fn never_inside_a_runtime() {
    let inside = Handle::try_current().is_ok();
    assert!(!inside, "the blocking client was called from async code, which it would hold up");
}
