//! `kvctl` against a server that does what its script says.

use std::fs;
use std::process::{Command, Stdio};

use crate::client::Applied;
use crate::fake::{Act, Fake};
use crate::kvctl::{kvctl, kvctl_with};
use crate::wire::proto::admin;

async fn server(script: impl IntoIterator<Item = Act>) -> Fake {
    Fake::start(1_000_000_000_000, script).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_value_comes_back_byte_for_byte() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    assert_eq!(kvctl(at, "put greeting hello").code, 0);
    let got = kvctl(at, "get greeting");
    assert_eq!((got.code, got.stdout.as_str()), (0, "hello"));
    assert_eq!(kvctl_with(at, &["put", "in", "-"], b"from stdin\n").code, 0);
    assert_eq!(kvctl(at, "get in").stdout, "from stdin\n");
    for value in ["-dash", "@at", ""] {
        assert_eq!(kvctl_with(at, &["put", "odd", "--value", value], b"").code, 0, "{value}");
        assert_eq!(kvctl(at, "get odd").stdout, value);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "from a file").unwrap();
    assert_eq!(kvctl(at, &format!("put f @{}", file.path().display())).code, 0);
    assert_eq!(kvctl(at, "get f").stdout, "from a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bytes_that_are_no_text_travel_as_base64() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let put = kvctl(at, "put --key-b64 /w== --value-b64 AP8= -o json");
    assert_eq!(put.json()["key_b64"], "/w==");
    assert_eq!(put.json()["stamp"].as_str().unwrap().len(), 32);
    let got = kvctl(at, "get --key-b64 /w== -o json").json();
    assert_eq!((&got["key_b64"], &got["value_b64"]), (&"/w==".into(), &"AP8=".into()));
    assert_eq!((&got["receipt"]["n"], &got["receipt"]["needed"]), (&3.into(), &2.into()));
    assert!(got.get("context").is_some() && got["stamp"].is_string());
    assert_eq!(kvctl(at, "put --key-b64 /w== text").code, 0);
    assert_eq!(kvctl(at, "get --key-b64 /w==").stdout, "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_key_exits_3_and_deleting_it_is_fine() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let missing = kvctl(at, "get nothing -o json");
    assert_eq!((missing.code, missing.stdout.as_str()), (3, ""));
    assert_eq!(missing.error()["code"], "KEY_NOT_FOUND");
    assert_eq!(kvctl(at, "del nothing").code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_error_of_the_server_keeps_its_code_and_what_is_known() {
    let fake = server([Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown)]).await;
    let ran = kvctl(&fake.address, "put k v -o json");
    assert_eq!(ran.code, 4);
    let error = ran.error();
    assert_eq!(
        (&error["code"], &error["applied"]),
        (&"QUORUM_NOT_REACHED".into(), &"unknown".into())
    );
    let fake = server([Act::Swallow]).await;
    let ran = kvctl(&fake.address, "put k v -o json --timeout 100ms");
    assert_eq!(ran.code, 5);
    assert_eq!(ran.error()["applied"], "unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn scans_show_keys_in_byte_order_with_escapes() {
    let fake = server([]).await;
    for (key, value) in [("b", "2"), ("a\tb", "1\n"), ("c", "3")] {
        fake.store(key, value);
    }
    let at = fake.address.as_str();
    assert_eq!(kvctl(at, "scan --page-size 1").stdout, "a\\tb\t1\\n\nb\t2\nc\t3\n");
    assert_eq!(kvctl(at, "scan --keys-only --from b --limit 1").stdout, "b\n");
    assert_eq!(kvctl(at, "scan --to b --keys-only").stdout, "a\\tb\n");
    assert_eq!(kvctl(at, "scan --keys-only --reverse --page-size 1").stdout, "c\nb\na\\tb\n");
    assert_eq!(kvctl(at, "scan --keys-only --reverse --from b --to c").stdout, "b\n");
    assert_eq!(kvctl(at, "scan --keys-only --reverse --prefix a --limit 9").stdout, "a\\tb\n");
    assert_eq!(kvctl(at, "scan --keys-only --reverse --from b --to a").stdout, "");
    let all = kvctl(at, "scan -o json").json();
    assert_eq!((all[1]["key"].as_str(), all[1]["value"].as_str()), (Some("b"), Some("2")));
    assert_eq!(kvctl(at, "scan -o json --prefix zz").stdout, "[]\n");
    let lines = kvctl(at, "scan -o jsonl").stdout;
    assert_eq!(lines.lines().count(), 3);
    assert_eq!(kvctl(at, "scan --prefix zz").stdout, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_exported_imports_into_the_same() {
    let fake = server([]).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pairs.ndjson");
    let path = path.to_str().unwrap();
    let tsv = (0..3000).map(|i| format!("key-{:04}\tvalue {i}\\n\n", i % 1000));
    let tsv = tsv.collect::<String>();
    let args = ["-o", "json", "import", "-", "--format", "tsv", "--concurrency", "32"];
    let ran = kvctl_with(&fake.address, &args, tsv.as_bytes());
    assert_eq!(ran.json()["imported"], 3000, "{}", ran.stderr);
    // The file's order holds for each key.
    assert_eq!(fake.pairs().get(&b"key-0007"[..]).unwrap(), "value 2007\n");

    assert_eq!(kvctl(&fake.address, &format!("export {path}")).code, 0);
    let lines = fs::read_to_string(path).unwrap();
    assert!(lines.lines().is_sorted() && lines.lines().count() == 1000);
    assert_eq!(kvctl(&fake.address, "export -").stdout, lines);

    let other = server([]).await;
    let ran = kvctl(&other.address, &format!("-o json import {path}"));
    assert_eq!(
        (ran.json()["imported"].as_u64(), ran.json()["failed"].as_u64()),
        (Some(1000), Some(0))
    );
    assert_eq!(other.pairs(), fake.pairs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_batch_answers_each_line_in_order_and_exits_8_when_some_fail() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let lines = r#"{"op": "put", "key": "a\tb", "value": "1\n"}
{"op": "put", "key_b64": "Yg==", "value_b64": "AP8=", "ttl": "1h"}

{"op": "get", "key": "a\tb"}
{"op": "del", "key": "a\tb"}
{"op": "get", "key": "a\tb"}
"#;
    let ran = kvctl_with(at, &["batch"], lines.as_bytes());
    let plain = "ok\tput\ta\\tb\t\nok\tput\tb\t\nok\tget\ta\\tb\t1\\n\n\
                 ok\tdel\ta\\tb\t\nabsent\tget\ta\\tb\t\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (0, plain), "{}", ran.stderr);
    assert_eq!(fake.pairs().get(&b"b"[..]).unwrap(), &b"\0\xff"[..]);

    let wrong = "{\"op\": \"get\", \"key_b64\": \"Yg==\"}\nno json\n{\"op\": \"del\", \"key\": \"x\", \"ttl\": \"1h\"}\n\
                 {\"op\": \"put\", \"key\": \"\", \"value\": \"\"}\n{\"op\": \"put\", \"key\": \"empty\", \"value\": \"\"}\n";
    let ran = kvctl_with(at, &["batch", "-", "-o", "json"], wrong.as_bytes());
    assert_eq!((ran.code, ran.error()["code"].as_str()), (8, Some("PARTIAL")));
    let all: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 5);
    assert_eq!((&all[0]["found"], &all[0]["value_b64"]), (&true.into(), &"AP8=".into()));
    for at in 1..4 {
        assert_eq!(
            (&all[at]["line"], &all[at]["error"]["code"]),
            (&(at + 1).into(), &"USAGE".into())
        );
    }
    assert!(all[4]["stamp"].is_string() && fake.pairs().get(&b"empty"[..]).unwrap().is_empty());

    let nobody = Fake::nobody().await;
    let ran =
        kvctl_with(&nobody, &["batch", "-o", "jsonl", "--timeout", "300ms"], lines.as_bytes());
    assert_eq!((ran.code, ran.stdout.lines().count()), (4, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_atomic_batch_is_sent_as_one_or_not_at_all_and_a_batch_may_count() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let lines = "{\"op\": \"put\", \"key\": \"{t}a\", \"value\": \"1\"}\n{\"op\": \"del\", \"key\": \"{t}b\"}\n";
    let ran = kvctl_with(at, &["batch", "--atomic"], lines.as_bytes());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "ok\tput\t{t}a\t\nok\tdel\t{t}b\t\n"));
    assert_eq!(fake.batches(), [vec!["{t}a", "{t}b"]]);

    let many: String =
        (0..257).map(|at| format!("{{\"op\": \"del\", \"key\": \"{at}\"}}\n")).collect();
    let reads = format!("{lines}{{\"op\": \"get\", \"key\": \"{{t}}a\"}}\n");
    let counts = format!("{lines}{{\"op\": \"incr\", \"key\": \"{{t}}a\"}}\n");
    let broken = format!("{lines}no json\n");
    for (wrong, line) in [(many, 257), (reads, 3), (counts, 3), (broken, 3)] {
        let ran = kvctl_with(at, &["batch", "--atomic", "-o", "json"], wrong.as_bytes());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("line {line}: ")), "{}", ran.stderr);
        assert!(ran.stderr.contains("nothing was sent"), "{}", ran.stderr);
    }
    assert_eq!(fake.batches().len(), 1);

    let counts = "{\"op\": \"incr\", \"key\": \"hits\", \"by\": -2}\n{\"op\": \"incr\", \"key\": \"hits\"}\n\
                  {\"op\": \"get\", \"key\": \"hits\", \"by\": 1}\n";
    let ran = kvctl_with(at, &["batch"], counts.as_bytes());
    let plain = "ok\tincr\thits\t-2\nok\tincr\thits\t1\nUSAGE\t-\t\t\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (8, plain), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_import_that_fails_in_part_exits_8() {
    let fake = server([Act::Refuse("VALUE_TOO_LARGE", Applied::No)]).await;
    let lines = b"a\t1\nb\t2\nno tab\n";
    let args = ["import", "-", "--format", "tsv", "--concurrency", "1", "-o", "json"];
    let ran = kvctl_with(&fake.address, &args, lines);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(ran.code, 8);
    let counts = (summary["imported"].as_u64(), summary["failed"].as_u64());
    // The script's refusal says "retryable", so the first write is tried again and goes through.
    assert_eq!(counts, (Some(2), Some(1)), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_cluster_is_shown_waited_for_flushed_and_compacted() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let status = kvctl(at, "status -o json").json();
    assert_eq!((&status["cluster"], &status["epoch"]), (&"fake".into(), &1.into()));
    assert_eq!(status["nodes"][2]["state"], "down");
    assert_eq!(kvctl(at, "status -o plain").stdout.lines().count(), 3);
    let table = kvctl(at, "status -o table").stdout;
    assert!(table.contains("UN  n1") && table.contains("DN  n3"), "{table}");

    let location = kvctl(at, "locate k -o json").json();
    assert_eq!(location["owners"][0], "n3");
    assert_eq!(location["token"], "ffffffffffffffff");

    let explained = kvctl(at, "explain k -o json").json();
    assert_eq!((&explained["key"], &explained["partition"]), (&"k".into(), &11.into()));
    assert_eq!((&explained["epoch"], &explained["changed_at"]), (&4.into(), &2.into()));
    assert_eq!(
        (&explained["agree"], &explained["newest"]),
        (&false.into(), &"02".repeat(16).into())
    );
    let verdicts = explained["owners"].as_array().unwrap().iter();
    let verdicts = verdicts.map(|owner| (owner["node"].as_str(), owner["verdict"].as_str()));
    let verdicts = verdicts.collect::<Vec<_>>();
    assert_eq!(verdicts, [(Some("n3"), Some("hinted")), (Some("n1"), Some("stale"))]);
    let plain = kvctl(at, "explain k -o plain").stdout;
    let stamp = "01".repeat(16);
    assert!(plain.starts_with(&format!("n3\tdown\thinted\t{stamp}\t3\t")), "{plain}");
    let table = kvctl(at, "explain k -o table").stdout;
    assert!(table.contains("hint at n1") && table.ends_with("owners differ\n"), "{table}");

    assert_eq!(kvctl(at, "wait --for ready").code, 0);
    assert_eq!(kvctl(at, "wait --for nodes=2").code, 0);
    assert_eq!(kvctl(at, "wait --for nodes=3 --timeout 300ms").code, 5);
    fake.set_unavailable(vec![1]);
    assert_eq!(kvctl(at, "wait --for ready --timeout 300ms").code, 5);

    assert_eq!(kvctl(at, "flush --node n2").stdout, "flushed n2\n");
    assert_eq!(kvctl(at, "flush --node n9").code, 2);
    assert_eq!(kvctl(at, "flush -o json").json()["flushed"].as_array().unwrap().len(), 3);
    assert_eq!(fake.flushes(), 4);
    assert_eq!(kvctl(at, "compact --node n2").stdout, "compacted n2\n");
    assert_eq!(kvctl(at, "compact --node n9").code, 2);
    assert_eq!(kvctl(at, "compact -o json").json()["compacted"].as_array().unwrap().len(), 3);
    assert_eq!((fake.flushes(), fake.compactions()), (4, 4));
    let scrub = kvctl(at, "-o table scrub status --node n2").stdout;
    assert!(scrub.starts_with("n2 has read everything; 1 places of damage"), "{scrub}");
    assert!(scrub.contains("  damage in 000007.sst at 4096"), "{scrub}");
    let nodes = kvctl(at, "scrub start -o json").json()["nodes"].clone();
    assert_eq!((nodes.as_array().unwrap().len(), &nodes[0]["running"]), (3, &true.into()));
    assert_eq!(kvctl(at, "scrub status -o plain").stdout.lines().count(), 3);
    assert_eq!(kvctl(at, "scrub start --node n9").code, 2);
    assert_eq!(kvctl(at, "version --server -o json").json()["server"]["version"], "9.9.9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let fake = server([]).await;
    fake.store("k", Box::leak("v".repeat(1 << 20).into_boxed_str()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvctl"))
        .args(["-e", &fake.address, "get", "k"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hints_are_listed_handed_back_and_dropped_by_holder() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    let listed = kvctl(at, "hints list -o json").json();
    let line = &listed["hints"][0];
    assert_eq!((&line["holder"], &line["target"]), (&"n1".into(), &"n3".into()));
    assert_eq!((&line["count"], &line["custody"]), (&7.into(), &2.into()));
    assert_eq!(line["oldest_age_ms"], 61_000);
    assert_eq!((&listed["dirty_count"], &listed["dirty"][0]["partition"]), (&3.into(), &5.into()));
    let plain = kvctl(at, "hints list -o plain --node n1").stdout;
    assert_eq!(plain, "n1\tn3\t7\t700\t2\t61000\n");
    let replayed = kvctl(at, "hints replay --target n3 --node n2 -o json").json();
    assert_eq!(replayed["replaying"][0]["count"], 7);
    let dropped = kvctl(at, "hints drop --target n3 --node n2 --yes");
    assert_eq!(dropped.code, 0);
    assert!(dropped.stderr.contains("2 of them were in custody"), "{}", dropped.stderr);
    assert!(dropped.stdout.contains("dropped 7 hints of n2"), "{}", dropped.stdout);
    assert_eq!(fake.hints_dropped(), ["n3"]);
    assert_eq!(kvctl(at, "hints drop --yes").code, 2);
    assert_eq!(kvctl(at, "hints list --node n9").code, 2);
    let waited = kvctl(at, "wait --for no-hints --timeout 300ms");
    assert_eq!(waited.code, 5);
    assert!(waited.stderr.contains("hints are not home"), "{}", waited.stderr);
}

fn staged(hash: u128) -> admin::TopologyResponse {
    use admin::topology_response::{Draft, Move, Share};
    let draft = Draft {
        hash: hash.to_be_bytes().to_vec().into(),
        names: ["n1", "n2", "n3", "n4"].map(str::to_owned).to_vec(),
        moves: vec![Move {
            partition: 5,
            from: vec![0, 1, 2],
            to: vec![0, 1, 3],
            ..Default::default()
        }],
        move_count: 1,
        shares: vec![Share { node: "n4".to_owned(), after: 1, ..Default::default() }],
        ..Default::default()
    };
    let staged = vec!["n4 joins".to_owned()];
    admin::TopologyResponse { epoch: 3, staged, draft: Some(draft), ..Default::default() }
}

fn running(hash: u128, done: u32) -> admin::TopologyResponse {
    let running = admin::topology_response::Running {
        hash: hash.to_be_bytes().to_vec().into(),
        status: admin::topology_response::Status::Running.into(),
        total: 2,
        done,
        queued: 2 - done,
        ..Default::default()
    };
    admin::TopologyResponse { epoch: 4, running: Some(running), ..Default::default() }
}

const HASH: u128 = 0xabcd_ef01_2345_6789 << 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn changes_are_staged_shown_and_committed_by_the_first_digits_of_their_hash() {
    use admin::change_plan_request::{Change, Verb};
    let fake = server([]).await;
    let at = fake.address.as_str();
    let none = kvctl(at, "plan show -o json").json();
    assert_eq!(
        (&none["feasible"], &none["reasons"][0]),
        (&false.into(), &"nothing is staged".into())
    );
    fake.set_topology([staged(HASH)]);
    let ran = kvctl(at, "node join n4 -o table");
    assert!(ran.stdout.contains("n4 joins") && ran.stdout.contains("kvctl plan show"));
    assert_eq!(kvctl(at, "node replace n3 n4").stdout, "n4 joins\n");
    assert_eq!(kvctl(at, "node set n4 weight=1.5 zone=b").code, 0);
    assert_eq!(kvctl(at, "plan show").stdout, "0\t5\tn1,n2,n3\tn1,n2,n4\t0\t0\n");
    let shown = kvctl(at, "plan show -o json").json();
    assert_eq!(shown["moves"][0]["to"], serde_json::json!(["n1", "n2", "n4"]));
    assert_eq!(shown["hash"], "abcdef01234567890000000000000000");

    let wrong = kvctl(at, "plan commit 00000000 -o json");
    assert_eq!((wrong.code, wrong.error()["code"].clone()), (6, "PLAN_CONFLICT".into()));
    fake.set_topology([staged(HASH), running(HASH, 0)]);
    let committed = kvctl(at, "plan commit ABCDEF01 -o json").json();
    assert_eq!((&committed["committed"], &committed["moves"]), (&shown["hash"], &2.into()));
    for line in ["pause", "resume", "rollback", "clear"] {
        assert_eq!(kvctl(at, &format!("plan {line}")).code, 0, "{line}");
    }
    let changes = fake.changes();
    assert!(changes.iter().all(|ask| ask.request_id.len() == 16 && ask.timeout_ms > 0));
    let asked: Vec<Change> = changes.into_iter().filter_map(|ask| ask.change).collect();
    let [join, replace, set, commit, verbs @ ..] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(*join, Change::Join("n4".to_owned()));
    assert!(matches!(replace, Change::Replace(replace) if replace.old == "n3"));
    assert!(matches!(set, Change::Set(set) if set.weight_milli == Some(1500)));
    assert_eq!(*commit, Change::Commit(HASH.to_be_bytes().to_vec().into()));
    let all = [Verb::Pause, Verb::Resume, Verb::RollBack, Verb::Clear];
    assert_eq!(verbs, all.map(|verb| Change::Verb(verb.into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_plan_is_watched_to_its_end_a_line_for_each_change() {
    let fake = server([]).await;
    let at = fake.address.as_str();
    assert_eq!(kvctl(at, "plan status").stdout, "no plan is carried out\n");
    assert_eq!(kvctl(at, "wait --for settled").code, 0);
    fake.set_topology([running(HASH, 1)]);
    assert_eq!(kvctl(at, "wait --for settled --timeout 300ms").code, 5);
    let status = kvctl(at, "plan status -o json").json();
    assert_eq!(
        (&status["plan"]["done"], &status["plan"]["status"]),
        (&1.into(), &"running".into())
    );
    let none = admin::TopologyResponse::default();
    fake.set_topology([running(HASH, 0), running(HASH, 1), running(HASH, 1), none]);
    let watched = kvctl(at, "plan status --watch");
    let lines: Vec<&str> = watched.stdout.lines().collect();
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    assert_eq!(
        lines,
        [
            "running: 0 of 2 moves done, 2 wait",
            "running: 1 of 2 moves done, 1 wait",
            "plan abcdef01234567890000000000000000 has ended"
        ]
    );
}
