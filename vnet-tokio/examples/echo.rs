//! An echo server and its client, written for tokio, on two hosts with a link of 40 ms between them. Ten minutes pass in
//! a moment.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use vnet::{LinkConfig, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::{TcpListener, TcpStream};

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7").await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}

async fn ask() -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect("192.0.2.2:7").await?;
    let mut answer = [0; 5];
    for _ in 0..10 {
        stream.write_all(b"hello").await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        sleep(Duration::from_secs(60)).await;
    }
    Ok(start.elapsed())
}

/// Runs it; says how much time has passed on the network.
pub(crate) fn run() -> Result<Duration, Box<dyn Error>> {
    let system = System::virtual_time(1);
    let (client, server) = (system.create("client")?, system.create("server")?);
    client.epair("eth0", &server, "eth0")?;
    client.add_address("eth0", "192.0.2.1/24".parse()?)?;
    server.add_address("eth0", "192.0.2.2/24".parse()?)?;
    for end in [&client, &server] {
        let link = LinkConfig {
            delay: Duration::from_millis(40),
            ..LinkConfig::default()
        };
        end.set_link("eth0", link)?;
    }
    let running = Runtime::new(&server)?;
    running.spawn(serve());
    Ok(Runtime::new(&client)?.block_on(ask())??)
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Box<dyn Error>> {
    println!("ten echoes in {:?} of the network's time", run()?);
    Ok(())
}
