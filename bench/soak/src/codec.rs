//! permessage-deflate on the client's side (RFC 7692), by zlib and not by what is tested.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The end of every compressed message, which is not sent (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What a client offers: it sends with takeover, or each message by itself.
pub(crate) const OFFER: &str = "permessage-deflate";

/// What one connection compresses and inflates with.
pub(crate) struct Codec {
    inflate: Box<Decompress>,
    /// What the server sends may refer to what it has sent before.
    server_takeover: bool,
    /// With it what is sent refers to what was sent before.
    takeover: Option<Box<Compress>>,
}

fn compressor() -> Compress {
    Compress::new(Compression::fast(), false)
}

impl Codec {
    /// As the server has answered; none if it has said something that was not offered.
    pub(crate) fn agreed(answer: &str, takeover: bool) -> Option<Self> {
        let mut parts = answer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let (mut server_takeover, mut may_take_over) = (true, true);
        for parameter in parts {
            match parameter {
                "server_no_context_takeover" => server_takeover = false,
                "client_no_context_takeover" => may_take_over = false,
                _ if parameter.starts_with("server_max_window_bits=") => {}
                _ => return None,
            }
        }
        let takeover = (takeover && may_take_over).then(|| Box::new(compressor()));
        Some(Self { inflate: Box::new(Decompress::new(false)), server_takeover, takeover })
    }

    pub(crate) fn compress(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        match &mut self.takeover {
            Some(stream) => compress(stream, payload),
            None => compress(&mut compressor(), payload),
        }
    }

    /// The message behind a payload, which must be no longer than `most`.
    pub(crate) fn inflate(&mut self, payload: &[u8], most: usize) -> Option<Vec<u8>> {
        if !self.server_takeover {
            self.inflate.reset(false);
        }
        let input = [payload, &TAIL].concat();
        let before = self.inflate.total_in();
        let mut message = Vec::with_capacity(4 * payload.len() + 64);
        loop {
            let consumed = (self.inflate.total_in() - before) as usize;
            let status =
                self.inflate.decompress_vec(&input[consumed..], &mut message, FlushDecompress::Sync).ok()?;
            if status == Status::StreamEnd || message.len() > most {
                return None;
            }
            let consumed = (self.inflate.total_in() - before) as usize;
            if consumed == input.len() && message.len() < message.capacity() {
                return Some(message);
            }
            message.reserve(message.len().max(256));
        }
    }
}

/// A message that inflates to `size` zeros.
pub(crate) fn bomb(size: usize) -> Option<Vec<u8>> {
    compress(&mut compressor(), &vec![0; size])
}

fn compress(stream: &mut Compress, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.is_empty() {
        // RFC 7692 7.2.3.6; zlib flushes nothing twice.
        return Some(vec![0]);
    }
    // What is fast stores nothing as it is: noise grows by an eighth.
    let mut compressed = Vec::with_capacity(payload.len() + payload.len() / 4 + 64);
    let before = stream.total_in();
    stream.compress_vec(payload, &mut compressed, FlushCompress::Sync).ok()?;
    let whole = stream.total_in() - before == payload.len() as u64 && compressed.ends_with(&TAIL);
    compressed.truncate(compressed.len().saturating_sub(TAIL.len()));
    whole.then_some(compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_with_and_without_takeover() {
        let mut random = crate::random::Random::new(1);
        let noise: Vec<u8> = (0..100_000).map(|_| random.next() as u8).collect();
        for takeover in [false, true] {
            let mut codec = Codec::agreed("permessage-deflate", takeover).expect("agreed");
            for payload in [&b"the same words"[..], b"", b"the same words", &[7; 100_000], &noise, b""] {
                let compressed = codec.compress(payload).expect("compressed");
                assert_eq!(codec.inflate(&compressed, 100_000).as_deref(), Some(payload));
            }
            let compressed = codec.compress(&[7; 100]).expect("compressed");
            assert_eq!(codec.inflate(&compressed, 99), None);
        }
        assert!(Codec::agreed("permessage-deflate; other", false).is_none());
    }
}
