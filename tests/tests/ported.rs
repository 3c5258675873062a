//! Promise: a program written for `std::net` runs in a vnet, in virtual time, when one `use` line is changed.

use std::time::Duration;

use vnet::{LinkConfig, System};

mod on_the_host {
    use std::{net, thread};
    include!("ported/http.rs");
}

mod in_a_vnet {
    use vnet::{net, thread};
    include!("ported/http.rs");
}

fn requests(n: usize) -> Vec<String> {
    let post = format!("POST /echo HTTP/1.1\r\ncontent-length: 5\r\n\r\n{n:05}");
    let put =
        "PUT /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n");
    vec![
        get("/"),
        post,
        put.to_owned(),
        get(&format!("/bytes/{}", 10_000 * n)),
        get("/bytes/many"),
        get("/nothing"),
        "DELETE / HTTP/1.1\r\n\r\n".to_owned(),
        "HEAD / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(),
    ]
}

const CLIENTS: usize = 8;

type Answers = Vec<Vec<(u16, Vec<u8>)>>;

fn on_the_host() -> (usize, Answers) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = listener.local_addr().expect("bound");
    let serving = std::thread::spawn(move || on_the_host::serve(listener, CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| std::thread::spawn(move || on_the_host::ask(server, &requests(n))))
        .collect();
    let answers = clients.into_iter().map(|c| c.join().unwrap().unwrap());
    let answers = answers.collect();
    (serving.join().unwrap().unwrap(), answers)
}

/// Runs it over a link that delays and loses, and says what came of it, with the fingerprint and the time that it took.
fn in_a_vnet(seed: u64) -> (usize, Answers, String) {
    let system = System::virtual_time(seed);
    system.record_fingerprint();
    let [a, b] = ["a", "b"].map(|name| system.create(name).unwrap());
    a.epair("eth0", &b, "eth0").unwrap();
    a.add_address("eth0", "192.0.2.1/24".parse().unwrap())
        .unwrap();
    b.add_address("eth0", "192.0.2.2/24".parse().unwrap())
        .unwrap();
    let slow = LinkConfig {
        delay: Duration::from_millis(40),
        loss: 0.01.into(),
        ..LinkConfig::default()
    };
    a.set_link("eth0", slow.clone()).unwrap();
    b.set_link("eth0", slow).unwrap();
    let listener = vnet::net::TcpListener::bind_in(&b, "0.0.0.0:80").unwrap();
    let serving = b
        .spawn(move || in_a_vnet::serve(listener, CLIENTS))
        .unwrap();
    let server = "192.0.2.2:80".parse().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            a.spawn(move || in_a_vnet::ask(server, &requests(n)))
                .unwrap()
        })
        .collect();
    let answers = clients.into_iter().map(|c| c.join().unwrap().unwrap());
    let answers = answers.collect();
    let served = serving.join().unwrap().unwrap();
    let print = format!("{:?} at {:?}", system.fingerprint(), system.now());
    (served, answers, print)
}

#[test]
fn an_http_server_with_a_thread_for_each_connection_answers_the_same_twice() {
    let (served, answers) = on_the_host();
    assert_eq!(served, CLIENTS * 8);
    let statuses: Vec<_> = answers[3].iter().map(|a| a.0).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 400, 404, 405, 200]);
    assert_eq!(answers[3][3].1.len(), 30_000);
    let first = in_a_vnet(7);
    assert_eq!((first.0, &first.1), (served, &answers));
    let second = in_a_vnet(7);
    assert_eq!(first.2, second.2);
    assert_ne!(first.2, in_a_vnet(8).2);
}

#[test]
fn a_thread_that_belongs_to_no_vnet_is_refused_with_what_to_do() {
    let refused = std::panic::catch_unwind(|| vnet::thread::spawn(|| ()));
    let message = refused.err().expect("no vnet is current");
    let message = message.downcast_ref::<String>().expect("text");
    assert!(message.contains("vnet.enter()"), "{message}");
}
