//! The connection under a channel.

use counterfoil_gathered::gathered;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tonic::transport::{Channel, Endpoint, Error};
use tower::ServiceExt as _;

use crate::options::CONNECT_TIMEOUT;

/// Connects as the endpoint would by itself, and sends calls that are made together in as few writes as it takes.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Channel, Error> {
    let mut tcp = HttpConnector::new();
    // The endpoint sees to TLS.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among the addresses of a host; the endpoint's own is for all of them, and for TLS.
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = tcp.map_response(|stream| TokioIo::new(gathered(stream.into_inner())));
    endpoint.connect_with_connector(connector).await
}
