//! The connection under all calls, and what of its answers is taken for a gRPC server's.

use counterfoil_gathered::gathered;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Response, StatusCode, header::CONTENT_TYPE},
    transport::{self, Endpoint, Error},
};
use tower::{ServiceExt as _, util::MapResponse};

use crate::options::CONNECT_TIMEOUT;

/// A connection whose answers are gRPC.
pub(crate) type Channel = MapResponse<transport::Channel, fn(Response<Body>) -> Response<Body>>;

/// Connects, and sends calls that are made together in as few writes as it takes. Of what the endpoint says of TCP (keep-alive, a
/// local address) nothing comes to bear here.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Channel, Error> {
    let mut tcp = HttpConnector::new();
    // The endpoint sees to TLS.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among a host's addresses, so that one that is silent leaves time for the others. The endpoint's own is for all of it.
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = tcp.map_response(|stream| TokioIo::new(gathered(stream.into_inner())));
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(channel.map_response(as_grpc))
}

/// Turns the page of a web server, or of a proxy without its log, into the refusal of a server that is not there: no log gave it.
/// A proxy that lets nobody through keeps its word.
fn as_grpc(answer: Response<Body>) -> Response<Body> {
    let content = answer.headers().get(CONTENT_TYPE);
    let is_grpc = content.is_some_and(|content| content.as_bytes().starts_with(b"application/grpc"));
    let status = answer.status();
    if is_grpc || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return answer;
    }
    Status::unavailable(format!("it answers with a web page ({status}), and not by gRPC")).into_http()
}
