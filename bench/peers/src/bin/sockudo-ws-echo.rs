//! Echo on sockudo-ws with permessage-deflate: `sockudo-ws-echo PORT dedicated|shared`.

use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, future};
use peers::Failure;
use sockudo_ws::{
    CompressedWebSocketStream, Compression, Config, DeflateConfig, Message, WebSocketStream,
    deflate::negotiate_server_deflate,
    handshake::{build_response, generate_accept_key, parse_request},
};
use std::env;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let compression = match env::args().nth(2).as_deref() {
        Some("dedicated") => Compression::Dedicated,
        Some("shared") => Compression::Shared,
        _ => return Err("usage: sockudo-ws-echo PORT dedicated|shared".into()),
    };
    peers::serve(move |stream| echo(stream, compression)).await
}

async fn echo(mut stream: TcpStream, compression: Compression) -> Result<(), Failure> {
    let deflate = accept(&mut stream, compression).await?;
    let is_echoed = |message: &Message| future::ready(message.is_text() || message.is_binary());
    match deflate {
        Some(deflate) => {
            let config = Config::builder().compression(compression).build();
            let ws = CompressedWebSocketStream::server(stream, config, deflate);
            // Its own `split` makes halves that are no stream and no sink.
            let (write, read) = StreamExt::split(ws);
            read.try_filter(is_echoed).forward(write).await?;
        }
        None => {
            let (write, read) = StreamExt::split(WebSocketStream::server(stream, Config::default()));
            read.try_filter(is_echoed).forward(write).await?;
        }
    }
    Ok(())
}

/// The opening handshake from its parts, as its own echo example; what is agreed on permessage-deflate.
async fn accept(stream: &mut TcpStream, compression: Compression) -> Result<Option<DeflateConfig>, Failure> {
    let mut received = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err("closed during the opening handshake".into());
        }
        let Some((request, _)) = parse_request(&received)? else { continue };
        let policy = compression.to_deflate_config();
        let offer = request.extensions.zip(policy);
        let agreed = offer.and_then(|(offer, policy)| negotiate_server_deflate(offer, &policy));
        let extensions = agreed.as_ref().map(|agreed| agreed.to_response_header());
        let response = build_response(&generate_accept_key(request.key), None, extensions.as_deref());
        stream.write_all(&response).await?;
        return Ok(agreed.map(|agreed| agreed.config));
    }
}
