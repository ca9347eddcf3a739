//! What is promised to members that live: nobody takes their place.

use std::time::Duration;

use roundtable::types::Decision;

/// Who has been well for so long was well when it was decided: a decision takes a few rounds of messages,
/// which may be slow or have to be sent again.
const DECIDED_WITHIN: Duration = Duration::from_secs(6);

/// A member was replaced, and has run, served, and been in reach of a majority for `well`.
pub(crate) fn relief_fault(decision: &Decision, well: Option<Duration>) -> Result<(), String> {
    match well {
        Some(well) if well >= DECIDED_WITHIN => Err(format!(
            "{} is replaced in epoch {} ({}), and has been well for {well:?}",
            decision.subject, decision.epoch, decision.reason
        )),
        _ => Ok(()),
    }
}
