//! What a browser is given besides channels: the page at `/`, the one of a bare WebSocket, the module `longwire.js` with its types, and the dashboard.
//! Who may have the dashboard is for `http` to say.

use std::sync::LazyLock;

use http_body_util::{BodyExt, Full};
use longwire::Bytes;
use longwire::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};

use super::http::Body;

/// Of the pages; `{nonce}` stands where their scripts and styles are told from anything injected.
const PAGE: &str = include_str!("../web/page.html");
const RAW: &str = include_str!("../web/raw.html");
const DASHBOARD: &str = include_str!("../web/dashboard.html");

static TYPES: LazyLock<Kept> =
    LazyLock::new(|| Kept::new(include_str!("../web/longwire.d.ts").into(), "text/plain; charset=utf-8"));

/// The module, small enough for a packet or seven.
static MODULE: LazyLock<Kept> = LazyLock::new(|| {
    Kept::new(squeeze(include_str!("../web/longwire.js")).into(), "text/javascript; charset=utf-8")
});

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Raw,
    Module,
    Types,
    Dashboard,
}

/// What a browser may keep, and asks whether it has changed.
#[derive(Debug)]
pub(super) struct Kept {
    body: Bytes,
    kind: &'static str,
    tag: String,
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

    pub(super) fn answer(self, headers: &HeaderMap) -> Response<Body> {
        match self {
            Self::Page => page(PAGE),
            Self::Raw => page(RAW),
            Self::Dashboard => page(DASHBOARD),
            Self::Module => MODULE.answer(headers),
            Self::Types => TYPES.answer(headers),
        }
    }
}

impl Kept {
    pub(super) fn new(body: Bytes, kind: &'static str) -> Self {
        let hash: String = Sha256::digest(&body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { body, kind, tag: format!("\"{hash}\"") }
    }

    pub(super) fn answer(&self, asked: &HeaderMap) -> Response<Body> {
        // RFC 9110 13.1.2.
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut known = known.flat_map(|value| value.split(','));
        let mut response = if known.any(|one| one.trim().trim_start_matches("W/") == self.tag) {
            let mut unchanged = respond(self.kind, Bytes::new());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            respond(self.kind, self.body.clone())
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// A text for programs.
pub(super) fn text(text: String) -> Response<Body> {
    respond("text/plain; charset=utf-8", text.into())
}

fn page(page: &str) -> Response<Body> {
    // A nonce that nobody can foretell, fresh for each answer (CSP level 3, 7.1).
    let mut random = [0; 16];
    if getrandom::fill(&mut random).is_err() {
        let mut failed = text("the system gives no random bytes\n".into());
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return failed;
    }
    let nonce = format!("{:032x}", u128::from_be_bytes(random));
    let mut response = respond("text/html; charset=utf-8", page.replace("{nonce}", &nonce).into());
    // What a script with the nonce imports is fetched with it.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn respond(kind: &'static str, body: Bytes) -> Response<Body> {
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

/// A module without what only its readers need: comments, indentation, spaces around signs, and long names of what is
/// private. It is written so that this is all it takes: a comment stands on a line of its own or behind two spaces, each
/// statement ends with a semicolon, and what is private begins with an underscore.
fn squeeze(module: &str) -> String {
    let mut names = Vec::new();
    let mut squeezed = String::with_capacity(module.len());
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
                    squeezed.push(letter);
                }
                None if matches!(letter, '\'' | '`') => {
                    quote = Some(letter);
                    squeezed.push(letter);
                }
                None if letter == ' ' => {
                    let is_sign = |letter: Option<char>| letter.is_none_or(|letter| SIGNS.contains(letter));
                    if !is_sign(squeezed.chars().next_back()) && !is_sign(rest[1..].chars().next()) {
                        squeezed.push(' ');
                    }
                }
                None if is_private(rest) && !squeezed.ends_with(is_of_name) => {
                    let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
                    squeezed.push_str(&short(&mut names, &rest[..end]));
                    rest = &rest[end..];
                    continue;
                }
                None => squeezed.push(letter),
            }
            rest = &rest[letter.len_utf8()..];
        }
        // A word at the end of a line, and what follows, are two.
        if squeezed.ends_with(is_of_name) {
            squeezed.push(' ');
        }
    }
    squeezed.replace(";}", "}")
}

/// Between which and anything no space is needed.
const SIGNS: &str = "{}()[]=,;:?<>&|*!+/%-";

const fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$')
}

fn is_private(code: &str) -> bool {
    code.strip_prefix('_').is_some_and(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

/// The short name of a long one: `_a` for the first, and so on.
fn short<'a>(names: &mut Vec<&'a str>, name: &'a str) -> String {
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
    fn what_only_readers_need_is_left_out() {
        let code = "// 注释\n/** 类 */\nclass A {\n  _long = 'a  = b';    // why\n  f(x) { return x + this._long; }\n}\nconst\n  b = 1;\n";
        assert_eq!(squeeze(code), "class A{_a='a  = b';f(x){return x+this._a}}const b=1;");
        let code = "a._b(c._d, c._b, `x _b`);";
        assert_eq!(squeeze(code), "a._a(c._b,c._a,`x _b`);");
    }

    #[test]
    fn names_stay_apart() {
        let code: String = (0..200).map(|n| format!("_n{n};")).collect();
        let short = squeeze(&code);
        let mut names: Vec<_> = short.split(';').filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 200);
    }

    #[test]
    fn a_browser_that_has_it_is_told_so() {
        let first = Asset::Module.answer(&HeaderMap::new());
        let tag = first.headers()[header::ETAG].clone();
        for (known, status) in [(tag, 304), (HeaderValue::from_static("\"x\""), 200)] {
            let mut asked = HeaderMap::new();
            asked.insert(header::IF_NONE_MATCH, known);
            assert_eq!(Asset::Module.answer(&asked).status(), status);
        }
    }
}
