//! Channel names, and patterns that match them.
//!
//! A name consists of segments separated by `.` or `/`: `quotes.eur`, `rooms/7/chat`. In a pattern, `*`
//! matches one segment, and `>` at the end matches one or more segments. Everything else is literal and
//! case-sensitive, and `.` differs from `/`. Matching takes a single pass over the name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Maximum length of a name or pattern, in bytes.
pub const NAME_MAX: usize = 255;

/// Maximum number of patterns in a list, such as that of a token.
pub const PATTERNS_MAX: usize = 256;

fn is_separator(c: char) -> bool {
    c == '.' || c == '/'
}

/// Returns the name of the channel at a request path. The path is percent-decoded once and loses its first
/// slash: `/quotes/%E6%AC%A7%E5%85%83` is `quotes/欧元`. `%2F` is a slash like any other.
///
/// # Errors
///
/// Fails if the path is malformed or the name is invalid ([`check_name`]).
pub fn name_of_path(path: &str) -> Result<String, InvalidName> {
    let rest = path.strip_prefix('/').ok_or(InvalidName::Path)?.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len().min(NAME_MAX + 1));
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        if decoded.len() > NAME_MAX {
            return Err(InvalidName::TooLong);
        }
        if byte != b'%' {
            decoded.push(byte);
            at += 1;
            continue;
        }
        // RFC 3986 2.1: exactly two hexadecimal digits.
        let digit = |at: usize| rest.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return Err(InvalidName::Escape);
        };
        // Two digits of four bits fit into a byte.
        decoded.push((high << 4 | low) as u8);
        at += 3;
    }
    let name = String::from_utf8(decoded).map_err(|_| InvalidName::Utf8)?;
    check_name(&name)?;
    Ok(name)
}

/// Checks a decoded channel name. It has 1 to [`NAME_MAX`] bytes, no empty segment (and therefore no `..`),
/// no control characters, and no `*` or `>`. Its first segment is not `-`, because paths under `/-/` are
/// reserved.
///
/// # Errors
///
/// Returns the violated rule.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    if name.len() > NAME_MAX {
        return Err(InvalidName::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidName::Control);
    }
    if name.contains(['*', '>']) {
        return Err(InvalidName::Wildcard);
    }
    if name.split(is_separator).any(str::is_empty) {
        return Err(InvalidName::EmptySegment);
    }
    if name.split(is_separator).next() == Some("-") {
        return Err(InvalidName::Reserved);
    }
    Ok(())
}

/// Why a channel name is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidName {
    /// The path does not begin with a slash.
    Path,
    /// A percent sign is not followed by two hexadecimal digits (RFC 3986 2.1).
    Escape,
    /// The bytes are not UTF-8.
    Utf8,
    /// It has more than [`NAME_MAX`] bytes.
    TooLong,
    /// It has a control character, such as NUL or a line break.
    Control,
    /// It has a `*` or `>`, which are reserved for patterns.
    Wildcard,
    /// It is empty, has two separators in a row, or begins or ends with a separator.
    EmptySegment,
    /// Its first segment is `-`, which is reserved.
    Reserved,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path of a channel must begin with a slash"),
            Self::Escape => f.write_str(
                "% in the path must be followed by two hexadecimal digits (RFC 3986 2.1); write %25 for a percent sign",
            ),
            Self::Utf8 => f.write_str("a channel name must be UTF-8"),
            Self::TooLong => write!(f, "a channel name must have at most {NAME_MAX} bytes"),
            Self::Control => f.write_str("a channel name must not contain control characters"),
            Self::Wildcard => f.write_str("a channel name must not contain * or >, which are reserved for patterns"),
            Self::EmptySegment => f.write_str(
                "a channel name must not be empty or have empty segments (a dot or slash at the start, at the end, or two in a row)",
            ),
            Self::Reserved => f.write_str("channel names whose first segment is - are reserved"),
        }
    }
}

impl std::error::Error for InvalidName {}

/// A pattern for channel names.
///
/// ```
/// use longwire_server::pattern::Pattern;
///
/// let quotes: Pattern = "quotes.*".parse()?;
/// assert!(quotes.matches("quotes.eur"));
/// assert!(!quotes.matches("quotes.eur.usd"));
/// assert!("quotes.>".parse::<Pattern>()?.matches("quotes.eur.usd"));
/// # Ok::<_, longwire_server::pattern::InvalidPattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Returns whether the pattern matches a name. Invalid names ([`check_name`]) never match, so a caller
    /// that forgot the check grants nothing.
    pub fn matches(&self, name: &str) -> bool {
        check_name(name).is_ok() && self.matches_valid_name(name)
    }

    /// Like [`matches`](Self::matches), for a name known to be valid.
    fn matches_valid_name(&self, name: &str) -> bool {
        let (mut pattern, mut name) = (&*self.0, name);
        loop {
            if pattern == ">" {
                return true;
            }
            let (wanted, wanted_rest) = segment(pattern);
            let (given, given_rest) = segment(name);
            if wanted != "*" && wanted != given {
                return false;
            }
            match (wanted_rest, given_rest) {
                (None, None) => return true,
                (Some((wanted, next)), Some((given, rest))) if wanted == given => {
                    (pattern, name) = (next, rest);
                }
                _ => return false,
            }
        }
    }

    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Splits off the first segment, and returns the separator and the rest, if any.
fn segment(text: &str) -> (&str, Option<(u8, &str)>) {
    match text.find(is_separator) {
        Some(at) => (&text[..at], Some((text.as_bytes()[at], &text[at + 1..]))),
        None => (text, None),
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > NAME_MAX {
            return Err(InvalidPattern::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPattern::Control);
        }
        let mut rest = Some(text);
        while let Some(pattern) = rest {
            let (first, more) = segment(pattern);
            match first {
                "" => return Err(InvalidPattern::EmptySegment),
                "*" => {}
                ">" if more.is_none() => {}
                ">" => return Err(InvalidPattern::Rest),
                _ if first.contains(['*', '>']) => return Err(InvalidPattern::Part),
                _ => {}
            }
            rest = more.map(|(_, rest)| rest);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| de::Error::custom(format_args!("`{}`: {error}", text.escape_debug())))
    }
}

/// Why a pattern is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// It has more than [`NAME_MAX`] bytes.
    TooLong,
    /// It has a control character.
    Control,
    /// It is empty, has two separators in a row, or begins or ends with a separator.
    EmptySegment,
    /// It has a `>` that is not the last segment.
    Rest,
    /// It has a `*` or `>` that is only part of a segment.
    Part,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a pattern must have at most {NAME_MAX} bytes"),
            Self::Control => f.write_str("a pattern must not contain control characters"),
            Self::EmptySegment => {
                f.write_str("a pattern must not be empty or have empty segments (a dot or slash at the start, at the end, or two in a row)")
            }
            Self::Rest => f.write_str(
                "> must be the last segment, such as in quotes.>",
            ),
            Self::Part => {
                f.write_str("* and > must be whole segments, such as in quotes.* and quotes.>; a* is not supported")
            }
        }
    }
}

impl std::error::Error for InvalidPattern {}

/// A list of at most [`PATTERNS_MAX`] patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Arc<[Pattern]>);

impl Patterns {
    /// Returns the pattern `>`, which matches every channel.
    pub fn all() -> Self {
        Self([Pattern(">".into())].into())
    }

    /// Returns whether one of the patterns matches a name, as in [`Pattern::matches`].
    pub fn matches(&self, name: &str) -> bool {
        !self.is_empty()
            && check_name(name).is_ok()
            && self.0.iter().any(|pattern| pattern.matches_valid_name(name))
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of patterns.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Pattern> for Patterns {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().take(PATTERNS_MAX).collect())
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&*self.0)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> de::Visitor<'de> for List {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {PATTERNS_MAX} patterns, such as [\"quotes.*\"]")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(pattern) = list.next_element()? {
                    if patterns.len() == PATTERNS_MAX {
                        return Err(de::Error::custom(format_args!(
                            "too many patterns; the maximum is {PATTERNS_MAX}"
                        )));
                    }
                    patterns.push(pattern);
                }
                Ok(Patterns(patterns.into()))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pattern_matching() {
        for (pattern, names, others) in [
            ("a", &["a"][..], &["A", "b", "a.b", "a/b", "aa", ""][..]),
            ("a.b", &["a.b"], &["a/b", "a", "a.b.c", "a.c", "A.b"]),
            ("*", &["a", "海", "🌊"], &["a.b", "a/b", ""]),
            ("a.*", &["a.b", "a.海"], &["a", "a/b", "a.b.c", "a.", "b.a"]),
            ("*.b", &["a.b", "b.b"], &["b", "a.a", "a.b.b", "a/b"]),
            ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c", "a.b/c", "a/b.c"]),
            (">", &["a", "a.b", "a/b.c"], &["", ".", "a..b"]),
            ("a.>", &["a.b", "a.b.c", "a.b/c"], &["a", "a.", "a/b", "b.a"]),
            ("*.>", &["a.b", "a.b.c"], &["a", "a/b"]),
            // Different names that look alike: full width, Cyrillic, another normal form.
            (
                "quotes.a",
                &["quotes.a"],
                &["quotes.а", "ｑuotes.a", "quotes．a", "quotes.a\u{301}", "quotes.á"],
            ),
            // A pattern is not a valid name, and neither are names with invalid characters.
            ("a.b", &[], &["a.*", "*", ">", "a.>", "a.b\0", "a.b\n", "../a.b", "a.b.", ".a.b"]),
            ("*.*", &["%2e.%2e"], &["..", "*.*", ">.>", "a.\u{85}"]),
            // No pattern matches a reserved name.
            (">", &["a.-"], &["-", "-.metrics", "-/metrics"]),
        ] {
            let parsed: Pattern = pattern.parse().expect(pattern);
            for name in names {
                assert!(parsed.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!parsed.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn invalid_patterns() {
        for (text, error) in [
            ("", InvalidPattern::EmptySegment),
            (".", InvalidPattern::EmptySegment),
            ("a..b", InvalidPattern::EmptySegment),
            ("a./b", InvalidPattern::EmptySegment),
            ("/a", InvalidPattern::EmptySegment),
            ("a.", InvalidPattern::EmptySegment),
            ("a*", InvalidPattern::Part),
            ("a.**", InvalidPattern::Part),
            ("a.>b", InvalidPattern::Part),
            (">.a", InvalidPattern::Rest),
            ("a.>.>", InvalidPattern::Rest),
            ("a\0", InvalidPattern::Control),
            ("a\r\nb", InvalidPattern::Control),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(error), "{text:?}");
        }
        assert!("a".repeat(NAME_MAX).parse::<Pattern>().is_ok());
        assert_eq!("a".repeat(NAME_MAX + 1).parse::<Pattern>(), Err(InvalidPattern::TooLong));
    }

    #[test]
    fn channel_names_of_paths() {
        for (path, name) in [
            ("/a", "a"),
            ("/quotes.eur", "quotes.eur"),
            ("/a/b", "a/b"),
            ("/a%2Fb", "a/b"),
            ("/a%2eb", "a.b"),
            ("/%E6%B5%B7", "海"),
            ("/海🌊", "海🌊"),
            // Decoded once, and a plus sign is literal.
            ("/a%252e%252e", "a%2e%2e"),
            ("/a+b", "a+b"),
            ("/a%20b", "a b"),
            ("/a-/-", "a-/-"),
        ] {
            assert_eq!(name_of_path(path).as_deref(), Ok(name), "{path}");
        }
        for (path, error) in [
            ("", InvalidName::Path),
            ("a", InvalidName::Path),
            ("/", InvalidName::EmptySegment),
            ("//a", InvalidName::EmptySegment),
            ("/a/", InvalidName::EmptySegment),
            ("/..", InvalidName::EmptySegment),
            ("/../a", InvalidName::EmptySegment),
            ("/%2e%2e/a", InvalidName::EmptySegment),
            ("/a/%2E%2e", InvalidName::EmptySegment),
            ("/a%2F%2fb", InvalidName::EmptySegment),
            ("/.a", InvalidName::EmptySegment),
            ("/a.%2Fb", InvalidName::EmptySegment),
            ("/*", InvalidName::Wildcard),
            ("/a.%2a", InvalidName::Wildcard),
            ("/a.%3E", InvalidName::Wildcard),
            ("/a*b", InvalidName::Wildcard),
            ("/a%00", InvalidName::Control),
            ("/a%0d%0ab", InvalidName::Control),
            ("/a%7f", InvalidName::Control),
            ("/a%C2%85", InvalidName::Control),
            ("/%", InvalidName::Escape),
            ("/%2", InvalidName::Escape),
            ("/%zz", InvalidName::Escape),
            ("/%+1", InvalidName::Escape),
            ("/%u0041", InvalidName::Escape),
            ("/%ff", InvalidName::Utf8),
            ("/%c0%ae%c0%ae", InvalidName::Utf8),
            ("/%ed%a0%80", InvalidName::Utf8),
            ("/-", InvalidName::Reserved),
            ("/-/healthy", InvalidName::Reserved),
            ("/%2d/healthy", InvalidName::Reserved),
            ("/-.x", InvalidName::Reserved),
        ] {
            assert_eq!(name_of_path(path), Err(error), "{path}");
        }
        assert!(name_of_path(&format!("/{}", "a".repeat(NAME_MAX))).is_ok());
        assert!(name_of_path(&format!("/{}", "%61".repeat(NAME_MAX))).is_ok());
        for more in ["a".repeat(NAME_MAX + 1), "%61".repeat(NAME_MAX + 1), "a".repeat(1 << 20)] {
            assert_eq!(name_of_path(&format!("/{more}")), Err(InvalidName::TooLong));
        }
    }

    #[test]
    fn lists_are_bounded() {
        let list = |count: usize| serde_json::from_value::<Patterns>(vec!["a"; count].into());
        assert_eq!(list(PATTERNS_MAX).expect("as many as may be").len(), PATTERNS_MAX);
        assert!(list(PATTERNS_MAX + 1).is_err());
    }

    /// The documented rules, without regard to speed.
    fn model(pattern: &[(char, String)], name: &[(char, String)]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (Some(((p, segment), more)), Some(((n, given), rest))) if p == n => match segment.as_str() {
                ">" => true,
                "*" => model(more, rest),
                literal => literal == given && model(more, rest),
            },
            (None, None) => true,
            _ => false,
        }
    }

    fn joined(segments: &[(char, String)]) -> String {
        let mut text = String::new();
        for (index, (separator, segment)) in segments.iter().enumerate() {
            if index > 0 {
                text.push(*separator);
            }
            text += segment;
        }
        text
    }

    /// The separator of the first segment is irrelevant.
    fn first_is_neutral(mut segments: Vec<(char, String)>) -> Vec<(char, String)> {
        segments[0].0 = '.';
        segments
    }

    proptest! {
        #[test]
        fn patterns_match_as_the_model_does(
            pattern in prop::collection::vec((prop::char::range('.', '/'), "[ab*]|a海"), 1..5),
            rest in any::<bool>(),
            name in prop::collection::vec((prop::char::range('.', '/'), "[ab]|a海"), 1..6),
        ) {
            let mut pattern = first_is_neutral(pattern);
            let name = first_is_neutral(name);
            if rest {
                pattern.push(('.', ">".into()));
            }
            let parsed: Pattern = joined(&pattern).parse().expect("a pattern");
            prop_assert_eq!(parsed.matches(&joined(&name)), model(&pattern, &name));
        }

        #[test]
        fn no_text_causes_a_panic(text in any::<String>(), path in "/([a-z./*>%0-9-]|%[0-9a-f]{2}|\\PC){0,300}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                pattern.matches(&path);
                prop_assert_eq!(pattern.as_str(), &text);
            }
            if let Ok(name) = name_of_path(&path) {
                prop_assert!(check_name(&name).is_ok() && Patterns::all().matches(&name));
            }
        }
    }
}
