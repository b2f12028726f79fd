//! What the opening handshake says of permessage-deflate: the client's offer, the server's answer, and what
//! the client makes of it (RFC 7692 sections 5 and 7.1).
//!
//! Parameters come as names and values; their grammar is that of every extension, in `handshake`.

use std::borrow::Cow;

use http::HeaderValue;

use super::{Deflate, DeflateParameters, WINDOW_BITS};

/// The name of the extension (RFC 7692 7).
pub(crate) const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The window where none is named (RFC 7692 7.1.2).
const FULL_WINDOW: u8 = *WINDOW_BITS.end();

/// A name, and a value if there is one.
type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

/// Why an offer is declined, or an answer fails the handshake. Names the parameter, if it has a known name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The extension does not define it.
    Unknown,
    /// It is there twice.
    Repeated(&'static str),
    /// Its value is none that it may have, or is missing, or there should be none.
    Value(&'static str),
    /// An answer lacks it, or allows more than the offer did.
    NotHonoured(&'static str),
}

/// The parameters of one offer or one answer, as they stand there.
#[derive(Default)]
struct Stated {
    server_no_context_takeover: Option<()>,
    client_no_context_takeover: Option<()>,
    server_max_window_bits: Option<u8>,
    /// An offer may name it without a value.
    client_max_window_bits: Option<Option<u8>>,
}

impl Stated {
    /// RFC 7692 7.1: each parameter is defined, there once, and has a valid value.
    fn read<'a>(parameters: impl Iterator<Item = Parameter<'a>>) -> Result<Self, Invalid> {
        let mut stated = Self::default();
        for (name, value) in parameters {
            let value = value.as_deref();
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => {
                    once(SERVER_NO_CONTEXT_TAKEOVER, &mut stated.server_no_context_takeover, no_value(value))
                }
                CLIENT_NO_CONTEXT_TAKEOVER => {
                    once(CLIENT_NO_CONTEXT_TAKEOVER, &mut stated.client_no_context_takeover, no_value(value))
                }
                SERVER_MAX_WINDOW_BITS => {
                    let bits = value.and_then(window_bits);
                    once(SERVER_MAX_WINDOW_BITS, &mut stated.server_max_window_bits, bits)
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = value.map_or(Some(None), |value| window_bits(value).map(Some));
                    once(CLIENT_MAX_WINDOW_BITS, &mut stated.client_max_window_bits, bits)
                }
                _ => Err(Invalid::Unknown),
            }?;
        }
        Ok(stated)
    }
}

/// Keeps a parameter, whose value is `None` if it is not valid.
fn once<T>(name: &'static str, slot: &mut Option<T>, value: Option<T>) -> Result<(), Invalid> {
    let value = value.ok_or(Invalid::Value(name))?;
    if slot.replace(value).is_some() { Err(Invalid::Repeated(name)) } else { Ok(()) }
}

/// RFC 7692 7.1.1.
fn no_value(value: Option<&str>) -> Option<()> {
    value.is_none().then_some(())
}

/// RFC 7692 7.1.2: a decimal integer without leading zeroes.
fn window_bits(value: &str) -> Option<u8> {
    // Parsing alone would take "+8" and "08".
    let decimal = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|bits| decimal && WINDOW_BITS.contains(bits))
}

/// Judges one offer: what is agreed with it and the text that says so, or `None` to decline it.
pub(crate) fn accept<'a>(
    offer: impl Iterator<Item = Parameter<'a>>,
    ours: &Deflate,
) -> Option<(DeflateParameters, HeaderValue)> {
    let offer = Stated::read(offer).ok()?;
    let agreed = DeflateParameters {
        // RFC 7692 7.1.1.1: what was offered must be answered, and may be answered unasked.
        server_no_context_takeover: offer.server_no_context_takeover.is_some()
            || ours.send_takeover.is_none(),
        // RFC 7692 7.1.1.2: the client that offered it keeps to it anyway.
        client_no_context_takeover: offer.client_no_context_takeover.is_some() || !ours.receive_takeover,
        // RFC 7692 7.1.2.1: the same or less than was offered.
        server_max_window_bits: ours
            .send_window_bits
            .min(offer.server_max_window_bits.unwrap_or(FULL_WINDOW)),
        client_max_window_bits: match offer.client_max_window_bits {
            Some(hint) => ours.receive_window_bits.min(hint.unwrap_or(FULL_WINDOW)),
            // RFC 7692 7.1.2.2: then it must not be answered, so the client may use the full window.
            None if ours.receive_window_bits < FULL_WINDOW => return None,
            None => FULL_WINDOW,
        },
    };

    let mut answer = String::from(NAME);
    if agreed.server_no_context_takeover {
        push(&mut answer, SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if agreed.client_no_context_takeover {
        push(&mut answer, CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    // RFC 7692 7.1.2.1: the answer to an offer that has it has it as well.
    if offer.server_max_window_bits.is_some() || agreed.server_max_window_bits < FULL_WINDOW {
        push(&mut answer, SERVER_MAX_WINDOW_BITS, Some(agreed.server_max_window_bits));
    }
    if agreed.client_max_window_bits < FULL_WINDOW {
        push(&mut answer, CLIENT_MAX_WINDOW_BITS, Some(agreed.client_max_window_bits));
    }
    HeaderValue::try_from(answer).ok().map(|answer| (agreed, answer))
}

/// What a client offers: one offer, in which the server may limit our window as it likes.
pub(crate) fn offer(ours: &Deflate) -> String {
    let limit = |bits: u8| (bits < FULL_WINDOW).then_some(bits);
    let mut offer = String::from(NAME);
    if !ours.receive_takeover {
        push(&mut offer, SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if ours.send_takeover.is_none() {
        push(&mut offer, CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    if let Some(bits) = limit(ours.receive_window_bits) {
        push(&mut offer, SERVER_MAX_WINDOW_BITS, Some(bits));
    }
    push(&mut offer, CLIENT_MAX_WINDOW_BITS, limit(ours.send_window_bits));
    offer
}

/// Judges the answer to [`offer`]: what holds from now on, which may be less than the answer allows us.
pub(crate) fn judge<'a>(
    answer: impl Iterator<Item = Parameter<'a>>,
    ours: &Deflate,
) -> Result<DeflateParameters, Invalid> {
    let answer = Stated::read(answer)?;
    // RFC 7692 7.1.1.1: it was offered.
    if !ours.receive_takeover && answer.server_no_context_takeover.is_none() {
        return Err(Invalid::NotHonoured(SERVER_NO_CONTEXT_TAKEOVER));
    }
    // RFC 7692 7.1.2.1: absent, it leaves the server the full window.
    let server_max_window_bits = answer.server_max_window_bits.unwrap_or(FULL_WINDOW);
    if server_max_window_bits > ours.receive_window_bits {
        return Err(Invalid::NotHonoured(SERVER_MAX_WINDOW_BITS));
    }
    let client_max_window_bits = match answer.client_max_window_bits {
        // RFC 7692 7.1.2.2: only an offer may have it without a value.
        Some(bits) => bits.ok_or(Invalid::Value(CLIENT_MAX_WINDOW_BITS))?,
        None => FULL_WINDOW,
    };
    Ok(DeflateParameters {
        server_no_context_takeover: answer.server_no_context_takeover.is_some(),
        // RFC 7692 7.1.1.2: what we offered we keep, whether the answer has it or not.
        client_no_context_takeover: answer.client_no_context_takeover.is_some()
            || ours.send_takeover.is_none(),
        server_max_window_bits,
        // RFC 7692 7.1.2.2: a server may ignore the value that we offered and name a larger one. We keep to ours.
        client_max_window_bits: client_max_window_bits.min(ours.send_window_bits),
    })
}

/// What an answer says, whatever was offered.
pub(crate) fn stated<'a>(answer: impl Iterator<Item = Parameter<'a>>) -> Result<DeflateParameters, Invalid> {
    let answer = Stated::read(answer)?;
    let client_max_window_bits = match answer.client_max_window_bits {
        Some(bits) => bits.ok_or(Invalid::Value(CLIENT_MAX_WINDOW_BITS))?,
        None => FULL_WINDOW,
    };
    Ok(DeflateParameters {
        server_no_context_takeover: answer.server_no_context_takeover.is_some(),
        client_no_context_takeover: answer.client_no_context_takeover.is_some(),
        server_max_window_bits: answer.server_max_window_bits.unwrap_or(FULL_WINDOW),
        client_max_window_bits,
    })
}

fn push(text: &mut String, name: &str, bits: Option<u8>) {
    text.push_str("; ");
    text.push_str(name);
    if let Some(bits) = bits {
        text.push('=');
        text.push_str(&bits.to_string());
    }
}
