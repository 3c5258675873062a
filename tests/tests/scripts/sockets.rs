//! The sockets that a script opens, and what it sets on them.

use std::time::Duration;

use vnet::net::{EchoSocket, RawSocket, TcpListener, TcpStream, UdpSocket};

/// The sockets of one vnet; they may outlive it.
#[derive(Default)]
pub(crate) struct Sockets {
    pub udp: Vec<UdpSocket>,
    pub echo: Vec<EchoSocket>,
    pub raw: Vec<RawSocket>,
    pub listeners: Vec<TcpListener>,
    pub streams: Vec<TcpStream>,
}

pub(crate) fn pick<T>(from: &[T], n: usize) -> Option<&T> {
    match from.len() {
        0 => None,
        len => from.get(n % len),
    }
}

impl Sockets {
    /// Sets an option on a stream, and on each socket of another kind whether its packets may be cut.
    pub(crate) fn set_options(&self, n: usize, which: u8) {
        pick(&self.streams, n).map(|s| set_option(s, which));
        let whole = which.is_multiple_of(2);
        pick(&self.udp, n).map(|s| s.set_dont_fragment(whole));
        pick(&self.echo, n).map(|s| s.set_dont_fragment(whole));
        pick(&self.raw, n).map(|s| s.set_dont_fragment(whole));
    }

    pub(crate) fn close(&mut self, n: usize) {
        fn one<T>(from: &mut Vec<T>, n: usize) {
            if !from.is_empty() {
                from.swap_remove(n % from.len());
            }
        }
        match n % 5 {
            0 => one(&mut self.udp, n / 5),
            1 => one(&mut self.echo, n / 5),
            2 => one(&mut self.raw, n / 5),
            3 => one(&mut self.listeners, n / 5),
            _ => one(&mut self.streams, n / 5),
        }
    }
}

fn set_option(s: &TcpStream, which: u8) -> std::io::Result<()> {
    match which {
        0 => s.set_nodelay(true),
        1 => s.set_keepalive(true),
        2 => s.set_linger(Some(Duration::ZERO)),
        3 => s.set_linger(Some(Duration::from_secs(1))),
        4 => s.set_ttl(1),
        5 => s.set_ttl(64),
        6 => s.take_error().map(drop),
        _ => s.set_nodelay(false),
    }
}
