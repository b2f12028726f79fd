//! Errors: what a chain of them reads like, what finds the cause in it, and what `?` makes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::error::Error as StdError;
use std::io;

use longwire::http::{HeaderMap, StatusCode};
use longwire::reconnect::{Attempt, Cause, NotSent};
use longwire::{
    AcceptError, CloseCode, CloseFrame, Closed, ConnectError, Error, ProtocolError, Response, SendError, Side,
};

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "reset 👋")
}

/// The texts of an error and its sources.
fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[test]
fn a_chain_reads_without_repetition() {
    let rows: Vec<(Box<dyn StdError>, &[&str])> = vec![
        (Box::new(Error::from(reset())), &["the connection failed", "reset 👋"]),
        (
            Box::new(Error::from(ProtocolError::Masked)),
            &["the peer broke the protocol", "frame from a server is masked (RFC 6455 5.1)"],
        ),
        (Box::new(ConnectError::Io(reset())), &["cannot connect", "reset 👋"]),
        (Box::new(Error::from(ConnectError::Io(reset()))), &["cannot connect", "reset 👋"]),
        (Box::new(AcceptError::Io(reset())), &["the connection failed in the opening handshake", "reset 👋"]),
        (
            Box::new(SendError::Failed(reset().into())),
            &["not sent: the connection has failed", "the connection failed", "reset 👋"],
        ),
        (Box::new(Cause::Failed(reset().into())), &["the connection failed", "reset 👋"]),
        (Box::new(Cause::Hook("不行".into())), &["the new connection could not be prepared", "不行"]),
        (
            Box::new(NotSent::Failed(reset().into())),
            &["possibly not sent: the connection failed", "the connection failed", "reset 👋"],
        ),
        (
            Box::new(Error::from(SendError::Full)),
            &["not sent: the write buffer is full, the peer reads too slowly"],
        ),
    ];
    for (error, texts) in rows {
        assert_eq!(chain(&*error), texts);
        assert_eq!(error.to_string(), texts[0]);
        assert_eq!(format!("{error:#}"), texts.join(": "));
    }
}

#[test]
fn an_io_error_is_found_in_the_chain() {
    let errors: [Box<dyn StdError>; 4] = [
        Box::new(Error::from(reset())),
        Box::new(Error::from(ConnectError::Io(reset()))),
        Box::new(Error::from(AcceptError::Io(reset()))),
        Box::new(SendError::Failed(reset().into())),
    ];
    for error in errors {
        let mut chain = std::iter::successors(Some(&*error), |&error| error.source());
        let found = chain.find_map(|error| error.downcast_ref::<io::Error>());
        assert_eq!(found.expect("an I/O error").kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn all_become_one_error_by_the_question_mark() {
    fn connects() -> Result<(), Error> {
        Err(ConnectError::Invalid("坏地址".into()))?
    }
    fn accepts() -> Result<(), Error> {
        Err(AcceptError::Timeout)?
    }
    fn sends() -> Result<(), Error> {
        Err(SendError::Closed)?
    }
    assert!(matches!(connects(), Err(Error::Connect(_))));
    assert!(matches!(accepts(), Err(Error::Accept(_))));
    assert!(matches!(sends(), Err(Error::Send(_))));
    // What had failed before is that failure again, on the way there and back.
    assert!(matches!(Error::from(SendError::Failed(Error::Eof)), Error::Eof));
    assert!(matches!(SendError::from(Error::from(SendError::Full)), SendError::Full));
    assert!(matches!(SendError::from(Error::PingTimeout), SendError::Failed(Error::PingTimeout)));
}

#[test]
fn they_become_io_errors_with_their_kind() {
    use io::ErrorKind as K;
    let rows: [(io::Error, K); 9] = [
        (Error::from(reset()).into(), K::ConnectionReset),
        (Error::Eof.into(), K::UnexpectedEof),
        (Error::PingTimeout.into(), K::TimedOut),
        (Error::from(ProtocolError::InvalidUtf8).into(), K::InvalidData),
        (Error::from(ConnectError::Io(reset())).into(), K::ConnectionReset),
        (ConnectError::Invalid(String::new()).into(), K::InvalidInput),
        (AcceptError::Timeout.into(), K::TimedOut),
        (SendError::Full.into(), K::WouldBlock),
        (SendError::Failed(reset().into()).into(), K::ConnectionReset),
    ];
    for (error, kind) in rows {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.get_ref().is_some(), "the error is kept within");
    }
}

/// A program's own retry policy is tested without a server.
#[test]
fn values_to_test_with_can_be_made() {
    let response = Response::new(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), "稍后再试");
    let refused = ConnectError::Refused(Box::new(response));
    assert!(refused.is_retryable());
    assert_eq!(refused.to_string(), "refused with status 503 Service Unavailable: 稍后再试");
    let closed = Closed::new(Side::Peer, Some(CloseFrame::new(CloseCode::POLICY, "")));
    assert_eq!(Cause::Closed(closed).retry(), longwire::reconnect::Retry::Never);
    assert_eq!(Attempt::new(3, 1).number, 3);
}
