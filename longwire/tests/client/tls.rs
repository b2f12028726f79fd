//! `wss://`: whom a client trusts, and what it says when it does not.

use std::io::ErrorKind;
use std::time::Duration;

use longwire::{Acceptor, Client, ConnectError, Error, HandshakeError, Phase, Tls, TlsError};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::certificates::{Authority, Identity};
use crate::servers::{echo_server, serve, talk, tls_server};
use crate::support::soon;

async fn tls_error(client: &Client, url: String) -> TlsError {
    match soon(client.connect(url)).await {
        Err(ConnectError::Tls(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn trusting(authority: &Authority) -> Client {
    Client::new().tls(Tls::new().roots_pem(authority.pem()).unwrap())
}

#[tokio::test]
async fn names_and_addresses_that_a_trusted_certificate_is_for() {
    let authority = Authority::new();
    let client = trusting(&authority);
    for (host, versions, expected) in [
        ("localhost", rustls::ALL_VERSIONS, "TLS 1.3"),
        ("127.0.0.1", &[&TLS12], "TLS 1.2"),
        ("127.0.0.1", &[&TLS13], "TLS 1.3"),
    ] {
        let port = tls_server(authority.issue(host).acceptor_with(versions, None)).await;
        // The second connection resumes the session of the first.
        for _ in 0..2 {
            let mut ws = soon(client.connect(format!("wss://{host}:{port}/房间"))).await.unwrap();
            talk(&mut ws).await;
            let tls = ws.get_ref().tls().unwrap();
            assert_eq!((tls.version, tls.alpn.as_deref()), (expected, Some(&b"http/1.1"[..])));
            assert!(ws.get_ref().tcp().nodelay().unwrap() && ws.peer_addr().unwrap().port() == port);
            soon(ws.close(1000, "再见")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn certificates_that_are_not_accepted() {
    let authority = Authority::new();
    let client = trusting(&authority);
    let url = |port: u16| format!("wss://localhost:{port}/");

    let port = tls_server(authority.issue_for_years("localhost", 2000, 2001).acceptor()).await;
    let error = tls_error(&client, url(port)).await;
    assert!(matches!(error, TlsError::Expired), "{error:?}");
    let port = tls_server(authority.issue_for_years("localhost", 3000, 4000).acceptor()).await;
    let error = tls_error(&client, url(port)).await;
    assert!(matches!(error, TlsError::NotValidYet), "{error:?}");
    for other in ["example.com", "127.0.0.1"] {
        let port = tls_server(authority.issue(other).acceptor()).await;
        match tls_error(&client, url(port)).await {
            TlsError::WrongName(names) => assert_eq!(names, [other]),
            other => panic!("{other:?}"),
        }
    }
    // Of others than it trusts: of a stranger, of itself, and of our authority where the platform is asked.
    let port = tls_server(Authority::new().issue("localhost").acceptor()).await;
    let error = tls_error(&client, url(port)).await;
    assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
    let port = tls_server(Identity::self_signed("localhost", 4000).acceptor()).await;
    let error = tls_error(&client, url(port)).await;
    assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
    let port = tls_server(authority.issue("localhost").acceptor()).await;
    match tls_error(&Client::new(), url(port)).await {
        TlsError::UnknownIssuer => {}
        // Where the platform has none at all.
        TlsError::Unusable(text) => assert!(text.contains("roots"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn roots_add_up_and_replace_the_platforms() {
    let (one, other) = (Authority::new(), Authority::new());
    let both = Tls::new().roots_pem(one.pem()).unwrap().roots_pem(other.pem()).unwrap();
    let bundle = Tls::new().roots_pem(one.pem() + &other.pem()).unwrap();
    for client in [Client::new().tls(both), Client::new().tls(bundle)] {
        for authority in [&one, &other] {
            let port = tls_server(authority.issue("localhost").acceptor()).await;
            talk(&mut soon(client.connect(format!("wss://localhost:{port}/"))).await.unwrap()).await;
        }
    }
}

/// What `openssl req -x509` makes: self-signed, and marked as the certificate of an authority.
#[tokio::test]
async fn a_root_that_is_the_certificate_of_the_server() {
    let own = Identity::self_signed_authority(&["localhost"], 4000);
    let without_names = Identity::self_signed_authority(&[], 4000);
    for (identity, host) in
        [(&own, "localhost"), (&without_names, "localhost"), (&without_names, "127.0.0.1")]
    {
        for version in [&TLS12, &TLS13] {
            let port = tls_server(identity.acceptor_with(&[version], None)).await;
            let pem = identity.certificate.pem();
            let other = Authority::new().pem();
            for tls in [
                Tls::new().roots_pem(&pem).unwrap(),
                Tls::new().roots_pem(&pem).unwrap().roots_pem(&other).unwrap(),
                Tls::new().add_roots_pem(other + &pem).unwrap(),
            ] {
                let client = Client::new().tls(tls);
                talk(&mut soon(client.connect(format!("wss://{host}:{port}/"))).await.unwrap()).await;
            }
        }
    }

    // Its names and dates count, and another certificate with the same text does not.
    let trusting =
        |identity: &Identity| Client::new().tls(Tls::new().roots_pem(identity.certificate.pem()).unwrap());
    let port = tls_server(own.acceptor()).await;
    let error = tls_error(&trusting(&own), format!("wss://127.0.0.1:{port}/")).await;
    assert!(matches!(&error, TlsError::WrongName(names) if *names == ["localhost"]), "{error:?}");
    let stranger = Identity::self_signed_authority(&["localhost"], 4000);
    let error = tls_error(&trusting(&stranger), format!("wss://localhost:{port}/")).await;
    assert!(matches!(error, TlsError::Certificate(_) | TlsError::UnknownIssuer), "{error:?}");
    assert!(!error.to_string().contains("EndEntity"), "{error}");
    for names in [&["localhost"][..], &[]] {
        let expired = Identity::self_signed_authority(names, 2001);
        let port = tls_server(expired.acceptor()).await;
        let error = tls_error(&trusting(&expired), format!("wss://localhost:{port}/")).await;
        assert!(matches!(error, TlsError::Expired), "{error:?}");
    }
}

#[tokio::test]
async fn a_pinned_certificate_and_no_other() {
    // What is in it does not matter: another name, and over.
    let pinned = Identity::self_signed("elsewhere.example", 2001);
    let port = tls_server(pinned.acceptor()).await;
    let other = tls_server(Identity::self_signed("localhost", 4000).acceptor()).await;
    let der = pinned.certificate.der();
    for tls in [Tls::new().pin_pem(pinned.certificate.pem()).unwrap(), Tls::new().pin_der(der)] {
        let client = Client::new().tls(tls);
        talk(&mut soon(client.connect(format!("wss://127.0.0.1:{port}/"))).await.unwrap()).await;
        let error = tls_error(&client, format!("wss://localhost:{other}/")).await;
        assert!(matches!(&error, TlsError::NotPinned(found) if found.len() == 32 * 3 - 1), "{error:?}");
        assert!(error.to_string().contains(':'));
    }
    // The fingerprint that an error tells is the one to pin.
    let wrong = Client::new().tls(Tls::new().pin_sha256([0; 32]));
    let TlsError::NotPinned(found) = tls_error(&wrong, format!("wss://localhost:{port}/")).await else {
        panic!("another error");
    };
    let bytes: Vec<_> = found.split(':').map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let client = Client::new().tls(Tls::new().pin_sha256(bytes.try_into().unwrap()));
    talk(&mut soon(client.connect(format!("wss://localhost:{port}/"))).await.unwrap()).await;
}

/// Somebody who shows the pinned certificate without its key is not its owner.
#[tokio::test]
async fn a_certificate_without_its_key() {
    let pinned = Identity::self_signed("localhost", 4000);
    let thief = Identity {
        certificate: pinned.certificate.clone(),
        key: Identity::self_signed("localhost", 4000).key,
    };
    let port = tls_server(thief.acceptor()).await;
    for tls in [Tls::new().pin_der(pinned.certificate.der()), Tls::new().danger_accept_any_certificate()] {
        let error = tls_error(&Client::new().tls(tls), format!("wss://localhost:{port}/")).await;
        assert!(matches!(error, TlsError::Certificate(_)), "{error:?}");
    }
}

#[tokio::test]
async fn anyone_if_it_is_said() {
    let client = Client::new().tls(Tls::new().danger_accept_any_certificate());
    for identity in [Identity::self_signed("elsewhere.example", 2001), Authority::new().issue("a.example")] {
        for version in [&TLS12, &TLS13] {
            let port = tls_server(identity.acceptor_with(&[version], None)).await;
            talk(&mut soon(client.connect(format!("wss://localhost:{port}/"))).await.unwrap()).await;
        }
    }
    assert!(format!("{client:?}").contains("ANY CERTIFICATE"));
}

#[tokio::test]
async fn the_name_that_is_expected() {
    let authority = Authority::new();
    let port = tls_server(authority.issue("inner.example").acceptor()).await;
    let tls = Tls::new().roots_pem(authority.pem()).unwrap();
    let client = Client::new().tls(tls.clone().server_name("inner.example").unwrap());
    talk(&mut soon(client.connect(format!("wss://127.0.0.1:{port}/"))).await.unwrap()).await;
    let client = Client::new().tls(tls.clone().server_name("other.example").unwrap());
    let error = tls_error(&client, format!("wss://127.0.0.1:{port}/")).await;
    assert!(matches!(error, TlsError::WrongName(_)), "{error:?}");
    for name in ["", "a b", "a\r\nb", "a\0", "ä"] {
        assert!(matches!(tls.clone().server_name(name), Err(TlsError::Unusable(_))), "{name:?}");
    }
}

#[tokio::test]
async fn alpn() {
    let authority = Authority::new();
    let port = tls_server(authority.issue("localhost").acceptor()).await;
    let tls = Tls::new().roots_pem(authority.pem()).unwrap();
    let with = |names: &[&str]| {
        Client::new().tls(tls.clone().alpn(names.iter().map(|name| name.as_bytes().to_vec())))
    };
    let ws = soon(with(&[]).connect(format!("wss://localhost:{port}/"))).await.unwrap();
    assert_eq!(ws.get_ref().tls().unwrap().alpn, None);
    let error = tls_error(&with(&["x/1"]), format!("wss://localhost:{port}/")).await;
    assert!(matches!(error, TlsError::Alert(alert) if alert.code() == 120), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the server aborted the handshake with the alert no_application_protocol (RFC 8446 6.2): it supports none of \
         the protocols offered by ALPN"
    );
}

#[tokio::test]
async fn a_client_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let tls = Tls::new().roots_pem(authority.pem()).unwrap();
    let known = clients.issue("client.example");
    let stranger = Authority::new().issue("client.example");
    let as_client = |identity: &Identity| {
        let (chain, key) = (identity.certificate.pem(), identity.key.serialize_pem());
        Client::new().tls(tls.clone().identity_pem(chain, key).unwrap())
    };
    for version in [&TLS13, &TLS12] {
        let server = authority.issue("localhost");
        let port = tls_server(server.acceptor_with(&[version], Some(clients.roots()))).await;
        let url = format!("wss://localhost:{port}/");
        talk(&mut soon(as_client(&known).connect(&url)).await.unwrap()).await;
        let without = tls_error(&Client::new().tls(tls.clone()), url.clone()).await;
        // Or TCP was reset before the alert was read.
        assert!(matches!(without, TlsError::CertificateRequired | TlsError::Io(_)), "{without:?}");
        let error = tls_error(&as_client(&stranger), url).await;
        assert!(matches!(error, TlsError::Alert(_) | TlsError::Io(_)), "{error:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_used() {
    let (one, other) = (Authority::new().issue("a.example"), Authority::new().issue("b.example"));
    let (chain, key) = (one.certificate.pem(), one.key.serialize_pem());
    let unusable = [
        Tls::new().roots_pem("").err(),
        Tls::new().roots_pem("没有证书").err(),
        Tls::new().roots_pem(&key).err(),
        Tls::new().roots_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").err(),
        Tls::new().roots_pem("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").err(),
        Tls::new().roots_file("/nowhere/根.pem").err(),
        Tls::new().pin_pem(&key).err(),
        Tls::new().identity_pem(&chain, &chain).err(),
        Tls::new().identity_pem(&key, &key).err(),
        Tls::new().identity_pem(&chain, other.key.serialize_pem()).err(),
        Tls::new().identity_files("/nowhere/a.pem", "/nowhere/a.key").err(),
    ];
    for (index, error) in unusable.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("{index}"));
        assert!(matches!(error, TlsError::Unusable(_)), "{index}: {error:?}");
        assert!(!error.to_string().contains("PRIVATE KEY"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (chain_file, key_file) = (folder.path().join("链.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain_file, &chain).unwrap();
    std::fs::write(&key_file, &key).unwrap();
    let tls = Tls::new().identity_files(&chain_file, &key_file).unwrap().roots_file(&chain_file).unwrap();
    let shown = format!("{tls:?}");
    assert!(shown.contains("has_identity: true") && !shown.contains("key"), "{shown}");
}

#[tokio::test]
async fn who_does_not_speak_tls() {
    let client = Client::new().tls(Tls::new().danger_accept_any_certificate());
    // Ours, a plain one that waits for a whole line, and one that hangs up.
    let port = echo_server().await.port();
    let error = tls_error(&client, format!("wss://localhost:{port}/")).await;
    assert!(matches!(error, TlsError::NotTls), "{error:?}");
    let (address, _) = serve(|mut stream| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = tls_error(&client, format!("wss://{address}/")).await;
    assert!(matches!(error, TlsError::NotTls), "{error:?}");
    let (address, _) = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 10_000]).await;
    })
    .await;
    let error = tls_error(&client, format!("wss://{address}/")).await;
    assert!(
        matches!(&error, TlsError::Eof)
            || matches!(&error, TlsError::Io(io) if io.kind() == ErrorKind::ConnectionReset),
        "{error:?}"
    );
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn who_speaks_tls_to_a_client_that_does_not() {
    let port = tls_server(Identity::self_signed("localhost", 4000).acceptor()).await;
    match soon(longwire::connect(format!("ws://localhost:{port}/"))).await {
        Err(ConnectError::Handshake(error @ HandshakeError::Head(_))) => {
            assert!(error.to_string().contains("wss://"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// The end of TLS is said by close_notify: by us always, and where the peer does not say it, it is as with TCP.
#[tokio::test]
async fn ends() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let identity = Identity::self_signed("localhost", 4000);
    let acceptor = identity.acceptor();
    let (address, _) = serve(move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let mut ws = Acceptor::new().accept(acceptor.accept(stream).await.unwrap()).await.unwrap();
            let first = ws.recv().await.unwrap();
            if first.is_some() {
                // Without close_notify, as of a process that was killed.
                return drop(ws);
            }
            tell.send(ws.closed().cloned()).unwrap();
        }
    })
    .await;
    let client = Client::new().tls(Tls::new().pin_der(identity.certificate.der()));
    let mut ws = soon(client.connect(format!("wss://{address}/"))).await.unwrap();
    soon(ws.close(1000, "再见")).await.unwrap();
    assert_eq!(soon(told.recv()).await.unwrap().unwrap().frame.unwrap().reason.as_str(), "再见");

    let mut ws = soon(client.connect(format!("wss://{address}/"))).await.unwrap();
    ws.send("走了").await.unwrap();
    let ended = soon(ws.recv()).await;
    assert!(matches!(ended, Err(Error::Eof)), "{ended:?}");
}

#[tokio::test]
async fn a_client_says_close_notify() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let identity = Identity::self_signed("localhost", 4000);
    let acceptor = identity.acceptor();
    let (address, _) = serve(move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let head = crate::support::read_head(&mut stream).await;
            let accept = crate::support::accept_of(&head);
            // Close, and the rest until TLS says that it is over: without close_notify that is an error.
            let answer = [crate::support::response(&accept).as_bytes(), &[0x88, 2, 3, 0xe8]].concat();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            tell.send(stream.read_to_end(&mut rest).await.map(|_| rest)).unwrap();
        }
    })
    .await;
    let client = Client::new().tls(Tls::new().pin_der(identity.certificate.der()));
    let mut ws = soon(client.connect(format!("wss://{address}/"))).await.unwrap();
    assert_eq!(soon(ws.recv()).await.unwrap(), None);
    assert_eq!(soon(told.recv()).await.unwrap().unwrap()[0], 0x88);
}

#[tokio::test]
async fn a_server_that_is_silent_in_tls() {
    let (address, _) = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let client = Client::new().connect_timeout(Duration::from_secs(1));
    match soon(client.connect(format!("wss://{address}/"))).await {
        Err(error @ ConnectError::Timeout(Phase::Tls)) => assert!(error.to_string().contains("TLS")),
        other => panic!("{other:?}"),
    }
    match soon(client.handshake_timeout(Duration::from_millis(200)).connect(format!("ws://{address}/"))).await
    {
        Err(ConnectError::Timeout(Phase::Handshake)) => {}
        other => panic!("{other:?}"),
    }
}

/// A server whose queue of connections is full answers no more SYNs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_does_not_take_the_connection() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = || tokio::time::timeout(Duration::from_secs(1), tokio::net::TcpStream::connect(address));
    let mut filling = Vec::new();
    while let Ok(stream) = fill().await {
        filling.push(stream.unwrap());
        assert!(filling.len() < 10, "the queue has no end");
    }
    for scheme in ["ws", "wss"] {
        let client = Client::new().connect_timeout(Duration::from_secs(1));
        match soon(client.connect(format!("{scheme}://{address}/"))).await {
            Err(error @ ConnectError::Timeout(Phase::Tcp)) => assert!(error.to_string().contains("TCP")),
            other => panic!("{other:?}"),
        }
    }
}
