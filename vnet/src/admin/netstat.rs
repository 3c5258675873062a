//! What the protocols of an instance have counted, as `netstat -s` shows it.

use std::fmt;

use crate::instance::phase::Gone;
use crate::instance::vnet::Vnet;
use crate::neigh::verdict::NeighStats;
use crate::transport::tcp::TcpStats;
use crate::transport::udp::UdpStats;

/// The counters of an instance's protocols since it was made. Its `Display` reads like `netstat -s`.
/// What crossed the interfaces, and why packets were dropped, is in [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolStats {
    /// TCP.
    pub tcp: TcpStats,
    /// UDP.
    pub udp: UdpStats,
    /// Neighbours and their resolution.
    pub neighbours: NeighStats,
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
    /// assert_eq!(counted.udp.sent, 1);
    /// assert!(counted.to_string().contains("\t1 datagrams sent\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Gone`].
    pub fn protocol_stats(&self) -> Result<ProtocolStats, Gone> {
        self.core.with(|stack, _| ProtocolStats {
            tcp: *stack.tcp.stats(),
            udp: stack.udp.stats(),
            neighbours: stack.neigh.stats(),
        })
    }
}

impl fmt::Display for ProtocolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`: a counter that is added has to be shown.
        let TcpStats {
            segments_in,
            segments_out,
            bytes_in,
            bytes_out,
            active_opens,
            passive_opens,
            failed_opens,
            resets_in,
            resets_out,
            retransmits,
            retransmitted_bytes,
            timeouts,
            fast_recoveries,
            dup_acks_in,
            out_of_order,
            duplicates_in,
            challenge_acks,
            challenge_acks_limited,
            paws_drops,
            window_probes,
            keepalive_probes,
            timed_out,
            backlog_full,
            half_open_given_up,
            time_waits,
        } = self.tcp;
        let tcp = [
            (segments_in, "segments received"),
            (segments_out, "segments sent"),
            (bytes_in, "bytes received in order"),
            (bytes_out, "bytes sent"),
            (active_opens, "connections requested"),
            (passive_opens, "connections accepted"),
            (failed_opens, "connection attempts failed"),
            (resets_in, "connections reset by the peer"),
            (resets_out, "resets sent"),
            (retransmits, "segments retransmitted"),
            (retransmitted_bytes, "bytes retransmitted"),
            (timeouts, "retransmission timeouts"),
            (fast_recoveries, "fast recoveries"),
            (dup_acks_in, "duplicate acknowledgements received"),
            (out_of_order, "segments received out of order"),
            (duplicates_in, "duplicate segments received"),
            (challenge_acks, "challenge acknowledgements sent"),
            (
                challenge_acks_limited,
                "challenge acknowledgements held back by the rate limit",
            ),
            (paws_drops, "segments with an old timestamp"),
            (window_probes, "window probes sent"),
            (keepalive_probes, "keepalive probes sent"),
            (timed_out, "connections timed out"),
            (backlog_full, "requests refused by a full backlog"),
            (half_open_given_up, "half-open requests given up"),
            (time_waits, "connections in TIME-WAIT, ever"),
        ];
        let UdpStats {
            delivered,
            no_socket,
            buffer_full,
            sent,
        } = self.udp;
        let udp = [
            (delivered, "datagrams received"),
            (no_socket, "datagrams to a port without a socket"),
            (buffer_full, "datagrams dropped by a full receive buffer"),
            (sent, "datagrams sent"),
        ];
        let NeighStats {
            requests,
            failures,
            evicted,
            conflicts,
        } = self.neighbours;
        let neighbours = [
            (requests, "requests sent"),
            (failures, "resolutions without an answer"),
            (evicted, "neighbours removed to make room"),
            (conflicts, "conflicts over an address"),
        ];
        for (name, lines) in [
            ("tcp", &tcp[..]),
            ("udp", &udp[..]),
            ("neighbours", &neighbours[..]),
        ] {
            writeln!(f, "{name}:")?;
            for (count, what) in lines {
                writeln!(f, "\t{count} {what}")?;
            }
        }
        Ok(())
    }
}
