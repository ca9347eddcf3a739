//! What the members agree on, and who may take part.

pub mod admission;
