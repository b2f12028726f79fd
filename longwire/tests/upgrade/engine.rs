//! Requests that hyper and axum have parsed, as connections of an engine.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use longwire::axum::WebSocketUpgrade;
use longwire::engine::{Conn, Engine, Handle, Handler, MessageRef};
use longwire::http::{self, HeaderMap, StatusCode};
use longwire::{Acceptor, Client, Config, ConnectError, Origins, Refusal};
use tokio::net::TcpListener;

use crate::support::soon;

/// Echoes, and says to whom in the response.
struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_request(
        &self,
        request: &http::Request<()>,
        from: SocketAddr,
        headers: &mut HeaderMap,
    ) -> Result<(), Refusal> {
        match request.uri().query() {
            Some("no") => Err(Refusal::new(StatusCode::IM_A_TEAPOT, "茶 🫖")),
            Some("bad") => {
                headers.insert("upgrade", "h2c".parse().unwrap());
                Ok(())
            }
            _ => {
                headers.insert("x-from", from.ip().to_string().parse().unwrap());
                Ok(())
            }
        }
    }

    fn message(&self, conn: &mut Conn<'_>, (): &mut (), message: MessageRef<'_>) {
        conn.send(message).unwrap();
    }
}

/// Its limit is lower than the engine's.
fn acceptor() -> Acceptor {
    Acceptor::new()
        .origins(Origins::list(["https://example.com"]).unwrap())
        .config(Config::server().max_message(1000))
        .subprotocols(["chat"])
}

async fn by_hyper(
    State(engine): State<Handle>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let answer = async {
        let upgrade = longwire::upgrade(&mut request, &acceptor())?;
        upgrade.into_engine(&engine, from).await
    };
    match answer.await {
        Ok((response, adopted)) => {
            tokio::spawn(adopted);
            response
        }
        Err(refusal) => refusal.into(),
    }
}

async fn by_axum(
    State(engine): State<Handle>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    ws: WebSocketUpgrade,
) -> Response {
    ws.acceptor(&acceptor()).into_engine(&engine, from).await.into_response()
}

#[tokio::test]
async fn an_upgrade_becomes_a_connection_of_an_engine() {
    let running = Engine::new(Echo).threads(1).start_without_listener().unwrap();
    let app = Router::new()
        .route("/hyper", any(by_hyper))
        .route("/axum", any(by_axum))
        .with_state(running.handle())
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    for path in ["hyper", "axum"] {
        let url = format!("ws://{address}/{path}");
        let client = Client::new().subprotocols(["chat"]);
        let mut ws = soon(client.connect(&url)).await.unwrap();
        assert_eq!(ws.subprotocol(), Some("chat"));
        let fits = "大".repeat(333);
        ws.send(fits.as_str()).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap().unwrap().as_text(), Some(&*fits));
        // The limit is that of the acceptor that was used.
        ws.send("大".repeat(334)).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap(), None);
        assert_eq!(ws.closed().unwrap().frame.as_ref().unwrap().code, 1009, "{path}");

        for (query, origin, status) in [
            ("", "https://evil.example", 403),
            ("?no", "https://example.com", 418),
            ("?bad", "https://example.com", 500),
        ] {
            let client = Client::new().header("origin", origin);
            let error = soon(client.connect(format!("{url}{query}"))).await.unwrap_err();
            let ConnectError::Refused(response) = error else { panic!("{error:?}") };
            assert_eq!(response.status.as_u16(), status, "{path}{query}");
        }
    }
}
