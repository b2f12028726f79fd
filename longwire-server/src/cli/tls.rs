//! The TLS options of `longwire serve`: a certificate from watched files, or a generated one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use longwire::tls::{CertificateError, ServerTls};
use longwire_server::config;

use super::Failure;
use crate::terminal;

/// How often the certificate files are checked for changes.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Validity of a generated certificate. It starts in the past, because clocks of clients may be behind.
const VALID_FOR: Duration = Duration::from_secs(90 * 86_400);
const VALID_SINCE: Duration = Duration::from_secs(86_400);

#[derive(Args)]
pub(super) struct Tls {
    /// Serve https:// and wss:// with this certificate chain (PEM)
    ///
    /// The file is reloaded when it changes.
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Use this private key for --tls-cert (PEM)
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Serve https:// and wss:// with a generated certificate
    ///
    /// The certificate is valid for this machine and this run. It is written to <PATH>, if given, so that
    /// clients can trust it.
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, conflicts_with = "tls_cert")]
    tls_self_signed: Option<Option<PathBuf>>,

    /// Require client certificates signed by one of these CAs (PEM)
    #[arg(long, value_name = "PATH")]
    tls_client_ca: Option<PathBuf>,
}

impl Tls {
    /// Returns the options as settings.
    pub(super) fn flags(&self) -> [(&'static str, &'static str, Option<String>); 4] {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        [
            ("tls.cert", "--tls-cert", path(&self.tls_cert)),
            ("tls.key", "--tls-key", path(&self.tls_key)),
            ("tls.client_ca", "--tls-client-ca", path(&self.tls_client_ca)),
            (
                "tls.self_signed",
                "--tls-self-signed",
                self.tls_self_signed.as_ref().map(|_| "true".to_owned()),
            ),
        ]
    }

    /// Returns the TLS configuration for a server that is reached as `host`.
    pub(super) fn server(&self, config: &config::Tls, host: &str) -> Result<Option<ServerTls>, Failure> {
        let tls = match (&config.cert, &config.key) {
            (Some(certificates), Some(key)) => ServerTls::from_files(certificates, key).map_err(|error| {
                let certificates = certificates.display();
                Failure::new(format!("cannot serve TLS with {certificates} and {}: {error}", key.display()))
            })?,
            _ if config.self_signed => {
                generate(host, self.tls_self_signed.as_ref().and_then(Option::as_ref))?
            }
            _ => return Ok(None),
        };
        let tls = match &config.client_ca {
            Some(path) => {
                let failed = |error: &dyn std::fmt::Display| {
                    Failure::new(format!("cannot verify clients with {}: {error}", path.display()))
                };
                let roots = std::fs::read(path).map_err(|error| failed(&error))?;
                tls.client_roots(roots).map_err(|error| failed(&error))?
            }
            None => tls,
        };
        Ok(Some(tls.http2(true)))
    }
}

/// Reloads the files when they change, and reports it.
pub(super) async fn watch(tls: ServerTls) {
    tls.watch(WATCH_INTERVAL, |reloaded: Result<(), CertificateError>| match reloaded {
        Ok(()) => terminal::notice("reloaded the certificate; new connections use it"),
        Err(error) => {
            terminal::warn(&format!("cannot reload the certificate: {error}; the previous one stays in use"))
        }
    })
    .await;
}

/// Generates a certificate for this machine and `host`, and prints how clients can trust it.
fn generate(host: &str, file: Option<&PathBuf>) -> Result<ServerTls, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot generate a certificate for {host}: {error}"))
    };
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let is_everywhere = ["0.0.0.0", "::"].contains(&host);
    if !is_everywhere && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    let shown = names.join(", ");
    let mut params = rcgen::CertificateParams::new(names).map_err(|error| failed(&error))?;
    let now = SystemTime::now();
    params.not_before = now.checked_sub(VALID_SINCE).unwrap_or(now).into();
    params.not_after = now.checked_add(VALID_FOR).unwrap_or(now).into();
    params.distinguished_name.push(rcgen::DnType::CommonName, "longwire");
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    let tls = ServerTls::from_pem(certificate.pem(), key.serialize_pem()).map_err(|error| failed(&error))?;

    let advice = match file {
        Some(path) => {
            let written =
                std::fs::File::create(path).and_then(|mut file| file.write_all(certificate.pem().as_bytes()));
            written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
            format!("longwire connect --cacert {} wss://...", path.display())
        }
        None => "longwire connect --insecure wss://..., or --tls-self-signed=PATH and --cacert PATH".into(),
    };
    terminal::notice(&format!(
        "generated a certificate for {shown}; clients can trust it with {advice}; its SHA-256 fingerprint is {}",
        fingerprint(certificate.der())
    ));
    Ok(tls)
}

/// Formats a SHA-256 fingerprint as browsers do.
fn fingerprint(der: &[u8]) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let Some(suite) = suite.tls13() else { return String::new() };
    let hash = suite.common.hash_provider.hash(der);
    let mut text = String::new();
    for (at, byte) in hash.as_ref().iter().enumerate() {
        let colon = if at == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}
