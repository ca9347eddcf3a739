//! Why replicas of a key differ, in words, from what they and the keepers of hints have said.

use std::collections::BTreeSet;

use crate::causality::Dot;
use crate::message::{HintFacts, Liveness, OwnCopy, RegisterFacts, Verdict, VersionFacts};
use crate::types::{Stamp, WallTime};

/// One owner, and what is known of its copy.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) liveness: Liveness,
    /// Its copy, or why it did not tell.
    pub(super) copy: Result<OwnCopy, String>,
    /// What others keep for it.
    pub(super) hints: Vec<HintFacts>,
}

fn verdict(code: &'static str, why: impl Into<String>) -> Verdict {
    Verdict { code, why: why.into() }
}

/// The newest version that any owner holds, or that waits for one.
pub(super) fn newest(replicas: &[Replica]) -> Option<VersionFacts> {
    let held = replicas.iter().filter_map(version);
    let hinted = replicas.iter().flat_map(|replica| &replica.hints).map(|held| held.version);
    held.chain(hinted).max_by_key(|version| version.stamp)
}

fn version(replica: &Replica) -> Option<VersionFacts> {
    match &replica.copy {
        Ok(OwnCopy::Version(version)) => *version,
        Ok(OwnCopy::Register(register)) => register.version,
        _ => None,
    }
}

/// Judges each replica; `wall` decides what has expired.
pub(super) fn judge(replicas: &[Replica], wall: WallTime) -> Vec<Verdict> {
    let newest = newest(replicas);
    let siblings = |replica: &Replica| match &replica.copy {
        Ok(OwnCopy::Siblings(siblings)) => {
            Some(siblings.iter().map(|sibling| sibling.dot).collect::<BTreeSet<Dot>>())
        }
        _ => None,
    };
    let sets: Vec<BTreeSet<Dot>> = replicas.iter().filter_map(siblings).collect();
    let accepted = |replica: &Replica| match &replica.copy {
        Ok(OwnCopy::Register(register)) => Some(register.accepted),
        _ => None,
    };
    let highest = replicas.iter().filter_map(accepted).max().unwrap_or(Stamp::ZERO);
    let same = replicas.iter().filter(|replica| accepted(replica) == Some(highest)).count();
    let one = |replica: &Replica| match &replica.copy {
        Err(why) => silent(replica, newest, why),
        Ok(OwnCopy::NotOwner) => verdict("untold", "not told: it is no owner"),
        Ok(OwnCopy::Untold(why)) => verdict("untold", format!("not told: {why}")),
        Ok(OwnCopy::Version(held)) => of_version(replica, *held, newest, wall),
        Ok(OwnCopy::Register(register)) => {
            of_register(register, highest, same * 2 > replicas.len())
        }
        Ok(OwnCopy::Siblings(_)) => {
            let own = siblings(replica).unwrap_or_default();
            of_siblings(replica, &own, sets.as_slice())
        }
    };
    replicas.iter().map(one).collect()
}

/// Whether all owners answered and hold the same; `None` when some did not answer.
pub(super) fn agree(verdicts: &[Verdict]) -> Option<bool> {
    let is = |codes: &[&str]| verdicts.iter().any(|verdict| codes.contains(&verdict.code));
    if is(&["stale", "missing", "hinted", "differs"]) {
        Some(false)
    } else if is(&["silent", "untold"]) {
        None
    } else {
        Some(true)
    }
}

/// The whole of it in one sentence.
pub(super) fn in_all(verdicts: &[Verdict]) -> &'static str {
    match agree(verdicts) {
        Some(true) => "all owners hold the same",
        Some(false) => "owners differ",
        None => "those that told hold the same; of the others it is not known",
    }
}

fn waiting(replica: &Replica, above: Stamp) -> Option<&HintFacts> {
    let news = replica.hints.iter().filter(|held| held.version.stamp > above);
    news.max_by_key(|held| held.version.stamp)
}

fn silent(replica: &Replica, newest: Option<VersionFacts>, why: &str) -> Verdict {
    let mut words = match replica.liveness {
        Liveness::Down | Liveness::Suspect => {
            "cannot be reached: what it holds is not known".to_owned()
        }
        Liveness::Alive | Liveness::Left => {
            format!("did not tell ({why}): what it holds is not known")
        }
    };
    if let Some(held) = waiting(replica, Stamp::ZERO) {
        let is_newest = newest.is_some_and(|newest| newest.stamp == held.version.stamp);
        let what = if is_newest { "the newest version" } else { "a version" };
        words.push_str(&format!("; a hint with {what} waits for it at {}", held.holder));
    }
    verdict("silent", words)
}

fn of_version(
    replica: &Replica,
    held: Option<VersionFacts>,
    newest: Option<VersionFacts>,
    wall: WallTime,
) -> Verdict {
    let Some(newest) = newest else {
        return verdict("nothing", "no owner that told holds anything");
    };
    let stamp = held.map_or(Stamp::ZERO, |held| held.stamp);
    if stamp == newest.stamp {
        let expired = newest.expiry.is_some_and(|at| at <= wall);
        return verdict(
            "newest",
            match (newest.tombstone, expired) {
                (true, _) => "holds the newest version, a delete",
                (false, true) => "holds the newest version, which has expired: it reads as absent",
                (false, false) => "holds the newest version",
            },
        );
    }
    let lacks = match held {
        Some(_) => "holds an older version",
        None => "holds nothing of the key",
    };
    if let Some(waiting) = waiting(replica, stamp) {
        let what = if waiting.version.stamp == newest.stamp { "the newest" } else { "a newer one" };
        let words = format!("{lacks}: a hint with {what} waits for it at {}", waiting.holder);
        return verdict("hinted", words);
    }
    let code = if held.is_some() { "stale" } else { "missing" };
    let words = format!(
        "{lacks}, and no hint waits for it: a read that asks it repairs it (`kvctl get -r all`)"
    );
    verdict(code, words)
}

/// A state is decided once a majority has accepted it under one ballot; the others learn of it with
/// the next change.
fn of_register(register: &RegisterFacts, highest: Stamp, decided: bool) -> Verdict {
    if highest == Stamp::ZERO {
        return verdict("nothing", "no owner that told has accepted anything");
    }
    let newer = if register.promised > highest {
        "; it has promised itself to a higher ballot: a change is, or was, on its way"
    } else {
        ""
    };
    let (code, words) = match (register.accepted == highest, decided) {
        (true, true) => ("newest", "has accepted the newest state, which is decided"),
        (true, false) => (
            "newest",
            "has accepted the newest state, which no majority that told has: the next read settles it",
        ),
        (false, true) => (
            "stale",
            "has not accepted the newest state, which is decided: the next change brings it along",
        ),
        (false, false) => ("stale", "has not accepted the newest state, which is not decided yet"),
    };
    verdict(code, format!("{words}{newer}"))
}

fn of_siblings(replica: &Replica, own: &BTreeSet<Dot>, sets: &[BTreeSet<Dot>]) -> Verdict {
    let all: BTreeSet<&Dot> = sets.iter().flatten().collect();
    if let Some(waiting) = waiting(replica, Stamp::ZERO) {
        let words = format!("a hint with siblings or deletes waits for it at {}", waiting.holder);
        return verdict("hinted", words);
    }
    let lacks = all.len() - own.len();
    if sets.iter().any(|set| set != own) {
        let words = format!(
            "lacks {lacks} of the {} siblings there are: they have not come, or it has seen \
             them superseded; a read of all merges them",
            all.len()
        );
        let more =
            "has siblings that others lack or have seen superseded; a read of all merges them";
        return verdict("differs", if lacks > 0 { words } else { more.to_owned() });
    }
    if own.is_empty() {
        return verdict("nothing", "no owner that told has a value");
    }
    verdict("same", "has the same siblings as all others that told")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SiblingFacts;
    use crate::types::{NodeId, Tenure};

    fn version(time: u64) -> VersionFacts {
        let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
        VersionFacts { stamp, bytes: 3, tombstone: false, expiry: None }
    }

    fn replica(copy: Result<Option<VersionFacts>, &str>) -> Replica {
        Replica {
            liveness: if copy.is_ok() { Liveness::Alive } else { Liveness::Down },
            copy: copy.map(OwnCopy::Version).map_err(str::to_owned),
            hints: Vec::new(),
        }
    }

    fn hinted(mut replica: Replica, version: VersionFacts) -> Replica {
        let holder = "n9".parse().unwrap();
        replica.hints.push(HintFacts { holder, version });
        replica
    }

    fn codes(replicas: &[Replica]) -> Vec<&'static str> {
        judge(replicas, WallTime(100)).iter().map(|verdict| verdict.code).collect()
    }

    fn whys(replicas: &[Replica]) -> String {
        let verdicts = judge(replicas, WallTime(100));
        verdicts.iter().map(|verdict| verdict.why.as_str()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn owners_that_hold_the_newest_agree_and_one_that_is_silent_leaves_it_open() {
        let same = [replica(Ok(Some(version(5)))), replica(Ok(Some(version(5))))];
        assert_eq!(codes(&same), ["newest", "newest"]);
        assert_eq!(agree(&judge(&same, WallTime(100))), Some(true));
        let open = [same[0].clone(), replica(Err("no answer"))];
        assert_eq!(codes(&open), ["newest", "silent"]);
        assert_eq!(agree(&judge(&open, WallTime(100))), None);
        assert!(whys(&open).contains("cannot be reached"));
    }

    #[test]
    fn a_hint_explains_an_owner_that_is_behind_only_when_it_brings_something_new() {
        let newer = hinted(replica(Ok(Some(version(4)))), version(5));
        let older = hinted(replica(Ok(Some(version(4)))), version(3));
        let nothing = hinted(replica(Ok(None)), version(5));
        let all = [replica(Ok(Some(version(5)))), newer, older, nothing, replica(Ok(None))];
        assert_eq!(codes(&all), ["newest", "hinted", "stale", "hinted", "missing"]);
        assert_eq!(agree(&judge(&all, WallTime(100))), Some(false));
        assert!(whys(&all).contains("the newest waits for it at n9"));
        assert!(whys(&all).contains("a read that asks it repairs it"));
    }

    #[test]
    fn a_version_that_only_a_hint_holds_is_the_newest() {
        let all = [replica(Ok(Some(version(4)))), hinted(replica(Err("gone")), version(6))];
        assert_eq!(newest(&all), Some(version(6)));
        assert_eq!(codes(&all), ["stale", "silent"]);
        assert!(whys(&all).contains("a hint with the newest version waits for it at n9"));
    }

    #[test]
    fn deletes_and_expired_versions_are_named() {
        let deleted = VersionFacts { tombstone: true, bytes: 0, ..version(5) };
        assert!(whys(&[replica(Ok(Some(deleted)))]).contains("a delete"));
        let expiring = |at| VersionFacts { expiry: Some(WallTime(at)), ..version(5) };
        assert!(whys(&[replica(Ok(Some(expiring(100))))]).contains("has expired"));
        assert!(!whys(&[replica(Ok(Some(expiring(101))))]).contains("has expired"));
        assert_eq!(codes(&[replica(Ok(None)), replica(Ok(None))]), ["nothing", "nothing"]);
    }

    #[test]
    fn sets_of_siblings_are_compared_by_the_names_of_their_writes() {
        let set = |dots: &[u64]| {
            let sibling = |time: &u64| SiblingFacts {
                dot: Dot::new(version(*time).stamp, Tenure(1)),
                bytes: 1,
                expiry: None,
            };
            let copy = Ok(OwnCopy::Siblings(dots.iter().map(sibling).collect()));
            Replica { copy, ..replica(Ok(None)) }
        };
        assert_eq!(codes(&[set(&[1, 2]), set(&[2, 1])]), ["same", "same"]);
        assert_eq!(codes(&[set(&[1, 2]), set(&[1])]), ["differs", "differs"]);
        assert_eq!(codes(&[set(&[]), set(&[])]), ["nothing", "nothing"]);
        assert!(whys(&[set(&[1, 2]), set(&[1])]).contains("lacks 1 of the 2"));
    }

    #[test]
    fn registers_are_judged_by_the_ballot_a_majority_has_accepted() {
        let register = |promised: u64, accepted: u64| {
            let (promised, accepted) = (version(promised).stamp, version(accepted).stamp);
            let facts = RegisterFacts { promised, accepted, version: Some(version(1)) };
            Replica { copy: Ok(OwnCopy::Register(facts)), ..replica(Ok(None)) }
        };
        let decided = [register(5, 5), register(7, 5), register(4, 4)];
        assert_eq!(codes(&decided), ["newest", "newest", "stale"]);
        assert!(whys(&decided).contains("decided; it has promised itself to a higher ballot"));
        assert!(whys(&decided).contains("the next change brings it along"));
        let open = [register(6, 6), register(5, 5), register(5, 5)];
        assert_eq!(codes(&open), ["newest", "stale", "stale"]);
        assert!(whys(&open).contains("the next read settles it"));
        let facts = RegisterFacts { promised: Stamp::ZERO, accepted: Stamp::ZERO, version: None };
        let blank = Replica { copy: Ok(OwnCopy::Register(facts)), ..replica(Ok(None)) };
        assert_eq!(codes(&[blank]), ["nothing"]);
    }

    #[test]
    fn what_is_not_told_is_said_so() {
        let untold = Replica { copy: Ok(OwnCopy::Untold("why".to_owned())), ..replica(Ok(None)) };
        let verdicts = judge(&[untold], WallTime(0));
        assert_eq!((verdicts[0].code, agree(&verdicts)), ("untold", None));
        assert!(in_all(&verdicts).contains("not known"));
    }
}
