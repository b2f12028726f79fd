//! Negotiates permessage-deflate in the opening handshake: makes the client's offer, answers it as a server, and checks
//! the answer as the client (RFC 7692 sections 5 and 7.1).
//!
//! Parameters arrive as names and values. `handshake` parses their grammar, which all extensions share.

use std::borrow::Cow;

use http::HeaderValue;

use super::{Deflate, DeflateParameters, WINDOW_BITS};

/// The name of the extension (RFC 7692 7).
pub(crate) const NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The window if no parameter limits it (RFC 7692 7.1.2).
const FULL_WINDOW: u8 = *WINDOW_BITS.end();

/// The name of a parameter, and its value if it has one.
type Parameter<'a> = (&'a str, Option<Cow<'a, str>>);

/// Why an offer is declined, or an answer fails the handshake, with the name of the parameter if the RFC defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterError {
    /// The parameter is not one of the four of permessage-deflate.
    Unknown,
    /// The parameter occurs twice.
    Repeated(&'static str),
    /// The value is invalid or missing, or the parameter may not have one.
    InvalidValue(&'static str),
    /// The answer lacks the parameter, which was offered, or names a larger window than was offered.
    NotHonoured(&'static str),
}

/// The parameters of one offer or one answer, each valid by itself.
#[derive(Default)]
struct ParsedParameters {
    server_no_context_takeover: Option<()>,
    client_no_context_takeover: Option<()>,
    server_max_window_bits: Option<u8>,
    /// `Some(None)` without a value, which only an offer may have.
    client_max_window_bits: Option<Option<u8>>,
}

impl ParsedParameters {
    /// Parses the parameters. Each must be defined, occur once, and have a valid value (RFC 7692 7.1).
    fn read<'a>(parameters: impl Iterator<Item = Parameter<'a>>) -> Result<Self, ParameterError> {
        let mut parsed = Self::default();
        for (name, value) in parameters {
            let value = value.as_deref();
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => set_once(
                    SERVER_NO_CONTEXT_TAKEOVER,
                    &mut parsed.server_no_context_takeover,
                    no_value(value),
                ),
                CLIENT_NO_CONTEXT_TAKEOVER => set_once(
                    CLIENT_NO_CONTEXT_TAKEOVER,
                    &mut parsed.client_no_context_takeover,
                    no_value(value),
                ),
                SERVER_MAX_WINDOW_BITS => {
                    let bits = value.and_then(window_bits);
                    set_once(SERVER_MAX_WINDOW_BITS, &mut parsed.server_max_window_bits, bits)
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let bits = value.map_or(Some(None), |value| window_bits(value).map(Some));
                    set_once(CLIENT_MAX_WINDOW_BITS, &mut parsed.client_max_window_bits, bits)
                }
                _ => Err(ParameterError::Unknown),
            }?;
        }
        Ok(parsed)
    }
}

/// Stores the value of a parameter. Fails if `value` is `None`, which means an invalid one, or if the parameter has a
/// value already.
fn set_once<T>(name: &'static str, slot: &mut Option<T>, value: Option<T>) -> Result<(), ParameterError> {
    let value = value.ok_or(ParameterError::InvalidValue(name))?;
    if slot.replace(value).is_some() { Err(ParameterError::Repeated(name)) } else { Ok(()) }
}

/// Checks that a parameter has no value (RFC 7692 7.1.1).
fn no_value(value: Option<&str>) -> Option<()> {
    value.is_none().then_some(())
}

/// Parses a window size: a decimal integer without leading zeros, from 8 to 15 (RFC 7692 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    // `parse` alone would accept "+8" and "08".
    let decimal = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|bits| decimal && WINDOW_BITS.contains(bits))
}

/// Answers one offer. Returns the negotiated parameters and the header value of the answer, or `None` to decline.
pub(crate) fn accept<'a>(
    offer: impl Iterator<Item = Parameter<'a>>,
    ours: &Deflate,
) -> Option<(DeflateParameters, HeaderValue)> {
    let offer = ParsedParameters::read(offer).ok()?;
    let agreed = DeflateParameters {
        // RFC 7692 7.1.1.1: the answer must have it if the offer does, and may have it otherwise.
        server_no_context_takeover: offer.server_no_context_takeover.is_some()
            || ours.send_takeover.is_none(),
        // RFC 7692 7.1.1.2: in an offer it is a promise, which does not depend on the answer.
        client_no_context_takeover: offer.client_no_context_takeover.is_some() || !ours.receive_takeover,
        // RFC 7692 7.1.2.1: at most the size that was offered.
        server_max_window_bits: ours
            .send_window_bits
            .min(offer.server_max_window_bits.unwrap_or(FULL_WINDOW)),
        client_max_window_bits: match offer.client_max_window_bits {
            Some(hint) => ours.receive_window_bits.min(hint.unwrap_or(FULL_WINDOW)),
            // RFC 7692 7.1.2.2: the answer must not have it if the offer does not, so the client may use the full
            // window.
            None if ours.receive_window_bits < FULL_WINDOW => return None,
            None => FULL_WINDOW,
        },
    };

    let mut answer = String::from(NAME);
    if agreed.server_no_context_takeover {
        push_parameter(&mut answer, SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if agreed.client_no_context_takeover {
        push_parameter(&mut answer, CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    // RFC 7692 7.1.2.1: the answer must have it if the offer does, even for the full window.
    if offer.server_max_window_bits.is_some() || agreed.server_max_window_bits < FULL_WINDOW {
        push_parameter(&mut answer, SERVER_MAX_WINDOW_BITS, Some(agreed.server_max_window_bits));
    }
    if agreed.client_max_window_bits < FULL_WINDOW {
        push_parameter(&mut answer, CLIENT_MAX_WINDOW_BITS, Some(agreed.client_max_window_bits));
    }
    HeaderValue::try_from(answer).ok().map(|answer| (agreed, answer))
}

/// Returns the client's offer. The server may limit our window as it likes.
pub(crate) fn offer(ours: &Deflate) -> String {
    let limit = |bits: u8| (bits < FULL_WINDOW).then_some(bits);
    let mut offer = String::from(NAME);
    if !ours.receive_takeover {
        push_parameter(&mut offer, SERVER_NO_CONTEXT_TAKEOVER, None);
    }
    if ours.send_takeover.is_none() {
        push_parameter(&mut offer, CLIENT_NO_CONTEXT_TAKEOVER, None);
    }
    if let Some(bits) = limit(ours.receive_window_bits) {
        push_parameter(&mut offer, SERVER_MAX_WINDOW_BITS, Some(bits));
    }
    push_parameter(&mut offer, CLIENT_MAX_WINDOW_BITS, limit(ours.send_window_bits));
    offer
}

/// Checks the answer to [`offer`]. Returns the negotiated parameters, which may use less than the answer allows us.
pub(crate) fn check_answer<'a>(
    answer: impl Iterator<Item = Parameter<'a>>,
    ours: &Deflate,
) -> Result<DeflateParameters, ParameterError> {
    let answer = ParsedParameters::read(answer)?;
    // RFC 7692 7.1.1.1: an answer that accepts the offer must repeat it.
    if !ours.receive_takeover && answer.server_no_context_takeover.is_none() {
        return Err(ParameterError::NotHonoured(SERVER_NO_CONTEXT_TAKEOVER));
    }
    // RFC 7692 7.1.2.1: without it the server may use the full window.
    let server_max_window_bits = answer.server_max_window_bits.unwrap_or(FULL_WINDOW);
    if server_max_window_bits > ours.receive_window_bits {
        return Err(ParameterError::NotHonoured(SERVER_MAX_WINDOW_BITS));
    }
    let client_max_window_bits = match answer.client_max_window_bits {
        // RFC 7692 7.1.2.2: only an offer may leave the value out.
        Some(bits) => bits.ok_or(ParameterError::InvalidValue(CLIENT_MAX_WINDOW_BITS))?,
        None => FULL_WINDOW,
    };
    Ok(DeflateParameters {
        server_no_context_takeover: answer.server_no_context_takeover.is_some(),
        // RFC 7692 7.1.1.2: our offer was a promise, which does not depend on the answer.
        client_no_context_takeover: answer.client_no_context_takeover.is_some()
            || ours.send_takeover.is_none(),
        server_max_window_bits,
        // RFC 7692 7.1.2.2: the server may ignore the value that we offered and name a larger one. We use ours.
        client_max_window_bits: client_max_window_bits.min(ours.send_window_bits),
    })
}

/// Returns the parameters that an answer names, without an offer to check them against.
pub(crate) fn read_answer<'a>(
    answer: impl Iterator<Item = Parameter<'a>>,
) -> Result<DeflateParameters, ParameterError> {
    let answer = ParsedParameters::read(answer)?;
    let client_max_window_bits = match answer.client_max_window_bits {
        Some(bits) => bits.ok_or(ParameterError::InvalidValue(CLIENT_MAX_WINDOW_BITS))?,
        None => FULL_WINDOW,
    };
    Ok(DeflateParameters {
        server_no_context_takeover: answer.server_no_context_takeover.is_some(),
        client_no_context_takeover: answer.client_no_context_takeover.is_some(),
        server_max_window_bits: answer.server_max_window_bits.unwrap_or(FULL_WINDOW),
        client_max_window_bits,
    })
}

/// Appends a parameter, with a value if there is one.
fn push_parameter(text: &mut String, name: &str, bits: Option<u8>) {
    text.push_str("; ");
    text.push_str(name);
    if let Some(bits) = bits {
        text.push('=');
        text.push_str(&bits.to_string());
    }
}
