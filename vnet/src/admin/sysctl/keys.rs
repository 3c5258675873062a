//! The tunables there are. A name follows FreeBSD where it has the same thing.
//!
//! Those that bound what an instance may take up are the owner's; so are counts, which nobody
//! writes.

use std::time::Duration;

use super::{Access, Congestion, EcnUse, Entry, Feature, Key, last_name};
use crate::base::switch::Switch;
use crate::icmp::limit::{Limit, Rate};
use crate::instance::privilege::Privilege;
use crate::ip::dad::Optimism;
use crate::ip::state::{Forwarding, Redirects, ReversePath};
use crate::ip::v6::autoconf::Accept;
use crate::ip::v6::temporary::Config as Temporary;
use crate::ip::versions::Obey;
use crate::neigh::NeighConfig;
use crate::stack::Stack;
use crate::stack::limits::Resource;

const TUNABLES: Access = Access::Tenant(Privilege::Tunables);
const OWNER: Access = Access::Owner;
const READ_ONLY: Access = Access::ReadOnly;

macro_rules! keys {
    ($($(#[doc = $text:literal])+ $const:ident: $type:ty = $name:literal,
        $least:literal..=$most:expr, $unit:literal, $access:expr, $read:expr, $write:expr;)+) => {
        $(
            $(#[doc = $text])+
            #[doc = ""]
            #[doc = concat!("`", $name, "`")]
            static $const: Key<$type> = Key {
                name: $name,
                text: concat!($($text),+).trim_ascii(),
                unit: $unit,
                access: $access,
                range: ($least, $most),
                read: $read,
                write: $write,
            };
        )+

        /// Every key, in the alphabetical order of the names.
        pub(super) static TABLE: &[&dyn Entry] = &[$(&$const,)+];
    };
}

keys! {
    /// Largest backlog of a listener.
    SOMAXCONN: u64 = "kern.ipc.somaxconn",
        1..=65535, "connections", OWNER,
        |s| s.limits.of(Resource::Backlog),
        |s, v| s.set_limit(Resource::Backlog, v);
    /// Processor time per second, with the threads driver; one second for each processor.
    SCHED_LIMIT: u64 = "kern.sched.limit",
        0..=18446744073709551615, "us", OWNER,
        |s| s.limits.of(Resource::Processor),
        |s, v| s.set_limit(Resource::Processor, v);
    /// The vnet's share of processor time when several vnets wait for the worker threads, relative to the
    /// weights of the others. The weight in effect is at most that of the vnet that created it.
    SCHED_WEIGHT: u64 = "kern.sched.weight",
        1..=10000, "", OWNER,
        |s| u64::from(s.limits.weight()),
        |s, v| s.limits.set_weight(v as u32);
    /// As a host, ignore IPv4 redirects to a better first hop (RFC 1122 section 3.2.2.2).
    ICMP_DROP_REDIRECT: Switch = "net.inet.icmp.drop_redirect",
        0..=1, "", TUNABLES,
        |s| match s.ip.redirects_v4 {
            Obey::Nobody => Switch::On,
            Obey::Router => Switch::Off,
        },
        |s, v| s.set_obeys_redirects_v4(match v {
            Switch::On => Obey::Nobody,
            Switch::Off => Obey::Router,
        });
    /// ICMP errors sent in the long run (RFC 1812); 0 for none.
    ICMP_ICMPLIM: u64 = "net.inet.icmp.icmplim",
        0..=1000000, "per second", TUNABLES,
        |s| u64::from(s.icmp.limit.rate().per_second),
        |s, v| { s.icmp.limit = Limit::new(Rate { per_second: v as u32, ..s.icmp.limit.rate() }) };
    /// ICMP errors that may be sent in a burst after a silence.
    ICMP_ICMPLIM_BURST: u64 = "net.inet.icmp.icmplim_burst",
        1..=1000000, "", TUNABLES,
        |s| u64::from(s.icmp.limit.rate().burst),
        |s, v| { s.icmp.limit = Limit::new(Rate { burst: v as u32, ..s.icmp.limit.rate() }) };
    /// Fragments waiting for the rest of their datagram.
    IP_FRAGMENTS: u64 = "net.inet.ip.curfrags",
        0..=0, "fragments", READ_ONLY,
        |s| s.ip.fragments() as u64,
        |_, _| {};
    /// Number of probes for a new IPv4 address before it is used (RFC 5227, which says 3); 0 for none.
    IP_DAD_COUNT: u64 = "net.inet.ip.dad_count",
        0..=255, "", TUNABLES,
        |s| u64::from(s.ip.dad.count_v4),
        |s, v| s.ip.dad.count_v4 = v as u8;
    /// As a router, forward directed broadcasts to other links (RFC 1812, RFC 2644).
    IP_DIRECTED_BROADCAST: Switch = "net.inet.ip.directed-broadcast",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.ip.v4.tunables.directed_broadcasts,
        |s, v| s.ip.v4.tunables.directed_broadcasts = v;
    /// Forward packets for other hosts (RFC 1122).
    IP_FORWARDING: Forwarding = "net.inet.ip.forwarding",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.ip.v4.tunables.forwarding,
        |s, v| s.set_forwarding(v);
    /// How long a datagram waits for its fragments (RFC 791).
    IP_FRAGTTL: Duration = "net.inet.ip.fragttl",
        1000..=120000, "ms", TUNABLES,
        |s| s.ip.fragment_limits().timeout,
        |s, v| s.ip.limit_fragments(|limits| limits.timeout = v);
    /// Interfaces without an IPv4 address assign themselves a link-local one (RFC 3927).
    IP_LINK_LOCAL: Switch = "net.inet.ip.link_local",
        0..=1, "", TUNABLES,
        |s| s.ip.link_local.used,
        |s, v| s.set_link_local(v);
    /// Bytes of fragments of one datagram; each fragment counts as 128 bytes more.
    IP_MAXFRAGBYTESPERPACKET: u64 = "net.inet.ip.maxfragbytesperpacket",
        1..=2097152, "bytes", OWNER,
        |s| s.ip.fragment_limits().max_datagram_bytes as u64,
        |s, v| s.ip.limit_fragments(|limits| limits.max_datagram_bytes = v as usize);
    /// Datagrams waiting for fragments.
    IP_MAXFRAGPACKETS: u64 = "net.inet.ip.maxfragpackets",
        1..=65536, "datagrams", OWNER,
        |s| s.ip.fragment_limits().max_datagrams as u64,
        |s, v| s.ip.limit_fragments(|limits| limits.max_datagrams = v as usize);
    /// How long it is remembered, in both IP versions, that a path takes less than its first link, before larger
    /// packets are tried again (RFC 1191 section 6.3, RFC 8201 section 4).
    IP_PATH_MTU_EXPIRE: Duration = "net.inet.ip.path_mtu_expire",
        300000..=86400000, "ms", TUNABLES,
        |s| s.ip.path_lifetime(),
        |s, v| s.ip.set_path_lifetime(v);
    /// As a router, redirect hosts to a better first hop (RFC 1812).
    IP_REDIRECT: Redirects = "net.inet.ip.redirect",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.ip.v4.tunables.redirects,
        |s, v| s.ip.v4.tunables.redirects = v;
    /// Drop packets of both IP versions that fail the reverse path check: with 1, those that arrive by another
    /// interface than the one that leads to their source; with 2, those to whose source no route leads (RFC
    /// 3704).
    IP_RP_FILTER: u64 = "net.inet.ip.rp_filter",
        0..=2, "", TUNABLES,
        |s| s.ip.v4.tunables.reverse_path as u64,
        |s, v| s.ip.set_reverse_path(match v {
            0 => ReversePath::Unchecked,
            1 => ReversePath::Strict,
            _ => ReversePath::Loose,
        });
    /// Time to live of packets that originate here, except those of sockets with their own setting (RFC 1122).
    IP_TTL: u64 = "net.inet.ip.ttl",
        1..=255, "hops", TUNABLES,
        |s| u64::from(s.ip.default_hop_limit()),
        |s, v| s.ip.set_default_hop_limit(v as u8);
    /// Raw sockets.
    RAW_PCBCOUNT: u64 = "net.inet.raw.pcbcount",
        0..=0, "", READ_ONLY,
        |s| s.datagrams.raw.sockets.len() as u64,
        |_, _| {};
    /// Congestion control of a new connection: reno (RFC 5681), cubic (RFC 9438), bbr, or dctcp (RFC 8257).
    TCP_CC: Congestion = "net.inet.tcp.cc",
        0..=last_name::<Congestion>(), "", TUNABLES,
        |s| s.tcp.config().congestion,
        |s, v| s.tcp.config_mut().congestion = v;
    /// Marks of queues shrink the window of cubic to 85 % and that of reno to 80 % (RFC 8511), instead of as much as a
    /// loss.
    TCP_CC_ABE: Feature = "net.inet.tcp.cc.abe",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().abe,
        |s, v| s.tcp.config_mut().abe = v;
    /// Challenge acknowledgements per connection in five seconds (RFC 5961).
    TCP_CHALLENGE_ACKS: u64 = "net.inet.tcp.challenge_acks",
        0..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().challenge_acks),
        |s, v| s.tcp.config_mut().challenge_acks = v as u8;
    /// Retransmissions of data before the connection fails.
    TCP_DATA_RETRIES: u64 = "net.inet.tcp.data_retries",
        1..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().data_retries),
        |s, v| s.tcp.config_mut().data_retries = v as u8;
    /// How long an acknowledgement may be delayed (RFC 9293).
    TCP_DELACKTIME: Duration = "net.inet.tcp.delacktime",
        0..=499, "ms", TUNABLES,
        |s| s.tcp.config().delayed_ack,
        |s, v| s.tcp.config_mut().delayed_ack = v;
    /// Explicit congestion notification: off, request it (RFC 3168) and grant it, only grant it, or request
    /// accurate feedback (RFC 9768) and grant it.
    TCP_ECN: EcnUse = "net.inet.tcp.ecn",
        0..=last_name::<EcnUse>(), "", TUNABLES,
        |s| s.tcp.config().ecn,
        |s, v| s.tcp.config_mut().ecn = v;
    /// With accurate feedback, say how many bytes were marked and not only how many packets (RFC 9768, section 3.2.3).
    TCP_ECN_OPTION: Feature = "net.inet.tcp.ecn_option",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().ecn_option,
        |s, v| s.tcp.config_mut().ecn_option = v;
    /// Send SYN-ACKs that grant congestion notification as ECT(0), so that queues mark them instead of dropping them
    /// (RFC 5562).
    TCP_ECN_SYNACK: Feature = "net.inet.tcp.ecn_synack",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().ecn_syn_ack,
        |s, v| s.tcp.config_mut().ecn_syn_ack = v;
    /// Send data of connections with accurate feedback as ECT(1) instead of ECT(0): for queues that mark by the share
    /// (RFC 9331), and congestion control that hears it, such as dctcp.
    TCP_ECT1: Feature = "net.inet.tcp.ect1",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().ect1,
        |s, v| s.tcp.config_mut().ect1 = v;
    /// Connections of one listener whose data was taken from the SYN (RFC 7413) and whose handshake is not complete.
    TCP_FASTOPEN_MAXPENDING: u64 = "net.inet.tcp.fastopen.maxpending",
        0..=65536, "connections", OWNER,
        |s| s.tcp.config().fast_open_pending as u64,
        |s, v| s.tcp.config_mut().fast_open_pending = v as usize;
    /// How long a connection without a socket waits in FIN-WAIT-2.
    TCP_FINWAIT2_TIMEOUT: Duration = "net.inet.tcp.finwait2_timeout",
        1..=3600000, "ms", TUNABLES,
        |s| s.tcp.config().fin_wait2,
        |s, v| s.tcp.config_mut().fin_wait2 = v;
    /// Initial congestion window (RFC 6928).
    TCP_INITCWND_SEGMENTS: u64 = "net.inet.tcp.initcwnd_segments",
        1..=1000, "segments", TUNABLES,
        |s| u64::from(s.tcp.config().initial_cwnd_segments),
        |s, v| s.tcp.config_mut().initial_cwnd_segments = v as u32;
    /// Unanswered keepalive probes before the connection fails.
    TCP_KEEPCNT: u64 = "net.inet.tcp.keepcnt",
        1..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().keepalive_probes),
        |s, v| s.tcp.config_mut().keepalive_probes = v as u8;
    /// Silence after which a connection with keepalive is probed.
    TCP_KEEPIDLE: Duration = "net.inet.tcp.keepidle",
        1000..=86400000, "ms", TUNABLES,
        |s| s.tcp.config().keepalive_idle,
        |s, v| s.tcp.config_mut().keepalive_idle = v;
    /// Time between keepalive probes.
    TCP_KEEPINTVL: Duration = "net.inet.tcp.keepintvl",
        1000..=86400000, "ms", TUNABLES,
        |s| s.tcp.config().keepalive_interval,
        |s, v| s.tcp.config_mut().keepalive_interval = v;
    /// The size up to which the buffers of connections grow.
    TCP_MAXBUF: u64 = "net.inet.tcp.maxbuf",
        65536..=1073725440, "bytes", OWNER,
        |s| s.tcp.config().max_buffer as u64,
        |s, v| s.tcp.config_mut().max_buffer = v as usize;
    /// Unfinished connection requests per listener; beyond that, the oldest is dropped to make room.
    TCP_MAXHALFOPEN: u64 = "net.inet.tcp.maxhalfopen",
        1..=4294967295, "", OWNER,
        |s| s.tcp.config().max_half_open as u64,
        |s, v| s.tcp.config_mut().max_half_open = v as usize;
    /// Connections that continue although no socket refers to them any more; beyond that, closing resets the
    /// connection.
    TCP_MAXORPHANS: u64 = "net.inet.tcp.maxorphans",
        0..=16777216, "connections", OWNER,
        |s| s.tcp.config().max_orphans as u64,
        |s, v| s.tcp.config_mut().max_orphans = v as usize;
    /// TCP sockets of the vnet, in addition to its limit on sockets of all kinds.
    TCP_MAXSOCKETS: u64 = "net.inet.tcp.maxsockets",
        0..=4294967295, "", OWNER,
        |s| s.tcp.config().max_sockets as u64,
        |s, v| s.tcp.config_mut().max_sockets = v as usize;
    /// TIME-WAIT records of the vnet.
    TCP_MAXTCPTW: u64 = "net.inet.tcp.maxtcptw",
        0..=4294967295, "", OWNER,
        |s| s.tcp.config().max_time_wait as u64,
        |s, v| s.tcp.config_mut().max_time_wait = v as usize;
    /// Maximum segment lifetime; TIME-WAIT lasts twice as long (RFC 9293).
    TCP_MSL: Duration = "net.inet.tcp.msl",
        1..=600000, "ms", TUNABLES,
        |s| s.tcp.config().msl,
        |s, v| s.tcp.config_mut().msl = v;
    /// Retransmissions of a connection without a socket before it is forgotten.
    TCP_ORPHAN_RETRIES: u64 = "net.inet.tcp.orphan_retries",
        0..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().orphan_retries),
        |s, v| s.tcp.config_mut().orphan_retries = v as u8;
    /// Pace windows above 64 KiB over round trips of a millisecond or more; with bbr, segments are always
    /// paced.
    TCP_PACING: Feature = "net.inet.tcp.pacing",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().pacing,
        |s, v| s.tcp.config_mut().pacing = v;
    /// Connections and listeners.
    TCP_PCBCOUNT: u64 = "net.inet.tcp.pcbcount",
        0..=0, "", READ_ONLY,
        |s| (s.tcp.counts().connections + s.tcp.counts().listeners) as u64,
        |_, _| {};
    /// Continue with smaller packets when full segments time out several times, and search for the largest size
    /// that arrives (RFC 8899).
    TCP_PMTUD_BLACKHOLE_DETECTION: Feature = "net.inet.tcp.pmtud_blackhole_detection",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().black_holes,
        |s, v| s.tcp.config_mut().black_holes = v;
    /// Let receive buffers grow with the capacity of the path, up to maxbuf.
    TCP_RECVBUF_AUTO: Feature = "net.inet.tcp.recvbuf_auto",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().recv_buffer_auto,
        |s, v| s.tcp.config_mut().recv_buffer_auto = v;
    /// Receive buffer of a new connection.
    TCP_RECVSPACE: u64 = "net.inet.tcp.recvspace",
        4096..=1073725440, "bytes", TUNABLES,
        |s| s.tcp.config().recv_buffer as u64,
        |s, v| s.tcp.config_mut().recv_buffer = v as usize;
    /// Retransmission timeout before the first measurement (RFC 6298).
    TCP_RTO_INITIAL: Duration = "net.inet.tcp.rexmit_initial",
        1..=60000, "ms", TUNABLES,
        |s| s.tcp.config().initial_rto,
        |s, v| s.tcp.config_mut().initial_rto = v;
    /// Largest retransmission timeout (RFC 6298).
    TCP_RTO_MAX: Duration = "net.inet.tcp.rexmit_max",
        60000..=3600000, "ms", TUNABLES,
        |s| s.tcp.config().max_rto,
        |s, v| s.tcp.config_mut().max_rto = v;
    /// Smallest retransmission timeout (RFC 6298).
    TCP_RTO_MIN: Duration = "net.inet.tcp.rexmit_min",
        1..=60000, "ms", TUNABLES,
        |s| s.tcp.config().min_rto,
        |s, v| s.tcp.config_mut().min_rto = v;
    /// Offer and accept selective acknowledgements (RFC 2018).
    TCP_SACK_ENABLE: Feature = "net.inet.tcp.sack.enable",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().sack,
        |s, v| s.tcp.config_mut().sack = v;
    /// Let send buffers grow with the capacity of the path, up to maxbuf.
    TCP_SENDBUF_AUTO: Feature = "net.inet.tcp.sendbuf_auto",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().send_buffer_auto,
        |s, v| s.tcp.config_mut().send_buffer_auto = v;
    /// Send buffer of a new connection.
    TCP_SENDSPACE: u64 = "net.inet.tcp.sendspace",
        4096..=1073725440, "bytes", TUNABLES,
        |s| s.tcp.config().send_buffer as u64,
        |s, v| s.tcp.config_mut().send_buffer = v as usize;
    /// Retransmissions of a SYN before the attempt fails.
    TCP_SYN_RETRIES: u64 = "net.inet.tcp.syn_retries",
        0..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().syn_retries),
        |s, v| s.tcp.config_mut().syn_retries = v as u8;
    /// Retransmissions of a SYN-ACK before the attempt is forgotten.
    TCP_SYNACK_RETRIES: u64 = "net.inet.tcp.synack_retries",
        0..=255, "", TUNABLES,
        |s| u64::from(s.tcp.config().syn_ack_retries),
        |s, v| s.tcp.config_mut().syn_ack_retries = v as u8;
    /// Answer requests beyond `net.inet.tcp.maxhalfopen` with cookies, without keeping state for them.
    TCP_SYNCOOKIES: Feature = "net.inet.tcp.syncookies",
        0..=1, "", OWNER,
        |s| s.tcp.config().syn_cookies,
        |s, v| s.tcp.config_mut().syn_cookies = v;
    /// Offer and accept timestamps (RFC 7323).
    TCP_TIMESTAMPS: Feature = "net.inet.tcp.timestamps",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().timestamps,
        |s, v| s.tcp.config_mut().timestamps = v;
    /// Connections in TIME-WAIT.
    TCP_TIMEWAIT_COUNT: u64 = "net.inet.tcp.timewait_count",
        0..=0, "", READ_ONLY,
        |s| s.tcp.counts().time_wait as u64,
        |_, _| {};
    /// Offer and accept window scaling (RFC 7323).
    TCP_WINDOW_SCALING: Feature = "net.inet.tcp.window_scaling",
        0..=1, "", TUNABLES,
        |s| s.tcp.config().window_scaling,
        |s, v| s.tcp.config_mut().window_scaling = v;
    /// UDP sockets of the vnet.
    UDP_MAXSOCKETS: u64 = "net.inet.udp.maxsockets",
        0..=4294967295, "", OWNER,
        |s| s.datagrams.udp.sockets.config.max_sockets as u64,
        |s, v| s.datagrams.udp.sockets.config.max_sockets = v as usize;
    /// UDP sockets.
    UDP_PCBCOUNT: u64 = "net.inet.udp.pcbcount",
        0..=0, "", READ_ONLY,
        |s| s.datagrams.udp.sockets.len() as u64,
        |_, _| {};
    /// Receive buffer of a new UDP socket.
    UDP_RECVSPACE: u64 = "net.inet.udp.recvspace",
        1..=1073725440, "bytes", TUNABLES,
        |s| s.datagrams.udp.sockets.config.recv_buffer as u64,
        |s, v| s.datagrams.udp.sockets.config.recv_buffer = v as usize;
    /// As a router, answer for IPv6 addresses to which packets would leave by another interface (RFC 4389).
    ICMP6_PROXYALL: Switch = "net.inet6.icmp6.nd6_proxyall",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.ip.v6().tunables.proxies,
        |s, v| s.ip.v6_mut().tunables.proxies = v;
    /// As a host, obey IPv6 redirects to a better first hop (RFC 4861 section 8.3).
    ICMP6_REDIRACCEPT: Feature = "net.inet6.icmp6.rediraccept",
        0..=1, "", TUNABLES,
        |s| match s.ip.redirects {
            Obey::Router => Feature::On,
            Obey::Nobody => Feature::Off,
        },
        |s, v| s.set_obeys_redirects(match v {
            Feature::On => Obey::Router,
            Feature::Off => Obey::Nobody,
        });
    /// Obey router advertisements unless packets are forwarded (RFC 4861): routes, and addresses (RFC 4862, RFC
    /// 7217).
    IP6_ACCEPT_RTADV: Feature = "net.inet6.ip6.accept_rtadv",
        0..=1, "", TUNABLES,
        |s| match s.ip.autoconf.accept {
            Accept::Advertisements => Feature::On,
            Accept::Nothing => Feature::Off,
        },
        |s, v| s.set_accept_adverts(match v {
            Feature::On => Accept::Advertisements,
            Feature::Off => Accept::Nothing,
        });
    /// Number of duplicate address detection probes for a new IPv6 address (RFC 4862); 0 for none.
    IP6_DAD_COUNT: u64 = "net.inet6.ip6.dad_count",
        0..=255, "", TUNABLES,
        |s| u64::from(s.ip.dad.count),
        |s, v| s.ip.dad.count = v as u8;
    /// Use new IPv6 addresses while duplicate address detection is still in progress (RFC 4429).
    IP6_OPTIMISTIC_DAD: Feature = "net.inet6.ip6.optimistic_dad",
        0..=1, "", TUNABLES,
        |s| match s.ip.dad.optimism {
            Optimism::Optimistic => Feature::On,
            Optimism::Tentative => Feature::Off,
        },
        |s, v| s.ip.dad.optimism = match v {
            Feature::On => Optimism::Optimistic,
            Feature::Off => Optimism::Tentative,
        };
    /// Prefer temporary addresses for new communication (RFC 6724 section 5, rule 7).
    IP6_PREFER_TEMPADDR: Switch = "net.inet6.ip6.prefer_tempaddr",
        0..=1, "", TUNABLES,
        |s| s.ip.autoconf.temporary.config.preferred,
        |s, v| temporary(s, |c| c.preferred = v);
    /// As a router, redirect hosts to a better IPv6 first hop (RFC 4861 section 8.2).
    IP6_REDIRECT: Redirects = "net.inet6.ip6.redirect",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.ip.v6().tunables.redirects,
        |s, v| s.ip.v6_mut().tunables.redirects = v;
    /// How often a router advertises itself and its prefixes (RFC 4861); 0 for never.
    IP6_RTADV_INTERVAL: Duration = "net.inet6.ip6.rtadv_interval",
        0..=1800000, "ms", TUNABLES,
        |s| s.ip.autoconf.adverts.interval(),
        |s, v| s.set_advert_interval(v);
    /// How long a temporary address is used for new communication (RFC 8981).
    IP6_TEMPPLTIME: Duration = "net.inet6.ip6.temppltime",
        1000..=31536000000, "ms", TUNABLES,
        |s| s.ip.autoconf.temporary.config.prefers_for,
        |s, v| temporary(s, |c| c.prefers_for = v);
    /// How long a temporary address is kept (RFC 8981).
    IP6_TEMPVLTIME: Duration = "net.inet6.ip6.tempvltime",
        1000..=31536000000, "ms", TUNABLES,
        |s| s.ip.autoconf.temporary.config.lasts_for,
        |s, v| temporary(s, |c| c.lasts_for = v);
    /// Have a temporary address in addition to each one derived from an advertised prefix (RFC 8981).
    IP6_USE_TEMPADDR: Switch = "net.inet6.ip6.use_tempaddr",
        0..=1, "", TUNABLES,
        |s| s.ip.autoconf.temporary.config.used,
        |s, v| temporary(s, |c| c.used = v);
    /// Whether IPv6 sockets leave IPv4 to other sockets if their programs do not say (RFC 3493).
    IP6_V6ONLY: Switch = "net.inet6.ip6.v6only",
        0..=1, "", TUNABLES,
        |s| s.only_v6,
        |s, v| s.only_v6 = v;
    /// Minimum time between two defences of an address (RFC 5227).
    ARP_DEFEND: Duration = "net.link.ether.inet.defend_interval",
        0..=3600000, "ms", TUNABLES,
        |s| s.neigh.config().defend_interval,
        |s, v| neigh(s, |c| c.defend_interval = v);
    /// How long a stale neighbour may be confirmed by other traffic before it is probed (RFC 4861).
    ARP_DELAY: Duration = "net.link.ether.inet.delay",
        0..=3600000, "ms", TUNABLES,
        |s| s.neigh.config().delay_first_probe,
        |s, v| neigh(s, |c| c.delay_first_probe = v);
    /// How long an address that did not answer is not requested again (RFC 1122).
    ARP_DOWN: Duration = "net.link.ether.inet.host_down_time",
        0..=3600000, "ms", TUNABLES,
        |s| s.neigh.config().negative,
        |s, v| neigh(s, |c| c.negative = v);
    /// How long after a request an answer to it is still accepted.
    ARP_LATE: Duration = "net.link.ether.inet.late",
        0..=864000000, "ms", TUNABLES,
        |s| s.neigh.config().late,
        |s, v| neigh(s, |c| c.late = v);
    /// Neighbours in the table.
    ARP_LIMIT: u64 = "net.link.ether.inet.limit",
        1..=4294967295, "neighbours", OWNER,
        |s| s.limits.of(Resource::Neighbours),
        |s, v| s.set_limit(Resource::Neighbours, v);
    /// Bytes that may wait for one neighbour; each packet counts as 256 bytes more.
    ARP_MAXHOLD_BYTES: u64 = "net.link.ether.inet.maxhold_bytes",
        0..=1073741824, "bytes", OWNER,
        |s| s.neigh.config().held_bytes as u64,
        |s, v| neigh(s, |c| c.held_bytes = v as usize);
    /// Bytes that may wait for all neighbours together, counted in the same way.
    ARP_MAXHOLD_TOTAL_BYTES: u64 = "net.link.ether.inet.maxhold_total_bytes",
        0..=1073741824, "bytes", OWNER,
        |s| s.neigh.config().held_total_bytes as u64,
        |s, v| neigh(s, |c| c.held_total_bytes = v as usize);
    /// Probes before a neighbour is forgotten.
    ARP_MAXPROBES: u64 = "net.link.ether.inet.maxprobes",
        1..=255, "", TUNABLES,
        |s| u64::from(s.neigh.config().max_probes),
        |s, v| neigh(s, |c| c.max_probes = v as u8);
    /// Requests before a resolution fails.
    ARP_MAXTRIES: u64 = "net.link.ether.inet.maxtries",
        1..=255, "", TUNABLES,
        |s| u64::from(s.neigh.config().max_requests),
        |s, v| neigh(s, |c| c.max_requests = v as u8);
    /// As a router, answer for addresses to which packets would leave by another interface (RFC 1027).
    ARP_PROXYALL: Switch = "net.link.ether.inet.proxyall",
        0..=1, "", Access::Tenant(Privilege::Forwarding),
        |s| s.neigh.config().proxy,
        |s, v| neigh(s, |c| c.proxy = v);
    /// How long a confirmed neighbour counts as reachable (RFC 4861).
    ARP_REACHABLE: Duration = "net.link.ether.inet.reachable",
        1000..=86400000, "ms", TUNABLES,
        |s| s.neigh.config().reachable,
        |s, v| neigh(s, |c| c.reachable = v);
    /// Minimum time between requests, and between probes (RFC 4861).
    ARP_WAIT: Duration = "net.link.ether.inet.wait",
        10..=60000, "ms", TUNABLES,
        |s| s.neigh.config().retrans,
        |s, v| neigh(s, |c| c.retrans = v);
    /// How often each interface with a wire announces its vnet by LLDP (IEEE 802.1AB); 0 for never, in which
    /// case neighbours are not recorded either.
    LLDP_INTERVAL: Duration = "net.link.lldp.interval",
        0..=3600000, "ms", TUNABLES,
        |s| s.lldp.interval(),
        |s, v| s.lldp.set_interval(v);
    /// Whether IP packets leave by VLAN interfaces with the priority given by their class selector, and those
    /// that arrive with DSCP 0 get the class selector of their tag's priority.
    VLAN_CLASSES: Switch = "net.link.vlan.classes",
        0..=1, "", TUNABLES,
        |s| s.ifs.vlan_classes,
        |s, v| s.ifs.vlan_classes = v;
}

fn temporary(stack: &mut Stack, change: impl FnOnce(&mut Temporary)) {
    stack.ip.autoconf.set_temporary(change);
    stack.ip.note_deadlines();
}

fn neigh(stack: &mut Stack, change: impl FnOnce(&mut NeighConfig)) {
    let mut config = stack.neigh.config().clone();
    change(&mut config);
    stack.neigh.set_config(config);
}
