//! Every bound of the product, in one place, so that a reader can see what is limited and an
//! error message can name the limit it enforces.

use core::time::Duration;

/// Longest key, in bytes. The shortest is 1.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value, in bytes. The shortest is 0.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest table name, in bytes.
pub const TABLE_NAME_BYTES_MAX: usize = 64;
/// Longest node name, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 32;
/// Longest zone name, in bytes.
pub const ZONE_BYTES_MAX: usize = 32;
/// Largest replication factor. The receipt's bitmap of answers is this wide.
pub const REPLICAS_MAX: u8 = 15;
/// Most partitions a ring may have; the stored partition number is 16 bits.
pub const PARTITIONS_MAX: u32 = 1 << 16;
/// Most members a cluster may have.
pub const MEMBERS_MAX: usize = 4096;
/// Most entries in one page of a scan.
pub const SCAN_PAGE_ENTRIES_MAX: u32 = 1000;
/// Most bytes of keys and values in one page of a scan; a page ends early when it is reached.
pub const SCAN_PAGE_BYTES_MAX: usize = 2 << 20;
/// Pages of scans that a node coordinates at once, and that it reads for coordinators at once.
pub const SCAN_PAGES_UNDER_WAY_MAX: usize = 32;
/// Keys of a page of a linearizable table that are read by themselves, since its owners do not agree on them: a page
/// ends before the next one.
pub const SCAN_READS_MAX: usize = 64;
/// Of these, how many are read at once.
pub const SCAN_READS_AT_ONCE: usize = 8;
/// Streams of scans that clients may have open on a node.
pub const SCAN_STREAMS_MAX: usize = 64;
/// Cursors of scans that a node keeps open.
pub const SCAN_CURSORS_MAX: usize = 64;
/// Bytes that all of them may hold, as estimated: past it the one that was used longest ago goes.
pub const SCAN_CURSORS_BYTES_MAX: usize = 64 << 20;
/// What a cursor is taken to hold of each unit: the block it stands in.
pub const SCAN_CURSOR_UNIT_BYTES: usize = 8 << 10;
/// How long a cursor may wait for the next page.
pub const SCAN_CURSOR_IDLE: Duration = Duration::from_secs(30);
/// How old a cursor may become before it is opened anew at its place: as long it holds files that
/// have been merged into others. Far below the slack of purges.
pub const SCAN_CURSOR_AGE_MAX: Duration = Duration::from_secs(120);
/// Watches that clients may have open on a node.
pub const WATCHES_MAX: usize = 32;
/// Questions of watches that a node holds until something changes.
pub const WATCH_ASKS_HELD_MAX: usize = 1024;
/// Bytes of changes that a node notes for watches, of all tables that are watched.
pub const WATCH_NOTES_BYTES_MAX: usize = 16 << 20;
/// How long a node goes on noting changes of a table that nobody has asked for.
pub const WATCH_NOTES_KEPT: Duration = Duration::from_secs(300);
/// Bytes of changes that wait for the client of a watch before owners are asked no more; what has been
/// asked of each by then may come on top.
pub const WATCH_OUT_BYTES_MAX: usize = 1 << 20;
/// Least share of an owner in that.
pub const WATCH_PAGE_BYTES_MIN: usize = 16 << 10;
/// Bytes of one message of a watch to its client, past which it ends with what it holds.
pub const WATCH_REPLY_BYTES_MAX: usize = 1 << 20;
/// Bytes that a watch remembers of what it has told, so that it is told once.
pub const WATCH_WINDOW_BYTES_MAX: usize = 2 << 20;
/// Largest value that a change carries: larger ones are left out.
pub const WATCH_VALUE_BYTES_MAX: usize = 64 << 10;
/// Partitions that one gap names.
pub const WATCH_GAP_PARTITIONS_MAX: usize = 1024;
/// How long a question of a watch is held while nothing changes, and a client waits for a sign of life.
pub const WATCH_HELD: Duration = Duration::from_secs(1);
/// How long a watch waits for its client.
pub const WATCH_IDLE: Duration = Duration::from_secs(60);
/// Largest token of a watch, in bytes: one of as many owners as there may be members.
pub const WATCH_TOKEN_BYTES_MAX: usize = 128 << 10;
/// Largest message on any stream: a value, its key and room for the envelope, several times over.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Most writes of one batch.
pub const BATCH_ITEMS_MAX: usize = 256;
/// Most bytes of keys and values of one batch: it is one message to each owner, and one record of its log.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Most tables a cluster may have.
pub const TABLES_MAX: usize = 1000;
/// Most classes of tables, that is distinct (n, r_min, w_min), a cluster may ever have.
pub const CLASSES_MAX: usize = 64;
/// Largest cluster state, as it travels: leaves room for the envelope and for growth by members.
pub const STATE_BYTES_MAX: usize = 4 << 20;
/// Changes of the cluster state that a state remembers by id.
pub const RECENT_CHANGES_MAX: usize = 128;
/// Changes of the cluster state that may wait on one node.
pub const CHANGES_WAITING_MAX: usize = 64;
/// Siblings of one key from which on a receipt warns of them.
pub const SIBLINGS_WARN: u32 = 10;
/// Siblings of one key past which a client's put is refused. Merging never is.
pub const SIBLINGS_MAX: usize = 50;
/// Increments that one part of a counter of a causal table knows by their ids: the latest ones.
pub const COUNTER_IDS_MAX: usize = 32;
/// Bytes of all siblings of one key past which a client's put is refused.
pub const SIBLING_BYTES_MAX: usize = 4 << 20;
/// Largest causal context a client may bring, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 128 << 10;
/// Most entries of a stored context: actors and single writes. A put that would exceed it is
/// refused.
pub const CONTEXT_ENTRIES_MAX: usize = 1024;
/// Single writes in the context that a put returns; more are forgotten, oldest first, which can
/// only make siblings.
pub const CONTEXT_DOTS_MAX: usize = 64;
/// Values of siblings above this are stored in a record of their own when a key has several.
pub const SIBLING_INLINE_BYTES: usize = 1 << 10;
/// Sets of siblings above this travel in several messages.
pub const SIBLING_PART_BYTES: usize = 5 << 20;
/// Bytes of siblings in one answer to a client; the rest comes once these are resolved.
pub const SIBLING_ANSWER_BYTES_MAX: usize = 6 << 20;
/// Changes that a key of a linearizable table remembers by id.
pub const RECENT_IDS_MAX: usize = 64;
/// Shortest time to live of a value.
pub const TTL_MIN: Duration = Duration::from_millis(100);
/// Longest time to live of a value: ten years.
pub const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far ahead of its clock of record a node reserves stamps on disk.
pub const CEILING_RESERVE: Duration = Duration::from_millis(200);
/// A fresh client write stamped further ahead than this is refused by a replica.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_millis(500);
/// How far past its wall clock a node lets a client's window of stamps push its clock: the bound
/// above, and as much for walls that differ. Attempts that do not wait for their windows would else
/// drive the clocks of a cluster ahead without end.
pub const WINDOW_AHEAD_MAX: Duration = Duration::from_secs(1);
/// A node whose clock of record is further ahead than this does not coordinate writes.
pub const CLOCK_COORDINATE_MAX: Duration = Duration::from_millis(300);
/// How far a time that a client gives its write may be ahead of the coordinator's wall clock. Far
/// below [`CLOCK_COORDINATE_MAX`]: times move the clocks of all owners, and one that is further ahead
/// could keep them from stamping anybody's writes.
pub const CLIENT_TIME_AHEAD_MAX: Duration = Duration::from_millis(100);
/// The window of stamps one attempt of a write may use, from its start in server time.
pub const ATTEMPT_WINDOW: Duration = Duration::from_millis(200);

/// Hints in one page of replay or of a deletion.
pub const HINT_PAGE_MAX: usize = 64;
/// Bytes of hints in one page of replay; a page ends when it is reached.
pub const HINT_PAGE_BYTES_MAX: u64 = 1 << 20;
/// Hints on their way to their target at once.
pub const HINTS_UNDER_WAY_MAX: usize = 32;
/// Targets a member names when it tells for whom it holds custody.
pub const CUSTODY_NEWS_MAX: usize = 64;
/// Members a node names when it tells whom its reads leave out.
pub const UNWELL_NEWS_MAX: usize = 16;
/// Dirty marks in one answer.
pub const DIRTY_SHOWN_MAX: usize = 1000;
/// Steps in the waterfall of one request.
pub const TRACE_STEPS_MAX: usize = 128;
/// Steps in the waterfall of a request that failed: it travels in a trailer, where room is short.
pub const TRACE_STEPS_FAILED_MAX: usize = 64;
/// Siblings a member tells of when a key is explained.
pub const EXPLAIN_SIBLINGS_MAX: usize = 1024;
/// Longest reason why a member does not tell what it knows of a key.
pub const EXPLAIN_WHY_BYTES_MAX: usize = 512;

/// Rumours that travel with a probe.
pub const RUMOURS_MAX: usize = 64;
/// Facts of others that travel with a probe.
pub const HEARSAY_MAX: usize = 64;
/// Members named as having found another one silent.
pub const ACCUSERS_MAX: usize = 4;
/// Keys in one page of a copy.
pub const COPY_PAGE_ENTRIES_MAX: usize = 4096;
/// Bytes in one page of a copy; a page ends when it is reached.
pub const COPY_PAGE_BYTES_MAX: usize = 1 << 20;
/// Entries that the leaves of one page of a copy are of, about: a target reads as many of its own at once.
pub const COPY_LEAVES_ENTRIES: u64 = 1 << 17;
/// Bytes of one chunk of a file of a unit.
pub const COPY_CHUNK_BYTES: usize = 1 << 20;
/// Files of a unit.
pub const COPY_FILES_MAX: usize = 16_384;
/// Longest name of a file of a unit.
pub const COPY_FILE_NAME_BYTES_MAX: usize = 64;
/// Pages of copies that a source reads for others at once.
pub const COPY_PAGES_GIVEN_MAX: usize = 8;
/// Units whose roots are compared with one message.
pub const REPAIR_ROOTS_MAX: usize = 1024;
/// Cells of a range that one question of a session asks about.
pub const REPAIR_CELLS_MAX: usize = 8192;
/// Keys that a session brings at once.
pub const REPAIR_KEYS_MAX: usize = 512;
/// Questions of sessions that a node answers at once.
pub const REPAIR_ANSWERS_MAX: usize = 8;
/// Sessions of its own that a node has at once.
pub const REPAIR_SESSIONS_MAX: usize = 4;
/// Units that a node fills at once.
pub const FILLS_UNDER_WAY_MAX: usize = 4;
/// Units that wait for a purge which an answer names.
pub const GC_SHOWN_MAX: usize = 100;
/// Units whose floors one message tells of.
pub const FLOOR_NEWS_MAX: usize = 1024;
/// Fills that a probe tells of.
pub const FILL_NEWS_MAX: usize = 512;
/// Largest weight of a member, in thousandths.
pub const WEIGHT_MILLI_MAX: u32 = 1_000_000;
/// Units that a plan moves at once.
pub const MOVES_MAX: usize = 64;
/// Moves, and links, of a plan that is shown. There may be more.
pub const PLAN_LINES_MAX: usize = 1 << 16;
/// Changes of members that may be staged for one plan.
pub const STAGED_MAX: usize = 256;
/// Units of which copies were given up and not all owners have changed since.
pub const LOSSES_MAX: usize = 1 << 16;
/// Units that one request gives up copies of.
pub const LOSS_UNITS_MAX: usize = 1024;
/// Lineages that can be forced.
pub const LINEAGES_MAX: usize = 256;
/// How many epochs a forced lineage begins above the state it is made of: more than may have been decided
/// unheard.
pub const FORCED_EPOCHS: u64 = 1_000_000;
/// Members that have gone, and are remembered to tell a disk that comes back.
pub const GONE_MAX: usize = 256;
/// Decisions of the orchestrator that a state names with their reasons.
pub const DECISIONS_MAX: usize = 32;
/// Longest reason of one, in bytes.
pub const REASON_BYTES_MAX: usize = 256;
/// Members of which a probe says that they have been down for the teller's whole grace time.
pub const LONG_DOWN_NEWS_MAX: usize = 64;
/// Members of which a probe says how much of what they own the teller mirrors.
pub const MIRROR_NEWS_MAX: usize = 16;
/// Units of which a probe says what the copy there is asked for.
pub const WORK_NEWS_MAX: usize = 8;
/// Pairs of units that members exchange by one proposal.
pub const EXCHANGE_AT_ONCE: usize = 4;
/// Events that a node remembers.
pub const EVENTS_MAX: usize = 512;
/// Longest text of one, in bytes.
pub const EVENT_BYTES_MAX: usize = 512;
/// Hours of its load that a node keeps: four weeks.
pub const HOURS_KEPT: u32 = 4 * 7 * 24;
/// Members that one proposal makes active.
pub const GROW_AT_ONCE: usize = 4;

/// Longest time a request may ask for.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Lowest version of the peer protocol this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// Highest version of the peer protocol this build speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// The feature level this build writes into a new cluster.
pub const FEATURE_LEVEL: u32 = 1;

const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX < SCAN_PAGE_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + (1 << 20) < MESSAGE_BYTES_MAX);
const _: () = assert!(2 * SCAN_PAGE_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(2 * STATE_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(SIBLING_BYTES_MAX + VALUE_BYTES_MAX <= SIBLING_PART_BYTES);
const _: () = assert!(SIBLING_ANSWER_BYTES_MAX + (1 << 20) < MESSAGE_BYTES_MAX);
const _: () = assert!(PROTOCOL_MIN <= PROTOCOL_MAX);
/// Keys that a node names as hot.
pub const HOT_KEYS_MAX: usize = 20;
/// Longest outage that is asked about.
pub const OUTAGE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
