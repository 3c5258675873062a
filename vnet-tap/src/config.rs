//! How a TAP is to be made.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use vnet::{MacAddr, Offload};

/// How to make the TAP, and what to do with the host's interface.
///
/// ```
/// use vnet_tap::{HostState, TapConfig};
///
/// let config = TapConfig {
///     host_name: Some("lan%d".into()),
///     host_ip_mtu: Some(9000),
///     host_bridge: Some("br0".into()),
///     host_state: HostState::Up,
///     ..TapConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// The name of the host's interface; `%d` in it becomes the first free number. `None` means
    /// `vnt%d`. If a persistent TAP of that name exists and is not in use, it is opened instead of
    /// made.
    pub host_name: Option<String>,
    /// What its frames begin with.
    pub layer: Layer,
    /// The MAC address of the vnet's interface where it is made; `None` lets the vnet choose.
    pub mac: Option<MacAddr>,
    /// What the host and the vnet leave undone in frames for each other. With [`Offload::Full`], which
    /// is the default, TCP segments of up to 64 KiB pass uncut in both directions and no checksum is
    /// computed on the way. With [`Offload::None`] each frame is complete. A descriptor handed in
    /// that was opened without `IFF_VNET_HDR` carries complete frames whatever this says.
    pub offload: Offload,
    /// Queues of the device (`IFF_MULTI_QUEUE`), at most 256. Each has a thread, so that several processors carry
    /// frames; those of one flow stay in one queue, both ways. Initially one. A persistent TAP has been made for one or
    /// for several, and is opened with as many only. Of one with several, another process may have some, and is
    /// not noticed.
    pub queues: NonZeroU16,
    /// Bytes of frames, what it costs to hold them included, that wait for the host to take them.
    /// Initially 16 MiB. What finds no room is dropped and counted.
    pub queue_bytes: usize,
    /// The network namespace to make it in, as a file: `/run/netns/NAME`, `/proc/PID/ns/net`. `None` is
    /// that of the calling thread. Threads that the system starts meanwhile stay in the caller's.
    pub netns: Option<PathBuf>,
    /// How long the pump looks for more before it sleeps: a frame that comes meanwhile is not held up by a
    /// thread that has to wake, and a processor is busy for as long, or one for each queue. Initially zero, which is right unless there is a
    /// processor to spare.
    pub busy_poll: Duration,
    /// The MAC address of the host's interface; `None` leaves it as it is, or to the kernel.
    pub host_mac: Option<MacAddr>,
    /// The MTU of the host's interface, in bytes of IP; `None` leaves it as it is, initially 1500.
    pub host_ip_mtu: Option<u16>,
    /// The bridge of the host's that its interface is to join.
    pub host_bridge: Option<String>,
    /// Whether the host's interface is to be up.
    pub host_state: HostState,
    /// The user (`uid`) who may attach to the TAP without a privilege, where it is persistent.
    pub owner: Option<u32>,
    /// Whether the host's interface outlives this process's use of it.
    pub lifetime: Lifetime,
}

impl Default for TapConfig {
    fn default() -> TapConfig {
        TapConfig {
            host_name: None,
            layer: Layer::Link,
            mac: None,
            offload: Offload::Full,
            queues: NonZeroU16::MIN,
            queue_bytes: 16 << 20,
            netns: None,
            busy_poll: Duration::ZERO,
            host_mac: None,
            host_ip_mtu: None,
            host_bridge: None,
            host_state: HostState::AsItIs,
            owner: None,
            lifetime: Lifetime::AsItIs,
        }
    }
}

/// What the frames of a device begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    /// A link header: a TAP, which is an Ethernet interface of the host's.
    #[default]
    Link,
    /// An IP header: a TUN. The vnet's end is an Ethernet interface all the same. Its link headers go
    /// no further, and whoever it looks for there is found, for the whole host has one address. What
    /// is neither IPv4 nor IPv6, or has a VLAN tag, is refused and counted.
    Network,
}

/// Whether the host's interface is to be up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostState {
    /// As it is: down where it is made.
    #[default]
    AsItIs,
    /// Up.
    Up,
    /// Down.
    Down,
}

/// Whether the host's interface outlives this process's use of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As it is: one that is made disappears, one that was persistent stays.
    #[default]
    AsItIs,
    /// It disappears when it is detached or the process ends, however it ends.
    WithTap,
    /// It stays.
    Persistent,
}
