//! The judge of one direction of a connection: every frame of it against RFC 7692, and what it carried.

use longwire::{Kind, Message};
use longwire_proto::frame::{Header, OpCode};
use longwire_proto::mask;

use crate::inflate::Inflate;

/// What was agreed for one direction (RFC 7692 section 7.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) no_context_takeover: bool,
    pub(crate) max_window_bits: u8,
}

/// What a sender did with what was agreed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Messages that were compressed.
    pub compressed: usize,
    /// Messages that were sent as they are.
    pub plain: usize,
    /// Messages among the compressed that came in several frames.
    pub fragmented: usize,
    /// The farthest that anything was copied from.
    pub distance: usize,
    /// Something was copied from an earlier message.
    pub took_over: bool,
}

/// Checks all frames that one end has sent: that they carry `expected`, and keep to what was agreed.
pub(crate) fn judge(mut bytes: &[u8], agreed: Option<Limits>, expected: &[Message]) -> Usage {
    let mut usage = Usage::default();
    let mut context = Inflate::default();
    let mut expected = expected.iter();
    let mut open: Option<Open> = None;
    while let Some((header, size)) = Header::decode(bytes).expect("a frame header") {
        let end = size + usize::try_from(header.length).expect("it was received");
        let mut payload = bytes.get(size..end).expect("a whole frame").to_vec();
        bytes = &bytes[end..];
        mask::apply(&mut payload, header.mask.unwrap_or_default());
        if header.opcode.is_control() || header.opcode == OpCode::Continuation {
            // RFC 7692 6.1: on the first fragment only, and on no control frame.
            assert_eq!(header.rsv, 0, "{header:?}");
        }
        if header.opcode.is_control() {
            continue;
        }
        if header.opcode == OpCode::Continuation {
            let open = open.as_mut().expect("a message under way");
            open.payload.extend_from_slice(&payload);
            open.frames += 1;
        } else {
            open = Some(Open { header, payload, frames: 1 });
        }
        if header.fin {
            let message = open.take().expect("a message under way");
            let expected = expected.next().expect("no more messages than were exchanged");
            message.judge(agreed, expected, &mut context, &mut usage);
        }
    }
    assert!(bytes.is_empty() && open.is_none(), "ends within a message");
    assert!(expected.next().is_none(), "fewer messages than were exchanged");
    usage.distance = context.distance;
    usage.took_over = context.took_over;
    usage
}

/// A message under way.
struct Open {
    /// Of its first frame.
    header: Header,
    payload: Vec<u8>,
    frames: usize,
}

impl Open {
    fn judge(&self, agreed: Option<Limits>, expected: &Message, context: &mut Inflate, usage: &mut Usage) {
        let kind = if self.header.opcode == OpCode::Text { Kind::Text } else { Kind::Binary };
        assert_eq!(kind, expected.kind());
        if self.header.rsv == 0 {
            assert!(self.payload == expected.as_bytes(), "a message of {} bytes was changed", expected.len());
            usage.plain += 1;
            return;
        }
        assert_eq!(self.header.rsv, Header::RSV1, "no other extension was agreed");
        let limits = agreed.expect("RSV1 without an extension");
        let inflated = context.message(&self.payload).unwrap_or_else(|error| self.complain(&error));
        if inflated != expected.as_bytes() {
            self.complain(&format!("inflates to other than the {} bytes sent", expected.len()));
        }
        if context.distance > 1 << limits.max_window_bits {
            self.complain(&format!("copies from {} bytes back with {limits:?}", context.distance));
        }
        if context.took_over && limits.no_context_takeover {
            self.complain("copies from an earlier message");
        }
        usage.compressed += 1;
        usage.fragmented += usize::from(self.frames > 1);
    }

    fn complain(&self, what: &str) -> ! {
        let shown = &self.payload[..self.payload.len().min(200)];
        panic!("a payload of {} bytes {what}: {shown:02x?}", self.payload.len());
    }
}
