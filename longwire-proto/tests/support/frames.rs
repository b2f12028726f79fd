//! Frames as the bytes of RFC 6455 5.2, right or wrong, written without the crate's own encoder.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use longwire_proto::Role;

/// How the payload length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Shortest,
    In16(u16),
    In64(u64),
}

/// One frame, well formed unless it was told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    first: u8,
    length: Length,
    payload: Vec<u8>,
    /// Masked where it must not be, not masked where it must.
    mask_inverted: bool,
    /// Only so many bytes of it come.
    cut: Option<usize>,
}

pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame {
        first: 0x80 | opcode,
        length: Length::Shortest,
        payload: payload.as_ref().to_vec(),
        mask_inverted: false,
        cut: None,
    }
}

pub(crate) fn continuation(payload: impl AsRef<[u8]>) -> Frame {
    frame(0x0, payload)
}

pub(crate) fn text(payload: impl AsRef<[u8]>) -> Frame {
    frame(0x1, payload)
}

pub(crate) fn binary(payload: impl AsRef<[u8]>) -> Frame {
    frame(0x2, payload)
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Frame {
    frame(0x9, payload)
}

pub(crate) fn pong(payload: impl AsRef<[u8]>) -> Frame {
    frame(0xA, payload)
}

/// A Close frame with a code and a reason, which may be wrong.
pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Frame {
    frame(0x8, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// A Close frame without a body.
pub(crate) fn close_empty() -> Frame {
    frame(0x8, [])
}

impl Frame {
    /// Not the final fragment.
    pub(crate) fn more(mut self) -> Self {
        self.first &= 0x7F;
        self
    }

    /// With these reserved bits.
    pub(crate) fn rsv(mut self, bits: u8) -> Self {
        self.first |= bits;
        self
    }

    /// The length in two bytes, whatever it is.
    pub(crate) fn length16(mut self, length: u16) -> Self {
        self.length = Length::In16(length);
        self
    }

    /// The length in eight bytes, whatever it is.
    pub(crate) fn length64(mut self, length: u64) -> Self {
        self.length = Length::In64(length);
        self
    }

    /// Masked by a server, not masked by a client.
    pub(crate) fn mask_inverted(mut self) -> Self {
        self.mask_inverted = true;
        self
    }

    /// Only the first `bytes` of it come.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// As it comes to an end of this role: a server gets it masked with `key`.
    pub(crate) fn encode(&self, to: Role, key: [u8; 4]) -> Vec<u8> {
        let masked = (to == Role::Server) != self.mask_inverted;
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        let length = match self.length {
            Length::Shortest => match self.payload.len() {
                short @ 0..=125 => {
                    bytes.push(mask_bit | short as u8);
                    None
                }
                medium @ 126..=65_535 => Some(Length::In16(medium as u16)),
                long => Some(Length::In64(long as u64)),
            },
            length => Some(length),
        };
        match length {
            Some(Length::In16(length)) => {
                bytes.push(mask_bit | 126);
                bytes.extend(length.to_be_bytes());
            }
            Some(Length::In64(length)) => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
            _ => {}
        }
        if masked {
            bytes.extend(key);
            bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }
}

/// These frames as they come to an end of this role, each with a masking key of its own.
pub(crate) fn encode(frames: &[Frame], to: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut key = 0xF1A2_0304u32;
    for frame in frames {
        bytes.append(&mut frame.encode(to, key.to_le_bytes()));
        key = key.wrapping_add(0x9E37_79B9);
    }
    bytes
}

/// A frame that was sent, read without the crate's own decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) key: Option<[u8; 4]>,
    /// Bytes of the header.
    pub(crate) header: usize,
    /// Unmasked.
    pub(crate) payload: Vec<u8>,
}

/// Reads what an end has sent: whole frames, without reserved bits, lengths in their shortest form.
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0x70, 0, "no reserved bit is set");
        let (length, rest) = match second & 0x7F {
            126 => {
                let length = u64::from(u16::from_be_bytes(rest[..2].try_into().unwrap()));
                assert!(length > 125, "the shortest form of {length}");
                (length, &rest[2..])
            }
            127 => {
                let length = u64::from_be_bytes(rest[..8].try_into().unwrap());
                assert!(length > 65_535, "the shortest form of {length}");
                (length, &rest[8..])
            }
            short => (u64::from(short), rest),
        };
        let (key, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            (Some(<[u8; 4]>::try_from(&rest[..4]).unwrap()), &rest[4..])
        };
        let header = bytes.len() - rest.len();
        let (payload, rest) = rest.split_at(usize::try_from(length).unwrap());
        let keys = key.unwrap_or_default();
        let payload = payload.iter().zip(keys.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        frames.push(Sent { fin: first & 0x80 != 0, opcode: first & 0x0F, key, header, payload });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "nothing but whole frames is sent");
    frames
}
