//! The client's opening handshake (RFC 6455 4.1), with the sample key, so that its answer is known (RFC 6455 1.3).

use super::deflate::{Agreement, OFFER};
use crate::Failure;
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, setsockopt,
    sockopt::IpBindAddressNoPort,
};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const EXTENSIONS: &str = "Sec-WebSocket-Extensions";
const LONGEST_ANSWER: usize = 4096;

/// Connections from one address; it has 28,000 ports for them, unless the system is set up otherwise.
const FROM_ONE_ADDRESS: usize = 20_000;

/// How long a server may stay silent before the measurement fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// With `deflate` it offers permessage-deflate.
pub(super) fn request(server: SocketAddr, deflate: bool) -> Vec<u8> {
    let extensions = if deflate { format!("{EXTENSIONS}: {OFFER}\r\n") } else { String::new() };
    format!(
        "GET / HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    )
    .into_bytes()
}

/// Opens the connection of this number and waits for the answer; the socket is left blocking, with a time limit.
pub(super) fn open(server: SocketAddr, number: usize) -> Result<TcpStream, Failure> {
    Ok(opened(server, number, false)?.0)
}

/// The same, with what the server says to permessage-deflate; a failure if it does not agree to it.
pub(super) fn open_deflate(server: SocketAddr, number: usize) -> Result<(TcpStream, Agreement), Failure> {
    let (stream, answer) = opened(server, number, true)?;
    let agreement = extensions(&answer).ok_or("the server does not agree to permessage-deflate")?;
    Ok((stream, agreement.parse()?))
}

fn opened(server: SocketAddr, number: usize, deflate: bool) -> Result<(TcpStream, String), Failure> {
    let mut stream = connect(server, number)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&request(server, deflate))?;

    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece)? {
            0 => return Err("closed during the opening handshake".into()),
            length => answer.extend(&piece[..length]),
        }
        match answered(&answer)? {
            None => {}
            Some(length) if length == answer.len() => return Ok((stream, String::from_utf8(answer)?)),
            Some(_) => return Err("the server speaks first".into()),
        }
    }
}

/// Connects from 127.0.0.1, or from one of the addresses after it once that has no ports left.
fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + (number / FROM_ONE_ADDRESS) as u32);
    if source == Ipv4Addr::LOCALHOST {
        return TcpStream::connect(server);
    }
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The port is picked by `connect`, which knows that one in use towards another server will do.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server))?;
    Ok(socket.into())
}

/// Length of the answer, once it is whole; a failure if it does not accept (RFC 6455 4.2.2).
pub(super) fn answered(received: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        let bounded = received.len() <= LONGEST_ANSWER;
        return if bounded { Ok(None) } else { Err("the answer to the handshake does not end".into()) };
    };
    let head = std::str::from_utf8(&received[..end])?;
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        Ok(Some(end + 4))
    } else {
        Err(format!("the handshake is refused: {head}").into())
    }
}

/// The value of the header in which a server accepts extensions.
fn extensions(answer: &str) -> Option<&str> {
    let mut headers = answer.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(name, _)| name.eq_ignore_ascii_case(EXTENSIONS)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn connections_come_from_as_many_addresses_as_they_need() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let server = listener.local_addr().expect("its address");
        for (number, source) in [(0, 1), (19_999, 1), (20_000, 2), (99_999, 5)] {
            let stream = connect(server, number).expect("a connection");
            assert_eq!(stream.local_addr().expect("its address").ip(), Ipv4Addr::new(127, 0, 0, source));
            assert_eq!(stream.peer_addr().expect("its address"), server);
        }
    }
}
