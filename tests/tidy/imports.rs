//! Who may import whom: the layers of ARCHITECTURE.md as a table.

use crate::Finding;
use crate::source::{Code, File, Named};

/// What a layer may name.
pub(crate) struct Layer {
    pub(crate) module: &'static str,
    /// Modules of the crate; `a::b` allows only that part of `a`.
    pub(crate) imports: &'static [&'static str],
    /// Pure modules know no clock, no disk, no socket, no thread and no order of a hash map.
    pub(crate) purity: Purity,
}

/// How much of the outside a layer may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purity {
    /// A function of its inputs.
    Pure,
    /// Synchronous: files and threads, no tokio.
    Sync,
    /// Anything.
    Shell,
}
use Purity::{Pure, Shell, Sync};

const fn layer(module: &'static str, purity: Purity, imports: &'static [&'static str]) -> Layer {
    Layer { module, imports, purity }
}

/// What the five that never see each other may see.
const BELOW_THE_FIVE: &[&str] = &["types", "causality", "ring", "message"];

/// The layers, from the ground up. A module that is not here yet is an error once it exists.
pub(crate) const LAYERS: &[Layer] = &[
    layer("types", Pure, &[]),
    layer("causality", Pure, &["types"]),
    layer("ring", Pure, &["types", "causality"]),
    layer("message", Pure, &["types", "causality", "ring", "repair::tree", "repair::exchange"]),
    layer("membership", Pure, BELOW_THE_FIVE),
    layer("control", Pure, BELOW_THE_FIVE),
    layer("coordinator", Pure, BELOW_THE_FIVE),
    // Of trees it names places, ranges and sums, as messages bear them.
    layer("handoff", Pure, &["types", "causality", "ring", "message", "repair::tree"]),
    layer("repair", Pure, BELOW_THE_FIVE),
    layer("watch", Pure, BELOW_THE_FIVE),
    layer(
        "node",
        Pure,
        &[
            "types",
            "causality",
            "ring",
            "message",
            "membership",
            "control",
            "coordinator",
            "handoff",
            "repair",
            "watch",
        ],
    ),
    layer("picture", Pure, &["types"]),
    layer("codec", Sync, &["types"]),
    layer("storage", Sync, &["types::limits", "codec"]),
    layer(
        "replica",
        Sync,
        &["types", "causality", "message", "repair", "watch", "storage", "codec"],
    ),
    layer(
        "wire",
        Shell,
        &["types", "causality", "ring", "message", "repair::tree", "repair::exchange"],
    ),
    layer("telemetry", Shell, &["types", "message", "replica", "transport"]),
    layer("config", Shell, &["types", "node", "storage", "transport", "telemetry"]),
    layer(
        "transport",
        Shell,
        &["types", "causality", "ring", "message", "wire", "control::admission"],
    ),
    layer(
        "runtime",
        Shell,
        &[
            "types",
            "causality",
            "ring",
            "message",
            "node",
            "replica",
            "transport",
            "codec",
            "telemetry",
        ],
    ),
    layer("service", Shell, &["types", "message", "wire", "runtime", "telemetry"]),
    layer("status_page", Shell, &["types", "message", "wire", "picture", "runtime", "telemetry"]),
    layer(
        "server",
        Shell,
        &[
            "types",
            "causality",
            "ring",
            "message",
            "membership",
            "control",
            "node",
            "picture",
            "codec",
            "storage",
            "replica",
            "wire",
            "telemetry",
            "config",
            "transport",
            "runtime",
            "service",
            "status_page",
        ],
    ),
    layer(
        "client",
        Shell,
        &["types", "causality", "ring", "message", "wire", "control::capacity", "load"],
    ),
    layer(
        "cli",
        Shell,
        &[
            "types",
            "causality",
            "ring",
            "message",
            "wire",
            "picture",
            "control::capacity",
            "load",
            "client",
        ],
    ),
    layer("load", Shell, &["types", "message", "wire::proto", "client"]),
    layer("testing", Shell, &[]),
];

/// What pure and synchronous layers may not name outside tests, and why.
const OUTSIDE: &[(&[&str], &str, Purity)] = &[
    (&["tokio"], "nothing here waits", Sync),
    (&["tonic"], "only the wire and the shell know gRPC", Sync),
    (&["std", "time"], "time is handed in; core::time::Duration is fine", Pure),
    (&["std", "fs"], "the disk is reached by Effect::Disk", Pure),
    (&["std", "net"], "peers are reached by Effect::Send", Pure),
    (&["std", "thread"], "a pure module has no threads", Pure),
    (&["prost"], "only the wire knows protobuf", Pure),
];

/// Words that pure layers may not use, since their order differs from run to run.
const UNORDERED: &[&str] = &["HashMap", "HashSet", "RandomState"];

/// Checks one file of `src`.
pub(crate) fn check(file: &File, code: &Code, findings: &mut Vec<Finding>) {
    let Some(inside) = file.path.strip_prefix("src/") else { return };
    let Some(module) = top_module(inside) else { return };
    let Some(layer) = LAYERS.iter().find(|layer| layer.module == module) else {
        findings.push(
            file.finding(1, format!("module `{module}` has no layer in tests/tidy/imports.rs")),
        );
        return;
    };
    for named in &code.named {
        check_imports(file, layer, inside, named, findings);
        check_outside(file, code, layer, named, findings);
    }
    if layer.purity == Pure {
        let unordered = code.tokens.iter().filter(|token| UNORDERED.contains(&token.text.as_str()));
        for token in unordered.filter(|token| !code.is_test(token.line)) {
            let word = &token.text;
            let why =
                format!("`{word}` in pure `{module}`: its order differs; use BTreeMap or IndexMap");
            findings.push(file.finding(token.line, why));
        }
    }
}

/// The module right below the crate that a path below `src` belongs to; none for the roots.
fn top_module(inside: &str) -> Option<&str> {
    let first = inside.split('/').next()?;
    match first {
        "lib.rs" | "main.rs" | "bin" => None,
        _ => Some(first.strip_suffix(".rs").unwrap_or(first)),
    }
}

fn check_imports(
    file: &File,
    layer: &Layer,
    inside: &str,
    named: &Named,
    findings: &mut Vec<Finding>,
) {
    let Some(path) = from_the_crate(inside, named) else { return };
    let Some(first) = path.first() else { return };
    let is_layer = LAYERS.iter().any(|layer| layer.module == *first);
    if !is_layer || *first == layer.module || *first == "testing" || path.contains(&"!") {
        return;
    }
    let allowed = layer.imports.iter().any(|import| {
        let wanted: Vec<&str> = import.split("::").collect();
        path.starts_with(&wanted)
    });
    if !allowed {
        let why = format!(
            "`{}` may not import `{}` (it may import: {})",
            layer.module,
            path.iter().take(2).copied().collect::<Vec<_>>().join("::"),
            if layer.imports.is_empty() { "nothing".to_owned() } else { layer.imports.join(", ") },
        );
        findings.push(file.finding(named.line, why));
    }
}

/// The segments below the crate root when the path leads there: by `crate`, by the crate's name,
/// or by enough `super`s.
fn from_the_crate<'a>(inside: &str, named: &'a Named) -> Option<Vec<&'a str>> {
    let segments: Vec<&str> = named.segments.iter().map(String::as_str).collect();
    let (first, rest) = segments.split_first()?;
    if matches!(*first, "crate" | "roundtable") {
        return Some(rest.to_vec());
    }
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    let file_depth = inside.split('/').count() - usize::from(inside.ends_with("/mod.rs"));
    let to_the_root = supers > 0 && supers >= file_depth + named.depth;
    to_the_root.then(|| segments.into_iter().skip(supers).collect())
}

fn check_outside(
    file: &File,
    code: &Code,
    layer: &Layer,
    named: &Named,
    findings: &mut Vec<Finding>,
) {
    if layer.purity == Shell || code.is_test(named.line) {
        return;
    }
    for (banned, why, from) in OUTSIDE {
        let applies = *from == Sync || layer.purity == Pure;
        let path: Vec<&str> = named.segments.iter().map(String::as_str).collect();
        if applies && path.starts_with(banned) {
            let what = banned.join("::");
            findings
                .push(file.finding(named.line, format!("`{what}` in `{}`: {why}", layer.module)));
        }
    }
}
