//! The sockets of one vnet that are not TCP's: of UDP, raw and for echo. A vnet that has never had one has none of their
//! tables either.

use std::sync::LazyLock;

use super::datagram::Account;
use super::echo::Echo;
use super::raw::Raw;
use super::udp::Udp;
use crate::base::on_use::Part;
use crate::base::rng::Rng;

/// The sockets of all kinds but TCP's.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// UDP sockets.
    pub udp: Udp,
    /// Raw sockets.
    pub raw: Raw,
    /// Echo sockets.
    pub echo: Echo,
}

/// What the randomness of each kind follows from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeds {
    /// That of UDP sockets.
    pub udp: u64,
    /// That of raw sockets.
    pub raw: u64,
    /// That of echo sockets.
    pub echo: u64,
}

impl Part for Datagrams {
    type Seed = Seeds;

    fn seeded(seeds: Seeds) -> Datagrams {
        Datagrams {
            udp: Udp::new(Rng::seeded(seeds.udp)),
            raw: Raw::new(Rng::seeded(seeds.raw)),
            echo: Echo::new(Rng::seeded(seeds.echo)),
        }
    }

    fn unused() -> &'static Datagrams {
        static UNUSED: LazyLock<Datagrams> = LazyLock::new(|| {
            Datagrams::seeded(Seeds {
                udp: 0,
                raw: 0,
                echo: 0,
            })
        });
        &UNUSED
    }
}

impl Datagrams {
    /// How many sockets there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.udp.sockets.len() + self.raw.sockets.len() + self.echo.sockets.len()
    }

    /// What the queues of each kind hold.
    #[inline]
    pub(crate) fn accounts(&self) -> [&Account; 3] {
        [
            self.udp.sockets.account(),
            self.raw.sockets.account(),
            self.echo.sockets.account(),
        ]
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn accounts_mut(&mut self) -> [&mut Account; 3] {
        [
            self.udp.sockets.account_mut(),
            self.raw.sockets.account_mut(),
            self.echo.sockets.account_mut(),
        ]
    }
}
