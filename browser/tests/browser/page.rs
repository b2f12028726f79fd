//! The page: this crate compiled to WebAssembly, and the script that `wasm-bindgen` makes for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";

const HTML: &str = r#"<!doctype html><meta charset="utf-8"><title>longwire</title><p id="state">loading</p>
<script type="module">
    const state = document.getElementById("state");
    try {
        window.page = await import("/page.js");
        await page.default({ module_or_path: "/page_bg.wasm" });
        state.textContent = "ready";
    } catch (error) {
        state.textContent = String(error);
    }
</script>"#;

#[derive(Clone)]
pub(crate) struct Page {
    script: Vec<u8>,
    module: Vec<u8>,
}

impl Page {
    pub(crate) fn build() -> Self {
        // The folder of this test is `tmp` in the target folder of the workspace.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let built = Command::new(cargo)
            .args(["build", "--package", "longwire-browser", "--lib", "--target", TARGET, "--target-dir"])
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo starts");
        assert!(
            built.success(),
            "the page does not compile (is the target there? rustup target add {TARGET})"
        );
        let out = tempfile::tempdir().expect("a folder");
        let mut bindgen = Bindgen::new();
        bindgen.input_path(target.join(TARGET).join("debug/page.wasm")).typescript(false);
        bindgen.web(true).expect("a page is a target").generate(out.path()).expect("the script is made");
        let read = |name: &str| std::fs::read(out.path().join(name)).expect("it was made");
        Self { script: read("page.js"), module: read("page_bg.wasm") }
    }

    /// The whole response to a request for this path.
    pub(crate) fn response(&self, path: &str) -> Vec<u8> {
        let (status, kind, body) = match path {
            "/" => ("200 OK", "text/html", HTML.as_bytes()),
            "/page.js" => ("200 OK", "text/javascript", &*self.script),
            "/page_bg.wasm" => ("200 OK", "application/wasm", &*self.module),
            _ => ("404 Not Found", "text/plain", &b""[..]),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    }
}
