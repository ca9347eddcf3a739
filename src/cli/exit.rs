//! How a command ends when it does not end well: one exit code and one error, shown as text or as
//! a JSON object on stderr. Codes and shape are fixed by `docs/kvctl.md`.

use std::process::ExitCode;

use clap::error::ErrorKind as ClapKind;
use serde_json::json;

use crate::client::{Applied, Error, ErrorCode, ErrorKind, Trace};

use super::{output, waterfall};

/// Exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Internal = 1,
    Usage = 2,
    NotFound = 3,
    Unavailable = 4,
    Deadline = 5,
    Conflict = 6,
    Auth = 7,
    Partial = 8,
    Interrupted = 130,
}

const PLAN_HINT: &str =
    "`kvctl plan show` shows what is staged, `kvctl plan status` what is carried out";

/// Why a command did not do what it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    code: String,
    message: String,
    hint: Option<String>,
    retryable: bool,
    applied: Applied,
    /// What happened until then, when that was asked for.
    trace: Option<Box<Trace>>,
    /// Nothing is shown: whoever would read it is gone, or has seen it.
    silent: bool,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            retryable: false,
            applied: Applied::No,
            trace: None,
            silent: false,
        }
    }

    /// The command line is at fault.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "USAGE", message)
    }

    /// There are several values where one was wanted.
    pub(crate) fn siblings(count: u32, hint: &str) -> Failure {
        let message = format!("the key has {count} siblings");
        let failure = Failure::new(Exit::Conflict, Error::SIBLINGS, message);
        Failure { hint: Some(hint.to_owned()), ..failure }
    }

    /// A compare-and-set found something else, or nothing.
    pub(crate) fn mismatch(found: bool) -> Failure {
        let message = if found {
            "the key holds another value; nothing was changed"
        } else {
            "the key is not there; nothing was changed"
        };
        Failure::new(Exit::Conflict, "MISMATCH", message)
    }

    /// There is no plan of this hash, or not any more.
    pub(crate) fn plan_conflict(message: impl Into<String>) -> Failure {
        let failure = Failure::new(Exit::Conflict, ErrorCode::PlanConflict.as_str(), message);
        Failure { hint: Some(PLAN_HINT.to_owned()), ..failure }
    }

    /// What is to be committed is not what is proposed.
    pub(crate) fn not_proposed(message: impl Into<String>) -> Failure {
        let failure = Failure::plan_conflict(message);
        Failure { hint: Some("`kvctl grow show` shows what is, and why".to_owned()), ..failure }
    }

    /// There is no such key.
    pub(crate) fn key_not_found() -> Failure {
        Failure::new(Exit::NotFound, "KEY_NOT_FOUND", "key not found")
    }

    /// No node, or too few of them, could do it.
    pub(crate) fn unavailable(message: impl Into<String>) -> Failure {
        let failure = Failure::new(Exit::Unavailable, Error::UNAVAILABLE, message);
        Failure { retryable: true, ..failure }
    }

    /// What was asked about would lose something. Nothing was changed.
    pub(crate) fn not_safe(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Unavailable, "NOT_SAFE", message)
    }

    /// Time ran out.
    pub(crate) fn deadline(message: impl Into<String>) -> Failure {
        let failure = Failure::new(Exit::Deadline, "DEADLINE_EXCEEDED", message);
        Failure { retryable: true, ..failure }
    }

    /// Some of it was done.
    pub(crate) fn partial(message: impl Into<String>) -> Failure {
        let failure = Failure::new(Exit::Partial, "PARTIAL", message);
        Failure { applied: Applied::Unknown, ..failure }
    }

    /// A file, or a defect.
    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Internal, "INTERNAL", message)
    }

    /// A benchmark has read what was never written.
    pub(crate) fn wrong_values(count: u64) -> Failure {
        let message = format!("{count} answers were not what was written to their keys");
        let failure = Failure::new(Exit::Internal, "WRONG_VALUE", message);
        let hint = "if somebody else writes these keys, choose another --prefix, or --no-verify";
        Failure { hint: Some(hint.to_owned()), ..failure }
    }

    /// Someone pressed Ctrl-C.
    pub(crate) fn interrupted() -> Failure {
        let failure = Failure::new(Exit::Interrupted, "INTERRUPTED", "interrupted");
        Failure { applied: Applied::Unknown, ..failure }
    }

    /// A command line that clap refused.
    pub(crate) fn from_clap(error: &clap::Error) -> Failure {
        if error.kind() == ClapKind::DisplayHelpOnMissingArgumentOrSubcommand {
            let help = error.render().to_string();
            return Failure::usage(format!("a command is needed\n\n{}", help.trim_end()));
        }
        let text = error.render().to_string();
        let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
        Failure::usage(text)
    }

    /// Its code.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// As an object, for those who ask for JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Failure { code, message, hint, retryable, applied, trace, .. } = self;
        let applied = match applied {
            Applied::No => "no",
            Applied::Yes => "yes",
            Applied::Unknown => "unknown",
        };
        let mut error = json!({
            "code": code, "message": message, "hint": hint,
            "retryable": retryable, "applied": applied,
        });
        if let (Some(trace), Some(error)) = (trace, error.as_object_mut()) {
            error.insert("trace".to_owned(), waterfall::json(trace));
        }
        error
    }

    /// What came of writing to stdout.
    pub(crate) fn from_stdout(error: &std::io::Error) -> Failure {
        let failure = Failure::internal(format!("cannot write to stdout: {error}"));
        // A reader that has seen enough, as `head` has, is no failure.
        Failure { silent: error.kind() == std::io::ErrorKind::BrokenPipe, ..failure }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::NotAvailableYet => Exit::Usage,
            ErrorKind::Unavailable
            | ErrorKind::QuorumNotReached
            | ErrorKind::Overloaded
            | ErrorKind::Corruption => Exit::Unavailable,
            ErrorKind::DeadlineExceeded => Exit::Deadline,
            ErrorKind::Conflict => Exit::Conflict,
            ErrorKind::Unauthenticated => Exit::Auth,
            ErrorKind::Internal => Exit::Internal,
        };
        Failure {
            exit,
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            hint: hint(&error),
            retryable: error.is_retryable(),
            applied: error.applied(),
            trace: error.trace().cloned().map(Box::new),
            silent: false,
        }
    }
}

fn hint(error: &Error) -> Option<String> {
    let hint = match error.kind() {
        _ if error.applied() == Applied::Unknown => {
            let ask = error.write().map_or_else(String::new, |write| {
                format!("; in a linearizable table `kvctl outcome KEY --write {write}` settles it")
            });
            return Some(format!(
                "the write may have taken effect; read the key before deciding{ask}"
            ));
        }
        ErrorKind::Unavailable if error.code() == Error::UNAVAILABLE => {
            "is the cluster running, and are the addresses after -e its client ports?"
        }
        ErrorKind::QuorumNotReached => "`kvctl status` shows which nodes are down",
        ErrorKind::Overloaded => "try again more slowly",
        ErrorKind::Conflict if error.code() == Error::SIBLINGS => {
            "`kvctl get --siblings KEY` shows them, `kvctl resolve KEY` settles on one"
        }
        ErrorKind::Conflict if error.code() == ErrorCode::PlanConflict.as_str() => PLAN_HINT,
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Shows `failure` on stderr and turns it into the process's exit code.
pub(crate) fn report(failure: &Failure, json: bool) -> ExitCode {
    if failure.silent {
        return ExitCode::SUCCESS;
    }
    let Failure { message, hint, trace, .. } = failure;
    if json {
        output::error_line(&json!({ "error": failure.json() }).to_string());
    } else {
        for line in trace.iter().flat_map(|trace| waterfall::lines(trace)) {
            output::error_line(&line);
        }
        output::error_line(&format!("error: {message}"));
        if let Some(hint) = hint {
            output::error_line(&format!("hint: {hint}"));
        }
    }
    ExitCode::from(failure.exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let exit = |code| Failure::from(Error::new(code, "")).exit;
        assert_eq!(exit(ErrorCode::KeyEmpty), Exit::Usage);
        assert_eq!(exit(ErrorCode::NotAvailableYet), Exit::Usage);
        assert_eq!(exit(ErrorCode::PlanConflict), Exit::Conflict);
        assert_eq!(exit(ErrorCode::PlanInvalid), Exit::Usage);
        assert_eq!(exit(ErrorCode::NotReady), Exit::Unavailable);
        assert_eq!(exit(ErrorCode::QuorumNotReached), Exit::Unavailable);
        assert_eq!(exit(ErrorCode::DeadlineExceeded), Exit::Deadline);
        assert_eq!(exit(ErrorCode::Internal), Exit::Internal);
        assert_eq!(Failure::from(Error::unavailable("")).exit, Exit::Unavailable);
        assert_eq!(Failure::from(Error::unauthenticated("")).exit, Exit::Auth);
    }
}
