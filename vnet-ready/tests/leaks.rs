//! Nothing of what is watched outlives it. The only test here, because it counts the descriptors of the process.

use std::time::Duration;

use vnet::System;
use vnet::net::{Interest, TcpListener, TcpStream, UdpSocket};
use vnet_ready::Ready;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_sockets_and_ports_are_given_back() {
    let system = System::virtual_time(1);
    let a = system.create("a").unwrap();
    let before = descriptors();
    for round in 0..100 {
        let ready = Ready::new().unwrap();
        assert_eq!(descriptors(), before + 1, "one, however many are watched");
        let both = [Interest::Read, Interest::Write];
        let listener = TcpListener::bind_in(&a, "127.0.0.1:80").unwrap();
        let listener = ready.watch(listener, 0, &both);
        let client = TcpStream::connect_in(&a, "127.0.0.1:80").unwrap();
        let client = ready.watch(client, 1, &both);
        // The last segment of the handshake is on its way.
        system.run_for(Duration::from_millis(1)).unwrap();
        let served = ready.watch(listener.accept().unwrap().0, 2, &both);
        let name = format!("eth{round}");
        let port = ready.watch(a.port(&name, None).unwrap(), 3, &both);
        let udp = UdpSocket::bind_in(&a, "127.0.0.1:53").unwrap();
        let watched = [1, 2].map(|n| ready.watch(udp.clone(), 3 + n, &[Interest::Read]));
        let mut events = Vec::new();
        ready.events(&mut events);
        let tokens: Vec<usize> = events.iter().map(|event| event.token).collect();
        assert_eq!(tokens, [1, 2, 3]);

        // Either may go first.
        match round % 2 {
            0 => drop((ready, listener, client, served, port, watched)),
            _ => {
                drop((listener, client, served, port, watched));
                assert!(format!("{ready:?}").contains("watched: 0"), "{ready:?}");
                drop(ready);
            }
        }
        assert_eq!(descriptors(), before);
        a.remove_interface(&name).unwrap();
        drop(udp);
        // TIME-WAIT, too.
        system.run_for(Duration::from_secs(600)).unwrap();
        let sockets = a.inspect().unwrap().sockets;
        assert!(sockets.is_empty(), "{sockets:?}");
    }
}
