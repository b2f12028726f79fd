//! The JSON of the load: a feed of prices, as servers broadcast them.

use super::script::Random;
use std::fmt::Write;

const SYMBOLS: [&str; 12] = [
    "BTC-USD", "ETH-USD", "SOL-EUR", "XRP-USD", "ADA-EUR", "DOGE-USD", "DOT-USD", "LTC-EUR", "LINK-USD",
    "AVAX-USD", "ATOM-EUR", "UNI-USD",
];
/// Milliseconds of the first tick.
const START: u64 = 1_760_000_000_000;

/// The message of this number, of exactly `size` bytes: as many ticks as fit, then blanks.
pub(super) fn message(size: usize, number: u64, random: &mut Random) -> Vec<u8> {
    const END: &str = "]}";
    let mut time = number.wrapping_mul(250).wrapping_add(START);
    let mut json = format!(r#"{{"type":"ticks","seq":{number},"ticks":["#);
    loop {
        let mut tick = String::new();
        if !json.ends_with('[') {
            tick.push(',');
        }
        let which = random.below(SYMBOLS.len() as u64);
        let symbol = SYMBOLS[which as usize];
        // In cents: each symbol has a price of its own, around which it moves by 1 %.
        let price = 1_000 * (which + 1).pow(3);
        let bid = price + random.below(price / 100 + 1);
        let ask = bid + 1 + random.below(20);
        let volume = random.below(5_000_000);
        time = time.wrapping_add(random.below(40));
        // Writing to a String cannot fail.
        let _ = write!(
            tick,
            r#"{{"symbol":"{symbol}","bid":{}.{:02},"ask":{}.{:02},"volume":{}.{:04},"ts":{time}}}"#,
            bid / 100,
            bid % 100,
            ask / 100,
            ask % 100,
            volume / 10_000,
            volume % 10_000,
        );
        if json.len() + tick.len() + END.len() > size {
            break;
        }
        json.push_str(&tick);
    }
    json.push_str(END);
    let mut message = json.into_bytes();
    message.resize(message.len().max(size), b' ');
    message
}

/// So many messages of this size.
pub(crate) fn messages(size: usize, count: u64) -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    (0..count).map(|number| message(size, number, &mut random)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_message_is_json_with_prices() {
        let message = message(1024, 7, &mut Random::new(7));
        let json: Value = serde_json::from_slice(&message).expect("JSON");
        let ticks = json["ticks"].as_array().expect("ticks");
        assert!(ticks.len() > 8, "{json}");
        assert!(ticks.iter().all(|tick| tick["bid"].as_f64() < tick["ask"].as_f64()), "{json}");
    }
}
