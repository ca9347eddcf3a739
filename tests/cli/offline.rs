//! What `kvctl` does when there is nobody to talk to.

use std::net::TcpListener;

use crate::kvctl::{kvctl, kvctl_with};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn usage_errors_exit_2_and_are_json_when_asked() {
    let lines = [
        "",
        "frobnicate",
        "get",
        "get a b",
        "get a -r 0",
        "get a -r many",
        "get a --key-b64 YQ==",
        "get --key-b64 ***",
        "put a",
        "put a b --value c",
        "put --key-b64 YQ== a b",
        "put a @/no/such/file",
        "put a --value-b64 ***",
        "put a b --sloppy --strict",
        "del",
        "scan --page-size 0",
        "scan --page-size 1001",
        "import",
        "import /no/such/file",
        "import - --concurrency 0",
        "export /no/such/directory/file",
        "wait",
        "wait --for nodes=x",
        "completion",
        "get a --timeout 0s",
        "get a --timeout 5",
        "-e nonsense get a",
        "table",
        "table frobnicate t",
        "table create",
        "table create t --kind lru",
        "table create t --n 300",
        "table create t --n -1",
        "table create t --ttl 0s",
        "table create t --ttl -5s",
        "table create t --ttl 1us",
        "table create t --sloppy=sometimes",
        "table describe",
        "table alter t --kind causal",
        "table alter t --n 5",
        "table alter t --r-min 2",
        "table alter t --ttl 5s --no-ttl",
        "table drop",
    ];
    for line in lines {
        let plain = kvctl("127.0.0.1:1", line);
        assert_eq!(plain.code, 2, "{line}: {}", plain.stderr);
        assert!(plain.stderr.starts_with("error: "), "{line}: {}", plain.stderr);
        assert_eq!(plain.stdout, "", "{line}");
        let json = kvctl("127.0.0.1:1", &format!("-o json {line}"));
        assert_eq!(json.code, 2, "{line}: {}", json.stderr);
        assert_eq!(json.error()["applied"], "no", "{line}");
    }
}

#[test]
fn keys_and_values_beyond_their_limits_are_usage_errors() {
    let long = "k".repeat(4097);
    for key in ["", &long] {
        for args in [
            &["get", key][..],
            &["put", key, "v"],
            &["del", key],
            &["locate", key],
            &["explain", key],
        ] {
            let ran = kvctl_with("127.0.0.1:1", args, b"");
            assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("key"), "{}", ran.stderr);
        }
    }
    let large = vec![b'v'; (1 << 20) + 1];
    let ran = kvctl_with("127.0.0.1:1", &["put", "k", "-"], &large);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("1048576"), "{}", ran.stderr);
}

#[test]
fn the_reserve_is_computed_without_a_server() {
    let at = "127.0.0.1:1";
    let json = kvctl(at, "capacity --nodes 1000 --p 0.005 --confidence 0.99 -o json").json();
    assert_eq!((&json["reserve"], &json["expected"]), (&11.into(), &5.0.into()));
    let table: Vec<u64> = json["table"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["reserve"].as_u64().unwrap())
        .collect();
    assert_eq!(table, [8, 9, 11, 13, 15]);
    assert_eq!(kvctl(at, "capacity --nodes 1000 --mtbf 365d --repair 2d").stdout, "12\n");
    let text = kvctl(at, "capacity --nodes 1000 --p 0.005 -o table").stdout;
    assert!(
        text.starts_with("Reserve 11 of 1 000 nodes: more are gone at once less than 1 %"),
        "{text}"
    );
    let svg = kvctl(at, "capacity --nodes 1000 --p 0.005 --svg -").stdout;
    assert!(svg.starts_with("<svg") && svg.contains("11: 99 %") && !svg.contains("NaN"), "{svg}");
    for (line, words) in [
        ("capacity --nodes 1000", "--p"),
        ("capacity --nodes 1000 --mtbf 1d", "--repair"),
        ("capacity --nodes 0 --p 0.1", "1..=1000000"),
        ("capacity --nodes 9 --p 1.1", "--p is in 0..1"),
        ("capacity --nodes 9 --p 0.1 --confidence 1", "--confidence"),
    ] {
        let ran = kvctl(at, line);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{line}: {}", ran.stderr);
    }
}

#[test]
fn members_weights_zones_and_hashes_are_checked_before_anything_is_asked() {
    for (line, what) in [
        ("node join N4", "node name"),
        ("node leave", "NAME"),
        ("node replace n3", "NEW"),
        ("node set n4", "weight=W|zone=Z"),
        ("node set n4 weight=0", "weight"),
        ("node set n4 zone=B", "zone"),
        ("node set n4 colour=red", "neither"),
        ("node set n4 weight=1 weight=2", "twice"),
        ("plan commit HASH", "32 hex digits"),
        ("plan commit abcdef0", "the first 8 or more"),
    ] {
        let ran = kvctl("127.0.0.1:1", line);
        assert_eq!(ran.code, 2, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(what), "{line}: {}", ran.stderr);
    }
}

#[test]
fn nobody_listening_exits_4_with_nothing_applied() {
    let nobody = nobody();
    for line in [
        "get k",
        "put k v",
        "del k",
        "cas k --expect-absent --value v",
        "outcome k --write 00000000000000000000000000000007",
        "scan",
        "status",
        "node join n4",
        "plan show",
        "plan commit 00000000000000000000000000000007",
        "locate k",
        "explain k",
        "flush",
        "compact",
        "export -",
    ] {
        let ran = kvctl(&nobody, &format!("-o json {line}"));
        assert_eq!(ran.code, 4, "{line}: {}", ran.stderr);
        let error = ran.error();
        assert_eq!((&error["code"], &error["applied"]), (&"UNAVAILABLE".into(), &"no".into()));
        assert_eq!(error["retryable"], true);
        assert_eq!(ran.stdout, "", "{line}");
        let plain = kvctl(&nobody, line);
        assert_eq!(plain.code, 4, "{line}");
        assert!(plain.stderr.contains("error: ") && plain.stderr.contains("hint: "), "{line}");
    }
}

#[test]
fn waiting_in_vain_exits_5() {
    let ran = kvctl(&nobody(), "-o json wait --for ready --timeout 300ms");
    assert_eq!((ran.code, ran.error()["code"].as_str()), (5, Some("DEADLINE_EXCEEDED")));
}

#[test]
fn bad_lines_are_reported_by_number_and_counted() {
    let lines = b"{\"key\":\"k\"}\nnonsense\n\n{\"key\":\"\",\"value\":\"v\"}\n";
    let ran = kvctl_with("127.0.0.1:1", &["-o", "json", "import", "-"], lines);
    assert_eq!(ran.code, 8);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&summary["imported"], &summary["failed"]), (&0.into(), &3.into()));
    assert!(summary["seconds"].is_f64());
    for line in ["line 1: ", "line 2: ", "line 4: key is empty"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    assert_eq!(ran.error()["code"], "PARTIAL");
}

#[test]
fn an_import_into_nowhere_counts_what_it_could_not_write() {
    let line = b"{\"key\":\"k\",\"value\":\"v\"}\n";
    let args = ["-o", "json", "--timeout", "300ms", "import", "-"];
    let ran = kvctl_with(&nobody(), &args, line);
    assert_eq!(ran.code, 8, "{}", ran.stderr);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&summary["imported"], &summary["failed"]), (&0.into(), &1.into()));
}

#[test]
fn an_empty_import_is_no_failure() {
    let ran = kvctl("127.0.0.1:1", "-o json import -");
    assert_eq!((&ran.json()["imported"], &ran.json()["failed"]), (&0.into(), &0.into()));
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = kvctl("127.0.0.1:1", &format!("completion {shell}"));
        assert_eq!(ran.code, 0, "{shell}");
        assert!(ran.stdout.contains("kvctl") && ran.stdout.contains("import"), "{shell}");
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let ran = kvctl("127.0.0.1:1", "--help");
    assert_eq!(ran.code, 0);
    for words in ["Exit codes:", "key not found", "130  interrupted"] {
        assert!(ran.stdout.contains(words), "{words}");
    }
}

#[test]
fn the_version_needs_no_server() {
    let ran = kvctl("127.0.0.1:1", "version -o json");
    assert_eq!(ran.json()["client"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(kvctl("127.0.0.1:1", "--version").code, 0);
}

/// Runs `kvd data check` and returns its exit code and stderr.
#[cfg(feature = "server")]
fn data_check(dir: &std::path::Path) -> (i32, String) {
    let kvd = std::process::Command::new(env!("CARGO_BIN_EXE_kvd"))
        .args(["data", "check"])
        .arg(dir)
        .output()
        .unwrap();
    (kvd.status.code().unwrap(), String::from_utf8(kvd.stderr).unwrap())
}

#[cfg(feature = "server")]
#[test]
fn data_check_tells_a_sound_store_and_export_from_damaged_ones() {
    use roundtable::storage::{Batch, Engine, KeyRange, Options, RealVfs};
    let root = tempfile::tempdir().unwrap();
    let (store, export) = (root.path().join("db"), root.path().join("export"));
    let vfs = std::sync::Arc::new(RealVfs);
    let (engine, _) = Engine::open(vfs, &store, Options::default()).unwrap();
    let mut batch = Batch::new();
    (0..200u8).for_each(|key| batch.put(&[key], &[key; 100]));
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    let listed = engine.export(&KeyRange::all(), &export).unwrap();
    assert_ne!(data_check(&store).0, 0, "the store is open");
    engine.close().unwrap();
    drop(engine);
    assert_eq!(data_check(&store), (0, String::new()));
    assert_eq!(data_check(&export), (0, String::new()));

    let table = export.join(&listed.files[0].name);
    let sound = std::fs::read(&table).unwrap();
    let mut damaged = sound.clone();
    damaged[5_000] ^= 4;
    // A new file: the old one may be shared with the store.
    std::fs::remove_file(&table).unwrap();
    std::fs::write(&table, &damaged).unwrap();
    let (code, told) = data_check(&export);
    assert_eq!(code, 1, "{told}");
    let line = format!("{} is damaged at offset 4", table.display());
    assert!(told.contains(&line) && told.contains("block checksum"), "{told}");
    std::fs::write(&table, &sound[..sound.len() - 10]).unwrap();
    let (code, told) = data_check(&export);
    assert!(code == 1 && told.contains("length is not what the list says"), "{told}");
    std::fs::remove_file(&table).unwrap();
    let (code, told) = data_check(&export);
    assert!(code == 1 && told.contains(&format!("{} is missing", table.display())), "{told}");
    std::fs::write(&table, &sound).unwrap();
    std::fs::write(export.join("EXPORT"), b"nonsense").unwrap();
    let (code, told) = data_check(&export);
    assert!(code == 1 && told.contains("EXPORT is damaged at offset 0"), "{told}");
    assert_eq!(data_check(&store).0, 0, "the store is as it was");
}

#[test]
fn a_manual_page_is_written_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("man1");
    let ran = kvctl("127.0.0.1:1", &format!("man {} -o json", at.display()));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let pages = std::fs::read_dir(&at).unwrap().count() as u64;
    assert_eq!(ran.json()["pages"], pages);
    for (page, words) in [
        ("kvctl.1", "Exit codes"),
        ("kvctl-get.1", "kvctl get user:42"),
        ("kvctl-table-create.1", "kind causal"),
    ] {
        let text = std::fs::read_to_string(at.join(page)).unwrap();
        let text = text.replace("\\-", "-");
        assert!(text.starts_with(".ie") && text.contains(words), "{page}: {text}");
    }
}
