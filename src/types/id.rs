//! Identities. Members and tables are known by number everywhere inside; names are for people.

use core::fmt;
use serde::{Deserialize, Serialize};

use super::limits;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A member, numbered once by the cluster and never used again. Founder `i` of the list is
    /// `i + 1`; 0 is nobody.
    NodeId(u32)
);
number!(
    /// A table. Never used again: an absent id not above the highest given is a dropped table.
    TableId(u32)
);
number!(
    /// One version of the cluster state. 0 is "before birth".
    Epoch(u64)
);
number!(
    /// Counts forced restarts of the decision history. Nodes of different lineages exchange no data.
    Lineage(u32)
);
number!(
    /// A set of replication parameters (n, r_min, w_min) that tables share.
    ClassId(u16)
);
number!(
    /// One of the Q equal ranges of the token circle: a virtual node.
    Partition(u16)
);
number!(
    /// One stretch of a node's life in which it has lost nothing it had acknowledged: what a node
    /// writes in causal tables, it writes as (node, tenure). Random; never used again.
    Tenure(u64)
);
number!(
    /// One client operation in flight on one node. Local to that node's life.
    OpId(u64)
);

/// The unit of ownership, phase, Merkle tree, transfer and deletion: a partition of one class.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Unit {
    /// The class.
    pub class: ClassId,
    /// The partition.
    pub partition: Partition,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.class, self.partition)
    }
}

macro_rules! wide {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:032x})", stringify!($name), self.0)
            }
        }
    };
}

wide!(
    /// A random number that tells two births, or two boots, of the same name apart.
    Nonce
);
wide!(
    /// The hash of the founders, their nonces and the settings: what a cluster is.
    ClusterId
);
wide!(
    /// Chosen by the client for one write, the same over all its attempts. 0 is "none".
    RequestId
);
wide!(
    /// Chosen by the client, returned in the receipt, logged with the operation. 0 is "none".
    TraceId
);

fn is_name(text: &str, bytes_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The operator's name for a node: `[a-z0-9-]{1,32}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// The failure domain a node stands in: `[a-z0-9-]{1,32}`. Copies go to different zones first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

macro_rules! name {
    ($name:ident, $what:literal, $max:expr) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                if is_name(&text, $max) {
                    Ok($name(text))
                } else {
                    Err(format!(concat!($what, " {:?} is not [a-z0-9-]{{1,{}}}"), text, $max))
                }
            }
        }

        impl core::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(NodeName, "node name", limits::NODE_NAME_BYTES_MAX);
name!(Zone, "zone", limits::ZONE_BYTES_MAX);

impl Default for Zone {
    fn default() -> Self {
        Zone("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_alphabet_or_the_limit_are_refused_with_the_reason() {
        assert!("n1".parse::<NodeName>().is_ok());
        for bad in ["", "N1", "a_b", "a b", &"x".repeat(33)] {
            let error = bad.parse::<NodeName>().unwrap_err();
            assert!(error.contains("[a-z0-9-]{1,32}"), "{error}");
        }
    }
}
