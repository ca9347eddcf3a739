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
