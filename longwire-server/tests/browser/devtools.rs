//! A headless Chromium, controlled through the DevTools protocol with longwire's client.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use longwire::WebSocket;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{TIMEOUT, ended};

pub(crate) struct Browser {
    process: Process,
    socket: WebSocket,
    last_id: u64,
    /// Exceptions and violations of the Content Security Policy.
    pub(crate) complaints: Vec<String>,
}

/// The browser process; it ends with the test, even if the test fails.
struct Process {
    child: Child,
    profile: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page of the browser, by the session of its commands.
#[derive(Clone)]
pub(crate) struct Tab(String);

impl Browser {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts the browser with further arguments.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let program = std::env::var_os("CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let spawned = Command::new(&program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(arguments)
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!(
                "this test needs Chromium, and {} does not start: {error}\n\
                 Install it (Debian, Ubuntu: apt-get install chromium) or name another with CHROMIUM=/path/to/it",
                program.display()
            )
        });
        let process = Process { child, profile };

        // The browser writes the port and path of its socket to this file.
        let announced = process.profile.path().join("DevToolsActivePort");
        let began = Instant::now();
        let url = loop {
            let text = std::fs::read_to_string(&announced).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n').filter(|(_, path)| !path.is_empty()) {
                break format!("ws://127.0.0.1:{port}{}", path.trim_end());
            }
            assert!(began.elapsed() < TIMEOUT, "{} opens no DevTools port", program.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let socket = longwire::connect(url).await.expect("DevTools accepts");
        Self { process, socket, last_id: 0, complaints: Vec::new() }
    }

    /// Opens a page in a new tab.
    pub(crate) async fn open(&mut self, url: &str) -> Tab {
        let tab = self.tab().await;
        self.visit(&tab, url).await;
        tab
    }

    /// Opens a page without its Content Security Policy, so that a test can add scripts.
    pub(crate) async fn open_freely(&mut self, url: &str) -> Tab {
        let tab = self.tab().await;
        self.call(Some(&tab), "Page.setBypassCSP", json!({ "enabled": true })).await;
        self.visit(&tab, url).await;
        tab
    }

    async fn tab(&mut self) -> Tab {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call(None, "Target.attachToTarget", attach).await;
        let tab = Tab(session["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(Some(&tab), domain, json!({})).await;
        }
        self.size(&tab, 1280, 800, false).await;
        tab
    }

    async fn visit(&mut self, tab: &Tab, url: &str) {
        let loaded = self.call(Some(tab), "Page.navigate", json!({ "url": url })).await;
        assert_eq!(loaded.get("errorText"), None, "{url}");
        self.until(tab, "document.readyState === 'complete' && !!document.getElementById('state')").await;
    }

    /// Sends a command and returns its result.
    async fn call(&mut self, tab: Option<&Tab>, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(Tab(session)) = tab {
            command["sessionId"] = json!(session);
        }
        self.socket.send(command.to_string()).await.expect("the browser is there");
        loop {
            let received = tokio::time::timeout(TIMEOUT, self.socket.recv())
                .await
                .unwrap_or_else(|_| panic!("{method} is not answered"));
            let message = received.expect("the browser is there").expect("the browser is there");
            let answer: Value = serde_json::from_str(message.as_text().expect("text")).expect("JSON");
            if answer["id"] == self.last_id {
                assert_eq!(answer.get("error"), None, "{method} {parameters}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let entry = &event["params"]["entry"];
        let forbidden = entry["text"].as_str().is_some_and(|text| text.contains("Content Security Policy"));
        if event["method"] == "Runtime.exceptionThrown" || forbidden {
            self.complaints.push(event["params"].to_string());
        }
    }

    /// Returns the value of an expression in the page.
    pub(crate) async fn value(&mut self, tab: &Tab, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call(Some(tab), "Runtime.evaluate", parameters).await;
        assert_eq!(result.get("exceptionDetails"), None, "{expression}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    pub(crate) async fn until(&mut self, tab: &Tab, expression: &str) {
        let began = Instant::now();
        while self.value(tab, expression).await != json!(true) {
            if began.elapsed() > TIMEOUT {
                let page = self.value(tab, "document.body.innerText").await;
                panic!("never true: {expression}\nthe page: {}", page.as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn click(&mut self, tab: &Tab, id: &str) {
        self.until(tab, &format!("!document.getElementById('{id}').disabled")).await;
        self.value(tab, &format!("document.getElementById('{id}').click()")).await;
    }

    /// Replaces the text of a field through the keyboard.
    pub(crate) async fn fill(&mut self, tab: &Tab, id: &str, text: &str) {
        self.call(Some(tab), "Page.bringToFront", json!({})).await;
        self.value(tab, &format!("document.getElementById('{id}').focus(); document.activeElement.select()"))
            .await;
        self.call(Some(tab), "Input.insertText", json!({ "text": text })).await;
    }

    pub(crate) async fn press_enter(&mut self, tab: &Tab) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" });
            self.call(Some(tab), "Input.dispatchKeyEvent", key).await;
        }
    }

    pub(crate) async fn press_alt_arrow(&mut self, tab: &Tab, key: &str) {
        let code = if key == "ArrowDown" { 40 } else { 38 };
        for kind in ["rawKeyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 1 });
            self.call(Some(tab), "Input.dispatchKeyEvent", key).await;
        }
    }

    /// Sends a message on the page's channel.
    pub(crate) async fn send_chat(&mut self, tab: &Tab, text: &str) {
        self.fill(tab, "text", text).await;
        self.press_enter(tab).await;
    }

    pub(crate) async fn size(&mut self, tab: &Tab, width: u32, height: u32, mobile: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call(Some(tab), "Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub(crate) async fn prefer_dark(&mut self, tab: &Tab) {
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.call(Some(tab), "Emulation.setEmulatedMedia", dark).await;
    }

    /// Saves a screenshot as `target/page/NAME.png`.
    pub(crate) async fn picture(&mut self, tab: &Tab, name: &str) {
        self.shot(tab, name, false).await;
    }

    /// Saves a screenshot of the whole page.
    pub(crate) async fn tall_picture(&mut self, tab: &Tab, name: &str) {
        self.shot(tab, name, true).await;
    }

    async fn shot(&mut self, tab: &Tab, name: &str, tall: bool) {
        self.call(Some(tab), "Page.bringToFront", json!({})).await;
        // Wait for transitions to end.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let mut how = json!({ "format": "png" });
        if tall {
            let size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]";
            let size = self.value(tab, size).await;
            how["clip"] = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
            how["captureBeyondViewport"] = json!(true);
        }
        let shot = self.call(Some(tab), "Page.captureScreenshot", how).await;
        let png = base64::engine::general_purpose::STANDARD
            .decode(shot["data"].as_str().expect("a picture"))
            .expect("base64");
        assert!(png.starts_with(b"\x89PNG"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../page");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.png")), png).expect("written");
    }

    pub(crate) async fn close(mut self) {
        self.call(None, "Browser.close", json!({})).await;
        ended(&mut self.process.child);
    }
}
