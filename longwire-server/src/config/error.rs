//! Configuration errors: where they are, and how to fix them.

use std::fmt;
use std::ops::Range;

/// All errors of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub location: Location,
    /// What is wrong, and how to fix it.
    pub text: String,
}

/// The location of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file.
    File {
        /// The file name.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// The line without secrets.
        text: String,
        /// The number of characters to mark.
        width: usize,
    },
    /// The file as a whole.
    Name(String),
    /// An environment variable or an option.
    Given(String),
}

impl Location {
    /// Returns the location of a byte range in the text of a file.
    pub(super) fn in_file(name: &str, text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start.min(text.len()));
        let end = floor(text, span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let width = text[start..end.min(line_end)].chars().count();
        Self::File {
            name: name.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: width.max(1),
            text: without_secrets(line),
        }
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Masks everything after a key that contains a secret, because errors end up in logs.
fn without_secrets(line: &str) -> String {
    let ends = line.match_indices("secret").map(|(at, word)| at + word.len());
    let visible = match ends.into_iter().find(|&end| !line[end..].starts_with("_file")) {
        Some(end) if line[end..].contains('=') => format!("{} = …", &line[..end]),
        _ => line.to_owned(),
    };
    // Each control character becomes one space, which keeps the caret aligned and escape sequences out of the
    // terminal.
    visible.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Name(name) | Location::Given(name) => write!(f, "{name}: {}", self.text),
            Location::File { name, line, column, text, width } => {
                let gutter = " ".repeat(line.to_string().len());
                let shown = text.chars().count();
                let (indent, width) =
                    ((column - 1).min(shown), (*width).min((shown + 1).saturating_sub(*column)).max(1));
                write!(
                    f,
                    "{name}:{line}:{column}: {}\n{gutter} |\n{line} | {text}\n{gutter} | {}{}",
                    self.text,
                    " ".repeat(indent),
                    "^".repeat(width)
                )
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Rewords an error of serde, and suggests the nearest name. Errors of serde begin with ``unknown field `x`,
/// expected``, followed by the valid names between backticks.
pub(super) fn reword(message: &str) -> String {
    let message = message.trim();
    for (begin, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some((given, rest)) = message.strip_prefix(begin).and_then(|rest| rest.split_once('`')) else {
            continue;
        };
        let allowed: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let hint = match nearest(given, allowed.iter().copied()) {
            Some(name) => format!("did you mean `{name}`? Valid {what}s"),
            None => format!("valid {what}s"),
        };
        return format!("unknown {what} `{given}`; {hint}: {}", allowed.join(", "));
    }
    message.replace('\n', " ")
}

/// Returns the most similar name if it differs in at most a third of its letters.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (distance(given, name), name)).min()?;
    (near.0 <= near.1.chars().count().div_ceil(3)).then_some(near.1)
}

/// Returns the Levenshtein distance of two short texts.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, c) in one.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, &d) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(c != d);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_get_suggestions() {
        let names = ["listen", "threads", "max_message", "log"];
        for (given, meant) in [
            ("lisen", Some("listen")),
            ("max-message", Some("max_message")),
            ("lgo", None),
            ("", None),
            ("海", None),
        ] {
            assert_eq!(nearest(given, names.into_iter()), meant, "{given}");
        }
        assert_eq!(
            reword("unknown field `lisen`, expected one of `listen`, `log`\n"),
            "unknown key `lisen`; did you mean `listen`? Valid keys: listen, log"
        );
        assert_eq!(
            reword("unknown variant `x`, expected `text` or `json`"),
            "unknown value `x`; valid values: text, json"
        );
    }

    #[test]
    fn the_caret_marks_the_value() {
        let text = "a = 1\n海 = \"x\" # 🌊\r\nsecret = \"hunter2\"\n";
        let problem = |span| {
            Problem { location: Location::in_file("f.toml", text, span), text: "wrong".into() }.to_string()
        };
        let at = text.find("\"x\"").expect("there");
        assert_eq!(problem(at..at + 3), "f.toml:2:5: wrong\n  |\n2 | 海 = \"x\" # 🌊\n  |     ^^^");
        let at = text.find("\"hunter2\"").expect("there");
        assert_eq!(problem(at..at + 9), "f.toml:3:10: wrong\n  |\n3 | secret = …\n  |          ^");
        for (line, shown) in [
            ("token = { query = true, secret = \"hunter2\" }", "token = { query = true, secret = …"),
            ("\"secret\"=\"hunter2\"", "\"secret = …"),
            ("secret_file = \"a\"", "secret_file = \"a\""),
            ("secret_file = \"a\", secret = \"hunter2\"", "secret_file = \"a\", secret = …"),
            ("[secret]", "[secret]"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
        // Beyond the end of the text, and within a character.
        assert!(problem(1000..2000).starts_with("f.toml:4:1: wrong"));
        assert!(problem(7..9).starts_with("f.toml:2:1: wrong"));
    }
}
