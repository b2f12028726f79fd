//! Encodes and decodes frame headers (RFC 6455 section 5.2).
//!
//! Only the format is checked here. The rules that depend on role, message or limits are in `receive` and `send`.

/// The length of the longest header in bytes: two bytes, a 64-bit length and a masking key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a control frame in bytes (RFC 6455 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The type of a frame (RFC 6455 5.2, "Opcode").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A fragment of the current message, other than its first.
    Continuation = 0x0,
    /// The first (or only) frame of a text message.
    Text = 0x1,
    /// The first (or only) frame of a binary message.
    Binary = 0x2,
    /// Starts or completes the closing handshake.
    Close = 0x8,
    /// Requests a Pong.
    Ping = 0x9,
    /// Answers a Ping, or is sent unsolicited as a heartbeat.
    Pong = 0xA,
}

impl OpCode {
    /// Returns whether this is a control frame: Close, Ping or Pong (RFC 6455 5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    /// Returns the opcode for the low four bits of a header; `None` for a reserved one.
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// Why bytes are not a valid frame header (RFC 6455 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// One of the opcodes 3-7 or 0xB-0xF.
    ReservedOpcode(u8),
    /// The length is encoded in more bytes than necessary.
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is set.
    LengthTooLarge,
}

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ReservedOpcode(opcode) => write!(f, "reserved opcode {opcode:#x} (RFC 6455 5.2)"),
            Self::LengthNotMinimal => f.write_str("length not in its shortest form (RFC 6455 5.2)"),
            Self::LengthTooLarge => f.write_str("length over 63 bits (RFC 6455 5.2)"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the final fragment of a message.
    pub fin: bool,
    /// The three reserved bits, at their places in the first byte: [`Header::RSV1`], [`Header::RSV2`] and
    /// [`Header::RSV3`].
    pub rsv: u8,
    /// The type of the frame.
    pub opcode: OpCode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// The length in bytes of the payload, which follows the header.
    pub length: u64,
}

impl Header {
    /// The first reserved bit. permessage-deflate sets it on compressed messages (RFC 7692 section 6).
    pub const RSV1: u8 = 0x40;
    /// The second reserved bit.
    pub const RSV2: u8 = 0x20;
    /// The third reserved bit.
    pub const RSV3: u8 = 0x10;

    /// Decodes the header at the front of `input`. Returns it with its length in bytes, or `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// Returns [`HeaderError`] as soon as the bytes that break the rule have arrived. At least two bytes are needed.
    #[inline]
    pub fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        let Some(opcode) = OpCode::from_bits(first & 0x0F) else {
            return Err(HeaderError::ReservedOpcode(first & 0x0F));
        };
        let (length, rest, length_size) = match second & 0x7F {
            126 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from(u16::from_be_bytes(*bytes));
                if length < 126 {
                    return Err(HeaderError::LengthNotMinimal);
                }
                (length, rest, 2)
            }
            127 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
                let length = u64::from_be_bytes(*bytes);
                if length > i64::MAX as u64 {
                    return Err(HeaderError::LengthTooLarge);
                }
                if length <= u64::from(u16::MAX) {
                    return Err(HeaderError::LengthNotMinimal);
                }
                (length, rest, 8)
            }
            short => (u64::from(short), rest, 0),
        };
        let (mask, mask_size) = if second & 0x80 == 0 {
            (None, 0)
        } else {
            let Some((key, _)) = rest.split_first_chunk() else { return Ok(None) };
            (Some(*key), 4)
        };
        let header = Self { fin: first & 0x80 != 0, rsv: first & 0x70, opcode, mask, length };
        Ok(Some((header, 2 + length_size + mask_size)))
    }

    /// Encodes the header, with the length in its shortest form (RFC 6455 5.2: "the minimal number of bytes MUST be
    /// used").
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = (u8::from(self.fin) << 7) | (self.rsv & 0x70) | self.opcode as u8;
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut size = match self.length {
            0..=125 => {
                bytes[1] = masked | self.length as u8;
                2
            }
            126..=0xFFFF => {
                bytes[1] = masked | 126;
                bytes[2..4].copy_from_slice(&(self.length as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = masked | 127;
                bytes[2..10].copy_from_slice(&self.length.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[size..size + 4].copy_from_slice(&key);
            size += 4;
        }
        EncodedHeader { bytes, size: size as u8 }
    }
}

impl EncodedHeader {
    /// Appends the bytes to `to`. Copying all [`MAX_HEADER`] bytes and truncating is faster than copying a slice whose
    /// length the compiler does not know.
    #[inline]
    pub(crate) fn append(&self, to: &mut Vec<u8>) {
        let end = to.len() + usize::from(self.size);
        to.extend_from_slice(&self.bytes);
        to.truncate(end);
    }
}

/// An encoded header. Dereferences to its bytes.
#[derive(Clone, Copy, Debug)]
pub struct EncodedHeader {
    bytes: [u8; MAX_HEADER],
    size: u8,
}

impl std::ops::Deref for EncodedHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}
