//! The client for programs without async, against real processes.

use roundtable::client::{Client, TableKind, blocking};

use crate::fixture::Cluster;

#[tokio::test]
async fn a_program_without_async_reads_writes_updates_and_scans() {
    let cluster = Cluster::start().await;
    let builder = Client::builder().endpoints(cluster.endpoints());
    // A thread of its own has no runtime, as a program without async has none.
    let program = spawn(move || {
        let kv = blocking::Client::new(builder).unwrap();
        for key in 0..30 {
            kv.wait(kv.put(format!("k{key:02}"), "v")).unwrap();
        }
        let keys = kv.iter(kv.scan().prefix("k").page_size(7).keys_only().entries());
        let keys: Vec<_> = keys.map(|entry| entry.unwrap().key).collect();
        assert_eq!((keys.len(), keys[29].as_ref()), (30, &b"k29"[..]));
        kv.wait(kv.tables().create("counters").kind(TableKind::Linearizable)).unwrap();
        let other = kv.clone();
        let counts = [kv, other].map(|kv| {
            spawn(move || {
                for _ in 0..10 {
                    let update = kv.update("n").table("counters").run(|values| {
                        let count = values.first().map_or(0, |count| count.len());
                        vec![b'x'; count + 1].into()
                    });
                    kv.wait(update).unwrap();
                }
                kv
            })
        });
        let [kv, _] = counts.map(|count| count.join().unwrap());
        assert_eq!(kv.wait(kv.get("n").table("counters")).unwrap().value.unwrap().len(), 20);
        kv
    });
    let kv = program.join().unwrap();
    let inside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| kv.wait(kv.get("n"))));
    assert!(inside.is_err(), "async code must not wait");
    // Nor may its runtime end here.
    spawn(move || drop(kv)).join().unwrap();
}

fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().spawn(run).unwrap()
}
