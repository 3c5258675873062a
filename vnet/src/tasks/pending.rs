//! What a system is waiting for: the report behind a deadlock, and behind a limit that tripped.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::base::time::Instant;
use crate::instance::cores::VnetCore;
use crate::instance::driver::{Happened, Notes, Vain, WaitNote};
use crate::instance::phase::Entry;
use crate::instance::site::Site;
use crate::instance::system::System;
use crate::instance::task::Task;
use crate::instance::vnet::Vnet;

/// Entries of each list that a report shows; the rest is counted.
const SHOWN: usize = 32;

/// Threads and tasks that a short report of a deadlock shows.
const BRIEF: usize = 8;
/// What a report of a deadlock cannot show.
const UNSEEN: &str = "threads of std::thread, and waits at channels and locks of the standard library, are not seen: \
    start threads with Vnet::spawn, and pass values through sockets or JoinHandle::join";

/// What a system is waiting for, who is waiting, and what happened last; see [`System::pending`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pending {
    /// The system's time.
    pub now: Instant,
    /// The report covers only this vnet and those below it, because its tenants lack
    /// [`Privilege::System`](crate::Privilege); it then lists no timers, and no threads of others.
    pub confined_to: Option<String>,
    /// Vnets to be serviced, the next one first. At most 32; [`Pending::more_vnets`] is the number of the others.
    pub vnets: Vec<PendingVnet>,
    /// How many further vnets are to be serviced.
    pub more_vnets: usize,
    /// When timers of tasks and futures expire, the next one first; at most 32.
    pub timers: Vec<Instant>,
    /// How many further timers there are.
    pub more_timers: usize,
    /// Threads that wait, the one that has waited longest first.
    pub threads: Vec<PendingThread>,
    /// Tasks that have not ended, those of the system first, then vnet by vnet; at most 32.
    pub tasks: Vec<PendingTask>,
    /// How many further tasks there are.
    pub more_tasks: usize,
    /// What happened last, in order: when, and what in words.
    pub recent: Vec<(Instant, String)>,
}

/// A vnet that is to be serviced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingVnet {
    /// Its name.
    pub name: String,
    /// When it is to be serviced.
    pub at: Instant,
    /// The deadlines of its protocols: which, and when. May be early.
    pub deadlines: Vec<(&'static str, Instant)>,
    /// Frames in its inbox or on a wire towards it.
    pub frames: usize,
    /// When the next one arrives.
    pub next_frame: Option<Instant>,
}

/// A thread that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingThread {
    /// Its name.
    pub name: String,
    /// The call in which it waits: file, line and column.
    pub site: Option<Site>,
    /// Since when.
    pub since: Instant,
    /// Until when at the latest.
    pub until: Option<Instant>,
}

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingTask {
    /// Its number in the order of spawning.
    pub number: u64,
    /// The vnet that it was spawned in.
    pub vnet: Option<String>,
    /// Where it was spawned.
    pub site: Site,
    /// True when it will be polled, or is being polled; false when it waits to be woken.
    pub is_ready: bool,
}

/// A call would wait forever. It is inside an [`io::Error`] whose kind is
/// [`io::ErrorKind::Deadlock`] when nothing is left to happen, and [`io::ErrorKind::TimedOut`] when
/// things happen that lead to nothing; see [`Deadlock::of`].
///
/// `{}` prints the call and who else waits, a few lines; `{:#}` prints everything that is [`pending`](Deadlock::pending).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deadlock {
    /// Why the wait would never end.
    pub why: Vain,
    /// The call that failed.
    pub site: Site,
    /// Who else is waiting, and for what.
    pub pending: Pending,
}

impl std::error::Error for Deadlock {}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deadlock { why, site, pending } = self;
        write!(f, "{} the call at {site}", in_vain(*why))?;
        if f.alternate() {
            return write!(f, "\n{pending}");
        }
        let threads = pending.threads.iter().filter(|t| t.site != Some(*site));
        let threads = threads.map(|thread| thread as &dyn fmt::Display);
        let tasks = pending.tasks.iter().map(|task| task as &dyn fmt::Display);
        let waiting: Vec<_> = threads.chain(tasks).collect();
        for one in waiting.iter().take(BRIEF) {
            write!(f, "\n  {one}")?;
        }
        let more = waiting.len().saturating_sub(BRIEF) + pending.more_tasks;
        if more > 0 {
            write!(f, "\n  and {more} more threads and tasks")?;
        }
        if *why == Vain::NothingLeft {
            write!(f, "\n  {UNSEEN}")?;
        }
        Ok(())
    }
}

fn in_vain(why: Vain) -> &'static str {
    match why {
        Vain::NothingLeft => "nothing is left to happen that could end",
        Vain::NeverRests => "for a day the network has kept itself busy without ending",
        Vain::GoesRound => "ten million events at one instant have not ended",
    }
}

impl Deadlock {
    /// The deadlock inside an error of a call of this library, if that is what it is.
    ///
    /// ```
    /// use vnet::net::UdpSocket;
    /// use vnet::{Deadlock, System};
    ///
    /// let system = System::virtual_time(1);
    /// let a = system.create("a")?;
    /// let socket = UdpSocket::bind_in(&a, "127.0.0.1:9")?;
    /// let error = socket.recv_from(&mut [0; 8]).unwrap_err();
    /// let deadlock = Deadlock::of(&error).unwrap();
    /// assert!(deadlock.pending.vnets.is_empty(), "{deadlock}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(error: &io::Error) -> Option<&Deadlock> {
        error.get_ref()?.downcast_ref()
    }

    #[cold]
    pub(crate) fn new(system: &System, why: Vain, site: Site) -> Deadlock {
        let pending = Pending::of(system);
        Deadlock { why, site, pending }
    }

    /// That of a call in a vnet, which is told what the vnet's tenants may see.
    #[cold]
    pub(crate) fn in_vnet(core: &Arc<VnetCore>, why: Vain, site: Site) -> Deadlock {
        Deadlock::new(&Vnet::tenant(Arc::clone(core)).system(), why, site)
    }
}

impl From<Deadlock> for io::Error {
    fn from(deadlock: Deadlock) -> io::Error {
        let kind = match deadlock.why {
            Vain::NothingLeft => io::ErrorKind::Deadlock,
            Vain::NeverRests | Vain::GoesRound => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, deadlock)
    }
}

impl System {
    /// What the system is waiting for now: for tests that hang, and for reports. Under
    /// [`System::threads`] it lists tasks only. Without [`Privilege::System`](crate::Privilege) it is
    /// [confined](Pending::confined_to).
    ///
    /// ```
    /// use vnet::System;
    ///
    /// let system = System::virtual_time(1);
    /// let task = system.spawn_future(std::future::pending::<()>());
    /// assert_eq!(system.pending().tasks.len(), 1);
    /// task.abort();
    /// println!("{}", system.pending());
    /// ```
    pub fn pending(&self) -> Pending {
        self.core.driver.called();
        Pending::of(self)
    }
}

impl Pending {
    fn of(system: &System) -> Pending {
        let Notes {
            mut services,
            mut timers,
            mut waits,
            mut recent,
        } = system.core.driver.notes();
        let now = system.core.driver.now();
        let live = system.vnets();
        let holder = system.confined_to();
        let mut tasks = match holder {
            None => system.core.tasks.list(),
            Some(_) => Vec::new(),
        };
        tasks.extend(live.iter().flat_map(|v| v.tasks.list()));
        if let Some(holder) = holder {
            let sees = |number| live.iter().any(|v| v.number == number);
            services.retain(|(_, vnet)| holder.core.is_family(vnet));
            waits.retain(|wait| wait.vnet.is_some_and(sees));
            recent.retain(|(_, what)| match what {
                Happened::Serviced(number) => sees(*number),
                Happened::Polled(number) => tasks.iter().any(|t| t.number() == *number),
                Happened::TimerFired | Happened::WaitEnded | Happened::CallsPaid => false,
            });
            timers.clear();
        }
        let mut wanted: Vec<(Instant, Arc<VnetCore>)> = Vec::new();
        for (at, vnet) in services {
            // What was scheduled again for an earlier time is there twice.
            if !wanted.iter().any(|(_, v)| Arc::ptr_eq(v, &vnet)) {
                wanted.push((at, vnet));
            }
        }
        let shown = wanted.iter().take(SHOWN);
        Pending {
            now,
            confined_to: holder.map(|v| v.name().to_owned()),
            vnets: shown.map(|(at, v)| PendingVnet::of(v, *at)).collect(),
            more_vnets: wanted.len().saturating_sub(SHOWN),
            timers: timers.iter().take(SHOWN).copied().collect(),
            more_timers: timers.len().saturating_sub(SHOWN),
            threads: waits.into_iter().map(PendingThread::from).collect(),
            tasks: tasks
                .iter()
                .take(SHOWN)
                .map(|t| PendingTask::of(t))
                .collect(),
            more_tasks: tasks.len().saturating_sub(SHOWN),
            recent: recent
                .into_iter()
                .map(|(at, what)| (at, in_words(what, &live)))
                .collect(),
        }
    }
}

fn in_words(what: Happened, live: &[Arc<VnetCore>]) -> String {
    match what {
        Happened::Serviced(number) => match live.iter().find(|v| v.number == number) {
            Some(vnet) => format!("vnet {} was serviced", vnet.name),
            None => format!("vnet number {number}, now gone, was serviced"),
        },
        Happened::Polled(number) => format!("task {number} was polled"),
        Happened::TimerFired => "a timer went off".to_owned(),
        Happened::WaitEnded => "the time of a thread's wait came".to_owned(),
        Happened::CallsPaid => "calls of a thread that did not wait took their time".to_owned(),
    }
}

impl PendingVnet {
    fn of(core: &Arc<VnetCore>, at: Instant) -> PendingVnet {
        let deadlines = core.enter_as(Entry::Lifecycle, |inside, _| {
            let deadlines = inside.stack.deadlines().into_iter();
            deadlines
                .filter_map(|(what, at)| Some((what, at?)))
                .collect()
        });
        PendingVnet {
            name: core.name.to_string(),
            at,
            deadlines: deadlines.unwrap_or_default(),
            frames: core.inbox.len(),
            next_frame: core.inbox.next(),
        }
    }
}

impl From<WaitNote> for PendingThread {
    fn from(note: WaitNote) -> PendingThread {
        PendingThread {
            name: note.thread,
            site: note.site,
            since: note.since,
            until: note.until,
        }
    }
}

impl PendingTask {
    fn of(task: &Task) -> PendingTask {
        PendingTask {
            number: task.number(),
            vnet: task.vnet().map(str::to_owned),
            site: task.site(),
            is_ready: task.is_ready(),
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.confined_to {
            None => writeln!(f, "at {}:", self.now)?,
            Some(vnet) => writeln!(f, "at {}, in vnet {vnet} and below it:", self.now)?,
        }
        let nothing = self.vnets.is_empty() && self.timers.is_empty();
        if nothing {
            let timers = match self.confined_to {
                None => ", and no timer is set",
                Some(_) => "",
            };
            writeln!(f, "  no vnet wants service{timers}")?;
        }
        for vnet in &self.vnets {
            writeln!(f, "  {vnet}")?;
        }
        more(f, self.more_vnets, "vnets want service")?;
        for at in &self.timers {
            writeln!(f, "  a timer goes off at {at}")?;
        }
        more(f, self.more_timers, "timers are set")?;
        for thread in &self.threads {
            writeln!(f, "  {thread}")?;
        }
        for task in &self.tasks {
            writeln!(f, "  {task}")?;
        }
        more(f, self.more_tasks, "tasks have not ended")?;
        if !self.recent.is_empty() {
            writeln!(f, "the last events:")?;
        }
        for (at, what) in &self.recent {
            writeln!(f, "  {at} {what}")?;
        }
        Ok(())
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: usize, what: &str) -> fmt::Result {
    match count {
        0 => Ok(()),
        n => writeln!(f, "  and {n} more {what}"),
    }
}

impl fmt::Display for PendingVnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vnet {} wants service at {}", self.name, self.at)?;
        for (what, at) in &self.deadlines {
            write!(f, "; {what} at {at}")?;
        }
        if let Some(next) = self.next_frame {
            write!(f, "; {} frames, the next at {next}", self.frames)?;
        }
        Ok(())
    }
}

impl fmt::Display for PendingThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {:?} waits", self.name)?;
        if let Some(site) = self.site {
            write!(f, " at {site}")?;
        }
        write!(f, " since {}", self.since)?;
        match self.until {
            Some(until) => write!(f, ", until {until} at the latest"),
            None => write!(f, ", without a limit"),
        }
    }
}

impl fmt::Display for PendingTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}, spawned at {}", self.number, self.site)?;
        if let Some(vnet) = &self.vnet {
            write!(f, " in vnet {vnet}")?;
        }
        match self.is_ready {
            true => write!(f, ", is ready"),
            false => write!(f, ", waits to be woken"),
        }
    }
}
