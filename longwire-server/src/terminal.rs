//! What a person reads on standard error: events and failures, coloured on a terminal only.
//!
//! Whatever came from the network is shown with its control characters escaped, so that no peer can
//! steer the terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// The longest piece of foreign text in one line, in characters.
const EXCERPT: usize = 300;

/// The colours that are used, as SGR parameters.
#[derive(Clone, Copy)]
enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
}

/// The reason why a command ended with a failure: its one line on standard error.
pub(crate) fn failure(text: &str) {
    line(Colour::Red, "longwire", &format!(": {text}"));
}

/// What whoever runs the program has to know, at a terminal or not.
pub(crate) fn notice(text: &str) {
    line(Colour::Green, "longwire", &format!(": {text}"));
}

/// A trouble that the program survives.
pub(crate) fn warn(text: &str) {
    line(Colour::Yellow, "longwire", &format!(": {text}"));
}

/// Something that a person at a terminal wants to know; a pipe does not hear of it.
pub(crate) fn event(what: &str, more: &str) {
    if std::io::stderr().is_terminal() {
        line(Colour::Green, what, more);
    }
}

/// Something that was asked for with `--verbose`, behind a mark.
pub(crate) fn detail(mark: char, text: &str) {
    line(Colour::Green, mark.encode_utf8(&mut [0; 4]), &format!(" {text}"));
}

fn line(colour: Colour, what: &str, more: &str) {
    let text = if is_coloured() {
        format!("\x1b[{}m{what}\x1b[0m{more}\n", colour as u8)
    } else {
        format!("{what}{more}\n")
    };
    // Where standard error is closed there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// On a terminal, unless <https://no-color.org> or a terminal that knows no colour forbids it.
fn is_coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Foreign text as part of one line: control characters escaped, cut where it is long.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    escaped(&shown).into_owned()
}

/// Text with its control characters escaped, but for line breaks and tabs.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_else_stays() {
        assert_eq!(escaped("你好\t🌊\nnext"), "你好\t🌊\nnext");
        assert_eq!(escaped("\x1b[2Jgone\u{9b}31m\r"), "\\u{1b}[2Jgone\\u{9b}31m\\r");
    }

    #[test]
    fn an_excerpt_is_one_bounded_line() {
        assert_eq!(excerpt("two\nlines"), "two lines");
        let cut = excerpt(&"海".repeat(1000));
        assert_eq!(cut.chars().count(), EXCERPT + 1);
        assert!(cut.ends_with('…'));
    }
}
