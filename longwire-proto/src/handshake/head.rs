//! Where a head ends, and what bytes may be in it (RFC 9112 section 2).
//!
//! [`HeadReader`] finds the end of a head that arrives in pieces and stops at the first byte that is invalid in every
//! head. httparse parses the lines. The reader rejects what httparse tolerates but RFC 9112 does not: a bare LF and
//! empty lines before a response.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::grammar::is_tchar;

/// Limits on the head of a request or response.
///
/// ```
/// use longwire_proto::handshake::HeadLimits;
///
/// let limits = HeadLimits { headers: 1000, ..HeadLimits::RESPONSE };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum size of the whole head in bytes, from an empty line before it, if any, to the empty line that
    /// ends it, both included.
    pub bytes: usize,
    /// Maximum number of header lines, without the start line.
    pub headers: usize,
}

impl HeadLimits {
    /// For the requests that a server reads: 16 KiB and 64 header lines. Anyone can send them.
    pub const REQUEST: Self = Self { bytes: 16 * 1024, headers: 64 };

    /// For the responses that a client reads: 64 KiB and 256 header lines. Proxies and frameworks add policies and
    /// cookies to what the server sends.
    pub const RESPONSE: Self = Self { bytes: 64 * 1024, headers: 256 };
}

/// The limits on requests, which are the lower ones.
impl Default for HeadLimits {
    fn default() -> Self {
        Self::REQUEST
    }
}

/// Why some bytes are not the head of an HTTP/1.1 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// The first byte is that of a TLS record: the peer speaks TLS on a plain connection.
    Tls,
    /// The first byte cannot start a head.
    FirstByte(u8),
    /// A carriage return without a line feed after it.
    BareCr,
    /// A line feed without a carriage return before it.
    BareLf,
    /// A control byte other than CR, LF and HTAB.
    Control(u8),
    /// The start line alone exceeds [`HeadLimits::bytes`].
    StartLineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The head exceeds [`HeadLimits::bytes`].
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// There are more header lines than [`HeadLimits::headers`].
    TooManyHeaders {
        /// The limit in header lines.
        limit: usize,
    },
    /// The data ended before the head did.
    Incomplete,
    /// The start line is malformed.
    StartLine,
    /// The start line names a version of HTTP that is neither 1.0 nor 1.1.
    Version,
    /// A header line is malformed.
    HeaderLine,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "the peer uses TLS, but plain HTTP was expected: check ws:// and wss://",
            Self::FirstByte(byte) => {
                return write!(
                    f,
                    "the peer does not speak HTTP/1.1: its first byte is 0x{byte:02x} (RFC 9112 2.1)"
                );
            }
            Self::BareCr => "the head has a CR without LF (RFC 9112 2.2)",
            Self::BareLf => "the head has a LF without CR (RFC 9112 2.2)",
            Self::Control(byte) => {
                return write!(f, "the head has the control byte 0x{byte:02x} (RFC 9110 5.5)");
            }
            Self::StartLineTooLong { limit } => {
                return write!(f, "the start line exceeds the limit of {limit} bytes (RFC 9112 3)");
            }
            Self::TooLong { limit } => {
                return write!(f, "the head exceeds the limit of {limit} bytes (RFC 9110 5.4)");
            }
            Self::TooManyHeaders { limit } => {
                return write!(f, "the head has more than {limit} header lines, the limit (RFC 9110 5.4)");
            }
            Self::Incomplete => "the connection ended before the head was complete (RFC 9112 2.1)",
            Self::StartLine => "the start line is malformed (RFC 9112 3 and 4)",
            Self::Version => "the HTTP version is not 1.1 (RFC 9112 2.3)",
            Self::HeaderLine => {
                "a header line is malformed: no colon, white space before the colon, a folded line or a \
                 character that is not allowed (RFC 9112 5.1 and 5.2)"
            }
        })
    }
}

impl std::error::Error for HeadError {}

/// Finds the end of a head that arrives in pieces, and reads each byte once.
///
/// Call [`scan`](Self::scan) with the same growing buffer until it returns the length. The result does not depend
/// on how the bytes are split.
///
/// ```
/// use longwire_proto::handshake::{HeadLimits, HeadReader};
///
/// let mut reader = HeadReader::for_request(HeadLimits::default());
/// let mut buffer = b"GET / HTTP/1.1\r\nHost: example.com\r\n".to_vec();
/// assert_eq!(reader.scan(&buffer), Ok(None));
/// buffer.extend_from_slice(b"\r\nbytes after the head");
/// assert_eq!(reader.scan(&buffer), Ok(Some(37)));
/// ```
#[derive(Clone, Debug)]
pub struct HeadReader {
    limits: HeadLimits,
    kind: Kind,
    state: State,
    /// Number of bytes that were read and are valid.
    scanned: usize,
    /// Number of lines that have begun: the start line and the header lines.
    lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of the start line.
    Start,
    /// After the CR of an empty line before the start line.
    EmptyLine,
    /// Within a line.
    Text,
    /// After the CR that ends a line.
    LineEnd,
    /// After the LF that ends a line.
    LineStart,
    /// After the CR of the empty line that ends the head.
    LastLine,
    /// After the head.
    End,
}

impl HeadReader {
    /// A reader for the head of a request. One empty line before the request line is ignored, as
    /// RFC 9112 2.2 advises, and counts as part of the head.
    pub fn for_request(limits: HeadLimits) -> Self {
        Self::new(Kind::Request, limits)
    }

    /// A reader for the head of a response, which begins with the status line.
    pub fn for_response(limits: HeadLimits) -> Self {
        Self::new(Kind::Response, limits)
    }

    fn new(kind: Kind, limits: HeadLimits) -> Self {
        Self { limits, kind, state: State::Start, scanned: 0, lines: 0 }
    }

    /// Reads the new bytes of `buffer`, which holds everything received since the first byte of the head.
    ///
    /// Returns `None` while more bytes are needed. Returns the length of the head, including the empty line that ends
    /// it, once it is complete, and the same length for every call after that.
    ///
    /// # Errors
    ///
    /// Fails at the first byte that makes the head invalid, without waiting for the end of the line or of the head.
    /// Further calls return the same error.
    pub fn scan(&mut self, buffer: &[u8]) -> Result<Option<usize>, HeadError> {
        let within = &buffer[..buffer.len().min(self.limits.bytes)];
        while self.state != State::End {
            let Some((&byte, rest)) = within.get(self.scanned..).and_then(<[u8]>::split_first) else {
                return if within.len() < self.limits.bytes { Ok(None) } else { Err(self.too_long()) };
            };
            let next = match self.state {
                State::Start => self.start(byte)?,
                State::EmptyLine => line_feed(byte, State::Start)?,
                State::Text if byte == b'\r' => State::LineEnd,
                State::Text => text(byte)?,
                State::LineEnd => line_feed(byte, State::LineStart)?,
                State::LineStart if byte == b'\r' => State::LastLine,
                State::LineStart => self.header_line(byte)?,
                State::LastLine | State::End => line_feed(byte, State::End)?,
            };
            self.state = next;
            self.scanned += 1;
            if next == State::Text {
                self.scanned += text_run(rest);
            }
        }
        Ok(Some(self.scanned))
    }

    fn start(&mut self, byte: u8) -> Result<State, HeadError> {
        let starts = match self.kind {
            // RFC 9112 2.2: a server SHOULD ignore at least one empty line before the request line.
            Kind::Request if byte == b'\r' && self.scanned == 0 => return Ok(State::EmptyLine),
            Kind::Request => is_tchar(byte),
            Kind::Response => byte == b'H',
        };
        match byte {
            _ if starts => {
                self.lines = 1;
                Ok(State::Text)
            }
            // RFC 8446 5.1: the record types alert and handshake.
            0x15 | 0x16 => Err(HeadError::Tls),
            _ => Err(HeadError::FirstByte(byte)),
        }
    }

    fn header_line(&mut self, byte: u8) -> Result<State, HeadError> {
        let state = text(byte)?;
        if self.lines > self.limits.headers {
            return Err(HeadError::TooManyHeaders { limit: self.limits.headers });
        }
        self.lines += 1;
        Ok(state)
    }

    fn too_long(&self) -> HeadError {
        if self.lines > 1 || self.state == State::LineStart || self.state == State::LastLine {
            HeadError::TooLong { limit: self.limits.bytes }
        } else {
            HeadError::StartLineTooLong { limit: self.limits.bytes }
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn text(byte: u8) -> Result<State, HeadError> {
    match byte {
        b'\n' => Err(HeadError::BareLf),
        _ if is_text(byte) => Ok(State::Text),
        _ => Err(HeadError::Control(byte)),
    }
}

fn line_feed(byte: u8, next: State) -> Result<State, HeadError> {
    if byte == b'\n' { Ok(next) } else { Err(HeadError::BareCr) }
}

/// How many bytes at the start of `bytes` are text and not HTAB, which is rare enough to be left to
/// the caller. Eight bytes at a time, five times as fast as one by one: nearly all of a head is text.
fn text_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let del = word ^ (ONES * 0x7f);
        // The high bit of each byte that is below 0x20, or zero in `del`. A borrow may set more of them,
        // but only above a byte that is marked rightly.
        let marked = (word.wrapping_sub(ONES * 0x20) & !word | del.wrapping_sub(ONES) & !del) & HIGH;
        if marked != 0 {
            return 8 * index + marked.trailing_zeros() as usize / 8;
        }
    }
    let text = |byte: &&u8| is_text(**byte) && **byte != b'\t';
    8 * words.len() + rest.iter().take_while(text).count()
}

/// The start line of a request, and the header lines.
pub(super) struct RequestHead {
    pub(super) method: http::Method,
    pub(super) target: Bytes,
    pub(super) version: http::Version,
    pub(super) headers: HeaderMap,
}

/// The start line of a response, and the header lines.
pub(super) struct ResponseHead {
    pub(super) status: http::StatusCode,
    pub(super) version: http::Version,
    pub(super) headers: HeaderMap,
}

pub(super) fn parse_request(head: &[u8], limits: HeadLimits) -> Result<RequestHead, HeadError> {
    let (head, count) = complete(head, HeadReader::for_request(limits))?;
    let mut lines = vec![httparse::EMPTY_HEADER; count];
    let mut parsed = httparse::Request::new(&mut lines);
    if !parsed.parse(&head).map_err(|error| malformed(error, &head, limits))?.is_complete() {
        return Err(HeadError::Incomplete);
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(HeadError::StartLine);
    };
    Ok(RequestHead {
        method: http::Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::StartLine)?,
        target: head.slice_ref(target.as_bytes()),
        version: version(parsed.version),
        headers: header_map(parsed.headers, &head, limits)?,
    })
}

pub(super) fn parse_response(head: &[u8], limits: HeadLimits) -> Result<ResponseHead, HeadError> {
    let (head, count) = complete(head, HeadReader::for_response(limits))?;
    let mut lines = vec![httparse::EMPTY_HEADER; count];
    let mut parsed = httparse::Response::new(&mut lines);
    if !parsed.parse(&head).map_err(|error| malformed(error, &head, limits))?.is_complete() {
        return Err(HeadError::Incomplete);
    }
    let code = parsed.code.ok_or(HeadError::StartLine)?;
    Ok(ResponseHead {
        status: http::StatusCode::from_u16(code).map_err(|_| HeadError::StartLine)?,
        version: version(parsed.version),
        headers: header_map(parsed.headers, &head, limits)?,
    })
}

/// The head at the start of `bytes` in one allocation that the header values share, and the number
/// of its header lines.
fn complete(bytes: &[u8], mut reader: HeadReader) -> Result<(Bytes, usize), HeadError> {
    let length = reader.scan(bytes)?.ok_or(HeadError::Incomplete)?;
    Ok((Bytes::copy_from_slice(&bytes[..length]), reader.lines - 1))
}

fn version(minor: Option<u8>) -> http::Version {
    if minor == Some(1) { http::Version::HTTP_11 } else { http::Version::HTTP_10 }
}

fn header_map(
    lines: &[httparse::Header<'_>],
    head: &Bytes,
    limits: HeadLimits,
) -> Result<HeaderMap, HeadError> {
    // A map holds at most 32,768 names, whatever the limit.
    let mut headers = HeaderMap::with_capacity(lines.len().min(HeadLimits::RESPONSE.headers));
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| HeadError::HeaderLine)?;
        let value =
            HeaderValue::from_maybe_shared(head.slice_ref(line.value)).map_err(|_| HeadError::HeaderLine)?;
        headers.try_append(name, value).map_err(|_| HeadError::TooManyHeaders { limit: limits.headers })?;
    }
    Ok(headers)
}

fn malformed(error: httparse::Error, head: &[u8], limits: HeadLimits) -> HeadError {
    use httparse::Error as E;
    match error {
        E::HeaderName | E::HeaderValue => HeadError::HeaderLine,
        E::TooManyHeaders => HeadError::TooManyHeaders { limit: limits.headers },
        E::Version if names_a_version(head) => HeadError::Version,
        E::Version | E::NewLine | E::Status | E::Token => HeadError::StartLine,
    }
}

/// Whether the first or the third word of the start line is `HTTP/` DIGIT `.` DIGIT (RFC 9112 2.3).
fn names_a_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let is_version = |word: &[u8]| match word.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    };
    words.next().is_some_and(is_version) || words.nth(1).is_some_and(is_version)
}
