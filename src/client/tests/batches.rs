//! What the fake server does of batches and of compare-and-sets.

use super::{Fake, State, refusal, stamp_bytes};
use crate::client::Applied;
use crate::wire::proto::v1::session_response::answer::Answer as Body;
use crate::wire::proto::v1::{self, batch_response::Outcome, batch_response::outcome};

impl Fake {
    /// Makes a batch, or the first so many writes of it; the others fail.
    pub(super) fn batch(
        &self,
        state: &mut State,
        batch: v1::BatchRequest,
        part: Option<(usize, &'static str, Applied)>,
    ) -> v1::BatchResponse {
        state.batches.push(batch.items.iter().map(|item| item.key.clone()).collect());
        let mut outcomes = Vec::new();
        for (at, item) in batch.items.into_iter().enumerate() {
            let failed = part.filter(|(made, ..)| at >= *made);
            let outcome = match failed.map(|(_, code, applied)| refusal(code, applied)) {
                Some(Body::Error(mut detail)) => {
                    detail.retryable = detail.code != "KIND_MISMATCH";
                    outcome::Outcome::Error(detail)
                }
                _ => {
                    state.stamped += 1;
                    let stamp = state.stamped;
                    match item.value {
                        Some(value) => state.data.insert(item.key, (value, stamp)),
                        None => state.data.remove(&item.key),
                    };
                    outcome::Outcome::Receipt(self.receipt(stamp).unwrap())
                }
            };
            outcomes.push(Outcome { outcome: Some(outcome), group: 0 });
        }
        v1::BatchResponse { outcomes }
    }

    /// The keys of each batch that was sent.
    pub(crate) fn batches(&self) -> Vec<Vec<bytes::Bytes>> {
        self.state.lock().batches.clone()
    }

    pub(super) fn compare(&self, state: &mut State, cas: v1::CasRequest) -> v1::CasResponse {
        use v1::cas_request::Expect;
        let found = state.data.get(&cas.key).cloned();
        let as_expected = match (cas.expect.unwrap(), &found) {
            (Expect::Absent(_), found) => found.is_none(),
            (Expect::ValueIs(value), Some((found, _))) => value == *found,
            (Expect::StampIs(bytes), Some((_, stamp))) => bytes == stamp_bytes(*stamp),
            (_, None) => false,
        };
        if !as_expected {
            let current = found.map(|(value, stamp)| v1::cas_response::Version {
                value,
                stamp: stamp_bytes(stamp),
                expires_ns: None,
            });
            return v1::CasResponse { applied: false, receipt: self.receipt(0), current };
        }
        state.stamped += 1;
        let stamp = state.stamped;
        match cas.value {
            Some(value) => state.data.insert(cas.key, (value, stamp)),
            None => state.data.remove(&cas.key),
        };
        state.made.insert(cas.attempt.unwrap().request_id, stamp);
        v1::CasResponse { applied: true, receipt: self.receipt(stamp), current: None }
    }
}
