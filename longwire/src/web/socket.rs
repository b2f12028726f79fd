//! The browser's socket, what its events leave behind, and the rules that a browser does not keep by itself.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use js_sys::{ArrayBuffer, JsString, Uint8Array};
use longwire_proto::{CloseCode, CloseFrame, Message, ProtocolError};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent};

use super::inbox::{Inbox, Limits, NotTaken};
use super::timer::{Instant, Sleep};
use crate::end::{Closed, ConnectError, Error, SendError, Side};

/// Closes a connection whose messages exceed a limit of this end. A page cannot send 1009 or 1008, so this is a
/// code of the range for applications.
const TOO_MUCH: u16 = 4009;

/// How often to look whether the browser has sent enough: no event tells it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(super) struct Socket {
    /// The browser's.
    js: web_sys::WebSocket,
    state: Rc<State>,
    limits: Limits,
    _handlers: Handlers,
}

/// What the handlers and the receiver share.
struct State {
    is_open: Cell<bool>,
    receiver_dropped: Cell<bool>,
    inbox: RefCell<Inbox>,
    /// Our Close frame, if we have sent one before the peer did, and when.
    closing: RefCell<Option<(CloseFrame, Instant)>>,
    end: OnceCell<Result<Closed, Error>>,
    /// Of the task that connects or receives.
    waker: RefCell<Option<Waker>>,
}

/// What the browser calls.
struct Handlers {
    _open: Closure<dyn FnMut(Event)>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("url", &self.js.url())
            .field("buffered_amount", &self.buffered_amount())
            .field("end", &self.state.end.get())
            .finish_non_exhaustive()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The handlers go away with this.
        self.js.set_onopen(None);
        self.js.set_onmessage(None);
        self.js.set_onclose(None);
        // Without a code it cannot fail.
        let _ = self.js.close();
    }
}

impl Socket {
    /// Makes the browser connect.
    pub(super) fn connect(url: &str, subprotocols: &[String], limits: Limits) -> Result<Self, ConnectError> {
        let names: js_sys::Array = subprotocols.iter().map(|name| JsValue::from_str(name)).collect();
        let js = web_sys::WebSocket::new_with_str_sequence(url, &names)
            .map_err(|error| ConnectError::Invalid(text_of(&error)))?;
        js.set_binary_type(BinaryType::Arraybuffer);
        let state = Rc::new(State {
            is_open: Cell::new(false),
            receiver_dropped: Cell::new(false),
            inbox: RefCell::new(Inbox::new(limits)),
            closing: RefCell::default(),
            end: OnceCell::new(),
            waker: RefCell::default(),
        });
        let handlers = Handlers::new(&js, &state);
        Ok(Self { js, state, limits, _handlers: handlers })
    }

    /// Waits until the connection is open.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<(), ConnectError>> {
        if self.state.is_open.get() {
            return Poll::Ready(Ok(()));
        }
        if self.state.end.get().is_some() {
            let why = "the browser opened no connection; it does not tell a page why";
            return Poll::Ready(Err(io::Error::other(why).into()));
        }
        self.state.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    pub(super) fn subprotocol(&self) -> Option<Box<str>> {
        Some(self.js.protocol()).filter(|name| !name.is_empty()).map(Into::into)
    }

    pub(super) fn buffered_amount(&self) -> usize {
        self.js.buffered_amount() as usize
    }

    pub(super) fn closed(&self) -> Option<&Closed> {
        self.state.end.get()?.as_ref().ok()
    }

    /// The next message, or the end. `timer` is that of the closing handshake, which has this time.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Option<Sleep>,
        close_timeout: Duration,
    ) -> Poll<Result<Option<Message>, Error>> {
        if let Some(message) = self.state.inbox.borrow_mut().pop() {
            return Poll::Ready(Ok(Some(message)));
        }
        if let Some((_, since)) = &*self.state.closing.borrow()
            && self.state.end.get().is_none()
        {
            let timer = timer.get_or_insert_with(|| Sleep::since(*since, close_timeout));
            if Pin::new(timer).poll(cx).is_ready() {
                // Nothing has set it since it was looked at.
                let _ = self.state.end.set(Err(Error::CloseTimeout));
            }
        }
        if let Some(end) = self.state.end.get() {
            return Poll::Ready(end.as_ref().map(|_| None).map_err(Clone::clone));
        }
        self.state.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Nobody will receive any more: what waits is dropped, and so is what arrives.
    pub(super) fn drop_receiver(&self) {
        self.state.receiver_dropped.set(true);
        while self.state.inbox.borrow_mut().pop().is_some() {}
    }

    /// Whether a Close frame may be sent.
    fn check_open(&self) -> Result<(), SendError> {
        if let Some(Err(error)) = self.state.end.get() {
            return Err(SendError::Failed(error.clone()));
        }
        if self.js.ready_state() == web_sys::WebSocket::OPEN { Ok(()) } else { Err(SendError::Closed) }
    }

    /// Whether a message may be sent, apart from its size.
    pub(super) fn check(&self) -> Result<(), SendError> {
        self.check_open()?;
        if self.state.receiver_dropped.get() { Err(SendError::ReceiverDropped) } else { Ok(()) }
    }

    /// Hands a message to the browser, which writes it by itself.
    pub(super) fn try_send(&self, message: &Message) -> Result<(), SendError> {
        self.check()?;
        if self.buffered_amount() >= self.limits.write_buffer {
            return Err(SendError::Full);
        }
        let sent = match message {
            Message::Text(text) => self.js.send_with_str(text),
            Message::Binary(bytes) => self.js.send_with_u8_array(bytes),
        };
        sent.map_err(|error| failed(&error))
    }

    /// Waits until fewer than `limit` bytes wait to be written. `pause` is between two looks.
    fn poll_below(
        &self,
        limit: usize,
        cx: &mut Context<'_>,
        pause: &mut Option<Sleep>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            self.check()?;
            if self.buffered_amount() < limit {
                return Poll::Ready(Ok(()));
            }
            let sleep = pause.get_or_insert_with(|| Sleep::new(LOOK_AGAIN));
            ready!(Pin::new(sleep).poll(cx));
            *pause = None;
        }
    }

    /// Waits until there is room for another message.
    pub(super) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        pause: &mut Option<Sleep>,
    ) -> Poll<Result<(), SendError>> {
        self.poll_below(self.limits.write_buffer, cx, pause)
    }

    /// Waits until the browser has written everything.
    pub(super) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        pause: &mut Option<Sleep>,
    ) -> Poll<Result<(), SendError>> {
        self.poll_below(1, cx, pause)
    }

    /// Sends a Close frame behind what waits. Closing what is closed is no error.
    pub(super) fn start_close(&self, frame: CloseFrame) -> Result<(), SendError> {
        check_close(&frame)?;
        if self.check_open().is_err() {
            return Ok(());
        }
        let closed = if frame.code == CloseCode::NO_STATUS {
            self.js.close()
        } else {
            self.js.close_with_code_and_reason(frame.code.into(), &frame.reason)
        };
        closed.map_err(|error| failed(&error))?;
        self.state.closing.replace(Some((frame, Instant::now())));
        self.state.wake();
        Ok(())
    }
}

/// The rules of RFC 6455, and those of a browser: a page may send 1000, 3000 to 4999, or no code.
pub(super) fn check_close(frame: &CloseFrame) -> Result<(), SendError> {
    frame.check()?;
    match u16::from(frame.code) {
        1000 | 1005 | 3000..=4999 => Ok(()),
        _ => Err(SendError::InvalidCloseCode(frame.code)),
    }
}

impl State {
    fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn ended(&self, end: Result<Closed, Error>) {
        // The first end counts: one that this side has decided on comes before the browser's event.
        let _ = self.end.set(end);
        self.wake();
    }

    /// What the close event tells.
    fn closed(&self, event: &CloseEvent) {
        // Not `wasClean`, which Chromium clears if the peer closed before it took everything that the page has sent.
        if matches!(event.code(), 1006 | 1015) {
            return self.ended(Err(Error::Eof));
        }
        // The code is the peer's. One that answers ours repeats it or has none; any other was under way already.
        let answers =
            |ours: &CloseFrame| ours.code == event.code() || event.code() == u16::from(CloseCode::NO_STATUS);
        let (by, frame) = match self.closing.borrow_mut().take() {
            Some((ours, _)) if answers(&ours) => (Side::Us, ours),
            _ => (Side::Peer, CloseFrame::new(event.code(), event.reason())),
        };
        // A Close frame without a code has no body.
        let frame = Some(frame).filter(|frame| frame.code != CloseCode::NO_STATUS);
        self.ended(Ok(Closed { by, frame }));
    }

    /// Takes what the message event carries, or says why not.
    fn take(&self, data: JsValue) -> Result<(), NotTaken> {
        let mut inbox = self.inbox.borrow_mut();
        let message = if let Some(text) = data.dyn_ref::<JsString>() {
            // Each unit of UTF-16 is at least one byte of UTF-8.
            inbox.room_for(text.length() as usize)?;
            let text = String::from(text);
            inbox.room_for(text.len())?;
            Message::from(text)
        } else {
            let buffer = data.unchecked_into::<ArrayBuffer>();
            inbox.room_for(buffer.byte_length() as usize)?;
            Message::from(Uint8Array::new(&buffer).to_vec())
        };
        inbox.push(message);
        Ok(())
    }
}

impl Handlers {
    fn new(js: &web_sys::WebSocket, state: &Rc<State>) -> Self {
        let open = Closure::<dyn FnMut(Event)>::new({
            let state = Rc::clone(state);
            move |_| {
                state.is_open.set(true);
                state.wake();
            }
        });
        let message = Closure::<dyn FnMut(MessageEvent)>::new({
            let (state, js) = (Rc::clone(state), js.clone());
            move |event: MessageEvent| {
                if state.end.get().is_some() || state.receiver_dropped.get() {
                    return;
                }
                match state.take(event.data()) {
                    Ok(()) => state.wake(),
                    Err(not_taken) => refuse(not_taken, &state, &js),
                }
            }
        });
        let close = Closure::<dyn FnMut(CloseEvent)>::new({
            let state = Rc::clone(state);
            move |event: CloseEvent| state.closed(&event)
        });
        js.set_onopen(Some(open.as_ref().unchecked_ref()));
        js.set_onmessage(Some(message.as_ref().unchecked_ref()));
        js.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self { _open: open, _message: message, _close: close }
    }
}

/// Ends the connection because of a message that exceeds a limit. The messages before it can still be received.
fn refuse(not_taken: NotTaken, state: &State, js: &web_sys::WebSocket) {
    let limits = state.inbox.borrow().limits();
    let (reason, error) = match not_taken {
        NotTaken::TooBig => {
            let limit = limits.max_message;
            ("message too big", ProtocolError::MessageTooBig { limit }.into())
        }
        NotTaken::Full => {
            let limit = limits.receive_buffer;
            let text = format!("more than {limit} bytes of messages wait to be received (receive_buffer)");
            ("receive buffer full", io::Error::new(io::ErrorKind::QuotaExceeded, text).into())
        }
    };
    // Code and reason are valid. It may be closing already, which is no error.
    let _ = js.close_with_code_and_reason(TOO_MUCH, reason);
    state.ended(Err(error));
}

/// An exception of a function that sends.
fn failed(error: &JsValue) -> SendError {
    SendError::Failed(io::Error::other(text_of(error)).into())
}

/// The text of an exception.
fn text_of(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}
