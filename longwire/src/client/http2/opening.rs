//! What a [`Client`] asks and makes of the answer where HTTP/2 carries its connection.

use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use longwire_proto::handshake::client::InvalidRequest;
use longwire_proto::handshake::http2;
use tokio::io::AsyncRead;

use crate::client::Client;
use crate::client::http1::read_body;
#[cfg(feature = "tls")]
use crate::client::http2::Http2Error;
use crate::client::target::Target;
use crate::end::ConnectError;
use crate::net::transport::Transport;

impl Client {
    /// A stream to a server that speaks HTTP/2: in TLS by ALPN (RFC 9113 3.2), else by prior knowledge (3.3).
    pub(crate) async fn reach_http2(&self, target: &Target) -> Result<Transport, ConnectError> {
        if !target.secure {
            return self.reach(target).await;
        }
        #[cfg(feature = "tls")]
        {
            let client = self.clone().tls(self.tls.choices().clone().alpn(["h2"]));
            let stream = client.reach(target).await?;
            match stream.tls().and_then(|tls| tls.alpn.as_deref()) {
                Some(b"h2") => Ok(stream),
                _ => Err(Http2Error::NotSpoken.into()),
            }
        }
        #[cfg(not(feature = "tls"))]
        self.reach(target).await
    }

    pub(crate) const fn time_to_open(&self) -> Duration {
        self.handshake_timeout
    }

    /// The request for `path` of the server `authority`.
    pub(crate) fn connect_request(
        &self,
        authority: &str,
        path: &str,
        secure: bool,
    ) -> Result<http2::Request, ConnectError> {
        if let Some(reason) = &self.invalid {
            return Err(ConnectError::Invalid(reason.clone()));
        }
        let invalid = |error: InvalidRequest| ConnectError::Invalid(error.to_string());
        Ok(http2::Request::new(authority, path, secure)
            .and_then(|request| request.subprotocols(&self.subprotocols))
            .and_then(|request| request.headers(&self.headers))
            .map_err(invalid)?
            .deflate(self.config.deflate.clone()))
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
