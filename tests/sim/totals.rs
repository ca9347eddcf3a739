//! What runs did, added up: a run that suffers nothing proves nothing, so the sums have floors.

use std::collections::BTreeMap;
use std::ops::AddAssign;

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Sums over runs.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Totals {
            $($(#[$doc])* pub(crate) $name: u64,)*
            /// Places that good runs reach, and how often they were.
            pub(crate) reached: BTreeMap<&'static str, u64>,
        }

        impl Totals {
            /// Each sum with its name.
            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl AddAssign for Totals {
            fn add_assign(&mut self, other: Totals) {
                $(self.$name += other.$name;)*
                for (name, count) in other.reached {
                    *self.reached.entry(name).or_default() += count;
                }
            }
        }
    };
}

totals! {
    /// Runs.
    seeds,
    /// Virtual milliseconds.
    virtual_ms,
    /// Steps of the trace.
    steps,
    /// Client operations that ended, whatever their outcome.
    operations,
    /// Writes that were acknowledged.
    acknowledged,
    /// Reads that were answered.
    reads,
    /// Monotonic reads that were answered.
    monotonic,
    /// Scans that were answered.
    scans,
    /// Walks of a table that were begun.
    walks,
    /// Those that came to the end.
    walks_whole,
    /// Pages of them.
    walk_pages,
    /// Keys they have read, or found absent.
    walk_keys,
    /// Streams of them that broke.
    walk_breaks,
    /// Puts of values that expire.
    expiring,
    /// Writes whose outcome stayed unknown.
    unknown,
    /// Further attempts of operations.
    retries,
    /// Runs in which owners became equal by themselves.
    converged,
    /// Runs in which a node served.
    founded,
    /// Boots.
    boots,
    /// Crashes of single machines.
    crashes,
    /// Crashes that lost or tore what was not synced.
    unsynced,
    /// Power cuts of all machines.
    power_cuts,
    /// Partitions of groups of nodes.
    partitions,
    /// Cuts of single links.
    link_cuts,
    /// Slow links.
    slow_links,
    /// Slow disks.
    slow_disks,
    /// Ill disks.
    ill_disks,
    /// Requests that a disk answered with an error.
    disk_errors,
    /// Wall clocks set back over a restart.
    clocks_back,
    /// Wall clocks that jumped while their node ran.
    clock_jumps,
    /// Emptied disks.
    wipes,
    /// Disks replaced by an older copy.
    old_copies,
    /// Bytes that rotted in tables and blob files.
    rots,
    /// Those that were put right because the node's own records could not be read.
    rots_undone,
    /// Bytes that rotted in the middle of a log.
    log_rots,
    /// Units that had lost data and were filled again.
    healed_units,
    /// Nodes that refused to run as themselves.
    refused,
    /// Changes of the schema that were asked for.
    schema_changes,
    /// Changes that were asked for again, with the same id.
    schema_retries,
    /// Tables whose creation was acknowledged.
    tables_created,
    /// Tables whose end was acknowledged.
    tables_dropped,
    /// Requests for tables that were made.
    table_uses,
    /// Those that were served.
    tables_served,
    /// Writes that were acknowledged with the help of stand-ins.
    sloppy_acknowledged,
    /// Reads that said they may miss something.
    may_miss,
    /// Hints kept.
    hints_kept,
    /// Hints that were deleted because their target held them.
    hints_handed_back,
    /// Keys whose sloppy writes were looked for on their owners.
    came_home,
    /// Puts and deletes with a client's time that were acknowledged.
    timed,
    /// Those that had lost by then, as their receipts said.
    timed_lost,
    /// Nodes that joined.
    joins,
    /// Plans that were committed.
    plans,
    /// Plans that were seen to run and then to have ended.
    plans_ended,
    /// Plans that got another target.
    retargets,
    /// Plans that were rolled back.
    rollbacks,
    /// Members that were kept away for longer than is waited for them.
    stayed_away,
    /// For how long copies were missing while nothing else happened, at most, in an hour.
    copies_short_ms,
    /// Members that were made active, or reserved, in an hour.
    grown,
    shrunk,
    /// Exchanges of units in an hour.
    exchanged,
    /// Members that were replaced without an operator.
    relieved,
    /// Changes that were told that others were faster.
    plan_conflicts,
    /// Members of the council that died because a step was decided.
    council_deaths,
    /// Times that owners of a unit that moves were kept behind.
    kept_behind,
    /// Floods of a node by one client.
    floods,
    /// Requests of floods that were refused because the client had its share.
    flood_refused,
    /// Requests of other clients that a flooded node took in.
    flood_others_served,
    /// Links that held back what they carried for seconds.
    stalls,
    /// Writes of which there are two that differ in their time to live.
    twins,
    /// Writes with a time at or below the floor of a unit that begins to move.
    late_puts,
    /// Plans that were turned round while owners of a move were kept behind.
    turned,
    /// Those that were turned round once more before who is kept behind had heard of it.
    turned_twice,
    /// Council members that lost power right after they had said something.
    forgets,
    /// Council members that proposed two states for one epoch.
    proposed_twice,
    /// Tries of operations on a causal table.
    causal_tries,
    /// Those that were further ones.
    causal_retries,
    /// Operations on a causal table that were answered.
    causal_done,
    /// Reads of it that found several siblings.
    causal_siblings,
    /// Writes of a causal table that were acknowledged with the help of stand-ins.
    causal_custody,
    /// Times at which all owners of a key of it lost power, or all but as many as must be left.
    causal_outages,
    /// Keys of it compared on all their owners at the end.
    causal_compared,
    /// Tries of operations of clients of batches.
    batch_tries,
    /// Batches that were acknowledged.
    batch_done,
    /// Batches that a store held after a crash, and was not brought otherwise.
    batch_recovered,
    /// Reads of their keys at the end that were answered.
    batch_read_back,
    /// Batches that were seen in the end.
    batch_judged,
    /// Tries of operations on counters.
    counter_tries,
    /// Operations on counters that were answered.
    counter_done,
    /// Increments that were answered at a further try.
    counter_retried,
    /// Increments that were acknowledged, of seeds that passed.
    counter_made,
    /// Reads of counters at the end that were answered.
    counter_read_back,
    /// Tries of operations on a linearizable table.
    register_tries,
    /// Those that were further ones.
    register_retries,
    /// Operations on a linearizable table that were answered.
    register_done,
    /// Those that compared and set.
    register_cas_done,
    /// Those that did not find what they expected.
    register_mismatches,
    /// Questions after writes that were answered.
    register_settled,
    /// Writes that were sent once more, long after, and settled by that.
    register_again,
    /// Questions, and writes sent again, that came too late to be answered.
    register_forgotten,
    /// Reads of it at the end that were answered.
    register_read_back,
    /// Keys of it whose history was too much to be judged.
    register_undecided,
    /// Streams opened.
    streams,
    /// Streams refused.
    refusals,
    /// Messages sent.
    messages,
    /// Messages lost on their way.
    lost,
    /// Messages that arrived twice.
    duplicated,
    /// Messages without a stream.
    undeliverable,
    /// Pieces of work of the disks.
    disk_steps,
    /// Acknowledged writes that were looked for on the disks.
    disk_looks,
    /// Trees of units compared with what the store held, in between and at the end.
    trees_compared,
    /// Entries that these counted.
    tree_entries,
    /// Keys compared on all their owners at the end.
    compared,
    /// Keys read back at the end, over all nodes.
    read_back,
}
