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

/// Each message is compressed by itself.
const ALONE: DeflateParameters = DeflateParameters {
    server_no_context_takeover: true,
    client_no_context_takeover: true,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

/// What a message costs, on average.
struct Cost {
    deflate: Duration,
    inflate: Duration,
    bytes: usize,
}

/// Prints the tables.
pub(crate) fn compare() -> Result<(), Failure> {
    compare_messages()?;
    println!();
    compare_extremes()
}

/// One message of a mebibyte, of the load and of what is hardest: of two bytes, at random, which was there before
/// at every place and never for long.
fn compare_extremes() -> Result<(), Failure> {
    const SIZE: usize = 1024 * 1024;
    let easy: Vec<u8> = ticks::messages(1024, 1024).concat();
    let mut state = 7u64;
    let mut hard = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + (state >> 63) as u8
    };
    let hard: Vec<u8> = (0..SIZE).map(|_| hard()).collect();
    println!("| compressor and level | the load, ms a MiB | the hardest, ms a MiB |");
    println!("|---|--:|--:|");
    for level in [1, 3, 6, 8, 9] {
        for (name, run) in [("longwire", ours_once as Once), ("zlib-rs", zlib_once)] {
            let mut best = [Duration::MAX; 2];
            for _ in 0..5 {
                for (best, message) in best.iter_mut().zip([&easy, &hard]) {
                    *best = run(message, level)?.min(*best);
                }
            }
            let [easy, hard] = best.map(|time| time.as_secs_f64() * 1e3);
            println!("| {name} {level} | {easy:.0} | {hard:.0} |");
        }
    }
    Ok(())
}

type Once = fn(&[u8], u8) -> Result<Duration, Failure>;

fn ours_once(message: &[u8], level: u8) -> Result<Duration, Failure> {
    let config = Config::server().deflate(Deflate::new().level(level));
    let mut server = Connection::server(Arc::new(config), Instant::now()).with_deflate(ALONE);
    let (message, mut out) = (Message::from(message.to_vec()), Outbox::new());
    let start = Instant::now();
    server.send(message, &mut out)?;
    Ok(start.elapsed())
}

fn zlib_once(message: &[u8], level: u8) -> Result<Duration, Failure> {
    let mut compress = Compress::new(Compression::new(level.into()), false);
    let mut scratch = Vec::with_capacity(2 * message.len());
    let start = Instant::now();
    compress.compress_vec(message, &mut scratch, FlushCompress::Sync)?;
    Ok(start.elapsed())
}

/// What messages of the load cost.
fn compare_messages() -> Result<(), Failure> {
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
    let parameters = DeflateParameters { server_no_context_takeover: !takeover, ..ALONE };
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
        let received = assembler.receive(&mut client, frame, &mut replies)?;
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
