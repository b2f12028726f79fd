//! The idle row: what a connection that does nothing costs in memory, before and after it was used.

use super::{Memory, opening, replies::Replies, script::Script};
use crate::{Failure, row::Content, server::Server};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

/// Connections that are echoed to at the same time.
const WAVE: usize = 64;

/// One measurement.
pub(crate) fn run(server: &Server, connections: usize) -> Result<Memory, Failure> {
    let base = settled(server)?;
    let streams = (0..connections).map(|_| opening::open(server.address)).collect::<Result<Vec<_>, _>>()?;
    let mut per_connection = [0.0; 3];
    for (size, result) in [0, 1024, 64 * 1024].into_iter().zip(&mut per_connection) {
        if size > 0 {
            streams.chunks(WAVE).try_for_each(|wave| echo(wave, size))?;
        }
        *result = (settled(server)? as f64 - base as f64) / connections as f64;
    }
    Ok(Memory { base, per_connection })
}

/// One message on each connection; every reply is compared.
fn echo(wave: &[TcpStream], size: usize) -> Result<(), Failure> {
    let script = Script::new(Content::Text, size, 1, 0);
    for mut stream in wave {
        stream.write_all(script.frames())?;
    }
    let mut block = vec![0; 2 * size];
    for mut stream in wave {
        let mut replies = Replies::default();
        while replies.messages == 0 {
            match stream.read(&mut block)? {
                0 => return Err("the server has closed the connection".into()),
                length => replies.receive(&block[..length], &script, true)?,
            }
        }
    }
    Ok(())
}

/// Resident memory once the server has come to rest.
fn settled(server: &Server) -> Result<u64, Failure> {
    thread::sleep(Duration::from_millis(300));
    server.resident()
}
