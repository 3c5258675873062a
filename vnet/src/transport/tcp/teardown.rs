//! The teardown of TCP in a vnet: if there is time, connections end by themselves; then everything that is left is
//! released at once and counted.

use std::net::Shutdown;

use super::Tcp;
use super::connection::Env;
use super::requests::{Of, Requests};
use crate::packet::Cx;
use crate::transport::error::SocketError;

impl Tcp {
    /// Begins to end everything: listeners close, and each connection sends what was written and
    /// then its FIN. Connections that nobody has accepted are reset.
    pub(crate) fn drain(&mut self, cx: &mut Cx<'_>) {
        let listeners: Vec<_> = self.listeners.iter().map(|(id, _)| id).collect();
        for id in listeners {
            self.close_listener(cx, id);
        }
        let connections: Vec<_> = self.connections.ids().collect();
        for id in connections {
            // One that is over already has nothing to end.
            let _ = self.shutdown(cx, id, Shutdown::Write);
        }
    }

    /// Connections, half-open ones included, that are not over: TIME-WAIT is, and so is what a
    /// socket may still read after it.
    pub(crate) fn open_connections(&self) -> usize {
        self.by_tuple.len() - self.time_wait.len()
    }

    /// Releases everything and wakes every waiter. Each peer gets a reset, through
    /// [`Tcp::poll_transmit`]; identifiers resolve to nothing from now on
    /// ([`SocketError::Gone`]).
    pub(crate) fn teardown(&mut self, cx: &mut Cx<'_>) {
        // A new field must be thought about here.
        let Tcp {
            config,
            socket_limit: _,
            has_grown: _,
            stats,
            secret: _,
            by_tuple,
            connections,
            orphans,
            half_open,
            requests,
            time_wait,
            cookies_until: _,
            fast_open,
            listeners,
            ports,
            local_use,
            deadlines,
            shared_options,
            replies,
        } = self;
        half_open.drain().for_each(drop);
        time_wait.drain().for_each(drop);
        *replies = Default::default();
        *requests = Requests::new(Of::TheVnet);
        deadlines.reset();
        *fast_open = None;
        *shared_options = Default::default();
        *orphans = 0;
        by_tuple.reset();
        local_use.reset();
        ports.reset();
        for (_, mut l) in listeners.drain() {
            l.waiters.wake_all(cx.out);
        }
        for mut c in connections.drain() {
            if c.is_known_to_peer() {
                // Each peer is told: there are no more of them than connections here.
                stats.resets_out += 1;
                replies.push_back(c.reset(cx.now));
            }
            let mut env = Env::new(config, stats, cx);
            c.finish(&mut env, Some(SocketError::Gone));
        }
    }
}
