//! The connection under a channel.

use counterfoil_gathered::gathered;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tonic::transport::{Channel, Endpoint, Error};
use tower::ServiceExt as _;

use crate::options::CONNECT_TIMEOUT;

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
    endpoint.connect_with_connector(connector).await
}
