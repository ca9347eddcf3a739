//! What Roundtable is held to beside its rival, and how a run is judged by it. Figures in `x` are ratios to
//! etcd's of the same row.

use crate::table::{Cell, Table};

/// A figure with a bound.
pub(crate) struct Gate {
    pub(crate) what: &'static str,
    pub(crate) got: f64,
    pub(crate) bound: f64,
    /// Whether the figure is to be at most the bound; otherwise at least.
    pub(crate) at_most: bool,
    pub(crate) stretch: f64,
    pub(crate) unit: &'static str,
}

impl Gate {
    pub(crate) fn is_met(&self) -> bool {
        self.reaches(self.bound)
    }

    pub(crate) fn reaches(&self, bound: f64) -> bool {
        if self.at_most { self.got <= bound } else { self.got >= bound }
    }
}

/// The gates whose rows were measured.
pub(crate) fn judge(table: &Table) -> Vec<Gate> {
    let cell = |row: &str, target: &str| table.median(row, target);
    let ratio = |row: &str, ours: &str, of: fn(&Cell) -> f64| {
        Some(of(&cell(row, ours)?) / of(&cell(row, "etcd")?))
    };
    let rate = |cell: &Cell| cell.rate;
    let cpu = |cell: &Cell| cell.server_us;
    let (p50, p99) = (|cell: &Cell| cell.p50_ms, |cell: &Cell| cell.p99_ms);
    let c = "C 100 B, 64 clients";
    let (a, a256) = ("A 100 B, 64 clients", "A 100 B, 256 clients");
    let (get1, put1) = ("C 100 B, 1 clients", "W 100 B, 1 clients");
    let of =
        |row: &str, target: &str, of: fn(&Cell) -> f64| cell(row, target).map(|cell| of(&cell));
    let known = [
        (
            "operations/s, both on disk, A, unary",
            ratio(a, "always unary", rate),
            2.0,
            5.0,
            false,
            "x",
        ),
        (
            "operations/s, both on disk, A, session",
            ratio(a, "always session", rate),
            2.0,
            5.0,
            false,
            "x",
        ),
        (
            "CPU an operation, A, interval, unary",
            ratio(a, "interval unary", cpu),
            0.35,
            0.26,
            true,
            "x",
        ),
        (
            "CPU an operation, A, interval, session",
            ratio(a, "interval session", cpu),
            0.23,
            0.15,
            true,
            "x",
        ),
        ("CPU a read, C, interval, unary", ratio(c, "interval unary", cpu), 0.39, 0.26, true, "x"),
        (
            "p50 of a get, one client, interval, unary",
            of(get1, "interval unary", p50),
            0.25,
            0.18,
            true,
            "ms",
        ),
        (
            "p50 of a put, one client, interval, unary",
            of(put1, "interval unary", p50),
            0.35,
            0.2,
            true,
            "ms",
        ),
        (
            "p99 at 256 clients, A, interval, unary",
            of(a256, "interval unary", p99),
            20.0,
            8.0,
            true,
            "ms",
        ),
        (
            "p99 at 256 clients, A, interval, session",
            of(a256, "interval session", p99),
            20.0,
            8.0,
            true,
            "ms",
        ),
        ("memory of a node after filling", table.resident_of("interval"), 150.0, 60.0, true, "MiB"),
    ];
    let gate = |(what, got, bound, stretch, at_most, unit): (_, Option<f64>, _, _, _, _)| {
        Some(Gate { what, got: got?, bound, at_most, stretch, unit })
    };
    known.into_iter().filter_map(gate).collect()
}
