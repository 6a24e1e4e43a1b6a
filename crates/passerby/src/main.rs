//! Arguments → command.

use std::process::ExitCode;

use clap::Parser as _;
use passerby::command::{self, Arguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    passerby::install_crypto();
    command::run(Arguments::parse())
}
