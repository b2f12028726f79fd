//! Built-in pages and scripts: the chat page at `/`, the raw WebSocket page, the module `longwire.js` with
//! its types, and the dashboard. `http` decides who may see the dashboard.

use std::sync::LazyLock;

use http_body_util::{BodyExt, Full};
use longwire::Bytes;
use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::http::Body;

/// The pages; `{nonce}` marks the place of the CSP nonce.
const PAGE: &str = include_str!("../web/page.html");
const RAW: &str = include_str!("../web/raw.html");
const DASHBOARD: &str = include_str!("../web/dashboard.html");

static TYPES: LazyLock<CachedFile> = LazyLock::new(|| {
    CachedFile::new(include_str!("../web/longwire.d.ts").into(), "text/plain; charset=utf-8")
});

/// The module, minified to a few packets.
static MODULE: LazyLock<CachedFile> = LazyLock::new(|| {
    CachedFile::new(minify(include_str!("../web/longwire.js")).into(), "text/javascript; charset=utf-8")
});

/// A built-in page or script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Raw,
    Module,
    Types,
    Dashboard,
}

/// A file that browsers may cache and revalidate.
#[derive(Debug)]
pub(super) struct CachedFile {
    body: Bytes,
    media_type: &'static str,
    etag: String,
}

impl Asset {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/" | "/-/channels" => Some(Self::Page),
            "/-/raw" => Some(Self::Raw),
            "/-/longwire.js" => Some(Self::Module),
            "/-/longwire.d.ts" => Some(Self::Types),
            _ => None,
        }
    }

    pub(super) fn respond_to(self, headers: &HeaderMap) -> Response<Body> {
        match self {
            Self::Page => page(PAGE),
            Self::Raw => page(RAW),
            Self::Dashboard => page(DASHBOARD),
            Self::Module => MODULE.respond_to(headers),
            Self::Types => TYPES.respond_to(headers),
        }
    }
}

impl CachedFile {
    pub(super) fn new(body: Bytes, media_type: &'static str) -> Self {
        let hash: String = Sha256::digest(&body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { body, media_type, etag: format!("\"{hash}\"") }
    }

    pub(super) fn respond_to(&self, headers_in: &HeaderMap) -> Response<Body> {
        // RFC 9110 13.1.2.
        let known = headers_in.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(','));
        let mut response = if known.any(|one| one.trim().trim_start_matches("W/") == self.etag) {
            let mut unchanged = build_response(self.media_type, Bytes::new());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            build_response(self.media_type, self.body.clone())
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(etag) = HeaderValue::try_from(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

/// Returns a response with plain text.
pub(super) fn text(text: String) -> Response<Body> {
    build_response("text/plain; charset=utf-8", text.into())
}

fn page(page: &str) -> Response<Body> {
    // A fresh, unpredictable nonce for each response (CSP level 3, 7.1).
    let mut random = [0; 16];
    if getrandom::fill(&mut random).is_err() {
        let mut failed = text("cannot get random bytes from the system\n".into());
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return failed;
    }
    let nonce = format!("{:032x}", u128::from_be_bytes(random));
    let mut response = build_response("text/html; charset=utf-8", page.replace("{nonce}", &nonce).into());
    // A script with the nonce passes it on to its imports.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn build_response(kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    response
}

/// Minifies a module: removes comments, indentation and optional spaces, and shortens private names. The
/// module follows rules that make this sufficient. Comments stand on their own line or after two spaces. Each
/// statement ends with a semicolon. Private names begin with an underscore.
fn minify(module: &str) -> String {
    let mut names = Vec::new();
    let mut minified = String::with_capacity(module.len());
    for line in module.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("//") || (line.starts_with("/**") && line.ends_with("*/")) {
            continue;
        }
        let line = line.split_once("  //").map_or(line, |(code, _)| code.trim_end());
        let mut quote = None;
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            match quote {
                Some(end) => {
                    quote = quote.filter(|_| letter != end);
                    minified.push(letter);
                }
                None if matches!(letter, '\'' | '`') => {
                    quote = Some(letter);
                    minified.push(letter);
                }
                None if letter == ' ' => {
                    let is_punctuation =
                        |letter: Option<char>| letter.is_none_or(|letter| PUNCTUATION.contains(letter));
                    if !is_punctuation(minified.chars().next_back())
                        && !is_punctuation(rest[1..].chars().next())
                    {
                        minified.push(' ');
                    }
                }
                None if is_private(rest) && !minified.ends_with(is_identifier_character) => {
                    let end = rest.find(|letter| !is_identifier_character(letter)).unwrap_or(rest.len());
                    minified.push_str(&short_name(&mut names, &rest[..end]));
                    rest = &rest[end..];
                    continue;
                }
                None => minified.push(letter),
            }
            rest = &rest[letter.len_utf8()..];
        }
        // Keep a space between a word at the end of a line and the next line.
        if minified.ends_with(is_identifier_character) {
            minified.push(' ');
        }
    }
    minified.replace(";}", "}")
}

/// No space is needed beside these characters.
const PUNCTUATION: &str = "{}()[]=,;:?<>&|*!+/%-";

const fn is_identifier_character(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$')
}

fn is_private(code: &str) -> bool {
    code.strip_prefix('_').is_some_and(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

/// Returns the short name of a private name: `_a` for the first, and so on.
fn short_name<'a>(names: &mut Vec<&'a str>, name: &'a str) -> String {
    let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let letter = char::from(LETTERS[at % LETTERS.len()]);
    "_".repeat(1 + at / LETTERS.len()) + &String::from(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_small() {
        let module = str::from_utf8(&MODULE.body).expect("UTF-8");
        assert!(module.len() < 10_000, "{} bytes", module.len());
        assert!(module.contains("export class Longwire") && !module.contains("  ") && !module.contains('\n'));
    }

    #[test]
    fn comments_and_spaces_are_removed() {
        let code = "// 注释\n/** 类 */\nclass A {\n  _long = 'a  = b';    // why\n  f(x) { return x + this._long; }\n}\nconst\n  b = 1;\n";
        assert_eq!(minify(code), "class A{_a='a  = b';f(x){return x+this._a}}const b=1;");
        let code = "a._b(c._d, c._b, `x _b`);";
        assert_eq!(minify(code), "a._a(c._b,c._a,`x _b`);");
    }

    #[test]
    fn short_names_are_distinct() {
        let code: String = (0..200).map(|n| format!("_n{n};")).collect();
        let short_name = minify(&code);
        let mut names: Vec<_> = short_name.split(';').filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 200);
    }

    #[test]
    fn a_cached_file_is_revalidated() {
        let first = Asset::Module.respond_to(&HeaderMap::new());
        let etag = first.headers()[header::ETAG].clone();
        for (known, status) in [(etag, 304), (HeaderValue::from_static("\"x\""), 200)] {
            let mut headers_in = HeaderMap::new();
            headers_in.insert(header::IF_NONE_MATCH, known);
            assert_eq!(Asset::Module.respond_to(&headers_in).status(), status);
        }
    }
}
