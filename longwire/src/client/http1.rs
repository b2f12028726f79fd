//! The opening handshake over HTTP/1.1 (RFC 6455 4.1).

use std::net::SocketAddr;

use bytes::BytesMut;
use longwire_proto::handshake::{HandshakeError, HeadError, HeadLimits, HeadReader, Offer, client};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::end::ConnectError;
use crate::net::http_head::{read_head, write_all};

use super::handshake::{Answer, Carrier};
use super::random;

/// A stream of bytes to the server.
pub(super) struct Http1<S> {
    pub(super) stream: S,
    pub(super) peer: Option<SocketAddr>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier for Http1<S> {
    type Stream = S;

    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    async fn ask(self, offer: Offer, limits: HeadLimits) -> Result<Answer<S>, ConnectError> {
        let mut stream = self.stream;
        let request = client::Request::new(offer, random()?);
        let mut encoded = Vec::new();
        request.encode(&mut encoded);
        write_all(&mut stream, &encoded).await?;
        // The response may take long.
        drop(encoded);

        let mut input = BytesMut::new();
        let response = read_response(&mut stream, &mut input, limits).await??;
        let agreed = request.check(&response);
        Ok(Answer { response, agreed, stream, input })
    }
}

/// Reads the final response. `input` keeps the bytes behind its head.
pub(super) async fn read_response<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    limits: HeadLimits,
) -> std::io::Result<Result<http::Response<()>, HandshakeError>> {
    for _ in 0..=client::MAX_INTERIM {
        let head = read_head(stream, input, HeadReader::for_response(limits)).await?;
        let length = match head {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Err(HeadError::Incomplete.into())),
            Err(error) => return Ok(Err(error.into())),
        };
        let response = client::parse_response(&input.split_to(length), limits);
        match response {
            Ok(response) if client::is_interim(&response) => {}
            response => return Ok(response),
        }
    }
    Ok(Err(HandshakeError::TooManyInterim))
}
