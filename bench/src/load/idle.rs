//! The idle rows: what a connection that does nothing costs in memory, before and after it was used.

use super::{Memory, deflate::Agreement, opening, replies::Replies, script::Script};
use crate::{
    Failure,
    row::{Content, Discipline},
    server::Server,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

/// Connections that are echoed to at the same time.
const WAVE: usize = 64;

/// When memory is looked at, in the rows without and in those with permessage-deflate.
pub(crate) const fn stages(discipline: Discipline) -> &'static [&'static str] {
    match discipline {
        Discipline::Deflate => {
            &["without deflate", "after 1 KiB each", "with deflate", "after 1 KiB each, compressed"]
        }
        Discipline::Plain | Discipline::Broadcast => &["connected", "after 1 KiB each", "after 64 KiB each"],
    }
}

/// One measurement.
pub(crate) fn run(server: &Server, connections: usize) -> Result<Memory, Failure> {
    plain(server, connections, &[0, 1024, 64 * 1024])
}

/// The same server twice, freshly started: its clients do not offer permessage-deflate, then they do.
pub(crate) fn run_deflate(
    start: impl Fn() -> Result<Server, Failure>,
    connections: usize,
) -> Result<Memory, Failure> {
    let without = plain(&start()?, connections, &[0, 1024])?;
    let mut with = deflate(&start()?, connections)?;
    with.per_connection.splice(0..0, without.per_connection);
    Ok(with)
}

/// Text of these sizes, one after the other; nothing is sent for 0.
fn plain(server: &Server, connections: usize, sizes: &[usize]) -> Result<Memory, Failure> {
    let base = settled(server)?;
    let streams = (0..connections)
        .map(|number| opening::open(server.address, number))
        .collect::<Result<Vec<_>, _>>()?;
    let mut per_connection = Vec::new();
    for &size in sizes {
        if size > 0 {
            let script = Script::new(Content::Text, size, 1, 0);
            streams.chunks(WAVE).try_for_each(|wave| echo(wave, &script, None))?;
        }
        per_connection.push(each(server, base, connections)?);
    }
    Ok(Memory { base, per_connection })
}

/// Nothing, then one compressed message.
fn deflate(server: &Server, connections: usize) -> Result<Memory, Failure> {
    let base = settled(server)?;
    let opened = (0..connections).map(|number| opening::open_deflate(server.address, number));
    let (streams, agreements): (Vec<_>, Vec<_>) = opened.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let connected = each(server, base, connections)?;
    if let Some(agreement) = agreements.first() {
        let script = Script::new(Content::Json, 1024, 1, 0).compressed(agreement)?;
        streams.chunks(WAVE).try_for_each(|wave| echo(wave, &script, Some(agreement)))?;
    }
    Ok(Memory { base, per_connection: vec![connected, each(server, base, connections)?] })
}

/// One message on each connection; every reply is compared.
fn echo(wave: &[TcpStream], script: &Script, agreement: Option<&Agreement>) -> Result<(), Failure> {
    for mut stream in wave {
        stream.write_all(script.frames())?;
    }
    let mut block = vec![0; 128 * 1024];
    for mut stream in wave {
        let mut replies = agreement.map(Replies::deflate).unwrap_or_default();
        while replies.messages == 0 {
            match stream.read(&mut block)? {
                0 => return Err("the server has closed the connection".into()),
                length => replies.receive(&block[..length], script, true)?,
            }
        }
    }
    Ok(())
}

/// What each connection adds to `base`.
fn each(server: &Server, base: u64, connections: usize) -> Result<f64, Failure> {
    Ok((settled(server)? as f64 - base as f64) / connections as f64)
}

/// Resident memory once the server has come to rest.
fn settled(server: &Server) -> Result<u64, Failure> {
    thread::sleep(Duration::from_millis(300));
    server.resident()
}
