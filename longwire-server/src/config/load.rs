//! Loads the settings from a file, the environment and options. Later sources override earlier ones.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::error::{nearest, reword};
use super::keys::{KEYS, PREFIX, ValueKind, variable};
use super::{Config, ConfigError, Location, Problem, check};

/// Maximum size of a settings file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// A line of a file.
    File {
        /// The file name.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The command-line option of this name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The effective settings and their sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective settings.
    pub config: Config,
    /// Settings that are valid but probably not intended.
    pub warnings: Vec<String>,
    pub(super) sources: BTreeMap<String, Source>,
}

impl Loaded {
    /// Returns the source of a setting, such as `tls.cert` or `channel.0.pattern`.
    pub fn source(&self, key: &str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }
}

/// Collects settings from several sources.
///
/// ```
/// use longwire_server::config::Sources;
///
/// let mut sources = Sources::new();
/// sources.text("longwire.toml", "max_message = \"16M\"")?;
/// sources.flag("max_message", "--max-message", "4M")?;
/// let loaded = sources.load()?;
/// assert_eq!(loaded.config.max_message.bytes(), 4 << 20);
/// assert_eq!(loaded.source("max_message").to_string(), "--max-message");
/// # Ok::<_, longwire_server::config::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Sources {
    /// The merged settings.
    table: Table,
    sources: BTreeMap<String, Source>,
    /// The text of the file and the byte ranges of its values, for error messages.
    file: Option<(String, String)>,
    spans: BTreeMap<String, std::ops::Range<usize>>,
    warnings: Vec<String>,
}

impl Sources {
    /// Creates an empty collection, which yields the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file. Call this first.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, is larger than 1 MiB, or contains invalid settings.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let failed =
            |text: String| ConfigError(vec![Problem { location: Location::Name(name.clone()), text }]);
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
            .map_err(|error| failed(format!("cannot read the file: {error}")))?;
        if text.len() as u64 > FILE_MAX {
            return Err(failed("the file is larger than 1 MiB".into()));
        }
        self.text(&name, &text)
    }

    /// Like [`file`](Self::file), but takes the text of the file. The name is used in error messages.
    ///
    /// # Errors
    ///
    /// Fails if the text contains invalid settings.
    pub fn text(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let failed = |error: toml::de::Error| {
            let location = Location::in_file(name, text, error.span().unwrap_or_default());
            ConfigError(vec![Problem { location, text: reword(error.message()) }])
        };
        // Deserialise first, because these errors are the most precise.
        toml::from_str::<Config>(text).map_err(failed)?;
        self.table = toml::from_str(text).map_err(failed)?;
        let parsed = DeTable::parse(text).map_err(failed)?;
        for (key, value) in parsed.get_ref() {
            locate(key.get_ref(), value.get_ref(), value.span(), &mut self.spans);
        }
        for (key, span) in &self.spans {
            let line = text[..span.start].matches('\n').count() + 1;
            self.sources.insert(key.clone(), Source::File { name: name.to_owned(), line });
        }
        self.file = Some((name.to_owned(), text.to_owned()));
        Ok(())
    }

    /// Reads the variables that begin with `LONGWIRE_`; `LONGWIRE_TLS_CERT` sets `tls.cert`. Empty variables
    /// are ignored. Lists are separated by commas.
    ///
    /// Unknown variables are not errors: Kubernetes, for example, sets some for a service named longwire. A
    /// probable typing error yields a warning.
    ///
    /// # Errors
    ///
    /// Fails if a variable has an invalid value.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let Some(&(key, kind)) = KEYS.iter().find(|(key, _)| variable(key) == name) else {
                let known: Vec<String> = KEYS.iter().map(|(key, _)| variable(key)).collect();
                if let Some(meant) =
                    nearest(&name[PREFIX.len()..], known.iter().map(|known| &known[PREFIX.len()..]))
                {
                    self.warnings.push(format!("unknown variable {name}; did you mean {PREFIX}{meant}?"));
                }
                continue;
            };
            let Some(value) = value.to_str() else {
                return Err(error_at(name, "the value is not UTF-8".into()));
            };
            if !value.is_empty() {
                self.set(key, kind, name, value, Source::Environment(name.to_owned()))?;
            }
        }
        Ok(())
    }

    /// Sets the value of an option, such as `--max-message` for `max_message`. Lists are separated by commas;
    /// a switch is `true` or `false`.
    ///
    /// # Errors
    ///
    /// Fails if the value is invalid or there is no such setting.
    pub fn flag(&mut self, key: &str, flag: &str, value: &str) -> Result<(), ConfigError> {
        match KEYS.iter().find(|(known, _)| *known == key) {
            Some(&(key, kind)) => self.set(key, kind, flag, value, Source::Flag(flag.to_owned())),
            None => Err(error_at(flag, format!("unknown setting `{key}`"))),
        }
    }

    fn set(
        &mut self,
        key: &'static str,
        kind: ValueKind,
        name: &str,
        text: &str,
        source: Source,
    ) -> Result<(), ConfigError> {
        let value = match kind {
            ValueKind::Text => Value::String(text.to_owned()),
            ValueKind::Number => match text.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => return Err(error_at(name, format!("`{}` is not a number", text.escape_debug()))),
            },
            ValueKind::Switch => match text {
                "true" | "1" | "yes" | "on" => Value::Boolean(true),
                "false" | "0" | "no" | "off" => Value::Boolean(false),
                other => {
                    return Err(error_at(
                        name,
                        format!("`{}` is neither true nor false", other.escape_debug()),
                    ));
                }
            },
            ValueKind::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
        };
        let mut single = Table::new();
        insert(&mut single, key, value.clone());
        if let Err(error) = Config::deserialize(single) {
            return Err(error_at(name, reword(error.message())));
        }
        insert(&mut self.table, key, value);
        // The elements of the replaced list no longer have a location.
        let within = format!("{key}.");
        self.sources.retain(|other, _| !other.starts_with(&within));
        self.spans.retain(|other, _| !other.starts_with(&within));
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    /// Merges the settings and checks them as a whole.
    ///
    /// # Errors
    ///
    /// Returns all problems.
    pub fn load(mut self) -> Result<Loaded, ConfigError> {
        let config = Config::deserialize(std::mem::take(&mut self.table))
            .map_err(|error| error_at("configuration", reword(error.message())))?;
        let mut problems = check::Problems::default();
        check::check(&config, &mut problems);
        if !problems.errors.is_empty() {
            let location = |(key, text): (String, String)| Problem { location: self.location(&key), text };
            return Err(ConfigError(problems.errors.into_iter().map(location).collect()));
        }
        self.warnings.extend(problems.warnings);
        Ok(Loaded { config, warnings: self.warnings, sources: self.sources })
    }

    /// Returns the location of a setting, or of the nearest enclosing one that has a location.
    fn location(&self, key: &str) -> Location {
        let mut parent = key;
        loop {
            match (self.sources.get(parent), self.spans.get(parent), &self.file) {
                (Some(Source::Environment(name) | Source::Flag(name)), ..) => {
                    return Location::Given(name.clone());
                }
                (_, Some(span), Some((name, text))) => return Location::in_file(name, text, span.clone()),
                _ => {}
            }
            match parent.rsplit_once('.') {
                Some((outer, _)) => parent = outer,
                None => return Location::Given(key.to_owned()),
            }
        }
    }
}

fn error_at(name: &str, text: String) -> ConfigError {
    ConfigError(vec![Problem { location: Location::Given(name.to_owned()), text }])
}

/// Inserts a value at a dotted path.
fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((outer, inner)) => {
            let entry = table.entry(outer).or_insert_with(|| Table::new().into());
            if let Value::Table(table) = entry {
                insert(table, inner, value);
            }
        }
    }
}

/// Records the byte range of each value by its dotted path, such as `channel.0.pattern`.
fn locate(
    key: &str,
    value: &DeValue<'_>,
    span: std::ops::Range<usize>,
    spans: &mut BTreeMap<String, std::ops::Range<usize>>,
) {
    if let Some(table) = value.as_table() {
        for (inner, value) in table {
            locate(&format!("{key}.{}", inner.get_ref()), value.get_ref(), value.span(), spans);
        }
    }
    if let Some(array) = value.as_array() {
        for (index, value) in array.iter().enumerate() {
            locate(&format!("{key}.{index}"), value.get_ref(), value.span(), spans);
        }
    }
    spans.insert(key.to_owned(), span);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Publishers, Size, SlowPolicy, TimeSpan};
    use super::*;

    fn from_text(text: &str) -> Result<Loaded, ConfigError> {
        let mut sources = Sources::new();
        sources.text("f.toml", text)?;
        sources.load()
    }

    fn set(sources: &mut Sources, variables: &[(&str, &str)]) -> Result<(), ConfigError> {
        sources.environment(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    /// Returns `docs/longwire.toml` unchanged, and with its commented settings enabled.
    fn example() -> (String, String) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/longwire.toml");
        let text = std::fs::read_to_string(path).expect("the example");
        let full = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => rest,
            _ => line,
        });
        let full = full.collect::<Vec<_>>().join("\n");
        (text, full)
    }

    #[test]
    fn the_example_equals_the_defaults() {
        let (text, full) = example();
        assert_eq!(from_text(&text).expect("valid").config, Config::default());
        // With all settings enabled, some contradict each other, but each key is valid.
        let config: Config = toml::from_str(&full).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.channel.len(), 1);
        let channel =
            super::super::Channel { pattern: config.channel[0].pattern.clone(), ..Default::default() };
        assert_eq!(
            config.channel[0],
            super::super::Channel { max_message: config.channel[0].max_message, ..channel }
        );
    }

    #[test]
    fn the_example_has_every_key() {
        let mut sources = Sources::new();
        sources.text("f.toml", &example().1).expect("valid");
        let is_section = |key: &str| sources.spans.keys().any(|other| other.starts_with(&format!("{key}.")));
        let documented: Vec<&String> = sources.spans.keys().filter(|key| !is_section(key)).collect();
        for (key, _) in KEYS {
            let list = format!("{key}.0");
            assert!(
                documented.iter().any(|known| *known == key || **known == list),
                "{key} is not documented"
            );
        }
        for key in documented {
            let of_list = key.starts_with("channel.") || key.starts_with("access.key.");
            let known =
                |(known, _): &(&str, ValueKind)| key == known || key.starts_with(&format!("{known}."));
            assert!(of_list || KEYS.iter().any(known), "{key} cannot be set by the environment");
        }
    }

    #[test]
    fn every_key_can_be_set_by_the_environment() {
        for (key, kind) in KEYS {
            let text = match (key, kind) {
                (_, ValueKind::Number) => "7",
                (_, ValueKind::Switch) => "true",
                (&"trust_proxy", _) => "10.0.0.0/8,::1",
                (&"listen", _) => "[::1]:7",
                (&"log", _) => "json",
                (&"access.webhook.when_down", _) => "allow",
                (key, _) if key.starts_with("limits.") => "7/s",
                _ => "7",
            };
            let mut sources = Sources::new();
            set(&mut sources, &[(&variable(key), text)]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(sources.sources.keys().collect::<Vec<_>>(), [key]);
            let config = Config::deserialize(sources.table).expect("valid");
            assert!(
                config != Config::default()
                    || matches!(
                        *key,
                        "access.webhook.connect" | "access.token.require_exp" | "access.token.query"
                    ),
                "{key}"
            );
        }
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let text = "max_message = '2M'\nallow_origin = ['https://a.example']\ndrain = 5\n[limits.address]\nconnects = '5/s'\n";
        let mut sources = Sources::new();
        sources.text("f.toml", text).expect("valid");
        set(
            &mut sources,
            &[
                ("LONGWIRE_MAX_MESSAGE", "3M"),
                ("LONGWIRE_DEFLATE", "yes"),
                ("LONGWIRE_DRAIN", ""),
                ("LONGWIRE_LIMITS_ADDRESS_BYTES", "1M/s"),
                ("LONGWIRE_ALLOW_ORIGIN", "https://b.example, https://c.example,"),
                ("LONGWIRE_SERVICE_PORT", "tcp://1.2.3.4"),
                ("LONGWIRE_MAX_MESAGE", "1"),
                ("PATH", "/bin"),
            ],
        )
        .expect("valid");
        sources.flag("max_message", "--max-message", "4M").expect("valid");
        let loaded = sources.load().expect("valid");
        let config = &loaded.config;
        assert_eq!(
            (config.max_message, config.drain, config.deflate),
            (Size::new(4 << 20), TimeSpan::seconds(5), true)
        );
        assert_eq!(config.allow_origin, ["https://b.example", "https://c.example"]);
        assert!(config.limits.address.connects.is_some() && config.limits.address.bytes.is_some());
        let source = |key| loaded.source(key).to_string();
        assert_eq!(source("max_message"), "--max-message");
        assert_eq!(source("drain"), "f.toml:3");
        assert_eq!(source("limits.address.connects"), "f.toml:5");
        assert_eq!(source("deflate"), "LONGWIRE_DEFLATE");
        assert_eq!(source("listen"), "default");
        assert_eq!(
            loaded.warnings,
            ["unknown variable LONGWIRE_MAX_MESAGE; did you mean LONGWIRE_MAX_MESSAGE?"]
        );
    }

    #[test]
    fn errors_show_their_location() {
        for (text, expected) in [
            (
                "lisen = '1'",
                "f.toml:1:1: unknown key `lisen`; did you mean `listen`? Valid keys: listen, threads,",
            ),
            (
                "\n[tls]\ncret = ''",
                "f.toml:3:1: unknown key `cret`; did you mean `cert`? Valid keys: cert, key, client_ca, self_signed\n  |\n3 | cret = ''\n  | ^^^^",
            ),
            (
                "max_message = '1T'",
                "f.toml:1:15: invalid size; write a number of bytes, such as 65536, 64K, 16M or 1G\n  |\n1 | max_message = '1T'\n  |               ^^^^",
            ),
            ("threads = -1", "f.toml:1:11: "),
            ("threads = 'four'", "f.toml:1:11: invalid type: string \"four\", expected u16"),
            ("log = 'xml'", "f.toml:1:7: unknown value `xml`; valid values: off, text, json"),
            ("listen = ", "f.toml:1:10: "),
            ("listen = 'a'\nlisten = 'b'", "f.toml:"),
            ("sync = 'often'", "f.toml:1:8: invalid value; write os, always, or a duration such as 1s"),
            ("trust_proxy = ['10.0.0.0/40']", "f.toml:1:16: invalid address or network"),
            ("[[channel]]\npattern = 'a*'", "f.toml:2:11: `a*`: * and > must be whole segments"),
            ("[[channel]]\npattern = 'a'\nslow = { policy = 'drop' }", "f.toml:3:19: unknown value `drop`; "),
            ("[[channel]]\npattern = 'a'\nrate = '5'", "f.toml:3:8: invalid rate"),
            ("[[access.key]]\nname = 'a'", "f.toml:1:1: missing field `sha256`"),
            ("[access.token]\nsecret = 'short'", "f.toml:2:10: a secret must have at least 32 bytes"),
            ("[[channel]]\nhistory = { messages = 1 }", "f.toml:1:1: the pattern is missing"),
        ] {
            let error = from_text(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}\n{error}");
            assert!(!error.contains("short"), "{error}");
        }
        let name =
            |name: &str, value: &str| set(&mut Sources::new(), &[(name, value)]).expect_err(name).to_string();
        assert_eq!(name("LONGWIRE_THREADS", "four"), "LONGWIRE_THREADS: `four` is not a number");
        assert_eq!(name("LONGWIRE_DEFLATE", "maybe"), "LONGWIRE_DEFLATE: `maybe` is neither true nor false");
        assert!(
            name("LONGWIRE_LOG", "xml")
                .starts_with("LONGWIRE_LOG: unknown value `xml`; valid values: off, text, json")
        );
        assert!(name("LONGWIRE_LISTEN", "80").starts_with("LONGWIRE_LISTEN: the port is missing"));
        assert!(Sources::new().flag("nothing", "--nothing", "1").is_err());
    }

    #[test]
    fn contradictions_are_reported_with_their_source() {
        let mut sources = Sources::new();
        sources
            .text("f.toml", "allow_origin = ['https://a.example', 'b']\n[tls]\ncert = 'c.pem'\n")
            .expect("valid");
        set(&mut sources, &[("LONGWIRE_DRAIN", "2h")]).expect("valid");
        let error = sources.load().expect_err("three problems");
        let places: Vec<String> = error
            .0
            .iter()
            .map(|problem| problem.to_string().split(": ").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(places, ["LONGWIRE_DRAIN", "f.toml:1:38", "f.toml:3:8"]);

        let mut sources = Sources::new();
        sources.text("f.toml", "allow_origin = ['https://a.example']").expect("valid");
        set(&mut sources, &[("LONGWIRE_ALLOW_ORIGIN", "b")]).expect("valid");
        assert!(sources.load().expect_err("no origin").to_string().starts_with("LONGWIRE_ALLOW_ORIGIN: "));
    }

    #[test]
    fn the_first_matching_section_applies() {
        let text = "[[channel]]\npattern = 'a.b'\npublish = 'nobody'\n[[channel]]\npattern = 'a.*'\nslow = { policy = 'keep_latest' }\n";
        let config = from_text(text).expect("valid").config;
        assert_eq!(config.channel("a.b").map(|channel| channel.publish), Some(Publishers::Nobody));
        assert_eq!(config.channel("a.c").map(|channel| channel.slow.policy), Some(SlowPolicy::KeepLatest));
        assert_eq!(config.channel("b"), None);
    }

    #[test]
    fn files_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f.toml");
        let fill = |bytes: u64| {
            std::fs::write(&path, vec![b'#'; usize::try_from(bytes).expect("small")]).expect("written")
        };
        fill(FILE_MAX);
        assert_eq!(Sources::new().file(&path), Ok(()));
        fill(FILE_MAX + 1);
        assert!(
            Sources::new().file(&path).expect_err("too large").to_string().ends_with("larger than 1 MiB")
        );
        std::fs::write(&path, b"a = \"\xff\"").expect("written");
        assert!(Sources::new().file(&path).is_err());
        assert!(
            Sources::new()
                .file(&folder.path().join("none"))
                .expect_err("none")
                .to_string()
                .contains("cannot read the file")
        );
    }

    proptest! {
        #[test]
        fn no_file_causes_a_panic(text in "([a-z_.]{1,8} ?= ?['\"]?[0-9a-zA-Z:*>/]{0,8}['\"]?\n?|\\[\\[?[a-z.]{1,8}\\]?\\]\n|\\PC|\n){0,12}") {
            if let Err(error) = from_text(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn no_environment_causes_a_panic(index in 0..KEYS.len(), text in "[0-9a-z/:,*> ]{0,10}|\\PC{0,20}") {
            let mut sources = Sources::new();
            if set(&mut sources, &[(&variable(KEYS[index].0), &text)]).is_ok()
                && let Err(error) = sources.load()
            {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
