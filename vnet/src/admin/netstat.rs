//! What the protocols of an instance have counted, as `netstat -s` shows it.

use std::fmt;

use crate::instance::phase::Gone;
use crate::instance::vnet::Vnet;
use crate::neigh::verdict::NeighStats;
use crate::transport::tcp::TcpStats;
use crate::transport::udp::UdpStats;

/// One counter of a protocol: its name, such as `tcp.retransmits`, what it has counted, and what that
/// is in words.
type Counter = (&'static str, u64, &'static str);

/// The counters of an instance's protocols since it was made. Its `Display` reads like `netstat -s`.
/// What crossed the interfaces, and why packets were dropped, is in [`Stats`](crate::Stats).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolStats {
    counters: Vec<Counter>,
}

impl ProtocolStats {
    /// The counter of that name, such as `tcp.retransmits`; `None` when there is no such counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        let found = self.counters.iter().find(|(known, ..)| *known == name);
        found.map(|(_, count, _)| *count)
    }

    /// All counters with their names, protocol by protocol.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters.iter().map(|(name, count, _)| (*name, *count))
    }
}

/// Lists the counters of a protocol. The pattern has no `..`: a counter that is added has to be shown.
macro_rules! list {
    ($all:ident, $protocol:literal, $stats:expr, $type:ident { $($field:ident: $text:literal,)+ }) => {
        let $type { $($field,)+ } = $stats;
        $all.extend([$((concat!($protocol, ".", stringify!($field)), $field, $text),)+]);
    };
}

fn counters(tcp: TcpStats, udp: UdpStats, neighbours: NeighStats) -> Vec<Counter> {
    let mut all: Vec<Counter> = Vec::new();
    list!(
        all,
        "tcp",
        tcp,
        TcpStats {
            segments_in: "segments received",
            segments_out: "segments sent",
            bytes_in: "bytes received in order",
            bytes_out: "bytes sent",
            active_opens: "connections requested",
            passive_opens: "connections accepted",
            failed_opens: "connection attempts failed",
            resets_in: "connections reset by the peer",
            resets_out: "resets sent",
            retransmits: "segments retransmitted",
            retransmitted_bytes: "bytes retransmitted",
            timeouts: "retransmission timeouts",
            fast_recoveries: "fast recoveries",
            black_holes: "paths taken for ones that drop full segments (RFC 8899)",
            ecn_reductions: "windows reduced because of marks (RFC 3168)",
            ecn_marks_in: "segments received with a mark (RFC 3168)",
            tail_probes: "tail loss probes sent",
            undone_recoveries: "recoveries undone",
            dup_acks_in: "duplicate acknowledgements received",
            out_of_order: "segments received out of order",
            duplicates_in: "duplicate segments received",
            challenge_acks: "challenge acknowledgements sent",
            challenge_acks_limited: "challenge acknowledgements held back by the rate limit",
            paws_drops: "segments with an old timestamp",
            window_probes: "window probes sent",
            keepalive_probes: "keepalive probes sent",
            timed_out: "connections timed out",
            orphans_reset: "connections without a socket reset for being too many",
            backlog_full: "requests refused by a full backlog",
            half_open_given_up: "half-open requests given up",
            cookies_sent: "SYN cookies sent",
            cookies_taken: "SYN cookies that came back",
            cookies_refused: "SYN cookies that were not ours",
            fast_opens_out: "connections opened with data in the SYN (RFC 7413)",
            fast_opens_in: "connections accepted with data in the SYN",
            fast_opens_refused: "cookies of fast opens that were refused",
            time_waits: "connections in TIME-WAIT, ever",
        }
    );
    list!(
        all,
        "udp",
        udp,
        UdpStats {
            delivered: "datagrams received",
            no_socket: "datagrams to a port without a socket",
            buffer_full: "datagrams dropped by a full receive buffer",
            sent: "datagrams sent",
        }
    );
    list!(
        all,
        "neighbours",
        neighbours,
        NeighStats {
            requests: "requests sent",
            failures: "resolutions without an answer",
            evicted: "neighbours removed to make room",
            conflicts: "conflicts over an address",
        }
    );
    all
}

impl Vnet {
    /// What the instance's protocols have counted.
    ///
    /// ```
    /// use vnet::System;
    /// use vnet::net::UdpSocket;
    ///
    /// let system = System::virtual_time(1);
    /// let host = system.create("host")?;
    /// let socket = UdpSocket::bind_in(&host, "127.0.0.1:9")?;
    /// socket.send_to(b"hello", "127.0.0.1:9")?;
    /// let counted = host.protocol_stats()?;
    /// assert_eq!(counted.get("udp.sent"), Some(1));
    /// assert!(counted.to_string().contains("\t1 datagrams sent\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Gone`].
    pub fn protocol_stats(&self) -> Result<ProtocolStats, Gone> {
        self.core.with(|stack, _| ProtocolStats {
            counters: counters(
                *stack.tcp.stats(),
                stack.datagrams.udp.stats(),
                stack.neigh.stats(),
            ),
        })
    }
}

impl fmt::Display for ProtocolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for (name, count, what) in &self.counters {
            let protocol = name.split('.').next().unwrap_or(name);
            if protocol != last {
                writeln!(f, "{protocol}:")?;
                last = protocol;
            }
            writeln!(f, "\t{count} {what}")?;
        }
        Ok(())
    }
}
