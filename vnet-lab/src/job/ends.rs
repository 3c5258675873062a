//! A job with two ends, each in a thread of its own. What one of them fails with ends the job: the other, which may wait
//! for something that then never comes, hears of it at once and fails with the same.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use vnet::Vnet;

use super::kind::{Limit, Site, joined, panicked};

/// One end of a job.
#[derive(Clone)]
pub(super) struct End {
    pub(super) vnet: Vnet,
    pub(super) limit: Limit,
}

impl End {
    /// Blocks until `poll` is ready, as long as the job may go on.
    ///
    /// # Errors
    /// Those of `poll`, with this end's name, which then end the job; what else has ended the job.
    pub(super) fn wait<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        self.limit
            .wait(|task| poll(task).map_err(|e| self.failed(&e)))
    }

    /// Ends the job with an error that this end has met; returns what has ended it.
    pub(super) fn failed(&self, error: &io::Error) -> io::Error {
        let said = format!("{}: {error}", self.vnet.name());
        self.limit.failed(io::Error::new(error.kind(), said))
    }
}

/// Runs both ends of a job: `near`, where it starts, in this thread, and `far`, where it goes to. Returns once neither
/// runs any more.
///
/// # Errors
/// What one of them failed with first.
pub(super) fn both<A, B: Send + 'static>(
    site: &Site,
    near: impl FnOnce(&End) -> io::Result<A>,
    far: impl FnOnce(&End) -> io::Result<B> + Send + 'static,
) -> io::Result<(A, B)> {
    let end = |vnet: &Vnet| End {
        vnet: vnet.clone(),
        limit: site.limit.clone(),
    };
    let (here, there) = (end(&site.from), end(&site.to));
    let thread = site.to.spawn(move || run(&there, far))?;
    let near = run(&here, near);
    let far = joined(thread);
    Ok((near?, far?))
}

/// Runs one end; whatever ends it early ends the job.
fn run<T>(end: &End, run: impl FnOnce(&End) -> io::Result<T>) -> io::Result<T> {
    let ended = catch_unwind(AssertUnwindSafe(|| run(end)));
    ended
        .unwrap_or_else(|_| Err(end.failed(&panicked())))
        .map_err(|e| end.limit.failed(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use vnet::System;
    use vnet::net::TcpListener;
    use vnet::time::Instant;

    use super::super::timed::TimedStream;
    use crate::stop::Stop;

    const BREAKS_AT: Duration = Duration::from_secs(2);

    fn site(system: &System, from: &Vnet, to: &Vnet) -> Site {
        Site {
            system: system.clone(),
            from: from.clone(),
            to: to.clone(),
            address: Ipv4Addr::LOCALHOST.into(),
            names: Arc::new(BTreeMap::new()),
            seed: 1,
            limit: Limit::new(system, Duration::from_secs(60), None),
            stop: Stop::default(),
        }
    }

    /// How an end goes wrong, after a while.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        Returned,
        Met,
        Panicked,
    }

    fn goes_wrong(end: &End, system: &System, how: Wrong) -> io::Result<()> {
        system.sleep(BREAKS_AT)?;
        match how {
            Wrong::Returned => Err(io::Error::other("it broke")),
            Wrong::Met => end.wait(|_| Poll::Ready(Err(io::Error::other("it broke")))),
            Wrong::Panicked => panic!("this panic is part of a test"),
        }
    }

    /// What an end waits for in vain.
    #[derive(Clone, Copy, Debug)]
    enum Waits {
        ForSomebody,
        ToBeHeard,
        ToRead,
        ForNothing,
    }

    fn waits(end: &End, what: Waits) -> io::Result<()> {
        // Here nobody answers: the vnet has a wire, and nothing at its end.
        let nobody = SocketAddr::from(([192, 0, 2, 9], 9));
        let here = SocketAddr::from(([127, 0, 0, 1], 9));
        match what {
            Waits::ForSomebody => {
                let listener = TcpListener::bind_in(&end.vnet, here)?;
                TimedStream::accept(&listener, end).map(drop)
            }
            Waits::ToBeHeard => TimedStream::connect(nobody, end).map(drop),
            Waits::ToRead => {
                let _listener = TcpListener::bind_in(&end.vnet, here)?;
                let mut stream = TimedStream::connect(here, end)?;
                stream.read(&mut [0; 1]).map(drop)
            }
            Waits::ForNothing => end.wait(|_| Poll::Pending),
        }
    }

    #[test]
    fn what_one_end_fails_with_ends_the_other_at_once() {
        use Waits::{ForNothing, ForSomebody, ToBeHeard, ToRead};
        use Wrong::{Met, Panicked, Returned};
        for what in [ForSomebody, ToBeHeard, ToRead, ForNothing] {
            for (how, is_near) in [Returned, Met, Panicked]
                .into_iter()
                .flat_map(|how| [(how, false), (how, true)])
            {
                let system = System::virtual_time(1);
                let vnets = ["a", "b"].map(|name| system.create(name).expect("a vnet"));
                for vnet in &vnets {
                    vnet.port("eth0", None).expect("a port");
                    let address = "192.0.2.1/24".parse().expect("an address");
                    vnet.add_address("eth0", address).expect("it is set");
                }
                let site = site(&system, &vnets[0], &vnets[1]);
                let clock = system.clone();
                let act = move |end: &End, wrong: bool| match wrong {
                    true => goes_wrong(end, &clock, how),
                    false => waits(end, what),
                };
                let theirs = act.clone();
                let ended = vnets[0]
                    .spawn(move || {
                        let near = |end: &End| act(end, is_near);
                        both(&site, near, move |end: &End| theirs(end, !is_near))
                    })
                    .expect("a thread");
                let error = ended.join().expect("it is caught").expect_err("it fails");

                let who = if is_near { "a" } else { "b" };
                let expected = match how {
                    Returned => "it broke".to_owned(),
                    Met => format!("{who}: it broke"),
                    Panicked => format!("{who}: the job's thread panicked"),
                };
                assert_eq!(error.to_string(), expected, "{what:?}, {who}");
                assert_eq!(system.now(), Instant::ZERO + BREAKS_AT, "{what:?}, {who}");
                for vnet in vnets {
                    assert_eq!(
                        vnet.destroy().leaked.sockets(),
                        0,
                        "{what:?}, {who}, {how:?}"
                    );
                }
            }
        }
    }
}
