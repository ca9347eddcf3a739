//! The closed vocabulary between the pure modules and everything around them: plain enums that
//! say what may be asked, answered, persisted and published. Nothing here decides anything.

mod batch;
mod causal;
mod chronicle;
mod client;
mod comparing;
mod copy;
mod counter;
mod decree;
mod disk;
mod error;
mod event;
mod explain;
mod floor;
mod gc;
mod gossip;
mod hello;
mod hint;
mod hot;
mod leaves;
mod lineage;
mod load;
mod outage;
mod peer;
mod register;
mod repair;
mod ring;
mod scrub;
mod session;
mod tables;
mod topology;
mod trace;
mod view;
mod watch;

pub use batch::{Batch, BatchItem, check_batch_size};
pub use causal::{
    CausalDisk, CausalDone, CausalMessage, CausalPut, CausalReply, CausalTask, Changed, Sibling,
};
pub use chronicle::{AsideRecord, AsideTask, EventKind, EventRecord, EventsAsk, EventsReply};
pub use client::{
    AdminRequest, AlarmLine, Attempt, ClientBody, ClientRequest, ClientResult, Get, GetReply,
    Locate, LocateReply, NodeStatus, Principal, Put, PutReply, QuorumMode, Receipt, Reply,
    ReserveFacts, Scan, ScanEntry, ScanReply, StatusReply, TimeToLive, UnwellBy,
};
pub use comparing::{
    DiffFound, DiffKey, DiffLine, DiffSide, PairLine, RepairGauges, RepairReply, RepairRequest,
    RepairScope, RunLine,
};
pub use copy::{
    CopyAsk, CopyChunk, CopyContent, CopyEntry, CopyFile, CopyMark, CopyMessage, CopyPage,
    CopyPlace, CopyRecord, CopyRefusal, CopyWhat, FillProgress, FillRecord, FillStage, LostKeys,
    Overlay, SourceFloor, UnitDisk, UnitDone,
};
pub use counter::{Increment, IncrementReply};
pub use decree::{AcceptedState, Ballot, DecreeMessage, DecreeRecord, Instance};
pub use disk::{
    BirthRecord, BootRecord, CursorName, CursorUse, DiskAnswer, DiskError, DiskRequest, DiskToken,
    LifeRecord, MetaRecord, RangePage, ReplicaFacts, Restored, TreeSizes, WriteOutcome,
};
pub use error::{Applied, Bound, ErrorCode, Facts, OpError};
pub use event::{Effect, Event, Level, Note};
pub use explain::{
    ExplainMessage, ExplainReply, HintFacts, KeptVersion, KeyFacts, OwnCopy, OwnerReply,
    RegisterFacts, SiblingFacts, Verdict, VersionFacts,
};
pub use floor::{FloorChange, FloorDisk, FloorDone, FloorNews, FloorRecord, FloorState};
pub use gc::{GcBlocker, GcReply, GcUnit};
pub use gossip::{FactsVersion, Hearsay, Held, Incarnation, MemberSync, Probe, Rumour};
pub use hello::{Hello, HelloRefusal};
pub use hint::{
    CustodyChange, DirtyMark, Hint, HintBook, HintChange, HintGauges, HintLine, HintPage,
    HintPlace, HintRequest, HintTotals, HintsDropped, HintsReply, Kept,
};
pub use hot::{HotKey, HotReply, HotUnit};
pub use leaves::{CopyLack, CopyLeaves, CopyStretch, CopyTold};
pub use lineage::{ForceOrder, LineageReply};
pub use load::{
    GrowthReply, HourRecord, LoadFacts, ProposalLine, ProposalRecord, ResizeRecord, WorkNews,
};
pub use outage::{
    OutageAsk, OutageHints, OutageKind, OutageLine, OutageReason, OutageReply, OutageUnit,
};
pub use peer::{
    BirthNews, CustodyNews, FillNews, FillState, FounderNonce, KeyPlace, Lane, LifeAnswer,
    MirrorNews, PeerMessage, ProbeFacts, ReadAnswer, ReadAsk, Refusal, RoundId, ScanAnswer,
    ScanAsk, ScanPart, WriteAnswer, WriteAsk,
};
pub use register::{
    Cas, CasReply, Expectation, Fate, OutcomeAsk, OutcomeReply, RegisterDisk, RegisterMessage,
    RegisterSaid, RegisterTask,
};
pub use repair::{TreeDisk, TreeDone};
pub use ring::{PlacedClass, PlacedMove, Placement, RING_ROLES, RingMember, RingView};
pub use scrub::{ScrubMark, ScrubPiece, ScrubRecord, ScrubReply, ScrubRequest, StoreHealth};
pub use session::{RepairMessage, RepairRefusal, RootSaid, SessionAsk, SessionPlace, UnitRoot};
pub use tables::{TableAlteration, TableChange, TableReply, TableRequest, TableSpec, TablesReply};
pub use topology::{
    Applicant, DraftReply, LinkLine, MemberChange, MoveLine, MoveProgress, PlanChange,
    PlanProgress, ShareLine, StageOrder, StuckLine, TopologyReply, TopologyRequest,
};
pub use trace::{Trace, TraceEvent, TraceStep, Traced};
pub use view::{KeeperGauges, Liveness, MemberView, Phase, Unwell, UnwellLink, View};
pub use watch::{
    Change, ChangesAsk, ChangesPage, GapReason, WatchAsk, WatchEvent, WatchMessage, WatchPlace,
    WatchReply,
};
