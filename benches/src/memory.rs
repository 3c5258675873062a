//! What an idle instance and an idle connection hold in memory, beside what the kernel holds for its own.
//!
//! Ours is told twice: what the allocator was asked for, which is exact, and what of it is resident, with the allocator's
//! own overhead. The kernel's is what its slabs and its memory for each processor (`Slab` and `Percpu` in
//! `/proc/meminfo`) have grown by. That is everybody's, so it is right on an idle machine only; and it leaves out whole
//! pages, of which neither has many while it is idle.

use std::any::Any;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use comfy_table::Table;
use serde::{Deserialize, Serialize};
use vnet_tap::NetNs;

use crate::compare::{SideError, median};
use crate::counted::Counted;
use crate::demux::Crowd;
use crate::instances::{Population, resident};
use crate::report::numbers_right;

/// The option by which `compare` makes some of them.
pub const HOLD: &str = "--hold";
/// How many of each are made: were something shared by all, or did tables grow in steps, the figures would differ.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];
/// Network namespaces that are there at once.
const NAMESPACES: usize = 300;
/// Connections of the kernel's; each takes two descriptors.
const CONNECTIONS: usize = 4_000;
/// How often the kernel is asked; the median is told.
const RUNS: usize = 3;
/// For how long connections have done nothing when they count as idle.
const QUIET: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// An instance with its loopback interface, 127.0.0.1 and one more address.
    Instance,
    /// A connection that has carried a byte each way; both ends.
    Connection,
}

impl What {
    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            What::Instance => "idle instance",
            What::Connection => "idle connection, both ends",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            What::Instance => "instance",
            What::Connection => "connection",
        }
    }

    /// Bytes that it should hold at most.
    pub const fn aim(self) -> u64 {
        match self {
            What::Instance => 4096,
            What::Connection => 1536,
        }
    }
}

/// What each of so many holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Always `memory`.
    pub case: &'static str,
    /// What was made.
    pub what: What,
    /// How many.
    pub count: usize,
    /// Bytes that the allocator was asked for, each.
    pub allocated: u64,
    /// Bytes that became resident, each; 0 where the system does not tell.
    pub resident: u64,
    /// At most so many bytes are aimed at.
    pub aim: u64,
    /// Bytes that the kernel holds for one of its own, if that is known.
    pub kernel: Option<u64>,
}

/// Idle instances and connections, in several numbers, least first, each in a process of its own.
///
/// # Errors
/// When one cannot be made. What the kernel's cannot be measured for is printed.
pub fn measure() -> Result<Vec<Figures>, SideError> {
    let mut figures = Vec::new();
    for what in [What::Instance, What::Connection] {
        let kernel = known(match what {
            What::Instance => of_namespaces(),
            What::Connection => of_kernel_connections(),
        })?;
        for count in COUNTS {
            let mut command = Command::new(std::env::current_exe()?);
            let told = command
                .args([HOLD, what.word(), &count.to_string()])
                .stderr(Stdio::inherit())
                .output()?;
            let held: Held = serde_json::from_slice(&told.stdout)
                .map_err(|e| SideError::new(format!("{command:?}: {}: {e}", told.status)))?;
            figures.push(Figures {
                case: "memory",
                what,
                count,
                allocated: held.allocated,
                resident: held.resident,
                aim: what.aim(),
                kernel,
            });
        }
    }
    Ok(figures)
}

/// What each of so many holds, in bytes: one line of JSON of the process that made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    allocated: u64,
    resident: u64,
}

/// Makes so many, and returns what they hold in JSON. The process is to have done nothing else.
///
/// # Errors
/// When one cannot be made, or there are no such things.
pub fn hold(what: &str, count: usize, allocator: &Counted) -> Result<String, SideError> {
    let all = [What::Instance, What::Connection];
    let Some(what) = all.into_iter().find(|w| w.word() == what) else {
        return Err(SideError::new(format!("nothing is called {what}")));
    };
    let held = of(count, allocator, || make(what, count))?;
    Ok(serde_json::to_string(&held).expect("numbers have a JSON form"))
}

/// Makes so many, which are there as long as what is returned.
///
/// # Errors
/// When one cannot be made.
pub fn make(what: What, count: usize) -> Result<Box<dyn Any>, SideError> {
    match what {
        What::Instance => Ok(Box::new(Population::new(count)?)),
        What::Connection => {
            let mut crowd = Crowd::open(count)?;
            crowd.all_transact()?;
            crowd.rest(QUIET);
            Ok(Box::new(crowd))
        }
    }
}

/// What is missing is said aloud, and is no error.
fn known(bytes: Result<f64, SideError>) -> Result<Option<u64>, SideError> {
    match bytes {
        Ok(bytes) => Ok(Some(bytes.max(0.0) as u64)),
        Err(e) if e.is_skipped => {
            println!("SKIPPED: memory: the kernel's: {e}");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn of<T>(
    count: usize,
    allocator: &Counted,
    make: impl Fn() -> Result<T, SideError>,
) -> Result<Held, SideError> {
    // The first ones take fresh memory, and what threads and the library keep for reuse; the second ones are counted
    // exactly.
    let before = resident();
    let made = make()?;
    let is_resident = resident().saturating_sub(before);
    drop(made);
    allocator.count(true);
    let before = allocator.bytes();
    let made = make();
    let held = allocator.bytes() - before;
    drop(made?);
    allocator.count(false);
    Ok(Held {
        allocated: u64::try_from(held).unwrap_or(0) / count as u64,
        resident: is_resident / count as u64,
    })
}

/// What a network namespace of the kernel's takes, its loopback interface down and nobody in it.
///
/// # Errors
/// Skipped where namespaces may not be made.
fn of_namespaces() -> Result<f64, SideError> {
    grown_by(NAMESPACES, || {
        let made: io::Result<Vec<File>> = (0..NAMESPACES).map(|_| namespace()).collect();
        made.map_err(|e| SideError::skipped(format!("network namespaces: {e}")))
    })
}

/// A namespace that is there as long as the file is open.
fn namespace() -> io::Result<File> {
    let thread = std::thread::spawn(|| {
        vnet_tap::netns::unshare_thread()?;
        File::open("/proc/thread-self/ns/net")
    });
    thread.join().expect("system calls do not panic")
}

/// What a connection of the kernel's takes, both ends, over the loopback interface of a namespace of its own.
///
/// # Errors
/// Skipped where namespaces may not be made, and for want of descriptors.
fn of_kernel_connections() -> Result<f64, SideError> {
    let namespace = NetNs::new().map_err(|e| SideError::skipped(format!("namespaces: {e}")))?;
    grown_by(CONNECTIONS, || {
        let opened = namespace.run(|| -> io::Result<Vec<TcpStream>> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let at = listener.local_addr()?;
            let mut streams = Vec::with_capacity(2 * CONNECTIONS);
            for n in 0..CONNECTIONS {
                let mut near = TcpStream::connect(at)?;
                let mut far = listener.accept()?.0;
                let mut byte = [n as u8];
                near.write_all(&byte)?;
                far.read_exact(&mut byte)?;
                far.write_all(&byte)?;
                near.read_exact(&mut byte)?;
                streams.extend([near, far]);
            }
            // Acknowledgements that were put off are sent.
            std::thread::sleep(Duration::from_millis(200));
            Ok(streams)
        });
        opened.map_err(|e| SideError::skipped(format!("{CONNECTIONS} connections: {e}")))
    })
}

/// What the kernel's memory grows by while `make` makes so many, each. What the kernel frees in the background may
/// still be there when the next ones are made, so the first time is not counted, and the median of the others is.
fn grown_by<T>(count: usize, make: impl Fn() -> Result<T, SideError>) -> Result<f64, SideError> {
    let mut each = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        settled();
        let before = kernel_bytes()?;
        let made = make()?;
        let after = kernel_bytes()?;
        drop(made);
        if run > 0 {
            each.push((after - before) / count as f64);
        }
    }
    Ok(median(each))
}

/// Waits until the kernel's memory does not shrink any more, for some seconds at most.
fn settled() {
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let now = kernel_bytes().unwrap_or(0.0);
        if now >= least {
            break;
        }
        least = now;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Bytes in the kernel's slabs, and those that it has for each processor.
fn kernel_bytes() -> Result<f64, SideError> {
    let meminfo = fs::read_to_string("/proc/meminfo")
        .map_err(|e| SideError::skipped(format!("/proc/meminfo: {e}")))?;
    let kilobytes = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let slab =
        kilobytes("Slab:").ok_or_else(|| SideError::skipped("the kernel tells of no slabs"))?;
    Ok((slab + kilobytes("Percpu:").unwrap_or(0.0)) * 1024.0)
}

impl Figures {
    /// The figures as a JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers have a JSON form")
    }
}

/// The figures as a table. The ratio is the kernel's over what ours has allocated.
pub fn table(figures: &[Figures]) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY)
        .set_header([
            "memory",
            "how many",
            "allocated, bytes each",
            "resident, bytes each",
            "aim",
            "the kernel's, bytes each",
            "ratio",
        ]);
    for line in figures {
        let ratio = |bytes| format!("{:.2}", bytes as f64 / line.allocated.max(1) as f64);
        table.add_row([
            line.what.name().to_owned(),
            line.count.to_string(),
            line.allocated.to_string(),
            line.resident.to_string(),
            line.aim.to_string(),
            line.kernel
                .map_or_else(|| "not known".to_owned(), |b| b.to_string()),
            line.kernel.map_or_else(String::new, ratio),
        ]);
    }
    numbers_right(&mut table, 1);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_gone_when_it_has_been_counted() {
        // No allocator of this process, so it counts nothing.
        let counted = Counted::new();
        let held = of(3, &counted, || Population::new(3)).unwrap();
        assert_eq!((held.allocated, counted.bytes()), (0, 0));
        assert!(
            hold("connection", 3, &counted)
                .unwrap()
                .contains("resident")
        );
        assert!(hold("nothing", 3, &counted).is_err());
        let figures = Figures {
            case: "memory",
            what: What::Instance,
            count: 3,
            allocated: 0,
            resident: 0,
            aim: 4096,
            kernel: None,
        };
        let kernel = Some(8191);
        assert!(table(&[Figures { kernel, ..figures }]).contains("8191"));
    }
}
