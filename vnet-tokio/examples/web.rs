//! An axum server and a hyper client across a link that loses one frame in twenty: the client gives up on what takes
//! longer than ten seconds, and a second run with the same seed is the same to the last bit.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep, timeout};
use vnet::{Fingerprint, LinkConfig, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

async fn wait(Path(seconds): Path<u64>) -> String {
    sleep(Duration::from_secs(seconds)).await;
    format!("{seconds} seconds later")
}

/// hyper would add the wall clock's date.
async fn dated(mut response: Response) -> Response {
    let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
    response.headers_mut().insert(header::DATE, date);
    response
}

async fn ask(path: &str) -> Result<Bytes, Failure> {
    let stream = TcpStream::connect("192.0.2.2:80").await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().uri(path).header("host", "server");
    let answer = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

/// Runs it; says what has passed the link.
pub(crate) fn run(seed: u64) -> Result<Fingerprint, Failure> {
    let system = System::virtual_time(seed);
    system.record_fingerprint();
    let (client, server) = (system.create("client")?, system.create("server")?);
    client.epair("eth0", &server, "eth0")?;
    client.add_address("eth0", "192.0.2.1/24".parse()?)?;
    server.add_address("eth0", "192.0.2.2/24".parse()?)?;
    let lossy = LinkConfig {
        loss: 0.05.into(),
        delay: Duration::from_millis(40),
        ..LinkConfig::default()
    };
    client.set_link("eth0", lossy.clone())?;
    server.set_link("eth0", lossy)?;

    let running = Runtime::new(&server)?;
    running.spawn(async {
        let app = Router::new()
            .route("/wait/{seconds}", get(wait))
            .layer(axum::middleware::map_response(dated));
        axum::serve(TcpListener::bind("0.0.0.0:80").await?, app).await
    });
    Runtime::new(&client)?.block_on(async {
        let patience = Duration::from_secs(10);
        let answer = timeout(patience, ask("/wait/3")).await??;
        assert_eq!(answer, "3 seconds later");
        assert!(timeout(patience, ask("/wait/30")).await.is_err());
        Ok::<_, Failure>(())
    })??;
    Ok(system.fingerprint().expect("it was switched on"))
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Failure> {
    let (first, second) = (run(7)?, run(7)?);
    println!("{first}\n{second}");
    assert_eq!(first, second);
    Ok(())
}
