//! A property of a client, tested on networks that proptest makes up: whatever a link loses, delays and reorders, a
//! client that asks again gets every number once, and in order. A failing case is printed with its seed, and is the same
//! whenever it is run.

use std::io;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::timeout;
use vnet::link::{Jitter, Order};
use vnet::{LinkConfig, System};
use vnet_tokio::Runtime;
use vnet_tokio::net::UdpSocket;

/// Answers each number with its successor.
async fn serve() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:9").await?;
    let mut asked = [0; 8];
    loop {
        let (n, from) = socket.recv_from(&mut asked).await?;
        if n == asked.len() {
            let next = u64::from_be_bytes(asked) + 1;
            socket.send_to(&next.to_be_bytes(), from).await?;
        }
    }
}

/// Counts to `end` with the server's help. It asks again when there is no answer in time, and knows late answers by
/// their number.
async fn count(end: u64) -> io::Result<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect("192.0.2.2:9").await?;
    let (mut number, mut answer) = (0, [0; 8]);
    while number < end {
        socket.send(&u64::to_be_bytes(number)).await?;
        let fresh = async {
            loop {
                socket.recv(&mut answer).await?;
                if u64::from_be_bytes(answer) == number + 1 {
                    return io::Result::Ok(());
                }
            }
        };
        if let Ok(answered) = timeout(Duration::from_millis(200), fresh).await {
            answered?;
            number += 1;
        }
    }
    Ok(number)
}

/// Runs as many cases.
pub(crate) fn run(cases: u32) -> Result<(), Box<dyn std::error::Error>> {
    let networks = (any::<u64>(), 0.0..0.5_f64, 0..80_u64, 0..40_u64);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config).run(&networks, |(seed, loss, delay, jitter)| {
        let link = LinkConfig {
            loss: loss.into(),
            delay: Duration::from_millis(delay),
            jitter: Jitter::Uniform {
                amplitude: Duration::from_millis(jitter),
                order: Order::Free,
            },
            ..LinkConfig::default()
        };
        let counted = on_network(seed, &link).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(counted, 20);
        Ok(())
    })?;
    Ok(())
}

fn on_network(seed: u64, link: &LinkConfig) -> Result<u64, Box<dyn std::error::Error>> {
    let system = System::virtual_time(seed);
    let (client, server) = (system.create("client")?, system.create("server")?);
    client.epair("eth0", &server, "eth0")?;
    client.add_address("eth0", "192.0.2.1/24".parse()?)?;
    server.add_address("eth0", "192.0.2.2/24".parse()?)?;
    client.set_link("eth0", link.clone())?;
    server.set_link("eth0", link.clone())?;
    let running = Runtime::new(&server)?;
    running.spawn(serve());
    Ok(Runtime::new(&client)?.block_on(count(20))??)
}

#[allow(dead_code)] // A test runs the example as a module.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(100)?;
    println!("a hundred networks, and the client got every number");
    Ok(())
}
