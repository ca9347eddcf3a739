//! Threads whose work may wait while others have something to do.

/// How far behind others: about a tenth of the processor time of a thread that is served as usual, when
/// both want all of it.
#[cfg(all(target_os = "linux", feature = "server"))]
const NICE: i32 = 10;

/// The calling thread gives way to all others from now on, where the system knows of such a thing. Only
/// in a server: the feature brings the call, and clients have no such threads.
pub(crate) fn give_way() {
    // On Linux a call that names no process is about the calling thread alone. Elsewhere it would be
    // about all of them.
    // If it is refused, the thread runs like others.
    #[cfg(all(target_os = "linux", feature = "server"))]
    let _refused = rustix::process::setpriority_process(None, NICE);
}
