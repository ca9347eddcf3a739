//! Asking a node's HTTP port from outside: `kvd health` (an image without a shell has no other
//! probe) and `kvd dev`, which waits for its nodes.

use core::time::Duration;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How long one probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The status code and body of `GET path`.
///
/// # Errors
/// Nobody answers at `address`, or not in HTTP, or not in time.
pub async fn http_get(address: &str, path: &str) -> io::Result<(u16, String)> {
    timeout(PROBE_TIMEOUT, exchange(address, path))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))?
}

async fn exchange(address: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((code, body.to_owned()))
}
