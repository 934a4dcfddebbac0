//! How many calls gRPC alone answers: events of 1 KiB, and receipts that were made beforehand. No log, no disk, nothing is
//! verified, and what a connection says is not gathered.
//!
//! `call_rate CONNECTIONS IN_FLIGHT SECONDS`: what single submissions are measured against. Server and client have a runtime
//! each, with a thread for each core, as the programs have.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    env,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use counterfoil_proto::v1::{
    self,
    submit_service_client::SubmitServiceClient,
    submit_service_server::{SubmitService, SubmitServiceServer},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Endpoint, Server},
};

/// Hashes of an inclusion proof in a log of a hundred thousand entries.
const PROOF_HASHES: usize = 17;

fn main() {
    let arguments: Vec<u64> = env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let [connections, in_flight, seconds] = arguments[..] else {
        panic!("call_rate CONNECTIONS IN_FLIGHT SECONDS");
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Runtime::new().unwrap();
    server.spawn(async {
        let incoming = TcpListenerStream::new(listener.try_into().unwrap());
        let service = SubmitServiceServer::new(Answerer { receipt: receipt() });
        let server = Server::builder().tcp_nodelay(true).add_service(service);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let time = Duration::from_secs(seconds);
    let calls = Runtime::new()
        .unwrap()
        .block_on(call(address, connections, in_flight, time));
    println!("{:.0} calls/s", calls as f64 / time.as_secs_f64());
    server.shutdown_background();
}

/// The calls that were answered until the end.
async fn call(address: SocketAddr, connections: u64, in_flight: u64, time: Duration) -> u64 {
    let answered = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.tcp_nodelay(true).connect().await.unwrap();
        for _ in 0..in_flight {
            let mut client = SubmitServiceClient::new(channel.clone());
            let answered = answered.clone();
            callers.spawn(async move {
                loop {
                    client.submit(request()).await.unwrap();
                    if Instant::now() >= end {
                        return;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    callers.join_all().await;
    answered.load(Ordering::Relaxed)
}

fn request() -> v1::SubmitRequest {
    let event = v1::Event {
        id: "0123456789abcdef-1234567".to_owned(),
        source: "https://ci.example/acme/widgets".to_owned(),
        r#type: "ci.run.finished".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: vec![7; 1_024].into(),
        ..v1::Event::default()
    };
    v1::SubmitRequest {
        log: String::new(),
        event: Some(event),
    }
}

fn receipt() -> v1::Receipt {
    v1::Receipt {
        leaf_index: 100_000,
        entry: vec![7; 250].into(),
        salt: vec![7; 32].into(),
        inclusion_proof: vec![vec![7; 32].into(); PROOF_HASHES],
        tree_head: Some(v1::TreeHead {
            origin: "log.example.com/builds".to_owned(),
            tree_size: 100_001,
            root_hash: vec![7; 32].into(),
            time_unix_ms: 1_795_000_000_000,
            checkpoint: vec![b'7'; 210].into(),
        }),
    }
}

struct Answerer {
    receipt: v1::Receipt,
}

#[tonic::async_trait]
impl SubmitService for Answerer {
    async fn submit(
        &self,
        _request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        Ok(Response::new(v1::SubmitResponse {
            receipt: Some(self.receipt.clone()),
            duplicate: false,
        }))
    }

    async fn submit_batch(
        &self,
        _request: Request<v1::SubmitBatchRequest>,
    ) -> Result<Response<v1::SubmitBatchResponse>, Status> {
        Err(Status::unimplemented("single events alone"))
    }

    type SubmitStreamStream = Pin<Box<dyn Stream<Item = Result<v1::SubmitStreamResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        _request: Request<Streaming<v1::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        Err(Status::unimplemented("single events alone"))
    }
}
