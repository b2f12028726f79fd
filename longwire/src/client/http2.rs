//! What a [`Client`] asks and makes of the answer where HTTP/2 carries its connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use longwire_proto::Connection;
use longwire_proto::handshake::client::{Agreed, InvalidRequest};
use longwire_proto::handshake::connect;
use tokio::io::AsyncRead;

use super::Client;
use super::opening::{random, read_body};
use crate::error::ConnectError;
use crate::timer::now;
use crate::websocket::WebSocket;

impl Client {
    pub(crate) const fn time_to_open(&self) -> Duration {
        self.handshake_timeout
    }

    /// The request for `path` of the server `authority`.
    pub(crate) fn connect_request(
        &self,
        authority: &str,
        path: &str,
        secure: bool,
    ) -> Result<connect::Request, ConnectError> {
        if let Some(reason) = &self.invalid {
            return Err(ConnectError::Invalid(reason.clone()));
        }
        let invalid = |error: InvalidRequest| ConnectError::Invalid(error.to_string());
        Ok(connect::Request::new(authority, path, secure)
            .and_then(|request| request.subprotocols(&self.subprotocols))
            .and_then(|request| request.headers(&self.headers))
            .map_err(invalid)?
            .deflate(self.config.deflate_config().cloned()))
    }

    /// The connection that the answer has opened.
    pub(crate) fn opened<S>(&self, stream: S, agreed: &Agreed) -> io::Result<WebSocket<S>> {
        let mut core = Connection::client(Arc::clone(&self.config), random()?, now());
        if let Some(parameters) = agreed.deflate {
            core = core.with_deflate(parameters);
        }
        Ok(WebSocket::new(stream, core, BytesMut::new(), agreed.subprotocol.as_deref()))
    }

    /// The beginning of a refusal's body.
    pub(crate) async fn read_refusal<S: AsyncRead + Unpin>(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        stream: &mut S,
    ) -> String {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = status;
        head.headers.clone_from(headers);
        read_body(stream, &head, BytesMut::new()).await
    }
}
