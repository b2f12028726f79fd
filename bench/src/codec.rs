//! The compressors by themselves, without a server around them: what a message of the load costs this library
//! and zlib-rs, and what it comes to, side by side in one thread.

use crate::{Failure, load::ticks};
use bytes::Buf;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use longwire_proto::{Assembler, Config, Connection, Deflate, DeflateParameters, Incoming, Message, Outbox};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

/// Messages of one pass. The fastest of the passes counts: the others were disturbed.
const MESSAGES: u64 = 2000;
const PASSES: usize = 15;

/// What a message costs, on average.
struct Cost {
    deflate: Duration,
    inflate: Duration,
    bytes: usize,
}

/// Prints a table.
pub(crate) fn compare() -> Result<(), Failure> {
    let messages = ticks::messages(1024, MESSAGES);
    let mut rows = Vec::new();
    for takeover in [false, true] {
        for level in [1, 3, 6] {
            rows.push((
                format!("longwire {level}"),
                takeover,
                Box::new(move |m: &[Vec<u8>]| ours(m, level, takeover)) as Run,
            ));
            rows.push((
                format!("zlib-rs {level}"),
                takeover,
                Box::new(move |m: &[Vec<u8>]| zlib(m, level.into(), takeover)) as Run,
            ));
        }
    }
    let mut best: Vec<Option<Cost>> = rows.iter().map(|_| None).collect();
    for _ in 0..PASSES {
        for ((_, _, run), best) in rows.iter().zip(&mut best) {
            let cost = run(&messages)?;
            *best = Some(match best.take() {
                None => cost,
                Some(other) => Cost {
                    deflate: cost.deflate.min(other.deflate),
                    inflate: cost.inflate.min(other.inflate),
                    bytes: cost.bytes,
                },
            });
        }
    }
    println!("| compressor and level | takeover | deflate, ns | inflate, ns | bytes of 1024 |");
    println!("|---|---|--:|--:|--:|");
    for ((name, takeover, _), cost) in rows.iter().zip(best) {
        let Some(Cost { deflate, inflate, bytes }) = cost else { continue };
        let each = |time: Duration| time.as_nanos() / u128::from(MESSAGES);
        let takeover = if *takeover { "yes" } else { "no" };
        println!(
            "| {name} | {takeover} | {} | {} | {} |",
            each(deflate),
            each(inflate),
            bytes / messages.len()
        );
    }
    Ok(())
}

type Run = Box<dyn Fn(&[Vec<u8>]) -> Result<Cost, Failure>>;

/// A server that sends, a client that receives: framing included, and the copy into a message.
fn ours(messages: &[Vec<u8>], level: u8, takeover: bool) -> Result<Cost, Failure> {
    let parameters = DeflateParameters {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: true,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut deflate = Deflate::new().level(level).threshold(0);
    if takeover {
        deflate = deflate.send_context_takeover(1 << 20);
    }
    let now = Instant::now();
    let mut server =
        Connection::server(Arc::new(Config::server().deflate(deflate)), now).with_deflate(parameters);
    let mut client = Connection::client(Arc::new(Config::client()), [7; 32], now).with_deflate(parameters);
    let (mut assembler, mut out, mut replies) = (Assembler::default(), Outbox::new(), Outbox::new());
    let messages: Vec<Message> = messages.iter().map(|message| message.clone().into()).collect();
    let mut frames = Vec::with_capacity(messages.len());

    let start = Instant::now();
    for message in messages {
        server.send(message, &mut out)?;
        frames.push(bytes::BytesMut::from(out.chunk()));
        out.advance(out.remaining());
    }
    let deflate = start.elapsed();
    let bytes = frames.iter().map(bytes::BytesMut::len).sum();

    let start = Instant::now();
    for frame in &mut frames {
        let received = assembler.receive(&mut client, frame, &mut replies, now)?;
        let Some(Incoming::Data(message)) = received else { return Err("no message".into()) };
        black_box(message);
    }
    Ok(Cost { deflate, inflate: start.elapsed(), bytes })
}

/// zlib-rs as others use it: a stream that is reset for each message, or not, flushed at its end.
fn zlib(messages: &[Vec<u8>], level: u32, takeover: bool) -> Result<Cost, Failure> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut compressed = Vec::with_capacity(messages.len());
    let mut scratch = Vec::with_capacity(64 * 1024);
    let start = Instant::now();
    for message in messages {
        if !takeover {
            compress.reset();
        }
        scratch.clear();
        compress.compress_vec(message, &mut scratch, FlushCompress::Sync)?;
        compressed.push(scratch.clone());
    }
    let deflate = start.elapsed();
    // The tail is not sent; a frame header is.
    let bytes = compressed.iter().map(|bytes| bytes.len()).sum();

    let mut decompress = Decompress::new(false);
    let start = Instant::now();
    for bytes in &compressed {
        if !takeover {
            decompress.reset(false);
        }
        scratch.clear();
        if decompress.decompress_vec(bytes, &mut scratch, FlushDecompress::Sync)? != Status::Ok {
            return Err("not decompressed".into());
        }
        black_box(scratch.clone());
    }
    Ok(Cost { deflate, inflate: start.elapsed(), bytes })
}
