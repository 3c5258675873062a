//! How a bridge and its members are written for people: what is as at first is not mentioned.

use std::fmt;

use super::config::{BridgeConfig, BridgeMode, MemberConfig, Switchable};
use super::snooping::config::Snooping;
use super::stp::config::{Edge, RstpConfig, RstpPort, Segment};
use super::vlan::config::{BridgeVlans, MemberVlans, TagPolicy, VlanLearning};
use super::vlan::set::VidSet;

impl fmt::Display for BridgeConfig {
    /// Such as `switch, host detached, rstp, priority 4096`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`: a new parameter has to be shown.
        let BridgeConfig {
            mode,
            host_port,
            max_age,
            max_stations,
            stp,
            snooping,
            vlans,
        } = self;
        let usual = BridgeConfig::default();
        f.write_str(match mode {
            BridgeMode::Switch => "switch",
            BridgeMode::Hub => "hub",
        })?;
        if *host_port == Switchable::Off {
            f.write_str(", host detached")?;
        }
        if *max_age != usual.max_age {
            write!(f, ", stations forgotten after {max_age:?}")?;
        }
        if *max_stations != usual.max_stations {
            write!(f, ", at most {max_stations} stations")?;
        }
        if let Some(rstp) = stp {
            write!(f, ", {rstp}")?;
        }
        if let Some(snooping) = snooping {
            write!(f, ", {snooping}")?;
        }
        match vlans {
            None => Ok(()),
            Some(vlans) => write!(f, ", {vlans}"),
        }
    }
}

impl fmt::Display for Snooping {
    /// Such as `snooping, querier 192.0.2.1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snooping {
            querier,
            querier_v6,
            query_interval,
            fast_leave,
            unknown,
            max_groups,
        } = self;
        let usual = Snooping::default();
        f.write_str("snooping")?;
        if let Some(address) = querier {
            write!(f, ", querier {address}")?;
        }
        if let Some(address) = querier_v6 {
            write!(f, ", querier {address}")?;
        }
        if *query_interval != usual.query_interval {
            write!(f, ", query interval {query_interval:?}")?;
        }
        if fast_leave.is_on() {
            f.write_str(", fast leave")?;
        }
        if !unknown.is_on() {
            f.write_str(", unknown groups to routers only")?;
        }
        if *max_groups != usual.max_groups {
            write!(f, ", at most {max_groups} groups")?;
        }
        Ok(())
    }
}

impl fmt::Display for RstpConfig {
    /// Such as `rstp, priority 4096`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RstpConfig {
            priority,
            hello_time,
            max_age,
            forward_delay,
            tx_hold_count,
        } = self;
        let usual = RstpConfig::default();
        f.write_str("rstp")?;
        if *priority != usual.priority {
            write!(f, ", priority {priority}")?;
        }
        if *hello_time != usual.hello_time {
            write!(f, ", hello time {hello_time:?}")?;
        }
        if *max_age != usual.max_age {
            write!(f, ", max age {max_age:?}")?;
        }
        if *forward_delay != usual.forward_delay {
            write!(f, ", forward delay {forward_delay:?}")?;
        }
        if *tx_hold_count != usual.tx_hold_count {
            write!(f, ", hold count {tx_hold_count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MemberConfig {
    /// Such as `no learning, private, edge port`; empty when all is as at first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemberConfig {
            learn,
            discover,
            private,
            broadcast,
            multicast,
            router,
            sticky,
            max_stations,
            max_stations_in_vlan,
            storm,
            span,
            rstp,
            vlans,
        } = self;
        let RstpPort {
            priority,
            path_cost,
            edge,
            segment,
            bpdu_guard,
            root_guard,
        } = *rstp;
        let mut parts = Vec::new();
        let mut part = |is_shown: bool, text: fmt::Arguments<'_>| {
            if is_shown {
                parts.push(text.to_string());
            }
        };
        part(*learn == Switchable::Off, format_args!("no learning"));
        part(*discover == Switchable::Off, format_args!("no discovery"));
        part(*private == Switchable::On, format_args!("private"));
        part(!broadcast.is_on(), format_args!("no broadcasts"));
        part(!multicast.is_on(), format_args!("no multicasts"));
        part(router.is_on(), format_args!("router"));
        part(sticky.is_on(), format_args!("sticky"));
        if let Some(most) = max_stations {
            part(
                true,
                format_args!("at most {most} station{}", plural(*most)),
            );
        }
        if let Some(most) = max_stations_in_vlan {
            let s = plural(*most);
            part(true, format_args!("at most {most} station{s} in each VLAN"));
        }
        let limits = [
            (storm.broadcast, "broadcasts"),
            (storm.multicast, "multicasts"),
            (storm.unknown, "unknown unicasts"),
        ];
        for (most, of) in limits {
            if let Some(most) = most {
                part(true, format_args!("at most {most} {of}/s"));
            }
        }
        part(span.is_on(), format_args!("span"));
        part(
            priority != RstpPort::default().priority,
            format_args!("port priority {priority}"),
        );
        if let Some(cost) = path_cost {
            part(true, format_args!("path cost {cost}"));
        }
        part(edge == Edge::Yes, format_args!("edge port"));
        part(edge == Edge::No, format_args!("no edge port"));
        part(segment == Segment::Shared, format_args!("shared segment"));
        part(bpdu_guard == Switchable::On, format_args!("BPDU guard"));
        part(root_guard == Switchable::On, format_args!("root guard"));
        part(!vlans.is_default(), format_args!("{vlans}"));
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for BridgeVlans {
    /// Such as `VLANs of 802.1Q, host in VLANs untagged 10, PVID 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BridgeVlans {
            tpid,
            learning,
            max_stations,
            host,
        } = self;
        write!(f, "VLANs of {tpid}")?;
        if *learning == VlanLearning::Shared {
            f.write_str(", shared learning")?;
        }
        if let Some(most) = max_stations {
            write!(f, ", at most {most} stations in each")?;
        }
        match host.is_default() {
            true => Ok(()),
            false => write!(f, ", host: {host}"),
        }
    }
}

impl fmt::Display for MemberVlans {
    /// Such as `tagged 10-19, untagged 5, PVID 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemberVlans {
            pvid,
            tagged,
            untagged,
            tags,
            ingress_filter,
        } = self;
        let none = VidSet::default();
        for (name, set) in [("tagged", tagged), ("untagged", untagged)] {
            if *set != none {
                write!(f, "{name} {set}, ")?;
            }
        }
        match pvid {
            Some(vid) => write!(f, "PVID {vid}")?,
            None => f.write_str("no PVID")?,
        }
        f.write_str(match tags {
            TagPolicy::Obey => "",
            TagPolicy::Refuse => ", tags refused",
            TagPolicy::Ignore => ", tags ignored",
        })?;
        match ingress_filter {
            Switchable::On => Ok(()),
            Switchable::Off => f.write_str(", no ingress filter"),
        }
    }
}

/// What a noun for so many ends in.
fn plural(n: u32) -> &'static str {
    match n {
        1 => "",
        _ => "s",
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::storm::StormLimits;
    use super::*;

    #[test]
    fn what_is_unusual_is_said() {
        let mut bridge = BridgeConfig::default();
        assert_eq!(bridge.to_string(), "switch");
        bridge.stp = Some(RstpConfig::default());
        assert_eq!(bridge.to_string(), "switch, rstp");
        let bridge = BridgeConfig {
            mode: BridgeMode::Hub,
            host_port: Switchable::Off,
            max_age: Duration::from_secs(20),
            max_stations: 8,
            stp: Some(RstpConfig {
                priority: 4096,
                hello_time: Duration::from_secs(1),
                max_age: Duration::from_secs(10),
                forward_delay: Duration::from_secs(9),
                tx_hold_count: 3,
            }),
            snooping: Some(Snooping {
                querier: Some(std::net::Ipv4Addr::new(192, 0, 2, 1)),
                querier_v6: "fe80::1".parse().ok(),
                query_interval: Duration::from_secs(60),
                fast_leave: Switchable::On,
                unknown: Switchable::Off,
                max_groups: 9,
            }),
            vlans: Some(BridgeVlans {
                max_stations: Some(7),
                ..BridgeVlans::default()
            }),
        };
        assert_eq!(
            bridge.to_string(),
            "hub, host detached, stations forgotten after 20s, at most 8 stations, rstp, priority 4096, hello \
             time 1s, max age 10s, forward delay 9s, hold count 3, snooping, querier 192.0.2.1, querier fe80::1, query interval 60s, fast leave, unknown groups to routers \
             only, at most 9 groups, VLANs of 802.1Q, \
             at most 7 stations in each"
        );
        assert_eq!(MemberConfig::default().to_string(), "");
        let member = MemberConfig {
            learn: Switchable::Off,
            discover: Switchable::Off,
            private: Switchable::On,
            broadcast: Switchable::Off,
            multicast: Switchable::Off,
            router: Switchable::On,
            sticky: Switchable::On,
            max_stations: Some(2),
            max_stations_in_vlan: Some(1),
            storm: StormLimits {
                broadcast: NonZeroU32::new(10),
                multicast: None,
                unknown: NonZeroU32::new(3),
            },
            span: Switchable::On,
            rstp: RstpPort {
                priority: 16,
                path_cost: NonZeroU32::new(7),
                edge: Edge::Yes,
                segment: Segment::Shared,
                bpdu_guard: Switchable::On,
                root_guard: Switchable::On,
            },
            vlans: MemberVlans::access(5),
        };
        assert_eq!(
            member.to_string(),
            "no learning, no discovery, private, no broadcasts, no multicasts, router, sticky, at most 2 stations, at most 1 station in each VLAN, at most 10 broadcasts/s, at most 3 unknown unicasts/s, span, port priority 16, path cost 7, edge port, shared segment, BPDU guard, \
             root guard, untagged 5, PVID 5, tags refused"
        );
    }
}
