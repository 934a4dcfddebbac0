//! The commands, one file each.

mod bench;
mod dsse;
pub(crate) mod evidence;
mod find;
mod get;
mod head;
mod import;
mod monitor;
mod outbox;
mod policy;
mod prove;
mod receipt;
mod run;
mod select;
mod submit;
mod verify;
mod witness;

use std::process::ExitCode;

use clap::Subcommand;

use crate::{failure::Failure, options::Common, output::Output};

#[derive(Subcommand)]
pub(crate) enum Command {
    Submit(submit::Arguments),
    Run(run::Arguments),
    #[command(subcommand)]
    Outbox(outbox::Outbox),
    Head(head::Arguments),
    Get(get::Arguments),
    Find(find::Arguments),
    #[command(subcommand)]
    Prove(prove::Prove),
    Receipt(receipt::Arguments),
    Verify(verify::Arguments),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Import(import::Import),
    #[command(subcommand)]
    Witness(witness::Witness),
    Monitor(monitor::Arguments),
    #[command(subcommand)]
    Bench(bench::Bench),
}

impl Command {
    pub(crate) async fn run(self, common: &Common, output: &Output) -> Result<ExitCode, Failure> {
        let done = match self {
            // It ends as the command that it runs.
            Self::Run(arguments) => return run::run(arguments, common).await,
            Self::Submit(arguments) => submit::run(arguments, common, output).await,
            Self::Outbox(outbox) => outbox::run(outbox, common, output).await,
            Self::Head(arguments) => head::run(arguments, common, output).await,
            Self::Get(arguments) => get::run(arguments, common, output).await,
            Self::Find(arguments) => find::run(arguments, common, output).await,
            Self::Prove(prove) => prove::run(prove, common, output).await,
            Self::Receipt(arguments) => receipt::run(arguments, common, output).await,
            Self::Verify(arguments) => verify::run(arguments, common, output).await,
            Self::Policy(policy) => policy::run(&policy, output),
            Self::Import(import) => import::run(import, common, output).await,
            Self::Witness(witness) => witness::run(witness, output).await,
            Self::Monitor(arguments) => monitor::run(arguments, common, output).await,
            Self::Bench(bench) => bench::run(bench, common, output).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}
