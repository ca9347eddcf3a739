//! Bytes that are no protocol, and clients that vanish.

use roundtable::message::{ClientBody, ErrorCode, Event, GetReply, Receipt, Reply};
use roundtable::runtime::{ClientInputs, Handle};
use roundtable::service::serve_clients;
use roundtable::wire::error::error_of;
use roundtable::wire::proto::v1::kv_client::KvClient;
use roundtable::wire::proto::v1::{GetRequest, RequestHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::greeting::is_well;
use crate::support::{Port, listen, view, within};

/// The clients' port, with the driver's place taken by the test.
async fn clients_port() -> (String, ClientInputs, CancellationToken) {
    let (listener, address) = listen().await;
    let (_, views) = watch::channel(Some(view(1, &[])));
    let (handle, inputs) = Handle::detached(views);
    let closing = CancellationToken::new();
    tokio::spawn(serve_clients(listener, handle, closing.clone()));
    (address, inputs, closing)
}

/// Answers reads of everything with a miss, but leaves those of `stuck` waiting.
async fn answer(mut inputs: ClientInputs, arrived: watch::Sender<usize>) {
    let mut held = Vec::new();
    while let Some(batch) = inputs.recv().await {
        for asked in batch {
            let Event::Client { request, .. } = asked.event else { continue };
            let ClientBody::Get(get) = request.body else { continue };
            if get.key.as_bytes() == b"stuck" {
                held.push(asked.responder);
                arrived.send_replace(held.len());
            } else {
                let reply = GetReply { record: None, receipt: Receipt::default() };
                asked.responder.answer(Ok(Reply::Get(reply)));
            }
        }
    }
}

fn get(key: &'static str) -> GetRequest {
    GetRequest { key: key.as_bytes().into(), ..GetRequest::default() }
}

const GARBAGE: [&[u8]; 5] = [
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x00\x01\x02\x03\xff\xfe\xfd",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    // A preface, settings, then headers that are no HPACK.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff",
    // A preface, then a frame longer than the limit.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\0\0\0\x01",
];

async fn throw_garbage(address: &str) {
    for bytes in GARBAGE {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // Whatever it answers, it ends; a reset is an end as well.
        let mut rest = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn five_hundred_cancelled_requests_disturb_nobody() {
    let (address, inputs, closing) = clients_port().await;
    let (arrived, mut count) = watch::channel(0);
    tokio::spawn(answer(inputs, arrived));
    let client = KvClient::connect(format!("http://{address}")).await.unwrap();
    for round in 1..=3 {
        let waiting: Vec<_> = (0..500)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    // Nobody will answer this one.
                    client.get(get("stuck")).await.map(|_| ())
                })
            })
            .collect();
        within("all to arrive", count.wait_for(|count| *count == round * 500)).await.unwrap();
        for call in &waiting {
            call.abort();
        }
        for call in waiting {
            assert!(within("the end of a call", call).await.unwrap_err().is_cancelled());
        }
        // Innocent calls on the same connection.
        for _ in 0..50 {
            let mut client = client.clone();
            let reply = within("an innocent call", client.get(get("innocent"))).await.unwrap();
            assert!(!reply.into_inner().found);
        }
    }
    closing.cancel();
}

#[tokio::test]
async fn garbage_on_the_clients_port_hurts_nobody() {
    let (address, inputs, closing) = clients_port().await;
    tokio::spawn(answer(inputs, watch::channel(0).0));
    throw_garbage(&address).await;
    let mut client = KvClient::connect(format!("http://{address}")).await.unwrap();
    assert!(!client.get(get("k")).await.unwrap().into_inner().found);
    closing.cancel();
}

#[tokio::test]
async fn garbage_on_the_peers_port_hurts_nobody() {
    let mut port = Port::open(view(1, &[])).await;
    throw_garbage(&port.address).await;
    is_well(&mut port).await;
    port.close().await;
}

#[tokio::test]
async fn a_request_outside_its_limits_is_a_typed_error_in_the_trailer() {
    let (address, inputs, closing) = clients_port().await;
    tokio::spawn(answer(inputs, watch::channel(0).0));
    let mut client = KvClient::connect(format!("http://{address}")).await.unwrap();
    let header = RequestHeader { timeout_ms: 60_001, ..RequestHeader::default() };
    let cases = [
        (GetRequest::default(), ErrorCode::KeyEmpty),
        (GetRequest { key: vec![0; 4097].into(), ..get("") }, ErrorCode::KeyTooLarge),
        (GetRequest { header: Some(header), ..get("k") }, ErrorCode::RequestMalformed),
    ];
    for (request, code) in cases {
        let status = client.get(request).await.unwrap_err();
        assert_eq!(error_of(&status).code, code);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    closing.cancel();
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The headers of a call, as HPACK without compression.
fn call_headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    let literal = |block: &mut Vec<u8>, name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    };
    literal(&mut block, &[0x04], "/roundtable.v1.Kv/Get"); // :path
    literal(&mut block, &[0x01], "here"); // :authority
    literal(&mut block, &[0x0f, 0x10], "application/grpc"); // content-type
    literal(&mut block, b"\x00\x02te", "trailers");
    block
}

/// h2 counts streams that are reset before they have been accepted, and by default closes the whole
/// connection at 20 of them: every other call on it fails. Calls and resets that arrive in one
/// packet are the worst case of a client that gives up.
#[tokio::test]
async fn calls_that_are_reset_before_they_are_accepted_do_not_close_the_connection() {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let (address, inputs, closing) = clients_port().await;
    tokio::spawn(answer(inputs, watch::channel(0).0));
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    for call in 0..500 {
        bytes.extend(frame(HEADERS, 0x4, 2 * call + 1, &call_headers()));
        bytes.extend(frame(RESET, 0, 2 * call + 1, &8u32.to_be_bytes()));
    }
    bytes.extend(frame(PING, 0, 0, b"are you?"));
    stream.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        within("a frame", stream.read_exact(&mut head)).await.unwrap();
        let [l0, l1, l2, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        within("its payload", stream.read_exact(&mut payload)).await.unwrap();
        assert_ne!(kind, GOAWAY, "the connection was closed: {}", payload.escape_ascii());
        if kind == PING && flags & 1 != 0 {
            break;
        }
    }
    closing.cancel();
}
