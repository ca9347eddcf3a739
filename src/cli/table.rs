//! `kvctl table`: makes, shows, alters and drops tables.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table as Grid, presets};
use serde_json::{Value as Json, json};

use crate::client::{Sloppy, Table, TableKind, TableList, Tables};

use super::Context;
use super::args::{Format, ttl};
use super::exit::Failure;
use super::output::{self, Output};

/// `kvctl table`
#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Make a table; once this has returned, every node serves it
    Create(CreateArgs),
    /// Show all tables
    List,
    /// Show one table
    Describe(NameArgs),
    /// Give a table other defaults; kind, n and floors are fixed
    Alter(AlterArgs),
    /// Drop a table and all its keys, for good
    Drop(DropArgs),
}

/// A table on the command line.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// The table: [a-z0-9_-]{1,64}
    #[arg(value_name = "NAME")]
    name: String,
}

/// `kvctl table create`
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    table: NameArgs,
    /// What it promises about concurrent writes
    #[arg(long, value_enum, default_value = "lww")]
    kind: Kind,
    /// Copies of each key; as table default was born with when left out
    #[arg(long, value_name = "N")]
    n: Option<u8>,
    /// Read quorum of requests that name none; a majority when left out
    #[arg(long, value_name = "R")]
    r: Option<u8>,
    /// Write quorum of requests that name none; a majority when left out
    #[arg(long, value_name = "W")]
    w: Option<u8>,
    /// Read floor; requests below it get no promise
    #[arg(long, value_name = "R")]
    r_min: Option<u8>,
    /// Write floor; requests below it get no promise
    #[arg(long, value_name = "W")]
    w_min: Option<u8>,
    #[command(flatten)]
    defaults: DefaultArgs,
}

/// Defaults of create and alter alike.
#[derive(Args, Debug)]
pub(crate) struct DefaultArgs {
    /// How long a value lives unless its put says otherwise, e.g. 30d
    #[arg(long, value_name = "D", value_parser = ttl)]
    ttl: Option<Duration>,
    /// Whether stand-ins may count towards a quorum; the bare flag means always
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    sloppy: Option<When>,
    /// Largest value, in bytes
    #[arg(long, value_name = "BYTES")]
    value_bytes_max: Option<u32>,
}

/// `kvctl table alter`
#[derive(Args, Debug)]
pub(crate) struct AlterArgs {
    #[command(flatten)]
    table: NameArgs,
    /// Read quorum of requests that name none
    #[arg(long, value_name = "R")]
    r: Option<u8>,
    /// Write quorum of requests that name none
    #[arg(long, value_name = "W")]
    w: Option<u8>,
    #[command(flatten)]
    defaults: DefaultArgs,
    /// Values live for ever unless their put says otherwise
    #[arg(long, conflicts_with = "ttl")]
    no_ttl: bool,
    #[command(flatten)]
    fixed: FixedArgs,
}

/// What somebody may try to alter, and cannot.
#[derive(Args, Debug)]
pub(crate) struct FixedArgs {
    #[arg(long, hide = true)]
    kind: Option<String>,
    #[arg(long, hide = true)]
    n: Option<String>,
    #[arg(long, hide = true)]
    r_min: Option<String>,
    #[arg(long, hide = true)]
    w_min: Option<String>,
}

/// `kvctl table drop`
#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    table: NameArgs,
    /// Do not ask; asked only on a terminal
    #[arg(long, short)]
    yes: bool,
}

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Of concurrent writes the one with the highest stamp stays
    Lww,
    /// Concurrent writes are kept side by side
    Causal,
    /// Reads and writes behave as on one copy
    Linearizable,
}

/// When stand-ins may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Never
    Never,
    /// When the request says so
    Request,
    /// Always
    Always,
}

impl From<Kind> for TableKind {
    fn from(kind: Kind) -> TableKind {
        match kind {
            Kind::Lww => TableKind::Lww,
            Kind::Causal => TableKind::Causal,
            Kind::Linearizable => TableKind::Linearizable,
        }
    }
}

impl From<When> for Sloppy {
    fn from(when: When) -> Sloppy {
        match when {
            When::Never => Sloppy::Never,
            When::Request => Sloppy::Request,
            When::Always => Sloppy::Always,
        }
    }
}

/// Does what a `table` command asks.
pub(crate) async fn run(
    context: &Context<'_>,
    command: TableCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    let tables = context.client()?.tables();
    match command {
        TableCommand::Create(args) => create(&tables, args, output).await,
        TableCommand::List => list(&tables, output).await,
        TableCommand::Describe(args) => {
            let table = tables.describe(args.name).await?;
            describe(&table, output)
        }
        TableCommand::Alter(args) => alter(&tables, args, output).await,
        TableCommand::Drop(args) => drop_table(&tables, args, output).await,
    }
}

async fn create(tables: &Tables, args: CreateArgs, output: &mut Output) -> Result<(), Failure> {
    let CreateArgs { table, kind, n, r, w, r_min, w_min, defaults } = args;
    let DefaultArgs { ttl, sloppy, value_bytes_max } = defaults;
    let mut request = tables.create(&table.name).kind(kind.into());
    if let Some(n) = n {
        request = request.n(n);
    }
    if let Some(r) = r {
        request = request.r(r);
    }
    if let Some(w) = w {
        request = request.w(w);
    }
    if let Some(r_min) = r_min {
        request = request.r_min(r_min);
    }
    if let Some(w_min) = w_min {
        request = request.w_min(w_min);
    }
    if let Some(ttl) = ttl {
        request = request.ttl(ttl);
    }
    if let Some(sloppy) = sloppy {
        request = request.sloppy(sloppy.into());
    }
    if let Some(bytes) = value_bytes_max {
        request = request.value_bytes_max(bytes);
    }
    let made = request.await?;
    show_change("created", &table.name, made.as_ref(), output)
}

async fn alter(tables: &Tables, args: AlterArgs, output: &mut Output) -> Result<(), Failure> {
    let AlterArgs { table, r, w, defaults, no_ttl, fixed } = args;
    let FixedArgs { kind, n, r_min, w_min } = fixed;
    if [kind, n, r_min, w_min].iter().any(Option::is_some) {
        let why = "kind, n and floors are fixed when a table is made: make another, and copy";
        return Err(Failure::usage(why));
    }
    let DefaultArgs { ttl, sloppy, value_bytes_max } = defaults;
    let mut request = tables.alter(&table.name);
    if let Some(r) = r {
        request = request.r(r);
    }
    if let Some(w) = w {
        request = request.w(w);
    }
    if ttl.is_some() || no_ttl {
        request = request.ttl(ttl);
    }
    if let Some(sloppy) = sloppy {
        request = request.sloppy(sloppy.into());
    }
    if let Some(bytes) = value_bytes_max {
        request = request.value_bytes_max(bytes);
    }
    let altered = request.await?;
    show_change("altered", &table.name, altered.as_ref(), output)
}

async fn drop_table(tables: &Tables, args: DropArgs, output: &mut Output) -> Result<(), Failure> {
    let name = args.table.name;
    if !args.yes && io::stdin().is_terminal() {
        output::error_line(&format!(
            "Dropping {name} deletes all its keys on all nodes, for good. Type its name to go on:"
        ));
        let mut typed = String::new();
        let read = io::stdin().lock().read_line(&mut typed);
        read.map_err(|error| Failure::internal(format!("cannot read the answer: {error}")))?;
        if typed.trim() != name {
            return Err(Failure::usage(format!("{name} was not dropped")));
        }
    }
    let epoch = tables.drop(&name).await?;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&json!({ "dropped": name, "epoch": epoch.0 })),
        Format::Table | Format::Plain => output.line(&format!("dropped {name}")),
    }
}

fn show_change(
    verb: &str,
    name: &str,
    table: Option<&Table>,
    output: &mut Output,
) -> Result<(), Failure> {
    match (output.format(), table) {
        (Format::Json | Format::Jsonl, Some(table)) => output.json(&as_json(table)),
        (Format::Json | Format::Jsonl, None) => output.json(&json!({ "name": name })),
        (Format::Table | Format::Plain, _) => output.line(&format!("{verb} {name}")),
    }
}

async fn list(tables: &Tables, output: &mut Output) -> Result<(), Failure> {
    let list = tables.list().await?;
    if !list.confirmed {
        let epoch = list.epoch;
        output.note(&format!(
            "note: as of epoch {epoch}; no majority of the council has confirmed that it is the newest"
        ));
    }
    match output.format() {
        Format::Json => output.json(&json!({
            "epoch": list.epoch.0,
            "confirmed": list.confirmed,
            "tables": list.tables.iter().map(as_json).collect::<Vec<_>>(),
        })),
        Format::Jsonl => list.tables.iter().try_for_each(|table| output.json(&as_json(table))),
        Format::Plain => list.tables.iter().try_for_each(|table| output.line(&as_line(table))),
        Format::Table => {
            let text = as_grid(&list, output.color());
            output.bytes(text.as_bytes())
        }
    }
}

fn describe(table: &Table, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(table)),
        Format::Plain => output.line(&as_line(table)),
        Format::Table => {
            let Table { name, id, kind, n, r, w, r_min, w_min, value_bytes_max, class, .. } = table;
            output.line(&format!("table {name}   id {id}   kind {kind}   class {class}"))?;
            output.line(&format!("  copies     n = {n}"))?;
            output
                .line(&format!("  quorums    r = {r}, w = {w} unless a request says otherwise"))?;
            output.line(&format!("  floors     r_min = {r_min}, w_min = {w_min}"))?;
            output.line(&format!("  sloppy     {}", table.sloppy))?;
            output.line(&format!("  ttl        {}", lives(table)))?;
            output.line(&format!("  values     at most {value_bytes_max} bytes"))
        }
    }
}

fn lives(table: &Table) -> String {
    table.ttl.map_or_else(|| "none".to_owned(), |ttl| humantime::format_duration(ttl).to_string())
}

/// The contract of `docs/kvctl.md`.
fn as_json(table: &Table) -> Json {
    json!({
        "name": table.name,
        "id": table.id.0,
        "kind": table.kind.to_string(),
        "n": table.n,
        "r": table.r,
        "w": table.w,
        "r_min": table.r_min,
        "w_min": table.w_min,
        "sloppy": table.sloppy.to_string(),
        "ttl_ms": table.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        "value_bytes_max": table.value_bytes_max,
        "class": table.class,
    })
}

fn as_line(table: &Table) -> String {
    let Table { name, id, kind, n, r, w, r_min, w_min, value_bytes_max, .. } = table;
    let (sloppy, ttl) = (table.sloppy, lives(table));
    format!(
        "{name}\t{id}\t{kind}\t{n}\t{r}\t{w}\t{r_min}\t{w_min}\t{sloppy}\t{ttl}\t{value_bytes_max}"
    )
}

fn as_grid(list: &TableList, color: bool) -> String {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if color {
        grid.enforce_styling();
    } else {
        grid.force_no_tty();
    }
    let heads = ["TABLE", "KIND", "N", "R", "W", "R_MIN", "W_MIN", "SLOPPY", "TTL", "VALUES"];
    grid.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
    for table in &list.tables {
        let quorums = [table.n, table.r, table.w, table.r_min, table.w_min];
        let mut row = vec![Cell::new(&table.name), Cell::new(table.kind)];
        row.extend(quorums.map(Cell::new));
        row.push(Cell::new(table.sloppy));
        row.push(Cell::new(lives(table)));
        row.push(Cell::new(format!("<= {} B", table.value_bytes_max)));
        grid.add_row(row);
    }
    for index in 2..7 {
        if let Some(column) = grid.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in grid.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
