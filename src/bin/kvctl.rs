//! `kvctl`: everything is in `roundtable::cli`.

fn main() -> std::process::ExitCode {
    roundtable::cli::main()
}
