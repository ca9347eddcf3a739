//! The waterfall of a read, as its client is told.

use core::time::Duration;

use super::bench::{Bench, get, get_in, put};
use crate::message::{ClientBody, Get, Reply, TraceEvent, Traced};
use crate::types::{NodeId, Quorum};

fn traced(bench: &mut Bench, body: ClientBody) -> Traced {
    let ClientBody::Get(get) = body else { unreachable!() };
    let body = ClientBody::Get(Get { r: Some(Quorum::All), traced: true, ..get });
    let op = bench.ask(NodeId(1), body);
    bench.pass(Duration::from_millis(50));
    match bench.reply(op) {
        Some(Ok(Reply::Traced(traced))) => *traced,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_that_asks_for_it_is_told_when_owners_were_asked_and_answered() {
    let mut bench = Bench::serving(3);
    bench.ask(NodeId(1), put("k", "v"));
    let Traced { reply, steps, total } = traced(&mut bench, get("k", None));
    assert!(matches!(reply, Reply::Get(reply) if reply.record.is_some()));
    let count = |event: TraceEvent| steps.iter().filter(|step| step.event == event).count();
    assert_eq!((count(TraceEvent::Read), count(TraceEvent::Answered)), (3, 3));
    assert!(steps.iter().all(|step| step.at <= total));
    let mut names: Vec<&str> = steps.iter().map(|step| step.member.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "n1", "n2", "n2", "n3", "n3"]);
}

#[test]
fn one_that_does_not_is_answered_as_ever() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(NodeId(1), get_in("default", "k"));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Get(_)))));
}
