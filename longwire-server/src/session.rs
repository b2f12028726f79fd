//! One WebSocket and the hub: what it says goes to its channel, until it ends or the server stops.

use std::pin::pin;
use std::sync::Arc;

use longwire::{CloseCode, Error, Message, SharedFrame, WebSocket};
use tokio::net::TcpStream;

use crate::hub::{Delivery, Hub, Seat};
use crate::stop::Stop;

/// How a member of the hub is reached.
pub(crate) type Listener = longwire::Sender<TcpStream>;

/// Bytes handed to others after which their tasks get a turn, so that a fast speaker does not fill
/// the buffers of those who would keep up.
const TURN: usize = 64 * 1024;

/// What one delivery costs besides its bytes, in bytes: many small messages to many are work too.
const DELIVERY: usize = 64;

/// Keeps a connection on a channel until it ends.
pub(crate) async fn channel(socket: WebSocket<TcpStream>, name: &str, hub: &Arc<Hub<Listener>>, stop: Stop) {
    let (sender, mut receiver) = socket.split();
    let seat = hub.join(name, sender.clone());
    let mut stopping = pin!(stop.requested());
    let mut handed_out = 0;
    loop {
        tokio::select! {
            received = receiver.recv() => {
                let Ok(Some(message)) = received else { return };
                handed_out += broadcast(&seat, message);
                if handed_out >= TURN {
                    handed_out = 0;
                    tokio::task::yield_now().await;
                }
            }
            () = &mut stopping => break,
        }
    }
    drop(seat);
    // Code and reason may be sent, and that the connection is closing already is no error. Receiving
    // sees the closing handshake through, within its own deadline.
    let _ = sender.start_close(CloseCode::GOING_AWAY, STOPPING);
    while let Ok(Some(_)) = receiver.recv().await {}
}

/// Sends back whatever comes, until the connection ends.
pub(crate) async fn echo(mut socket: WebSocket<TcpStream>, stop: Stop) {
    let mut stopping = pin!(stop.requested());
    loop {
        tokio::select! {
            received = socket.recv() => {
                let Ok(Some(message)) = received else { return };
                // Queued only: all echoes of one read leave in one write. Of an error the next
                // `recv` knows more.
                let _ = socket.feed(message).await;
            }
            () = &mut stopping => break,
        }
    }
    // Whether the peer answers changes nothing here.
    let _ = socket.close(CloseCode::GOING_AWAY, STOPPING).await;
}

/// The reason that goes with 1001.
const STOPPING: &str = "the server stops";

/// Hands a message to all others on the channel, encoded once, and closes those who do not keep up.
/// Returns what it cost, in bytes.
fn broadcast(seat: &Seat<Listener>, message: Message) -> usize {
    let size = payload(&message);
    let frame = SharedFrame::new(message);
    let said = seat.say(|listener| match listener.try_send_shared(&frame) {
        Err(Error::Full) => Delivery::TooSlow,
        // One that has ended leaves by itself, in its own task.
        _ => Delivery::Done,
    });
    for listener in said.too_slow {
        // Its own task sends the Close frame, and gives up when it is not taken in time.
        let _ = listener.start_close(CloseCode::POLICY, "slow consumer");
    }
    // Each has a buffer of its own, which this message fills once.
    if said.deliveries == 0 { 0 } else { size + said.deliveries * DELIVERY }
}

fn payload(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
    }
}
