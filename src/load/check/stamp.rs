//! I8: the stamps a node gives strictly increase in the order it gives them, also over restarts.

use std::collections::BTreeMap;

use crate::types::{NodeId, Stamp};

use super::Violation;

/// One stamp a node gave to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Who gave it.
    pub node: NodeId,
    /// What it gave.
    pub stamp: Stamp,
    /// The place of this in the order of everything that node gave, over its whole life.
    pub order: u64,
}

/// Checks that each node's stamps strictly increase in the order they were given, and that they
/// bear its number. `issues` may come in any order.
pub fn stamps(issues: impl IntoIterator<Item = Issue>) -> Vec<Violation> {
    let mut nodes: BTreeMap<NodeId, Vec<Issue>> = BTreeMap::new();
    for issue in issues {
        nodes.entry(issue.node).or_default().push(issue);
    }
    let mut violations = Vec::new();
    for (node, mut issues) in nodes {
        issues.sort_by_key(|issue| issue.order);
        for issue in issues.iter().filter(|issue| issue.stamp.node != node) {
            violations.push(Violation::StampForeign { node, stamp: issue.stamp });
        }
        for (before, after) in issues.iter().zip(issues.iter().skip(1)) {
            if after.stamp <= before.stamp {
                let (before, after) = (before.stamp, after.stamp);
                violations.push(Violation::StampRegressed { node, before, after });
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WallTime;

    fn issue(node: u32, time: u64, order: u64) -> Issue {
        let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(node) };
        Issue { node: NodeId(node), stamp, order }
    }

    #[test]
    fn rising_stamps_pass_whatever_other_nodes_give_in_between() {
        let issues = [issue(1, 30, 2), issue(1, 10, 1), issue(2, 5, 1), issue(2, 6, 9)];
        assert_eq!(stamps(issues), []);
    }

    #[test]
    fn a_regressing_stamp_is_found_in_the_order_of_issue() {
        let issues = [issue(1, 10, 2), issue(1, 30, 1), issue(2, 5, 1)];
        let [Violation::StampRegressed { node, before, after }] = &stamps(issues)[..] else {
            panic!("one violation");
        };
        assert_eq!((node.0, before.time.0, after.time.0), (1, 30, 10));
    }

    #[test]
    fn giving_one_stamp_twice_is_a_regression() {
        assert_eq!(stamps([issue(1, 10, 1), issue(1, 10, 2)]).len(), 1);
    }

    #[test]
    fn a_stamp_with_the_number_of_another_node_is_found() {
        let foreign = Issue { node: NodeId(1), ..issue(2, 10, 1) };
        let stamp = foreign.stamp;
        assert_eq!(stamps([foreign]), [Violation::StampForeign { node: NodeId(1), stamp }]);
    }
}
