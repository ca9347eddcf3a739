//! The published protocol is read by people who see nothing else of this repository: in
//! `proto/kv.proto` everything that has a name says what it is.

use crate::Finding;
use crate::source::File;

/// Checks the published protocol.
pub(crate) fn check(file: &File, findings: &mut Vec<Finding>) {
    let mut above = "";
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let named = declared(&words).filter(|_| !above.starts_with("//"));
        findings.extend(named.map(|name| {
            file.finding(index + 1, format!("nothing says what `{name}` is: a comment above it"))
        }));
        above = line;
    }
}

/// The name that a line declares, if it declares one.
fn declared<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        ["//" | "syntax" | "package" | "option" | "reserved" | "import" | "}", ..] => None,
        ["message" | "enum" | "service" | "oneof", name, ..] => Some(name),
        ["rpc", name, ..] => name.split('(').next(),
        // A field, or a value of an enumeration: a name, and its number.
        [.., name, "=", number] if number.ends_with(';') => Some(name),
        _ => None,
    }
}

#[test]
fn what_nothing_is_said_of_is_found() {
    let text = "// A.\nmessage A {\n  // One.\n  bytes one = 1;\n  optional uint32 two = 2;\n}\n\
                enum B {\n  // None.\n  B_NONE = 0;\n}\n// S.\nservice S {\n  rpc Do(A) returns (A);\n}\n";
    let file = File { path: "proto/kv.proto".to_owned(), text: text.to_owned() };
    let mut findings = Vec::new();
    check(&file, &mut findings);
    let lines: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [5, 7, 13], "{findings:?}");
}
