//! What the servers have in common: a listener on the port of the command line, and a task per connection.

use std::{env, error::Error, future::Future};
use tokio::net::{TcpListener, TcpStream};

/// Why a server or one of its connections ended.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Listens on the loopback port named by the first argument and runs `talk` in a task of its own for each connection.
///
/// # Errors
/// No port on the command line, or the listener failed. What a connection ends with is nobody's concern here.
pub async fn serve<F, R>(talk: F) -> Result<(), Failure>
where
    F: Fn(TcpStream) -> R,
    R: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let port: u16 = env::args().nth(1).ok_or("usage: <server> PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(talk(stream));
    }
}
