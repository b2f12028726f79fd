//! Shows the effective settings and their sources. Secrets are masked.

use std::fmt::Write;

use serde_json::json;
use toml::{Table, Value};

use super::Loaded;

impl Loaded {
    /// Returns the settings as TOML, with the source of each value as a comment. Except for the secrets, it
    /// can be read back.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        if let Ok(table) = Table::try_from(&self.config) {
            self.section("", &table, &mut text);
        }
        text
    }

    /// Returns the settings as JSON: a list of `key`, `value` and `from`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut settings = Vec::new();
        if let Ok(table) = Table::try_from(&self.config) {
            self.each("", &Value::Table(table), &mut |key, value| {
                settings.push(json!({ "key": key, "value": value, "from": self.source(key).to_string() }));
            });
        }
        json!({ "settings": settings, "warnings": self.warnings })
    }

    /// Writes the values of a table before its sections, because everything after a section header belongs to
    /// that section.
    fn section(&self, path: &str, table: &Table, text: &mut String) {
        let is_section = |value: &Value| match value {
            Value::Table(_) => true,
            Value::Array(list) => !list.is_empty() && list.iter().all(Value::is_table),
            _ => false,
        };
        // Writing to a String cannot fail.
        for (key, value) in table.iter().filter(|(_, value)| !is_section(value)) {
            let _ = writeln!(text, "{key} = {value}  # {}", self.source(&joined(path, key)));
        }
        for (key, value) in table.iter().filter(|(_, value)| is_section(value)) {
            let path = joined(path, key);
            match value {
                Value::Table(table) => {
                    if table.values().any(|value| !is_section(value)) {
                        let _ = writeln!(text, "\n[{}]", header(&path));
                    }
                    self.section(&path, table, text);
                }
                Value::Array(list) => {
                    for (index, table) in list.iter().filter_map(Value::as_table).enumerate() {
                        let _ = writeln!(text, "\n[[{}]]", header(&path));
                        self.section(&format!("{path}.{index}"), table, text);
                    }
                }
                _ => {}
            }
        }
    }

    fn each(&self, path: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Table(table) => {
                table.iter().for_each(|(key, value)| self.each(&joined(path, key), value, visit))
            }
            Value::Array(list) if list.iter().any(Value::is_table) => {
                list.iter()
                    .enumerate()
                    .for_each(|(index, value)| self.each(&format!("{path}.{index}"), value, visit));
            }
            value => visit(path, value),
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns a section header without list indices: `[channel.history]` belongs to the last `[[channel]]`.
fn header(path: &str) -> String {
    path.split('.').filter(|part| part.parse::<usize>().is_err()).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Sources};
    use super::*;

    const TEXT: &str = "\
max_message = '64K'
allow_origin = ['https://例え.example']
[access.token]
secret = 'a secret that is long enough for anybody'
[access.anonymous]
subscribe = ['public.>']
[[access.key]]
name = '海'
sha256 = '0000000000000000000000000000000000000000000000000000000000000000'
publish = ['a.*']
[limits.address]
connects = '5/s burst 10'
[[channel]]
pattern = 'a'
presence = { show = 'off' }
[[channel]]
pattern = '>'
";

    fn loaded() -> Loaded {
        let mut sources = Sources::new();
        sources.text("f.toml", &TEXT.replace("例え", "xn--r8jz45g")).expect("valid");
        sources.environment([("LONGWIRE_DRAIN".into(), "5s".into())]).expect("valid");
        sources.load().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn shown_settings_can_be_read_back() {
        let loaded = loaded();
        let (text, mut expected) = (loaded.to_toml(), loaded.config);
        let again: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        expected.access.token.secret = again.access.token.secret.clone();
        assert_eq!(again, expected);
        for line in [
            "max_message = \"64K\"  # f.toml:1",
            "drain = \"5s\"  # LONGWIRE_DRAIN",
            "threads = 0  # default",
            "secret = \"***\"  # f.toml:4",
            "connects = \"5/s burst 10\"  # f.toml:12",
            "show = \"off\"  # f.toml:15",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(!text.contains("long enough"));
    }

    #[test]
    fn settings_as_json() {
        let json = loaded().to_json();
        let settings = json["settings"].as_array().expect("a list");
        let found = |key: &str| settings.iter().find(|setting| setting["key"] == key).expect("there");
        assert_eq!(
            found("access.key.0.name"),
            &json!({ "key": "access.key.0.name", "value": "海", "from": "f.toml:8" })
        );
        assert_eq!(found("access.token.secret")["value"], "***");
        assert_eq!(found("listen")["from"], "default");
        assert!(!json.to_string().contains("long enough"));
    }
}
