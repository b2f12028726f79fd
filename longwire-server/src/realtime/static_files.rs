//! Static files of a directory. They are read at startup, so no request path ever reaches the file system.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use longwire::http::{HeaderMap, Method, Request, Response, header};

use super::assets::CachedFile;
use super::http::Body;
use crate::pattern::name_of_path;

/// Maximum number and total size of the files.
const FILES_MAX: usize = 1000;
const BYTES_MAX: u64 = 64 << 20;

/// The file that is served for a directory.
const INDEX: &str = "index.html";

/// The files by their relative path.
#[derive(Debug, Default)]
pub(super) struct StaticFiles(HashMap<String, CachedFile>);

impl StaticFiles {
    /// Reads a directory recursively. Hidden files (`.git`) and links are skipped.
    ///
    /// # Errors
    ///
    /// Returns a description if a file cannot be read, or there are too many or too large files.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let mut files = Self::default();
        files.read_folder(folder, "", &mut 0)?;
        Ok(files)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str, bytes: &mut u64) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // The type of the entry itself: a link is neither a file nor a directory.
            let kind = entry.file_type().map_err(failed)?;
            let path = format!("{prefix}{name}");
            if name.starts_with('.') {
                continue;
            } else if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"), bytes)?;
            } else if kind.is_file() {
                *bytes += entry.metadata().map_err(failed)?.len();
                if self.0.len() >= FILES_MAX || *bytes > BYTES_MAX {
                    let most = format!("the maximum is {FILES_MAX} files and {} MiB", BYTES_MAX >> 20);
                    return Err(format!("{} is too large: {most}", folder.display()));
                }
                let content = fs::read(entry.path()).map_err(failed)?;
                self.0.insert(path, CachedFile::new(content.into(), media_type(&name)));
            }
        }
        Ok(())
    }

    /// Returns the file for a request, if there is one. A request for an event stream wants the channel of
    /// that name.
    pub(super) fn respond_to(&self, request: &Request<()>) -> Option<Response<Body>> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if self.0.is_empty() || !is_read || wants_stream(request.headers()) {
            return None;
        }
        let mut response = self.file(request.uri().path())?.respond_to(request.headers());
        // The owner of the files decides on their policy.
        response.headers_mut().remove(header::CONTENT_SECURITY_POLICY);
        Some(response)
    }

    fn file(&self, path: &str) -> Option<&CachedFile> {
        if path.starts_with("/-/") {
            return None;
        }
        if path == "/" {
            return self.0.get(INDEX);
        }
        if let Some(folder) = path.strip_suffix('/') {
            return self.0.get(&format!("{}/{INDEX}", name_of_path(folder).ok()?));
        }
        self.0.get(&name_of_path(path).ok()?)
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|ranges| ranges.contains("text/event-stream"))
}

/// Returns the media type by the file extension (RFC 9110 8.3).
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/vnd.microsoft.icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("site/-")).and_then(|()| fs::create_dir_all(at("site/图"))).expect("a folder");
        for path in [
            "secret",
            "site/index.html",
            "site/.hidden",
            "site/-/stats",
            "site/图/index.html",
            "site/图/a b.svg",
        ] {
            fs::write(at(path), path).expect("written");
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("secret"), at("site/link")).expect("linked");
        folder
    }

    #[test]
    fn only_files_of_the_directory_are_served() {
        let folder = folder();
        let files = StaticFiles::read(&folder.path().join("site")).expect("read");
        for path in ["/", "/index.html", "/%E5%9B%BE/", "/图/a%20b.svg"] {
            assert!(files.file(path).is_some(), "{path}");
        }
        for path in [
            "",
            "/secret",
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/图/../../secret",
            "/图/..%2f..%2fsecret",
            "//secret",
            "/./index.html",
            "/link",
            "/.hidden",
            "/图",
            "/图//",
            "/index.html/",
            "/index.html%00",
            "/..\\secret",
            "/etc/passwd",
            "/-/stats",
            "/%2fetc/passwd",
            "/%c0%ae%c0%ae/secret",
        ] {
            assert!(files.file(path).is_none(), "{path}");
        }
    }

    #[test]
    fn requests_for_a_channel_get_no_file() {
        let folder = folder();
        let files = StaticFiles::read(&folder.path().join("site")).expect("read");
        for (method, accept, is_file) in [
            ("GET", "text/html,*/*", true),
            ("HEAD", "*/*", true),
            ("GET", "text/event-stream", false),
            ("POST", "*/*", false),
            ("OPTIONS", "*/*", false),
        ] {
            let request =
                Request::builder().method(method).uri("/index.html").header("accept", accept).body(());
            assert_eq!(
                files.respond_to(&request.expect("a request")).is_some(),
                is_file,
                "{method} {accept}"
            );
        }
    }

    #[test]
    fn files_are_limited() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..FILES_MAX {
            fs::write(folder.path().join(number.to_string()), "x").expect("written");
        }
        assert!(StaticFiles::read(folder.path()).is_ok());
        fs::write(folder.path().join("more"), "x").expect("written");
        assert!(StaticFiles::read(folder.path()).expect_err("too much").contains("1000 files"));

        let folder = tempfile::tempdir().expect("a folder");
        // A sparse file.
        let file = fs::File::create(folder.path().join("large")).expect("a file");
        file.set_len(BYTES_MAX + 1).expect("its length");
        assert!(StaticFiles::read(folder.path()).expect_err("too much").contains("64 MiB"));
        file.set_len(BYTES_MAX).expect("its length");
        assert!(StaticFiles::read(folder.path()).is_ok());
        assert!(StaticFiles::read(&folder.path().join("none")).is_err());
    }
}
