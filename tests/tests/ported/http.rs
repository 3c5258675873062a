// An HTTP/1.1 server with a thread for each connection, and a client, as programs for `std::net` and `std::thread` are
// written. The file that includes this one says where `net` and `thread` come from; nothing else is different.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// Longest line of a request or response.
const MAX_LINE: u64 = 8192;
/// Largest body that is taken.
const MAX_BODY: usize = 1 << 20;

/// What was asked for.
#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Why a request was not answered as it was meant.
enum Trouble {
    /// Nothing came any more: the connection is over.
    Over,
    /// The answer to what cannot be understood.
    Status(u16, &'static str),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

/// Serves `requests` connections, each on a thread of its own, and says how many requests there were.
pub(super) fn serve(listener: TcpListener, connections: usize) -> io::Result<usize> {
    let served = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for stream in listener.incoming().take(connections) {
        let (stream, served) = (stream?, Arc::clone(&served));
        threads.push(thread::spawn(move || {
            // A client that goes away is no trouble of the server's.
            let _ = connection(stream, &served);
        }));
    }
    for thread in threads {
        thread.join().expect("a connection's thread does not panic");
    }
    Ok(served.load(Ordering::SeqCst))
}

fn connection(stream: TcpStream, served: &AtomicUsize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = BufWriter::new(&stream);
    loop {
        let (status, reason, body, keep) = match request(&mut reader) {
            Ok(request) => {
                served.fetch_add(1, Ordering::SeqCst);
                let keep = request.headers.get("connection").is_none_or(|c| c != "close");
                let (status, reason, body) = answer(&request);
                let body = if request.method == "HEAD" { Vec::new() } else { body };
                (status, reason, body, keep)
            }
            Err(Trouble::Over) => break,
            Err(Trouble::Io(error)) => return Err(error),
            Err(Trouble::Status(status, reason)) => (status, reason, Vec::new(), false),
        };
        let keep_text = if keep { "keep-alive" } else { "close" };
        write!(writer, "HTTP/1.1 {status} {reason}\r\n")?;
        write!(writer, "content-length: {}\r\nconnection: {keep_text}\r\n\r\n", body.len())?;
        writer.write_all(&body)?;
        writer.flush()?;
        if !keep {
            break;
        }
    }
    drop(writer);
    stream.shutdown(Shutdown::Write)
}

/// What is answered: a greeting, an echo, so many bytes, or that there is nothing.
fn answer(request: &Request) -> (u16, &'static str, Vec<u8>) {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => (200, "OK", b"hello\n".to_vec()),
        ("POST" | "PUT", "/echo") => (200, "OK", request.body.clone()),
        ("GET", path) => match path.strip_prefix("/bytes/").map(str::parse) {
            Some(Ok(n)) if n <= MAX_BODY => (200, "OK", (0..n).map(|i| i as u8).collect()),
            Some(_) => (400, "Bad Request", Vec::new()),
            None => (404, "Not Found", Vec::new()),
        },
        _ => (405, "Method Not Allowed", Vec::new()),
    }
}

fn line(reader: &mut impl BufRead) -> Result<String, Trouble> {
    let mut text = String::new();
    let n = reader.by_ref().take(MAX_LINE).read_line(&mut text)?;
    match (n, text.ends_with('\n')) {
        (0, _) => Err(Trouble::Over),
        (_, false) => Err(Trouble::Status(431, "Request Header Fields Too Large")),
        (_, true) => Ok(text.trim_end().to_owned()),
    }
}

fn headers(reader: &mut impl BufRead) -> Result<BTreeMap<String, String>, Trouble> {
    let mut headers = BTreeMap::new();
    loop {
        let text = line(reader)?;
        if text.is_empty() {
            return Ok(headers);
        }
        let bad = Trouble::Status(400, "Bad Request");
        let (name, value) = text.split_once(':').ok_or(bad)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        if headers.len() > 64 {
            return Err(Trouble::Status(431, "Request Header Fields Too Large"));
        }
    }
}

fn body(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|te| te == "chunked") {
        loop {
            let bad = |_| Trouble::Status(400, "Bad Request");
            let size = usize::from_str_radix(&line(reader)?, 16).map_err(bad)?;
            let start = body.len();
            if start + size > MAX_BODY {
                return Err(Trouble::Status(413, "Content Too Large"));
            }
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..])?;
            line(reader)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = headers.get("content-length") {
        let bad = |_| Trouble::Status(400, "Bad Request");
        let length: usize = length.parse().map_err(bad)?;
        if length > MAX_BODY {
            return Err(Trouble::Status(413, "Content Too Large"));
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    }
    Ok(body)
}

fn request(reader: &mut impl BufRead) -> Result<Request, Trouble> {
    let first = line(reader)?;
    let mut words = first.split_ascii_whitespace();
    let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next())
    else {
        return Err(Trouble::Status(400, "Bad Request"));
    };
    let headers = headers(reader)?;
    let body = body(reader, &headers)?;
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body,
    })
}

/// Makes requests, as they are written, one after the other on one connection, and returns the status and the body of
/// each answer.
pub(super) fn ask(server: SocketAddr, requests: &[String]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "no answer of HTTP/1.1");
    let mut answers = Vec::new();
    for request in requests {
        (&stream).write_all(request.as_bytes())?;
        let first = line(&mut reader).map_err(|_| broken())?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|s| s.parse().ok()).ok_or_else(broken)?;
        let headers = headers(&mut reader).map_err(|_| broken())?;
        answers.push((status, body(&mut reader, &headers).map_err(|_| broken())?));
    }
    stream.shutdown(Shutdown::Write)?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    Ok(answers)
}
