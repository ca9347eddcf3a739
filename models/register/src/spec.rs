//! What clients are promised: a register that takes one operation at a time.

use stateright::semantics::SequentialSpec;

use crate::state::Reply;

/// What a client asks for. `id` is the operation's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Writes a value; 0 deletes.
    Put {
        value: u8,
    },
    /// Writes a value that has expired by the clock of fast readers and of no others.
    Brief {
        value: u8,
    },
    Cas {
        expect: u8,
        value: u8,
    },
    Read,
    /// A read at a coordinator whose clock says that brief values have expired.
    FastRead,
    /// Asks what became of another operation.
    Outcome {
        of: u8,
    },
}

/// An operation as the history has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invoked {
    Client {
        id: u8,
        op: Op,
    },
    /// A reader's tombstone for a value that has expired. It need not take effect.
    Expire {
        value: u8,
    },
}

/// The register of the promise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    value: u8,
    applied: u8,
    cancelled: u8,
}

impl SequentialSpec for Spec {
    type Op = Invoked;
    type Ret = Reply;

    fn invoke(&mut self, op: &Invoked) -> Reply {
        let (id, op) = match *op {
            Invoked::Client { id, op } => (id, op),
            Invoked::Expire { value } => {
                if self.value == value {
                    self.value = 0;
                }
                return Reply::Applied;
            }
        };
        let bit = 1 << id;
        match op {
            Op::Read | Op::FastRead => Reply::Value(self.value),
            Op::Outcome { of } => {
                let applied = self.applied & (1 << of) != 0;
                if !applied {
                    self.cancelled |= 1 << of;
                }
                Reply::Outcome { applied }
            }
            _ if self.cancelled & bit != 0 => Reply::Cancelled,
            Op::Cas { expect, .. } if expect != self.value => Reply::Failed(self.value),
            Op::Put { value } | Op::Brief { value } | Op::Cas { value, .. } => {
                self.value = value;
                self.applied |= bit;
                Reply::Applied
            }
        }
    }
}
