//! `kvctl bench`: against a server that does what its script says, and against three real nodes.

use std::process::{Command, Stdio};

use crate::client::Applied;
use crate::fake::{Act, Fake};
use crate::kvctl::kvctl;

async fn server(script: impl IntoIterator<Item = Act>) -> Fake {
    Fake::start(1_000_000_000_000, script).await
}

#[test]
fn mistakes_on_the_command_line_name_the_option_and_its_limit() {
    for (line, words) in [
        ("bench run", ["<WORKLOAD", "--help"]),
        ("bench run g", ["[possible values: a, b, c, d, e, f]", "'g'"]),
        ("bench run a --mix get=1", ["--mix", "cannot be used with"]),
        ("bench run --mix read=1", ["--mix", "only get, put, delete"]),
        ("bench run a --rate 0", ["--rate", "at most 1000000"]),
        ("bench run a --rate 1 --closed 2", ["--rate", "--closed"]),
        ("bench run a --closed 0", ["--closed", "1..=16384"]),
        ("bench run a --theta 1", ["--theta", "below 1"]),
        ("bench run a --dist uniform --theta 0.5", ["--theta", "zipfian"]),
        ("bench run a --keys 0", ["--keys", "1..=1000000000"]),
        ("bench run a --value-bytes 23", ["--value-bytes", "24..=1048576"]),
        ("bench run a --duration 0s", ["--duration", "above zero"]),
        ("bench run a --duration 25h", ["--duration", "24h"]),
        ("bench run e --scan-max 1001", ["--scan-max", "1..=1000"]),
        ("bench run a --clients 65", ["--clients", "1..=64"]),
        ("bench run a -r 0", ["-r", "at least 1"]),
        ("bench compare nowhere.json nowhere.json", ["nowhere.json", "No such file"]),
    ] {
        let ran = kvctl("127.0.0.1:1", line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}: {}", ran.stderr);
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{line}: {}", ran.stderr);
    }
}

#[test]
fn workloads_are_listed_and_help_has_examples() {
    let listed = kvctl("127.0.0.1:1", "bench list -o json").json();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!((&listed[3]["dist"], &listed[3]["mix"]["insert"]), (&"latest".into(), &5.into()));
    let plain = kvctl("127.0.0.1:1", "bench list").stdout;
    assert!(plain.starts_with("a\t50 % get, 50 % put\tzipfian\t"), "{plain}");
    let help = kvctl("127.0.0.1:1", "bench run --help").stdout;
    assert!(help.contains("Examples:") && help.contains("kvctl bench run b --rate 5000"), "{help}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_counts_what_was_due_and_what_failed() {
    let refused = [Act::Refuse("OVERLOADED", Applied::No), Act::Refuse("OVERLOADED", Applied::No)];
    let fake = server(refused).await;
    let line = "bench run a --keys 20 --value-bytes 64 --rate 200 --spacing even --warmup 0s \
                --seed 1 --attempts 1 --only-endpoints --duration";
    let ran = kvctl(&fake.address, &format!("{line} 1s -o json")).json();
    let all = &ran["all"];
    assert_eq!((&all["operations"], &all["failed"]), (&198.into(), &2.into()), "{ran}");
    assert_eq!(all["errors"]["OVERLOADED"], 2);
    assert_eq!((&ran["unstarted"], &ran["lag"]["count"]), (&0.into(), &200.into()));
    assert_eq!(
        (&ran["settings"]["seed"], &ran["settings"]["dist"]),
        (&1.into(), &"zipfian".into())
    );
    assert!(ran["all"]["per_second"].as_f64().unwrap() <= 198.0, "{ran}");
    if cfg!(target_os = "linux") {
        // The scripted server says that it is three nodes, and is this one process.
        let nodes = ran["servers"]["nodes"].as_array().unwrap();
        assert_eq!((nodes.len(), &nodes[0]["name"]), (1, &"n1, n2, n3".into()), "{ran}");
    }

    let plain = kvctl(&fake.address, &format!("{line} 1s"));
    let last = plain.stdout.lines().last().unwrap();
    assert!(last.starts_with("all\t200\t") && last.split('\t').count() == 10, "{last}");
    let lines = kvctl(&fake.address, &format!("{line} 2500ms -o jsonl")).stdout;
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["succeeded"]), (&"stretch".into(), &200.into()));
    assert_eq!(lines.last().unwrap()["all"]["operations"], 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_was_never_written_makes_the_run_fail() {
    let fake = server([]).await;
    fake.store("mine:000000000000", "somebody else's");
    let line = "bench run c --keys 1 --prefix mine: --rate 50 --duration 200ms --warmup 0s \
                --spacing even --only-endpoints";
    let ran = kvctl(&fake.address, &format!("{line} -o json"));
    assert_eq!((ran.code, ran.error()["code"].as_str()), (1, Some("WRONG_VALUE")));
    let shown: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&shown["wrong_values"], &shown["all"]["operations"]), (&10.into(), &0.into()));
    assert_eq!(kvctl(&fake.address, &format!("{line} --no-verify")).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupting_a_run_shows_what_was_measured() {
    let fake = server([]).await;
    let child = Command::new(env!("CARGO_BIN_EXE_kvctl"))
        .args(["-e", &fake.address, "-o", "jsonl", "bench", "run", "c", "--no-verify"])
        .args(["--rate", "100", "--duration", "1h", "--warmup", "0s", "--keys", "9"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while fake.timeouts().len() < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["interrupted"], true);
    assert!(last["all"]["operations"].as_u64().unwrap() >= 15, "{last}");
    assert_eq!(last["unstarted"], 0);
}

#[cfg(feature = "server")]
#[test]
fn a_real_cluster_is_filled_measured_saved_and_compared() {
    let cluster = crate::cluster::Cluster::start();
    let at = cluster.endpoints.as_str();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let keys = "--keys 500 --value-bytes 100";
    let loaded = kvctl(at, &format!("bench run a {keys} --load-only -o json")).json();
    assert_eq!(loaded["loaded"], 500);
    let scanned = kvctl(at, "scan --prefix bench: --keys-only").stdout;
    assert_eq!(scanned.lines().count(), 500);

    let (a, b, html) = (path("a.json"), path("b.json"), path("page.html"));
    let pace = "--rate 100 --spacing even --duration 1s --warmup 200ms";
    let line = format!("bench run A {keys} {pace} --save {a} --html {html} -o json");
    let ran = kvctl(at, &line).json();
    let (all, kinds) = (&ran["all"], &ran["kinds"]);
    assert_eq!(
        (&all["operations"], &all["failed"], &all["absent"]),
        (&100.into(), &0.into(), &0.into())
    );
    let of = |kind: &str| kinds[kind]["operations"].as_u64().unwrap();
    assert_eq!(of("get") + of("put"), 100);
    assert_eq!((&ran["cluster"]["nodes"], &ran["wrong_values"]), (&3.into(), &0.into()));
    if cfg!(target_os = "linux") {
        assert_eq!(ran["servers"]["nodes"].as_array().unwrap().len(), 3, "{ran}");
        assert!(ran["servers"]["why"].is_null());
        assert!(ran["servers"]["nodes"][0]["resident_bytes_max"].as_u64().unwrap() > 1 << 20);
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));

    let line = format!(
        "bench run --mix get=3,put=2,delete=1,scan=1,insert=1,modify=2 --closed 4 {keys} \
         --duration 1s --warmup 0s --clients 2 --dist uniform --save {b} -o json"
    );
    let ran = kvctl(at, &line).json();
    for kind in ["get", "put", "delete", "scan", "insert", "modify"] {
        let kind = &ran["kinds"][kind];
        assert!(kind["operations"].as_u64().unwrap() > 0 && kind["failed"] == 0, "{ran}");
    }
    let compared = kvctl(at, &format!("bench compare {a} {b} -o json")).json();
    let rows = compared["rows"].as_array().unwrap();
    let ratio = rows.iter().find(|row| row["kind"] == "get" && row["metric"] == "p99").unwrap();
    assert!(ratio["ratio"].as_f64().unwrap() > 0.0, "{ratio}");
    let differs = compared["differences"].as_array().unwrap();
    assert!(differs.iter().any(|it| it["what"] == "setting rate"), "{compared}");
    let both = path("both.html");
    assert_eq!(kvctl(at, &format!("bench compare {a} {b} --html {both}")).code, 0);
    assert!(std::fs::read_to_string(both).unwrap().contains("get, A"));
}
