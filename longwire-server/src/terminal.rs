//! Output for people on standard error: events and errors, in colour on a terminal.
//!
//! Control characters in data from the network are escaped, so that no peer can control the terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// Maximum length of foreign text in a line, in characters.
const EXCERPT: usize = 300;

/// The colours, as SGR parameters.
#[derive(Clone, Copy)]
enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
}

/// Prints why a command failed, in one line.
pub(crate) fn failure(text: &str) {
    line(Colour::Red, "longwire", &format!(": {text}"));
}

/// Prints a notice, on a terminal or not.
#[cfg(unix)]
pub(crate) fn notice(text: &str) {
    line(Colour::Green, "longwire", &format!(": {text}"));
}

/// Prints a warning about a problem that the program survives.
pub(crate) fn warn(text: &str) {
    line(Colour::Yellow, "longwire", &format!(": {text}"));
}

/// Prints an event, on a terminal only.
pub(crate) fn event(what: &str, more: &str) {
    if std::io::stderr().is_terminal() {
        line(Colour::Green, what, more);
    }
}

/// Prints a detail of `--verbose` after a mark.
pub(crate) fn detail(mark: char, text: &str) {
    line(Colour::Green, mark.encode_utf8(&mut [0; 4]), &format!(" {text}"));
}

fn line(colour: Colour, what: &str, more: &str) {
    let text = if is_coloured() {
        format!("\x1b[{}m{what}\x1b[0m{more}\n", colour as u8)
    } else {
        format!("{what}{more}\n")
    };
    // If standard error is closed, there is nowhere to report it.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Returns whether to use colours: on a terminal, unless <https://no-color.org> or TERM=dumb disables them.
fn is_coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Returns foreign text for one line: control characters escaped, and shortened.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        shown.push('…');
    }
    escaped(&shown).into_owned()
}

/// Escapes control characters, except for line breaks and tabs.
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
    fn only_control_characters_are_escaped() {
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
