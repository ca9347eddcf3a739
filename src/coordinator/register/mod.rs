//! Operations on keys of linearizable tables. States, messages and invariants:
//! `docs/protocol/register.md`.

mod decide;
mod machine;
#[cfg(test)]
mod tests;

pub use decide::{Goal, NewValue};
pub use machine::{Register, RegisterOrder};
