//! hyper, hyper-util's `Client`, and h2.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes as Data, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::sleep;
use vnet_tokio::net::{TcpListener, TcpStream};

use crate::{Bytes, Error, Patience, SERVER, connect, in_virtual_time, much, on_threads};

/// Answers with what it was sent, or after a while.
async fn answer(
    patience: Patience,
    request: Request<Incoming>,
) -> Result<Response<Full<Data>>, Infallible> {
    if request.uri().path() == "/slow" {
        sleep(patience.answer).await;
    }
    let body = request.into_body().collect().await;
    let body = body.map_or(Data::from_static(b"cut off"), |body| body.to_bytes());
    Ok(Response::new(Full::new(body)))
}

async fn serve_http1(patience: Patience) -> Result<(), Error> {
    let listener = TcpListener::bind(SERVER).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service_fn(move |request| answer(patience, request));
        let mut http = hyper::server::conn::http1::Builder::new();
        // The date would be the wall clock's.
        http.auto_date_header(false).timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve_http2(patience: Patience) -> Result<(), Error> {
    let listener = TcpListener::bind(SERVER).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service_fn(move |request| answer(patience, request));
        let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.auto_date_header(false).timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

// A connector for hyper-util's client, in 34 lines.
#[derive(Clone)]
struct Connector;

struct Connected_(TokioIo<TcpStream>);

impl tower_service::Service<Uri> for Connector {
    type Response = Connected_;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Connected_, Error>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(async { Ok(Connected_(TokioIo::new(connect().await?))) })
    }
}

impl Connection for Connected_ {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Connected_ {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Connected_ {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
// The end of the connector.

async fn ask(patience: Patience, version: Version) -> Result<(), Error> {
    let mut client = Client::builder(TokioExecutor::new());
    client
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new());
    client.http2_only(version == Version::HTTP_2);
    let client = client.build::<_, Full<Data>>(Connector);
    let post = |path: &str, body: Vec<u8>| {
        let request = Request::post(format!("http://server{path}")).version(version);
        client.request(request.body(Full::from(body)).expect("a request"))
    };
    let answers = (1..=3).map(|_| post("/echo", much()));
    for answer in futures_util::future::join_all(answers).await {
        let answer = answer?;
        assert_eq!(answer.version(), version);
        assert_eq!(answer.into_body().collect().await?.to_bytes(), much());
    }
    patience.runs_out(post("/slow", Vec::new())).await;
    Ok(())
}

async fn ask_http1(patience: Patience) -> Result<(), Error> {
    ask(patience, Version::HTTP_11).await
}

async fn ask_http2(patience: Patience) -> Result<(), Error> {
    ask(patience, Version::HTTP_2).await
}

/// The h2 crate itself, against hyper's server.
async fn ask_h2(patience: Patience) -> Result<(), Error> {
    let (client, connection) = h2::client::handshake(connect().await?).await?;
    tokio::spawn(connection);
    let ask = |path: &str| {
        let request = Request::post(format!("http://server{path}")).body(());
        let client = client.clone();
        async move {
            let mut client = client.ready().await?;
            let (answer, mut body) = client.send_request(request?, false)?;
            body.send_data(much().into(), true)?;
            let mut stream = answer.await?.into_body();
            let mut got = Vec::new();
            while let Some(data) = stream.data().await {
                let data = data?;
                stream.flow_control().release_capacity(data.len())?;
                got.extend_from_slice(&data);
            }
            Ok::<_, Error>(got)
        }
    };
    assert_eq!(ask("/echo").await?, much());
    patience.runs_out(ask("/slow")).await;
    Ok(())
}

#[test]
fn http1_by_hyper_utils_client() {
    in_virtual_time(Bytes::Same, serve_http1, ask_http1);
    on_threads(serve_http1, ask_http1);
}

#[test]
fn http2_by_hyper_utils_client() {
    in_virtual_time(Bytes::Same, serve_http2, ask_http2);
    on_threads(serve_http2, ask_http2);
}

#[test]
fn http2_by_h2() {
    in_virtual_time(Bytes::Same, serve_http2, ask_h2);
    on_threads(serve_http2, ask_h2);
}
