//! Public crates, unmodified, on a vnet's sockets: hyper on both sides and axum, across a link with loss, in virtual
//! time.

mod common;

use std::convert::Infallible;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};
use vnet::{Fingerprint, LinkConfig, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends `request` on a connection of its own, and returns what is answered.
async fn ask(
    to: impl ToSocketAddrs,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Error> {
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let (status, body) = (response.status(), response.into_body().collect().await?);
    drop(sender);
    connection.await??;
    Ok((status, body.to_bytes()))
}

fn request(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let builder = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "server");
    builder.body(Full::from(body)).unwrap()
}

/// Answers with the length of what it was sent, after as many milliseconds.
async fn count(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::new(Full::from("cut off")));
    };
    let length = body.to_bytes().len();
    sleep(Duration::from_millis(length as u64)).await;
    Ok(Response::new(Full::from(length.to_string())))
}

/// hyper on both sides, over a link with `link`; what the run was, and how long it took.
fn hyper_on_both_sides(seed: u64) -> (Fingerprint, Duration) {
    let system = System::virtual_time(seed);
    system.record_fingerprint();
    let (a, b) = common::pair(&system, &common::lossy());
    let server = Runtime::new(&b).unwrap();
    server.spawn(async {
        let listener = TcpListener::bind("192.0.2.2:80").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let service = service_fn(count);
                let mut connection = hyper::server::conn::http1::Builder::new();
                // The date would be the wall clock's.
                connection.auto_date_header(false);
                connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let client = Runtime::new(&a).unwrap();
    let done = client.block_on(async {
        let start = Instant::now();
        // Four at once, and large enough to lose something.
        let asked: Vec<_> = (1..=4)
            .map(|n| {
                let request = request("/count", vec![7; n * 20_000]);
                tokio::spawn(ask("192.0.2.2:80", request))
            })
            .collect();
        for (asked, n) in asked.into_iter().zip(1..) {
            let (status, body) = asked.await??;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(body, (n * 20_000).to_string());
        }
        // What takes longer than it may.
        let slow = ask("192.0.2.2:80", request("/count", vec![7; 5000]));
        let before = Instant::now();
        assert!(timeout(Duration::from_secs(3), slow).await.is_err());
        assert_eq!(before.elapsed(), Duration::from_secs(3));
        Ok::<_, Error>(start.elapsed())
    });
    let took = done.unwrap().unwrap();
    (system.fingerprint().unwrap(), took)
}

#[test]
fn hyper_twice_is_the_same_run() {
    let (first, took) = hyper_on_both_sides(1);
    assert!(
        took > Duration::from_secs(83),
        "the slowest answer, and the one that is too slow: {took:?}"
    );
    assert_eq!((first, took), hyper_on_both_sides(1));
    assert_ne!(first, hyper_on_both_sides(2).0);
}

/// hyper adds the wall clock's date to answers without one.
async fn dated(mut response: axum::response::Response) -> axum::response::Response {
    let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
    response.headers_mut().insert(header::DATE, date);
    response
}

async fn slow() -> &'static str {
    sleep(Duration::from_secs(30)).await;
    "at last"
}

fn greeter() -> Router {
    let hello = |Path(name): Path<String>| async move { format!("hello, {name}") };
    let length = |body: String| async move { body.len().to_string() };
    Router::new()
        .route("/hello/{name}", get(hello))
        .route("/length", post(length))
        .route("/slow", get(slow))
        .layer(axum::middleware::map_response(dated))
}

/// axum under load, over a link with loss.
fn axum_over_a_lossy_link(seed: u64) -> Result<Fingerprint, Error> {
    let system = System::virtual_time(seed);
    system.record_fingerprint();
    let (a, b) = common::pair(&system, &common::lossy());
    let server = Runtime::new(&b)?;
    server.spawn(async {
        let listener = TcpListener::bind("192.0.2.2:80").await?;
        axum::serve(listener, greeter()).await
    });
    let client = Runtime::new(&a)?;
    client.block_on(async {
        let get = |path: &str| {
            let request = Request::builder().uri(path).header("host", "server");
            ask("192.0.2.2:80", request.body(Full::default()).unwrap())
        };
        assert_eq!(
            get("/hello/world").await?,
            (StatusCode::OK, "hello, world".into())
        );
        assert_eq!(get("/nowhere").await?.0, StatusCode::NOT_FOUND);
        let sent = ask("192.0.2.2:80", request("/length", vec![b'x'; 100_000])).await?;
        assert_eq!(sent.1, "100000");
        assert!(timeout(Duration::from_secs(5), get("/slow")).await.is_err());
        let start = Instant::now();
        assert_eq!(get("/slow").await?.1, "at last");
        assert!(start.elapsed() >= Duration::from_secs(30));
        Ok::<_, Error>(())
    })??;
    Ok(system.fingerprint().expect("it was switched on"))
}

#[test]
fn axum_twice_is_the_same_run() {
    let first = axum_over_a_lossy_link(7).unwrap();
    assert_eq!(first, axum_over_a_lossy_link(7).unwrap());
    assert_ne!(first, axum_over_a_lossy_link(8).unwrap());
}

/// Keeps every processor busy until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = || {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Load {
            threads: (0..processors).map(|_| busy()).collect(),
            stop,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// This test, run by others in processes of their own, says its fingerprint. Of `VNET_ASYNC_RUNS` processes (4 if it
/// is not set), one half has the machine for itself as far as this test goes, one after the other; those of the other
/// half run at once, beside as many busy loops as there are processors.
#[test]
fn axum_in_processes_is_the_same_run() {
    const ASKED: &str = "VNET_TOKIO_TEST_SAYS_FINGERPRINT";
    let mine = axum_over_a_lossy_link(3).unwrap().to_string();
    if std::env::var_os(ASKED).is_some() {
        println!("fingerprint {mine}");
        return;
    }
    let runs: u32 = std::env::var("VNET_ASYNC_RUNS").map_or(4, |runs| runs.parse().unwrap());
    let this = std::env::current_exe().unwrap();
    let begin = || {
        let mut child = Command::new(&this);
        let name = "axum_in_processes_is_the_same_run";
        child.args([name, "--exact", "--nocapture"]);
        let piped = Stdio::piped();
        child.env(ASKED, "1").stdout(piped).spawn().unwrap()
    };
    let end = |child: Child| {
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let theirs = said
            .split_once("fingerprint ")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        assert_eq!(theirs, Some(mine.as_str()), "{said}");
    };
    for _ in 0..runs / 2 {
        end(begin());
    }
    let _load = Load::new();
    let children: Vec<_> = (runs / 2..runs).map(|_| begin()).collect();
    children.into_iter().for_each(end);
}

#[test]
fn axum_with_threads() {
    let system = System::threads();
    let (a, b) = common::pair(&system, &LinkConfig::default());
    let server = Runtime::new(&b).unwrap();
    let listener = server
        .block_on(TcpListener::bind("192.0.2.2:80"))
        .unwrap()
        .unwrap();
    server.spawn(async { axum::serve(listener, greeter()).await });
    let client = Runtime::new(&a).unwrap();
    let request = Request::builder()
        .uri("/hello/threads")
        .header("host", "server");
    let asked = ask("192.0.2.2:80", request.body(Full::default()).unwrap());
    let answer = client.block_on(asked).unwrap().unwrap();
    assert_eq!(answer, (StatusCode::OK, "hello, threads".into()));
}
