//! Which traffic class a packet of a VLAN interface gets from its tag, and which priority its tag from its class.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::config::ConfigError;
use crate::packet::tag::Priority;

/// The largest priority code point (IEEE 802.1Q-2018, clause 9.6).
const MAX_PCP: u8 = 7;
/// The largest differentiated services codepoint (RFC 2474).
const MAX_DSCP: u8 = 63;

/// A VLAN priority and the traffic class that corresponds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// The priority code point (PCP), 0 to 7.
    pub pcp: u8,
    /// Whether the frame may be dropped before others (DEI); off by default.
    #[serde(default)]
    pub dei: bool,
    /// The differentiated services codepoint (DSCP), 0 to 63.
    pub dscp: u8,
}

/// How a VLAN interface maps between the priority of its tags and the traffic class of its packets. It takes
/// precedence over the tunable `net.link.vlan.classes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassMaps {
    /// The class of received packets, by the priority of their tags. Other packets keep their class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<ClassRule>,
    /// The priority in the tags of sent packets, by their class. Other packets get priority 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<ClassRule>,
}

impl ClassMaps {
    /// Checks what has a range, and that nothing is mapped twice.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (setting, rules) in [("ingress", &self.ingress), ("egress", &self.egress)] {
            for (n, rule) in rules.iter().enumerate() {
                let ClassRule { pcp, dei, dscp } = *rule;
                if pcp > MAX_PCP {
                    let message = format!("the PCP is 0 to {MAX_PCP}, not {pcp}");
                    return Err(ConfigError::new(setting, message));
                }
                if dscp > MAX_DSCP {
                    let message = format!("the DSCP is 0 to {MAX_DSCP}, not {dscp}");
                    return Err(ConfigError::new(setting, message));
                }
                let is_same = |other: &ClassRule| match setting {
                    "ingress" => (other.pcp, other.dei) == (pcp, dei),
                    _ => other.dscp == dscp,
                };
                if rules[..n].iter().any(is_same) {
                    let message = match setting {
                        "ingress" => format!("PCP {pcp} (DEI {}) is mapped twice", u8::from(dei)),
                        _ => format!("DSCP {dscp} is mapped twice"),
                    };
                    return Err(ConfigError::new(setting, message));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for ClassMaps {
    /// Such as `in 5:46 5d:46, out 46:5`: a PCP and a DSCP, or the other way round; `d` is for DEI.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |rule: &ClassRule| if rule.dei { "d" } else { "" };
        f.write_str("in")?;
        for rule in &self.ingress {
            write!(f, " {}{}:{}", rule.pcp, mark(rule), rule.dscp)?;
        }
        f.write_str(", out")?;
        for rule in &self.egress {
            write!(f, " {}:{}{}", rule.dscp, rule.pcp, mark(rule))?;
        }
        Ok(())
    }
}

/// The maps as they are looked up.
#[derive(Clone, Debug)]
pub(crate) struct Classes {
    pub(crate) maps: ClassMaps,
    /// By priority and drop eligibility.
    ingress: [Option<u8>; 16],
    /// By DSCP.
    egress: [Priority; 64],
}

impl Classes {
    /// Those of maps that have been checked.
    pub(crate) fn new(maps: ClassMaps) -> Classes {
        let mut ingress = [None; 16];
        let mut egress = [Priority::default(); 64];
        for rule in &maps.ingress {
            ingress[Priority::new(rule.pcp, rule.dei).index()] = Some(rule.dscp);
        }
        for rule in &maps.egress {
            egress[usize::from(rule.dscp & MAX_DSCP)] = Priority::new(rule.pcp, rule.dei);
        }
        Classes {
            maps,
            ingress,
            egress,
        }
    }

    /// The DSCP of a packet whose tag had this priority, unless it stays as it is.
    pub(crate) fn dscp(&self, priority: Priority) -> Option<u8> {
        self.ingress[priority.index()]
    }

    /// The priority of a packet with this DSCP.
    pub(crate) fn priority(&self, dscp: u8) -> Priority {
        self.egress[usize::from(dscp & MAX_DSCP)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let rule = |pcp, dei, dscp| ClassRule { pcp, dei, dscp };
        let setting = |ingress: &[ClassRule], egress: &[ClassRule]| {
            let maps = ClassMaps {
                ingress: ingress.to_vec(),
                egress: egress.to_vec(),
            };
            maps.check().map_err(|refused| refused.setting)
        };
        let two = [rule(5, false, 46), rule(5, true, 46)];
        assert_eq!(setting(&two, &[]), Ok(()));
        assert_eq!(setting(&[], &two), Err("egress"));
        assert_eq!(setting(&[two[0], rule(5, false, 1)], &[]), Err("ingress"));
        assert_eq!(setting(&[rule(8, false, 1)], &[]), Err("ingress"));
        assert_eq!(setting(&[], &[rule(7, false, 64)]), Err("egress"));
    }
}
