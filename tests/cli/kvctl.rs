//! Runs `kvctl`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// What a run of `kvctl` left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `kvctl` with `line`, split at blanks, against `endpoints`.
pub(crate) fn kvctl(endpoints: &str, line: &str) -> Ran {
    kvctl_with(endpoints, &line.split_whitespace().collect::<Vec<_>>(), b"")
}

/// Runs `kvctl` with `args` and `stdin`.
pub(crate) fn kvctl_with(endpoints: &str, args: &[&str], stdin: &[u8]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvctl"));
    for variable in ["TABLE", "OUTPUT", "TIMEOUT"] {
        command.env_remove(format!("KVCTL_{variable}"));
    }
    let mut child = command
        .env("KVCTL_ENDPOINTS", endpoints)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no stdin may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Stdout as JSON, of a run that went well.
    pub(crate) fn json(&self) -> Json {
        assert_eq!(self.code, 0, "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The error object on the last line of stderr.
    pub(crate) fn error(&self) -> Json {
        let line = self.stderr.lines().last().unwrap();
        let json: Json = serde_json::from_str(line).unwrap();
        for field in ["code", "message"] {
            assert!(json["error"][field].is_string(), "{json}");
        }
        assert!(json["error"]["retryable"].is_boolean(), "{json}");
        let applied = json["error"]["applied"].as_str().unwrap();
        assert!(["no", "yes", "unknown"].contains(&applied), "{json}");
        json["error"].clone()
    }
}
