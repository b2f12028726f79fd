//! Echo on yawc with permessage-deflate, over hyper as in its documentation: `yawc-echo PORT takeover|pool`.

use futures_util::{StreamExt, future};
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use peers::Failure;
use std::env;
use tokio::net::TcpStream;
use yawc::{DeflatePool, Options, UpgradeFut, WebSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = match env::args().nth(2).as_deref() {
        Some("takeover") => Options::default().with_balanced_compression(),
        // What the documentation of `DeflatePool` shows for many idle connections.
        Some("pool") => Options::default()
            .with_low_latency_compression()
            .server_no_context_takeover()
            .client_no_context_takeover()
            .with_deflate_pool(DeflatePool::new(64))
            .with_compression_threshold(64)
            .with_read_buffer_capacity(1024)
            .with_write_buffer_capacity(1024),
        _ => return Err("usage: yawc-echo PORT takeover|pool".into()),
    };
    peers::serve(move |stream| serve_http(stream, options.clone())).await
}

async fn serve_http(stream: TcpStream, options: Options) -> Result<(), Failure> {
    let answer = |request| future::ready(answer(request, options.clone()));
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .with_upgrades()
        .await
        .map_err(Failure::from)
}

fn answer(
    mut request: Request<Incoming>,
    options: Options,
) -> yawc::Result<Response<Empty<hyper::body::Bytes>>> {
    let (response, upgraded) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(echo(upgraded));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), Failure> {
    let (write, read) = upgraded.await?.split();
    let messages = read.filter(|frame| {
        let opcode = frame.opcode();
        future::ready(opcode == yawc::OpCode::Text || opcode == yawc::OpCode::Binary)
    });
    messages.map(Ok).forward(write).await?;
    Ok(())
}
