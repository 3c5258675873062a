//! The table of states, drawn from what the code does: every state's answer to every kind of segment and to every call, and
//! the state that follows. It is `docs/tcp-states.md`; `VNET_GOLDEN=update` writes it. What RFCs ask of it is in
//! `answers.rs`, row by row.

use std::fmt::Write as _;
use std::path::Path;

use super::fuzz::prepare;
use super::*;

/// B's states, in the order of the columns.
const STATES: [(&str, Way); 12] = [
    ("CLOSED", Way::Nothing),
    ("LISTEN", Way::Listens),
    ("SYN-SENT", Way::Prepared(0)),
    ("SYN-RECEIVED, listener's", Way::Prepared(1)),
    ("SYN-RECEIVED, both open", Way::Both),
    ("ESTABLISHED", Way::Prepared(2)),
    ("FIN-WAIT-1", Way::Prepared(3)),
    ("FIN-WAIT-2", Way::Prepared(4)),
    ("CLOSE-WAIT", Way::Prepared(5)),
    ("LAST-ACK", Way::Prepared(6)),
    ("CLOSING", Way::Prepared(7)),
    ("TIME-WAIT", Way::Prepared(8)),
];

/// How a state is reached.
#[derive(Clone, Copy, Debug)]
enum Way {
    Nothing,
    Listens,
    Prepared(u8),
    Both,
}

/// B in a state, and what a segment of A is measured by.
struct Scene {
    w: World,
    b: Option<ConnId>,
    a_port: u16,
    b_port: u16,
    /// What B expects next, and the end of its window.
    next: u32,
    edge: u32,
    /// What B sends next.
    sent: u32,
    timestamp: Option<(u32, u32)>,
}

impl Scene {
    fn new(way: Way) -> Scene {
        let mut w = World::with(3, Net::default(), TcpConfig::default());
        let b = match way {
            Way::Nothing => None,
            Way::Listens => {
                w.listen(B, 80, 4);
                None
            }
            Way::Prepared(state) => prepare(&mut w, state),
            Way::Both => prepare(&mut w, 0),
        };
        let said = w.trace.iter().rfind(|t| t.1 == B).map(|t| t.2);
        let mut scene = Scene {
            b,
            a_port: said.map_or(4000, |h| h.dst_port),
            b_port: said.map_or(80, |h| h.src_port),
            next: 7001,
            edge: 7001 + 0xffff,
            sent: 5000,
            timestamp: None,
            w,
        };
        if let Way::Both = way {
            scene.give(SYN, Acks::None, Number::Before, 0);
        }
        scene.look();
        scene
    }

    /// Takes the numbers from the connection, or else from what B said last.
    fn look(&mut self) {
        let w = &self.w;
        let said = w.trace.iter().rfind(|t| t.1 == B).map(|t| t.2);
        let c = self.b.and_then(|b| w.hosts[B].tcp.connections.get(b));
        if let Some(h) = said {
            let echo = c.as_ref().and_then(|c| c.negotiated.ts).map(|ts| ts.recent);
            let known = h.options.timestamp;
            self.timestamp = known.map(|(value, seen)| (echo.unwrap_or(seen), value));
            self.sent = h.seq.wrapping_add(u32::from(h.flags.has(SYN)));
            if let Some(ack) = h.ack {
                (self.next, self.edge) = (ack, ack.wrapping_add(u32::from(h.window)));
            }
        }
        if let Some(c) = c {
            self.sent = c.snd.nxt.0;
            if c.rcv.nxt != c.rcv.advertised {
                (self.next, self.edge) = (c.rcv.nxt.0, c.rcv.advertised.0);
            }
        }
    }

    fn give(&mut self, flags: TcpFlags, acks: Acks, number: Number, len: usize) {
        let seq = match number {
            // The peer's SYN, which has a number of its own.
            Number::Before if flags.has(SYN) => self.next.wrapping_sub(1),
            Number::Before => self.next.wrapping_sub(1 + len as u32),
            Number::Next => self.next,
            Number::Ahead => self.next.wrapping_add(100),
            Number::Beyond => self.edge.wrapping_add(1 << 30),
        };
        let ack = match acks {
            Acks::None => None,
            Acks::All => Some(self.sent),
            Acks::Unsent => Some(self.sent.wrapping_add(1)),
        };
        let header = TcpHeader {
            src_port: self.a_port,
            dst_port: self.b_port,
            seq,
            ack,
            flags,
            window: 1000,
            urgent: 0,
            options: crate::packet::header::TcpOptions {
                timestamp: self.timestamp,
                ..Default::default()
            },
        };
        let (src, dst) = (self.w.addr(A, self.a_port), self.w.addr(B, self.b_port));
        self.w.net.loss = 1.0;
        let data = Payload::from(vec![1; len]);
        self.w.deliver(B, arriving(src, dst, header, data));
    }

    fn state(&self) -> TcpState {
        let tcp = &self.w.hosts[B].tcp;
        let held = self.b.and_then(|b| self.w.state(B, b));
        let rest = tcp.sockets().iter().map(|s| s.state).next_back();
        held.or(rest).unwrap_or(TcpState::Closed)
    }

    /// What `act` makes B say, and the state after it if it is another.
    fn cell(mut self, act: impl FnOnce(&mut Scene)) -> String {
        let before = self.state();
        self.w.trace.clear();
        self.w.net.loss = 1.0;
        act(&mut self);
        let mut said: Vec<String> = Vec::new();
        for (_, host, h, len) in &self.w.trace {
            assert_eq!(*host, B);
            let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST")];
            let names = names.iter().filter(|(flag, _)| h.flags.has(*flag));
            let mut all: Vec<&str> = names.map(|(_, name)| *name).collect();
            if h.ack.is_some() && !h.flags.has(RST) {
                all.push("ACK");
            }
            if *len > 0 {
                all.push("data");
            }
            said.push(all.join("+"));
        }
        let after = self.state();
        if after != before {
            said.push(format!("→ {}", after.as_str().to_uppercase()));
        }
        match said.is_empty() {
            true => "-".into(),
            false => said.join(" "),
        }
    }
}

const NONE: TcpFlags = TcpFlags::NONE;
const FIN: TcpFlags = TcpFlags::FIN;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;

#[derive(Clone, Copy, Debug)]
enum Acks {
    None,
    All,
    Unsent,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Before,
    Next,
    Ahead,
    Beyond,
}

/// Every kind of segment, with its words.
fn segments() -> Vec<(String, TcpFlags, Acks, Number, usize)> {
    let mut all = Vec::new();
    for (name, flags) in [("", NONE), ("FIN ", FIN), ("SYN ", SYN), ("RST ", RST)] {
        for (acks, acknowledges) in [
            (Acks::All, "ACK "),
            (Acks::None, ""),
            (Acks::Unsent, "ACK of what was not sent "),
        ] {
            for len in [0, 5] {
                let data = if len > 0 { "data " } else { "" };
                for (number, place) in [
                    (Number::Next, "next"),
                    (Number::Before, "old"),
                    (Number::Ahead, "ahead"),
                    (Number::Beyond, "outside"),
                ] {
                    let kind = format!("{name}{acknowledges}{data}");
                    let kind = if kind.is_empty() { "nothing " } else { &kind };
                    all.push((format!("{kind}| {place}"), flags, acks, number, len));
                }
            }
        }
    }
    all
}

type Call = (&'static str, fn(&mut Scene, ConnId));

/// What a program does with the socket of a connection.
const CALLS: [Call; 5] = [
    ("write", |s, b| {
        let _ = s.w.write(B, b, b"data");
    }),
    ("read", |s, b| {
        let _ = s.w.read(B, b, 100);
    }),
    ("shut down writing", |s, b| {
        let how = std::net::Shutdown::Write;
        let _ = s.w.on(B, |tcp, cx| tcp.shutdown(cx, b, how));
    }),
    ("close", |s, b| s.w.close(B, b)),
    ("close, with a linger time of zero", |s, b| {
        let _ = s.w.on(B, |tcp, cx| {
            tcp.set_options(cx, b, |options| options.linger = Some(Duration::ZERO))
        });
        s.w.close(B, b);
    }),
];

fn drawn() -> String {
    let mut text = String::from(HEAD);
    let head = |text: &mut String, first: &str| {
        let names: Vec<&str> = STATES.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(text, "| {first} | {} |", names.join(" | "));
        let columns = first.split('|').count() + names.len();
        let _ = writeln!(text, "|{}", "---|".repeat(columns));
    };
    head(&mut text, "segment | number");
    for (name, flags, acks, number, len) in segments() {
        let cells: Vec<String> = STATES
            .iter()
            .map(|(_, way)| Scene::new(*way).cell(|s| s.give(flags, acks, number, len)))
            .collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text.push_str(CALLED);
    head(&mut text, "call");
    for (name, call) in CALLS {
        let cells: Vec<String> = STATES
            .iter()
            .map(|(_, way)| {
                let scene = Scene::new(*way);
                match scene.b {
                    Some(b) => scene.cell(|s| call(s, b)),
                    None => String::new(),
                }
            })
            .collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

const HEAD: &str = "# The states of TCP

Drawn from the code by a test (`vnet/src/transport/tcp/tests/states.rs`), which fails when this page is no longer what the
code does; `VNET_GOLDEN=update cargo test -p vnet --lib tcp::tests::states` draws it again. The rules behind it are sections
3.10.7.1 to 3.10.7.4 of RFC 9293, sections 3 to 5 of RFC 5961, and RFC 1337.

## Segments

What a connection in each state answers at once to each kind of segment, and the state that follows where it is another one.
The number of a segment is the one that is expected next, an old one (of a SYN: that of the peer's SYN), one ahead in the
window, or one outside the window. Before there is a connection, numbers mean nothing. `-` is no answer. Data that is expected
is acknowledged with the next segment, or 40 ms later.

";

const CALLED: &str = "
## Calls

What leaves at once when a program makes a call, and the state that follows. A closed socket is gone: its connection goes on
without it, in the state of its row above.

";

#[test]
fn the_table_of_states_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tcp-states.md");
    let now = drawn();
    if std::env::var_os("VNET_GOLDEN").is_some_and(|v| v == "update") {
        std::fs::write(&path, &now).expect("the page can be written");
    }
    let page = std::fs::read_to_string(&path).expect("the page is there");
    for (line, (is, was)) in now.lines().zip(page.lines()).enumerate() {
        assert_eq!(is, was, "{}:{}", path.display(), line + 1);
    }
    assert_eq!(
        now.len(),
        page.len(),
        "{} is shorter or longer",
        path.display()
    );
}
