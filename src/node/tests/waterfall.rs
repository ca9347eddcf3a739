//! The waterfall of a request, as its client is told, when it succeeds and when it fails.

use core::time::Duration;

use super::bench::{Bench, get, get_in, put, put_in};
use super::causal::carts;
use crate::message::{
    ClientBody, ErrorCode, Event, Get, OpError, Put, Reply, Trace, TraceEvent, Traced,
};
use crate::types::{NodeId, Quorum, limits};

const ALL: Option<Quorum> = Some(Quorum::All);

/// The same request, with its waterfall and of all owners.
fn traced(body: ClientBody) -> ClientBody {
    match body {
        ClientBody::Get(get) => ClientBody::Get(Get { r: ALL, traced: true, ..get }),
        ClientBody::Put(put) => ClientBody::Put(Put { w: ALL, traced: true, ..put }),
        other => panic!("{other:?}"),
    }
}

fn told(bench: &mut Bench, body: ClientBody) -> Traced {
    let op = bench.ask(NodeId(1), traced(body));
    bench.pass(Duration::from_millis(50));
    match bench.reply(op) {
        Some(Ok(Reply::Traced(traced))) => *traced,
        other => panic!("{other:?}"),
    }
}

fn failed(bench: &mut Bench, body: ClientBody) -> (OpError, Trace) {
    let op = bench.ask(NodeId(1), traced(body));
    bench.pass(Duration::from_millis(1100));
    let mut error = bench.reply(op).expect("an answer").unwrap_err();
    let trace = *error.trace.take().expect("its waterfall");
    (error, trace)
}

fn count(trace: &Trace, event: TraceEvent) -> usize {
    trace.steps.iter().filter(|step| step.event == event).count()
}

fn of(trace: &Trace, member: &str) -> Vec<TraceEvent> {
    let steps = trace.steps.iter().filter(|step| step.member.as_str() == member);
    steps.map(|step| step.event).collect()
}

#[test]
fn a_request_that_asks_for_it_is_told_when_owners_were_asked_and_answered() {
    let mut bench = Bench::serving(3);
    for (body, asked) in [(put("k", "v"), TraceEvent::Write), (get("k", None), TraceEvent::Read)] {
        let Traced { reply, trace } = told(&mut bench, body);
        match reply {
            Reply::Put(_) => assert_eq!(asked, TraceEvent::Write),
            Reply::Get(reply) => assert!(reply.record.is_some()),
            other => panic!("{other:?}"),
        }
        assert_eq!((count(&trace, asked), count(&trace, TraceEvent::Answered)), (3, 3));
        assert!(trace.steps.iter().all(|step| step.at <= trace.total));
        let mut names: Vec<&str> = trace.steps.iter().map(|step| step.member.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["n1", "n1", "n2", "n2", "n3", "n3"]);
    }
}

#[test]
fn one_that_does_not_is_answered_as_ever() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(NodeId(1), get_in("default", "k"));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Get(_)))));
    bench.cut.insert((NodeId(3), NodeId(1)));
    let ClientBody::Get(get) = get("k", ALL) else { unreachable!() };
    let op = bench.ask(NodeId(1), ClientBody::Get(get));
    bench.pass(Duration::from_millis(1100));
    assert_eq!(bench.reply(op).unwrap().unwrap_err().trace, None);
}

#[test]
fn one_that_fails_is_told_who_had_not_answered() {
    for body in [put("k", "v"), get("k", None)] {
        let mut bench = Bench::serving(3);
        bench.drop_probes = true;
        bench.cut.insert((NodeId(3), NodeId(1)));
        let (error, trace) = failed(&mut bench, body);
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        assert!(of(&trace, "n2").contains(&TraceEvent::Answered), "{trace:?}");
        let silent = of(&trace, "n3");
        assert!(!silent.is_empty() && !silent.contains(&TraceEvent::Answered), "{trace:?}");
        assert!(trace.steps.len() <= limits::TRACE_STEPS_FAILED_MAX);
        assert!(trace.total >= Duration::from_secs(1), "{trace:?}");
    }
}

#[test]
fn one_that_nobody_was_asked_for_names_the_owners_that_are_away() {
    for body in [put("k", "v"), get("k", None)] {
        let mut bench = Bench::serving(3);
        for gone in [NodeId(2), NodeId(3)] {
            bench.stop(gone);
            bench.event(NodeId(1), Event::Unreachable { peer: gone });
        }
        let (error, trace) = failed(&mut bench, body);
        assert_eq!(error.code, ErrorCode::QuorumNotReached);
        for gone in ["n2", "n3"] {
            assert_eq!(of(&trace, gone), [TraceEvent::Away], "{trace:?}");
        }
    }
}

#[test]
fn a_write_of_a_causal_table_is_followed_to_its_owners() {
    let mut bench = carts(3);
    let Traced { reply, trace } = told(&mut bench, put_in("carts", "k", "v"));
    assert!(matches!(reply, Reply::Causal(_)));
    assert_eq!(of(&trace, "n1"), [TraceEvent::Write, TraceEvent::Answered], "{trace:?}");
    assert_eq!(of(&trace, "n3"), [TraceEvent::Write, TraceEvent::Answered], "{trace:?}");
}
