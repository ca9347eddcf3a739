//! Commands whose names are fixed and whose work is still to come. They are recognised, so that a
//! script learns the truth (exit 2, "not available yet") and never a false success.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::exit::Failure;

/// Whatever follows the command.
#[derive(Args, Debug)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

/// Commands to come.
#[derive(Debug, Subcommand)]
pub(crate) enum Later {
    /// Compute how many nodes to reserve (not available yet)
    #[command(hide = true, disable_help_flag = true)]
    Capacity(Rest),
}

/// The truth about a command to come.
pub(crate) fn refuse(command: &Later) -> Failure {
    let Later::Capacity(_) = command;
    Failure::not_available_yet("`kvctl capacity`")
}
